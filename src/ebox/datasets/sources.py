"""The input files of a dataset, and whether they belong together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ebox.datasets.folder import SPLITS
from ebox.datasets.track_files import TrackFiles, list_negatives, read_tracks
from ebox.errors import InputError
from ebox.progress import PathLike
from ebox.settings.reading import DataConfig

_MATCHING = "--repeats and --match-repeats"
_ONE_WAY = "give --table FILE with --label-columns, or --tracks FILE, or leave --label-columns out"
_SUFFIXES = re.compile(r"(\.(fa|fasta|fna|fas|txt|csv|tsv|seq))?(\.(gz|bgz))?$")


@dataclass(frozen=True)
class DatasetSources:
    """The input files of one dataset: one of positives, tracks, peaks, table and splits, and what belongs to it."""

    positives: Path | None = None
    tracks_file: Path | None = None
    tracks: tuple[TrackFiles, ...] = ()
    negatives: tuple[Path, ...] = ()
    negative_names: tuple[str, ...] = ()
    peaks: Path | None = None
    genome: Path | None = None
    blacklist: Path | None = None
    avoid: tuple[Path, ...] = ()
    repeats: Path | None = None
    table: Path | None = None
    splits: Mapping[str, Path] = field(default_factory=dict)
    split_negatives: Mapping[str, Path] = field(default_factory=dict)

    def list_files(self) -> dict[str, Path]:
        """Every input file by what it is."""
        single = ("positives", "tracks_file", "peaks", "genome", "blacklist", "repeats", "table")
        files = {name: path for name in single if (path := getattr(self, name)) is not None}
        files |= {f"track {track.name}": track.bound for track in self.tracks}
        files |= {f"track negatives {number}": path for number, (path, _) in enumerate(list_negatives(self.tracks))}
        files |= {f"negatives {number}": path for number, path in enumerate(self.negatives)}
        files |= {f"avoid {number}": path for number, path in enumerate(self.avoid)}
        return files | dict(self.splits) | {f"{name} negatives": path for name, path in self.split_negatives.items()}

    def list_negatives(self) -> list[tuple[Path, tuple[int, ...] | None]]:
        """The files of negatives, each a kind, with the numbers of the tracks that they are of; None: of all."""
        return [*((path, None) for path in self.negatives), *list_negatives(self.tracks)]

    @property
    def has_given(self) -> bool:
        """Whether there may be negatives in the files."""
        return bool(self.list_negatives() or self.table or self.splits)


def read_sources(
    positives: PathLike | None = None,
    tracks: PathLike | None = None,
    negatives: Sequence[PathLike] = (),
    peaks: PathLike | None = None,
    genome: PathLike | None = None,
    blacklist: PathLike | None = None,
    avoid: Sequence[PathLike] = (),
    repeats: PathLike | None = None,
    table: PathLike | None = None,
    train: PathLike | None = None,
    validation: PathLike | None = None,
    test: PathLike | None = None,
    train_negatives: PathLike | None = None,
    validation_negatives: PathLike | None = None,
    test_negatives: PathLike | None = None,
) -> DatasetSources:
    """Collect the files of a dataset.

    Args:
        positives: Bound sequences: FASTA, plain or compressed.
        tracks: Several factors or cell types: TSV with a line for each, columns track, positives (FASTA) or peaks
            (BED), and negatives that are known for this one alone; what a file doesn't name is unknown there.
        negatives: Unbound sequences: FASTA, or with a genome BED; each file is one kind of negatives.
        peaks: Peaks: BED or narrowPeak; needs a genome.
        genome: Genome: FASTA, plain or bgzip.
        blacklist: Regions to leave out: BED.
        avoid: Peaks of another set, from which negatives are kept away: BED.
        repeats: Repeats of the genome, of which matched negatives take the share of the positives: BED.
        table: CSV or TSV with the columns sequence and label.
        train: A given train split: table as above, or its positives (FASTA); needs those of validation and test.
        validation: A given validation split.
        test: A given test split.
        train_negatives: Negatives of a given train split (FASTA), where --train holds its positives.
        validation_negatives: Negatives of a given validation split, where --validation holds its positives.
        test_negatives: Negatives of a given test split, where --test holds its positives.
    """
    one = {"positives": positives, "peaks": peaks, "genome": genome, "blacklist": blacklist}
    one |= {"repeats": repeats, "table": table, "tracks_file": tracks}
    splits = {"train": train, "validation": validation, "test": test}
    found: dict[str, Any] = {name: Path(path) for name, path in one.items() if path is not None}
    unbound = {"train": train_negatives, "validation": validation_negatives, "test": test_negatives}
    given = {name: Path(path) for name, path in splits.items() if path is not None}
    return DatasetSources(
        **found,
        tracks=() if tracks is None else read_tracks(tracks),
        negatives=tuple(map(Path, negatives)),
        avoid=tuple(map(Path, avoid)),
        splits=given,
        split_negatives={name: Path(path) for name, path in unbound.items() if path is not None},
    )


def check_sources(sources: DatasetSources) -> None:
    """Raise InputError when the input files don't belong together."""
    heads = {
        "--positives": sources.positives is not None,
        "--tracks": bool(sources.tracks),
        "--peaks": sources.peaks is not None,
        "--table": sources.table is not None,
        "--train, --validation and --test": bool(sources.splits or sources.split_negatives),
    }
    found = [name for name, present in heads.items() if present]
    if len(found) != 1:
        problem = f"{' and '.join(found)} can't be combined" if found else "there are no positives"
        raise InputError(problem, remedy=f"give one of {'; '.join(heads)}")
    has_peaks = sources.peaks is not None or any(track.is_peaks for track in sources.tracks)
    if has_peaks and sources.genome is None:
        raise InputError("peaks need a genome to take the sequences from", remedy="give --genome genome.fa")
    if sources.negatives and not (sources.positives or sources.tracks or sources.peaks):
        raise InputError(
            f"--negatives can't be combined with {found[0]}, where negatives have their own place",
            remedy="give them as --train-negatives, --validation-negatives and --test-negatives, or leave them out"
            if sources.splits
            else "put them into the table with label 0, or leave them out",
        )
    places = [path for path, _ in sources.list_negatives() if is_places(path)]
    if places and sources.genome is None:
        raise InputError(
            "holds places (BED), and a genome is needed to take their sequences from",
            file=places[0],
            remedy="give --genome genome.fa",
        )
    _check_given_splits(sources)
    unused = [name for name in ("genome", "blacklist", "avoid", "repeats") if sources.splits and getattr(sources, name)]
    if unused:
        raise InputError(
            f"--{unused[0]} can't be used with given splits, which are kept as they are",
            remedy=f"leave --{unused[0]} out",
        )
    if sources.negative_names and len(sources.negative_names) != len(sources.list_negatives()):
        raise InputError(
            f"{len(sources.list_negatives())} files of negatives, but {len(sources.negative_names)} names for them"
        )


