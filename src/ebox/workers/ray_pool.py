"""Ray actors that compute and answer, one job at a time each; one that is lost or hangs is replaced."""

from __future__ import annotations

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
# To start and to compile.
FIRST_SECONDS = 300.0


@dataclass(frozen=True)
class Here:
    """What an actor may use of its machine."""

    demand: Demand
    number: int
    num: int

    def take(self) -> None:
        """Keep this process to it; before JAX looks at its devices."""
        os.environ.update(self.demand.variables())
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.demand.cores(self.number, self.num))


@dataclass(frozen=True)
class Limits:
    """How many actors there are, and when which is given up.

    Args:
        count: To start with.
        least: With fewer the work ends.
        max_restarts: How many may be started in the place of one that is lost.
        stall_seconds: Without an answer an actor counts as hung after this, and `PATIENCE` times its slowest job.
    """

    count: int
    least: int
    max_restarts: int
    stall_seconds: float


@dataclass(eq=False)
class _Actor:
    """An actor: the answer that it is there, then where it is, and since when it starts or works at a job."""

    handle: Any
    asked: Any
    here: Here | None = None
    job: Any = None
    since: float = 0.0
    num_done: int = 0


@final
class RayPool(Generic[Result]):
    """Actors of one class, whose method `compute(job, shared, here)` gives the results."""

    def __init__(self, kind: type[Placed], demand: Demand, limits: Limits, tell: Tell, *arguments: Any) -> None:
        """Start actors, `kind(*arguments)` each.

        Args:
            kind: Their class.
            demand: What each needs of its machine.
            limits: How many there are, and when which is given up.
            tell: Told of each that was lost.
            arguments: Of the class.

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
            # One that replaces another takes over its cores.
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
        """The numbers of those that are there."""
        return [number for number, actor in self._actors.items() if actor.here is not None]

    def share(self, value: Any) -> Any:
        """Put a value where all actors can read it."""
        return self._ray.put(value)

    def submit(self, worker: int, job: Any, shared: Any) -> None:
        """Have a free actor compute."""
        actor = self._actors[worker]
        actor.job, actor.since = actor.handle.compute.remote(job, shared, actor.here), time.monotonic()

    def wait(self) -> Sequence[tuple[int, Result | None]]:
        """Wait for the next results, None of an actor that was lost or hung; none where an actor has come instead.

        Raises:
            WorkersFailedError: fewer are left than there must be.
            InputError: what one could not work with.
        """
        # The time between two calls is not that of the actors: the caller may have validated.
        now = time.monotonic()
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
                if results:
                    return results
        finally:
            self._left_at = time.monotonic()

    def _collect(self, jobs: Mapping[Any, int]) -> list[tuple[int, Result | None]]:
        """What is done by now, or soon."""
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
                f"{self._limits.least}; the others were lost more often than they may start again "
                f"(parallel.max_restarts = {self._limits.max_restarts}); `--resume` goes on from the last checkpoint"
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
            # The first job of each compiles; and until a later one was timed, nothing is known of how long they take.
            limit = patience if actor.num_done and self._slowest else max(patience, FIRST_SECONDS)
            if actor.job is not None and now - actor.since > limit:
                hung.append(number)
        return hung

    def _lose(self, number: int, why: str) -> None:
        """Replace an actor, or do without it from now on."""
        self._ray.kill(self._actors.pop(number).handle)
        follows = f"the others go on; there are {len(self._actors)} of {self._limits.count}"
        if self._restarts_left > 0:
            self._restarts_left -= 1
            self._actors[number] = self._make(number)
            follows = f"starting another in its place (of parallel.max_restarts, {self._restarts_left} are left)"
        self._tell(f"worker {number} {why}: {follows}")

    def _welcome(self) -> bool:
        """See which of those that were started are there; whether one has come."""
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
        """Let go of the actors and their places."""
        for actor in self._actors.values():
            self._ray.kill(actor.handle)
        self._places.end()
