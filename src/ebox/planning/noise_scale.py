"""The gradient noise scale of a training, measured with its own train step (McCandlish 2018, appendix A.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
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
from ebox.evaluation.intervals import find_quantile
from ebox.mesh.devices import DATA_AXIS, find_devices, make_mesh
from ebox.planning.profiles import NoiseScale
from ebox.progress import Progress, quiet
from ebox.settings.reading import Config
from ebox.training.augmentation import hold_stage
from ebox.training.batches import Chunk, ChunkPlan, Shares, iter_chunks, iter_plans, make_chunk, put_chunk
from ebox.training.gradients import Batch, share_of_gradient
from ebox.training.inputs import TrainingInputs
from ebox.training.state import Hyperparameters, TrainState, place_state
from ebox.training.step import NUM_SIGNALS, StepPlan, build_run_chunk, compiler_options, make_plan

# Steps of a training at which gradients are compared, and of how many examples and batches there.
NUM_POINTS, EXAMPLES_A_POINT = 24, 2048
FEWEST_BATCHES, MOST_BATCHES = 8, 32


@dataclass(frozen=True, eq=False)
class NoisePoint:
    """The gradients of several batches for the same weights.

    Args:
        step: Steps made before.
        products: The scalar product of each two of them.
        batch_size: Examples of a batch.
        weight: How many steps of the training it stands for.
    """

    step: int
    products: Float[np.ndarray, "batch batch"]
    batch_size: int
    weight: float = 1.0

    def split(self) -> tuple[float, float]:
        """The square of the norm of the gradient, and the variance of that of one example, tr(Σ); both without bias.

        They are equations A.2 and A.3 of the paper, with every batch as a small one and all together as the large one;
        chance can make the first one negative.
        """
        signal, noise = self._split(self.products.sum(), np.trace(self.products), len(self.products))
        return float(signal), float(noise)

    def split_without_each(self) -> Float[np.ndarray, "part batch"]:
        """The same two with each of the batches left out."""
        squares = np.diag(self.products)
        total = self.products.sum() - 2.0 * self.products.sum(axis=1) + squares
        return np.array(self._split(total, squares.sum() - squares, len(squares) - 1))

    def _split(self, total: Any, squares: Any, count: int) -> tuple[Any, Any]:
        signal = (total - squares) / (count * (count - 1))
        return signal, self.batch_size * (squares / count - signal)

    @property
    def scale(self) -> float | None:
        """The noise scale at this step alone; None: the gradient was not told from its noise."""
        signal, noise = self.split()
        return noise / signal if signal > 0.0 else None


def average_noise(points: Sequence[NoisePoint]) -> NoiseScale:
    """The noise scale over a training: the mean noise over the mean signal.

    The interval is that of the jackknife over the batches of all points, on the scale of logarithms.

    Args:
        points: Of one or more trainings, each with the same number of batches.

    Raises:
        InputError: the gradient can't be told from its noise.
    """
    count = len(points[0].products)
    weights = [point.weight for point in points]
    whole = np.average([point.split() for point in points], axis=0, weights=weights)
    parts = np.average([point.split_without_each() for point in points], axis=0, weights=weights)
    if min(whole[0], parts[0].min()) <= 0.0:
        raise InputError(
            "the gradient can't be told from its noise, so there is no noise scale",
            remedy="measure a shorter training (train.epochs), or one with a larger train.batch_size",
        )
    value, left_out = whole[1] / whole[0], np.log(parts[1] / parts[0])
    error = np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum())
    width = float(np.exp(find_quantile(count - 1.0) * error))
    singles = tuple((point.step, point.scale) for point in points if point.scale is not None)
    return NoiseScale(batch_size=value, low=value / width, high=value * width, over_steps=singles)


def measure_noise_scale(dataset: Path, config: Config, *, num_seeds: int = 1, progress: Progress = quiet) -> NoiseScale:
    """Train on one device as the settings say, and compare the gradients of several batches on the way.

    The gradients are those of the train step: with its augmentation, dropout and batch normalisation. One seed differs
    from another by a factor of two or three, which the interval does not hold; the mean of four was the critical batch.

    Args:
        dataset: A dataset folder.
        config: The settings of the training.
        num_seeds: Trainings from this and the next seeds.
        progress: Called with a phrase, the number done, and the total number.

    Raises:
        InputError: no dataset, nothing to train on, or the gradient can't be told from its noise.
    """
    data, points = open_dataset(dataset), list[NoisePoint]()
    for seed in range(config.train.seed, config.train.seed + num_seeds):
        train = config.train.model_copy(update={"seed": seed})
        one = config.model_copy(update={"train": train})
        points += measure_points(TrainingInputs.of(data, one), one, progress=progress)
    return average_noise(points)


def measure_points(inputs: TrainingInputs, config: Config, *, progress: Progress = quiet) -> list[NoisePoint]:
    """The gradients at steps of a training that lie close at its beginning, where they change fast.

    Args:
        inputs: What the training starts from.
        config: Its settings.
        progress: Called with a phrase, the number done, and the total number.

    Raises:
        InputError: an epoch shows too few examples to compare.
    """
    alone = config.parallel.model_copy(update={"exchange": "exact", "sync": "every-step", "hierarchical": False})
    config = config.model_copy(update={"parallel": alone})
    mesh = make_mesh(find_devices(config.parallel)[:1])
    compare, found = Comparison(inputs, config, mesh), list[NoisePoint]()
    weights = choose_steps(inputs.num_steps)
    for step, state in iter_states(inputs, config, mesh, list(weights)):
        progress("measuring the noise of the gradient", len(found), len(weights))
        found.append(replace(compare(step, state, len(found)), weight=weights[step]))
    return found


def choose_steps(num_steps: int) -> dict[int, float]:
    """Steps in the middles of parts whose lengths grow evenly, and how long those parts are."""
    chosen: dict[int, float] = {}
    for place in range(NUM_POINTS):
        step = round(num_steps * ((place + 0.5) / NUM_POINTS) ** 2)
        chosen[step] = chosen.get(step, 0.0) + num_steps * (2 * place + 1) / NUM_POINTS**2
    return chosen


def iter_states(
    inputs: TrainingInputs, config: Config, mesh: Mesh, stops: Sequence[int]
) -> Iterator[tuple[int, TrainState]]:
    """Train, and yield the state at some steps; it lives until the next one.

    Args:
        inputs: What the training starts from.
        config: Its settings.
        mesh: The device.
        stops: The steps in order; 0 is the beginning.
    """
    plan, train = make_plan(config, mesh), config.train
    state = place_state(plan.schedule.start(inputs.fresh), mesh)
    if stops[0] == 0:
        yield 0, state
    chunk_steps = min(train.steps_per_dispatch, inputs.num_steps)
    run_chunk, signals = build_run_chunk(mesh, plan, chunk_steps), jnp.zeros((mesh.size, NUM_SIGNALS))
    plans = list(iter_plans(0, stops[-1], chunk_steps, frozenset(stops)))
    chunks = iter_chunks(
        *(inputs.codes, inputs.targets, inputs.order, plans, chunk_steps, mesh),
        device_batch_size=train.device_batch_size,
    )
    with closing(chunks):
        for part, chunk in chunks:
            state, _ = run_chunk(state, chunk, signals, inputs.hyper, jnp.asarray(part.count, jnp.int32))
            if (step := part.first + part.count) in stops:
                yield step, state


class Comparison:
    """The gradients of several batches for one state of a training."""

    def __init__(self, inputs: TrainingInputs, config: Config, mesh: Mesh) -> None:
        """The batches are those of the settings, or smaller where an epoch holds fewer than are compared."""
        train, epoch = config.train, inputs.order.examples_per_epoch
        if epoch < FEWEST_BATCHES:
            raise InputError(
                f"an epoch shows {epoch} examples, and to tell the gradient from its noise it takes {FEWEST_BATCHES}",
                remedy="build the dataset from more examples",
            )
        size = max(1, min(train.batch_size, epoch // FEWEST_BATCHES))
        self.num_batches = max(FEWEST_BATCHES, min(MOST_BATCHES, EXAMPLES_A_POINT // size, epoch // size))
        self.batch_size, self._inputs, self._mesh = size, inputs, mesh
        # Other batches than those that the training sees at these steps.
        self._order = replace(inputs.order, batch_size=size, seed=inputs.order.seed + 1)
        self._shares = Shares(size, mesh.size, train.device_batch_size)
        of_size = config.model_copy(update={"train": train.model_copy(update={"batch_size": size})})
        self._multiply = _build_products(mesh, make_plan(of_size, mesh), self.num_batches)

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
        products = self._multiply(state, put_chunk(chunk, self._mesh), first, inputs.hyper)
        return NoisePoint(step, np.asarray(products, np.float64), self.batch_size)


def _build_products(mesh: Mesh, plan: StepPlan, num_batches: int) -> Callable[..., Float[Array, "batch batch"]]:
    """Compile the scalar products of the gradients of all batches of a chunk."""

    def compare(
        core: TrainState, arrays: tuple[Any, ...], known: Any, first: Array, rates: Hyperparameters
    ) -> Float[Array, "batch batch"]:
        # The batches are those of other steps.
        of_stage = hold_stage(rates, core.step)

        def one(place: Array) -> Float[Array, " number"]:
            cut = partial(jax.lax.dynamic_index_in_dim, index=place, keepdims=False)
            codes, targets, mask, partners, of_batch = jax.tree.map(cut, (*arrays, known))
            batch = Batch(codes, targets, mask, of_batch, partners)
            share = share_of_gradient(core.network, batch, first + place, of_stage, plan.schedule.pass_plan)
            return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(share.gradient)])

        with plan.precision():
            gradients = jax.lax.map(one, jnp.arange(num_batches))
        return jnp.matmul(gradients, gradients.T, precision="highest")

    everywhere, sharded = PartitionSpec(), PartitionSpec(None, DATA_AXIS)
    on_device = jax.shard_map(
        compare,
        mesh=mesh,
        in_specs=(everywhere, sharded, everywhere, everywhere, everywhere),
        out_specs=everywhere,
        check_vma=False,
    )

    def multiply(state: TrainState, chunk: Chunk, first: Array, rates: Hyperparameters) -> Float[Array, "batch batch"]:
        arrays = (chunk.codes, chunk.targets, chunk.mask, chunk.partners)
        return on_device(state.with_carried(None), arrays, chunk.known, first, rates)

    return jax.jit(multiply, compiler_options=compiler_options(mesh))
