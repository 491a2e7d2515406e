"""Saturation mutagenesis: the logit of every single-base change, recomputing only what the change can reach.

A change at one base moves the filters' scores over one filter width, hence a few pooled positions, and each body
layer widens that by its own reach. So only that window is computed again, and as a difference: the body's
convolutions are linear, so what they add is the product of the few changed inputs with the filters. With 200 bp, 128
filters and the default body this takes a seventh of the products of whole passes. Positions are taken by their
place in the pool (`phase`), so that every window of a phase begins at the same distance from its base. The idea of
recomputing only the reach of a mutation is that of fastISM (Nair 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from ebox.explanation.walk import (
    Trace,
    body_of,
    finish_motifs,
    is_residual,
    norm_factor,
    position_weights,
    run_head,
    scan_weight,
    walk,
)
from ebox.models import MotifNetwork, Network, ResidualNetwork, one_hot
from ebox.models.encoding import reverse_complement
from ebox.models.layers import ConvolutionMethod, activate
from ebox.sequences.codes import NUM_BASES

NUM_CHANGES = NUM_BASES - 1
# Measured on 2 cores; each row is three changed sequences.
ROWS_AT_ONCE = 10
NUM_LOOPS = 2
ITEMS_AT_ONCE = 64


@dataclass(frozen=True)
class SaturationJob:
    """The logit of one track for every base at every place; a job for `iter_batches`.

    Args:
        track: Which logit.
        both_strands: Average over the sequence and its reverse complement.
    """

    track: int
    both_strands: bool

    def __call__(self, network: Network, method: ConvolutionMethod, *blocks: Array) -> Any:
        """Give `logit` and `uniform` (batch,), and `mutated` (batch, length, 4); a base that stays gives `logit`.

        `uniform` is the logit of a sequence that is a quarter of every base where the sequence has one.
        """
        (codes,) = blocks
        logit, mutated = mutate_everywhere(network, codes, self.track, method)
        uniform = self._score_uniform(network, method, codes)
        if self.both_strands:
            turned = reverse_complement(codes)
            other, back = mutate_everywhere(network, turned, self.track, method)
            logit, mutated = 0.5 * (logit + other), 0.5 * (mutated + back[:, ::-1, ::-1])
            uniform = 0.5 * (uniform + self._score_uniform(network, method, turned))
        return {"logit": logit, "uniform": uniform, "mutated": mutated}

    def _score_uniform(self, network: Network, method: ConvolutionMethod, codes: Array) -> Array:
        inputs = jnp.repeat((codes < NUM_BASES).astype(jnp.float32)[..., None] * 0.25, NUM_BASES, axis=-1)
        return walk(network, inputs, method).logits[:, self.track]


def mutate_everywhere(
    network: Network, codes: UInt8[Array, "batch length"], track: int, method: ConvolutionMethod
) -> tuple[Float[Array, " batch"], Float[Array, "batch length 4"]]:
    """Give the logit of each sequence, and of each of its single-base changes, on the strand given.

    At an N nothing is changed: all four columns hold the logit of the sequence.
    """
    assert isinstance(network, MotifNetwork | ResidualNetwork)
    trace = walk(network, one_hot(codes), method)
    batch, length = codes.shape
    pool_bp = network.motifs.pool_bp
    rows = -(-length // pool_bp)
    chunk = min(ROWS_AT_ONCE, rows)
    num_chunks = -(-rows // chunk)
    short = num_chunks * chunk * pool_bp - length
    bases = jnp.pad(codes, ((0, 0), (0, short)), constant_values=NUM_BASES).reshape(batch, -1, pool_bp)
    plan = _Plan.of(network, trace, chunk)
    items = jnp.arange(batch * num_chunks * pool_bp)

    def mutate(item: Array) -> Array:
        sequence, rest = item // (num_chunks * pool_bp), item % (num_chunks * pool_bp)
        return _mutate_chunk(network, track, bases, plan, sequence, rest // pool_bp * chunk, rest % pool_bp)

    # A few rows at a time, so that what lies between the layers stays in a processor's cache; and several such loops
    # beside each other, which share the cores. An accelerator takes many at once.
    if method == "im2col":
        parts = [jax.lax.map(mutate, part) for part in jnp.array_split(items, min(NUM_LOOPS, len(items)))]
        changed = jnp.concatenate(parts)
    else:
        changed = jax.lax.map(mutate, items, batch_size=ITEMS_AT_ONCE)
    changed = changed.reshape(batch, num_chunks, pool_bp, chunk, NUM_CHANGES).transpose(0, 1, 3, 2, 4)
    changed = changed.reshape(batch, -1, NUM_CHANGES)[:, :length]
    # Change k of base b is base b + k; the base itself keeps the logit of the sequence.
    logit = jnp.broadcast_to(trace.logits[:, track, None, None], (batch, length, 1))
    steps = (jnp.arange(NUM_BASES)[None, None] - codes[..., None].astype(jnp.int32)) % NUM_BASES
    mutated = jnp.take_along_axis(jnp.concatenate([logit, changed], axis=2), steps, axis=2)
    return trace.logits[:, track], jnp.where((codes < NUM_BASES)[..., None], mutated, logit)


class _Plan(NamedTuple):
    """What all chunks share, every array padded at both ends so that a window may reach over them.

    `starts` tells where the pooled window of a phase begins from its base's own pool, `tables` what each base there
    adds to the scores in the window. `before` and `behind` pool what lies outside a window, where the pooling is not
    a sum.
    """

    chunk: int
    size: int
    length: int
    margin: int
    starts: Array
    tables: Float[Array, "phase 4 place score"]
    scanned: Array
    features: Array
    updates: tuple[Array, ...]
    last: Array
    weights: Array
    pooled: Array
    before: tuple[Array, ...]
    behind: tuple[Array, ...]

    @staticmethod
    def of(network: MotifNetwork | ResidualNetwork, trace: Trace, chunk: int) -> _Plan:
        """Pad and stack what the chunks read."""
        motifs, pool_bp = network.motifs, network.motifs.pool_bp
        weight = scan_weight(motifs)
        width, length = weight.shape[0], trace.features[0].shape[1]
        left = (width - 1) // 2
        starts = [(phase - (width - 1 - left)) // pool_bp for phase in range(pool_bp)]
        size = max((phase + left) // pool_bp - start + 1 for phase, start in enumerate(starts))
        tables = [_scan_table(weight, pool_bp, phase, start, size) for phase, start in enumerate(starts)]
        reach = sum(layer.dilation * (layer.weight.shape[0] - 1) for layer, _ in body_of(network))
        margin = reach + size + chunk - starts[0]

        def pad(values: Array, stride: int = 1) -> Array:
            return jnp.pad(values, ((0, 0), (margin * stride, margin * stride), (0, 0)))

        channels = trace.features[-1].shape[2]
        weights = jnp.broadcast_to(position_weights(network.pooling, length), (length, channels))
        outside = [_pool_outside(trace.features[-1], kind) for kind in network.pooling.kinds if kind != "mean"]
        return _Plan(
            chunk,
            size,
            length,
            margin,
            jnp.array(starts),
            jnp.stack(tables),
            pad(trace.scanned, pool_bp),
            pad(trace.features[0]),
            tuple(pad(update) for update in trace.updates),
            pad(trace.features[-1]),
            pad(weights[None]),
            trace.pooled,
            tuple(before for before, _ in outside),
            tuple(behind for _, behind in outside),
        )


def _mutate_chunk(
    network: MotifNetwork | ResidualNetwork,
    track: int,
    bases: Array,
    plan: _Plan,
    sequence: Array,
    row: Array,
    phase: Array,
) -> Float[Array, "row change"]:
    """The logits of the three changes of some bases of a phase, each a pool further than the last."""
    own = jax.lax.dynamic_slice(bases, (sequence, row, phase), (1, plan.chunk, 1)).reshape(plan.chunk)
    window = _Window(plan, sequence, row + plan.starts[phase], plan.size)
    change = _change_motifs(network, own, plan.tables[phase], window)
    for number, (convolution, norm) in enumerate(body_of(network)):
        weight = convolution.weight * norm_factor(norm, convolution.weight.shape[2])[None, None]
        spread = _spread(change, weight, convolution.dilation)
        left = convolution.dilation * ((weight.shape[0] - 1) // 2)
        right = convolution.dilation * (weight.shape[0] - 1) - left
        grown = _Window(plan, sequence, window.start - right, window.size + left + right)
        before = grown.cut(plan.updates[number])[:, None]
        update = activate(before + spread, "relu") - activate(before, "relu")
        if is_residual(weight.shape[1], weight.shape[2]):
            update = update + jnp.pad(change, ((0, 0), (0, 0), (right, left), (0, 0)))
        window, change = grown, update * grown.inside()[:, None]
    return _finish(network, track, plan, window, change)


class _Window(NamedTuple):
    """A window of pooled positions that moves with the row: row q has the positions q + start and on."""

    plan: _Plan
    sequence: Array
    start: Array
    size: int

    def cut(self, padded: Float[Array, "batch padded channel"], stride: int = 1) -> Float[Array, "row size channel"]:
        """The values in each row's window; a stride makes each position that many values."""
        rows, num = self.plan.chunk, self.size * stride
        first = (self.start + self.plan.margin) * stride
        sequence = self.sequence if padded.shape[0] > 1 else jnp.zeros_like(self.sequence)
        shape = (1, (rows - 1) * stride + num, padded.shape[2])
        held = jax.lax.dynamic_slice(padded, (sequence, first, jnp.zeros_like(first)), shape)[0]
        return jnp.stack([held[row * stride : row * stride + num] for row in range(rows)])

    def inside(self) -> Float[Array, "row size 1"]:
        """1 where a position of the window lies in the sequence."""
        places = self.start + jnp.arange(self.plan.chunk)[:, None] + jnp.arange(self.size)[None]
        return ((places >= 0) & (places < self.plan.length)).astype(jnp.float32)[..., None]


