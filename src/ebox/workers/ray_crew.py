"""Workers on a Ray cluster: Ray finds the machines, reserves places on them and notices when one is lost.

Each worker is the same process as on one machine. A Ray actor on its machine, the seat, starts it and reads its
messages. All machines need ebox, and the dataset and the run folder at the same path.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from ebox.errors import InputError
from ebox.settings.reading import ParallelConfig
from ebox.workers.contract import CORES, LOOPBACK, Membership
from ebox.workers.local_crew import StartedWorker, find_free_port
from ebox.workers.machine import list_cores
from ebox.workers.supervision import LOST_MACHINE, Crew, StartFailedError, TooFewPlacesError

PLACE_SECONDS = 60.0


@dataclass(frozen=True)
class Demand:
    """What a worker needs of its machine."""

    cpus: int
    gpus: int

    @staticmethod
    def of(parallel: ParallelConfig) -> Demand:
        """Take the settings; by default the most CPUs that every worker can have, and one GPU if the cluster has any.

        Raises:
            InputError: the cluster has fewer GPUs than the workers need.
        """
        import ray

        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        num_gpus = int(sum(machine.get("GPU", 0.0) for machine in machines))
        workers, cpus, gpus = parallel.workers, parallel.worker_cpus, parallel.worker_gpus
        if gpus is None:
            gpus = int(parallel.platform == "gpu" or (parallel.platform == "auto" and num_gpus > 0))
        if gpus * workers > num_gpus:
            raise InputError(
                f"the {workers} workers need {gpus * workers} GPUs, and the cluster has {num_gpus}",
                remedy=f"--workers {max(1, num_gpus)}, or --platform cpu",
            )
        if cpus is None:
            cpus = share_of_cpus([int(machine.get("CPU", 0.0)) for machine in machines], workers)
        return Demand(cpus, gpus)

    def cores(self, number_here: int, num_here: int) -> list[int]:
        """The cores for one of the `num_here` workers on this machine; all cores if there are too few to divide."""
        cores = list_cores()
        size = min(self.cpus, len(cores) // num_here)
        return cores[number_here * size : (number_here + 1) * size] if size else cores

    def variables(self) -> dict[str, str]:
        """The variable that hides the GPUs from a worker that needs none."""
        return {} if self.gpus else {"CUDA_VISIBLE_DEVICES": ""}


def share_of_cpus(cpus: Sequence[int], workers: int) -> int:
    """The most CPUs that each of `workers` can have, on machines with these `cpus`; 1 if even that is too many."""
    return next((size for size in range(max(cpus, default=1), 1, -1) if sum(one // size for one in cpus) >= workers), 1)


@dataclass(frozen=True)
class Place:
    """The machine of an actor."""

    node: str
    address: str


class Placed:
    """Base of the classes that become actors: an actor that can say where it is."""

    def place(self) -> Place:
        """The machine of this actor."""
        import ray

        return Place(ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address())


@final
class Places:
    """Places for `count` actors on a cluster, which Ray keeps until `end`."""

    def __init__(self, count: int, demand: Demand, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Ask for the places, and wait for them until `is_stopped`, or at most `PLACE_SECONDS`.

        Raises:
            TooFewPlacesError: the cluster has no room for them.
        """
        from ray.util.placement_group import placement_group

        self._demand = demand
        bundle = {"CPU": float(demand.cpus)} | ({"GPU": float(demand.gpus)} if demand.gpus else {})
        self._group = placement_group([bundle] * count, strategy="PACK")
        try:
            latest = time.monotonic() + PLACE_SECONDS
            while not self._group.wait(1.0):
                if is_stopped() or time.monotonic() > latest:
                    raise _too_few(count, bundle)
        except BaseException:
            self.end()
            raise

    def make(self, number: int, kind: type[Placed], *arguments: Any) -> Any:
        """Start an actor in place `number`."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        actor = ray.remote(num_cpus=self._demand.cpus, num_gpus=self._demand.gpus, max_restarts=0)(kind)
        where = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=number)
        return actor.options(scheduling_strategy=where).remote(*arguments)

    def end(self) -> None:
        """Give the places back."""
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self._group)


def count_here(places: Sequence[Place]) -> list[tuple[int, int]]:
    """For each place: how many places before it are on its machine, and how many in total."""
    nodes = [place.node for place in places]
    return [(nodes[:number].count(node), nodes.count(node)) for number, node in enumerate(nodes)]


def explain_error(error: Any) -> InputError:
    """Turn an error in an actor, or in making it (a RayError), into an error that a user can act on."""
    cause = getattr(error, "cause", error)
    if isinstance(cause, InputError):
        return cause
    lines = str(cause).strip().splitlines()
    return InputError(
        f"a machine of the cluster can't do its part: {type(cause).__name__}: {lines[-1] if lines else 'no message'}",
        remedy="check that every machine has this ebox, and reaches both folders at the same path",
    )


def _is_beyond_repair(error: Any) -> bool:
    """Whether another start would fail in the same way: the code of an actor failed, or making the actor did."""
    import ray

    return isinstance(error, ray.exceptions.RayTaskError) or bool(getattr(error, "actor_init_failed", False))


def _too_few(count: int, bundle: Mapping[str, float]) -> TooFewPlacesError:
    import ray

    free, there = ray.available_resources(), ray.cluster_resources()
    needs = " and ".join(f"{number:.0f} {name}" for name, number in bundle.items())
    has = ", ".join(f"{free.get(name, 0.0):.0f} of {there.get(name, 0.0):.0f} {name}" for name in bundle)
    return TooFewPlacesError(
        f"the cluster has no room for {count} workers of {needs} each within {PLACE_SECONDS:.0f} s; free: {has}",
        remedy="fewer --workers, or other parallel.worker_cpus and parallel.worker_gpus",
    )


class Seat(Placed):
    """On the machine of a worker: starts the worker and reports on it. This class becomes a Ray actor."""

    def __init__(self) -> None:
        self._worker: StartedWorker | None = None

    def find_port(self, host: str) -> int:
        """A free port of this machine."""
        return find_free_port(host)

    def start(
        self,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        log: str,
        demand: Demand,
        number_here: int,
        num_here: int,
    ) -> None:
        """Start the worker, on its share of the cores of this machine.

        Args:
            arguments: The arguments to `python`.
            variables: Variables added to the environment.
            log: The file of its output.
            demand: What it needs of the machine.
            number_here: How many workers before it are on this machine.
            num_here: How many workers are on this machine in total.
        """
        cores = ",".join(map(str, demand.cores(number_here, num_here)))
        pinned = {CORES: cores} if sys.platform == "linux" else {}
        environment = {**os.environ, **variables, **demand.variables(), **pinned}
        self._worker = StartedWorker.start([sys.executable, *arguments], environment, Path(log))

    def look(self) -> tuple[int | None, float, list[dict[str, Any]]]:
        """Exit code (None while it runs), seconds without a sign of life, and new messages."""
        assert self._worker is not None
        code = self._worker.process.poll()
        messages = self._worker.read()
        return code, self._worker.silence(), messages

    def send_signal(self, number: int) -> None:
        """Send a signal to the worker if it still runs."""
        if self._worker is not None and self._worker.process.poll() is None:
            self._worker.process.send_signal(number)

    def end(self) -> list[dict[str, Any]]:
        """Kill the worker if it still runs; return its last messages."""
        worker, self._worker = self._worker, None
        return [] if worker is None else worker.end()


@dataclass(eq=False)
class _Known:
    """The last report of a seat."""

    seat: Any
    asked: Any = None
    code: int | None = None
    silence: float = 0.0
    heard: float = 0.0


@final
class RayCrew(Crew):
    """Workers on a Ray cluster that this process is connected to."""

    def __init__(
        self, arguments: Sequence[str], count: int, logs: Path, demand: Demand, is_stopped: Callable[[], bool]
    ) -> None:
        """Start the workers.

        Args:
            arguments: The arguments to `python` of each worker.
            count: How many to start.
            logs: The folder of their output.
            demand: What each needs of its machine.
            is_stopped: Asked whether to stop waiting for places.

        Raises:
            TooFewPlacesError: the cluster has no room for them.
            StartFailedError: a machine was lost during the start.
            InputError: a machine can't start a worker.
        """
        import ray

        self._ray, self._demand = ray, demand
        self._known: list[_Known] = []
        self._places = Places(count, demand, is_stopped)
        try:
            self._known = [_Known(self._places.make(number, Seat)) for number in range(count)]
            self._start(arguments, logs)
        except BaseException as error:
            self.end(0.0)
            if _is_beyond_repair(error):
                raise explain_error(error) from None
            if isinstance(error, ray.exceptions.RayError | TimeoutError):
                raise StartFailedError(f"was lost while it was started ({type(error).__name__})") from None
            raise

    def _start(self, arguments: Sequence[str], logs: Path) -> None:
        ray, seats = self._ray, [known.seat for known in self._known]
        places = ray.get([seat.place.remote() for seat in seats], timeout=PLACE_SECONDS)
        host = LOOPBACK if len({place.node for place in places}) == 1 else places[0].address
        address = f"{host}:{ray.get(seats[0].find_port.remote(host), timeout=PLACE_SECONDS)}"
        starts = [
            seat.start.remote(
                list(arguments),
                Membership(address, number, len(seats)).variables(),
                str(logs / f"worker-{number}.log"),
                self._demand,
                *here,
            )
            for number, (seat, here) in enumerate(zip(seats, count_here(places), strict=True))
        ]
        ray.get(starts, timeout=PLACE_SECONDS)
        for known in self._known:
            known.heard = time.monotonic()

    @override
    def listen(self, seconds: float) -> Sequence[Mapping[str, Any]]:
        ray, latest = self._ray, time.monotonic() + seconds
        for known in self._known:
            if known.asked is None and known.code is None:
                known.asked = known.seat.look.remote()
        waiting = [known for known in self._known if known.asked is not None]
        messages: list[Mapping[str, Any]] = []
        if waiting:
            ready, _ = ray.wait([known.asked for known in waiting], num_returns=len(waiting), timeout=seconds)
            for known in waiting:
                if known.asked in ready:
                    messages += self._take(known)
        time.sleep(max(0.0, latest - time.monotonic()))
        return messages

    def _take(self, known: _Known) -> list[dict[str, Any]]:
        """Read the answer of a seat, or note that it is gone."""
        try:
            known.code, known.silence, messages = self._ray.get(known.asked)
        except self._ray.exceptions.RayActorError:
            known.code, known.silence, messages = LOST_MACHINE, 0.0, []
        except self._ray.exceptions.RayTaskError as error:
            raise explain_error(error) from None
        known.asked, known.heard = None, time.monotonic()
        return messages

    @override
    def codes(self) -> Sequence[int | None]:
        return [known.code for known in self._known]

    @override
    def silences(self) -> Sequence[float]:
        now = time.monotonic()
        return [0.0 if known.code is not None else known.silence + now - known.heard for known in self._known]

    @override
    def send_signal(self, number: int) -> None:
        for known in self._known:
            if known.code is None:
                known.seat.send_signal.remote(number)

    @override
    def end(self, seconds: float) -> Sequence[Mapping[str, Any]]:
        latest, messages = time.monotonic() + seconds, []  # type: float, list[Mapping[str, Any]]
        while None in self.codes() and time.monotonic() < latest:
            messages += self.listen(0.1)
        ends = [known.seat.end.remote() for known in self._known if known.code != LOST_MACHINE]
        if ends:
            ready, _ = self._ray.wait(ends, num_returns=len(ends), timeout=10.0)
            for end in ready:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    messages += self._ray.get(end)
        for known in self._known:
            # If its worker still runs, it notices that nobody listens, and ends.
            self._ray.kill(known.seat)
        self._places.end()
        return messages
