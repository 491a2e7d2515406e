"""What batch normalisation by groups costs in accuracy: whole trainings on real TAL1, by several seeds.

    python benchmarks/batch_statistics.py FOLDER [--seeds 0,1,2,3]

The same trainings (same examples, order, augmentation and first weights for a seed) with the moments of the whole batch
and of groups of it. Dataset and runs are kept in FOLDER, and what is finished there is not trained again, so the
program can be stopped and started again. Accuracy is that of the kept network on the validation split. Writes
results/batch_statistics.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ebox.datasets.build import build_dataset
from ebox.datasets.sources import DatasetSources
from ebox.settings.reading import make_config
from machine import describe_machine, find_data, keep, summarise

WAYS: dict[str, tuple[str, ...]] = {
    "global": ("train.batch_statistics='global'",),
    "group32": ("train.batch_statistics='group'", "train.group_examples=32"),
    "group16": ("train.batch_statistics='group'", "train.group_examples=16"),
}
METRICS = ("auroc", "auprc", "loss")


def train(dataset: Path, out: Path, core: int, *settings: str) -> subprocess.Popen[bytes]:
    """Start a training with the defaults except for some settings, on one core."""
    chosen = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "ebox", "train", str(dataset), "--out", str(out), "--overwrite", *chosen]
    return subprocess.Popen(
        ["taskset", "-c", str(core), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def read_run(run: Path) -> dict[str, float]:
    """Metrics of the validation whose network was kept."""
    best = json.loads((run / "training.json").read_text())["best_step"]
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (found,) = (entry for entry in entries if entry["kind"] == "validation" and entry["step"] == best)
    return {name: found[name] for name in METRICS}


def main() -> None:
    """Train what is missing, one training per core at once; print, keep."""
    parser = argparse.ArgumentParser(description="Accuracy with batch normalisation by the whole batch and by groups")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2,3")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    seeds, folder, data = [int(part) for part in options.seeds.split(",")], options.folder, find_data() / "tal1"
    if not (folder / "dataset").exists():
        files = {"positives": data / "bound.fa.gz", "negatives": (data / "unbound_matched.fa.gz",)}
        build_dataset(make_config({}).data, folder / "dataset", DatasetSources(**files))
    missing = [(way, seed) for seed in seeds for way in WAYS if not (folder / f"{way}-{seed}/training.json").exists()]
    cores = sorted(os.sched_getaffinity(0))
    for first in range(0, len(missing), len(cores)):
        now = list(zip(missing[first : first + len(cores)], cores, strict=False))
        runs = [
            train(folder / "dataset", folder / f"{way}-{seed}", core, f"train.seed={seed}", *WAYS[way])
            for (way, seed), core in now
        ]
        codes = [run.wait() for run in runs]
        if any(codes):
            raise SystemExit(f"a training failed: one of {[what for what, _ in now]}")
    found: dict[str, Any] = {}
    for way, settings in WAYS.items():
        runs_of = [read_run(folder / f"{way}-{seed}") for seed in seeds]
        found[way] = {"settings": settings, **{name: summarise([run[name] for run in runs_of]) for name in METRICS}}
        print(way, {name: f"{found[way][name]['median']:.4f}" for name in METRICS})
    keep("batch_statistics", {"seeds": seeds, "ways": found})


if __name__ == "__main__":
    main()
