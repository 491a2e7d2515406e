"""Training by workers that ebox starts: starting them, showing what they tell, and taking over the result."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.config import Config, ParallelConfig, format_config
from ebox.errors import InputError
from ebox.publishing import read_json

if TYPE_CHECKING:
    from ebox.parallel.supervision import Crew
    from ebox.training import TrainingResult

OnEntry = Callable[[Mapping[str, Any], int], None]


def train_in_group(
    dataset: Path,
    folder: Path,
    config: Config,
    *,
    resume: bool,
    overwrite: bool,
    on_entry: OnEntry | None,
    command: Sequence[str],
) -> TrainingResult:
    """Train with workers of this machine or a Ray cluster; start them again from the last checkpoint when one fails.

    Raises:
        InputError: what a worker could not work with, or a cluster that is not there or has no room.
        WorkersFailedError: they failed more often than `parallel.max_restarts`.
    """
    from ebox.parallel.supervision import GroupPlan, supervise
    from ebox.training import run_folder
    from ebox.training.checkpoints import find_checkpoints

    _check_counts(config)
    prepared = resume

    def make_arguments() -> list[str]:
        task = {
            "dataset": str(dataset.resolve()),
            "out": str(folder.resolve()),
            "config": format_config(config),
            # Once the first process has cleared the folder, what stands in it is of this training.
            "resume": prepared,
            "overwrite": overwrite and not prepared,
            "command": list(command),
        }
        return ["-m", "ebox.worker", json.dumps(task)]

    def take(message: Mapping[str, Any]) -> None:
        nonlocal prepared
        if message["kind"] == "prepared":
            prepared = True
        elif message["kind"] == "warning":
            warnings.warn(message["text"], RuntimeWarning, stacklevel=2)
        elif message["kind"] == "entry" and on_entry is not None:
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
        supervise(plan, take, lambda text: warnings.warn(text, RuntimeWarning, stacklevel=2))
    return read_result(folder)


@contextmanager
def _starting(
    parallel: ParallelConfig, make_arguments: Callable[[], list[str]], logs: Path
) -> Iterator[Callable[[int], Crew]]:
    """What starts so many workers, `python ARGUMENTS` each, for as long as this lasts."""
    if parallel.cluster is not None:
        from ebox.parallel.cluster import Demand, RayCrew, connect

        with connect(parallel.cluster):
            demand = Demand.of(parallel.workers, parallel.worker_cpus, parallel.worker_gpus, parallel.platform)
            yield lambda count: RayCrew(make_arguments(), count, logs, demand)
        return
    from ebox.parallel.crews import LocalCrew

    # A group that starts again finds its compiled steps there.
    with tempfile.TemporaryDirectory(prefix="ebox-compiled-") as compiled:
        kept = {"JAX_COMPILATION_CACHE_DIR": compiled} if "JAX_COMPILATION_CACHE_DIR" not in os.environ else {}
        yield lambda count: LocalCrew([sys.executable, *make_arguments()], count, logs, kept)


def read_result(folder: Path) -> TrainingResult:
    """The result of a finished training from its run folder."""
    from ebox.training import TrainingResult, load_model, run_folder

    facts = read_json(folder / run_folder.TRAINING)
    known = {name: facts[name] for name in TrainingResult.__dataclass_fields__ if name != "network"}
    return TrainingResult(network=load_model(folder).network, **known)


def _check_counts(config: Config) -> None:
    from ebox.parallel.crews import list_gpus
    from ebox.parallel.processes import is_cluster_task

    parallel, count = config.parallel, config.parallel.num_started
    if is_cluster_task(os.environ):
        raise InputError(
            "this is one of several tasks of a cluster's job already, so each would start workers of its own",
            remedy="leave --processes and --cluster out; the tasks find each other",
        )
    if parallel.min_workers is not None and parallel.min_workers > count:
        raise InputError(
            f"parallel.min_workers = {parallel.min_workers} is more than the {count} workers that are asked for",
            remedy="set it to so many or fewer",
        )
    gpus = list_gpus(os.environ)
    if parallel.cluster is None and gpus and len(gpus) < count and parallel.platform in ("auto", "gpu"):
        raise InputError(
            f"each process needs a GPU of its own: there are {count} processes, and GPUs: {len(gpus)}",
            remedy=f"--processes {len(gpus)}, or --platform cpu",
        )
    if config.train.batch_size < count:
        raise InputError(
            f"a batch of {config.train.batch_size} can't be shared by {count} workers",
            remedy="set train.batch_size higher, or start fewer",
        )
