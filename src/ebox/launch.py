"""Training in several processes of this machine: starting them, showing what they tell, and taking over the result."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.config import Config, format_config
from ebox.errors import InputError
from ebox.publishing import read_json

if TYPE_CHECKING:
    from ebox.training import TrainingResult

OnEntry = Callable[[Mapping[str, Any], int], None]


def train_in_processes(
    dataset: Path,
    folder: Path,
    config: Config,
    *,
    resume: bool,
    overwrite: bool,
    on_entry: OnEntry | None,
    command: Sequence[str],
) -> TrainingResult:
    """Train with `parallel.processes` workers, and start them again from the last checkpoint when one fails.

    Raises:
        InputError: what a worker could not work with.
        WorkersFailedError: they failed more often than `parallel.max_restarts`.
    """
    from ebox.parallel.supervision import GroupPlan, supervise
    from ebox.training import run_folder
    from ebox.training.checkpoints import find_checkpoints

    _check_counts(config)
    prepared = resume

    def make_command() -> list[str]:
        task = {
            "dataset": str(dataset),
            "out": str(folder),
            "config": format_config(config),
            # Once the first process has cleared the folder, what stands in it is of this training.
            "resume": prepared,
            "overwrite": overwrite and not prepared,
            "command": list(command),
        }
        return [sys.executable, "-m", "ebox.worker", json.dumps(task)]

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

    # A group that starts again finds its compiled steps there.
    with tempfile.TemporaryDirectory(prefix="ebox-compiled-") as compiled:
        plan = GroupPlan(
            make_command,
            config.parallel.processes,
            folder / run_folder.LOGS,
            newest,
            config.parallel.max_restarts,
            config.parallel.min_workers,
            config.parallel.stall_seconds,
            {"JAX_COMPILATION_CACHE_DIR": compiled} if "JAX_COMPILATION_CACHE_DIR" not in os.environ else {},
        )
        supervise(plan, take, lambda text: warnings.warn(text, RuntimeWarning, stacklevel=2))
    return read_result(folder)


def read_result(folder: Path) -> TrainingResult:
    """The result of a finished training from its run folder."""
    from ebox.training import TrainingResult, load_model, run_folder

    facts = read_json(folder / run_folder.TRAINING)
    known = {name: facts[name] for name in TrainingResult.__dataclass_fields__ if name != "network"}
    return TrainingResult(network=load_model(folder).network, **known)


def _check_counts(config: Config) -> None:
    from ebox.parallel.processes import is_cluster_task
    from ebox.parallel.supervision import list_gpus

    parallel = config.parallel
    if is_cluster_task(os.environ):
        raise InputError(
            "this is one of several tasks of a cluster's job already, so parallel.processes would multiply them",
            remedy="leave --processes out; the tasks find each other",
        )
    if parallel.min_workers is not None and parallel.min_workers > parallel.processes:
        raise InputError(
            f"parallel.min_workers = {parallel.min_workers} is more than parallel.processes = {parallel.processes}",
            remedy="set it to so many or fewer",
        )
    gpus = list_gpus(os.environ)
    if gpus and len(gpus) < parallel.processes and parallel.platform in ("auto", "gpu"):
        raise InputError(
            f"each process needs a GPU of its own: there are {parallel.processes} processes, and GPUs: {len(gpus)}",
            remedy=f"--processes {len(gpus)}, or --platform cpu",
        )
    if config.train.batch_size < parallel.processes:
        raise InputError(
            f"a batch of {config.train.batch_size} can't be shared by {parallel.processes} processes",
            remedy="set train.batch_size higher or --processes lower",
        )
