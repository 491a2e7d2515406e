from __future__ import annotations

import time

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.evaluation.bootstrap import (
    BootstrapResult,
    bootstrap_metrics,
    bootstrap_models,
    compare_models,
    compare_scores,
    iter_resamples,
)
from ebox.evaluation.metrics import METRIC_NAMES, auroc, compute_metrics


def draw_examples(
    generator: np.random.Generator, num_positive: int, num_negative: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two unit normals 1.5 apart as calibrated probabilities; AUROC is Phi(1.5 / sqrt(2)) = 0.8556."""
    targets = np.repeat([True, False], [num_positive, num_negative])
    scores = generator.normal(size=len(targets)) + 1.5 * targets
    return targets, 1.0 / (1.0 + np.exp(1.125 - 1.5 * scores) * num_negative / num_positive)


def test_values_are_the_metrics_of_the_sample_and_lie_in_their_intervals() -> None:
    targets, probabilities = draw_examples(np.random.default_rng(0), 200, 600)
    results = bootstrap_metrics(targets, probabilities, 0.4, num_bootstrap=200)
    expected = compute_metrics(targets, probabilities, 0.4)
    assert set(results) == set(METRIC_NAMES)
    for name, result in results.items():
        assert result.value == pytest.approx(expected[name])
        assert 0.0 <= result.low <= result.value <= result.high <= 1.0


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    truth = compute_metrics(*draw_examples(generator, 200_000, 600_000))
    covered = dict.fromkeys(("auroc", "auprc", "accuracy", "mcc", "brier", "sensitivity"), 0)
    for seed in range(200):
        results = bootstrap_metrics(*draw_examples(generator, 150, 450), num_bootstrap=200, seed=seed)
        for name in covered:
            covered[name] += results[name].low <= truth[name] <= results[name].high
    # 200 trials of a 95 % interval: below 0.88 has a chance of 1 in 10,000.
    assert min(covered.values()) >= 0.88 * 200, covered


def test_paired_test_is_calibrated_when_models_are_equally_good() -> None:
    generator = np.random.default_rng(2)
    p_values = []
    for seed in range(300):
        targets = np.repeat([True, False], [100, 200])
        shared = generator.normal(size=300) + targets
        first, second = (shared + 0.6 * generator.normal(size=300) for _ in range(2))
        p_values.append(compare_scores(targets, first, second, num_bootstrap=200, seed=seed).p_value)
    for level in (0.05, 0.2, 0.5):
        share = float(np.mean(np.array(p_values) <= level))
        assert share == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 300) + 0.01)


def test_paired_test_finds_a_better_model_and_its_sign() -> None:
    generator = np.random.default_rng(3)
    targets = generator.random(1000) < 0.3
    shared = generator.normal(size=1000) + targets
    worse = shared + generator.normal(size=1000)
    result = compare_scores(targets, shared, worse, num_bootstrap=999)
    assert result.p_value == pytest.approx(2 / 1000)
    assert 0 < result.difference.low < result.difference.value < result.difference.high
    assert result.difference.value == pytest.approx(auroc(targets, shared) - auroc(targets, worse))
    mirrored = compare_scores(targets, worse, shared, num_bootstrap=999)
    assert mirrored.difference.value == pytest.approx(-result.difference.value)
    assert mirrored.difference.low == pytest.approx(-result.difference.high)


def test_a_model_does_not_differ_from_itself() -> None:
    targets, probabilities = draw_examples(np.random.default_rng(4), 50, 50)
    result = compare_scores(targets, probabilities, probabilities, metric="auprc", num_bootstrap=100)
    assert (result.p_value, result.difference.low, result.difference.high) == (1.0, 0.0, 0.0)


def test_models_share_resamples_and_the_seed_decides() -> None:
    targets, probabilities = draw_examples(np.random.default_rng(5), 50, 80)
    both = bootstrap_models(
        targets, {"one": probabilities, "two": probabilities**2}, {"one": 0.5, "two": 0.25}, num_bootstrap=100
    )
    # A monotone change of scores and threshold changes no call and no order.
    for name in ("auroc", "auprc", "mcc", "recall_at_50_fdr"):
        np.testing.assert_allclose(both["one"].resampled[name], both["two"].resampled[name], rtol=1e-12)
    assert compare_models(both["one"], both["two"], "auroc").p_value == 1.0
    again = bootstrap_metrics(targets, probabilities, num_bootstrap=100)
    assert again == both["one"].intervals()
    assert again != bootstrap_metrics(targets, probabilities, num_bootstrap=100, seed=1)


def test_resamples_keep_the_size_of_each_class() -> None:
    chunks = list(iter_resamples(300_000, 500_000, 12, seed=0))
    assert [len(positives) for positives, _ in chunks] == [5, 5, 2]
    for positives, negatives in chunks:
        assert (positives.sum(axis=1) == 300_000).all()
        assert (negatives.sum(axis=1) == 500_000).all()


def test_an_interval_leaves_out_a_fortieth_on_either_side() -> None:
    resampled = {name: np.linspace(0.0, 1.0, 1001) for name in ("auroc", "brier")}
    intervals = BootstrapResult({"auroc": 0.5, "brier": 0.99}, resampled).intervals()
    assert intervals["auroc"].to_json() == pytest.approx({"value": 0.5, "low": 0.025, "high": 0.975})
    # It holds the value.
    assert intervals["brier"].to_json() == pytest.approx({"value": 0.99, "low": 0.025, "high": 0.99})


def test_calibration_errors_of_resamples_are_shifted_to_the_value() -> None:
    resampled = {"calibration_error": np.linspace(0.1, 0.3, 1001)}
    interval = BootstrapResult({"calibration_error": 0.12}, resampled).interval("calibration_error")
    assert interval.low == pytest.approx(0.12 - 0.095)
    assert interval.high == pytest.approx(0.12 + 0.095)
    near_zero = BootstrapResult({"calibration_error": 0.01}, resampled).interval("calibration_error")
    assert near_zero.low == 0.0


def test_p_values_count_both_sides_and_the_sample_itself() -> None:
    def result(differences: list[float]) -> BootstrapResult:
        return BootstrapResult({"auroc": 0.0}, {"auroc": np.array(differences)})

    zero = result([0.0] * 9)
    assert compare_models(result([1.0] * 9), zero, "auroc").p_value == pytest.approx(2 / 10)
    assert compare_models(result([1.0] * 7 + [-1.0] * 2), zero, "auroc").p_value == pytest.approx(6 / 10)
    assert compare_models(result([-1.0] * 8 + [0.0]), zero, "auroc").p_value == pytest.approx(4 / 10)
    assert compare_models(zero, zero, "auroc").p_value == 1.0


def test_perfect_scores_have_a_perfect_interval() -> None:
    targets = np.repeat([True, False], [20, 20])
    results = bootstrap_metrics(targets, np.where(targets, 0.99, 0.01), num_bootstrap=100)
    for name in ("auroc", "auprc", "accuracy", "mcc", "recall_at_10_fdr"):
        assert (results[name].low, results[name].value, results[name].high) == (1.0, 1.0, 1.0)


def test_a_thousand_resamples_of_twenty_thousand_take_seconds() -> None:
    targets, probabilities = draw_examples(np.random.default_rng(6), 4_000, 16_000)
    start = time.perf_counter()
    bootstrap_metrics(targets, probabilities, num_bootstrap=1000)
    assert time.perf_counter() - start < 10


def test_no_resamples_are_refused() -> None:
    with pytest.raises(InputError, match="num_bootstrap is 0"):
        next(iter_resamples(3, 3, 0, seed=0))
