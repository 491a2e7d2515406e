"""What transfer brings to a factor with few peaks: learning curves on real TAL1, from scratch and from other networks.

    python benchmarks/transfer.py FOLDER                      all that is missing
    python benchmarks/transfer.py FOLDER --only ecfc          one target
    python benchmarks/transfer.py FOLDER --only ecfc-100,hsc  sizes of it
    python benchmarks/transfer.py FOLDER --choose             the recipes, on validation alone
    python benchmarks/transfer.py table                       only the table of what is kept

Targets are TAL1 in one context each, with some of its positives in training, and all negatives of one half of the
matched windows. Each is trained from scratch, from a network of TAL1 in all other contexts, and from one of an
unrelated factor (GUE tf0, 101 bp). Sources of TAL1 have 12,000 training negatives of the other half, and none has
anything that equals, overlaps or is a relative of a test example or a positive of the target (as Novakovsky
2021 takes the loci of the target out of the source). Splits are by chromosome. A seed draws a subset of the positives,
the order, the augmentation and fresh weights, and is the same in all arms: differences are paired. Recipes were chosen
on validation (--choose).

Every training is kept in FOLDER and in results/transfer.json as soon as it has ended; what is kept there is not trained
again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import jax
import numpy as np
from scipy import stats

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import SPLITS, Dataset, is_dataset, open_dataset
from ebox.datasets.seen import find_seen
from ebox.datasets.sources import DatasetSources, read_sources
from ebox.evaluation.inference import predict
from ebox.evaluation.metrics import auprc, auroc
from ebox.evaluation.validation import ValidationSplit
from ebox.mesh.devices import find_devices, make_mesh
from ebox.models.files import load_model
from ebox.models.network import Network
from ebox.sequences.codes import decode
from ebox.settings.reading import Config, DataConfig, make_config
from ebox.storage.run_folder import TRAINING
from ebox.training.loop import fit
from ebox.verbs.train import train
from machine import RESULTS, describe_machine, find_data, keep

NAME = "transfer"
SEEDS = (0, 1, 2, 3, 4)
# The contexts of each target, and its numbers of training positives; None: all.
TARGETS: Mapping[str, tuple[tuple[str, ...], tuple[int | None, ...]]] = {
    "ecfc": (("ECFC",), (100, 300, None)),
    "hsc": (("HSC",), (100, 300, None)),
    "erythroid": (("erythroid", "Erythroid"), (1000, 3000)),
}
UNRELATED = "tf0"
NUM_SOURCE_NEGATIVES, NUM_HELD_OUT_NEGATIVES = 12_000, {"validation": 1000, "test": 2500}
SOURCE_TRAIN = {"max_steps": 2000, "validations": 2, "seed": 0}
UNRELATED_TRAIN = {"max_steps": 1500, "validations": 2, "seed": 0}
# Trainings have the epochs of the defaults, or at least this number of steps.
EPOCHS, VALIDATIONS, BATCH, NEGATIVES_PER_POSITIVE = 12, 4, 64, 2.0
RECIPES: Mapping[str, dict[str, Any]] = {
    "scratch": {"train": {"learning_rate": 8e-3}, "least": 400},
    "tal1": {"transfer": {"rate": 1.0}, "least": 400},
    "unrelated": {"transfer": {"rate": 1.0}, "least": 400},
    # From scratch with the steps of the defaults, which are few with few positives.
    "defaults": {"least": 1},
}
ARMS = tuple(RECIPES)
BEGUN, BASES = ("tal1", "unrelated"), ("scratch", "defaults")
# The AUROC whose number of positives is compared.
REACHED = 0.9


@dataclass(frozen=True)
class Cell:
    """A target with a number of training positives; None: all."""

    target: str
    size: int | None

    @property
    def name(self) -> str:
        """Such as ecfc-100."""
        return f"{self.target}-{'all' if self.size is None else self.size}"


CELLS = tuple(Cell(target, size) for target, (_, sizes) in TARGETS.items() for size in sizes)


# --- Data


def _read_fasta(path: Path) -> Iterator[tuple[str, str]]:
    with gzip.open(path, "rt") as stream:
        head = ""
        for line in stream:
            if line.startswith(">"):
                head = line[1:].strip()
            else:
                yield head, line.strip()


def _write_fasta(path: Path, records: Iterable[tuple[str, str]]) -> Path:
    path.write_text("".join(f">{head}\n{sequence}\n" for head, sequence in records))
    return path


def _half(head: str) -> int:
    """0 or 1, by the place alone."""
    return zlib.crc32(head.split()[0].encode()) % 2


def _split_of(head: str) -> str:
    chrom = head.split(":", 1)[0]
    held_out = {"validation": DataConfig().validation_chroms, "test": DataConfig().test_chroms}
    return next((split for split, chroms in held_out.items() if chrom in chroms), "train")


def _thin(records: Iterable[tuple[str, str]], most: Mapping[str, int]) -> list[tuple[str, str]]:
    """At most a number of records of each split, drawn by chance."""
    of_split: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    for record in records:
        of_split[_split_of(record[0])].append(record)
    for split, number in most.items():
        order = np.random.default_rng(1).permutation(len(of_split[split]))[:number]
        of_split[split] = [of_split[split][place] for place in sorted(order.tolist())]
    return [record for split in SPLITS for record in of_split[split]]


def _build(folder: Path, sources: Callable[[], DatasetSources]) -> Dataset:
    if not is_dataset(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        build_dataset(DataConfig(), folder, sources())
    return open_dataset(folder)


def open_target(folder: Path, target: str) -> Dataset:
    """The positives of a target's contexts against half of the matched windows."""
    data, contexts = find_data() / "tal1", {f"context={name}" for name in TARGETS[target][0]}

    def sources() -> DatasetSources:
        bound = [one for one in _read_fasta(data / "bound.fa.gz") if contexts & set(one[0].split())]
        unbound = [one for one in _read_fasta(data / "unbound_matched.fa.gz") if _half(one[0]) == 0]
        negatives = _write_fasta(folder / f"{target}-n.fa", _thin(unbound, NUM_HELD_OUT_NEGATIVES))
        return DatasetSources(positives=_write_fasta(folder / f"{target}-p.fa", bound), negatives=(negatives,))

    return _build(folder / target / "dataset", sources)


