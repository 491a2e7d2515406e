"""Places on a genome as columns, 0-based and half-open: the form that readers return and interval algebra takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int64

from ebox.errors import InputError


class Interval(NamedTuple):
    """One interval: 0-based, half-open; strand is +, - or . (unknown)."""

    chrom: str
    start: int
    end: int
    strand: str = "."


@final
@dataclass(frozen=True)
class Intervals:
    """Many intervals as columns; text columns are arrays of Python strings.

    Args:
        chrom: The chromosome of each; "" where unknown.
        start: First base, 0-based; -1 where unknown.
        end: One past the last base; -1 where unknown.
        strand: +, - or . of each; None: unknown for all.
        name: The name of each; None: none has one.
        score: The score of each, NaN where missing; None: none has one.
        summit: The position of each peak's summit on its chromosome; -1 where unknown; None: none has one.
        lines: The 1-based line of each in its file.
        source: The file, as the user named it.
        notes: What a reader should know of the file, as notes.
    """

    chrom: np.ndarray
    start: Int64[np.ndarray, " interval"]
    end: Int64[np.ndarray, " interval"]
    strand: np.ndarray | None
    name: np.ndarray | None
    score: Float64[np.ndarray, " interval"] | None
    summit: Int64[np.ndarray, " interval"] | None
    lines: Int64[np.ndarray, " interval"]
    source: str
    notes: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.start)

    @property
    def widths(self) -> Int64[np.ndarray, " interval"]:
        """The number of bases of each."""
        widths: Int64[np.ndarray, " interval"] = self.end - self.start
        return widths

    def take(self, indices: np.ndarray) -> Intervals:
        """The intervals at these indices (or where a mask is true), in this order."""
        return Intervals(
            self.chrom[indices],
            self.start[indices],
            self.end[indices],
            None if self.strand is None else self.strand[indices],
            None if self.name is None else self.name[indices],
            None if self.score is None else self.score[indices],
            None if self.summit is None else self.summit[indices],
            self.lines[indices],
            self.source,
            self.notes,
        )


def make_intervals(
    chrom: np.ndarray | list[str],
    start: np.ndarray | list[int],
    end: np.ndarray | list[int],
    *,
    strand: np.ndarray | list[str] | None = None,
    name: np.ndarray | list[str] | None = None,
    score: np.ndarray | list[float] | None = None,
    summit: np.ndarray | list[int] | None = None,
    source: str = "memory",
) -> Intervals:
    """Make intervals from columns that did not come from a file; lines count from 1.

    Args:
        chrom: The chromosome of each.
        start: First base of each, 0-based.
        end: One past the last base of each.
        strand: +, - or . of each; None: unknown for all.
        name: The name of each; None: none has one.
        score: The score of each, NaN where missing; None: none has one.
        summit: The position of each summit on its chromosome, -1 where unknown; None: none has one.
        source: Where the columns come from, for messages.

    Raises:
        InputError: an end before its start.
    """
    starts, ends = np.asarray(start, np.int64), np.asarray(end, np.int64)
    if (ends < starts).any():
        row = int(np.argmax(ends < starts))
        raise InputError(
            f"interval {row + 1} ends before it starts: {starts[row]} to {ends[row]}",
            file=source,
            remedy="give start before end",
        )
    return Intervals(
        np.asarray(chrom, object),
        starts,
        ends,
        None if strand is None else np.asarray(strand, object),
        None if name is None else np.asarray(name, object),
        None if score is None else np.asarray(score, np.float64),
        None if summit is None else np.asarray(summit, np.int64),
        np.arange(1, len(starts) + 1, dtype=np.int64),
        source,
    )
