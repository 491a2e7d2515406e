"""The trainings of a search: what a worker does with its tasks, and how the search hands them out."""

from __future__ import annotations

import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ebox.errors import InputError
from ebox.settings.reading import Config, format_config, read_config_text
from ebox.tuning.trials import Job
from ebox.workers.local_crew import check_gpus
from ebox.workers.processes import is_cluster_task
from ebox.workers.task_pool import TaskPool

if TYPE_CHECKING:
    from ebox.datasets.folder import Dataset

# What a trial's failure tells of its worker's output.
LOG_LINES, LOG_BYTES = 3, 2000
CACHE = "JAX_COMPILATION_CACHE_DIR"
# The arguments to `python` that start a worker, from the dataset and the settings as TOML.
WorkerArguments = Callable[[str, str], list[str]]
# Called with a job, and the steps that it has made.
OnSteps = Callable[[Job, int], None]
# Called with a job that ended, and what it measured or its `problem`.
OnDone = Callable[[Job, Mapping[str, Any]], None]
# Does jobs; whether all were done, or the search was stopped.
Measure = Callable[[Sequence[Job], OnSteps, OnDone, Callable[[], bool]], bool]


@final
class Trainer:
    """Trains the members of tasks, in a worker."""

    def __init__(self, dataset: Path, config: Config, *, side_by_side: bool | None = None) -> None:
        """Open the dataset, and find the devices.

        Args:
            dataset: The dataset folder.
            config: The settings, of which `parallel` says which devices.
            side_by_side: Whether members of one task train in one step; none: where that is faster, on accelerators.

        Raises:
            InputError: no such devices, or a dataset that is gone.
        """
        from ebox.datasets.folder import open_dataset
        from ebox.evaluation.validation import ValidationSplit
        from ebox.mesh.devices import find_devices, make_mesh

        self._data: Dataset = open_dataset(dataset)
        self._mesh = make_mesh(find_devices(config.parallel), config.parallel.node_devices)
        is_cpu = self._mesh.devices.flat[0].platform == "cpu"
        self._is_side_by_side = not is_cpu if side_by_side is None else side_by_side
        self._validation = ValidationSplit(self._data, config.evaluation, self._mesh)

    def train(self, task: Mapping[str, Any], on_steps: Callable[[int], None]) -> list[dict[str, Any]]:
        """Train the members of a task, all of one shape, and return what each measured, or its `problem`.

        Args:
            task: Settings as TOML under `configs`, `folders` beside them, and the number of `steps`.
            on_steps: Called with the number of steps that all members together have made.
        """
        from ebox.mesh.hosts import memory_explained
        from ebox.tuning.joint import train_together
        from ebox.tuning.lone import train_alone

        configs = [read_config_text(text) for text in task["configs"]]
        steps, data, mesh, validation = task["steps"], self._data, self._mesh, self._validation
        if self._is_side_by_side and len(configs) > 1:
            # What has no place beside others may have it alone.
            with suppress(InputError), memory_explained():
                return train_together(data, configs, steps, mesh, validation, on_steps)
        results: list[dict[str, Any]] = []
        for place, (config, folder) in enumerate(zip(configs, map(Path, task["folders"]), strict=True)):

            def tell(made: int, already: int = place * steps) -> None:
                on_steps(already + made)

            try:
                with memory_explained():
                    results.append(train_alone(data, config, steps, folder, mesh, validation, tell))
            except InputError as error:
                results.append({"problem": error.problem})
        return results


