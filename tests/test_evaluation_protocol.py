from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

from ebox.datasets.folder import EXAMPLE_COLUMNS, Dataset
from ebox.errors import InputError
from ebox.evaluation.metrics import METRIC_NAMES, compute_metrics
from ebox.evaluation.protocol import evaluate, gather_motifs
from ebox.evaluation.thresholds import choose_threshold
from ebox.reporting.languages.english import say
from ebox.settings.reading import DataConfig, EvaluationConfig

CONFIG = EvaluationConfig(num_bootstrap=100, baselines=("gc_logistic", "kmer_logistic"), kmer=4)
SIZES = {"train": 400, "validation": 200, "test": 300}
MEME = """MEME version 4

ALPHABET= ACGT

MOTIF ebox
letter-probability matrix: alength= 4 w= 6 nsites= 20 E= 0
 0.05 0.85 0.05 0.05
 0.85 0.05 0.05 0.05
 0.05 0.05 0.85 0.05
 0.05 0.85 0.05 0.05
 0.05 0.05 0.05 0.85
 0.05 0.05 0.85 0.05
"""


def make_dataset(
    folder: Path, targets: np.ndarray, kinds: list[str], codes: np.ndarray, sizes: dict[str, int] = SIZES
) -> Dataset:
    """A dataset as `open_dataset` gives it, with as much of a folder as evaluation reads."""
    starts = np.cumsum([0, *sizes.values()])
    splits = {
        name: {"start": int(start), "stop": int(start + size)}
        for (name, size), start in zip(sizes.items(), starts, strict=False)
    }
    tracks = [f"track{index}" for index in range(targets.shape[1])]
    table = {name: [None] * len(kinds) for name in EXAMPLE_COLUMNS} | {
        "kind": kinds,
        "cluster": list(range(len(kinds))),
    }
    polars.DataFrame(table).write_parquet(folder / "examples.parquet")
    manifest = {"tracks": tracks, "splits": splits, "fingerprint": "abc", "num_examples": len(kinds)}
    return Dataset(folder, manifest, DataConfig(), codes, targets)


def draw_dataset(folder: Path, num_tracks: int = 1, seed: int = 0) -> tuple[Dataset, np.ndarray]:
    """Positives that hold an E-box in half of the cases, two kinds of negatives, and informative logits."""
    generator = np.random.default_rng(seed)
    size = sum(SIZES.values())
    codes = generator.integers(0, 4, (size, 50)).astype(np.uint8)
    targets = (generator.random((size, num_tracks)) < 0.3).astype(np.uint8)
    planted = np.flatnonzero((targets[:, 0] == 1) & (generator.random(size) < 0.5))
    codes[planted, 20:26] = [1, 0, 2, 1, 3, 2]
    kinds = np.where(generator.random(size) < 0.5, "matched", "shuffled").astype(object)
    kinds[(targets == 1).any(axis=1)] = "positive"
    dataset = make_dataset(folder, targets, kinds.tolist(), codes)
    logits = generator.normal(size=targets.shape) + 2.0 * targets - 1.5
    logits[: SIZES["train"]] = np.nan
    return dataset, logits.astype(np.float32)


def iter_numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in iter_numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in iter_numbers(item)]
    return [value] if isinstance(value, int | float) else []


def test_result_is_json_with_every_metric_and_its_interval(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    stages: list[tuple[str, int, int]] = []
    result = evaluate(dataset, logits, CONFIG, progress=lambda *stage: stages.append(stage))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result) == [
        "format",
        "format_version",
        "ebox_version",
        "created",
        "dataset",
        "config",
        "motif_files",
        "tracks",
        "ceiling",
    ]
    assert all(np.isfinite(number) for number in iter_numbers(result))
    (track,) = result["tracks"]
    assert list(track) == [
        "track",
        "threshold",
        "num_unknown",
        "splits",
        "baselines",
        "comparison",
        "seeds",
        "ensemble",
        "share",
        "share_reason",
        "shift",
        "sets",
        "curves",
        "calibration",
        "histogram",
    ]
    for section in [*track["splits"].values(), track["baselines"]["kmer_logistic"]["splits"]["test"]]:
        assert list(section["metrics"]) == list(METRIC_NAMES)
        assert set(section["by_kind"]) == {"matched", "shuffled"}
        for metric in section["metrics"].values():
            assert metric["low"] <= metric["value"] <= metric["high"]
    assert [done for _, done, _ in stages] == list(range(4))
    assert {total for _, _, total in stages} == {4}


