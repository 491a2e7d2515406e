"""What each augmentation brings on real TAL1, by the number of training examples: paired trainings by several seeds.

    python benchmarks/augmentation.py FOLDER [--sizes 1000,5000,all] [--only mutation,mixup] [--seeds 0,1,2]

Each way differs from the default (a random strand, a shift of up to 8 bp) in one thing. All ways of one seed have the
same examples, first weights and order; another seed draws another part of the train split. Accuracy is that of the last
averaged network on the validation split, which no choice was made on; the test split is not read. Reported is the mean
difference from the default with its 95 % interval (Student's t over seeds), and from three seeds on what that says when
the number of all comparisons is allowed for; few seeds show little then. Dataset and figures are kept in FOLDER, and
what is finished there is not trained again, so the program can be stopped and started again, and run in parts: results
hold all that is there. Writes results/augmentation.json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import stats

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import Dataset, open_dataset
from ebox.datasets.sources import DatasetSources
from ebox.diagnosis.bench_parts import PartOfTrain, choose_rows
from ebox.evaluation.validation import ValidationSplit
from ebox.mesh.devices import find_devices, make_mesh
from ebox.settings.reading import make_config
from ebox.training.loop import fit
from machine import describe_machine, find_data, keep

CHANGES = {f"{kind}_rate": 0.5 for kind in ("deletion", "insertion", "translocation", "inversion")}
# Two of the six for each example, as in the paper.
EVOAUG = {**dict.fromkeys(CHANGES, 1.0), "mutation_rate": 0.05, "noise": 0.2}
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "one_strand": {"reverse_complement": False},
    "no_shift": {"shift_bp": 0},
    **{name.removesuffix("_rate"): {name: rate} for name, rate in CHANGES.items()},
    "mutation": {"mutation_rate": 0.05},
    "noise": {"noise": 0.2},
    "mixup": {"mixup_alpha": 0.2},
    "mixup_then_originals": {"mixup_alpha": 0.2, "originals_fraction": 0.25},
    "evoaug": EVOAUG,
    "evoaug_then_originals": {**EVOAUG, "originals_fraction": 0.25},
}
# Fewer examples are shown more often.
EPOCHS = {"1000": 40, "5000": 20, "all": 12}
METRICS = ("auroc", "auprc")
# A difference that is surely smaller than this is none.
MARGIN = 0.003
LEAST_SEEDS = 3


def open_data(folder: Path) -> Dataset:
    """Real TAL1 against matched negatives, built once."""
    data = find_data() / "tal1"
    if not (folder / "dataset").exists():
        files = {"positives": data / "bound.fa.gz", "negatives": (data / "unbound_matched.fa.gz",)}
        build_dataset(make_config({}).data, folder / "dataset", DatasetSources(**files))
    return open_dataset(folder / "dataset")


def train(data: Dataset, size: str, way: str, seed: int) -> dict[str, float]:
    """Train once, and measure the last network on the validation split."""
    settings = {"seed": seed, "epochs": EPOCHS[size], "validations": 1, "keep": "last", **WAYS[way]}
    config = make_config({"train": settings})
    mesh, split = make_mesh(find_devices(config.parallel)[:1]), data.rows("train")
    share = 1.0 if size == "all" else int(size) / (split.stop - split.start)
    rows = split.start + choose_rows(np.asarray(data.targets[split]), share, seed)
    part = PartOfTrain(np.asarray(data.codes[rows]), np.asarray(data.targets[rows]), data.fingerprint)
    found: list[Mapping[str, Any]] = []
    validate = ValidationSplit(data, config.evaluation, mesh).measure
    with tempfile.TemporaryDirectory(prefix="ebox-augmentation-") as folder:
        fit(part, config, Path(folder), mesh, validate, on_entry=lambda entry, _: found.append(dict(entry)))
    return {name: found[-1][name] for name in METRICS} | {"num_train": len(rows), "steps": found[-1]["step"]}


def compare(own: Sequence[float], default: Sequence[float], num_comparisons: int) -> dict[str, float | str | int]:
    """The mean difference of pairs with its 95 % interval, and what it says.

    The verdict is by the interval that all comparisons together miss in at most 5 % of cases (Bonferroni): better or
    worse where it does not hold 0, nothing where it lies within MARGIN of 0, else a difference is not shown, nor none.

    Args:
        own: Of a way, by seed.
        default: Of the default, by the same seeds.
        num_comparisons: How many comparisons are made in all.
    """
    differences = np.subtract(own, default)
    mean, n = float(differences.mean()), len(differences)
    if n < 2:
        return {"mean": mean, "n": n, "says": "too few seeds"}
    error, degrees = float(differences.std(ddof=1)) / math.sqrt(n), n - 1
    half, wide = (float(stats.t.ppf(1.0 - 0.025 / number, degrees)) * error for number in (1, num_comparisons))
    says = "too few seeds" if n < LEAST_SEEDS else judge(mean - wide, mean + wide)
    ends = {"low": mean - half, "high": mean + half, "low_of_all": mean - wide, "high_of_all": mean + wide}
    return {"mean": mean, **ends, "n": n, "says": says}


def judge(low: float, high: float) -> str:
    """What an interval says of a difference."""
    if low > 0.0 or high < 0.0:
        return "better" if low > 0.0 else "worse"
    return "nothing" if low >= -MARGIN and high <= MARGIN else "not shown"


def count_comparisons(kept: Mapping[str, Mapping[tuple[str, int], object]]) -> int:
    """How many differences of all sizes, ways and metrics have seeds enough for a verdict; at least one."""
    count = 0
    for of_size in kept.values():
        seeds = {way: {seed for other, seed in of_size if other == way} for way in WAYS}
        count += sum(len(seeds[way] & seeds["default"]) >= LEAST_SEEDS for way in WAYS if way != "default")
    return max(1, count * len(METRICS))


def summarise_size(kept: Mapping[tuple[str, int], Mapping[str, float]], num_comparisons: int) -> dict[str, Any]:
    """Each way beside the default, by the seeds that both have."""
    found: dict[str, Any] = {}
    for way, settings in WAYS.items():
        seeds = [seed for other, seed in kept if other == way and ("default", seed) in kept]
        if not seeds:
            continue
        found[way] = {"settings": settings, "seeds": seeds}
        for name in METRICS:
            own, default = ([kept[key, seed][name] for seed in seeds] for key in (way, "default"))
            found[way][name] = {"mean": float(np.mean(own))}
            if way != "default":
                found[way][name]["difference"] = compare(own, default, num_comparisons)
    return found


def print_size(size: str, found: Mapping[str, Any]) -> None:
    """A line for each way."""
    for way, facts in found.items():
        cells = []
        for name in METRICS:
            difference = facts[name].get("difference", {})
            told = ""
            if "low" in difference:
                told = f" {difference['mean']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f}), "
                told += difference["says"]
            cells.append(f"{name} {facts[name]['mean']:.4f}{told}")
        print(f"{size:>5} {way:<22} {'; '.join(cells)}", flush=True)


def read_size(runs: Path, size: str) -> dict[tuple[str, int], dict[str, float]]:
    """What is kept of a size, by way and seed."""
    files = {file: file.stem.split("-") for file in sorted(runs.glob(f"{size}-*.json"))}
    return {(way, int(seed)): json.loads(file.read_text()) for file, (_, way, seed) in files.items()}


def main() -> None:
    """Train what is missing, smaller sizes and seeds first; print, keep."""
    parser = argparse.ArgumentParser(description="What each augmentation brings, by the number of training examples")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default=",".join(EPOCHS))
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    sizes, ways = options.sizes.split(","), ["default", *options.only.split(",")]
    if unknown := {*sizes} - {*EPOCHS} | {*ways} - {*WAYS}:
        raise SystemExit(
            f"not known: {', '.join(sorted(unknown))}; sizes: {', '.join(EPOCHS)}; ways: {', '.join(WAYS)}"
        )
    data, runs = open_data(options.folder), options.folder / "runs"
    runs.mkdir(exist_ok=True)
    # Trainings that differ only in rates, seed or length share a program.
    jax.config.update("jax_compilation_cache_dir", str(options.folder / "programs"))
    for size in sizes:
        for seed in map(int, options.seeds.split(",")):
            for way in dict.fromkeys(ways):
                path = runs / f"{size}-{way}-{seed}.json"
                if not path.exists():
                    began = time.perf_counter()
                    # Renamed when whole: a killed run leaves no half of it.
                    half = path.with_suffix(".half")
                    half.write_text(json.dumps(train(data, size, way, seed)))
                    half.rename(path)
                    print(path.stem, path.read_text(), f"{time.perf_counter() - began:.0f} s", flush=True)
    found, every = {}, {size: read_size(runs, size) for size in EPOCHS}
    number = count_comparisons(every)
    for size, kept in every.items():
        if kept:
            one = next(iter(kept.values()))
            facts = {"epochs": EPOCHS[size], "num_train": one["num_train"], "steps": one["steps"]}
            found[size] = {**facts, "ways": summarise_size(kept, number)}
            print_size(size, found[size]["ways"])
    keep("augmentation", {"margin": MARGIN, "num_comparisons": number, "sizes": found})


if __name__ == "__main__":
    main()
