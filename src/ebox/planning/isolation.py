"""Compilation in a separate process, with a time limit: libtpu needs its variables before JAX starts.

`python -m ebox.planning.isolation ANSWER` reads a request as JSON from its input and writes its answer as JSON to the
file ANSWER, because libraries may print to its output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.planning.topologies import Topology, check_compiler, make_topology_mesh, parse_topology, topology_environment
from ebox.settings.reading import Config, make_config

if TYPE_CHECKING:
    from ebox.planning.compilation import CompilationResult, StepShape

# A compilation takes 10 to 25 s of one core, and several times that on a busy machine.
TIMEOUT_SECONDS = 600.0
_LINES_SHOWN = 3


def compile_for_topology(
    topology: Topology, config: Config, shape: StepShape, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> CompilationResult:
    """Compile the train step for a topology in a separate process.

    Args:
        topology: The chips.
        config: The settings.
        shape: Length and tracks of the examples, and steps in a dispatch.
        timeout_seconds: Time limit.

    Raises:
        InputError: the compiler is not installed, fails, dies, or takes longer than `timeout_seconds`.
    """
    from ebox.planning.compilation import CompilationResult

    check_compiler(topology)
    request = {"topology": topology.name, "config": config.model_dump(mode="json"), "shape": asdict(shape)}
    with tempfile.TemporaryDirectory(prefix="ebox-planning-") as folder:
        answer = Path(folder) / "answer.json"
        errors = _run(topology, json.dumps(request), answer, timeout_seconds)
        if not answer.exists():
            raise InputError(
                f"the compilation for {topology.name} ended without an answer: {errors}",
                remedy="it may have run out of memory; 4 GiB should be free. `ebox doctor` shows what is",
            )
        facts = json.loads(answer.read_text(encoding="utf-8"))
    if "problem" in facts:
        raise InputError(facts["problem"], remedy=facts["remedy"])
    return CompilationResult.from_facts(facts)


def _run(topology: Topology, request: str, answer: Path, timeout_seconds: float) -> str:
    """Run the process; return the last lines of its errors."""
    command = [sys.executable, "-m", "ebox.planning.isolation", str(answer)]
    environment = topology_environment(topology, os.environ)
    try:
        done = subprocess.run(
            command,
            input=request,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"the compilation for {topology.name} took longer than {timeout_seconds:g} s",
            remedy="try again when the machine is less busy, or give it more time",
        ) from None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return f"exit code {done.returncode}; " + " / ".join(lines[-_LINES_SHOWN:])


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    from ebox.planning.compilation import StepShape, compile_train_step

    try:
        mesh = make_topology_mesh(parse_topology(request["topology"]))
        return compile_train_step(mesh, make_config(request["config"]), StepShape(**request["shape"])).facts()
    except InputError as error:
        return {"problem": error.problem, "remedy": error.remedy}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(_answer(json.load(sys.stdin))), encoding="utf-8")
