"""Data for the figures of a report: ROC and precision-recall curves, reliability bins, score histograms."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from ebox.datasets.clusters import MIN_CLUSTERS
from ebox.evaluation.clusters import Labels
from ebox.evaluation.intervals import bound_share
from ebox.evaluation.metrics import NUM_CALIBRATION_BINS, Scores, Targets, check_scores, find_bin_edges

MAX_CURVE_POINTS = 400
NUM_HISTOGRAM_BINS = 50


def trace_roc(targets: Targets, scores: Scores, max_points: int = MAX_CURVE_POINTS) -> dict[str, list[float]]:
    """The ROC curve: x the false positive rate, y the true positive rate, from (0, 0) to (1, 1).

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    true_positives, false_positives = _count_calls(targets, scores)
    x = np.concatenate([[0.0], false_positives / false_positives[-1]])
    y = np.concatenate([[0.0], true_positives / true_positives[-1]])
    return _thin_curve(x, y, max_points)


def trace_pr(targets: Targets, scores: Scores, max_points: int = MAX_CURVE_POINTS) -> dict[str, list[float]]:
    """The precision-recall curve: x the recall, y the precision, from the highest score to recall 1.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    true_positives, false_positives = _count_calls(targets, scores)
    precision = true_positives / (true_positives + false_positives)
    return _thin_curve(true_positives / true_positives[-1], precision, max_points)


def bin_calibration(
    targets: Targets, probabilities: Scores, clusters: Labels | None = None, num_bins: int = NUM_CALIBRATION_BINS
) -> list[dict[str, float | int | None]]:
    """The reliability diagram: bins of equal mass, rising.

    Args:
        targets: True for a positive.
        probabilities: Of each example.
        clusters: Label of the cluster of each example; None: each example is one.
        num_bins: How many; fewer where many probabilities are equal.

    Returns:
        For each bin its mean probability, the share of positives, the 95 % interval of that share (`low` and `high`;
        None where the bin holds too few clusters for one), and its size.
    """
    labels = np.arange(len(targets)) if clusters is None else clusters
    bins = np.searchsorted(find_bin_edges(probabilities, num_bins), probabilities, side="right")
    return [
        _describe_bin(targets[part], probabilities[part], labels[part])
        for part in (bins == index for index in np.unique(bins))
    ]


def _describe_bin(targets: Targets, probabilities: Scores, labels: Labels) -> dict[str, float | int | None]:
    _, number = np.unique(labels, return_inverse=True)
    hits, number = targets.astype(np.float64), number.ravel()
    low, high = bound_share(hits, number) if int(number.max()) + 1 >= MIN_CLUSTERS else (None, None)
    return {
        "mean_predicted": float(probabilities.mean()),
        "fraction_positive": float(hits.mean()),
        "low": low,
        "high": high,
        "num_examples": len(targets),
    }


def count_scores(
    probabilities: dict[str, Float[np.ndarray, " _"]], num_bins: int = NUM_HISTOGRAM_BINS
) -> dict[str, list[float] | dict[str, list[int]]]:
    """Histograms of probabilities over bins of equal width from 0 to 1, one for each group of examples."""
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    counts = {name: [int(count) for count in np.histogram(values, edges)[0]] for name, values in probabilities.items()}
    return {"edges": [round(float(edge), 6) for edge in edges], "counts": counts}


def _count_calls(targets: Targets, scores: Scores) -> tuple[Int[np.ndarray, " levels"], Int[np.ndarray, " levels"]]:
    """True and false positives at each distinct score as the threshold, from the highest down."""
    check_scores(targets, scores)
    order = np.argsort(-scores)
    level_ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true_positives = np.cumsum(targets[order])[level_ends]
    return true_positives, level_ends + 1 - true_positives


def _thin_curve(
    x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"], max_points: int
) -> dict[str, list[float]]:
    """At most `max_points` of a curve, evenly along its length, with the first and the last point."""
    if len(x) > max_points:
        length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        chosen = np.searchsorted(length, np.linspace(0.0, length[-1], max_points))
        chosen = np.unique(np.concatenate([[0], np.minimum(chosen, len(x) - 1)[1:-1], [len(x) - 1]]))
        x, y = x[chosen], y[chosen]
    return {"x": [round(float(value), 6) for value in x], "y": [round(float(value), 6) for value in y]}
