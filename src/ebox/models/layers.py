"""Layers of the networks: convolution in three equal forms, pooling, dense."""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ebox.models.normalisation import per_channel
from ebox.models.winograd import MIN_CHANNELS, WIDTHS, convolve_winograd

ConvolutionMethod = Literal["winograd", "im2col", "native"]
EXPONENT_LIMIT = 6.0


def _draw(rng: np.random.Generator, shape: tuple[int, ...], variance: float) -> Array:
    """Normal weights, drawn on the host: JAX would first compile a program for each shape, 1 to 2 s for a network."""
    return jnp.asarray(rng.standard_normal(shape, np.float32) * np.float32(variance**0.5))


class Convolution(eqx.Module):
    """A one-dimensional convolution, zero-padded so that the length stays."""

    weight: Float[Array, "width channel filter"]
    dilation: int = eqx.field(static=True)

    @staticmethod
    def create(width: int, channels: int, filters: int, rng: np.random.Generator, *, dilation: int = 1) -> Convolution:
        """Draw weights by He's rule: variance 2 / fan-in (He 2015)."""
        return Convolution(_draw(rng, (width, channels, filters), 2.0 / (width * channels)), dilation)

    def __call__(
        self, inputs: Float[Array, "batch length channel"], method: ConvolutionMethod
    ) -> Float[Array, "batch length filter"]:
        """Slide the filters over `inputs`, in the dtype of `inputs`."""
        return convolve(inputs, self.weight.astype(inputs.dtype), self.dilation, method)


def convolve(
    inputs: Float[Array, "batch length channel"],
    weight: Float[Array, "width channel filter"],
    dilation: int,
    method: ConvolutionMethod,
) -> Float[Array, "batch length filter"]:
    """Convolve with zero padding to the same length; all methods give the same numbers to rounding.

    `native` leaves it to the compiler, as TPUs want it. `im2col` gathers the columns and multiplies once. `winograd` is
    for CPU: Winograd's tiles where there are many channels, columns elsewhere. XLA's own convolution, inside a compiled
    loop of steps, is 30 times slower there; on a GPU the library's dilated ones are slow in the backward pass.
    """
    width, channels, filters = weight.shape
    if method == "winograd" and width in WIDTHS and min(channels, filters) >= MIN_CHANNELS:
        return convolve_winograd(inputs, weight, dilation)
    left = dilation * ((width - 1) // 2)
    right = dilation * (width - 1) - left
    if method == "native":
        return jax.lax.conv_general_dilated(
            inputs,
            weight,
            window_strides=(1,),
            padding=((left, right),),
            rhs_dilation=(dilation,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
    batch, length, _ = inputs.shape
    padded = jnp.pad(inputs, ((0, 0), (left, right), (0, 0)))
    columns = [jax.lax.slice_in_dim(padded, k * dilation, k * dilation + length, axis=1) for k in range(width)]
    matrix = jnp.concatenate(columns, axis=-1).reshape(batch * length, width * channels)
    return (matrix @ weight.reshape(width * channels, filters)).reshape(batch, length, filters)


@jax.custom_vjp
def maximum_over(values: Float[Array, "*rows window channel"]) -> Float[Array, "*rows channel"]:
    """Take the maximum over the last but one axis; ties share no gradient split, each gets it whole.

    Ties at the maximum come from equal inputs (a run of N, a repeat). Splitting them would need a count, and the
    count is what makes the usual gradient slow on CPU.
    """
    return values.max(axis=-2)


def _maximum_forward(values: Array) -> tuple[Array, tuple[Array, Array]]:
    top = values.max(axis=-2)
    return top, (values, top)


def _maximum_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    values, top = saved
    return (jnp.where(values == top[..., None, :], gradient[..., None, :], jnp.zeros((), gradient.dtype)),)


maximum_over.defvjp(_maximum_forward, _maximum_backward)


def max_pool(inputs: Float[Array, "batch length channel"], width: int) -> Float[Array, "batch pooled channel"]:
    """Take the maximum over windows of `width`; a shorter rest at the end is left out."""
    batch, length, channels = inputs.shape
    pooled = length // width
    if width == 1:
        return inputs
    kept = inputs[:, : pooled * width].reshape(batch, pooled, width, channels)
    return maximum_over(kept)


class Dense(eqx.Module):
    """A matrix and, where no normalisation follows, a bias.

    Before a normalisation a bias does nothing: its gradient is rounding error, which Adam would blow up to full
    steps that differ from one number of devices to another.
    """

    weight: Float[Array, "inputs units"]
    bias: Float[Array, " units"] | None

    @staticmethod
    def create(inputs: int, units: int, rng: np.random.Generator, *, gain: float = 2.0, bias: bool = True) -> Dense:
        """Draw weights with variance `gain` / inputs; the bias starts at zero."""
        return Dense(_draw(rng, (inputs, units), gain / inputs), jnp.zeros(units) if bias else None)

    def __call__(self, inputs: Float[Array, "batch inputs"]) -> Float[Array, "batch units"]:
        """Multiply and add, in the dtype of `inputs`."""
        outputs = inputs @ self.weight.astype(inputs.dtype)
        return outputs if self.bias is None else outputs + per_channel(self.bias, outputs)


def activate(inputs: Array, name: Literal["exponential", "relu", "gelu", "linear"]) -> Array:
    """Apply an activation; the exponential is cut at e^6 so that one strong site can't overflow bfloat16 sums."""
    if name == "exponential":
        return jnp.exp(jnp.minimum(inputs, jnp.asarray(EXPONENT_LIMIT, inputs.dtype)))
    if name == "linear":
        return inputs
    return jax.nn.relu(inputs) if name == "relu" else jax.nn.gelu(inputs)
