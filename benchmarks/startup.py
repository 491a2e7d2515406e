"""How soon `ebox --help` answers, against a Python that does nothing.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from machine import describe_machine, keep, summarise

REPEATS = 20


def seconds(command: list[str]) -> float:
    """Wall time of a command."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Run both in turn and print."""
    program = str(Path(sys.executable).with_name("ebox"))
    commands = {"ebox --help": [program, "--help"], "python -c pass": [sys.executable, "-c", "pass"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(REPEATS + 2):
        for name, command in commands.items():
            taken = seconds(command)
            if number >= 2:
                times[name].append(taken)
    print(describe_machine())
    for name, values in times.items():
        shown = summarise(values)
        print(f"{name:<16} {shown['median']:.3f} s  ({shown['min']:.3f} to {shown['max']:.3f}, n = {shown['n']})")
    keep("startup", {"seconds": {name: summarise(values) for name, values in times.items()}})


if __name__ == "__main__":
    main()
