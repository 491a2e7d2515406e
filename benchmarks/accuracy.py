"""Accuracy on simulated and real tasks through the whole pipeline, against what each task must reach.

    python benchmarks/accuracy.py                 every task
    python benchmarks/accuracy.py matched gue4    some of them

Prints one line per task and writes benchmarks/results/accuracy_TASK.json. A task whose test set is small is trained
with several seeds, and the mean must reach its goals. Real tasks need the data folder ($EBOX_DATA or shared/data beside
the project).
"""

from __future__ import annotations

import csv
import gzip
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from ebox.datasets.sources import DatasetSources
from ebox.sequences import SimulationConfig, draw_simulation, write_simulation
from ebox.settings.reading import make_config
from ebox.verbs.run import RunResult, run
from machine import describe_machine, find_data, keep

MOTIF_MODEL: Mapping[str, Any] = {
    "architecture": "motif",
    "num_filters": 16,
    "filter_width_bp": 13,
    "strands": "both",
}
PLAIN: Mapping[str, Any] = {"filter_dropout": 0.0, "negatives_per_positive": None}


@dataclass(frozen=True)
class Task:
    """A task: its sources, its settings and what it must reach."""

    sources: Callable[[Path], tuple[DatasetSources, Path | None]]
    goals: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_seconds: float | None = None
    seeds: tuple[int, ...] = (0,)


def simulated(**settings: Any) -> Callable[[Path], tuple[DatasetSources, Path | None]]:
    """Sequences with planted motifs of the ENCODE collection."""

    def prepare(folder: Path) -> tuple[DatasetSources, Path | None]:
        files = (str(find_data() / "motifs" / "encode_tal1.meme"),)
        place = folder / "simulation"
        write_simulation(draw_simulation(SimulationConfig(motif_files=files, **settings)), place)
        sources = DatasetSources(positives=place / "positives.fa", negatives=(place / "negatives.fa",))
        return sources, place / "simulation.json"

    return prepare


def bound_against_matched(folder: Path) -> tuple[DatasetSources, Path | None]:
    """All TAL1-bound loci against windows matched to open chromatin."""
    data = find_data() / "tal1"
    return DatasetSources(data / "bound.fa.gz", (data / "unbound_matched.fa.gz",)), None


def bound_against_open(folder: Path) -> tuple[DatasetSources, Path | None]:
    """All TAL1-bound loci against accessible regions with no TAL1 peak of any set."""
    data = find_data() / "tal1"
    with gzip.open(data / "open_chromatin_hsc_labels.tsv.gz", "rt") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        unbound = {f"{row['chrom']}:{row['start']}-{row['end']}" for row in rows if row["TAL1_any"] == "0"}
    negatives = folder / "open_unbound.fa"
    with gzip.open(data / "open_chromatin_hsc.fa.gz", "rt") as stream, negatives.open("w") as out:
        kept = False
        for line in stream:
            if line.startswith(">"):
                kept = line[1:].split()[0] in unbound
            if kept:
                out.write(line)
    return DatasetSources(data / "bound.fa.gz", (negatives,)), None


def gue(number: int) -> Callable[[Path], tuple[DatasetSources, Path | None]]:
    """One of the five human tasks of the GUE benchmark, with its own splits."""

    def prepare(folder: Path) -> tuple[DatasetSources, Path | None]:
        files = {"train": "train", "validation": "dev", "test": "test"}
        splits = {split: find_data() / "gue" / f"tf{number}_{name}.csv.gz" for split, name in files.items()}
        return DatasetSources(splits=splits), None

    return prepare


def _gue_task(number: int, auroc: float, mcc: float) -> Task:
    goals = {"auroc": auroc, "mcc_at_0.5": mcc}
    return Task(gue(number), goals, {"train": {"negatives_per_positive": None}}, seeds=(0, 1, 2))


