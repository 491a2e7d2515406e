"""Reading evaluation.json: how a network was measured, for those who use it in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ebox.datasets.folder import UNKNOWN_TARGET
from ebox.errors import InputError
from ebox.evaluation.conformal import Limits
from ebox.evaluation.prevalence import Labelled, shift_log_odds
from ebox.storage import run_folder
from ebox.storage.notes import Code, note
from ebox.storage.publishing import read_json
from ebox.storage.stamps import EVALUATION, read_stamped

# Where no evaluation has chosen one.
CALL_THRESHOLD = 0.5


class Shareless(Code):
    """Why the share of positives is not known for which probabilities hold."""

    BY_TEMPERATURE = "calibrated_by_temperature"
    NOT_CALIBRATED = "not_calibrated"


@dataclass(frozen=True)
class Protocol:
    """How a network was measured: the threshold of each track (None without an evaluation), and the strands.

    `shares` are the shares of positives for which the probabilities of each track hold, `prevalence` the one stated,
    `limits` those of the sets of answers of each track, and `coverages` the share of each class on test whose sets held
    the right answer.
    """

    thresholds: tuple[float | None, ...]
    both_strands: bool
    shares: tuple[float | None, ...] = ()
    prevalence: float | None = None
    limits: tuple[Limits | None, ...] = ()
    coverages: tuple[dict[str, float] | None, ...] = ()

    def find_shifts(self, prevalence: float | None, run: Path | None) -> tuple[float | None, ...]:
        """What another prevalence adds to the logits of each track; None for a track whose share is not known.

        Args:
            prevalence: The share of positives; none: nothing is added.
            run: The run that is asked for it; none: no track has to have a share.

        Raises:
            InputError: a prevalence, and no track of the run whose share is known.
        """
        if prevalence is None:
            return tuple(None for _ in self.thresholds)
        if run is not None and not any(share is not None for share in self.shares):
            raise InputError(
                "probabilities at a prevalence need the share of positives for which they hold, and it isn't known",
                file=run,
                remedy=f"measure first, with validation sequences of both classes: `ebox evaluate {run}`; where that "
                "finds no share, train again, calibrated by platt or isotonic (--set train.calibrate_by=platt)",
            )
        shares = self.shares or tuple(None for _ in self.thresholds)
        return tuple(None if share is None else shift_log_odds(share, prevalence) for share in shares)

    def call_threshold(self, track: int) -> float:
        """The probability from which sequences are called; 0.5 without an evaluation."""
        threshold = self.thresholds[track]
        return CALL_THRESHOLD if threshold is None else threshold


@dataclass(frozen=True)
class Kept:
    """What an earlier evaluation chose for one track on validation: thresholds, the share of positives there, sets."""

    threshold: Mapping[str, Any]
    balanced: Mapping[str, Any]
    share: float | None
    limits: Limits | None = None


def read_kept(run: Path) -> dict[str, Kept]:
    """What the evaluation of a run chose for each track, for use without its validation data; empty without one.

    Raises:
        InputError: an evaluation of another format or version.
    """
    path = run / run_folder.EVALUATION
    tracks = read_stamped(path, EVALUATION)["tracks"] if path.exists() else []
    return {
        entry["track"]: Kept(
            entry["threshold"], entry["splits"]["test"]["balanced"]["threshold"], entry["share"], _read_limits(entry)
        )
        for entry in tracks
    }


def find_shareless(run: Path, tracks: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """For each track whose probabilities hold for no known share of positives, the note why.

    Only a calibration that moves the logits makes them hold for the share of validation; otherwise they are as training
    left them, which sampled and weighted its examples. An older ebox named no method; it was Platt's.
    """
    path = run / run_folder.TRAINING
    facts = read_json(path).get("calibration", []) if path.exists() else []
    found, entries = {}, {entry["track"]: entry for entry in facts}
    for track in tracks:
        entry = entries.get(track)
        if entry is None or entry.get("reason") is not None:
            found[track] = note(Shareless.NOT_CALIBRATED)
        elif entry.get("method", "platt") == "temperature":
            found[track] = note(Shareless.BY_TEMPERATURE)
    return found


def read_protocol(run: Path, tracks: tuple[str, ...]) -> Protocol:
    """How the network of a run was measured; both strands and no threshold where it was not.

    Raises:
        InputError: an evaluation of another format or version, or of another model.
    """
    path = run / run_folder.EVALUATION
    if not path.exists():
        return Protocol(tuple(None for _ in tracks), both_strands=True)
    facts = read_stamped(path, EVALUATION)
    try:
        found = {entry["track"]: entry for entry in facts["tracks"]}
        return Protocol(
            tuple(found[track]["threshold"]["value"] for track in tracks),
            bool(facts["config"]["both_strands"]),
            tuple(found[track]["share"] for track in tracks),
            facts["config"]["prevalence"],
            tuple(_read_limits(found[track]) for track in tracks),
            tuple(_read_coverage(found[track]) for track in tracks),
        )
    except (KeyError, TypeError):
        raise InputError("is not an evaluation of this model", file=path, remedy=EVALUATION.remedy) from None


def read_validation(run: Path, track: str) -> Labelled:
    """The known targets, probabilities and clusters of the validation examples that have no relative in training.

    The evaluation of a run wrote them.

    Raises:
        InputError: there are none of both classes, or the file is damaged.
    """
    import polars as pl

    path, target, probability = run / run_folder.PREDICTIONS, f"target_{track}", f"probability_{track}"
    remedy = f"measure again, with validation sequences of both classes: `ebox evaluate {run}`"
    if not path.exists():
        raise InputError("is missing; it holds the validation scores", file=path, remedy=remedy)
    try:
        table = pl.read_parquet(path, columns=["split", target, probability, "cluster", "related"])
    except (pl.exceptions.PolarsError, OSError) as error:
        problem = str(error).partition("\n")[0]
        raise InputError(f"is not a table of predictions of {track}: {problem}", file=path, remedy=remedy) from None
    chosen = (pl.col("split") == "validation") & (pl.col(target) != UNKNOWN_TARGET) & ~pl.col("related")
    targets, probabilities, clusters = (
        table.filter(chosen)[name].to_numpy() for name in (target, probability, "cluster")
    )
    if len(np.unique(targets)) < 2:
        raise InputError(
            f"holds no validation scores of both classes of {track} without relatives in training",
            file=path,
            remedy=remedy,
        )
    return Labelled(targets == 1, probabilities, clusters.astype(np.int64))


def _read_coverage(track: Mapping[str, Any]) -> dict[str, float] | None:
    """How often the sets of each class held the right answer on test; None where it was not measured."""
    measured = (track.get("sets") or {}).get("test")
    return None if measured is None else {name: entry["coverage"]["value"] for name, entry in measured.items()}


def _read_limits(track: Mapping[str, Any]) -> Limits | None:
    """The limits of the sets of a track; None where there are none, as in an evaluation by an older ebox."""
    sets = track.get("sets")
    if sets is None or sets["limits"] is None:
        return None
    return Limits(sets["coverage"], sets["limits"]["positive"], sets["limits"]["negative"])
