"""The summits of peaks: column 10 of narrowPeak and of the forms near it, and what of it is in doubt."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from ebox.errors import InputError
from ebox.storage.notes import Code, note

# What programs write where they have no value.
MISSING = frozenset({"", ".", "-", "*", "na", "n/a", "nan", "null", "none"})
_COLUMN = 9
_OTHER = -2
_UNKNOWN = -1
_OFFSET = re.compile(r"(\d{1,15})(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf", re.IGNORECASE)
_LENGTHEN = """awk 'BEGIN{FS=OFS="\\t"} NF<10{for(i=NF+1;i<10;i++)$i=".";$10=-1} {print}' OLD > NEW"""
_FROM_CHROM = """awk 'BEGIN{FS=OFS="\\t"} $10>=$2{$10-=$2} {print}' OLD > NEW"""


class Doubt(Code):
    """What is in doubt of the places in a file."""

    ZERO_SUMMITS = "zero_summits"
    SOME_SUMMITS = "some_summits"
    UNUSED_SUMMITS = "unused_summits"
    DASH_STRANDS = "dash_strands"


def read_summits(
    rows: Sequence[list[str]], lines: Sequence[int], path: str | os.PathLike[str]
) -> tuple[Int64[np.ndarray, " interval"] | None, tuple[Mapping[str, Any], ...]]:
    """The summits on their chromosomes, -1 where unknown, or None; and notes on what is in doubt.

    Column 10 counts from the start of the peak. It is read whatever columns 7 to 9 and those past 10 hold; BED12 and
    BED9 with more columns, which hold something else there, are known by what stands around it.

    Raises:
        InputError: a summit that is not within its peak, or a line that ends before column 10 below lines that
            reach it. The message names the line.
    """
    long = np.array([len(fields) > _COLUMN for fields in rows], bool)
    holders = [fields for fields in rows if len(fields) > _COLUMN]
    if not holders or all(map(_is_blocks, holders)) or all(map(_is_coloured, holders)):
        return None, ()
    starts = np.array([int(fields[1]) for fields in rows], np.int64)
    widths = np.array([int(fields[2]) for fields in rows], np.int64) - starts
    offsets = np.array([_read_offset(fields) for fields in rows], np.int64)
    fits = (offsets >= 0) & (offsets < widths)
    bad = long & ~fits & (offsets != _UNKNOWN)
    about = {"source": os.path.basename(path), "num": int(fits.sum()), "of": len(rows)}
    if bad.any():
        if not _are_summits(holders, offsets, fits, bad):
            return None, (note(Doubt.UNUSED_SUMMITS, about),) if fits.any() else ()
        _refuse(rows, lines, path, int(np.argmax(bad)))
    short = np.flatnonzero(~long & (np.arange(len(rows)) > np.argmax(long)))
    if fits.any() and len(short):
        _refuse(rows, lines, path, int(short[0]))
    summits = np.where(fits, starts + offsets, _UNKNOWN)
    if fits.any() and not offsets[fits].any() and (widths[fits] > 1).any():
        return summits, (note(Doubt.ZERO_SUMMITS, about),)
    return summits, (note(Doubt.SOME_SUMMITS, about),) if fits.any() and not fits.all() else ()


def _read_offset(fields: Sequence[str]) -> int:
    text = fields[_COLUMN].strip() if len(fields) > _COLUMN else ""
    found = _OFFSET.fullmatch(text) if text.isascii() else None
    if found is not None:
        return int(found[1])
    return _UNKNOWN if text.lower() in MISSING or re.fullmatch(r"-1(\.0*)?", text) else _OTHER


def _are_summits(
    holders: Sequence[list[str]],
    offsets: Int64[np.ndarray, " interval"],
    fits: Bool[np.ndarray, " interval"],
    bad: Bool[np.ndarray, " interval"],
) -> bool:
    """Whether column 10 is meant as summits, though some of it can't be: most fits, or the columns before it say so."""
    if fits.sum() >= bad.sum():
        return True
    is_whole = 2 * int((offsets != _OTHER).sum()) > len(offsets)
    num_signals = sum(all(map(_NUMBER.fullmatch, fields[6:_COLUMN])) for fields in holders)
    return is_whole and 2 * num_signals > len(holders)


def _refuse(rows: Sequence[list[str]], lines: Sequence[int], path: str | os.PathLike[str], row: int) -> None:
    fields = rows[row]
    text, start, end = fields[_COLUMN] if len(fields) > _COLUMN else "", int(fields[1]), int(fields[2])
    remedy = "give the summit's distance from the start, or -1; if column 10 is something else: cut -f1-6 OLD > NEW"
    if len(fields) <= _COLUMN:
        remedy = f"check whether the file is cut off there; if the line is whole, write -1: {_LENGTHEN}"
    elif start <= _read_offset(fields) < end:
        remedy = f"it seems to be a position on the chromosome; write its distance from the start: {_FROM_CHROM}"
    raise InputError(
        f"summit {text[:30]!r} in column 10 is not within the peak of {end - start} bp",
        file=path,
        line=lines[row],
        remedy=remedy,
    )


def _is_blocks(fields: Sequence[str]) -> bool:
    """Whether columns 10 to 12 are the blocks of BED12: their number, their sizes and their starts."""
    if len(fields) < 12 or not fields[_COLUMN].isdigit():
        return False
    sizes, starts = (fields[column].rstrip(",").split(",") for column in (10, 11))
    num = int(fields[_COLUMN])
    return len(sizes) == len(starts) == num and starts[0] == "0" and all(map(str.isdigit, (*sizes, *starts)))


def _is_coloured(fields: Sequence[str]) -> bool:
    """Whether column 9 is a colour, as in BED9; what follows there (coverage, in bedMethyl) is no summit."""
    return re.fullmatch(r"\d+,\d+,\d+", fields[8]) is not None
