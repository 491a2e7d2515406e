"""The one pass over a network: a list of operations, run one after another, whose results are kept.

Training, inference and explanation run the list; saturation runs parts of it; the PyTorch twin is translated from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ebox.models.layers import (
    Activation,
    BetterStrand,
    Convolution,
    Dense,
    Depthwise,
    Drop,
    MaxPool,
    Offset,
    join,
)
from ebox.models.normalisation import BatchNorm, Moments
from ebox.models.passes import Pass
from ebox.models.pooling import GlobalPooling

Operation = (
    Convolution | Depthwise | BetterStrand | MaxPool | BatchNorm | Offset | Activation | Drop | GlobalPooling | Dense
)


class Update(NamedTuple):
    """A layer of the body: its input and the activation of a linear function of it, put together by `join`.

    `project` mixes the channels after the activation, each position by itself.
    """

    linear: tuple[Convolution | Depthwise, *tuple[BatchNorm | Convolution, ...]]
    activation: Activation
    project: tuple[Convolution, ...] = ()


class Stages(NamedTuple):
    """A network as its operations in order, which hold all weights and say how they are used.

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


def trace(stages: Stages, inputs: Float[Array, "batch length 4"], a_pass: Pass) -> Trace:
    """Pass over sequences, in the dtype of the pass; the compiler leaves out what nobody reads of the trace."""
    moments: list[Moments] = []
    apply = partial(run, a_pass=a_pass, moments=moments)
    scanned = apply([stages.scan], inputs.astype(a_pass.dtype))
    features, updates = [apply(stages.motifs, scanned)], []
    for update in stages.body:
        updates.append(apply(update.linear, features[-1]))
        features.append(join(features[-1], apply([update.activation, *update.project], updates[-1])))
    pooled = apply([stages.pooling], features[-1])
    logits = apply(stages.head, pooled).astype(jnp.float32)
    return Trace(scanned, tuple(features), tuple(updates), pooled, logits, tuple(moments))


def run(operations: Iterable[Operation], values: Array, a_pass: Pass, moments: list[Moments]) -> Array:
    """Apply one operation after another.

    Args:
        operations: In order.
        values: The input of the first one.
        a_pass: How the pass is made: training normalises by the batch, everything else by the running moments.
        moments: A list to which each batch normalisation adds what it sees in training.
    """
    for operation in operations:
        if not isinstance(operation, BatchNorm):
            values = operation(values, a_pass)
        elif a_pass.keys is None or operation.fixed:
            values = operation(values)
        else:
            assert a_pass.mask is not None
            values, seen = operation.by_batch(values, a_pass.mask, a_pass.statistics)
            moments.append(seen)
    return values
