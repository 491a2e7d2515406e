"""How often 95 % intervals hold the truth, and how often equals are told apart, where examples come in groups.

nice python benchmarks/coverage.py [TRIALS]

Scores of both classes are normal, with one spread and a correlation of 0.7 within groups; there are five times as many
negatives, or as many. Only where there are 15 groups of each class: below that ebox gives no interval. What stands
beside the interval that ebox takes was tried and not taken. `exponential` is a heavy tail, where no shape fits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from ebox.datasets.clusters import MIN_CLUSTERS
from ebox.evaluation.bootstrap import ComparedMetric, bootstrap_metrics, bootstrap_models, compare_models
from ebox.evaluation.clusters import Clustering, Influence, correlate_within
from ebox.evaluation.influence import trace_auprc, trace_auroc
from ebox.evaluation.intervals import bound_auprc, bound_auroc, count_degrees, find_quantile, solve_score
from ebox.evaluation.metrics import METRIC_NAMES, auprc, compute_metrics
from machine import describe_machine, keep

TRIALS = 2000
POSITIVES, GROUPS = (20, 50, 200), (1, 3, 10)
AUROCS = (0.6, 0.8, 0.9, 0.95, 0.99)
WITHIN = 0.7
# Of all metrics: a trial costs as much as two hundred.
FEW_TRIALS, NUM_BOOTSTRAP = 400, 200
# The probability from which an example is called.
CALLED = 0.8
METRICS: tuple[ComparedMetric, ...] = ("auroc", "auprc")
Draw = tuple[np.ndarray, np.ndarray, np.ndarray]


def iter_designs(ratio: int = 5) -> Iterator[tuple[int, int, int]]:
    """Positives, negatives and examples in a group, wherever there are groups enough."""
    for num in POSITIVES:
        for group in GROUPS:
            if num // group >= MIN_CLUSTERS:
                yield num // group * group, num * ratio // group * group, group


def draw_class(generator: np.random.Generator, num: int, group: int) -> np.ndarray:
    """Unit normals, correlated within groups."""
    shared = np.repeat(generator.normal(size=num // group), group)
    return math.sqrt(WITHIN) * shared + math.sqrt(1.0 - WITHIN) * generator.normal(size=num)


def draw(generator: np.random.Generator, design: tuple[int, int, int], area: float, shape: str = "normal") -> Draw:
    """Targets, scores and labels of clusters of one sample."""
    num_positive, num_negative, group = design
    positives, negatives = draw_class(generator, num_positive, group), draw_class(generator, num_negative, group)
    if shape == "normal":
        positives = positives + math.sqrt(2.0) * ndtri(area)
    else:
        positives, negatives = -np.log(ndtr(-positives)) * area / (1.0 - area), -np.log(ndtr(-negatives))
    labels = np.concatenate([np.arange(num_positive) // group, num_positive + np.arange(num_negative) // group])
    return np.repeat([True, False], [num_positive, num_negative]), np.concatenate([positives, negatives]), labels


def by_logit(value: float, influence: Influence, clusters: Clustering) -> tuple[float, float]:
    """The logit of the value with the clustered variance and a t quantile."""
    found = clusters.weigh(influence)
    if not 0.0 < value < 1.0:
        return value, value
    quantile = find_quantile(count_degrees((found.of_positives, found.of_negatives), clusters.sizes))
    half = quantile * math.sqrt(found.total) / (value * (1.0 - value))
    middle = math.log(value / (1.0 - value))
    return 1.0 / (1.0 + math.exp(half - middle)), 1.0 / (1.0 + math.exp(-half - middle))


def by_newcombe(
    value: float, positives: np.ndarray, negatives: np.ndarray, clusters: Clustering
) -> tuple[float, float]:
    """Newcombe's fifth method (2006), with class sizes divided by the design effect of the normal scores."""
    sizes = []
    for scores, number in ((positives, clusters.positive), (negatives, clusters.negative)):
        company = len(number) / len(np.unique(number)) - 1.0
        sizes.append(len(number) / (1.0 + company * correlate_within(scores, number)))
    middle = sum(sizes) / 2.0 - 1.0

    def variance(q: float) -> float:
        return q * (1 - q) / (sizes[0] * sizes[1]) * (1 + middle * ((1 - q) / (2 - q) + q / (1 + q)))

    return solve_score(value, variance, find_quantile(min(clusters.sizes) - 1.0))


