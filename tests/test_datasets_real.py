"""Datasets of real data: the counts and the leakage that the README of the data states are found."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from ebox.datasets.build import build_dataset
from ebox.datasets.examples import make_examples
from ebox.datasets.folder import Dataset, open_dataset
from ebox.datasets.negatives import match_positives
from ebox.datasets.repeats import Repeats
from ebox.datasets.sources import DatasetSources
from ebox.sequences.fasta import read_fasta, write_fasta
from ebox.sequences.genome import Genome
from ebox.sequences.intervals import make_intervals
from ebox.settings.reading import DataConfig

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def tal1(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Bound against matched, and against open chromatin that no TAL1 set overlaps."""
    folder = tmp_path_factory.mktemp("tal1")
    chromatin = read_fasta(real_data / "tal1" / "open_chromatin_hsc.fa.gz")
    with gzip.open(real_data / "tal1" / "open_chromatin_hsc_labels.tsv.gz", "rt") as stream:
        columns = stream.readline().rstrip("\n").split("\t")
        labels = [line.rstrip("\n").split("\t")[columns.index("TAL1_any")] for line in stream]
    unbound = chromatin.take(np.flatnonzero(np.array(labels) == "0"))
    write_fasta(folder / "open.fa", unbound.names, unbound)
    return build_dataset(
        DataConfig(track="TAL1"),
        folder / "out",
        DatasetSources(
            positives=real_data / "tal1" / "bound.fa.gz",
            negatives=(
                real_data / "tal1" / "unbound_matched.fa.gz",
                folder / "open.fa",
            ),
            negative_names=("matched_genomic", "open_chromatin"),
        ),
    )


@pytest.mark.slow
def test_tal1_has_the_counts_of_its_sources(tal1: Dataset) -> None:
    quality = tal1.quality
    assert quality["kinds"]["positive"]["num_examples"] == 9356
    # One resembles a positive.
    assert quality["kinds"]["matched_genomic"]["num_examples"] == 52_983
    assert quality["dropped"]["near_positive"] >= 1
    assert [source["cropped"] for source in quality["sources"]][:2] == [0, 0]
    assert quality["sources"][2]["cropped"] == quality["sources"][2]["records"] > 8_000
    assert tal1.length_bp == 200
    assert len(open_dataset(tal1.path, "full")) == quality["num_examples"]


@pytest.mark.slow
def test_tal1_is_split_by_chromosome(tal1: Dataset) -> None:
    assert tal1.quality["split"]["mode"] == "chromosome"
    chrom = tal1.examples["chrom"]
    assert set(chrom[tal1.rows("test")].to_list()) == {"chr1", "chr8", "chr9"}
    assert set(chrom[tal1.rows("validation")].to_list()) == {"chr2", "chr10"}
    positives = [tal1.manifest["splits"][name]["num_positive"][0] for name in ("train", "validation", "test")]
    assert positives == [6373, 1148, 1835]
    for pair in tal1.quality["audit"]["between"]:
        assert pair["overlap"]["num_examples"] == 0
        assert pair["exact"]["num_examples"] == 0


@pytest.mark.parametrize(
    ("number", "repeats", "test_in_train"),
    [
        (3, 20, 1),
        *(pytest.param(*facts, marks=pytest.mark.slow) for facts in ((0, 8, 0), (1, 0, 1), (2, 185, 0), (4, 3789, 0))),
    ],
)
def test_the_known_repeats_of_gue_are_found(
    real_data: Path, tmp_path: Path, number: int, repeats: int, test_in_train: int
) -> None:
    names = {"train": "train", "validation": "dev", "test": "test"}
    files = {split: real_data / "gue" / f"tf{number}_{name}.csv.gz" for split, name in names.items()}
    dataset = build_dataset(DataConfig(), tmp_path / "out", DatasetSources(splits=files))
    audit = dataset.quality["audit"]
    assert dataset.quality["dropped"] == {}
    assert audit["within"]["train"]["exact"] == repeats
    pair = next(pair for pair in audit["between"] if (pair["of"], pair["in"]) == ("test", "train"))
    assert pair["exact"]["num_examples"] == test_in_train
    negatives = audit["shared_kmers"]["test"]["negative"]
    assert 0.13 <= negatives["num_sharing"] / negatives["num_checked"] <= 0.20
    if number == 4:
        positives = audit["shared_kmers"]["validation"]["positive"]
        assert round(positives["num_sharing"] / positives["num_checked"], 2) == 0.71


def test_peaks_on_a_piece_of_the_genome_get_matched_and_shuffled_negatives(real_data: Path, tmp_path: Path) -> None:
    genome = tmp_path / "pieces.fa"
    genome.write_bytes(gzip.decompress((real_data / "genome" / "human_pieces.fa.gz").read_bytes()))
    random = np.random.default_rng(0)
    lines = [f"chr2\t{start}\t{start + 300}\n" for start in random.integers(0, 2_332_000, 300).tolist()]
    with gzip.open(real_data / "tal1" / "GSM1067277_TAL1_erythroid.hg38.bed.gz", "rt") as stream:
        lines += [line for line in stream if line.startswith("chr2\t")][:200]
    (tmp_path / "peaks.bed").write_text("".join(lines))
    dataset = build_dataset(
        DataConfig(negatives=("matched", "shuffled"), split="random"),
        tmp_path / "out",
        DatasetSources(
            peaks=tmp_path / "peaks.bed", genome=genome, blacklist=real_data / "genome" / "hg38-blacklist.v2.bed.gz"
        ),
    )
    quality = dataset.quality
    num = quality["kinds"]["positive"]["num_examples"]
    assert num > 280
    # Of the real peaks on chromosome 2, one lies on the piece that is here.
    assert quality["dropped"]["off_contig"] == 199
    assert quality["made"] == {kind: {"wanted": num, "made": num} for kind in ("matched", "shuffled")}
    gc = [quality["kinds"][kind]["gc"]["mean"] for kind in ("positive", "matched", "shuffled")]
    assert max(gc) - min(gc) < 0.005
    assert all(pair["any"] == 0 for pair in quality["audit"]["between"])


@pytest.mark.parametrize("rich", [False, True])
def test_matched_negatives_of_real_dna_have_the_repeats_of_the_positives(
    real_data: Path, tmp_path: Path, rich: bool
) -> None:
    path = tmp_path / "pieces.fa"
    path.write_bytes(gzip.decompress((real_data / "genome" / "human_pieces.fa.gz").read_bytes()))
    with Genome(path) as genome:
        starts = np.arange(20_000, genome.chroms["chr2"] - 20_000, 1000)
        repeats = Repeats(genome)
        shares = repeats.find("chr2").measure(starts, 200)
        starts = starts[shares > 0.9 if rich else shares < 0.05][:400]
        places = make_intervals(["chr2"] * len(starts), starts, starts + 200)
        positives = make_examples(
            genome.fetch_windows(places.chrom, starts, 200),
            [""] * len(starts),
            target=1,
            kind=0,
            source=0,
            chrom=places.chrom,
            start=starts,
            end=starts + 200,
        )
        means = {}
        for is_matched in (False, True):
            config = DataConfig(min_peak_distance_bp=200)
            made = match_positives(
                positives, genome, [places], None, config, 1, 0, repeats=repeats if is_matched else None
            )
            assert len(made) == len(starts) == 400
            means[is_matched] = repeats.find("chr2").measure(made.start, 200).mean()
    wanted = np.mean(shares[shares > 0.9 if rich else shares < 0.05][:400])
    assert abs(means[True] - wanted) < 0.02
    assert abs(means[False] - wanted) > 0.25
