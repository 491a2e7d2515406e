"""Starting the workers of one machine, and looking after them: noticing failures, starting again, giving up."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from ebox.errors import InputError, ResumableError, WorkersFailedError
from ebox.interruption import SIGNALS
from ebox.parallel.environment import list_cores
from ebox.parallel.processes import LOOPBACK, Membership
from ebox.parallel.watching import CORES, EXIT_INTERRUPTED, EXIT_LOST, EXIT_RESUMABLE, LINK

GRACE_SECONDS = 10.0
SAVE_SECONDS = 120.0
BLAME_SECONDS = 2.0
INPUT_CODE = 2


@dataclass(frozen=True)
class GroupPlan:
    """What to start, and how much may go wrong.

    Args:
        make_command: Gives the program of every worker, anew for each attempt.
        num_workers: How many.
        logs: Folder for what they print.
        newest_checkpoint: Names the newest checkpoint, to see whether a failed attempt got on.
        max_restarts: How often the group may start again.
        min_workers: With how few it may go on.
        stall_seconds: A worker without a sign of life for so long counts as hung.
        environment: Added to that of this process.
    """

    make_command: Callable[[], Sequence[str]]
    num_workers: int
    logs: Path
    newest_checkpoint: Callable[[], str | None]
    max_restarts: int = 3
    min_workers: int | None = None
    stall_seconds: float = 25.0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    link: int
    heard: float
    rest: bytes = b""


@dataclass(frozen=True)
class _Failure:
    number: int
    reason: str


OnMessage = Callable[[Mapping[str, Any]], None]
OnRestart = Callable[[str], None]


def supervise(plan: GroupPlan, on_message: OnMessage, on_restart: OnRestart) -> int:
    """Run a group of workers to the end, starting it again from its last checkpoint when it fails.

    Args:
        plan: What to start.
        on_message: Called with what the workers tell.
        on_restart: Called with a sentence when the group starts again.

    Returns:
        How many workers finished.

    Raises:
        InputError: what a worker could not work with.
        ResumableError: the group was told to stop, and saved.
        KeyboardInterrupt: it was interrupted, and saved.
        WorkersFailedError: it failed too often.
    """
    with _Orders() as orders:
        return _supervise(plan, on_message, on_restart, orders)


def _supervise(plan: GroupPlan, on_message: OnMessage, on_restart: OnRestart, orders: _Orders) -> int:
    count, restarts, fruitless = plan.num_workers, 0, 0
    least = plan.num_workers if plan.min_workers is None else plan.min_workers
    while True:
        before = plan.newest_checkpoint()
        failure = _Group(plan, count, on_message, orders).run()
        if failure is None:
            return count
        got_on = plan.newest_checkpoint() != before
        fruitless = 0 if got_on else fruitless + 1
        restarts += 1
        if restarts > plan.max_restarts:
            raise WorkersFailedError(
                f"worker {failure.number} {failure.reason}, and the group has started again {plan.max_restarts} times "
                f"already; what the workers printed stands in {plan.logs}"
            )
        if fruitless >= 2 and count > least:
            count, fruitless = count - 1, 0
        newest = plan.newest_checkpoint()
        on_restart(
            f"worker {failure.number} {failure.reason}; starting again with {count} workers from "
            f"{'the beginning' if newest is None else newest} (restart {restarts} of {plan.max_restarts})"
        )


@final
class _Orders:
    """SIGINT and SIGTERM to the supervisor, over all attempts; the first is passed on to the workers."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.at = 0.0
        self.processes: list[subprocess.Popen[bytes]] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Orders:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: object) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number, self.at = number, time.monotonic()
        self.pass_on()

    def pass_on(self) -> None:
        """Tell the workers that live; one that is told twice minds it once."""
        if self.number is not None:
            for process in self.processes:
                if process.poll() is None:
                    process.send_signal(self.number)


