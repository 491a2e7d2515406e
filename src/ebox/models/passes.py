"""How one pass over a network is made: its randomness, its batch, its precision, and the rules of nonlinear layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from ebox.models.normalisation import Statistics

ConvolutionMethod = Literal["winograd", "im2col", "native"]
Elementwise = Callable[[Array], Array]


@jax.custom_vjp
def maximum_over(values: Float[Array, "*rows window channel"]) -> Float[Array, "*rows channel"]:
    """Take the maximum over the last but one axis; each of several equal maxima gets the whole gradient.

    Equal maxima come from equal inputs (a run of N, a repeat). Splitting the gradient would need a count,
    which is what makes the usual gradient slow on CPU.
    """
    return values.max(axis=-2)


def _maximum_forward(values: Array) -> tuple[Array, tuple[Array, Array]]:
    top = values.max(axis=-2)
    return top, (values, top)


def _maximum_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    values, top = saved
    return (jnp.where(values == top[..., None, :], gradient[..., None, :], jnp.zeros((), gradient.dtype)),)


maximum_over.defvjp(_maximum_forward, _maximum_backward)


def log_mean_exp(features: Float[Array, "batch length channel"]) -> Float[Array, "batch channel"]:
    """The logarithm of the mean exponential over the positions, computed in float32."""
    evidence = jax.nn.logsumexp(features.astype(jnp.float32), axis=1) - math.log(features.shape[1])
    return evidence.astype(features.dtype)


def attend(
    scores: Float[Array, "batch length head"], features: Float[Array, "batch length channel"]
) -> Float[Array, "batch channel"]:
    """The mean of the features over the positions, weighted by the softmax of scores, computed in float32.

    Each head has its own scores, for as many neighbouring channels as every other one.
    """
    weights = jax.nn.softmax(scores.astype(jnp.float32), axis=1)[..., None]
    pooled = (weights * by_head(features.astype(jnp.float32), scores.shape[-1])).sum(axis=1)
    return pooled.reshape(features.shape[0], -1).astype(features.dtype)


def by_head(features: Float[Array, "*rows channel"], heads: int) -> Float[Array, "*rows head own"]:
    """The channels of each head."""
    return features.reshape(*features.shape[:-1], heads, -1)


class Rules(NamedTuple):
    """How the nonlinear layers are computed, and so how gradients pass through them.

    `apply` computes a function of each number, `maximum` the maximum over the last but one axis, `better` the greater
    of two arrays place by place, `log_mean_exp` the logarithm of the mean exponential over the positions, and `attend`
    the mean over the positions with weights by scores.
    """

    apply: Callable[[Elementwise, Array], Array]
    maximum: Callable[[Float[Array, "*rows window channel"]], Float[Array, "*rows channel"]]
    better: Callable[[Array, Array], Array]
    log_mean_exp: Callable[[Float[Array, "batch length channel"]], Float[Array, "batch channel"]]
    attend: Callable[
        [Float[Array, "batch length head"], Float[Array, "batch length channel"]], Float[Array, "batch channel"]
    ]


PLAIN = Rules(lambda function, inputs: function(inputs), maximum_over, jnp.maximum, log_mean_exp, attend)


class Pass(eqx.Module):
    """How one pass over a network is made: the randomness and the batch of a training step, or neither.

    Rates are data, not constants, so that a population of networks can be trained with different ones.

    Args:
        keys: One PRNG key per example, from its position in the global batch; none outside training.
        mask: False for padding, which no sum may include; none outside training.
        dropout: Rate of the units of the head.
        filter_dropout: Rate of the motif filters.
        statistics: Which examples of a training pass are normalised together.
        method: How convolutions are computed.
        dtype: Of the inputs, and so of the products.
        rules: How the nonlinear layers are computed.
    """

    keys: Array | None = None
    mask: Bool[Array, " batch"] | None = None
    dropout: Float[Array, ""] | float = 0.0
    filter_dropout: Float[Array, ""] | float = 0.0
    statistics: Statistics = eqx.field(static=True, default=Statistics())
    method: ConvolutionMethod = eqx.field(static=True, default="native")
    dtype: DTypeLike = eqx.field(static=True, default=jnp.float32)
    rules: Rules = eqx.field(static=True, default=PLAIN)
