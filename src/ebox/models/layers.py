"""The operations that networks are made of; convolution in three equivalent forms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from ebox.models.normalisation import per_channel
from ebox.models.passes import ConvolutionMethod, Pass
from ebox.models.winograd import MIN_CHANNELS, WIDTHS, convolve_winograd

ActivationKind = Literal["exponential", "relu", "gelu", "linear"]
# Inputs of the exponential are limited to this, so that one strong site can't overflow bfloat16 sums.
EXPONENT_LIMIT = 6.0
# Dropout has keys of its own: those of an example with small numbers are the ones that it is shifted and turned by.
DROP_KEY = 1 << 21


def draw_weights(shape: tuple[int, ...], rng: np.random.Generator, gain: float = 2.0) -> Float[Array, "*inputs output"]:
    """Draw normal weights of variance `gain` / fan-in; 2 is He's rule (He 2015).

    Drawn on the host: JAX would first compile a program for each shape, 1 to 2 s for a network.
    """
    variance = gain / math.prod(shape[:-1])
    return jnp.asarray(rng.standard_normal(shape, np.float32) * np.float32(variance**0.5))


class Convolution(eqx.Module):
    """A one-dimensional convolution, zero-padded so that the length stays.

    Where it reads both strands of DNA, the scores of the reverse complements stand beside those of the filters.
    """

    weight: Float[Array, "width channel filter"]
    dilation: int = eqx.field(static=True, default=1)
    both_strands: bool = eqx.field(static=True, default=False)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and behind the inputs."""
        return same_padding(self.weight.shape[0], self.dilation)

    def filters(self, dtype: DTypeLike = jnp.float32) -> Float[Array, "width channel score"]:
        """What slides over the inputs: the filters, then their reverse complements where both strands are read."""
        weight = self.weight.astype(dtype)
        return jnp.concatenate([weight, weight[::-1, ::-1]], axis=-1) if self.both_strands else weight

    def __call__(
        self, inputs: Float[Array, "batch length channel"], a_pass: Pass
    ) -> Float[Array, "batch length score"]:
        """Slide the filters over `inputs`, in the dtype of `inputs`."""
        return convolve(inputs, self.filters(inputs.dtype), self.dilation, a_pass.method)


