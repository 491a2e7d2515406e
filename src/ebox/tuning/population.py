"""Trainings of one shape as one population: side by side in one compiled step, or one after another.

On accelerators the members are a leading axis of every array of a step, dealt to the devices: a small network leaves
most of a large device idle, and several fill it. On processors that brings nothing, since one member has work for all
cores and several no longer fit the cache; so there one member after another is trained on all devices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebox.datasets.folder import Dataset
from ebox.errors import InputError
from ebox.evaluation.validation import ValidationSplit
from ebox.mesh.devices import DATA_AXIS, make_mesh, put
from ebox.models.network import Network
from ebox.progress import quiet
from ebox.settings.reading import Config
from ebox.training.batches import ChunkPlan, Shares, iter_ahead, iter_chunks, iter_plans, make_chunk
from ebox.training.checkpoints import Layout
from ebox.training.inputs import TrainingData, TrainingInputs, on_host
from ebox.training.loop import Validate
from ebox.training.schedules import Schedule
from ebox.training.state import Hyperparameters, TrainState, place_state
from ebox.training.step import (
    MEMBER_AXIS,
    NUM_SIGNALS,
    DispatchMetrics,
    build_population_chunk,
    build_run_chunk,
    make_member_mesh,
    make_plan,
)
from ebox.tuning.members import MEMBER_SETTINGS, describe_shape

METRICS = ("loss", "auroc", "auprc")
Tree = TypeVar("Tree")


@dataclass(frozen=True)
class MemberSteps:
    """The steps that one member made in a dispatch, from `first` (counted from 0) on: an entry for each.

    `number` is the place of the member among the settings that the population began with.
    """

    number: int
    first: int
    losses: np.ndarray
    gradient_norms: np.ndarray
    learning_rates: np.ndarray

    @property
    def last(self) -> int:
        """Number of steps that the member has made."""
        return self.first + len(self.losses)

    def find_broken(self) -> int | None:
        """The first step whose loss or gradient is not finite, counted from 1."""
        bad = np.flatnonzero(~(np.isfinite(self.losses) & np.isfinite(self.gradient_norms)))
        return self.first + int(bad[0]) + 1 if len(bad) else None


OnSteps = Callable[[MemberSteps], None]
# A dispatch: the plans of members by their places, and its metrics, with a row for each place or for this member alone.
Made = tuple[dict[int, ChunkPlan], DispatchMetrics]


class _Engine(Protocol):
    """How the members' states are kept and moved on; a member is named by its place."""

    steps: list[int]
    schedule: Schedule

    def dispatches(self, end: int) -> Generator[Made, None, None]: ...
    def read(self, place: int) -> TrainState: ...
    def write(self, states: Sequence[TrainState]) -> None: ...
    def keep(self, places: Sequence[int]) -> None: ...


