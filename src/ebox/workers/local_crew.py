"""Workers as processes of this machine: starting them, sharing out cores and GPUs, listening to them."""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from ebox.errors import InputError
from ebox.workers.contract import CORES, LOOPBACK, PIPE, Membership
from ebox.workers.machine import list_cores
from ebox.workers.supervision import Crew


@dataclass(eq=False)
class StartedWorker:
    """A process of a group, and the reading end of its `Pipe`."""

    process: subprocess.Popen[bytes]
    pipe: int
    heard: float
    rest: bytes = b""
    is_open: bool = True

    @staticmethod
    def start(
        command: Sequence[str], environment: Mapping[str, str], log: Path, *, stdin: int = subprocess.DEVNULL
    ) -> StartedWorker:
        """Start a process.

        Args:
            command: Program and arguments.
            environment: Its variables.
            log: The file to which its output is appended.
            stdin: Its standard input; `subprocess.PIPE`: it can be written to.
        """
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = subprocess.Popen(
                list(command),
                env={**environment, PIPE: str(writing)},
                pass_fds=(writing,),
                stdin=stdin,
                stdout=stream,
                stderr=stream,
                # A Ctrl-C in the terminal goes only to the supervisor, which passes it on.
                start_new_session=True,
            )
        os.close(writing)
        return StartedWorker(process, reading, time.monotonic())

    def read(self) -> list[dict[str, Any]]:
        """The messages since the last call; signs of life are noted and left out."""
        lines: list[bytes] = []
        while self.is_open:
            try:
                data = os.read(self.pipe, 1 << 16)
            except BlockingIOError:
                break
            self.is_open = bool(data)
            self.heard = time.monotonic()
            *whole, self.rest = (self.rest + data).split(b"\n")
            lines += whole
        messages: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [message for message in messages if message["kind"] != "beat"]

    def silence(self) -> float:
        """Seconds without a sign of life; 0 if it has closed its pipe, since it has ended then."""
        return time.monotonic() - self.heard if self.is_open else 0.0

    def end(self) -> list[dict[str, Any]]:
        """Kill it if it still runs; return its last messages."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        messages = self.read()
        os.close(self.pipe)
        return messages


@final
class LocalCrew(Crew):
    """Workers on this machine, which listen only on loopback."""

    def __init__(self, command: Sequence[str], count: int, logs: Path, environment: Mapping[str, str]) -> None:
        """Start the processes.

        Args:
            command: The command of each process.
            count: How many to start.
            logs: The folder of their output.
            environment: Variables added to those of this process.
        """
        self.workers: list[StartedWorker] = []
        self.selector = selectors.DefaultSelector()
        address = f"{LOOPBACK}:{find_free_port(LOOPBACK)}"
        try:
            for number in range(count):
                variables = {
                    **os.environ,
                    **environment,
                    **Membership(address, number, count).variables(),
                    **share_gpus(os.environ, number, count),
                    **share_cores(number, count),
                }
                worker = StartedWorker.start(command, variables, logs / f"worker-{number}.log")
                self.workers.append(worker)
                self.selector.register(worker.pipe, selectors.EVENT_READ, worker)
        except BaseException:
            self.end(0.0)
            raise

    @override
    def listen(self, seconds: float) -> Sequence[Mapping[str, Any]]:
        messages: list[dict[str, Any]] = []
        for key, _ in self.selector.select(seconds):
            messages += key.data.read()
            if not key.data.is_open:
                self.selector.unregister(key.data.pipe)
        return messages

    @override
    def codes(self) -> Sequence[int | None]:
        return [worker.process.poll() for worker in self.workers]

    @override
    def silences(self) -> Sequence[float]:
        return [worker.silence() for worker in self.workers]

    @override
    def send_signal(self, number: int) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(number)

    @override
    def end(self, seconds: float) -> Sequence[Mapping[str, Any]]:
        latest = time.monotonic() + seconds
        while None in self.codes() and time.monotonic() < latest:
            time.sleep(0.05)
        messages = [message for worker in self.workers for message in worker.end()]
        self.selector.close()
        return messages


def share_cores(number: int, count: int) -> dict[str, str]:
    """The variable that tells a worker its share of this process's cores; none if there are too few."""
    cores = list_cores()
    if sys.platform != "linux" or len(cores) < count:
        return {}
    return {CORES: ",".join(map(str, cores[number * len(cores) // count : (number + 1) * len(cores) // count]))}


def list_gpus(environment: Mapping[str, str]) -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        return [gpu for gpu in shown.split(",") if gpu]
    return [path.name[6:] for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]


def check_gpus(environment: Mapping[str, str], count: int) -> None:
    """Raise InputError where there are GPUs, but not one for each process."""
    gpus = list_gpus(environment)
    if gpus and len(gpus) < count:
        raise InputError(
            f"each process needs its own GPU: there are {count} processes, and the number of GPUs is {len(gpus)}",
            remedy=f"--processes {len(gpus)}, or --platform cpu",
        )


def share_gpus(environment: Mapping[str, str], number: int, count: int) -> dict[str, str]:
    """The variable that shows a worker its share of the GPUs; none if there are too few."""
    gpus = list_gpus(environment)
    if not gpus or len(gpus) < count:
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[number * len(gpus) // count : (number + 1) * len(gpus) // count])}


def find_free_port(host: str) -> int:
    """A port of this machine on which no program listens at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
