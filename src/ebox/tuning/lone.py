"""A training of a rung by itself, with the loop of every training.

On a processor this is the fastest way: a step keeps all cores busy, and members side by side would only share them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from ebox.datasets.folder import Dataset
from ebox.evaluation.validation import ValidationSplit
from ebox.settings.reading import Config
from ebox.training.loop import TrainingResult, fit
from ebox.tuning.halving import shorten
from ebox.tuning.population import METRICS


def train_alone(
    data: Dataset,
    config: Config,
    steps: int,
    folder: Path,
    mesh: Mesh,
    validation: ValidationSplit,
    on_steps: Callable[[int], None],
) -> dict[str, Any]:
    """Train along a whole schedule of some steps; the validation loss, AUROC and AUPRC, and what it took.

    Args:
        data: The dataset.
        config: The settings of the trial.
        steps: Number of steps.
        folder: Where it keeps its checkpoints; a training that was interrupted goes on from there.
        mesh: The devices.
        validation: The validation split of the dataset, on the same devices.
        on_steps: Called with the number of steps made.

    Raises:
        InputError: a loss is not finite, or a checkpoint is damaged.
    """
    measured: dict[str, float] = {}
    marks: list[tuple[int, float]] = []

    def note(entry: Mapping[str, Any], num_steps: int) -> None:
        if entry["kind"] == "validation":
            measured.update(_take_metrics(entry))
        else:
            marks.append((int(entry["step"]), float(entry["seconds"])))
        on_steps(int(entry["step"]))

    folder.mkdir(parents=True, exist_ok=True)
    result = fit(data, shorten(config, steps), folder, mesh, validation.measure, resume=True, on_entry=note)
    # Nothing was noted where the validation was done before an interruption.
    return {**(measured or _take_metrics(validation.measure(result.network))), **_describe(result, marks)}


def _take_metrics(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(found[name]) for name in METRICS}


def _describe(result: TrainingResult, marks: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """What it took; the time of a step leaves out that of the compiler, which is in the first ones."""
    pace = result.seconds / result.steps
    if len(marks) > 1:
        (first, begin), (last, end) = marks[0], marks[-1]
        pace = min(pace, (end - begin) / (last - first))
    return {
        "steps": result.steps,
        "seconds": result.seconds,
        "step_seconds": pace,
        "num_parameters": result.num_parameters,
    }
