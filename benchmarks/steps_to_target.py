"""Steps to a validation AUROC by batch: real trainings at four batches, against the model and the noise scale.

    python benchmarks/steps_to_target.py FOLDER [--seeds 0,1,2] [--architecture motif] [--filters 64] [--target 0.92]

For each batch whole trainings of several lengths on real TAL1, each with its own schedule; the rate grows as the root of
the batch. The steps to the target are where a line through the errors of the last validations (log by log) crosses it.
Then each batch is left out once: its steps are predicted from those of the other three and the measured noise scale, and
again from one batch alone. The critical batch, where steps are twice the least, is that of the hyperbola through the
measured steps (McCandlish 2018, equation 2.7). The network is a small one, so that all of it takes a quarter of an hour.

Trainings are kept in FOLDER, and what is finished there is not trained again, so the program can be stopped and started
again, also as several processes with other --batches. Writes results/steps_to_target.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import Dataset, open_dataset
from ebox.datasets.sources import DatasetSources
from ebox.evaluation.validation import ValidationSplit
from ebox.mesh.devices import find_devices, make_mesh
from ebox.planning.noise_scale import NoisePoint, measure_points
from ebox.settings.reading import Config, make_config
from ebox.training.batches import iter_chunks, iter_plans
from ebox.training.inputs import TrainingInputs
from ebox.training.state import place_state
from ebox.training.step import NUM_SIGNALS, build_run_chunk, make_plan
from machine import describe_machine, find_data

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
    """The noise of the gradient along the middle training of one batch, of each seed."""
    found = []
    for seed in options.seeds:
        path = folder / f"noise-{options.architecture}{options.filters}-{seed}.json"
        if not path.exists():
            config = make_settings(options, NOISE_BATCH, LENGTHS[NOISE_BATCH][1], seed)
            path.write_text(
                json.dumps([asdict(one) for one in measure_points(TrainingInputs.of(data, config), config)])
            )
        found += [NoisePoint(**one) for one in json.loads(path.read_text())]
    return found


def cross(trainings: Sequence[dict[str, Any]], target: float) -> float:
    """The steps at which a line through the last errors, log by log, crosses the target."""
    steps = np.log([one["num_steps"] for one in trainings])
    errors = np.log([1.0 - one["points"][-1][1] for one in trainings])
    slope, level = np.polyfit(steps, errors, 1)
    return float(np.exp((np.log(1.0 - target) - level) / slope))


def main() -> None:
    """Train, measure the noise, compare, print, keep."""
    parser = argparse.ArgumentParser(description="Steps to a validation AUROC by batch")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2, 3])
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=list(LENGTHS))
    parser.add_argument("--architecture", default="motif")
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--target", type=float, default=0.91)
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    options.folder.mkdir(exist_ok=True)
    data = open_data(options.folder)
    trainings = train_all(data, options.folder, options)
    if options.batches != list(LENGTHS):
        return


if __name__ == "__main__":
    main()
