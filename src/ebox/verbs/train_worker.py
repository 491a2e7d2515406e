"""A worker of a group of processes: `python -m ebox.verbs.train_worker TASK`, the task as JSON."""

from __future__ import annotations

import os

from ebox.workers.contract import CORES

# Before any import counts the cores.
if os.environ.get(CORES):
    os.sched_setaffinity(0, {int(core) for core in os.environ[CORES].split(",")})

import sys
import traceback
from typing import Any

from ebox.errors import EXIT_FAILED, EXIT_INTERRUPTED, InputError, ResumableError
from ebox.progress import tell_warnings
from ebox.workers.contract import (
    PROCESS,
    Pipe,
    TrainTask,
)
from ebox.workers.interruption import note_signals_from_now_on


def main(text: str) -> int:
    """Train as one process of the group; the exit code tells the supervisor how it went."""
    from ebox.settings.reading import read_config_text
    from ebox.verbs.train import train
    from ebox.workers.processes import MeetingError

    pipe, task = Pipe.from_environment(), TrainTask.read(text)

    def tell(kind: str, **content: Any) -> None:
        if pipe is not None:
            pipe.send(kind, content)

    # Every process of a group has the same warnings.
    is_first = os.environ.get(PROCESS) == "0"
    tell_warnings(lambda text: tell("warning", text=text) if is_first else None)
    try:
        train(
            task.dataset,
            task.out,
            read_config_text(task.config),
            resume=task.resume,
            overwrite=task.overwrite,
            on_entry=lambda entry, num_steps: tell("entry", entry=dict(entry), num_steps=num_steps),
            on_prepared=lambda: tell("prepared"),
            command=task.command,
            is_checked=True,
        )
    except InputError as error:
        # Where another program took the port, or the machine was too busy to start in time, another try may succeed.
        if not isinstance(error, MeetingError):
            tell("error", **error.facts())
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except ResumableError as error:
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def run() -> int:
    """Do the task; after any error the exit code tells the supervisor at once."""
    note_signals_from_now_on()
    try:
        return main(sys.argv[1])
    except BaseException:  # noqa: BLE001 - printed, and told by the code
        traceback.print_exc()
        return EXIT_FAILED


if __name__ == "__main__":
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    # A normal exit would wait for workers that may have ended; after an error there is nothing to clean up.
    if code:
        os._exit(code)
