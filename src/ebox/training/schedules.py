"""When the devices meet: at every step, one step late, or only now and then."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from typing_extensions import override

from ebox.mesh.collectives import split_like
from ebox.mesh.devices import DATA_AXIS
from ebox.mesh.exchange import Carried, Exchange, Message, count_numbers, half_message, sum_message
from ebox.models.network import Network, apply_moments, is_trainable
from ebox.models.normalisation import GATHERED_DEVICES, Moments
from ebox.training.gradients import Batch, PassPlan, share_of_gradient
from ebox.training.state import (
    Hyperparameters,
    TrainState,
    descend,
    learning_rate_at,
    move_average,
    silence,
    start_optimiser,
)


class StepFacts(eqx.Module):
    """What one device reports of a step: its share of the loss, the norm of the gradient, the rate."""

    loss: Float[Array, "*step"]
    gradient_norm: Float[Array, "*step"]
    learning_rate: Float[Array, "*step"]


@dataclass(frozen=True)
class Schedule(abc.ABC):
    """A way to make steps together.

    The state without `carried` is equal on all devices; each device has its own `carried`.
    """

    pass_plan: PassPlan
    exchange: Exchange
    optimiser: optax.GradientTransformation
    workers: int

    @property
    def are_moments_apart(self) -> bool:
        """Whether a pass gives each device the moments of its own examples alone."""
        return self.pass_plan.statistics.axis is None

    @abc.abstractmethod
    def start(self, network: Network) -> TrainState:
        """The state before the first step, with one row per device (NumPy) in `carried`."""

    @abc.abstractmethod
    def step(
        self, core: TrainState, carried: Carried, batch: Batch, rates: Hyperparameters
    ) -> tuple[TrainState, Carried, StepFacts]:
        """Make one step on this device; call it under `shard_map`.

        Args:
            core: The state without `carried`.
            carried: What this device carries.
            batch: This device's part of the batch.
            rates: Rates and weights.
        """

    def regroup(self, carried: Carried, network: Network, *, keeps_owed: bool = True) -> Carried:
        """Deal what other devices carried to the devices of this schedule (NumPy).

        What the exchange had not sent yet is dealt only if `keeps_owed`; otherwise the exchange starts again.
        """
        weights = trained_weights(network)
        return self.exchange.regroup(carried, weights) if keeps_owed else self.exchange.start(weights)

    def meet(
        self, core: TrainState, share: Network, carried: Carried, moments: tuple[Moments, ...], count: Array
    ) -> tuple[Network, Carried, tuple[Moments, ...]]:
        """Sum the devices' shares of a gradient, and put their moments together where each has its own.

        Args:
            core: The state, whose running moments all devices hold.
            share: This device's share of the gradient.
            carried: What its exchange carries.
            moments: Those of its examples.
            count: Number of its examples.
        """
        if not (self.are_moments_apart and moments):
            return *self.exchange.reduce(share, carried), moments
        near = running_moments(core.network)
        total, carried, summed = self.exchange.reduce_beside(share, carried, pack_moments(moments, count, near))
        return total, carried, unpack_moments(summed, near)

    def meeting_messages(self, network: Network) -> tuple[Message, ...]:
        """The collectives of `meet`."""
        numbers = count_numbers(running_moments(network)) if self.are_moments_apart else 0
        weights = trained_weights(network)
        return self.exchange.messages_beside(weights, 1 + numbers) if numbers else self.exchange.messages(weights)

    def messages(self, network: Network) -> tuple[tuple[Message, ...], float]:
        """The collectives of one meeting and the steps up to it, and their number of steps: 1 unless overridden."""
        return (*self.meeting_messages(network), *_statistics(network, self)), 1.0

    def advance(
        self, core: TrainState, total: Network, moments: tuple[Moments, ...], rates: Hyperparameters
    ) -> tuple[TrainState, Array, Array]:
        """Take one optimiser step along a summed gradient; also return its norm and the rate.

        Args:
            core: The state before the step.
            total: The gradient of the global batch.
            moments: Those of the global batch.
            rates: Rates and weights.
        """
        weights, fixed = eqx.partition(core.network, is_trainable(core.network))
        rate = learning_rate_at(core.step, rates)
        factors = None if rates.layers is None else rates.layers.at(core.step)
        total = total if factors is None else silence(total, factors)
        weights, optimiser = descend(weights, total, core.optimiser, self.optimiser, rate, rates.weight_decay, factors)
        network = apply_moments(eqx.combine(weights, fixed), moments)
        average = move_average(core.average, network, core.step, rates.ema_decay)
        return TrainState(core.step + 1, network, optimiser, average, None), optax.tree.norm(total), rate


@dataclass(frozen=True)
class EveryStepSchedule(Schedule):
    """Synchronous: every step waits for the sum of its gradients."""

    @override
    def start(self, network: Network) -> TrainState:
        carried = self.exchange.start(trained_weights(network))
        return TrainState(jnp.zeros((), jnp.int32), network, start_optimiser(network, self.optimiser), network, carried)

    @override
    def step(
        self, core: TrainState, carried: Carried, batch: Batch, rates: Hyperparameters
    ) -> tuple[TrainState, Carried, StepFacts]:
        share = share_of_gradient(core.network, batch, core.step, rates, self.pass_plan)
        total, carried, moments = self.meet(core, share.gradient, carried, share.moments, share.num_examples)
        core, norm, rate = self.advance(core, total, moments, rates)
        return core, carried, StepFacts(share.loss, norm, rate)


class Pending(eqx.Module):
    """What a device found in the step before and what its exchange carries."""

    gradient: Network
    moments: tuple[Moments, ...]
    num_examples: Any  # one number per device
    exchange: Carried


@dataclass(frozen=True)
class DelayedSchedule(Schedule):
    """The sum of a step's gradients is used only in the step after it: the exchange may overlap the computing.

    It does where a device runs collectives beside its computation; on CPU, JAX runs them in order. The first step has
    no gradient to use, and that of the last step is never used.
    """

    @override
    def start(self, network: Network) -> TrainState:
        weights = trained_weights(network)
        zeros = jax.tree.map(lambda leaf: np.zeros((self.workers, *leaf.shape), np.float32), weights)
        running = running_moments(network)
        moments = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], self.workers, axis=0), running)
        counts = np.ones(self.workers, np.float32)
        carried = Pending(zeros, moments, counts, self.exchange.start(weights))
        return TrainState(jnp.zeros((), jnp.int32), network, start_optimiser(network, self.optimiser), network, carried)

    @override
    def step(
        self, core: TrainState, carried: Pending, batch: Batch, rates: Hyperparameters
    ) -> tuple[TrainState, Pending, StepFacts]:
        total, sent, moments = self.meet(
            core, carried.gradient, carried.exchange, carried.moments, carried.num_examples
        )
        share = share_of_gradient(core.network, batch, core.step, rates, self.pass_plan)
        core, norm, rate = self.advance(core, total, moments, rates)
        pending = Pending(share.gradient, share.moments, share.num_examples, sent)
        return core, pending, StepFacts(share.loss, norm, rate)

    @override
    def regroup(self, carried: Pending, network: Network, *, keeps_owed: bool = True) -> Pending:
        owed = super().regroup(carried.exchange, network, keeps_owed=keeps_owed)
        if len(carried.num_examples) == self.workers:
            return Pending(carried.gradient, carried.moments, carried.num_examples, owed)
        return Pending(
            jax.tree.map(lambda rows: deal_sum(rows, self.workers), carried.gradient),
            tuple(deal_moments(moments, carried.num_examples, self.workers) for moments in carried.moments),
            np.ones(self.workers, np.float32),
            owed,
        )


class Wanderer(eqx.Module):
    """A worker between two meetings: its own network and optimiser, and what its exchange carries."""

    network: Network
    optimiser: Any
    exchange: Carried


@dataclass(frozen=True)
class LocalSchedule(Schedule):
    """Workers train alone and meet every `local_steps` steps, and at the end (local SGD: Stich 2019).

    At a meeting the mean of their changes is a gradient for an outer Nesterov step (DiLoCo: Douillard 2023); rate 1
    and momentum 0 take the mean of their networks. The network and the average of the state are those of the last
    meeting; its optimiser holds the outer momentum.
    """

    local_steps: int = 16
    outer_rate: float = 1.0
    outer_momentum: float = 0.0

    @override
    def start(self, network: Network) -> TrainState:
        weights = trained_weights(network)
        velocity = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), weights)

        def rows(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], self.workers, axis=0), tree)

        inner = start_optimiser(network, self.optimiser)
        carried = Wanderer(rows(network), rows(inner), self.exchange.start(weights))
        return TrainState(jnp.zeros((), jnp.int32), network, velocity, network, carried)

    @override
    def step(
        self, core: TrainState, carried: Wanderer, batch: Batch, rates: Hyperparameters
    ) -> tuple[TrainState, Wanderer, StepFacts]:
        share = share_of_gradient(carried.network, batch, core.step, rates, self.pass_plan, alone=True)
        own = TrainState(core.step, carried.network, carried.optimiser, carried.network, None)
        moved, norm, rate = self.advance(own, share.gradient, share.moments, rates)
        # A worker without examples, in a tail batch, stays as it is.
        here = share.num_examples > 0.0
        before, after = (carried.network, carried.optimiser), (moved.network, moved.optimiser)
        network, optimiser = jax.tree.map(lambda new, old: jnp.where(here, new, old), after, before)
        walked = Wanderer(network, optimiser, carried.exchange)
        done = core.step + 1
        is_meeting = (done % self.local_steps == 0) | (done.astype(jnp.float32) >= rates.num_steps)
        core = TrainState(done, core.network, core.optimiser, core.average, None)
        core, walked = jax.lax.cond(is_meeting, self._meet, lambda core, walked, _: (core, walked), core, walked, rates)
        return core, walked, StepFacts(share.loss / self.workers, norm, rate)

    def _meet(self, core: TrainState, walked: Wanderer, rates: Hyperparameters) -> tuple[TrainState, Wanderer]:
        """Move the common network by the mean of the workers' changes, and let all continue from it."""
        trainable = is_trainable(core.network)
        anchor, _ = eqx.partition(core.network, trainable)
        found, fixed = eqx.partition(walked.network, trainable)
        change = jax.tree.map(lambda old, new: (old - new) / self.workers, anchor, found)
        total, carried, moments = self.meet(
            core, change, walked.exchange, running_moments(walked.network), jnp.ones(())
        )
        velocity = jax.tree.map(lambda old, new: self.outer_momentum * old + new, core.optimiser, total)
        anchor = jax.tree.map(
            lambda weight, pull, speed: weight - self.outer_rate * (pull + self.outer_momentum * speed),
            anchor,
            total,
            velocity,
        )
        common = apply_moments(eqx.combine(anchor, fixed), moments, momentum=1.0)
        average = move_average(core.average, common, core.step, rates.ema_decay, steps=self.local_steps)
        met = TrainState(core.step, common, velocity, average, None)
        return met, Wanderer(common, walked.optimiser, carried)

    @override
    def regroup(self, carried: Wanderer, network: Network, *, keeps_owed: bool = True) -> Wanderer:
        walked = carried.network, carried.optimiser
        if len(jax.tree.leaves(walked)[0]) != self.workers:
            walked = jax.tree.map(lambda rows: deal_mean(rows, self.workers), walked)
        return Wanderer(*walked, super().regroup(carried.exchange, network, keeps_owed=keeps_owed))

    @override
    def messages(self, network: Network) -> tuple[tuple[Message, ...], float]:
        return self.meeting_messages(network), float(self.local_steps)


