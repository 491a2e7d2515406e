from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

from ebox.errors import InputError
from ebox.evaluation.bootstrap import (
    ComparedMetric,
    bootstrap_metrics,
    bootstrap_models,
    compare_models,
    compare_scores,
)
from ebox.evaluation.clusters import Clustering, correlate_within
from ebox.evaluation.influence import trace_auprc, trace_auroc
from ebox.evaluation.intervals import bound_auprc, bound_auroc, bound_precision, bound_share
from ebox.evaluation.metrics import METRIC_NAMES, auprc, auroc, compute_metrics


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
        assert 0.0 <= result.low < result.value < result.high <= 1.0


def draw_groups(
    generator: np.random.Generator, num_positive: int, num_negative: int, group: int, area: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, scores and cluster labels of two normals of this AUROC, correlated by 0.7 within groups."""

    def draw(num: int) -> np.ndarray:
        shared = np.repeat(generator.normal(size=num // group), group)
        return np.sqrt(0.7) * shared + np.sqrt(0.3) * generator.normal(size=num)

    scores = np.concatenate([draw(num_positive) + np.sqrt(2.0) * ndtri(area), draw(num_negative)])
    labels = np.concatenate([np.arange(num_positive) // group, num_positive + np.arange(num_negative) // group])
    return np.repeat([True, False], [num_positive, num_negative]), scores, labels


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    truth = compute_metrics(*draw_examples(generator, 200_000, 600_000))
    covered = dict.fromkeys(("auroc", "auprc", "accuracy", "mcc", "brier", "sensitivity"), 0)
    for _ in range(150):
        results = bootstrap_metrics(*draw_examples(generator, 150, 450), num_bootstrap=2)
        for name in covered:
            covered[name] += results[name].low <= truth[name] <= results[name].high
    # 150 trials of a 95 % interval: below 0.88 has a chance of 1 in 2,000.
    assert min(covered.values()) >= 0.88 * 150, covered


@pytest.mark.parametrize(("num_positive", "group", "area"), [(20, 1, 0.99), (200, 10, 0.95)])
def test_intervals_of_few_and_of_families_cover_the_truth(num_positive: int, group: int, area: float) -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(150):
        targets, scores, labels = draw_groups(generator, num_positive, 5 * num_positive, group, area)
        clusters = Clustering.of(targets, labels)
        low, high = bound_auroc(auroc(targets, scores), scores[targets], scores[~targets], clusters)
        covered += low <= area <= high
    assert covered >= 0.88 * 150


def test_average_precision_of_families_is_covered() -> None:
    generator = np.random.default_rng(3)
    truth = auprc(*draw_groups(generator, 100_000, 500_000, 1, 0.9)[:2])
    covered = 0
    for _ in range(150):
        targets, scores, labels = draw_groups(generator, 200, 1000, 10, 0.9)
        influence = trace_auprc(scores[targets], scores[~targets])
        low, high = bound_auprc(auprc(targets, scores), influence, 5.0, Clustering.of(targets, labels))
        covered += low <= truth <= high
    assert covered >= 0.88 * 150


@pytest.mark.parametrize("metric", ["auroc", "auprc"])
def test_paired_test_finds_equals_apart_in_a_twentieth_with_families_too(metric: ComparedMetric) -> None:
    generator = np.random.default_rng(4)
    found = 0
    for _ in range(300):
        targets, shared, labels = draw_groups(generator, 200, 400, 10, 0.8)
        first, second = (shared + draw_groups(generator, 200, 400, 10, 0.5)[1] for _ in range(2))
        found += compare_scores(targets, first, second, metric=metric, clusters=labels).p_value < 0.05
    # 300 trials at 5 %: more than 27 has a chance of 1 in 1,000.
    assert found <= 27


def test_families_taken_for_independent_would_be_too_sure() -> None:
    targets, scores, labels = draw_groups(np.random.default_rng(5), 200, 1000, 10, 0.9)
    probabilities = ndtr(scores)
    alone = bootstrap_metrics(targets, probabilities, num_bootstrap=200)
    grouped = bootstrap_metrics(targets, probabilities, clusters=labels, num_bootstrap=200)
    for name in METRIC_NAMES:
        assert grouped[name].value == alone[name].value
        assert grouped[name].high - grouped[name].low > 1.3 * (alone[name].high - alone[name].low)


@pytest.mark.parametrize("few", [1, 2, 14])
def test_too_few_clusters_have_values_and_no_interval_and_no_p(few: int) -> None:
    generator = np.random.default_rng(few)
    targets = np.repeat([True, False], [60, 60])
    scores = generator.random((2, 120))
    labels = np.concatenate([np.arange(60) % few, 100 + np.arange(60)])
    for clusters, is_positive in ((labels, targets), (labels, ~targets)):
        results = bootstrap_metrics(is_positive, scores[0], clusters=clusters, num_bootstrap=50)
        assert all((result.low, result.high) == (None, None) for result in results.values())
        assert results["auroc"].value == pytest.approx(auroc(is_positive, scores[0]))
        compared = compare_scores(is_positive, scores[0], scores[1], clusters=clusters)
        assert (compared.p_value, compared.difference.low) == (None, None)


def test_perfect_scores_still_leave_doubt() -> None:
    targets = np.repeat([True, False], [15, 15])
    results = bootstrap_metrics(targets, np.where(targets, 1.0, 0.0), num_bootstrap=100)
    for name, result in results.items():
        best = 0.0 if name in ("brier", "calibration_error") else 1.0
        assert result.value == best
        assert result.high - result.low > 0.03, name
    steps = np.arange(30) / 100
    compared = compare_scores(targets, np.where(targets, 1.0, 0.0) + steps, np.where(targets, 1.0, 0.0) - steps)
    assert compared.p_value == 1.0
    assert compared.difference.low < 0.0 < compared.difference.high


def test_paired_test_is_calibrated_when_models_are_equally_good() -> None:
    generator = np.random.default_rng(2)
    p_values = []
    for _ in range(300):
        targets = np.repeat([True, False], [100, 200])
        shared = generator.normal(size=300) + targets
        first, second = (shared + 0.6 * generator.normal(size=300) for _ in range(2))
        p_values.append(compare_scores(targets, first, second).p_value)
    for level in (0.05, 0.2, 0.5):
        share = float(np.mean(np.array(p_values) <= level))
        assert share == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 300) + 0.01)


def test_paired_test_finds_a_better_model_and_its_sign() -> None:
    generator = np.random.default_rng(3)
    targets = generator.random(1000) < 0.3
    shared = generator.normal(size=1000) + targets
    worse = shared + generator.normal(size=1000)
    for metric, measure in (("auroc", auroc), ("auprc", auprc)):
        result = compare_scores(targets, shared, worse, metric=metric)
        assert result.p_value < 0.01
        assert 0 < result.difference.low < result.difference.value < result.difference.high
        assert result.difference.value == pytest.approx(measure(targets, shared) - measure(targets, worse))
        mirrored = compare_scores(targets, worse, shared, metric=metric)
        assert mirrored.difference.value == pytest.approx(-result.difference.value)
        assert mirrored.difference.low == pytest.approx(-result.difference.high)


def test_a_model_does_not_differ_from_itself() -> None:
    targets, probabilities = draw_examples(np.random.default_rng(4), 50, 50)
    result = compare_scores(targets, probabilities, probabilities, metric="auprc")
    assert (result.p_value, result.difference.low, result.difference.high) == (1.0, 0.0, 0.0)


def test_models_share_resamples_and_the_seed_decides() -> None:
    targets, probabilities = draw_examples(np.random.default_rng(5), 50, 80)
    both = bootstrap_models(
        targets, {"one": probabilities, "two": probabilities**2}, {"one": 0.5, "two": 0.25}, num_bootstrap=100
    )
    # A monotone change of scores and threshold changes no call and no order.
    np.testing.assert_allclose(
        both["one"].resampled["recall_at_50_fdr"], both["two"].resampled["recall_at_50_fdr"], rtol=1e-12
    )
    for name in ("auroc", "auprc", "mcc", "recall_at_50_fdr"):
        assert both["one"].interval(name) == both["two"].interval(name)
    assert compare_models(both["one"], both["two"], "auroc").p_value == 1.0
    again = bootstrap_metrics(targets, probabilities, num_bootstrap=100)
    assert again == both["one"].intervals()
    assert again != bootstrap_metrics(targets, probabilities, num_bootstrap=100, seed=1)


def test_resamples_keep_the_size_of_each_class() -> None:
    clusters = Clustering.of(np.repeat([True, False], [300_000, 500_000]))
    chunks = list(clusters.iter_resamples(12, seed=0))
    assert [len(positives) for positives, _ in chunks] == [5, 5, 2]
    for positives, negatives in chunks:
        assert (positives.sum(axis=1) == 300_000).all()
        assert (negatives.sum(axis=1) == 500_000).all()


def test_resamples_draw_whole_clusters_and_keep_how_many_there_are_of_each_class() -> None:
    targets = np.tile([True, False, False], 40)
    # Ten clusters of a positive and two negatives each, ten of positives alone, twenty of negatives alone.
    labels = np.where(np.arange(120) < 30, np.arange(120) // 3, 100 + np.arange(120))
    labels[30:60][targets[30:60]] += 1000
    (positives, negatives), *_ = Clustering.of(targets, labels).iter_resamples(50, seed=1)
    places = np.cumsum(targets) - 1, np.cumsum(~targets) - 1
    for cluster in range(10):
        members = np.flatnonzero(labels == cluster)
        drawn = [positives[:, places[0][row]] if targets[row] else negatives[:, places[1][row]] for row in members]
        assert all((part == drawn[0]).all() for part in drawn)
    assert (positives.sum(axis=1) == 40).all()
    assert (positives[:, :10].sum(axis=1) == 10).all()


def test_influences_are_what_leaving_a_cluster_out_shows() -> None:
    targets, scores, labels = draw_groups(np.random.default_rng(6), 120, 360, 3, 0.85)
    # Ties, and clusters of both classes.
    scores, labels = np.round(scores, 1), np.where(np.arange(480) % 3 == 0, labels % 40, labels)
    clusters = Clustering.of(targets, labels)
    for trace, measure in ((trace_auroc, auroc), (trace_auprc, auprc)):
        left_out = [measure(targets[labels != one], scores[labels != one]) for one in np.unique(labels)]
        spread = np.sum((np.array(left_out) - np.mean(left_out)) ** 2) * (len(left_out) - 1) / len(left_out)
        found = clusters.weigh(trace(scores[targets], scores[~targets])).total
        assert found == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize("group", [2, 5])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7])
def test_the_correlation_within_clusters_is_found(group: int, correlation: float) -> None:
    generator = np.random.default_rng(group)
    shared = np.repeat(generator.normal(size=3000), group)
    values = np.sqrt(correlation) * shared + np.sqrt(1.0 - correlation) * generator.normal(size=3000 * group)
    assert correlate_within(values, np.arange(3000 * group) // group) == pytest.approx(correlation, abs=0.05)


def test_the_interval_of_a_share_is_wilsons_where_no_two_go_together() -> None:
    hits = np.repeat([1.0, 0.0], [900, 100])
    low, high = bound_share(hits, np.arange(1000))
    expected = binomtest(900, 1000).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=5e-4)
    # Ten equal copies of each say no more than one.
    copies = bound_share(np.repeat(hits[::10], 10), np.arange(1000) // 10)
    single = bound_share(hits[::10], np.arange(100))
    assert copies == pytest.approx(single, abs=2e-3)


def test_precision_at_a_prevalence_follows_from_sensitivity_and_specificity() -> None:
    ends = (0.75, 0.85), (0.98, 0.995)
    value, (low, high) = bound_precision((0.8, 0.99), ends, 100.0)
    assert value == pytest.approx(0.8 / (0.8 + 100.0 * 0.01))
    assert 0.8 / (0.8 + 2.0) - 0.02 < low < value < high < 0.8 / (0.8 + 0.5) + 0.02
    assert bound_precision((0.0, 1.0), ends, 100.0)[0] is None


def test_a_thousand_resamples_of_twenty_thousand_take_seconds() -> None:
    targets, probabilities = draw_examples(np.random.default_rng(6), 4_000, 16_000)
    start = time.perf_counter()
    bootstrap_metrics(targets, probabilities, clusters=np.arange(20_000) // 2, num_bootstrap=1000)
    assert time.perf_counter() - start < 10


def test_no_resamples_and_labels_of_another_length_are_refused() -> None:
    targets, probabilities = draw_examples(np.random.default_rng(7), 20, 20)
    with pytest.raises(InputError, match="num_bootstrap is 0"):
        bootstrap_metrics(targets, probabilities, num_bootstrap=0)
    with pytest.raises(InputError, match="40 targets and 39 labels"):
        Clustering.of(targets, np.arange(39))
