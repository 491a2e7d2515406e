"""The index of a genome (.fai, for bgzip also .gzi), compared with the file that it stands beside."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from ebox.errors import InputError

# A header that is longer is none.
_HEADER_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 17
# Blocks of bgzip that are unpacked to compare the .gzi with them.
_BLOCKS_CHECKED = 64
Read = Callable[[int, int], bytes]


class _UnfitError(Exception):
    """The index does not fit the file; the text says where."""


@dataclass(frozen=True)
class _Contig:
    """A line of a .fai: lengths in bases, offsets and widths in bytes."""

    name: bytes
    length: int
    offset: int
    line_bases: int
    line_bytes: int

    @property
    def last_line(self) -> int:
        """Where its last line begins."""
        return self.offset + (self.length - 1) // self.line_bases * self.line_bytes if self.length else self.offset

    @property
    def past(self) -> int:
        """The byte past its last base."""
        return self.last_line + (self.length - 1) % self.line_bases + 1 if self.length else self.offset


def find_misfit(genome: Path, index: Path, *, packed: bool) -> str | None:
    """Where an index does not fit a genome, in words; None where it fits.

    Every contig has to begin just past a header with its name and to end just before the next header or the end of the
    file, in lines of the length that the index says; of bgzip some blocks are unpacked as well. The bases between are
    not read, so that a large genome takes as long as its number of contigs.

    Args:
        genome: The genome, plain or bgzip.
        index: The path of the index without its suffix.
        packed: Whether the genome is bgzip.

    Raises:
        InputError: two contigs of the genome have one name.
    """
    try:
        contigs = _read_contigs(Path(f"{index}.fai"))
        with genome.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            # Slices of the mapped file: a contig takes microseconds, and there may be a million.
            packed_read = _Packed(memory, Path(f"{index}.gzi")).read if packed else None
            _compare(genome, contigs, packed_read or (lambda start, end: memory[start:end]))
    except (_UnfitError, ValueError, OSError, zlib.error) as error:
        return str(error) if isinstance(error, _UnfitError) else "it is damaged"
    return None


def _read_contigs(path: Path) -> list[_Contig]:
    contigs = []
    for line in path.read_bytes().splitlines():
        name, *numbers = line.split(b"\t")
        length, offset, line_bases, line_bytes = map(int, numbers[:4])
        if min(length, offset, line_bases) < 0 or line_bytes < line_bases or (length and not line_bases):
            raise _UnfitError("it is damaged")
        contigs.append(_Contig(name, length, offset, line_bases, line_bytes))
    return sorted(contigs, key=lambda contig: contig.offset)


def _compare(genome: Path, contigs: list[_Contig], read: Read) -> None:
    """Compare each contig with the bytes around it."""
    names: set[bytes] = set()
    done = 0
    for contig in contigs:
        _check_header(genome, contig, names, read(done, min(contig.offset, done + _HEADER_BYTES)))
        if contig.length:
            _check_lines(contig, read)
        done = contig.past
        names.add(contig.name)
    rest = read(done, done + _HEADER_BYTES)
    _refuse_twice(genome, rest, names)
    if not all(line.startswith(b">") for line in rest.split(b"\n") if line.strip()):
        raise _UnfitError("the file goes on past the last contig of the index")
    if len(names) < len(contigs):
        raise _UnfitError("it names a contig twice")


def _check_header(genome: Path, contig: _Contig, names: set[bytes], before: bytes) -> None:
    """Check that what stands before a contig are headers alone, of contigs without bases and at last its own."""
    _refuse_twice(genome, before, names)
    headers = [line for line in before.split(b"\n") if line.strip()]
    is_whole = before[-1:] == b"\n" and all(line.startswith(b">") for line in headers)
    if not headers or not is_whole or _name(headers[-1]) != contig.name:
        raise _UnfitError(f"{_show(contig.name)} does not begin at byte {contig.offset:,}")


def _check_lines(contig: _Contig, read: Read) -> None:
    """Check the first line of a contig, where its last line begins, and its last base."""
    is_one_line = contig.length <= contig.line_bases
    shown = min(contig.length if is_one_line else contig.line_bases, _HEADER_BYTES)
    first = read(contig.offset, contig.offset + shown)
    end = b"\n" if is_one_line else read(contig.offset + contig.line_bases, contig.offset + contig.line_bytes)
    before_last = b"\n" if is_one_line else read(contig.last_line - 1, contig.last_line)
    last = read(contig.past - 1, contig.past)
    is_whole = len(first) == shown and not any(byte in first for byte in b"\r\n>")
    if not is_whole or end.strip() or end[-1:] != b"\n" or before_last != b"\n":
        raise _UnfitError(f"the lines of {_show(contig.name)} do not hold {contig.line_bases:,} bases")
    if not last.strip() or last == b">":
        raise _UnfitError(f"{_show(contig.name)} does not end at byte {contig.past:,}")


def _refuse_twice(genome: Path, text: bytes, names: set[bytes]) -> None:
    """Raise InputError where a text begins with the header of a contig that came before."""
    header = text.lstrip()
    if header.startswith(b">") and _name(header) in names:
        name = _show(_name(header))
        raise InputError(
            f"has two sequences named {name!r}, and an index can hold one",
            file=genome,
            record=name,
            remedy="rename or remove one of them",
        )


def _name(header: bytes) -> bytes:
    return header[1:].split(maxsplit=1)[0] if header[1:].strip() else b""


def _show(name: bytes) -> str:
    return name.decode("utf-8", "replace")[:80]


@final
class _Packed:
    """Bytes of the text of a bgzip file, found by its .gzi."""

    def __init__(self, memory: mmap.mmap, gzi: Path) -> None:
        numbers = np.frombuffer(gzi.read_bytes(), "<u8")
        if len(numbers) != 1 + 2 * int(numbers[0]):
            raise _UnfitError("the .gzi is damaged")
        # The first block is not listed.
        self._packed, self._plain = np.concatenate([[0, 0], numbers[1:]]).astype(np.int64).reshape(-1, 2).T
        self._memory = memory
        self._held = (-1, b"")
        chosen = np.linspace(0, len(self._plain) - 2, min(_BLOCKS_CHECKED, len(self._plain) - 1)).astype(np.int64)
        for number in chosen.tolist():
            if len(self._unpack(number)) != self._plain[number + 1] - self._plain[number]:
                raise _UnfitError("the .gzi is of another file")

    def read(self, start: int, end: int) -> bytes:
        parts = []
        number = int(np.searchsorted(self._plain, start, side="right")) - 1
        while start < end and number < len(self._plain):
            first = start - int(self._plain[number])
            piece = self._unpack(number)[first : first + end - start]
            parts.append(piece)
            start, number = start + len(piece), number + 1
        return b"".join(parts)

    def _unpack(self, number: int) -> bytes:
        if self._held[0] != number:
            first = int(self._packed[number])
            self._held = (number, zlib.decompressobj(31).decompress(self._memory[first : first + _BLOCK_BYTES]))
        return self._held[1]


def is_there(index: Path, *, packed: bool) -> bool:
    """Whether an index stands there."""
    suffixes = (".fai", ".gzi") if packed else (".fai",)
    return all(os.path.isfile(f"{index}{suffix}") and os.path.getsize(f"{index}{suffix}") for suffix in suffixes)


def is_older(index: Path, genome: Path, *, packed: bool) -> bool:
    """Whether a part of an index is older than the genome."""
    suffixes = (".fai", ".gzi") if packed else (".fai",)
    return any(os.path.getmtime(f"{index}{suffix}") < genome.stat().st_mtime for suffix in suffixes)
