"""Tables of sequences with labels: CSV and TSV, plain or gzip."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from ebox.errors import InputError
from ebox.progress import quiet
from ebox.sequences.bed import is_bed
from ebox.sequences.records import SequenceSet, encode_letters, make_offsets
from ebox.sequences.streams import OnBytes, check_text, iter_bytes, split_lines

_LABELS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}
# Of one column of several: the label was not measured.
_NOT_MEASURED = {"": math.nan, "na": math.nan, "nan": math.nan, ".": math.nan}
_LABELS_OR_NONE = _LABELS | _NOT_MEASURED
_NAME_COLUMNS = ("name", "id")
_SUFFIXES = (".csv", ".tsv", ".tab")
_DELIMITERS = "\t,;"
_TWO_FILES = (
    "give positives and negatives as two files: --positives and --negatives; of given splits --train and "
    "--train-negatives, --validation and --validation-negatives, --test and --test-negatives"
)
# A label as headers name it: NAME|1|training, NAME label=1, NAME 1.
_HEADER_LABEL = r"(\||label[=:]|[ \t]){}(\||[ \t\r]|$)"


def read_table(
    path: str | os.PathLike[str],
    sequence_column: str = "sequence",
    label_column: str | Sequence[str] | None = "label",
    *,
    on_bytes: OnBytes = quiet,
) -> SequenceSet:
    """Read a CSV or TSV whose first line names the columns and shows the delimiter: tab, comma or semicolon.

    Args:
        path: The table, plain or gzip.
        sequence_column: The column of the letters.
        label_column: The column of the labels, 0 or 1; or several columns, in which nothing, NA or a dot stands for
            a label that was not measured; None: labels are not read.
        on_bytes: As for `ebox.sequences.streams.iter_bytes`.

    Returns:
        The sequences with their labels; names from a column `name` or `id`, else row1, row2, ...

    Raises:
        InputError: missing, empty or cut off; a column or a value that is missing; a label that is not 0 or
            1; a letter that is not DNA. The message names the line.
    """
    labels: Literal["required", "none"] = "none" if label_column is None else "required"
    blocks = iter_bytes(path, on_bytes=on_bytes)
    columns = "label" if label_column is None else label_column
    return parse_table(blocks, os.fspath(path), sequence_column, columns, labels=labels)


def is_table(start: bytes, path: str | os.PathLike[str]) -> bool:
    """Whether these first bytes, or the name of the file, are those of a table with a column `sequence`."""
    head = start.lstrip()
    if head.startswith(b">"):
        return False
    line = head.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    columns = [column.strip().strip('"') for column in line.split(_find_delimiter(line))]
    suffixes = [suffix for suffix in Path(path).suffixes if suffix != ".gz"]
    return "sequence" in columns or (len(suffixes) > 0 and suffixes[-1] in _SUFFIXES)


def parse_table(
    blocks: Iterable[bytes],
    source: str,
    sequence_column: str = "sequence",
    label_column: str | Sequence[str] = "label",
    *,
    labels: Literal["required", "optional", "none"],
) -> SequenceSet:
    """Read a table, as `read_table` does, from blocks of bytes.

    Args:
        blocks: The bytes of the table.
        source: The file, for messages.
        sequence_column: The column of the letters.
        label_column: The column of the labels, or several.
        labels: Whether they are read; optional: if the table has the column.
    """
    rows = iter_fields(blocks, source)
    line, header = next(rows, (1, []))
    _check_header(header, source, line)
    sequence_at = _find_column(header, sequence_column, source, line)
    columns, allowed = ([label_column], _LABELS) if isinstance(label_column, str) else (label_column, _LABELS_OR_NONE)
    label_at: list[int] = []
    if labels == "required" or (labels == "optional" and set(columns) <= set(header)):
        label_at = [_find_column(header, column, source, line) for column in columns]
    name_at = next((header.index(name) for name in _NAME_COLUMNS if name in header), None)
    codes = bytearray()
    lengths: list[int] = []
    lines: list[int] = []
    values: list[float] = []
    names: list[str] = []
    for line, fields in rows:
        check_width(fields, header, source, line)
        name = f"row{len(names) + 1}" if name_at is None else fields[name_at]
        letters = fields[sequence_at].strip().encode()
        if not letters:
            raise InputError("the sequence is empty", file=source, line=line, record=name, remedy="remove the line")
        codes += encode_letters(letters, source, line, name).data
        lengths.append(len(letters))
        lines.append(line)
        names.append(name)
        values += [_read_label(fields[at], allowed, source, line, name) for at in label_at]
    if not names:
        raise InputError("holds no rows", file=source, remedy="check how it was made or fetched")
    return SequenceSet(
        np.frombuffer(codes, np.uint8),
        make_offsets(np.array(lengths, np.int64)),
        names,
        np.array(lines, np.int64),
        source,
        _shape_labels(np.array(values, np.float32), label_column) if label_at else None,
    )


def _shape_labels(values: np.ndarray, label_column: str | Sequence[str]) -> Float32[np.ndarray, "record ..."]:
    return values if isinstance(label_column, str) else values.reshape(-1, len(label_column))


def check_width(fields: Sequence[str], header: Sequence[str], source: str, line: int) -> None:
    """Raise InputError where a line has another number of columns than the first one.

    Args:
        fields: Those of the line.
        header: Those of the first line.
        source: The file.
        line: The number of the line.
    """
    if len(fields) != len(header):
        raise InputError(
            f"has {len(fields)} columns, the first line has {len(header)}",
            file=source,
            line=line,
            remedy="give every line that number of columns; quote a value that contains the delimiter",
        )


def _check_header(header: list[str], source: str, line: int) -> None:
    """Raise InputError where the first line is of FASTA or BED, which have no labels."""
    is_fasta, is_places = bool(header) and header[0].startswith(">"), is_bed("\t".join(header).encode())
    if not (is_fasta or is_places):
        return
    remedy = _TWO_FILES if is_fasta else f"make FASTA: bedtools getfasta -fi GENOME -bed OLD -fo NEW; then {_TWO_FILES}"
    if is_fasta and re.search(_HEADER_LABEL.format("[01]"), header[0]):
        remedy += "; this header may name a label: " + " and ".join(
            f"awk '/^>/ {{keep = /{_HEADER_LABEL.format(label)}/}} keep' OLD > {name}"
            for label, name in ((1, "POSITIVES"), (0, "NEGATIVES"))
        )
    raise InputError(
        f"looks like {'FASTA' if is_fasta else 'BED'}, which has no labels: found {header[0][:30]!r}, the names of "
        "columns expected",
        file=source,
        line=line,
        remedy=remedy,
    )


def iter_fields(blocks: Iterable[bytes], source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of each line that is not blank; the first one shows the delimiter."""
    texts = _iter_text(blocks, source)
    first = ""
    num_blank = 0
    for first in texts:
        if first.strip():
            break
        num_blank += 1
    reader = csv.reader(_prepend(first, texts), delimiter=_find_delimiter(first), strict=True)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num + num_blank, fields
    except csv.Error as error:
        raise InputError(
            f"is not a whole table: {error}",
            file=source,
            line=reader.line_num + num_blank,
            remedy="look for a quote that is not closed; sequences over 100,000 bp go into FASTA",
        ) from None


