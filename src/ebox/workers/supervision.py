"""Supervising a group of workers: noticing failures, starting again from the last checkpoint, giving up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

from ebox.errors import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    EXIT_LOST,
    EXIT_RESUMABLE,
    InputError,
    ResumableError,
    WorkersFailedError,
)
from ebox.workers.interruption import SIGNALS

GRACE_SECONDS = 10.0
SAVE_SECONDS = 120.0
BLAME_SECONDS = 2.0
# Not an exit code of a process: the worker is gone, together with its machine.
LOST_MACHINE = 1000


class TooFewPlacesError(InputError):
    """There is no room for the number of workers."""


class StartFailedError(Exception):
    """Workers were lost during their start, which counts as a failure of the attempt."""


@runtime_checkable
class Crew(Protocol):
    """The workers of one attempt, which run from the creation of this object to its `end`."""

    def listen(self, seconds: float) -> Sequence[Mapping[str, Any]]:
        """The messages of the workers within `seconds`."""

    def codes(self) -> Sequence[int | None]:
        """The exit code of each worker; None while it runs, LOST_MACHINE if it can't be known any more."""

    def silences(self) -> Sequence[float]:
        """Seconds without a sign of life of each worker; 0 for one that has ended."""

    def send_signal(self, number: int) -> None:
        """Send a signal to the workers that still run."""

    def end(self, seconds: float) -> Sequence[Mapping[str, Any]]:
        """Wait up to `seconds` for the workers to end, kill the others, and return their last messages."""


# Starts the given number of workers; while it waits for room it asks whether to stop waiting.
StartCrew = Callable[[int, Callable[[], bool]], Crew]


@dataclass(frozen=True)
class GroupPlan:
    """What to start, and how much may go wrong.

    Args:
        start: What starts the workers.
        num_workers: How many workers.
        logs: Folder of the workers' output.
        newest_checkpoint: Names the newest checkpoint, which shows whether a failed attempt made progress.
        max_restarts: How many times the group may start again.
        min_workers: The least number of workers to continue with; None: all.
        stall_seconds: A worker counts as hung after this time without a sign of life.
    """

    start: StartCrew
    num_workers: int
    logs: Path
    newest_checkpoint: Callable[[], str | None]
    max_restarts: int = 3
    min_workers: int | None = None
    stall_seconds: float = 25.0


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
        on_message: Called with each message of the workers.
        on_restart: Called with a sentence when the group starts again.

    Returns:
        How many workers finished.

    Raises:
        InputError: input that a worker could not work with.
        ResumableError: the group was told to stop, and saved.
        KeyboardInterrupt: the group was interrupted, and saved.
        WorkersFailedError: the group failed too many times.
    """
    with _Orders() as orders:
        return _supervise(plan, on_message, on_restart, orders)


def _supervise(plan: GroupPlan, on_message: OnMessage, on_restart: OnRestart, orders: _Orders) -> int:
    count, restarts, fruitless, is_new_count = plan.num_workers, 0, 0, False
    least = plan.num_workers if plan.min_workers is None else plan.min_workers
    while True:
        before = plan.newest_checkpoint()
        orders.check()
        try:
            failure = _Group(plan, count, on_message, orders).run()
        except StartFailedError as error:
            orders.check()
            failure = _Failure(0, str(error))
        except TooFewPlacesError:
            orders.check()
            # At the start the full number is required; later the group continues without what is lost for ever.
            if restarts == 0 or count == least:
                raise
            count, is_new_count = count - 1, True
            continue
        except InputError as error:
            # This number may not divide into nodes and pieces; a smaller one may.
            if not is_new_count or count == least or plan.newest_checkpoint() != before:
                raise
            count -= 1
            on_restart(f"{count + 1} workers can't go on ({error.problem}); starting again with {count}")
            continue
        is_new_count = False
        if failure is None:
            return count
        got_on = plan.newest_checkpoint() != before
        fruitless = 0 if got_on else fruitless + 1
        restarts += 1
        if restarts > plan.max_restarts:
            raise WorkersFailedError(
                f"worker {failure.number} {failure.reason}, and the group has started again {plan.max_restarts} times "
                f"already; the output of the workers is in {plan.logs}"
            )
        if fruitless >= 2 and count > least:
            count, fruitless, is_new_count = count - 1, 0, True
        newest = plan.newest_checkpoint()
        on_restart(
            f"worker {failure.number} {failure.reason}; starting again with {count} workers from "
            f"{'the beginning' if newest is None else newest} (restart {restarts} of {plan.max_restarts})"
        )


@final
class _Orders:
    """SIGINT and SIGTERM to the supervisor, during all attempts; the first one is passed on to the workers."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.at = 0.0
        self.crew: Crew | None = None
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

    def is_given(self) -> bool:
        """Whether one of these signals came."""
        return self.number is not None

    def check(self) -> None:
        """End as the signal asks; called when no worker is left that has to save first."""
        if self.number == signal.SIGTERM:
            raise ResumableError
        if self.number is not None:
            raise KeyboardInterrupt

    def pass_on(self) -> None:
        """Pass the signal on to the running workers; a worker that gets it twice notes it once."""
        if self.number is not None and self.crew is not None:
            self.crew.send_signal(self.number)


