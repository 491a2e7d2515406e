"""The compiled step: several steps per dispatch on a mesh, by a schedule that says when the devices meet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, DTypeLike, Float

from ebox.errors import InputError
from ebox.mesh.build import build_exchange, find_axis
from ebox.mesh.collectives import Axis
from ebox.mesh.devices import DATA_AXIS, choose_convolution
from ebox.models.normalisation import Statistics
from ebox.models.passes import ConvolutionMethod
from ebox.settings.reading import Config
from ebox.training.augmentation import AugmentationPlan
from ebox.training.batches import Chunk, Shares
from ebox.training.gradients import Batch, PassPlan
from ebox.training.schedules import DelayedSchedule, EveryStepSchedule, LocalSchedule, Schedule, StepFacts
from ebox.training.state import Hyperparameters, TrainState, make_optimiser


class DispatchMetrics(eqx.Module):
    """Metrics of each step of a chunk, and the sum of the processes' signals; on the device until they are read."""

    loss: Float[Array, " step"]
    gradient_norm: Float[Array, " step"]
    learning_rate: Float[Array, " step"]
    signals: Float[Array, " signal"]


# What the processes tell each other with every dispatch, so that all act on it after the same step.
STOP, SAVE = 0, 1
NUM_SIGNALS = 2

# The axis of a mesh over which the members of a population are dealt.
MEMBER_AXIS = "member"

# From this number of examples at once, a GPU's own convolutions are faster in bfloat16.
NATIVE_EXAMPLES = 1024

# The many small elementwise passes of a step then share the cores: 1.05 to 1.1 times faster on 2.
CPU_COMPILER_OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": True}

RunChunk = Callable[[TrainState, Chunk, Array, Hyperparameters, Array], tuple[TrainState, DispatchMetrics]]


@dataclass(frozen=True)
class StepPlan:
    """What is constant in a compiled step."""

    schedule: Schedule
    full_precision: bool
    whole_chunks: bool

    def precision(self) -> AbstractContextManager[Any]:
        """How matrices are multiplied while a step is traced: accelerators would use fewer bits of float32."""
        return jax.default_matmul_precision("highest" if self.full_precision else "default")


def make_plan(config: Config, mesh: Mesh, platform: str | None = None) -> StepPlan:
    """Choose convolution, precision, exchange and schedule for a mesh; without `platform`, for that of its devices."""
    train, platform = config.train, mesh.devices.flat[0].platform if platform is None else platform
    low = jnp.bfloat16 if platform != "cpu" else jnp.float32
    dtype = {"auto": low, "float32": jnp.float32, "bfloat16": jnp.bfloat16}[train.precision]
    axis = find_axis(mesh)
    shares = Shares(train.batch_size, mesh.size, train.device_batch_size)
    pass_plan = PassPlan(
        AugmentationPlan.of(train),
        _choose_convolution(platform, dtype, shares.piece_size),
        dtype,
        shares.micro_batches,
        shares.piece_size,
        _choose_statistics(config, shares, axis),
    )
    return StepPlan(_build_schedule(config, mesh, pass_plan), dtype == jnp.float32, platform != "cpu")


def _choose_convolution(platform: str, dtype: DTypeLike, examples: int) -> ConvolutionMethod:
    """The fastest one with gradients; on a GPU this depends on the precision and the number of examples at once.

    Measured on an H200 with the default network, columns took this part of the time that the compiler's own
    convolutions took: in float32 0.57 at 64 examples and 0.34 at 4096; in bfloat16 0.63 at 64, 0.96 at 512, 1.09 at
    1024 and 1.17 at 2048.
    """
    if platform != "gpu":
        return choose_convolution(platform)
    return "native" if dtype == jnp.bfloat16 and examples >= NATIVE_EXAMPLES else "im2col"


def _choose_statistics(config: Config, shares: Shares, axis: Axis) -> Statistics:
    """Groups within one device need no message; `local` workers never share.

    Raises:
        InputError: a device doesn't take whole groups at once, so they would depend on the number of devices.
    """
    train = config.train
    shared = axis if config.parallel.sync != "local" else None
    if train.batch_statistics == "device":
        return Statistics()
    if train.batch_statistics == "global":
        return Statistics(shared)
    size = even_group(train.batch_size, train.group_examples)
    is_whole = shares.piece_size % size == 0
    if shares.micro_batches > 1 and not is_whole:
        raise InputError(
            f"with train.device_batch_size = {train.device_batch_size} a device takes {shares.piece_size} examples at "
            f"once, which are no whole groups of {size}",
            remedy="set train.device_batch_size to a multiple of the group that divides a device's share of the batch, "
            "or change train.group_examples or train.batch_statistics",
        )
    return Statistics(None if is_whole else shared, size)


