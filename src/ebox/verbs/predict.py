"""Score new sequences of any length with a trained network, one row for each sequence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ebox.errors import InputError
from ebox.progress import PathLike, Progress, quiet
from ebox.storage import run_folder
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.evaluation.scores import ScoresResult

VERB = Verb("predict", "Score new sequences of any length.", "predict", arguments={"run": "RUN"}, needed=("out",))


def predict(
    run: PathLike,
    fasta: PathLike,
    out: PathLike | None = None,
    *,
    prevalence: float | None = None,
    platform: str = "auto",
    progress: Progress = quiet,
) -> ScoresResult:
    """Score the sequences of a file.

    A longer sequence is read in windows that overlap by three quarters, and its best window counts; it is not called,
    since the threshold was chosen for one window. A shorter one is padded with N on both sides. Both strands are read
    and averaged, unless the run was evaluated on one.

    Args:
        run: Run folder with a trained model.
        fasta: Sequences to score: FASTA, or a table with a column `sequence`.
        out: Tab-separated file to write; none: only the result.
        prevalence: Share of positives among such sequences, for probabilities that hold there, in a column of their
            own; none: that which the evaluation stated, if it did.
        platform: auto, cpu, gpu or tpu.
        progress: Called with a phrase, the number done, and the number in all.

    Raises:
        InputError: no model, sequences that can't be read, or a prevalence for a network that was not measured.
    """
    from ebox.evaluation.reading import read_protocol
    from ebox.evaluation.scores import score_sequences, write_scores
    from ebox.mesh import find_local_devices, make_mesh
    from ebox.models.files import load_model
    from ebox.sequences import read_sequences
    from ebox.settings.reading import make_config

    model = load_model(Path(run))
    _check_out(out, Path(run), Path(fasta))
    protocol = read_protocol(Path(run), model.tracks)
    stated = {} if prevalence is None else {"evaluation": {"prevalence": prevalence}}
    config = make_config({"parallel": {"platform": platform}, **stated})
    prevalence = protocol.prevalence if prevalence is None else prevalence
    shifts = protocol.find_shifts(prevalence, Path(run))
    sequences = read_sequences(Path(fasta))
    mesh = make_mesh(find_local_devices(config.parallel))
    result = score_sequences(
        model, sequences, protocol.thresholds, mesh, both_strands=protocol.both_strands, progress=progress
    )
    result = replace(result, shifts=shifts, prevalence=prevalence)
    if out is None:
        return result
    write_scores(result, Path(out))
    return replace(result, path=Path(out))


def _check_out(out: PathLike | None, run: Path, fasta: Path) -> None:
    """Raise InputError when the scores would replace the sequences or a file of the run."""
    if out is None:
        return
    place = Path(out).resolve()
    if place == fasta.resolve():
        raise InputError("is the file of the sequences", file=out, remedy="choose another --out")
    if place in {(run / name).resolve() for name in run_folder.OWN_FILES}:
        raise InputError("belongs to the run", file=out, remedy="choose another --out")


def describe(result: ScoresResult) -> str:
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
    if result.prevalence is not None:
        lines.append(f"  probabilities at a prevalence of {result.prevalence:g} are in a column of their own")
    return "\n".join(lines if result.path is None else [*lines, f"predictions: {result.path}"])
