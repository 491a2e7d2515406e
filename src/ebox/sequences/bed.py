"""BED and narrowPeak files of intervals."""

from __future__ import annotations

import os
import re

import numpy as np
from jaxtyping import Float64, Int64

from ebox.errors import InputError
from ebox.progress import quiet
from ebox.sequences.places import Intervals
from ebox.sequences.streams import OnBytes, check_text, iter_lines
from ebox.storage.publishing import publish_file

_BED_SKIPPED = (b"track", b"browser")
_STRANDS = ("+", "-", ".", "*", "")
_MAX_DIGITS = 15
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_bed(path: str | os.PathLike[str], *, on_bytes: OnBytes = quiet) -> Intervals:
    """Read BED (3 columns or more) or narrowPeak, plain or gzip.

    Column 4 is the name, 5 the score (a number, or `.` where missing), 6 the strand. A file whose first line
    has ten columns with numbers in 7 to 10 is narrowPeak: column 10 is the summit, counted from the start, -1
    if unknown. Lines of `track` and `browser`, comments (#) and blank lines are skipped.
    `on_bytes` is as for `ebox.sequences.streams.iter_bytes`.

    Raises:
        InputError: missing, empty, cut off; too few columns, spaces instead of tabs, a position that is negative or
            not a whole number, or an end that is not past its start. The message names the line.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    for number, line in iter_lines(path, on_bytes=on_bytes):
        if not rows:
            check_text(path, line)
        text = line.strip(b" \r\n")
        if not text.strip() or text.startswith(b"#") or text.split(maxsplit=1)[0] in _BED_SKIPPED:
            continue
        fields = text.decode("utf-8", "replace").split("\t", 10)
        _check_fields(fields, path, number)
        rows.append(fields)
        lines.append(number)
    if not rows:
        raise InputError("holds no intervals", file=path, remedy="check how it was made or fetched")
    num_columns = max(len(fields) for fields in rows)
    chroms: dict[str, str] = {}
    start = np.array([int(fields[1]) for fields in rows], np.int64)
    return Intervals(
        np.array([chroms.setdefault(fields[0], fields[0]) for fields in rows], object),
        start,
        np.array([int(fields[2]) for fields in rows], np.int64),
        _read_column(rows, 5, ".") if num_columns > 5 else None,
        _read_column(rows, 3, ".") if num_columns > 3 else None,
        _read_scores(rows, lines, path) if num_columns > 4 else None,
        _read_summits(rows, lines, path) if _is_narrow_peak(rows[0]) else None,
        np.array(lines, np.int64),
        os.fspath(path),
    )


def _check_fields(fields: list[str], path: str | os.PathLike[str], line: int) -> None:
    problem = _find_problem(fields)
    if problem is not None:
        raise InputError(problem[0], file=path, line=line, remedy=problem[1])


def _find_problem(fields: list[str]) -> tuple[str, str] | None:
    """What is wrong with the columns of a line, and its remedy."""
    shown = "\t".join(fields)[:60]
    if len(fields) < 3:
        if len(shown.split()) >= 3:
            return (f"columns are separated by spaces: {shown!r}; BED needs tabs", "convert it: tr -s ' ' '\\t'")
        return (f"has {len(fields)} columns: {shown!r}; BED needs 3 or more", "give chrom, start and end")
    if not fields[0].strip():
        return ("the first column is empty; a chromosome was expected", "give chrom, start and end")
    for name, text in (("start", fields[1]), ("end", fields[2])):
        if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
            continue
        if text.startswith("-") and text[1:].isdigit():
            return (f"{name} {text} is negative", "BED counts from 0; remove the line or clip it")
        return (
            f"{name} {text[:30]!r} is not a whole number",
            "write digits only (in R: options(scipen = 999)); a line of column names needs a # before it",
        )
    if int(fields[2]) <= int(fields[1]):
        return (f"end {fields[2]} is not past start {fields[1]}", "BED is 0-based and half-open: start < end")
    if len(fields) > 5 and fields[5] not in _STRANDS:
        return (f"strand {fields[5][:30]!r} is not +, - or .", "put the strand, or a dot, in column 6")
    return None


def _read_column(rows: list[list[str]], column: int, missing: str) -> np.ndarray:
    texts = (fields[column] if len(fields) > column else missing for fields in rows)
    return np.array(["." if text in ("", "*") and column == 5 else text for text in texts], object)


def _read_scores(
    rows: list[list[str]], lines: list[int], path: str | os.PathLike[str]
) -> Float64[np.ndarray, " interval"]:
    scores = np.full(len(rows), np.nan)
    for row, fields in enumerate(rows):
        if len(fields) > 4 and fields[4] not in ("", "."):
            scores[row] = _read_number(fields[4], "score", path, lines[row])
    return scores


def _read_number(text: str, name: str, path: str | os.PathLike[str], line: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"{name} {text[:30]!r} is not a number",
            file=path,
            line=line,
            remedy="put a number or a dot there, or keep fewer columns: cut -f1-4",
        ) from None


def _is_narrow_peak(fields: list[str]) -> bool:
    """Whether there are ten columns, with numbers in the last four; in BED12 column 10 is the number of blocks."""
    return len(fields) == 10 and all(_NUMBER.fullmatch(text) for text in fields[6:9]) and _is_whole(fields[9])


def _is_whole(text: str) -> bool:
    return text == "-1" or (text.isascii() and text.isdigit())


def _read_summits(
    rows: list[list[str]], lines: list[int], path: str | os.PathLike[str]
) -> Int64[np.ndarray, " interval"]:
    summits = np.full(len(rows), -1, np.int64)
    for row, fields in enumerate(rows):
        text, start, end = fields[9] if len(fields) == 10 else "", int(fields[1]), int(fields[2])
        if not _is_whole(text) or int(text) >= end - start:
            raise InputError(
                f"summit {text[:30]!r} in column 10 is not within the peak of {end - start} bp",
                file=path,
                line=lines[row],
                remedy="give the summit's distance from the start, or -1",
            )
        summits[row] = start + int(text) if text != "-1" else -1
    return summits


def write_bed(path: str | os.PathLike[str], intervals: Intervals) -> None:
    """Publish intervals as BED of 3 to 6 columns, or as narrowPeak where they have summits; gzip if .gz.

    A missing value becomes a dot; the numbers of narrowPeak that ebox doesn't keep become 0 and -1.

    Raises:
        InputError: an unknown position, an empty text, a tab or line break in a text, or a disk error.
    """
    for row in np.flatnonzero((intervals.start < 0) | (intervals.end <= intervals.start)).tolist():
        raise InputError(
            f"interval {row + 1} can't be written: {intervals.start[row]} to {intervals.end[row]}",
            file=path,
            remedy="clip it to its chromosome, or leave it out",
        )
    with publish_file(path) as temporary:
        temporary.write_bytes(_make_text(path, intervals))


def _make_text(path: str | os.PathLike[str], intervals: Intervals) -> bytes:
    columns = [_check_texts(path, intervals.chrom)]
    columns += [[str(place) for place in part.tolist()] for part in (intervals.start, intervals.end)]
    has = [part is not None for part in (intervals.name, intervals.score, intervals.strand, intervals.summit)]
    num = len(has) - has[::-1].index(True) if any(has) else 0
    dots = ["."] * len(intervals)
    if num > 0:
        columns.append(dots if intervals.name is None else _check_texts(path, intervals.name))
    if num > 1:
        columns.append(dots if intervals.score is None else [_format(x) for x in intervals.score.tolist()])
    if num > 2:
        columns.append(dots if intervals.strand is None else _check_texts(path, intervals.strand))
    if intervals.summit is not None:
        offsets = np.where(intervals.summit >= 0, intervals.summit - intervals.start, -1)
        columns += [["0"] * len(intervals), ["-1"] * len(intervals), ["-1"] * len(intervals)]
        columns.append([str(x) for x in offsets.tolist()])
    return "".join("\t".join(fields) + "\n" for fields in zip(*columns, strict=True)).encode()


def _check_texts(path: str | os.PathLike[str], texts: np.ndarray) -> list[str]:
    for text in texts.tolist():
        if text == "" or any(letter in text for letter in "\t\r\n"):
            raise InputError(
                f"{text!r} can't be written as a column of BED",
                file=path,
                remedy="use names that are not empty and have no tab and no line break",
            )
    return [str(text) for text in texts.tolist()]


def _format(score: float) -> str:
    """The shortest text that reads back to the same number; a dot where the score is missing."""
    if np.isnan(score):
        return "."
    return str(int(score)) if score.is_integer() else repr(score)