@contextmanager
def start_workers(dataset: Path, config: Config, folder: Path, worker_arguments: WorkerArguments) -> Iterator[Measure]:
    """Yield what does the jobs of a search with processes of this machine, until the `with` block ends.

    Args:
        dataset: The dataset folder.
        config: The settings, of which `parallel` says how many processes there are, and on which devices.
        folder: Where trainings keep checkpoints, workers their output, and the compiler its programs.
        worker_arguments: What starts a worker.
    """
    alone = config.model_copy(update={"parallel": config.parallel.model_copy(update={"processes": 1})})
    command = [sys.executable, *worker_arguments(str(dataset.resolve()), format_config(alone))]
    # The rungs of a trial share their programs, also after a kill.
    kept = {} if CACHE in os.environ else {CACHE: str((folder / "compiled").resolve())}
    pool = TaskPool(command, config.parallel.processes, folder / "logs", kept)

    def measure(jobs: Sequence[Job], on_steps: OnSteps, on_done: OnDone, is_stopped: Callable[[], bool]) -> bool:
        work = Work(jobs, config, folder, on_steps, on_done)

        def take(number: int, message: Mapping[str, Any]) -> None:
            if message["kind"] == "steps":
                work.share_steps(number, message["steps"])
            elif message["kind"] == "warning":
                warnings.warn(message["text"], RuntimeWarning, stacklevel=2)
            elif message["kind"] == "lost":
                said = read_end(Path(message["log"]))
                told = f"its worker ended twice, with code {message['exit_code']}"
                work.give_up(number, f"{told}; its last words: {said}" if said else told)
            elif message["kind"] == "done":
                work.finish(number, message["results"])

        return pool.run(work.tasks, take, is_stopped)

    try:
        yield measure
    finally:
        pool.end()


def read_end(log: Path) -> str:
    """The last lines of a worker's output, which goes with the search; empty where it said nothing."""
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(-min(LOG_BYTES, log.stat().st_size), os.SEEK_END)
        lines = stream.read().decode(errors="replace").splitlines()
    told = [line.strip() for line in lines if line.strip()]
    return " | ".join(told[-LOG_LINES:])


@final
class Work:
    """The jobs of a rung as tasks of workers: each task has one job, or some of one shape."""

    def __init__(self, jobs: Sequence[Job], config: Config, folder: Path, on_steps: OnSteps, on_done: OnDone) -> None:
        """Divide the jobs.

        Args:
            jobs: The trainings.
            config: The settings, which say how many trials have one shape, and how many workers there are.
            folder: Where trainings keep checkpoints.
            on_steps: Called with a job and the steps that it has made.
            on_done: Called with a job that ended, and what it measured or its `problem`.
        """
        # No worker is left without a task for the sake of another's group.
        most = min(config.tuning.shape_members, math.ceil(len(jobs) / config.parallel.num_started))
        self._groups, self._folder = group_jobs(jobs, most), folder
        self._on_steps, self._on_done = on_steps, on_done

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """What `Trainer.train` gets."""
        return [
            {
                "configs": [format_config(job.config) for job in group],
                "folders": [str(self._find_folder(job).resolve()) for job in group],
                "steps": group[0].steps,
            }
            for group in self._groups
        ]

    def share_steps(self, number: int, made: int) -> None:
        """Say of each job of a task how far it is; they are counted as if done one after another."""
        for place, job in enumerate(self._groups[number]):
            self._on_steps(job, min(max(made - place * job.steps, 0), job.steps))

    def finish(self, number: int, results: Sequence[Mapping[str, Any]]) -> None:
        """Hand on what the jobs of a task measured."""
        for job, result in zip(self._groups[number], results, strict=True):
            self._on_done(job, result)
            shutil.rmtree(self._find_folder(job), ignore_errors=True)

    def give_up(self, number: int, problem: str) -> None:
        """Say why the jobs of a task have no result."""
        for job in self._groups[number]:
            self._on_done(job, {"problem": problem})

    def _find_folder(self, job: Job) -> Path:
        return self._folder / f"trial-{job.number:05d}-rung-{job.rung}"


def group_jobs(jobs: Sequence[Job], most: int) -> list[list[Job]]:
    """Jobs that train together: of one shape, in their order, at most `most`."""
    groups: list[list[Job]] = []
    for job in jobs:
        near = next((group for group in groups if group[0].shape == job.shape and len(group) < most), None)
        if near is None:
            groups.append([job])
        else:
            near.append(job)
    return groups


def check_here(config: Config) -> None:
    """Raise InputError for settings of `parallel` that a search does not work with."""
    parallel = config.parallel
    if is_cluster_task(os.environ):
        raise InputError(
            "every task of this cluster's job would search into one folder", remedy="search in one task of the job"
        )
    if parallel.cluster is None and parallel.platform in ("auto", "gpu"):
        check_gpus(os.environ, parallel.processes)