def even_group(batch_size: int, most: int) -> int:
    """Examples of a group, at most `most`: a divisor of the batch above `most` / 2, or else of groups nearly equal."""
    divisors = (size for size in range(min(most, batch_size), most // 2, -1) if batch_size % size == 0)
    return next(divisors, -(-batch_size // -(-batch_size // most)))


def build_run_chunk(mesh: Mesh, plan: StepPlan, chunk_steps: int) -> RunChunk:
    """Compile the steps of one dispatch for a mesh: `run(state, chunk, signals, hyperparameters, count)`.

    Only the first `count` steps of the chunk change the state, so a shorter dispatch needs no second compilation.
    `signals` is `(device, signal)`; its sum over the devices comes back with the metrics.

    A CPU does not run the other steps. An accelerator runs them and drops the results, so that it doesn't ask the host
    after every step whether there is another one (1.7 times as fast on an H200 at 64 examples per step).
    """
    run_local = _make_local(find_axis(mesh), plan, chunk_steps)
    everywhere, rows, sharded = PartitionSpec(), PartitionSpec(DATA_AXIS), PartitionSpec(None, DATA_AXIS)
    over_devices = jax.shard_map(
        run_local,
        mesh=mesh,
        in_specs=(everywhere, rows, sharded, everywhere, rows, everywhere, everywhere),
        out_specs=(everywhere, rows, everywhere),
        check_vma=False,
    )
    return _compile(over_devices, mesh)


def build_population_chunk(mesh: Mesh, plan: StepPlan, chunk_steps: int) -> RunChunk:
    """Compile the steps of one dispatch for several members side by side; every argument has a row for each member.

    The members are dealt to the devices, and each of them is trained by one device alone. `count` is the number of
    steps of each member.

    Args:
        mesh: From `make_member_mesh`; the number of members is a multiple of its devices.
        plan: Made for one device.
        chunk_steps: Number of steps in the arrays of a chunk.
    """
    run_local = _make_local(find_axis(mesh), plan, chunk_steps)
    members = PartitionSpec(MEMBER_AXIS)
    over_devices = jax.shard_map(
        jax.vmap(run_local), mesh=mesh, in_specs=(members,) * 7, out_specs=members, check_vma=False
    )
    return _compile(over_devices, mesh)


def _compile(over_devices: Callable[..., Any], mesh: Mesh) -> RunChunk:
    """The compiled steps, with the state in one piece."""

    def run(
        state: TrainState, chunk: Chunk, signals: Array, rates: Hyperparameters, count: Array
    ) -> tuple[TrainState, DispatchMetrics]:
        shares = (chunk.codes, chunk.targets, chunk.mask, chunk.partners)
        core, carried, metrics = over_devices(
            state.with_carried(None), state.carried, shares, chunk.known, signals, rates, count
        )
        return core.with_carried(carried), metrics

    return jax.jit(run, donate_argnums=0, compiler_options=compiler_options(mesh))


def make_member_mesh(mesh: Mesh) -> Mesh:
    """The devices of a mesh for members side by side: an axis of members before a data axis of one device."""
    return Mesh(mesh.devices.reshape(-1, 1, 1), (MEMBER_AXIS, *DATA_AXIS))


def _make_local(axis: Axis, plan: StepPlan, chunk_steps: int) -> Callable[..., tuple[TrainState, Any, DispatchMetrics]]:
    """The steps of one dispatch as one device makes them; call it under `shard_map`."""

    def run_local(
        core: TrainState,
        carried: Any,
        shares: tuple[Any, Any, Any, Any],
        known: Any,
        signals: Array,
        rates: Hyperparameters,
        count: Array,
    ) -> tuple[TrainState, Any, DispatchMetrics]:
        # Not NaN: a step that is not run must not look like a loss that is not finite.
        blank = jnp.zeros((chunk_steps,), jnp.float32)

        def body(place: Array, carry: tuple[TrainState, Any, StepFacts]) -> tuple[TrainState, Any, StepFacts]:
            core, carried, facts = carry
            cut = partial(jax.lax.dynamic_index_in_dim, index=place, keepdims=False)
            codes, targets, mask, partners, of_batch = jax.tree.map(cut, (*shares, known))
            *state, seen = plan.schedule.step(core, carried, Batch(codes, targets, mask, of_batch, partners), rates)
            facts = jax.tree.map(lambda all_, one: all_.at[place].set(one), facts, seen)
            made = (*state, facts)
            return jax.tree.map(partial(jnp.where, place < count), made, carry) if plan.whole_chunks else made

        with plan.precision():
            start = (core, jax.tree.map(lambda rows: rows[0], carried), StepFacts(blank, blank, blank))
            steps = chunk_steps if plan.whole_chunks else count
            core, carried, facts = jax.lax.fori_loop(0, steps, body, start)
        return core, jax.tree.map(lambda row: row[None], carried), _sum_facts(facts, signals, axis)

    return run_local


def compiler_options(mesh: Mesh) -> dict[str, Any] | None:
    """The options for the devices of a mesh."""
    return CPU_COMPILER_OPTIONS if mesh.devices.flat[0].platform == "cpu" else None


def _sum_facts(facts: StepFacts, signals: Array, axis: Axis) -> DispatchMetrics:
    """Sum losses and signals over the devices, once per dispatch."""
    loss, norm, signals = axis.sum_parts([facts.loss, facts.gradient_norm / axis.size, signals[0]])
    return DispatchMetrics(loss, norm, facts.learning_rate, signals)


def _build_schedule(config: Config, mesh: Mesh, pass_plan: PassPlan) -> Schedule:
    parallel = config.parallel
    common = pass_plan, build_exchange(parallel, mesh), make_optimiser(config.train), mesh.size
    if parallel.sync == "local":
        return LocalSchedule(*common, parallel.local_steps, parallel.outer_rate, parallel.outer_momentum)
    # An async server makes its steps as `every-step` does, with the gradients that its workers send.
    return DelayedSchedule(*common) if parallel.sync == "delayed" else EveryStepSchedule(*common)
