"""Sections of evaluation.json: metrics of a split, of each kind of negative, of a 1:1 sample; figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from ebox.datasets.clusters import MIN_CLUSTERS, count_clusters, has_enough
from ebox.evaluation.bootstrap import (
    BootstrapResult,
    ComparedMetric,
    ComparisonResult,
    bootstrap_models,
    compare_models,
)
from ebox.evaluation.clusters import Clustering
from ebox.evaluation.curves import bin_calibration, count_scores, trace_pr, trace_roc
from ebox.evaluation.prevalence import Labelled, choose_at, list_prevalences, measure_at
from ebox.evaluation.thresholds import Criterion, choose_threshold
from ebox.settings.reading import EvaluationConfig
from ebox.storage.names import MODEL
from ebox.storage.notes import Code, note

# On a 1:1 sample the AUROC, sensitivity and specificity are what they are on all examples.
BALANCED_METRICS = ("auprc", "accuracy", "mcc")
# The verdict on a network needs both.
COMPARED: tuple[ComparedMetric, ...] = ("auroc", "auprc")


class Unmeasured(Code):
    """Why nothing can be measured on the examples of a split."""

    NO_EXAMPLES = "no_examples"
    NO_NEGATIVES = "no_negatives"
    NO_POSITIVES = "no_positives"


class NoInterval(Code):
    """Why metrics have no interval, and a comparison no p-value."""

    FEW_CLUSTERS = "few_clusters"


@dataclass(frozen=True)
class SplitScores:
    """The examples of one split with a known target of one track, and their probabilities from each model."""

    rows: Int64[np.ndarray, " examples"]
    targets: Bool[np.ndarray, " examples"]
    kinds: np.ndarray
    clusters: Int64[np.ndarray, " examples"]
    probabilities: dict[str, np.ndarray]

    def take(self, chosen: Bool[np.ndarray, " examples"]) -> SplitScores:
        """The chosen examples."""
        probabilities = {name: values[chosen] for name, values in self.probabilities.items()}
        rows, targets, kinds = self.rows[chosen], self.targets[chosen], self.kinds[chosen]
        return SplitScores(rows, targets, kinds, self.clusters[chosen], probabilities)

    @property
    def num_clusters(self) -> dict[str, int]:
        """How many clusters hold a positive, and how many a negative."""
        return count_clusters(self.clusters, self.targets)

    def why_no_interval(self) -> dict[str, Any] | None:
        """A note that says how many clusters there are and how many are needed, or None where there are enough."""
        num_clusters = self.num_clusters
        enough = has_enough(num_clusters)
        return None if enough else note(NoInterval.FEW_CLUSTERS, {**num_clusters, "needed": MIN_CLUSTERS})

    def why_undefined(self) -> dict[str, Any] | None:
        """A note that says why no metric can be given, or None where all can."""
        num_positive = int(np.count_nonzero(self.targets))
        if 0 < num_positive < len(self.targets):
            return None
        if not len(self.targets):
            return note(Unmeasured.NO_EXAMPLES)
        return note(Unmeasured.NO_NEGATIVES if num_positive else Unmeasured.NO_POSITIVES)


def choose_threshold_of(validation: SplitScores, model: str, criterion: Criterion) -> dict[str, Any]:
    """The threshold of a model, or 0.5 where validation cannot choose one."""
    reason = validation.why_undefined()
    if reason is not None:
        return {"value": 0.5, "criterion": None, "split": None, "reason": reason}
    value = choose_threshold(validation.targets, validation.probabilities[model], criterion)
    return {"value": value, "criterion": criterion, "split": "validation", "reason": None}


def measure_split(
    scores: SplitScores,
    thresholds: Mapping[str, dict[str, Any]],
    balanced: Mapping[str, dict[str, Any]],
    config: EvaluationConfig,
) -> tuple[dict[str, dict[str, Any]], dict[str, BootstrapResult]]:
    """Describe a split for each model, and return the resamples that comparisons need.

    Args:
        scores: The examples of the split.
        thresholds: Of each model, from `choose_threshold_of`.
        balanced: The same for a 1:1 sample.
        config: Number of resamples, and the seed.
    """
    sections, samples = _measure(scores, thresholds, config)
    kinds = [kind for kind in np.unique(scores.kinds.astype(str)) if kind != "positive"]
    for kind in kinds:
        of_kind = scores.take(scores.targets | (scores.kinds == kind))
        parts = sections if len(kinds) == 1 else _measure(of_kind, thresholds, config)[0]
        for model, part in parts.items():
            keys = ("num_examples", "num_positive", "num_clusters", "metrics", "reason", "no_interval")
            sections[model].setdefault("by_kind", {})[str(kind)] = {key: part[key] for key in keys}
    for model, part in _measure_balanced(scores, balanced, config).items():
        sections[model].setdefault("by_kind", {})
        sections[model]["balanced"] = part
    return sections, samples


def part_relatives(
    test: SplitScores,
    related: Bool[np.ndarray, " examples"],
    thresholds: Mapping[str, dict[str, Any]],
    config: EvaluationConfig,
) -> tuple[SplitScores, dict[str, dict[str, Any]]]:
    """Measure the test split with and without the relatives of training examples, and choose what the figures are of.

    They are of all examples, unless the AUROC of the network without relatives is lower by more than half the width of
    the interval with them.

    Args:
        test: The examples of the split.
        related: Which of them have a relative in training.
        thresholds: Of each model, from `choose_threshold_of`.
        config: Number of resamples, and the seed.

    Returns:
        The examples that the figures are of, and for each model `num_relatives`, the sections `with` and `without`
        them, and `taken`, the one that was chosen; no models where there are no relatives.
    """
    if not related.any():
        return test, {}
    without = test.take(~related)
    sections = {name: _measure(part, thresholds, config)[0] for name, part in (("with", test), ("without", without))}
    taken = "without" if _flatters(sections["with"][MODEL], sections["without"][MODEL]) else "with"
    num = int(related.sum())
    facts = {
        model: {"num_relatives": num, **{name: part[model] for name, part in sections.items()}, "taken": taken}
        for model in test.probabilities
    }
    return without if taken == "without" else test, facts


def _flatters(whole: Mapping[str, Any], without: Mapping[str, Any]) -> bool:
    """Whether relatives raise the AUROC by more than half the width of its interval, if it has one."""
    if whole["metrics"] is None or without["metrics"] is None:
        return False
    auroc = whole["metrics"]["auroc"]
    half = 0.0 if auroc["low"] is None else (auroc["high"] - auroc["low"]) / 2.0
    return bool(auroc["value"] - without["metrics"]["auroc"]["value"] > half)


def _measure(
    scores: SplitScores, thresholds: Mapping[str, dict[str, Any]], config: EvaluationConfig
) -> tuple[dict[str, dict[str, Any]], dict[str, BootstrapResult]]:
    """Sizes and metrics with intervals for each model; metrics are None, with a reason, where undefined."""
    samples: dict[str, BootstrapResult] = {}
    if scores.why_undefined() is None:
        samples = _bootstrap(scores, thresholds, config)
    sections = {
        model: {
            "num_examples": len(scores.targets),
            "num_positive": int(np.count_nonzero(scores.targets)),
            "num_clusters": scores.num_clusters,
            "metrics": _describe_metrics(samples[model]) if model in samples else None,
            "reason": scores.why_undefined(),
            "no_interval": scores.why_no_interval(),
        }
        for model in scores.probabilities
    }
    return sections, samples


def _measure_balanced(
    scores: SplitScores, thresholds: Mapping[str, dict[str, Any]], config: EvaluationConfig
) -> dict[str, dict[str, Any]]:
    """The metrics of a 1:1 sample of the split: all examples, with equal weight for positives and negatives."""
    reason = scores.why_undefined()
    if reason is not None:
        return {
            model: {"threshold": thresholds[model], "metrics": None, "reason": reason} for model in scores.probabilities
        }
    num_positive = int(np.count_nonzero(scores.targets))
    # None of the metrics that need resamples is among them.
    few = config.model_copy(update={"num_bootstrap": 1})
    samples = _bootstrap(scores, thresholds, few, num_positive / (len(scores.targets) - num_positive))
    return {
        model: {
            "threshold": thresholds[model],
            "metrics": {name: _describe_metrics(sample)[name] for name in BALANCED_METRICS},
            "reason": None,
        }
        for model, sample in samples.items()
    }


def _bootstrap(
    scores: SplitScores,
    thresholds: Mapping[str, dict[str, Any]],
    config: EvaluationConfig,
    negative_factor: float = 1.0,
) -> dict[str, BootstrapResult]:
    return bootstrap_models(
        scores.targets,
        scores.probabilities,
        {model: thresholds[model]["value"] for model in scores.probabilities},
        clusters=scores.clusters,
        num_bootstrap=config.num_bootstrap,
        seed=config.seed,
        negative_factor=negative_factor,
    )


def _describe_metrics(sample: BootstrapResult) -> dict[str, dict[str, float | None]]:
    return {name: round_numbers(result.to_json()) for name, result in sample.intervals().items()}


def compare_with_best(samples: Mapping[str, dict[str, BootstrapResult]]) -> dict[str, Any] | None:
    """Compare the model on test with the baseline of the highest AUROC on validation."""
    candidates = [name for name in samples["validation"] if name != MODEL]
    if not candidates or MODEL not in samples["test"]:
        return None
    best = max(candidates, key=lambda name: samples["validation"][name].values["auroc"])
    own, other = samples["test"][MODEL], samples["test"][best]
    results = {metric: compare_models(own, other, metric) for metric in COMPARED}
    return {
        "baseline": best,
        "split": "test",
        "tests": {metric: describe_comparison(result) for metric, result in results.items()},
    }


def describe_comparison(result: ComparisonResult) -> dict[str, Any]:
    """A difference with its interval, and its p-value."""
    return {
        "difference": round_numbers(result.difference.to_json()),
        "p_value": None if result.p_value is None else float(f"{result.p_value:.3g}"),
    }


def measure_prevalences(
    validation: SplitScores,
    test: SplitScores,
    thresholds: Mapping[str, dict[str, Any]],
    config: EvaluationConfig,
) -> dict[str, list[dict[str, Any]]]:
    """For each model what it would do on test where positives are as rare as in `list_prevalences`.

    Args:
        validation: The examples that choose thresholds: those of the split that have no relative in training. Without
            both classes there is only the threshold in use.
        test: The split that is measured; without both classes there is nothing.
        thresholds: Those in use, of each model.
        config: The stated prevalence, the target false discovery rate and the criterion.
    """
    if test.why_undefined() is not None:
        return {model: [] for model in test.probabilities}
    of_test = Clustering.of(test.targets, test.clusters)
    can_choose = validation.why_undefined() is None
    found: dict[str, list[dict[str, Any]]] = {}
    for model, values in test.probabilities.items():
        found[model] = []
        for prevalence, odds in list_prevalences(config.prevalence).items():
            chosen: dict[str, dict[str, Any]] = {"used": thresholds[model]}
            if can_choose:
                known = Labelled(validation.targets, validation.probabilities[model], validation.clusters)
                chosen |= choose_at(known, odds, config.threshold, config.target_fdr)
            measured = measure_at(Labelled(test.targets, values), of_test, odds, chosen)
            found[model].append({"prevalence": prevalence, **round_numbers(measured)})
    return found


def describe_figures(test: SplitScores) -> dict[str, Any]:
    """Curves, reliability bins and score histograms of the test split."""
    if test.why_undefined() is not None:
        return {"curves": None, "calibration": None, "histogram": None}
    kinds = sorted(set(test.kinds), key=lambda kind: (kind != "positive", kind))
    return {
        "curves": {
            "roc": {name: trace_roc(test.targets, values) for name, values in test.probabilities.items()},
            "pr": {name: trace_pr(test.targets, values) for name, values in test.probabilities.items()},
        },
        "calibration": [
            round_numbers(item) for item in bin_calibration(test.targets, test.probabilities[MODEL], test.clusters)
        ],
        "histogram": count_scores({str(kind): test.probabilities[MODEL][test.kinds == kind] for kind in kinds}),
    }


def squash(logits: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The logistic function, without overflow; exact enough that only logits above 30 can tie."""
    small = np.exp(-np.abs(logits.astype(np.float64)))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def round_numbers(value: Any) -> Any:
    """The same facts with every broken number rounded."""
    if isinstance(value, Mapping):
        return {name: round_numbers(each) for name, each in value.items()}
    return round(value, 6) if isinstance(value, float) else value
