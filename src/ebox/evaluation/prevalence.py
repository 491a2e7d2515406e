"""What a score means where positives are as rare as stated: precision, thresholds and probabilities at a prevalence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ebox.evaluation.bootstrap import MetricResult
from ebox.evaluation.clusters import Clustering, Labels
from ebox.evaluation.influence import Values, trace_auprc
from ebox.evaluation.intervals import Ends, bound_auprc, bound_precision, bound_share
from ebox.evaluation.metrics import Scores, Targets, auprc
from ebox.evaluation.thresholds import Criterion, choose_threshold, find_fdr_threshold
from ebox.storage.notes import Code, note

# Negatives for each positive; a genome has about 1,000.
ODDS = (1.0, 100.0, 1000.0)
# Where negatives are rarer than in the sample or more of them than this are there for each of the odds, the interval of
# the AUPRC holds; with fewer it rests on a handful of negatives (benchmarks/coverage.py, `rare`).
NEGATIVES_FOR_ODDS = 100.0


class Unreached(Code):
    """Why there is no threshold, or nothing to say about its calls."""

    FEW_NEGATIVES = "few_negatives"
    FDR_NOT_REACHED = "fdr_not_reached"
    NO_CALLS = "no_calls"
    FEW_FOR_ODDS = "few_for_odds"


@dataclass(frozen=True)
class Labelled:
    """Targets of one split, the probabilities of one model, and the clusters; None: each example is one."""

    targets: Targets
    probabilities: Scores
    clusters: Labels | None = None

    def weigh(self, odds: float) -> float:
        """The weight of the negatives at which there are `odds` of them for each positive."""
        num_positive = int(np.count_nonzero(self.targets))
        return odds * num_positive / (len(self.targets) - num_positive)

    @property
    def num_negative_clusters(self) -> int:
        """How many clusters hold a negative."""
        negative = ~self.targets
        return int(negative.sum()) if self.clusters is None else len(np.unique(self.clusters[negative]))


def shift_log_odds(share: float, prevalence: float) -> float:
    """What is added to a logit that holds where `share` of the examples are positive, for another prevalence.

    Saerens 2002, equation 2.4, on the log-odds: it is right where each class looks the same in both places.
    """
    return math.log(prevalence / (1.0 - prevalence)) - math.log(share / (1.0 - share))


def list_prevalences(stated: float | None) -> dict[float, float]:
    """Each prevalence with its odds: those of `ODDS`, and the stated one."""
    known = {1.0 / (1.0 + odds): odds for odds in ODDS}
    if stated is None or any(math.isclose(stated, one) for one in known):
        return known
    return {**known, stated: (1.0 - stated) / stated}


def choose_at(validation: Labelled, odds: float, criterion: Criterion, target_fdr: float) -> dict[str, dict[str, Any]]:
    """The thresholds for a prevalence: the best by the criterion, and the one for a false discovery rate.

    Args:
        validation: The split that chooses.
        odds: Negatives for each positive.
        criterion: What the first threshold maximises.
        target_fdr: The greatest share of false calls at the second.
    """
    targets, probabilities, factor = validation.targets, validation.probabilities, validation.weigh(odds)
    best = choose_threshold(targets, probabilities, criterion, factor)
    kept = find_fdr_threshold(targets, probabilities, target_fdr, factor, validation.clusters)
    reason = None if kept is not None else _explain(validation.num_negative_clusters, odds, target_fdr)
    return {
        "best": {"value": best, "criterion": criterion, "split": "validation", "reason": None},
        "fdr": {"value": kept, "criterion": "fdr", "split": "validation", "reason": reason},
    }


def measure_at(
    test: Labelled, clusters: Clustering, odds: float, thresholds: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """AUPRC at a prevalence, and precision and sensitivity at each threshold.

    Args:
        test: The split that is measured.
        clusters: Those of its examples.
        odds: Negatives for each positive.
        thresholds: By what they are for; without a value, their `reason` says why.
    """
    positives, negatives = (test.probabilities[part].astype(np.float64) for part in (test.targets, ~test.targets))
    factor = test.weigh(odds)
    value = auprc(test.targets, test.probabilities, factor)
    ends = bound_auprc(value, trace_auprc(positives, negatives, factor), odds, clusters)
    calls = {
        name: {"threshold": dict(threshold), **_measure_calls(positives, negatives, clusters, odds, threshold)}
        for name, threshold in thresholds.items()
    }
    found = _describe(value, ends, clusters)
    needed = NEGATIVES_FOR_ODDS * odds
    if factor <= 1.0 + 1e-9 or clusters.num_clusters["negative"] >= needed:
        return {"odds": odds, "auprc": found, "no_interval": None, "calls": calls}
    about = {"negative": clusters.num_clusters["negative"], "needed": math.ceil(needed), "odds": odds}
    unknown = {**found, "low": None, "high": None}
    return {"odds": odds, "auprc": unknown, "no_interval": note(Unreached.FEW_FOR_ODDS, about), "calls": calls}


def _measure_calls(
    positives: Values, negatives: Values, clusters: Clustering, odds: float, threshold: Mapping[str, Any]
) -> dict[str, Any]:
    if threshold["value"] is None:
        return {"precision": None, "sensitivity": None, "reason": threshold["reason"]}
    called, right = positives >= threshold["value"], negatives < threshold["value"]
    shares = float(called.mean()), float(right.mean())
    ends = (
        bound_share(called.astype(np.float64), clusters.positive),
        bound_share(right.astype(np.float64), clusters.negative),
    )
    precision, of_precision = bound_precision(shares, ends, odds)
    return {
        "precision": None if precision is None else _describe(precision, of_precision, clusters),
        "sensitivity": _describe(shares[0], ends[0], clusters),
        "reason": note(Unreached.NO_CALLS) if precision is None else None,
    }


def _describe(value: float, ends: Ends, clusters: Clustering) -> dict[str, float | None]:
    low, high = (min(ends[0], value), max(ends[1], value)) if clusters.has_enough else (None, None)
    return MetricResult(value, low, high).to_json()


def _explain(num_negative: int, odds: float, fdr: float) -> dict[str, Any]:
    # Every positive found, and one cluster of negatives counted.
    needed = math.ceil(odds * (1.0 - fdr) / fdr - 1e-9)
    about = {"fdr": fdr, "num_negative": num_negative, "needed": needed, "odds": odds}
    return note(Unreached.FEW_NEGATIVES if num_negative < needed else Unreached.FDR_NOT_REACHED, about)
