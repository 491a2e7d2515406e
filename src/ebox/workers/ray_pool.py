"""Ray actors that compute results, each one job at a time; an actor that is lost or hangs is replaced."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

from ebox.errors import WorkersFailedError
from ebox.workers.ray_crew import Demand, Placed, Places, count_here, explain_error
from ebox.workers.watch import PATIENCE

Result = TypeVar("Result")
Tell = Callable[[str], None]
LOOK_SECONDS = 1.0
# Time to start and to compile.
FIRST_SECONDS = 300.0


@dataclass(frozen=True)
class Here:
    """What an actor may use of its machine."""

    demand: Demand
    number: int
    num: int

    def take(self) -> None:
        """Restrict this process to it; call this before JAX looks at its devices."""
        os.environ.update(self.demand.variables())
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.demand.cores(self.number, self.num))


@dataclass(frozen=True)
class Limits:
    """How many actors there are, and when one is given up.

    Args:
        count: How many to start with.
        least: With fewer actors the work ends.
        max_restarts: How many actors may be started to replace lost ones.
        stall_seconds: An actor counts as hung if it takes longer than this and longer than `PATIENCE` times the
            slowest job.
    """

    count: int
    least: int
    max_restarts: int
    stall_seconds: float


@dataclass(eq=False)
class _Actor:
    """An actor: the request that shows that it has started, its place then, and the start of its start-up or job."""

    handle: Any
    asked: Any
    here: Here | None = None
    job: Any = None
    since: float = 0.0
    num_done: int = 0


@final
class RayPool(Generic[Result]):
    """Actors of one class, whose method `compute(job, shared, here)` returns the results."""

    def __init__(self, kind: type[Placed], demand: Demand, limits: Limits, tell: Tell, *arguments: Any) -> None:
        """Start actors, `kind(*arguments)` each.

        Args:
            kind: Their class.
            demand: What each needs of its machine.
            limits: How many there are, and when one is given up.
            tell: Called with a sentence for each actor that was lost.
            *arguments: Arguments of the class.

        Raises:
            TooFewPlacesError: the cluster has no room for them.
            InputError: a machine can't do its part.
        """
        import ray

        self._ray = ray
        self._kind, self._arguments = kind, arguments
        self._limits, self._tell = limits, tell
        self._restarts_left = limits.max_restarts
        self._slowest, self._left_at = 0.0, time.monotonic()
        self._actors: dict[int, _Actor] = {}
        self._places = Places(limits.count, demand)
        try:
            self._actors = {number: self._make(number) for number in range(limits.count)}
            where = ray.get([actor.asked for actor in self._actors.values()], timeout=FIRST_SECONDS)
            # An actor that replaces another takes over its cores.
            self._here = [Here(demand, *counts) for counts in count_here(where)]
            self._welcome()
        except BaseException as error:
            self.end()
            if isinstance(error, ray.exceptions.RayError):
                raise explain_error(error) from None
            raise

    def _make(self, number: int) -> _Actor:
        handle = self._places.make(number, self._kind, *self._arguments)
        return _Actor(handle, handle.place.remote(), since=time.monotonic())

    def workers(self) -> Sequence[int]:
        """The numbers of the actors that have started."""
        return [number for number, actor in self._actors.items() if actor.here is not None]

    def share(self, value: Any) -> Any:
        """Store a value where all actors can read it."""
        return self._ray.put(value)

    def submit(self, worker: int, job: Any, shared: Any) -> None:
        """Give a job to a free actor."""
        actor = self._actors[worker]
        actor.job, actor.since = actor.handle.compute.remote(job, shared, actor.here), time.monotonic()

    def wait(self, seconds: float = math.inf) -> Sequence[tuple[int, Result | None]]:
        """Wait for the next results (None for an actor that was lost or hung).

        Empty if an actor has started instead, or if there were none for some `seconds`.

        Raises:
            WorkersFailedError: fewer actors are left than `least`.
            InputError: input that an actor could not work with.
        """
        # The time between two calls does not count for the actors: the caller may have validated.
        now = began = time.monotonic()
        for actor in self._actors.values():
            actor.since += now - max(actor.since, self._left_at)
        try:
            while True:
                has_come = self._welcome()
                self._check_left()
                jobs = {actor.job: number for number, actor in self._actors.items() if actor.job is not None}
                if has_come:
                    return []
                results = self._collect(jobs)
                if results or time.monotonic() - began >= seconds:
                    return results
        finally:
            self._left_at = time.monotonic()

    def _collect(self, jobs: Mapping[Any, int]) -> list[tuple[int, Result | None]]:
        """The results of jobs that are done now or within `LOOK_SECONDS`."""
        if not jobs:
            time.sleep(0.1)
            return []
        self._ray.wait(list(jobs), num_returns=1, timeout=LOOK_SECONDS)
        ready, _ = self._ray.wait(list(jobs), num_returns=len(jobs), timeout=0)
        results = [(jobs[job], self._take(jobs[job])) for job in ready]
        for number in self._find_hung():
            self._lose(number, "did not answer")
            results.append((number, None))
        return results

    def _check_left(self) -> None:
        left = len(self._actors)
        if left < self._limits.least:
            raise WorkersFailedError(
                f"{left} of {self._limits.count} workers on the Ray cluster are left, which is fewer than "
                f"{self._limits.least}; the others were lost more often than they may be restarted "
                f"(parallel.max_restarts = {self._limits.max_restarts}); `--resume` continues from the last checkpoint"
            )

    def _take(self, number: int) -> Result | None:
        actor = self._actors[number]
        try:
            result: Result = self._ray.get(actor.job)
        except self._ray.exceptions.RayTaskError as error:
            raise explain_error(error) from None
        except self._ray.exceptions.RayError as error:
            self._lose(number, f"is gone ({type(error).__name__})")
            return None
        if actor.num_done:
            self._slowest = max(self._slowest, time.monotonic() - actor.since)
        actor.job, actor.num_done = None, actor.num_done + 1
        return result

    def _find_hung(self) -> list[int]:
        now, hung = time.monotonic(), []
        for number, actor in self._actors.items():
            patience = max(self._limits.stall_seconds, PATIENCE * self._slowest)
            # The first job of each actor compiles; until a later one is timed, the time of a job is unknown.
            limit = patience if actor.num_done and self._slowest else max(patience, FIRST_SECONDS)
            if actor.job is not None and now - actor.since > limit:
                hung.append(number)
        return hung

    def _lose(self, number: int, why: str) -> None:
        """Replace an actor, or continue without it."""
        self._ray.kill(self._actors.pop(number).handle)
        follows = f"the others continue; there are {len(self._actors)} of {self._limits.count}"
        if self._restarts_left > 0:
            self._restarts_left -= 1
            self._actors[number] = self._make(number)
            follows = f"starting another in its place (of parallel.max_restarts, {self._restarts_left} are left)"
        self._tell(f"worker {number} {why}: {follows}")

    def _welcome(self) -> bool:
        """Find out which actors have started; return whether there is a new one."""
        has_come = False
        for number, actor in list(self._actors.items()):
            if actor.here is not None:
                continue
            if self._ray.wait([actor.asked], timeout=0)[0]:
                try:
                    self._ray.get(actor.asked)
                except self._ray.exceptions.RayTaskError as error:
                    raise explain_error(error) from None
                except self._ray.exceptions.RayError as error:
                    self._lose(number, f"did not start ({type(error).__name__})")
                else:
                    actor.here, has_come = self._here[number], True
            elif time.monotonic() - actor.since > FIRST_SECONDS:
                self._lose(number, f"did not start within {FIRST_SECONDS:.0f} s")
        return has_come

    def end(self) -> None:
        """Kill the actors and give their places back."""
        for actor in self._actors.values():
            self._ray.kill(actor.handle)
        self._places.end()
