"""Whether several factors trained together are better than each alone, and than one network for all their loci.

    python benchmarks/factors.py FOLDER [--only tal1,gue] [--tracks ECFC,HSC] [--seeds 0,1,2]

TAL1 in six contexts: a locus is known to be bound in the one that it was found in, and unknown in the others; windows
without TAL1 are unbound in all. The five human factors of GUE on their own splits, whose train rows lose what another
factor has in validation or test. Three ways to train on the same rows: each track alone, all positives pooled as one
label, and jointly, a logit for each. How long each trains alone is chosen on validation by the first seed. Then the
other seeds are trained so, and test is read. Everything is kept in FOLDER, and what is finished there is not made
again. Writes results/factors.json after each group.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ebox.datasets.folder import SPLITS, UNKNOWN_TARGET, Dataset, open_dataset
from ebox.datasets.sources import read_sources
from ebox.evaluation.bootstrap import compare_scores
from ebox.evaluation.inference import predict
from ebox.evaluation.metrics import auprc, auroc
from ebox.models.files import load_model
from ebox.settings.reading import make_config
from ebox.storage.publishing import read_json
from ebox.storage.run_folder import TRAINING
from ebox.verbs.build import build
from ebox.verbs.train import train
from machine import RESULTS, describe_machine, find_data, keep

LETTERS = np.frombuffer(b"ACGTN", np.uint8)
JOINT, POOLED = "jointly", "pooled"
# Half the filters of the default, and half the validations: dozens of trainings, of few positives against many windows.
MODEL, TRAIN = {"num_filters": 64}, {"validations": 3}
# What is chosen between, on validation; few examples may want more epochs than many.
WAYS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    JOINT: {"as they are": {}},
    POOLED: {"as they are": {}},
    "alone": {"12 epochs": {}, "36 epochs": {"epochs": 36}},
}
METRICS = {"auroc": auroc, "auprc": auprc}


@dataclass(frozen=True)
class Job:
    """A training: all tracks jointly or pooled, or the name of the one that is alone."""

    arm: str
    way: str
    seed: int

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of its way."""
        return WAYS.get(self.arm, WAYS["alone"])[self.way]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arm}-{self.way.replace(' ', '-')}-{self.seed}"


def build_tal1(folder: Path) -> None:
    """The six contexts as tracks, split by chromosome."""
    data, records = find_data() / "tal1", dict[str, list[str]]()
    with gzip.open(data / "bound.fa.gz", "rt") as stream:
        for line in stream:
            if line.startswith(">"):
                context = line.partition("context=")[2].split()[0]
            records.setdefault(context, []).append(line)
    # Two of them differ in a capital alone.
    names = {context: f"{number}_{context}.fa" for number, context in enumerate(records)}
    for context, lines in records.items():
        (folder / names[context]).write_text("".join(lines))
    rows = "".join(f"{context}\t{names[context]}\n" for context in sorted(records, key=lambda name: len(records[name])))
    (folder / "tracks.tsv").write_text("track\tpositives\n" + rows)
    negatives = [data / "unbound_matched.fa.gz"]
    build(folder / JOINT, read_sources(tracks=folder / "tracks.tsv", negatives=negatives))


def build_gue(folder: Path) -> None:
    """The five factors as columns of one table for each split."""
    names = [f"tf{number}" for number in range(5)]
    for split, file in zip(SPLITS, ("train", "dev", "test"), strict=True):
        with (folder / f"{split}.csv").open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["sequence", *names])
            for name in names:
                with gzip.open(find_data() / "gue" / f"{name}_{file}.csv.gz", "rt") as stream:
                    for row in csv.DictReader(stream):
                        labels = [row["label"] if name == other else "" for other in names]
                        writer.writerow([row["sequence"], *labels])
    config = make_config({"data": {"label_columns": names, "clean_given_splits": True}})
    build(folder / JOINT, read_sources(**{split: folder / f"{split}.csv" for split in SPLITS}), config)


BUILDS = {"tal1": build_tal1, "gue": build_gue}


