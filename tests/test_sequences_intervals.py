"""Intervals: the algebra agrees with sets of bases, BED comes back as written, bad lines are named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.sequences.intervals import (
    Intervals,
    count_overlaps,
    distance_to_nearest,
    make_intervals,
    merge,
    overlaps_any,
    read_bed,
    resize,
    subtract,
    write_bed,
)

CHROMS = ["chr1", "chr10", "chr2"]
ROW = st.tuples(st.sampled_from(CHROMS), st.integers(0, 30), st.integers(0, 9))
ROWS = st.lists(ROW, max_size=12)
Row = tuple[str, int, int]


def make(rows: list[Row], summit: list[int] | None = None) -> Intervals:
    """Intervals of (chrom, start, width)."""
    chroms, starts, widths = ([row[column] for row in rows] for column in range(3))
    ends = [start + width for start, width in zip(starts, widths, strict=True)]
    return make_intervals(chroms, starts, ends, name=[f"i{n}" for n in range(len(rows))], summit=summit)


def bases(row: Row) -> set[tuple[str, int]]:
    return {(row[0], place) for place in range(row[1], row[1] + row[2])}


def triples(intervals: Intervals) -> list[Row]:
    return list(zip(intervals.chrom, intervals.start.tolist(), intervals.end.tolist(), strict=True))


@given(a=ROWS, b=ROWS)
def test_overlaps_are_shared_bases(a: list[Row], b: list[Row]) -> None:
    expected = [sum(bool(bases(one) & bases(other)) for other in b) for one in a]
    assert count_overlaps(make(a), make(b)).tolist() == expected
    assert overlaps_any(make(a), make(b)).tolist() == [count > 0 for count in expected]


@given(a=ROWS, b=ROWS)
def test_distance_is_the_smallest_gap_on_the_chromosome(a: list[Row], b: list[Row]) -> None:
    expected = []
    for chrom, start, width in a:
        gaps = [
            max(other - start - width, start - other - size, 0) for name, other, size in b if name == chrom and size
        ]
        expected.append(min(gaps, default=-1))
    assert distance_to_nearest(make(a), make(b)).tolist() == expected


@given(rows=ROWS)
def test_merging_keeps_the_bases_and_leaves_gaps(rows: list[Row]) -> None:
    merged = merge(make(rows))
    union = set().union(*map(bases, rows))
    found = [(chrom, place) for chrom, start, end in triples(merged) for place in range(start, end)]
    assert len(found) == len(set(found))
    assert set(found) == union
    assert triples(merged) == sorted(triples(merged))
    assert triples(merge(merged)) == triples(merged)
    for (chrom, _, end), (other, start, _) in zip(triples(merged)[:-1], triples(merged)[1:], strict=True):
        assert chrom != other or end < start


@given(a=ROWS, b=ROWS)
def test_subtracting_takes_each_base_of_the_other_away(a: list[Row], b: list[Row]) -> None:
    left = subtract(make(a), make(b))
    taken = set().union(*map(bases, b))
    assert left.name is not None
    for number, row in enumerate(a):
        mine = [piece for piece, name in zip(triples(left), left.name, strict=True) if name == f"i{number}"]
        found = [(chrom, place) for chrom, start, end in mine for place in range(start, end)]
        assert found == sorted(bases(row) - taken)
        assert all(end > start for _, start, end in mine)
    assert [int(name[1:]) for name in left.name] == sorted(int(name[1:]) for name in left.name)


def test_a_piece_keeps_its_summit_only_where_it_holds_it() -> None:
    left = subtract(make([("chr1", 0, 20)], summit=[15]), make([("chr1", 8, 4)]))
    assert triples(left) == [("chr1", 0, 8), ("chr1", 12, 20)]
    assert left.summit is not None
    assert left.summit.tolist() == [-1, 15]


def test_touching_is_not_overlapping() -> None:
    a, b = make([("chr1", 0, 10)]), make([("chr1", 10, 10)])
    assert not overlaps_any(a, b).any()
    assert distance_to_nearest(a, b).tolist() == [0]
    assert triples(merge(make([("chr1", 0, 10), ("chr1", 10, 10)]))) == [("chr1", 0, 20)]


def test_unknown_places_overlap_nothing() -> None:
    unknown = make_intervals(["", ""], [-1, -1], [-1, -1])
    assert not overlaps_any(unknown, unknown).any()
    assert not overlaps_any(unknown, make([("chr1", 0, 5)])).any()
    assert len(merge(unknown)) == 0


@given(rows=st.lists(ROW, min_size=1), length=st.integers(1, 50), data=st.data())
def test_resizing_gives_one_length_around_the_summit(rows: list[Row], length: int, data: st.DataObject) -> None:
    summit = [data.draw(st.sampled_from([-1, start])) for _, start, _ in rows]
    intervals = make(rows, summit=summit)
    around = resize(intervals, length)
    middle = (intervals.start + intervals.end) // 2
    assert (around.widths == length).all()
    np.testing.assert_array_equal(around.start + length // 2, np.where(np.array(summit) >= 0, summit, middle))
    np.testing.assert_array_equal(resize(intervals, length, "middle").start + length // 2, middle)


def test_intervals_that_end_before_they_start_are_refused() -> None:
    with pytest.raises(InputError, match="interval 2 ends before it starts: 9 to 3"):
        make_intervals(["chr1", "chr1"], [1, 9], [2, 3])


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
NAMES = TEXT.filter(lambda text: not text.startswith("#") and text not in ("track", "browser", "\ufeff"))
BED_ROW = st.tuples(
    NAMES,
    st.integers(0, 2**40),
    st.integers(1, 10**6),
    TEXT,
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from("+-."),
    st.floats(-0.01, 0.99),
)


@given(rows=st.lists(BED_ROW, min_size=1, max_size=6), columns=st.integers(0, 4), suffix=st.sampled_from(["", ".gz"]))
@settings(deadline=None, max_examples=60)
def test_bed_is_read_as_written(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, int, int, str, float, str, float]],
    columns: int,
    suffix: str,
) -> None:
    path = tmp_path_factory.mktemp("bed") / f"x.bed{suffix}"
    chrom, start, width, name, score, strand, share = (list(column) for column in zip(*rows, strict=True))
    written = make_intervals(
        chrom,
        start,
        [a + b for a, b in zip(start, width, strict=True)],
        name=name if columns > 0 else None,
        score=score if columns > 1 else None,
        strand=strand if columns > 2 else None,
        summit=[a + int(b * c) if c >= 0 else -1 for a, b, c in zip(start, width, share, strict=True)]
        if columns > 3
        else None,
    )
    write_bed(path, written)
    read = read_bed(path)
    for field in ("chrom", "start", "end", "name", "score", "strand", "summit", "lines"):
        left, right = getattr(written, field), getattr(read, field)
        assert (left is None) == (right is None), field
        if left is not None:
            assert left.tolist() == right.tolist(), field


def put(folder: Path, data: bytes, name: str = "x.bed") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_headers_comments_blank_lines_and_crlf_are_passed_over(tmp_path: Path) -> None:
    text = b"browser position chr1\r\ntrack name=x\r\n#chrom\tstart\tend\r\n\r\nchr1\t1\t5\tp\t.\t*\r\n \nchr2\t0\t1"
    read = read_bed(put(tmp_path, text))
    assert triples(read) == [("chr1", 1, 5), ("chr2", 0, 1)]
    assert read.lines.tolist() == [5, 7]
    assert read.name is not None
    assert read.name.tolist() == ["p", "."]
    assert read.strand is not None
    assert read.strand.tolist() == [".", "."]
    assert read.score is not None
    assert np.isnan(read.score).all()


def test_a_chromosome_may_begin_as_a_header_does(tmp_path: Path) -> None:
    assert read_bed(put(tmp_path, b"track1\t0\t5\n")).chrom.tolist() == ["track1"]


def test_narrow_peaks_have_summits_and_bed12_has_none(tmp_path: Path) -> None:
    peaks = b"chr1\t100\t200\tp\t9\t.\t1.5\t-1\t-1\t30\nchr1\t300\t400\tp\t9\t.\t1e3\t.5\t-1\t-1\n"
    summit = read_bed(put(tmp_path, peaks, "x.narrowPeak")).summit
    assert summit is not None
    assert summit.tolist() == [130, -1]
    blocks = b"chr1\t100\t200\tg\t0\t+\t100\t200\t0\t2\t10,20\t0,80\n"
    assert read_bed(put(tmp_path, blocks)).summit is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"#only\n\n", "holds no intervals"),
        (b"chr1\t5\n", "line 1: has 2 columns"),
        (b"chr1\t1\t5\nchr1 1 5\n", "line 2: columns are separated by spaces"),
        (b"chr1 \t1 5\n", "separated by spaces"),
        (b"\t1\t5\n", "a chromosome was expected|has 2 columns"),
        (b"chrom\tstart\tend\n", "start 'start' is not a whole number(.|\n)*column names needs a #"),
        (b"chr1\t1e+05\t200000\n", "'1e.05' is not a whole number(.|\n)*scipen"),
        (b"chr1\t1.0\t2\n", "not a whole number"),
        (b"chr1\t1_0\t20\n", "not a whole number"),
        (b"chr1\t1\t99999999999999999999\n", "not a whole number"),
        ("chr1\t²\t9\n".encode(), "not a whole number"),
        (b"chr1\t-5\t9\n", "start -5 is negative"),
        (b"chr1\t5\t5\n", "end 5 is not past start 5"),
        (b"chr1\t9\t5\n", "end 5 is not past start 9"),
        (b"chr1\t1\t5\tp\thigh\n", "score 'high' is not a number"),
        (b"chr1\t1\t5\tp\t1\tplus\n", "strand 'plus'"),
        (b"chr1\t1\t5\tp\t1\t+\t1\t1\t1\t4\n", "summit '4' in column 10 is not within the peak of 4 bp"),
        (b"chr1\t1\t5\tp\t1\t+\t1\t1\t1\t1\nchr1\t1\t5\n", "line 2: summit ''"),
        (b"\x00\x01", "NUL"),
        (b">a\nACGT\n", "line 1: has 1 columns"),
        (gzip.compress(b"chr1\t1\t5\n" * 99, mtime=0)[:-9], "cut off"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_bad_bed_is_named_for_what_it_is(tmp_path: Path, data: bytes, words: str) -> None:
    path = put(tmp_path, data)
    with pytest.raises(InputError, match=words) as caught:
        read_bed(path)
    assert str(path) in str(caught.value)
    assert "What to do" in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_bed(tmp_path / "no.bed")
    with pytest.raises(InputError, match="is a folder"):
        read_bed(tmp_path)


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    for intervals, words in (
        (make_intervals(["chr1", ""], [0, -1], [5, -1]), "interval 2 can't be written"),
        (make_intervals([""], [0], [5]), "can't be written as a column"),
        (make_intervals(["chr1"], [0], [5], name=["a\tb"]), "can't be written as a column"),
    ):
        with pytest.raises(InputError, match=words):
            write_bed(tmp_path / "x.bed", intervals)
    assert not list(tmp_path.iterdir())


@pytest.mark.real_data
@pytest.mark.slow
def test_real_peaks_lie_in_open_chromatin(real_data: Path) -> None:
    peaks = read_bed(real_data / "tal1" / "GSM1067277_TAL1_erythroid.hg19.bed.gz")
    atac = read_bed(real_data / "tal1" / "open_chromatin_erythroid.hg19.bed.gz")
    blacklist = read_bed(real_data / "genome" / "hg19-blacklist.v2.bed.gz")
    assert (len(peaks), len(atac), len(blacklist)) == (26_326, 109_945, 834)
    assert peaks.score is not None
    assert overlaps_any(peaks, atac).mean() > 0.3
    clean = subtract(peaks, blacklist)
    assert not overlaps_any(clean, blacklist).any()
    assert 0 < merge(clean).widths.sum() < merge(peaks).widths.sum()
