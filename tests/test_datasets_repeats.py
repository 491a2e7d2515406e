"""Matched negatives that take the share of repeats of the positives, from lower-case letters or a BED file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import Dataset
from ebox.datasets.repeats import RepeatRanges
from ebox.datasets.sources import DatasetSources
from ebox.errors import InputError
from ebox.evaluation.protocol import evaluate
from ebox.reporting.languages.english import say
from ebox.sequences.genome import Genome
from ebox.settings.reading import DataConfig, EvaluationConfig
from ebox.verbs.build import describe

SIZE, LENGTH, REPEAT = 120_000, 100, 300
CHROMS = ("chr1", "chr2", "chr3")


def _is_repeat() -> dict[str, np.ndarray]:
    """A fifth of each chromosome, in pieces of 300 bp."""
    masks = {}
    for number, name in enumerate(CHROMS):
        masks[name] = np.zeros(SIZE, bool)
        for start in np.random.default_rng(number).choice(SIZE // REPEAT, SIZE // REPEAT // 5, replace=False) * REPEAT:
            masks[name][start : start + REPEAT] = True
    return masks


def _write(folder: Path, *, masked: str = "some") -> dict[str, Path]:
    """A genome, peaks of which four of five lie within repeats, and the repeats as BED."""
    masks, text, peaks, regions = _is_repeat(), [], [], []
    for number, (name, mask) in enumerate(masks.items()):
        rng = np.random.default_rng(100 + number)
        letters = rng.choice(np.frombuffer(b"ACGT", np.uint8), SIZE)
        lower = {"some": mask, "none": np.zeros(SIZE, bool), "all": np.ones(SIZE, bool)}[masked]
        text.append(f">{name}\n{np.where(lower, letters + 32, letters).astype(np.uint8).tobytes().decode()}\n")
        inside = np.flatnonzero(mask[: -2 * REPEAT] & (np.arange(SIZE - 2 * REPEAT) % REPEAT == 0))
        starts = np.concatenate([rng.choice(inside, 32, replace=False) + 100, rng.integers(0, SIZE - LENGTH, 8)])
        peaks += [f"{name}\t{start}\t{start + LENGTH}\n" for start in sorted(set(starts.tolist()))]
        begins = np.flatnonzero(np.diff(mask, prepend=False) & mask)
        regions += [f"{name}\t{at}\t{at + REPEAT}\n" for at in begins]
        regions += [f"{name}\t{at}\t{at + REPEAT}\n" for at in np.flatnonzero(mask)[::REPEAT]]
    for file, lines in (("genome.fa", text), ("peaks.bed", peaks), ("repeats.bed", regions)):
        (folder / file).write_text("".join(lines))
    return {name: folder / file for name, file in (("genome", "genome.fa"), ("peaks", "peaks.bed"))}


def _build(out: Path, files: dict[str, Path], **settings: Any) -> Dataset:
    config = DataConfig(
        length_bp=LENGTH, min_peak_distance_bp=0, validation_chroms=("chr2",), test_chroms=("chr3",), **settings
    )
    return build_dataset(config, out, DatasetSources(**files))


def _shares(dataset: Dataset) -> tuple[float, float]:
    """The share of repeats of the positives and of the matched negatives, counted from the mask itself."""
    masks, table = _is_repeat(), dataset.examples
    rows = zip(table["kind"], table["chrom"], table["start"], strict=True)
    found = [(kind, masks[chrom][start : start + LENGTH].mean()) for kind, chrom, start in rows]
    return tuple(float(np.mean([share for each, share in found if each == kind])) for kind in ("positive", "matched"))


@pytest.mark.parametrize("known_from", ["letters", "file"])
def test_matched_negatives_have_the_repeats_of_the_positives(tmp_path: Path, known_from: str):
    files = _write(tmp_path, masked="some" if known_from == "letters" else "none")
    if known_from == "file":
        files["repeats"] = tmp_path / "repeats.bed"
    dataset = _build(tmp_path / "out", files, match_repeats=True if known_from == "letters" else None)
    of_positives, of_matched = _shares(dataset)
    assert of_positives > 0.6
    assert abs(of_matched - of_positives) < 0.05
    made, confounds = dataset.quality["made"]["matched"], dataset.quality["confounds"]
    assert made["made"] == made["wanted"]
    assert made["repeats"]["known_from"] == known_from
    assert abs(made["repeats"]["by_gc_alone"] - 0.2) < 0.05
    assert confounds["positive"]["masked"]["mean"] == pytest.approx(of_positives, abs=1e-4)
    assert confounds["matched"]["masked"]["mean"] == pytest.approx(of_matched, abs=1e-4)
    assert 0.4 < confounds["matched"]["masked"]["auroc"] < 0.6
    assert not [warning for warning in dataset.quality["warnings"] if warning["code"] == "masked_differs"]
    told = (
        f"repeats: {of_positives:.1%} of the bases of positives, {of_matched:.1%} of matched negatives (matched by GC"
    )
    assert told in describe(dataset)
    table = dataset.examples
    by_place = zip(table["chrom"], table["start"], strict=True)
    shares = [_is_repeat()[chrom][start : start + LENGTH].mean() for chrom, start in by_place]
    np.testing.assert_allclose(table["masked"].to_numpy(), shares, atol=1e-6)


def test_without_the_setting_repeats_tell_the_classes_apart_and_the_remedy_is_named(tmp_path: Path):
    dataset = _build(tmp_path / "out", _write(tmp_path))
    of_positives, of_matched = _shares(dataset)
    assert of_positives - of_matched > 0.4
    (told,) = [say(each) for each in dataset.quality["warnings"] if each["code"] == "masked_differs"]
    assert told.endswith("--match-repeats takes negatives with as many")
    assert "repeats" not in dataset.quality["made"]["matched"]


def test_repeats_of_the_genome_are_a_baseline_where_they_are_known_of_all(tmp_path: Path):
    config = EvaluationConfig(baselines=("confound_logistic",), num_bootstrap=100)
    found = []
    for name, kinds in (("matched", ("matched",)), ("both", ("matched", "shuffled"))):
        dataset = _build(tmp_path / name, _write(tmp_path), negatives=kinds)
        shares = dataset.examples.filter(pl.col("kind") == "shuffled")["masked"]
        assert shares.is_null().all()
        logits = np.zeros((len(dataset), 1), np.float32)
        found.append(evaluate(dataset, logits, config)["tracks"][0]["baselines"]["confound_logistic"])
    known, unknown = found
    assert known["splits"]["test"]["metrics"]["auroc"]["value"] > 0.8
    assert "tandem repeats, repeats of the genome" in say(known["description"])
    # Of shuffled sequences nothing is known, and letters drawn at random tell no class.
    assert unknown["description"]["masked"] is False
    assert unknown["splits"]["test"]["metrics"]["auroc"]["value"] < 0.7


def test_repeats_of_a_file_may_be_measured_and_not_matched(tmp_path: Path):
    files = _write(tmp_path, masked="none") | {"repeats": tmp_path / "repeats.bed"}
    dataset = _build(tmp_path / "out", files, match_repeats=False)
    assert dataset.quality["confounds"]["matched"]["masked"]["mean"] == pytest.approx(_shares(dataset)[1], abs=1e-4)
    unmasked = _build(tmp_path / "unmasked", _write(tmp_path, masked="none"))
    assert "masked" not in unmasked.quality["confounds"]["positive"]
    assert unmasked.fingerprint != dataset.fingerprint
    np.testing.assert_array_equal(unmasked.codes, dataset.codes)


def test_what_falls_short_is_counted_and_said_with_its_repeats(tmp_path: Path):
    dataset = _build(tmp_path / "out", _write(tmp_path), match_repeats=True, negative_ratio=5.0)
    made = dataset.quality["made"]["matched"]
    assert made["made"] < made["wanted"]
    (told,) = [say(each) for each in dataset.quality["warnings"] if each["code"] == "few_made"]
    assert told.startswith(f"{made['made']:,} matched negatives made, {made['wanted']:,} wanted: those of some")
    assert "share of repeats: mean" in told
    alone = _build(tmp_path / "alone", _write(tmp_path), negative_ratio=30.0)
    (told,) = [say(each) for each in alone.quality["warnings"] if each["code"] == "few_made"]
    assert "repeats" not in told


def test_repeats_that_are_not_known_are_refused_with_a_remedy(tmp_path: Path):
    cases = [
        ("none", None, r"genome.fa: has no lower-case letters(.|\n)*cut -f6-8"),
        ("all", None, r"genome.fa: has no upper-case letters(.|\n)*--repeats"),
        ("none", "1\t0\t300\n", r"repeats.bed: shares no chromosome with the positives: it has 1(.|\n)*sed -E '"),
        ("none", f"chr1\t0\t9\nchr2\t5\t{SIZE + 1}\n", r"repeats.bed, line 2: chr2 ends at 120,000(.|\n)*of the build"),
        ("none", "585\t1504\t13\t4\t13\tchr1\t10\t468\t-9\t+\tAAC\n", r"rmsk.txt of UCSC(.|\n)*cut -f6-8"),
    ]
    for masked, regions, problem in cases:
        files = _write(tmp_path, masked=masked)
        if regions is not None:
            (tmp_path / "repeats.bed").write_text(regions)
            files["repeats"] = tmp_path / "repeats.bed"
        with pytest.raises(InputError, match=problem):
            _build(tmp_path / "out", files, match_repeats=True)
        assert not (tmp_path / "out").exists()


def test_repeats_without_matched_negatives_are_refused(tmp_path: Path):
    files = _write(tmp_path)
    for settings, more in (({"match_repeats": True}, {}), ({}, {"repeats": tmp_path / "repeats.bed"})):
        with pytest.raises(InputError, match=r"no matched negatives are made(.|\n)*--negative-kinds"):
            _build(tmp_path / "out", files | more, negatives=("shuffled",), **settings)


def test_a_chromosome_without_repeats_is_told(tmp_path: Path):
    files = _write(tmp_path, masked="none") | {"repeats": tmp_path / "repeats.bed"}
    lines = (tmp_path / "repeats.bed").read_text().splitlines(keepends=True)
    (tmp_path / "repeats.bed").write_text("".join(line for line in lines if not line.startswith("chr3")))
    (told,) = [w for w in _build(tmp_path / "out", files).quality["warnings"] if w["code"] == "no_repeats"]
    assert (told["chroms"], told["of"] // told["num"]) == (["chr3"], 3)
    assert "repeats.bed has no repeats on chromosomes with" in say(told)


def test_shares_of_windows_are_those_of_the_bases():
    rng = np.random.default_rng(0)
    mask = rng.random(500) < 0.5
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    ranges = RepeatRanges(edges[::2], edges[1::2])
    starts = np.arange(460)
    expected = np.lib.stride_tricks.sliding_window_view(mask, 40)[:460].mean(axis=1)
    np.testing.assert_allclose(ranges.measure(starts, 40), expected, atol=1e-6)
    empty = np.empty(0, np.int64)
    assert not RepeatRanges(empty, empty).measure(starts, 40).any()


@pytest.mark.parametrize("block", [7, 1 << 24])
def test_lower_case_is_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int):
    monkeypatch.setattr("ebox.sequences.genome._FETCH_BP", block)
    (tmp_path / "g.fa").write_text(">a\nACgtnNNacgTTTTacgtacgtac\n>b\nacgt\n>c\nACGT\n")
    with Genome(tmp_path / "g.fa") as genome:
        found = {name: [each.tolist() for each in genome.find_lower_case(name)] for name in "abc"}
        assert found == {"a": [[2, 7, 14], [5, 10, 24]], "b": [[0], [4]], "c": [[], []]}
        assert genome.count_cases("a") == (15, 6)