def open_source(folder: Path, target: str) -> Dataset:
    """TAL1 in all other contexts against the other half of the windows, without what the target has."""
    data, contexts = find_data() / "tal1", {f"context={name}" for name in TARGETS[target][0]}

    def sources() -> DatasetSources:
        bound = [one for one in _read_fasta(data / "bound.fa.gz") if not contexts & set(one[0].split())]
        unbound = [one for one in _read_fasta(data / "unbound_matched.fa.gz") if _half(one[0]) == 1]
        unbound = _thin(unbound, {"train": NUM_SOURCE_NEGATIVES, **NUM_HELD_OUT_NEGATIVES})

        def build(place: Path, without: set[str]) -> DatasetSources:
            files = [
                _write_fasta(place.with_suffix(f".{kind}.fa"), (one for one in records if one[1] not in without))
                for kind, records in (("p", bound), ("n", unbound))
            ]
            return DatasetSources(positives=files[0], negatives=(files[1],))

        return _without_target(folder, target, f"{target}-source", build)

    return _build(folder / target / "source-dataset", sources)


def open_unrelated(folder: Path, target: str) -> Dataset:
    """Another factor with its own splits, without what the target has."""
    gue = find_data() / "gue"

    def sources() -> DatasetSources:
        def build(place: Path, without: set[str]) -> DatasetSources:
            files = {}
            for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
                files[split] = place.with_suffix(f".{split}.csv")
                with gzip.open(gue / f"{UNRELATED}_{name}.csv.gz", "rt") as stream, files[split].open("w") as out:
                    rows = csv.DictReader(stream)
                    writer = csv.DictWriter(out, ("sequence", "label"))
                    writer.writeheader()
                    writer.writerows(row for row in rows if row["sequence"] not in without)
            return read_sources(**files)

        return _without_target(folder, target, f"{target}-{UNRELATED}", build)

    return _build(folder / target / "unrelated-dataset", sources)


