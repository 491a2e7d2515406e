"""What an ensemble gains over one of its members on the same examples, and how much a distilled network keeps of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ebox.evaluation.bootstrap import (
    BootstrapResult,
    ComparedMetric,
    ComparisonResult,
    MetricResult,
    bootstrap_models,
    compare_with_mean,
)
from ebox.evaluation.clusters import Clustering, Influence, mean_influence
from ebox.evaluation.intervals import count_degrees, find_quantile
from ebox.evaluation.split_metrics import COMPARED, SplitScores, choose_threshold_of, describe_comparison, squash
from ebox.evaluation.spread import SPREAD_METRICS
from ebox.models.rising import RisingMap
from ebox.settings.reading import EvaluationConfig
from ebox.storage.names import MODEL
from ebox.storage.notes import Code, note

ENSEMBLE = "ensemble"


class Members(Code):
    """What is said of a network that has members."""

    ENSEMBLE = "ensemble"
    DISTILLED = "distilled"


@dataclass(frozen=True)
class MemberLogits:
    """The logits of each member for all rows of a dataset (NaN in training).

    `is_distilled` tells that the network that is measured is not their mean, but learned from them. `maps` calibrate
    the mean of each track, and so the members; none: no track needs one.
    """

    values: Float[np.ndarray, "members examples tracks"]
    is_distilled: bool
    maps: tuple[RisingMap | None, ...] = ()

    @staticmethod
    def of(
        held_out: Float[np.ndarray, "members some tracks"],
        rows: slice,
        num_examples: int,
        is_distilled: bool,
        maps: tuple[RisingMap | None, ...] = (),
    ) -> MemberLogits:
        """Logits of some rows among those of all.

        Args:
            held_out: The logits.
            rows: Where they belong.
            num_examples: How many rows the dataset has.
            is_distilled: Whether the measured network learned from the members.
            maps: Those of the ensemble.
        """
        values = np.full((len(held_out), num_examples, held_out.shape[2]), np.nan, np.float32)
        values[:, rows] = held_out
        return MemberLogits(values, is_distilled, maps)

    def squash(self, logits: Float[np.ndarray, "*shape"], track: int) -> Float[np.ndarray, "*shape"]:
        """The probabilities of logits of a track."""
        found = self.maps[track] if self.maps else None
        return squash(logits if found is None else found.apply(logits))


def describe_ensembles(
    validation: SplitScores,
    test: SplitScores,
    related: Bool[np.ndarray, " examples"],
    relatives: Mapping[str, Mapping[str, Any]],
    members: MemberLogits,
    track: int,
    config: EvaluationConfig,
) -> dict[str, Any] | None:
    """The section `ensemble` of a track, of the examples that figures are of, and both `with` and `without` relatives.

    Args:
        validation: The examples that choose the thresholds.
        test: All examples of the split, with the probabilities of the network.
        related: Which of them have a relative in training.
        relatives: Of each model what `part_relatives` found, which says of which examples the figures are.
        members: What the members say.
        track: The column of their logits.
        config: What the thresholds maximise, and the seed.

    Returns:
        As `describe_ensemble`, and in `relatives` the sections `with` and `without` them and which was `taken`; None
        where no example has any.
    """
    if MODEL not in relatives:
        found = describe_ensemble(validation, test, members, track, config)
        return None if found is None else {**found, "relatives": None}
    sections = {
        name: describe_ensemble(validation, part, members, track, config)
        for name, part in (("with", test), ("without", test.take(~related)))
    }
    taken = relatives[MODEL]["taken"]
    own = sections[taken]
    return None if own is None else {**own, "relatives": {"taken": taken, **sections}}


def describe_ensemble(
    validation: SplitScores, test: SplitScores, members: MemberLogits, track: int, config: EvaluationConfig
) -> dict[str, Any] | None:
    """The section `ensemble` of a track: the test metrics of each member, and what their mean gains.

    The gain is the ensemble's metric less the mean of its members', with an interval from whole clusters, since both
    are of the same examples. A distilled network gets a gain of its own, and where the ensemble's is shown the share of
    it that it keeps, with an interval.

    Args:
        validation: The examples that choose the thresholds.
        test: The examples that are measured, with the probabilities of the network.
        members: What the members say.
        track: The column of their logits.
        config: What the thresholds maximise, and the seed.

    Returns:
        A note with `num_members`, the metrics of `members` and of the `ensemble`, the `gain`, the difference from the
        first member alone (`over_first`), and for a distilled network `distilled`; None where the test split has no
        metrics.
    """
    if test.why_undefined() is not None:
        return None
    chosen, scores = (_with_members(split, members, track) for split in (validation, test))
    measured = _measure(chosen, scores, config)
    alone = [measured[_name(number)] for number in range(len(members.values))]
    gain = {metric: compare_with_mean(measured[ENSEMBLE], alone, metric) for metric in COMPARED}
    facts = {
        "num_members": len(alone),
        "members": [_list_values(one) for one in alone],
        "ensemble": _list_values(measured[ENSEMBLE]),
        "gain": {metric: describe_comparison(result) for metric, result in gain.items()},
        "over_first": _compare_all(measured[ENSEMBLE], alone[:1]),
        "distilled": None,
    }
    if MODEL not in measured:
        return note(Members.ENSEMBLE, facts)
    kept = {
        metric: _share_gain(measured[MODEL], measured[ENSEMBLE], alone, gain[metric], metric) for metric in COMPARED
    }
    facts["distilled"] = {
        "metrics": _list_values(measured[MODEL]),
        "gain": _compare_all(measured[MODEL], alone),
        "over_first": _compare_all(measured[MODEL], alone[:1]),
        "kept": {metric: None if share is None else round(share.value, 4) for metric, share in kept.items()},
        "kept_interval": {metric: None if share is None else _list_ends(share) for metric, share in kept.items()},
    }
    return note(Members.DISTILLED, facts)


def _measure(chosen: SplitScores, scores: SplitScores, config: EvaluationConfig) -> dict[str, BootstrapResult]:
    """The metrics of each member, of the ensemble, and of the network where it is distilled, at thresholds chosen."""
    thresholds = {name: choose_threshold_of(chosen, name, config.threshold)["value"] for name in scores.probabilities}
    # None of the metrics that need resamples is looked at.
    return bootstrap_models(
        scores.targets,
        scores.probabilities,
        thresholds,
        clusters=scores.clusters,
        num_bootstrap=1,
        seed=config.seed,
    )


def _compare_all(one: BootstrapResult, others: Sequence[BootstrapResult]) -> dict[str, Any]:
    """The difference of a model from the mean of others, in each metric."""
    return {metric: describe_comparison(compare_with_mean(one, others, metric)) for metric in COMPARED}


def _with_members(split: SplitScores, members: MemberLogits, track: int) -> SplitScores:
    """The examples of a split with the probabilities of the members and of their mean, and of a distilled network."""
    logits = members.values[:, split.rows, track].astype(np.float64)
    own = {MODEL: split.probabilities[MODEL]} if members.is_distilled else {}
    alone = {_name(number): members.squash(row, track) for number, row in enumerate(logits)}
    return replace(split, probabilities={**own, ENSEMBLE: members.squash(logits.mean(axis=0), track), **alone})


def _name(number: int) -> str:
    return f"member_{number}"


def _list_values(measured: BootstrapResult) -> dict[str, float]:
    return {metric: round(measured.values[metric], 6) for metric in SPREAD_METRICS}


def _share_gain(
    own: BootstrapResult,
    ensemble: BootstrapResult,
    alone: Sequence[BootstrapResult],
    gain: ComparisonResult,
    metric: ComparedMetric,
) -> MetricResult | None:
    """The share of the ensemble's gain that a network has, with its interval (Fieller 1954); None: no gain is shown.

    The interval holds each share at which the network's gain does not differ from that share of the ensemble's. Its
    ends are the zeros of a parabola, which opens upwards where the interval of the ensemble's gain lies above 0.
    """
    whole, low = gain.difference.value, gain.difference.low
    if low is None or low <= 0.0:
        return None
    base = mean_influence([one.influences[metric] for one in alone])
    first, second = own.influences[metric] - base, ensemble.influences[metric] - base
    part = own.values[metric] - float(np.mean([one.values[metric] for one in alone]))
    # The squared half-widths of the intervals of both gains, and of that of their difference.
    spread, spread_whole, spread_apart = (
        _square_half(influence, second, own.clusters) for influence in (first, second, first - second)
    )
    shared = (spread + spread_whole - spread_apart) / 2.0
    curve, middle, end = whole**2 - spread_whole, part * whole - shared, part**2 - spread
    half = math.sqrt(max(middle**2 - curve * end, 0.0))
    return MetricResult(part / whole, (middle - half) / curve, (middle + half) / curve)


def _square_half(influence: Influence, of_gain: Influence, clusters: Clustering) -> float:
    """The square of half the interval of what has this influence, by the degrees of freedom of the ensemble's gain."""
    found, reference = clusters.weigh(influence), clusters.weigh(of_gain)
    degrees = count_degrees((reference.of_positives, reference.of_negatives), clusters.sizes)
    fewest = min(clusters.sizes)
    return find_quantile(degrees) ** 2 * found.total * fewest / (fewest - 1.0)


def _list_ends(share: MetricResult) -> dict[str, float | None]:
    return {name: None if end is None else round(end, 4) for name, end in (("low", share.low), ("high", share.high))}
