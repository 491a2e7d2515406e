"""Calibration and sets of answers: on the kept scores of trained runs, and how far one validation split can be trusted.

    python benchmarks/calibration.py RUN [RUN …]
    python benchmarks/calibration.py --simulate

Of each run, and of each training with another seed in it, `predictions.parquet` gives the scores. Each method is fitted
to validation, and measured on test, with and without the relatives of training sequences. The simulation chooses the
best of several equally good networks on the validation split that then fixes the sets and the calibration, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars
from scipy.special import ndtr
from scipy.stats import rankdata

from ebox.evaluation.bootstrap import bootstrap_metrics
from ebox.evaluation.calibration import METHODS, Calibration, fit_calibration
from ebox.evaluation.clusters import Clustering
from ebox.evaluation.conformal import find_limits, measure_sets
from ebox.evaluation.metrics import auroc, calibration_error
from ebox.evaluation.prevalence import shift_log_odds
from ebox.evaluation.split_metrics import squash
from ebox.storage.publishing import read_json
from ebox.storage.run_folder import PREDICTIONS, TRAINING, find_seeds
from ebox.verbs.opening import open_dataset_of
from machine import RESULTS, keep

COVERAGE = 0.9
RARE = 0.01
# Positives of validation, as many times as many negatives, networks to choose from, and how their scores correlate.
DESIGNS = [
    (num, few, among, alike) for num, few in ((1300, 5), (300, 5), (100, 5)) for among, alike in ((6, 0.9), (64, 0.7))
]
SHIFT = 2.3


def main() -> None:
    """Measure runs, or simulate, and keep the figures beside those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders with an evaluation")
    parser.add_argument("--simulate", action="store_true", help="choose networks and fix sets on one validation split")
    parser.add_argument("--trials", type=int, default=400)
    arguments = parser.parse_args()
    file = RESULTS / "calibration.json"
    kept = read_json(file) if file.exists() else {}
    facts = {name: kept.get(name, []) for name in ("runs", "simulated")}
    if arguments.runs:
        facts["runs"] = [row for run in arguments.runs for row in measure_run(run)]
    if arguments.simulate:
        facts["simulated"] = [simulate(*design, trials=arguments.trials) for design in DESIGNS]
    keep("calibration", facts)


def measure_run(run: Path) -> list[dict[str, Any]]:
    """A row for each training of a run and each part of its test split."""
    dataset, _ = open_dataset_of(run, None)
    rows = slice(dataset.rows("validation").start, dataset.rows("test").stop)
    known = dataset.examples[rows.start : rows.stop].select("cluster", "relative")
    found = []
    for seed, folder in {"own": run, **find_seeds(run)}.items():
        table = polars.read_parquet(folder / PREDICTIONS).with_columns(known)
        scores = {
            split: read_split(folder, table.filter(polars.col("split") == split)) for split in ("validation", "test")
        }
        for part, chosen in (("all", slice(None)), ("without relatives", ~scores["test"][3])):
            test = tuple(column[chosen] for column in scores["test"])
            found.append({"run": run.name, "seed": seed, "test": part, **measure_scores(scores["validation"], test)})
            print(found[-1], flush=True)
    return found


def read_split(folder: Path, table: polars.DataFrame) -> tuple[np.ndarray, ...]:
    """Targets, logits as before calibration, clusters, and which examples have a relative in training."""
    (track,) = [name.removeprefix("logit_") for name in table.columns if name.startswith("logit_")]
    entry = next(iter(read_json(folder / TRAINING)["calibration"]), {"scale": 1.0, "offset": 0.0})
    if entry.get("knots") is not None:
        raise SystemExit(f"{folder} was calibrated by isotonic regression, which these scores can't be read through")
    logits = (table[f"logit_{track}"].to_numpy().astype(np.float64) - entry["offset"]) / entry["scale"]
    table = table.with_columns(polars.Series("logits", logits)).filter(polars.col(f"target_{track}") < 2)
    return (
        table[f"target_{track}"].to_numpy() == 1,
        table["logits"].to_numpy(),
        table["cluster"].to_numpy().astype(np.int64),
        table["relative"].is_not_null().to_numpy(),
    )