def write_part(joint: Dataset, arm: str, out: Path) -> None:
    """Build the rows of a joint dataset that one track knows, with its labels, or all with one label."""
    known, is_bound = np.asarray(joint.targets) != UNKNOWN_TARGET, np.asarray(joint.targets) == 1
    column = slice(None) if arm == POOLED else [joint.tracks.index(arm)]
    chosen, label = known[:, column].any(axis=1), is_bound[:, column].any(axis=1)
    for split in SPLITS:
        rows = np.arange(joint.rows(split).start, joint.rows(split).stop)
        rows = rows[chosen[rows]]
        letters = (LETTERS[np.asarray(joint.codes[row])].tobytes().decode() for row in rows.tolist())
        lines = (f"{text},{int(label[row])}\n" for text, row in zip(letters, rows.tolist(), strict=True))
        out.with_name(f"{out.name}-{split}.csv").write_text("sequence,label\n" + "".join(lines))
    build(out, read_sources(**{split: out.with_name(f"{out.name}-{split}.csv") for split in SPLITS}))


def score(folder: Path, joint: Dataset, job: Job) -> np.ndarray:
    """The logits of validation and test, (example, track), of a training that is made where it is not there yet."""
    run = folder / job.name
    file = run / "held_out.npy"
    if file.exists():
        return np.load(file)
    dataset = folder / job.arm
    if not dataset.exists():
        write_part(joint, job.arm, dataset)
    config = make_config({"model": MODEL, "train": {**TRAIN, "seed": job.seed, **job.settings}})
    if not (run / TRAINING).exists():
        train(dataset, run, config, resume=True)
        print(f"{job.name}: {read_json(run / TRAINING)['seconds']:.0f} s", flush=True)
    codes = joint.codes[joint.rows("validation").start : joint.rows("test").stop]
    logits = predict(load_model(run).network, codes, both_strands=True)
    np.save(file, logits)
    return logits


class Group:
    """The trainings of one group of tracks, and what they reach."""

    def __init__(self, folder: Path, joint: Dataset, seeds: Sequence[int]) -> None:
        """Of a joint dataset in a folder."""
        self.folder, self.joint, self.seeds = folder, joint, seeds
        self.first = joint.rows("validation").start

    def rows(self, track: str, split: str, *, related: bool = True) -> np.ndarray:
        """The rows of a split that a track knows; without those that have a relative in train, if asked."""
        rows, part = self.joint.rows(split), slice(self.joint.rows(split).start, self.joint.rows(split).stop)
        known = np.asarray(self.joint.targets[part, self.joint.tracks.index(track)]) != UNKNOWN_TARGET
        if not related:
            known &= self.joint.examples["relative"][part].is_null().to_numpy()
        return np.flatnonzero(known) + rows.start

    def scores(self, job: Job, track: str, rows: np.ndarray) -> np.ndarray:
        """Its logits for a track."""
        logits = score(self.folder, self.joint, job)
        column = self.joint.tracks.index(track) if logits.shape[1] > 1 else 0
        return logits[rows - self.first, column].astype(np.float64)

    def labels(self, track: str, rows: np.ndarray) -> np.ndarray:
        """Which of the rows are positive."""
        return np.asarray(self.joint.targets[rows, self.joint.tracks.index(track)]) == 1

    def validate(self, job: Job, tracks: Iterable[str]) -> float:
        """AUROC on validation, over the tracks."""
        found = []
        for track in tracks:
            rows = self.rows(track, "validation")
            found.append(auroc(self.labels(track, rows), self.scores(job, track, rows)))
        return fmean(found)

    def choose(self, arm: str) -> dict[str, Any]:
        """The way of an arm with the best AUROC on validation by the first seed, and those of all."""
        tracks = self.joint.tracks if arm in (JOINT, POOLED) else [arm]
        ways = WAYS.get(arm, WAYS["alone"])
        found = {way: self.validate(Job(arm, way, self.seeds[0]), tracks) for way in ways}
        return {"way": max(found, key=lambda way: found[way]), "validation_auroc": found}

    def measure(self, track: str, chosen: Mapping[str, Mapping[str, Any]], *, related: bool) -> dict[str, Any]:
        """Test metrics of the three arms by seed, and the paired differences."""
        rows = self.rows(track, "test", related=related)
        labels, clusters = self.labels(track, rows), self.joint.examples["cluster"].to_numpy()[rows]
        scores = {
            name: [self.scores(Job(arm, chosen[arm]["way"], seed), track, rows) for seed in self.seeds]
            for name, arm in (("alone", track), (POOLED, POOLED), (JOINT, JOINT))
        }
        facts: dict[str, Any] = {"num_positive": int(labels.sum()), "num_negative": int((~labels).sum())}
        for metric, of in METRICS.items():
            values = {name: [of(labels, each) for each in of_arm] for name, of_arm in scores.items()}
            against = {
                other: {
                    **describe_pairs(values[JOINT], values[other]),
                    "by_examples": compare_means(labels, scores[JOINT], scores[other], metric, clusters),
                }
                for other in ("alone", POOLED)
            }
            facts[metric] = {"seeds": values, "jointly_minus": against}
        return facts

    def run(self, tracks: Sequence[str]) -> dict[str, Any]:
        """Choose, train the other seeds, and read test."""
        chosen = {arm: self.choose(arm) for arm in [*tracks, JOINT, POOLED]}
        found = {}
        for track in tracks:
            train_rows = self.joint.targets[self.joint.rows("train"), self.joint.tracks.index(track)]
            found[track] = {
                "seeds": list(self.seeds),
                "num_train_positive": int((np.asarray(train_rows) == 1).sum()),
                "test": self.measure(track, chosen, related=True),
                "test_without_relatives": self.measure(track, chosen, related=False),
            }
            print(*tell(track, found[track]), sep="\n", flush=True)
        return {"chosen": chosen, "tracks": found}


