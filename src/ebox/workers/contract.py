"""The contract between a worker and its supervisor: variables, tasks and the pipe; no JAX."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from ebox.errors import EXIT_LOST, InputError

# What a supervisor or a launcher tells a worker: where the group meets, its number, and how many there are.
COORDINATOR, PROCESS, NUM_PROCESSES = "EBOX_COORDINATOR", "EBOX_PROCESS", "EBOX_NUM_PROCESSES"
# The handle of the pipe to the supervisor, and the cores to use.
PIPE, CORES = "EBOX_PIPE", "EBOX_CORES"
# Set when a process has joined: from then on it exits at once if it fails, since a normal exit waits for the others.
IN_GROUP = "EBOX_IN_GROUP"
LOOPBACK = "127.0.0.1"
BEAT_SECONDS = 1.0


@dataclass(frozen=True)
class TrainTask:
    """What a worker trains, passed to it as JSON in its arguments.

    Args:
        dataset: The dataset folder.
        out: The run folder.
        config: The settings as TOML.
        resume: Continue from the newest checkpoint.
        overwrite: Begin again in a folder that has an earlier training.
        command: The command line to record.
    """

    dataset: str
    out: str
    config: str
    resume: bool = False
    overwrite: bool = False
    command: tuple[str, ...] = ()

    def write(self) -> str:
        """The task as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> TrainTask:
        """The task that `write` wrote."""
        facts = json.loads(text)
        return TrainTask(**{**facts, "command": tuple(facts["command"])})


# The arguments to `python` that start a worker with a task.
WorkerArguments = Callable[[TrainTask], list[str]]


@final
class Pipe:
    """The pipe to the supervisor: one line of JSON for each message, and a sign of life every second."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()

    @staticmethod
    def from_environment() -> Pipe | None:
        """The pipe of this process, if a supervisor started it; signs of life are sent from now on."""
        if PIPE not in os.environ:
            return None
        pipe = Pipe(int(os.environ[PIPE]))
        threading.Thread(target=pipe._beat, name="ebox-pipe", daemon=True).start()
        return pipe

    def send(self, kind: str, content: Mapping[str, Any]) -> None:
        """Tell the supervisor something; if it is gone, end this process."""
        line = json.dumps({"kind": kind, **content}) + "\n"
        try:
            with self._lock:
                os.write(self._handle, line.encode())
        except OSError:
            os._exit(EXIT_LOST)

    def _beat(self) -> None:
        while True:
            self.send("beat", {})
            time.sleep(BEAT_SECONDS)


@dataclass(frozen=True)
class Membership:
    """The place of a process in its group."""

    coordinator: str
    process: int
    num_processes: int

    @property
    def host(self) -> str:
        """The address of the first process, without the port."""
        return self.coordinator.rpartition(":")[0]

    def variables(self) -> dict[str, str]:
        """The variables that tell this to a started process."""
        numbers = {PROCESS: str(self.process), NUM_PROCESSES: str(self.num_processes)}
        return {COORDINATOR: self.coordinator, **numbers}


def read_membership(environment: Mapping[str, str]) -> Membership | None:
    """The membership that a launcher gave in the environment; None without a launcher.

    Raises:
        InputError: some of the variables are missing, or are not numbers.
    """
    given = {name: environment.get(name) for name in (COORDINATOR, PROCESS, NUM_PROCESSES)}
    if not any(given.values()):
        return None
    remedy = f"set {COORDINATOR} (host:port), {PROCESS} (from 0) and {NUM_PROCESSES} together, or none of them"
    try:
        process, count = int(given[PROCESS] or ""), int(given[NUM_PROCESSES] or "")
    except ValueError:
        raise InputError(f"{PROCESS} and {NUM_PROCESSES} are not both numbers", remedy=remedy) from None
    host, _, port = (given[COORDINATOR] or "").rpartition(":")
    if not host or not port.isdigit() or not 0 <= process < count:
        raise InputError(
            f"{COORDINATOR}={given[COORDINATOR]}, {PROCESS}={process}, {NUM_PROCESSES}={count} don't describe a group",
            remedy=remedy,
        )
    return Membership(given[COORDINATOR] or "", process, count)
