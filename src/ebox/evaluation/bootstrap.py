"""Bootstrap intervals of metrics, and the paired test of two models on the same examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from ebox.errors import InputError
from ebox.evaluation.metrics import METRIC_NAMES, Ranking, Scores, Targets, rank_scores, weigh_metrics
from ebox.storage.names import MODEL

CONFIDENCE = 0.95
# Weights of one chunk of resamples: 4 million counts of 8 bytes.
CHUNK_COUNTS = 4_000_000


@dataclass(frozen=True)
class MetricResult:
    """A metric with its bootstrap 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The three numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class ComparisonResult:
    """Difference of a metric between two models on the same examples, first minus second."""

    metric: str
    difference: MetricResult
    p_value: float
    num_bootstrap: int


@dataclass(frozen=True)
class BootstrapResult:
    """Metrics of one model: of the sample, and of each resample."""

    values: dict[str, float]
    resampled: dict[str, Float[np.ndarray, " resamples"]]

    def interval(self, metric: str) -> MetricResult:
        """The metric with its percentile interval (Efron and Tibshirani 1993, chapter 13), which contains the value.

        The noise of resampling looks like miscalibration, so the calibration errors of the resamples are too high: they
        are shifted down so that their mean is the value.
        """
        value, resampled = self.values[metric], self.resampled[metric]
        if metric == "calibration_error":
            resampled = np.clip(resampled - (resampled.mean() - value), 0.0, 1.0)
        return _find_interval(value, resampled)

    def intervals(self) -> dict[str, MetricResult]:
        """Every metric with its interval."""
        return {metric: self.interval(metric) for metric in self.values}


def bootstrap_metrics(
    targets: Targets, probabilities: Scores, threshold: float = 0.5, *, num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, MetricResult]:
    """Every metric of METRIC_NAMES with its 95 % interval, from resamples stratified by class.

    Args:
        targets: True for a positive.
        probabilities: Of each example.
        threshold: A probability at or above it is called positive.
        num_bootstrap: How many resamples.
        seed: For the resamples.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    results = bootstrap_models(
        targets, {MODEL: probabilities}, {MODEL: threshold}, num_bootstrap=num_bootstrap, seed=seed
    )
    return results[MODEL].intervals()


def bootstrap_models(
    targets: Targets,
    probabilities: Mapping[str, Scores],
    thresholds: Mapping[str, float],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
    negative_factor: float = 1.0,
) -> dict[str, BootstrapResult]:
    """Bootstrap several models on the same resamples of the same examples.

    Args:
        targets: True for a positive.
        probabilities: Of each model, by name.
        thresholds: Of each model; a probability at or above it is called positive.
        num_bootstrap: How many resamples; each has the same number of positives and of negatives as the sample.
        seed: The same seed gives the same resamples for all models.
        negative_factor: Weight of all negatives; positives / negatives gives the metrics of a 1:1 sample.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    rankings = {name: rank_scores(targets, scores, thresholds[name]) for name, scores in probabilities.items()}
    num_positive = int(np.count_nonzero(targets))
    num_negative = len(targets) - num_positive
    once = np.ones((1, num_positive), np.int64), np.ones((1, num_negative), np.int64)
    sample = _weigh_all(rankings, *once, negative_factor)
    chunks = [
        _weigh_all(rankings, *weights, negative_factor)
        for weights in iter_resamples(num_positive, num_negative, num_bootstrap, seed)
    ]
    return {
        name: BootstrapResult(
            values={metric: float(sample[name][metric][0]) for metric in METRIC_NAMES},
            resampled={metric: np.concatenate([chunk[name][metric] for chunk in chunks]) for metric in METRIC_NAMES},
        )
        for name in rankings
    }


def compare_models(first: BootstrapResult, second: BootstrapResult, metric: str) -> ComparisonResult:
    """Test on the same resamples whether two models differ in a metric, in either direction.

    The p-value is twice the smaller share of resamples on either side of no difference. The sample itself is counted on
    both sides, so that the p-value is never below 2 / (num_bootstrap + 1).
    """
    differences = first.resampled[metric] - second.resampled[metric]
    num_bootstrap = len(differences)
    num_smaller_side = min(np.count_nonzero(differences <= 0.0), np.count_nonzero(differences >= 0.0))
    return ComparisonResult(
        metric=metric,
        difference=_find_interval(first.values[metric] - second.values[metric], differences),
        p_value=float(min(1.0, 2.0 * (num_smaller_side + 1) / (num_bootstrap + 1))),
        num_bootstrap=num_bootstrap,
    )


def compare_scores(
    targets: Targets,
    first: Scores,
    second: Scores,
    *,
    metric: Literal["auroc", "auprc"] = "auroc",
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> ComparisonResult:
    """Paired bootstrap test of two score vectors on the same examples; the difference is first minus second.

    Args:
        targets: True for a positive.
        first: Scores of the first model.
        second: Scores of the second model.
        metric: The metric that is compared.
        num_bootstrap: How many resamples.
        seed: For the resamples.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    scores, thresholds = {"first": first, "second": second}, {"first": 0.5, "second": 0.5}
    results = bootstrap_models(targets, scores, thresholds, num_bootstrap=num_bootstrap, seed=seed)
    return compare_models(results["first"], results["second"], metric)


def iter_resamples(
    num_positive: int, num_negative: int, num_bootstrap: int, seed: int
) -> Iterator[tuple[Int[np.ndarray, "resamples positives"], Int[np.ndarray, "resamples negatives"]]]:
    """Chunks of resamples stratified by class: how often each positive and each negative was drawn.

    Args:
        num_positive: Positives in the sample and in each resample.
        num_negative: The same for negatives.
        num_bootstrap: Resamples in all chunks; at least one.
        seed: For the draws.
    """
    if num_bootstrap < 1:
        raise InputError(f"num_bootstrap is {num_bootstrap}, and at least one resample is needed")
    generator = np.random.Generator(np.random.Philox(seed))
    chunk = max(1, CHUNK_COUNTS // (num_positive + num_negative))
    for start in range(0, num_bootstrap, chunk):
        rows = min(chunk, num_bootstrap - start)
        yield _draw_counts(generator, rows, num_positive), _draw_counts(generator, rows, num_negative)


def _draw_counts(generator: np.random.Generator, rows: int, size: int) -> Int[np.ndarray, "rows size"]:
    drawn = generator.integers(size, size=(rows, size)) + np.arange(rows)[:, None] * size
    counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
    # Counts are small, and sorting int16 takes a third of the time.
    return counts.astype(np.int16)


def _weigh_all(
    rankings: Mapping[str, Ranking],
    positive_weights: Int[np.ndarray, "resamples positives"],
    negative_weights: Int[np.ndarray, "resamples negatives"],
    negative_factor: float,
) -> dict[str, dict[str, Float[np.ndarray, " resamples"]]]:
    return {
        name: weigh_metrics(ranking, positive_weights, negative_weights, negative_factor=negative_factor)
        for name, ranking in rankings.items()
    }


def _find_interval(value: float, resampled: Float[np.ndarray, " resamples"]) -> MetricResult:
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return MetricResult(value, min(float(low), value), max(float(high), value))
