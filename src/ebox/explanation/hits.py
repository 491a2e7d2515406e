"""Where discovered motifs are in sequences: good matches that the network also uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

from ebox.explanation.discovery import Discovered
from ebox.sequences.codes import NUM_BASES
from ebox.sequences.matrices import make_tables, make_words, sum_tables

# The contribution of a hit must be at least this share of the mean contribution of the motif's own sites.
MIN_CONTRIBUTION_SHARE = 0.25
# Scores are counted in steps of this many bits for their distribution.
STEP_BITS = 0.001
# More than scores differ that are summed in float32, in another order.
ROUNDING_BITS = 1e-4
_BLOCK_ROWS = 2048


@dataclass(frozen=True)
class Hit:
    """A place of a motif: a good match to its matrix that the network uses.

    `score` is in bits against the composition of the sequences; `contribution` is the sum over its bases.
    """

    example: int
    motif: str
    start: int
    end: int
    strand: str
    score: float
    contribution: float


def call_hits(
    motifs: Sequence[Discovered],
    codes: UInt8[np.ndarray, "example length"],
    contributions: Float[np.ndarray, "example length"],
    p_value: float,
) -> list[Hit]:
    """Find the hits of each motif, sorted by example and place; hits of one motif do not overlap.

    The contribution of a hit has the motif's sign and at least a quarter of the mean of the motif's own sites.

    Args:
        motifs: The motifs.
        codes: The sequences.
        contributions: The contribution of each base.
        p_value: The share of random places, with the composition of the sequences, that score as high as a hit.
    """
    counts = np.bincount(codes.ravel(), minlength=NUM_BASES)[:NUM_BASES].astype(np.float64)
    # Both strands are read, so a base and its complement have the same share.
    background = (counts + counts[::-1] + 1.0) / (counts + counts[::-1] + 1.0).sum()
    hits = [
        hit
        for motif in motifs
        if motif.motif.width <= codes.shape[1]
        for hit in _call_motif(motif, codes, contributions, background, p_value)
    ]
    return sorted(hits, key=lambda hit: (hit.example, hit.start, hit.end, hit.motif))


def _call_motif(
    motif: Discovered, codes: np.ndarray, contributions: np.ndarray, background: np.ndarray, p_value: float
) -> list[Hit]:
    matrix, width = motif.motif, motif.motif.width
    threshold = find_threshold(matrix.log_odds(background), background, p_value)
    mean = float((motif.contributions * motif.probabilities).sum())
    least = MIN_CONTRIBUTION_SHARE * abs(mean)
    hits = []
    for first in range(0, len(codes), _BLOCK_ROWS):
        words = make_words(codes[first : first + _BLOCK_ROWS])
        sums = _slide(contributions[first : first + _BLOCK_ROWS], width)
        used = motif.sign * sums >= least
        for strand, turned in (("+", matrix), ("-", matrix.reverse_complement())):
            tables = list(make_tables(turned.log_odds(background), np.float32))
            scores = sum_tables(words, tables, width)
            rows, places = np.nonzero((scores >= threshold) & used)
            hits += [
                Hit(first + row, motif.name, place, place + width, strand, float(scores[row, place]), float(total))
                for row, place, total in zip(rows.tolist(), places.tolist(), sums[rows, places], strict=True)
            ]
    return _drop_overlaps(hits)


def find_threshold(
    log_odds: Float64[np.ndarray, "width 4"], background: Float64[np.ndarray, " 4"], p_value: float
) -> float:
    """The lowest score that at most a share `p_value` of random sites reaches, from the distribution of all scores.

    Scores are counted in steps of a thousandth of a bit, column by column, each step with the highest score in it. So
    the result lies above every site that is not among those counted, and lowest to within a step for each column. It is
    infinite where even the best word is more frequent, as words of 6 bp are for 1e-4: then nothing is a hit.
    """
    steps = np.round(log_odds / STEP_BITS).astype(np.int64)
    steps -= steps.min(axis=1, keepdims=True)
    shares, highest = np.ones(1), np.zeros(1)
    for column, scores in zip(steps.tolist(), log_odds.tolist(), strict=True):
        size = len(shares) + max(column)
        grown, raised = np.zeros(size), np.full(size, -np.inf)
        for step, score, share in zip(column, scores, background.tolist(), strict=True):
            place = slice(step, step + len(shares))
            grown[place] += share * shares
            np.maximum(raised[place], highest + score, out=raised[place])
        shares, highest = grown, raised
    tail = shares[::-1].cumsum()[::-1]
    first = int(np.argmax(tail <= p_value)) if tail[-1] <= p_value else len(tail)
    return float(highest[:first].max(initial=-np.inf)) + ROUNDING_BITS if first < len(tail) else float("inf")


def mark_hits(hits: Sequence[Hit], shape: tuple[int, int]) -> Bool[np.ndarray, "example length"]:
    """Which bases are in a hit."""
    mask = np.zeros(shape, bool)
    for hit in hits:
        mask[hit.example, hit.start : hit.end] = True
    return mask


def _slide(values: Float[np.ndarray, "row length"], width: int) -> Float64[np.ndarray, "row places"]:
    """Sums over every window."""
    sums = np.pad(values.astype(np.float64).cumsum(axis=1), ((0, 0), (1, 0)))
    return sums[:, width:] - sums[:, :-width]


def _drop_overlaps(hits: list[Hit]) -> list[Hit]:
    """Keep the hit with the highest score of those that overlap."""
    kept: dict[int, list[Hit]] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.example, hit.start, hit.strand)):
        others = kept.setdefault(hit.example, [])
        if all(hit.end <= other.start or hit.start >= other.end for other in others):
            others.append(hit)
    return [hit for others in kept.values() for hit in others]
