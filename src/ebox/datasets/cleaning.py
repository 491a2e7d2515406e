"""What is dropped from the examples, and why: too much N, repeats, and the same sequence with two labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8, UInt64

from ebox.datasets.examples import DropLog, Dropped, Examples, Source, places_of
from ebox.datasets.kmers import flip_strand, group_equal, iter_rows, sequence_keys
from ebox.errors import InputError

if TYPE_CHECKING:
    from ebox.sequences.intervals import Intervals


@dataclass(frozen=True)
class RepeatsResult:
    """Rows whose sequence, on either strand, occurs more than once; `first` is the first row with it."""

    row: Int64[np.ndarray, " repeat"]
    first: Int64[np.ndarray, " repeat"]
    flipped: Bool[np.ndarray, " repeat"]


def find_repeats(
    codes: UInt8[np.ndarray, "example length"], keys: UInt64[np.ndarray, " example"] | None = None
) -> RepeatsResult:
    """Find sequences that are equal, also as reverse complement; candidates are compared letter by letter."""
    keys = sequence_keys(codes) if keys is None else keys
    row, first = group_equal(keys)
    equal = np.zeros(len(row), dtype=bool)
    flipped = np.zeros(len(row), dtype=bool)
    for block in iter_rows(len(row), codes.shape[1]):
        left, right = codes[row[block]], codes[first[block]]
        equal[block] = (left == right).all(axis=1)
        flipped[block] = (left == flip_strand(right)).all(axis=1) & ~equal[block]
    real = equal | flipped
    return RepeatsResult(row[real], first[real], flipped[real])


def measure_n(codes: UInt8[np.ndarray, "example length"]) -> Float32[np.ndarray, " example"]:
    """Share of N in each sequence."""
    share = np.empty(len(codes), dtype=np.float32)
    for block in iter_rows(len(codes), codes.shape[1]):
        share[block] = (codes[block] > 3).mean(axis=1)
    return share


def measure_gc(codes: UInt8[np.ndarray, "example length"]) -> Float32[np.ndarray, " example"]:
    """Share of G and C among the bases that are known, in each sequence; 0 where none is."""
    share = np.empty(len(codes), dtype=np.float32)
    for block in iter_rows(len(codes), codes.shape[1]):
        part = codes[block]
        strong = ((part == 1) | (part == 2)).sum(axis=1)
        share[block] = strong / np.maximum((part < 4).sum(axis=1), 1)
    return share


def drop_unknown(examples: Examples, max_n_fraction: float, log: DropLog, sources: Sequence[Source]) -> Examples:
    """Drop examples with more N than allowed, and those of nothing but N."""
    share = measure_n(examples.codes)
    bad = np.flatnonzero((share > max_n_fraction) | (share == 1.0))
    details = [f"n_fraction={value:.3f} allowed={max_n_fraction:.3f}" for value in share[bad].tolist()]
    log.add_examples(examples, bad, Dropped.TOO_MUCH_N, details, sources)
    return _without(examples, bad)


def drop_repeats(examples: Examples, log: DropLog, sources: Sequence[Source]) -> Examples:
    """Keep the first of equal sequences; drop all of those that carry different labels.

    Sequences that are each other's reverse complement count as equal, since they are one piece of DNA.
    """
    repeats = find_repeats(examples.codes)
    differs = (examples.targets[repeats.row] != examples.targets[repeats.first]).any(axis=1)
    in_conflict = np.isin(repeats.first, np.unique(repeats.first[differs]))
    again = ~in_conflict & (repeats.row != repeats.first)
    for chosen, reason in ((in_conflict, Dropped.CONFLICTING), (again, Dropped.DUPLICATE)):
        part = RepeatsResult(repeats.row[chosen], repeats.first[chosen], repeats.flipped[chosen])
        log.add_examples(examples, part.row, reason, _describe(examples, part), sources)
    return _without(examples, repeats.row[in_conflict | again])


def drop_train_repeats(examples: Examples, log: DropLog, sources: Sequence[Source]) -> Examples:
    """Clean the train split of given splits: drop what repeats, conflicts, or stands in validation or test.

    Validation and test are left as they were given.
    """
    repeats = find_repeats(examples.codes)
    in_train = examples.split[repeats.row] == 0
    differs = (examples.targets[repeats.row] != examples.targets[repeats.first]).any(axis=1)
    elsewhere = np.isin(repeats.first, np.unique(repeats.first[~in_train]))
    conflicts = np.isin(repeats.first, np.unique(repeats.first[differs])) & ~elsewhere
    again = ~elsewhere & ~conflicts & (repeats.row != repeats.first)
    reasons = ((elsewhere, Dropped.IN_OTHER_SPLIT), (conflicts, Dropped.CONFLICTING), (again, Dropped.DUPLICATE))
    for chosen, reason in reasons:
        mask = chosen & in_train
        part = RepeatsResult(repeats.row[mask], repeats.first[mask], repeats.flipped[mask])
        log.add_examples(examples, part.row, reason, _describe(examples, part), sources)
    return _without(examples, repeats.row[in_train & (elsewhere | conflicts | again)])


def drop_made_repeats(examples: Examples, num_read: int, log: DropLog, sources: Sequence[Source]) -> Examples:
    """Drop made negatives (rows from `num_read` on) that equal an earlier row, as a shuffled (CA)n may."""
    row, first = group_equal(sequence_keys(examples.codes))
    bad = row[(row != first) & (row >= num_read)]
    log.add_examples(examples, bad, Dropped.DUPLICATE, "made=true", sources)
    return _without(examples, bad)


def drop_blacklisted(examples: Examples, blacklist: Intervals, log: DropLog, sources: Sequence[Source]) -> Examples:
    """Drop examples whose place overlaps a region of the blacklist."""
    from ebox.sequences.intervals import overlaps_any

    placed = np.flatnonzero(examples.has_place)
    if not np.isin(examples.chrom[placed], blacklist.chrom).any():
        raise InputError(
            "shares no chromosome with the examples, so it would do nothing"
            if len(placed)
            else "is of no use: no example has coordinates",
            file=blacklist.source,
            remedy="check the names of the chromosomes (chr1 or 1) and the genome build, or leave --blacklist out",
        )
    bad = placed[overlaps_any(places_of(examples, placed), blacklist)]
    log.add_examples(examples, bad, Dropped.BLACKLISTED, "", sources)
    return _without(examples, bad)


def _without(examples: Examples, rows: Int64[np.ndarray, " row"]) -> Examples:
    if not len(rows):
        return examples
    keep = np.ones(len(examples), dtype=bool)
    keep[rows] = False
    return examples.take(np.flatnonzero(keep))


def _describe(examples: Examples, repeats: RepeatsResult) -> list[str]:
    """For each repeat which record it equals, from which line; nothing for the first with its sequence."""
    texts = []
    for row, first, flipped in zip(repeats.row.tolist(), repeats.first.tolist(), repeats.flipped.tolist(), strict=True):
        if row == first:
            texts.append("")
            continue
        texts.append(f"line={examples.line[first]} strand={'-' if flipped else '+'} equals={examples.names[first]}")
    return texts
