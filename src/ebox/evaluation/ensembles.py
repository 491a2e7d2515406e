"""What an ensemble gains over one of its members on the same examples, and how much a distilled network keeps of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ebox.evaluation.bootstrap import BootstrapResult, bootstrap_models, compare_with_mean
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


def describe_ensemble(
    validation: SplitScores, test: SplitScores, members: MemberLogits, track: int, config: EvaluationConfig
) -> dict[str, Any] | None:
    """The section `ensemble` of a track: the test metrics of each member, and what their mean gains.

    The gain is the ensemble's metric less the mean of its members', with an interval from whole clusters, since both
    are of the same examples. A distilled network gets a gain of its own, and the share of the ensemble's that it keeps.

    Args:
        validation: The examples that choose the thresholds.
        test: The examples that are measured, with the probabilities of the network.
        members: What the members say.
        track: The column of their logits.
        config: What the thresholds maximise, and the seed.

    Returns:
        A note with `num_members`, the metrics of `members` and of the `ensemble`, the `gain`, and for a distilled
        network `distilled`; None where the test split has no metrics.
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
        "distilled": None,
    }
    if MODEL not in measured:
        return note(Members.ENSEMBLE, facts)
    own = {metric: compare_with_mean(measured[MODEL], alone, metric) for metric in COMPARED}
    facts["distilled"] = {
        "metrics": _list_values(measured[MODEL]),
        "gain": {metric: describe_comparison(result) for metric, result in own.items()},
        "kept": {metric: _share(own[metric].difference.value, gain[metric].difference.value) for metric in COMPARED},
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


def _share(part: float, whole: float) -> float | None:
    """The share of a gain; None where there is none to keep."""
    return round(part / whole, 4) if whole > 0.0 else None
