"""Build a dataset folder: read, clean, make negatives, cluster, split, audit, report, publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Int64

from ebox.datasets.all_dropped import find_remedy
from ebox.datasets.audit import AuditResult, audit_splits
from ebox.datasets.build_state import BuildState
from ebox.datasets.cleaning import (
    drop_avoided,
    drop_blacklisted,
    drop_made_repeats,
    drop_near_positives,
    drop_repeats,
    drop_train_repeats,
    drop_unknown,
    find_near_positives,
)
from ebox.datasets.contigs import check_chroms, compare_bases
from ebox.datasets.examples import Dropped, Examples, concatenate, places_of
from ebox.datasets.families import link_relatives
from ebox.datasets.folder import MANIFEST, Dataset, open_dataset
from ebox.datasets.labels import drop_unlabelled, find_strata, join_loci
from ebox.datasets.negatives import match_positives, shuffle_positives
from ebox.datasets.quality import REGION_ROLES, describe_losses
from ebox.datasets.reading import (
    PEAK_LENGTH_BP,
    check_lengths,
    choose_length,
    cut_source,
    find_label,
    locate_positives,
    read_peaks,
    read_source,
)
from ebox.datasets.repeats import Repeats
from ebox.datasets.similarity import cluster_similar
from ebox.datasets.sources import (
    DatasetSources,
    Read,
    ask_for_negatives,
    check_apart,
    check_sources,
    choose_given,
    choose_kinds,
    is_matching_repeats,
    list_reads,
    name_kinds,
    name_tracks,
)
from ebox.datasets.splits import (
    check_splits,
    choose_split,
    describe_split,
    draw_balanced,
    explain_split,
    link_examples,
    split_at_random,
    split_by_chrom,
)
from ebox.datasets.writing import write_dataset
from ebox.errors import InputError
from ebox.progress import Progress, quiet
from ebox.settings.reading import DataConfig
from ebox.storage.publishing import check_absent, claim_folder, publish_folder

_REMEDIES = {
    "shuffled": "give longer or more varied positives, since theirs are equal to their shuffles; or give --negatives",
    "matched": "raise data.gc_tolerance, lower data.min_peak_distance_bp, or choose other negatives",
}


def build_dataset(
    config: DataConfig,
    out: Path,
    sources: DatasetSources,
    *,
    overwrite: bool = False,
    progress: Progress = quiet,
    command: Sequence[str] = (),
    on_made: Callable[[Dataset], None] = quiet,
) -> Dataset:
    """Build a dataset folder from sequence files, or from peaks and a genome.

    Args:
        config: How to clean, balance and split.
        out: The folder to make.
        sources: The files; the name of each of several files of negatives is the name of its kind.
        overwrite: Replace a dataset at `out`.
        progress: Called with the stage, the number done and the number in all.
        command: The command line, for the manifest.
        on_made: Called with the whole dataset before it takes its place; what this raises ends the build.

    Raises:
        InputError: input that can't be read, files that don't go together, or a split without a class; then
            nothing is written at `out`.
    """
    _check_track(config, sources)
    build = start_build(config, sources, progress)
    check_apart(sources, Path(out))
    check_absent(Path(out), overwrite=overwrite, mark=MANIFEST)
    with claim_folder(Path(out)):
        _publish(build, Path(out), overwrite=overwrite, command=command, on_made=on_made)
    return open_dataset(out)


def _check_track(config: DataConfig, sources: DatasetSources) -> None:
    """Raise InputError for a name of the one track beside those of several."""
    if (sources.tracks or config.label_columns) and config.track != DataConfig().track:
        given = "--tracks names them" if sources.tracks else "--label-columns names the columns that are the tracks"
        raise InputError(f"data.track is {config.track}, but {given}", remedy="leave data.track out")


def start_build(config: DataConfig, sources: DatasetSources, progress: Progress) -> BuildState:
    """Begin a build; raise InputError where its files or settings don't belong together."""
    check_sources(sources)
    made_kinds, tracks = choose_kinds(config, sources), name_tracks(config, sources)
    if len(tracks) > 1 and config.balance_given:
        raise InputError(
            "data.balance_given is for one track: of several, one file of negatives may serve all",
            remedy="leave it out; train.negatives_per_positive says how many negatives an epoch shows",
        )
    return BuildState(config, sources, made_kinds, progress, ["positive", *name_kinds(sources), *made_kinds], tracks)


