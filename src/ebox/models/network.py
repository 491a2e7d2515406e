"""What every network is: a pytree that maps one-hot bases to logits, its statistics kept apart from its weights."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from ebox.models.layers import ConvolutionMethod
from ebox.models.normalisation import AxisName, BatchNorm, Moments


class Pass(eqx.Module):
    """How one pass over a network is made: the randomness and the batch of a training step, or neither.

    Rates are data, not constants, so that a population of networks can be trained with different ones.
    """

    keys: Array | None = None  # one PRNG key an example, from its position in the global batch
    mask: Bool[Array, " batch"] | None = None  # false: padding, which no sum may see
    dropout: Float[Array, ""] | float = 0.0
    filter_dropout: Float[Array, ""] | float = 0.0
    axis_name: AxisName = eqx.field(static=True, default=None)
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
        outputs, moments = norm.by_batch(inputs, self.this.mask, self.this.axis_name)
        self.moments.append(moments)
        return outputs


class Network(eqx.Module):
    """A network over one-hot bases."""

    @abc.abstractmethod
    def __call__(
        self, inputs: Float[Array, "batch length 4"], this: Pass
    ) -> tuple[Float[Array, "batch track"], tuple[Moments, ...]]:
        """Give float32 logits, and the batch moments seen (none outside training)."""

    @abc.abstractmethod
    def norms(self) -> tuple[BatchNorm, ...]:
        """The batch normalisations, in the order in which a pass records their moments."""


def is_trainable(network: Network) -> Network:
    """Give a tree of booleans: true for weights, false for running moments."""
    everything = jax.tree.map(eqx.is_inexact_array, network)
    running = [norm.running for norm in network.norms()]
    if not running:
        return everything
    frozen = [jax.tree.map(lambda _: False, moments) for moments in running]
    return eqx.tree_at(lambda tree: [norm.running for norm in tree.norms()], everything, frozen)


def apply_moments(network: Network, seen: tuple[Moments, ...], momentum: float = 0.1) -> Network:
    """Move the running moments towards those that a pass saw."""
    if not seen:
        return network
    moved = [
        jax.tree.map(lambda old, new: (1.0 - momentum) * old + momentum * new, norm.running, new)
        for norm, new in zip(network.norms(), seen, strict=True)
    ]
    return eqx.tree_at(lambda tree: [norm.running for norm in tree.norms()], network, moved)


def count_parameters(network: Network) -> int:
    """The number of trained weights."""
    weights, _ = eqx.partition(network, is_trainable(network))
    return sum(leaf.size for leaf in jax.tree.leaves(weights))