def _without_target(
    folder: Path, target: str, name: str, build: Callable[[Path, set[str]], DatasetSources]
) -> DatasetSources:
    """The files of a source without the training sequences that have a relative in test or positives of the target."""
    whole = _build(folder / name, lambda: build(folder / f"{name}-whole", set()))
    data = open_target(folder, target)
    rows = np.arange(len(data))
    rows = rows[data.is_positive() | (rows >= data.rows("test").start)]
    found = find_seen(take_rows(data, rows, rows[:0]), whole, whole.rows("train"))
    seen = np.asarray(whole.codes[whole.rows("train")])[found.related]
    note = {"num_train": len(found.related), "num_same": int(found.same.sum()), "num_removed": len(seen)}
    (folder / f"{name}-removed.json").write_text(json.dumps(note))
    print(name, note, flush=True)
    return build(folder / f"{name}-apart", {decode(row) for row in seen})


def take_rows(data: Dataset, train: np.ndarray, validation: np.ndarray) -> Dataset:
    """A dataset in memory with other rows for training and validation, and none for test."""
    rows = np.concatenate([train, validation])
    edges = (0, len(train), len(rows), len(rows))
    splits = {split: {"start": edges[at], "stop": edges[at + 1]} for at, split in enumerate(SPLITS)}
    table = data.examples[rows]
    return replace(
        data,
        manifest={**data.manifest, "splits": splits},
        codes=data.codes[rows],
        targets=data.targets[rows],
        table=table,
    )


def draw_subset(data: Dataset, size: int | None, seed: int) -> Dataset:
    """All negatives and some positives of the training split; the subset of a seed holds its smaller ones."""
    rows, positive = np.arange(len(data)), data.is_positive()
    split = rows[data.rows("train")]
    positives = np.random.default_rng([seed, 7]).permutation(split[positive[split]])[:size]
    chosen = np.sort(np.concatenate([positives, split[~positive[split]]]))
    return take_rows(data, chosen, rows[data.rows("validation")])


# --- Trainings


def train_source(folder: Path, target: str, arm: str) -> Path:
    """Train a source where it is not trained yet, and check that it has seen nothing of the target's test split."""
    out = folder / target / f"{arm}-run"
    if not (out / TRAINING).exists():
        data = open_source(folder, target) if arm == "tal1" else open_unrelated(folder, target)
        asked = open_target(folder, target)
        seen = find_seen(data, asked, asked.rows("test"))
        print(target, arm, f"seen of the target's test: {int(seen.same.sum())}, relatives {int(seen.related.sum())}")
        if seen.same.any():
            raise SystemExit(f"the source {arm} of {target} has seen test examples")
        settings = SOURCE_TRAIN if arm == "tal1" else UNRELATED_TRAIN
        train(data.path, out, make_config({"train": settings}), overwrite=True)
    return out


def make_settings(arm: str, recipe: Mapping[str, Any], num_positives: int, seed: int, source: Path | None) -> Config:
    """The settings of one training of a target."""
    steps = math.ceil(EPOCHS * math.ceil(num_positives * (1.0 + NEGATIVES_PER_POSITIVE) / BATCH))
    steps = max(steps, recipe["least"])
    own = {"seed": seed, "max_steps": steps, "validations": VALIDATIONS, **recipe.get("train", {})}
    transfer = {}
    if source is not None:
        other = {"other_length": True} if arm == "unrelated" else {}
        transfer = {"source": str(source), "fresh": "none", **other, **recipe.get("transfer", {})}
    return make_config({"train": {"checkpoint_every_seconds": 1e6, **own}, "transfer": transfer})