def trained_weights(network: Network) -> Network:
    """The network with its trained weights alone."""
    return eqx.filter(network, is_trainable(network))


def running_moments(network: Network) -> tuple[Moments, ...]:
    """The running moments of a network's batch normalisations, in order."""
    return tuple(norm.running for norm in network.norms())


def merge_moments(moments: tuple[Moments, ...], count: Array, near: tuple[Moments, ...]) -> tuple[Moments, ...]:
    """The moments of all devices together, weighted by their numbers of examples; one message."""
    return unpack_moments(jax.lax.psum(pack_moments(moments, count, near), DATA_AXIS), near) if moments else moments


def pack_moments(moments: tuple[Moments, ...], count: Array, near: tuple[Moments, ...]) -> Float[Array, " number"]:
    """Moments as a vector, whose sum over the devices gives the moments of all, weighted by their numbers of examples.

    It holds differences from `near`, moments close to them that are equal on all devices: the mean square of the
    differences loses no digits where a mean is far from zero (shifted data: Chan 1983).
    """
    places = [close.mean for close in near]
    apart = [one.mean - place for one, place in zip(moments, places, strict=True)]
    squares = [one.variance + difference**2 for one, difference in zip(moments, apart, strict=True)]
    return jnp.concatenate([count[None], *(count * part for part in (*apart, *squares))])


