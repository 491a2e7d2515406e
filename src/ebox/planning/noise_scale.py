"""The gradient noise scale of a training, measured with its own train step (McCandlish 2018, appendix A.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from ebox.datasets.folder import open_dataset
from ebox.errors import InputError
from ebox.mesh.devices import DATA_AXIS, find_devices, make_mesh
from ebox.planning.estimates import Estimate
from ebox.planning.profiles import NoiseScale
from ebox.progress import Progress, quiet
from ebox.settings.reading import Config
from ebox.training.batches import ChunkPlan, Shares, iter_chunks, iter_plans, make_chunk, put_chunk
from ebox.training.gradients import Batch, share_of_gradient
from ebox.training.inputs import TrainingInputs
from ebox.training.state import TrainState, place_state
from ebox.training.step import NUM_SIGNALS, StepPlan, build_run_chunk, make_plan

# Batches whose gradients are compared at one step, and steps of a training at which that is done.
NUM_BATCHES, NUM_POINTS = 16, 24
NUM_DRAWS = 2000


@dataclass(frozen=True)
class NoisePoint:
    """What the gradients of several batches say at one step, both without bias.

    Args:
        step: Steps made before.
        signal: Square of the norm of the gradient of all examples; chance can make it negative.
        noise: Variance of the gradient of one example, summed over the weights: tr(Σ).
    """

    step: int
    signal: float
    noise: float

    @staticmethod
    def of_sums(step: int, square_of_sum: float, sum_of_squares: float, batch_size: int, num_batches: int) -> NoisePoint:
        """From squared norms of gradients that are means over a batch (equations A.2 and A.3 of the paper).

        Args:
            step: Steps made before.
            square_of_sum: Squared norm of the sum of the gradients of all batches.
            sum_of_squares: Sum of the squared norms of each.
            batch_size: Examples of a batch.
            num_batches: Number of batches, at least 2.
        """
        apart = square_of_sum - sum_of_squares
        within = sum_of_squares - square_of_sum / num_batches
        return NoisePoint(step, apart / (num_batches * (num_batches - 1)), batch_size * within / (num_batches - 1))


def average_noise(points: Sequence[NoisePoint], *, seed: int = 0) -> NoiseScale:
    """The noise scale over a training: the mean noise over the mean signal, with an interval from resampled points.

    Raises:
        InputError: the gradient can't be told from its noise.
    """
    signal, noise = (np.array([getattr(point, name) for point in points]) for name in ("signal", "noise"))
    rows = np.random.default_rng(seed).integers(len(points), size=(NUM_DRAWS, len(points)))
    drawn = signal[rows].mean(axis=1)
    if signal.mean() <= 0.0 or np.quantile(drawn, 0.025) <= 0.0:
        raise InputError(
            "the gradient can't be told from its noise, so there is no noise scale",
            remedy="measure a shorter training, or one at a larger train.batch_size",
        )
    found = Estimate.of_draws(noise.mean() / signal.mean(), noise[rows].mean(axis=1) / drawn)
    singles = tuple((point.step, point.noise / point.signal) for point in points if point.signal > 0.0)
    return NoiseScale(batch_size=found.value, low=found.low, high=found.high, over_steps=singles)


def measure_noise_scale(dataset: Path, config: Config, *, progress: Progress = quiet) -> NoiseScale:
    """Train on one device as the settings say, and compare the gradients of several batches on the way.

    The gradients are those of the train step: with its augmentation, dropout and batch normalisation.

    Args:
        dataset: A dataset folder.
        config: The settings of the training.
        progress: Called with a phrase, the number done, and the total number.

    Raises:
        InputError: no dataset, nothing to train on, or the gradient can't be told from its noise.
    """
    return average_noise(measure_points(TrainingInputs.of(open_dataset(dataset), config), config, progress=progress))


def measure_points(inputs: TrainingInputs, config: Config, *, progress: Progress = quiet) -> list[NoisePoint]:
    """The gradient and its noise at even steps of a training.

    Args:
        inputs: What the training starts from.
        config: Its settings.
        progress: Called with a phrase, the number done, and the total number.
    """
    alone = config.parallel.model_copy(update={"exchange": "exact", "sync": "every-step", "hierarchical": False})
    config = config.model_copy(update={"parallel": alone})
    mesh = make_mesh(find_devices(config.parallel)[:1])
    plan = make_plan(config, mesh)
    stops = sorted({round(inputs.num_steps * (2 * place + 1) / (2 * NUM_POINTS)) for place in range(NUM_POINTS)})
    chunk_steps = min(config.train.steps_per_dispatch, inputs.num_steps)
    run_chunk = build_run_chunk(mesh, plan, chunk_steps)
    measure = Comparison(inputs, config, mesh)
    plans = list(iter_plans(0, stops[-1], chunk_steps, frozenset(stops)))
    state = place_state(plan.schedule.start(inputs.fresh), mesh)
    signals, found = jnp.zeros((mesh.size, NUM_SIGNALS)), []
    for chunk_plan, chunk in iter_chunks(
        inputs.codes, inputs.targets, inputs.order, plans, chunk_steps, mesh,
        device_batch_size=config.train.device_batch_size,
    ):
        count = jnp.asarray(chunk_plan.count, jnp.int32)
        state, _ = run_chunk(state, chunk, signals, inputs.hyper, count)
        if (step := chunk_plan.first + chunk_plan.count) in stops:
            progress("measuring the noise of the gradient", len(found), len(stops))
            found.append(measure(step, state, len(found)))
    return found


class Comparison:
    """The gradients of several batches for one state of a training."""

    def __init__(self, inputs: TrainingInputs, config: Config, mesh: Mesh) -> None:
        """The batches are those of the settings, or smaller where an epoch holds fewer than are compared."""
        train = config.train
        size = max(1, min(train.batch_size, inputs.order.examples_per_epoch // NUM_BATCHES))
        smaller = config.model_copy(update={"train": train.model_copy(update={"batch_size": size})})
        self._inputs, self._mesh, self._size = inputs, mesh, size
        # Other batches than those that the training sees at these steps.
        self._order = replace(inputs.order, batch_size=size, seed=inputs.order.seed + 1)
        self._shares = Shares(size, 1, train.device_batch_size)
        self._sums = _build_sums(mesh, make_plan(smaller, mesh))

    def __call__(self, step: int, state: TrainState, number: int) -> Any:
        """Compare the first batches of an epoch of their own."""
        plan = ChunkPlan(number * self._order.steps_per_epoch, NUM_BATCHES)
        chunk = make_chunk(self._inputs.codes, self._inputs.targets, self._order, plan, NUM_BATCHES, self._shares)
        sums = self._sums(state, put_chunk(chunk, self._mesh), jnp.asarray(plan.first, jnp.int32), self._inputs.hyper)
        return [NoisePoint.of_sums(step, float(a), float(b), self._size, NUM_BATCHES) for a, b in zip(*map(np.asarray, sums))]


def _build_sums(mesh: Mesh, plan: StepPlan) -> Callable[..., tuple[Any, Any]]:
    everywhere = PartitionSpec()

    def sums(state, chunk, first, hyper):
        network = state.network
        scale = state.optimiser[1].nu
        def one(total, batch):
            place, codes, targets, mask, known = batch
            gradient = share_of_gradient(network, Batch(codes, targets, mask, known), first + place, hyper, plan.schedule.pass_plan).gradient
            return jax.tree.map(jnp.add, total, gradient), squares(gradient)
        def squares(g):
            return jnp.stack([sum((x*x*(1/(jnp.sqrt(v)+1e-8))**p).sum() for x, v in zip(jax.tree.leaves(g), jax.tree.leaves(scale))) for p in (0,1,2)])
        with plan.precision():
            zero = jax.tree.map(jnp.zeros_like, scale)
            total, each = jax.lax.scan(one, zero, (jnp.arange(NUM_BATCHES), chunk.codes, chunk.targets, chunk.mask, chunk.known))
        return squares(total), each.sum(0)
    sharded=PartitionSpec(None, DATA_AXIS)
    over = jax.shard_map(lambda core, codes, targets, mask, known, first, hyper: sums(core, _C(codes, targets, mask, known), first, hyper), mesh=mesh, in_specs=(everywhere, sharded, sharded, sharded, everywhere, everywhere, everywhere), out_specs=everywhere, check_vma=False)
    return jax.jit(lambda state, chunk, first, hyper: over(state.with_carried(None), chunk.codes, chunk.targets, chunk.mask, chunk.known, first, hyper))

@dataclass
class _C:
    codes: Any
    targets: Any
    mask: Any
    known: Any
