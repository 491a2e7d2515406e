"""Local alignment of two sequences, with gaps: how many columns, and the share of them that match."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8

MATCH, MISMATCH, GAP_OPEN, GAP_EXTEND = 1, -1, 3, 1
# An N matches nothing, not even another N, so the two sides spell it differently.
_FIRST_LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)
_SECOND_LETTERS = np.frombuffer(b"ACGTM", dtype=np.uint8)
_STEPS = re.compile(rb"(\d+)([=XID])")


@dataclass(frozen=True)
class AlignmentResult:
    """A stretch of a local alignment: its columns, gaps counted, and the share of them that match."""

    columns: int
    identity: float


def spell_first(codes: UInt8[np.ndarray, " length"]) -> str:
    """The letters of a sequence on the first side of an alignment."""
    return _FIRST_LETTERS[codes].tobytes().decode()


def spell_second(codes: UInt8[np.ndarray, " length"]) -> str:
    """The letters of a sequence on the second side of an alignment."""
    return _SECOND_LETTERS[codes].tobytes().decode()


def align(first: str, second: str, min_columns: int, min_identity: float) -> AlignmentResult | None:
    """A stretch of the best local alignment (Smith and Waterman 1981) that is long and alike enough, or None.

    A match scores 1, a mismatch -1, a gap of n letters -(2 + n). The whole alignment is judged first. Where it is long
    enough but not alike enough, its longest stretch is sought that is: a distant relative often has a well-kept half.

    Args:
        first: From `spell_first`.
        second: From `spell_second`.
        min_columns: Fewest columns of the stretch.
        min_identity: Least share of columns that match.
    """
    import parasail

    whole = parasail.sw_stats_striped_16(first, second, GAP_OPEN, GAP_EXTEND, _matrix())
    columns, matches = int(whole.length), int(whole.matches)
    if columns < min_columns or matches < min_identity * min_columns:
        return None
    if matches >= min_identity * columns:
        return AlignmentResult(columns, matches / columns)
    traced = parasail.sw_trace_striped_16(first, second, GAP_OPEN, GAP_EXTEND, _matrix())
    return _find_stretch(traced.cigar.decode, min_columns, min_identity)


def _find_stretch(steps: bytes, min_columns: int, min_identity: float) -> AlignmentResult | None:
    """The longest stretch of an alignment with enough identity, from the steps of its path (`12=1X3I`)."""
    runs = [(int(number), kind == b"=") for number, kind in _STEPS.findall(steps)]
    is_match = np.repeat([match for _, match in runs], [number for number, _ in runs])
    matches = np.concatenate([[0], np.cumsum(is_match)])
    # A stretch from i to j has enough identity where its surplus, matches less the share that is due, does not fall.
    surplus = matches - min_identity * np.arange(len(matches))
    lowest = np.minimum.accumulate(surplus)
    # The first place with a surplus of at most that of each end: the running minimum falls, so it can be searched.
    begin = np.searchsorted(-lowest, -surplus - 1e-9, side="left")
    length = np.arange(len(matches)) - begin
    end = int(np.argmax(length))
    if length[end] < min_columns:
        return None
    return AlignmentResult(int(length[end]), float(matches[end] - matches[begin[end]]) / float(length[end]))


@cache
def _matrix() -> Any:
    import parasail

    return parasail.matrix_create("ACGTNM", MATCH, MISMATCH)
