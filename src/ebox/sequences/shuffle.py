"""Dinucleotide shuffles: the same pairs of neighbours in another order, all such orders equally likely."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
from jaxtyping import Float64, UInt8, UInt64

from ebox.sequences.codes import N_CODE

# N counts as a fifth letter, so runs of N stay runs.
_NUM_LETTERS = N_CODE + 1
# Sort keys take 8 bytes for each base.
_BLOCK_BASES = 2**21
# The bits of a sort key, from the top: the letter (3 bits), last exit or not (1), random (57), the next letter (3).
_LETTER_SHIFT, _LAST_SHIFT, _NEXT_BITS = np.uint64(61), np.uint64(60), np.uint64(7)
_RANDOM_MASK = np.uint64((1 << 60) - 1) & ~_NEXT_BITS

Codes = UInt8[np.ndarray, "batch length"]


def shuffle_dinucleotides(codes: Codes, seed: int) -> Codes:
    """Shuffle each sequence so that the count of every pair of neighbours stays the same.

    A sequence is a walk over its letters; a shuffle is another walk over the same edges, drawn uniformly from all
    such walks (Altschul and Erickson 1985): a random tree of last exits towards the last letter, then the other
    exits of each letter in random order. The first and the last letter stay. The tree is drawn exactly, not by trial
    and error, from the 125 trees of five letters, so runs and repeats cost no extra time.

    Args:
        codes: Shape (batch, length); N counts as a fifth letter.
        seed: Row i gets the same shuffle for the same seed, whichever rows come after it.
    """
    num_sequences, length = codes.shape
    shuffled = codes.copy()
    if length < 4:
        return shuffled
    generator = np.random.Generator(np.random.Philox(seed))
    size = max(_BLOCK_BASES // length, 1)
    for start in range(0, num_sequences, size):
        block = slice(start, start + size)
        shuffled[block] = _shuffle_block(codes[block], generator)
    return shuffled


def _shuffle_block(codes: Codes, generator: np.random.Generator) -> Codes:
    num_sequences = len(codes)
    pairs = codes[:, :-1] * np.uint8(_NUM_LETTERS) + codes[:, 1:]
    offsets = np.arange(num_sequences, dtype=np.int64)[:, None] * _NUM_LETTERS**2
    counts = np.bincount((pairs + offsets).ravel(), minlength=num_sequences * _NUM_LETTERS**2)
    counts = counts.reshape(num_sequences, _NUM_LETTERS, _NUM_LETTERS)
    # One draw for all, row after row, so that neither the blocks nor later rows change a row.
    numbers = generator.integers(2**64, size=codes.shape, dtype=np.uint64)
    uniforms = (numbers[:, :1] >> np.uint64(11)) * 2.0**-53
    exits = _draw_last_exits(counts.astype(np.float64), codes[:, -1], uniforms)
    keys = _make_keys(codes, numbers[:, 1:])
    _mark_last_exits(keys, pairs, exits)
    keys.sort(axis=1)
    next_letters = (keys & _NEXT_BITS).astype(np.uint8)
    return _walk(codes[:, 0], next_letters, counts.sum(axis=2))


def _make_keys(codes: Codes, numbers: UInt64[np.ndarray, "batch edges"]) -> UInt64[np.ndarray, "batch edges"]:
    """Keys that sort the exits of a sequence by letter, and the exits of one letter at random."""
    keys = numbers & _RANDOM_MASK
    keys |= codes[:, 1:]
    keys |= codes[:, :-1].astype(np.uint64) << _LETTER_SHIFT
    return keys


def _mark_last_exits(
    keys: UInt64[np.ndarray, "batch edges"],
    pairs: UInt8[np.ndarray, "batch edges"],
    exits: UInt8[np.ndarray, "batch 5"],
) -> None:
    """Make one edge of each letter's last exit sort after the letter's others; equal edges are interchangeable."""
    rows = np.arange(len(pairs))
    for letter in range(_NUM_LETTERS):
        is_exit = pairs == exits[:, letter, None]
        place = is_exit.argmax(axis=1)
        found = rows[is_exit[rows, place]]
        keys[found, place[found]] |= np.uint64(1) << _LAST_SHIFT


def _draw_last_exits(
    counts: Float64[np.ndarray, "batch 5 5"],
    last: UInt8[np.ndarray, " batch"],
    uniforms: Float64[np.ndarray, "batch 1"],
) -> UInt8[np.ndarray, "batch 5"]:
    """Draw trees of last exits towards the last letter, each as likely as the product of its edges' counts.

    Returns:
        The pair of each letter and the letter that it leads to; 255 for the last letter, whose exit is free.
    """
    exits = np.empty((len(counts), _NUM_LETTERS), np.uint8)
    absent = counts.sum(axis=2) == 0
    for root in range(_NUM_LETTERS):
        rows = np.flatnonzero(last == root)
        trees = _list_trees(root)
        # A letter that does not occur is joined to the root, so that it does not change the weights of the trees.
        edges = counts[rows]
        edges[:, :, root] += absent[rows]
        weights = np.ones((len(rows), len(trees)))
        for letter in range(_NUM_LETTERS):
            if letter != root:
                weights *= edges[:, letter, :][:, trees[:, letter]]
        cumulative = weights.cumsum(axis=1)
        chosen = (cumulative <= uniforms[rows] * cumulative[:, -1:]).sum(axis=1)
        exits[rows] = trees[chosen] + np.arange(_NUM_LETTERS, dtype=np.uint8) * np.uint8(_NUM_LETTERS)
        exits[rows, root] = 255
    return exits


@cache
def _list_trees(root: int) -> UInt8[np.ndarray, "trees 5"]:
    """All trees over the five letters that lead to the root, as the letter that each letter leads to."""
    trees = []
    for parents in itertools.product(range(_NUM_LETTERS), repeat=_NUM_LETTERS):
        letters = np.array(parents)
        reached = letters
        for _ in range(_NUM_LETTERS):
            reached = letters[reached]
        if parents[root] == root and (reached == root).all():
            trees.append(parents)
    return np.array(trees, np.uint8)


def _walk(
    first: UInt8[np.ndarray, " batch"],
    next_letters: UInt8[np.ndarray, "batch edges"],
    num_exits: np.ndarray,
) -> Codes:
    """Walk all sequences at once, leaving each letter by its exits in their sorted order."""
    num_sequences, num_edges = next_letters.shape
    flat = next_letters.ravel()
    starts = np.cumsum(num_exits, axis=1) - num_exits
    places = (starts + np.arange(num_sequences)[:, None] * num_edges).ravel()
    rows = np.arange(num_sequences) * _NUM_LETTERS
    walked = np.empty((num_edges + 1, num_sequences), np.uint8)
    walked[0] = first
    for step in range(num_edges):
        here = rows + walked[step]
        place = places[here]
        walked[step + 1] = flat[place]
        places[here] = place + 1
    return np.ascontiguousarray(walked.T)
