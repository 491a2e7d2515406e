"""The processes of a bench: each measures something, and tells it over its pipe as soon as it is measured."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ebox.errors import EXIT_BAD_INPUT, InputError
from ebox.workers.local_crew import StartedWorker

Take = Callable[[Mapping[str, Any]], None]
CACHE = "JAX_COMPILATION_CACHE_DIR"
_TICK_SECONDS = 0.5
_LETTERS_SHOWN = 500


def make_environment(cache: Path | None) -> dict[str, str]:
    """The environment of a process that compiles everything anew, or finds all of it in a cache that it fills."""
    variables = {key: value for key, value in os.environ.items() if key != CACHE}
    if cache is None:
        return variables
    always = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}
    return {**variables, **always, CACHE: str(cache)}


def run_process(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path, take: Take, tick: Callable[[], None]
) -> float:
    """Run `python ARGUMENTS` to its end; it ends with this process, too. Return the seconds that it took.

    Args:
        arguments: Those of Python.
        environment: All variables.
        log: A file for its output.
        take: Called with each message that it sends.
        tick: Called twice a second.

    Raises:
        InputError: it failed; the message contains its errors.
    """
    began, error = time.monotonic(), dict[str, Any]()
    worker = StartedWorker.start([sys.executable, *arguments], environment, log)

    def hear(messages: Sequence[Mapping[str, Any]]) -> None:
        for message in messages:
            if message["kind"] == "error":
                error.update(message)
            else:
                take(message)

    try:
        while worker.process.poll() is None:
            select.select([worker.pipe] if worker.is_open else [], [], [], _TICK_SECONDS)
            hear(worker.read())
            tick()
    finally:
        last = worker.end()
    hear(last)
    if worker.process.returncode != 0:
        raise _explain(worker.process.returncode, error, log)
    return time.monotonic() - began


def _explain(code: int, error: Mapping[str, Any], log: Path) -> InputError:
    if error:
        places: dict[str, Any] = {name: error.get(name) for name in ("file", "line", "record", "remedy")}
        return InputError(str(error["problem"]), **places)
    said = log.read_text(encoding="utf-8", errors="replace").strip()[-_LETTERS_SHOWN:]
    return InputError(
        f"a process of the measurement ended with {code}: {said}",
        remedy=None
        if code == EXIT_BAD_INPUT
        else "check whether `ebox train` works with these settings, then go on with --resume",
    )
