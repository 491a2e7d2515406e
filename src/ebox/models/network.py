"""What every network is: a pytree that maps one-hot bases to logits, its statistics kept apart from its weights."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from ebox.models.layers import ConvolutionMethod
from ebox.models.normalisation import BatchNorm, Moments, Statistics


class Pass(eqx.Module):
    """How one pass over a network is made: the randomness and the batch of a training step, or neither.

    Rates are data, not constants, so that a population of networks can be trained with different ones.
    """

    keys: Array | None = None  # one PRNG key an example, from its position in the global batch
    mask: Bool[Array, " batch"] | None = None  # false: padding, which no sum may see
    dropout: Float[Array, ""] | float = 0.0
    filter_dropout: Float[Array, ""] | float = 0.0
    statistics: Statistics = eqx.field(static=True, default=Statistics())
    method: ConvolutionMethod = eqx.field(static=True, default="native")
    dtype: DTypeLike = eqx.field(static=True, default=jnp.float32)

    @property
    def training(self) -> bool:
        """Whether this pass drops units and normalises by its own batch."""
        return self.keys is not None

    def drop(self, inputs: Array, rate: Array | float, layer: int) -> Array:
        """Drop channels of `inputs` (whole channels where there is a length axis), scaled to keep the mean.

        What is dropped depends on the example's key and on `layer` only, so not on the number of devices.
        """
        if self.keys is None:
            return inputs
        channels = inputs.shape[-1]
        bits = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, layer), (channels,)))(self.keys)
        kept = jnp.where(bits >= rate, 1.0 / (1.0 - rate), 0.0).astype(inputs.dtype)
        return inputs * kept.reshape(kept.shape[0], *(1,) * (inputs.ndim - 2), channels)


class Recorder:
    """Collects the moments that the batch normalisations of one training pass saw, in order."""

    def __init__(self, this: Pass) -> None:
        self.this = this
        self.moments: list[Moments] = []

    def normalise(self, norm: BatchNorm | None, inputs: Array) -> Array:
        """Normalise by the batch when training, by the running moments otherwise."""
        if norm is None:
            return inputs
        if not self.this.training:
            return norm(inputs)
        assert self.this.mask is not None
        outputs, moments = norm.by_batch(inputs, self.this.mask, self.this.statistics)
        self.moments.append(moments)
        return outputs


class Network(eqx.Module):
    """A network over one-hot bases."""

    @abc.abstractmethod
    def __call__(
        self, inputs: Float[Array, "batch length 4"], this: Pass
    ) -> tuple[Float[Array, "batch track"], tuple[Moments, ...]]:
        """Give float32 logits, and the batch moments seen (none outside training)."""

    def norms(self) -> tuple[BatchNorm, ...]:
        """The batch normalisations in the order of the fields, which is that in which a pass records their moments."""
        return tuple(leaf for leaf in jax.tree.leaves(self, is_leaf=_is_norm) if _is_norm(leaf))


def is_trainable(network: Network) -> Network:
    """A tree of booleans: true where gradients and the optimiser work; running moments are not trained."""

    def mark(leaf: Any) -> Any:
        if not _is_norm(leaf):
            return eqx.is_inexact_array(leaf)
        frozen = jax.tree.map(lambda _: False, leaf.running)
        return eqx.tree_at(lambda norm: norm.running, jax.tree.map(lambda _: True, leaf), frozen)

    return jax.tree.map(mark, network, is_leaf=_is_norm)


def apply_moments(network: Network, seen: tuple[Moments, ...], momentum: float = 0.1) -> Network:
    """Move the running moments towards those that a pass saw."""
    waiting = iter(seen)

    def move(leaf: Any) -> Any:
        if not _is_norm(leaf):
            return leaf
        running = jax.tree.map(lambda old, new: (1.0 - momentum) * old + momentum * new, leaf.running, next(waiting))
        return BatchNorm(leaf.scale, leaf.offset, running)

    return jax.tree.map(move, network, is_leaf=_is_norm) if seen else network


def _is_norm(node: Any) -> bool:
    return isinstance(node, BatchNorm)


def count_parameters(network: Network) -> int:
    """The number of trained weights."""
    weights, _ = eqx.partition(network, is_trainable(network))
    return sum(leaf.size for leaf in jax.tree.leaves(weights))
