"""Sets of answers that hold the right one for a stated share of each class (Mondrian split conformal, Vovk 2003)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int8

from ebox.evaluation.bootstrap import MetricResult
from ebox.evaluation.clusters import Clustering
from ebox.evaluation.intervals import bound_share
from ebox.evaluation.metrics import Scores, Targets
from ebox.storage.notes import Code, note

# What a set holds, by its number: 2 for the positive answer and 1 for the negative one, added up.
ANSWERS = ("none", "unbound", "bound", "both")
CLASSES = ("positive", "negative")


class Setless(Code):
    """Why there are no sets."""

    FEW_FOR_SET = "few_for_set"


@dataclass(frozen=True)
class Limits:
    """The positive answer is in the set from `positive` on, the negative one up to `negative` (probabilities).

    So the sets of a share `coverage` of each class hold the right answer.
    """

    coverage: float
    positive: float
    negative: float

    def facts(self) -> dict[str, float]:
        """Both limits, for evaluation.json; not rounded, since probabilities are compared with them."""
        return {"positive": self.positive, "negative": self.negative}

    def find_sets(self, probabilities: Float[np.ndarray, "*shape"]) -> Int8[np.ndarray, "*shape"]:
        """The set of each example, as a number of `ANSWERS`."""
        sets = 2 * (probabilities >= self.positive) + (probabilities <= self.negative)
        return sets.astype(np.int8)


def find_limits(
    targets: Targets, probabilities: Scores, clusters: Clustering, coverage: float
) -> tuple[Limits | None, dict[str, Any] | None]:
    """The limits from examples that the network was not trained on, or a note that says why there are none.

    The answer of a class is left out of a set where the probability is stranger to that class than all but a share
    1 - `coverage` of its known clusters, of which that of the new example counts as one more. So where the clusters are
    drawn in the same way, whatever the scores are, the set of an example of a new cluster holds the right answer with
    at least the chance `coverage`, in each class. The examples of a cluster share its weight, so that the promise holds
    for clusters of unequal sizes, too (Lee 2023).

    Args:
        targets: True for a positive.
        probabilities: Of each example.
        clusters: Those of the examples.
        coverage: The share of each class whose set is meant to hold the right answer.
    """
    sizes = clusters.num_clusters
    needed = math.ceil(coverage / (1.0 - coverage) - 1e-9)
    if min(sizes.values()) < needed:
        return None, note(Setless.FEW_FOR_SET, {**sizes, "needed": needed, "coverage": coverage})
    lowest = _find_limit(probabilities[targets], clusters.positive, coverage)
    highest = -_find_limit(-probabilities[~targets], clusters.negative, coverage)
    return Limits(coverage, lowest, highest), None


def _find_limit(scores: Scores, number: Int[np.ndarray, " examples"], coverage: float) -> float:
    """The lowest score of a class that is not left out; those below weigh at most 1 - `coverage` with the new one."""
    _, number, sizes = np.unique(number, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weights = 1.0 / sizes[number.ravel()[order]]
    num_left_out = np.count_nonzero(np.cumsum(weights) + 1.0 <= (1.0 - coverage) * (len(sizes) + 1) + 1e-9)
    return float(scores[order[num_left_out]])


def measure_sets(
    limits: Limits, targets: Targets, probabilities: Scores, clusters: Clustering
) -> dict[str, dict[str, Any]]:
    """For each class how often its sets hold the right answer, their mean size, and the share of each set.

    Args:
        limits: From `find_limits`, on other examples.
        targets: True for a positive.
        probabilities: Of each example.
        clusters: Those of the examples.
    """
    sets = limits.find_sets(probabilities.astype(np.float64))
    parts = {"positive": (sets[targets], 2, clusters.positive), "negative": (sets[~targets], 1, clusters.negative)}
    return {name: _measure_class(*part, has_enough=clusters.has_enough) for name, part in parts.items()}


def _measure_class(
    sets: Int8[np.ndarray, " examples"], own: int, number: np.ndarray, *, has_enough: bool
) -> dict[str, Any]:
    holds: Bool[np.ndarray, " examples"] = (sets & own) > 0
    value = float(holds.mean())
    low, high = bound_share(holds.astype(np.float64), number) if has_enough else (None, None)
    return {
        "coverage": MetricResult(value, low, high).to_json(),
        "mean_size": float(np.mean((sets & 1) + (sets >> 1))),
        "answers": {name: float(np.mean(sets == answer)) for answer, name in enumerate(ANSWERS)},
    }
