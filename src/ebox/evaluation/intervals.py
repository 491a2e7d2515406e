"""95 % intervals for few clusters and for values near 0 and 1: how they were chosen, benchmarks/coverage.py shows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ebox.evaluation.clusters import Clustering, Influence, Variance, correlate_within
from ebox.evaluation.metrics import weigh_calls

CONFIDENCE = 0.95
# What the shape of the variance counts against the variance that was found: as much as two clusters at 0.5.
SHAPE_WEIGHT = 2.0
NEAREST = 1e-12
Ends = tuple[float, float]


def find_quantile(degrees: float) -> float:
    """Student's t for the two tails of the interval."""
    from scipy.special import stdtrit

    return float(stdtrit(max(degrees, 1.0), 0.5 + CONFIDENCE / 2.0))


def count_degrees(variances: Ends, sizes: Ends) -> float:
    """Degrees of freedom of a sum of two estimated variances (Satterthwaite 1946).

    Args:
        variances: Of the positives, and of the negatives.
        sizes: How many clusters each was estimated from.
    """
    parts = sum(value**2 / max(size - 1.0, 1e-9) for value, size in zip(variances, sizes, strict=True))
    return sum(variances) ** 2 / parts if parts > 0 else min(sizes) - 1.0


def bound_auroc(
    value: float, positives: Float[np.ndarray, " _"], negatives: Float[np.ndarray, " _"], clusters: Clustering
) -> Ends:
    """A score interval: the values that the AUROC found does not contradict, each with the variance it would have.

    The variance at a value q is that of two normals of AUROC q, whose correlation within clusters is that of the normal
    scores found, times a factor. The factor carries the clustered DeLong variance at the value found (Obuchowski 1997);
    near 0 and 1, where that is known badly, it goes to 1. So a perfect ranking has an interval, too.

    Args:
        value: The AUROC.
        positives: Scores.
        negatives: The same.
        clusters: Those of the examples.
    """
    from ebox.evaluation.influence import trace_auroc

    shape = _shape_auroc(positives, negatives, clusters)
    inner = _keep_inside(value, 0.5 / (len(positives) * len(negatives)))
    found, supposed = clusters.weigh(trace_auroc(positives, negatives)), shape(inner)
    informed = _count_informed(supposed, inner, clusters)
    factor = _shrink(found.total / supposed.total, informed)
    quantile = find_quantile(count_degrees((supposed.of_positives, supposed.of_negatives), clusters.sizes))
    return solve_score(value, lambda q: factor * shape(q).total, quantile)


def bound_auprc(value: float, influence: Influence, odds: float, clusters: Clustering) -> Ends:
    """The same for the average precision, whose variance near 0 and 1 falls like (q (1 - q)) ** 1.5.

    Args:
        value: The average precision.
        influence: From `trace_auprc`.
        odds: Weight of all negatives over that of all positives.
        clusters: Those of the examples.
    """
    num_positive, num_negative = clusters.sizes
    scale = 1.0 / num_positive + odds / num_negative
    inner = _keep_inside(value, 0.5 / len(influence.positive))
    found = clusters.weigh(influence)

    def shape(q: float) -> float:
        return scale * (q * (1.0 - q)) ** 1.5

    factor = _shrink(found.total / shape(inner), 2.0 / scale * 4.0 * inner * (1.0 - inner))
    own = (found.of_positives, found.of_negatives)
    degrees = count_degrees(own, clusters.sizes) if sum(own) > 0 else num_positive - 1.0
    return solve_score(value, lambda q: factor * shape(q), find_quantile(degrees))


def bound_share(hits: Float[np.ndarray, " examples"], number: np.ndarray) -> Ends:
    """Wilson's interval of a share, with as many examples as the clusters are worth (Korn and Graubard 1998)."""
    share, num, num_clusters = float(hits.mean()), len(hits), len(np.unique(number))
    sums = np.bincount(number, hits - share) / num
    found = float(sums @ sums) * num_clusters / max(num_clusters - 1, 1)
    inner = _keep_inside(share, 0.5 / num)
    informed = num_clusters * 4.0 * share * (1.0 - share)
    worth = (informed * found * num_clusters / (inner * (1.0 - inner)) + SHAPE_WEIGHT) / (informed + SHAPE_WEIGHT)
    squared = find_quantile(num_clusters - 1.0) ** 2 * worth / num_clusters
    middle, half = share + squared / 2.0, math.sqrt(squared * share * (1.0 - share) + squared**2 / 4.0)
    return max((middle - half) / (1.0 + squared), 0.0), min((middle + half) / (1.0 + squared), 1.0)


def bound_mean(value: float, influence: Influence, clusters: Clustering) -> Ends:
    """An interval of a mean between 0 and 1, on the logit; where nothing varies, that of a share."""
    found = clusters.weigh(influence)
    quantile = find_quantile(count_degrees((found.of_positives, found.of_negatives), clusters.sizes))
    if found.total < NEAREST**2 or not 0.0 < value < 1.0:
        return solve_score(value, lambda q: q * (1.0 - q) / min(clusters.sizes), quantile)
    half = quantile * math.sqrt(found.total) / (value * (1.0 - value))
    middle = math.log(value / (1.0 - value))
    low, high = (1.0 / (1.0 + math.exp(min(-end, 700.0))) for end in (middle - half, middle + half))
    return low, high


