"""Data for the figures of a report: ROC and precision-recall curves, reliability bins, score histograms."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

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
    targets: Targets, probabilities: Scores, num_bins: int = NUM_CALIBRATION_BINS
) -> list[dict[str, float]]:
    """The reliability diagram: mean probability, share of positives and size of each bin of equal mass."""
    bins = np.searchsorted(find_bin_edges(probabilities, num_bins), probabilities, side="right")
    return [
        {
            "mean_predicted": float(probabilities[bins == index].mean()),
            "fraction_positive": float(targets[bins == index].mean()),
            "num_examples": int(np.count_nonzero(bins == index)),
        }
        for index in np.unique(bins)
    ]


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
