"""What a quality report says where N, its place, GC, CpG or repeats tell the classes apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import Dataset
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
        assert tuple(features) == FEATURES
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
