"""The watch over the steps of a group: it ends a process that waits for nothing, and none that is only slow."""

from __future__ import annotations

import pytest

import processes
from ebox.errors import EXIT_LOST

PROGRAM = """
import sys, time
from ebox.workers.watch import Watch

watch = Watch(0.5)
for seconds in map(float, sys.argv[1].split(",")):
    time.sleep(seconds)
    watch.beat()
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("steps", "last", "code"),
    [
        # The first, which compiles, tells how long the second may take; that one tells how long the others may.
        ("0.4", 2.0, 0),
        ("0.01", 4.0, EXIT_LOST),
        ("2.0,0.01", 4.0, EXIT_LOST),
    ],
)
def test_a_slow_step_is_waited_for_and_a_missing_one_is_not(steps: str, last: float, code: int):
    done = processes.run(processes.python(PROGRAM, steps, last), ends=code)
    assert ("no step for" in done.stderr) is (code == EXIT_LOST)
