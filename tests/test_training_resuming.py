"""Going on from a checkpoint: to the same model, with other devices, and from damaged ones to nothing wrong."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from ebox.errors import InputError
from ebox.mesh.devices import find_devices, make_mesh
from ebox.models.tensors import TENSORS
from ebox.settings.reading import Config, ParallelConfig, TrainConfig
from ebox.storage.run_folder import TENSOR_FACTS
from ebox.training.checkpoints import (
    Layout,
    OtherRunError,
    RunIdentity,
    Standing,
    check_identity,
    check_resumable,
    find_checkpoints,
    load_newest_checkpoint,
    regroup_carried,
    save_checkpoint,
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


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [LOCAL, DELAYED], ids=["local", "delayed"])
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


@pytest.mark.slow
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
        facts = json.loads((newest / TENSOR_FACTS).read_text())
        change(facts)
        (newest / TENSOR_FACTS).write_text(json.dumps(facts))

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


@pytest.mark.parametrize("name", [TENSOR_FACTS, TENSORS])
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


@pytest.mark.parametrize("name", [TENSOR_FACTS, TENSORS])
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


def _no_warning(state: TrainState, schedule: Schedule, before: Layout, now: Layout, config: Config) -> TrainState:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return regroup_carried(state, schedule, before, now, config.parallel)


def test_what_is_owed_is_paid_by_other_numbers_of_devices_without_a_word(whole: Path):
    config = small_config({"exchange": "int8"}, checkpoint_every_steps=8, max_steps=24)
    state, _, before, schedule, now = _load(whole, config, 4)
    assert (before, now) == (Layout(2, 2), Layout(4, 4))
    dealt = _no_warning(state, schedule, before, now, config).carried
    length = min(state.carried.share.shape[1], dealt.share.shape[1])
    owed = state.carried.share.sum(axis=0)[:length] + state.carried.owned.reshape(-1)[:length]
    assert np.abs(owed).max() > 0.0
    np.testing.assert_allclose(dealt.share.sum(axis=0)[:length], owed, atol=1e-7)


def test_other_nodes_make_no_difference_where_nodes_exchange_nothing_of_their_own(whole: Path):
    config = small_config({"exchange": "int8"}, checkpoint_every_steps=8, max_steps=24)
    state, _, _, schedule, now = _load(whole, config, 2)
    same = _no_warning(state, schedule, Layout(2, 1), now, config)
    assert largest_difference(same.carried, state.carried) == 0.0


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("exchange", ["exact", "int8"])
def test_one_sender_owes_nothing_and_an_exact_exchange_neither(before: int, now: int, exchange: str):
    config, fresh = small_config({"exchange": exchange}), TrainingInputs.of(planted(), small_config()).fresh
    one, other = (
        make_plan(config, make_mesh(find_devices(ParallelConfig(devices=count)))).schedule for count in (before, now)
    )
    args = one.start(fresh), other, Layout(before, before), Layout(now, now), config
    if exchange == "int8" and before == 2:
        with pytest.warns(RuntimeWarning, match="2 devices in nodes of 2 had not sent yet is given up"):
            regroup_carried(*args[:4], config.parallel)
    else:
        _no_warning(*args)


def _save(folder: Path, step: int) -> Path:
    config = small_config()
    fresh = TrainingInputs.of(planted(), config).fresh
    mesh = make_mesh(find_devices(ParallelConfig(devices=1)))
    state = make_plan(config, mesh).schedule.start(fresh)
    return save_checkpoint(folder, state, fresh, Standing(step), Layout.of(mesh), RunIdentity.of(config, "planted"))


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path):
    assert find_checkpoints(tmp_path) == []
    saved = [_save(tmp_path, step) for step in (8, 1000, 16)]
    assert [place.name for place in saved] == ["step-000000008", "step-000001000", "step-000000016"]
    assert find_checkpoints(tmp_path) == [saved[2], saved[1]]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step-000000016", "step-000001000"]


def test_what_a_damaged_disk_and_a_killed_writer_left_makes_way(tmp_path: Path):
    (tmp_path / "checkpoints" / "step-000000008").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000000008" / TENSORS).write_bytes(b"half")
    (tmp_path / "checkpoints" / ".step-000000004.x.tmp").mkdir()
    place = _save(tmp_path, 8)
    assert sorted(os.listdir(place)) == [TENSOR_FACTS, TENSORS]
    assert os.listdir(place.parent) == ["step-000000008"]
    # A whole one of the same step is replaced: the run went on from an earlier one.
    assert _save(tmp_path, 8) == place


def test_an_old_checkpoint_that_can_not_be_removed_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rmdir = os.rmdir

    def refuse(path: Any, *, dir_fd: int | None = None) -> None:
        if "step-000000008" in os.fspath(path):
            raise OSError("busy")
        rmdir(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", refuse)
    for step in (8, 16, 24):
        _save(tmp_path, step)
    assert [place.name for place in find_checkpoints(tmp_path)][1:] == ["step-000000016", "step-000000024"]


def test_a_run_begins_before_its_first_step():
    assert Standing() == Standing(0, 0.0, 0, 0, None, 0)


def test_what_says_nothing_of_a_run_is_no_other_run(tmp_path: Path):
    identity = RunIdentity({"train": {"seed": 3}}, "data")
    for saved in (None, [], {"settings": 3}, {"settings": {"train": []}}):
        with pytest.raises(InputError, match=r"does not say with which settings|another dataset"):
            check_identity(tmp_path, saved, identity)
    for settings in ({"train": {"seed": 3}}, {"train": {"seed": 3, "gone": 1}, "section": {}}):
        check_identity(tmp_path, {"settings": settings, "fingerprint": "data"}, identity)
    with pytest.raises(OtherRunError, match=r"begun with train\.seed = 4, not 3"):
        check_identity(tmp_path, {"settings": {"train": {"seed": 4}}, "fingerprint": "data"}, identity)
    with pytest.raises(OtherRunError, match="another dataset"):
        check_identity(tmp_path, {"settings": {"train": {"seed": 3}}, "fingerprint": "other"}, identity)
    # A setting that is younger than the run counts as at its default.
    default = RunIdentity({"train": {"batch_size": Config().train.batch_size}}, "data")
    check_identity(tmp_path, {"settings": {}, "fingerprint": "data"}, default)
    with pytest.raises(OtherRunError, match=r"train\.batch_size"):
        check_identity(
            tmp_path, {"settings": {}, "fingerprint": "data"}, RunIdentity({"train": {"batch_size": 1}}, "data")
        )


@pytest.mark.parametrize(("keep", "kept"), [("best", 3), ("last", 4)])
def test_one_rule_says_which_network_is_kept_and_when_patience_has_run_out(keep: str, kept: int):
    train, standing = TrainConfig(keep=keep, patience=2, monitor="loss"), Standing()
    # The third is as good as the second: it is kept, and does not reset the patience.
    for step, loss in enumerate((0.5, 0.4, 0.4, 0.6), 1):
        assert not standing.is_exhausted(train)
        standing = replace(standing, step=step).after({"loss": loss}, train)
    assert (standing.best_step, standing.best_value, standing.kept_step) == (3, -0.4, kept)
    assert standing.is_exhausted(train)
    assert not standing.is_exhausted(TrainConfig(patience=None))