def train_one(
    folder: Path, cell: Cell, arm: str, seed: int, recipe: Mapping[str, Any]
) -> tuple[dict[str, Any], Network]:
    """Train a target once; what is kept of it, and the network."""
    data = draw_subset(open_target(folder, cell.target), cell.size, seed)
    source = train_source(folder, cell.target, arm) if arm in BEGUN else None
    num = int(data.is_positive()[data.rows("train")].sum())
    config = make_settings(arm, recipe, num, seed, source)
    mesh = make_mesh(find_devices(config.parallel)[:1])
    out = folder / "work"
    out.mkdir(exist_ok=True)
    split = ValidationSplit(data, config.evaluation, mesh)
    result = fit(data, config, out, mesh, split.measure)
    facts = {"num_positives": num, "steps": result.steps, "best_step": result.best_step, "seconds": result.seconds}
    return {**facts, "validation": dict(split.measure(result.network))}, result.network


def measure_test(folder: Path, target: str, network: Network) -> tuple[dict[str, float], np.ndarray]:
    """AUROC and AUPRC on the test split of a target, and its logits."""
    data = open_target(folder, target)
    rows = data.rows("test")
    logits = predict(network, np.asarray(data.codes[rows]))[:, 0].astype(np.float64)
    label = data.is_positive()[rows]
    return {"auroc": auroc(label, logits), "auprc": auprc(label, logits)}, logits


# --- What is kept


def read_kept() -> dict[str, Any]:
    """The results that are kept."""
    place = RESULTS / f"{NAME}.json"
    kept = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    return {"recipes": {}, "chosen": {}, "sources": {}, "trainings": {}, "summary": {}, **kept}


def save(kept: dict[str, Any]) -> None:
    """Keep the results with their summary."""
    facts = {key: value for key, value in kept.items() if key != "machine"}
    keep(NAME, {**facts, "summary": summarise_cells(kept)})


def summarise_cells(kept: Mapping[str, Any]) -> dict[str, Any]:
    """For each cell the mean of every arm, and its paired differences from scratch with intervals over seeds."""
    found: dict[str, Any] = {}
    for cell in CELLS:
        runs = kept["trainings"].get(cell.name, {})
        scores = {
            arm: {int(seed): one["test"] for seed, one in runs.get(arm, {}).items()} for arm in ARMS if arm in runs
        }
        arms = {
            arm: {name: _spread([one[name] for one in of.values()]) for name in ("auroc", "auprc")}
            for arm, of in scores.items()
        }
        gains = {
            f"{arm} over {base}": {
                name: _spread(
                    [of[name] - scores[base][seed][name] for seed, of in scores[arm].items() if seed in scores[base]]
                )
                for name in ("auroc", "auprc")
            }
            for arm in BEGUN
            for base in BASES
            if arm in scores and base in scores
        }
        found[cell.name] = {"arms": arms, "gains": gains}
    for target in TARGETS:
        cells = [cell for cell in CELLS if cell.target == target]
        found[f"{target} reaches {REACHED}"] = {arm: _find_size(found, cells, arm) for arm in ARMS}
    return found


def _find_size(found: Mapping[str, Any], cells: Sequence[Cell], arm: str) -> str | None:
    """The smallest size with which the mean AUROC of an arm over all seeds is high enough; None: none, or few seeds."""
    for cell in cells:
        scores = found[cell.name]["arms"].get(arm)
        if scores is not None and scores["auroc"]["n"] >= len(SEEDS) and scores["auroc"]["mean"] >= REACHED:
            return cell.name
    return None


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, and the 95 % interval of Student's t over seeds."""
    if len(values) < 2:
        return {"mean": fmean(values) if values else None, "low": None, "high": None, "n": len(values)}
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    mean = fmean(values)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(values)}


