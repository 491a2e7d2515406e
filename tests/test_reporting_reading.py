"""A run folder made for the tests of reporting, by the documented structures; and what reading it refuses."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.reporting.reading import read_run_files
from ebox.reporting.report import write_report
from ebox.settings.reading import Config, write_config
from ebox.storage import stamps
from ebox.storage.run_folder import clear_run

CONTENDERS = {"model": 2.4, "kmer_logistic": 2.0, "best_pwm": 1.25, "gc_logistic": 0.7}
NUM_POSITIVE, NUM_NEGATIVE = 900, 2700


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-values))


def _metric(value: float, half: float = 0.008) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def _normal_area(shift: float) -> float:
    return 0.5 * (1.0 + math.erf(shift / 2.0))


def _metrics(shift: float) -> dict[str, Any]:
    area = _normal_area(shift)
    return {
        "auroc": _metric(area, 0.006),
        "auprc": _metric(area**3),
        "accuracy": _metric(0.75 + (area - 0.5) / 2.6),
        "accuracy_at_0.5": _metric(0.75 + (area - 0.5) / 2.7),
        "balanced_accuracy": _metric(area**1.8),
        "sensitivity": _metric(area**2.2, 0.02),
        "specificity": _metric(0.93 + area / 30),
        "mcc": _metric(1.7 * area - 0.9, 0.02),
        "mcc_at_0.5": _metric(1.7 * area - 0.91, 0.02),
        "brier": _metric(0.2 - area / 8),
        "calibration_error": _metric(0.02),
        "recall_at_10_fdr": _metric(area**4, 0.03),
        "recall_at_50_fdr": _metric(area**1.2, 0.01),
    }


def _curves(shift: float) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    cuts = np.linspace(6.0, -4.0, 200)
    above = [np.array([0.5 * math.erfc((cut - centre) / math.sqrt(2)) for cut in cuts]) for centre in (shift, 0.0)]
    true, false = above
    precision = true * NUM_POSITIVE / np.maximum(true * NUM_POSITIVE + false * NUM_NEGATIVE, 1e-9)
    ends = ([0.0], [1.0])
    roc = {
        "x": np.concatenate([ends[0], false, ends[1]]).round(5).tolist(),
        "y": np.concatenate([ends[0], true, ends[1]]).round(5).tolist(),
    }
    return roc, {"x": true.round(5).tolist(), "y": precision.round(5).tolist()}


def _make_rare(odds: float) -> dict[str, Any]:
    """AUPRC and calls at a prevalence; at 1:1,000 no threshold keeps the false discovery rate."""
    threshold = {"value": 0.43, "criterion": "accuracy", "split": "validation", "reason": None}
    calls = {"precision": _metric(1.0 / (1.0 + 0.02 * odds)), "sensitivity": _metric(0.8), "reason": None}
    few = {"code": "few_negatives", "fdr": 0.1, "num_negative": 2250, "needed": 9000, "odds": odds}
    unreached = {"threshold": {"value": None}, "precision": None, "sensitivity": None, "reason": few}
    kept = {"threshold": {**threshold, "value": 0.97, "criterion": "fdr"}, **calls}
    return {
        "prevalence": 1.0 / (1.0 + odds),
        "odds": odds,
        "auprc": _metric(0.9 / odds**0.3),
        "no_interval": None
        if odds == 1
        else {"code": "few_for_odds", "negative": 2700, "needed": 100_000, "odds": odds},
        "calls": {"used": {"threshold": threshold, **calls}, "fdr": unreached if odds > 900 else kept},
    }


def _make_sets(coverage: float, mean_size: float) -> dict[str, Any]:
    answers = {"none": 0.06, "unbound": 0.04, "bound": 0.88, "both": 0.02}
    return {"coverage": _metric(coverage, 0.02), "mean_size": mean_size, "answers": answers}


def make_evaluation(track: str = "TAL1", seed: int = 0) -> dict[str, Any]:
    """A made-up evaluation.json whose curves and metrics go together roughly."""
    random = np.random.default_rng(seed)
    edges = np.linspace(0, 1, 51)
    scores = {
        "positive": _sigmoid(2.4 * random.normal(0.9, 1.2, NUM_POSITIVE)),
        "matched": _sigmoid(2.4 * random.normal(-1.5, 1.0, 1800)),
        "shuffled": _sigmoid(2.4 * random.normal(-2.0, 0.9, 900)),
    }
    curves: dict[str, Any] = {"roc": {}, "pr": {}}
    for name, shift in CONTENDERS.items():
        curves["roc"][name], curves["pr"][name] = _curves(shift)
    test = {
        "num_examples": NUM_POSITIVE + NUM_NEGATIVE,
        "num_positive": NUM_POSITIVE,
        "metrics": _metrics(CONTENDERS["model"]),
        "by_kind": {
            "matched": {"num_examples": 2700, "num_positive": 900, "metrics": _metrics(2.2)},
            "shuffled": {"num_examples": 1800, "num_positive": 900, "metrics": _metrics(2.9)},
        },
        "balanced": {"metrics": _metrics(2.3)},
        "no_interval": None,
        "prevalences": [_make_rare(odds) for odds in (1.0, 100.0, 1000.0, 999.0)],
    }
    entry = {
        "track": track,
        "threshold": {"value": 0.43, "criterion": "accuracy", "split": "validation"},
        "splits": {
            "validation": {"num_examples": 3000, "num_positive": 750, "metrics": _metrics(2.45)},
            "test": test,
        },
        "baselines": {
            name: {
                "description": {"code": "gc_logistic", "num_train": 9, "num_all": 9},
                "threshold": {"value": 0.4, "criterion": "accuracy", "split": "validation"},
                "splits": {"test": {"metrics": _metrics(shift)}},
            }
            for name, shift in CONTENDERS.items()
            if name != "model"
        },
        "comparison": {
            "baseline": "kmer_logistic",
            "split": "test",
            "tests": {
                metric: {"difference": {"value": 0.034, "low": 0.027, "high": 0.041}, "p_value": 0.0}
                for metric in ("auroc", "auprc")
            },
        },
        "share": 0.25,
        "shift": -5.808,
        "sets": {
            "coverage": 0.9,
            "limits": {"positive": 0.31, "negative": 0.22},
            "reason": None,
            "test": {"positive": _make_sets(0.904, 0.97), "negative": _make_sets(0.897, 0.96)},
        },
        "curves": curves,
        "calibration": [
            {
                "mean_predicted": x,
                "fraction_positive": min(1.0, max(0.0, x + random.normal(0, 0.025))),
                "low": max(0.0, x - 0.04),
                "high": min(1.0, x + 0.04),
                "num_examples": 240,
            }
            for x in _sigmoid(np.linspace(-5, 4, 15)).tolist()
        ],
        "histogram": {
            "edges": edges.round(4).tolist(),
            "counts": {kind: np.histogram(values, edges)[0].tolist() for kind, values in scores.items()},
        },
    }
    return {
        "format": "ebox-evaluation",
        "format_version": 5,
        "ebox_version": "0.1.0",
        "created": "2026-11-23T21:04:05+00:00",
        "dataset": {"path": "dataset", "fingerprint": "ab" * 32, "length_bp": 200},
        "config": {"prevalence": 0.001, "target_fdr": 0.1},
        "tracks": [entry],
        "ceiling": None,
    }


def make_dataset() -> dict[str, Any]:
    sources = [
        ("peaks.narrowPeak", "peaks", 9356),
        ("genome.fa", "genome", 24),
        ("blacklist.bed.gz", "blacklist", 636),
    ]
    return {
        "format": "ebox-dataset",
        "format_version": 5,
        "ebox_version": "0.1.0",
        "created": "2026-11-23T20:00:00+00:00",
        "command": [
            "/opt/venv/bin/ebox",
            "run",
            "--peaks",
            "TAL1 peaks.narrowPeak",
            "--genome",
            "genome.fa",
            "--out",
            "run",
        ],
        "config": {"split": "chromosome"},
        "length_bp": 200,
        "num_examples": 20600,
        "tracks": ["TAL1"],
        "kinds": ["positive", "matched", "shuffled"],
        "splits": {
            "train": {"start": 0, "stop": 14000, "num_positive": [3500]},
            "validation": {"start": 14000, "stop": 17000, "num_positive": [750]},
            "test": {"start": 17000, "stop": 20600, "num_positive": [900]},
        },
        "sources": [
            {"path": f"/data/tal1/{name}", "role": role, "sha256": f"{number:02x}" * 32, "records": records}
            for number, (name, role, records) in enumerate(sources, start=17)
        ],
        "files": {},
        "fingerprint": "ab" * 32,
    }


def make_quality() -> dict[str, Any]:
    def kind(train: int, validation: int, test: int, gc: float) -> dict[str, Any]:
        sizes = {
            "num_examples": train + validation + test,
            "train": train,
            "validation": validation,
            "test": test,
        }
        return {**sizes, "gc": {"mean": gc, "sd": 0.08, "edges": [0, 1], "counts": [1]}}

    def pair(of: str, inside: str, num: int, similar: int) -> dict[str, Any]:
        none = {"num_examples": 0, "other_label": 0, "examples": []}
        likeness = {"num_examples": similar, "other_label": 1, "examples": []}
        found = {"exact": none, "reverse_complement": none, "overlap": none, "similar": likeness}
        return {"of": of, "in": inside, "num_examples": num, **found, "any": similar}

    return {
        "num_examples": 20600,
        "num_positive": 5150,
        "length_bp": 200,
        "sources": [
            {"source": "peaks.narrowPeak", "role": "peaks", "records": 9356, "cropped": 0, "examples": 5150},
        ],
        "dropped": {"blacklisted": 41, "too_much_n": 12, "duplicate": 7, "off_contig": 3},
        "made": {"matched": {"wanted": 10300, "made": 10300}, "shuffled": {"wanted": 5150, "made": 5150}},
        "kinds": {
            "positive": kind(3500, 750, 900, 0.531),
            "matched": kind(7000, 1500, 1800, 0.529),
            "shuffled": kind(3500, 750, 900, 0.531),
        },
        "n": {"num_examples_with_n": 4, "max_fraction": 0.02},
        "clusters": {"num_clusters": 20001, "num_examples_in_company": 800, "largest": 12},
        "split": {
            "mode": "chromosome",
            "chroms": {"validation": ["chr2", "chr10"], "test": ["chr1", "chr8", "chr9"]},
        },
        "audit": {
            "max_similarity": 0.5,
            "kmer_bp": 12,
            "within": {},
            "between": [
                pair("validation", "train", 3000, 9),
                pair("test", "train", 3600, 14),
                pair("test", "validation", 3600, 2),
            ],
            "shared_kmers": {},
        },
        "warnings": [],
    }


def make_filters(num: int = 30, width: int = 15) -> dict[str, Any]:
    random = np.random.default_rng(3)
    entries = []
    for index in range(num):
        sharp = random.random((width, 1)) < 0.45
        matrix = np.where(sharp, random.dirichlet([0.12] * 4, width), random.dirichlet([8.0] * 4, width))
        resembles = {
            "id": "MA0140.3",
            "name": "GATA1::TAL1",
            "correlation": 0.91,
            "num_columns": 13,
            "strand": "-",
            "offset_bp": 1,
        }
        entries.append(
            {
                "index": index * 3 % num if num % 3 else index,
                "consensus": "ACGT" * 3 + "ACG",
                "information_bits": 9.1,
                "shape": "flat" if index == 2 else "sharp",
                "num_sites": int(random.integers(40, 900)),
                "share_positive": round(0.7 - index * 0.015, 4),
                "share_negative": 0.2,
                "max_activation": 3.2,
                "resembles": resembles if index < 2 else None,
                "probabilities": matrix.round(4).tolist(),
            }
        )
    return {
        "format": "ebox-filters",
        "format_version": 2,
        "threshold": 0.5,
        "num_filters": num,
        "filters": entries,
    }


def make_metrics() -> list[dict[str, Any]]:
    random = np.random.default_rng(2)
    entries: list[dict[str, Any]] = []
    for step in range(64, 1985, 64):
        loss = 0.2 + 0.5 * math.exp(-step / 500) + random.normal(0, 0.008)
        entries.append({"kind": "train", "step": step, "epoch": step / 165, "loss": loss, "learning_rate": 0.004})
        if step % 320 == 0:
            value = {
                "loss": 0.22 + 0.45 * math.exp(-step / 450),
                "auroc": 0.955 - 0.2 * math.exp(-step / 400),
            }
            entries.append(
                {
                    "kind": "validation",
                    "step": step,
                    "epoch": step / 165,
                    **value,
                    "auprc": 0.8,
                    "seconds": 2.0,
                }
            )
    return entries


def make_environment() -> dict[str, Any]:
    return {
        "ebox": "0.1.0",
        "python": "3.11.9",
        "packages": {"jax": "0.10.2", "numpy": "2.4.6"},
        "platform": "Linux x86_64",
        "devices": [{"id": number, "kind": "TPU v5e", "platform": "tpu"} for number in range(4)],
        "num_processes": 1,
        "cpu": "AMD EPYC",
        "num_cores": 16,
        "memory_bytes": 128 * 2**30,
        "command": [
            "/opt/venv/bin/ebox",
            "run",
            "--peaks",
            "TAL1 peaks.narrowPeak",
            "--genome",
            "genome.fa",
            "--out",
            "run",
        ],
        "started": "2026-11-23T20:00:01+00:00",
    }


def make_run_folder(folder: Path, *, simulated: bool = False) -> Path:
    """Write a whole run folder; tests take away from it, or change it."""
    import polars as pl

    folder.mkdir(parents=True)
    write_config(Config(), folder / "config.toml")
    evaluation = make_evaluation()
    objects: dict[str, Any] = {
        "dataset.json": make_dataset(),
        "quality.json": make_quality(),
        "filters.json": make_filters(),
        "environment.json": make_environment(),
        "training.json": {
            "steps": 1984,
            "epochs": 12.0,
            "seconds": 192.4,
            "sequences_per_second": 660.0,
            "num_parameters": 198_417,
            "stopped": "end",
            "best_step": 1920,
        },
    }
    if simulated:
        ceiling = {"accuracy": _metric(0.98, 0.002), "auroc": _metric(0.988, 0.001), "num_examples": 20000}
        objects["simulation.json"] = {
            "format": "ebox-simulation",
            "format_version": 2,
            "config": {
                "min_sites": 1,
                "max_sites": 2,
                "orientation": "both",
                "centre_bp": None,
                "spacing_bp": None,
            },
            "motifs": [{"name": "MA0140.3", "alt_name": "GATA1::TAL1"}],
            "ceiling": ceiling,
        }
        evaluation["ceiling"] = None
    objects["evaluation.json"] = evaluation
    for name, value in objects.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    lines = [json.dumps(entry) + "\n" for entry in make_metrics()]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    random = np.random.default_rng(1)
    probability = random.random(60)
    pl.DataFrame(
        {
            "name": [f"chr1:{1000 * row}-{1000 * row + 200}" for row in range(60)],
            "kind": ["positive" if row % 4 == 0 else "matched" for row in range(60)],
            "split": ["validation" if row < 10 else "test" for row in range(60)],
            "target_TAL1": [int(row % 4 == 0) for row in range(60)],
            "probability_TAL1": probability,
        }
    ).write_parquet(folder / "predictions.parquet")
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run_folder(tmp_path / "run")


def test_every_file_is_read(run_folder: Path) -> None:
    files = read_run_files(run_folder)
    assert files.absent == ("simulation.json",)
    assert files.name == "run"
    assert len(files.metrics) == len(make_metrics())
    missed = files.mistakes["TAL1"]["missed"]
    assert [entry["probability"] for entry in missed] == sorted(entry["probability"] for entry in missed)
    assert all(entry["target"] == 0 for entry in files.mistakes["TAL1"]["false_alarms"])


@pytest.mark.parametrize("name", ["config.toml", "dataset.json", "evaluation.json"])
def test_a_missing_required_file_is_named_with_a_remedy(run_folder: Path, name: str) -> None:
    (run_folder / name).unlink()
    with pytest.raises(InputError, match="What to do") as caught:
        read_run_files(run_folder)
    assert caught.value.file is not None
    assert caught.value.file.endswith(name)


@pytest.mark.parametrize(
    "name",
    ["dataset.json", "evaluation.json", "quality.json", "filters.json", "environment.json", "training.json"],
)
@pytest.mark.parametrize("text", ['{"format": ', "[1, 2]"])
def test_a_broken_file_is_named(run_folder: Path, name: str, text: str) -> None:
    (run_folder / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_run_files(run_folder)
    assert caught.value.file is not None
    assert caught.value.file.endswith(name)


def test_a_broken_table_of_predictions_is_named(run_folder: Path) -> None:
    (run_folder / "predictions.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match="Parquet"):
        read_run_files(run_folder)


def test_an_evaluation_of_another_format_is_refused(run_folder: Path) -> None:
    (run_folder / "evaluation.json").write_text(json.dumps({**make_evaluation(), "format_version": 9}))
    with pytest.raises(InputError, match=r"version 9.*reads version 5\n.*ebox evaluate"):
        read_run_files(run_folder)


@pytest.mark.parametrize(
    ("kind", "name", "remedy"),
    [
        (stamps.PARITY, "parity.json", "delete it, or .*doctor --parity --out"),
        (stamps.SCALING, "scaling.json", "delete it, or .*doctor --scaling --for DATASET --out"),
        (stamps.FILTERS, "filters.json", "ebox evaluate"),
        # Copies: to make the original again would leave them as they are.
        (stamps.DATASET, "dataset.json", "ebox build.*then.*ebox train … --overwrite"),
        (stamps.SIMULATION, "simulation.json", "ebox simulate.*then.*ebox run … --overwrite"),
    ],
)
def test_a_file_of_another_version_is_refused_with_what_makes_it_anew(
    run_folder: Path, kind: stamps.Format, name: str, remedy: str
) -> None:
    place = run_folder / name
    facts = json.loads(place.read_text()) if place.exists() else {"holds": True}
    place.write_text(json.dumps({**facts, "format": kind.name, "format_version": 0}))
    with pytest.raises(InputError, match=rf"{name}: is of {kind.name} version 0.*\n.*{remedy}"):
        write_report(run_folder)
    assert not (run_folder / "report.html").exists()


def test_a_run_that_is_begun_again_keeps_nothing_of_the_data_before(run_folder: Path) -> None:
    (run_folder / "simulation.json").write_text("{}")
    (run_folder / "parity.json").write_text("{}")
    clear_run(run_folder)
    assert not {"simulation.json", "dataset.json"} & {path.name for path in run_folder.iterdir()}
    assert (run_folder / "parity.json").exists()


def test_a_line_cut_off_by_a_kill_is_left_out(run_folder: Path) -> None:
    whole = len(read_run_files(run_folder).metrics)
    with (run_folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "st')
    assert len(read_run_files(run_folder).metrics) == whole


def test_a_broken_line_of_metrics_is_named(run_folder: Path) -> None:
    (run_folder / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 1}\nnonsense\n')
    with pytest.raises(InputError, match="line 2"):
        read_run_files(run_folder)


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        read_run_files(tmp_path / "nothing")


def test_a_folder_in_place_of_the_metrics_is_named(run_folder: Path) -> None:
    (run_folder / "metrics.jsonl").unlink()
    (run_folder / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match=r"metrics.jsonl: can't be read"):
        read_run_files(run_folder)