def gather_examples(build: BuildState) -> Examples:
    """Read and clean the examples of a build, and add the negatives that are made."""
    try:
        return _add_negatives(build, _clean(build, _read(build)))
    finally:
        build.close()


def _publish(
    build: BuildState,
    out: Path,
    *,
    overwrite: bool,
    command: Sequence[str],
    on_made: Callable[[Dataset], None],
) -> None:
    """Make the examples, and write them whole."""
    examples, cluster, split, audit = _split(build, gather_examples(build))
    build.progress("writing the dataset", 0, 1)
    with publish_folder(out, overwrite=overwrite, mark=MANIFEST) as folder:
        write_dataset(
            folder,
            examples,
            config=build.config,
            kinds=build.kinds,
            tracks=build.tracks,
            log=build.log,
            cluster=cluster,
            made=build.made,
            split=split,
            num_near_positives=build.num_near_positives,
            audit=audit,
            command=command,
        )
        on_made(open_dataset(folder))
    build.progress("writing the dataset", 1, 1)


def _read(build: BuildState) -> Examples:
    """Read all sources and cut them to one length."""
    files, config = build.files, build.config
    raw = []
    reads, places = list_reads(files)
    for number, read in enumerate(reads):
        build.progress(f"reading {read.path.name}", number, len(reads))
        raw.append(read_source(read, config.label_columns, len(build.tracks)))
    peaks = [place for place in places if place.kind == 0]
    if peaks:
        length_bp = PEAK_LENGTH_BP if config.length_bp is None else config.length_bp
    else:
        length_bp = choose_length([part for part in raw if find_label(part.source.role) != 0], config.length_bp)
    parts = [_read_places(build, place, length_bp) for place in peaks]
    if config.length_bp is None:
        check_lengths(raw, length_bp)
    for part in raw:
        if "matched" in build.made_kinds:
            build.bound += locate_positives(part)
        parts.append(cut_source(part, length_bp, build.log))
    parts += [_read_places(build, place, length_bp) for place in places if place.kind != 0]
    return drop_unlabelled(concatenate(parts), build.log)


def _read_places(build: BuildState, read: Read, length_bp: int) -> Examples:
    """Read a file of places: peaks (kind 0), or negatives."""
    build.progress(f"reading {read.path.name}", 0, 1)
    peaks = build.read_intervals(read.path, read.role)
    if read.kind == 0:
        build.bound.append(peaks)
    genome, num_tracks = build.open_genome(), len(build.tracks)
    examples = read_peaks(
        peaks, genome, length_bp, build.log, kind=read.kind, tracks=read.tracks, num_tracks=num_tracks
    )
    build.add_genome()
    return examples


def _clean(build: BuildState, examples: Examples) -> Examples:
    """Drop what can't be learnt from; of given splits only the train split, and only if the settings say so."""
    build.progress("cleaning", 0, 1)
    if build.files.splits:
        if build.config.clean_given_splits:
            examples = drop_train_repeats(examples, build.log)
    else:
        blacklist = build.open_blacklist()
        if blacklist is not None:
            examples = drop_blacklisted(examples, blacklist, build.log)
        for path in build.files.avoid:
            # Matched negatives keep away from them, too.
            build.bound.append(build.read_intervals(path, "avoid"))
            examples = drop_avoided(examples, build.bound[-1], build.log)
        examples = drop_unknown(examples, build.config.max_n_fraction, build.log)
        examples = join_loci(drop_repeats(examples, build.log), build.log)
    build.progress("cleaning", 1, 1)
    examples = _part_from_positives(build, examples)
    _check_classes(build, examples)
    return examples


