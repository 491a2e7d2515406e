"""Reading the files of a dataset into examples of one length: FASTA, labelled tables, peaks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from ebox.datasets.contigs import check_chroms
from ebox.datasets.examples import DropLog, Dropped, Examples, Source, make_examples
from ebox.datasets.folder import UNKNOWN_TARGET
from ebox.datasets.kmers import iter_rows
from ebox.datasets.sources import Read
from ebox.errors import InputError
from ebox.sequences.codes import reverse_complement
from ebox.sequences.summits import Doubt

if TYPE_CHECKING:
    from ebox.sequences.genome import Genome
    from ebox.sequences.intervals import Intervals
    from ebox.sequences.records import SequenceSet

PEAK_LENGTH_BP = 200
MAX_SHORT_SHARE = 0.05
# The name of the length before cutting among what tells the classes apart.
LENGTH = "length_bp"


@dataclass(frozen=True)
class RawSource:
    """A sequence file after reading, before it is cut to the common length; `targets` are its labels by track."""

    source: Source
    sequences: SequenceSet
    targets: UInt8[np.ndarray, "record track"]
    split: int = -1
    negative_kind: int = 1


def read_source(read: Read, columns: Sequence[str] | None = None, num_tracks: int = 1) -> RawSource:
    """Read a sequence file.

    Args:
        read: The file, and what it holds: "positives", "negatives", "table", or the name of a split, alone or before
            "positives" or "negatives". One of no label must be a table with labels.
        columns: Columns of labels of such a table, one for each track; None: the column label.
        num_tracks: How many tracks there are.

    Raises:
        InputError: the file can't be read, lacks labels that are needed, or has labels against its role.
    """
    from ebox.sequences.fasta import read_sequences
    from ebox.sequences.tables import read_table

    path, role = read.path, read.role
    # Hashed as it is read: a pipe can't be read a second time.
    digest = hashlib.sha256()
    if find_label(role) is None:
        sequences = read_table(
            path, label_column="label" if columns is None else tuple(columns), on_bytes=digest.update
        )
    else:
        sequences = read_sequences(path, on_bytes=digest.update)
    _check_role(sequences, path, role)
    source = Source(str(path), role, len(sequences), digest.hexdigest())
    targets = spread_labels(label_records(sequences, role), read.tracks, num_tracks)
    return RawSource(source, sequences, targets, read.split, read.kind)


def find_label(role: str) -> int | None:
    """The label of every record of a file with this role; None: each record has its own."""
    return {"positives": 1, "negatives": 0}.get(role.rpartition(" ")[2])


def _check_role(sequences: SequenceSet, path: Path, role: str) -> None:
    """Raise InputError where a file of positives has a label 0, or a file of negatives a label 1."""
    expected, split = find_label(role), role.rpartition(" ")[0]
    if sequences.labels is None or expected is None:
        return
    wrong = np.flatnonzero(sequences.labels != expected)
    if len(wrong):
        row = int(wrong[0])
        raise InputError(
            f"holds {len(wrong):,} rows with label {1 - expected}, but is given as {role}",
            file=path,
            line=int(sequences.lines[row]),
            record=sequences.names[row],
            remedy=f"give a file with both labels as --{split}, and no --{split}-negatives"
            if split
            else "give a file with both labels as --table",
        )


def choose_length(raw: Sequence[RawSource], length_bp: int | None) -> int:
    """The length from the settings, else the most common length that at least 19 of 20 sequences reach.

    Where the most common length is longer than that, it is the greatest length that 19 of 20 sequences reach. Shorter
    sequences are dropped, and counted.
    """
    return find_length(np.concatenate([part.sequences.lengths for part in raw])) if length_bp is None else length_bp


def find_length(lengths: Int64[np.ndarray, " record"]) -> int:
    """The most common length, or the greatest that 19 of 20 reach where that is shorter."""
    values, counts = np.unique(lengths, return_counts=True)
    common = int(values[::-1][np.argmax(counts[::-1])])
    reached = np.sort(lengths)[int(MAX_SHORT_SHARE * len(lengths))]
    return max(1, min(common, int(reached)))


def check_lengths(raw: Sequence[RawSource], length_bp: int) -> None:
    """Raise InputError where most positives or negatives of a file are shorter than a length that nobody asked for."""
    for part in raw:
        for label, name, others in ((0, "negatives", "positives"), (1, "positives", "others")):
            lengths = part.sequences.lengths[(part.targets == label).any(axis=1)]
            if len(lengths) and np.median(lengths) < length_bp:
                reached = find_length(lengths)
                raise InputError(
                    f"{int((lengths < length_bp).sum()):,} of its {len(lengths):,} {name} are shorter than the "
                    f"{others}, of which {length_bp} bp are taken; most of these {name} have {reached} bp",
                    file=part.source.path,
                    remedy=f"--length {reached} takes the central {reached} bp of both; or give longer {name}",
                )


def cut_source(raw: RawSource, length_bp: int, log: DropLog) -> Examples:
    """Cut sequences to one length: keep the centre of longer ones, drop shorter ones."""
    sequences = raw.sequences
    lengths = sequences.lengths
    kept = np.flatnonzero(lengths >= length_bp)
    short = np.flatnonzero(lengths < length_bp)
    log.add(
        raw.source.name,
        sequences.lines[short].tolist(),
        [sequences.names[row] for row in short.tolist()],
        Dropped.TOO_SHORT,
        [f"length_bp={length} needed_bp={length_bp}" for length in lengths[short].tolist()],
    )
    skipped = (lengths[kept] - length_bp) // 2
    chrom, start, strand = _locate(sequences, kept)
    if strand is not None:
        # What is skipped at the start of the minus strand is at the end of the place.
        skipped_of_place = np.where(strand == "-", lengths[kept] - length_bp - skipped, skipped)
        start = np.where(start >= 0, start + skipped_of_place, -1)
    else:
        start = np.where(start >= 0, start + skipped, -1)
    kind = np.where((raw.targets == 1).any(axis=1), 0, raw.negative_kind)
    log.measure(LENGTH, kind, lengths)
    log.sources.append(replace(raw.source, cropped=int((lengths > length_bp).sum())))
    return make_examples(
        _cut_codes(sequences, kept, skipped, length_bp),
        sequences.names if len(kept) == len(sequences) else [sequences.names[row] for row in kept.tolist()],
        target=raw.targets[kept],
        kind=kind[kept],
        source=len(log.sources) - 1,
        line=sequences.lines[kept],
        chrom=chrom,
        start=start,
        end=np.where(start >= 0, start + length_bp, -1),
        strand=strand,
        split=raw.split,
    )


def label_records(sequences: SequenceSet, role: str) -> UInt8[np.ndarray, "record ..."]:
    """The label of each record, by the role of its file or its own; that of a table by track where it has several."""
    label = find_label(role)
    if label is None and sequences.labels is not None:
        return np.where(np.isnan(sequences.labels), UNKNOWN_TARGET, sequences.labels).astype(np.uint8)
    return np.full(len(sequences), 0 if label is None else label, dtype=np.uint8)


def spread_labels(
    labels: UInt8[np.ndarray, "record ..."], tracks: Sequence[int] | None, num_tracks: int
) -> UInt8[np.ndarray, "record track"]:
    """Labels in a column for each track; unknown in those that they are not of (`tracks`; None: of all)."""
    if labels.ndim == 2:
        return labels
    targets = np.full((len(labels), num_tracks), UNKNOWN_TARGET, dtype=np.uint8)
    targets[:, slice(None) if tracks is None else list(tracks)] = labels[:, None]
    return targets


def locate_positives(raw: RawSource) -> list[Intervals]:
    """The places in the headers of the positives, in their full length; an empty list where no header names one."""
    from ebox.sequences.fasta import parse_locations

    positive = (raw.targets == 1).any(axis=1)
    places = parse_locations(raw.sequences) if positive.any() else None
    return [] if places is None else [places.take(np.flatnonzero((places.start >= 0) & positive))]


def read_peaks(
    peaks: Intervals,
    genome: Genome,
    length_bp: int,
    log: DropLog,
    *,
    kind: int = 0,
    tracks: Sequence[int] | None = None,
    num_tracks: int = 1,
) -> Examples:
    """Windows of the genome around the summits of peaks (their middles where a summit is unknown).

    A peak on the minus strand gives the reverse complement. A window that reaches past the end of its contig, or whose
    chromosome is not in the genome, is dropped.

    Args:
        peaks: The peaks, or other places.
        genome: The genome.
        length_bp: Length of the windows.
        log: Its last source is the file of the peaks; the dropped peaks and what is in doubt of them are added to it.
        kind: Kind of the examples: 0 for positives, another for negatives.
        tracks: The tracks that their label is of; None: all.
        num_tracks: How many tracks there are.

    Raises:
        InputError: no peak lies on a chromosome of the genome.
    """
    log.notes += peaks.notes
    said_by = "peaks" if kind == 0 else "negatives"
    known = check_chroms(peaks.chrom, genome, peaks.source, log, said_by=said_by)
    is_summit = np.zeros(len(peaks), dtype=bool)
    # Summits that are all 0 stand there because a column of numbers was needed.
    if peaks.summit is not None and not any(each["code"] == Doubt.ZERO_SUMMITS for each in peaks.notes):
        is_summit = peaks.summit >= 0
    middle = (peaks.start + peaks.end) // 2
    centre = middle if peaks.summit is None else np.where(is_summit, peaks.summit, middle)
    start = centre - length_bp // 2
    size = np.array([genome.chroms.get(name, 0) for name in peaks.chrom.tolist()], dtype=np.int64)
    inside = known & (start >= 0) & (start + length_bp <= size)
    names = _name_peaks(peaks)
    for bad, reason in ((~known, Dropped.UNKNOWN_CHROMOSOME), (known & ~inside, Dropped.OFF_CONTIG)):
        _log_peaks(peaks, names, bad, reason, start, length_bp, size, log)
    rows = np.flatnonzero(inside)
    on_summits = int(is_summit[rows].sum())
    log.sources[-1] = replace(log.sources[-1], on_summits=on_summits, on_middles=len(rows) - on_summits)
    chrom = peaks.chrom[rows]
    codes = genome.fetch_windows(chrom, start[rows], length_bp)
    strand = np.full(len(rows), ".") if peaks.strand is None else peaks.strand[rows]
    minus = np.flatnonzero(strand == "-")
    codes[minus] = reverse_complement(codes[minus])
    return make_examples(
        codes,
        [names[row] for row in rows.tolist()],
        target=spread_labels(np.full(len(rows), int(kind == 0), dtype=np.uint8), tracks, num_tracks),
        kind=kind,
        source=len(log.sources) - 1,
        line=peaks.lines[rows],
        chrom=chrom,
        start=start[rows],
        end=start[rows] + length_bp,
        strand=strand,
    )


def _locate(
    sequences: SequenceSet, kept: Int64[np.ndarray, " row"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Chromosome, start and strand of each kept record from its header; "" and -1 where the header has no place."""
    from ebox.sequences.fasta import parse_locations

    places = parse_locations(sequences)
    if places is None:
        return np.full(len(kept), "", dtype=object), np.full(len(kept), -1, dtype=np.int64), None
    return places.chrom[kept], places.start[kept], None if places.strand is None else places.strand[kept]


