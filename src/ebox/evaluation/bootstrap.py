"""Intervals of metrics, and the paired test of two models on the same examples; whole clusters are the units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float

from ebox.errors import InputError
from ebox.evaluation.clusters import Clustering, Influence, Labels, mean_influence
from ebox.evaluation.influence import Values, trace_auprc, trace_auroc
from ebox.evaluation.intervals import (
    Ends,
    bound_auprc,
    bound_auroc,
    bound_calls,
    bound_mean,
    bound_share,
    count_degrees,
    find_quantile,
    solve_score,
)
from ebox.evaluation.metrics import METRIC_NAMES, Ranking, Scores, Targets, rank_scores, weigh_metrics
from ebox.storage.names import MODEL

# Metrics that have no formula for their variance.
RESAMPLED = ("calibration_error", "recall_at_10_fdr", "recall_at_50_fdr")
AT_HALF = ("accuracy", "mcc")
ComparedMetric = Literal["auroc", "auprc"]


@dataclass(frozen=True)
class MetricResult:
    """A metric with its 95 % interval; the ends are None where there are too few clusters for one."""

    value: float
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        """The three numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class ComparisonResult:
    """Difference of a metric between two models on the same examples, first minus second.

    Interval and p-value are None where there are too few clusters.
    """

    metric: str
    difference: MetricResult
    p_value: float | None


@dataclass(frozen=True)
class BootstrapResult:
    """Metrics of one model, and what their intervals are made from: scores, clusters, and resamples of three."""

    values: dict[str, float]
    ranking: Ranking
    positives: Values
    negatives: Values
    clusters: Clustering
    negative_factor: float = 1.0
    resampled: dict[str, Float[np.ndarray, " resamples"]] = field(default_factory=dict)

    @property
    def weights(self) -> Ends:
        """Of all positives, and of all negatives."""
        return float(len(self.positives)), len(self.negatives) * float(self.negative_factor)

    @cached_property
    def influences(self) -> dict[str, Influence]:
        """By how much each example moves the two metrics of order."""
        return {
            "auroc": trace_auroc(self.positives, self.negatives),
            "auprc": trace_auprc(self.positives, self.negatives, self.negative_factor),
        }

    @cached_property
    def ends(self) -> dict[str, Ends]:
        """Of every interval; nothing where there are too few clusters."""
        if not self.clusters.has_enough:
            return {}
        odds = self.weights[1] / self.weights[0]
        return {
            "auroc": bound_auroc(self.values["auroc"], self.positives, self.negatives, self.clusters),
            "auprc": bound_auprc(self.values["auprc"], self.influences["auprc"], odds, self.clusters),
            **_bound_features(self.ranking, self.values["brier"], self.weights, self.clusters),
            **{
                name: _bound_drawn(name, self.values[name], drawn, self.clusters)
                for name, drawn in self.resampled.items()
            },
        }

    def interval(self, metric: str) -> MetricResult:
        """The metric with its interval, which contains the value."""
        value, ends = self.values[metric], self.ends.get(metric)
        if ends is None:
            return MetricResult(value, None, None)
        least = -1.0 if metric.startswith("mcc") else 0.0
        return MetricResult(value, max(min(ends[0], value), least), min(max(ends[1], value), 1.0))

    def intervals(self) -> dict[str, MetricResult]:
        """Every metric with its interval."""
        return {metric: self.interval(metric) for metric in self.values}

    def ranks_like(self, other: BootstrapResult) -> bool:
        """Whether both models put the examples into the same order, with the same ties."""
        pairs = [np.concatenate([one.positives, one.negatives]) for one in (self, other)]
        first, second = (np.unique(scores, return_inverse=True)[1] for scores in pairs)
        return bool(np.array_equal(first, second))


