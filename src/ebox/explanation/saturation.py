"""Saturation mutagenesis: the logit of every single-base change, recomputing only what the change can reach.

A change of one base changes the filters' scores over one filter width, so a few pooled positions, and each body layer
widens that by its own reach. Only that window is computed again, and as a difference: the convolutions of the body are
linear, so they add the full convolution of the few changed inputs, which needs still fewer products
(`full_convolution`): with 200 bp, 128 filters and the default body a thirteenth of those of whole passes. Positions are
grouped by their place in the pool (`phase`), so that all windows of a phase begin at the same distance from their base.
The idea to recompute only the reach of a mutation is from fastISM (Nair 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from ebox.explanation.full_convolution import plan_layer
from ebox.models.encoding import one_hot, reverse_complement
from ebox.models.layers import Convolution, join
from ebox.models.network import Network
from ebox.models.passes import ConvolutionMethod, Pass, by_head
from ebox.models.pooling import GlobalPooling
from ebox.models.trace import Stages, Trace, Update, run, trace
from ebox.sequences.codes import NUM_BASES

NUM_CHANGES = NUM_BASES - 1
PLAINLY = Pass()
# Each row is three changed sequences; on CPU 10 to 50 rows are equally fast, and an accelerator gets 64 such chunks.
ROWS_AT_ONCE = 50
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
        """Give `logit` and `uniform` (batch,), and `mutated` (batch, length, 4), with `logit` for the own base.

        `uniform` is the logit of a sequence with a quarter of every base at each known base.
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
        return network(inputs, Pass(method=method))[0][:, self.track]


