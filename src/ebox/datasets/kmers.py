"""Canonical k-mers of code matrices, their sketches, and keys of whole sequences. NumPy, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8, UInt32, UInt64

from ebox.sequences.codes import reverse_complement

KMER_BP = 16
SKETCH_SIZE = 16
NO_KMER = np.uint32(0xFFFFFFFF)
# With blocks of this number of bases the temporary arrays of a step stay in cache.
_BLOCK_BASES = 1 << 16
# K-mers are made for a column of many sequences at once.
KMER_BASES = 1 << 20
# Just under 32 MB, the largest block whose release raises glibc's thresholds for returning memory to the system.
_HEAP_BYTES = 31 << 20
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xC2B2AE3D27D4EB4F)


def iter_rows(num: int, length: int, bases: int = _BLOCK_BASES) -> Iterator[slice]:
    """Slices of rows with about `bases` letters each."""
    _keep_heap()
    step = max(1, bases // max(1, length))
    for start in range(0, num, step):
        yield slice(start, min(num, start + step))


def _keep_heap() -> None:
    """Allocate and free one large block, so that glibc keeps freed memory: 4 times faster here.

    Else glibc returns the temporary arrays of each block to the system, and each new page costs a page fault.
    """
    np.empty(_HEAP_BYTES, dtype=np.uint8)


def kmer_hashes(codes: UInt8[np.ndarray, "batch length"], kmer_bp: int = KMER_BP) -> UInt32[np.ndarray, "batch kmer"]:
    """Hash of the canonical k-mer (the smaller of both strands) at each position.

    Args:
        codes: Sequences; a k-mer with an N gets NO_KMER.
        kmer_bp: 1 to 16: two bits a base fill 32 bits. Different k-mers have different hashes.
    """
    forward, reverse = strand_kmers(codes, kmer_bp, np.dtype(np.uint32))
    hashes = _mix(np.minimum(forward, reverse))
    # The one k-mer whose hash is NO_KMER gets the next lower hash: one collision among 4^16.
    np.minimum(hashes, NO_KMER - np.uint32(1), out=hashes)
    blank_unknown(codes, kmer_bp, hashes)
    return hashes


def long_kmer_hashes(codes: UInt8[np.ndarray, "batch length"], kmer_bp: int = 31) -> UInt64[np.ndarray, "batch kmer"]:
    """The canonical k-mer of up to 31 bases at each position, as 62 bits; all ones for a k-mer with an N."""
    forward, reverse = strand_kmers(codes, kmer_bp, np.dtype(np.uint64))
    hashes: np.ndarray = np.minimum(forward, reverse)
    blank_unknown(codes, kmer_bp, hashes)
    return hashes


def distinct_kmers(
    codes: UInt8[np.ndarray, "batch length"], kmer_bp: int = KMER_BP
) -> UInt32[np.ndarray, "batch kmer"]:
    """The k-mer hashes of each row, sorted, with repeats and k-mers with N replaced by NO_KMER."""
    hashes = np.ascontiguousarray(kmer_hashes(codes, kmer_bp))
    hashes.sort(axis=1)
    hashes[:, 1:][hashes[:, 1:] == hashes[:, :-1]] = NO_KMER
    return hashes


def sketch_sequences(
    codes: UInt8[np.ndarray, "example length"], kmer_bp: int, size: int = SKETCH_SIZE
) -> UInt32[np.ndarray, "example hash"]:
    """The `size` smallest distinct k-mer hashes of each sequence, in rising order, filled up with NO_KMER.

    The share of hashes that two sketches have in common estimates the Jaccard index of the two k-mer sets (bottom
    sketch: Broder 1997).
    """
    num, length = codes.shape
    sketches = np.full((num, size), NO_KMER, dtype=np.uint32)
    for block in iter_rows(num, length, KMER_BASES):
        hashes = distinct_kmers(codes[block], kmer_bp)
        kept = min(size, hashes.shape[1])
        if kept < hashes.shape[1]:
            hashes = np.partition(hashes, kept - 1, axis=1)[:, :kept]
        sketches[block, :kept] = np.sort(hashes, axis=1)
    return sketches


def sequence_keys(codes: UInt8[np.ndarray, "example length"]) -> UInt64[np.ndarray, " example"]:
    """A 64-bit hash of each sequence, the same for its reverse complement."""
    num, length = codes.shape
    keys = np.empty(num, dtype=np.uint64)
    for block in iter_rows(num, length):
        keys[block] = np.minimum(_hash_rows(codes[block]), _hash_rows(reverse_complement(codes[block])))
    return keys


def is_new(ordered: Shaped[np.ndarray, " value"]) -> Bool[np.ndarray, " value"]:
    """Whether each of the sorted values differs from the one before it."""
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return new


def group_equal(keys: UInt64[np.ndarray, " example"]) -> tuple[Int64[np.ndarray, " row"], Int64[np.ndarray, " row"]]:
    """Rows whose key occurs more than once, in rising order, and for each the first row with the same key."""
    order = np.argsort(keys, kind="stable")
    is_first = is_new(keys[order])
    first = order[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]] if len(keys) else order
    repeated = np.zeros(len(keys), dtype=bool)
    repeated[order[~is_first]] = True
    repeated[first[~is_first]] = True
    first_of_row = np.empty(len(keys), dtype=np.int64)
    first_of_row[order] = first
    rows = np.flatnonzero(repeated)
    return rows, first_of_row[rows]


def distinct(values: UInt64[np.ndarray, " value"]) -> UInt64[np.ndarray, " distinct"]:
    """Distinct values in rising order, by sorting: `np.unique` of 7 million hashes took 9 s, this 0.2 s."""
    values = np.sort(values, axis=None)
    return values[is_new(values)]


def strand_kmers(codes: np.ndarray, kmer_bp: int, dtype: np.dtype[np.unsignedinteger]) -> tuple[np.ndarray, np.ndarray]:
    """K-mers of both strands at each position, as numbers of two bits a base.

    Each position is made from the one before it, for all sequences at once: 4 times faster than position by position
    for blocks of KMER_BASES. So the arrays lie in memory position by position: their transposes are contiguous.
    """
    num, length = codes.shape
    if not 1 <= kmer_bp <= min(length, dtype.itemsize * 4):
        raise ValueError(f"k-mers of {kmer_bp} in sequences of {length}")
    kind = dtype.type
    two, top, low = kind(2), kind(2 * (kmer_bp - 1)), kind(4**kmer_bp - 1)
    bases = np.ascontiguousarray(codes.T) & 3
    strands = np.empty((2, length - kmer_bp + 1, num), dtype)
    forward, reverse, base = np.zeros(num, dtype), np.zeros(num, dtype), np.empty(num, dtype)
    for end in range(length):
        # The first words are not whole; the place of the first whole one holds them meanwhile.
        joined, joined_reverse = strands[:, max(0, end - kmer_bp + 1)]
        base[:] = bases[end]
        np.left_shift(forward, two, out=joined)
        joined |= base
        joined &= low
        base ^= kind(3)
        base <<= top
        np.right_shift(reverse, two, out=joined_reverse)
        joined_reverse |= base
        forward, reverse = joined, joined_reverse
    return strands[0].T, strands[1].T


def _mix(values: UInt32[np.ndarray, "*axes"]) -> UInt32[np.ndarray, "*axes"]:
    """Map 32-bit numbers to others one to one, in place (the finaliser of MurmurHash3, Appleby 2011)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        values ^= values >> np.uint32(shift)
        values *= np.uint32(factor)
    values ^= values >> np.uint32(16)
    return values


def blank_unknown(codes: np.ndarray, kmer_bp: int, hashes: np.ndarray) -> None:
    """Set the hash of every k-mer with an N to all ones."""
    rows = np.flatnonzero((codes > 3).any(axis=1))
    if not len(rows):
        return
    counts = np.zeros((len(rows), codes.shape[1] + 1), dtype=np.int32)
    np.cumsum(codes[rows] > 3, axis=1, out=counts[:, 1:])
    touched = counts[:, kmer_bp:] > counts[:, :-kmer_bp]
    part = hashes[rows]
    part[touched] = np.iinfo(hashes.dtype).max
    hashes[rows] = part


def _hash_rows(codes: UInt8[np.ndarray, "batch length"]) -> UInt64[np.ndarray, " batch"]:
    num, length = codes.shape
    words = np.zeros((num, -(-length // 8) * 8), dtype=np.uint8)
    words[:, :length] = codes
    digest = np.full(num, length, dtype=np.uint64)
    for word in words.view(np.uint64).T:
        digest ^= word
        digest *= _MIX_A
        digest ^= digest >> np.uint64(29)
    digest *= _MIX_B
    digest ^= digest >> np.uint64(32)
    return digest
