"""Batch normalisation by the statistics of the whole global batch, with few messages between the devices."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

BATCH_NORM_EPSILON = 1e-5
# Up to so many devices the moments of all travel to all: one message, of a length that grows with their number.
GATHERED_DEVICES = 16


class Moments(eqx.Module):
    """Mean and variance of each channel over the valid examples of a global batch."""

    mean: Float[Array, " channel"]
    variance: Float[Array, " channel"]


class BatchNorm(eqx.Module):
    """Batch normalisation with the statistics of the valid examples of the whole global batch (Ioffe 2015)."""

    scale: Float[Array, " channel"]
    offset: Float[Array, " channel"]
    running: Moments

    @staticmethod
    def create(channels: int) -> BatchNorm:
        """Start as the identity."""
        one, zero = jnp.ones(channels), jnp.zeros(channels)
        return BatchNorm(one, zero, Moments(zero, one))

    def __call__(self, inputs: Float[Array, "batch *length channel"]) -> Float[Array, "batch *length channel"]:
        """Normalise by the running moments in float32, and give the dtype of `inputs` back."""
        return _scale(inputs, self.scale, self.offset, self.running)

    def by_batch(
        self, inputs: Float[Array, "batch *length channel"], mask: Bool[Array, " batch"], axis_name: AxisName
    ) -> tuple[Float[Array, "batch *length channel"], Moments]:
        """Normalise by the unmasked examples of all devices on `axis_name`, and give the moments seen."""
        return normalise_batch(axis_name, inputs, self.scale, self.offset, mask.astype(jnp.float32))


AxisName = str | tuple[str, ...] | None


def per_channel(vector: Float[Array, " channel"], like: Array) -> Array:
    """Give a vector the rank and the dtype of `like`, along its last axis."""
    return vector.astype(like.dtype).reshape((1,) * (like.ndim - 1) + vector.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalise_batch(
    axis_name: AxisName,
    inputs: Float[Array, "batch *length channel"],
    scale: Float[Array, " channel"],
    offset: Float[Array, " channel"],
    weights: Float[Array, " batch"],
) -> tuple[Float[Array, "batch *length channel"], Moments]:
    """Normalise by the weighted moments of the global batch.

    No gradient goes into the moments given out or into `weights`.
    """
    moments, _ = _moments(inputs, weights, axis_name)
    return _scale(inputs, scale, offset, moments), moments


def _forward(
    axis_name: AxisName, inputs: Array, scale: Array, offset: Array, weights: Array
) -> tuple[tuple[Array, Moments], tuple[Array, ...]]:
    moments, count = _moments(inputs, weights, axis_name)
    factor = jax.lax.rsqrt(moments.variance + BATCH_NORM_EPSILON)
    saved = (inputs, scale, moments.mean, factor, count, weights)
    return (_scale(inputs, scale, offset, moments), moments), saved


def _backward(
    axis_name: AxisName, saved: tuple[Array, ...], gradient: tuple[Array, Moments]
) -> tuple[Array, Array, Array, Array]:
    """The shares of scale and offset stay this device's own, as of any weight; that of the inputs needs global sums."""
    inputs, scale, mean, factor, count, weights = saved
    change = gradient[0].astype(jnp.float32)
    values = inputs.astype(jnp.float32)
    normal = (values - per_channel(mean, values)) * per_channel(factor, values)
    of_offset, of_scale = sum_examples(change), sum_examples(change * normal)
    total = _sum_over(jnp.concatenate([of_offset, of_scale]), axis_name) / count
    mean_change, mean_product = jnp.split(total, 2)
    taken = per_channel(mean_change, values) + normal * per_channel(mean_product, values)
    of_inputs = per_channel(scale * factor, values) * (change - _per_example(weights, values) * taken)
    return of_inputs.astype(inputs.dtype), of_scale, of_offset, jnp.zeros_like(weights)


normalise_batch.defvjp(_forward, _backward)


def _moments(inputs: Array, weights: Array, axis_name: AxisName) -> tuple[Moments, Array]:
    """Moments over the global batch, and the number of values a channel behind them.

    Each device takes its own in two passes, and they are merged by their differences (Chan 1983). E[x^2] - E[x]^2 would
    lose digits where the mean is far from zero, and with them the sameness of 1 and N devices.
    """
    values = inputs.astype(jnp.float32)
    each = _per_example(weights, values)
    positions = inputs.size // (inputs.shape[0] * inputs.shape[-1])
    count = (weights.sum() * positions)[None]
    sums = sum_examples(values * each)
    mean = sums / jnp.maximum(count, 1.0)
    squares = sum_examples(each * (values - per_channel(mean, values)) ** 2)
    if axis_name is None:
        count = jnp.maximum(count, 1.0)
        return Moments(mean, squares / count), count
    return _merge(count, sums, squares, axis_name)


def _merge(count: Array, sums: Array, squares: Array, axis_name: AxisName) -> tuple[Moments, Array]:
    """Merge the devices' moments: few send all of theirs in one message, many meet twice in sums."""
    if jax.lax.axis_size(axis_name) <= GATHERED_DEVICES:
        rows = jax.lax.all_gather(jnp.concatenate([count, sums, squares]), axis_name)
        counts, all_sums, all_squares = rows[:, :1], *jnp.split(rows[:, 1:], 2, axis=1)
        total = jnp.maximum(counts.sum(axis=0), 1.0)
        centre = all_sums.sum(axis=0) / total
        spread = all_squares + counts * (all_sums / jnp.maximum(counts, 1.0) - centre[None]) ** 2
        return Moments(centre, spread.sum(axis=0) / total), total
    totals = jax.lax.psum(jnp.concatenate([count, sums]), axis_name)
    total = jnp.maximum(totals[:1], 1.0)
    centre = totals[1:] / total
    spread = jax.lax.psum(squares + count * (sums / jnp.maximum(count, 1.0) - centre) ** 2, axis_name)
    return Moments(centre, spread / total), total


def _scale(inputs: Array, scale: Array, offset: Array, moments: Moments) -> Array:
    values = inputs.astype(jnp.float32)
    factor = scale * jax.lax.rsqrt(moments.variance + BATCH_NORM_EPSILON)
    centred = values - per_channel(moments.mean, values)
    return (centred * per_channel(factor, values) + per_channel(offset, values)).astype(inputs.dtype)


def _per_example(weights: Array, like: Array) -> Array:
    return weights.reshape((-1,) + (1,) * (like.ndim - 1))


def sum_examples(values: Float[Array, "batch *length channel"]) -> Float[Array, " channel"]:
    """Sum over positions and then over examples, in that order.

    The sums of the examples are then the same bits on any number of devices, and only their few additions round
    differently.
    """
    each = jax.lax.optimization_barrier(values.sum(tuple(range(1, values.ndim - 1))))
    return each.sum(axis=0)


def _sum_over(value: Array, axis_name: AxisName) -> Array:
    return value if axis_name is None else jax.lax.psum(value, axis_name)
