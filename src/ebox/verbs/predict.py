"""Score new sequences of any length with a trained network, one row for each sequence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
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
    target_fdr: float | None = None,
    platform: Platform | None = None,
    overwrite: bool = False,
    progress: Progress = quiet,
) -> ScoresResult:
    """Score the sequences of a file, or of places on a genome.

    A longer sequence is read in windows that overlap by three quarters, and its best window counts; it is not called,
    since the threshold was chosen for one window. A shorter one is padded with N on both sides. Both strands are read
    and averaged, unless the run was evaluated on one. The set of answers of a sequence (bound, unbound, both, none)
    is meant to hold the right one for 90 % of each class, or for the share that was evaluated. The logit of an ensemble
    is the mean of its members'; how far they spread, or would by what a distilled network says, is in a column of its
    own.

    Args:
        run: Run folder with a trained model.
        fasta: Sequences to score: FASTA, or a table with a column `sequence`.
        bed: Places to score in its stead: BED; needs a genome.
        genome: The genome of --bed: FASTA, plain or bgzip.
        out: Tab-separated file to write, packed if its name ends in .gz; - is standard output; none: only the result.
        prevalence: Share of positives among such sequences, for probabilities that hold there, in a column of their
            own; none: that which the evaluation stated, if it did.
        target_fdr: Greatest share of false calls at the prevalence, for calls in a column of their own; none: no such
            column.
        platform: What computes; none: the best on this machine.
        overwrite: Replace a file at --out.
        progress: Called with a phrase, the number done, and the number in all.

    Raises:
        InputError: no model, sequences that can't be read, a file at `out` that may not be replaced, a prevalence for a
            network that was not measured, or a share of false calls that its validation scores can't promise.
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
    numbers = {"prevalence": prevalence, "target_fdr": target_fdr}
    stated = {"evaluation": {name: value for name, value in numbers.items() if value is not None}}
    parallel = {} if platform is None else {"parallel": {"platform": platform}}
    config = make_config({**parallel, **stated})
    is_asked = prevalence is not None and target_fdr is None
    prevalence = protocol.prevalence if prevalence is None else prevalence
    shifts = protocol.find_shifts(prevalence, Path(run) if is_asked else None)
    at_fdr = [] if target_fdr is None else _choose_for_fdr(Path(run), model.tracks, prevalence, target_fdr)
    sequences = open_query(fasta, bed, genome)
    mesh = make_mesh(find_local_devices(config.parallel))
    result = score_sequences(
        model, sequences, protocol.thresholds, mesh, both_strands=protocol.both_strands, progress=progress
    )
    result = replace(
        result,
        shifts=shifts,
        prevalence=prevalence,
        limits=protocol.limits,
        coverages=protocol.coverages,
        fdr_thresholds=tuple(threshold["value"] for threshold in at_fdr),
        fdr_reasons=tuple(threshold["reason"] for threshold in at_fdr),
        target_fdr=target_fdr,
    )
    if out is None:
        return result
    write_scores(result, Path(out), overwrite=overwrite)
    return replace(result, path=Path(out))


def _choose_for_fdr(
    run: Path, tracks: tuple[str, ...], prevalence: float | None, target_fdr: float
) -> list[dict[str, Any]]:
    """The threshold of each track from the validation scores of the evaluation, or why none keeps the promise."""
    from ebox.evaluation.prevalence import choose_at
    from ebox.evaluation.reading import read_validation
    from ebox.reporting.languages import find_language

    if prevalence is None:
        raise InputError(
            "how many calls are false depends on how rare positives are, and that isn't stated",
            remedy="state it, too, such as --prevalence 0.001",
        )
    odds = (1.0 - prevalence) / prevalence
    chosen = [choose_at(read_validation(run, track), odds, "accuracy", target_fdr)["fdr"] for track in tracks]
    if all(threshold["value"] is None for threshold in chosen):
        say = find_language().say
        reasons = [f"{track}: {say(one['reason'])}" for track, one in zip(tracks, chosen, strict=True)]
        raise InputError(
            f"--target-fdr can't be kept: {'; '.join(reasons)}",
            file=run,
            remedy="allow more false calls (--target-fdr), state more positives (--prevalence), or train on a dataset "
            "with more validation negatives",
        )
    return chosen


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
    lines += _describe_more(result)
    return "\n".join(lines if result.path is None else [*lines, f"predictions: {result.path}"])


def _describe_more(result: ScoresResult) -> list[str]:
    """The columns beside score and call."""
    from ebox.evaluation.conformal import ANSWERS
    from ebox.reporting.languages import find_language

    lines, sets, calls = [], result.sets, result.calls_at_fdr
    for column, track in enumerate(result.tracks):
        limits = result.limits[column] if result.limits else None
        if sets is not None and limits is not None:
            told = (f"{name} {int((sets[:, column] == number).sum()):,}" for number, name in enumerate(ANSWERS))
            promise = f"meant to be right for {limits.coverage:.3g} of each class"
            measured = result.coverages[column] if result.coverages else None
            if measured is not None:
                held = (f"{value:.3g} of the {name}s" for name, value in measured.items())
                promise += f" and on test right for {' and '.join(held)}"
            lines.append(f"  {track}: sets of answers, {promise}: {', '.join(told)}")
        if calls is None:
            continue
        threshold, promise = result.fdr_thresholds[column], f"at most {result.target_fdr:.3g} of the calls false"
        number = int((calls[:, column] == 1).sum())
        called = f"{number:,} called at {threshold:.6g} or more" if threshold is not None else "no threshold keeps that"
        reason = result.fdr_reasons[column] if result.fdr_reasons else None
        called += f", since {find_language().say(reason)}" if reason is not None else ""
        lines.append(f"  {track}, {promise}: {called}")
    if result.prevalence is not None:
        lines.append(f"  probabilities at a prevalence of {result.prevalence:g} are in a column of their own")
        unknown = [track for track, shift in zip(result.tracks, result.shifts, strict=True) if shift is None]
        if unknown:
            lines[-1] += (
                f", empty for {', '.join(unknown)}: it isn't known for which share of positives its logits hold"
            )
    if result.spreads is not None:
        lines.append("  how far the members of the ensemble spread is in a column of its own")
    return lines