def _change_motifs(
    network: MotifNetwork | ResidualNetwork, bases: Array, table: Float[Array, "4 place score"], window: _Window
) -> Float[Array, "row change size filter"]:
    """By how much the activations in the window change."""
    motifs, pool_bp = network.motifs, network.motifs.pool_bp
    step = jnp.arange(1, NUM_BASES, dtype=bases.dtype)
    others = (bases[:, None] + step[None]) % jnp.uint8(NUM_BASES)
    difference = one_hot(others) - one_hot(bases)[:, None]
    scores = window.cut(window.plan.scanned, pool_bp)[:, None] + jnp.tensordot(difference, table, 1)
    flat = scores.reshape(-1, window.size * pool_bp, scores.shape[-1])
    after = finish_motifs(motifs, flat).reshape(len(bases), NUM_CHANGES, window.size, -1)
    return (after - window.cut(window.plan.features)[:, None]) * window.inside()[:, None]


def _scan_table(
    weight: Float[Array, "width 4 score"], pool_bp: int, phase: int, start: int, size: int
) -> Float[Array, "4 place score"]:
    """What each base at the changed position adds to the scores at each place of the window."""
    width = weight.shape[0]
    taps = phase - pool_bp * start - np.arange(size * pool_bp) + (width - 1) // 2
    held = (taps >= 0) & (taps < width)
    rows = weight[np.clip(taps, 0, width - 1)] * held[:, None, None].astype(np.float32)
    return rows.transpose(1, 0, 2)


