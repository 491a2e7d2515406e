"""Training by workers that ebox starts: starting them, showing what they report, and reading the result."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from ebox.errors import InputError
from ebox.progress import OnEntry, quiet
from ebox.settings.reading import Config, ParallelConfig, fingerprint_source, format_config, read_config_text
from ebox.storage.publishing import read_json
from ebox.version import __version__
from ebox.workers.contract import TrainTask, WorkerArguments
from ebox.workers.ray_crew import Place, Placed
from ebox.workers.ray_pool import Here

if TYPE_CHECKING:
    import numpy as np

    from ebox.training.asynchronous import GradientComputer, GradientResult, WorkerPool
    from ebox.training.loop import TrainingResult
    from ebox.workers.supervision import StartCrew

# What all workers must have alike, beside the dataset.
SOURCE = "the fingerprint of the network that it begins with"


def train_in_group(
    dataset: Path,
    folder: Path,
    config: Config,
    *,
    resume: bool,
    overwrite: bool,
    on_entry: OnEntry,
    command: Sequence[str],
    worker_arguments: WorkerArguments,
    on_prepared: Callable[[], None] = quiet,
) -> TrainingResult:
    """Train with workers of this machine or a Ray cluster; start them again from the last checkpoint if one fails.

    Args:
        dataset: The dataset folder.
        folder: The run folder.
        config: The settings.
        resume: Go on from the newest checkpoint.
        overwrite: Begin again in a folder that holds an earlier training.
        on_entry: Called with every entry of the metrics and the total number of steps.
        command: The command line to keep.
        worker_arguments: What starts a worker.
        on_prepared: Called when the run folder no longer holds an earlier training.

    Raises:
        InputError: a worker can't use its input, or there is no such cluster, or it has no room.
        WorkersFailedError: they failed more often than `parallel.max_restarts`.
    """
    from ebox.storage import run_folder
    from ebox.training.checkpoints import find_checkpoints
    from ebox.workers.supervision import GroupPlan, supervise

    _check_counts(config)
    prepared = resume

    def make_arguments() -> list[str]:
        task = TrainTask(
            dataset=str(dataset.resolve()),
            out=str(folder.resolve()),
            config=format_config(config),
            # Once the first process has cleared the folder, it holds only this training.
            resume=prepared,
            overwrite=overwrite and not prepared,
            command=tuple(command),
        )
        return worker_arguments(task)

    def take(message: Mapping[str, Any]) -> None:
        nonlocal prepared
        if message["kind"] == "prepared":
            prepared = True
            on_prepared()
        elif message["kind"] == "warning":
            _warn(message["text"])
        elif message["kind"] == "entry":
            on_entry(message["entry"], message["num_steps"])

    def newest() -> str | None:
        found = find_checkpoints(folder)
        return found[-1].name if prepared and found else None

    logs, parallel = (folder / run_folder.LOGS).resolve(), config.parallel
    with _starting(parallel, make_arguments, logs) as start:
        plan = GroupPlan(
            start,
            parallel.num_started,
            logs,
            newest,
            parallel.max_restarts,
            parallel.min_workers,
            parallel.stall_seconds,
        )
        supervise(plan, take, _warn)
    return read_result(folder)


@contextmanager
def _starting(parallel: ParallelConfig, make_arguments: Callable[[], list[str]], logs: Path) -> Iterator[StartCrew]:
    """Yield a function that starts a given number of workers, each as `python ARGUMENTS`."""
    if parallel.cluster is not None:
        from ebox.workers.ray_connection import connect
        from ebox.workers.ray_crew import Demand, RayCrew

        with connect(parallel.cluster):
            demand = Demand.of(parallel)
            yield lambda count, is_stopped: RayCrew(make_arguments(), count, logs, demand, is_stopped)
        return
    from ebox.workers.local_crew import LocalCrew

    # A group that starts again finds its compiled steps there.
    with tempfile.TemporaryDirectory(prefix="ebox-compiled-") as compiled:
        kept = {"JAX_COMPILATION_CACHE_DIR": compiled} if "JAX_COMPILATION_CACHE_DIR" not in os.environ else {}
        yield lambda count, is_stopped: LocalCrew([sys.executable, *make_arguments()], count, logs, kept)


class CheckedActor(Placed):
    """A Ray actor that checks first whether its machine has the ebox and the dataset of the process that started it.

    Args:
        dataset: Path of the dataset folder, on every machine.
        fingerprint: That of the starter's dataset.
        version: The starter's version of ebox.
        config: The settings, as TOML.
        source: Fingerprint of the network that the starter begins with; none: it was drawn.
    """

    def __init__(self, dataset: str, fingerprint: str, version: str, config: str, source: str | None = None) -> None:
        self._dataset, self._config = dataset, config
        self._wanted = {"the dataset's fingerprint": fingerprint, "ebox": version, SOURCE: source}

    @staticmethod
    def arguments(dataset: Path, fingerprint: str, config: Config) -> tuple[str, str, str, str, str | None]:
        """What the process that starts actors gives them."""
        return str(dataset.resolve()), fingerprint, __version__, format_config(config), fingerprint_source(config)

    @override
    def place(self) -> Place:
        """Where this worker is, after a check that it has what the server has.

        Raises:
            InputError: it has another ebox, another dataset, or another network to begin with.
        """
        from ebox.datasets.folder import open_dataset

        self._check("the dataset's fingerprint", open_dataset(Path(self._dataset)).fingerprint)
        self._check("ebox", __version__)
        if self._wanted[SOURCE] is not None:
            self._check(SOURCE, fingerprint_source(read_config_text(self._config)))
        return super().place()

    def _check(self, name: str, found: str | None) -> None:
        if found != self._wanted[name]:
            raise InputError(
                f"{socket.gethostname()} has {name} = {found}, and the machine that started it has "
                f"{self._wanted[name]}",
                file=self._dataset,
                remedy="install the same ebox on every machine, with the same dataset, and the same run of --from, at "
                "the same path",
            )


class GradientActor(CheckedActor):
    """A worker of an asynchronous training, which loads JAX at its first job."""

    _computer: GradientComputer | None = None

    def compute(self, ticket: int, weights: list[np.ndarray], here: Here) -> GradientResult:
        """The gradient of a batch."""
        if self._computer is None:
            # Before JAX counts the cores.
            here.take()
            self._computer = self._prepare()
        from ebox.mesh.hosts import memory_explained

        with memory_explained():
            return self._computer.compute(ticket, weights)

    def _prepare(self) -> GradientComputer:
        from ebox.datasets.folder import open_dataset
        from ebox.mesh.devices import find_local_devices, make_mesh
        from ebox.training.asynchronous import GradientComputer

        config, data = read_config_text(self._config), open_dataset(Path(self._dataset))
        return GradientComputer(data, config, make_mesh(find_local_devices(config.parallel)))


@contextmanager
def gradient_pool(dataset: Path, fingerprint: str, config: Config) -> Iterator[WorkerPool | None]:
    """The workers of an asynchronous training, until the `with` block ends; none for any other training.

    Enter it before JAX looks at its devices: a local cluster is started by a fork, which JAX's threads don't survive.

    Raises:
        InputError: there is no such cluster, or it has no room, or this process is a task of a group.
    """
    parallel = config.parallel
    if parallel.sync != "async" or parallel.cluster is None:
        yield None
        return
    from ebox.workers.processes import is_cluster_task, is_member
    from ebox.workers.ray_connection import connect, set_variables
    from ebox.workers.ray_crew import Demand
    from ebox.workers.ray_pool import Limits, RayPool

    if is_member() or is_cluster_task(os.environ):
        raise InputError(
            "this is already one of several tasks of a group, but an asynchronous training has one server",
            remedy="start one process, with --cluster and --workers",
        )
    _check_least(parallel)
    least = 1 if parallel.min_workers is None else parallel.min_workers
    limits = Limits(parallel.workers, least, parallel.max_restarts, parallel.stall_seconds)
    texts = CheckedActor.arguments(dataset, fingerprint, config)
    with connect(parallel.cluster):
        pool: RayPool[GradientResult] = RayPool(GradientActor, Demand.of(parallel), limits, _warn, *texts)
        try:
            # The server may share a device with workers: it must not take all of its memory.
            with set_variables({"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}):
                yield pool
        finally:
            pool.end()


def parallel_of_server(parallel: ParallelConfig) -> ParallelConfig:
    """Settings for the server of an asynchronous training: one device of any platform, the others for its workers."""
    platform = "cpu" if parallel.platform == "cpu" else "auto"
    return parallel.model_copy(update={"platform": platform, "devices": 1, "node_devices": None})


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def read_result(folder: Path) -> TrainingResult:
    """The result of a finished training from its run folder."""
    from ebox.models.files import load_model
    from ebox.storage import run_folder
    from ebox.training.loop import TrainingResult

    facts = read_json(folder / run_folder.TRAINING)
    known = {name: facts[name] for name in TrainingResult.__dataclass_fields__ if name not in ("network", "folder")}
    return TrainingResult(network=load_model(folder).network, folder=folder, **known)


def _check_counts(config: Config) -> None:
    from ebox.workers.local_crew import check_gpus
    from ebox.workers.processes import is_cluster_task

    parallel, count = config.parallel, config.parallel.num_started
    if is_cluster_task(os.environ):
        raise InputError(
            "this is already one of several tasks of a cluster's job, so each would start its own workers",
            remedy="leave --processes and --cluster out; the tasks find each other",
        )
    _check_least(parallel)
    if parallel.cluster is None and parallel.platform in ("auto", "gpu"):
        check_gpus(os.environ, count)
    if config.train.batch_size < count:
        raise InputError(
            f"a batch of {config.train.batch_size} can't be shared by {count} workers",
            remedy="set train.batch_size higher, or start fewer",
        )


def _check_least(parallel: ParallelConfig) -> None:
    if parallel.min_workers is not None and parallel.min_workers > parallel.num_started:
        raise InputError(
            f"parallel.min_workers = {parallel.min_workers} is more than the number of workers, {parallel.num_started}",
            remedy=f"set it to {parallel.num_started} or fewer",
        )
