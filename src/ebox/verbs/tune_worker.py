"""A worker of a search: `python -m ebox.verbs.tune_worker DATASET CONFIG`, with tasks as lines on standard input."""

from __future__ import annotations

import os

from ebox.workers.contract import CORES

# Before any import counts the cores.
if os.environ.get(CORES):
    os.sched_setaffinity(0, {int(core) for core in os.environ[CORES].split(",")})

import json
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from ebox.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_LOST, InputError
from ebox.progress import tell_warnings
from ebox.workers.contract import Pipe


def main(dataset: str, config: str) -> int:
    """Do tasks until standard input ends."""
    pipe = Pipe.from_environment()
    assert pipe is not None
    tasks: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_tasks, args=(tasks,), name="ebox-tasks", daemon=True).start()
    tell_warnings(lambda text: pipe.send("warning", {"text": text}))
    try:
        from ebox.settings.reading import read_config_text
        from ebox.tuning.training import Trainer

        trainer = Trainer(Path(dataset), read_config_text(config))
        while True:
            task: dict[str, Any] = json.loads(tasks.get())
            number = task.pop("task")

            def tell_steps(made: int, number: int = number) -> None:
                pipe.send("steps", {"task": number, "steps": made})

            pipe.send("done", {"task": number, "results": trainer.train(task, tell_steps)})
    except InputError as error:
        pipe.send("error", error.facts())
        return EXIT_BAD_INPUT


def _read_tasks(tasks: queue.Queue[str]) -> None:
    """Hand lines on; when the search is gone, end at once."""
    for line in sys.stdin:
        tasks.put(line)
    os._exit(EXIT_LOST)


def run() -> int:
    """Do the tasks; any error is printed, and told by the code."""
    try:
        return main(*sys.argv[1:])
    except BaseException:  # noqa: BLE001 - printed, and told by the code
        traceback.print_exc()
        return EXIT_FAILED


if __name__ == "__main__":
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