def unpack_moments(total: Float[Array, " number"], near: tuple[Moments, ...]) -> tuple[Moments, ...]:
    """The moments of all devices from the sum of their packed ones."""
    places = [close.mean for close in near]
    parts = split_like(total[1:] / jnp.maximum(total[0], 1.0), [*places, *places])
    merged = zip(places, parts[: len(places)], parts[len(places) :], strict=True)
    return tuple(Moments(place + mean, jnp.maximum(square - mean**2, 0.0)) for place, mean, square in merged)


def deal_sum(rows: np.ndarray, workers: int) -> np.ndarray:
    """Rows for another number of devices, with the same sum."""
    return np.repeat(np.asarray(rows).sum(axis=0, keepdims=True) / np.float32(workers), workers, axis=0)


def deal_mean(rows: np.ndarray, workers: int) -> np.ndarray:
    """Rows for another number of devices, each the mean of the old ones; counters are equal in all."""
    rows = np.asarray(rows)
    mean = rows.mean(axis=0, keepdims=True, dtype=np.float32) if rows.dtype.kind == "f" else rows[:1]
    return np.repeat(mean.astype(rows.dtype), workers, axis=0)


def deal_moments(rows: Moments, counts: np.ndarray, workers: int) -> Moments:
    """Rows for another number of devices, each the moments of all old ones, weighted by their examples."""
    counts = np.asarray(counts, np.float64)
    shares = (counts / max(counts.sum(), 1.0))[:, None]
    means, variances = np.asarray(rows.mean, np.float64), np.asarray(rows.variance, np.float64)
    mean = (shares * means).sum(axis=0)
    variance = (shares * (variances + (means - mean[None]) ** 2)).sum(axis=0)
    dealt = [np.repeat(one[None].astype(np.float32), workers, axis=0) for one in (mean, variance)]
    # By its leaves: `Moments(...)` takes one row only.
    return jax.tree.unflatten(jax.tree.structure(rows), dealt)


def _statistics(network: Network, schedule: Schedule) -> tuple[Message, ...]:
    """The messages of the batch normalisations within one step."""
    sizes, workers = [norm.scale.size for norm in network.norms()], schedule.workers
    axis = schedule.pass_plan.statistics.axis
    if axis is None:
        return ()
    sizes = sizes * schedule.pass_plan.micro_batches
    groups = schedule.pass_plan.num_groups(workers)
    backward = [sum_message(4 * groups * 2 * size, workers, axis) for size in sizes]
    if workers <= GATHERED_DEVICES:
        rows = [4 * workers * groups * (2 * size + 1) for size in sizes]
        return (*(half_message("all-gather", row, workers) for row in rows), *backward)
    means = [sum_message(4 * groups * (size + 1), workers, axis) for size in sizes]
    return (*means, *(sum_message(4 * groups * size, workers, axis) for size in sizes), *backward)
