"""How long `ebox plan` takes: all rows, and the step compiled ahead of time for all slices, at first and kept.

    python benchmarks/planning_times.py DATASET PROFILE... [--rounds 5]

Every run is a command in a process of its own, with a cache folder of its own. The goals: 2 s for all rows, 3 minutes
for the slices of 4 to 256 chips of v4, v5e, v5p and v6e at first. Writes results/planning_times.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe_machine, keep, summarise


def plan(words: list[str], cache: Path, out: Path) -> dict[str, float]:
    """Seconds of one command, by the clock and of processors, its processes included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "ebox", "plan", *words, "--out", str(out), "--overwrite"]
    subprocess.run(command, check=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - began, "processor_seconds": used}


def describe(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Both times over the runs."""
    return {name: summarise([run[name] for run in runs]) for name in runs[0]}


def main() -> None:
    """Plan without a compiler, with one and an empty cache, and from the cache; print, keep."""
    parser = argparse.ArgumentParser(description="Times of ebox plan")
    parser.add_argument("dataset")
    parser.add_argument("profiles", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    words = [options.dataset, *(word for one in options.profiles for word in ("--measured", one))]
    with tempfile.TemporaryDirectory(prefix="ebox-planning-") as temporary:
        cache, out = Path(temporary) / "cache", Path(temporary) / "plan"
        found = {"rows": describe([plan([*words, "--no-compiler"], cache, out) for _ in range(options.rounds)])}
        found["slices_at_first"] = describe([plan(words, cache, out)])
        found["slices_kept"] = describe([plan(words, cache, out) for _ in range(options.rounds)])
        num_options = len(json.loads((out / "plan.json").read_text(encoding="utf-8"))["options"])
    for name, facts in found.items():
        seconds = facts["seconds"]
        print(
            f"{name:<16} {seconds['median']:.2f} s ({seconds['min']:.2f} to {seconds['max']:.2f}, n = {seconds['n']})"
        )
    keep("planning_times", {"num_options": num_options, **found})


if __name__ == "__main__":
    main()
