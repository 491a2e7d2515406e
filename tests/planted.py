"""A small task with a planted motif, and trainings on it in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ebox.evaluation.inference import predict
from ebox.evaluation.validation import measure_validation
from ebox.mesh.devices import find_devices, make_mesh
from ebox.models.network import Network
from ebox.settings.reading import Config, ParallelConfig, make_config
from ebox.training.loop import TrainingResult, fit

NUM_TRAIN, NUM_VALIDATION = 203, 60


@dataclass(frozen=True)
class PlantedData:
    """Half of the sequences hold CAGATG somewhere."""

    codes: np.ndarray
    targets: np.ndarray
    fingerprint: str = "planted"

    @property
    def length_bp(self) -> int:
        return self.codes.shape[1]

    def rows(self, split: str) -> slice:
        return slice(0, NUM_TRAIN) if split == "train" else slice(NUM_TRAIN, NUM_TRAIN + NUM_VALIDATION)


def planted(tracks: int = 1, length: int = 48) -> PlantedData:
    rng = np.random.default_rng(0)
    count = NUM_TRAIN + NUM_VALIDATION
    codes = rng.integers(0, 4, (count, length), np.uint8)
    targets = rng.integers(0, 2, (count, tracks)).astype(np.uint8)
    for row in np.flatnonzero(targets[:, 0]):
        start = rng.integers(0, length - 6)
        codes[row, start : start + 6] = [1, 0, 2, 0, 3, 2]
    return PlantedData(codes, targets)


def small_config(parallel: Mapping[str, Any] | None = None, **train: Any) -> Config:
    settings = {
        "seed": 3,
        "batch_size": 30,
        "max_steps": 50,
        "validations": 2,
        "steps_per_dispatch": 4,
        "learning_rate": 3e-3,
        "negatives_per_positive": None,
        "log_every_steps": 10,
        **train,
    }
    model = {
        "num_filters": 8,
        "filter_width_bp": 7,
        "dense_units": [8],
        "dilations": [2],
        "position_basis": 3,
    }
    return make_config({"model": model, "train": settings, "parallel": parallel or {}})


def fit_small(
    folder: Path,
    config: Config,
    devices: int = 1,
    data: PlantedData | None = None,
    *,
    resume: bool = False,
    **more: Any,
) -> TrainingResult:
    data = planted() if data is None else data
    mesh = make_mesh(find_devices(ParallelConfig(devices=devices)), config.parallel.node_devices)
    rows = data.rows("validation")

    def validate(network: Network) -> Mapping[str, float]:
        return measure_validation(data.targets[rows], predict(network, data.codes[rows], mesh=mesh))

    folder.mkdir(exist_ok=True)
    return fit(data, config, folder, mesh, validate, resume=resume, **more)


def leaves_of(network: Network) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(network)]


def largest_difference(one: Network, other: Network) -> float:
    """Relative to the size of each parameter array."""
    return max(
        float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12))
        for a, b in zip(leaves_of(one), leaves_of(other), strict=True)
    )


def named_arrays(network: Network) -> dict[str, np.ndarray]:
    """The arrays of a network by their names in a model file."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(network, eqx.is_array))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
