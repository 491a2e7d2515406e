"""Asynchronous training: the bound on staleness holds, and no batch is lost or taken twice."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.datasets.folder import Dataset, open_dataset
from ebox.diagnosis.parity import make_dataset
from ebox.errors import InputError, WorkersFailedError
from ebox.mesh.devices import find_devices, make_mesh
from ebox.models.architectures import build_model
from ebox.settings.reading import Config, ParallelConfig, make_config
from ebox.training.asynchronous import AsyncEngine, GradientComputer, GradientResult
from ebox.training.batches import ChunkPlan
from ebox.training.loop import TrainingResult, fit
from ebox.training.state import TrainState, make_hyperparameters
from ebox.training.step import make_plan
from groups import SETTINGS


class StubPool:
    """Workers by the clock alone, who come and go: one whose answer is lost is away until someone waits for it."""

    def __init__(self, speeds: Sequence[int], lost: set[int]) -> None:
        self._speeds, self._lost = speeds, lost
        self._clock, self._answers, self._jobs = 0, 0, list[tuple[int, int, int]]()
        self._away: list[int] = []

    def workers(self) -> Sequence[int]:
        return [worker for worker in range(len(self._speeds)) if worker not in self._away]

    def share(self, leaves: list[np.ndarray]) -> Any:
        return None

    def submit(self, worker: int, ticket: int, weights: Any) -> None:
        assert worker in self.workers()
        heapq.heappush(self._jobs, (self._clock + self._speeds[worker], worker, ticket))

    def wait(self) -> Sequence[tuple[int, GradientResult | None]]:
        if not self._jobs:
            assert self._away, "nobody to wait for"
            self._away.pop(0)
            return []
        self._clock, worker, ticket = heapq.heappop(self._jobs)
        self._answers += 1
        if self._answers in self._lost:
            self._away.append(worker)
            return [(worker, None)]
        # The loss tells which batch it was.
        return [(worker, GradientResult([], [], float(ticket)))]


@lru_cache
def _any_state() -> TrainState:
    config = _config()
    network = build_model(config.model, 1, 40, np.random.default_rng(0))
    return make_plan(config, make_mesh(find_devices(ParallelConfig(devices=1)))).schedule.start(network)


@given(
    bound=st.integers(0, 6),
    speeds=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    plans=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    lost=st.sets(st.integers(1, 60)),
)
@settings(deadline=None, max_examples=200)
@pytest.mark.slow
def test_every_batch_is_taken_once_and_none_too_late(bound: int, speeds: list[int], plans: list[int], lost: set[int]):
    """The server itself, without the numbers; workers of any speed, also where all of them are away for a while."""
    total, mesh = sum(plans), make_mesh(find_devices(ParallelConfig(devices=1)))
    config = _config(sync="async", cluster="local", staleness=bound)
    engine = AsyncEngine(StubPool(speeds, lost), config, mesh, total)
    engine._advance = lambda state, gradient, moments, rates: (state, 0.0, 0.0)
    state, rates, taken = _any_state(), make_hyperparameters(config.train, total, 1.0), list[int]()
    for size in plans:
        _, metrics = engine.run(ChunkPlan(len(taken), size), rates, np.zeros(2), state)
        taken += [int(loss) for loss in np.asarray(metrics.loss)]
        # What is saved here holds the batches before it and no others.
        assert sorted(taken) == list(range(len(taken)))
    late = engine.facts(state.network)["staleness"]
    assert len(taken) == total
    assert 0 <= late["mean"] <= late["max"] <= bound


class FakePool:
    """Workers in this process: real gradients, and answers that come back by the speed of each."""

    def __init__(
        self, computer: GradientComputer, speeds: Sequence[float], lose: Sequence[int] = (), end_at: int | None = None
    ) -> None:
        self._computer, self._speeds, self._lose, self._end_at = computer, speeds, set(lose), end_at
        self._clock, self._jobs = 0.0, []  # type: tuple[float, list[tuple[float, int, int, Any]]]
        self.num_lost = 0
        self.computed: list[int] = []

    def workers(self) -> Sequence[int]:
        return range(len(self._speeds))

    def share(self, leaves: list[np.ndarray]) -> Any:
        return [leaf.copy() for leaf in leaves]

    def submit(self, worker: int, ticket: int, weights: Any) -> None:
        heapq.heappush(self._jobs, (self._clock + self._speeds[worker], worker, ticket, weights))

    def wait(self) -> Sequence[tuple[int, GradientResult | None]]:
        self._clock, worker, ticket, weights = heapq.heappop(self._jobs)
        if ticket == self._end_at:
            raise WorkersFailedError("all are gone")
        if ticket in self._lose:
            self._lose.remove(ticket)
            self.num_lost += 1
            return [(worker, None)]
        self.computed.append(ticket)
        return [(worker, self._computer.compute(ticket, weights))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(make_dataset(tmp_path_factory.mktemp("data")))


def _config(**parallel: Any) -> Config:
    flat = {**SETTINGS, "train.max_steps": 40, "train.validations": 2, "train.negatives_per_positive": None}
    nested: dict[str, dict[str, Any]] = {"parallel": parallel}
    for key, value in flat.items():
        section, name = key.split(".")
        nested.setdefault(section, {})[name] = value
    nested["model"]["dense_units"], nested["model"]["dilations"] = [8], [2]
    return make_config(nested)


def _fit(data: Dataset, folder: Path, config: Config, pool: FakePool | None, *, resume: bool = False) -> TrainingResult:
    folder.mkdir(exist_ok=True)
    mesh = make_mesh(find_devices(ParallelConfig(devices=1)))
    return fit(
        data, config, folder, mesh, lambda network: {"loss": 1.0, "auroc": 0.5, "auprc": 0.5}, pool=pool, resume=resume
    )


def _pool(data: Dataset, speeds: Sequence[float], lose: Sequence[int] = (), end_at: int | None = None) -> FakePool:
    config = _config(sync="async", cluster="local")
    computer = GradientComputer(data, config, make_mesh(find_devices(ParallelConfig(devices=1))))
    return FakePool(computer, speeds, lose, end_at)


def _difference(one: TrainingResult, other: TrainingResult) -> float:
    pairs = zip(jax.tree.leaves(one.network), jax.tree.leaves(other.network), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)) for a, b in pairs)


@pytest.mark.slow
def test_one_worker_that_is_never_late_gives_the_model_of_one_device(data: Dataset, tmp_path: Path):
    alone = _fit(data, tmp_path / "alone", _config(), None)
    served = _fit(data, tmp_path / "served", _config(sync="async", cluster="local", staleness=0), _pool(data, [1.0]))
    assert _difference(alone, served) < 1e-6
    assert served.communication["staleness"] == {"bound": 0, "mean": 0.0, "max": 0}


@pytest.mark.slow
def test_workers_of_unequal_speed_share_the_work_by_their_speed(data: Dataset, tmp_path: Path):
    config = _config(sync="async", cluster="local", staleness=6)
    result = _fit(data, tmp_path / "run", config, _pool(data, [1.0, 1.0, 5.0]))
    counts = result.communication["gradients_by_worker"]
    assert counts[0] >= 3 * counts[2]
    assert 1 <= result.communication["staleness"]["max"] <= 6
    assert result.steps == 40


@pytest.mark.slow
def test_a_lost_worker_costs_no_batch(data: Dataset, tmp_path: Path):
    pool = _pool(data, [1.0, 2.0], lose=[3, 17, 39])
    result = _fit(data, tmp_path / "run", _config(sync="async", cluster="local", staleness=4), pool)
    assert pool.num_lost == 3
    assert result.steps == 40
    assert sorted(pool.computed) == list(range(40))


@pytest.mark.slow
def test_a_run_that_lost_all_workers_goes_on_from_its_checkpoint_to_the_same_model(data: Dataset, tmp_path: Path):
    config = _config(sync="async", cluster="local", staleness=0)
    config = config.model_copy(update={"train": config.train.model_copy(update={"checkpoint_every_steps": 10})})
    undisturbed = _fit(data, tmp_path / "whole", config, _pool(data, [1.0]))
    with pytest.raises(WorkersFailedError):
        _fit(data, tmp_path / "run", config, _pool(data, [1.0], end_at=27))
    pool = _pool(data, [1.0])
    resumed = _fit(data, tmp_path / "run", config, pool, resume=True)
    assert 0 < min(pool.computed) < 27
    assert _difference(undisturbed, resumed) == 0.0


def test_a_bound_that_leaves_workers_without_work_is_refused():
    with pytest.raises(InputError, match="staleness = 1 lets 2 workers compute at a time, and there are 4"):
        _config(sync="async", cluster="local", workers=4, staleness=1)
    assert _config(sync="async", cluster="local", workers=4).parallel.most_staleness == 8