def _part_from_positives(build: BuildState, examples: Examples) -> Examples:
    """Drop given negatives that lie on a positive or resemble it, or count them."""
    rows = np.flatnonzero((examples.targets == 0).any(axis=1))
    if not len(rows) or not examples.is_positive.any():
        return examples
    if build.files.list_negatives() and build.config.drop_near_positives:
        unbound = rows[~examples.is_positive[rows]]
        examples = drop_near_positives(examples, unbound, build.sketch(examples.codes), build.log)
        # What is left are positives of one track that are negative in another.
        rows = np.flatnonzero((examples.targets == 0).any(axis=1) & examples.is_positive)
    if len(rows):
        build.num_near_positives = len(find_near_positives(examples, rows, build.sketch(examples.codes))[0])
    return examples


def _check_classes(build: BuildState, examples: Examples) -> None:
    """Raise InputError where a track has no positives, or no negatives and none are made."""
    for number, name in enumerate(build.tracks):
        targets, of = examples.targets[:, number], "" if len(build.tracks) == 1 else f" of {name}"
        if not (targets == 1).any():
            _refuse_without_positives(build, of, number)
        if not (targets == 0).any() and not build.made_kinds:
            _refuse_without_negatives(build, of, number)
    if (examples.targets == 0).any() and "given" not in choose_given(build.config, build.files):
        raise InputError(
            f"{int((~examples.is_positive).sum()):,} negatives are given, but data.negatives leaves them out",
            remedy='add "given" to data.negatives, or leave the negatives out of the files',
        )


def _refuse_without_positives(build: BuildState, of: str, track: int) -> NoReturn:
    files = build.files.tracks
    raise InputError(
        f"no positives{of} are left{_tell_dropped(build)}",
        file=files[track].bound if files else build.log.sources[0].path,
        remedy=_shorten(build)
        or find_remedy(build, 1)
        or "check that this file holds the bound sequences, and that no file is given twice",
    )


def _refuse_without_negatives(build: BuildState, of: str, track: int) -> NoReturn:
    files, examined = build.files.tracks, [each for each in build.log.sources if each.role not in REGION_ROLES]
    raise InputError(
        f"there are positives{of} only, no negatives{_tell_dropped(build)}",
        file=files[track].bound if files else examined[-1].path,
        remedy=_shorten(build) or find_remedy(build, 0) or ask_for_negatives(build.files),
    )


def _tell_dropped(build: BuildState) -> str:
    return f"; dropped: {build.log.describe()}" if build.log.counts else ""


def _shorten(build: BuildState) -> str | None:
    """The remedy where a length that was asked for drops records; None where none was too short."""
    if build.config.length_bp is None or not build.log.counts[Dropped.TOO_SHORT]:
        return None
    if not build.has_free_length:
        return f"the network reads {build.config.length_bp} bp: give sequences of that length or longer"
    lengths = [int(row[4].split()[0].partition("=")[2]) for row in build.log.rows if row[3] == Dropped.TOO_SHORT]
    return f"--length {int(np.quantile(lengths, 0.05, method='lower'))} keeps most of the sequences that are too short"


def _add_negatives(build: BuildState, examples: Examples) -> Examples:
    """Make the shuffled or matched negatives that the settings ask for, and drop those that equal an example."""
    if not build.made_kinds:
        return examples
    rows = np.flatnonzero(examples.is_positive)
    positives = examples if len(rows) == len(examples) else examples.take(rows)
    parts = [examples]
    for kind in build.made_kinds:
        number = build.kinds.index(kind)
        if kind == "shuffled":
            made = shuffle_positives(positives, build.config, number, build.progress)
            made = replace(made, parent=rows[made.parent])
        else:
            made = _match(build, positives, number)
        # What is made is unbound in every track.
        parts.append(replace(made, targets=np.zeros((len(made), examples.num_tracks), dtype=np.uint8)))
    examples = drop_made_repeats(concatenate(parts), len(examples), build.log)
    wanted = max(1, round(len(rows) * build.config.negative_ratio))
    if build.repeats is not None:
        examples = build.repeats.measure(examples)
    for kind in build.made_kinds:
        num = int((examples.kind == build.kinds.index(kind)).sum())
        build.made[kind] = {"wanted": wanted, "made": num}
        if num == 0:
            raise InputError(f"no {kind} negatives could be made for {len(rows):,} positives", remedy=_REMEDIES[kind])
    if build.repeats is not None and is_matching_repeats(build.config, build.files):
        build.made["matched"]["repeats"] = build.repeats.describe()
    return examples