def _check_given_splits(sources: DatasetSources) -> None:
    """Raise InputError where a given split lacks a file, or has one file for both labels."""
    splits, negatives = sources.splits, sources.split_negatives
    if not (splits or negatives):
        return
    missing = [name for name in SPLITS if name not in splits]
    unknown = sorted({*splits, *negatives} - set(SPLITS))
    if missing or unknown:
        problem = (
            f"there is no split {unknown[0]!r}" if unknown else f"the {missing[0]} split is missing: --{missing[0]}"
        )
        raise InputError(problem, remedy=f"give a file for each of {', '.join(f'--{name}' for name in SPLITS)}")
    for name, path in negatives.items():
        if path.is_file() and splits[name].is_file() and path.samefile(splits[name]):
            raise InputError(
                f"is given as --{name} and as --{name}-negatives",
                file=path,
                remedy=f"give the positives as --{name}, the negatives as --{name}-negatives; or a table alone",
            )


class Read(NamedTuple):
    """A file of examples: its role, and the split (-1: none), the kind and the tracks of its records.

    `kind` is that of negatives, 0 for peaks; `tracks` are None where the labels are known for all tracks.
    """

    path: Path
    role: str
    split: int = -1
    kind: int = 1
    tracks: tuple[int, ...] | None = None


def list_reads(sources: DatasetSources) -> tuple[list[Read], list[Read]]:
    """The files of sequences, in order, and the files of places: peaks, and then negatives."""
    reads = []
    for number, (name, path) in enumerate((name, sources.splits[name]) for name in SPLITS if sources.splits):
        if name in sources.split_negatives:
            reads.append(Read(path, f"{name} positives", number))
            reads.append(Read(sources.split_negatives[name], f"{name} negatives", number))
        else:
            reads.append(Read(path, name, number))
    reads += [Read(sources.table, "table")] if sources.table else []
    reads += [Read(sources.positives, "positives")] if sources.positives else []
    places = [Read(sources.peaks, "peaks", kind=0)] if sources.peaks else []
    for number, track in enumerate(sources.tracks):
        read = Read(track.bound, "peaks" if track.is_peaks else "positives", kind=0, tracks=(number,))
        (places if track.is_peaks else reads).append(read)
    for kind, (path, tracks) in enumerate(sources.list_negatives(), start=1):
        (places if is_places(path) else reads).append(Read(path, "negatives", kind=kind, tracks=tracks))
    return reads, places


def is_places(path: Path) -> bool:
    """Whether a file holds places (BED) and no sequences, by its first lines; a pipe is not looked into."""
    from ebox.sequences.bed import is_bed
    from ebox.sequences.streams import iter_bytes

    return path.is_file() and is_bed(next(iter_bytes(path, 1 << 16), b""))