@final
class _Group:
    """One attempt."""

    def __init__(self, plan: GroupPlan, count: int, on_message: OnMessage, orders: _Orders) -> None:
        self.plan, self.count, self.on_message, self.orders = plan, count, on_message, orders
        self.error: InputError | None = None
        self.failed_at: float | None = None

    def run(self) -> _Failure | None:
        """Start, wait and clean up; return what failed, if anything did."""
        crew = self.plan.start(self.count, self.orders.is_given)
        try:
            self.orders.crew = crew
            self.orders.pass_on()
            return self._wait(crew)
        finally:
            self.orders.crew = None
            # The work since the last checkpoint is done again, and a hung worker reacts only to a kill. The next
            # attempt must know how far this one came, so the last messages count.
            for message in crew.end(0.0 if self.error is None else GRACE_SECONDS):
                self._hear(message)

    def _wait(self, crew: Crew) -> _Failure | None:
        while True:
            self._listen(crew, 0.1)
            codes = crew.codes()
            if all(code == 0 for code in codes):
                return None
            failure = self._find_failure(crew, codes)
            if failure is not None:
                return failure

    def _find_failure(self, crew: Crew, codes: Sequence[int | None]) -> _Failure | None:
        """What is wrong, if anything; raises an error if the whole training must end."""
        if EXIT_BAD_INPUT in codes:
            self._listen(crew, 0.2)
            number = codes.index(EXIT_BAD_INPUT)
            raise self.error or InputError(
                f"worker {number} stopped on bad input",
                file=self.plan.logs / f"worker-{number}.log",
                remedy="read the end of that file",
            )
        if self.orders.number is not None:
            self._check_stopped(codes)
            return None
        for number, silence in enumerate(crew.silences()):
            if silence > self.plan.stall_seconds:
                return _Failure(number, f"gave no sign of life for {self.plan.stall_seconds:.0f} s")
        failed = [(number, code) for number, code in enumerate(codes) if code]
        # Workers that only lost another one are not the cause: wait a short time for the worker that failed.
        causes = [item for item in failed if item[1] != EXIT_LOST]
        now = time.monotonic()
        if not failed or (not causes and now - self._first_failure(now) < BLAME_SECONDS):
            return None
        number, code = (causes or failed)[0]
        return _Failure(number, _describe(code))

    def _first_failure(self, now: float) -> float:
        if self.failed_at is None:
            self.failed_at = now
        return self.failed_at

    def _check_stopped(self, codes: Sequence[int | None]) -> None:
        """End as the signal asks when all workers have ended; if one of them failed, the others get less time."""
        now = time.monotonic()
        broken = any(code not in (None, 0, EXIT_RESUMABLE, EXIT_INTERRUPTED) for code in codes)
        patience = BLAME_SECONDS if broken else SAVE_SECONDS
        since = self._first_failure(now) if broken else self.orders.at
        if any(code is None for code in codes) and now - since < patience:
            return
        self.orders.check()

    def _listen(self, crew: Crew, seconds: float) -> None:
        """Read the messages of the workers, for up to `seconds`."""
        for message in crew.listen(seconds):
            self._hear(message)

    def _hear(self, message: Mapping[str, Any]) -> None:
        if message["kind"] == "error":
            self.error = InputError(**{key: value for key, value in message.items() if key != "kind"})
        else:
            self.on_message(message)


def _describe(code: int) -> str:
    if code < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"was ended by signal {-code} ({known.get(-code, 'a real-time signal')})"
    if code == LOST_MACHINE:
        return "was lost with its machine"
    return "lost the others" if code == EXIT_LOST else f"ended with code {code}"