def _list_chosen(track: dict[str, Any]) -> list[float | None]:
    """The thresholds that validation chose for each prevalence."""
    rare = track["splits"]["test"]["prevalences"]
    return [entry["calls"][name]["threshold"]["value"] for entry in rare for name in ("best", "fdr")]


def test_sets_are_fixed_on_validation_and_measured_on_test(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    config = CONFIG.model_copy(update={"baselines": (), "set_coverage": 0.8})
    (track,) = evaluate(dataset, logits, config)["tracks"]
    sets, positive = track["sets"], dataset.is_positive()
    probabilities = 1.0 / (1.0 + np.exp(-logits[:, 0].astype(np.float64)))
    validation, test = dataset.rows("validation"), dataset.rows("test")
    known = np.sort(probabilities[validation][positive[validation]])
    # The fifth part of all positives and the new one, which itself may be below.
    assert sets["limits"]["positive"] == pytest.approx(known[int(0.2 * (len(known) + 1)) - 1], rel=1e-12)
    held = probabilities[test][positive[test]] >= sets["limits"]["positive"]
    assert sets["coverage"] == 0.8
    assert sets["test"]["positive"]["coverage"]["value"] == pytest.approx(held.mean(), abs=1e-6)
    # Neither the test split nor what has a relative in training has a say.
    other, related = logits.copy(), np.zeros(len(dataset), bool)
    other[test] = -other[test]
    related[validation.start : validation.start + 60] = True
    sets = evaluate(dataset, logits, config, related=related)["tracks"][0]["sets"]
    other[related] = -9.0
    moved = evaluate(dataset, other, config, related=related)["tracks"][0]
    assert moved["sets"]["limits"] == sets["limits"]
    assert _list_chosen(moved) == _list_chosen(evaluate(dataset, logits, config, related=related)["tracks"][0])
    assert _list_chosen(evaluate(dataset, other, config)["tracks"][0]) != _list_chosen(moved)


def test_metrics_are_those_of_each_split_and_kind_at_the_validation_threshold(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    (track,) = evaluate(dataset, logits, CONFIG.model_copy(update={"baselines": ()}))["tracks"]
    probabilities = 1.0 / (1.0 + np.exp(-logits[:, 0].astype(np.float64)))
    positive = dataset.is_positive()
    part = dataset.rows("validation")
    threshold = choose_threshold(positive[part], probabilities[part])
    assert track["threshold"]["value"] == pytest.approx(threshold)
    assert track["comparison"] is None
    test = np.arange(len(dataset)) >= dataset.rows("test").start
    of_kind = test & (positive | (dataset.kinds == "shuffled"))
    for rows, section in (
        (test, track["splits"]["test"]),
        (of_kind, track["splits"]["test"]["by_kind"]["shuffled"]),
    ):
        expected = compute_metrics(positive[rows], probabilities[rows], threshold)
        assert section["num_examples"] == rows.sum()
        assert section["num_positive"] == positive[rows].sum()
        for name, value in expected.items():
            assert section["metrics"][name]["value"] == pytest.approx(value, abs=1e-6)


def test_balanced_accuracy_of_one_to_one_is_what_a_subsample_gives(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    (track,) = evaluate(dataset, logits, CONFIG.model_copy(update={"baselines": ()}))["tracks"]
    balanced = track["splits"]["test"]["balanced"]
    part = dataset.rows("test")
    positive, calls = dataset.is_positive()[part], logits[part, 0] > 0
    threshold = balanced["threshold"]["value"]
    calls = 1.0 / (1.0 + np.exp(-logits[part, 0].astype(np.float64))) >= threshold
    generator = np.random.default_rng(0)
    accuracies = []
    for _ in range(2000):
        negatives = generator.choice(np.flatnonzero(~positive), positive.sum(), replace=False)
        accuracies.append((calls[positive].mean() + (~calls[negatives]).mean()) / 2)
    assert balanced["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(accuracies), abs=3e-3)


def test_logits_of_the_training_split_change_nothing(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    first = evaluate(dataset, logits, CONFIG)["tracks"]
    logits[dataset.rows("train")] = 5.0
    assert evaluate(dataset, logits, CONFIG)["tracks"] == first


def test_unknown_targets_are_left_out(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path, num_tracks=2)
    hidden = np.random.default_rng(1).random(len(dataset)) < 0.4
    dataset.targets[hidden, 1] = 255
    logits[hidden, 1] = np.nan
    tracks = evaluate(dataset, logits, CONFIG)["tracks"]
    test = dataset.rows("test")
    assert tracks[0]["splits"]["test"]["num_examples"] == SIZES["test"]
    assert tracks[1]["splits"]["test"]["num_examples"] == int((~hidden[test]).sum())
    assert tracks[1]["baselines"]["kmer_logistic"]["settings"]["num_train"] == int((~hidden[:400]).sum())
    # Negatives of one track that are positives of the other are a kind of their own.
    kinds = tracks[1]["splits"]["test"]["by_kind"]
    assert set(kinds) == {"matched", "other_tracks", "shuffled"}
    of_others = (dataset.targets[test, 1] == 0) & (dataset.targets[test, 0] == 1)
    assert kinds["other_tracks"]["num_examples"] == of_others.sum() + (dataset.targets[test, 1] == 1).sum()


def test_a_track_without_positives_in_a_split_gives_reasons_and_not_nan(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path, num_tracks=2)
    part = dataset.rows("validation")
    dataset.targets[part, 0] = 0
    dataset.targets[dataset.rows("test"), 1] = 255
    first, second = evaluate(dataset, logits, CONFIG)["tracks"]
    assert first["threshold"] == {
        "value": 0.5,
        "criterion": None,
        "split": None,
        "reason": {"code": "no_positives"},
    }
    assert first["splits"]["validation"]["metrics"] is None
    assert first["splits"]["validation"]["reason"] == {"code": "no_positives"}
    assert first["splits"]["test"]["metrics"]["auroc"]["value"] > 0.8
    assert first["baselines"]["gc_logistic"]["reason"] == {"code": "one_class", "in": "validation"}
    assert "in the validation split there is one class only" in say(first["baselines"]["gc_logistic"]["reason"])
    assert first["comparison"] is None
    assert second["splits"]["test"]["reason"] == {"code": "no_examples"}
    assert second["splits"]["test"]["balanced"]["metrics"] is None
    assert (second["curves"], second["calibration"], second["histogram"]) == (None, None, None)


def test_model_is_compared_with_the_baseline_that_validation_prefers(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    (track,) = evaluate(dataset, logits, CONFIG)["tracks"]
    comparison = track["comparison"]
    assert comparison["baseline"] == "kmer_logistic"
    assert comparison["split"] == "test"
    test = {name: section["splits"]["test"]["metrics"] for name, section in track["baselines"].items()}
    for metric in ("auroc", "auprc"):
        difference = track["splits"]["test"]["metrics"][metric]["value"] - test["kmer_logistic"][metric]["value"]
        assert comparison["tests"][metric]["difference"]["value"] == pytest.approx(difference, abs=2e-6)
        assert comparison["tests"][metric]["p_value"] < 0.05
    assert set(track["curves"]["roc"]) == {"model", "gc_logistic", "kmer_logistic"}


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    first, again = (evaluate(dataset, logits, CONFIG)["tracks"] for _ in range(2))
    assert first == again
    assert evaluate(dataset, logits, CONFIG.model_copy(update={"seed": 1}))["tracks"] != first


def test_best_pwm_uses_the_motif_files(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    file = tmp_path / "motifs.meme"
    file.write_text(MEME)
    config = CONFIG.model_copy(update={"baselines": ("best_pwm",), "motifs": ()})
    (track,) = evaluate(dataset, logits, config, motif_files=[file])["tracks"]
    section = track["baselines"]["best_pwm"]
    assert section["settings"]["motif"] == "ebox"
    assert section["splits"]["test"]["metrics"]["auroc"]["value"] > 0.65
    assert gather_motifs(CONFIG) == []
    known = gather_motifs(EvaluationConfig(), [file])
    assert {"MA0140.1", "MA0036.4", "ebox"} <= {motif.name for motif in known}
    named = config.model_copy(update={"motifs": ("MA0140.3", "ebox")})
    assert [motif.name for motif in gather_motifs(named, [file])] == ["MA0140.3", "ebox"]


def test_a_baseline_that_cannot_be_fitted_says_why(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    config = CONFIG.model_copy(update={"baselines": ("best_pwm", "gc_logistic"), "motifs": ()})
    (track,) = evaluate(dataset, logits, config)["tracks"]
    section = track["baselines"]["best_pwm"]
    assert section["reason"] == {"code": "no_motif_fits", "num_motifs": 0, "length_bp": dataset.length_bp}
    assert "none of 0 motifs" in say(section["reason"])
    assert section["splits"] == {}
    assert track["comparison"]["baseline"] == "gc_logistic"


def test_what_cannot_be_evaluated_is_refused(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    with pytest.raises(InputError, match=r"logits have shape \(899, 1\)"):
        evaluate(dataset, logits[1:], CONFIG)
    missing = logits.copy()
    missing[-3:] = np.nan
    with pytest.raises(InputError, match="3 of 300 logits of the test split are not finite"):
        evaluate(dataset, missing, CONFIG)
    dataset.targets[dataset.rows("test")] = 0
    with pytest.raises(InputError, match="track0 has no positives there"):
        evaluate(dataset, logits, CONFIG)


def test_the_ceiling_is_passed_through(tmp_path: Path) -> None:
    dataset, logits = draw_dataset(tmp_path)
    config = CONFIG.model_copy(update={"baselines": ()})
    ceiling = {"auroc": {"value": 0.988, "low": 0.987, "high": 0.989}}
    assert evaluate(dataset, logits, config, ceiling=ceiling)["ceiling"] == ceiling


def measure_with_relatives(folder: Path, share: float, gain: float) -> dict:
    """Evaluate where a share of the test negatives are relatives of train, and score lower by `gain` than others."""
    dataset, logits = draw_dataset(folder)
    part = dataset.rows("test")
    related = np.zeros(len(dataset), dtype=bool)
    negatives = np.flatnonzero(np.asarray(dataset.targets[part, 0]) == 0) + part.start
    related[negatives[: round(share * len(negatives))]] = True
    logits[related] -= np.float32(gain)
    return evaluate(dataset, logits, CONFIG, related=related)["tracks"][0]


def test_the_stricter_figures_are_taken_where_relatives_flatter(tmp_path: Path):
    track = measure_with_relatives(tmp_path, share=0.5, gain=5.0)
    test = track["splits"]["test"]
    found = test["relatives"]
    assert found["taken"] == "without"
    assert found["with"]["num_examples"] - found["without"]["num_examples"] == found["num_relatives"]
    auroc = found["with"]["metrics"]["auroc"]
    assert auroc["value"] - found["without"]["metrics"]["auroc"]["value"] > (auroc["high"] - auroc["low"]) / 2
    for key in ("num_examples", "num_positive", "num_clusters", "metrics"):
        assert test[key] == found["without"][key]
    assert track["baselines"]["gc_logistic"]["splits"]["test"]["relatives"]["taken"] == "without"


def test_relatives_that_change_little_stay_and_are_told(tmp_path: Path):
    track = measure_with_relatives(tmp_path, share=0.2, gain=0.0)
    test = track["splits"]["test"]
    assert test["relatives"]["taken"] == "with"
    assert test["metrics"] == test["relatives"]["with"]["metrics"]
    assert test["metrics"] != test["relatives"]["without"]["metrics"]


def test_without_relatives_nothing_is_said_of_them(tmp_path: Path):
    assert measure_with_relatives(tmp_path, share=0.0, gain=0.0)["splits"]["test"]["relatives"] is None
