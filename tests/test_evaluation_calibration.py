"""Calibration of probabilities on validation: what it mends, what it leaves, and when it does nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from ebox import build, train
from ebox.datasets.folder import open_dataset
from ebox.datasets.sources import DatasetSources
from ebox.errors import InputError
from ebox.evaluation.calibration import COMPARED, METHODS, compare_methods, fit_calibration
from ebox.evaluation.inference import predict
from ebox.evaluation.metrics import auroc, calibration_error
from ebox.evaluation.split_metrics import squash
from ebox.evaluation.validation import ValidationSplit
from ebox.mesh.devices import find_local_devices, make_mesh
from ebox.models.architectures import build_model, rescale_logits
from ebox.models.files import load_model, save_model
from ebox.models.rising import RisingMap
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
    found = fit_calibration(targets, (logits - offset) / scale, method="platt")
    assert found.scale == pytest.approx(scale, rel=0.02)
    assert found.offset == pytest.approx(offset, abs=0.05)
    assert (found.num_examples, found.reason, found.map) == (200_000, None, None)


def test_separated_classes_give_finite_numbers():
    targets = np.arange(100) < 50
    # Isotonic regression adds two examples of Platt's to the fifty.
    expected = {"temperature": 51 / 52, "platt": 51 / 52, "isotonic": (50 + 2 * 51 / 52) / 52}
    for method in METHODS:
        found = fit_calibration(targets, np.where(targets, 1.0, -1.0), method=method)
        assert squash(found.apply(np.array([1.0]))) == pytest.approx(expected[method], abs=1e-6), method


def _bend(logits: np.ndarray) -> np.ndarray:
    """A rising map that no scale and offset undo."""
    return np.sign(logits + 1.0) * np.abs(logits + 1.0) ** 3 / 6.0


@pytest.mark.parametrize(
    ("spoil", "method"),
    [(lambda logits: logits / 2.5, "platt"), (lambda logits: logits - 1.0, "platt"), (_bend, "isotonic")],
)
def test_the_simplest_method_that_mends_the_logits_is_chosen(spoil: Callable[[np.ndarray], np.ndarray], method: str):
    targets, logits = _draw(20_000)
    found = fit_calibration(targets, spoil(logits))
    assert found.method == method
    assert found.compared is not None
    assert list(found.compared) == list(COMPARED)
    fresh, again = _draw(100_000, seed=1)
    assert calibration_error(fresh, squash(spoil(again))) > 0.04
    assert calibration_error(fresh, squash(found.apply(spoil(again)))) < 0.015


@pytest.mark.parametrize("num_positive", [25, *(pytest.param(number, marks=pytest.mark.slow) for number in (45, 100))])
def test_probabilities_hold_for_the_share_of_validation_though_training_sampled_another(num_positive: int):
    """Two unit normals; the network saw one positive to two negatives, and validation has one to five."""
    distance, ratios = 2.3, []
    fresh = np.random.default_rng(1).normal(size=60_000) + distance * (np.arange(60_000) < 10_000)
    for seed in range(60):
        targets = np.arange(6 * num_positive) < num_positive
        scores = np.random.default_rng(seed).normal(size=len(targets)) + distance * targets
        logits, again = (distance * one - distance**2 / 2.0 + np.log(0.5) for one in (scores, fresh))
        ratios.append(squash(fit_calibration(targets, logits).apply(again)).mean() * 6.0)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.06)


def test_every_method_keeps_the_order_and_makes_nothing_equal():
    targets, logits = _draw(3000)
    spoiled = _bend(logits)
    order = np.argsort(spoiled)
    for method in METHODS:
        mended = fit_calibration(targets, spoiled, method=method).apply(np.append(spoiled, [-500.0, 500.0]))
        assert (np.diff(mended[:-2][order]) > 0.0).all(), method
        assert mended[-2] < mended[:-2].min() < mended[:-2].max() < mended[-1]
        assert auroc(targets, mended[:-2]) == auroc(targets, spoiled)


def test_isotonic_steps_pool_neighbours_in_the_wrong_order():
    levels, shares = np.repeat([-2.0, -0.5, 0.5, 2.0], 1000), (0.1, 0.5, 0.4, 0.9)
    targets = np.concatenate([np.arange(1000) < 1000 * share for share in shares])
    found = fit_calibration(targets, levels, method="isotonic")
    assert found.map is not None
    oracle = IsotonicRegression().fit(levels, targets).predict([-2.0, 0.5, 2.0])
    np.testing.assert_allclose(squash(np.array(found.map.calibrated)), oracle, atol=2e-3)
    middle = squash(found.apply(np.array([-0.5, 0.0, 0.5])))
    assert middle[1] == pytest.approx(0.45, abs=1e-3)
    assert middle[0] < middle[1] < middle[2]


def test_methods_are_compared_by_whole_clusters():
    targets, logits = _draw(400)
    alone = compare_methods(targets, _bend(logits), np.arange(400), seed=0)
    copies, copied = np.repeat(targets, 9), np.repeat(_bend(logits), 9)
    together = compare_methods(copies, copied, np.repeat(np.arange(400), 9), seed=0)
    assert alone is not None
    assert together is not None
    # Nine copies know no more than one example does.
    for method in COMPARED:
        assert together[method]["error"] == pytest.approx(alone[method]["error"], rel=0.25)
    # One family of all positives can't be on both sides.
    assert compare_methods(targets, logits, np.where(targets, 0, np.arange(400)), seed=0) is None
    assert fit_calibration(targets, logits, np.where(targets, 0, np.arange(400))).method == "platt"


def test_a_map_is_read_back_with_its_model_and_one_of_before_needs_none(tmp_path: Path):
    config = make_config({"model": {"architecture": "motif", "num_filters": 4, "dense_units": [4]}})
    network = build_model(config.model, 2, 60, np.random.default_rng(0))
    found = RisingMap((-1.0, 0.1 + 0.2, 2.0), (-3.0, 0.0, 1.0))
    save_model(tmp_path, network, config, ("a", "b"), 60, [None, found.facts()])
    loaded = load_model(tmp_path)
    assert loaded.maps == (None, found)
    logits = np.array([[0.5, -2.0], [0.5, -1.0], [0.5, 5.0]], np.float32)
    calibrated = loaded.calibrate(logits)
    assert calibrated.dtype == np.float32
    np.testing.assert_allclose(calibrated, [[0.5, -4.0], [0.5, -3.0], [0.5, 4.0]])
    facts = tmp_path / "model" / "facts.json"
    text = facts.read_text()
    facts.write_text(text.replace("-3.0", "3.0"))
    with pytest.raises(InputError, match="does not describe a network"):
        load_model(tmp_path)
    older = {name: value for name, value in json.loads(text).items() if name != "knots"} | {"format_version": 1}
    facts.write_text(json.dumps(older))
    assert load_model(tmp_path).maps == ()
    assert load_model(tmp_path).calibrate(logits) is logits


@pytest.mark.parametrize(
    ("logits", "calibrated"), [((), ()), ((0.0,), ()), ((0.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, np.inf))]
)
def test_knots_that_make_no_rising_map_are_refused(logits: tuple[float, ...], calibrated: tuple[float, ...]):
    with pytest.raises(ValueError, match=r"knots|calibrated"):
        RisingMap(logits, calibrated)


def test_a_network_worse_than_chance_is_not_turned_round():
    targets, logits = _draw(2000)
    # Far below 0 a scale through the origin alone doesn't tell that the order is the wrong one.
    for method, worse in itertools.product((None, *METHODS), (-logits, -logits - 9.0)):
        found = fit_calibration(targets, worse, method=method)
        assert (found.scale, found.offset) == (1.0, 0.0)
        assert found.reason is not None
        assert "chance" in say(found.reason)


def test_a_good_network_whose_logits_are_all_above_zero_is_not_called_chance():
    targets = np.arange(2200) < 200
    logits = np.random.default_rng(0).normal(size=2200) + 3.0 + 2.0 * targets
    for method in (None, *METHODS):
        found = fit_calibration(targets, logits, method=method)
        assert found.reason is None
        assert found.method in METHODS
        assert found.scale > 0.0
        assert auroc(targets, found.apply(logits)) == auroc(targets, logits)


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
    config = make_config({"model": model, "train": {"epochs": 4, "calibrate": calibrate, "calibrate_by": "platt"}})
    return train(dataset, out, config).calibration


@pytest.mark.slow
def test_training_publishes_the_calibrated_network_and_says_so(dataset: Path, tmp_path: Path):
    (facts,) = _train(dataset, tmp_path / "with", calibrate=True)
    assert _train(dataset, tmp_path / "without", calibrate=False) == []
    codes = np.asarray(open_dataset(dataset).codes[:50])
    with_it, without = (predict(load_model(tmp_path / name).network, codes) for name in ("with", "without"))
    np.testing.assert_allclose(with_it, without * facts["scale"] + facts["offset"], rtol=1e-4, atol=1e-4)
    assert not np.allclose(with_it, without, atol=0.02)


@pytest.mark.slow
def test_the_published_network_is_calibrated_on_validation(dataset: Path, tmp_path: Path):
    _train(dataset, tmp_path / "run", calibrate=True)
    mesh = make_mesh(find_local_devices(ParallelConfig()))
    split = ValidationSplit(open_dataset(dataset), make_config({}).evaluation, mesh)
    _, (again,) = split.calibrate(load_model(tmp_path / "run").network, "platt")
    assert (again["scale"], again["offset"]) == pytest.approx((1.0, 0.0), abs=2e-3)


def test_networks_of_two_widths_are_predicted_one_after_another():
    codes = np.random.default_rng(1).integers(0, 4, (20, 60), np.uint8)
    logits = []
    for num_filters in (4, 8, 4):
        config = make_config({"model": {"architecture": "motif", "num_filters": num_filters, "dense_units": [4]}}).model
        logits.append(predict(build_model(config, 1, 60, np.random.default_rng(0)), codes))
    np.testing.assert_array_equal(logits[0], logits[2])
    assert not np.allclose(logits[0], logits[1])
