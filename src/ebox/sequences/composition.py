"""What lies between the motifs: independent bases of a GC content, or a Markov chain learned from a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64, UInt8

from ebox.sequences.codes import N_CODE, NUM_BASES
from ebox.sequences.records import SequenceSet

Codes = UInt8[np.ndarray, "batch length"]


@dataclass(frozen=True, eq=False)
class Composition:
    """A Markov chain over bases: table i gives the next base after i bases, the last table all later bases.

    Args:
        tables: Table i has the shape (4**i, 4); rows are contexts, the oldest base the most significant.
    """

    tables: tuple[Float64[np.ndarray, "_ 4"], ...]

    @property
    def order(self) -> int:
        """How many bases the next one depends on."""
        return len(self.tables) - 1

    def log_probabilities(self, codes: Codes) -> Float64[np.ndarray, "batch length"]:
        """Natural logarithm of the probability of each base, given those before it; N is not allowed."""
        logs = np.empty(codes.shape, np.float64)
        length = codes.shape[1]
        for order, table in enumerate(self.tables):
            # Each table before the last is for one position, the last is for all others.
            stop = length if order == self.order else min(order + 1, length)
            num_places = max(stop - order, 0)
            words = np.zeros((len(codes), num_places), np.int64)
            for step in range(order + 1):
                words *= NUM_BASES
                words += codes[:, step : step + num_places]
            logs[:, order:stop] = np.log(table).ravel().take(words)
        return logs

    def draw(
        self,
        planted: Int[np.ndarray, "batch length"],
        columns: Float64[np.ndarray, "columns 4"],
        generator: np.random.Generator,
    ) -> Codes:
        """Draw sequences base by base; the chain continues after a planted base as after any other.

        Args:
            planted: For each base the column of a motif that it is drawn from; -1: it is drawn from the chain.
            columns: Probabilities of the bases in each column.
            generator: The source of random numbers.
        """
        num_sequences, length = planted.shape
        uniforms = generator.random((length, num_sequences))
        steps, chains = _accumulate(columns), [_accumulate(table) for table in self.tables]
        codes = np.empty((length, num_sequences), np.uint8)
        for place in range(length):
            order = min(place, self.order)
            context = _make_contexts(codes[place - order : place].T)
            limits = chains[order][context]
            rows = np.flatnonzero(planted[:, place] >= 0)
            limits[rows] = steps[planted[rows, place]]
            codes[place] = (uniforms[place][:, None] >= limits).sum(axis=1)
        return np.ascontiguousarray(codes.T)


def make_composition(gc: float) -> Composition:
    """Make a composition of independent bases, in which G and C together have the share `gc`."""
    return Composition((np.array([[(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]]),))


def fit_composition(sequences: SequenceSet, order: int) -> Composition:
    """Learn a Markov chain from sequences and their reverse complements; 1 is added to the count of each word.

    Args:
        sequences: What to learn from; words with an N, and words across two records, are not counted.
        order: How many bases the next one depends on.
    """
    tables = []
    for width in range(1, order + 2):
        counts = _count_words(sequences, width).reshape((NUM_BASES,) * width)
        # The reverse complement of a word: axes in reverse, and each base as 3 minus itself.
        counts = counts + np.flip(counts.transpose(range(width)[::-1]))
        rows = counts.reshape(-1, NUM_BASES) + 1.0
        tables.append(rows / rows.sum(axis=1, keepdims=True))
    return Composition(tuple(tables))


def _count_words(sequences: SequenceSet, width: int) -> Int64[np.ndarray, " words"]:
    codes, num_places = sequences.codes, len(sequences.codes) - width + 1
    if num_places <= 0:
        return np.zeros(NUM_BASES**width, np.int64)
    words = np.zeros(num_places, np.int64)
    is_whole = np.ones(num_places, bool)
    for place in range(width):
        part = codes[place : place + num_places]
        words = words * NUM_BASES + np.minimum(part, NUM_BASES - 1)
        is_whole &= part < N_CODE
    for place in range(1, width):
        # A word that starts `place` bases before the end of a record reaches into the next one.
        starts = sequences.offsets[1:-1] - place
        is_whole[starts[(starts >= 0) & (starts < num_places)]] = False
    return np.bincount(words[is_whole], minlength=NUM_BASES**width).astype(np.int64)


def _make_contexts(codes: Codes) -> Int64[np.ndarray, " batch"]:
    """The bases before each base as one number, which is the row of the table."""
    context = np.zeros(len(codes), np.int64)
    for column in codes.T:
        context = context * NUM_BASES + column
    return context


def _accumulate(rows: Float64[np.ndarray, "rows 4"]) -> Float64[np.ndarray, "rows 3"]:
    """Upper limits of the first three bases; a base of probability 0 has exactly the limit of the base before it."""
    sums = rows.cumsum(axis=1)
    return sums[:, :3] / sums[:, 3:]
