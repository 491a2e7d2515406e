"""Members that train one after another with the loop of every training, behind the form of a population.

On a processor this is the fastest way: a step keeps all cores busy, and members side by side would only share them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from jax.sharding import Mesh

from ebox.datasets.folder import Dataset
from ebox.errors import InputError
from ebox.evaluation.validation import ValidationSplit
from ebox.settings.reading import Config
from ebox.training.loop import TrainingResult, fit
from ebox.tuning.halving import shorten

# Called with the number of steps that all members together have made.
OnSteps = Callable[[int], None]


@final
class LoneMembers:
    """Some trainings on one dataset; a member that fails leaves the others alone."""

    def __init__(
        self,
        data: Dataset,
        configs: Sequence[Config],
        mesh: Mesh,
        *,
        validation: ValidationSplit,
        folders: Sequence[Path],
    ) -> None:
        """Train nothing yet.

        Args:
            data: The dataset.
            configs: The settings of each member.
            mesh: The devices.
            validation: The validation split of the dataset, on the same devices.
            folders: Where each member keeps its checkpoints; a member that was interrupted goes on from there.
        """
        self._data, self._configs, self._mesh = data, configs, mesh
        self._validation, self._folders = validation, folders
        self._measured: list[dict[str, Any]] = []

    def train_to(self, step: int, on_steps: OnSteps) -> None:
        """Train every member along a whole schedule that ends at a step."""
        self._measured = []
        for place, (config, folder) in enumerate(zip(self._configs, self._folders, strict=True)):
            folder.mkdir(parents=True, exist_ok=True)
            already = place * step
            try:
                self._measured.append(self._train(config, step, folder, lambda made, add=already: on_steps(add + made)))
            except InputError as error:
                self._measured.append({"problem": error.problem})

    def measure(self) -> list[dict[str, Any]]:
        """Loss, AUROC and AUPRC of each member on the validation split, and what it took; or its `problem`."""
        return self._measured

    def _train(self, config: Config, step: int, folder: Path, on_step: OnSteps) -> dict[str, Any]:
        measured: dict[str, Any] = {}
        marks: list[tuple[int, float]] = []

        def note(entry: Mapping[str, Any], num_steps: int) -> None:
            if entry["kind"] == "validation":
                measured.update({key: float(entry[key]) for key in ("loss", "auroc", "auprc")})
            else:
                marks.append((int(entry["step"]), float(entry["seconds"])))
            on_step(int(entry["step"]))

        result = fit(
            self._data,
            shorten(config, step),
            folder,
            self._mesh,
            self._validation.measure,
            resume=True,
            on_entry=note,
        )
        return {**self._complete(measured, result), **_describe(result, marks)}

    def _complete(self, measured: dict[str, Any], result: TrainingResult) -> dict[str, Any]:
        """What the last validation found; measured again where it was done before an interruption."""
        if measured:
            return measured
        found = self._validation.measure(result.network)
        return {key: float(found[key]) for key in ("loss", "auroc", "auprc")}


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