TASKS: Mapping[str, Task] = {
    "simulated": Task(
        simulated(motifs=("TAL1_known4",), length_bp=500, gc=0.4, num_positives=10_000, num_negatives=10_000),
        {"accuracy": 0.975, "auroc": 0.984},
        {
            "model": {**MOTIF_MODEL, "activation": "linear", "pool_bp": 1, "pooling": ["log_mean_exp"]},
            "train": {**PLAIN, "epochs": 5, "dropout": 0.0},
        },
        max_seconds=30,
    ),
    "density": Task(
        simulated(
            motifs=("TAL1_known4",),
            min_sites=2,
            max_sites=4,
            length_bp=1500,
            centre_bp=150,
            gc=0.4,
            negatives="anywhere",
            num_positives=3000,
            num_negatives=3000,
        ),
        {"accuracy": 0.97},
        {"model": {**MOTIF_MODEL, "position_basis": 24}, "train": {**PLAIN, "epochs": 20, "dropout": 0.1}},
    ),
    "matched": Task(
        bound_against_matched,
        {"auroc": 0.950, "auprc": 0.855, "accuracy": 0.930},
        max_seconds=360,
    ),
    "open": Task(bound_against_open, {"auroc": 0.912, "auprc": 0.912}),
    "paper": Task(
        bound_against_matched,
        {"auroc": 0.952, "accuracy": 0.89},
        {"data": {"split": "random", "balance_given": True}},
    ),
    "gue0": _gue_task(0, 0.895, 0.63),
    "gue1": _gue_task(1, 0.925, 0.68),
    "gue2": _gue_task(2, 0.950, 0.74),
    "gue3": _gue_task(3, 0.840, 0.49),
    "gue4": _gue_task(4, 0.965, 0.77),
}


def measure(name: str, task: Task) -> bool:
    """Run a task, print and keep its result, and say whether it reached its goals."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources, simulation = task.sources(folder)
        runs = []
        for seed in task.seeds:
            config = make_config({**task.settings, "train": {**task.settings.get("train", {}), "seed": seed}})
            command = ["benchmarks/accuracy.py", name]
            runs.append(run(folder / f"run-{seed}", sources, config, simulation=simulation, command=command))
    seeds = [_describe_run(seed, result) for seed, result in zip(task.seeds, runs, strict=True)]
    means = {goal: fmean(one["test"]["metrics"][goal]["value"] for one in seeds) for goal in task.goals}
    seconds = max(one["training_seconds"] for one in seeds)
    reached = {goal: means[goal] >= least for goal, least in task.goals.items()}
    if task.max_seconds is not None:
        reached["seconds"] = seconds <= task.max_seconds
    shown = ", ".join(f"{goal} {_show(goal, means[goal], seeds)}; goal {least})" for goal, least in task.goals.items())
    verdict = "reached" if all(reached.values()) else "NOT reached"
    print(f"{name}: {verdict}: {shown}; {seconds:.0f} s of training", flush=True)
    first, facts = seeds[0], runs[0].evaluation.facts["tracks"][0]
    content = {
        "task": name,
        "settings": task.settings,
        "goals": dict(task.goals),
        "reached": reached,
        **{key: value for key, value in first.items() if key != "seed"},
        "comparison": facts["comparison"],
        "baselines": {
            key: {metric: value["splits"]["test"]["metrics"][metric] for metric in ("auroc", "auprc", "accuracy")}
            for key, value in facts["baselines"].items()
        },
        "ceiling": runs[0].evaluation.facts["ceiling"],
    }
    if len(seeds) > 1:
        content["mean_over_seeds"] = means
        content["other_seeds"] = seeds[1:]
    keep(f"accuracy_{name}", content)
    return all(reached.values())


def _describe_run(seed: int, result: RunResult) -> dict[str, Any]:
    """What is kept of the training with one seed."""
    assert result.training is not None
    return {
        "seed": seed,
        "training_seconds": result.training.seconds,
        "sequences_per_second": result.training.sequences_per_second,
        "num_parameters": result.training.num_parameters,
        "test": result.evaluation.facts["tracks"][0]["splits"]["test"],
    }


def _show(goal: str, mean: float, seeds: list[dict[str, Any]]) -> str:
    """A metric with its interval, or over seeds its mean with every value."""
    found = [one["test"]["metrics"][goal] for one in seeds]
    if len(found) == 1:
        return f"{mean:.4f} ({found[0]['low']:.4f} to {found[0]['high']:.4f}"
    return f"{mean:.4f} (seeds {', '.join(format(one['value'], '.4f') for one in found)}"


def main(names: list[str]) -> int:
    """Measure the tasks named, or all."""
    unknown = sorted(set(names) - set(TASKS))
    if unknown:
        raise SystemExit(f"no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    print(describe_machine(), flush=True)
    outcomes = [measure(name, TASKS[name]) for name in (names or TASKS)]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
