from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from ebox.errors import InputError
from ebox.evaluation import metrics
from ebox.evaluation.metrics import METRIC_NAMES, compute_metrics, rank_scores, weigh_metrics


@st.composite
def scored_examples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Targets of both classes with probabilities; few levels, so that ties are the rule."""
    size = draw(st.integers(2, 60))
    num_levels = draw(st.sampled_from([1, 2, 5, 1000]))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    targets = generator.random(size) < draw(st.floats(0.05, 0.95))
    targets[:2] = [True, False]
    return targets, generator.integers(0, num_levels + 1, size) / (num_levels + 1)


@given(scored_examples())
@settings(max_examples=150, deadline=None)
def test_ranking_metrics_equal_scikit_learn_under_ties(examples: tuple[np.ndarray, np.ndarray]) -> None:
    targets, probabilities = examples
    assert metrics.auroc(targets, probabilities) == pytest.approx(oracle.roc_auc_score(targets, probabilities))
    expected = oracle.average_precision_score(targets, probabilities)
    assert metrics.auprc(targets, probabilities) == pytest.approx(expected)


@given(scored_examples(), st.floats(0.0, 1.0))
@settings(max_examples=150, deadline=None)
def test_threshold_metrics_equal_scikit_learn(examples: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    targets, probabilities = examples
    calls = probabilities >= threshold
    computed = compute_metrics(targets, probabilities, threshold)
    assert computed["accuracy"] == pytest.approx(oracle.accuracy_score(targets, calls))
    assert computed["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(targets, calls))
    assert computed["mcc"] == pytest.approx(oracle.matthews_corrcoef(targets, calls), abs=1e-12)
    assert computed["mcc_at_0.5"] == pytest.approx(oracle.matthews_corrcoef(targets, probabilities >= 0.5), abs=1e-12)
    assert computed["sensitivity"] == pytest.approx(oracle.recall_score(targets, calls))
    assert computed["brier"] == pytest.approx(oracle.brier_score_loss(targets, probabilities))


@given(scored_examples(), st.sampled_from([0.1, 0.5]))
@settings(max_examples=100, deadline=None)
def test_recall_at_fdr_is_the_best_over_all_thresholds(examples: tuple[np.ndarray, np.ndarray], fdr: float) -> None:
    targets, probabilities = examples
    best = 0.0
    for threshold in np.unique(probabilities):
        calls = probabilities >= threshold
        if np.count_nonzero(calls & ~targets) <= fdr * np.count_nonzero(calls) + 1e-9:
            best = max(best, float((calls & targets).sum() / targets.sum()))
    assert metrics.recall_at_fdr(targets, probabilities, fdr) == pytest.approx(best)
    name = f"recall_at_{round(fdr * 100)}_fdr"
    assert compute_metrics(targets, probabilities)[name] == pytest.approx(best)


@given(scored_examples(), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_weights_count_as_repeated_examples(examples: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    targets, probabilities = examples
    weights = np.random.default_rng(seed).integers(0, 4, len(targets))
    weights[:2] = [1, 2]
    weighed = weigh_metrics(rank_scores(targets, probabilities, 0.4), weights[targets][None], weights[~targets][None])
    repeated = compute_metrics(np.repeat(targets, weights), np.repeat(probabilities, weights), 0.4)
    # The bins of the calibration error are those of the sample, so it alone may differ.
    for name in set(METRIC_NAMES) - {"calibration_error"}:
        assert weighed[name][0] == pytest.approx(repeated[name]), name


def test_negative_factor_gives_what_a_balanced_sample_gives() -> None:
    generator = np.random.default_rng(0)
    targets = np.repeat([True, False], [300, 100])
    probabilities = np.round(generator.random(400) * 0.5 + targets * 0.3, 2)
    balanced = compute_metrics(targets, probabilities, 0.5, negative_factor=3.0)
    copied = compute_metrics(np.repeat(targets, [1] * 300 + [3] * 100), np.repeat(probabilities, [1] * 300 + [3] * 100))
    for name in set(METRIC_NAMES) - {"calibration_error"}:
        assert balanced[name] == pytest.approx(copied[name]), name
    assert balanced["accuracy"] == pytest.approx(balanced["balanced_accuracy"])


def test_calibration_error_is_small_when_calibrated_and_right_when_constant() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.random(60_000)
    targets = generator.random(60_000) < probabilities
    assert metrics.calibration_error(targets, probabilities) < 0.01
    constant = np.full(60_000, 0.9)
    assert metrics.calibration_error(targets, constant) == pytest.approx(0.9 - targets.mean(), rel=1e-4)


def test_float32_scores_are_taken() -> None:
    targets = np.array([True, False, True, False])
    scores = np.array([0.9, 0.1, 0.8, 0.85], np.float32)
    assert metrics.auroc(targets, scores) == pytest.approx(0.75)


def test_pairs_past_two_to_the_thirty_first_are_counted() -> None:
    generator = np.random.default_rng(0)
    targets = generator.random(200_000) < 0.5
    scores = np.round(generator.normal(size=200_000) + targets, 3)
    assert metrics.auroc(targets, scores) == pytest.approx(oracle.roc_auc_score(targets, scores))
    weights = generator.integers(0, 3, 200_000).astype(np.int16)
    weighed = weigh_metrics(rank_scores(targets, scores), weights[targets][None], weights[~targets][None])
    expected = oracle.roc_auc_score(targets, scores, sample_weight=weights)
    assert weighed["auroc"][0] == pytest.approx(expected)
    expected = oracle.average_precision_score(targets, scores, sample_weight=weights)
    assert weighed["auprc"][0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("targets", "scores", "message"),
    [
        ([True, True], [0.1, 0.2], "only positive ones"),
        ([False, False], [0.1, 0.2], "only negative ones"),
        ([], [], "no examples"),
        ([True, False], [0.1, np.nan], "1 of 2 scores are not finite"),
        ([True, False], [np.inf, -np.inf], "2 of 2 scores are not finite"),
    ],
)
def test_undefined_metrics_are_refused(targets: list[bool], scores: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compute_metrics(np.array(targets, bool), np.array(scores, np.float64))
