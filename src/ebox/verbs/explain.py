"""Show what a network learned, and measure how reliable that is: on its test set, or on the sequences of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ebox.errors import InputError
from ebox.progress import PathLike, Progress, quiet
from ebox.storage.publishing import check_absent, claim_folder
from ebox.storage.run_folder import EXPLANATION, EXPLANATION_FACTS
from ebox.verbs.opening import check_query, open_dataset_of, open_query
from ebox.verbs.report import report
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.explanation.writing import ExplanationResult
    from ebox.settings.reading import Config

VERB = Verb(
    "explain",
    arguments={"run": "RUN"},
    settings=("explanation", "parallel.platform", "parallel.devices"),
    of_run=("explanation",),
)


def explain(
    run: PathLike,
    *,
    fasta: PathLike | None = None,
    bed: PathLike | None = None,
    genome: PathLike | None = None,
    out: PathLike | None = None,
    config: Config | None = None,
    motifs: Sequence[PathLike] = (),
    against: PathLike | None = None,
    planted: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = quiet,
) -> ExplanationResult:
    """Show what a network learned, and measure how reliable that is.

    If the run has a report, it is written again with the results.

    Args:
        run: Evaluated run folder.
        fasta: Explain these sequences, of any length, not the test split.
        bed: Explain the sequences of these places: BED; needs a genome.
        genome: The genome of --bed: FASTA, plain or bgzip.
        out: Folder; RUN/explanation when left out. It must be given with --fasta and --bed.
        config: The settings, of which `explanation` and `parallel` are used; none: those of the run, with the devices
            of this machine.
        motifs: MEME, JASPAR, HOMER or HOCOMOCO file to match with, before JASPAR.
        against: Run of another seed on the same data, to compare explanations with.
        planted: BED of planted sites by record name; planted.bed beside simulated positives when left out.
        overwrite: Replace an earlier explanation in --out; that of the run itself is always replaced.
        progress: Called with a phrase, the number done, and the number in all.

    Raises:
        InputError: no model, no such track, nothing to explain, an unknown motif, or a part that is not installed.
    """
    from ebox.drawing.logo_png import check_png
    from ebox.explanation.checks import check_comparable
    from ebox.explanation.matching import check_extra, gather_targets
    from ebox.explanation.study import Study
    from ebox.explanation.subject import find_track
    from ebox.mesh.devices import find_local_devices, make_mesh
    from ebox.models.files import load_model
    from ebox.settings.reading import ParallelConfig, read_config
    from ebox.storage import run_folder

    folder = Path(run)
    model = load_model(folder)
    settings = (read_config(folder / run_folder.CONFIG) if config is None else config).explanation
    track = find_track(model.tracks, settings.track)
    mesh = make_mesh(find_local_devices(ParallelConfig() if config is None else config.parallel))
    check_png()
    check_query(fasta, bed, genome)
    source = fasta if bed is None else bed
    if source is not None:
        from ebox.explanation.locus import claim_store, explain_locus, refuse_beside_fasta

        refuse_beside_fasta({"--motifs": bool(motifs), "--planted": planted, "--against": against})
        place = _check_out(out, folder, overwrite=overwrite)
        if place.resolve() == (folder / EXPLANATION).resolve():
            raise InputError("is the folder of the test set's explanation", file=place, remedy="choose another --out")
        with claim_store(place) as store:
            sequences = open_query(fasta, bed, genome)
            return explain_locus(folder, model, sequences, place, store, settings, track, mesh, progress)
    if settings.discover:
        check_extra()
    targets = gather_targets(motifs)
    other = None if against is None else load_model(Path(against))
    if other is not None and against is not None:
        check_comparable(model, other, Path(against))
    study = Study(folder, model, settings, track, mesh, tuple(motifs), progress)
    target = folder / EXPLANATION if out is None else _check_out(out, folder, overwrite=overwrite)
    check_absent(target, overwrite=True, mark=EXPLANATION_FACTS)
    study.check_pair()
    with claim_folder(folder):
        data, _ = open_dataset_of(folder, None)
        result = study.run(data, target, targets, other, Path(against) if against is not None else None, planted)
    is_of_run = target.resolve() == (folder / EXPLANATION).resolve()
    return replace(result, report=report(folder)) if is_of_run and (folder / run_folder.REPORT).exists() else result


def _check_out(out: PathLike | None, run: Path, *, overwrite: bool) -> Path:
    if out is None:
        raise InputError("the explanation of a file's sequences needs a folder", remedy="give one with --out")
    place = Path(out)
    if place.resolve() == run.resolve() or run.resolve().is_relative_to(place.resolve()):
        raise InputError("is, or holds, the run folder", file=place, remedy="choose another --out")
    check_absent(place, overwrite=overwrite, mark=EXPLANATION_FACTS)
    return place


def describe(result: ExplanationResult) -> str:
    """What was explained, what was found, and how reliable that is, in a few lines."""
    from ebox.reporting.languages import find_language

    language, facts = find_language(), result.facts
    say = language.say
    sequences, attribution = facts["sequences"], facts["attribution"]
    lines = [
        f"{facts['track']}: {sequences['num']:,} sequences explained by {language.name_method(attribution['method'])}"
    ]
    for key, words in (
        ("num_windowed", f"longer than {sequences['length_bp']} bp: explained in windows, each base the mean of them"),
        ("num_padded", f"shorter than {sequences['length_bp']} bp: padded with N"),
        ("num_with_n", "with N, to which nothing is attributed"),
    ):
        if sequences.get(key):
            lines.append(f"  {sequences[key]:,} {words}")
    lines.append(f"  completeness error {100 * attribution['completeness_error']:.2g} %")
    if attribution["warning"] is not None:
        lines.append(f"  beware: {say(attribution['warning'])}")
    if attribution.get("members") is not None:
        lines.append(f"  {say(attribution['members'])}")
    for motif in facts["motifs"]:
        best = motif["matches"][0] if motif["matches"] else None
        like = "like nothing known"
        if best is not None:
            like = f"{best['name']} ({best['id']}), q = {language.tell_q(best)}"
            like = f"like {like}" if best["is_find"] else f"like nothing known; nearest {like}"
        lines.append(f"  {motif['name']} {motif['consensus']}: {motif['num_sites']:,} sites, {like}")
    if facts.get("hits_reason"):
        lines.append(f"  no hits: {say(facts['hits_reason'])}")
    if facts.get("motifs_reason"):
        lines.append(f"  no motif: {say(facts['motifs_reason'])}")
    lines.append(f"explanation: {result.folder}")
    return "\n".join(lines if result.report is None else [*lines, f"report: {result.report}"])