def bootstrap_metrics(
    targets: Targets,
    probabilities: Scores,
    threshold: float = 0.5,
    *,
    clusters: Labels | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, MetricResult]:
    """Every metric of METRIC_NAMES with its 95 % interval.

    Args:
        targets: True for a positive.
        probabilities: Of each example.
        threshold: A probability at or above it is called positive.
        clusters: Label of the cluster of each example; None: each example is one.
        num_bootstrap: How many resamples.
        seed: For the resamples.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    models, thresholds = {MODEL: probabilities}, {MODEL: threshold}
    results = bootstrap_models(targets, models, thresholds, clusters=clusters, num_bootstrap=num_bootstrap, seed=seed)
    return results[MODEL].intervals()


def bootstrap_models(
    targets: Targets,
    probabilities: Mapping[str, Scores],
    thresholds: Mapping[str, float],
    *,
    clusters: Labels | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
    negative_factor: float = 1.0,
) -> dict[str, BootstrapResult]:
    """Measure several models on the same examples, with intervals.

    With fewer than `datasets.clusters.MIN_CLUSTERS` clusters of a class there are no intervals.

    Args:
        targets: True for a positive.
        probabilities: Of each model, by name.
        thresholds: Of each model; a probability at or above it is called positive.
        clusters: Label of the cluster of each example, such as a family or overlapping loci; None: each example is one.
        num_bootstrap: How many resamples.
        seed: The same seed gives the same resamples for all models.
        negative_factor: Weight of all negatives; positives / negatives gives the metrics of a 1:1 sample.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    if num_bootstrap < 1:
        raise InputError(f"num_bootstrap is {num_bootstrap}, and at least one resample is needed")
    rankings = {name: rank_scores(targets, scores, thresholds[name]) for name, scores in probabilities.items()}
    grouping = Clustering.of(targets, clusters)
    resampled = {name: dict[str, Float[np.ndarray, " resamples"]]() for name in rankings}
    if grouping.has_enough:
        resampled = _resample(rankings, grouping, num_bootstrap, seed, negative_factor)
    found: dict[str, BootstrapResult] = {}
    for name, ranking in rankings.items():
        scores = probabilities[name].astype(np.float64)
        parts = scores[targets], scores[~targets]
        found[name] = _measure(ranking, parts, grouping, float(negative_factor), resampled[name])
    return found


def compare_models(first: BootstrapResult, second: BootstrapResult, metric: ComparedMetric) -> ComparisonResult:
    """Test whether two models differ in a metric, in either direction (DeLong 1988, clusters: Obuchowski 1997).

    The difference over its standard error is held against Student's t, whose degrees of freedom follow from the number
    of clusters. Where both models rank perfectly nothing varies, and the ends follow from those of the two (Zou and
    Donner 2008).
    """
    return compare_with_mean(first, [second], metric)


def compare_with_mean(
    first: BootstrapResult, others: Sequence[BootstrapResult], metric: ComparedMetric
) -> ComparisonResult:
    """As `compare_models`, against the mean of a metric over several models: a metric varies as its influences sum."""
    own, other = first.values[metric], float(np.mean([one.values[metric] for one in others]))
    value, clusters = own - other, first.clusters
    if not clusters.has_enough:
        return ComparisonResult(metric, MetricResult(value, None, None), None)
    if all(first.ranks_like(one) for one in others):
        return ComparisonResult(metric, MetricResult(0.0, 0.0, 0.0), 1.0)
    found = clusters.weigh(first.influences[metric] - mean_influence([one.influences[metric] for one in others]))
    # The jackknife's factor; it keeps few clusters from being too sure.
    error = math.sqrt(found.total * min(clusters.sizes) / (min(clusters.sizes) - 1.0))
    degrees = count_degrees((found.of_positives, found.of_negatives), clusters.sizes)
    if error < 1e-12:
        low, high = first.ends[metric]
        other_low, other_high = np.mean([one.ends[metric] for one in others], axis=0).tolist()
        down, up = math.hypot(own - low, other_high - other), math.hypot(high - own, other - other_low)
        return ComparisonResult(metric, MetricResult(value, value - down, value + up), 1.0)
    half = find_quantile(degrees) * error
    return ComparisonResult(metric, MetricResult(value, value - half, value + half), _find_p(value / error, degrees))