def add_sampling(folder: Path, kept: Mapping[str, Any], num: int = 2000) -> dict[str, Any]:
    """Intervals of the mean gain in AUROC over the draw of test examples too: clusters of them and seeds drawn anew."""
    found = {}
    for cell in CELLS:
        if not any(_logits_of(folder, cell, arm, seed).exists() for arm in BEGUN for seed in SEEDS):
            continue
        data = open_target(folder, cell.target)
        rows = data.rows("test")
        label = data.is_positive()[rows]
        cluster = data.examples["cluster"][rows.start : rows.stop].to_numpy()
        _, number = np.unique(cluster, return_inverse=True)
        for arm in BEGUN:
            places = {seed: [_logits_of(folder, cell, one, seed) for one in (arm, "scratch")] for seed in SEEDS}
            pairs = [[np.load(place) for place in pair] for pair in places.values() if all(p.exists() for p in pair)]
            if len(pairs) < 2:
                continue
            rng, drawn = np.random.default_rng(0), []
            for _ in range(num):
                weights = np.bincount(rng.integers(0, number.max() + 1, number.max() + 1), minlength=number.max() + 1)
                picked = np.repeat(np.arange(len(label)), weights[number])
                if label[picked].all() or not label[picked].any():
                    continue
                seeds = rng.integers(0, len(pairs), len(pairs))
                gains = [
                    auroc(label[picked], pairs[seed][0][picked]) - auroc(label[picked], pairs[seed][1][picked])
                    for seed in seeds.tolist()
                ]
                drawn.append(fmean(gains))
            low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
            found[f"{cell.name} {arm}"] = {"low": low, "high": high}
    return found


def _logits_of(folder: Path, cell: Cell, arm: str, seed: int) -> Path:
    return folder / "logits" / f"{cell.name}-{arm}-{seed}.npy"


# --- Recipes, on validation


def list_recipes() -> dict[str, tuple[str, dict[str, Any]]]:
    """What is compared on validation: an arm, and a recipe."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for rate in (8e-3, 4e-3):
        for least in (200, 600, 1200):
            found[f"scratch rate {rate:g} least {least}"] = (
                "scratch",
                {"train": {"learning_rate": rate}, "least": least},
            )
    for transfer in (
        {"rate": 1.0},
        {"rate": 0.25},
        {"rate": 0.05},
        {"rate": 0.25, "freeze": "motifs"},
        {"rate": 0.25, "freeze": "body"},
        {"rate": 0.25, "statistics": "keep"},
        {"rate": 0.25, "statistics": "estimate"},
        {"rate": 0.25, "rate_decay": 0.7},
        {"rate": 0.25, "unfreeze_share": 0.5},
        {"rate": 0.25, "fresh": "output"},
    ):
        name = ", ".join(f"{key} {value}" for key, value in transfer.items())
        found[f"tal1 {name}"] = ("tal1", {"transfer": transfer, "least": 200})
    for rate in (0.25, 0.5, 1.0):
        found[f"tal1 rate {rate}, least 400"] = ("tal1", {"transfer": {"rate": rate}, "least": 400})
    for transfer in (
        {"rate": 1.0},
        {"rate": 0.25},
        {"rate": 1.0, "fresh": "output"},
        {"rate": 0.25, "fresh": "output"},
    ):
        name = ", ".join(f"{key} {value}" for key, value in transfer.items())
        found[f"unrelated {name}"] = ("unrelated", {"transfer": transfer, "least": 600})
    return found


def choose(folder: Path, cells: Sequence[Cell], seeds: Sequence[int], only: Sequence[str]) -> None:
    """Train every recipe on some cells, and print and keep what validation says."""
    for name, (arm, recipe) in list_recipes().items():
        if only and not any(part in name for part in only):
            continue
        for cell in cells:
            for seed in seeds:
                kept = read_kept()
                place = kept["recipes"].setdefault(name, {}).setdefault(cell.name, {})
                if str(seed) in place:
                    continue
                facts, _ = train_one(folder, cell, arm, seed, recipe)
                place[str(seed)] = facts
                save(kept)
                print(
                    f"{name}; {cell.name}, seed {seed}: validation AUROC {facts['validation']['auroc']:.4f}, step "
                    f"{facts['best_step']} of {facts['steps']}, {facts['seconds']:.0f} s",
                    flush=True,
                )


def run_all(folder: Path, cells: Sequence[Cell], arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Train what is missing, seed by seed, so that what there is at any time is balanced."""
    (folder / "logits").mkdir(exist_ok=True)
    for seed in seeds:
        for cell in cells:
            for arm in arms:
                kept = read_kept()
                place = kept["trainings"].setdefault(cell.name, {}).setdefault(arm, {})
                if str(seed) in place:
                    continue
                facts, network = train_one(folder, cell, arm, seed, RECIPES[arm])
                facts["test"], logits = measure_test(folder, cell.target, network)
                np.save(_logits_of(folder, cell, arm, seed), logits)
                place[str(seed)] = {**facts, "recipe": RECIPES[arm]}
                if arm in BEGUN:
                    _note_source(folder, kept, cell.target, arm)
                save(kept)
                print(
                    f"{cell.name} {arm} seed {seed}: test AUROC {facts['test']['auroc']:.4f}, {facts['steps']} steps, "
                    f"{facts['seconds']:.0f} s",
                    flush=True,
                )