def same_padding(width: int, dilation: int) -> tuple[int, int]:
    """Zeros before and behind a convolution's inputs that keep the length."""
    left = dilation * ((width - 1) // 2)
    return left, dilation * (width - 1) - left


def convolve(
    inputs: Float[Array, "batch length channel"],
    weight: Float[Array, "width channel filter"],
    dilation: int,
    method: ConvolutionMethod,
) -> Float[Array, "batch length filter"]:
    """Convolve with zero padding to the same length; all methods give the same numbers to rounding.

    `native` leaves it to the compiler, which suits TPUs. `im2col` gathers the columns and multiplies once. `winograd`
    is for CPU: Winograd's tiles where there are many channels, columns elsewhere. On a CPU, XLA's own convolution is 30
    times slower inside a compiled loop of steps; on a GPU, the library's dilated ones are slow in the backward pass.

    Args:
        inputs: What the filters slide over.
        weight: The filters.
        dilation: Positions from one tap of a filter to the next.
        method: `native`, `im2col` or `winograd`.
    """
    width, channels, filters = weight.shape
    if method == "winograd" and width in WIDTHS and min(channels, filters) >= MIN_CHANNELS:
        return convolve_winograd(inputs, weight, dilation)
    padding = same_padding(width, dilation)
    if method == "native":
        return jax.lax.conv_general_dilated(
            inputs,
            weight,
            window_strides=(1,),
            padding=(padding,),
            rhs_dilation=(dilation,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
    batch, length, _ = inputs.shape
    padded = jnp.pad(inputs, ((0, 0), padding, (0, 0)))
    columns = [jax.lax.slice_in_dim(padded, k * dilation, k * dilation + length, axis=1) for k in range(width)]
    matrix = jnp.concatenate(columns, axis=-1).reshape(batch * length, width * channels)
    return (matrix @ weight.reshape(width * channels, filters)).reshape(batch, length, filters)


class Depthwise(eqx.Module):
    """A convolution of each channel by itself, zero-padded so that the length stays; its sums are float32.

    All devices use the same form, a sum of shifted inputs: it moves as many numbers as it multiplies, so matrix units
    have nothing to gain, and the compilers' own convolutions by groups are slow backwards.
    """

    weight: Float[Array, "width channel"]

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and behind the inputs."""
        return same_padding(self.weight.shape[0], 1)

    def __call__(
        self, inputs: Float[Array, "batch length channel"], a_pass: Pass
    ) -> Float[Array, "batch length channel"]:
        """Slide each channel's filter over it, in the dtype of `inputs`."""
        return slide_channels(inputs, self.weight)


@jax.custom_vjp
def slide_channels(
    inputs: Float[Array, "batch length channel"], weight: Float[Array, "width channel"]
) -> Float[Array, "batch length channel"]:
    """Convolve each channel with its own filter, with zero padding to the same length."""
    return _slide(inputs, weight, same_padding(weight.shape[0], 1))


def _slide(inputs: Array, weight: Array, padding: tuple[int, int]) -> Array:
    windows = _iter_shifted(inputs, padding)
    total = sum(part * taps[None, None] for part, taps in zip(windows, weight.astype(jnp.float32), strict=True))
    return jnp.asarray(total).astype(inputs.dtype)


def _iter_shifted(inputs: Array, padding: tuple[int, int]) -> Iterator[Array]:
    """The inputs that each tap sees, in float32."""
    padded = jnp.pad(inputs.astype(jnp.float32), ((0, 0), padding, (0, 0)))
    for tap in range(sum(padding) + 1):
        yield jax.lax.slice_in_dim(padded, tap, tap + inputs.shape[1], axis=1)


def _slide_forward(inputs: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return slide_channels(inputs, weight), (inputs, weight)


def _slide_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, weight = saved
    left, right = same_padding(weight.shape[0], 1)
    change = gradient.astype(jnp.float32)
    of_weight = jnp.stack([(part * change).sum(axis=(0, 1)) for part in _iter_shifted(inputs, (left, right))])
    return _slide(gradient, weight[::-1], (right, left)), of_weight.astype(weight.dtype)


slide_channels.defvjp(_slide_forward, _slide_backward)


class BetterStrand(eqx.Module):
    """The greater of a filter's scores on both strands, at each position."""

    def __call__(self, inputs: Float[Array, "batch length score"], a_pass: Pass) -> Float[Array, "batch length filter"]:
        """Compare the first half of the scores with the second."""
        return a_pass.rules.better(*jnp.split(inputs, 2, axis=-1))


class MaxPool(eqx.Module):
    """The maximum over windows of positions; a shorter remainder at the end is left out."""

    width: int = eqx.field(static=True)

    def __call__(
        self, inputs: Float[Array, "batch length channel"], a_pass: Pass
    ) -> Float[Array, "batch pooled channel"]:
        """Pool the whole windows."""
        if self.width == 1:
            return inputs
        batch, length, channels = inputs.shape
        pooled = length // self.width
        kept = inputs[:, : pooled * self.width].reshape(batch, pooled, self.width, channels)
        return a_pass.rules.maximum(kept)


class Offset(eqx.Module):
    """A number that is added to each channel."""

    values: Float[Array, " channel"]

    def __call__(self, inputs: Float[Array, "batch *length channel"], a_pass: Pass) -> Array:
        """Add, in the dtype of `inputs`."""
        return inputs + per_channel(self.values, inputs)


class Activation(eqx.Module):
    """A function of each number."""

    kind: ActivationKind = eqx.field(static=True)

    def __call__(self, inputs: Array, a_pass: Pass) -> Array:
        """Apply it by the rules of the pass."""
        return a_pass.rules.apply(self.of, inputs)

    def of(self, inputs: Array) -> Array:
        """The function; the exponential is cut at e^6, GELU is its approximation by tanh."""
        if self.kind == "exponential":
            return jnp.exp(jnp.minimum(inputs, jnp.asarray(EXPONENT_LIMIT, inputs.dtype)))
        if self.kind == "linear":
            return inputs
        return jax.nn.relu(inputs) if self.kind == "relu" else jax.nn.gelu(inputs)


class Drop(eqx.Module):
    """Dropout in training, of filters or of other units, by the rates of the pass.

    What is dropped depends on the example's key and on `place` only, so not on the number of devices.
    """

    place: int = eqx.field(static=True)
    of_filters: bool = eqx.field(static=True, default=False)

    def __call__(self, inputs: Float[Array, "batch *length channel"], a_pass: Pass) -> Array:
        """Drop whole channels, and scale the others to keep the mean."""
        if a_pass.keys is None:
            return inputs
        channels, rate = inputs.shape[-1], a_pass.filter_dropout if self.of_filters else a_pass.dropout
        draw = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, DROP_KEY + self.place), (channels,)))
        kept = jnp.where(draw(a_pass.keys) >= rate, 1.0 / (1.0 - rate), 0.0).astype(inputs.dtype)
        return inputs * kept.reshape(kept.shape[0], *(1,) * (inputs.ndim - 2), channels)


class Dense(eqx.Module):
    """A matrix and, where no normalisation follows, a bias.

    Before a normalisation a bias does nothing: its gradient is rounding error, which Adam would scale up to full
    steps that differ from one number of devices to another.
    """

    weight: Float[Array, "inputs units"]
    bias: Float[Array, " units"] | None

    def __call__(self, inputs: Float[Array, "batch inputs"], a_pass: Pass) -> Float[Array, "batch units"]:
        """Multiply and add, in the dtype of `inputs`."""
        outputs = inputs @ self.weight.astype(inputs.dtype)
        return outputs if self.bias is None else outputs + per_channel(self.bias, outputs)


def join(features: Float[Array, "*rows channel"], update: Float[Array, "*rows filter"]) -> Float[Array, "*rows filter"]:
    """Add an update to the features it was made from; where their numbers of channels differ, it replaces them."""
    return features + update if update.shape == features.shape else update