@final
class _Group:
    """One attempt."""

    def __init__(self, plan: GroupPlan, count: int, on_message: OnMessage, orders: _Orders) -> None:
        self.plan, self.count, self.on_message, self.orders = plan, count, on_message, orders
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()
        self.error: InputError | None = None
        self.failed_at: float | None = None

    def run(self) -> _Failure | None:
        """Start, wait and clean up; what failed, if anything did."""
        try:
            self._start()
            self.orders.pass_on()
            return self._wait()
        finally:
            self._end()

    def _start(self) -> None:
        self.plan.logs.mkdir(parents=True, exist_ok=True)
        address, command = f"{LOOPBACK}:{_free_port()}", self.plan.make_command()
        for number in range(self.count):
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            environment = {
                **os.environ,
                **self.plan.environment,
                **Membership(address, number, self.count).variables(),
                **share_gpus(os.environ, number, self.count),
                **share_cores(number, self.count),
                LINK: str(writing),
            }
            with (self.plan.logs / f"worker-{number}.log").open("ab") as log:
                process = subprocess.Popen(
                    list(command),
                    env=environment,
                    pass_fds=(writing,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # A Ctrl-C of the terminal is for the supervisor alone, which passes it on.
                    start_new_session=True,
                )
            os.close(writing)
            worker = _Worker(number, process, reading, time.monotonic())
            self.workers.append(worker)
            self.orders.processes.append(process)
            self.selector.register(reading, selectors.EVENT_READ, worker)

    def _wait(self) -> _Failure | None:
        while True:
            self._listen(0.1)
            codes = [worker.process.poll() for worker in self.workers]
            if all(code == 0 for code in codes):
                return None
            failure = self._find_failure(codes)
            if failure is not None:
                return failure

    def _find_failure(self, codes: Sequence[int | None]) -> _Failure | None:
        """What is wrong, if anything; raises what ends the whole training."""
        for worker, code in zip(self.workers, codes, strict=True):
            if code == INPUT_CODE:
                self._listen(0.2)
                raise self.error or InputError(
                    f"worker {worker.number} stopped on bad input",
                    file=self.plan.logs / f"worker-{worker.number}.log",
                    remedy="read the end of that file",
                )
        if self.orders.number is not None:
            self._check_stopped(codes)
            return None
        now = time.monotonic()
        for worker in self.workers:
            if now - worker.heard > self.plan.stall_seconds:
                return _Failure(worker.number, f"gave no sign of life for {self.plan.stall_seconds:.0f} s")
        failed = [(worker, code) for worker, code in zip(self.workers, codes, strict=True) if code]
        # Those that only lost another one wait, a little, for the one that is to blame.
        causes = [item for item in failed if item[1] != EXIT_LOST]
        if not failed or (not causes and now - self._first_failure(now) < BLAME_SECONDS):
            return None
        worker, code = (causes or failed)[0]
        return _Failure(worker.number, _describe(code))

    def _first_failure(self, now: float) -> float:
        if self.failed_at is None:
            self.failed_at = now
        return self.failed_at

    def _check_stopped(self, codes: Sequence[int | None]) -> None:
        """End as was ordered once all workers have; those that one of them left behind are not waited for."""
        now = time.monotonic()
        broken = any(code not in (None, 0, EXIT_RESUMABLE, EXIT_INTERRUPTED) for code in codes)
        patience = BLAME_SECONDS if broken else SAVE_SECONDS
        since = self._first_failure(now) if broken else self.orders.at
        if any(code is None for code in codes) and now - since < patience:
            return
        if self.orders.number == signal.SIGTERM:
            raise ResumableError
        raise KeyboardInterrupt

    def _listen(self, seconds: float) -> None:
        """Take in what the workers tell, for up to so long."""
        for key, _ in self.selector.select(seconds):
            worker = key.data
            try:
                data = os.read(worker.link, 1 << 16)
            except BlockingIOError:
                continue
            if not data:
                self.selector.unregister(worker.link)
                worker.heard = float("inf")
                continue
            worker.heard = time.monotonic()
            *lines, worker.rest = (worker.rest + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if message["kind"] == "error":
            known = ("problem", "file", "line", "record", "remedy")
            facts = {key: message[key] for key in known}
            self.error = InputError(facts.pop("problem"), **facts)
        elif message["kind"] != "beat":
            self.on_message(message)

    def _end(self) -> None:
        """See that no worker is left, and close the links."""
        end = time.monotonic() + (0.0 if self.error is None else GRACE_SECONDS)
        for worker in self.workers:
            while worker.process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            if worker.process.poll() is None:
                # What they have done since the last checkpoint is done again; a hung one heeds nothing else.
                worker.process.kill()
            worker.process.wait()
            os.close(worker.link)
        self.selector.close()


def share_cores(number: int, count: int) -> dict[str, str]:
    """The variable that tells a worker its share of this process's cores; nothing where there are too few."""
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


def share_gpus(environment: Mapping[str, str], number: int, count: int) -> dict[str, str]:
    """The variable that shows a worker its share of the GPUs; nothing where there are too few."""
    gpus = list_gpus(environment)
    if not gpus or len(gpus) < count:
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[number * len(gpus) // count : (number + 1) * len(gpus) // count])}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _describe(code: int) -> str:
    if code < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"was ended by signal {-code} ({known.get(-code, 'a real-time signal')})"
    return "lost the others" if code == EXIT_LOST else f"ended with code {code}"