def describe_pairs(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """The mean difference over the seeds with its 95 % interval by Student's t, and how each seed ends."""
    each = [one - other for one, other in zip(first, second, strict=True)]
    if len(each) < 2:
        return {"mean": each[0], "low": None, "high": None, "each": each}
    half = float(stdtrit(len(each) - 1, 0.975)) * stdev(each) / len(each) ** 0.5
    return {"mean": fmean(each), "low": fmean(each) - half, "high": fmean(each) + half, "each": each}


def compare_means(
    labels: np.ndarray, first: Sequence[np.ndarray], second: Sequence[np.ndarray], metric: Any, clusters: np.ndarray
) -> dict[str, Any]:
    """The same difference of the logits averaged over the seeds, with its interval over the test examples."""
    found = compare_scores(labels, sum(first) / len(first), sum(second) / len(second), metric=metric, clusters=clusters)
    ends = found.difference
    return {"value": ends.value, "low": ends.low, "high": ends.high, "p_value": found.p_value}


def tell(track: str, facts: Mapping[str, Any]) -> Iterator[str]:
    """The AUROC of the arms on test, and the differences."""
    of = facts["test"]["auroc"]
    means = ", ".join(f"{arm} {fmean(values):.4f}" for arm, values in of["seeds"].items())
    yield f"{track}, {facts['num_train_positive']:,} positives train: AUROC {means}"
    for other, pair in of["jointly_minus"].items():
        ends = "" if pair["low"] is None else f" [{pair['low']:+.4f}, {pair['high']:+.4f}] over seeds"
        examples = pair["by_examples"]
        yield (
            f"  jointly minus {other}: {pair['mean']:+.4f}{ends}, averaged scores {examples['value']:+.4f} "
            f"[{examples['low']:+.4f}, {examples['high']:+.4f}] over test examples"
        )


def main() -> None:
    """Measure the groups that are asked for."""
    parser = argparse.ArgumentParser(description="Several factors trained together against each alone")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="tal1,gue")
    parser.add_argument("--tracks", help="of the group; none: all")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    for name in options.only.split(","):
        folder = options.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / JOINT).exists():
            BUILDS[name](folder)
        joint = open_dataset(folder / JOINT)
        tracks = joint.tracks if options.tracks is None else options.tracks.split(",")
        seeds = [int(seed) for seed in options.seeds.split(",")]
        found = Group(folder, joint, seeds).run(tracks)
        kept = RESULTS / "factors.json"
        groups = read_json(kept)["groups"] if kept.exists() else {}
        before = groups.get(name, {})
        groups[name] = {key: {**before.get(key, {}), **facts} for key, facts in found.items()}
        keep("factors", {"model": MODEL, "train": TRAIN, "groups": groups})


if __name__ == "__main__":
    main()
