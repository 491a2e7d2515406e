"""The audit: which examples of validation and test repeat, overlap, resemble or descend with a training example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64

from ebox.datasets.cleaning import RepeatsResult, find_repeats
from ebox.datasets.examples import Examples
from ebox.datasets.folder import SPLITS
from ebox.datasets.kmers import KMER_BASES, is_new, iter_rows, long_kmer_hashes
from ebox.datasets.labels import contradict, unite
from ebox.datasets.relatives import find_relatives
from ebox.datasets.similarity import SketchIndex, index_sketches, similar_across
from ebox.datasets.splits import factorize
from ebox.progress import Progress, quiet

LONG_KMER_BP = 31
NUM_EXAMPLES_SHOWN = 10
# Of validation and test each, for shared 31-mers: enough for a share that is right within half a percent.
MAX_ROWS_FOR_LONG_KMERS = 20_000
_MAX_TABLE_BITS = 26
_LOOKUPS_AT_ONCE = 1 << 23
_Pairs = tuple[Int64[np.ndarray, " row"], Int64[np.ndarray, " row"]]
_SIDES = (("train", "validation"), ("train", "test"), ("validation", "test"))


@dataclass(frozen=True)
class AuditResult:
    """What the splits share, in counts; and for each example a training example that it is related to, or -1.

    `relative` is -1 for all examples of the training split. `report` is laid out in docs/formats.md. `tested` has for
    each kind of finding the rows of the test split with a partner in train.
    """

    report: dict[str, Any]
    relative: Int64[np.ndarray, " example"]
    tested: Mapping[str, Int64[np.ndarray, " row"]] = field(default_factory=dict)


def audit_splits(
    examples: Examples,
    max_similarity: float,
    seed: int,
    *,
    index: SketchIndex | None = None,
    suspects: Bool[np.ndarray, " example"] | None = None,
    progress: Progress = quiet,
) -> AuditResult:
    """Count what the splits share, and the repeats inside each.

    Args:
        examples: With their splits assigned.
        max_similarity: Share of k-mers above which two sequences count as nearly the same.
        seed: For the sample of rows in the 31-mer check.
        index: Sketch index of the same examples; none: made here.
        suspects: Rows that may have relatives in another split; none: all.
        progress: Called with the stage.
    """
    index = index_sketches(examples.codes) if index is None else index
    suspects = np.ones(len(examples), dtype=bool) if suspects is None else suspects
    repeats = find_repeats(examples.codes)
    pairs, relative = [], np.full(len(examples), -1, dtype=np.int64)
    tested: dict[str, np.ndarray] = {}
    for number, (left, right) in enumerate(_SIDES):
        progress("auditing the splits", number, len(_SIDES) + 1)
        found = _find_shared(examples, left, right, max_similarity, repeats, index, suspects, progress)
        pairs.append(_describe_pair(examples, left, right, found))
        if (left, right) == ("train", "test"):
            tested = {kind: rows for kind, (rows, _) in found.items()}
        if left == "train":
            for rows, partners in found.values():
                relative[rows] = np.where(relative[rows] < 0, partners, relative[rows])
    progress("auditing the splits", len(_SIDES), len(_SIDES) + 1)
    report = {
        "max_similarity": max_similarity,
        "kmer_bp": index.kmer_bp,
        "within": {name: _audit_within(examples, number, repeats) for number, name in enumerate(SPLITS)},
        "between": pairs,
        "shared_kmers": _audit_long_kmers(examples, seed),
    }
    progress("auditing the splits", len(_SIDES) + 1, len(_SIDES) + 1)
    return AuditResult(report, relative, tested)


def _audit_within(examples: Examples, split: int, repeats: RepeatsResult) -> dict[str, int]:
    """Repeats inside one split: rows that equal an earlier row of it, and sequences with two labels."""
    inside = examples.split[repeats.row] == split
    row, first, flipped = repeats.row[inside], repeats.first[inside], repeats.flipped[inside]
    # The first of a group may be in another split: count from the first in this split.
    _, at, group = np.unique(first, return_index=True, return_inverse=True)
    same_strand = flipped == flipped[at][group]
    later = np.ones(len(row), dtype=bool)
    later[at] = False
    return {
        "exact": int((later & same_strand).sum()),
        "reverse_complement": int((later & ~same_strand).sum()),
        "conflicting_labels": int(unite(examples.targets[row], group)[1].sum()),
    }


def _find_shared(
    examples: Examples,
    left: str,
    right: str,
    max_similarity: float,
    repeats: RepeatsResult,
    index: SketchIndex,
    suspects: Bool[np.ndarray, " example"],
    progress: Progress,
) -> dict[str, _Pairs]:
    """For each kind of finding the rows of the right split, each once, and a row of the left split."""
    left_split, right_split = SPLITS.index(left), SPLITS.index(right)
    exact, flipped = _equal_across(examples, left_split, right_split, repeats)
    side = np.where(examples.split == left_split, 0, np.where(examples.split == right_split, 1, 2))
    similar = similar_across(examples.codes, side.astype(np.uint8), max_similarity, index)
    overlaps = _overlaps_across(examples, left_split, right_split)
    relatives = find_relatives(
        examples.codes, np.flatnonzero((side == 1) & suspects), np.flatnonzero(side == 0), progress
    )
    rows, at = np.unique(relatives.query, return_index=True)
    return {
        "exact": exact,
        "reverse_complement": flipped,
        "overlap": overlaps,
        "similar": similar,
        "relative": (rows, relatives.source[at]),
    }


def _describe_pair(examples: Examples, left: str, right: str, found: Mapping[str, _Pairs]) -> dict[str, Any]:
    num = int((examples.split == SPLITS.index(right)).sum())
    report: dict[str, Any] = {"of": right, "in": left, "num_examples": num}
    for name, (leaking, partner) in found.items():
        differs = contradict(examples.targets[leaking], examples.targets[partner])
        report[name] = {
            "num_examples": len(leaking),
            "other_label": int(differs.sum()),
            "examples": _show(examples, leaking, partner),
        }
    report["any"] = len(np.unique(np.concatenate([rows for rows, _ in found.values()])))
    return report


def _equal_across(
    examples: Examples, left: int, right: int, repeats: RepeatsResult
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Rows of the right split that equal a row of the left split, and that row; same strand first, then the other."""
    split = examples.split[repeats.row]
    results = []
    for other_strand in (False, True):
        rows, partners = [], []
        for strand in (False, True):
            source = (split == left) & (repeats.flipped == strand)
            asked = (split == right) & (repeats.flipped == (strand != other_strand))
            firsts, at = np.unique(repeats.first[source], return_index=True)
            if not len(firsts):
                continue
            place = np.minimum(np.searchsorted(firsts, repeats.first[asked]), len(firsts) - 1)
            hit = firsts[place] == repeats.first[asked]
            rows.append(repeats.row[asked][hit])
            partners.append(repeats.row[source][at][place[hit]])
        none = np.empty(0, dtype=np.int64)
        results.append((np.concatenate([none, *rows]), np.concatenate([none, *partners])))
    exact, flipped = results
    only = ~np.isin(flipped[0], exact[0])
    return exact, (flipped[0][only], flipped[1][only])


