"""The one pass over a network: a list of operations, run one after another, with what lies between them kept.

Training, inference and explanation run the list; saturation runs parts of it; what translates a network reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ebox.models.layers import Activation, BetterStrand, Convolution, Dense, Drop, MaxPool, Offset, join
from ebox.models.normalisation import BatchNorm, Moments
from ebox.models.passes import Pass
from ebox.models.pooling import GlobalPooling

Operation = Convolution | BetterStrand | MaxPool | BatchNorm | Offset | Activation | Drop | GlobalPooling | Dense


class Update(NamedTuple):
    """A layer of the body: its input and the activation of a linear function of it, put together by `join`."""

    convolution: Convolution
    norm: BatchNorm | None
    activation: Activation

    @property
    def linear(self) -> tuple[Operation, ...]:
        """What comes before the activation."""
        return (self.convolution,) if self.norm is None else (self.convolution, self.norm)


class Stages(NamedTuple):
    """A network as its operations in order, which hold all weights and say what is done with them.

    `scan` scores every base, `motifs` makes features of the scores, `body` updates them, `pooling` and `head` give the
    logits.
    """

    scan: Convolution
    motifs: tuple[Operation, ...]
    body: tuple[Update, ...]
    pooling: GlobalPooling
    head: tuple[Operation, ...]


class Trace(NamedTuple):
    """What a pass over sequences leaves behind.

    `scanned` are the filters' scores at every base, both strands' side by side where both are read; `features` those of
    the motifs, and then the output of each body layer; `updates` the body layers before their activation; `pooled` the
    input of the head; `logits` float32; `moments` what the batch normalisations saw in training, in order.
    """

    scanned: Float[Array, "batch length score"]
    features: tuple[Float[Array, "batch pooled channel"], ...]
    updates: tuple[Float[Array, "batch pooled channel"], ...]
    pooled: Float[Array, "batch joined"]
    logits: Float[Array, "batch track"]
    moments: tuple[Moments, ...]


class Runner:
    """Runs operations in one pass, and collects the moments that its batch normalisations saw."""

    def __init__(self, a_pass: Pass) -> None:
        self.a_pass = a_pass
        self.moments: list[Moments] = []

    def run(self, operations: Iterable[Operation], values: Array) -> Array:
        """Apply one operation after another."""
        for operation in operations:
            if isinstance(operation, BatchNorm):
                values = self._normalise(operation, values)
            else:
                values = operation(values, self.a_pass)
        return values

    def _normalise(self, norm: BatchNorm, values: Array) -> Array:
        """Normalise by the batch when training, by the running moments otherwise."""
        if self.a_pass.keys is None:
            return norm(values)
        assert self.a_pass.mask is not None
        values, moments = norm.by_batch(values, self.a_pass.mask, self.a_pass.statistics)
        self.moments.append(moments)
        return values


def trace(stages: Stages, inputs: Float[Array, "batch length 4"], a_pass: Pass) -> Trace:
    """Pass over sequences, in the dtype of the pass; what nobody reads of the trace, the compiler leaves out."""
    runner = Runner(a_pass)
    scanned = runner.run([stages.scan], inputs.astype(a_pass.dtype))
    features, updates = [runner.run(stages.motifs, scanned)], []
    for update in stages.body:
        updates.append(runner.run(update.linear, features[-1]))
        features.append(join(features[-1], update.activation(updates[-1], a_pass)))
    pooled = stages.pooling(features[-1], a_pass)
    logits = runner.run(stages.head, pooled).astype(jnp.float32)
    return Trace(scanned, tuple(features), tuple(updates), pooled, logits, tuple(runner.moments))
