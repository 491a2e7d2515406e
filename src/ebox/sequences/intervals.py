"""Algebra of intervals, 0-based and half-open, by sorted search; also offers their columns and files."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from ebox.sequences.bed import read_bed, write_bed
from ebox.sequences.places import Interval, Intervals, make_intervals

__all__ = [
    "Interval",
    "Intervals",
    "count_overlaps",
    "distance_to_nearest",
    "make_intervals",
    "merge",
    "overlaps_any",
    "read_bed",
    "resize",
    "subtract",
    "write_bed",
]


def overlaps_any(a: Intervals, b: Intervals) -> Bool[np.ndarray, " interval"]:
    """Whether each of `a` shares a base with any of `b`; intervals that only touch share none, nor do empty ones."""
    return count_overlaps(a, b) > 0


def count_overlaps(a: Intervals, b: Intervals) -> Int64[np.ndarray, " interval"]:
    """The number of intervals of `b` that share a base with each of `a`."""
    a_line, b_line = _place_on_line(a, b)
    filled = b_line.end > b_line.start
    begun = np.searchsorted(np.sort(b_line.start[filled]), a_line.end, side="left")
    over = np.searchsorted(np.sort(b_line.end[filled]), a_line.start, side="right")
    return np.where(a_line.end > a_line.start, begun - over, 0)


def distance_to_nearest(a: Intervals, b: Intervals) -> Int64[np.ndarray, " interval"]:
    """Bases between each of `a` and the nearest of `b`.

    Returns:
        0 where they overlap or touch, -1 where `b` has none on the chromosome. Empty intervals of `b` don't count.
    """
    b = b.take(np.flatnonzero(b.end > b.start))
    if len(b) == 0:
        return np.full(len(a), -1, np.int64)
    a_line, b_line = _place_on_line(a, b)
    starts, ends = np.sort(b_line.start), np.sort(b_line.end)
    left = np.searchsorted(ends, a_line.start, side="right") - 1
    right = np.searchsorted(starts, a_line.end, side="left")
    far = np.iinfo(np.int64).max
    left_end = ends[np.maximum(left, 0)]
    right_start = starts[np.minimum(right, len(starts) - 1)]
    has_left = (left >= 0) & (left_end // a_line.size == a_line.chrom)
    has_right = (right < len(starts)) & (right_start // a_line.size == a_line.chrom)
    gap = np.minimum(
        np.where(has_left, a_line.start - left_end, far), np.where(has_right, right_start - a_line.end, far)
    )
    # More intervals began before than ended before: one covers this place.
    gap[right > left + 1] = 0
    return np.where(gap == far, -1, gap)


def merge(intervals: Intervals) -> Intervals:
    """The union: sorted by chromosome name and start; intervals that overlap or touch become one.

    Strand, name, score and summit are left out; the line is that of the leftmost part. Empty intervals are dropped.
    """
    kept = intervals.take(np.flatnonzero(intervals.end > intervals.start))
    line = _place_on_line(kept)[0]
    order = np.argsort(line.start, kind="stable")
    start, reached = line.start[order], np.maximum.accumulate(line.end[order])
    is_first = np.ones(len(order), bool)
    is_first[1:] = start[1:] > reached[:-1]
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(order))[: len(first)] - 1
    head = kept.take(order[first])
    end = head.start + (reached[last] - start[first])
    return replace(head, end=end, strand=None, name=None, score=None, summit=None)


def subtract(a: Intervals, b: Intervals) -> Intervals:
    """What is left of each of `a` without the bases of `b`, in the order of `a`; one interval may leave several pieces.

    A piece keeps strand, name, score and line; its summit becomes -1 if it is not within the piece.
    """
    holes = merge(b)
    a_line, hole_line = _place_on_line(a, holes)
    first = np.searchsorted(hole_line.end, a_line.start, side="right")
    last = np.searchsorted(hole_line.start, a_line.end, side="left")
    num_holes = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(a)), num_holes + 1)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(num_holes + 1) - (num_holes + 1), num_holes + 1)
    # Piece j of an interval lies between its hole j - 1 and its hole j.
    bounds = np.append(holes.start, 0), np.append(holes.end, 0)
    before, after = first[owner] + number - 1, first[owner] + number
    start = np.where(number == 0, a.start[owner], bounds[1][np.where(number == 0, -1, before)])
    is_last = number == num_holes[owner]
    end = np.where(is_last, a.end[owner], bounds[0][np.where(is_last, -1, after)])
    kept = np.flatnonzero(end > start)
    pieces = replace(a.take(owner[kept]), start=start[kept], end=end[kept])
    if pieces.summit is None:
        return pieces
    inside = (pieces.summit >= pieces.start) & (pieces.summit < pieces.end)
    return replace(pieces, summit=np.where(inside, pieces.summit, -1))


def resize(intervals: Intervals, length_bp: int, centre: Literal["summit", "middle"] = "summit") -> Intervals:
    """Intervals of one length around each summit (the middle if the summit is unknown), or around each middle.

    Nothing is clipped: a start may become negative and an end may pass the end of the chromosome.
    """
    middle = (intervals.start + intervals.end) // 2
    if centre == "summit" and intervals.summit is not None:
        middle = np.where(intervals.summit >= 0, intervals.summit, middle)
    start = middle - length_bp // 2
    return replace(intervals, start=start, end=start + length_bp)


class _Line(NamedTuple):
    """Intervals on one line: chromosome after chromosome, each `size` long, so that one search covers all of them."""

    chrom: Int64[np.ndarray, " interval"]
    start: Int64[np.ndarray, " interval"]
    end: Int64[np.ndarray, " interval"]
    size: int


def _place_on_line(*sets: Intervals) -> list[_Line]:
    names = sorted({name for one in sets for name in one.chrom.tolist()})
    number = {name: place for place, name in enumerate(names)}
    lowest = min((int(one.start.min()) for one in sets if len(one)), default=0)
    highest = max((int(one.end.max()) for one in sets if len(one)), default=0)
    # Two extra bases keep the end of one chromosome from touching the start of the next.
    size = highest - lowest + 2
    lines = []
    for one in sets:
        chrom = np.fromiter((number[name] for name in one.chrom.tolist()), np.int64, len(one))
        shift = chrom * size - lowest
        lines.append(_Line(chrom, one.start + shift, one.end + shift, size))
    return lines
