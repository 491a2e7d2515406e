"""Tables of sequences: what a CSV or TSV holds is what is read, and every bad line is named."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.sequences.codes import decode
from ebox.sequences.fasta import read_sequences
from ebox.sequences.tables import parse_table, read_table

LETTERS = st.text("ACGTNacgtn", min_size=1, max_size=30)
ROWS = st.lists(st.tuples(st.text(max_size=8), LETTERS, st.booleans()), min_size=1, max_size=8)


def put(folder: Path, data: bytes | str, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@given(rows=ROWS, delimiter=st.sampled_from(",\t;"), end=st.sampled_from(["\n", "\r\n"]), data=st.data())
def test_any_table_is_read_as_written(
    rows: list[tuple[str, str, bool]], delimiter: str, end: str, data: st.DataObject
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    columns = data.draw(st.permutations(["note", "sequence", "label", "other"]))
    writer.writerow(columns)
    for note, letters, label in rows:
        note = "".join(letter for letter in note if letter not in "\r\n\x00")
        value = {"note": note, "sequence": letters, "label": int(label), "other": "x"}
        writer.writerow([value[column] for column in columns])
    raw = text.getvalue().encode()
    size = data.draw(st.integers(1, len(raw)))
    blocks = (raw[first : first + size] for first in range(0, len(raw), size))
    read = parse_table(blocks, "x.csv", labels="required")
    assert [decode(read.record(row)) for row in range(len(rows))] == [row[1].upper() for row in rows]
    assert read.labels is not None
    assert read.labels.tolist() == [float(row[2]) for row in rows]
    assert read.lines.tolist() == list(range(2, len(rows) + 2))
    assert read.names == [f"row{row + 1}" for row in range(len(rows))]


def test_names_columns_blank_lines_and_quotes_are_understood(tmp_path: Path) -> None:
    text = '\ufeff\n"name","dna","bound"\r\n\r\n"a, b",acgt,1.0\n\nc,"NN",0'
    read = read_table(put(tmp_path, text), "dna", "bound")
    assert read.names == ["a, b", "c"]
    assert read.lines.tolist() == [4, 6]
    assert read.codes.tolist() == [0, 1, 2, 3, 4, 4]
    assert read.labels is not None
    assert read.labels.tolist() == [1.0, 0.0]


def test_labels_are_read_only_where_wanted(tmp_path: Path) -> None:
    labelled = put(tmp_path, "sequence\tlabel\nACGT\t1\n", "a.tsv")
    bare = put(tmp_path, "id,sequence\nx,ACGT\n", "b.csv")
    assert read_sequences(labelled).labels is not None
    assert read_table(labelled, label_column=None).labels is None
    assert read_sequences(bare).labels is None
    assert read_sequences(bare).names == ["x"]
    with pytest.raises(InputError, match="has no column 'label'; its first line holds 'id', 'sequence'"):
        read_table(bare)


def test_one_column_without_a_delimiter_is_a_table(tmp_path: Path) -> None:
    read = read_sequences(put(tmp_path, "sequence\nACGT\nTTTT\n", "x.txt"))
    assert read.matrix(4).tolist() == [[0, 1, 2, 3], [3, 3, 3, 3]]


def test_content_tells_fasta_from_tables(tmp_path: Path) -> None:
    assert read_sequences(put(tmp_path, ">sequence,label\nACGT\n", "x.csv")).names == ["sequence,label"]
    packed = put(tmp_path, gzip.compress(b"sequence,label\nACGT,0\n"), "y.fa.gz")
    assert read_sequences(packed).labels is not None
    with pytest.raises(InputError, match="letters before the first header"):
        read_sequences(put(tmp_path, "ACGT\n", "x.fa"))
    with pytest.raises(InputError, match="no column 'sequence'"):
        read_sequences(put(tmp_path, "seq,label\nACGT,1\n", "x.csv"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "no column 'sequence'"),
        (b"sequence,label\n", "holds no rows"),
        (b"Sequence,label\nA,1\n", "rename 'Sequence' to 'sequence'"),
        (b"sequence,label,label\nA,1,0\n", "line 1: has 2 columns 'label'"),
        (b"ACGT,1\n", "first line holds 'ACGT', '1'"),
        (b"sequence,label\nACGT,1\nACGT\n", "line 3: has 1 columns, the first line has 2"),
        (b"sequence,label\nACGT,1,2\n", "line 2: has 3 columns"),
        (b"sequence,label\nACGT,1\nACGT,yes\n", "line 3, record 'row2': label 'yes' is not 0 or 1"),
        (b"sequence,label\nACGT,\n", "label '' is not 0 or 1"),
        (b"sequence,label\nACGT,2\n", "label '2'"),
        (b"sequence,label\n,1\n", "line 2, record 'row1': the sequence is empty"),
        (b"sequence,label\nACGU,1\n", "line 2, record 'row1': letter 'U' at base 4(.|\n)*RNA"),
        (b"sequence,label\nMKVL,1\n", "letter 'L' at base 4(.|\n)*protein"),
        (b"sequence,label\nAC T,1\n", "letter ' '"),
        ("sequence,label\nACé,1\n".encode(), "byte 0x"),
        (b'sequence,label\n"ACGT,1\n', "is not a whole table"),
        (b"sequence,label\n" + b"A" * 200_000 + b",1\n", "go into FASTA"),
        (b"\x00\x01\x02", "NUL"),
        (gzip.compress(b"sequence,label\nACGT,1\n" * 99, mtime=0)[:-9], "cut off"),
        (b"PK\x03\x04", "zip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_bad_tables_are_named_for_what_they_are(tmp_path: Path, data: bytes, words: str) -> None:
    path = put(tmp_path, data)
    with pytest.raises(InputError, match=words) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "What to do" in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_sequences(tmp_path)


@pytest.mark.real_data
def test_real_tables_are_read_whole(real_data: Path) -> None:
    read = read_table(real_data / "gue" / "tf0_test.csv.gz")
    assert read.matrix(101).shape == (1000, 101)
    assert read.labels is not None
    assert read.labels.mean() == 0.5
