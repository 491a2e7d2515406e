"""Worker processes of this machine that each do one task after another; one that is lost is replaced."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ebox.errors import InputError
from ebox.workers.local_crew import StartedWorker, share_cores, share_gpus

# How often a task may lose its worker.
MOST_LOSSES = 2
LISTEN_SECONDS = 0.5
Task = Mapping[str, Any]
# Called with the number of a task, and a message about it.
Take = Callable[[int, Mapping[str, Any]], None]


@dataclass(eq=False)
class _Busy:
    """A worker, its number, and the task that it does."""

    worker: StartedWorker
    number: int
    task: int | None = None


@final
class TaskPool:
    """Workers that get tasks as lines of JSON on their standard input, and answer on their `Pipe`.

    A message has the number of its task under `task`; with the kind `done` it ends the task. A worker whose standard
    input ends must end too, so that none outlives this process.
    """

    def __init__(self, command: Sequence[str], count: int, logs: Path, environment: Mapping[str, str]) -> None:
        """Start nothing yet: a worker is started when there is a task for it.

        Args:
            command: The command of each worker.
            count: How many workers.
            logs: Folder of their output.
            environment: Variables added to those of this process.
        """
        self._command, self._count, self._logs, self._environment = command, count, logs, environment
        self._selector = selectors.DefaultSelector()
        self._busy: dict[int, _Busy] = {}

    def run(self, tasks: Sequence[Task], take: Take, is_stopped: Callable[[], bool]) -> bool:
        """Do all tasks; whether all were done.

        Args:
            tasks: What each worker gets, as plain values.
            take: Called with every message of a task; the kind is `lost` where it lost its worker too often.
            is_stopped: Asked now and then; if true, workers are killed and the tasks that are left are given up.

        Raises:
            InputError: a worker can't use its input at all.
        """
        waiting, losses, left = deque(range(len(tasks))), dict.fromkeys(range(len(tasks)), 0), len(tasks)
        while left:
            if is_stopped():
                self.end()
                return False
            for busy in self._free(len(waiting)):
                self._give(busy, waiting.popleft(), tasks)
            for busy, message in self._listen():
                task = busy.task
                if message["kind"] == "error" and task is not None:
                    raise InputError(**{key: value for key, value in message.items() if key not in ("kind", "task")})
                if message["kind"] == "ended" and task is not None:
                    losses[task] += 1
                    if losses[task] < MOST_LOSSES:
                        waiting.appendleft(task)
                        continue
                    message = {"kind": "lost", "exit_code": message["exit_code"], "log": str(self._log(busy.number))}
                if task is None:
                    continue
                if message["kind"] in ("done", "lost"):
                    busy.task, left = None, left - 1
                take(task, message)
        return True

    def end(self) -> None:
        """Kill the workers."""
        for busy in [*self._busy.values()]:
            self._drop(busy)

    def _free(self, wanted: int) -> list[_Busy]:
        """Workers without a task, at most as many as wanted; missing ones are started."""
        for number in range(self._count):
            idle = sum(busy.task is None for busy in self._busy.values())
            if number not in self._busy and idle < wanted:
                self._busy[number] = self._start(number)
        return [busy for _, busy in sorted(self._busy.items()) if busy.task is None][:wanted]

    def _start(self, number: int) -> _Busy:
        variables = {
            **os.environ,
            **self._environment,
            **share_gpus(os.environ, number, self._count),
            **share_cores(number, self._count),
        }
        busy = _Busy(StartedWorker.start(self._command, variables, self._log(number), stdin=subprocess.PIPE), number)
        self._selector.register(busy.worker.pipe, selectors.EVENT_READ, busy)
        return busy

    def _give(self, busy: _Busy, task: int, tasks: Sequence[Task]) -> None:
        busy.task = task
        stream = busy.worker.process.stdin
        assert stream is not None
        try:
            stream.write((json.dumps({"task": task, **tasks[task]}) + "\n").encode())
            stream.flush()
        except BrokenPipeError:
            # It has ended; the closed pipe says so next.
            return

    def _listen(self) -> list[tuple[_Busy, Mapping[str, Any]]]:
        """The messages of a while; an ended worker is dropped, and its last message has the kind `ended`."""
        found: list[tuple[_Busy, Mapping[str, Any]]] = []
        for key, _ in self._selector.select(LISTEN_SECONDS):
            busy: _Busy = key.data
            found += [(busy, message) for message in busy.worker.read()]
            if not busy.worker.is_open:
                code = busy.worker.process.wait()
                self._drop(busy)
                found.append((busy, {"kind": "ended", "exit_code": code}))
        return found

    def _drop(self, busy: _Busy) -> None:
        self._busy.pop(busy.number, None)
        self._selector.unregister(busy.worker.pipe)
        if busy.worker.process.stdin is not None:
            # What it did not read any more.
            with contextlib.suppress(BrokenPipeError):
                busy.worker.process.stdin.close()
        busy.worker.end()

    def _log(self, number: int) -> Path:
        return self._logs / f"worker-{number}.log"
