"""Relatives: sequences of one origin, on either strand, found by shared words and told by local alignment.

Two sequences are relatives where at least half the window aligns with at least 80 % identity, gaps counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from ebox.datasets.seeds import (
    MAX_PLACES,
    NUM_CANDIDATES,
    Candidates,
    concatenate_candidates,
    index_seeds,
    iter_candidates,
)
from ebox.progress import Progress, quiet
from ebox.sequences.alignment import align, spell_first, spell_second
from ebox.sequences.codes import reverse_complement

MIN_IDENTITY = 0.8
# Of the window that the stretch covers.
MIN_SHARE = 0.5
_PAIRS_AT_ONCE = 1 << 10


@dataclass(frozen=True)
class Relatives:
    """Pairs of relatives: the row that asked, the row that was found, and the identity of the aligned stretch.

    `crowded` lists the queries that may have more relatives than were looked at.
    """

    query: Int64[np.ndarray, " pair"]
    source: Int64[np.ndarray, " pair"]
    identity: Float64[np.ndarray, " pair"]
    crowded: Int64[np.ndarray, " query"]


def find_relatives(
    codes: UInt8[np.ndarray, "example length"],
    queries: Int64[np.ndarray, " query"],
    sources: Int64[np.ndarray, " source"],
    progress: Progress = quiet,
) -> Relatives:
    """Find relatives of `queries` among `sources`: of each query up to eight, those that share most words.

    Args:
        codes: The sequences.
        queries: Rows to find relatives of; a row is never its own relative.
        sources: Rows where relatives are sought. Where they are the queries, each pair is aligned once; of sources of
            more than two billion bases, which are read in parts, up to eight relatives are found in each part.
        progress: Called with the number of queries done.
    """
    parts: list[Candidates] = []
    if not len(queries) or not len(sources):
        none = np.empty(0, dtype=np.int64)
        return Relatives(none, none, np.empty(0), none)
    at_once = max(1, MAX_PLACES // codes.shape[1])
    for start in range(0, len(sources), at_once):
        index = index_seeds(codes, sources[start : start + at_once])
        is_whole = queries is sources and at_once >= len(sources)
        for done, candidates in iter_candidates(codes, None if is_whole else queries, index):
            parts.append(candidates)
            progress("looking for candidates of relatives", done, len(queries))
        del index
    pairs = concatenate_candidates(parts)
    asked, number = np.unique(pairs.query, return_counts=True)
    crowded = asked[number >= NUM_CANDIDATES]
    identity = _align_pairs(codes, pairs, progress)
    found = ~np.isnan(identity)
    return Relatives(pairs.query[found], pairs.source[found], identity[found], crowded)


def _align_pairs(codes: np.ndarray, pairs: Candidates, progress: Progress) -> Float64[np.ndarray, " pair"]:
    """The identity of each pair of relatives, NaN for the others."""
    least = max(1, round(MIN_SHARE * codes.shape[1]))
    identity = np.empty(len(pairs.query))
    each = zip(pairs.query.tolist(), pairs.source.tolist(), pairs.flipped.tolist(), strict=True)
    for number, (query, source, flipped) in enumerate(each):
        if number % _PAIRS_AT_ONCE == 0:
            progress("aligning relatives", number, len(identity))
        identity[number] = _measure_identity(codes[query], codes[source], flipped, least)
    progress("aligning relatives", len(identity), len(identity))
    return identity


def _measure_identity(query: np.ndarray, source: np.ndarray, flipped: bool, min_columns: int) -> float:
    second = reverse_complement(source) if flipped else source
    found = align(spell_first(query), spell_second(second), min_columns, MIN_IDENTITY)
    return float("nan") if found is None else found.identity
