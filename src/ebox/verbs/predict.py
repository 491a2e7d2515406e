"""Score new sequences of any length with a trained network, one row for each sequence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ebox.progress import PathLike, Progress, quiet
from ebox.storage.outputs import check_output
from ebox.verbs.opening import open_query
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.evaluation.scores import ScoresResult
    from ebox.settings.sections import Platform

VERB = Verb("predict", arguments={"run": "RUN"}, needed=("out",))


def predict(
    run: PathLike,
    fasta: PathLike | None = None,
    out: PathLike | None = None,
    *,
    bed: PathLike | None = None,
    genome: PathLike | None = None,
    prevalence: float | None = None,
    platform: Platform | None = None,
    overwrite: bool = False,
    progress: Progress = quiet,
) -> ScoresResult:
    """Score the sequences of a file, or of places on a genome.

    A longer sequence is read in windows that overlap by three quarters, and its best window counts; it is not called,
    since the threshold was chosen for one window. A shorter one is padded with N on both sides. Both strands are read
    and averaged, unless the run was evaluated on one. The logit of an ensemble is the mean of its members'; how far
    they spread, or would by what a distilled network says, is in a column of its own.

    Args:
        run: Run folder with a trained model.
        fasta: Sequences to score: FASTA, or a table with a column `sequence`.
        bed: Places to score in its stead: BED; needs a genome.
        genome: The genome of --bed: FASTA, plain or bgzip.
        out: Tab-separated file to write, packed if its name ends in .gz; - is standard output; none: only the result.
        prevalence: Share of positives among such sequences, for probabilities that hold there, in a column of their
            own; none: that which the evaluation stated, if it did.
        platform: What computes; none: the best on this machine.
        overwrite: Replace a file at --out.
        progress: Called with a phrase, the number done, and the number in all.

    Raises:
        InputError: no model, sequences that can't be read, a file at `out` that may not be replaced, or a prevalence
            for a network that was not measured.
    """
    from ebox.evaluation.reading import read_protocol
    from ebox.evaluation.scores import score_sequences, write_scores
    from ebox.mesh.devices import find_local_devices, make_mesh
    from ebox.models.files import load_model
    from ebox.settings.reading import make_config

    model = load_model(Path(run))
    if out is not None:
        given = {"sequences": fasta, "places": bed, "genome": genome}
        inputs = {what: path for what, path in given.items() if path is not None}
        check_output(out, overwrite=overwrite, inputs=inputs)
    protocol = read_protocol(Path(run), model.tracks)
    stated = {} if prevalence is None else {"evaluation": {"prevalence": prevalence}}
    parallel = {} if platform is None else {"parallel": {"platform": platform}}
    config = make_config({**parallel, **stated})
    prevalence = protocol.prevalence if prevalence is None else prevalence
    shifts = protocol.find_shifts(prevalence, Path(run))
    sequences = open_query(fasta, bed, genome)
    mesh = make_mesh(find_local_devices(config.parallel))
    result = score_sequences(
        model, sequences, protocol.thresholds, mesh, both_strands=protocol.both_strands, progress=progress
    )
    result = replace(result, shifts=shifts, prevalence=prevalence)
    if out is None:
        return result
    write_scores(result, Path(out), overwrite=overwrite)
    return replace(result, path=Path(out))


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
    if result.spreads is not None:
        lines.append("  how far the members of the ensemble spread is in a column of its own")
    return "\n".join(lines if result.path is None else [*lines, f"predictions: {result.path}"])