def _spread(
    change: Float[Array, "row change size channel"], weight: Float[Array, "width channel filter"], dilation: int
) -> Float[Array, "row change wider filter"]:
    """What changed inputs add to a convolution's outputs, in the window that they reach."""
    width, channels, filters = weight.shape
    rows, changes, size, _ = change.shape
    joined = weight.transpose(1, 0, 2).reshape(channels, width * filters)
    products = (change.reshape(-1, channels) @ joined).reshape(rows, changes, size, width, filters)
    reach = dilation * (width - 1)
    parts = [
        jnp.pad(products[:, :, :, tap], ((0, 0), (0, 0), (reach - dilation * tap, dilation * tap), (0, 0)))
        for tap in range(width)
    ]
    return sum(parts[1:], start=parts[0])


def _finish(
    network: MotifNetwork | ResidualNetwork,
    track: int,
    plan: _Plan,
    window: _Window,
    change: Float[Array, "row change size channel"],
) -> Float[Array, "row change"]:
    """From the changes of the last features to the logits."""
    channels = plan.last.shape[2]
    pooled = plan.pooled[window.sequence]
    parts, outside = [], iter(zip(plan.before, plan.behind, strict=True))
    for number, kind in enumerate(network.pooling.kinds):
        if kind == "mean":
            moved = (change * window.cut(plan.weights)[:, None]).sum(axis=2) / plan.length
            parts.append(pooled[number * channels : (number + 1) * channels][None, None] + moved)
        else:
            parts.append(_pool_again(window, change, kind, *next(outside)))
    joined = jnp.concatenate(parts, axis=-1).reshape(-1, pooled.shape[0])
    return run_head(network.head, joined)[:, track].reshape(plan.chunk, NUM_CHANGES)


def _pool_outside(features: Float[Array, "batch length channel"], kind: str) -> tuple[Array, Array]:
    """The pool of all positions before each place, and of all from it on.

    Not the whole less the window, which would lose the digits of all others where the window holds the strong site.
    """
    grow = jax.lax.cummax if kind == "max" else jax.lax.cumlogsumexp
    lowest = jnp.full((features.shape[0], 1, features.shape[2]), -jnp.inf)
    before = jnp.concatenate([lowest, grow(features, axis=1)], axis=1)
    return before, jnp.concatenate([grow(features, axis=1, reverse=True), lowest], axis=1)


def _pool_again(
    window: _Window, change: Float[Array, "row change size channel"], kind: str, before: Array, behind: Array
) -> Float[Array, "row change channel"]:
    """Pool over all positions anew: before the window, behind it, and in it."""
    plan, is_max = window.plan, kind == "max"
    join = jnp.maximum if is_max else jnp.logaddexp
    starts = window.start + jnp.arange(plan.chunk)
    outside = join(
        before[window.sequence, jnp.clip(starts, 0, plan.length)],
        behind[window.sequence, jnp.clip(starts + window.size, 0, plan.length)],
    )
    values = jnp.where(window.inside()[:, None] > 0, window.cut(plan.last)[:, None] + change, -jnp.inf)
    inside = values.max(axis=2) if is_max else jax.nn.logsumexp(values, axis=2)
    pooled = join(inside, outside[:, None])
    return pooled if is_max else pooled - math.log(plan.length)
