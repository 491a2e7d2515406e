"""Many sequences in one flat array of codes, with the name of each and its line in the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, final

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from ebox.errors import InputError
from ebox.sequences.codes import CODE_OF_BYTE, INVALID, explain_letter

# Bases gathered at once by `take`: its index array is eight times as many bytes.
_TAKE_BASES = 1 << 22


@final
@dataclass(frozen=True)
class SequenceSet:
    """Sequences of any lengths: one byte for each base, and for each record no Python object except its name.

    Args:
        codes: Codes of all records, one after another (A, C, G, T, N = 0 to 4).
        offsets: Where each record begins in `codes`; one more entry for the end.
        names: The name of each record.
        lines: The 1-based line of each record in its file.
        source: The file, as the user named it.
        labels: 0, 1 or NaN (unknown) for each record, in a row for each record where a table has several columns of
            labels; None: the file has no labels.
    """

    codes: UInt8[np.ndarray, " base"]
    offsets: Int64[np.ndarray, " record_and_one"]
    names: list[str]
    lines: Int64[np.ndarray, " record"]
    source: str
    labels: Float32[np.ndarray, "record ..."] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def lengths(self) -> Int64[np.ndarray, " record"]:
        """The number of bases of each record."""
        return np.diff(self.offsets)

    def record(self, index: int) -> UInt8[np.ndarray, " length"]:
        """The codes of one record (a view; a negative index counts from the end)."""
        index = range(len(self))[index]
        return self.codes[self.offsets[index] : self.offsets[index + 1]]

    def matrix(self, length: int | None = None) -> UInt8[np.ndarray, "record length"]:
        """All records as one matrix (a view), if all are `length` bases long (None: the length of the first one).

        Raises:
            InputError: a record of another length; the message names the first such record.
        """
        wanted = (int(self.lengths[0]) if len(self) else 0) if length is None else length
        other = np.flatnonzero(self.lengths != wanted)
        if len(other):
            first = int(other[0])
            raise InputError(
                f"is {self.lengths[first]} bp long, {wanted} bp expected: all records must have the same length "
                f"({len(other)} of {len(self)} are not)",
                file=self.source,
                line=int(self.lines[first]),
                record=self.names[first],
                remedy="cut the sequences to one length; `ebox build` does it",
            )
        return self.codes.reshape(len(self), wanted)

    def take(self, indices: Sequence[int] | np.ndarray) -> SequenceSet:
        """The records at these indices, in this order (a copy)."""
        rows = np.asarray(indices, np.int64)
        lengths = self.lengths[rows]
        offsets = make_offsets(lengths)
        codes = np.empty(int(offsets[-1]), np.uint8)
        shift = self.offsets[:-1][rows] - offsets[:-1]
        for block in _blocks(offsets):
            span = slice(offsets[block.start], offsets[block.stop])
            places = np.arange(span.start, span.stop) + np.repeat(shift[block], lengths[block])
            codes[span] = self.codes[places]
        labels = None if self.labels is None else self.labels[rows]
        names = [self.names[row] for row in rows.tolist()]
        return SequenceSet(codes, offsets, names, self.lines[rows], self.source, labels)


def make_offsets(lengths: Int64[np.ndarray, " record"]) -> Int64[np.ndarray, " record_and_one"]:
    """Where records of these lengths begin, and where the last one ends."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def make_sequence_set(
    codes: UInt8[np.ndarray, "record length"], names: Sequence[str], source: str = "memory"
) -> SequenceSet:
    """Make a set from a matrix of codes (a view); lines count from 1."""
    num, length = codes.shape
    offsets = np.arange(num + 1, dtype=np.int64) * length
    return SequenceSet(codes.reshape(-1), offsets, list(names), np.arange(1, num + 1, dtype=np.int64), source)


def encode_letters(
    letters: bytes, source: str | os.PathLike[str], line: int, record: str
) -> UInt8[np.ndarray, " length"]:
    """Turn the letters of one record into codes.

    Args:
        letters: The letters, in either case.
        source: The file, for messages.
        line: The 1-based line, for messages.
        record: The name of the record, for messages.

    Raises:
        InputError: a letter that is not DNA; the message names file, line, record and letter.
    """
    data = np.frombuffer(letters, np.uint8)
    codes = CODE_OF_BYTE[data]
    bad = np.flatnonzero(codes == INVALID)
    if len(bad):
        raise_letter(data[int(bad[0])], int(bad[0]) + 1, source, line, record)
    return codes


def raise_letter(
    letter: int | np.integer, base: int | None, source: str | os.PathLike[str], line: int | None, record: str
) -> NoReturn:
    """Raise InputError for a byte that is not a letter of DNA.

    Args:
        letter: The byte.
        base: Its 1-based position in the record, if known.
        source: The file.
        line: The 1-based line.
        record: The name of the record.
    """
    shown = chr(int(letter))
    place = "" if base is None else f" at base {base}"
    found = f"letter {shown!r}" if shown.isprintable() and int(letter) < 128 else f"byte {int(letter):#04x}"
    explanation, _, remedy = explain_letter(shown).partition("; ")
    raise InputError(
        f"{found}{place} is not DNA: {explanation}",
        file=source,
        line=line,
        record=record[:80],
        remedy=remedy if remedy else "give a file of DNA sequences",
    )


def _blocks(offsets: Int64[np.ndarray, " record_and_one"]) -> Iterator[slice]:
    """Runs of records with about `_TAKE_BASES` bases each, and at least one record in each run."""
    first, last = 0, len(offsets) - 1
    while first < last:
        stop = int(np.searchsorted(offsets, offsets[first] + _TAKE_BASES, side="right")) - 1
        stop = min(max(stop, first + 1), last)
        yield slice(first, stop)
        first = stop
