"""Sequences that are nearly the same: found by shared sketch entries, confirmed on all k-mers, clustered.

The search follows Linclust (Steinegger and Söding 2018): sequences that share an entry of their bottom sketch are put
into one bucket, and inside a bucket each is compared only with its neighbour and with the first. The cost grows with
the number of sequences, not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8, UInt32, UInt64

from ebox.datasets.kmers import (
    KMER_BASES,
    KMER_BP,
    NO_KMER,
    distinct,
    distinct_kmers,
    is_new,
    iter_rows,
    sketch_sequences,
)
from ebox.progress import Progress, quiet

# Buckets up to this size are compared all against all.
_SMALL_BUCKET = 6
_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class SketchIndex:
    """Buckets of sequences that share a sketch entry.

    `bucket` and `row` list the entries of all buckets with two members or more, ordered by bucket and inside it by the
    whole sketch, so that nearly identical sequences are next to each other.
    """

    kmer_bp: int
    sketches: UInt32[np.ndarray, "example hash"]
    bucket: UInt32[np.ndarray, " entry"]
    row: Int64[np.ndarray, " entry"]


def index_sketches(codes: UInt8[np.ndarray, "example length"], progress: Progress = quiet) -> SketchIndex:
    """Sketch every sequence and group those that share a sketch entry.

    Memory: 64 bytes an example for the sketches and, while sorting, 256 more.
    """
    kmer_bp = min(KMER_BP, codes.shape[1])
    progress("looking for near-identical sequences", 0, 3)
    sketches = sketch_sequences(codes, kmer_bp)
    progress("looking for near-identical sequences", 1, 3)
    order = np.lexsort((sketches[:, 1], sketches[:, 0]))
    packed = sketches[order].astype(np.uint64) << np.uint64(32)
    packed |= np.arange(len(order), dtype=np.uint64)[:, None]
    entries = packed[sketches[order] != NO_KMER]
    del packed
    entries.sort()
    bucket = (entries >> np.uint64(32)).astype(np.uint32)
    same = bucket[1:] == bucket[:-1]
    shared = np.zeros(len(entries), dtype=bool)
    shared[1:] |= same
    shared[:-1] |= same
    row = order[(entries[shared] & np.uint64(0xFFFFFFFF)).astype(np.int64)]
    progress("looking for near-identical sequences", 2, 3)
    return SketchIndex(kmer_bp, sketches, bucket[shared], row)


def similarity(
    codes: UInt8[np.ndarray, "example length"],
    first: Int64[np.ndarray, " pair"],
    second: Int64[np.ndarray, " pair"],
    kmer_bp: int = KMER_BP,
) -> Float64[np.ndarray, " pair"]:
    """The number of distinct canonical k-mers that two sequences have in common, as a share of the larger set.

    Args:
        codes: Sequences.
        first: A row of each pair.
        second: The other row of each pair.
        kmer_bp: At most 16; cut to the length of the sequences.
    """
    kmer_bp = min(kmer_bp, codes.shape[1])
    result = np.zeros(len(first))
    for block in iter_rows(len(first), codes.shape[1], KMER_BASES):
        left = distinct_kmers(codes[first[block]], kmer_bp)
        right = distinct_kmers(codes[second[block]], kmer_bp)
        larger = np.maximum((left != NO_KMER).sum(axis=1), (right != NO_KMER).sum(axis=1))
        result[block] = _count_shared(left, right) / np.maximum(larger, 1)
    return result


def cluster_similar(
    codes: UInt8[np.ndarray, "example length"],
    max_similarity: float,
    index: SketchIndex | None = None,
    progress: Progress = quiet,
) -> Int64[np.ndarray, " example"]:
    """Label the clusters of sequences linked by a similarity above `max_similarity`.

    Args:
        codes: The sequences.
        max_similarity: Share of k-mers, 0 to 1; sequences that share more, on either strand, are joined.
        index: Sketch index of the same codes; none: made here.
        progress: Called with the stage.

    Returns:
        For each example the smallest row of its cluster. The search is a heuristic: it may miss a pair just above the
        limit, but never an identical pair.
    """
    index = index_sketches(codes, progress) if index is None else index
    pairs = _neighbour_pairs(index)
    label = np.arange(len(codes), dtype=np.int64)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        first, second = _unpack(pairs[start : start + _PAIRS_AT_ONCE])
        apart = label[first] != label[second]
        first, second = first[apart], second[apart]
        similar = _is_similar(codes, index, first, second, max_similarity)
        label = join(label, first[similar], second[similar])
    progress("looking for near-identical sequences", 3, 3)
    return label


def similar_across(
    codes: UInt8[np.ndarray, "example length"],
    side: UInt8[np.ndarray, " example"],
    max_similarity: float,
    index: SketchIndex,
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
    """Find for rows of side 1 a row of side 0 that is more similar than `max_similarity`.

    Args:
        codes: The sequences.
        side: 0 or 1; rows with another value are ignored.
        max_similarity: Share of k-mers, 0 to 1.
        index: Sketch index of the same codes.

    Returns:
        The rows of side 1 that have such a partner (each once), and the partner.
    """
    inside = side[index.row] <= 1
    bucket, row = index.bucket[inside], index.row[inside]
    is_left = side[row] == 0
    position = np.arange(len(row))
    before = np.maximum.accumulate(np.where(is_left, position, -1)) if len(row) else position
    after = np.minimum.accumulate(np.where(is_left, position, len(row))[::-1])[::-1] if len(row) else position
    asked = np.flatnonzero(~is_left)
    partners = []
    for near in (before[asked], after[asked]):
        inside_range = (near >= 0) & (near < len(row))
        partner = np.where(inside_range, near, asked)
        good = inside_range & (bucket[partner] == bucket[asked])
        partners.append(_pack(row[asked[good]], row[partner[good]]))
    pairs = distinct(np.concatenate(partners))
    first, second = _unpack(pairs)
    similar = np.zeros(len(first), dtype=bool)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        similar[part] = _is_similar(codes, index, first[part], second[part], max_similarity)
    rows, at = np.unique(first[similar], return_index=True)
    return rows, second[similar][at]


def join(
    label: Int64[np.ndarray, " example"], first: Int64[np.ndarray, " pair"], second: Int64[np.ndarray, " pair"]
) -> Int64[np.ndarray, " example"]:
    """Join the sets of linked rows; the label of a set is its smallest row.

    Args:
        label: For each row the label of its set, as this function returns it.
        first: One row of each link.
        second: The other row of each link.
    """
    root = label.copy()
    while len(first):
        left, right = root[first], root[second]
        apart = left != right
        if not apart.any():
            break
        first, second, left, right = first[apart], second[apart], left[apart], right[apart]
        np.minimum.at(root, np.maximum(left, right), np.minimum(left, right))
        while True:
            shorter = root[root]
            if np.array_equal(shorter, root):
                break
            root = shorter
    return root


def _neighbour_pairs(index: SketchIndex) -> UInt64[np.ndarray, " pair"]:
    """Pairs to compare: each entry with the first and the next of its bucket, in small buckets with all."""
    bucket, row = index.bucket, index.row
    starts = np.flatnonzero(is_new(bucket))
    sizes = np.diff(np.append(starts, len(row)))
    size = np.repeat(sizes, sizes)
    head = np.repeat(starts, sizes)
    pairs = [_pack(row, row[head])]
    for step in range(1, _SMALL_BUCKET):
        near = np.flatnonzero((bucket[step:] == bucket[:-step]) & ((step == 1) | (size[step:] <= _SMALL_BUCKET)))
        pairs.append(_pack(row[near], row[near + step]))
    every = distinct(np.concatenate(pairs))
    first, second = _unpack(every)
    return every[first != second]


def _is_similar(
    codes: np.ndarray, index: SketchIndex, first: np.ndarray, second: np.ndarray, max_similarity: float
) -> np.ndarray:
    """Whether each pair is above the limit: the sketches reject most pairs, all k-mers decide on the rest."""
    # Two sets that share more than s of the larger have a Jaccard index above s / (2 - s).
    expected = max_similarity / (2.0 - max_similarity) * index.sketches.shape[1]
    enough = 2 if expected >= 5.0 else 1
    maybe = np.zeros(len(first), dtype=bool)
    for block in iter_rows(len(first), index.sketches.shape[1]):
        shared = _count_shared(index.sketches[first[block]], index.sketches[second[block]])
        maybe[block] = shared >= enough
    # The sketch of a short or repetitive sequence says little, so all k-mers decide.
    maybe |= (index.sketches[first, -1] == NO_KMER) | (index.sketches[second, -1] == NO_KMER)
    similar = np.zeros(len(first), dtype=bool)
    where = np.flatnonzero(maybe)
    similar[where] = similarity(codes, first[where], second[where], index.kmer_bp) > max_similarity
    return similar


def _count_shared(left: UInt32[np.ndarray, "pair left"], right: UInt32[np.ndarray, "pair right"]) -> np.ndarray:
    """How many hashes two rows have in common; NO_KMER, which stands for repeats, is not counted."""
    both = np.concatenate([left, right], axis=1)
    both.sort(axis=1)
    equal = (both[:, 1:] == both[:, :-1]) & (both[:, 1:] != NO_KMER)
    return equal.sum(axis=1)


def _pack(first: Int64[np.ndarray, " pair"], second: Int64[np.ndarray, " pair"]) -> UInt64[np.ndarray, " pair"]:
    return (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)


def _unpack(pairs: UInt64[np.ndarray, " pair"]) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
