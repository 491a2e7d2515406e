"""Files as strangers have them: what is taken, what is said of it, and remedies that work when followed literally."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import processes
from ebox.datasets.build import build_dataset
from ebox.datasets.folder import Dataset
from ebox.datasets.sources import DatasetSources, is_places
from ebox.errors import InputError
from ebox.sequences import parse_location, read_fasta, read_places, write_fasta
from ebox.sequences.codes import decode, encode, reverse_complement
from ebox.settings.reading import DataConfig
from ebox.verbs.build import describe
from ebox.verbs.opening import open_query

SHUFFLED = DataConfig(negatives=("shuffled",))
CHROMS = ("chr1", "chr2", "chr3")


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    random = np.random.default_rng(7)
    write_fasta(path, list(CHROMS), random.integers(0, 4, (3, 12_000), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def contigs(genome: Path) -> dict[str, np.ndarray]:
    found = read_fasta(genome)
    return {name: found.record(row) for row, name in enumerate(found.names)}


def places(first: int, width: int = 400, step: int = 1000) -> list[tuple[str, int, int]]:
    return [(chrom, start, start + width) for chrom in CHROMS for start in range(first, 11_000, step)]


def put(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def put_bed(path: Path, rows: list[tuple[str, int, int]], after: str = "") -> Path:
    return put(path, [f"{chrom}\t{start}\t{end}{after}" for chrom, start, end in rows])


def put_fasta(path: Path, contigs: dict[str, np.ndarray], rows: list[tuple[str, int, int]], head: str) -> Path:
    """Sequences of places, on the strand that the header names."""
    lines = []
    for chrom, start, end in rows:
        name = head.format(chrom=chrom, bare=chrom[3:], start=start, first=start + 1, end=end)
        place = parse_location(name, end - start)
        codes = contigs[chrom][start:end]
        turned = place is not None and place.strand == "-"
        lines += [f">{name}", decode(reverse_complement(codes) if turned else codes)]
    return put(path, lines)


def codes_of(data: Dataset) -> list[str]:
    """What the build warns of, but that so small a dataset can't be measured."""
    codes = [warning["code"] for warning in data.quality["warnings"]]
    return [code for code in codes if code != "few_to_measure"]