class Population:
    """Members that are trained to the same steps; those that are left are named by their places, 0, 1, 2, …."""

    def __init__(
        self,
        data: TrainingData,
        configs: Sequence[Config],
        mesh: Mesh,
        *,
        validate: Validate | None = None,
        side_by_side: bool | None = None,
    ) -> None:
        """Draw every member's network and order; nothing is compiled yet.

        Args:
            data: An opened dataset.
            configs: The settings of each member, which differ in `MEMBER_SETTINGS` alone.
            mesh: The devices, all of this process.
            validate: Measures a network on the validation split; none: that of the dataset.
            side_by_side: Whether one step trains all members at once; none: where it is faster, on accelerators.

        Raises:
            InputError: no settings, settings of different shapes, or nothing to train on.
        """
        _check_alike(configs)
        self.inputs = [TrainingInputs.of(data, config) for config in configs]
        self.num_steps = self.inputs[0].num_steps
        self.numbers = list(range(len(configs)))
        self.broken: dict[int, int] = {}
        is_cpu = mesh.devices.flat[0].platform == "cpu"
        self.is_side_by_side = not is_cpu if side_by_side is None else side_by_side
        chunk_steps = min(configs[0].train.steps_per_dispatch, self.num_steps)
        make = _SideBySide if self.is_side_by_side else _InTurn
        self._engine: _Engine = make(configs[0], self.inputs, mesh, chunk_steps)
        self.layout = Layout(1, 1) if self.is_side_by_side else Layout.of(mesh)
        self._validate = _measure_on(data, configs[0], mesh) if validate is None else validate

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def steps(self) -> list[int]:
        """How many steps each member has made."""
        return list(self._engine.steps)

    def train_to(
        self, step: int, on_progress: OnSteps = quiet, *, is_stopped: Callable[[], bool] = lambda: False
    ) -> bool:
        """Train every member until it has made `step` steps, or until `is_stopped`; return whether all have.

        The loop does not wait for the devices: the metrics of a dispatch are read when the next one is on its way.
        A member whose loss is no longer finite goes on, and stands in `broken` with the step.

        Args:
            step: Number of steps, at most those of the whole training.
            on_progress: Called with the steps of each member after each dispatch.
            is_stopped: Asked after each dispatch.
        """
        end, waiting = min(step, self.num_steps), None
        with closing(self._engine.dispatches(end)) as dispatches:
            for made in dispatches:
                self._note(waiting, on_progress)
                waiting = made
                if is_stopped():
                    break
        self._note(waiting, on_progress)
        return all(done >= end for done in self.steps)

    def measure(self, places: Iterable[int] | None = None) -> list[dict[str, float]]:
        """Loss, AUROC and AUPRC of members on validation; NaN for those that are broken.

        Args:
            places: Which members; none: all.
        """
        return [self._measure(place) for place in (range(len(self)) if places is None else places)]

    def drop(self, indices: Iterable[int]) -> None:
        """Train some members, by their places, no further; the others move up and are otherwise as they were."""
        gone = set(indices)
        kept = [place for place in range(len(self)) if place not in gone]
        self._engine.keep(kept)
        self.inputs = [self.inputs[place] for place in kept]
        self.numbers = [self.numbers[place] for place in kept]

    def state(self) -> tuple[TrainState, ...]:
        """The state of each member, on the host."""
        return tuple(self._engine.read(place) for place in range(len(self)))

    def restore(self, states: Sequence[TrainState]) -> None:
        """Go on from states that `state` gave for the same members."""
        if len(states) != len(self):
            raise ValueError(f"{len(states)} states for {len(self)} members")
        self._engine.write(states)

    def networks(self) -> tuple[Network, ...]:
        """The averaged network of each member, on the host."""
        return tuple(on_host(state.average) for state in self.state())

    def network(self, place: int) -> Network:
        """The averaged network of one member, on the host."""
        return on_host(self._engine.read(place).average)

    @property
    def schedule(self) -> Schedule:
        """How the members' steps are made."""
        return self._engine.schedule

    def _measure(self, place: int) -> dict[str, float]:
        if self.numbers[place] in self.broken:
            return dict.fromkeys(METRICS, math.nan)
        return dict(self._validate(self.network(place)))

    def _note(self, made: Made | None, on_progress: OnSteps) -> None:
        """Fetch the metrics of a dispatch, and report them member by member."""
        if made is None:
            return
        plans, metrics = made
        every = [np.atleast_2d(part) for part in (metrics.loss, metrics.gradient_norm, metrics.learning_rate)]
        for place, plan in plans.items():
            parts = (rows[place % len(rows)][: plan.count] for rows in every)
            found = MemberSteps(self.numbers[place], plan.first, *parts)
            broken = found.find_broken()
            if broken is not None:
                self.broken.setdefault(found.number, broken)
            on_progress(found)


class _InTurn:
    """One member after another, each on all devices."""

    def __init__(self, config: Config, inputs: Sequence[TrainingInputs], mesh: Mesh, chunk_steps: int) -> None:
        self._mesh, self._chunk_steps = mesh, chunk_steps
        self._device_batch_size = config.train.device_batch_size
        plan = make_plan(config, mesh)
        self.schedule = plan.schedule
        self._run = build_run_chunk(mesh, plan, chunk_steps)
        self._signals: Any = _put(np.zeros((mesh.size, NUM_SIGNALS), np.float32), mesh, DATA_AXIS)
        self._inputs = list(inputs)
        self._states = [_to_numpy(self.schedule.start(one.fresh)) for one in inputs]
        self.steps = [0] * len(self._inputs)

    def dispatches(self, end: int) -> Generator[Made, None, None]:
        for place, inputs in enumerate(self._inputs):
            if self.steps[place] < end:
                # On the devices only while it is trained.
                self._states[place] = place_state(self._states[place], self._mesh)
                try:
                    yield from self._train(place, inputs, end)
                finally:
                    self._states[place] = _to_numpy(self._states[place])

    def _train(self, place: int, inputs: TrainingInputs, end: int) -> Generator[Made, None, None]:
        plans = list(iter_plans(self.steps[place], end, self._chunk_steps, frozenset()))
        chunks = iter_chunks(
            inputs.codes,
            inputs.targets,
            inputs.order,
            plans,
            self._chunk_steps,
            self._mesh,
            device_batch_size=self._device_batch_size,
        )
        with closing(chunks):
            for plan, chunk in chunks:
                count = jnp.asarray(plan.count, jnp.int32)
                state, metrics = self._run(self._states[place], chunk, self._signals, inputs.hyper, count)
                self._states[place], self.steps[place] = state, plan.first + plan.count
                yield {place: plan}, metrics

    def read(self, place: int) -> TrainState:
        return _to_numpy(self._states[place])

    def write(self, states: Sequence[TrainState]) -> None:
        self._states = list(states)
        self.steps = [int(state.step) for state in states]

    def keep(self, places: Sequence[int]) -> None:
        self._inputs = [self._inputs[place] for place in places]
        self.write([self._states[place] for place in places])


