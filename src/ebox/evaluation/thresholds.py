"""The decision threshold, which is chosen on validation data."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from ebox.evaluation.clusters import Labels
from ebox.evaluation.metrics import Scores, Targets, check_scores, weigh_calls

Criterion = Literal["accuracy", "balanced_accuracy", "mcc"]


def choose_threshold(
    targets: Targets, probabilities: Scores, criterion: Criterion = "accuracy", negative_factor: float = 1.0
) -> float:
    """The threshold that maximises the criterion; an example at or above it is called positive.

    Candidates are the midpoints between neighbouring probabilities, one below all and one above all; of equally good
    candidates the nearest to 0.5 is chosen.

    Args:
        targets: True for a positive.
        probabilities: Of each example.
        criterion: What is maximised.
        negative_factor: Weight of all negatives.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    check_scores(targets, probabilities)
    levels, level_of_example = np.unique(probabilities.astype(np.float64), return_inverse=True)
    positives_below = _count_below(level_of_example[targets], len(levels))
    negatives_below = _count_below(level_of_example[~targets], len(levels)) * negative_factor
    scores = _score_calls(positives_below, negatives_below, criterion)
    candidates = _place_between(levels)
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(candidates[best[np.argmin(np.abs(candidates[best] - 0.5))]])


def find_fdr_threshold(
    targets: Targets,
    probabilities: Scores,
    fdr: float,
    negative_factor: float = 1.0,
    clusters: Labels | None = None,
) -> float | None:
    """The lowest threshold at which at most a share `fdr` of the calls is expected to be false; None where none is.

    The negatives of a cluster share its weight, and one cluster more than was found counts as called, so that the
    promise holds for negatives of new clusters, too (Barber and Candès 2015); with too few clusters of negatives no
    threshold can keep it.

    Args:
        targets: True for a positive.
        probabilities: Of each example.
        fdr: The greatest share of false calls.
        negative_factor: Weight of all negatives.
        clusters: Label of the cluster of each example; None: each example is one.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    check_scores(targets, probabilities)
    levels, level_of_example = np.unique(probabilities.astype(np.float64), return_inverse=True)
    labels = np.arange(len(targets)) if clusters is None else clusters
    _, number, sizes = np.unique(labels[~targets], return_inverse=True, return_counts=True)
    below = _count_below(level_of_example[targets], len(levels))
    found = below[-1] - below[:-1]
    clusters_below = _count_below(level_of_example[~targets], len(levels), 1.0 / sizes[number.ravel()])
    share = (clusters_below[-1] - clusters_below[:-1] + 1.0) / len(sizes)
    false = share * len(number.ravel()) * negative_factor
    kept = np.flatnonzero(false <= (fdr + 1e-12) * (found + false))
    return float(_place_between(levels)[kept[0]]) if len(kept) else None


def _count_below(
    levels: np.ndarray, num_levels: int, weights: Float[np.ndarray, " examples"] | None = None
) -> Float[np.ndarray, " candidates"]:
    """Examples, or their weights, below each candidate: below all levels, then after each of them."""
    counts = np.bincount(levels, weights, minlength=num_levels)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)


def _place_between(levels: Float[np.ndarray, " levels"]) -> Float[np.ndarray, " candidates"]:
    """Thresholds between neighbouring levels; a midpoint that rounds down to the lower level moves to the upper one."""
    middles = levels[:-1] + (levels[1:] - levels[:-1]) / 2.0
    middles = np.where(middles > levels[:-1], middles, levels[1:])
    above_all = np.nextafter(levels[-1], np.inf)
    return np.concatenate([[levels[0]], middles, [above_all]])


def _score_calls(
    positives_below: Float[np.ndarray, " candidates"],
    negatives_below: Float[np.ndarray, " candidates"],
    criterion: Criterion,
) -> Float[np.ndarray, " candidates"]:
    """The criterion at each candidate; all examples are below the last candidate."""
    calls = weigh_calls(
        positives_below[-1] - positives_below,
        negatives_below[-1] - negatives_below,
        np.broadcast_to(positives_below[-1], positives_below.shape),
        np.broadcast_to(negatives_below[-1], negatives_below.shape),
    )
    return calls[criterion]
