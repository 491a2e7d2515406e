"""Ray actors that compute and answer, one job at a time each; one that is lost or hangs is replaced."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

from ebox.errors import WorkersFailedError
from ebox.parallel.cluster import Demand, Placed, Places, count_here, explain_task_error

Result = TypeVar("Result")
LOOK_SECONDS = 1.0
# To start and to compile.
FIRST_SECONDS = 300.0
# A job may take so many times as long as the slowest so far.
PATIENCE = 10.0


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


@dataclass(eq=False)
class _Actor:
    """An actor: the answer that it is there, then where it is, and since when it has been working at a job."""

    handle: Any
    asked: Any
    here: Here | None = None
    job: Any = None
    since: float = 0.0
    num_done: int = 0


@final
class RayPool(Generic[Result]):
    """Actors of one class, whose method `compute(job, shared, here)` gives the results."""

    def __init__(
        self, kind: type[Placed], count: int, demand: Demand, max_restarts: int, stall_seconds: float, *arguments: Any
    ) -> None:
        """Start so many actors, `kind(*arguments)` each.

        Raises:
            TooFewPlacesError: the cluster has no room for them.
        """
        import ray

        self._ray = ray
        self._kind, self._arguments = kind, arguments
        self._restarts_left, self._stall_seconds = max_restarts, stall_seconds
        self._slowest = 0.0
        self._actors: dict[int, _Actor] = {}
        self._places = Places(count, demand)
        try:
            self._actors = {number: self._make(number) for number in range(count)}
            where = ray.get([actor.asked for actor in self._actors.values()], timeout=FIRST_SECONDS)
            # One that replaces another takes over its cores.
            self._here = [Here(demand, *counts) for counts in count_here(where)]
            self._welcome()
        except BaseException:
            self.end()
            raise

    def _make(self, number: int) -> _Actor:
        handle = self._places.make(number, self._kind, *self._arguments)
        return _Actor(handle, handle.place.remote())

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
        """Wait for the next results; None of an actor that was lost or hung.

        Raises:
            WorkersFailedError: none is left.
            InputError: what one could not work with.
        """
        while True:
            self._welcome()
            jobs = {actor.job: number for number, actor in self._actors.items() if actor.job is not None}
            if not self._actors:
                raise WorkersFailedError(
                    "all workers on the Ray cluster were lost, more often than they may start again"
                )
            if not jobs:
                time.sleep(0.1)
                continue
            ready, _ = self._ray.wait(list(jobs), num_returns=1, timeout=LOOK_SECONDS)
            results = [(jobs[job], self._take(jobs[job])) for job in ready]
            for number in self._find_hung():
                self._lose(number)
                results.append((number, None))
            if results:
                return results

    def _take(self, number: int) -> Result | None:
        actor = self._actors[number]
        try:
            result: Result = self._ray.get(actor.job)
        except self._ray.exceptions.RayActorError:
            self._lose(number)
            return None
        except self._ray.exceptions.RayTaskError as error:
            raise explain_task_error(error) from None
        if actor.num_done:
            self._slowest = max(self._slowest, time.monotonic() - actor.since)
        actor.job, actor.num_done = None, actor.num_done + 1
        return result

    def _find_hung(self) -> list[int]:
        now, hung = time.monotonic(), []
        for number, actor in self._actors.items():
            patience = max(self._stall_seconds, PATIENCE * self._slowest)
            limit = patience if actor.num_done else max(patience, FIRST_SECONDS)
            if actor.job is not None and now - actor.since > limit:
                hung.append(number)
        return hung

    def _lose(self, number: int) -> None:
        """Replace an actor, or do without it from now on."""
        self._ray.kill(self._actors.pop(number).handle)
        if self._restarts_left > 0:
            self._restarts_left -= 1
            self._actors[number] = self._make(number)

    def _welcome(self) -> None:
        """See which of those that were started are there."""
        for number, actor in list(self._actors.items()):
            if actor.here is None and self._ray.wait([actor.asked], timeout=0)[0]:
                try:
                    self._ray.get(actor.asked)
                except self._ray.exceptions.RayActorError:
                    self._lose(number)
                else:
                    actor.here = self._here[number]

    def end(self) -> None:
        """Let go of the actors and their places."""
        for actor in self._actors.values():
            self._ray.kill(actor.handle)
        self._places.end()
