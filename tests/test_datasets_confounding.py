"""What a quality report says where N, its place, GC, CpG or repeats tell the classes apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import Dataset
from ebox.datasets.reading import LENGTH as LENGTH_BP
from ebox.datasets.sources import DatasetSources
from ebox.reporting.languages.english import say
from ebox.sequences import decode, encode
from ebox.sequences.confounds import FEATURES, measure_confounds
from ebox.settings.reading import DataConfig

NUM, LENGTH = 400, 100


def draw(seed: int, shares: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)) -> np.ndarray:
    return np.random.default_rng(seed).choice(4, (NUM, LENGTH), p=shares).astype(np.uint8)


def build(folder: Path, positives: np.ndarray, negatives: np.ndarray, **settings: object) -> Dataset:
    for name, codes in (("positives", positives), ("negatives", negatives)):
        text = "".join(f">{name}{number}\n{decode(row)}\n" for number, row in enumerate(codes))
        (folder / f"{name}.fa").write_text(text)
    sources = DatasetSources(positives=folder / "positives.fa", negatives=(folder / "negatives.fa",))
    return build_dataset(DataConfig(**settings), folder / f"dataset {len(settings)}", sources)


def list_codes(dataset: Dataset) -> set[str]:
    return {warning["code"] for warning in dataset.quality["warnings"]}


def test_classes_of_one_law_are_not_warned_of_and_counted_by_kind(tmp_path: Path) -> None:
    positives, negatives = draw(0), draw(1)
    positives[:8, 40] = negatives[:6, 40] = 4
    quality = build(tmp_path, positives, negatives).quality
    assert quality["warnings"] == []
    counted = {kind: values["n"]["num_examples_with_n"] for kind, values in quality["kinds"].items()}
    assert counted == {"positive": 8, "negatives": 6} or counted == {"positive": 8, "given": 6}
    for kind, features in quality["confounds"].items():
        assert tuple(features) == (*FEATURES, LENGTH_BP)
        assert ("auroc" in features["n"]) == (kind != "positive")


def test_n_in_all_positives_is_warned_of_and_cropping_it_helps(tmp_path: Path) -> None:
    positives = draw(0)
    positives[:, -5:] = 4
    dataset = build(tmp_path, positives, draw(1))
    assert list_codes(dataset) == {"n_differs", "n_place_differs"}
    (told, *_) = [say(warning) for warning in dataset.quality["warnings"]]
    assert "N alone tells positives" in told
    assert "AUROC 1.00; N are 5.00% of the bases of positives, 0.00%" in told
    assert "data.length_bp" in told
    assert "max_n_fraction" not in told
    assert list_codes(build(tmp_path, positives, draw(1), length_bp=90)) == set()


def test_n_in_some_positives_is_warned_of_and_dropping_them_helps(tmp_path: Path) -> None:
    positives = draw(0)
    positives[:120, 30:35] = 4
    dataset = build(tmp_path, positives, draw(1))
    assert "n_differs" in list_codes(dataset)
    assert "--set data.max_n_fraction=0" in say(dataset.quality["warnings"][0])
    assert list_codes(build(tmp_path, positives, draw(1), max_n_fraction=0.0)) == set()


def test_the_place_of_n_is_told_where_both_have_as_much(tmp_path: Path) -> None:
    positives, negatives = draw(0), draw(1)
    positives[:, :5] = 4
    negatives[:, -5:] = 4
    assert list_codes(build(tmp_path, positives, negatives)) == {"n_place_differs"}


@pytest.mark.parametrize("code", ["gc_differs", "cpg_differs", "repeats_differ"])
def test_composition_that_tells_the_classes_apart_is_warned_of(tmp_path: Path, code: str) -> None:
    positives, negatives = draw(0), draw(1)
    if code == "gc_differs":
        positives = draw(0, (0.27, 0.23, 0.23, 0.27))
    elif code == "cpg_differs":
        # Every CG becomes GC: the composition stays.
        for row, place in zip(*np.nonzero((negatives[:, :-1] == 1) & (negatives[:, 1:] == 2)), strict=True):
            negatives[row, place : place + 2] = (2, 1)
    else:
        positives[: NUM // 2, 20:40] = np.tile(encode("ACGT"), 5)
    dataset = build(tmp_path, positives, negatives)
    assert code in list_codes(dataset)
    assert all("{" not in say(warning) for warning in dataset.quality["warnings"])


def _write_of(path: Path, rows: list[str]) -> Path:
    path.write_text("".join(f">{path.stem}{number}\n{row}\n" for number, row in enumerate(rows)))
    return path


def _cut(codes: np.ndarray, lengths: list[int]) -> list[str]:
    return [decode(row[:length]) for row, length in zip(codes, lengths, strict=True)]


def test_length_before_cutting_is_counted_by_kind_and_warned_of(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(80, 101, NUM).tolist()
    positives = _write_of(tmp_path / "p.fa", _cut(draw(0), [100] * NUM))
    short = _write_of(tmp_path / "short.fa", _cut(draw(1), [80] * NUM))
    long = _write_of(tmp_path / "long.fa", _cut(draw(2), [100] * NUM))
    mixed = _write_of(tmp_path / "mixed.fa", _cut(draw(3), lengths))
    sources = DatasetSources(positives=positives, negatives=(short, long, mixed))
    quality = build_dataset(DataConfig(length_bp=80), tmp_path / "out", sources).quality
    found = {kind: features[LENGTH_BP]["mean"] for kind, features in quality["confounds"].items()}
    assert found == {"positive": 100, "short": 80, "long": 100, "mixed": pytest.approx(np.mean(lengths), abs=1e-4)}
    told = {note["kind"]: say(note) for note in quality["warnings"] if note["code"] == "length_differs"}
    assert set(told) == {"short", "mixed"}
    assert "before they were cut to 80 bp (AUROC 1.00; mean 100 and 80 bp)" in told["short"]


def test_length_of_a_table_is_counted_by_label(tmp_path: Path) -> None:
    rows = [*((row, 1) for row in _cut(draw(0), [100] * NUM)), *((row, 0) for row in _cut(draw(1), [90] * NUM))]
    (tmp_path / "t.csv").write_text("sequence,label\n" + "".join(f"{row},{label}\n" for row, label in rows))
    dataset = build_dataset(DataConfig(), tmp_path / "out", DatasetSources(table=tmp_path / "t.csv"))
    assert dataset.quality["confounds"]["given"][LENGTH_BP] == {"mean": 90, "auroc": 1, "num": [NUM, NUM]}
    assert list_codes(dataset) == {"length_differs"}


def test_features_of_known_sequences() -> None:
    rows = ["A" * 20, "ACGT" * 5, "N" * 4 + "CG" * 8, "ACCTGAGCTTAAGCATGGTC"]
    found = measure_confounds(np.stack([encode(row) for row in rows]))
    np.testing.assert_allclose(found["n"], [0, 0, 0.2, 0])
    np.testing.assert_allclose(found["n_at_ends"], [0, 0, 0.5, 0])
    np.testing.assert_allclose(found["n_left"], [0, 0, 0.4, 0])
    np.testing.assert_allclose(found["gc"], [0, 0.5, 1.0, 0.5])
    np.testing.assert_allclose(found["cpg"], [0, 4.0 * 5 / 5, 2.0, 0])
    assert (found["repeats"][:3] > 0.3).all()
    assert found["repeats"][3] == 0
