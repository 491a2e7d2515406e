"""Genomes: a place gives its bases, never fewer, and what can't be indexed is named for what it is."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.sequences.codes import decode
from ebox.sequences.fasta import read_fasta
from ebox.sequences.genome import Genome


def make_codes() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {name: random.integers(0, 5, size, np.uint8) for name, size in (("chr1", 1000), ("chr2", 61), ("M", 1))}


CODES = make_codes()


def make_text(end: str = "\n", width: int = 60) -> bytes:
    lines = []
    for name, codes in CODES.items():
        letters = decode(codes)
        lines += [f">{name} some words", *(letters[at : at + width] for at in range(0, len(letters), width))]
    return (end.join(lines) + end).encode()


def put(folder: Path, data: bytes, name: str = "genome.fa") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def put_bgzip(folder: Path) -> Path:
    path = folder / "genome.fa.gz"
    with pysam.BGZFile(os.fspath(path), "wb") as stream:
        stream.write(make_text())
    return path


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    return Genome(put(tmp_path_factory.mktemp("genome"), make_text()))


@given(data=st.data())
@settings(deadline=None)
def test_a_place_gives_its_bases(genome: Genome, data: st.DataObject) -> None:
    chrom = data.draw(st.sampled_from(sorted(CODES)))
    start = data.draw(st.integers(0, len(CODES[chrom])))
    end = data.draw(st.integers(start, len(CODES[chrom])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebox.sequences.genome._FETCH_BP", data.draw(st.sampled_from([7, 1 << 24])))
        np.testing.assert_array_equal(genome.fetch(chrom, start, end), CODES[chrom][start:end])


@given(data=st.data(), length=st.integers(0, 30), cost=st.sampled_from([0, 10_000]))
@settings(deadline=None)
def test_windows_are_the_places_in_the_order_asked_for(
    genome: Genome, data: st.DataObject, length: int, cost: int
) -> None:
    chroms = data.draw(st.lists(st.sampled_from(["chr1", "chr2"]), max_size=9))
    starts = [data.draw(st.integers(0, len(CODES[chrom]) - length)) for chrom in chroms]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebox.sequences.genome._WINDOW_COST_BP", cost)
        windows = genome.fetch_windows(np.array(chroms, object), np.array(starts, np.int64), length)
    assert windows.shape == (len(chroms), length)
    for chrom, start, window in zip(chroms, starts, windows, strict=True):
        np.testing.assert_array_equal(window, CODES[chrom][start : start + length])


def test_lengths_are_those_of_the_file(genome: Genome) -> None:
    assert genome.chroms == {"chr1": 1000, "chr2": 61, "M": 1}


def test_places_past_the_ends_are_refused(genome: Genome) -> None:
    for start, end in ((990, 1001), (-1, 5), (1000, 1001), (7, 3)):
        with pytest.raises(InputError, match=f"chr1:{start}-{end} is not within chr1, which is 1,000 bp long"):
            genome.fetch("chr1", start, end)
    assert len(genome.fetch("chr1", 1000, 1000)) == 0
    with pytest.raises(InputError, match="chr2:60-65 is not within chr2"):
        genome.fetch_windows(["chr1", "chr2"], [0, 60], 5)
    with pytest.raises(InputError, match="chr1:-3-2"):
        genome.fetch_windows(["chr1"], [-3], 5)


def test_unknown_chromosomes_are_answered_with_known_ones(genome: Genome) -> None:
    with pytest.raises(InputError, match="has no chromosome '1'; it has 'chr1'"):
        genome.fetch("1", 0, 5)
    with pytest.raises(InputError, match="has no chromosome 'chrM'; it has 'M'"):
        genome.fetch("chrM", 0, 1)
    with pytest.raises(InputError, match="has no chromosome 'Chr2'; it has 'chr2'"):
        genome.fetch_windows(["Chr2"], [0], 5)
    with pytest.raises(InputError, match="has no chromosome 'scaffold'; it has 'chr1', 'chr2', 'M'"):
        genome.fetch("scaffold", 0, 5)


def test_soft_masked_and_ambiguous_bases_with_crlf_are_read(tmp_path: Path) -> None:
    with Genome(put(tmp_path, b">a\r\nacgR\r\ntNAC\r\n")) as genome:
        assert decode(genome.fetch("a", 0, 8)) == "ACGNTNAC"


def test_bgzip_is_read_and_indexed(tmp_path: Path) -> None:
    path = put_bgzip(tmp_path)
    for _ in range(2):
        with Genome(path) as genome:
            np.testing.assert_array_equal(genome.fetch("chr1", 100, 900), CODES["chr1"][100:900])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "genome.fa.gz",
        "genome.fa.gz.fai",
        "genome.fa.gz.gzi",
    ]


def test_an_index_older_than_the_genome_is_made_anew(tmp_path: Path) -> None:
    path = put(tmp_path, b">a\nACGT\n")
    Genome(path).close()
    path.write_bytes(b">b c\nTTTTTTT\n")
    os.utime(f"{path}.fai", (1, 1))
    with Genome(path) as genome:
        assert dict(genome.chroms) == {"b": 7}


def test_an_index_of_another_file_is_noticed(tmp_path: Path) -> None:
    path = put(tmp_path, b">a\nACGT\n")
    Path(f"{path}.fai").write_text("a\t400\t3\t4\t5\n")
    with pytest.raises(InputError, match=r"its index is of another file(.|\n)*delete genome\.fa\.fai"):
        Genome(path)


def test_an_index_that_fits_is_kept_however_old_it_is(tmp_path: Path) -> None:
    path = put(tmp_path, make_text())
    Genome(path).close()
    os.utime(f"{path}.fai", (1, 1))
    with Genome(path) as genome:
        np.testing.assert_array_equal(genome.fetch("chr1", 100, 900), CODES["chr1"][100:900])
    assert os.path.getmtime(f"{path}.fai") == 1


def make_long(seed: int, sizes: tuple[int, ...] = (1000, 700), width: int = 60, names: str = "abc") -> bytes:
    random = np.random.default_rng(seed)
    lines = []
    for name, size in zip(names, sizes, strict=False):
        letters = decode(random.integers(0, 4, size, np.uint8))
        lines += [f">{name}", *(letters[at : at + width] for at in range(0, size, width))]
    return ("\n".join(lines) + "\n").encode()


# What an index may have been made of, instead of make_long(1).
OTHERS = {
    "wrapped otherwise": make_long(1, width=70),
    "one line a contig": make_long(1, width=1000),
    "a longer first contig": make_long(1, (1060, 700)),
    "a shorter last contig": make_long(1, (1000, 640)),
    "a longer last contig": make_long(1, (1000, 701)),
    "one contig more": make_long(1, (1000, 700, 60)),
    "one contig less": make_long(1, (1000,)),
    "another order": make_long(1, names="ba"),
    "other names": make_long(1, names="xy"),
    "lines that end otherwise": make_long(1).replace(b"\n", b"\r\n"),
    # 1,000 bases in lines of 60 are 1,016 bytes; so are 1,002 in lines of 70.
    "as many bytes in other lines": make_long(1, (1002,), 70) + make_long(2, (700,), names="b"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("other", OTHERS)
def test_an_index_of_another_genome_is_never_used(tmp_path: Path, other: str, packed: bool) -> None:
    for folder, text in (("of", make_long(1)), ("other", OTHERS[other])):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "genome.fa"
        if packed:
            with pysam.BGZFile(os.fspath(path), "wb") as stream:
                stream.write(text)
        else:
            path.write_bytes(text)
        Genome(path).close()
    path = tmp_path / "of" / "genome.fa"
    for suffix in ("fai", "gzi"):
        if Path(f"{path}.{suffix}").exists():
            (tmp_path / "other" / f"genome.fa.{suffix}").replace(f"{path}.{suffix}")
    with pytest.raises(InputError, match="its index is of another file") as caught:
        Genome(path)
    for name in str(caught.value.remedy).split("delete ")[1].split(" and try")[0].split(" and "):
        (tmp_path / "of" / name).unlink()
    with Genome(path) as genome:
        assert dict(genome.chroms) == {"a": 1000, "b": 700}


def test_a_genome_of_one_line_a_contig_does_not_take_the_index_of_its_wrapped_copy(tmp_path: Path) -> None:
    path = put(tmp_path, make_long(1))
    Genome(path).close()
    path.write_bytes(make_long(1, width=1000))
    os.utime(path, (1, 1))
    with pytest.raises(InputError, match=r"delete genome\.fa\.fai"):
        Genome(path)


def test_bgzip_of_many_blocks_is_compared_with_its_index(tmp_path: Path) -> None:
    texts = [make_long(seed, (300_000, 100_000)) for seed in (1, 2)]
    paths = [tmp_path / f"{number}.fa.gz" for number in range(2)]
    for path, text in zip(paths, texts, strict=True):
        with pysam.BGZFile(os.fspath(path), "wb") as stream:
            stream.write(text)
        Genome(path).close()
    with Genome(paths[0]) as genome:
        assert genome.chroms["a"] == 300_000
    # The same lengths and names; only the blocks lie elsewhere.
    Path(f"{paths[1]}.gzi").replace(f"{paths[0]}.gzi")
    with pytest.raises(InputError, match=r"delete 0\.fa\.gz\.fai and 0\.fa\.gz\.gzi"):
        Genome(paths[0])


@pytest.mark.parametrize("text", [b">a\nACGT\n>b\nGG\n>a x\nTTTT\n", b">a\nACGT\n>a\nTTTT\n>b\nGG\n"])
def test_contigs_of_one_name_are_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(InputError, match="two sequences named 'a'"):
        Genome(put(tmp_path, text))


def test_blank_lines_around_contigs_and_empty_contigs_do_no_harm(tmp_path: Path) -> None:
    with Genome(put(tmp_path, b"\n>a\nACGT\n\n>e\n>b\nGG\nTT\nA\n\n\n")) as genome:
        assert dict(genome.chroms) == {"a": 4, "b": 5}
        assert decode(genome.fetch("b", 0, 5)) == "GGTTA"


def test_the_end_of_a_line_among_the_bases_is_laid_on_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, make_long(1))
    Genome(path).close()
    path.write_bytes(make_long(1, width=50))
    os.utime(path, (1, 1))
    monkeypatch.setattr("ebox.sequences.genome.find_misfit", lambda *_, packed: None)
    with (
        Genome(path) as genome,
        pytest.raises(InputError, match=r"the end of a line among the bases of a(.|\n)*delete genome\.fa\.fai"),
    ):
        genome.fetch("a", 0, 900)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_that_cannot_be_written_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    path = put_bgzip(tmp_path) if packed else put(tmp_path, make_text())
    monkeypatch.setattr("ebox.sequences.genome.os.access", lambda *_: False)
    with Genome(path) as genome:
        np.testing.assert_array_equal(genome.fetch("chr2", 0, 61), CODES["chr2"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (gzip.compress(make_text(), mtime=0), "is plain gzip(.|\n)*gunzip -c genome.fa | bgzip > genome.fa.bgz"),
        (gzip.compress(make_text(), mtime=0)[:-9], "cut off"),
        (b"chr1\t1\t5\n", "is not FASTA"),
        (b"ACGT\n", "is not FASTA"),
        (b"\x00\x01", "is not FASTA"),
        (b">a\nACGT\nAC\nACGT\n", "have the same length"),
        (b"PK\x03\x04", "zip"),
        (b">a\rACGT\r>b\rAC\r", "line 1: ends its lines with carriage returns alone"),
        (b">a\nACGT\r>b\rAC\n", "line 2: ends its lines with carriage returns alone"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_bad_genomes_are_named_for_what_they_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], data: bytes, words: str
) -> None:
    path = put(tmp_path, data)
    with pytest.raises(InputError, match=words) as caught:
        Genome(path)
    assert str(path) in str(caught.value)
    assert "What to do" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert capfd.readouterr() == ("", "")


def test_letters_that_are_not_of_dna_are_refused(tmp_path: Path) -> None:
    with (
        Genome(put(tmp_path, b">a\nACGU\n")) as genome,
        pytest.raises(InputError, match=r"record 'a': letter 'U' at base 4(.|\n)*RNA"),
    ):
        genome.fetch("a", 2, 4)
    with (
        Genome(put(tmp_path, b">p\nMKVL\n", "p.fa")) as genome,
        pytest.raises(InputError, match="protein"),
    ):
        genome.fetch("p", 0, 4)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Genome(tmp_path / "no.fa")
    with pytest.raises(InputError, match="is a folder"):
        Genome(tmp_path)


@pytest.mark.real_data
def test_real_genome_agrees_with_its_text(real_data: Path, tmp_path: Path) -> None:
    packed = real_data / "genome" / "human_pieces.fa.gz"
    with pytest.raises(InputError, match="is plain gzip"):
        Genome(packed)
    path = put(tmp_path, gzip.decompress(packed.read_bytes()))
    whole = read_fasta(packed)
    starts = np.random.default_rng(0).integers(0, 2_333_275 - 200, 500)
    with Genome(path) as genome:
        assert genome.chroms["chr2"] == 2_333_275
        np.testing.assert_array_equal(genome.fetch("chr2", 0, 2_333_275), whole.record(0))
        windows = genome.fetch_windows(["chr2"] * len(starts), starts, 200)
    np.testing.assert_array_equal(windows, whole.record(0)[starts[:, None] + np.arange(200)])


@pytest.mark.parametrize("index", [b"chr1\t30\nbad", b"\xff\xfe"])
def test_a_damaged_index_is_to_be_deleted(tmp_path: Path, index: bytes) -> None:
    path = put(tmp_path, make_text())
    Path(f"{path}.fai").write_bytes(index)
    with pytest.raises(InputError, match=r"delete genome.fa.fai and try again"):
        Genome(path)
