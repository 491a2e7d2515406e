"""The train state: one immutable pytree with everything that a step changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int32

from ebox.mesh.devices import DATA_AXIS, put, replicate
from ebox.models.ensemble import Ensemble
from ebox.models.network import Network, is_trainable
from ebox.settings.reading import TrainConfig

FIRST_RATE_FRACTION = 0.04


class TrainState(eqx.Module):
    """Network, optimiser and moving average after `step` steps, equal on all devices; `carried`: a row per device."""

    step: Int32[Array, ""]
    network: Network
    optimiser: Any
    average: Network
    carried: Any = None

    def with_carried(self, carried: Any) -> TrainState:
        """The same state with other rows."""
        return eqx.tree_at(lambda state: state.carried, self, carried, is_leaf=lambda leaf: leaf is self.carried)


class LayerRates(eqx.Module):
    """How fast each array of weights is trained: a factor of the rate, and the first step in which it counts.

    Both are numbers in the shape of the trained weights.
    """

    factor: Network
    first_step: Network

    def at(self, step: Array) -> Network:
        """The factors in a step; 0: the array stays as it is."""
        made = step.astype(jnp.float32)
        return jax.tree.map(lambda factor, first: jnp.where(made >= first, factor, 0.0), self.factor, self.first_step)


class Hyperparameters(eqx.Module):
    """What differs between members of a population: data of the compiled step, not constants in it.

    Without `layers` all are trained at the same rate. `teacher` is the ensemble that a distilled network learns from;
    none in any other training.
    """

    key: Array
    learning_rate: Float[Array, ""]
    final_rate_fraction: Float[Array, ""]
    warmup_steps: Float[Array, ""]
    num_steps: Float[Array, ""]
    weight_decay: Float[Array, ""]
    dropout: Float[Array, ""]
    filter_dropout: Float[Array, ""]
    label_smoothing: Float[Array, ""]
    positive_weight: Float[Array, ...]  # one for all tracks, or one for each
    ema_decay: Float[Array, ""]
    mutation_rate: Float[Array, ""]
    deletion_rate: Float[Array, ""]
    insertion_rate: Float[Array, ""]
    translocation_rate: Float[Array, ""]
    inversion_rate: Float[Array, ""]
    noise: Float[Array, ""]
    change_fraction: Float[Array, ""]
    max_augmentations: Float[Array, ""]
    mixup_alpha: Float[Array, ""]
    augmented_steps: Float[Array, ""]  # from this step on the originals are shown; infinite: never
    layers: LayerRates | None = None
    spread_weight: Float[Array, ""] | None = None
    teacher: Ensemble | None = None

    def taught_by(self, teacher: Ensemble, spread_weight: float) -> Hyperparameters:
        """The same for a network that learns from an ensemble."""
        return replace(self, spread_weight=jnp.asarray(spread_weight, jnp.float32), teacher=teacher)


def make_hyperparameters(
    config: TrainConfig, num_steps: int, positive_weight: float | Sequence[float]
) -> Hyperparameters:
    """Turn the numbers of the settings into arrays."""

    def number(value: float | int | Sequence[float]) -> Array:
        return jnp.asarray(value, jnp.float32)

    return Hyperparameters(
        key=jax.random.key_data(jax.random.fold_in(jax.random.key(config.seed), 1)),
        learning_rate=number(config.learning_rate * rate_factor(config)),
        final_rate_fraction=number(config.final_rate_fraction),
        warmup_steps=number(max(1.0, config.warmup_fraction * num_steps)),
        num_steps=number(num_steps),
        weight_decay=number(config.weight_decay),
        dropout=number(config.dropout),
        filter_dropout=number(config.filter_dropout),
        label_smoothing=number(config.label_smoothing),
        positive_weight=number(positive_weight),
        ema_decay=number(config.ema_decay),
        mutation_rate=number(config.mutation_rate),
        deletion_rate=number(config.deletion_rate),
        insertion_rate=number(config.insertion_rate),
        translocation_rate=number(config.translocation_rate),
        inversion_rate=number(config.inversion_rate),
        noise=number(config.noise),
        change_fraction=number(config.change_fraction),
        max_augmentations=number(config.max_augmentations),
        mixup_alpha=number(config.mixup_alpha),
        augmented_steps=number(count_augmented_steps(config, num_steps)),
    )


def count_augmented_steps(config: TrainConfig, num_steps: int) -> float:
    """How many steps come before the stage on the originals; infinite where there is no such stage."""
    if config.originals_fraction == 0.0:
        return math.inf
    return float(num_steps - round(config.originals_fraction * num_steps))


def rate_factor(config: TrainConfig) -> float:
    """How much the rate grows with the batch: linearly (Goyal 2017) or as its square root (Krizhevsky 2014)."""
    growth = config.batch_size / config.rate_batch_size
    return {"constant": 1.0, "linear": growth, "sqrt": growth**0.5}[config.rate_scaling]


def learning_rate_at(step: Array, rates: Hyperparameters) -> Float[Array, ""]:
    """Rise linearly from 4 % of the rate over the warm-up, then fall along a cosine (Loshchilov 2017)."""
    progress = step.astype(jnp.float32)
    rising = FIRST_RATE_FRACTION + (1.0 - FIRST_RATE_FRACTION) * progress / rates.warmup_steps
    rest = jnp.maximum(rates.num_steps - rates.warmup_steps, 1.0)
    share = jnp.clip((progress - rates.warmup_steps) / rest, 0.0, 1.0)
    falling = rates.final_rate_fraction + (1.0 - rates.final_rate_fraction) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
    return rates.learning_rate * jnp.where(progress < rates.warmup_steps, rising, falling)


def make_optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """Adam's direction on clipped gradients; `descend` applies the step's size and the decay of weights."""
    clip = optax.identity() if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm)
    return optax.chain(clip, optax.scale_by_adam(b1=config.beta1, b2=config.beta2))


def start_optimiser(network: Network, transformation: optax.GradientTransformation) -> Any:
    """The state of an optimiser before the first step."""
    with jax.numpy_dtype_promotion("standard"):
        return transformation.init(eqx.filter(network, is_trainable(network)))


def descend(
    weights: Network,
    gradients: Network,
    optimiser: Any,
    transformation: optax.GradientTransformation,
    rate: Array,
    decay: Array,
    factors: Network | None = None,
) -> tuple[Network, Any]:
    """One AdamW step (Loshchilov 2019); matrices and filters decay, offsets and scales don't.

    Args:
        weights: What is trained.
        gradients: Of the loss by them.
        optimiser: The state of the optimiser.
        transformation: The optimiser.
        rate: Learning rate of this step.
        decay: Share of a weight that is subtracted per unit of the rate.
        factors: Of the rate, a number for each array; one whose number is 0 stays as it is. None: 1 for all.
    """
    with jax.numpy_dtype_promotion("standard"):
        updates, optimiser = transformation.update(gradients, optimiser, weights)

    def move(weight: Array, update: Array, factor: Array | float = 1.0) -> Array:
        shrink = decay if weight.ndim > 1 else jnp.zeros((), jnp.float32)
        return weight - rate * factor * (update + shrink * weight)

    trees = (weights, updates) if factors is None else (weights, updates, factors)
    return jax.tree.map(move, *trees), optimiser


def silence(gradients: Network, factors: Network) -> Network:
    """The gradients without those of arrays that stay: these count in no norm and in no mean of the optimiser."""
    return jax.tree.map(lambda one, factor: jnp.where(factor > 0.0, one, 0.0), gradients, factors)


def move_average(average: Network, network: Network, step: Array, decay: Array, *, steps: int = 1) -> Network:
    """Move the averaged weights and moments towards the present ones; faster at first, to forget the start.

    Args:
        average: The averaged network.
        network: The present network.
        step: Number of steps made before, on which the speed depends.
        decay: Share of the average that one step keeps, at most.
        steps: One call moves the average as far as this number of calls.
    """
    elapsed = step.astype(jnp.float32)
    kept = jnp.minimum(decay, (1.0 + elapsed) / (10.0 + elapsed)) ** steps
    return jax.tree.map(lambda old, new: new + kept * (old - new), average, network)


def place_state(state: TrainState, mesh: Mesh) -> TrainState:
    """Put a state of the host on the devices: all of it on each, but only its own row of what is carried."""
    arrays, static = eqx.partition(state.with_carried(None), eqx.is_array_like)
    own = [place for place, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[own], state.carried)
    carried = put(rows, NamedSharding(mesh, PartitionSpec(DATA_AXIS)))
    return eqx.combine(replicate(arrays, mesh), static).with_carried(carried)
