"""The trainings of a search on the machines of a Ray cluster, which share the folder of the search."""

from __future__ import annotations

import math
import os
import socket
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.progress import quiet
from ebox.settings.reading import Config, read_config_text
from ebox.training.group import CheckedActor
from ebox.tuning.training import CACHE, Measure, OnDone, OnSteps, Trainer, Work
from ebox.tuning.trials import Job
from ebox.workers.ray_pool import Here
from ebox.workers.task_pool import MOST_LOSSES

LOOK_SECONDS = 0.5


class TrialActor(CheckedActor):
    """A worker of a search, which loads JAX at its first task."""

    _trainer: Trainer | None = None

    def compute(self, task: Mapping[str, Any], compiled: str, here: Here) -> list[dict[str, Any]]:
        """Train the members of a task, and return what each measured.

        Args:
            task: As `Trainer.train` takes it.
            compiled: Folder of compiled programs.
            here: What this worker may use of its machine.

        Raises:
            InputError: the folder of the search is not here.
        """
        for folder in task["folders"]:
            if not Path(folder).parent.is_dir():
                raise InputError(
                    f"{socket.gethostname()} has no such folder, and the search keeps its trainings there",
                    file=Path(folder).parent,
                    remedy="search into a folder that all machines of the cluster share, under the same path",
                )
        if self._trainer is None:
            # Before JAX counts the cores.
            here.take()
            os.environ.setdefault(CACHE, compiled)
            self._trainer = Trainer(Path(self._dataset), read_config_text(self._config))
        return self._trainer.train(task, quiet)


@contextmanager
def start_ray_workers(dataset: Path, fingerprint: str, config: Config, folder: Path) -> Iterator[Measure]:
    """Yield what does the jobs of a search with workers on a Ray cluster, until the `with` block ends.

    A worker tells nothing before its task is done, and a lost one is replaced.

    Args:
        dataset: The dataset folder, under the same path on every machine.
        fingerprint: That of the dataset.
        config: The settings, of which `parallel` says which cluster, and how many workers.
        folder: Where trainings keep checkpoints, and the compiler its programs; all machines share it.

    Raises:
        InputError: there is no such cluster, it has no room, or a machine lacks ebox or the dataset.
        WorkersFailedError: workers were lost more often than they may be restarted.
    """
    from ebox.workers.ray_connection import connect
    from ebox.workers.ray_crew import Demand
    from ebox.workers.ray_pool import Limits, RayPool

    parallel = config.parallel
    assert parallel.cluster is not None
    (folder / "compiled").mkdir(parents=True, exist_ok=True)
    compiled = str((folder / "compiled").resolve())
    # A task takes as long as its network is large: only a worker that is gone counts as lost.
    limits = Limits(parallel.workers, 1, parallel.max_restarts, math.inf)
    with connect(parallel.cluster):
        arguments = CheckedActor.arguments(dataset, fingerprint, config)
        pool: RayPool[list[dict[str, Any]]] = RayPool(TrialActor, Demand.of(parallel), limits, _warn, *arguments)

        def measure(jobs: Sequence[Job], on_steps: OnSteps, on_done: OnDone, is_stopped: Callable[[], bool]) -> bool:
            work = Work(jobs, config, folder, on_steps, on_done)
            tasks = work.tasks
            waiting, losses = deque(range(len(tasks))), [0] * len(tasks)
            busy: dict[int, int] = {}
            while waiting or busy:
                if is_stopped():
                    return False
                for worker in pool.workers():
                    if waiting and worker not in busy:
                        busy[worker] = waiting.popleft()
                        pool.submit(worker, tasks[busy[worker]], compiled)
                for worker, results in pool.wait(LOOK_SECONDS):
                    number = busy.pop(worker)
                    if results is not None:
                        work.finish(number, results)
                        continue
                    losses[number] += 1
                    if losses[number] < MOST_LOSSES:
                        waiting.appendleft(number)
                    else:
                        work.give_up(number, "its worker was lost twice")
            return True

        try:
            yield measure
        finally:
            pool.end()


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)
