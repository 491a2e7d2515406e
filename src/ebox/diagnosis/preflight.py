"""Before a long training: what it will take on this machine, and what would be slow."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax.sharding import Mesh

from ebox.datasets.folder import Dataset, open_dataset
from ebox.mesh.devices import find_devices, make_mesh
from ebox.models.architectures import build_model
from ebox.models.network import count_parameters
from ebox.planning.compilation import CompilationResult, StepShape, compile_train_step
from ebox.settings.reading import Config
from ebox.storage.notes import Code, note
from ebox.training.batches import Shares, iter_plans, make_chunk, put_chunk
from ebox.training.inputs import TrainingInputs
from ebox.training.loop import check_trainable
from ebox.training.state import place_state
from ebox.training.step import NATIVE_EXAMPLES, NUM_SIGNALS, build_run_chunk, even_group, make_plan
from ebox.workers.machine import count_cores

WARM_UP, TIMED = 2, 3
# The share of free memory that a training may take: the rest is for the host's arrays and other programs.
USABLE_SHARE = 0.8


class Remark(Code):
    """What would be slow, or what the user should know."""

    LITTLE_MEMORY = "little_memory"
    MANY_PROCESSES = "many_processes"
    UNEVEN_BATCH = "uneven_batch"
    SHARED_CORES = "shared_cores"
    DELAYED_ON_CPU = "delayed_on_cpu"
    BUSY = "busy"
    BFLOAT16_ON_CPU = "bfloat16_on_cpu"
    GLOBAL_STATISTICS = "global_statistics"
    GROUP_THAT_FITS = "group_that_fits"
    NO_GROUP_FITS = "no_group_fits"


@dataclass(frozen=True)
class PreflightResult:
    """What a training would take here.

    Args:
        devices: How many devices work, and of what kind.
        num_examples: Examples of the train split.
        num_steps: Steps of the whole training.
        batch_size: Examples in a step.
        num_parameters: Trained numbers.
        compile_seconds: Time until the first step.
        step_seconds: Time of one step, the median of a few dispatches.
        training_seconds: Time of all steps, without validations.
        step_bytes: Memory that a step needs on one device.
        free_bytes: Free memory of one device.
        largest_batch_size: The largest global batch that fits, by the compiler's plan for two sizes.
        remarks: What would be slow, or what the user should know; each a note with a code of `Remark`.
    """

    devices: str
    num_examples: int
    num_steps: int
    batch_size: int
    num_parameters: int
    compile_seconds: float
    step_seconds: float
    training_seconds: float
    step_bytes: int
    free_bytes: int
    largest_batch_size: int
    remarks: tuple[dict[str, Any], ...]


def check_training(dataset: Path | str, config: Config | None = None) -> PreflightResult:
    """Compile the real step for a dataset, run a few steps, and predict what the whole training would take.

    Nothing is written.

    Args:
        dataset: A folder made by `build`.
        config: The settings; None: the defaults.

    Raises:
        InputError: a bad dataset, settings that don't fit it, or absent devices.
    """
    config = Config() if config is None else config
    data = open_dataset(Path(dataset))
    check_trainable(data, config)
    devices = find_devices(config.parallel)
    mesh = make_mesh(devices, config.parallel.node_devices)
    compile_seconds, step_seconds, num_steps = _time_steps(data, config, mesh)
    free = _free_bytes(devices[0], len(devices))
    sizes = _two_batches(config, mesh)
    small, large = (_compile(data, config, mesh, size) for size in sizes)
    chosen = small if sizes[0] == config.train.batch_size else large
    return PreflightResult(
        devices=f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        num_examples=data.rows("train").stop - data.rows("train").start,
        num_steps=num_steps,
        batch_size=config.train.batch_size,
        num_parameters=count_parameters(
            build_model(config.model, len(data.tracks), data.length_bp, np.random.default_rng(0))
        ),
        compile_seconds=compile_seconds,
        step_seconds=step_seconds,
        training_seconds=num_steps * step_seconds,
        step_bytes=chosen.memory.total,
        free_bytes=free,
        largest_batch_size=find_largest_batch(small, large, free, len(devices)),
        remarks=tuple(_remark(config, mesh, chosen.memory.total, free)),
    )


def _two_batches(config: Config, mesh: Mesh) -> tuple[int, int]:
    """The batch of the settings and another one, both computed in the same way, so that memory grows in proportion.

    On a GPU in bfloat16 larger batches are convolved in another way, which needs less memory: if the batch of the
    settings is below that switch, a size that fits by the way of smaller batches fits by the other way too.
    """
    batch, switch = config.train.batch_size, NATIVE_EXAMPLES * mesh.size
    is_low = make_plan(config, mesh).schedule.pass_plan.dtype == jnp.bfloat16
    if mesh.devices.flat[0].platform == "gpu" and is_low and batch < switch <= 4 * batch:
        return batch // 4, batch
    return batch, 4 * batch


def find_largest_batch(small: CompilationResult, large: CompilationResult, free_bytes: int, num_devices: int) -> int:
    """The largest global batch that fits, a multiple of the devices; memory grows linearly with the batch.

    Args:
        small: The compiled step of one batch size.
        large: The compiled step of a larger batch size.
        free_bytes: Free memory of one device.
        num_devices: Number of devices.
    """
    grown = (large.memory.total - small.memory.total) / (large.batch_per_chip - small.batch_per_chip)
    fixed = small.memory.total - grown * small.batch_per_chip
    places = math.floor((USABLE_SHARE * free_bytes - fixed) / max(grown, 1.0))
    return max(0, places) * num_devices


def _time_steps(data: Dataset, config: Config, mesh: Mesh) -> tuple[float, float, int]:
    """Seconds until the first step, seconds of a step, and the number of steps of the whole training."""
    train, inputs = config.train, TrainingInputs.of(data, config)
    plan, steps = make_plan(config, mesh), min(train.steps_per_dispatch, inputs.num_steps)
    run = build_run_chunk(mesh, plan, steps)
    state, shares = (
        place_state(plan.schedule.start(inputs.fresh), mesh),
        Shares.of(mesh, train.batch_size, train.device_batch_size),
    )
    signals, seconds = jnp.zeros((mesh.size, NUM_SIGNALS)), []
    for one in list(iter_plans(0, steps * (WARM_UP + TIMED), steps, frozenset())):
        began = time.perf_counter()
        chunk = put_chunk(make_chunk(inputs.codes, inputs.targets, inputs.order, one, steps, shares), mesh)
        state, metrics = run(state, chunk, signals, inputs.hyper, jnp.asarray(one.count, jnp.int32))
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - began)
    return seconds[0], float(np.median(seconds[WARM_UP:])) / steps, inputs.num_steps


def _compile(data: Dataset, config: Config, mesh: Mesh, batch_size: int) -> CompilationResult:
    train = config.train.model_copy(update={"batch_size": batch_size, "device_batch_size": None})
    shape = StepShape(data.length_bp, len(data.tracks), 1)
    return compile_train_step(mesh, config.model_copy(update={"train": train}), shape)


def _free_bytes(device: jax.Device, num_devices: int) -> int:
    """Bytes of free memory of one device; the parts of a processor share the memory of the machine."""
    found: Any = device.memory_stats()
    if device.platform != "cpu" and found:
        return int(found["bytes_limit"]) - int(found["bytes_in_use"])
    return psutil.virtual_memory().available // num_devices


def _remark(config: Config, mesh: Mesh, step_bytes: int, free_bytes: int) -> Iterable[dict[str, Any]]:
    platform, processes = mesh.devices.flat[0].platform, config.parallel.processes
    workers = max(processes, config.parallel.workers) * mesh.size
    if step_bytes > USABLE_SHARE * free_bytes:
        yield note(Remark.LITTLE_MEMORY)
    if processes > count_cores():
        yield note(Remark.MANY_PROCESSES, {"processes": processes, "cores": count_cores()})
    batch_size = config.train.batch_size
    if batch_size % mesh.size:
        places = -(-batch_size // mesh.size) * mesh.size
        yield note(Remark.UNEVEN_BATCH, {"batch_size": batch_size, "devices": mesh.size, "places": places})
    if processes > 1:
        yield note(Remark.SHARED_CORES, {"processes": processes})
    if platform == "cpu" and config.parallel.sync == "delayed":
        yield note(Remark.DELAYED_ON_CPU)
    if workers > 1 and config.model.batch_norm:
        yield from _remark_on_statistics(config, workers)
    if platform == "cpu" and os.getloadavg()[0] > 0.5 * count_cores():
        yield note(Remark.BUSY, {"load": os.getloadavg()[0]})
    if platform == "cpu" and config.train.precision == "bfloat16":
        yield note(Remark.BFLOAT16_ON_CPU)


def _remark_on_statistics(config: Config, workers: int) -> Iterable[dict[str, Any]]:
    """Remark on the messages of batch normalisation between workers, besides the gradient."""
    train = config.train
    if config.parallel.sync in {"local", "async"} or train.batch_statistics == "device":
        return
    if train.batch_statistics == "global":
        yield note(Remark.GLOBAL_STATISTICS)
        return
    group = even_group(train.batch_size, train.group_examples)
    piece = Shares(train.batch_size, workers, train.device_batch_size).piece_size
    if piece % group:
        fits = [most for most in range(piece, 7, -1) if piece % even_group(train.batch_size, most) == 0]
        values = {"workers": workers, "piece": piece, "group": group}
        yield note(Remark.GROUP_THAT_FITS, {**values, "fits": fits[0]}) if fits else note(Remark.NO_GROUP_FITS, values)
