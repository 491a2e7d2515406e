"""Metrics of a binary classifier, exact with ties, from scores sorted once and weighted many times.

Each function of targets and scores raises InputError for one class only, a score that is not finite, or lengths that
differ. At or above the threshold an example is called positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ebox.errors import InputError

# In the order in which a report shows them.
METRIC_NAMES = (
    "auroc",
    "auprc",
    "accuracy",
    "accuracy_at_0.5",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "mcc",
    "mcc_at_0.5",
    "recall_at_10_fdr",
    "recall_at_50_fdr",
    "brier",
    "calibration_error",
)
NUM_CALIBRATION_BINS = 15
FALSE_DISCOVERY_RATES = {"recall_at_10_fdr": 0.1, "recall_at_50_fdr": 0.5}
Targets = Bool[np.ndarray, " examples"]
Scores = Float[np.ndarray, " examples"]


@dataclass(frozen=True)
class Ranking:
    """The scores of one model on one set of examples, sorted once, so that each metric is a weighted sum.

    Positives and negatives are each in order of falling score; `positive_order` and `negative_order` are their places
    in the order of the examples. For each positive, `num_tied_positives` counts the positives with at least its score,
    `num_above` the negatives with a greater score, `num_not_below` the negatives with at least its score. The features:
    called positive at the threshold, called positive at 0.5, squared error, then for each calibration bin a residual,
    then whether an example is in it.
    """

    positive_order: Int[np.ndarray, " positives"]
    negative_order: Int[np.ndarray, " negatives"]
    num_tied_positives: Int[np.ndarray, " positives"]
    num_above: Int[np.ndarray, " positives"]
    num_not_below: Int[np.ndarray, " positives"]
    positive_features: Float[np.ndarray, "positives features"]
    negative_features: Float[np.ndarray, "negatives features"]


def check_scores(targets: Targets, scores: Scores) -> None:
    """Raise InputError unless every score is finite and both classes are there."""
    if len(targets) != len(scores):
        raise InputError(f"there are {len(targets)} targets and {len(scores)} scores")
    num_missing = int(np.count_nonzero(~np.isfinite(scores)))
    if num_missing:
        raise InputError(
            f"{num_missing} of {len(scores)} scores are not finite numbers",
            remedy="predict every example that is evaluated; a training that diverged also gives NaN",
        )
    check_classes(targets, "those measured")


def check_classes(targets: Targets, place: str) -> None:
    """Raise InputError unless there are positives and negatives; `place` names the examples in the message."""
    num_positive = int(np.count_nonzero(targets))
    if 0 < num_positive < len(targets):
        return
    found = f"only {'positive' if num_positive else 'negative'} ones" if len(targets) else "no examples"
    raise InputError(
        f"positive and negative examples are needed, and in {place} there are {found}",
        remedy="choose splits or chromosomes with both classes",
    )


def rank_scores(targets: Targets, probabilities: Scores, threshold: float = 0.5) -> Ranking:
    """Sort the scores of one model, once for all metrics and all resamples."""
    check_scores(targets, probabilities)
    # A threshold between two neighbouring float32 numbers needs float64.
    probabilities = probabilities.astype(np.float64)
    positives, negatives = probabilities[targets], probabilities[~targets]
    positive_order, negative_order = np.argsort(-positives), np.argsort(-negatives)
    falling_positives, falling_negatives = -positives[positive_order], -negatives[negative_order]
    edges = find_bin_edges(probabilities, NUM_CALIBRATION_BINS)
    return Ranking(
        positive_order=positive_order,
        negative_order=negative_order,
        num_tied_positives=np.searchsorted(falling_positives, falling_positives, side="right"),
        num_above=np.searchsorted(falling_negatives, falling_positives, side="left"),
        num_not_below=np.searchsorted(falling_negatives, falling_positives, side="right"),
        positive_features=_make_features(-falling_positives, 1.0, threshold, edges),
        negative_features=_make_features(-falling_negatives, 0.0, threshold, edges),
    )


def weigh_metrics(
    ranking: Ranking,
    positive_weights: Int[np.ndarray, "resamples positives"],
    negative_weights: Int[np.ndarray, "resamples negatives"],
    *,
    negative_factor: float = 1.0,
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """Every metric of METRIC_NAMES under each row of weights.

    Args:
        ranking: From `rank_scores`.
        positive_weights: How often each positive counts, in the order of the examples.
        negative_weights: The same for the negatives.
        negative_factor: A weight on all negatives: positives / negatives gives the metrics of a 1:1 sample.
    """
    positive_weights = np.take(positive_weights, ranking.positive_order, axis=1)
    negative_weights = np.take(negative_weights, ranking.negative_order, axis=1)
    num_positive = positive_weights.sum(axis=1).astype(np.float64)
    num_negative = negative_weights.sum(axis=1) * float(negative_factor)
    positive_sums = positive_weights @ ranking.positive_features
    negative_sums = (negative_weights @ ranking.negative_features) * negative_factor
    total = num_positive + num_negative
    metrics = _weigh_order(ranking, positive_weights, negative_weights, negative_factor)
    metrics |= weigh_calls(positive_sums[:, 0], negative_sums[:, 0], num_positive, num_negative)
    at_half = weigh_calls(positive_sums[:, 1], negative_sums[:, 1], num_positive, num_negative)
    metrics |= {f"{name}_at_0.5": at_half[name] for name in ("accuracy", "mcc")}
    metrics["brier"] = (positive_sums[:, 2] + negative_sums[:, 2]) / total
    (positive_gaps, positives), (negative_gaps, negatives) = (
        np.split(sums[:, 3:], 2, axis=1) for sums in (positive_sums, negative_sums)
    )
    metrics["calibration_error"] = _sum_gaps(positive_gaps + negative_gaps, positives, negatives) / total
    return {name: metrics[name] for name in METRIC_NAMES}


def compute_metrics(
    targets: Targets, probabilities: Scores, threshold: float = 0.5, *, negative_factor: float = 1.0
) -> dict[str, float]:
    """Every metric of METRIC_NAMES; each example counts once.

    Args:
        targets: True for a positive.
        probabilities: Of each example.
        threshold: Of the calls.
        negative_factor: A weight on all negatives: positives / negatives gives the metrics of a 1:1 sample.
    """
    ranking = rank_scores(targets, probabilities, threshold)
    positive_weights = np.ones((1, len(ranking.positive_order)), np.int64)
    negative_weights = np.ones((1, len(ranking.negative_order)), np.int64)
    metrics = weigh_metrics(ranking, positive_weights, negative_weights, negative_factor=negative_factor)
    return {name: float(values[0]) for name, values in metrics.items()}


def auroc(targets: Targets, scores: Scores) -> float:
    """Area under the receiver operating characteristic: the chance that a positive has a higher score than a negative.

    A tie counts one half (Hanley and McNeil 1982). Only the order of the scores matters.
    """
    return compute_metrics(targets, scores)["auroc"]


def auprc(targets: Targets, scores: Scores, negative_factor: float = 1.0) -> float:
    """Area under the precision-recall curve as average precision: no interpolation, ties taken together.

    With `negative_factor` negatives weigh more: 200 gives that of 1:1,000 from a sample of 1:5.
    """
    return compute_metrics(targets, scores, negative_factor=negative_factor)["auprc"]


def recall_at_fdr(targets: Targets, scores: Scores, fdr: float) -> float:
    """Greatest share of positives found at a threshold where at most a share `fdr` of the calls are false."""
    ranking = rank_scores(targets, scores)
    precision = ranking.num_tied_positives / (ranking.num_tied_positives + ranking.num_not_below)
    found = np.where(_is_precise(precision, fdr), ranking.num_tied_positives, 0)
    return float(found.max() / len(found))


def accuracy(targets: Targets, probabilities: Scores, threshold: float = 0.5) -> float:
    """Share of the examples whose call is correct."""
    return compute_metrics(targets, probabilities, threshold)["accuracy"]


def balanced_accuracy(targets: Targets, probabilities: Scores, threshold: float = 0.5) -> float:
    """Mean of sensitivity and specificity: the expected accuracy where both classes are equally frequent."""
    return compute_metrics(targets, probabilities, threshold)["balanced_accuracy"]


def mcc(targets: Targets, probabilities: Scores, threshold: float = 0.5) -> float:
    """Matthews correlation of calls and targets; 0 where all calls are the same (Matthews 1975)."""
    return compute_metrics(targets, probabilities, threshold)["mcc"]


def brier(targets: Targets, probabilities: Scores) -> float:
    """Mean squared difference of probability and target (Brier 1950)."""
    return compute_metrics(targets, probabilities)["brier"]


def calibration_error(targets: Targets, probabilities: Scores) -> float:
    """Expected calibration error over 15 bins of equal mass (Naeini 2015; equal mass: Nixon 2019), without its bias.

    Equal probabilities share a bin, so there are fewer bins where many are equal. What chance adds to the gaps is taken
    off (after Kumar 2019). What is taken off is right in the mean of squares alone: of few examples the value is often
    exactly 0, which proves nothing, and else too high where probabilities are right, too low where they are wrong
    (docs/evaluation.md).
    """
    return compute_metrics(targets, probabilities)["calibration_error"]


def weigh_calls(
    true_positives: Float[np.ndarray, " resamples"],
    false_positives: Float[np.ndarray, " resamples"],
    num_positive: Float[np.ndarray, " resamples"],
    num_negative: Float[np.ndarray, " resamples"],
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """The metrics of confusion matrices of (weighted) counts; a correlation of 0 / 0 is 0.

    Args:
        true_positives: Positives that are called.
        false_positives: Negatives that are called.
        num_positive: All positives.
        num_negative: All negatives.
    """
    true_negatives, false_negatives = num_negative - false_positives, num_positive - true_positives
    called, not_called = true_positives + false_positives, true_negatives + false_negatives
    squared = called * not_called * num_positive * num_negative
    covariance = true_positives * true_negatives - false_positives * false_negatives
    sensitivity, specificity = true_positives / num_positive, true_negatives / num_negative
    return {
        "accuracy": (true_positives + true_negatives) / (num_positive + num_negative),
        "balanced_accuracy": (sensitivity + specificity) / 2.0,
        "mcc": np.where(squared > 0, covariance / np.sqrt(np.maximum(squared, 1e-12)), 0.0),
        "sensitivity": sensitivity,
        "specificity": specificity,
    }


def find_bin_edges(probabilities: Scores, num_bins: int) -> Float[np.ndarray, " edges"]:
    """The inner edges of bins of equal mass; each edge is the lowest probability of its bin."""
    starts = np.arange(1, num_bins) * len(probabilities) // num_bins
    return np.unique(np.sort(probabilities)[starts])


def _sum_gaps(
    gaps: Float[np.ndarray, "resamples bins"],
    positives: Float[np.ndarray, "resamples bins"],
    negatives: Float[np.ndarray, "resamples bins"],
) -> Float[np.ndarray, " resamples"]:
    """The sum of the absolute gaps of bins, times the share of their size that noise doesn't explain.

    Noise adds its variance to the mean square of a gap, which can be taken off without a bias (Kumar 2019).

    Args:
        gaps: Sum of probability less target in each bin.
        positives: Weight of the positives in each bin.
        negatives: Weight of the negatives in each bin.
    """
    noise = (positives * negatives / np.maximum(positives + negatives - 1.0, 1.0)).sum(axis=1)
    squares = np.maximum((gaps**2).sum(axis=1), 1e-12)
    total: Float[np.ndarray, " resamples"] = np.abs(gaps).sum(axis=1) * np.sqrt(np.maximum(1.0 - noise / squares, 0.0))
    return total


def _weigh_order(
    ranking: Ranking,
    positive_weights: Int[np.ndarray, "resamples positives"],
    negative_weights: Int[np.ndarray, "resamples negatives"],
    negative_factor: float,
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """AUROC, average precision and recall at each false discovery rate; weights are in order of falling score."""
    passed = np.zeros((len(negative_weights), negative_weights.shape[1] + 1), np.int32)
    np.cumsum(negative_weights, axis=1, out=passed[:, 1:])
    not_below = np.take(passed, ranking.num_not_below, axis=1)
    above = np.take(passed, ranking.num_above, axis=1)
    found = np.cumsum(positive_weights, axis=1, dtype=np.int32)
    found = np.take(found, ranking.num_tied_positives - 1, axis=1)
    num_positive, num_negative = found[:, -1].astype(np.float64), passed[:, -1].astype(np.float64)
    # Avoids 0 / 0 for a positive that was not drawn and has nothing above it; its weight is 0.
    precision = found / np.maximum(found + negative_factor * not_below, 1e-12)
    # In float64, since sums of pairs exceed 2^31.
    losses = np.einsum("bp,bp->b", positive_weights, above + not_below.astype(np.float64))
    metrics = {
        "auroc": 1.0 - losses / (2.0 * num_positive * num_negative),
        "auprc": np.einsum("bp,bp->b", positive_weights, precision) / num_positive,
    }
    for name, fdr in FALSE_DISCOVERY_RATES.items():
        metrics[name] = np.where(_is_precise(precision, fdr), found, 0).max(axis=1) / num_positive
    return metrics


def _is_precise(precision: Float[np.ndarray, ...], fdr: float) -> Bool[np.ndarray, ...]:
    """Whether the share of false discoveries is at most `fdr`; the tolerance lets a rounded 9 of 10 pass at 0.1."""
    return precision >= 1.0 - fdr - 1e-12


def _make_features(
    probabilities: Float[np.ndarray, " examples"], target: float, threshold: float, edges: Float[np.ndarray, " edges"]
) -> Float[np.ndarray, "examples features"]:
    """The features of a `Ranking`, which are summed with weights for calls, Brier score and calibration error."""
    num_bins = len(edges) + 1
    features = np.zeros((len(probabilities), 3 + 2 * num_bins))
    features[:, 0] = probabilities >= threshold
    features[:, 1] = probabilities >= 0.5
    features[:, 2] = (probabilities - target) ** 2
    bins = np.searchsorted(edges, probabilities, side="right")
    rows = np.arange(len(probabilities))
    features[rows, 3 + bins] = probabilities - target
    features[rows, 3 + num_bins + bins] = 1.0
    return features
