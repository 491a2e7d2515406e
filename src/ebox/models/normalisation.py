"""Batch normalisation by the statistics of the whole global batch, with few messages between the devices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ebox.mesh.collectives import Axis

BATCH_NORM_EPSILON = 1e-5
# Up to this number of devices, each sends its moments to all: one message, whose length grows with the number.
GATHERED_DEVICES = 16


@dataclass(frozen=True)
class Statistics:
    """Which examples of a training pass are normalised together.

    Args:
        axis: The devices whose examples count, in the order of their shares; none: this device's alone.
        group_examples: How many neighbouring examples are normalised together; none: all of them.
    """

    axis: Axis | None = None
    group_examples: int | None = None


class Moments(eqx.Module):
    """Mean and variance of each channel over the valid examples of a global batch."""

    mean: Float[Array, " channel"]
    variance: Float[Array, " channel"]


class BatchNorm(eqx.Module):
    """Batch normalisation with the statistics of the valid examples of the whole global batch (Ioffe 2015).

    One that is `fixed` normalises by its running moments in training too, and these stay.
    """

    scale: Float[Array, " channel"]
    offset: Float[Array, " channel"]
    running: Moments
    fixed: bool = eqx.field(static=True, default=False)

    @staticmethod
    def create(channels: int) -> BatchNorm:
        """Start as the identity."""
        one, zero = jnp.ones(channels), jnp.zeros(channels)
        return BatchNorm(one, zero, Moments(zero, one))

    def __call__(self, inputs: Float[Array, "batch *length channel"]) -> Float[Array, "batch *length channel"]:
        """Normalise by the running moments in float32, and return the dtype of `inputs`."""
        values = inputs.astype(jnp.float32)
        centred = values - per_channel(self.running.mean, values)
        scaled = centred * per_channel(self.factor(), values)
        return (scaled + per_channel(self.offset, values)).astype(inputs.dtype)

    def factor(self) -> Float[Array, " channel"]:
        """By what the running moments multiply a difference of two inputs."""
        return self.scale * jax.lax.rsqrt(self.running.variance + BATCH_NORM_EPSILON)

    def by_batch(
        self, inputs: Float[Array, "batch *length channel"], mask: Bool[Array, " batch"], statistics: Statistics
    ) -> tuple[Float[Array, "batch *length channel"], Moments]:
        """Normalise by the unmasked examples that `statistics` puts together, and return the moments of all of them."""
        return normalise_batch(statistics, inputs, self.scale, self.offset, mask.astype(jnp.float32))


def per_channel(vector: Float[Array, " channel"], like: Array) -> Array:
    """Give a vector the rank and the dtype of `like`, along its last axis."""
    return vector.astype(like.dtype).reshape((1,) * (like.ndim - 1) + vector.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalise_batch(
    statistics: Statistics,
    inputs: Float[Array, "batch *length channel"],
    scale: Float[Array, " channel"],
    offset: Float[Array, " channel"],
    weights: Float[Array, " batch"],
) -> tuple[Float[Array, "batch *length channel"], Moments]:
    """Normalise each group of examples by its weighted moments, and return those of all groups together.

    No gradient flows into the returned moments or into `weights`.

    Args:
        statistics: Which examples form a group.
        inputs: What is normalised.
        scale: Multiplies each normalised channel.
        offset: Is added to it.
        weights: 1 for each example that counts in the moments, 0 for padding.
    """
    (outputs, moments), _ = _forward(statistics, inputs, scale, offset, weights)
    return outputs, moments


def _forward(
    statistics: Statistics, inputs: Array, scale: Array, offset: Array, weights: Array
) -> tuple[tuple[Array, Moments], tuple[Array, ...]]:
    groups = Groups.of(statistics, inputs.shape[0])
    counts, means, variances = _moments(groups, inputs, weights)
    # Without this, a group that is all padding would grow from layer to layer until it is NaN.
    factors = jnp.where(counts > 0.0, jax.lax.rsqrt(variances + BATCH_NORM_EPSILON), 0.0)
    values = inputs.astype(jnp.float32)
    normal = (values - groups.spread(means, values)) * groups.spread(factors * scale[None], values)
    outputs = (normal + per_channel(offset, values)).astype(inputs.dtype)
    saved = (inputs, scale, means, factors, counts, weights)
    return (outputs, _join_groups(counts, means, variances)), saved


def _backward(
    statistics: Statistics, saved: tuple[Array, ...], gradient: tuple[Array, Moments]
) -> tuple[Array, Array, Array, Array]:
    """Gradients of scale and offset are this device's shares, as for any weight; those of inputs need group sums."""
    inputs, scale, means, factors, counts, weights = saved
    groups = Groups.of(statistics, inputs.shape[0])
    change = gradient[0].astype(jnp.float32)
    values = inputs.astype(jnp.float32)
    normal = (values - groups.spread(means, values)) * groups.spread(factors, values)
    sums = groups.sum(jnp.concatenate([sum_positions(change), sum_positions(change * normal)], axis=1))
    of_offset, of_scale = jnp.split(sums.sum(axis=0), 2)
    mean_changes, mean_products = jnp.split(groups.sum_devices(sums) / jnp.maximum(counts, 1.0), 2, axis=1)
    taken = groups.spread(mean_changes, values) + normal * groups.spread(mean_products, values)
    of_inputs = groups.spread(factors * scale[None], values) * (change - _per_example(weights, values) * taken)
    return of_inputs.astype(inputs.dtype), of_scale, of_offset, jnp.zeros_like(weights)


