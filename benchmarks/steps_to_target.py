"""Steps to a validation AUROC by batch: real trainings at four batches, against the model and the noise scale.

    python benchmarks/steps_to_target.py FOLDER [--seeds 0,1,2,3] [--architecture motif] [--filters 64] [--target 0.89]

For each batch there are whole trainings of two lengths on real TAL1, each with its own schedule; the rate grows as the
root of the batch. The steps to the target are where a line through the errors at their ends (log by log, with one
slope for all batches) crosses it.
Then each batch is left out once: its steps are predicted from those of the other three and the noise scale, and once
more from one batch and the noise scale. The critical batch, where steps are twice the least, is that of the hyperbola
through the measured steps (McCandlish 2018, equation 2.7). The network is a small one, and the target one that is soon
reached, so that all takes a quarter of an hour on two quiet cores.

Trainings are kept in FOLDER, and what is finished there is not trained again, so the program can be stopped and started
again, also as several processes with parts of the --batches. Writes results/steps_to_target.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import Dataset, open_dataset
from ebox.datasets.sources import DatasetSources
from ebox.evaluation.validation import ValidationSplit
from ebox.mesh.devices import find_devices, make_mesh
from ebox.planning.noise_scale import NoisePoint, average_noise, measure_points
from ebox.planning.profiles import NoiseScale
from ebox.planning.steps_to_target import Reading, fit_steps
from ebox.settings.reading import Config, make_config
from ebox.training.batches import iter_chunks, iter_plans
from ebox.training.inputs import TrainingInputs
from ebox.training.state import place_state
from ebox.training.step import NUM_SIGNALS, build_run_chunk, make_plan
from machine import describe_machine, find_data, keep

# Steps of the trainings of each batch, about the target.
LENGTHS = {32: (300, 450), 96: (130, 195), 320: (47, 70), 1024: (35, 50)}
RATE, RATE_BATCH = 8e-3, 32
VALIDATIONS = 1
EXAMPLES_A_DISPATCH = 2048
# The batch at which the noise scale is measured.
NOISE_BATCH = 96


def make_settings(options: argparse.Namespace, batch: int, steps: int, seed: int) -> Config:
    """The settings of one training."""
    train = {"batch_size": batch, "max_steps": steps, "seed": seed, "learning_rate": RATE}
    scaling = {"rate_scaling": "sqrt", "rate_batch_size": RATE_BATCH}
    model = {"architecture": options.architecture, "num_filters": options.filters}
    return make_config({"model": model, "train": {**train, **scaling}, "evaluation": {"both_strands": False}})


def open_data(folder: Path) -> Dataset:
    """Real TAL1 against matched negatives, built once."""
    data = find_data() / "tal1"
    if not (folder / "dataset").exists():
        files = {"positives": data / "bound.fa.gz", "negatives": (data / "unbound_matched.fa.gz",)}
        build_dataset(make_config({}).data, folder / "dataset", DatasetSources(**files))
    return open_dataset(folder / "dataset")


def prepare(data: Dataset, settings: Config) -> Callable[[Config], list[tuple[int, float]]]:
    """A function that trains with the compiled step of a batch, and returns the steps and AUROCs of its validations."""
    mesh = make_mesh(find_devices(settings.parallel)[:1])
    plan, chunk_steps = make_plan(settings, mesh), max(1, min(16, EXAMPLES_A_DISPATCH // settings.train.batch_size))
    run_chunk, split = build_run_chunk(mesh, plan, chunk_steps), ValidationSplit(data, settings.evaluation, mesh)

    def train(config: Config) -> list[tuple[int, float]]:
        inputs, found = TrainingInputs.of(data, config), []
        stops = frozenset(round(inputs.num_steps * (place + 1) / VALIDATIONS) for place in range(VALIDATIONS))
        state, signals = place_state(plan.schedule.start(inputs.fresh), mesh), jnp.zeros((mesh.size, NUM_SIGNALS))
        plans = list(iter_plans(0, inputs.num_steps, chunk_steps, stops))
        for one, chunk in iter_chunks(inputs.codes, inputs.targets, inputs.order, plans, chunk_steps, mesh):
            state, _ = run_chunk(state, chunk, signals, inputs.hyper, jnp.asarray(one.count, jnp.int32))
            if (step := one.first + one.count) in stops:
                found.append((step, float(split.measure(state.average)["auroc"])))
        return found

    return train


def train_all(data: Dataset, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All trainings, those that are missing made now."""
    found = []
    ready = cache(lambda batch: prepare(data, make_settings(options, batch, max(LENGTHS[batch]), 0)))
    for seed in options.seeds:
        for batch in options.batches:
            for steps in LENGTHS[batch]:
                path = folder / f"{options.architecture}{options.filters}-{batch}-{steps}-{seed}.json"
                if not path.exists():
                    began, config = time.process_time(), make_settings(options, batch, steps, seed)
                    facts = {"batch_size": batch, "num_steps": steps, "seed": seed, "points": ready(batch)(config)}
                    path.write_text(json.dumps({**facts, "cpu_seconds": time.process_time() - began}))
                found.append(json.loads(path.read_text()))
                print(path.stem, [round(auroc, 4) for _, auroc in found[-1]["points"]], flush=True)
    return found