def _overlaps_across(examples: Examples, left: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the right split that overlap a row of the left split on the genome, and that row."""
    rows = np.flatnonzero(examples.has_place & ((examples.split == left) | (examples.split == right)))
    _, chrom = factorize(examples.chrom[rows])
    # All chromosomes on one number line; each is shorter than 2^40.
    start, end = examples.start[rows] + (chrom << 40), examples.end[rows] + (chrom << 40)
    is_left = examples.split[rows] == left
    order = np.argsort(start[is_left], kind="stable")
    sources = rows[is_left][order]
    none = np.empty(0, dtype=np.int64)
    if not len(sources) or is_left.all():
        return none, none
    left_start, left_end = start[is_left][order], end[is_left][order]
    reach = np.maximum.accumulate(left_end)
    # Of the sources up to each place the one that ends last.
    furthest = np.maximum.accumulate(np.where(left_end == reach, np.arange(len(reach)), 0))
    asked = np.flatnonzero(~is_left)
    before = np.searchsorted(left_start, end[asked], side="left") - 1
    hit = (before >= 0) & (reach[np.maximum(before, 0)] > start[asked])
    return rows[asked[hit]], sources[furthest[before[hit]]]


def _audit_long_kmers(examples: Examples, seed: int) -> dict[str, Any]:
    """How many examples of validation and test share a 31-mer, on either strand, with a training example."""
    kmer_bp = min(LONG_KMER_BP, examples.codes.shape[1])
    random = np.random.default_rng([seed, 0xA0D17])
    checked = []
    for split in (1, 2):
        rows = np.flatnonzero(examples.split == split)
        if len(rows) > MAX_ROWS_FOR_LONG_KMERS:
            rows = np.sort(random.choice(rows, MAX_ROWS_FOR_LONG_KMERS, replace=False))
        checked.append(rows)
    rows = np.concatenate(checked)
    shares = _share_long_kmer(examples.codes, rows, np.flatnonzero(examples.split == 0), kmer_bp)
    report: dict[str, Any] = {"kmer_bp": kmer_bp, "in": "train"}
    for split, name in ((1, "validation"), (2, "test")):
        inside = examples.split[rows] == split
        positive = examples.is_positive[rows]
        report[name] = {
            label: {"num_checked": int(chosen.sum()), "num_sharing": int((chosen & shares).sum())}
            for label, chosen in (("positive", inside & positive), ("negative", inside & ~positive))
        }
    return report


def _share_long_kmer(
    codes: UInt8[np.ndarray, "example length"],
    rows: Int64[np.ndarray, " row"],
    train: Int64[np.ndarray, " train"],
    kmer_bp: int,
) -> Bool[np.ndarray, " row"]:
    """Whether each of `rows` shares a k-mer with a row of `train`; exact, train is read in blocks."""
    width = codes.shape[1] - kmer_bp + 1
    kmers = np.empty((len(rows), width), dtype=np.uint64)
    for block in iter_rows(len(rows), codes.shape[1], KMER_BASES):
        kmers[block] = long_kmer_hashes(codes[rows[block]], kmer_bp)
    # Lookups in sorted order read memory in order: 10 times faster than in the order of the rows.
    order = np.argsort(kmers, axis=None)
    ordered = kmers.ravel()[order]
    known = ordered != np.iinfo(np.uint64).max
    order, ordered = order[known], ordered[known]
    is_first = is_new(ordered)
    seen = _mark_seen(codes, train, kmer_bp, ordered[is_first])
    shares = np.zeros(len(rows), dtype=bool)
    shares[order[seen[np.cumsum(is_first) - 1]] // width] = True
    return shares


def _mark_seen(
    codes: np.ndarray, train: np.ndarray, kmer_bp: int, wanted: UInt64[np.ndarray, " kmer"]
) -> Bool[np.ndarray, " kmer"]:
    """Which of the `wanted` k-mers (sorted) occur in train; a table of their hashes rejects most others quickly."""
    # 8 to 16 entries for each k-mer, up to 64 MB.
    bits = min(_MAX_TABLE_BITS, max(10, len(wanted).bit_length() + 3))
    table = np.zeros(1 << bits, dtype=bool)
    table[_address(wanted, bits)] = True
    seen = np.zeros(len(wanted), dtype=bool)
    waiting: list[np.ndarray] = []
    num_waiting = 0
    for block in iter_rows(len(train), codes.shape[1], KMER_BASES):
        kmers = long_kmer_hashes(codes[train[block]], kmer_bp).ravel(order="K")
        waiting.append(kmers[table[_address(kmers, bits)]])
        num_waiting += len(waiting[-1])
        if num_waiting > _LOOKUPS_AT_ONCE:
            seen |= _is_among(wanted, np.concatenate(waiting))
            waiting, num_waiting = [], 0
    seen |= _is_among(wanted, np.concatenate([wanted[:0], *waiting]))
    return seen


def _address(kmers: UInt64[np.ndarray, " kmer"], bits: int) -> Int64[np.ndarray, " kmer"]:
    """Place in the table: the high bits of a multiplicative hash (Fibonacci hashing, Knuth)."""
    high: np.ndarray = (kmers * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)
    return high.astype(np.int64)


def _is_among(wanted: UInt64[np.ndarray, " kmer"], found: UInt64[np.ndarray, " found"]) -> Bool[np.ndarray, " kmer"]:
    """Which of `wanted` (sorted) are in `found`, which is sorted here so that memory is read in order."""
    result = np.zeros(len(wanted), dtype=bool)
    if not len(wanted):
        return result
    found.sort()
    place = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
    result[place[wanted[place] == found]] = True
    return result


def _show(examples: Examples, rows: np.ndarray, partners: np.ndarray) -> list[dict[str, str]]:
    """The first few pairs by name."""
    return [
        {"example": examples.names[row], "equals": examples.names[partner]}
        for row, partner in zip(rows[:NUM_EXAMPLES_SHOWN].tolist(), partners[:NUM_EXAMPLES_SHOWN].tolist(), strict=True)
    ]
