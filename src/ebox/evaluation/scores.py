"""Scores of sequences of any length: read in windows, the best window counts, one row for each sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int8, Int64, UInt8

from ebox.evaluation.conformal import ANSWERS, Limits
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

    `spread` is the standard deviation of the members' logits, which a distilled network estimates; as the logits it is
    of what the model's maps make of them. `members` are the logits of each member before the maps. Both are none for a
    plain network.
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
        calibrated = np.stack([model.calibrate(member) for member in members])
        return ModelLogits(model.calibrate(members.mean(axis=0)), calibrated.std(axis=0, ddof=1), members)
    logits = how(model.network, codes)
    if model.spread is None:
        return ModelLogits(model.calibrate(logits))
    spread = np.exp(how(model.spread, codes))
    if any(model.maps):
        spread = 0.5 * (model.calibrate(logits + spread) - model.calibrate(logits - spread))
    return ModelLogits(model.calibrate(logits), spread)


@dataclass(frozen=True)
class ScoresResult:
    """Scores of sequences, one row for each.

    `logits` are of the best window where a sequence is longer than the network reads. `windows` is the 0-based start of
    that window; negative where the sequence was padded. `shifts` are what a stated prevalence adds to the logits of
    each track; None where that isn't known. `limits` are those of the sets of answers, `fdr_thresholds` those at which
    at most a share `target_fdr` of the calls is false at the prevalence; None for a track without one. `spreads` are
    the standard deviations of the logits of an ensemble's members on the same window; None for a plain network.
    `coverages` are how often the sets of each class held the right answer on test, and `fdr_reasons` the notes why a
    track has no threshold in `fdr_thresholds`.
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
    limits: tuple[Limits | None, ...] = ()
    fdr_thresholds: tuple[float | None, ...] = ()
    target_fdr: float | None = None
    spreads: Float[np.ndarray, "sequence track"] | None = None
    coverages: tuple[dict[str, float] | None, ...] = ()
    fdr_reasons: tuple[dict[str, Any] | None, ...] = ()

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
        return self._call(self.thresholds)

    @property
    def calls_at_fdr(self) -> Int8[np.ndarray, "sequence track"] | None:
        """The same at the thresholds for the false discovery rate; None where none is stated."""
        return None if self.target_fdr is None else self._call(self.fdr_thresholds)

    @property
    def sets(self) -> Int8[np.ndarray, "sequence track"] | None:
        """The set of answers of each sequence, as a number of `conformal.ANSWERS`; -1 where a call would be.

        None where no track has limits.
        """
        if not any(self.limits):
            return None
        columns = zip(self.probabilities.T, self.limits, strict=True)
        sets = [np.full(len(self.names), -1) if limits is None else limits.find_sets(one) for one, limits in columns]
        return np.where(self._is_one_window, np.stack(sets, axis=1), -1).astype(np.int8)

    @property
    def _is_one_window(self) -> Bool[np.ndarray, "sequence 1"]:
        return (self.lengths <= self.length_bp)[:, None]

    def _call(self, thresholds: Sequence[float | None]) -> Int8[np.ndarray, "sequence track"]:
        least = np.array([np.nan if value is None else value for value in thresholds])
        calls = (self.probabilities >= least).astype(np.int8)
        return np.where(~np.isnan(least)[None] & self._is_one_window, calls, -1).astype(np.int8)


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
    columns = _list_columns(result)
    with publish_file(out, overwrite=overwrite) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write("\t".join(columns) + "\n")
        stream.writelines("\t".join(cells) + "\n" for cells in zip(*columns.values(), strict=True))


def _list_columns(result: ScoresResult) -> dict[str, Iterable[str]]:
    """The cells of each column of the table; those of an optional one where it was asked for, or can be given."""
    columns: dict[str, Iterable[str]] = {
        "name": (" ".join(name.split()) for name in result.names),
        "length_bp": map(str, result.lengths.tolist()),
    }
    optional = {
        "probability_at_prevalence": (result.probabilities_at_prevalence, _format_rare),
        "set": (result.sets, _name_set),
        "call_at_fdr": (result.calls_at_fdr, _format_call),
        "logit_spread": (result.spreads, "{:.5f}".format),
    }
    for number, track in enumerate(result.tracks):
        columns |= {
            f"{track}_window_start": map(str, result.windows[:, number].tolist()),
            f"{track}_logit": map("{:.5f}".format, result.logits[:, number].tolist()),
            f"{track}_probability": map("{:.6f}".format, result.probabilities[:, number].tolist()),
            f"{track}_call": map(_format_call, result.calls[:, number].tolist()),
        }
        for name, (values, form) in optional.items():
            if values is not None:
                columns[f"{track}_{name}"] = map(form, values[:, number].tolist())
    return columns


def _format_call(call: int) -> str:
    return "" if call < 0 else str(call)


def _name_set(answers: int) -> str:
    return "" if answers < 0 else ANSWERS[answers]


def _format_rare(probability: float) -> str:
    return "" if np.isnan(probability) else f"{probability:.3g}"


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