def bound_all(targets: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> dict[str, tuple[float, float]]:
    """Each candidate's interval of one sample."""
    positives, negatives = scores[targets], scores[~targets]
    clusters, alone = Clustering.of(targets, labels), Clustering.of(targets)
    found = compute_metrics(targets, scores)
    area, precision = found["auroc"], found["auprc"]
    of_area, of_precision = trace_auroc(positives, negatives), trace_auprc(positives, negatives)
    return {
        "auroc": bound_auroc(area, positives, negatives, clusters),
        "auroc, DeLong on the logit, t": by_logit(area, of_area, clusters),
        "auroc, DeLong on the logit, no clusters": by_logit(area, of_area, alone),
        "auroc, Newcombe": by_newcombe(area, positives, negatives, clusters),
        "auprc": bound_auprc(precision, of_precision, len(negatives) / len(positives), clusters),
        "auprc, on the logit, t": by_logit(precision, of_precision, clusters),
    }


@cache
def find_truth(design: tuple[int, int, int], area: float, shape: str) -> dict[str, float]:
    """What a sample of 300,000 of each class gives, weighted to the share of positives."""
    many = (300_000, 300_000, 1)
    targets, scores, _ = draw(np.random.default_rng(99), many, area, shape)
    truth = compute_metrics(targets, ndtr(scores), CALLED, negative_factor=design[1] / design[0])
    return {**truth, "auroc": area}


def cover(
    bound: Callable[..., dict[str, tuple[float, float]]],
    design: tuple[int, int, int],
    area: float,
    trials: int,
    shape: str = "normal",
) -> dict[str, Any]:
    """The share of trials whose interval holds the truth, by what is bounded."""
    generator = np.random.default_rng([*design, round(area * 100)])
    truth = find_truth(design, area, shape)
    held: dict[str, list[bool]] = {}
    for _ in range(trials):
        for name, (low, high) in bound(*draw(generator, design, area, shape)).items():
            held.setdefault(name, []).append(low <= truth[name.split(",")[0]] <= high)
    return {
        "positives": design[0], "negatives": design[1], "group": design[2], "auroc": area, "shape": shape,
        "trials": trials, "shares": {name: round(float(np.mean(each)), 4) for name, each in held.items()},
    }  # fmt: skip


def bound_metrics(targets: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> dict[str, tuple[float, float]]:
    """Every metric as an evaluation gives it, and the percentiles of resampled examples that came before."""
    probabilities = ndtr(scores)
    found = bootstrap_metrics(targets, probabilities, CALLED, clusters=labels, num_bootstrap=NUM_BOOTSTRAP)
    ends = {name: (float(result.low or 0.0), float(result.high or 0.0)) for name, result in found.items()}
    one = bootstrap_models(targets, {"m": probabilities}, {"m": CALLED}, num_bootstrap=NUM_BOOTSTRAP)["m"]
    for name in ("recall_at_10_fdr", "recall_at_50_fdr", "calibration_error"):
        low, high = np.quantile(one.resampled[name], [0.025, 0.975])
        ends[f"{name}, percentiles of examples"] = float(low), float(high)
    return ends


def compare_equals(design: tuple[int, int, int], area: float, trials: int) -> dict[str, Any]:
    """How often p is below 0.05 between two equally good models whose scores correlate by 0.7."""
    generator = np.random.default_rng([7, *design, round(area * 100)])
    p_values: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for _ in range(trials):
        targets, shared, labels = draw(generator, design, 0.5)
        first, second = (math.sqrt(0.7) * shared + math.sqrt(0.3) * draw(generator, design, 0.5)[1] for _ in range(2))
        up = math.sqrt(2.0) * ndtri(area) * targets
        scores, thresholds = {"first": first + up, "second": second + up}, {"first": 0.0, "second": 0.0}
        found = bootstrap_models(targets, scores, thresholds, clusters=labels, num_bootstrap=1)
        for metric in METRICS:
            p_value = compare_models(found["first"], found["second"], metric).p_value
            p_values[metric].append(1.0 if p_value is None else p_value)
    return {
        "positives": design[0], "negatives": design[1], "group": design[2], "auroc": area, "trials": trials,
        "shares": {metric: round(float(np.mean(np.array(each) < 0.05)), 4) for metric, each in p_values.items()},
    }  # fmt: skip


def cover_rare(design: tuple[int, int, int], area: float, odds: float, trials: int) -> dict[str, Any]:
    """The share of trials whose interval of the AUPRC at other odds holds the truth."""
    generator, held = np.random.default_rng([8, *design, round(area * 100)]), []
    truth = find_truth((1, round(odds), 1), area, "normal")["auprc"]
    for _ in range(trials):
        targets, scores, labels = draw(generator, design, area)
        factor = odds * design[0] / design[1]
        influence = trace_auprc(scores[targets], scores[~targets], factor)
        low, high = bound_auprc(auprc(targets, scores, factor), influence, odds, Clustering.of(targets, labels))
        held.append(low <= truth <= high)
    name = f"auprc at 1:{odds:.0f} from {design[1]} negatives"
    return {"design": design, "auroc": area, "trials": trials, "shares": {name: round(float(np.mean(held)), 4)}}


def summarise(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Least and greatest share by what was measured."""
    names = dict.fromkeys(name for row in rows for name in row["shares"])
    return {
        name: [f(row["shares"][name] for row in rows if name in row["shares"]) for f in (min, max)] for name in names
    }


def main() -> None:
    """Simulate, print and keep."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    few = min(trials, FEW_TRIALS)
    designs = list(iter_designs())
    facts: dict[str, Any] = {"trials": trials, "within_groups": WITHIN, "least_clusters": MIN_CLUSTERS}
    rare = [((200, 1000, 1), odds) for odds in (100.0, 1000.0)] + [
        ((1000, 10_000, 1), odds) for odds in (100.0, 1000.0)
    ]
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "normal": lambda: [cover(bound_all, design, area, trials) for design in designs for area in AUROCS],
        "equals": lambda: [compare_equals(design, area, few) for design in designs for area in AUROCS[::2]],
        "metrics": lambda: [
            cover(bound_metrics, design, area, few // 2)
            for design in ((50, 250, 1), (200, 1000, 10))
            for area in (0.8, 0.95)
        ],
        "rare": lambda: [cover_rare(design, area, odds, few) for design, odds in rare for area in (0.9, 0.99)],
        "exponential": lambda: [
            cover(bound_all, design, area, few, "exponential") for design in designs for area in AUROCS
        ],
        "as_many_negatives": lambda: [
            cover(bound_all, design, area, few) for design in iter_designs(1) for area in AUROCS
        ],
    }
    for part, measure in parts.items():
        rows = measure()
        facts[part], facts[f"{part}_rows"] = summarise(rows), rows
        print(part)
        for name, (least, most) in facts[part].items():
            print(f"  {name:<45} {least:.3f} to {most:.3f}", flush=True)
        if trials >= TRIALS:
            keep("coverage", facts)
    assert set(METRIC_NAMES) <= set(facts["metrics"])
    print(describe_machine())


if __name__ == "__main__":
    main()
