"""Random access to a genome: an indexed FASTA file, plain or bgzip."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import final

import numpy as np
from jaxtyping import Int64, UInt8

from ebox.errors import InputError
from ebox.sequences.codes import CODE_OF_BYTE, INVALID
from ebox.sequences.genome_index import find_misfit, is_older, is_there
from ebox.sequences.records import raise_letter
from ebox.sequences.streams import GZIP_MAGIC, check_regular, is_bgzip, iter_bytes, open_file, refuse_returns

# Bases fetched at once, so that memory never holds the whole text of a chromosome beside its codes.
_FETCH_BP = 1 << 24
# Fetching one window costs about as much as reading this many bases in a row.
_WINDOW_COST_BP = 6_000
_LOWER = ord("a")
_UNEQUAL_LINES = "all lines of a sequence except the last must have the same length (see samtools faidx)"


@final
class Genome:
    """A genome in FASTA, read by position; codes are those of `ebox.sequences.codes`.

    The index (.fai, for bgzip also .gzi) is made beside the file if it is missing, or if it is older than the file and
    does not fit it. If that folder can't be written, the index is made in a temporary folder, which is removed when the
    genome is closed.

    Args:
        path: FASTA, plain or bgzip.

    Raises:
        InputError: missing, empty, a folder, plain gzip, not FASTA, lines of unequal length, two contigs of one name,
            or an index of another file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._private: tempfile.TemporaryDirectory[str] | None = None
        self._packed = packed = _check_genome(self.path)
        index = self._find_index(packed)
        with _quiet_pysam(self.path, _damaged_index(self.path, packed)) as pysam:
            self._file = pysam.FastaFile(
                os.fspath(self.path),
                filepath_index=f"{index}.fai",
                filepath_index_compressed=f"{index}.gzi" if packed else None,
            )
            self.chroms: Mapping[str, int] = dict(zip(self._file.references, self._file.lengths, strict=True))
        if not self.chroms:
            raise InputError("holds no sequences", file=self.path, remedy="give a genome in FASTA")

    def close(self) -> None:
        """Close the file and remove a temporary index."""
        self._file.close()
        if self._private is not None:
            self._private.cleanup()

    def __enter__(self) -> Genome:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fetch(self, chrom: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        """The codes from `start` to `end` on a chromosome, 0-based and half-open.

        Raises:
            InputError: the genome has no such chromosome, or the place is not wholly on it.
        """
        self.check_place(chrom, start, end)
        codes = np.empty(end - start, np.uint8)
        for begin in range(start, end, _FETCH_BP):
            stop = min(begin + _FETCH_BP, end)
            codes[begin - start : stop - start] = self._fetch_block(chrom, begin, stop)
        return codes

    def fetch_windows(
        self, chroms: Sequence[str] | np.ndarray, starts: Sequence[int] | np.ndarray, length: int
    ) -> UInt8[np.ndarray, "window length"]:
        """The codes of many windows of one length, in the given order.

        A chromosome with many windows is read whole, once; of one with few windows only the windows are read.

        Raises:
            InputError: as for `fetch`; the message names the first bad window.
        """
        begins = np.asarray(starts, np.int64)
        windows = np.empty((len(begins), length), np.uint8)
        rows_of: dict[str, list[int]] = {}
        for row, chrom in enumerate(chroms):
            rows_of.setdefault(str(chrom), []).append(row)
        for chrom, rows in rows_of.items():
            here = begins[rows]
            for bad in np.flatnonzero((here < 0) | (here + length > self.chroms.get(chrom, -1))).tolist():
                self.check_place(chrom, int(here[bad]), int(here[bad]) + length)
        for chrom, rows in rows_of.items():
            windows[rows] = self._fetch_on(chrom, begins[rows], length)
        return windows

    def check_place(self, chrom: str, start: int, end: int) -> None:
        """Raise InputError unless the place is wholly on a chromosome of the genome."""
        if chrom not in self.chroms:
            raise InputError(
                f"has no chromosome {chrom!r}; it has {_suggest(chrom, self.chroms)}",
                file=self.path,
                remedy="use the genome that the places are from, with the same names of chromosomes",
            )
        if not 0 <= start <= end <= self.chroms[chrom]:
            raise InputError(
                f"{chrom}:{start}-{end} is not within {chrom}, which is {self.chroms[chrom]:,} bp long",
                file=self.path,
                remedy="clip or drop the place, or use the genome that it is from (hg19, hg38, ...)",
            )

    def _fetch_on(
        self, chrom: str, starts: Int64[np.ndarray, " window"], length: int
    ) -> UInt8[np.ndarray, "window length"]:
        first, last = int(starts.min()), int(starts.max()) + length
        if len(starts) * (_WINDOW_COST_BP + length) < last - first:
            return np.stack([self.fetch(chrom, start, start + length) for start in starts.tolist()])
        codes = self.fetch(chrom, first, last)
        if length == 0:
            return np.empty((len(starts), 0), np.uint8)
        views = np.lib.stride_tricks.sliding_window_view(codes, length)
        windows: UInt8[np.ndarray, "window length"] = views[starts - first]
        return windows

    def find_lower_case(self, chrom: str) -> tuple[Int64[np.ndarray, " run"], Int64[np.ndarray, " run"]]:
        """Where each run of lower-case letters (soft-masked repeats) of a chromosome begins and ends."""
        edges, was_lower = [np.empty(0, np.int64)], False
        for begin, letters in self._iter_letters(chrom):
            is_lower = letters >= _LOWER
            edges.append(begin + np.flatnonzero(np.diff(is_lower, prepend=was_lower)))
            was_lower = bool(is_lower[-1])
        places = np.concatenate([*edges, [self.chroms[chrom]] * was_lower]).astype(np.int64)
        return places[::2], places[1::2]

    def count_cases(self, chrom: str) -> tuple[int, int]:
        """How many A, C, G and T of a chromosome are lower case, and how many upper case."""
        counts = np.zeros(256, np.int64)
        for _, letters in self._iter_letters(chrom):
            counts += np.bincount(letters, minlength=256)
        return tuple(int(counts[list(each)].sum()) for each in (b"acgt", b"ACGT"))  # type: ignore[return-value]

    def _iter_letters(self, chrom: str) -> Iterator[tuple[int, UInt8[np.ndarray, " length"]]]:
        """The letters of a chromosome in blocks, each with its place."""
        size = self.chroms[chrom]
        for begin in range(0, size, _FETCH_BP):
            yield begin, self._fetch_letters(chrom, begin, min(begin + _FETCH_BP, size))

    def _fetch_letters(self, chrom: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        again = _damaged_index(self.path, self._packed)
        with _quiet_pysam(self.path, again):
            data = np.frombuffer(self._file.fetch(chrom, start, end).encode("latin-1"), np.uint8)
        if len(data) != end - start:
            raise InputError(
                f"gave {len(data)} of {end - start} bases at {chrom}:{start}-{end}",
                file=self.path,
                remedy=again,
            )
        return data

    def _fetch_block(self, chrom: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        data = self._fetch_letters(chrom, start, end)
        again = _damaged_index(self.path, self._packed)
        codes = CODE_OF_BYTE[data]
        bad = int(np.argmax(codes == INVALID))
        if codes[bad] == INVALID and data[bad] in b"\r\n>":
            found = "a header" if data[bad] == ord(">") else "the end of a line"
            raise InputError(f"has {found} among the bases of {chrom}, by its index", file=self.path, remedy=again)
        if codes[bad] == INVALID:
            raise_letter(data[bad], start + bad + 1, self.path, None, chrom)
        return codes

    def _find_index(self, packed: bool) -> Path:
        """The path of an index that fits, without its suffix."""
        suffixes = (".fai", ".gzi") if packed else (".fai",)
        if is_there(self.path, packed=packed):
            misfit = find_misfit(self.path, self.path, packed=packed)
            if misfit is None:
                return self.path
            if not is_older(self.path, self.path, packed=packed):
                raise InputError(
                    f"its index is of another file: {misfit}",
                    file=self.path,
                    remedy=_damaged_index(self.path, packed),
                )
        if not os.access(self.path.absolute().parent, os.W_OK):
            self._private = tempfile.TemporaryDirectory(prefix="ebox-index-")
            return _build_index(self.path, Path(self._private.name), packed=packed)
        # Made under another name and then renamed: another process never reads half an index.
        with tempfile.TemporaryDirectory(prefix=".ebox-index-", dir=self.path.absolute().parent) as folder:
            index = _build_index(self.path, Path(folder), packed=packed)
            for suffix in suffixes:
                Path(f"{index}{suffix}").replace(f"{self.path}{suffix}")
        return self.path


def _build_index(genome: Path, folder: Path, *, packed: bool) -> Path:
    index = folder / genome.name
    with _quiet_pysam(genome) as pysam:
        pysam.faidx(os.fspath(genome), "--fai-idx", f"{index}.fai", "--gzi-idx", f"{index}.gzi")
    misfit = find_misfit(genome, index, packed=packed)
    if misfit is not None:
        raise InputError(f"samtools faidx makes no index that fits it: {misfit}", file=genome, remedy=_UNEQUAL_LINES)
    return index


def _damaged_index(genome: Path, packed: bool) -> str:
    names = f"{genome.name}.fai and {genome.name}.gzi" if packed else f"{genome.name}.fai"
    remedy = f"the index may be damaged or belong to another file: delete {names} and try again"
    if os.access(genome.absolute().parent, os.W_OK):
        return remedy
    return f"{remedy}, or give a link to the genome in a folder of your own: ln -s {genome.absolute()} ."


def _check_genome(path: Path) -> bool:
    """Check that the file is FASTA that can be indexed, and return whether it is bgzip."""
    check_regular(path, "a genome is read by position")
    block = next(iter_bytes(path, 1 << 16), b"")
    if not block.lstrip().startswith(b">"):
        raise InputError(
            f"is not FASTA: it begins with {block[:20]!r}, '>' expected",
            file=path,
            remedy="give a genome in FASTA",
        )
    if b"\r" in block.replace(b"\r\n", b"").removesuffix(b"\r"):
        refuse_returns(path, 1 + block[: block.index(b"\r")].count(b"\n"))
    with open_file(path) as stream:
        start = stream.read(16)
    if start.startswith(GZIP_MAGIC) and not is_bgzip(start):
        raise InputError(
            "is plain gzip, which can't be read by position; a genome must be plain or bgzip",
            file=path,
            remedy=f"gunzip -c {path.name} | bgzip > {path.name.removesuffix('.gz')}.bgz, or gunzip it",
        )
    return is_bgzip(start)


@contextmanager
def _quiet_pysam(path: Path, remedy: str = _UNEQUAL_LINES) -> Iterator[ModuleType]:
    """Give pysam with its own messages turned off, and turn its errors into InputError."""
    import pysam

    verbosity = pysam.set_verbosity(0)
    try:
        yield pysam
    except (OSError, ValueError, pysam.SamtoolsError) as error:
        # samtools writes the reason to a stream that is turned off here, and names temporary files instead.
        reason = "samtools faidx refuses it" if isinstance(error, pysam.SamtoolsError) else str(error)
        raise InputError(
            f"can't be indexed or read as FASTA: {reason}",
            file=path,
            remedy=remedy,
        ) from error
    finally:
        pysam.set_verbosity(verbosity)


def _suggest(chrom: str, known: Mapping[str, int]) -> str:
    """The names that the user may have meant, else the first few."""
    other = chrom.removeprefix("chr") if chrom.startswith("chr") else f"chr{chrom}"
    if other in known:
        return repr(other)
    near = difflib.get_close_matches(chrom, known, n=3) if len(known) <= 1000 else []
    shown = near if near else list(known)[:4]
    return ", ".join(map(repr, shown)) + (", ..." if len(shown) < len(known) else "")