def _iter_text(blocks: Iterable[bytes], source: str) -> Iterator[str]:
    """Yield lines of text with their ends."""
    for number, line in split_lines(blocks, source):
        if number == 1:
            check_text(source, line)
        yield line.decode("utf-8", "replace") + "\n"


def _prepend(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _find_delimiter(header: str) -> str:
    return next((mark for mark in _DELIMITERS if mark in header), ",")


def _find_column(header: list[str], name: str, source: str, line: int) -> int:
    """The place of a column in the first line, whose names are stripped."""
    header[:] = [column.strip() for column in header]
    if header.count(name) > 1:
        raise InputError(
            f"has {header.count(name)} columns {name!r}", file=source, line=line, remedy="rename all but one of them"
        )
    if name in header:
        return header.index(name)
    near = [column for column in header if column.lower() == name.lower()]
    shown = ", ".join(repr(column[:30]) for column in header[:8])
    raise InputError(
        f"has no column {name!r}; its first line holds {shown}",
        file=source,
        line=line,
        remedy=f"rename {near[0]!r} to {name!r}"
        if near
        else f"name the columns in the first line, one of them {name!r}"
        + ("; or name those of labels: --label-columns A,B" if name == "label" else ""),
    )


def _read_label(text: str, allowed: Mapping[str, float], source: str, line: int, name: str) -> float:
    label = allowed.get(text.strip().lower())
    if label is None:
        unknown = "remove rows whose label is unknown" if allowed is _LABELS else "leave empty what was not measured"
        raise InputError(
            f"label {text[:30]!r} is not 0 or 1",
            file=source,
            line=line,
            record=name,
            remedy=f"write 1 for bound and 0 for unbound; {unknown}",
        )
    return label