def compare_scores(
    targets: Targets,
    first: Scores,
    second: Scores,
    *,
    metric: ComparedMetric = "auroc",
    clusters: Labels | None = None,
) -> ComparisonResult:
    """Paired test of two score vectors on the same examples; the difference is first minus second.

    Args:
        targets: True for a positive.
        first: Scores of the first model.
        second: Scores of the second model.
        metric: The metric that is compared.
        clusters: Label of the cluster of each example; None: each example is one.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    scores, thresholds = {"first": first, "second": second}, {"first": 0.5, "second": 0.5}
    # None of the resampled metrics is looked at.
    results = bootstrap_models(targets, scores, thresholds, clusters=clusters, num_bootstrap=1)
    return compare_models(results["first"], results["second"], metric)


def _find_p(ratio: float, degrees: float) -> float:
    from scipy.special import stdtr

    return float(2.0 * stdtr(max(degrees, 1.0), -abs(ratio)))


def _resample(
    rankings: Mapping[str, Ranking], clusters: Clustering, num_bootstrap: int, seed: int, negative_factor: float
) -> dict[str, dict[str, Float[np.ndarray, " resamples"]]]:
    chunks = [
        {name: weigh_metrics(one, *weights, negative_factor=negative_factor) for name, one in rankings.items()}
        for weights in clusters.iter_resamples(num_bootstrap, seed)
    ]
    return {
        name: {metric: np.concatenate([chunk[name][metric] for chunk in chunks]) for metric in RESAMPLED}
        for name in rankings
    }


def _measure(
    ranking: Ranking,
    scores: tuple[Values, Values],
    clusters: Clustering,
    negative_factor: float,
    resampled: dict[str, Float[np.ndarray, " resamples"]],
) -> BootstrapResult:
    """The values of the sample, with what intervals need."""
    once = tuple(np.ones((1, len(part)), np.int64) for part in scores)
    sample = weigh_metrics(ranking, once[0], once[1], negative_factor=negative_factor)
    values = {metric: float(sample[metric][0]) for metric in METRIC_NAMES}
    return BootstrapResult(values, ranking, *scores, clusters, negative_factor, resampled)


def _bound_features(ranking: Ranking, brier: float, weights: Ends, clusters: Clustering) -> dict[str, Ends]:
    """The metrics of calls at both thresholds, and the Brier score."""
    positive, negative = np.empty_like(ranking.positive_features), np.empty_like(ranking.negative_features)
    positive[ranking.positive_order] = ranking.positive_features
    negative[ranking.negative_order] = ranking.negative_features
    at_threshold, at_half = (
        bound_called(positive[:, column], negative[:, column], weights, clusters) for column in (0, 1)
    )
    share = weights[0] / sum(weights)
    of_positive, of_negative = (errors - errors.mean() for errors in (positive[:, 2], negative[:, 2]))
    influence = Influence(share * of_positive, (1.0 - share) * of_negative)
    return {
        **at_threshold,
        **{f"{name}_at_0.5": at_half[name] for name in AT_HALF},
        "brier": bound_mean(brier, influence, clusters),
    }


def bound_called(
    called_positives: Float[np.ndarray, " positives"],
    called_negatives: Float[np.ndarray, " negatives"],
    weights: Ends,
    clusters: Clustering,
) -> dict[str, Ends]:
    """Intervals of all metrics of calls.

    Args:
        called_positives: 1 for each positive that is called, else 0.
        called_negatives: The same for the negatives.
        weights: Of all positives, and of all negatives.
        clusters: Those of the examples.
    """
    right = 1.0 - called_negatives
    shares = float(called_positives.mean()), float(right.mean())
    ends = bound_share(called_positives, clusters.positive), bound_share(right, clusters.negative)
    return bound_calls(shares, ends, weights)


def _bound_drawn(metric: str, value: float, drawn: Float[np.ndarray, " resamples"], clusters: Clustering) -> Ends:
    """Percentiles of the resamples, wider for few clusters (Hesterberg 2015), and never of no width.

    The noise of resampling looks like miscalibration, so the calibration errors of the resamples are too high: they are
    shifted down so that their mean is the value. A recall has at least the
    interval of a share with this number of clusters.
    """
    from scipy.special import ndtr

    num = min(clusters.sizes)
    if metric == "calibration_error":
        drawn = np.clip(drawn - (drawn.mean() - value), 0.0, 1.0)
    tail = float(ndtr(-find_quantile(num - 1.0) * math.sqrt(num / (num - 1.0))))
    low, high = (float(end) for end in np.quantile(drawn, [tail, 1.0 - tail]))
    if metric == "calibration_error" and low < high:
        return low, high
    least = solve_score(value, lambda q: q * (1.0 - q) / num, find_quantile(num - 1.0))
    return min(low, least[0]), max(high, least[1])
