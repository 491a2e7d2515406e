"""Members that train together in one compiled step, in the form of members that train one after another.

On an accelerator, which a single small network leaves mostly idle, this is the fastest way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, final

from jax.sharding import Mesh

from ebox.datasets.folder import Dataset
from ebox.evaluation.validation import ValidationSplit
from ebox.models.network import count_parameters
from ebox.settings.reading import Config
from ebox.tuning.halving import shorten
from ebox.tuning.population import MemberSteps, Population


@final
class JointMembers:
    """Some trainings of one shape on one dataset; a member whose loss breaks leaves the others alone.

    They keep no checkpoints: what a kill can cost is one training of a rung, which takes an accelerator moments.
    """

    def __init__(self, data: Dataset, configs: Sequence[Config], mesh: Mesh, *, validation: ValidationSplit) -> None:
        """Train nothing yet.

        Args:
            data: The dataset.
            configs: The settings of each member, all of one shape.
            mesh: The devices, to which the members are dealt.
            validation: The validation split of the dataset.
        """
        self._data, self._configs, self._mesh, self._validation = data, configs, mesh, validation
        self._measured: list[dict[str, Any]] = []

    def train_to(self, step: int, on_steps: Callable[[int], None]) -> None:
        """Train every member along a whole schedule that ends at a step."""
        configs = [shorten(config, step) for config in self._configs]
        population = Population(self._data, configs, self._mesh, validate=self._validation.measure, side_by_side=True)
        made, marks = [0] * len(configs), [(0, time.perf_counter())]

        def note(steps: MemberSteps) -> None:
            made[steps.number] = steps.last
            if steps.number == 0:
                marks.append((steps.last, time.perf_counter()))
            on_steps(sum(made))

        population.train_to(step, note)
        cost = _share(marks, len(configs))
        self._measured = [
            {"problem": f"the loss or the gradient of step {population.broken[number]} is not finite"}
            if number in population.broken
            else {**measured, "steps": population.num_steps, **cost, "num_parameters": count_parameters(network)}
            for number, (measured, network) in enumerate(zip(population.measure(), population.networks(), strict=True))
        ]

    def measure(self) -> list[dict[str, Any]]:
        """Loss, AUROC and AUPRC of each member on the validation split, and what it took; or its `problem`."""
        return self._measured


def _share(marks: Sequence[tuple[int, float]], members: int) -> dict[str, float]:
    """A member's share of the time, and of that of a step without the compiler's, which is in the first ones."""
    (begun, start), (last, end) = marks[0], marks[-1]
    pace = (end - start) / max(1, last - begun)
    if len(marks) > 2:
        first, began = marks[1]
        pace = min(pace, (end - began) / (last - first))
    return {"seconds": (end - start) / members, "step_seconds": pace / members}
