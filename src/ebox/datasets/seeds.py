"""Candidates for relatives: pairs of sequences that share words of 11 to 15 bases along one diagonal.

Words are canonical (the smaller of both strands), and each counts once a sequence. Their length grows with the amount
of sequence, so that few words have a second place by chance; the index of a large set keeps a fixed sample of words. Of
a word with many places only those of a fixed sample of sequences are read: members of a large family of repeats are all
compared with the same few of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8, UInt64

from ebox.datasets.kmers import KMER_BASES, NO_KMER, blank_unknown, is_new, iter_rows, strand_kmers

MIN_WORD_BP, MAX_WORD_BP = 11, 15
# Words of a long index: more are thinned out, so that two million sequences of 200 bp need 0.3 GB.
MAX_WORDS = 40_000_000
# Bases of an index: with more, the numbers that pairs of places are sorted by don't fit 64 bits.
MAX_PLACES = 1 << 31
PLACES_OF_WORD = 32
NUM_CANDIDATES = 8
# Indels move a pair off its diagonal; a pair within one band of this width is on one diagonal.
_BAND_BP = 64
# Strangers that share a word agree in a quarter of the bases around it, relatives in three quarters.
_AROUND_BP, _ALIKE = 30, 0.5
_COLUMNS = ("query", "source", "flipped", "shared", "query_at", "source_at")
_WORDS_AT_ONCE = 1 << 23
_HITS_AT_ONCE = 1 << 21
# 64 MB: the system takes back at once what is freed of so large arrays.
_CHUNK_ENTRIES = 1 << 23
# Multiplied by this odd number, words spread evenly over 32 bits (Fibonacci hashing, Knuth).
_SCRAMBLE = np.uint32(0x9E3779B9)
_ONE, _WORD_BITS, _LOW = np.uint64(1), np.uint64(33), np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class SeedIndex:
    """The words of some sequences, sorted: `entries` holds word, place (32 bits) and strand (1 bit).

    A place is rank times `width` plus the position; `rows` lists the sequences in the order of their ranks, which is
    drawn at random. `sample` of 2^32 words is kept.
    """

    word_bp: int
    sample: int
    width: int
    rows: Int64[np.ndarray, " source"]
    entries: UInt64[np.ndarray, " entry"]


@dataclass(frozen=True)
class Candidates:
    """Pairs that share words on one diagonal: a row that asked, a row that answered, on which strand, how many, where.

    `query_at` and `source_at` are the middle of one of the words in both sequences.
    """

    query: Int64[np.ndarray, " pair"]
    source: Int64[np.ndarray, " pair"]
    flipped: Bool[np.ndarray, " pair"]
    shared: Int32[np.ndarray, " pair"]
    query_at: Int64[np.ndarray, " pair"]
    source_at: Int64[np.ndarray, " pair"]

    def take(self, chosen: Int64[np.ndarray, " chosen"]) -> Candidates:
        """The chosen pairs."""
        return Candidates(*(getattr(self, name)[chosen] for name in _COLUMNS))


def index_seeds(codes: UInt8[np.ndarray, "example length"], rows: Int64[np.ndarray, " source"]) -> SeedIndex:
    """Index the words of the sequences at `rows`, of MAX_PLACES bases at most. Memory: 8 bytes a kept word."""
    length = codes.shape[1]
    num_words = len(rows) * max(1, length - MIN_WORD_BP + 1)
    word_bp = MIN_WORD_BP
    while word_bp < MAX_WORD_BP and 4**word_bp < 4 * num_words:
        word_bp += 1
    word_bp = min(word_bp, length)
    sample = min(1 << 32, int((1 << 32) * (MAX_WORDS / num_words)))
    ranked = np.random.default_rng(0x5EED).permutation(rows)
    width = length - word_bp + 1
    return SeedIndex(word_bp, sample, width, ranked, _list_all(codes, ranked, word_bp, sample, width))


def iter_candidates(
    codes: UInt8[np.ndarray, "example length"], queries: Int64[np.ndarray, " query"] | None, index: SeedIndex
) -> Iterator[tuple[int, Candidates]]:
    """For a block of queries at a time their best candidates, at most NUM_CANDIDATES each, and the queries done.

    Args:
        codes: All sequences.
        queries: Rows to find relatives of; none: the sequences of the index, where of each pair one asks. A row
            is never its own candidate.
        index: Of the rows that may answer.
    """
    if queries is None:
        places = _find_runs(index)
        for stop, part in _iter_blocks(places, index.width):
            yield stop, _choose(codes, index, index.rows, part)
        return
    at_once = max(1, _WORDS_AT_ONCE // index.width)
    for start in range(0, len(queries), at_once):
        block = queries[start : start + at_once]
        words = _list_all(codes, block, index.word_bp, index.sample, index.width)
        for stop, part in _iter_blocks(_look_up(index, words), index.width):
            yield start + stop, _choose(codes, index, block, part)


def concatenate_candidates(parts: Sequence[Candidates]) -> Candidates:
    """All pairs of the parts in order."""
    row, flag, count = np.empty(0, np.int64), np.empty(0, np.bool_), np.empty(0, np.int32)
    parts = [Candidates(row, row, flag, count, row, row), *parts]
    return Candidates(*(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))


def _list_all(
    codes: np.ndarray, rows: np.ndarray, word_bp: int, sample: int, width: int
) -> UInt64[np.ndarray, " entry"]:
    """The entries of some rows, whose ranks are their order here: sorted, each word once a row."""
    blocks = iter_rows(len(rows), codes.shape[1], KMER_BASES)
    entries = _gather(_list_words(codes, rows[block], block.start, word_bp, sample, width) for block in blocks)
    entries.sort()
    # Neighbours of one word and one row differ by less than twice the width.
    near = _find_near(entries, np.uint64(2 * width))
    again, before = entries[near], entries[near - 1]
    is_same = (again >> _WORD_BITS) == (before >> _WORD_BITS)
    is_same &= _place(again) // np.uint64(width) == _place(before) // np.uint64(width)
    return np.delete(entries, near[is_same]) if is_same.any() else entries


def _gather(parts: Iterable[UInt64[np.ndarray, " part"]]) -> UInt64[np.ndarray, " entry"]:
    """All parts in order; while they are put together, hardly more memory than they need at the end."""
    chunks, waiting = [], [np.empty(0, np.uint64)]
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) > _CHUNK_ENTRIES:
            chunks.append(np.concatenate(waiting))
            waiting = []
    chunks.append(np.concatenate([np.empty(0, np.uint64), *waiting]))
    del waiting
    entries = np.empty(sum(map(len, chunks)), np.uint64)
    stop = len(entries)
    while chunks:
        chunk = chunks.pop()
        entries[stop - len(chunk) : stop] = chunk
        stop -= len(chunk)
    return entries


def _find_near(entries: UInt64[np.ndarray, " entry"], most: np.uint64) -> Int64[np.ndarray, " near"]:
    """Where a sorted entry is less than `most` above the one before it, in blocks to save memory."""
    parts = [np.empty(0, np.int64)]
    for start in range(1, len(entries), _CHUNK_ENTRIES):
        stop = min(len(entries), start + _CHUNK_ENTRIES)
        parts.append(np.flatnonzero(entries[start:stop] - entries[start - 1 : stop - 1] < most) + start)
    return np.concatenate(parts)


def _list_words(
    codes: np.ndarray, rows: np.ndarray, first_rank: int, word_bp: int, sample: int, width: int
) -> UInt64[np.ndarray, " entry"]:
    """The entries of the words of some rows, whose ranks begin at `first_rank`; words with an N are left out."""
    chosen = codes[rows]
    forward, reverse = strand_kmers(chosen, word_bp, np.dtype(np.uint32))
    words = np.minimum(forward, reverse)
    blank_unknown(chosen, word_bp, words)
    # Position by position, as they lie in memory.
    at = np.flatnonzero(((words * _SCRAMBLE <= np.uint32(sample - 1)) & (words != NO_KMER)).T)
    position, row = np.divmod(at, len(rows))
    place = ((row + first_rank) * width + position).astype(np.uint64)
    words, turned = words.T.ravel()[at], (reverse < forward).T.ravel()[at]
    return (words.astype(np.uint64) << _WORD_BITS) | (place << _ONE) | turned


def _place(entries: UInt64[np.ndarray, " entry"]) -> UInt64[np.ndarray, " entry"]:
    return (entries >> _ONE) & _LOW


@dataclass(frozen=True)
class _Places:
    """For entries of queries the places of their word in the index: the first, and how many."""

    asked: UInt64[np.ndarray, " entry"]
    begin: Int64[np.ndarray, " entry"]
    number: Int64[np.ndarray, " entry"]

    def sort(self) -> _Places:
        """In the order of the queries."""
        order = np.argsort(_place(self.asked), kind="stable")
        return _Places(self.asked[order], self.begin[order], self.number[order])


def _find_runs(index: SeedIndex) -> _Places:
    """The places of the words of the index in sequences of lower rank, so that each pair is met once."""
    again = _find_near(index.entries, _ONE << _WORD_BITS)
    again = again[index.entries[again] >> _WORD_BITS == index.entries[again - 1] >> _WORD_BITS]
    # Those of one word follow each other, after its first place.
    heads = np.flatnonzero(is_new(again - np.arange(len(again))))
    begin = np.repeat(again[heads] - 1, np.diff(np.append(heads, len(again))))
    return _Places(index.entries[again], begin, np.minimum(again - begin, PLACES_OF_WORD)).sort()


def _look_up(index: SeedIndex, asked: UInt64[np.ndarray, " entry"]) -> _Places:
    """The places of words in the index. They are in the order of the ranks: the first are the same few sequences."""
    words = asked >> _WORD_BITS
    is_first = is_new(words)
    each = words[is_first]
    begin = np.searchsorted(index.entries, each << _WORD_BITS)
    number = np.searchsorted(index.entries, (each + _ONE) << _WORD_BITS) - begin
    of_word = np.cumsum(is_first) - 1
    found = number[of_word] > 0
    of_word = of_word[found]
    return _Places(asked[found], begin[of_word], np.minimum(number[of_word], PLACES_OF_WORD)).sort()


def _iter_blocks(places: _Places, width: int) -> Iterator[tuple[int, _Places]]:
    """Blocks of whole queries with about _HITS_AT_ONCE hits each, and the number of queries done."""
    query = _place(places.asked) // np.uint64(width)
    heads = np.flatnonzero(is_new(query))
    hits = np.concatenate([[0], np.cumsum(places.number)])[heads]
    edges = [0]
    while edges[-1] < len(heads):
        edges.append(max(edges[-1] + 1, int(np.searchsorted(hits, hits[edges[-1]] + _HITS_AT_ONCE))))
    bounds = np.append(heads, len(query))
    for left, right in pairwise(edges):
        block = slice(int(bounds[left]), int(bounds[min(right, len(heads))]))
        yield int(query[block.stop - 1]) + 1, _Places(places.asked[block], places.begin[block], places.number[block])


def _choose(codes: np.ndarray, index: SeedIndex, queries: Int64[np.ndarray, " query"], places: _Places) -> Candidates:
    """Count the shared words of each pair along each diagonal, and keep the best pairs of each query."""
    groups = _group(index, queries, places)
    certain = groups.shared >= _count_certain(index, len(codes))
    doubtful = np.flatnonzero(~certain & (groups.shared >= (1 if index.sample < 1 << 32 else 2)))
    certain[doubtful] = _extend(codes, groups.take(doubtful), index.word_bp)
    groups = groups.take(np.flatnonzero(certain))
    # The best diagonal of each pair, then the best pairs of each query.
    order = np.lexsort((-groups.shared, groups.flipped, groups.source, groups.query))
    pair = (groups.query[order] * len(codes) + groups.source[order]) * 2 + groups.flipped[order]
    groups = groups.take(order[is_new(pair)])
    groups = groups.take(np.lexsort((-groups.shared, groups.query)))
    heads = np.flatnonzero(is_new(groups.query))
    place = np.arange(len(groups.query)) - np.repeat(heads, np.diff(np.append(heads, len(groups.query))))
    return groups.take(np.flatnonzero(place < NUM_CANDIDATES))


def _count_certain(index: SeedIndex, num_rows: int) -> int:
    """Words in a row that hardly any two strangers share: one pair in ten sequences by chance, at equal composition."""
    chance_bp = np.log(10.0 * num_rows * index.width**2) / np.log(4.0)
    return max(2, int(np.ceil(chance_bp)) - index.word_bp + 1)


def _group(index: SeedIndex, queries: Int64[np.ndarray, " query"], places: _Places) -> Candidates:
    """Groups of hits of one pair, strand and band of diagonals, with one hit of each."""
    number = places.number
    offset = np.arange(int(number.sum())) - np.repeat(np.cumsum(number) - number, number)
    found = index.entries[np.repeat(places.begin, number) + offset]
    asked = np.repeat(places.asked, number)
    width = np.uint64(index.width)
    query, query_at = np.divmod(_place(asked), width)
    rank, at = np.divmod(_place(found), width)
    first = query.min() if len(query) else np.uint64(0)
    flipped = (asked ^ found) & _ONE
    diagonal = np.where(flipped == 1, at + query_at, at + width - query_at)
    pair = ((query - first) * np.uint64(len(index.rows)) + rank) * np.uint64(2) + flipped
    other = queries[query.astype(np.int64)] != index.rows[rank.astype(np.int64)]
    keys = np.sort(((pair * (width * np.uint64(2)) + diagonal) * width + query_at)[other])
    along, query_at = np.divmod(keys, width)
    pair, diagonal = np.divmod(along, width * np.uint64(2))
    starts = np.flatnonzero(is_new(pair) | is_new(diagonal // np.uint64(_BAND_BP)))
    shared = np.diff(np.append(starts, len(keys)))
    middle = starts + shared // 2
    rank = (pair[starts] >> _ONE).astype(np.int64) % len(index.rows)
    query = (pair[starts] >> _ONE).astype(np.int64) // len(index.rows) + int(first)
    is_flipped = (pair[starts] & _ONE) == 1
    query_at = query_at[middle].astype(np.int64)
    on_diagonal = diagonal[middle].astype(np.int64)
    at = np.where(is_flipped, on_diagonal - query_at, on_diagonal - index.width + query_at)
    middle_at, far = query_at + index.word_bp // 2, at + index.word_bp // 2
    return Candidates(queries[query], index.rows[rank], is_flipped, shared.astype(np.int32), middle_at, far)


def _extend(codes: np.ndarray, pairs: Candidates, word_bp: int) -> Bool[np.ndarray, " pair"]:
    """Whether the sequences agree around a shared word, with no gap, more than strangers do that share this word."""
    alike, length = np.zeros(len(pairs.query), dtype=bool), codes.shape[1]
    steps = np.arange(-_AROUND_BP, _AROUND_BP + 1, dtype=np.int32)
    # The word itself agrees in any case; half its length on either side of the middle is left out.
    beside = np.abs(steps) > word_bp // 2
    for block in iter_rows(len(alike), len(steps), KMER_BASES):
        pair = pairs.take(np.arange(block.start, block.stop))
        low = np.maximum(-pair.query_at, np.where(pair.flipped, pair.source_at - length + 1, -pair.source_at))
        high = np.minimum(length - pair.query_at, np.where(pair.flipped, pair.source_at + 1, length - pair.source_at))
        inside = (steps >= low.astype(np.int32)[:, None]) & (steps < high.astype(np.int32)[:, None]) & beside
        left = cut_windows(codes, pair.query * length + pair.query_at - _AROUND_BP, len(steps))
        right = cut_windows(codes, pair.source * length + pair.source_at - _AROUND_BP, len(steps))
        right[pair.flipped] = 3 - right[pair.flipped, ::-1]
        alike[block] = ((left == right) & (left < 4) & inside).sum(axis=1) >= _ALIKE * inside.sum(axis=1)
    return alike


def cut_windows(
    codes: UInt8[np.ndarray, "example length"], start: Int64[np.ndarray, " window"], width: int
) -> UInt8[np.ndarray, "window width"]:
    """`width` codes from each place on, counted over all sequences; what lies beyond these is anything."""
    flat = codes.reshape(-1)
    if len(flat) < width:
        return flat.take(start[:, None] + np.arange(width), mode="clip")
    # Whole windows are copied, 4 times as fast as base by base.
    windows = np.lib.stride_tricks.sliding_window_view(flat, width)
    cut = windows[np.clip(start, 0, len(windows) - 1)]
    beyond = np.flatnonzero((start < 0) | (start >= len(windows)))
    cut[beyond] = flat.take(start[beyond, None] + np.arange(width), mode="clip")
    return cut
