"""Peaks of other programs: their summits are found, what is in doubt is said, other formats are named and converted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import processes
from ebox.errors import InputError
from ebox.sequences.bed import is_bed, read_bed
from ebox.sequences.fasta import read_fasta
from ebox.sequences.places import Intervals
from ebox.sequences.tables import read_table

PLACES = [("chr1", 100, 500, 350), ("chr1", 900, 1300, 60), ("chr2", 700, 1100, 120)]
SUMMITS = [chrom_start + summit for _, chrom_start, _, summit in PLACES]


def put(folder: Path, text: str | bytes, name: str = "x.narrowPeak") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def make_peaks(middle: str = "p\t9\t.\t5.1\t12.3\t9.9", after: str = "", summit: str = "{summit}") -> str:
    shown = [summit.format(summit=number) for *_, number in PLACES]
    return "".join(
        f"{chrom}\t{start}\t{end}\t{middle}\t{text}{after}\n"
        for (chrom, start, end, _), text in zip(PLACES, shown, strict=True)
    )


def codes(found: Intervals) -> list[str]:
    return [note["code"] for note in found.notes]


@pytest.mark.parametrize(
    "text",
    [
        make_peaks(),
        make_peaks(after="\t2.46\t2.73\t150\t550\t620.0\t350\t150\t550\t213.8\t350"),
        make_peaks(after="\tgene"),
        make_peaks(after="\t"),
        make_peaks(middle="p\t9\t.\t5.1\tNA\tNA"),
        make_peaks(middle="p\t9\t.\t.\t.\t."),
        make_peaks(middle="p\t9\t.\tinf\t-1\tnan"),
        make_peaks(middle="p\tNA\t.\t5.1\t3\t3"),
        make_peaks(summit="{summit}.0"),
        make_peaks().replace("\n", "\r\n"),
        "track type=narrowPeak\n" + make_peaks(),
    ],
    ids=["plain", "IDR", "11 columns", "last tab", "NA", "dots", "inf", "no score", "120.0", "CRLF", "track"],
)
def test_summits_are_found_in_the_forms_near_narrow_peak(tmp_path: Path, text: str) -> None:
    found = read_bed(put(tmp_path, text))
    assert found.summit is not None
    assert found.summit.tolist() == SUMMITS
    assert codes(found) == []


def test_dashes_for_what_is_missing_are_no_strand(tmp_path: Path) -> None:
    found = read_bed(put(tmp_path, make_peaks(middle="-\t-\t-\t-\t-\t-")))
    assert found.summit is not None
    assert found.summit.tolist() == SUMMITS
    assert found.strand is None
    assert codes(found) == ["dash_strands"]
    named = read_bed(put(tmp_path, make_peaks(middle="p\t-\t-\t-\t-\t-")))
    assert named.strand is not None
    assert set(named.strand) == {"-"}


def test_a_first_line_without_summit_costs_its_own_alone(tmp_path: Path) -> None:
    found = read_bed(put(tmp_path, "chr1\t5\t50\tp\t9\t.\n" + make_peaks()))
    assert found.summit is not None
    assert found.summit.tolist() == [-1, *SUMMITS]
    assert [dict(note) for note in found.notes] == [
        {"code": "some_summits", "source": "x.narrowPeak", "num": 3, "of": 4}
    ]


@pytest.mark.parametrize("missing", ["-1", ".", "NA", "", "-1.0"])
def test_an_unknown_summit_is_counted(tmp_path: Path, missing: str) -> None:
    found = read_bed(put(tmp_path, make_peaks() + f"chr3\t5\t50\tp\t9\t.\t1\t1\t1\t{missing}\n"))
    assert found.summit is not None
    assert found.summit.tolist() == [*SUMMITS, -1]
    assert codes(found) == ["some_summits"]


def test_summits_of_nothing_but_0_are_doubted(tmp_path: Path) -> None:
    assert codes(read_bed(put(tmp_path, make_peaks(summit="0")))) == ["zero_summits"]
    assert codes(read_bed(put(tmp_path, "chr1\t5\t6\tp\t9\t.\t1\t1\t1\t0\n"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "chr1\t0\t100\tg\t0\t+\t0\t100\t0\t2\t10,20,\t0,80,\n",
        "chr1\t0\t100\tg\t0\t+\t0\t100\t0\t1\t100\t0\t7\t8\t9\n",
        "chr1\t0\t100\tm\t9\t+\t0\t100\t0,255,0\t12\t83\n",
        make_peaks(summit="gene{summit}"),
        make_peaks(summit="0.7"),
    ],
    ids=["BED12", "gappedPeak", "bedMethyl", "names", "shares"],
)
def test_another_column_10_is_no_summit(tmp_path: Path, text: str) -> None:
    found = read_bed(put(tmp_path, text))
    assert found.summit is None
    assert codes(found) == []


def test_a_column_that_holds_summits_in_few_lines_is_not_used_and_that_is_said(tmp_path: Path) -> None:
    found = read_bed(put(tmp_path, make_peaks(summit="gene") + "chr3\t5\t50\tp\t9\t.\t1\t1\t1\t7\n"))
    assert found.summit is None
    assert codes(found) == ["unused_summits"]


def convert(path: Path, remedy: str) -> Path:
    """Do what a remedy says, with the names of the files put in."""
    command = remedy.split(": ", 1)[1] if ": " in remedy else remedy
    new = path.with_name("new")
    command = command.replace("OLD", os.fspath(path)).replace("NEW", os.fspath(new))
    processes.run(["bash", "-c", command])
    return new


def test_summits_on_the_chromosome_are_refused_and_converted(tmp_path: Path) -> None:
    text = "".join(f"{c}\t{s}\t{e}\tp\t9\t.\t1\t1\t1\t{s + summit}\n" for c, s, e, summit in PLACES)
    path = put(tmp_path, text)
    with pytest.raises(InputError, match="line 1: summit '450' in column 10 is not within") as caught:
        read_bed(path)
    found = read_bed(convert(path, str(caught.value.remedy)))
    assert found.summit is not None
    assert found.summit.tolist() == SUMMITS


def test_a_line_that_ends_early_is_refused_and_lengthened(tmp_path: Path) -> None:
    path = put(tmp_path, make_peaks() + "chr3\t5\t50\n")
    with pytest.raises(InputError, match="line 4: summit ''") as caught:
        read_bed(path)
    found = read_bed(convert(path, str(caught.value.remedy)))
    assert found.summit is not None
    assert found.summit.tolist() == [*SUMMITS, -1]


# Each stands for 0-based chr1:99-200, and where it has a strand for minus.
FOREIGN = {
    "GFF": "##gff-version 3\nchr1\tx\tpeak\t100\t200\t.\t-\t.\tID=1\n",
    "GTF": 'chr1\tx\texon\t100\t200\t.\t-\t0\tgene_id "a";\n',
    "VCF": "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\nchr1\t100\t700\t" + 101 * "A" + "\tG\t.\t.\t.\n",
    "MACS": "# This file is generated by MACS version 2.2\n\nchr\tstart\tend\tlength\tabs_summit\tpileup\t"
    "-log10(pvalue)\tfold_enrichment\t-log10(qvalue)\tname\nchr1\t100\t200\t101\t120\t9\t9\t9\t9\tp1\n",
    "HOMER": "# HOMER Peaks\n#PeakID\tchr\tstart\tend\tstrand\np1\tchr1\t100\t200\t-\t7\n",
    "HOMER of numbers": "p1\tchr1\t100\t200\t1\n",
    "interval list": "@SQ\tSN:chr1\tLN:900\nchr1\t100\t200\t-\tp1\n",
    "GRanges": "seqnames\tstart\tend\twidth\tstrand\nchr1\t100\t200\t101\t-\n",
    "GRanges of R": '"seqnames"\t"start"\t"end"\t"width"\n"1"\t"chr1"\t100\t200\t101\n',
    "positions": "chr1:100-200\nchr1:1,000-2,000\n",
    "commas": "chr1,99,200\n",
    "bins": "#bin\tchrom\tchromStart\tchromEnd\n585\tchr1\t99\t200\tp1\n",
    "names of columns": "chrom\tchromStart\tchromEnd\nchr1\t99\t200\n",
    "other names of columns": "chr\tfrom\tto\nchr1\t99\t200\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_format_is_named_and_its_remedy_converts_it(tmp_path: Path, kind: str) -> None:
    path = put(tmp_path, FOREIGN[kind], "x.bed")
    with pytest.raises(InputError) as caught:
        read_bed(path)
    remedy = str(caught.value.remedy)
    remedy = remedy.partition("convert it: ")[2] or remedy
    if kind == "interval list":
        remedy = remedy.partition("of an interval list with ")[2]
    found = read_bed(convert(path, remedy))
    assert (found.chrom[0], int(found.start[0]), int(found.end[0])) == ("chr1", 99, 200)
    if kind in ("GFF", "GTF", "HOMER", "HOMER of numbers", "interval list"):
        assert found.strand is not None
        assert found.strand[0] == "-"
    if kind == "MACS":
        assert found.summit is not None
        assert found.summit.tolist() == [119]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (">a\nACGT\n", "like FASTA"),
        ("fixedStep chrom=chr1 start=1 step=1\n5\n", "like wiggle"),
        (b"\xeb\xf2\x89\x87" + bytes(60), "bigBed(.|\n)*bigBedToBed"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\xd0\xcf\x11\xe0" + bytes(60), "old Excel(.|\n)*save the sheet as CSV"),
    ],
)
def test_what_holds_no_places_is_named(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_bed(put(tmp_path, text))


def test_workbooks_are_to_be_saved_as_csv(tmp_path: Path) -> None:
    import zipfile

    for inside, words in (("xl/workbook.xml", "workbook of Excel"), ("content.xml", "OpenDocument"), ("a.fa", "unzip")):
        path = tmp_path / "table.csv"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("[Content_Types].xml", "<a/>")
            archive.writestr(inside, "x")
        for read in (read_table, read_bed, read_fasta):
            with pytest.raises(InputError, match=words):
                read(path)


@pytest.mark.parametrize(
    "text", [make_peaks(), make_peaks()[:-1], "#c\n" + make_peaks(), make_peaks().replace("\n", "\r", 1)]
)
def test_carriage_returns_inside_of_lines_are_refused_everywhere(tmp_path: Path, text: str) -> None:
    path = put(tmp_path, text if "\r" in text else text.replace("\n", "\r"))
    with pytest.raises(InputError, match="line 1: ends its lines with carriage returns alone") as caught:
        read_bed(path)
    assert convert(path, str(caught.value.remedy)).read_bytes().count(b"\r") == 0
    table = "sequence,label\rACGT,1\rACGA,0\r"
    with pytest.raises(InputError, match="line 1: ends its lines with carriage returns alone"):
        read_table(put(tmp_path, table, "t.csv"))
    with pytest.raises(InputError, match="line 2: ends its lines with carriage returns alone"):
        read_table(put(tmp_path, "sequence,label\nACGT,1\rACGA,0\n", "t.csv"))
    with pytest.raises(InputError, match="line 3: ends its lines with carriage returns alone"):
        read_fasta(put(tmp_path, ">a\nACGT\n>b\rACGT\r>c\rAAAA\n>d\nAC\n", "x.fa"))


def test_lines_that_end_twice_are_read(tmp_path: Path) -> None:
    assert len(read_bed(put(tmp_path, make_peaks().replace("\n", "\r\r\n")))) == 3


def test_places_are_told_from_sequences_by_their_first_line() -> None:
    assert is_bed(b"#c\n\ntrack name=x\nchr1\t5\t9\n")
    for text in (b">a\nACGT\n", b"sequence,label\nAC,1\n", b"chr1\t9\t5\n", b"", b"#c\n"):
        assert not is_bed(text)