def _note_source(folder: Path, kept: dict[str, Any], target: str, arm: str) -> None:
    """Keep what was removed of a source, and what it reaches on the target's test split as it is."""
    if f"{target} {arm}" in kept["sources"]:
        return
    removed = folder / f"{target}-{'source' if arm == 'tal1' else UNRELATED}-removed.json"
    source = load_model(folder / target / f"{arm}-run").network
    kept["sources"][f"{target} {arm}"] = {
        "test": measure_test(folder, target, source)[0],
        **json.loads(removed.read_text()),
    }


def print_table(kept: Mapping[str, Any]) -> None:
    """A row for each cell and arm."""
    for name, cell in kept["summary"].items():
        if "arms" not in cell:
            print(name, cell)
            continue
        for arm, scores in cell["arms"].items():
            print(f"{name:15} {arm:10} AUROC {_tell(scores['auroc'])}, AUPRC {_tell(scores['auprc'])}")
        for pair, gain in cell["gains"].items():
            print(f"{name:15} {pair}: AUROC {_tell(gain['auroc'], '+.4f')}, AUPRC {_tell(gain['auprc'], '+.4f')}")


def _tell(spread: Mapping[str, Any], style: str = ".4f") -> str:
    if spread["low"] is None:
        return "-" if spread["mean"] is None else format(spread["mean"], style)
    return f"{spread['mean']:{style}} ({spread['low']:{style}} to {spread['high']:{style}}; n = {spread['n']})"


def main() -> None:
    """Train what is missing; print, keep."""
    parser = argparse.ArgumentParser(description="Learning curves with and without transfer, on real TAL1")
    parser.add_argument("folder", help="folder of datasets and runs, or `table`")
    parser.add_argument("--only", default="", help="targets, cells such as ecfc-100, or parts of recipes' names")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--choose", default="", metavar="CELLS", help="compare recipes on these cells, on validation")
    options = parser.parse_args()
    if options.folder == "table":
        print_table(read_kept())
        return
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    print(describe_machine(), flush=True)
    # Trainings of one shape differ in numbers only, and are compiled once.
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    seeds, only = [int(part) for part in options.seeds.split(",")], [part for part in options.only.split(",") if part]
    if options.choose:
        names = options.choose.split(",")
        choose(folder, [cell for cell in CELLS if cell.name in names], seeds, only)
        return
    cells = [cell for cell in CELLS if not only or cell.target in only or cell.name in only]
    run_all(folder, cells, options.arms.split(","), seeds)
    kept = read_kept()
    kept["sampling"] = add_sampling(folder, kept)
    save(kept)
    print_table(read_kept())


if __name__ == "__main__":
    main()
