"""Calibration of probabilities on validation: what it mends, what it leaves, and when it does nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ebox import build, train
from ebox.datasets.folder import open_dataset
from ebox.datasets.sources import DatasetSources
from ebox.evaluation.calibration import fit_calibration
from ebox.evaluation.inference import predict
from ebox.evaluation.split_metrics import squash
from ebox.evaluation.validation import ValidationSplit
from ebox.mesh import find_local_devices, make_mesh
from ebox.models import build_model, rescale_logits
from ebox.models.files import load_model
from ebox.reporting.languages.english import say
from ebox.sequences import SimulationConfig, draw_simulation, write_simulation
from ebox.settings.reading import ParallelConfig, make_config


def _draw(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and logits that are exactly right about them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.0, 2.0, num)
    return rng.random(num) < squash(logits), logits


@pytest.mark.parametrize(("scale", "offset"), [(0.4, 2.0), (3.0, -1.0), (1.0, 0.0)])
def test_a_bent_scale_is_bent_back(scale: float, offset: float):
    targets, logits = _draw(200_000)
    found = fit_calibration(targets, (logits - offset) / scale)
    assert found.scale == pytest.approx(scale, rel=0.02)
    assert found.offset == pytest.approx(offset, abs=0.05)
    assert (found.num_examples, found.reason) == (200_000, None)


def test_separated_classes_give_finite_numbers():
    targets = np.arange(100) < 50
    found = fit_calibration(targets, np.where(targets, 1.0, -1.0))
    assert squash(np.array([found.scale + found.offset])) == pytest.approx(51 / 52, abs=1e-6)


def test_a_network_worse_than_chance_is_not_turned_round():
    targets, logits = _draw(2000)
    found = fit_calibration(targets, -logits)
    assert (found.scale, found.offset) == (1.0, 0.0)
    assert found.reason is not None
    assert "chance" in say(found.reason)


@pytest.mark.parametrize("num_positive", [0, 19, 181, 200])
def test_few_examples_of_a_class_leave_the_logits(num_positive: int):
    found = fit_calibration(np.arange(200) < num_positive, np.linspace(2.0, -2.0, 200))
    assert (found.scale, found.offset) == (1.0, 0.0)
    assert found.reason is not None
    assert "fewer than 20" in say(found.reason)


@pytest.mark.parametrize("architecture", ["motif", "residual"])
def test_rescaled_logits_are_the_logits_rescaled(architecture: str):
    config = make_config({"model": {"architecture": architecture, "num_filters": 8, "dense_units": [4]}}).model
    network = build_model(config, 2, 60, np.random.default_rng(0))
    codes = np.random.default_rng(1).integers(0, 4, (10, 60), np.uint8)
    scale, offset = np.array([0.5, 3.0], np.float32), np.array([1.0, -2.0], np.float32)
    moved = predict(rescale_logits(network, scale, offset), codes)
    np.testing.assert_allclose(moved, predict(network, codes) * scale + offset, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Planted motifs, weak enough that the classes overlap."""
    folder = tmp_path_factory.mktemp("calibration")
    config = SimulationConfig(motifs=("MA0091.1",), length_bp=60, num_positives=600, num_negatives=600)
    write_simulation(draw_simulation(config), folder / "simulation")
    place = folder / "simulation"
    sources = DatasetSources(positives=place / "positives.fa", negatives=(place / "negatives.fa",))
    build(folder / "data", sources)
    return folder / "data"


def _train(dataset: Path, out: Path, *, calibrate: bool) -> list[dict[str, object]]:
    model = {"architecture": "motif", "num_filters": 8, "filter_width_bp": 9, "dense_units": [8]}
    config = make_config({"model": model, "train": {"epochs": 4, "calibrate": calibrate}})
    return train(dataset, out, config).calibration


@pytest.mark.slow
def test_training_publishes_the_calibrated_network_and_says_so(dataset: Path, tmp_path: Path):
    (facts,) = _train(dataset, tmp_path / "with", calibrate=True)
    assert _train(dataset, tmp_path / "without", calibrate=False) == []
    codes = np.asarray(open_dataset(dataset).codes[:50])
    with_it, without = (predict(load_model(tmp_path / name).network, codes) for name in ("with", "without"))
    np.testing.assert_allclose(with_it, without * facts["scale"] + facts["offset"], rtol=1e-4, atol=1e-4)
    assert not np.allclose(with_it, without, atol=0.02)


def test_the_published_network_is_calibrated_on_validation(dataset: Path, tmp_path: Path):
    _train(dataset, tmp_path / "run", calibrate=True)
    mesh = make_mesh(find_local_devices(ParallelConfig()))
    split = ValidationSplit(open_dataset(dataset), make_config({}).evaluation, mesh)
    _, (again,) = split.calibrate(load_model(tmp_path / "run").network)
    assert (again["scale"], again["offset"]) == pytest.approx((1.0, 0.0), abs=2e-3)


def test_networks_of_two_widths_are_predicted_one_after_another():
    codes = np.random.default_rng(1).integers(0, 4, (20, 60), np.uint8)
    logits = []
    for num_filters in (4, 8, 4):
        config = make_config({"model": {"architecture": "motif", "num_filters": num_filters, "dense_units": [4]}}).model
        logits.append(predict(build_model(config, 1, 60, np.random.default_rng(0)), codes))
    np.testing.assert_array_equal(logits[0], logits[2])
    assert not np.allclose(logits[0], logits[1])