class _SideBySide:
    """All members in one step, dealt to the devices; rows are added to make their number a multiple of the devices'."""

    def __init__(self, config: Config, inputs: Sequence[TrainingInputs], mesh: Mesh, chunk_steps: int) -> None:
        alone = make_mesh([mesh.devices.flat[0]])
        plan = make_plan(config, alone)
        self.schedule = plan.schedule
        self._shares = Shares.of(alone, config.train.batch_size, config.train.device_batch_size)
        self._mesh, self._chunk_steps = make_member_mesh(mesh), chunk_steps
        self._run = build_population_chunk(self._mesh, plan, chunk_steps)
        self._inputs = list(inputs)
        self._state: TrainState
        self._hyper: Hyperparameters
        self._signals: Any
        self.steps = [0] * len(self._inputs)
        self._place([self.schedule.start(one.fresh) for one in inputs])

    def dispatches(self, end: int) -> Generator[Made, None, None]:
        # Those that another machine left behind catch up; the others wait with dispatches of no steps.
        plans = [list(iter_plans(step, end, self._chunk_steps, frozenset())) for step in self.steps]
        rows = itertools.zip_longest(*plans, fillvalue=ChunkPlan(end, 0))
        with closing(iter_ahead(rows, self._make_chunk)) as chunks:
            for row, chunk in chunks:
                counts: Any = self._put([np.int32(plan.count) for plan in row])
                self._state, metrics = self._run(self._state, chunk, self._signals, self._hyper, counts)
                self.steps = [max(step, plan.first + plan.count) for step, plan in zip(self.steps, row, strict=True)]
                yield {place: plan for place, plan in enumerate(row) if plan.count}, metrics

    def read(self, place: int) -> TrainState:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[place], self._state)

    def write(self, states: Sequence[TrainState]) -> None:
        self.steps = [int(state.step) for state in states]
        self._place(states)

    def keep(self, places: Sequence[int]) -> None:
        states = [self.read(place) for place in places]
        self._inputs = [self._inputs[place] for place in places]
        self.write(states)

    def _place(self, states: Sequence[TrainState]) -> None:
        if states:
            self._state = self._put(states)
            self._hyper = self._put([inputs.hyper for inputs in self._inputs])
            self._signals = self._put([np.zeros((1, NUM_SIGNALS), np.float32)] * len(states))

    def _make_chunk(self, row: Sequence[ChunkPlan]) -> Any:
        chunks = [
            make_chunk(one.codes, one.targets, one.order, plan, self._chunk_steps, self._shares)
            for one, plan in zip(self._inputs, row, strict=True)
        ]
        return self._put(chunks)

    def _put(self, rows: Sequence[Tree]) -> Tree:
        """Stack one tree for each member, with the first again for the added rows, and deal them to the devices."""
        rows = [*rows, *[rows[0]] * (-len(rows) % self._mesh.size)]
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *rows)
        return _put(stacked, self._mesh, MEMBER_AXIS)


def _put(tree: Tree, mesh: Mesh, axis: str | tuple[str, ...]) -> Tree:
    return put(tree, NamedSharding(mesh, PartitionSpec(axis)))


def _to_numpy(state: TrainState) -> TrainState:
    return jax.tree.map(np.array, state)


def _measure_on(data: TrainingData, config: Config, mesh: Mesh) -> Validate:
    if not isinstance(data, Dataset):
        raise ValueError("only of a dataset folder the validation split is known: give `validate`")
    return ValidationSplit(data, config.evaluation, mesh).measure


def _check_alike(configs: Sequence[Config]) -> None:
    """Raise InputError unless there are settings, all of one shape."""
    if not configs:
        raise InputError("a population needs members", remedy="give the settings of at least one")
    first = describe_shape(configs[0])
    for config in configs[1:]:
        differing = [key for key, value in describe_shape(config).items() if value != first[key]]
        if differing:
            raise InputError(
                f"members of one population differ in {', '.join(differing)}",
                remedy=f"train them apart; members may differ in train.{', train.'.join(sorted(MEMBER_SETTINGS))}",
            )
