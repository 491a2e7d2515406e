"""Motifs as matrices of base probabilities, and the scan of sequences for their best hit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from numpy.typing import DTypeLike

from ebox.errors import InputError
from ebox.sequences.codes import BASES, N_CODE, NUM_BASES

# Rows of motif files are rounded; a sum further than this from 1 is more than rounding.
_SUM_TOLERANCE = 0.02
# Share of the background in every column, so that one mismatch is bad and not impossible.
PSEUDO_SHARE = 0.01
# Bases looked up at once: 5^4 scores stay in the first-level cache.
_WORD_BP = 4
_NUM_LETTERS = N_CODE + 1
_BLOCK_BASES = 2**19

Codes = UInt8[np.ndarray, "batch length"]
Background = Float64[np.ndarray, " 4"]


@dataclass(frozen=True, eq=False)
class Motif:
    """What a factor binds: the probability of each base at each position.

    Args:
        name: The name or accession that it is found by, such as MA0140.3.
        probabilities: Shape (width, 4), bases in the order A, C, G, T; rows sum to 1.
        source: Where it comes from.
        alt_name: A second name, such as GATA1::TAL1; empty if there is none.
        num_sites: How many sites it was made from.
    """

    name: str
    probabilities: Float64[np.ndarray, "width 4"]
    source: str = ""
    alt_name: str = ""
    num_sites: int | None = None

    def __post_init__(self) -> None:
        rows = self.probabilities
        if len(rows) == 0 or not np.isfinite(rows).all() or (rows < 0).any():
            raise InputError("a motif needs columns of probabilities, none negative", record=self.name)
        sums = rows.sum(axis=1)
        if (np.abs(sums - 1) > _SUM_TOLERANCE).any():
            place = int(np.argmax(np.abs(sums - 1)))
            raise InputError(f"column {place + 1} sums to {sums[place]:g}, not to 1", record=self.name)
        # Rows that sum to 1 within rounding stay as they are, so that reversing twice gives the same bits.
        sums[np.abs(sums - 1) < 1e-12] = 1.0
        object.__setattr__(self, "probabilities", rows / sums[:, None])

    @property
    def width(self) -> int:
        """Width in bases."""
        return len(self.probabilities)

    @property
    def consensus(self) -> str:
        """The likeliest base at each position; N where none has more than half."""
        likeliest = self.probabilities.argmax(axis=1)
        is_known = self.probabilities.max(axis=1) > 0.5
        return "".join(BASES[base] if known else "N" for base, known in zip(likeliest, is_known, strict=True))

    def log_odds(
        self, background: Background | None = None, pseudo_share: float = PSEUDO_SHARE
    ) -> Float64[np.ndarray, "width 4"]:
        """Bits of evidence that each base gives for the motif against the background (None: uniform).

        `pseudo_share` of the background is mixed into every column; 0 leaves the matrix as it is, so that a base
        that never occurs has minus infinity.
        """
        shares = np.full(NUM_BASES, 0.25) if background is None else background / background.sum()
        mixed = (1 - pseudo_share) * self.probabilities + pseudo_share * shares
        with np.errstate(divide="ignore"):
            odds: np.ndarray = np.log2(mixed / shares)
        return odds

    def information(self) -> Float64[np.ndarray, " width"]:
        """Bits at each position, 0 to 2, against uniform bases (Schneider 1986, no small-sample correction)."""
        known = np.where(self.probabilities > 0, self.probabilities, 1.0)
        return 2.0 + (known * np.log2(known)).sum(axis=1)

    def reverse_complement(self) -> Motif:
        """The same motif on the other strand."""
        turned = np.ascontiguousarray(self.probabilities[::-1, ::-1])
        return Motif(self.name, turned, self.source, self.alt_name, self.num_sites)


def scan_scores(codes: Codes, motif: Motif, background: Background | None = None) -> Float32[np.ndarray, " batch"]:
    """Find the score in bits of each sequence's best hit on either strand; an N adds nothing for or against.

    Args:
        codes: Shape (batch, length).
        motif: What to look for.
        background: Shares of A, C, G and T; None: uniform.

    Raises:
        InputError: the sequences are shorter than the motif.
    """
    if codes.shape[1] < motif.width:
        raise InputError(f"motif {motif.name} of {motif.width} bp does not fit into sequences of {codes.shape[1]} bp")
    strands = [
        list(make_tables(matrix.log_odds(background), np.float32)) for matrix in (motif, motif.reverse_complement())
    ]
    best = np.empty(len(codes), np.float32)
    size = max(_BLOCK_BASES // codes.shape[1], 1)
    for start in range(0, len(codes), size):
        words = make_words(codes[start : start + size])
        scores = [sum_tables(words, tables, motif.width).max(axis=1) for tables in strands]
        best[start : start + size] = np.maximum(*scores)
    return best


def make_tables(
    columns: Float64[np.ndarray, "width 4"], dtype: DTypeLike = np.float64
) -> Iterator[Float[np.ndarray, " words"]]:
    """The sum over every word, for each stretch of the columns; N and places past the last column add 0."""
    width = -(-len(columns) // _WORD_BP) * _WORD_BP
    padded = np.zeros((width, _NUM_LETTERS))
    padded[: len(columns), :NUM_BASES] = columns
    for start in range(0, width, _WORD_BP):
        table = np.zeros(1)
        for row in padded[start : start + _WORD_BP]:
            table = np.add.outer(table, row).ravel()
        yield table.astype(dtype)


def make_words(codes: Codes) -> Int64[np.ndarray, "batch length"]:
    """The word that starts at each base, as a number in base 5; past the end every letter is N."""
    length = codes.shape[1]
    padded = np.pad(codes, ((0, 0), (0, _WORD_BP - 1)), constant_values=N_CODE)
    words = np.zeros(codes.shape, np.int64)
    for place in range(_WORD_BP):
        words *= _NUM_LETTERS
        words += padded[:, place : place + length]
    return words


def sum_tables(
    words: Int64[np.ndarray, "batch length"], tables: list[Float[np.ndarray, " words"]], width: int
) -> Float[np.ndarray, "batch places"]:
    """The sum of the columns at every position where they fit."""
    num_places = words.shape[1] - width + 1
    total = tables[0].take(words[:, :num_places])
    for number, table in enumerate(tables[1:], start=1):
        start = number * _WORD_BP
        total += table.take(words[:, start : start + num_places])
    return total
