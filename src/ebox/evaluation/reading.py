"""Reading evaluation.json: how a network was measured, for those who use it in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.evaluation.prevalence import shift_log_odds
from ebox.storage import run_folder
from ebox.storage.stamps import EVALUATION, read_stamped

# Where no evaluation has chosen one.
CALL_THRESHOLD = 0.5


@dataclass(frozen=True)
class Protocol:
    """How a network was measured: the threshold of each track (None without an evaluation), and the strands.

    `shares` are the shares of positives for which the probabilities of each track hold, `prevalence` the one stated.
    """

    thresholds: tuple[float | None, ...]
    both_strands: bool
    shares: tuple[float | None, ...] = ()
    prevalence: float | None = None

    def find_shifts(self, prevalence: float | None, run: Path) -> tuple[float | None, ...]:
        """What another prevalence adds to the logits of each track; None for a track whose share is not known.

        Raises:
            InputError: a prevalence, and no track whose share is known.
        """
        if prevalence is None:
            return tuple(None for _ in self.thresholds)
        if not any(share is not None for share in self.shares):
            raise InputError(
                "probabilities at a prevalence need the share of positives for which they hold, and it isn't known",
                file=run,
                remedy=f"measure first, with validation sequences of both classes: `ebox evaluate {run}`",
            )
        return tuple(None if share is None else shift_log_odds(share, prevalence) for share in self.shares)

    def call_threshold(self, track: int) -> float:
        """The probability from which sequences are called; 0.5 without an evaluation."""
        threshold = self.thresholds[track]
        return CALL_THRESHOLD if threshold is None else threshold


@dataclass(frozen=True)
class Kept:
    """What an earlier evaluation chose for one track on validation: thresholds, and the share of positives there."""

    threshold: Mapping[str, Any]
    balanced: Mapping[str, Any]
    share: float | None


def read_kept(run: Path) -> dict[str, Kept]:
    """What the evaluation of a run chose for each track, for use without its validation data; empty without one.

    Raises:
        InputError: an evaluation of another format or version.
    """
    path = run / run_folder.EVALUATION
    tracks = read_stamped(path, EVALUATION)["tracks"] if path.exists() else []
    return {
        entry["track"]: Kept(entry["threshold"], entry["splits"]["test"]["balanced"]["threshold"], entry["share"])
        for entry in tracks
    }


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
        )
    except (KeyError, TypeError):
        raise InputError("is not an evaluation of this model", file=path, remedy=EVALUATION.remedy) from None
