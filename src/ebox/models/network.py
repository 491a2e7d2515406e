"""What a network is: a pytree that maps one-hot bases to logits, with its statistics apart from its weights."""

from __future__ import annotations

from typing import Any, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ebox.models.layers import (
    Activation,
    ActivationKind,
    BetterStrand,
    Convolution,
    Dense,
    Depthwise,
    Drop,
    MaxPool,
    Offset,
)
from ebox.models.normalisation import BatchNorm, Moments
from ebox.models.passes import Pass
from ebox.models.pooling import GlobalPooling
from ebox.models.trace import Operation, Stages, Update, trace

Tree = TypeVar("Tree")


class MotifLayer(eqx.Module):
    """Filters over bases: convolution, optional reading of both strands, pooling, normalisation, activation."""

    convolution: Convolution
    norm: BatchNorm | None
    offset: Float[Array, " filter"] | None  # only without a normalisation, which has its own
    pool_bp: int = eqx.field(static=True)
    activation: ActivationKind = eqx.field(static=True)

    def finish(self) -> tuple[Operation, ...]:
        """From scores at every base to features; pooling may come first, because activations rise."""
        strands = (BetterStrand(),) if self.convolution.both_strands else ()
        offset = () if self.offset is None else (Offset(self.offset),)
        activation = Activation(self.activation), Drop(0, of_filters=True)
        return (*strands, MaxPool(self.pool_bp), *_some(self.norm), *offset, *activation)


class Head(eqx.Module):
    """Dense layers on the pooled features, then one logit per track."""

    hidden: tuple[tuple[Dense, BatchNorm | None], ...]
    output: Dense

    def operations(self) -> tuple[Operation, ...]:
        """From pooled features to logits."""
        operations: list[Operation] = [Drop(1)]
        for number, (dense, norm) in enumerate(self.hidden):
            operations += [dense, *_some(norm), Activation("relu"), Drop(2 + number)]
        return (*operations, self.output)


class Block(eqx.Module):
    """A layer of a ConvNeXt body (Liu 2022): a wide window of each channel by itself, then all channels at a position.

    The batch normalisation stands where theirs is by layer: its moments are constants when the network is used.
    """

    depthwise: Depthwise
    norm: BatchNorm | None
    expand: Convolution
    contract: Convolution

    def update(self) -> Update:
        """The block as its operations."""
        linear = (self.depthwise, self.expand) if self.norm is None else (self.depthwise, self.norm, self.expand)
        return Update(linear, Activation("gelu"), (self.contract,))


class Network(eqx.Module):
    """Motif detectors, a body of residual layers that sees their order and spacing, pooling, head.

    Without a body it finds motifs anywhere, blind to their order.
    """

    motifs: MotifLayer
    body: tuple[tuple[Convolution, BatchNorm | None] | Block, ...]
    pooling: GlobalPooling
    head: Head

    def __call__(
        self, inputs: Float[Array, "batch length 4"], a_pass: Pass
    ) -> tuple[Float[Array, "batch track"], tuple[Moments, ...]]:
        """Give float32 logits, and the batch moments seen (none outside training)."""
        found = trace(self.stages(), inputs, a_pass)
        return found.logits, found.moments

    def stages(self) -> Stages:
        """The network as its operations in order."""
        body = tuple(_update(layer) for layer in self.body)
        return Stages(self.motifs.convolution, self.motifs.finish(), body, self.pooling, self.head.operations())

    @property
    def num_outputs(self) -> int:
        """How many logits it gives."""
        return int(self.head.output.weight.shape[-1])

    def norms(self) -> tuple[BatchNorm, ...]:
        """The batch normalisations that move, in the order of the fields, in which a pass records their moments."""
        return tuple(leaf for leaf in jax.tree.leaves(self, is_leaf=_is_norm) if _moves(leaf))


def _update(layer: tuple[Convolution, BatchNorm | None] | Block) -> Update:
    """A layer of the body as its operations; those of a residual one are dilated convolutions."""
    match layer:
        case Block():
            return layer.update()
        case (convolution, norm):
            return Update((convolution, *_some(norm)), Activation("relu"))


def is_trainable(network: Network) -> Network:
    """A tree of booleans: true for trained weights, false for running moments."""

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
        if not _moves(leaf):
            return leaf
        running = jax.tree.map(lambda old, new: (1.0 - momentum) * old + momentum * new, leaf.running, next(waiting))
        return BatchNorm(leaf.scale, leaf.offset, running)

    return jax.tree.map(move, network, is_leaf=_is_norm) if seen else network


def fix_moments(part: Tree) -> Tree:
    """The part of a network whose batch normalisations keep their running moments, and use them in training too."""

    def fix(leaf: Any) -> Any:
        return BatchNorm(leaf.scale, leaf.offset, leaf.running, fixed=True) if _is_norm(leaf) else leaf

    return jax.tree.map(fix, part, is_leaf=_is_norm)


def _is_norm(node: Any) -> bool:
    return isinstance(node, BatchNorm)


def _moves(node: Any) -> bool:
    return isinstance(node, BatchNorm) and not node.fixed


def _some(norm: BatchNorm | None) -> tuple[BatchNorm, ...]:
    return () if norm is None else (norm,)


def count_parameters(network: Network) -> int:
    """The number of trained weights."""
    weights, _ = eqx.partition(network, is_trainable(network))
    return sum(leaf.size for leaf in jax.tree.leaves(weights))
