"""The distillation of an ensemble: one network that learns what the members say of the augmented sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from ebox.datasets.folder import Dataset
from ebox.evaluation.validation import ValidationSplit
from ebox.models.architectures import rescale_logits
from ebox.models.ensemble import Ensemble, join_outputs, split_outputs
from ebox.models.network import Network
from ebox.progress import OnEntry
from ebox.settings.reading import Config
from ebox.training.inputs import on_host
from ebox.training.loop import TrainingResult, fit
from ebox.tuning.ensembles import count_all_steps


def distil(
    data: Dataset,
    config: Config,
    folder: Path,
    mesh: Mesh,
    validation: ValidationSplit,
    trained: TrainingResult,
    *,
    resume: bool = False,
    on_entry: OnEntry,
) -> TrainingResult:
    """Train one network on what a trained ensemble says of the augmented training sequences, by the same recipe.

    Its outputs are a logit for each track, then the logarithm of the members' spread for each.

    Args:
        data: An opened dataset.
        config: The settings.
        folder: The run folder.
        mesh: The devices.
        validation: The validation split, which chooses and calibrates by the logits.
        trained: The training of the ensemble, which is not calibrated, since that is no part of a run's identity.
        resume: Go on from the newest checkpoint in `folder`, if there is one.
        on_entry: Called with every entry of the metrics, whose `step` goes on from the steps of the members, and with
            the number of steps in all.

    Returns:
        The training of the distilled network; `ensemble` tells of the members, and `seconds` of the distillation alone.
    """
    teacher = trained.network
    assert isinstance(teacher, Ensemble)
    num_tracks = len(data.tracks)

    def tell(entry: Mapping[str, Any], num_steps: int) -> None:
        total = count_all_steps(config, num_steps)
        told = {"step": total - num_steps + entry["step"], "seconds": trained.seconds + entry["seconds"]}
        on_entry({**entry, **told}, total)

    result = fit(
        data,
        config,
        folder,
        mesh,
        lambda network: validation.measure(split_outputs(network, num_tracks)[0]),
        calibrate=partial(_calibrate, validation, config) if config.train.calibrate else None,
        resume=resume,
        on_entry=tell,
        teacher=teacher,
    )
    seconds = trained.seconds
    return replace(result, ensemble={**trained.ensemble, "distilled": True, "seconds": seconds})


def _calibrate(validation: ValidationSplit, config: Config, network: Network) -> tuple[Network, list[dict[str, Any]]]:
    """Calibrate the logits; the spread is scaled as they are."""
    logits, log_spread = split_outputs(network, network.num_outputs // 2)
    calibrated, facts = validation.calibrate(logits, config.train.calibrate_by)
    scale = np.array([one["scale"] for one in facts], np.float32)
    return on_host(join_outputs(calibrated, rescale_logits(log_spread, np.ones_like(scale), np.log(scale)))), facts