normalise_batch.defvjp(_forward, _backward)


@dataclass(frozen=True)
class Groups:
    """Where the examples of a device stand in the groups: group g holds the places g * size to (g + 1) * size - 1."""

    axis: Axis | None
    count: int
    size: int
    num_examples: int  # of this device

    @staticmethod
    def of(statistics: Statistics, num_examples: int) -> Groups:
        """Those of a device that holds `num_examples`; all devices on the axis hold the same number."""
        axis = statistics.axis
        total = num_examples * (1 if axis is None else axis.size)
        size = min(total, statistics.group_examples or total)
        return Groups(axis, -(-total // size), size, num_examples)

    def sum(self, each: Float[Array, "batch channel"]) -> Float[Array, "group channel"]:
        """Add up this device's examples of every group."""
        if self.count == 1:
            return each.sum(axis=0, keepdims=True)
        if self._are_whole:
            return each.reshape(self.count, self.size, -1).sum(axis=1)
        belongs = self._numbers()[:, None] == jnp.arange(self.count)[None]
        return jnp.where(belongs[..., None], each[:, None], 0.0).sum(axis=0)

    def sum_devices(self, sums: Float[Array, "group channel"]) -> Float[Array, "group channel"]:
        """Add up the sums of the devices."""
        return sums if self.axis is None else self.axis.sum(sums)

    def spread(self, rows: Float[Array, "group channel"], like: Array) -> Array:
        """Give every example the row of its group, in the rank of `like`."""
        if self.count > 1:
            rows = jnp.repeat(rows, self.size, axis=0) if self._are_whole else rows[self._numbers()]
        return rows.reshape(len(rows), *(1,) * (like.ndim - 2), rows.shape[1])

    @property
    def _are_whole(self) -> bool:
        return self.axis is None and self.count * self.size == self.num_examples

    def _numbers(self) -> Int[Array, " batch"]:
        first = 0 if self.axis is None else self.axis.place * self.num_examples
        return (first + jnp.arange(self.num_examples)) // self.size


def _moments(groups: Groups, inputs: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Number of values per channel, mean and variance; one row per group.

    Each device computes its own in two passes, and they are merged by their differences (Chan 1983). E[x^2] - E[x]^2
    would lose digits where the mean is far from zero, and 1 and N devices would differ.
    """
    values = inputs.astype(jnp.float32)
    each = _per_example(weights, values)
    positions = inputs.size // (inputs.shape[0] * inputs.shape[-1])
    counts = groups.sum(weights[:, None]) * positions
    sums = groups.sum(sum_positions(values * each))
    means = sums / jnp.maximum(counts, 1.0)
    squares = groups.sum(sum_positions(each * (values - groups.spread(means, values)) ** 2))
    if groups.axis is None:
        return counts, means, squares / jnp.maximum(counts, 1.0)
    return _merge_devices(counts, sums, squares, groups.axis)


def _merge_devices(counts: Array, sums: Array, squares: Array, axis: Axis) -> tuple[Array, Array, Array]:
    """Merge the devices' moments: a few devices send them in one message, more devices make two sums."""
    means = sums / jnp.maximum(counts, 1.0)
    if axis.size <= GATHERED_DEVICES:
        rows = jax.lax.all_gather(jnp.concatenate([counts, sums, squares], axis=1), axis.name)
        all_counts, all_sums, all_squares = rows[..., :1], *jnp.split(rows[..., 1:], 2, axis=2)
        totals = all_counts.sum(axis=0)
        centres = all_sums.sum(axis=0) / jnp.maximum(totals, 1.0)
        apart = all_sums / jnp.maximum(all_counts, 1.0) - centres[None]
        return totals, centres, (all_squares + all_counts * apart**2).sum(axis=0) / jnp.maximum(totals, 1.0)
    added = axis.sum(jnp.concatenate([counts, sums], axis=1))
    totals, centres = added[:, :1], added[:, 1:] / jnp.maximum(added[:, :1], 1.0)
    spread = axis.sum(squares + counts * (means - centres) ** 2)
    return totals, centres, spread / jnp.maximum(totals, 1.0)


def _join_groups(counts: Array, means: Array, variances: Array) -> Moments:
    """The moments of all groups together."""
    if len(counts) == 1:
        return Moments(means[0], variances[0])
    shares = counts / jnp.maximum(counts.sum(), 1.0)
    mean = (shares * means).sum(axis=0)
    return Moments(mean, (shares * (variances + (means - mean[None]) ** 2)).sum(axis=0))


def _per_example(weights: Array, like: Array) -> Array:
    return weights.reshape((-1,) + (1,) * (like.ndim - 1))


def sum_positions(values: Float[Array, "batch *length channel"]) -> Float[Array, "batch channel"]:
    """Sum the positions of each example, before examples are added up.

    The sum of each example then has the same bits on any number of devices; only the few additions of these sums round
    differently.
    """
    return jax.lax.optimization_barrier(values.sum(tuple(range(1, values.ndim - 1))))
