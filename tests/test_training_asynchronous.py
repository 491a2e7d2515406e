"""Asynchronous training: the bound on staleness holds, nothing is lost or taken twice, and it learns."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.config import Config, ParallelConfig, make_config
from ebox.datasets.folder import Dataset, open_dataset
from ebox.parallel import find_devices, make_mesh
from ebox.parity import make_dataset
from ebox.training import TrainingResult, fit
from ebox.training.asynchronous import GradientComputer, GradientResult, Ledger
from groups import SETTINGS

DONE = GradientResult([], [], 0.0)


@given(
    bound=st.integers(0, 6),
    speeds=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    plans=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    lost=st.sets(st.integers(0, 60)),
)
@settings(deadline=None, max_examples=300)
def test_every_batch_is_taken_once_and_none_too_late(bound: int, speeds: list[int], plans: list[int], lost: set[int]):
    """Workers of any speed, some of whose answers are lost: as the engine does, without the numbers."""
    ledger, taken, total = Ledger(bound, 0), [], sum(plans)
    again: list[int] = []
    following, clock, answers = 0, 0, 0
    arrivals: list[tuple[int, int, Any]] = []
    latest = 0
    for size in plans:
        latest += size
        while len(taken) < latest:
            for worker, speed in enumerate(speeds):
                is_busy = any(other == worker for _, other, _ in arrivals)
                if is_busy or not ledger.can_hand_out() or (not again and following == total):
                    continue
                number = min(again) if again else following
                again = [other for other in again if other != number]
                following = max(following, number + 1)
                heapq.heappush(arrivals, (clock + speed, worker, ledger.hand_out(number)))
            ticket = ledger.take(latest)
            if ticket is not None:
                assert ledger.applied - 1 - ticket.version <= bound
                taken.append(ticket.number)
            elif arrivals:
                clock, _, arrived = heapq.heappop(arrivals)
                answers += 1
                if answers in lost:
                    ledger.give_up(arrived)
                    again.append(arrived.number)
                else:
                    arrived.result = DONE
            else:
                dropped = ledger.drop_from(latest)
                assert dropped, "stuck"
                again += [one.number for one in dropped]
        # What is saved here holds the batches before it and no others.
        assert sorted(taken) == list(range(latest))
    assert sum(ledger.staleness.values()) == total
    assert max(ledger.staleness) <= bound


class FakePool:
    """Workers in this process: real gradients, and answers that come back by the speed of each."""

    def __init__(self, computer: GradientComputer, speeds: Sequence[float], lose: Sequence[int] = ()) -> None:
        self._computer, self._speeds, self._lose = computer, speeds, set(lose)
        self._clock, self._jobs = 0.0, []  # type: tuple[float, list[tuple[float, int, int, Any]]]
        self.num_lost = 0

    def workers(self) -> Sequence[int]:
        return range(len(self._speeds))

    def share(self, leaves: list[np.ndarray]) -> Any:
        return [leaf.copy() for leaf in leaves]

    def submit(self, worker: int, ticket: int, weights: Any) -> None:
        heapq.heappush(self._jobs, (self._clock + self._speeds[worker], worker, ticket, weights))

    def wait(self) -> Sequence[tuple[int, GradientResult | None]]:
        self._clock, worker, ticket, weights = heapq.heappop(self._jobs)
        if ticket in self._lose:
            self._lose.remove(ticket)
            self.num_lost += 1
            return [(worker, None)]
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


def _pool(data: Dataset, speeds: Sequence[float], lose: Sequence[int] = ()) -> FakePool:
    config = _config(sync="async", cluster="local")
    return FakePool(GradientComputer(data, config, make_mesh(find_devices(ParallelConfig(devices=1)))), speeds, lose)


def _difference(one: TrainingResult, other: TrainingResult) -> float:
    pairs = zip(jax.tree.leaves(one.network), jax.tree.leaves(other.network), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)) for a, b in pairs)


def test_one_worker_that_is_never_late_gives_the_model_of_one_device(data: Dataset, tmp_path: Path):
    alone = _fit(data, tmp_path / "alone", _config(), None)
    served = _fit(data, tmp_path / "served", _config(sync="async", cluster="local", staleness=0), _pool(data, [1.0]))
    assert _difference(alone, served) < 1e-6
    assert served.communication["staleness"] == {"bound": 0, "mean": 0.0, "max": 0}


def test_workers_of_unequal_speed_share_the_work_by_their_speed(data: Dataset, tmp_path: Path):
    config = _config(sync="async", cluster="local", staleness=6)
    result = _fit(data, tmp_path / "run", config, _pool(data, [1.0, 1.0, 5.0]))
    counts = result.communication["gradients_by_worker"]
    assert counts[0] >= 3 * counts[2]
    assert 1 <= result.communication["staleness"]["max"] <= 6
    assert result.steps == 40
    first, last = (result.network, _fit(data, tmp_path / "alone", _config(), None).network)
    assert jax.tree.structure(first) == jax.tree.structure(last)


def test_a_lost_worker_costs_no_batch_and_a_run_goes_on_from_its_checkpoint(data: Dataset, tmp_path: Path):
    config = _config(sync="async", cluster="local", staleness=4)
    pool = _pool(data, [1.0, 2.0], lose=[3, 17, 39])
    result = _fit(data, tmp_path / "run", config, pool)
    assert pool.num_lost == 3
    assert result.steps == 40
    again = _fit(data, tmp_path / "run", config, _pool(data, [1.0]), resume=True)
    assert _difference(result, again) == 0.0
