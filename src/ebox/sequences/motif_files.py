"""Files of motifs: MEME, JASPAR, HOMER and HOCOMOCO in, MEME out."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ebox.errors import InputError
from ebox.progress import PathLike
from ebox.sequences.codes import BASES, NUM_BASES
from ebox.sequences.matrices import Motif
from ebox.sequences.streams import check_regular, iter_lines
from ebox.storage.publishing import publish_file

_FORMATS = (
    "ebox reads MEME (letter-probability matrices), JASPAR (>ID name, then four rows of counts), HOMER and "
    "HOCOMOCO (>name, then a row of four numbers for each position)"
)
# How much the sums of one kind may differ, as a share of their mean: matrices are rounded.
_SUM_SPREAD = 0.02
_DAMAGED = "the file may be cut off or damaged; fetch it again"
_FLOAT = re.compile(r"-?\d+(\.\d*)?([eE][+-]?\d+)?")
_SETTING = re.compile(r"(\w+)\s*=\s*(\S+)")


def read_motifs(path: PathLike) -> list[Motif]:
    """Read every motif of a MEME, JASPAR, HOMER or HOCOMOCO file, plain or gzip; the content shows which it is.

    Raises:
        InputError: the file is missing, has none of these formats, has no motifs, or is damaged.
    """
    lines = _read_lines(path)
    if any(line.startswith("MEME version") for line in lines):
        return read_meme(path)
    if next((line for line in lines if line and not line.startswith("#")), "").startswith(">"):
        return read_jaspar(path)
    raise InputError("is neither a MEME nor a JASPAR file, nor one of HOMER or HOCOMOCO", file=path, remedy=_FORMATS)


def read_meme(path: PathLike) -> list[Motif]:
    """Read every letter-probability matrix of a MEME file (version 4 or 5).

    Raises:
        InputError: the file is missing, without matrices, not DNA, or damaged; the message names the line.
    """
    lines = _read_lines(path)
    motifs: list[Motif] = []
    name, alt_name = "", ""
    for number, line in enumerate(lines, start=1):
        if line.startswith("ALPHABET"):
            _check_alphabet(line, path, number)
        elif line.startswith("MOTIF"):
            words = line.split()[1:] or [""]
            name, alt_name = words[0], words[1] if len(words) > 1 and "=" not in words[1] else ""
        elif line.startswith("letter-probability matrix"):
            if not name:
                raise InputError("a matrix comes before its line `MOTIF name`", file=path, line=number, remedy=_DAMAGED)
            settings = dict(_SETTING.findall(line))
            rows = _read_columns(lines, number, settings, path)
            sites = _read_number(settings["nsites"], path, number) if "nsites" in settings else None
            motifs.append(
                _make_motif(name, rows, alt_name, None if sites is None else round(sites), _Place(path, number))
            )
    if not motifs:
        raise InputError("holds no letter-probability matrix", file=path, remedy=_FORMATS)
    return motifs


def read_jaspar(path: PathLike) -> list[Motif]:
    """Read every matrix of a JASPAR file (`>ID name`, then a row for each base) or of a HOMER or HOCOMOCO file.

    A row of a base is `A [ 1 2 3 ]` or only the numbers. HOMER and HOCOMOCO have a row for each position, with the
    numbers of A, C, G and T. Four rows of four numbers without letters are positions where the other matrices of the
    file are, or where their sums agree and those of the columns don't. Rows of shares instead of counts are taken as
    they are; lines that begin with # are comments.

    Raises:
        InputError: the file is missing, without matrices, or damaged; the message names the line.
    """
    entries: list[tuple[int, str, list[tuple[int, str]]]] = []
    for number, line in enumerate(_read_lines(path), start=1):
        if not line or line.startswith("#"):
            continue
        if line.startswith(">"):
            entries.append((number, line[1:].strip(), []))
        elif entries:
            entries[-1][2].append((number, line))
        else:
            raise InputError("a row comes before the first line `>ID name`", file=path, line=number, remedy=_FORMATS)
    if not entries:
        raise InputError("holds no matrix", file=path, remedy=_FORMATS)
    matrices = [_read_rows(rows, _Place(path, number)) for number, _, rows in entries]
    sure = {matrix.by_position for matrix in matrices if matrix.by_position is not None}
    in_doubt = sure.pop() if len(sure) == 1 else None
    return [
        _read_entry(head, matrix, in_doubt, _Place(path, number))
        for (number, head, _), matrix in zip(entries, matrices, strict=True)
    ]


def write_meme(path: PathLike, motifs: Sequence[Motif]) -> None:
    """Publish motifs as a MEME file (version 4) that `read_meme` reads back to six decimals."""
    parts = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", "", "Background letter frequencies"]
    parts += ["A 0.25 C 0.25 G 0.25 T 0.25", ""]
    for motif in motifs:
        sites = "" if motif.num_sites is None else f" nsites= {motif.num_sites}"
        parts.append(f"MOTIF {motif.name} {motif.alt_name}".rstrip())
        parts.append(f"letter-probability matrix: alength= 4 w= {motif.width}{sites}")
        parts += [" ".join(f"{share:.6f}" for share in row) for row in motif.probabilities]
        parts.append("")
    with publish_file(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


@dataclass(frozen=True)
class _Place:
    """Where a matrix begins, for messages."""

    path: PathLike
    line: int


def _read_lines(path: PathLike) -> list[str]:
    """The lines of a text file, plain or gzip, without white space around them."""
    check_regular(path, "motifs are read more than once")
    try:
        return [line.decode("utf-8").strip() for _, line in iter_lines(path)]
    except UnicodeDecodeError:
        raise InputError("is not text", file=path, remedy=_FORMATS) from None


def _check_alphabet(line: str, path: PathLike, number: int) -> None:
    letters = line.removeprefix("ALPHABET").strip().lstrip("=").strip()
    if not letters.upper().startswith((BASES, "DNA", '"DNA"')):
        raise InputError(
            f"motifs over the alphabet {letters!r}, expected {BASES}",
            file=path,
            line=number,
            remedy="give motifs of DNA",
        )


def _read_columns(lines: Sequence[str], first: int, settings: dict[str, str], path: PathLike) -> list[list[float]]:
    """The rows of a MEME matrix, one for each column of the motif."""
    alphabet = settings.get("alength", str(NUM_BASES))
    if alphabet != str(NUM_BASES):
        raise InputError(f"alength is {alphabet}, expected 4", file=path, line=first, remedy="give motifs of DNA")
    width = _read_number(settings["w"], path, first) if "w" in settings else None
    rows: list[list[float]] = []
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line and not rows:
            continue
        if (width is not None and len(rows) == width) or not (line[:1].isdigit() or line[:1] in ("-", ".")):
            break
        row = [_read_number(word, path, number) for word in line.split()]
        if len(row) != NUM_BASES:
            raise InputError(f"{len(row)} numbers, expected 4", file=path, line=number, remedy=_DAMAGED)
        rows.append(row)
    if not rows or (width is not None and len(rows) != width):
        expected = "some" if width is None else f"w= {width:g}"
        raise InputError(
            f"the matrix has {len(rows)} rows, expected {expected}",
            file=path,
            line=first,
            remedy=_DAMAGED,
        )
    return rows


@dataclass(frozen=True)
class _Matrix:
    """The rows of a matrix as they stand; whether they are positions, or bases, or None where that is in doubt."""

    rows: Float64[np.ndarray, "row column"]
    by_position: bool | None


def _read_rows(rows: Sequence[tuple[int, str]], place: _Place) -> _Matrix:
    """Read the rows under a header; rows of bases are put into the order A, C, G, T."""
    has_letters = any(line[0].isalpha() or line[0] == "[" for _, line in rows)
    by_base: dict[str, list[float]] = {}
    for base, (number, line) in zip(BASES if has_letters else range(len(rows)), rows, strict=not has_letters):
        letter = line[0].upper() if line[0].isalpha() else str(base)
        if letter in by_base or (line[0].isalpha() and letter not in BASES):
            raise InputError(f"found a row {line[0]!r}, expected {base}", file=place.path, line=number, remedy=_DAMAGED)
        words = line.lstrip("ACGTacgt").replace("[", " ").replace("]", " ").split()
        by_base[letter] = [_read_number(word, place.path, number) for word in words]
    widths = {len(row) for row in by_base.values()}
    is_of_positions = not has_letters and widths == {NUM_BASES} and len(rows) != NUM_BASES
    if len(rows) != NUM_BASES and not is_of_positions:
        raise InputError(
            f"the matrix has {len(rows)} rows, expected 4 (the counts of A, C, G and T), or a row of 4 numbers for "
            "each position",
            file=place.path,
            line=place.line,
            remedy=_DAMAGED,
        )
    if len(widths) != 1 or widths == {0}:
        raise InputError("the rows differ in length, or are empty", file=place.path, line=place.line, remedy=_DAMAGED)
    in_doubt = not has_letters and len(rows) == NUM_BASES and widths == {NUM_BASES}
    order = BASES if has_letters else by_base
    return _Matrix(np.array([by_base[letter] for letter in order]), None if in_doubt else is_of_positions)


def _have_one_sum(sums: Float64[np.ndarray, " sum"]) -> bool:
    return float(np.ptp(sums)) <= _SUM_SPREAD * float(sums.mean())


def _read_entry(head: str, found: _Matrix, in_doubt: bool | None, place: _Place) -> Motif:
    """The motif of a matrix; `in_doubt` is whether rows are positions where the matrix alone does not say."""
    by_position = found.by_position if found.by_position is not None else in_doubt
    if by_position is None:
        by_position = _have_one_sum(found.rows.sum(axis=1)) and not _have_one_sum(found.rows.sum(axis=0))
    matrix = found.rows if by_position else found.rows.T
    sums = matrix.sum(axis=1, keepdims=True)
    if (sums <= 0).any():
        column = int(np.argmax(sums <= 0)) + 1
        raise InputError(f"column {column} holds no counts", file=place.path, line=place.line, remedy=_DAMAGED)
    sites = None if np.abs(sums - 1).max() < 0.05 else round(float(sums.max()))
    name, alt_name = _read_names(head)
    if not name:
        raise InputError("the matrix has no name", file=place.path, line=place.line, remedy="write >ID name")
    return _make_motif(name, (matrix / sums).tolist(), alt_name, sites, place)


def _read_names(head: str) -> tuple[str, str]:
    """Name and second name of a header: `ID name`, or of HOMER the consensus, the name and the threshold."""
    fields = head.split("\t")
    if len(fields) > 2 and _FLOAT.fullmatch(fields[2].strip()) and fields[1].strip():
        name = "_".join(fields[1].split())
        short = re.split(r"[(/,]", name)[0]
        return name, short if short != name else ""
    words = head.split(maxsplit=1)
    return (words[0], words[1] if len(words) > 1 else "") if words else ("", "")


def _make_motif(name: str, rows: list[list[float]], alt_name: str, num_sites: int | None, place: _Place) -> Motif:
    probabilities: Float64[np.ndarray, "width 4"] = np.array(rows, np.float64)
    try:
        return Motif(name, probabilities, os.fspath(place.path), alt_name, num_sites)
    except InputError as error:
        raise InputError(error.problem, file=place.path, line=place.line, record=name, remedy=_DAMAGED) from None


def _read_number(word: str, path: PathLike, line: int) -> float:
    try:
        number = float(word)
    except ValueError:
        raise InputError(f"found {word!r}, expected a number", file=path, line=line, remedy=_DAMAGED) from None
    if not np.isfinite(number) or number < 0:
        raise InputError(
            f"found {word}, expected a share or a count that is not negative",
            file=path,
            line=line,
            remedy="give the counts or shares of the motif (pcm, pfm, ppm); with negative numbers it is a matrix of "
            "log-odds (pwm)",
        )
    return number
