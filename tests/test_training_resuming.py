"""Going on from a checkpoint: to the same model, with other devices, and from damaged ones to nothing wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from ebox.errors import InputError
from ebox.mesh import find_devices, make_mesh
from ebox.models.tensors import FACTS, TENSORS
from ebox.settings.reading import Config, ParallelConfig
from ebox.training.checkpoints import (
    Layout,
    RunIdentity,
    Standing,
    check_resumable,
    find_checkpoints,
    load_newest_checkpoint,
    regroup_carried,
)
from ebox.training.inputs import TrainingInputs
from ebox.training.schedules import Schedule
from ebox.training.state import TrainState
from ebox.training.step import make_plan
from planted import fit_small, largest_difference, planted, small_config

LOCAL: dict[str, Any] = {"sync": "local", "local_steps": 7, "exchange": "int8"}
DELAYED: dict[str, Any] = {"sync": "delayed", "exchange": "powersgd", "rank": 2}


def _stop_after_20(entry: Mapping[str, Any], num_steps: int) -> None:
    if entry["step"] >= 20:
        raise KeyboardInterrupt


def _begin(folder: Path, config: Config, devices: int) -> None:
    """Train to step 24, where a checkpoint is, and be interrupted after it."""
    with pytest.raises(KeyboardInterrupt):
        fit_small(folder, config, devices, on_entry=_stop_after_20)


def _load(folder: Path, config: Config, devices: int) -> tuple[TrainState, Standing, Layout, Schedule, Layout]:
    data, mesh = planted(), make_mesh(find_devices(ParallelConfig(devices=devices)), config.parallel.node_devices)
    fresh, schedule = TrainingInputs.of(data, config).fresh, make_plan(config, mesh).schedule
    found = load_newest_checkpoint(folder, schedule.start(fresh), fresh, RunIdentity.of(config, data.fingerprint))
    assert found is not None
    state, _, standing, before = found
    return state, standing, before, schedule, Layout.of(mesh)


def _largest(tree: Any) -> float:
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


def _moments(optimiser: Any) -> float:
    """The largest first moment of Adam."""

    def is_adam(node: Any) -> bool:
        return isinstance(node, optax.ScaleByAdamState)

    (adam,) = filter(is_adam, jax.tree.leaves(optimiser, is_leaf=is_adam))
    return _largest(adam.mu)


@pytest.mark.parametrize("parallel", [pytest.param(LOCAL, marks=pytest.mark.slow), DELAYED], ids=["local", "delayed"])
def test_an_interrupted_group_goes_on_to_the_same_model(parallel: dict[str, Any], tmp_path: Path):
    config = small_config(parallel, checkpoint_every_steps=8, max_steps=30)
    whole = fit_small(tmp_path / "whole", config, 2)
    _begin(tmp_path / "parted", config, 2)
    parted = fit_small(tmp_path / "parted", config, 2, resume=True)
    assert largest_difference(whole.network, parted.network) == 0.0


@pytest.mark.slow
def test_local_workers_keep_their_optimisers_where_others_join_or_leave(tmp_path: Path):
    config = small_config(LOCAL, checkpoint_every_steps=4)
    _begin(tmp_path, config, 1)
    one = _load(tmp_path, config, 1)[0].carried
    state, standing, before, schedule, now = _load(tmp_path, config, 2)
    assert (standing.step, before, now) == (16, Layout(1, 1), Layout(2, 2))
    two = regroup_carried(state, schedule, before, now, config.parallel).carried
    for kept, dealt in ((one.network, two.network), (one.optimiser, two.optimiser)):
        assert largest_difference(kept, jax.tree.map(lambda rows: rows[1:], dealt)) == 0.0
    assert _moments(one.optimiser) > 0.0
    assert _largest(two.exchange) == 0.0
    # One worker sends nothing, so it can't pay what two owe.
    _begin(tmp_path / "two", config, 2)
    state, _, before, schedule, now = _load(tmp_path / "two", config, 1)
    with pytest.warns(RuntimeWarning, match="had not sent yet is given up"):
        regrouped = regroup_carried(state, schedule, before, now, config.parallel)
    assert _moments(regrouped.carried.optimiser) > 0.0


def test_what_nodes_owe_is_given_up_where_the_nodes_are_others(tmp_path: Path):
    parallel = {"exchange": "powersgd", "rank": 2, "hierarchical": True, "node_devices": 2}
    config = small_config(parallel, checkpoint_every_steps=8)
    _begin(tmp_path, config, 4)
    state, _, before, schedule, now = _load(tmp_path, config, 4)
    assert before == now == Layout(4, 2)
    assert _largest(state.carried.left) > 0.0
    same = regroup_carried(state, schedule, before, now, config.parallel)
    assert largest_difference(same.carried, state.carried) == 0.0
    with pytest.warns(RuntimeWarning, match="4 devices in nodes of 1 had not sent yet is given up"):
        other = regroup_carried(state, schedule, Layout(4, 1), now, config.parallel)
    assert _largest(other.carried.left) == 0.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of two devices that owe something, after 16 and 24 steps."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    fit_small(folder, small_config({"exchange": "int8"}, checkpoint_every_steps=8, max_steps=24), 2)
    return folder


def _step_loaded(folder: Path) -> int:
    config = small_config({"exchange": "int8"}, checkpoint_every_steps=8, max_steps=24)
    return _load(folder, config, 2)[1].step


def _change(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(newest: Path) -> None:
        facts = json.loads((newest / FACTS).read_text())
        change(facts)
        (newest / FACTS).write_text(json.dumps(facts))

    return apply


@pytest.mark.parametrize(
    "spoil",
    [
        _change(lambda facts: facts["standing"].update(step=34)),
        _change(lambda facts: facts["standing"].update(step="24")),
        _change(lambda facts: facts["standing"].update(best_value="good")),
        _change(lambda facts: facts["standing"].pop("seconds") and facts["standing"].update(speed=1.0)),
        _change(lambda facts: facts.update(standing=None)),
        _change(lambda facts: facts.pop("layout")),
        _change(lambda facts: facts["layout"].update(workers=None)),
        _change(lambda facts: facts["identity"].update(settings=[])),
        _change(lambda facts: facts["identity"]["settings"].update(train=3)),
        lambda newest: newest.rename(newest.with_name("step-000000099")),
        lambda newest: (newest / TENSORS).write_bytes((newest.parent / "step-000000016" / TENSORS).read_bytes()),
    ],
)
def test_a_changed_checkpoint_is_passed_over(spoil: Callable[[Path], object], whole: Path, tmp_path: Path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    spoil(find_checkpoints(tmp_path)[-1])
    with pytest.warns(RuntimeWarning, match="skipping a damaged checkpoint"):
        assert _step_loaded(tmp_path) == 16


@pytest.mark.parametrize("name", [FACTS, TENSORS])
def test_a_checkpoint_cut_at_any_byte_is_passed_over(name: str, whole: Path, tmp_path: Path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    assert _step_loaded(tmp_path) == 24
    file = find_checkpoints(tmp_path)[-1] / name
    data = file.read_bytes()
    # But for the line's end after the last brace, which says nothing.
    length = len(data.rstrip())
    for size in {*range(0, length, length // 20), 1, 7, 8, 9, length - 1}:
        file.write_bytes(data[:size])
        with pytest.warns(RuntimeWarning, match="skipping a damaged checkpoint"):
            assert _step_loaded(tmp_path) == 16


@pytest.mark.parametrize("name", [FACTS, TENSORS])
def test_what_has_no_whole_checkpoint_is_refused_before_it_is_touched(name: str, whole: Path, tmp_path: Path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    config = small_config({"exchange": "int8"}, checkpoint_every_steps=8, max_steps=24)
    identity = RunIdentity.of(config, planted().fingerprint)
    first, second = find_checkpoints(tmp_path)
    (second / name).write_bytes(b"{}")
    check_resumable(tmp_path, identity)
    (first / name).write_bytes(b"{}")
    with pytest.raises(InputError, match="none of its 2 checkpoints is whole"):
        check_resumable(tmp_path, identity)


def test_arrays_of_other_devices_than_it_says_are_refused(whole: Path, tmp_path: Path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    config = small_config({"exchange": "int8"}, checkpoint_every_steps=8, max_steps=24)
    state, _, _, schedule, now = _load(tmp_path, config, 4)
    with pytest.raises(InputError, match="4 devices need"):
        regroup_carried(state, schedule, now, now, config.parallel)
