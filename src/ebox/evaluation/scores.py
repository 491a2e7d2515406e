"""Scores of sequences of any length: read in windows, the best window counts, one row for each sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int8, Int64, UInt8

from ebox.evaluation.inference import predict, predict_members
from ebox.evaluation.split_metrics import squash
from ebox.evaluation.windows import cut_windows, plan_windows
from ebox.models.ensemble import Ensemble
from ebox.progress import Progress, quiet
from ebox.storage.publishing import publish_file

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from ebox.models.files import LoadedModel
    from ebox.sequences import SequenceSet

BLOCK_WINDOWS = 65_536


@dataclass(frozen=True)
class ModelLogits:
    """What a model says of sequences: its logits, and for an ensemble or a distilled network how sure it is.

    `spread` is the standard deviation of the members' logits, which a distilled network estimates. `members` are the
    logits of each member. Both are none for a plain network.
    """

    logits: Float[np.ndarray, "example track"]
    spread: Float[np.ndarray, "example track"] | None = None
    members: Float[np.ndarray, "member example track"] | None = None


def predict_model(
    model: LoadedModel,
    codes: UInt8[np.ndarray, "example length"],
    *,
    both_strands: bool = True,
    batch_size: int = 512,
    mesh: Mesh | None = None,
    progress: Progress = quiet,
) -> ModelLogits:
    """What a model says of sequences of the length that it reads.

    Args:
        model: The model of a run.
        codes: As for `predict`.
        both_strands: As for `predict`; the spread is then that of the averaged logits.
        batch_size: As for `predict`.
        mesh: As for `predict`.
        progress: As for `predict`.
    """
    how = partial(predict, both_strands=both_strands, batch_size=batch_size, mesh=mesh, progress=progress)
    if isinstance(model.network, Ensemble):
        members = predict_members(
            model.network, codes, both_strands=both_strands, batch_size=batch_size, mesh=mesh, progress=progress
        )
        return ModelLogits(members.mean(axis=0), members.std(axis=0, ddof=1), members)
    spread = None if model.spread is None else np.exp(how(model.spread, codes))
    return ModelLogits(how(model.network, codes), spread)


@dataclass(frozen=True)
class ScoresResult:
    """Scores of sequences, one row for each.

    `logits` are of the best window where a sequence is longer than the network reads. `windows` is the 0-based start of
    that window; negative where the sequence was padded. `shifts` are what a stated prevalence adds to the logits of
    each track; None where that isn't known. `spreads` are the standard deviations of the logits of an ensemble's
    members on the same window; None for a plain network.
    """

    names: tuple[str, ...]
    lengths: Int64[np.ndarray, " sequence"]
    tracks: tuple[str, ...]
    length_bp: int
    logits: Float[np.ndarray, "sequence track"]
    windows: Int64[np.ndarray, "sequence track"]
    thresholds: tuple[float | None, ...]
    num_padded: int
    num_windowed: int
    path: Path | None = None
    shifts: tuple[float | None, ...] = ()
    prevalence: float | None = None
    spreads: Float[np.ndarray, "sequence track"] | None = None

    @property
    def probabilities(self) -> Float[np.ndarray, "sequence track"]:
        """Sigmoid of the logits."""
        return squash(self.logits)

    @property
    def probabilities_at_prevalence(self) -> Float[np.ndarray, "sequence track"] | None:
        """Sigmoid of the logits moved to the stated prevalence (Saerens 2002); None where none is stated."""
        if self.prevalence is None:
            return None
        shifts = [np.nan if shift is None else shift for shift in self.shifts]
        return squash(self.logits.astype(np.float64) + np.array(shifts))

    @property
    def calls(self) -> Int8[np.ndarray, "sequence track"]:
        """1 at or above the threshold, 0 below it; -1 where there is no threshold, or more than one window was read.

        The threshold was chosen for one window; the best of many windows may reach it by chance.
        """
        thresholds = np.array([np.nan if value is None else value for value in self.thresholds])
        calls = (self.probabilities >= thresholds).astype(np.int8)
        known = ~np.isnan(thresholds)[None] & (self.lengths <= self.length_bp)[:, None]
        return np.where(known, calls, -1).astype(np.int8)


def score_sequences(
    model: LoadedModel,
    sequences: SequenceSet,
    thresholds: tuple[float | None, ...],
    mesh: Mesh,
    *,
    both_strands: bool = True,
    progress: Progress = quiet,
) -> ScoresResult:
    """Score sequences of any length.

    Args:
        model: The trained network.
        sequences: The sequences.
        thresholds: For each track the least probability of a called sequence; None: none is called.
        mesh: The devices.
        both_strands: Average the logits of both strands.
        progress: Called with a phrase, the number done, and the number in all.
    """
    windows = plan_windows(sequences.lengths, model.length_bp)
    best = np.full((len(sequences), len(model.tracks)), -np.inf, np.float32)
    places, spreads = np.zeros(best.shape, np.int64), np.zeros(best.shape, np.float32)
    has_spread = False
    for first in range(0, len(windows.owner), BLOCK_WINDOWS):
        block = slice(first, first + BLOCK_WINDOWS)
        codes = cut_windows(sequences, windows.owner[block], windows.start[block], model.length_bp)
        found = predict_model(model, codes, both_strands=both_strands, mesh=mesh)
        for track, rows, chosen in _find_better(best, windows.owner[block], windows.start[block], found.logits):
            best[rows, track] = found.logits[chosen, track]
            places[rows, track] = windows.start[block][chosen]
            if found.spread is not None:
                has_spread, spreads[rows, track] = True, found.spread[chosen, track]
        progress("predicting", min(first + BLOCK_WINDOWS, len(windows.owner)), len(windows.owner))
    return ScoresResult(
        names=tuple(sequences.names),
        lengths=np.asarray(sequences.lengths, np.int64),
        tracks=model.tracks,
        length_bp=model.length_bp,
        logits=best,
        windows=places,
        thresholds=thresholds,
        num_padded=int((sequences.lengths < model.length_bp).sum()),
        num_windowed=int((sequences.lengths > model.length_bp).sum()),
        spreads=spreads if has_spread else None,
    )


def write_scores(result: ScoresResult, out: Path, *, overwrite: bool = True) -> None:
    """Publish the scores as a tab-separated table, one row for each sequence, in the order of the file.

    `out` and `overwrite` are as for `publish_file`.
    """
    header = ["name", "length_bp"]
    for track in result.tracks:
        header += [f"{track}_window_start", f"{track}_logit", f"{track}_probability", f"{track}_call"]
        header += [] if result.prevalence is None else [f"{track}_probability_at_prevalence"]
        header += [] if result.spreads is None else [f"{track}_logit_spread"]
    probabilities, calls, moved = result.probabilities, result.calls, result.probabilities_at_prevalence
    with publish_file(out, overwrite=overwrite) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write("\t".join(header) + "\n")
        for row, name in enumerate(result.names):
            cells = [" ".join(name.split()), str(result.lengths[row])]
            for column in range(len(result.tracks)):
                cells += [
                    str(result.windows[row, column]),
                    f"{result.logits[row, column]:.5f}",
                    f"{probabilities[row, column]:.6f}",
                    "" if calls[row, column] < 0 else str(calls[row, column]),
                ]
                if moved is not None:
                    cells.append("" if np.isnan(moved[row, column]) else f"{moved[row, column]:.3g}")
                if result.spreads is not None:
                    cells.append(f"{result.spreads[row, column]:.5f}")
            stream.write("\t".join(cells) + "\n")


def _find_better(
    best: np.ndarray, owner: np.ndarray, start: np.ndarray, logits: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each track the sequences with a window of a greater logit than their best, and that window of each.

    Of windows that are equal the first one counts.
    """
    for track in range(logits.shape[1]):
        # Sorted by owner, then by falling logit: the first window of each owner is its best.
        order = np.lexsort((start, -logits[:, track], owner))
        owners, first = np.unique(owner[order], return_index=True)
        chosen = order[first]
        better = logits[chosen, track] > best[owners, track]
        yield track, owners[better], chosen[better]
