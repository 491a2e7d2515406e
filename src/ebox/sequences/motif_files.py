"""Files of motifs: MEME and JASPAR in, MEME out."""

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

_FORMATS = "ebox reads MEME (letter-probability matrices) and JASPAR (>ID name, then four rows of counts)"
_DAMAGED = "the file may be cut off or damaged; fetch it again"
_SETTING = re.compile(r"(\w+)\s*=\s*(\S+)")


def read_motifs(path: PathLike) -> list[Motif]:
    """Read every motif of a MEME or JASPAR file, plain or gzip; the content shows which it is.

    Raises:
        InputError: the file is missing, has neither format, has no motifs, or is damaged.
    """
    lines = _read_lines(path)
    if any(line.startswith("MEME version") for line in lines):
        return read_meme(path)
    if next((line for line in lines if line and not line.startswith("#")), "").startswith(">"):
        return read_jaspar(path)
    raise InputError("is neither a MEME nor a JASPAR file", file=path, remedy=_FORMATS)


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
    """Read every matrix of a JASPAR file: `>ID name`, then the counts of A, C, G and T.

    A row is `A [ 1 2 3 ]` or only the numbers. Rows of shares instead of counts are taken as they are; lines that
    begin with # are comments.

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
    return [_read_jaspar_entry(head, rows, _Place(path, number)) for number, head, rows in entries]


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


def _read_jaspar_entry(head: str, rows: Sequence[tuple[int, str]], place: _Place) -> Motif:
    if len(rows) != NUM_BASES:
        raise InputError(
            f"the matrix has {len(rows)} rows, expected 4: the counts of A, C, G and T",
            file=place.path,
            line=place.line,
            remedy=_DAMAGED,
        )
    counts: dict[str, list[float]] = {}
    for base, (number, line) in zip(BASES, rows, strict=True):
        letter = line[0].upper() if line[0].isalpha() else base
        if letter not in BASES or letter in counts:
            raise InputError(f"found a row {line[0]!r}, expected {base}", file=place.path, line=number, remedy=_DAMAGED)
        words = line.lstrip("ACGTacgt").replace("[", " ").replace("]", " ").split()
        counts[letter] = [_read_number(word, place.path, number) for word in words]
    widths = {len(row) for row in counts.values()}
    if len(widths) != 1 or widths == {0}:
        raise InputError("the rows differ in length, or are empty", file=place.path, line=place.line, remedy=_DAMAGED)
    matrix = np.array([counts[base] for base in BASES], np.float64).T
    sums = matrix.sum(axis=1, keepdims=True)
    if (sums <= 0).any():
        column = int(np.argmax(sums <= 0)) + 1
        raise InputError(f"column {column} holds no counts", file=place.path, line=place.line, remedy=_DAMAGED)
    sites = None if np.abs(sums - 1).max() < 0.05 else round(float(sums.max()))
    words = head.split(maxsplit=1)
    if not words:
        raise InputError("the matrix has no name", file=place.path, line=place.line, remedy="write >ID name")
    return _make_motif(words[0], (matrix / sums).tolist(), words[1] if len(words) > 1 else "", sites, place)


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
            f"found {word}, expected a share or a count that is not negative", file=path, line=line, remedy=_DAMAGED
        )
    return number
