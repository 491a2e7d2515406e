"""Score new sequences with a trained network: any length in, one row a sequence out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int8, Int64

from ebox.errors import InputError
from ebox.evaluation.windows import cut_windows, plan_windows
from ebox.progress import Progress
from ebox.storage.publishing import publish_file, read_json

if TYPE_CHECKING:
    pass

BLOCK_WINDOWS = 65_536


@dataclass(frozen=True)
class PredictionResult:
    """Scores of sequences, one row each.

    `logits` is (sequence, track): of the best window where a sequence is longer than the network reads.
    `windows` is (sequence, track): the 0-based start of that window; negative where the sequence was padded.
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

    @property
    def probabilities(self) -> Float[np.ndarray, "sequence track"]:
        """Sigmoid of the logits."""
        return 1.0 / (1.0 + np.exp(-self.logits.astype(np.float64)))

    @property
    def calls(self) -> Int8[np.ndarray, "sequence track"]:
        """1 at or above the threshold, 0 below it; -1 where there is no threshold, or more than one window was read.

        The threshold was chosen for one window. The best of many passes it by chance.
        """
        thresholds = np.array([np.nan if value is None else value for value in self.thresholds])
        calls = (self.probabilities >= thresholds).astype(np.int8)
        known = ~np.isnan(thresholds)[None] & (self.lengths <= self.length_bp)[:, None]
        return np.where(known, calls, -1).astype(np.int8)


def predict(
    run: str | os.PathLike[str],
    fasta: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    platform: str = "auto",
    progress: Progress | None = None,
) -> PredictionResult:
    """Score the sequences of a file.

    A longer sequence is read in windows that overlap by three quarters, and its best window counts; it is not called,
    since the threshold was chosen for one window. A shorter one is padded with N on both sides. Both strands are read
    and averaged, unless the run was evaluated on one.

    Args:
        run: A run folder with a trained model.
        fasta: FASTA, or a table with a column `sequence`.
        out: A tab-separated file to write; none: only the result.
        platform: auto, cpu, gpu or tpu.
        progress: Called with a phrase, the number done, and the number in all.

    Raises:
        InputError: no model, or sequences that can't be read.
    """
    from ebox.evaluation.inference import predict as predict_logits
    from ebox.mesh import find_local_devices, make_mesh
    from ebox.models.files import load_model
    from ebox.sequences import read_sequences
    from ebox.settings.reading import make_config

    model = load_model(Path(run))
    _check_out(out, Path(run), Path(fasta))
    sequences = read_sequences(Path(fasta))
    mesh = make_mesh(find_local_devices(make_config({"parallel": {"platform": platform}}).parallel))
    thresholds, both_strands = _read_protocol(Path(run), model.tracks)
    windows = plan_windows(sequences.lengths, model.length_bp)
    best = np.full((len(sequences), len(model.tracks)), -np.inf, np.float32)
    places = np.zeros(best.shape, np.int64)
    for first in range(0, len(windows.owner), BLOCK_WINDOWS):
        block = slice(first, first + BLOCK_WINDOWS)
        codes = cut_windows(sequences, windows.owner[block], windows.start[block], model.length_bp)
        logits = predict_logits(model.network, codes, both_strands=both_strands, mesh=mesh)
        _keep_best(best, places, windows.owner[block], windows.start[block], logits)
        if progress is not None:
            progress("predicting", min(first + BLOCK_WINDOWS, len(windows.owner)), len(windows.owner))
    result = PredictionResult(
        names=tuple(sequences.names),
        lengths=np.asarray(sequences.lengths, np.int64),
        tracks=model.tracks,
        length_bp=model.length_bp,
        logits=best,
        windows=places,
        thresholds=thresholds,
        num_padded=int((sequences.lengths < model.length_bp).sum()),
        num_windowed=int((sequences.lengths > model.length_bp).sum()),
    )
    if out is not None:
        write_predictions(result, Path(out))
    return result


def _check_out(out: str | os.PathLike[str] | None, run: Path, fasta: Path) -> None:
    """Raise InputError when the scores would replace the sequences or a file of the run."""
    from ebox.storage.run_folder import OWN_FILES

    if out is None:
        return
    place = Path(out).resolve()
    if place == fasta.resolve():
        raise InputError("is the file of the sequences", file=out, remedy="choose another --out")
    if place in {(run / name).resolve() for name in OWN_FILES}:
        raise InputError("belongs to the run", file=out, remedy="choose another --out")


def write_predictions(result: PredictionResult, out: Path) -> None:
    """Publish the scores as a tab-separated table, one row a sequence, in the order of the file."""
    header = ["name", "length_bp"]
    for track in result.tracks:
        header += [f"{track}_window_start", f"{track}_logit", f"{track}_probability", f"{track}_call"]
    probabilities, calls = result.probabilities, result.calls
    with publish_file(out) as temporary, temporary.open("w", encoding="utf-8") as stream:
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
            stream.write("\t".join(cells) + "\n")


def _keep_best(best: np.ndarray, places: np.ndarray, owner: np.ndarray, start: np.ndarray, logits: np.ndarray) -> None:
    """Keep for each sequence and track the window with the greatest logit; the first one where they are equal."""
    for track in range(logits.shape[1]):
        # Sorted by owner, then by falling logit: the first window of each owner is its best.
        order = np.lexsort((start, -logits[:, track], owner))
        owners, first = np.unique(owner[order], return_index=True)
        chosen = order[first]
        better = logits[chosen, track] > best[owners, track]
        best[owners[better], track] = logits[chosen[better], track]
        places[owners[better], track] = start[chosen[better]]


def _read_protocol(run: Path, tracks: tuple[str, ...]) -> tuple[tuple[float | None, ...], bool]:
    """The thresholds of the run's evaluation (none where it was not evaluated), and whether both strands were read."""
    from ebox.storage.run_folder import EVALUATION

    if not (run / EVALUATION).exists():
        return tuple(None for _ in tracks), True
    facts = read_json(run / EVALUATION)
    try:
        found = {entry["track"]: entry["threshold"]["value"] for entry in facts["tracks"]}
        return tuple(found[track] for track in tracks), bool(facts["config"]["both_strands"])
    except (KeyError, TypeError):
        raise InputError(
            "is not an evaluation of this model", file=run / EVALUATION, remedy="run `ebox evaluate` again"
        ) from None


def describe_predictions(result: PredictionResult) -> str:
    """How many sequences were scored, how, and how many were called."""
    lines = [f"{len(result.names):,} sequences scored"]
    if result.num_windowed:
        lines.append(
            f"  {result.num_windowed:,} longer than {result.length_bp} bp: their best window counts, and they are not "
            "called, since the threshold was chosen for one window"
        )
    if result.num_padded:
        lines.append(f"  {result.num_padded:,} shorter than {result.length_bp} bp: padded with N")
    for column, (track, threshold) in enumerate(zip(result.tracks, result.thresholds, strict=True)):
        if threshold is None:
            lines.append(f"  {track}: no threshold yet; `ebox evaluate` fixes one")
        else:
            calls = result.calls[:, column]
            lines.append(
                f"  {track}: {int((calls == 1).sum()):,} of {int((calls >= 0).sum()):,} called at probability "
                f"{threshold:.3f} or more"
            )
    return "\n".join(lines)
