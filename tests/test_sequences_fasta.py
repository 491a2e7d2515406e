"""FASTA and sequence sets: what is read is what was written, and every bad file is named for what it is."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.sequences.codes import decode, encode, n_fraction
from ebox.sequences.fasta import (
    parse_fasta,
    parse_location,
    parse_locations,
    read_fasta,
    read_sequences,
    write_fasta,
)
from ebox.sequences.records import SequenceSet, make_sequence_set

NAME = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), max_size=12)
LETTERS = st.text("ACGTNacgtnRYSWKMBDHVryswkmbdhv", min_size=1, max_size=40)
RECORDS = st.lists(st.tuples(NAME, LETTERS), min_size=1, max_size=8)


def put(folder: Path, data: bytes, name: str = "x.fa") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def pack(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def upper(letters: str) -> str:
    return "".join(letter if letter in "ACGT" else "N" for letter in letters.upper())


def texts(sequences: SequenceSet) -> list[str]:
    return [decode(sequences.record(row)) for row in range(len(sequences))]


@given(records=RECORDS, data=st.data())
def test_any_layout_of_lines_and_blocks_gives_the_same_records(
    records: list[tuple[str, str]], data: st.DataObject
) -> None:
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    lines = []
    at_line = []
    for name, letters in records:
        at_line.append(len(lines) + 1)
        width = data.draw(st.integers(1, 41))
        lines += [f">{name}", *(letters[first : first + width] for first in range(0, len(letters), width))]
        lines += [""] * data.draw(st.integers(0, 2))
    text = end.join(lines) + data.draw(st.sampled_from(["", end]))
    raw = text.encode()
    size = data.draw(st.integers(1, len(raw)))
    read = parse_fasta((raw[first : first + size] for first in range(0, len(raw), size)), "x.fa")
    assert read.names == [name for name, _ in records]
    assert texts(read) == [upper(letters) for _, letters in records]
    assert read.lines.tolist() == at_line
    assert read.codes.flags.writeable


@given(records=RECORDS, suffix=st.sampled_from(["fa", "fa.gz"]))
@settings(max_examples=30, deadline=None)
def test_writing_and_reading_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, str]], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("fasta") / f"x.{suffix}"
    parts = [encode(letters) for _, letters in records]
    offsets = np.cumsum([0, *map(len, parts)])
    names = [name for name, _ in records]
    lines = np.arange(1, 2 * len(parts), 2)
    written = SequenceSet(np.concatenate(parts), offsets, names, lines, str(path))
    write_fasta(path, None, written)
    read = read_fasta(path)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == (suffix == "fa.gz")
    np.testing.assert_array_equal(read.codes, written.codes)
    np.testing.assert_array_equal(read.offsets, written.offsets)
    np.testing.assert_array_equal(read.lines, written.lines)
    assert read.names == written.names


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(0, 5, (50, 30), np.uint8)
    files = [tmp_path / "a.fa.gz", tmp_path / "b.fa.gz"]
    for file in files:
        write_fasta(file, [f"r{row}" for row in range(50)], codes)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    codes = np.zeros((2, 3), np.uint8)
    for names, matrix, words in (
        (["a"], codes, "1 names for 2"),
        (["a", "b\nc"], codes, "line break"),
        (["a", "b"], codes[:, :0], "without letters"),
    ):
        with pytest.raises(InputError, match=words):
            write_fasta(tmp_path / "x.fa", names, matrix)
    assert not list(tmp_path.iterdir())


def test_soft_masked_and_ambiguous_letters_become_upper_case_and_n(tmp_path: Path) -> None:
    read = read_fasta(put(tmp_path, b">a\nacgtRYn\n"))
    assert texts(read) == ["ACGTNNN"]


def test_all_n_is_a_sequence(tmp_path: Path) -> None:
    read = read_fasta(put(tmp_path, b">a\nNNNN\n"))
    assert n_fraction(read.matrix(4)).tolist() == [1.0]


def test_names_may_repeat_and_hold_any_letters(tmp_path: Path) -> None:
    read = read_fasta(put(tmp_path, ">a b\nA\n>a b\nC\n> é|1\tx \nG\n".encode()))
    assert read.names == ["a b", "a b", "é|1\tx"]


def test_bytes_of_another_encoding_in_a_header_do_no_harm(tmp_path: Path) -> None:
    assert read_fasta(put(tmp_path, b">caf\xe9\nA\n")).names == ["caf\ufffd"]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert read_fasta(put(tmp_path, b"\xef\xbb\xbf>a\nA\n")).names == ["a"]


def test_bgzip_of_many_blocks_is_read_whole(tmp_path: Path) -> None:
    pysam = pytest.importorskip("pysam")
    letters = b"ACGT" * 40_000
    path = tmp_path / "x.fa.gz"
    with pysam.BGZFile(os.fspath(path), "wb") as stream:
        stream.write(b">a\n" + letters + b"\n")
    assert read_fasta(path).lengths.tolist() == [len(letters)]
    path.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(InputError, match="cut off"):
        read_fasta(path)


def test_a_line_of_many_blocks_is_one_sequence(tmp_path: Path) -> None:
    letters = np.random.default_rng(0).integers(0, 4, 9_000_000, np.uint8)
    read = read_fasta(put(tmp_path, b">a\n" + decode(letters).encode() + b"\n>b\nA"))
    np.testing.assert_array_equal(read.record(0), letters)
    assert read.lines.tolist() == [1, 3]
    assert read.record(-1).tolist() == [0]


def test_a_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b">a\nACGT\n"))
    writer.start()
    assert texts(read_sequences(pipe)) == ["ACGT"]
    writer.join()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "holds no sequences"),
        (pack(b""), "empty once unpacked"),
        (pack(b">a\n" + bytes(range(65, 68)) * 9999)[:-20], "cut off"),
        (pack(b">a\nACGT\n")[:-8] + b"\xff" * 8, "corrupt"),
        (pack(b">a\nACGT\n") + b"junk", "corrupt"),
        (b"ACGT\n>a\nACGT\n", "line 1: has letters before the first header"),
        (b"\n\nACGT\n", "line 3: has letters before"),
        (b">a\nACGT\n>b\n>c\nA\n", "line 3, record 'b': the record has no sequence"),
        (b">a\nACGT\n>b\n", "line 3, record 'b': the record has no sequence"),
        (b">a\nACGT\n>b\nAC\nAUG\n", "line 5, record 'b': letter 'U'.*RNA(.|\n)*write U as T"),
        (b">p\nMKVLEE\n", "line 2, record 'p': letter 'L'.*protein"),
        (b">a\nAC-GT\n", "gaps"),
        (b">a\nAC*\n", "gaps"),
        (b">a\nAC>GT\n", "letter '>'"),
        (b">a\nAC\x07\n", "byte 0x07"),
        (b"\x00\x01\x02\x03", "NUL"),
        (b">a\x00\nA\n", "NUL"),
        (bytes(range(1, 200)), "is not FASTA"),
        (b"@r1\nACGT\n+\nIIII\n", "FASTQ"),
        (b"chr1\t1\t20\n", "looks like BED"),
        (b"sequence,label\nACGT,1\n", "looks like a table"),
        (b"BZh91AY", "bzip2"),
        (b"PK\x03\x04abc", "zip"),
        (b"\xff\xfe>\x00a\x00", "UTF-16"),
        (b">a\rACGT\r>b\rAC\r", "carriage returns"),
        (b">" + b"A" * 2_000_000, "line breaks seem to be missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_bad_files_are_named_for_what_they_are(tmp_path: Path, data: bytes, words: str) -> None:
    path = put(tmp_path, data)
    with pytest.raises(InputError, match=words) as caught:
        read_fasta(path)
    assert str(path) in str(caught.value)
    assert "What to do" in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_fasta(tmp_path / "no.fa")
    with pytest.raises(InputError, match="is a folder"):
        read_fasta(tmp_path)
    with pytest.raises(InputError, match="can't be read"):
        read_fasta(put(tmp_path, b">a\nA\n") / "below")


def test_unreadable_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, b">a\nA\n")

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(InputError, match="permission denied"):
        read_fasta(path)


@given(data=st.data())
@settings(deadline=None)
def test_a_bad_letter_is_found_at_its_line_and_record(data: st.DataObject) -> None:
    records = data.draw(st.lists(st.lists(LETTERS, min_size=1, max_size=3), min_size=1, max_size=5))
    record = data.draw(st.integers(0, len(records) - 1))
    row = data.draw(st.integers(0, len(records[record]) - 1))
    letters = records[record][row]
    place = data.draw(st.integers(1, len(letters)))
    records[record][row] = letters[:place] + data.draw(st.sampled_from("EU>-\x07é")) + letters[place:]
    lines = [line for number, rows in enumerate(records) for line in [f">r{number}", *rows]]
    raw = "\n".join(lines).encode()
    size = data.draw(st.integers(1, len(raw)))
    with pytest.raises(InputError) as caught:
        parse_fasta((raw[first : first + size] for first in range(0, len(raw), size)), "x.fa")
    assert caught.value.record == f"r{record}"
    assert caught.value.line == lines.index(f">r{record}") + 2 + row


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    data=st.data(),
    seed=st.integers(0, 99),
    block=st.sampled_from([1, 7, 1 << 22]),
)
def test_taking_records_is_taking_each(lengths: list[int], data: st.DataObject, seed: int, block: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 5, sum(lengths), np.uint8)
    num = len(lengths)
    offsets = np.cumsum([0, *lengths])
    names = [str(row) for row in range(num)]
    labels = np.arange(num).astype(np.float32)
    whole = SequenceSet(codes, offsets, names, np.arange(num), "memory", labels)
    rows = data.draw(st.lists(st.integers(-num, num - 1), max_size=12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebox.sequences.records._TAKE_BASES", block)
        part = whole.take(rows)
    assert texts(part) == [decode(whole.record(row)) for row in rows]
    assert part.names == [names[row] for row in rows]
    assert part.labels is not None
    assert part.labels.tolist() == [labels[row] for row in rows]


def test_a_matrix_needs_one_length(tmp_path: Path) -> None:
    read = read_fasta(put(tmp_path, b">a\nACGT\n>b\nAC\n"))
    with pytest.raises(InputError, match="line 3, record 'b': is 2 bp long, 4 bp expected"):
        read.matrix()
    with pytest.raises(InputError, match="record 'a': is 4 bp long, 2 bp expected"):
        read.matrix(2)
    assert read.take([0, 0]).matrix().shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "length", "place"),
    [
        ("chr1:100-300 source=x", 200, ("chr1", 100, 300, ".")),
        ("chr1:101-300", 200, ("chr1", 100, 300, ".")),
        ("chr1:100-300", 150, None),
        ("chr1:0-99", 100, None),
        ("chr1:300-100", 200, None),
        ("chr1:100-300(-)", 200, ("chr1", 100, 300, "-")),
        ("peak::1::chr1:100-300(+)", 200, ("chr1", 100, 300, "+")),
        ("HBB|chr11:5-15", 10, ("chr11", 5, 15, ".")),
        ("HLA-A*01:01:1-20", 20, ("HLA-A*01:01", 0, 20, ".")),
        ("hg19_dna range=chr2:11-20 5'pad=0 strand=+", 10, ("chr2", 10, 20, "+")),
        ("hg38_dna range=chr2:11-20 5'pad=0 3'pad=0 strand=- repeatMasking=none", 10, ("chr2", 10, 20, "-")),
        ("hg38_dna range=chr2:11-20", 10, ("chr2", 10, 20, ".")),
        ("chr1:101-300:-", 200, ("chr1", 100, 300, "-")),
        ("chr1:101-300:+", 200, ("chr1", 100, 300, "+")),
        ("chr1:101-300:*", 200, ("chr1", 100, 300, ".")),
        ("chr1:101-300/rc", 200, ("chr1", 100, 300, "-")),
        ("chr1:101-300(-)", 200, ("chr1", 100, 300, "-")),
        ("chr1_101-300:-", 200, ("chr1", 100, 300, "-")),
        ("chr1_101-300", 200, None),
        ("NC_000001.11:c300-101 Homo sapiens chromosome 1", 200, ("NC_000001.11", 100, 300, "-")),
        ("chromosome:GRCh38:1:101:300:-1", 200, ("1", 100, 300, "-")),
        ("chromosome:GRCh38:X:101:300:1", 200, ("X", 100, 300, "+")),
        ("chr1:1,001-1,200", 200, ("chr1", 1000, 1200, ".")),
        ("chr1:101..300", 200, ("chr1", 100, 300, ".")),
        ("chr1:100-300 strand=-", 200, ("chr1", 100, 300, "-")),
        ("chr1:100-300\tstrand:-1;x", 200, ("chr1", 100, 300, "-")),
        ("chr1:100-300 (-)", 200, ("chr1", 100, 300, "-")),
        ("chr1:100-300 -", 200, ("chr1", 100, 300, "-")),
        ("chr1:100-300 - a peak", 200, ("chr1", 100, 300, ".")),
        ("chr1:100-300 antistrand=-", 200, ("chr1", 100, 300, ".")),
        ("chr1:,-300", 200, None),
        ("chr1", 200, None),
        ("see chr1:100-300", 200, None),
        (":1-2", 1, None),
        ("", 1, None),
        ("chr1:-5-5", 10, None),
    ],
)
def test_headers_that_name_a_place_are_understood(
    name: str, length: int, place: tuple[str, int, int, str] | None
) -> None:
    assert parse_location(name, length) == place


def test_places_of_a_set_are_those_of_its_headers() -> None:
    codes = np.zeros((3, 10), np.uint8)
    places = parse_locations(make_sequence_set(codes, ["chr1:5-15", "other", "chr1:6-15(-)"]))
    assert places is not None
    assert places.chrom.tolist() == ["chr1", "", "chr1"]
    assert places.start.tolist() == [5, -1, 5]
    assert places.end.tolist() == [15, -1, 15]
    assert places.strand is not None
    assert places.strand.tolist() == [".", ".", "-"]
    assert parse_locations(make_sequence_set(codes, ["a", "b", "c:d"])) is None


@pytest.mark.real_data
def test_real_loci_are_read_with_their_places(real_data: Path) -> None:
    read = read_fasta(real_data / "tal1" / "bound.fa.gz")
    places = parse_locations(read)
    assert read.matrix(200).shape == (9356, 200)
    assert places is not None
    assert (places.end - places.start == 200).all()
    assert set(places.chrom.tolist()) >= {f"chr{number}" for number in range(1, 23)}
    with gzip.open(real_data / "tal1" / "bound.fa.gz", "rt") as stream:
        text = stream.read().split(">")[1:]
    assert [decode(read.record(row)) for row in (0, 77, -1)] == [
        text[row].split("\n", 1)[1].replace("\n", "").upper() for row in (0, 77, -1)
    ]


@pytest.mark.real_data
def test_real_genome_is_read_as_sequences(real_data: Path) -> None:
    read = read_sequences(real_data / "genome" / "human_pieces.fa.gz")
    assert read.lengths.tolist() == [2_333_275, 1_000_000]
    assert [(read.record(row) == 4).sum() for row in (0, 1)] == [10_000, 100_000]
