"""The rules of computing: 1 against N, interrupted against uninterrupted, padding, late metrics."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import processes
from ebox.diagnosis.parity import relative_difference
from ebox.errors import InputError
from ebox.evaluation.inference import predict
from ebox.mesh.devices import find_devices, make_mesh
from ebox.models.files import load_model, save_model
from ebox.models.tensors import TENSORS
from ebox.settings.reading import ParallelConfig, make_config
from ebox.storage.run_folder import CHECKPOINTS, MetricsLog
from ebox.training.checkpoints import find_checkpoints
from ebox.training.gradients import masked_loss_sum
from ebox.training.loop import TrainingResult
from ebox.training.state import make_hyperparameters
from planted import (
    NUM_TRAIN,
    NUM_VALIDATION,
    PlantedData,
    fit_small,
    largest_difference,
    leaves_of,
    named_arrays,
    planted,
    small_config,
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """One device, 50 steps, tail batches and all augmentations."""
    return fit_small(tmp_path_factory.mktemp("alone"), small_config(mutation_rate=0.01, ema_decay=0.9))


@pytest.mark.parametrize("devices", [2, *(pytest.param(number, marks=pytest.mark.slow) for number in (4, 8))])
def test_one_and_many_devices_give_the_same_model(devices: int, alone: TrainingResult, tmp_path: Path):
    many = fit_small(tmp_path, small_config(mutation_rate=0.01, ema_decay=0.9), devices)
    # As the certificate measures it: all parameters as one vector (9e-8 here). Of a single array of few small numbers
    # the largest difference is a rounding or two more: 1.12e-6 with AVX2.
    assert relative_difference(named_arrays(alone.network), named_arrays(many.network)) < 1e-6
    assert largest_difference(alone.network, many.network) < 5e-6


@pytest.mark.slow
def test_one_and_two_devices_agree_with_many_channels_too(tmp_path: Path):
    config = make_config(
        {
            "model": {"num_filters": 64, "filter_width_bp": 7, "dense_units": [8], "dilations": [2]},
            "train": small_config(max_steps=10).train.model_dump(),
        }
    )
    one, two = fit_small(tmp_path / "one", config), fit_small(tmp_path / "two", config, 2)
    assert largest_difference(one.network, two.network) < 5e-6


def test_a_rerun_is_equal_to_the_bit(alone: TrainingResult, tmp_path: Path):
    again = fit_small(tmp_path, small_config(mutation_rate=0.01, ema_decay=0.9))
    assert largest_difference(alone.network, again.network) == 0.0


def test_another_seed_gives_another_model(alone: TrainingResult, tmp_path: Path):
    other = fit_small(tmp_path, small_config(seed=4, mutation_rate=0.01, ema_decay=0.9))
    assert largest_difference(alone.network, other.network) > 1e-3


@pytest.mark.slow
def test_how_many_steps_a_dispatch_makes_no_difference(alone: TrainingResult, tmp_path: Path):
    other = fit_small(tmp_path, small_config(steps_per_dispatch=7, mutation_rate=0.01, ema_decay=0.9))
    assert largest_difference(alone.network, other.network) == 0.0


class _Interruption(BaseException):
    pass


@pytest.mark.parametrize("at", [20, 30])
def test_interrupted_equals_uninterrupted_to_the_bit(at: int, alone: TrainingResult, tmp_path: Path):
    config = small_config(checkpoint_every_steps=8, mutation_rate=0.01, ema_decay=0.9)

    def interrupt(entry: Mapping[str, Any], num_steps: int) -> None:
        if entry["step"] >= at:
            raise _Interruption

    with pytest.raises(_Interruption):
        fit_small(tmp_path, config, on_entry=interrupt)
    resumed = fit_small(tmp_path, config, resume=True)
    assert largest_difference(alone.network, resumed.network) == 0.0
    steps = [entry["step"] for entry in MetricsLog(tmp_path).read() if entry["kind"] == "train"]
    assert steps == sorted(set(steps))


def test_an_interrupt_ends_the_dispatch_is_saved_and_the_resumed_run_is_equal(alone: TrainingResult, tmp_path: Path):
    config = small_config(mutation_rate=0.01, ema_decay=0.9)
    seen: list[int] = []

    def interrupt(entry: Mapping[str, Any], num_steps: int) -> None:
        seen.append(entry["step"])
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit_small(tmp_path, config, on_entry=interrupt)
    (place,) = find_checkpoints(tmp_path)
    assert seen[1] <= int(place.name[5:]) < 50
    resumed = fit_small(tmp_path, config, resume=True)
    assert largest_difference(alone.network, resumed.network) == 0.0


@pytest.mark.parametrize("error", [_Interruption, KeyboardInterrupt])
def test_an_interrupted_validation_is_made_up_for(error: type[BaseException], alone: TrainingResult, tmp_path: Path):
    config = small_config(checkpoint_every_steps=8, mutation_rate=0.01, ema_decay=0.9)

    def interrupt(entry: Mapping[str, Any], num_steps: int) -> None:
        if entry["kind"] == "validation":
            raise error

    with pytest.raises(error):
        fit_small(tmp_path, config, on_entry=interrupt)
    resumed = fit_small(tmp_path, config, resume=True)
    assert resumed.best_step == alone.best_step > 0
    assert largest_difference(alone.network, resumed.network) == 0.0


@pytest.mark.slow
def test_a_killed_run_leaves_no_metrics_twice_and_no_half_checkpoint(tmp_path: Path):
    config = small_config(max_steps=20)
    half = tmp_path / CHECKPOINTS / ".step-000000008.x1y2.tmp"
    half.mkdir(parents=True)
    (half / TENSORS).write_bytes(b"half")
    with (tmp_path / "metrics.jsonl").open("w") as stream:
        stream.write('{"kind": "train", "step": 10}\n{"kind": "tra')
    fit_small(tmp_path, config, resume=True)
    assert [entry["step"] for entry in MetricsLog(tmp_path).read() if entry["kind"] == "train"] == [10, 20]
    assert all(line.startswith('{"kind"') for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert list((tmp_path / CHECKPOINTS).iterdir()) == find_checkpoints(tmp_path)


@pytest.mark.slow
def test_patience_counts_also_where_the_last_network_is_kept(tmp_path: Path):
    config = small_config(max_steps=50, validations=10, patience=1, keep="last", learning_rate=1e-9, ema_decay=0.0)
    result = fit_small(tmp_path, config)
    assert (result.stopped, result.steps, result.best_step) == ("early", 10, 10)


@pytest.mark.slow
def test_bfloat16_stays_near_float32(tmp_path: Path):
    exact = fit_small(tmp_path / "exact", small_config(max_steps=1, learning_rate=1e-12, batch_size=200))
    short = fit_small(
        tmp_path / "short", small_config(max_steps=1, learning_rate=1e-12, batch_size=200, precision="bfloat16")
    )
    losses = [
        next(entry["loss"] for entry in MetricsLog(tmp_path / name).read() if entry["kind"] == "train")
        for name in ("exact", "short")
    ]
    assert abs(losses[0] - losses[1]) < 0.02
    assert all(leaf.dtype == np.float32 for leaf in leaves_of(short.network))
    assert largest_difference(exact.network.motifs.convolution, short.network.motifs.convolution) < 1e-6


@pytest.mark.slow
def test_a_run_resumed_on_more_devices_stays_close(alone: TrainingResult, tmp_path: Path):
    config = small_config(checkpoint_every_steps=8, mutation_rate=0.01, ema_decay=0.9)

    def interrupt(entry: Mapping[str, Any], num_steps: int) -> None:
        if entry["step"] >= 20:
            raise _Interruption

    with pytest.raises(_Interruption):
        fit_small(tmp_path, config, on_entry=interrupt)
    resumed = fit_small(tmp_path, config, devices=4, resume=True)
    assert largest_difference(alone.network, resumed.network) < 1e-5


def test_the_planted_motif_is_learned(tmp_path: Path):
    fit_small(tmp_path, small_config(max_steps=400, shift_bp=0, dropout=0.0, filter_dropout=0.0, validations=4))
    validations = [entry for entry in MetricsLog(tmp_path).read() if entry["kind"] == "validation"]
    assert [entry["step"] for entry in validations] == [100, 200, 300, 400]
    assert validations[-1]["auroc"] > 0.9


@pytest.mark.slow
def test_an_unknown_target_has_no_influence(tmp_path: Path):
    data = planted(tracks=2)
    data.targets[:, 1] = 255
    changed = PlantedData(data.codes, data.targets)
    result = fit_small(tmp_path, small_config(max_steps=5), data=changed)
    fresh = fit_small(tmp_path / "other", small_config(max_steps=1, learning_rate=1e-12), data=changed)
    np.testing.assert_allclose(result.network.head.output.bias[1], fresh.network.head.output.bias[1], atol=1e-7)
    assert abs(float(result.network.head.output.bias[0])) > 1e-6


def _masked() -> PlantedData:
    """Two tracks, each unknown in many rows."""
    data = planted(tracks=2)
    data.targets[::3, 0] = 255
    data.targets[1::3, 1] = 255
    return data


@pytest.mark.slow
def test_several_tracks_with_unknown_targets_are_trained_alike_on_one_and_two_devices(tmp_path: Path):
    config = small_config(max_steps=20, positive_weight="balanced")
    one, two = (fit_small(tmp_path / str(devices), config, devices, data=_masked()) for devices in (1, 2))
    assert relative_difference(named_arrays(one.network), named_arrays(two.network)) < 1e-6


@pytest.mark.slow
def test_rows_that_are_unknown_in_every_track_leave_the_network_as_it_is_without_them(tmp_path: Path):
    data, blank = _masked(), np.full((NUM_TRAIN, 2), 255, np.uint8)
    blank[:150] = data.targets[:150]
    of_validation = data.targets[NUM_TRAIN:]
    more = PlantedData(data.codes, np.concatenate([blank, of_validation]))
    fewer = ShortTrain(data.codes, np.concatenate([blank, of_validation]))
    config = small_config(max_steps=12)
    networks = [fit_small(tmp_path / str(at), config, data=each).network for at, each in enumerate((more, fewer))]
    assert largest_difference(*networks) == 0.0


class ShortTrain(PlantedData):
    """The first 150 rows train."""

    def rows(self, split: str) -> slice:
        return slice(0, 150) if split == "train" else super().rows(split)


def test_an_unknown_target_gives_no_gradient_and_counts_in_no_mean():
    random = np.random.default_rng(0)
    logits = jnp.asarray(random.normal(size=(6, 2)), jnp.float32)
    targets = np.array([[1, 255], [0, 1], [255, 0], [255, 255], [1, 1], [0, 0]], np.uint8)
    mask = np.array([True] * 5 + [False])
    rates = make_hyperparameters(small_config().train, 10, [2.0, 3.0])
    total, gradient = jax.value_and_grad(masked_loss_sum)(logits, jnp.asarray(targets), jnp.asarray(mask), rates)
    counts = (targets != 255) & mask[:, None]
    assert (np.asarray(gradient)[~counts] == 0.0).all()
    assert (np.asarray(gradient)[counts] != 0.0).all()
    weights = np.where(targets == 1, np.array([[2.0, 3.0]]), 1.0)
    values = np.asarray(logits, np.float64)
    losses = np.logaddexp(0.0, values) - (targets == 1) * values
    assert float(total) == pytest.approx(float((weights * losses)[counts].sum()), rel=1e-6)


def test_training_stops_early_when_validation_gets_no_better(tmp_path: Path):
    rng = np.random.default_rng(0)
    noise = PlantedData(planted().codes, rng.integers(0, 2, (NUM_TRAIN + NUM_VALIDATION, 1)).astype(np.uint8))
    config = small_config(max_steps=2000, validations=200, patience=3, monitor="loss", shift_bp=0, ema_decay=0.0)
    result = fit_small(tmp_path, config, data=noise)
    assert result.stopped == "early"
    assert result.steps < 2000
    assert result.best_step == result.steps - 30
    resumed = fit_small(tmp_path, config, data=noise, resume=True)
    assert resumed.steps == result.steps
    assert largest_difference(result.network, resumed.network) == 0.0


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_no_bad_checkpoint(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"loss of step \d+ \(batch \d+ of epoch \d+\) is not finite; there was no checkpoint yet"
    ):
        fit_small(
            tmp_path,
            small_config(learning_rate=1e30, warmup_fraction=0.0, checkpoint_every_steps=1, batch_size=20),
        )


def test_a_model_read_back_gives_the_same_logits(alone: TrainingResult, tmp_path: Path):
    config = small_config()
    save_model(tmp_path, alone.network, config, ("bound",), 48)
    loaded = load_model(tmp_path)
    codes = planted().codes[:20]
    np.testing.assert_array_equal(predict(loaded.network, codes), predict(alone.network, codes))
    assert (loaded.tracks, loaded.length_bp, loaded.config) == (("bound",), 48, config.model)


def test_prediction_does_not_depend_on_batches_or_devices(alone: TrainingResult):
    codes = planted().codes[:37]
    whole = predict(alone.network, codes)
    eight = make_mesh(find_devices(ParallelConfig(devices=8)))
    np.testing.assert_allclose(predict(alone.network, codes, batch_size=5), whole, atol=1e-5)
    np.testing.assert_allclose(predict(alone.network, codes, mesh=eight), whole, atol=1e-5)
    assert predict(alone.network, codes[:0]).shape == (0, 1)


@pytest.mark.parametrize("size", [0, 1, 7, 100, 5000, -1])
def test_a_damaged_model_is_refused(size: int, alone: TrainingResult, tmp_path: Path):
    save_model(tmp_path, alone.network, small_config(), ("bound",), 48)
    file = tmp_path / "model" / TENSORS
    data = file.read_bytes()
    file.write_bytes(data[:size] if size >= 0 else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match="is corrupt"):
        load_model(tmp_path)


def test_a_model_of_another_format_version_is_refused(alone: TrainingResult, tmp_path: Path):
    save_model(tmp_path, alone.network, small_config(), ("bound",), 48)
    facts = tmp_path / "model" / "facts.json"
    facts.write_text(facts.read_text().replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(InputError, match=r"ebox-model version 9, written by ebox .*; ebox .* reads version 2"):
        load_model(tmp_path)


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path):
    with pytest.raises(InputError, match="train one with"):
        load_model(tmp_path)
    with pytest.raises(InputError, match="no such run folder"):
        load_model(tmp_path / "absent")


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(alone: TrainingResult, tmp_path: Path):
    config = small_config(checkpoint_every_steps=8, mutation_rate=0.01, ema_decay=0.9)
    fit_small(tmp_path, config)
    before, newest = find_checkpoints(tmp_path)
    (newest / TENSORS).write_bytes((newest / TENSORS).read_bytes()[:1000])
    with pytest.warns(RuntimeWarning, match=r"skipping a damaged checkpoint.*is corrupt"):
        resumed = fit_small(tmp_path, config, resume=True)
    assert largest_difference(alone.network, resumed.network) == 0.0
    for place in find_checkpoints(tmp_path):
        (place / TENSORS).write_bytes(b"")
    with pytest.warns(RuntimeWarning), pytest.raises(InputError, match="none of its 2 checkpoints is whole"):
        fit_small(tmp_path, config, resume=True)
    assert before.exists()


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path):
    config = small_config(max_steps=4)
    fit_small(tmp_path, config)
    (place,) = find_checkpoints(tmp_path)
    facts = place / "facts.json"
    facts.write_text(facts.read_text().replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(InputError, match="ebox-checkpoint version 9"):
        fit_small(tmp_path, config, resume=True)


def test_a_run_may_be_resumed_with_or_without_calibration(tmp_path: Path):
    first = fit_small(tmp_path, small_config(max_steps=4, calibrate=False))
    again = fit_small(tmp_path, small_config(max_steps=4, calibrate=True), resume=True)
    assert largest_difference(first.network, again.network) == 0.0


def test_resuming_with_other_settings_or_data_is_refused(tmp_path: Path):
    fit_small(tmp_path, small_config(max_steps=4))
    with pytest.raises(InputError, match=r"begun with train.batch_size = 30, not 31"):
        fit_small(tmp_path, small_config(max_steps=4, batch_size=31), resume=True)
    other = PlantedData(planted().codes, planted().targets, fingerprint="other")
    with pytest.raises(InputError, match="another dataset"):
        fit_small(tmp_path, small_config(max_steps=4), data=other, resume=True)


def test_asking_for_more_devices_than_there_are_is_refused():
    with pytest.raises(InputError, match="asks for 9 devices, and there are 8"):
        find_devices(ParallelConfig(devices=9))


def test_asking_for_an_absent_gpu_is_refused_with_the_remedy():
    with pytest.raises(InputError, match=r"python\S* -m pip install 'jax\[cuda\d+\]>="):
        find_devices(ParallelConfig(platform="gpu"))


# It waits after each entry of the log, so that it is under way when the kill comes.
_KILLED = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from planted import fit_small, small_config

def tell(entry, num_steps):
    print(entry["step"], flush=True)
    time.sleep(0.3)

config = small_config(checkpoint_every_steps=4, mutation_rate=0.01, ema_decay=0.9)
fit_small(Path(sys.argv[1]), config, resume=True, on_entry=tell)
"""


def _last_checkpoint(folder: Path) -> int:
    return max((int(place.name.removeprefix("step-")) for place in find_checkpoints(folder)), default=0)


def _train_until_killed(folder: Path, step: int) -> int:
    """Kill a training that has logged something and kept this step or a later one; the first step that it logged."""
    command = processes.python(_KILLED, folder, Path(__file__).parent)
    with processes.started(command, ends=-signal.SIGKILL, devices=8) as process:
        process.wait_until(lambda: process.stdout.count("\n") > 0 and _last_checkpoint(folder) >= step)
        process.send_signal(signal.SIGKILL)
    return int(process.stdout.split()[0])


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_one_left_alone(alone: TrainingResult, tmp_path: Path):
    for step in (8, 24):
        begun = _last_checkpoint(tmp_path)
        assert _train_until_killed(tmp_path, step) > begun
    begun, seen = _last_checkpoint(tmp_path), []
    config = small_config(checkpoint_every_steps=4, mutation_rate=0.01, ema_decay=0.9)
    final = fit_small(tmp_path, config, resume=True, on_entry=lambda entry, num_steps: seen.append(entry["step"]))
    assert 24 <= begun < seen[0]
    assert largest_difference(alone.network, final.network) == 0.0
