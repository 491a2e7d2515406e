"""FASTA, read in blocks by NumPy and written whole; the genome positions that headers name."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NoReturn

import numpy as np
from jaxtyping import Int64, UInt8

from ebox.errors import InputError
from ebox.progress import quiet
from ebox.sequences.codes import BASES, CODE_OF_BYTE, INVALID, NUM_BASES
from ebox.sequences.places import Interval, Intervals
from ebox.sequences.records import SequenceSet, make_offsets, make_sequence_set, raise_letter
from ebox.sequences.streams import OnBytes, check_text, iter_bytes
from ebox.storage.publishing import publish_file

_BLANK = 254
_HEADER = ord(">")
_MAX_HEADER_BYTES = 1 << 20
_WRITE_RECORDS = 10_000
_LETTERS = np.frombuffer(f"{BASES}N".encode(), np.uint8)
_UNKNOWN = Interval("", -1, -1)
# chrom:start-end at the end of a word, with the strand that bedtools getfasta -s adds.
_LOCATION = re.compile(r"(\S+):(\d+)-(\d+)(?:\(([+.-])\))?$")


def _make_table() -> bytes:
    table = CODE_OF_BYTE.copy()
    table[list(b" \t\r\n\f\v")] = _BLANK
    return table.tobytes()


_TABLE = _make_table()


def read_fasta(path: str | os.PathLike[str]) -> SequenceSet:
    """Read a FASTA file: plain, gzip or bgzip, lines of any length, LF or CRLF, any case.

    IUPAC ambiguity codes become N. The name of a record is its whole header. Names may repeat.

    Raises:
        InputError: missing, empty, cut off or in another format; letters before the first header; a record
            without letters; a letter that is not DNA (RNA, protein, gaps). The message names line and
            record.
    """
    return parse_fasta(iter_bytes(path), os.fspath(path))


def read_sequences(path: str | os.PathLike[str], *, on_bytes: OnBytes = quiet) -> SequenceSet:
    """Read FASTA, or a CSV or TSV with a column `sequence` (and, if it has one, a column `label`).

    The content decides: FASTA begins with `>`. `on_bytes` is as for `ebox.sequences.streams.iter_bytes`.

    Raises:
        InputError: as `read_fasta` and `read_table`.
    """
    from ebox.sequences.tables import is_table, parse_table

    blocks = iter_bytes(path, on_bytes=on_bytes)
    first = next(blocks, b"")
    everything = chain([first], blocks)
    if is_table(first, path):
        return parse_table(everything, os.fspath(path), labels="optional")
    return parse_fasta(everything, os.fspath(path))


def parse_fasta(blocks: Iterable[bytes], source: str) -> SequenceSet:
    """Read FASTA, as `read_fasta` does, from blocks of bytes."""
    parser = _Parser(source)
    for block in blocks:
        parser.feed(block)
    return parser.finish()


class _Parser:
    """The state between two blocks: what was read, and the start of a header if the block ended in one."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.codes = bytearray()
        self.names: list[str] = []
        self.lines: list[Int64[np.ndarray, " header"]] = []
        self.lengths: list[Int64[np.ndarray, " segment"]] = []
        self.num_lines = 0
        self.in_line = False
        self.rest = b""

    def feed(self, block: bytes) -> None:
        """Read the whole headers and the letters of a block."""
        if not self.names and not self.rest:
            check_text(self.source, block)
        block = self.rest + block
        begin = block.rfind(b"\n") + 1
        is_open_header = block[begin : begin + 1] == b">" and not (begin == 0 and self.in_line)
        self.rest = block[begin:] if is_open_header else b""
        if len(self.rest) > _MAX_HEADER_BYTES:
            self._refuse_header(self.rest, self.num_lines + block.count(b"\n") + 1)
        self._parse(block[:begin] if is_open_header else block)

    def finish(self) -> SequenceSet:
        """Close the last record and check that each has letters."""
        if self.rest:
            self._parse(self.rest + b"\n")
        if not self.names:
            raise InputError("holds no sequences", file=self.source, remedy="check how it was made or fetched")
        # Each block gives the letters that continue the last record, then those of each new one.
        lines = np.concatenate(self.lines)
        lengths = np.zeros(len(self.names), np.int64)
        done = 0
        for part in self.lengths:
            lengths[max(done - 1, 0)] += part[0]
            lengths[done : done + len(part) - 1] = part[1:]
            done += len(part) - 1
        empty = np.flatnonzero(lengths == 0)
        if len(empty):
            first = int(empty[0])
            raise InputError(
                f"the record has no sequence ({len(empty)} such in all); letters were expected",
                file=self.source,
                line=int(lines[first]),
                record=self.names[first][:80],
                remedy="remove the record, or check whether the file was cut off",
            )
        codes = np.frombuffer(self.codes, np.uint8)
        return SequenceSet(codes, make_offsets(lengths), self.names, lines, self.source)

    def _parse(self, block: bytes) -> None:
        """Read a block whose headers are whole; its last line of letters may continue in the next block."""
        if not block:
            return
        if not self.names:
            _check_start(block, self.source, self.num_lines)
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        starts = np.concatenate([[0], ends + 1])
        starts = starts[starts < len(data)]
        is_header = data[starts] == _HEADER
        is_header[0] &= not self.in_line
        headers = np.flatnonzero(is_header)
        self._add_names(block, starts[headers], ends[headers], self.num_lines + 1 + headers)
        codes = np.frombuffer(bytearray(block.translate(_TABLE)), np.uint8)
        codes[np.repeat(is_header, np.diff(starts, append=len(data)))] = _BLANK
        self._check_letters(data, codes, starts, len(headers))
        keep = codes <= NUM_BASES
        segments = np.concatenate([[0], starts[headers]])
        self.lengths.append(np.add.reduceat(keep.view(np.uint8), segments, dtype=np.int64))
        self.codes += codes[keep].data
        self.num_lines += len(ends)
        self.in_line = not block.endswith(b"\n")

    def _add_names(self, block: bytes, starts: np.ndarray, ends: np.ndarray, lines: np.ndarray) -> None:
        names = [
            block[start + 1 : end].strip().decode("utf-8", "replace")
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        if names and "\r" in names[0]:
            self._refuse_header(block, int(lines[0]))
        self.names += names
        self.lines.append(lines)

    def _refuse_header(self, block: bytes, line: int) -> NoReturn:
        if b"\r" in block:
            raise InputError(
                "ends its lines with carriage returns alone",
                file=self.source,
                line=line,
                remedy="convert it: tr '\\r' '\\n' < OLD > NEW",
            )
        raise InputError(
            f"a header longer than {_MAX_HEADER_BYTES:,} bytes; line breaks seem to be missing",
            file=self.source,
            line=line,
            remedy="write each header and each sequence on a line of its own",
        )

    def _check_letters(self, data: np.ndarray, codes: np.ndarray, starts: np.ndarray, num_headers: int) -> None:
        bad = int(np.argmax(codes == INVALID))
        if codes[bad] != INVALID:
            return
        line = int(np.searchsorted(starts, bad, side="right"))
        before = np.flatnonzero(data[starts[:line]] == _HEADER)
        # The rest of a line from the last block may begin with ">" here, which is not a header.
        num_before = len(before) - int(self.in_line and len(before) > 0 and before[0] == 0)
        record = self.names[len(self.names) - num_headers + num_before - 1]
        raise_letter(data[bad], None, self.source, self.num_lines + line, record)


def _check_start(block: bytes, source: str, num_lines: int) -> None:
    """Raise InputError unless the first letters are a header; say what the file seems to be."""
    start = block.lstrip()
    if not start or start.startswith(b">"):
        return
    line = num_lines + block[: len(block) - len(start)].count(b"\n") + 1
    text = start.split(b"\n", 1)[0].strip()[:60].decode("utf-8", "replace")
    remedy = "FASTA has a header line, > and a name, before each sequence"
    looks = "is not FASTA"
    if text.startswith("@"):
        looks, remedy = "looks like FASTQ or SAM", "convert it: samtools fasta, or seqtk seq -a"
    elif re.match(r"\S+\t\d+\t\d+(\t|$)", text) or text.startswith(("track", "browser")):
        looks, remedy = "looks like BED", "give it as --peaks with a --genome"
    elif "," in text or "\t" in text:
        looks, remedy = (
            "looks like a table",
            "a table needs the columns `sequence` and `label` in its first line",
        )
    elif re.fullmatch(r"[A-Za-z*.-]+", text):
        looks = "has letters before the first header"
    raise InputError(f"{looks}: found {text!r}, expected '>'", file=source, line=line, remedy=remedy)


def write_fasta(
    path: str | os.PathLike[str],
    names: Sequence[str] | None,
    sequences: SequenceSet | UInt8[np.ndarray, "record length"],
) -> None:
    """Publish sequences as FASTA, one line for each sequence; gzip if the name ends in .gz.

    Args:
        path: The file to write.
        names: One header for each sequence; None: the names of the set.
        sequences: A set, or a matrix of codes.

    Raises:
        InputError: the numbers of names and sequences differ, a name with a line break, a sequence without
            letters, or a disk error.
    """
    if names is None:
        names = sequences.names if isinstance(sequences, SequenceSet) else []
    records = sequences if isinstance(sequences, SequenceSet) else make_sequence_set(sequences, names)
    _check_writable(path, names, records)
    with publish_file(path) as temporary, temporary.open("wb") as stream:
        stream.writelines(_iter_text(names, records))


def _check_writable(path: str | os.PathLike[str], names: Sequence[str], records: SequenceSet) -> None:
    num = len(records.offsets) - 1
    if len(names) != num:
        raise InputError(f"{len(names)} names for {num} sequences", file=path, remedy="give one name for each sequence")
    for name in names:
        if "\n" in name or "\r" in name:
            raise InputError("the name has a line break", file=path, record=name, remedy="take it out")
    if num and int(records.lengths.min()) == 0:
        raise InputError(
            "a sequence without letters can't be written as FASTA",
            file=path,
            record=names[int(np.argmin(records.lengths))],
            remedy="leave it out",
        )


def _iter_text(names: Sequence[str], records: SequenceSet) -> Iterator[bytes]:
    for first in range(0, len(names), _WRITE_RECORDS):
        offsets = records.offsets[first : first + _WRITE_RECORDS + 1]
        letters = _LETTERS[records.codes[offsets[0] : offsets[-1]]].tobytes()
        places = (offsets - offsets[0]).tolist()
        yield b"".join(
            b">%b\n%b\n" % (name.encode(), letters[start:end])
            for name, start, end in zip(names[first : first + _WRITE_RECORDS], places[:-1], places[1:], strict=True)
        )


def parse_location(name: str, length: int) -> Interval | None:
    """The genome position in the first word of a header, `chrom:start-end`, checked against the sequence's length.

    It is 0-based and half-open if end - start is the length, 1-based (samtools faidx) if end - start is one less.
    `name::chrom:start-end(strand)` (bedtools getfasta) and `range=chrom:start-end` (UCSC) are read too.

    Returns:
        None if the header names no position, or one of another length.
    """
    words = name.split(maxsplit=2)
    if not words:
        return None
    word = words[1] if len(words) > 1 and words[1].startswith("range=") else words[0]
    match = _LOCATION.match(word.removeprefix("range="))
    if match is None:
        return None
    chrom, start, end, strand = match[1], int(match[2]), int(match[3]), match[4]
    if end - start + 1 == length:
        start -= 1
    if end - start != length or start < 0:
        return None
    # NAME::chrom:start-end and ELEMENT|chrom:start-end: the chromosome comes last.
    chrom = chrom.rpartition("::")[2].rpartition("|")[2]
    return Interval(chrom, start, end, strand or ".") if chrom else None


def parse_locations(sequences: SequenceSet) -> Intervals | None:
    """The position of each record by `parse_location`; "" and -1 where unknown; None if no record has one."""
    shared = {"": ""}
    chrom: list[str] = []
    strand: list[str] = []
    # Eight bytes for a number: a list of Python integers would take a third of the memory of the sequences.
    start, end = array("q"), array("q")
    for name, length in zip(sequences.names, sequences.lengths.tolist(), strict=True):
        place = (parse_location(name, length) if ":" in name else None) or _UNKNOWN
        chrom.append(shared.setdefault(place.chrom, place.chrom))
        start.append(place.start)
        end.append(place.end)
        strand.append(place.strand)
    if len(shared) == 1:
        return None
    return Intervals(
        np.array(chrom, object),
        np.array(start, np.int64),
        np.array(end, np.int64),
        np.array(strand, object),
        None,
        None,
        None,
        sequences.lines,
        sequences.source,
    )