def _cut_codes(
    sequences: SequenceSet, kept: np.ndarray, skipped: np.ndarray, length_bp: int
) -> UInt8[np.ndarray, "example length"]:
    if len(kept) == len(sequences) and not (sequences.lengths != length_bp).any():
        return sequences.matrix(length_bp)
    codes = np.empty((len(kept), length_bp), dtype=np.uint8)
    begin = sequences.offsets[kept] + skipped
    for block in iter_rows(len(kept), length_bp):
        codes[block] = sequences.codes[begin[block, None] + np.arange(length_bp)]
    return codes


def _name_peaks(peaks: Intervals) -> list[str]:
    places = zip(peaks.chrom.tolist(), peaks.start.tolist(), peaks.end.tolist(), strict=True)
    names = [f"{chrom}:{start}-{end}" for chrom, start, end in places]
    if peaks.name is None:
        return names
    return [given if given not in ("", ".") else place for given, place in zip(peaks.name, names, strict=True)]


def _log_peaks(
    peaks: Intervals,
    names: list[str],
    bad: Bool[np.ndarray, " peak"],
    reason: Dropped,
    start: np.ndarray,
    length_bp: int,
    size: np.ndarray,
    log: DropLog,
) -> None:
    rows = np.flatnonzero(bad).tolist()
    details = [
        f"chrom={peaks.chrom[row]}"
        if reason == Dropped.UNKNOWN_CHROMOSOME
        else f"place={peaks.chrom[row]}:{start[row]}-{start[row] + length_bp} contig_bp={size[row]}"
        for row in rows
    ]
    lines = [int(peaks.lines[row]) for row in rows]
    log.add(log.sources[-1].name, lines, [names[row] for row in rows], reason, details)