def mutate_everywhere(
    network: Network, codes: UInt8[Array, "batch length"], track: int, method: ConvolutionMethod
) -> tuple[Float[Array, " batch"], Float[Array, "batch length 4"]]:
    """Give the logit of each sequence, and of each of its single-base changes, on the given strand.

    An N is not changed: all four columns hold the logit of the sequence.

    Args:
        network: Any network.
        codes: Base codes.
        track: Which logit.
        method: How it convolves.
    """
    stages = network.stages()
    found = trace(stages, one_hot(codes), Pass(method=method))
    batch, length = codes.shape
    pool_bp = network.motifs.pool_bp
    rows = -(-length // pool_bp)
    num_chunks = -(-rows // ROWS_AT_ONCE)
    chunk = -(-rows // num_chunks)
    short = num_chunks * chunk * pool_bp - length
    bases = jnp.pad(codes, ((0, 0), (0, short)), constant_values=NUM_BASES).reshape(batch, -1, pool_bp)
    plan = _Plan.of(stages, pool_bp, found, chunk)
    items = jnp.arange(batch * num_chunks)
    changed = []
    # A few rows at a time, so that the values between the layers stay in the cache of a processor.
    for phase in range(pool_bp):
        mutate = _Phase.of(stages, track, plan, bases, phase).mutate
        at_once = None if method == "winograd" else ITEMS_AT_ONCE
        rows_of = jax.lax.map(
            lambda item, of=mutate: of(item // num_chunks, item % num_chunks * chunk), items, batch_size=at_once
        )
        changed.append(rows_of.reshape(batch, -1, 1, NUM_CHANGES))
    joined = jnp.concatenate(changed, axis=2).reshape(batch, -1, NUM_CHANGES)[:, :length]
    # Change k of base b is base b + k; the base itself keeps the logit of the sequence.
    logit = jnp.broadcast_to(found.logits[:, track, None, None], (batch, length, 1))
    steps = (jnp.arange(NUM_BASES)[None, None] - codes[..., None].astype(jnp.int32)) % NUM_BASES
    mutated = jnp.take_along_axis(jnp.concatenate([logit, joined], axis=2), steps, axis=2)
    return found.logits[:, track], jnp.where((codes < NUM_BASES)[..., None], mutated, logit)


# The pool of some positions; of attention the logarithm of the sum of its weights, by head, and the weighted mean.
Pooled = tuple[Array, ...]
# In place of minus infinity, so that two of them have a difference.
NO_WEIGHT = -1e30


class _Plan(NamedTuple):
    """What all chunks share; every array is padded at both ends so that a window may reach past them.

    `before` and `behind` are the pools of all positions outside a window, for pooling that is not a sum.
    """

    chunk: int
    pool_bp: int
    length: int
    margin: int
    scanned: Array
    features: Array
    updates: tuple[Array, ...]
    last: Array
    weights: Array
    pooled: Array
    before: tuple[Pooled, ...]
    behind: tuple[Pooled, ...]

    @staticmethod
    def of(stages: Stages, pool_bp: int, found: Trace, chunk: int) -> _Plan:
        """Pad and stack what the chunks read."""
        width, length = stages.scan.weight.shape[0], found.features[0].shape[1]
        reach = sum(sum(update.linear[0].padding) for update in stages.body)
        margin = reach + chunk + 2 * (width // pool_bp + 2)

        def pad(values: Array) -> Array:
            return jnp.pad(values, ((0, 0), (margin, margin), (0, 0)))

        weights = stages.pooling.weights(length)
        if weights is None:
            weights = jnp.ones((length, found.features[-1].shape[2]))
        outside = [
            _pool_outside(found.features[-1], kind, stages.pooling) for kind in stages.pooling.kinds if kind != "mean"
        ]
        # One row for each pooled position, with the scores of its bases.
        scanned = jnp.pad(found.scanned, ((0, 0), (0, -found.scanned.shape[1] % pool_bp), (0, 0)))
        scanned = scanned.reshape(scanned.shape[0], -1, pool_bp * scanned.shape[2])
        return _Plan(
            chunk,
            pool_bp,
            length,
            margin,
            pad(scanned),
            pad(found.features[0]),
            tuple(pad(update) for update in found.updates),
            pad(found.features[-1]),
            pad(weights[None]),
            found.pooled,
            tuple(before for before, _ in outside),
            tuple(behind for _, behind in outside),
        )


class _Layer(NamedTuple):
    """A body layer: how the windows of a phase spread through it, its reach to both sides, and what follows.

    `spread` gives each row's full convolution with the linear part, (wider, row, filter).
    """

    spread: Callable[[Float[Array, "size row channel"]], Float[Array, "wider row filter"]]
    wider: int
    left: int
    right: int
    update: Update

    @staticmethod
    def of(update: Update, window: int) -> _Layer:
        """Plan a layer for windows of a size."""
        left, right = update.linear[0].padding
        return _Layer(plan_layer(update.linear, window), window + left + right, left, right, update)

    def change(self, before: Float[Array, "wider row 1 filter"], added: Array) -> Array:
        """How much the layer's update changes where its linear part does."""
        moved = self.update.activation.of(before + added) - self.update.activation.of(before)
        for mixing in self.update.project:
            moved = moved @ mixing.weight[0]
        return moved


class _Phase(NamedTuple):
    """The bases of one place in the pool.

    `start` is where the pooled window of a base begins, counted from its own pool, `size` its length, and `table` what
    each base at that place adds to the scores in the window.
    """

    stages: Stages
    track: int
    plan: _Plan
    bases: Array
    start: int
    size: int
    table: Float[Array, "size 4 scores"]
    layers: tuple[_Layer, ...]

    @staticmethod
    def of(stages: Stages, track: int, plan: _Plan, bases: Array, phase: int) -> _Phase:
        """Compute what is constant for a phase; `bases` is (batch, row, phase)."""
        left, right = stages.scan.padding
        start = (phase - right) // plan.pool_bp
        size = (phase + left) // plan.pool_bp - start + 1
        table = _scan_table(stages.scan, plan.pool_bp, phase, start, size)
        layers, window = [], size
        for update in stages.body:
            layers.append(_Layer.of(update, window))
            window = layers[-1].wider
        return _Phase(stages, track, plan, bases[:, :, phase], start, size, table, tuple(layers))

    def mutate(self, sequence: Array, row: Array) -> Float[Array, "row change"]:
        """The logits of the three changes of some bases, each base one pool further than the one before."""
        plan = self.plan
        own = jax.lax.dynamic_slice(self.bases, (sequence, row), (1, plan.chunk)).reshape(plan.chunk)
        window = _Window(plan, sequence, row + self.start, self.size)
        change = self._change_motifs(own, window)
        for number, layer in enumerate(self.layers):
            added = layer.spread(change.reshape(window.size, -1, change.shape[-1]))
            grown = _Window(plan, sequence, window.start - layer.right, layer.wider)
            added = added.reshape(grown.size, plan.chunk, NUM_CHANGES, -1)
            update = layer.change(grown.cut(plan.updates[number])[:, :, None], added)
            update = join(jnp.pad(change, ((layer.right, layer.left), (0, 0), (0, 0), (0, 0))), update)
            window, change = grown, update * grown.inside()[:, :, None]
        return self._finish(window, change)

    def _change_motifs(self, own: Array, window: _Window) -> Float[Array, "size row change filter"]:
        """How much the activations in the window change."""
        step = jnp.arange(1, NUM_BASES, dtype=own.dtype)
        others = (own[:, None] + step[None]) % jnp.uint8(NUM_BASES)
        difference = (one_hot(others) - one_hot(own)[:, None]).reshape(-1, NUM_BASES)
        added = jax.lax.batch_matmul(jnp.broadcast_to(difference, (self.size, *difference.shape)), self.table)
        added = added.reshape(self.size, len(own), NUM_CHANGES, -1)
        scores = window.cut(self.plan.scanned)[:, :, None] + added
        flat = scores.reshape(-1, self.plan.pool_bp, scores.shape[-1] // self.plan.pool_bp)
        after = run(self.stages.motifs, flat, PLAINLY, []).reshape(self.size, len(own), NUM_CHANGES, -1)
        return (after - window.cut(self.plan.features)[:, :, None]) * window.inside()[:, :, None]

    def _finish(self, window: _Window, change: Float[Array, "size row change channel"]) -> Float[Array, "row change"]:
        """Turn the changes of the last features into logits."""
        plan, channels = self.plan, self.plan.last.shape[2]
        pooled = plan.pooled[window.sequence]
        parts, outside = [], iter(zip(plan.before, plan.behind, strict=True))
        for number, kind in enumerate(self.stages.pooling.kinds):
            if kind == "mean":
                shares = change * window.cut(plan.weights / plan.length)[:, :, None]
                # One sum after another, since a reduction along the first axis is not vectorised on CPU.
                moved = sum((shares[place] for place in range(1, window.size)), start=shares[0])
                parts.append(pooled[number * channels : (number + 1) * channels][None, None] + moved)
            elif kind == "attention":
                parts.append(_attend_again(window, change, self.stages.pooling, *next(outside)))
            else:
                parts.append(_pool_again(window, change, kind, *next(outside)))
        joined = jnp.concatenate(parts, axis=-1).reshape(-1, pooled.shape[0])
        return run(self.stages.head, joined, PLAINLY, [])[:, self.track].reshape(plan.chunk, NUM_CHANGES)


class _Window(NamedTuple):
    """A window of pooled positions that moves with the row: row q has the positions from q + start on."""

    plan: _Plan
    sequence: Array
    start: Array
    size: int

    def cut(self, padded: Float[Array, "batch padded channel"]) -> Float[Array, "size row channel"]:
        """The values in each row's window."""
        rows, first = self.plan.chunk, self.start + self.plan.margin
        sequence = self.sequence if padded.shape[0] > 1 else jnp.zeros_like(self.sequence)
        shape = (1, rows - 1 + self.size, padded.shape[2])
        held = jax.lax.dynamic_slice(padded, (sequence, first, jnp.zeros_like(first)), shape)[0]
        return jnp.stack([held[place : place + rows] for place in range(self.size)])

    def inside(self) -> Float[Array, "size row 1"]:
        """1 where a position of the window is in the sequence, else 0."""
        places = self.start + jnp.arange(self.size)[:, None] + jnp.arange(self.plan.chunk)[None]
        return ((places >= 0) & (places < self.plan.length)).astype(jnp.float32)[..., None]


def _scan_table(scan: Convolution, pool_bp: int, phase: int, start: int, size: int) -> Float[Array, "size 4 scores"]:
    """What each base at the changed position adds to the scores at each pooled place of the window."""
    weight, width = scan.filters(), scan.weight.shape[0]
    taps = phase - pool_bp * start - np.arange(size * pool_bp) + scan.padding[0]
    held = (taps >= 0) & (taps < width)
    rows = weight[np.clip(taps, 0, width - 1)] * held[:, None, None].astype(np.float32)
    return rows.reshape(size, pool_bp, NUM_BASES, -1).transpose(0, 2, 1, 3).reshape(size, NUM_BASES, -1)


def _pool_outside(
    features: Float[Array, "batch length channel"], kind: str, pooling: GlobalPooling
) -> tuple[Pooled, Pooled]:
    """The pool of all positions before each place, and of all from it on.

    The whole less the window would lose the digits of all other positions where the window holds a strong site.
    """
    if kind == "attention":
        return _attend_outside(features, pooling)
    grow = jax.lax.cummax if kind == "max" else jax.lax.cumlogsumexp
    lowest = jnp.full((features.shape[0], 1, features.shape[2]), -jnp.inf)
    before = jnp.concatenate([lowest, grow(features, axis=1)], axis=1)
    return (before,), (jnp.concatenate([grow(features, axis=1, reverse=True), lowest], axis=1),)


def _attend_outside(features: Float[Array, "batch length channel"], pooling: GlobalPooling) -> tuple[Pooled, Pooled]:
    scores = pooling.scores(features)
    each = (scores, by_head(features, scores.shape[-1]))
    none = (jnp.full_like(scores[:, :1], NO_WEIGHT), jnp.zeros_like(each[1][:, :1]))

    def extend(one: Pooled, other: Pooled) -> Pooled:
        return tuple(jnp.concatenate(parts, axis=1) for parts in zip(one, other, strict=True))

    before = extend(none, jax.lax.associative_scan(_join_means, each, axis=1))
    return before, extend(jax.lax.associative_scan(_join_means, each, axis=1, reverse=True), none)


def _join_means(one: Pooled, other: Pooled) -> Pooled:
    """The attention over two sets of positions together."""
    weight = jnp.logaddexp(one[0], other[0])
    return weight, sum(
        (mean * jnp.exp(part - weight)[..., None] for part, mean in (one, other)), start=jnp.zeros((), one[1].dtype)
    )


def _attend_again(
    window: _Window,
    change: Float[Array, "size row change channel"],
    pooling: GlobalPooling,
    before: Pooled,
    behind: Pooled,
) -> Float[Array, "row change channel"]:
    """Attend to all positions again: before the window, after it, and in it."""
    plan = window.plan
    values = window.cut(plan.last)[:, :, None] + change
    scores = jnp.where(window.inside()[:, :, None] > 0, pooling.scores(values), NO_WEIGHT)
    weight = jax.nn.logsumexp(scores, axis=0)
    mean = (jnp.exp(scores - weight[None])[..., None] * by_head(values, scores.shape[-1])).sum(axis=0)
    places = window.start + jnp.arange(plan.chunk)
    for outside, end in ((before, places), (behind, places + window.size)):
        held = tuple(part[window.sequence, jnp.clip(end, 0, plan.length)][:, None] for part in outside)
        weight, mean = _join_means((weight, mean), held)
    return mean.reshape(*mean.shape[:2], -1)


def _pool_again(
    window: _Window, change: Float[Array, "size row change channel"], kind: str, before: Pooled, behind: Pooled
) -> Float[Array, "row change channel"]:
    """Pool over all positions again: before the window, after it, and in it."""
    plan, is_max = window.plan, kind == "max"
    pool = jnp.maximum if is_max else jnp.logaddexp
    starts = window.start + jnp.arange(plan.chunk)
    outside = pool(
        before[0][window.sequence, jnp.clip(starts, 0, plan.length)],
        behind[0][window.sequence, jnp.clip(starts + window.size, 0, plan.length)],
    )
    values = jnp.where(window.inside()[:, :, None] > 0, window.cut(plan.last)[:, :, None] + change, -jnp.inf)
    inside = values.max(axis=0) if is_max else jax.nn.logsumexp(values, axis=0)
    pooled = pool(inside, outside[:, None])
    return pooled if is_max else pooled - math.log(plan.length)