def bound_calls(shares: tuple[float, float], ends: tuple[Ends, Ends], sizes: tuple[float, float]) -> dict[str, Ends]:
    """Intervals of what follows from sensitivity and specificity, from the intervals of the two (Zou and Donner 2008).

    Args:
        shares: Sensitivity and specificity.
        ends: Their intervals.
        sizes: The weight of all positives, and of all negatives.
    """
    (found, right), (of_found, of_right) = shares, ends
    sensitivity = np.array([found, *of_found, found, found])
    specificity = np.array([right, right, right, *of_right])
    every = [np.full(5, float(size)) for size in sizes]
    values = weigh_calls(sensitivity * every[0], (1.0 - specificity) * every[1], *every)
    return {name: combine_ends(five) for name, five in values.items()}


def bound_precision(shares: tuple[float, float], ends: tuple[Ends, Ends], odds: float) -> tuple[float | None, Ends]:
    """Precision where there are `odds` negatives for a positive, and its interval; None where nothing is called.

    Args:
        shares: Sensitivity and specificity.
        ends: Their intervals.
        odds: Negatives for each positive.
    """
    (found, right), (of_found, of_right) = shares, ends
    sensitivity = np.array([found, *of_found, found, found])
    false = odds * (1.0 - np.array([right, right, right, *of_right]))
    if sensitivity[0] + false[0] <= 0.0:
        return None, (0.0, 1.0)
    five = sensitivity / np.maximum(sensitivity + false, NEAREST)
    low, high = combine_ends(five)
    return float(five[0]), (max(low, 0.0), min(high, 1.0))


def combine_ends(five: Float[np.ndarray, 5]) -> Ends:
    """Ends of a quantity from its value, and its value at the low and high end of each of two shares."""
    middle, low_first, high_first, low_second, high_second = (float(value) for value in five)
    down = math.hypot(middle - low_first, middle - low_second)
    return middle - down, middle + math.hypot(high_first - middle, high_second - middle)


def solve_score(value: float, variance: Callable[[float], float], quantile: float) -> Ends:
    """The values q between 0 and 1 with |value - q| <= quantile * sqrt(variance(q))."""
    from scipy.optimize import brentq

    def excess(q: float) -> float:
        return (value - q) ** 2 - quantile**2 * variance(q)

    inner = min(max(value, 2.0 * NEAREST), 1.0 - 2.0 * NEAREST)
    ends = []
    for edge in (NEAREST, 1.0 - NEAREST):
        same = excess(edge) <= 0.0 or excess(inner) >= 0.0
        ends.append(edge if same else float(brentq(excess, edge, inner, xtol=1e-9, rtol=1e-9)))
    low, high = min(ends[0], value), max(ends[1], value)
    return (0.0 if value <= NEAREST else low), (1.0 if value >= 1.0 - NEAREST else high)


def _shape_auroc(
    positives: Float[np.ndarray, " _"], negatives: Float[np.ndarray, " _"], clusters: Clustering
) -> Callable[[float], Variance]:
    """The variance of the AUROC of two normals of one spread, for these clusters, by the AUROC."""
    alone_1, pairs_1 = _count_company(clusters.positive)
    alone_0, pairs_0 = _count_company(clusters.negative)
    within_1 = correlate_within(positives, clusters.positive)
    within_0 = correlate_within(negatives, clusters.negative)
    halves = (0.5, within_1 / 2.0, within_0 / 2.0)
    both = ((1.0 + within_0) / 2.0, (1.0 + within_1) / 2.0, (within_1 + within_0) / 2.0)
    correlations = np.array(halves + both)
    rest_1, rest_0 = 1.0 - alone_1 - pairs_1, 1.0 - alone_0 - pairs_0
    of_both = np.array([alone_1 * pairs_0, pairs_1 * alone_0, pairs_1 * pairs_0])

    def shape(q: float) -> Variance:
        joint = _find_joint(q, correlations) - q * q
        of_positives = rest_0 * (alone_1 * joint[0] + pairs_1 * joint[1])
        of_negatives = rest_1 * (alone_0 * joint[0] + pairs_0 * joint[2])
        together = alone_1 * alone_0 * (q - q * q) + float(of_both @ joint[3:])
        return Variance(float(of_positives), float(of_negatives), float(of_positives + of_negatives + together))

    return shape


def _find_joint(q: float, correlations: Float[np.ndarray, " _"]) -> Float[np.ndarray, " _"]:
    """The chance that two normals of these correlations both exceed what one exceeds with chance q (Owen 1956)."""
    from scipy.special import ndtri, owens_t

    joint: Float[np.ndarray, " _"] = q - 2.0 * owens_t(ndtri(q), np.sqrt((1.0 - correlations) / (1.0 + correlations)))
    return joint


def _count_company(number: np.ndarray) -> Ends:
    """Of all ordered pairs of examples, the share of an example with itself and with another one of its cluster."""
    sizes = np.bincount(number).astype(np.float64)
    return 1.0 / len(number), float(sizes @ (sizes - 1.0).clip(0.0)) / len(number) ** 2


def _count_informed(supposed: Variance, value: float, clusters: Clustering) -> float:
    """How many clusters at 0.5 know as much of the variance as these know at the value."""
    informed = tuple(size * 4.0 * value * (1.0 - value) + 1.0 for size in clusters.sizes)
    return count_degrees((supposed.of_positives, supposed.of_negatives), (informed[0], informed[1]))


def _shrink(factor: float, informed: float) -> float:
    return (informed * factor + SHAPE_WEIGHT) / (informed + SHAPE_WEIGHT)


def _keep_inside(value: float, margin: float) -> float:
    return min(max(value, margin), 1.0 - margin)
