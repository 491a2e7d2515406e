"""The demo: the real loci that ship with ebox are what their README says, and the network finds the known motif."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import processes
from demo_pictures import draw_motif, draw_roc
from ebox.datasets import demo_loci
from ebox.datasets.demo_loci import BOUND, UNBOUND, make_demo_loci, open_demo_loci
from ebox.datasets.folder import open_dataset
from ebox.datasets.kmers import long_kmer_hashes
from ebox.errors import InputError
from ebox.explanation.filters import FilterMotif, Resemblance, read_filters
from ebox.sequences.fasta import parse_locations, read_fasta
from ebox.sequences.intervals import overlaps_any
from ebox.sequences.places import Intervals
from ebox.sequences.records import SequenceSet
from ebox.settings.reading import DataConfig
from ebox.verbs import demo as verb
from ebox.verbs.demo import demo, demo_simulation

ROOT = Path(__file__).parents[1]
DATA = Path(demo_loci.__file__).parent / "data"


def _read(name: str) -> tuple[SequenceSet, Intervals]:
    loci = read_fasta(DATA / name)
    places = parse_locations(loci)
    assert places is not None
    return loci, places


def _gc(loci: SequenceSet) -> np.ndarray:
    codes = loci.matrix(200)
    return ((codes == 1) | (codes == 2)).mean(axis=1)


def test_the_loci_are_as_many_as_their_readme_says_and_small():
    (bound, bound_places), (unbound, unbound_places) = _read(BOUND), _read(UNBOUND)
    assert (len(bound), len(unbound)) == (2000, 4000)
    config = DataConfig()
    for chroms, numbers in ((config.test_chroms, (392, 784)), (config.validation_chroms, (240, 480))):
        assert tuple(int(np.isin(each.chrom, chroms).sum()) for each in (bound_places, unbound_places)) == numbers
        assert f"({numbers[0]} bound, {numbers[1]} unbound)" in (DATA / "README.txt").read_text()
    experiments = Counter(name.split()[1] for name in bound.names)
    assert experiments == {"experiment=GSM614004": 1496, "experiment=GSM614003": 504}
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 600_000


def test_the_unbound_loci_are_matched_and_lie_on_no_bound_one():
    (bound, bound_places), (unbound, unbound_places) = _read(BOUND), _read(UNBOUND)
    assert abs(float(_gc(bound).mean() - _gc(unbound).mean())) < 0.005
    of_bound, of_unbound = Counter(bound_places.chrom.tolist()), Counter(unbound_places.chrom.tolist())
    assert of_unbound == {chrom: 2 * count for chrom, count in of_bound.items()}
    assert not overlaps_any(unbound_places, bound_places).any()


def test_no_two_loci_share_eighteen_bases_on_either_strand():
    codes = np.concatenate([_read(name)[0].matrix(200) for name in (BOUND, UNBOUND)])
    assert (codes < 4).all()
    words = [set(row) for row in long_kmer_hashes(codes, 18).tolist()]
    assert len(set().union(*words)) == sum(map(len, words))


def _write_pieces(path: Path, files: Iterable[Path]) -> None:
    """The sequences of FASTA files as contigs named by their places."""
    lines = dict[str, str]()
    for file in files:
        text = gzip.decompress(file.read_bytes()).decode().splitlines()
        lines |= {header.split()[0]: sequence for header, sequence in zip(text[::2], text[1::2], strict=True)}
    path.write_text("".join(f"{name}\n{sequence}\n" for name, sequence in lines.items()))


def _same(folder: Path) -> bool:
    return all((folder / name).read_bytes() == (DATA / name).read_bytes() for name in (BOUND, UNBOUND))


def test_the_shipped_places_and_a_genome_give_the_same_bytes(tmp_path: Path):
    _write_pieces(tmp_path / "pieces.fa", (DATA / BOUND, DATA / UNBOUND))
    make_demo_loci(tmp_path / "pieces.fa", tmp_path)
    assert _same(tmp_path)


def test_another_genome_is_refused(tmp_path: Path):
    _write_pieces(tmp_path / "pieces.fa", (DATA / BOUND, DATA / UNBOUND))
    text = (tmp_path / "pieces.fa").read_text()
    name, sequence = text.splitlines()[:2]
    (tmp_path / "pieces.fa").write_text(text.replace(sequence, sequence[::-1], 1))
    with pytest.raises(InputError, match=f"{name[1:]}.*differs from the shipped sequence at 1 of 2,000 places"):
        demo_loci.main([str(tmp_path / "pieces.fa"), str(tmp_path)])
    assert not (tmp_path / BOUND).exists()


def test_the_program_takes_both_files_of_candidates_or_none(tmp_path: Path):
    with pytest.raises(InputError, match="only one file of candidates"):
        make_demo_loci(tmp_path / "genome.fa", tmp_path, tmp_path / "bound.bed")
    done = processes.run(
        processes.python("import runpy; runpy.run_module('ebox.datasets.demo_loci', run_name='__main__')"), ends=2
    )
    assert "2 or 4 paths are needed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.real_data
def test_the_rule_chooses_the_shipped_loci_from_all_candidates(real_data: Path, tmp_path: Path):
    files = [real_data / "tal1" / name for name in ("bound.fa.gz", "unbound_matched.fa.gz")]
    _write_pieces(tmp_path / "pieces.fa", files)
    for name, file in zip(("bound.bed", "unbound.bed"), files, strict=True):
        with (tmp_path / name).open("w") as stream:
            for header in read_fasta(file).names:
                place, source, *rest = header.split()
                if name == "unbound.bed" or source.startswith("source=palii2011_"):
                    chrom, _, span = place.partition(":")
                    more = [source.rpartition("_")[2], rest[1].removeprefix("score=")] if rest else []
                    stream.write("\t".join([chrom, *span.split("-"), *more]) + "\n")
    make_demo_loci(tmp_path / "pieces.fa", tmp_path, tmp_path / "bound.bed", tmp_path / "unbound.bed")
    assert _same(tmp_path)


def test_places_on_whole_chromosomes_are_cut_from_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 5000))
    (tmp_path / "genome.fa").write_text(f">chr1\n{letters}\n")
    (tmp_path / "bound.bed").write_text("chr1\t300\t500\tA\t9\nchr1\t1000\t1200\tA\t8\nchr1\t1010\t1210\tA\t7\n")
    (tmp_path / "unbound.bed").write_text(
        "".join(f"chr1\t{start}\t{start + 200}\n" for start in range(1300, 4800, 200))
    )
    monkeypatch.setattr(demo_loci, "NUM_BOUND", 2)
    monkeypatch.setattr(demo_loci, "GC_STEP", 1.1)
    make_demo_loci(tmp_path / "genome.fa", tmp_path, tmp_path / "bound.bed", tmp_path / "unbound.bed")
    bound, unbound = read_fasta(tmp_path / BOUND), read_fasta(tmp_path / UNBOUND)
    assert bound.names == ["chr1:300-500 experiment=A score=9", "chr1:1000-1200 experiment=A score=8"]
    assert len(unbound) == 4
    text = gzip.decompress((tmp_path / BOUND).read_bytes()).decode().splitlines()
    assert text[3] == letters[1000:1200]


def test_candidates_without_scores_or_too_few_of_them_are_refused(tmp_path: Path):
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 5000))
    (tmp_path / "genome.fa").write_text(f">chr1\n{letters}\n")
    (tmp_path / "bound.bed").write_text("chr1\t300\t500\n")
    (tmp_path / "unbound.bed").write_text("chr1\t1300\t1500\n")
    with pytest.raises(InputError, match="lacks the experiment or the score"):
        make_demo_loci(tmp_path / "genome.fa", tmp_path, tmp_path / "bound.bed", tmp_path / "unbound.bed")
    (tmp_path / "bound.bed").write_text("chr1\t300\t500\tA\t9\n")
    with pytest.raises(InputError, match="too few"):
        make_demo_loci(tmp_path / "genome.fa", tmp_path, tmp_path / "bound.bed", tmp_path / "unbound.bed")
    assert not (tmp_path / BOUND).exists()


def test_the_loci_are_the_sources_of_a_dataset():
    with open_demo_loci() as sources:
        assert sources.positives == DATA / BOUND
        assert sources.negatives == (DATA / UNBOUND,)


def test_the_simulated_demo_is_a_task_with_a_known_ceiling():
    config = demo_simulation()
    assert config.num_positives >= 1000
    assert len(config.motifs) == 2


def _run_folder(folder: Path, positives: str) -> Path:
    folder.mkdir()
    (folder / "request.json").write_text(json.dumps({"files": {"positives": [positives, 1, 1.0]}}))
    return folder


def test_a_demo_replaces_only_a_demo(tmp_path: Path):
    for name, positives in (("real", f"/somewhere/{BOUND}"), ("simulated", "/elsewhere/simulation/positives.fa")):
        verb._check_demo_folder(_run_folder(tmp_path / name, positives))
    mine = _run_folder(tmp_path / "mine", "/data/bound.fa")
    with pytest.raises(InputError, match=r"mine: holds request\.json, which no demo made"):
        demo(mine)
    assert [path.name for path in mine.iterdir()] == ["request.json"]


def test_a_real_demo_after_a_simulated_one_leaves_nothing_of_that(tmp_path: Path):
    folder = _run_folder(tmp_path / "demo", "/elsewhere/simulation/positives.fa")
    (folder / "simulation").mkdir()
    (folder / "simulation.json").write_text("{}")

    def stop(stage: str) -> None:
        if stage == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo(folder, on_stage=stop)
    assert sorted(path.name for path in folder.iterdir()) == ["dataset", "request.json"]
    quality = open_dataset(folder / "dataset").quality
    assert (quality["num_examples"], quality["num_positive"]) == (6000, 2000)
    assert quality["split"]["mode"] == "chromosome"
    assert quality["dropped"] == {}
    for pair in quality["audit"]["between"]:
        assert not any(pair[kind]["num_examples"] for kind in ("exact", "reverse_complement", "overlap", "similar"))


def _filter(text: str, like: Resemblance | None) -> FilterMotif:
    matrix = np.eye(4)[["ACGT".index(letter) for letter in text]]
    return FilterMotif(3, matrix, 100, 0.8, 0.2, 1.0, like)


@pytest.mark.parametrize(
    ("strand", "offset", "known"), [("+", 2, "  CTAATCT"), ("-", -3, "AGATTAG"), ("-", 0, "AGATTAG")]
)
def test_the_motif_found_stands_above_the_known_one_base_for_base(strand: str, offset: int, known: str):
    like = Resemblance("MA0035.5", "GATA1", 0.9, 6, strand, offset)
    _, found, below = verb._describe_motifs(verb.choose_finds([_filter("TTTTTTTT", None), _filter("ACGTACGTAC", like)]))
    shift = " " * max(0, -offset)
    assert found.startswith(f"  filter 3   {shift}ACGTACGTAC ")
    assert found.endswith("in 80 % of positives, in 20 % of negatives")
    assert below.startswith(f"  known      {known} ")
    assert below.endswith(f"GATA1 (MA0035.5 of JASPAR{', other strand' if strand == '-' else ''}), correlation 0.90")


def test_one_filter_is_shown_for_each_known_motif_and_none_that_is_like_nothing():
    likes = [None, *(Resemblance(name, name, 0.9, 6, "+", 0) for name in ("A", "A", "B", "C", "D", "E"))]
    filters = [replace(_filter("ACGTACGTAC", like), index=number) for number, like in enumerate(likes)]
    assert [motif.index for motif in verb.choose_finds(filters)] == [1, 3, 4, 5]
    assert verb._describe_motifs(verb.choose_finds(filters[:1])) == [
        "No filter of the network is like a motif that ebox carries."
    ]


@pytest.mark.slow
def test_the_demo_on_real_loci_beats_the_baselines_and_finds_the_composite_motif(tmp_path: Path):
    done = processes.run(processes.ebox("demo"), cwd=tmp_path, seconds=600.0)
    folder = tmp_path / "runs" / "demo"
    track = json.loads((folder / "evaluation.json").read_text())["tracks"][0]
    auroc = track["splits"]["test"]["metrics"]["auroc"]
    baselines = {
        name: entry["splits"]["test"]["metrics"]["auroc"]["value"] for name, entry in track["baselines"].items()
    }
    assert auroc["low"] > 0.9
    assert auroc["value"] > baselines["kmer_logistic"] + 0.005
    assert auroc["low"] > max(baselines["gc_logistic"], baselines["best_pwm"])
    stated = re.search(r"AUROC (0\.\d+) \(", (ROOT / "README.md").read_text())
    assert stated is not None
    assert auroc["value"] == pytest.approx(float(stated[1]), abs=0.01)
    assert 0.45 < baselines["gc_logistic"] < 0.55
    like = verb.choose_finds(read_filters(folder))[0].resembles
    assert like is not None
    assert like.name.upper() == "GATA1::TAL1"
    assert like.correlation > 0.9
    assert "GEO GSE25000" in done.stdout
    assert f"{like.name} ({like.id} of JASPAR" in done.stdout
    assert "Logo of filter" in (folder / "report.html").read_text()
    assert not (folder / "simulation.json").exists()
    for svg in (draw_motif(folder), draw_roc((folder / "report.html").read_text())):
        ElementTree.fromstring(svg)
