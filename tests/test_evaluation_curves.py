from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from ebox.evaluation.curves import bin_calibration, count_scores, trace_pr, trace_roc
from ebox.evaluation.metrics import auroc


def draw_examples(size: int, num_levels: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(size)
    targets = generator.random(size) < 0.3
    scores = 1.0 / (1.0 + np.exp(-generator.normal(size=size) - targets))
    return targets, np.round(scores * num_levels) / num_levels


@pytest.mark.parametrize("num_levels", [5, 50])
def test_curves_equal_scikit_learn(num_levels: int) -> None:
    targets, scores = draw_examples(300, num_levels)
    x, y, _ = oracle.roc_curve(targets, scores, drop_intermediate=False)
    roc = trace_roc(targets, scores)
    np.testing.assert_allclose(roc["x"], x, atol=1e-6)
    np.testing.assert_allclose(roc["y"], y, atol=1e-6)
    precision, recall, _ = oracle.precision_recall_curve(targets, scores)
    curve = trace_pr(targets, scores)
    # scikit-learn goes from recall 1 down, and adds a made-up point (0, 1) at the end.
    np.testing.assert_allclose(curve["x"], recall[-2::-1], atol=1e-6)
    np.testing.assert_allclose(curve["y"], precision[-2::-1], atol=1e-6)


def test_thinned_curve_keeps_its_ends_and_its_area() -> None:
    targets, scores = draw_examples(20_000, 10**9)
    roc = trace_roc(targets, scores)
    assert 200 < len(roc["x"]) <= 400
    assert (roc["x"][0], roc["y"][0], roc["x"][-1], roc["y"][-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.trapezoid(roc["y"], roc["x"]) == pytest.approx(auroc(targets, scores), abs=2e-3)
    precision_recall = trace_pr(targets, scores)
    assert len(precision_recall["x"]) <= 400
    assert precision_recall["x"][-1] == 1.0
    assert precision_recall["y"][-1] == pytest.approx(targets.mean(), abs=1e-6)


def test_calibration_bins_have_equal_mass_and_hold_everyone() -> None:
    probabilities = np.linspace(0.0, 1.0, 1500)
    bins = bin_calibration(probabilities > 0.5, probabilities)
    assert [item["num_examples"] for item in bins] == [100] * 15
    assert bins[0]["fraction_positive"] == 0.0
    assert bins[-1]["fraction_positive"] == 1.0
    assert all(item["low"] <= item["fraction_positive"] <= item["high"] for item in bins)
    # Sure of each bin, and surer of one with more examples.
    assert bins[0]["high"] > bin_calibration(probabilities > 0.5, probabilities, num_bins=3)[0]["high"] > 0.0


def test_a_calibration_bin_of_few_clusters_has_no_interval() -> None:
    probabilities = np.linspace(0.0, 1.0, 1500)
    bins = bin_calibration(probabilities > 0.5, probabilities, np.arange(1500) // 8)
    assert {item["low"] for item in bins} == {None}
    wider, narrow = (
        bin_calibration(probabilities > 0.47, probabilities, labels)[7] for labels in (np.arange(1500) // 5, None)
    )
    assert wider["low"] < narrow["low"] < narrow["high"] < wider["high"]


def test_equal_probabilities_share_a_calibration_bin() -> None:
    targets, scores = draw_examples(300, 2)
    assert sum(item["num_examples"] for item in bin_calibration(targets, scores)) == 300
    assert len(bin_calibration(targets, scores)) <= 3


def test_histogram_counts_each_example_once() -> None:
    groups = {"positive": np.array([0.0, 0.5, 1.0]), "given": np.array([], np.float64)}
    histogram = count_scores(groups, num_bins=4)
    assert histogram["edges"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert histogram["counts"] == {"positive": [1, 0, 1, 1], "given": [0, 0, 0, 0]}
