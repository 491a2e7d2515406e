"""A network taken apart: the same pass as the network makes, layer by layer, with what lies between kept.

Attribution needs what the network's own pass does not give: the values between the layers, to recompute only what
a mutation reaches, and other rules of propagation through its nonlinear layers. `walk` equals the network to
rounding; tests hold it to that, and every explanation checks it on its own sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ebox.models import MotifNetwork, Network, ResidualNetwork
from ebox.models.architectures import Head, MotifLayer
from ebox.models.layers import Convolution, ConvolutionMethod, activate, convolve, maximum_over
from ebox.models.normalisation import BATCH_NORM_EPSILON, BatchNorm, per_channel
from ebox.models.pooling import GlobalPooling, position_bumps

# Below what float32 can hold of an exponential.
LEAST_EVIDENCE = 1e-37
Elementwise = Callable[[Array], Array]


class Rules(NamedTuple):
    """How the nonlinear layers are computed, and so how gradients pass through them."""

    apply: Callable[[Elementwise, Array], Array]
    maximum: Callable[[Float[Array, "*rows window channel"]], Float[Array, "*rows channel"]]


PLAIN = Rules(lambda function, inputs: function(inputs), maximum_over)


class Trace(NamedTuple):
    """What a pass over sequences leaves behind.

    `scanned` are the filters' scores at every base, both strands' side by side where both are read; `features` the
    activations, and then the output of each body layer; `updates` the body layers before their ReLU; `pooled` the
    input of the head.
    """

    scanned: Float[Array, "batch length score"]
    features: tuple[Float[Array, "batch pooled channel"], ...]
    updates: tuple[Float[Array, "batch pooled channel"], ...]
    pooled: Float[Array, "batch joined"]
    logits: Float[Array, "batch track"]


def walk(
    network: Network, inputs: Float[Array, "batch length 4"], method: ConvolutionMethod, rules: Rules = PLAIN
) -> Trace:
    """Pass over sequences as the network does, in float32."""
    assert isinstance(network, MotifNetwork | ResidualNetwork)
    scanned = convolve(inputs, scan_weight(network.motifs), 1, method)
    features = [finish_motifs(network.motifs, scanned, rules)]
    updates = []
    for convolution, norm in body_of(network):
        update = convolution(features[-1], method)
        update = update if norm is None else norm(update)
        updates.append(update)
        features.append(join_update(features[-1], rules.apply(jax.nn.relu, update)))
    pooled = pool_positions(network.pooling, features[-1], rules)
    logits = run_head(network.head, pooled, rules)
    return Trace(scanned, tuple(features), tuple(updates), pooled, logits)


def scan_weight(motifs: MotifLayer) -> Float[Array, "width 4 score"]:
    """The filters, with their reverse complements beside them where both strands are read."""
    weight = motifs.convolution.weight
    return jnp.concatenate([weight, weight[::-1, ::-1]], axis=-1) if motifs.both_strands else weight


def finish_motifs(motifs: MotifLayer, scanned: Array, rules: Rules = PLAIN) -> Float[Array, "batch pooled filter"]:
    """From scores at every base to activations: the better strand, the pool, the normalisation, the activation."""
    if motifs.both_strands:
        strands = scanned.reshape(*scanned.shape[:-1], 2, scanned.shape[-1] // 2)
        scanned = rules.maximum(strands)
    batch, length, filters = scanned.shape
    if motifs.pool_bp > 1:
        kept = scanned[:, : length // motifs.pool_bp * motifs.pool_bp]
        scanned = rules.maximum(kept.reshape(batch, -1, motifs.pool_bp, filters))
    features = scanned if motifs.norm is None else motifs.norm(scanned)
    if motifs.offset is not None:
        features = features + per_channel(motifs.offset, features)
    return rules.apply(partial(activate, name=motifs.activation), features)


def body_of(network: Network) -> tuple[tuple[Convolution, BatchNorm | None], ...]:
    """The body's layers; none for a network without one."""
    return network.body if isinstance(network, ResidualNetwork) else ()


def join_update(features: Array, update: Array) -> Array:
    """A residual sum where the shapes agree, as in the network."""
    return features + update if is_residual(features.shape[-1], update.shape[-1]) else update


def is_residual(channels: int, filters: int) -> bool:
    """Whether a body layer adds to its input."""
    return channels == filters


def pool_positions(pooling: GlobalPooling, features: Array, rules: Rules = PLAIN) -> Float[Array, "batch joined"]:
    """Pool over all positions, as `GlobalPooling` does."""
    parts = []
    for kind in pooling.kinds:
        if kind == "max":
            parts.append(rules.maximum(features))
        elif kind == "log_mean_exp":
            # The same shift for all sequences, so that differences between two of them are what they were.
            top = jax.lax.stop_gradient(features.max(axis=(0, 1), keepdims=True))
            evidence = rules.apply(jnp.exp, features - top).mean(axis=1)
            parts.append(rules.apply(jnp.log, jnp.maximum(evidence, LEAST_EVIDENCE)) + top[0])
        else:
            parts.append((features * position_weights(pooling, features.shape[1])[None]).mean(axis=1))
    return jnp.concatenate(parts, axis=-1)


def position_weights(pooling: GlobalPooling, length: int) -> Float[Array, "length channel"]:
    """What each position counts in the mean; 1 where the network has learned no weights."""
    if pooling.position is None:
        return jnp.ones((length, 1))
    return 1.0 + jnp.asarray(position_bumps(length, pooling.position.shape[0])) @ pooling.position


def run_head(head: Head, pooled: Float[Array, "batch joined"], rules: Rules = PLAIN) -> Float[Array, "batch track"]:
    """The dense layers."""
    for dense, norm in head.hidden:
        pooled = dense(pooled)
        pooled = rules.apply(jax.nn.relu, pooled if norm is None else norm(pooled))
    return head.output(pooled)


def norm_factor(norm: BatchNorm | None, channels: int) -> Float[Array, " channel"]:
    """What a normalisation multiplies a difference by."""
    if norm is None:
        return jnp.ones(channels)
    return norm.scale * jax.lax.rsqrt(norm.running.variance + BATCH_NORM_EPSILON)
