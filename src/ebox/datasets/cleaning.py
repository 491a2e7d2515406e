"""What is dropped from the examples: too much N, repeats, sequences with two labels, blacklisted places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8, UInt64

from ebox.datasets.examples import DropLog, Dropped, Examples, places_of
from ebox.datasets.kmers import group_equal, iter_rows, sequence_keys
from ebox.datasets.labels import unite
from ebox.datasets.similarity import SketchIndex, similar_across
from ebox.datasets.splits import factorize
from ebox.errors import InputError
from ebox.sequences.codes import gc_fraction, n_fraction, reverse_complement

if TYPE_CHECKING:
    from ebox.sequences.intervals import Intervals


# Share of k-mers: two windows of one locus that overlap by 54 %, or a copy with 4 % of its bases changed.
_SAME_LOCUS = 0.5


@dataclass(frozen=True)
class RepeatsResult:
    """Rows whose sequence, on either strand, occurs more than once; `first` is the first row with it."""

    row: Int64[np.ndarray, " repeat"]
    first: Int64[np.ndarray, " repeat"]
    flipped: Bool[np.ndarray, " repeat"]


def find_repeats(
    codes: UInt8[np.ndarray, "example length"], keys: UInt64[np.ndarray, " example"] | None = None
) -> RepeatsResult:
    """Find sequences that are equal on one of the strands; candidates are compared letter by letter."""
    keys = sequence_keys(codes) if keys is None else keys
    row, first = group_equal(keys)
    equal = np.zeros(len(row), dtype=bool)
    flipped = np.zeros(len(row), dtype=bool)
    for block in iter_rows(len(row), codes.shape[1]):
        left, right = codes[row[block]], codes[first[block]]
        equal[block] = (left == right).all(axis=1)
        flipped[block] = (left == reverse_complement(right)).all(axis=1) & ~equal[block]
    real = equal | flipped
    return RepeatsResult(row[real], first[real], flipped[real])


def measure_n(codes: UInt8[np.ndarray, "example length"]) -> Float32[np.ndarray, " example"]:
    """Share of N in each sequence."""
    return _measure(n_fraction, codes)


def measure_gc(codes: UInt8[np.ndarray, "example length"]) -> Float32[np.ndarray, " example"]:
    """Share of G and C among the known bases of each sequence; 0 where none is known."""
    return _measure(gc_fraction, codes)


def _measure(
    measure: Callable[[np.ndarray], np.ndarray], codes: UInt8[np.ndarray, "example length"]
) -> Float32[np.ndarray, " example"]:
    share = np.empty(len(codes), dtype=np.float32)
    for block in iter_rows(len(codes), codes.shape[1]):
        share[block] = measure(codes[block])
    return share


def drop_unknown(examples: Examples, max_n_fraction: float, log: DropLog) -> Examples:
    """Drop examples with a larger share of N than `max_n_fraction`, and those with no known base."""
    share = measure_n(examples.codes)
    bad = np.flatnonzero((share > max_n_fraction) | (share == 1.0))
    details = [f"n_fraction={value:.3f} allowed={max_n_fraction:.3f}" for value in share[bad].tolist()]
    log.add_examples(examples, bad, Dropped.TOO_MUCH_N, details)
    return _without(examples, bad)


def drop_repeats(examples: Examples, log: DropLog) -> Examples:
    """Keep the first of equal sequences, with the labels of all; drop all where a track has different ones.

    A sequence and its reverse complement count as equal, since they are one piece of DNA. Of several tracks the first
    positive is kept: the others say only what is known of it elsewhere.
    """
    repeats = find_repeats(examples.codes)
    return _drop_repeats(examples, repeats, np.zeros(len(repeats.row), dtype=bool), log)


def drop_train_repeats(examples: Examples, log: DropLog) -> Examples:
    """Clean a given train split: drop repeats, conflicts, and sequences that are also in validation or test.

    Validation and test are left as they were given.
    """
    repeats = find_repeats(examples.codes)
    return _drop_repeats(examples, repeats, examples.split[repeats.row] != 0, log)


def _drop_repeats(
    examples: Examples, repeats: RepeatsResult, is_kept: Bool[np.ndarray, " repeat"], log: DropLog
) -> Examples:
    """Drop conflicts, all repeats but the first, and rows that equal a kept row; the kept rows always stay."""
    _, group = np.unique(repeats.first, return_inverse=True)
    united, contradicts = unite(examples.targets[repeats.row], group)
    keeper = _choose_keepers(examples, repeats.row, group)
    elsewhere = np.isin(repeats.first, np.unique(repeats.first[is_kept]))
    conflicts = contradicts[group] & ~elsewhere
    later = ~elsewhere & ~conflicts & (repeats.row != repeats.row[keeper])
    adds = (examples.targets[repeats.row] != examples.targets[repeats.row[keeper]]).any(axis=1)
    of_first = RepeatsResult(repeats.row, repeats.row[keeper], repeats.flipped ^ repeats.flipped[keeper])
    reasons = (
        (elsewhere, Dropped.IN_OTHER_SPLIT, repeats),
        (conflicts, Dropped.CONFLICTING, repeats),
        (later & adds, Dropped.JOINED, of_first),
        (later & ~adds, Dropped.DUPLICATE, of_first),
    )
    for chosen, reason, about in reasons:
        mask = chosen & ~is_kept
        part = RepeatsResult(about.row[mask], about.first[mask], about.flipped[mask])
        log.add_examples(examples, part.row, reason, _describe(examples, part))
    if (later & adds).any():
        examples = replace(examples, targets=examples.targets.copy())
        kept = np.unique(keeper[later])
        examples.targets[repeats.row[kept]] = united[group[kept]]
    return _without(examples, repeats.row[~is_kept & (elsewhere | conflicts | later)])


def _choose_keepers(
    examples: Examples, rows: Int64[np.ndarray, " repeat"], group: Int64[np.ndarray, " repeat"]
) -> Int64[np.ndarray, " repeat"]:
    """For each of the equal rows the place, among them, of the one that is kept: the first positive, or the first."""
    order = np.lexsort((rows, ~examples.is_positive[rows], group))
    _, first = np.unique(group[order], return_index=True)
    return order[first][group]


def drop_made_repeats(examples: Examples, num_read: int, log: DropLog) -> Examples:
    """Drop made negatives (the rows from `num_read` on) that equal an earlier row, as a shuffled (CA)n may."""
    row, first = group_equal(sequence_keys(examples.codes))
    bad = row[(row != first) & (row >= num_read)]
    log.add_examples(examples, bad, Dropped.DUPLICATE, "made=true")
    return _without(examples, bad)


def drop_blacklisted(examples: Examples, blacklist: Intervals, log: DropLog) -> Examples:
    """Drop examples whose place overlaps a region of the blacklist.

    Raises:
        InputError: no example is on a chromosome of the blacklist.
    """
    bad = _find_in(examples, blacklist, "--blacklist")
    log.add_examples(examples, bad, Dropped.BLACKLISTED, "")
    return _without(examples, bad)


def drop_avoided(examples: Examples, peaks: Intervals, log: DropLog) -> Examples:
    """Drop negatives whose place overlaps a peak of another set.

    Raises:
        InputError: no example is on a chromosome of the peaks.
    """
    bad = _find_in(examples, peaks, "--avoid")
    bad = bad[~examples.is_positive[bad]]
    log.add_examples(examples, bad, Dropped.AVOIDED, "")
    return _without(examples, bad)


def _find_in(examples: Examples, regions: Intervals, option: str) -> Int64[np.ndarray, " row"]:
    """The examples whose place overlaps a region of a file, which was given with `option`."""
    from ebox.sequences.intervals import overlaps_any

    placed = np.flatnonzero(examples.has_place)
    if not np.isin(examples.chrom[placed], regions.chrom).any():
        raise InputError(
            "shares no chromosome with the examples, so it would have no effect"
            if len(placed)
            else "can't be used: no example has coordinates",
            file=regions.source,
            remedy=f"check the names of the chromosomes (chr1 or 1) and the genome build, or leave {option} out",
        )
    return placed[overlaps_any(places_of(examples, placed), regions)]


def find_near_positives(
    examples: Examples, rows: Int64[np.ndarray, " row"], index: SketchIndex
) -> tuple[Int64[np.ndarray, " near"], list[str]]:
    """Find negatives at `rows` that share half their place, or more than half their k-mers, with a positive.

    Such a negative is bound where the positive is, so its label is doubtful. Each track is looked at by itself.

    Args:
        examples: All examples.
        rows: Examples that are negative in a track.
        index: Sketch index of the examples.

    Returns:
        The rows in rising order, and words for dropped.tsv that name the positive.
    """
    details: dict[int, str] = {}
    for track in range(examples.num_tracks):
        unbound = rows[examples.targets[rows, track] == 0]
        bound = np.flatnonzero(examples.targets[:, track] == 1)
        if len(unbound) and len(bound):
            details |= _find_near(examples, unbound, bound, index)
    near = sorted(details)
    return np.array(near, dtype=np.int64), [details[row] for row in near]


def _find_near(
    examples: Examples, unbound: Int64[np.ndarray, " row"], bound: Int64[np.ndarray, " positive"], index: SketchIndex
) -> dict[int, str]:
    """The negatives of a track that are near a positive of it, with words that name the positive."""
    side = np.full(len(examples), 2, dtype=np.uint8)
    side[unbound], side[bound] = 1, 0
    alike = similar_across(examples.codes, side, _SAME_LOCUS, index)
    details = {row: f"resembles={examples.names[at]}" for row, at in zip(*map(np.ndarray.tolist, alike), strict=True)}
    on = _find_on(examples, unbound, bound)
    return details | {row: f"overlaps={examples.names[at]}" for row, at in zip(*on, strict=True)}


def drop_near_positives(
    examples: Examples, rows: Int64[np.ndarray, " row"], index: SketchIndex, log: DropLog
) -> Examples:
    """Drop negatives that lie on a positive, or are nearly the same: see `find_near_positives`.

    Args:
        examples: All examples.
        rows: The negatives.
        index: Sketch index of the examples.
        log: Where they are listed.
    """
    near, details = find_near_positives(examples, rows, index)
    log.add_examples(examples, near, Dropped.NEAR_POSITIVE, details)
    return _without(examples, near)


def _find_on(examples: Examples, rows: np.ndarray, positives: np.ndarray) -> tuple[list[int], list[int]]:
    """Rows whose place shares at least half its length with that of a positive, and the positive."""
    rows, positives = rows[examples.has_place[rows]], positives[examples.has_place[positives]]
    _, chrom = factorize(examples.chrom)
    # All chromosomes on one number line; each is shorter than 2^40.
    place = examples.start + (chrom << 40)
    positives = positives[np.argsort(place[positives], kind="stable")]
    if not len(positives):
        return [], []
    after = np.searchsorted(place[positives], place[rows])
    left = positives[np.maximum(after - 1, 0)]
    right = positives[np.minimum(after, len(positives) - 1)]
    nearest = np.where(np.abs(place[rows] - place[left]) <= np.abs(place[right] - place[rows]), left, right)
    on = 2 * np.abs(place[rows] - place[nearest]) <= examples.codes.shape[1]
    return rows[on].tolist(), nearest[on].tolist()


def _without(examples: Examples, rows: Int64[np.ndarray, " row"]) -> Examples:
    if not len(rows):
        return examples
    keep = np.ones(len(examples), dtype=bool)
    keep[rows] = False
    return examples.take(np.flatnonzero(keep))


def _describe(examples: Examples, repeats: RepeatsResult) -> list[str]:
    """The record that each repeat equals, and its line; an empty text for the first of its sequence."""
    return [
        ""
        if row == first
        else f"line={examples.line[first]} strand={'-' if flipped else '+'} equals={examples.names[first]}"
        for row, first, flipped in zip(
            repeats.row.tolist(), repeats.first.tolist(), repeats.flipped.tolist(), strict=True
        )
    ]
