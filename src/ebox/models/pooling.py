"""Global pooling: a whole sequence of features becomes one vector."""

from __future__ import annotations

import math
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from ebox.models.passes import Pass

PoolingKind = Literal["max", "mean", "log_mean_exp", "attention"]


class GlobalPooling(eqx.Module):
    """Maximum, mean, logarithm of the mean exponential, or mean by attention over the positions.

    The third is the log likelihood ratio of one site anywhere, if each feature is that of a site at its position:
    unlike the maximum, it adds the evidence of all places, and unlike the mean, it stays a logarithm.

    The mean can be weighted by position. The weight of channel c at position p is 1 + sum over b of `position[b, c]` *
    basis[b, p], where the basis is equally spaced bumps along the sequence. It starts at 1: where position
    does not matter, nothing is learned.

    Attention weighs the positions of each sequence by the softmax of scores, which are linear in its features, over
    the root of their number (Vaswani 2017; for pooling Avsec 2021). It starts as the plain mean, too.
    """

    position: Float[Array, "basis channel"] | None
    attention: Float[Array, "channel head"] | None
    kinds: tuple[PoolingKind, ...] = eqx.field(static=True)

    @staticmethod
    def create(
        kinds: tuple[PoolingKind, ...], channels: int, position_basis: int, attention_heads: int = 1
    ) -> GlobalPooling:
        """Start with equal weights everywhere.

        Args:
            kinds: Side by side in what comes out.
            channels: Of what is pooled; a multiple of the number of heads.
            position_basis: Number of bumps for the weights of the mean; 0: they are all 1.
            attention_heads: Sets of weights by attention.
        """
        position = jnp.zeros((position_basis, channels)) if position_basis else None
        attention = jnp.zeros((channels, attention_heads)) if "attention" in kinds else None
        return GlobalPooling(position, attention, kinds)

    def __call__(self, inputs: Float[Array, "batch length channel"], a_pass: Pass) -> Float[Array, "batch pooled"]:
        """Pool and join the kinds, in the dtype of `inputs`."""
        parts = [self._pool(inputs, kind, a_pass) for kind in self.kinds]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)

    def weights(self, length: int, dtype: DTypeLike = jnp.float32) -> Float[Array, "length channel"] | None:
        """The weight of each position in the mean; none: all are equal."""
        if self.position is None:
            return None
        basis = jnp.asarray(position_bumps(length, self.position.shape[0]), dtype)
        return 1.0 + basis @ self.position.astype(dtype)

    def scores(self, features: Float[Array, "*rows channel"]) -> Float[Array, "*rows head"]:
        """By what attention weighs positions, in float32; only where it is one of the kinds."""
        assert self.attention is not None
        scores = (features @ self.attention.astype(features.dtype)).astype(jnp.float32)
        return scores / math.sqrt(features.shape[-1])

    def _pool(
        self, inputs: Float[Array, "batch length channel"], kind: PoolingKind, a_pass: Pass
    ) -> Float[Array, "batch channel"]:
        if kind == "max":
            return a_pass.rules.maximum(inputs)
        if kind == "log_mean_exp":
            return a_pass.rules.log_mean_exp(inputs)
        if kind == "attention":
            return a_pass.rules.attend(self.scores(inputs), inputs)
        weights = self.weights(inputs.shape[1], inputs.dtype)
        return (inputs if weights is None else inputs * weights[None]).mean(axis=1)


def position_bumps(length: int, count: int) -> Float[np.ndarray, "length count"]:
    """Gaussian bumps with centres equally spaced from end to end, each as wide as the distance between two."""
    places = np.linspace(0.0, 1.0, length)[:, None]
    centres = np.linspace(0.0, 1.0, count)[None] if count > 1 else np.full((1, 1), 0.5)
    width = 1.0 / max(count - 1, 1)
    return np.exp(-0.5 * ((places - centres) / width) ** 2).astype(np.float32)