def ask_for_negatives(files: DatasetSources) -> str:
    """What to do where files hold positives only."""
    if files.splits:
        return "give tables with both labels, or positives and negatives apart: --train and --train-negatives, ..."
    more = "rows with label 0" if files.table else "--negatives"
    more = "--negatives, or a column negatives in the table of tracks" if files.tracks else more
    return f"give {more}, or let ebox make negatives: --set data.negatives=['shuffled']"


def check_apart(sources: DatasetSources, out: Path) -> None:
    """Raise InputError when `out` is an input file or a folder that holds one, since writing would remove it."""
    # Unlike Path.resolve, realpath does not raise on a loop of links; the reader reports it.
    place = Path(os.path.realpath(out))
    for path in sources.list_files().values():
        real = Path(os.path.realpath(path))
        if place == real or place in real.parents:
            raise InputError(
                f"writing this would remove the input {path}", file=out, remedy="choose another --out for the dataset"
            )


def name_tracks(config: DataConfig, sources: DatasetSources) -> tuple[str, ...]:
    """The names of the tracks: those of the table of tracks, of the columns of labels, or the one of the settings.

    Raises:
        InputError: columns of labels are named, and there is no table.
    """
    if sources.tracks:
        if config.label_columns is not None:
            raise InputError("--label-columns are of a table of sequences, and --tracks names files", remedy=_ONE_WAY)
        return tuple(track.name for track in sources.tracks)
    if config.label_columns is None:
        return (config.track,)
    if (sources.table is None and not sources.splits) or sources.split_negatives:
        what = "FASTA has no columns" if sources.split_negatives else "none is given"
        raise InputError(f"--label-columns names columns of a table, and {what}", remedy=_ONE_WAY)
    return config.label_columns


def choose_kinds(config: DataConfig, sources: DatasetSources) -> tuple[str, ...]:
    """Kinds of negatives to make: those of the settings, else matched with a genome, else shuffled.

    Raises:
        InputError: the settings and the files contradict each other.
    """
    chosen = choose_given(config, sources)
    given = sources.list_negatives()
    made = tuple(kind for kind in dict.fromkeys(chosen) if kind != "given")
    if "given" in chosen and not sources.has_given:
        raise InputError("data.negatives says given, but no negatives are given", remedy="give --negatives file.fa")
    if given and "given" not in chosen:
        raise InputError(
            f"negatives are given, but data.negatives says {', '.join(chosen)}",
            file=given[0][0],
            remedy='add "given" to data.negatives, or leave the file out',
        )
    if made and sources.splits:
        raise InputError(
            f"data.negatives says {', '.join(chosen)}, but given splits keep their own negatives",
            remedy='--set data.negatives=["given"], or give one --table',
        )
    if "matched" in made and sources.genome is None:
        raise InputError("matched negatives need a genome", remedy="give --genome genome.fa")
    if (sources.repeats or config.match_repeats) and "matched" not in made:
        raise InputError(
            "the repeats of matched negatives are asked for, but no matched negatives are made",
            file=sources.repeats,
            remedy=f"leave {_MATCHING} out, since given splits keep their own negatives"
            if sources.splits
            else f"give --genome, and beside given negatives --negative-kinds given,matched; or leave {_MATCHING} out",
        )
    needs_genome = bool(list_reads(sources)[1])
    if sources.genome is not None and not needs_genome and "matched" not in made:
        raise InputError(
            "a genome is given, but no negatives are taken from it",
            file=sources.genome,
            remedy="add matched to --negative-kinds (as given,matched), or leave --genome out",
        )
    return made


def is_matching_repeats(config: DataConfig, sources: DatasetSources) -> bool:
    """Whether matched negatives take the share of repeats of the positives, too."""
    return sources.repeats is not None if config.match_repeats is None else config.match_repeats


def choose_given(config: DataConfig, sources: DatasetSources) -> tuple[str, ...]:
    """All kinds of negatives, given ones included, from the settings, or else from the files."""
    if config.negatives is not None:
        return config.negatives
    if sources.has_given:
        return ("given",)
    return ("shuffled",) if sources.genome is None else ("matched",)


def name_kinds(sources: DatasetSources) -> tuple[str, ...]:
    """Names of the given kinds of negatives: "given" for one file, the names of the files for several."""
    files = sources.list_negatives()
    if sources.negative_names:
        names = list(sources.negative_names)
    elif len(files) > 1:
        names = [_SUFFIXES.sub("", path.name) for path, _ in files]
    else:
        names = ["given"] if sources.has_given else []
    taken = {"positive", "shuffled", "matched"}
    unique: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate)
        unique.append(candidate)
    return tuple(unique)