def measure_noise(data: Dataset, folder: Path, options: argparse.Namespace) -> list[NoisePoint]:
    """The gradients along the longest training of one batch, for each seed."""
    found = []
    for seed in options.seeds:
        path = folder / f"noise-{options.architecture}{options.filters}-{seed}.npz"
        if not path.exists():
            config = make_settings(options, NOISE_BATCH, max(LENGTHS[NOISE_BATCH]), seed)
            points = measure_points(TrainingInputs.of(data, config), config)
            steps, weights = [one.step for one in points], [one.weight for one in points]
            np.savez(path, steps=steps, weights=weights, products=[one.products for one in points])
        kept = np.load(path)
        rows = zip(kept["steps"].tolist(), kept["products"], kept["weights"].tolist(), strict=True)
        found += [NoisePoint(step, products, NOISE_BATCH, weight) for step, products, weight in rows]
    return found


def find_steps(trainings: Sequence[dict[str, Any]], target: float) -> dict[int, float]:
    """The measured steps to the target by batch: lines, log by log, with one slope for all."""
    batches = sorted({one["batch_size"] for one in trainings})
    steps, errors = (np.log([take(one) for one in trainings]) for take in (lambda one: one["num_steps"], last_error))
    own = np.array([[one["batch_size"] == batch for batch in batches] for one in trainings], np.float64)
    *levels, slope = np.linalg.lstsq(np.column_stack([own, steps]), errors, rcond=None)[0]
    return {
        batch: float(np.exp((np.log(1.0 - target) - level) / slope))
        for batch, level in zip(batches, levels, strict=True)
    }


def last_error(training: dict[str, Any]) -> float:
    """1 - AUROC at the end of a training."""
    return 1.0 - float(training["points"][-1][1])


def fit_hyperbola(steps: dict[int, float]) -> float:
    """The batch at which steps are twice the least, by the hyperbola with the least relative errors."""
    batches, found = np.array(list(steps), np.float64), np.log(list(steps.values()))

    def miss(logs: np.ndarray) -> np.ndarray:
        return logs[0] + np.log1p(np.exp(logs[1]) / batches) - found

    return float(np.exp(least_squares(miss, [found.min(), np.log(300.0)]).x[1]))


def spread_hyperbola(trainings: Sequence[dict[str, Any]], target: float, seeds: Sequence[int]) -> list[float]:
    """The critical batch with each seed left out once."""
    kept = [[one for one in trainings if one["seed"] != seed] for seed in seeds]
    return [fit_hyperbola(find_steps(some, target)) for some in kept]


def predict(
    trainings: Sequence[dict[str, Any]], scale: NoiseScale, target: float, batch: int
) -> dict[str, float | None]:
    """The steps of a batch by the model, from trainings at others."""
    readings = [
        Reading(one["num_steps"], 1.0, one["batch_size"], one["points"][-1][1], number)
        for number, one in enumerate(trainings)
    ]
    found = fit_steps(readings, scale).steps(target, batch)
    return {"value": None, "low": None, "high": None} if found is None else found.facts()


def compare(trainings: list[dict[str, Any]], points: list[NoisePoint], options: argparse.Namespace) -> dict[str, Any]:
    """Measured steps and critical batch beside those of the model and of the noise scale."""
    target = options.target
    steps = find_steps(trainings, target)
    # The noise of the steps that lead to the target: what comes later has more of it.
    scale = average_noise([point for point in points if point.step <= steps[NOISE_BATCH]])
    middle = [one for one in trainings if one["batch_size"] == NOISE_BATCH]
    rows = []
    for batch, measured in steps.items():
        others = [one for one in trainings if one["batch_size"] != batch]
        left_out, alone = (predict(some, scale, target, batch) for some in (others, middle))
        rows.append({"batch_size": batch, "measured": measured, "left_out": left_out, "from_one_batch": alone})
        print(f"{batch:>5} {measured:7.1f} steps, left out {left_out}, from batch {NOISE_BATCH} {alone}")
    critical = fit_hyperbola(steps)
    apart = spread_hyperbola(trainings, target, options.seeds)
    print(f"critical batch {critical:.0f} ({min(apart):.0f} to {max(apart):.0f} with one seed left out)")
    print(f"noise scale {scale.batch_size:.0f} ({scale.low:.0f} to {scale.high:.0f})")
    errors = [abs(row["left_out"]["value"] / row["measured"] - 1.0) for row in rows]
    return {
        "target": target,
        "critical_batch": critical,
        "critical_batch_with_a_seed_left_out": apart,
        "noise_scale": scale.model_dump(exclude={"over_steps"}),
        "noise_scale_of_the_whole_training": average_noise(points).model_dump(exclude={"over_steps"}),
        "noise_scale_error": scale.batch_size / critical - 1.0,
        "batches": rows,
        "worst_left_out_error": max(errors),
    }


def main() -> None:
    """Train, measure the noise, compare, print, keep."""
    parser = argparse.ArgumentParser(description="Steps to a validation AUROC by batch")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=read_numbers, default=[0, 1, 2, 3])
    parser.add_argument("--batches", type=read_numbers, default=list(LENGTHS), help="part of them: only train those")
    parser.add_argument("--architecture", default="motif")
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--target", type=float, default=0.89)
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    options.folder.mkdir(exist_ok=True)
    data = open_data(options.folder)
    trainings = train_all(data, options.folder, options)
    if options.batches != list(LENGTHS):
        return
    found = compare(trainings, measure_noise(data, options.folder, options), options)
    shown = {"architecture": options.architecture, "filters": options.filters, "seeds": options.seeds}
    keep("steps_to_target", {**shown, "rate": RATE, "rate_batch": RATE_BATCH, **found, "trainings": trainings})


def read_numbers(text: str) -> list[int]:
    """Numbers separated by commas."""
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