def _match(build: BuildState, positives: Examples, kind: int) -> Examples:
    if not positives.has_place.all():
        row = int(np.flatnonzero(~positives.has_place)[0])
        raise InputError(
            "matched negatives need to know where the positives lie, and this one has no coordinates",
            record=positives.names[row],
            remedy='write headers as >chrom:start-end, give --peaks, or --set data.negatives=["shuffled"]',
        )
    # The whole bound regions, also what was cut off or dropped as an example.
    avoid = [places_of(positives, np.arange(len(positives))), *build.bound]
    source, genome, blacklist = build.add_genome(), build.open_genome(), build.open_blacklist()
    if build.files.peaks is None:
        # Of peaks it was checked when they were read.
        first = build.log.sources[0]
        check_chroms(positives.chrom, genome, first.path, build.log, said_by="headers")
        compare_bases(positives, genome, first.path, build.log)
    regions = None if build.files.repeats is None else build.read_intervals(build.files.repeats, "repeats")
    repeats = build.repeats = Repeats(genome, regions)
    is_matching = is_matching_repeats(build.config, build.files)
    if is_matching:
        repeats.check(positives, build.log)
    matched = repeats if is_matching else None
    return match_positives(positives, genome, avoid, blacklist, build.config, kind, source, build.progress, matched)


def _split(
    build: BuildState, examples: Examples
) -> tuple[Examples, Int64[np.ndarray, " example"], dict[str, Any], AuditResult]:
    """Assign the splits, find the clusters that a random split keeps whole and the families in each split, audit."""
    config = build.config
    index = build.sketch(examples.codes)
    cluster = link_examples(examples, cluster_similar(examples.codes, config.max_similarity, index, build.progress))
    mode = "given" if build.files.splits else choose_split(examples, config.split)
    # With a limit of 1 nothing is kept together, whatever it is.
    join_families = config.keep_families and config.max_similarity < 1.0
    num_cut, suspects = 0, np.ones(len(examples), dtype=bool)
    if mode == "random":
        if join_families:
            everything = [np.arange(len(examples))]
            cluster, num_cut, suspects = link_relatives(examples.codes, cluster, everything, build.progress)
        split = split_at_random(cluster, find_strata(examples), config.split_fractions, config.seed)
        examples = replace(examples, split=split)
    elif mode == "chromosome":
        split = split_by_chrom(examples, config.validation_chroms, config.test_chroms)
        examples = replace(examples, split=split)
    if config.balance_given and mode != "given":
        out = draw_balanced(examples, np.isin(examples.kind, build.given_kinds()), config.seed)
        build.log.add_examples(examples, out, Dropped.NOT_DRAWN, "")
        keep = np.setdiff1d(np.arange(len(examples)), out)
        examples, cluster, suspects = examples.take(keep), cluster[keep], suspects[keep]
    check_splits(examples, config, mode, describe_losses(build.log), cluster=cluster, tracks=build.tracks)
    if mode != "random" and join_families:
        held_out = [np.flatnonzero(examples.split == number) for number in (1, 2)]
        cluster, num_cut, _ = link_relatives(examples.codes, cluster, held_out, build.progress)
    index = build.sketch(examples.codes)
    audit = audit_splits(
        examples, config.max_similarity, config.seed, index=index, suspects=suspects, progress=build.progress
    )
    why = explain_split(examples, config.split, mode)
    return examples, cluster, {**describe_split(config, mode), **why, "num_cut_links": num_cut}, audit
