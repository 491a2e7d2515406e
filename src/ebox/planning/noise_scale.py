"""The gradient noise scale of a training, measured with its own train step (McCandlish 2018, appendix A.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from ebox.datasets.folder import open_dataset
from ebox.errors import InputError
from ebox.mesh.devices import DATA_AXIS, find_devices, make_mesh
from ebox.models.network import Network
from ebox.planning.estimates import Estimate
from ebox.planning.profiles import NoiseScale
from ebox.progress import Progress, quiet
from ebox.settings.reading import Config
from ebox.training.batches import Chunk, ChunkPlan, Shares, iter_chunks, iter_plans, make_chunk, put_chunk
from ebox.training.gradients import Batch, share_of_gradient
from ebox.training.inputs import TrainingInputs
from ebox.training.state import Hyperparameters, TrainState, place_state
from ebox.training.step import NUM_SIGNALS, StepPlan, build_run_chunk, compiler_options, make_plan

# Steps of a training at which gradients are compared, and of how many examples and batches there.
NUM_POINTS, EXAMPLES_A_POINT = 24, 2048
FEWEST_BATCHES, MOST_BATCHES = 8, 32
EPSILON = 1e-8
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
    def of_sums(
        step: int, square_of_sum: float, sum_of_squares: float, batch_size: int, num_batches: int
    ) -> NoisePoint:
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
    signals = jnp.zeros((mesh.size, NUM_SIGNALS))
    found: list[NoisePoint] = []
    for chunk_plan, chunk in iter_chunks(
        inputs.codes,
        inputs.targets,
        inputs.order,
        plans,
        chunk_steps,
        mesh,
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
        train, epoch = config.train, inputs.order.examples_per_epoch
        size = max(1, min(train.batch_size, epoch // FEWEST_BATCHES))
        self.num_batches = max(FEWEST_BATCHES, min(MOST_BATCHES, EXAMPLES_A_POINT // size, epoch // size))
        self.batch_size, self._inputs, self._mesh = size, inputs, mesh
        # Other batches than those that the training sees at these steps.
        self._order = replace(inputs.order, batch_size=size, seed=inputs.order.seed + 1)
        self._shares = Shares(size, mesh.size, train.device_batch_size)
        of_size = config.model_copy(update={"train": train.model_copy(update={"batch_size": size})})
        self._square = _build_squares(mesh, make_plan(of_size, mesh), self.num_batches)

    def __call__(self, step: int, state: TrainState, number: int) -> NoisePoint:
        """Compare whole batches of an epoch of their own.

        Args:
            step: Steps made before.
            state: The training after them.
            number: Of the comparison, another epoch for each.
        """
        inputs, plan = self._inputs, ChunkPlan(number * self._order.steps_per_epoch, self.num_batches)
        chunk = make_chunk(inputs.codes, inputs.targets, self._order, plan, self.num_batches, self._shares)
        first = jnp.asarray(plan.first, jnp.int32)
        square_of_sum, sum_of_squares = self._square(state, put_chunk(chunk, self._mesh), first, inputs.hyper)
        return NoisePoint.of_sums(step, float(square_of_sum), float(sum_of_squares), self.batch_size, self.num_batches)


def _build_squares(mesh: Mesh, plan: StepPlan, num_batches: int) -> Callable[..., tuple[Array, Array]]:
    """Compile the squared norms of the sum of the gradients of all batches, and the sum of those of each."""

    def compare(
        core: TrainState, arrays: tuple[Any, ...], known: Any, first: Array, rates: Hyperparameters
    ) -> tuple[Array, Array]:
        scale = optax.tree.get(core.optimiser, "nu")

        def one(total: Network, place: Array) -> tuple[Network, Array]:
            batch = Batch(*(jax.lax.dynamic_index_in_dim(array, place, keepdims=False) for array in (*arrays, known)))
            share = share_of_gradient(core.network, batch, first + place, rates, plan.schedule.pass_plan)
            return jax.tree.map(jnp.add, total, share.gradient), square_norm(share.gradient, scale)

        with plan.precision():
            blank = jax.tree.map(jnp.zeros_like, scale)
            total, squares = jax.lax.scan(one, blank, jnp.arange(num_batches))
        return square_norm(total, scale), squares.sum()

    everywhere, sharded = PartitionSpec(), PartitionSpec(None, DATA_AXIS)
    on_device = jax.shard_map(
        compare,
        mesh=mesh,
        in_specs=(everywhere, sharded, everywhere, everywhere, everywhere),
        out_specs=everywhere,
        check_vma=False,
    )

    def squares(state: TrainState, chunk: Chunk, first: Array, rates: Hyperparameters) -> tuple[Array, Array]:
        arrays = (chunk.codes, chunk.targets, chunk.mask)
        return on_device(state.with_carried(None), arrays, chunk.known, first, rates)

    return jax.jit(squares, compiler_options=compiler_options(mesh))


def square_norm(gradient: Network, scale: Network) -> Float[Array, ""]:
    """The squared norm of a gradient as Adam sees it: each number over the root of its mean square.

    Args:
        gradient: Of the weights.
        scale: Adam's moving mean of the squares of each.
    """
    parts = jax.tree.map(lambda values, squares: (values**2 / (jnp.sqrt(squares) + EPSILON)).sum(), gradient, scale)
    return sum(jax.tree.leaves(parts), jnp.zeros(()))