def test_negatives_are_taken_as_places_with_a_genome(
    genome: Path, contigs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    peaks = put_bed(tmp_path / "peaks.bed", places(100))
    far = put(tmp_path / "far.bed", ["#c", *(f"{c}\t{s}\t{e}\tn\t.\t-\t.\t.\t.\t50" for c, s, e in places(600))])
    fasta = put_fasta(tmp_path / "open.fa", contigs, places(350, 200), "{chrom}:{start}-{end}")
    sources = DatasetSources(peaks=peaks, genome=genome, negatives=(far, fasta))
    data = build_dataset(DataConfig(length_bp=100), tmp_path / "d", sources)
    assert data.manifest["kinds"] == ["positive", "far.bed", "open"]
    table = data.examples.filter(data.examples["kind"] == "far.bed")
    assert len(table) == len(places(600))
    for row in range(len(data)):
        chrom, start, strand, kind = (data.examples[name][row] for name in ("chrom", "start", "strand", "kind"))
        window = contigs[chrom][start : start + 100]
        assert (data.codes[row] == (reverse_complement(window) if strand == "-" else window)).all()
        assert int(data.targets[row, 0]) == (kind == "positive")
        if kind == "far.bed":
            assert (chrom, start, start + 400) in [(c, s, s + 400) for c, s, _ in places(600)]
    by_source = {source["source"]: source for source in data.quality["sources"]}
    assert (by_source["far.bed"]["role"], by_source["far.bed"]["on_summits"]) == ("negatives", len(places(600)))
    assert (by_source["peaks.bed"]["on_summits"], by_source["peaks.bed"]["on_middles"]) == (0, len(places(100)))
    said = describe(data)
    assert f"{len(places(600))} windows of far.bed around summits, 0 around middles" in said


def test_negatives_keep_away_from_the_peaks_of_other_sets(
    genome: Path, contigs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    peaks, negatives = put_bed(tmp_path / "p.bed", places(100)), put_bed(tmp_path / "n.bed", places(600))
    # Another set has peaks on the negatives of chr1, on all positives, and on places of its own.
    others = [place for place in places(600) if place[0] == "chr1"] + places(100) + places(850, 50)
    sources = DatasetSources(
        peaks=peaks, genome=genome, negatives=(negatives,), avoid=(put_bed(tmp_path / "other.bed", others),)
    )
    config = DataConfig(
        length_bp=100, negatives=("given", "matched"), min_peak_distance_bp=20, split="random", gc_tolerance=0.5
    )
    data = build_dataset(config, tmp_path / "d", sources)
    assert data.quality["dropped"] == {"avoided": 11}
    assert data.quality["kinds"]["positive"]["num_examples"] == len(places(100))
    table = data.examples.filter(data.examples["kind"] != "positive")
    for chrom, start, kind in table.select("chrom", "start", "kind").iter_rows():
        least = 20 if kind == "matched" else 0
        near = [end - start for other, first, end in others if other == chrom and first < start + 100 + least]
        assert all(distance <= -least for distance in near)
    assert [source["role"] for source in data.manifest["sources"]].count("avoid") == 1
    with pytest.raises(InputError, match=r"shares no chromosome with the examples.*\n.*--avoid"):
        wrong = put_bed(tmp_path / "wrong.bed", [("1", 5, 50)])
        build_dataset(config, tmp_path / "e", replace(sources, avoid=(wrong,)))


def test_negatives_as_places_go_with_positives_as_sequences(
    genome: Path, contigs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    positives = put_fasta(tmp_path / "p.fa", contigs, places(100, 80), "{chrom}:{first}-{end}")
    negatives = put_bed(tmp_path / "n.bed", places(600))
    assert is_places(negatives)
    assert not is_places(positives)
    data = build_dataset(
        DataConfig(), tmp_path / "d", DatasetSources(positives=positives, negatives=(negatives,), genome=genome)
    )
    assert data.length_bp == 80
    assert data.quality["kinds"]["given"]["num_examples"] == len(places(600))
    with pytest.raises(InputError, match=r"n\.bed: holds places(.|\n)*--genome"):
        build_dataset(DataConfig(), tmp_path / "e", DatasetSources(positives=positives, negatives=(negatives,)))
    with pytest.raises(InputError, match=r"looks like BED(.|\n)*--peaks"):
        build_dataset(SHUFFLED, tmp_path / "e", DatasetSources(positives=negatives))


def test_summits_that_are_placeholders_are_told_of_and_middles_taken(genome: Path, tmp_path: Path) -> None:
    peaks = put_bed(tmp_path / "p.narrowPeak", places(100), "\tp\t0\t.\t1\t1\t1\t0")
    data = build_dataset(SHUFFLED, tmp_path / "d", DatasetSources(peaks=peaks, genome=genome))
    starts = data.examples.filter(data.examples["kind"] == "positive")["start"].to_list()
    assert set(starts) == {start + 100 for _, start, _ in places(100)}
    assert "zero_summits" in codes_of(data)
    assert "every summit in column 10 of p.narrowPeak is 0" in describe(data)


def test_the_split_that_was_taken_is_said_with_its_reason(
    genome: Path, contigs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    positives = put_fasta(tmp_path / "p.fa", contigs, places(100, 80), "{chrom}:{start}-{end}")
    said = {}
    for name, extra, setting in (
        ("all", "", "auto"),
        ("asked", "", "random"),
        ("some", f">odd one\n{'ACGGT' * 16}\n", "auto"),
    ):
        path = tmp_path / f"{name}.fa"
        path.write_text(positives.read_text() + extra)
        config = DataConfig(negatives=("shuffled",), split=setting)
        data = build_dataset(config, tmp_path / name, DatasetSources(positives=path))
        said[name] = (data.quality["split"]["mode"], data.quality["split"]["why"], codes_of(data), describe(data))
    assert said["all"][:3] == ("chromosome", "all_placed", [])
    assert "every example names its place" in said["all"][3]
    assert said["asked"][:3] == ("random", "asked", [])
    assert said["some"][:2] == ("random", "some_placed")
    assert "some_placed" in said["some"][2]
    assert (
        "the split is random and not by chromosome, since 1 of 68 examples name no place, the first of them 'odd one'"
        in (said["some"][3])
    )


def follow(error: InputError, old: Path, new: Path) -> None:
    """Do what the remedy says after its last colon, with the names of the files put in."""
    command = str(error.remedy).rpartition("as it does: ")[2].replace("OLD", str(old)).replace("NEW", str(new))
    processes.run(["bash", "-c", command])


def test_headers_of_another_naming_are_explained_and_renamed(
    genome: Path, contigs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    positives = put_fasta(tmp_path / "p.fa", contigs, places(100, 80), "{bare}:{start}-{end}")
    config = DataConfig(min_peak_distance_bp=50)
    with pytest.raises(InputError, match="headers say 1, 2, 3, the genome has chr1, chr2, chr3") as caught:
        build_dataset(config, tmp_path / "d", DatasetSources(positives=positives, genome=genome))
    follow(caught.value, positives, tmp_path / "new.fa")
    data = build_dataset(config, tmp_path / "d", DatasetSources(positives=tmp_path / "new.fa", genome=genome))
    assert codes_of(data) == []
    half = tmp_path / "half.fa"
    half.write_text((tmp_path / "new.fa").read_text().replace(">chr3", ">3"))
    with pytest.raises(InputError, match=r"no negatives .*11 records on chromosomes that the genome lacks, such as 3"):
        build_dataset(config, tmp_path / "h", DatasetSources(positives=half, genome=genome))
    half.write_text(re.sub(r">chr3:(\d)100", r">3:\g<1>100", (tmp_path / "new.fa").read_text()))
    data = build_dataset(config, tmp_path / "h", DatasetSources(positives=half, genome=genome))
    warning = next(each for each in data.quality["warnings"] if each["code"] == "unknown_chroms")
    assert (warning["num"], warning["of"], warning["chroms"]) == (9, 33, ["3"])


@pytest.mark.parametrize(
    ("shift", "strand", "differs"), [(0, "+", False), (0, "-", False), (0, ".", False), (37, "+", True), (0, "x", True)]
)
def test_records_that_are_not_the_genome_at_their_place_are_told_of(
    genome: Path, contigs: dict[str, np.ndarray], tmp_path: Path, shift: int, strand: str, differs: bool
) -> None:
    lines = []
    for chrom, start, end in places(100, 80):
        codes = contigs[chrom][start + shift : end + shift]
        mark = {"x": "", ".": ""}.get(strand, f"({strand})")
        lines += [f">{chrom}:{start}-{end}{mark}", decode(reverse_complement(codes) if strand in "-x" else codes)]
    sources = DatasetSources(positives=put(tmp_path / "p.fa", lines), genome=genome)
    data = build_dataset(DataConfig(min_peak_distance_bp=50), tmp_path / "d", sources)
    assert ("genome_differs" in codes_of(data)) is differs


def test_peaks_of_another_naming_are_renamed_by_the_remedy(genome: Path, tmp_path: Path) -> None:
    rows = [(chrom[3:], start, end) for chrom, start, end in places(100)]
    peaks = put_bed(tmp_path / "p.bed", rows)
    peaks.write_text("#c\ntrack name=x\n" + peaks.read_text())
    with pytest.raises(InputError, match="peaks say 1, 2, 3") as caught:
        build_dataset(SHUFFLED, tmp_path / "d", DatasetSources(peaks=peaks, genome=genome))
    follow(caught.value, peaks, tmp_path / "new.bed")
    data = build_dataset(SHUFFLED, tmp_path / "d", DatasetSources(peaks=tmp_path / "new.bed", genome=genome))
    assert data.quality["num_positive"] == len(rows)


@pytest.mark.parametrize(
    "head",
    [
        "hg38_dna range={chrom}:{first}-{end} 5'pad=0 3'pad=0 strand=- repeatMasking=none",
        "{chrom}:{first}-{end}:-",
        "{chrom}:{first}-{end}/rc",
    ],
)
def test_records_of_the_minus_strand_are_the_genome_at_their_place(
    contigs: dict[str, np.ndarray], tmp_path: Path, head: str
) -> None:
    positives = put_fasta(tmp_path / "p.fa", contigs, places(100, 80), head)
    data = build_dataset(
        DataConfig(negatives=("shuffled",), length_bp=71), tmp_path / "d", DatasetSources(positives=positives)
    )
    assert data.quality["split"]["mode"] == "chromosome"
    table = data.examples.filter(data.examples["kind"] == "positive")
    assert set(table["strand"]) == {"-"}
    for row in np.flatnonzero(data.kinds == "positive").tolist():
        chrom, start, end = (data.examples[name][row] for name in ("chrom", "start", "end"))
        assert (data.codes[row] == reverse_complement(contigs[chrom][start:end])).all()


def _variants(num: int, width: int = 120) -> list[str]:
    random = np.random.default_rng(5)
    element = random.integers(0, 4, width)
    found = np.repeat(element[None], num, axis=0)
    found[np.arange(num), np.arange(num) % width] += 1 + np.arange(num) // width
    return [decode((row % 4).astype(np.uint8)) for row in found]


def test_variants_of_one_element_are_named_and_split_by_the_remedy(tmp_path: Path) -> None:
    rows = [f"{text},{number % 3 == 0:d}" for number, text in enumerate(_variants(90))]
    table = put(tmp_path / "t.csv", ["sequence,label", *rows])
    with pytest.raises(InputError, match=r"all 90 sequences are one cluster(.|\n)*max_similarity=1 ") as caught:
        build_dataset(DataConfig(), tmp_path / "d", DatasetSources(table=table))
    assert "split_fractions" not in str(caught.value)
    data = build_dataset(DataConfig(max_similarity=1.0), tmp_path / "d", DatasetSources(table=table))
    assert "leak_kmers" in codes_of(data)


def test_overlapping_windows_of_one_locus_are_not_told_to_loosen_the_likeness(
    contigs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    rows = [("chr1", start, start + 100) for start in range(0, 4000, 40)]
    positives = put_fasta(tmp_path / "p.fa", contigs, rows, "{chrom}:{start}-{end}")
    config = DataConfig(negatives=("shuffled",), split="random")
    with pytest.raises(InputError, match=r"one cluster(.|\n)*other loci") as caught:
        build_dataset(config, tmp_path / "d", DatasetSources(positives=positives))
    assert "max_similarity" not in str(caught.value)


@pytest.mark.parametrize("short", [0, 1])
def test_a_class_of_a_table_that_is_shorter_is_named_and_not_dropped_as_a_whole(tmp_path: Path, short: int) -> None:
    random = np.random.default_rng(9)
    sizes = [(1 - short, 100)] * 400 + [(short, 80)] * 16
    rows = [f"{decode(random.integers(0, 4, length, dtype=np.uint8))},{label}\n" for label, length in sizes]
    (tmp_path / "t.csv").write_text("sequence,label\n" + "".join(rows))
    sources = DatasetSources(table=tmp_path / "t.csv")
    name = ("negatives", "positives")[short]
    with pytest.raises(InputError, match=rf"16 of its 16 {name} are shorter(.|\n)*--length 80 takes the central 80 bp"):
        build_dataset(DataConfig(), tmp_path / "d", sources)
    assert len(build_dataset(DataConfig(length_bp=80), tmp_path / "d", sources)) == 416


def test_shorter_negatives_are_named_with_the_length_that_works(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    positives, negatives = tmp_path / "p.fa", tmp_path / "n.fa"
    write_fasta(positives, [f"p{row}" for row in range(40)], random.integers(0, 4, (40, 100), dtype=np.uint8))
    write_fasta(negatives, [f"n{row}" for row in range(40)], random.integers(0, 4, (40, 80), dtype=np.uint8))
    sources = DatasetSources(positives=positives, negatives=(negatives,))
    for config, words in (
        (DataConfig(), r"n\.fa: 40 of its 40 negatives are shorter"),
        (DataConfig(length_bp=100), "no negatives"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            build_dataset(config, tmp_path / "d", sources)
        length = re.match(r"--length (\d+) ", str(caught.value.remedy))
        assert length is not None
        data = build_dataset(DataConfig(length_bp=int(length[1])), tmp_path / words[:3], sources)
        assert (data.length_bp, len(data)) == (80, 80)


def test_places_give_the_sequences_that_bedtools_would(
    genome: Path, contigs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    bed = put(
        tmp_path / "p.bed", ["#c", "chr1\t5\t25\ta b\t.\t-", "chr2\t0\t7\t.\t.\t+", "chr3\t11990\t12000\tz\t.\t."]
    )
    found = read_places(bed, genome)
    assert found.names == ["a_b::chr1:5-25(-)", "chr2:0-7(+)", "z::chr3:11990-12000(.)"]
    assert (found.record(0) == reverse_complement(contigs["chr1"][5:25])).all()
    assert (found.record(1) == contigs["chr2"][:7]).all()
    assert found.lines.tolist() == [2, 3, 4]
    assert [parse_location(name, len(found.record(row))) for row, name in enumerate(found.names)] == [
        ("chr1", 5, 25, "-"),
        ("chr2", 0, 7, "+"),
        ("chr3", 11990, 12000, "."),
    ]
    assert encode("ACGT").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("chr9\t5\t9", "line 2: chr9:5-9: has no chromosome 'chr9'"),
        ("chr1\t11999\t12001", "line 2: (.|\n)*not within chr1"),
    ],
)
def test_a_place_off_the_genome_is_named_by_its_line(genome: Path, tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_places(put(tmp_path / "p.bed", ["chr1\t5\t9", line]), genome)


def test_what_is_asked_about_goes_together(genome: Path, tmp_path: Path) -> None:
    bed = put(tmp_path / "p.bed", ["chr1\t5\t9"])
    assert len(open_query(None, bed, genome)) == 1
    assert len(open_query(genome, None, None)) == 3
    for given, words in (
        ((None, None, None), "there are no sequences(.|\n)*--bed"),
        ((None, bed, None), "p.bed: places need a genome(.|\n)*--genome"),
        ((genome, None, genome), "no places on it(.|\n)*--bed"),
        ((genome, bed, genome), "can't be combined"),
        ((bed, None, None), "looks like BED(.|\n)*--bed"),
    ):
        with pytest.raises(InputError, match=words):
            open_query(*given)
