"""Whole trainings on parts of the train split, each part inside the next one, for the learning curve over data."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from ebox.diagnosis.bench_plan import count_part_steps
from ebox.diagnosis.bench_probe import Probe
from ebox.mesh.devices import find_devices, make_mesh
from ebox.planning.profiles import Learning, Point
from ebox.progress import OnEntry, quiet
from ebox.training.inputs import TrainingInputs
from ebox.training.loop import check_trainable, fit


@dataclass(frozen=True)
class PartOfTrain:
    """A dataset whose train split has only some of its rows."""

    codes: UInt8[np.ndarray, "example length"]
    targets: UInt8[np.ndarray, "example track"]
    fingerprint: str

    @property
    def length_bp(self) -> int:
        """Length of the sequences."""
        return self.codes.shape[1]

    def rows(self, split: str) -> slice:
        """The rows of the train split, which are all that are here."""
        return slice(0, len(self.codes))


def choose_rows(targets: UInt8[np.ndarray, "example track"], share: float, seed: int) -> Int64[np.ndarray, " row"]:
    """Rows of a part with positives and negatives in the shares of the whole; a smaller part is inside a larger one.

    Args:
        targets: Those of the train split.
        share: Of the rows, above 0 and up to 1.
        seed: Of the shuffle.
    """
    is_positive = (targets == 1).any(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    chosen = [
        rows[: math.ceil(share * len(rows))]
        for rows in (shuffled[is_positive[shuffled]], shuffled[~is_positive[shuffled]])
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def train_on_part(probe: Probe, share: float, on_entry: OnEntry = quiet) -> Learning:
    """Train on a part of the train split, and validate on all of the validation split.

    Args:
        probe: The dataset, the settings, and when the program was started.
        share: Of the rows of the train split.
        on_entry: Called with every entry of the metrics and the number of steps in all.
    """
    data, config, began = probe.data, probe.config, probe.request.began
    split = data.rows("train")
    rows = split.start + choose_rows(np.asarray(data.targets[split]), share, config.train.seed)
    part = PartOfTrain(np.asarray(data.codes[rows]), np.asarray(data.targets[rows]), data.fingerprint)
    steps = count_part_steps(TrainingInputs.of(data, config).num_steps, share)
    changed = config.model_copy(update={"train": config.train.model_copy(update={"max_steps": steps})})
    check_trainable(part, changed)
    mesh = make_mesh(find_devices(config.parallel), config.parallel.node_devices)
    points = list[Point]()

    def note(entry: Mapping[str, Any], num_steps: int) -> None:
        if entry["kind"] == "validation":
            points.append(Point(step=int(entry["step"]), seconds=time.time() - began, auroc=entry["auroc"]))
        on_entry(entry, num_steps)

    with tempfile.TemporaryDirectory(prefix="ebox-bench-") as folder:
        result = fit(part, changed, Path(folder), mesh, probe.make_validate(data, config, mesh), on_entry=note)
    return Learning(
        seed=config.train.seed,
        batch_size=config.train.batch_size,
        num_examples=len(rows),
        num_steps=result.steps,
        seconds=time.time() - began,
        points=tuple(points),
    )
