"""The decision threshold, which is chosen on validation data."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from ebox.evaluation.metrics import Scores, Targets, check_scores, weigh_calls

Criterion = Literal["accuracy", "balanced_accuracy", "mcc"]


def choose_threshold(targets: Targets, probabilities: Scores, criterion: Criterion = "accuracy") -> float:
    """The threshold that maximises the criterion; an example at or above it is called positive.

    Candidates are the midpoints between neighbouring probabilities, one below all and one above all; of equally good
    candidates the nearest to 0.5 is chosen.

    Raises:
        InputError: one class only, a score that is not finite, or lengths that differ.
    """
    check_scores(targets, probabilities)
    levels, level_of_example = np.unique(probabilities.astype(np.float64), return_inverse=True)
    positives_below = _count_below(level_of_example[targets], len(levels))
    negatives_below = _count_below(level_of_example[~targets], len(levels))
    scores = _score_calls(positives_below, negatives_below, criterion)
    candidates = _place_between(levels)
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(candidates[best[np.argmin(np.abs(candidates[best] - 0.5))]])


def _count_below(levels: np.ndarray, num_levels: int) -> Float[np.ndarray, " candidates"]:
    """Examples below each candidate: below all levels, then after each of them."""
    counts = np.bincount(levels, minlength=num_levels)
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
