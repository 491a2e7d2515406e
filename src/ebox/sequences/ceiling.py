"""The best that any method can reach where the truth is known: the exact likelihood ratio as a classifier."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from ebox.errors import InputError

# Quantile of the normal distribution for a 95 % interval.
_DEVIATIONS = 1.959963984540054


@dataclass(frozen=True)
class CeilingMetric:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CeilingResult:
    """Accuracy and AUROC of the likelihood ratio: no classifier can expect more (Neyman and Pearson 1933)."""

    accuracy: CeilingMetric
    auroc: CeilingMetric
    num_examples: int

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "method": "likelihood_ratio"}


def measure_ceiling(
    log_ratios: Float64[np.ndarray, " batch"], is_positive: Bool[np.ndarray, " batch"]
) -> CeilingResult:
    """Measure the likelihood ratio as a classifier, its threshold at the ratio of the class sizes.

    The interval of the accuracy is Wilson's (1927), that of the AUROC is DeLong's (1988), computed from ranks (Sun
    and Xu 2014).

    Args:
        log_ratios: Natural logarithm of the likelihood ratio; infinities are allowed, NaN is not.
        is_positive: Which examples are positive.

    Raises:
        InputError: one class is missing.
    """
    num_positive = int(is_positive.sum())
    num_negative = len(is_positive) - num_positive
    if num_positive == 0 or num_negative == 0:
        raise InputError("a ceiling needs examples of both classes")
    is_called = log_ratios > np.log(num_negative / num_positive)
    accuracy = _interval_of_share(int((is_called == is_positive).sum()), len(is_positive))
    return CeilingResult(accuracy, _measure_auroc(log_ratios, is_positive), len(is_positive))


def _interval_of_share(hits: int, total: int) -> CeilingMetric:
    share, spread = hits / total, _DEVIATIONS**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = _DEVIATIONS / (1 + spread) * np.sqrt(share * (1 - share) / total + spread / (4 * total))
    return CeilingMetric(share, max(float(centre - half), 0.0), min(float(centre + half), 1.0))


def _measure_auroc(scores: Float64[np.ndarray, " batch"], is_positive: Bool[np.ndarray, " batch"]) -> CeilingMetric:
    """For each positive the share of negatives below it, and for each negative the share of positives above it."""
    # Ratios that differ only by rounding are ties.
    _, levels = np.unique(scores.round(9), return_inverse=True)
    positives, negatives = levels[is_positive], levels[~is_positive]
    above = _share_below(positives, negatives)
    below = 1 - _share_below(negatives, positives)
    auroc = float(above.mean())
    variance = _variance_of_mean(above) + _variance_of_mean(below)
    half = _DEVIATIONS * float(np.sqrt(variance))
    return CeilingMetric(auroc, max(auroc - half, 0.0), min(auroc + half, 1.0))


def _share_below(levels: Int[np.ndarray, " some"], others: Int[np.ndarray, " others"]) -> Float64[np.ndarray, " some"]:
    ordered = np.sort(others)
    left = np.searchsorted(ordered, levels, side="left")
    right = np.searchsorted(ordered, levels, side="right")
    return (left + right) / (2.0 * len(others))


def _variance_of_mean(values: Float64[np.ndarray, " some"]) -> float:
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
