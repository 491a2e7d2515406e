"""Trainings of a rung together in one compiled step.

On an accelerator, which a single small network leaves mostly idle, this is the fastest way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from jax.sharding import Mesh

from ebox.datasets.folder import Dataset
from ebox.evaluation.validation import ValidationSplit
from ebox.models.network import count_parameters
from ebox.settings.reading import Config
from ebox.tuning.halving import shorten
from ebox.tuning.population import MemberSteps, Population


def train_together(
    data: Dataset,
    configs: Sequence[Config],
    steps: int,
    mesh: Mesh,
    validation: ValidationSplit,
    on_steps: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Train members along a whole schedule of some steps; of each its validation loss, AUROC and AUPRC, or its problem.

    They keep no checkpoints: what a kill can cost is one training of a rung, which takes an accelerator moments. A
    member whose loss breaks leaves the others alone.

    Args:
        data: The dataset.
        configs: The settings of each member, all of one shape.
        steps: Number of steps.
        mesh: The devices, to which the members are dealt.
        validation: The validation split of the dataset.
        on_steps: Called with the number of steps that all members together have made.

    Raises:
        InputError: the settings are of different shapes.
    """
    shortened = [shorten(config, steps) for config in configs]
    population = Population(data, shortened, mesh, validate=validation.measure, side_by_side=True)
    made, marks = [0] * len(configs), [(0, time.perf_counter())]

    def note(member: MemberSteps) -> None:
        made[member.number] = member.last
        if member.number == 0:
            marks.append((member.last, time.perf_counter()))
        on_steps(sum(made))

    population.train_to(steps, note)
    cost = _share(marks, len(configs))
    return [
        {"problem": f"the loss or the gradient of step {population.broken[number]} is not finite"}
        if number in population.broken
        else {**measured, "steps": population.num_steps, **cost, "num_parameters": count_parameters(network)}
        for number, (measured, network) in enumerate(zip(population.measure(), population.networks(), strict=True))
    ]


def _share(marks: Sequence[tuple[int, float]], members: int) -> dict[str, float]:
    """A member's share of the time, and of that of a step without the compiler's, which is in the first ones."""
    (begun, start), (last, end) = marks[0], marks[-1]
    pace = (end - start) / max(1, last - begun)
    if len(marks) > 2:
        first, began = marks[1]
        pace = min(pace, (end - began) / (last - first))
    return {"seconds": (end - start) / members, "step_seconds": pace / members}