def measure_scores(validation: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...]) -> dict[str, Any]:
    """What each method gives on test, the sets, and the probabilities at a prevalence of 1 %."""
    chosen = fit_calibration(*validation[:3])
    methods = {method: fit_calibration(*validation[:3], method=method) for method in METHODS}
    return {
        "validation": [len(validation[0]), int(validation[0].sum())],
        "examples": [len(test[0]), int(test[0].sum())],
        "auroc": round(auroc(*test[:2]), 4),
        "chosen": chosen.method,
        "compared": chosen.compared,
        "methods": {
            method: measure_method(one, *test[:3]) for method, one in ({"none": Calibration()} | methods).items()
        },
        "sets": measure_coverage(validation, test),
        "rare": measure_rare(methods["platt"], float(validation[0].mean()), *test[:2]),
    }


def measure_method(
    calibration: Calibration, targets: np.ndarray, logits: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Calibration error and Brier score with their intervals."""
    probabilities = squash(calibration.apply(logits))
    found = bootstrap_metrics(targets, probabilities, clusters=labels)
    return {
        name: [round(float(end or 0.0), 4) for end in vars(found[name]).values()]
        for name in ("calibration_error", "brier")
    }


def measure_coverage(validation: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...]) -> dict[str, Any]:
    """Coverage and mean size by class, with limits from all of validation, and from what has no relatives."""
    found = {}
    for name, chosen in (("all", slice(None)), ("without relatives", ~validation[3])):
        targets, logits, labels, _ = (column[chosen] for column in validation)
        limits, reason = find_limits(targets, logits, Clustering.of(targets, labels), COVERAGE)
        if limits is None:
            found[name] = {"reason": reason}
            continue
        measured = measure_sets(limits, *test[:2], Clustering.of(test[0], test[2]))
        found[name] = {
            kind: {
                "coverage": [round(end, 4) for end in each["coverage"].values()],
                "mean_size": round(each["mean_size"], 3),
            }
            for kind, each in measured.items()
        }
    return found


def measure_rare(calibration: Calibration, share: float, targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Where 1 % are positive: the mean probability over the true share, before and after its logits are moved."""
    weights = np.where(targets, RARE / targets.sum(), (1.0 - RARE) / (~targets).sum())
    moved = calibration.apply(logits)
    shifted = moved + shift_log_odds(share, RARE)
    return {
        name: round(float(weights @ squash(one)) / RARE, 3) for name, one in (("before", moved), ("after", shifted))
    }


def simulate(num_positive: int, times: int, among: int, alike: float, *, trials: int) -> dict[str, Any]:
    """The mean coverage of the best of some equally good networks, fixed on the split that chose it and on a fresh one.

    Scores are unit normals, `SHIFT` apart, so the coverage on all data is known. The calibration error is of 50,000
    fresh examples.

    Args:
        num_positive: Positives of validation.
        times: Negatives for each of them.
        among: How many networks there are to choose from.
        alike: The correlation of their scores within a class.
        trials: How often.
    """
    generator = np.random.default_rng([num_positive, among])
    targets = np.arange(num_positive * (1 + times)) < num_positive
    fresh = np.arange(50_000) < 50_000 // (1 + times)
    clusters, found = Clustering.of(targets), {"same": [], "fresh": []}
    for _ in range(trials):
        shared = generator.normal(size=len(targets))
        own = generator.normal(size=(among, len(targets)))
        networks = np.sqrt(alike) * shared + np.sqrt(1.0 - alike) * own + SHIFT * targets
        # The sum of the ranks of positives rises with the AUROC.
        best = networks[np.argmax(rankdata(networks, axis=1)[:, targets].sum(axis=1))]
        unseen, logits = (generator.normal(size=len(of)) + SHIFT * of for of in (targets, fresh))
        for name, scores in (("same", best), ("fresh", unseen)):
            limits, _ = find_limits(targets, scores, clusters, COVERAGE)
            assert limits is not None
            error = calibration_error(fresh, squash(fit_calibration(targets, scores, method="platt").apply(logits)))
            found[name].append((1.0 - ndtr(limits.positive - SHIFT), ndtr(limits.negative), error))
    row: dict[str, Any] = {
        "positives": num_positive,
        "negatives": num_positive * times,
        "networks": among,
        "alike": alike,
    }
    for name, each in found.items():
        means, errors = np.mean(each, axis=0), np.std(each, axis=0) / np.sqrt(trials)
        row[name] = dict(zip(("positive", "negative", "calibration_error"), np.round(means, 4).tolist(), strict=True))
        row[name]["error"] = float(errors[:2].max().round(4))
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
