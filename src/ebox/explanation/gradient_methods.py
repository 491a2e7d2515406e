"""Attribution by gradients: gradient times input, integrated gradients, and DeepLIFT/SHAP.

All three give hypothetical contributions, (batch, length, 4): what each base would contribute at each place. The
contribution of the sequence itself is the entry of its own base.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from ebox.models.encoding import one_hot, reverse_complement
from ebox.models.layers import EXPONENT_LIMIT
from ebox.models.network import Network
from ebox.models.passes import PLAIN, ConvolutionMethod, Elementwise, Pass, Rules, by_head
from ebox.sequences.codes import NUM_BASES

# For a smaller difference of two inputs the slope of a nonlinearity replaces the ratio of differences.
LEAST_DIFFERENCE = 1e-6
# Near the smallest normal number of float32; a guard for the logarithm.
LEAST_EVIDENCE = 1e-37
Strand = Callable[[UInt8[Array, "batch length"], UInt8[Array, "batch reference length"]], dict[str, Array]]


@dataclass(frozen=True)
class GradientJob:
    """Gradient times input with the one-hot correction; a job for `iter_batches`.

    The mean over the four bases is subtracted from the gradient, since the four values of a one-hot input always sum to
    1 (Majdandzic 2023). The sum over a sequence is the first-order estimate of the difference to the uniform input, a
    quarter of every base, whose logit is `reference`. The exponential activation is cut against overflow; beyond the
    cut the slope at the cut is used.
    """

    track: int
    both_strands: bool

    def __call__(self, network: Network, method: ConvolutionMethod, *blocks: Array) -> Any:
        """Give `logit` and `reference` (batch,), and `hypothetical` (batch, length, 4)."""
        (codes,) = blocks
        score = _scorer(network, method, self.track, UNCUT)

        def explain(codes: Array, _: Array) -> dict[str, Array]:
            inputs = one_hot(codes)
            logit, slopes = _gradient(score, inputs)
            uniform = jnp.where((codes < NUM_BASES)[..., None], 0.25, jnp.zeros_like(inputs))
            return {"logit": logit, "reference": score(uniform), "hypothetical": _centre(slopes)}

        return _over_strands(explain, codes, codes[:, None], self.both_strands)


@dataclass(frozen=True)
class IntegratedJob:
    """Integrated gradients from shuffled references (Sundararajan 2017); a job for `iter_batches`.

    The integral along the line from each reference to the sequence is by Gauss-Legendre quadrature with `num_steps`
    points. `reference` is the mean logit of the references.
    """

    track: int
    both_strands: bool
    num_steps: int

    def __call__(self, network: Network, method: ConvolutionMethod, *blocks: Array) -> Any:
        """Blocks: codes and their references. Give `logit`, `reference` and `hypothetical`."""
        codes, references = blocks
        score = _scorer(network, method, self.track)
        nodes, weights = np.polynomial.legendre.leggauss(self.num_steps)
        places = jnp.asarray(0.5 * (nodes + 1.0), jnp.float32)
        shares = jnp.asarray(0.5 * weights, jnp.float32)

        def explain(codes: Array, references: Array) -> dict[str, Array]:
            inputs, starts = one_hot(codes)[:, None], one_hot(references)
            flat = (-1, *inputs.shape[2:])

            def add(total: Array, point: tuple[Array, Array]) -> tuple[Array, None]:
                place, share = point
                between = starts + place * (inputs - starts)
                _, slopes = _gradient(score, between.reshape(flat))
                return total + share * slopes.reshape(starts.shape), None

            multipliers, _ = jax.lax.scan(add, jnp.zeros_like(starts), (places, shares))
            reference = score(starts.reshape(flat)).reshape(references.shape[:2]).mean(axis=1)
            return {"logit": score(inputs[:, 0]), "reference": reference, "hypothetical": _project(multipliers, starts)}

        return _over_strands(explain, codes, references, self.both_strands)


@dataclass(frozen=True)
class DeepLiftJob:
    """DeepLIFT/SHAP: the rescale rule, averaged over shuffled references; a job for `iter_batches`.

    The multiplier of a nonlinearity is the ratio of the differences of its output and of its input between sequence and
    reference (Shrikumar 2017, Lundberg 2017); a maximum is explained by its largest inputs in sequence and reference,
    and the product of attention's weights and features by both, half of the joint change each.
    So the contributions of a sequence sum to its logit less the mean logit of the references, `reference`. The sequence
    and all its references go through the network as one group.
    """

    track: int
    both_strands: bool

    def __call__(self, network: Network, method: ConvolutionMethod, *blocks: Array) -> Any:
        """Blocks: codes and their references. Give `logit`, `reference` and `hypothetical`."""
        codes, references = blocks
        score = _scorer(network, method, self.track, rescale_rules(references.shape[1] + 1))

        def explain(codes: Array, references: Array) -> dict[str, Array]:
            group = one_hot(jnp.concatenate([codes[:, None], references], axis=1))
            logits, pull = jax.vjp(score, group.reshape(-1, *group.shape[2:]))
            logits = logits.reshape(group.shape[:2])
            # The gradient at each reference is that of its pair with the sequence.
            (multipliers,) = pull(jnp.ones_like(logits).at[:, 0].set(0.0).reshape(-1))
            return {
                "logit": logits[:, 0],
                "reference": logits[:, 1:].mean(axis=1),
                "hypothetical": _project(multipliers.reshape(group.shape)[:, 1:], group[:, 1:]),
            }

        return _over_strands(explain, codes, references, self.both_strands)


def _over_strands(explain: Strand, codes: Array, references: Array, both_strands: bool) -> dict[str, Array]:
    """Explain the given strand, or the mean of both in the direction of the given one; 0 at an N."""
    result = explain(codes, references)
    if both_strands:
        other = explain(reverse_complement(codes), reverse_complement(references))
        other["hypothetical"] = other["hypothetical"][:, ::-1, ::-1]
        result = {name: 0.5 * (value + other[name]) for name, value in result.items()}
    known = (codes < NUM_BASES)[..., None]
    return {**result, "hypothetical": jnp.where(known, result["hypothetical"], 0.0)}


def _uncut(function: Elementwise, inputs: Array) -> Array:
    """The function, but for inputs above EXPONENT_LIMIT with the slope at that limit.

    So a site that is strong enough to be cut still has a contribution. The other functions of a network have the same
    slope at the limit and above it (ReLU, and GELU up to rounding).
    """
    # Just below the limit, since at the limit JAX gives half the slope.
    below = jax.lax.stop_gradient(jnp.minimum(inputs, np.nextafter(np.float32(EXPONENT_LIMIT), np.float32(0.0))))
    _, slopes = jax.jvp(function, (below,), (jnp.ones_like(below),))
    outputs = jax.lax.stop_gradient(function(inputs))
    return outputs + jax.lax.stop_gradient(slopes) * (inputs - jax.lax.stop_gradient(inputs))


UNCUT = PLAIN._replace(apply=_uncut)


def _scorer(network: Network, method: ConvolutionMethod, track: int, rules: Rules = PLAIN) -> Callable[[Array], Array]:
    a_pass = Pass(method=method, rules=rules)
    return lambda inputs: network(inputs, a_pass)[0][:, track]


def _gradient(score: Callable[[Array], Array], inputs: Array) -> tuple[Array, Array]:
    logit, pull = jax.vjp(score, inputs)
    return logit, pull(jnp.ones_like(logit))[0]


def _centre(slopes: Float[Array, "*rows 4"]) -> Float[Array, "*rows 4"]:
    return slopes - slopes.mean(axis=-1, keepdims=True)


def _project(
    multipliers: Float[Array, "batch reference length 4"], references: Float[Array, "batch reference length 4"]
) -> Float[Array, "batch length 4"]:
    """What each base would contribute in place of that of the reference: the difference of their multipliers."""
    replaced = (multipliers * references).sum(axis=-1, keepdims=True)
    return (multipliers - replaced).mean(axis=1)


def rescale_rules(group: int) -> Rules:
    """DeepLIFT's rules for passes over groups: one sequence, then its references."""
    maximum = _rescaled_maximum(group)

    def apply(function: Elementwise, inputs: Array) -> Array:
        return _rescaled(group, function)(inputs)

    def better(one: Array, other: Array) -> Array:
        return maximum(jnp.stack([one, other], axis=-2))

    def log_mean_exp(features: Array) -> Array:
        # The same shift for all sequences, so that the differences between them don't change.
        top = jax.lax.stop_gradient(features.max(axis=(0, 1), keepdims=True))
        evidence = apply(jnp.exp, features - top).mean(axis=1)
        return apply(jnp.log, jnp.maximum(evidence, LEAST_EVIDENCE)) + top[0]

    def attend(scores: Array, features: Array) -> Array:
        # The same shift for a sequence and its references, so that the differences between them don't change.
        tops = jax.lax.stop_gradient(_grouped(scores, group).max(axis=(1, 2), keepdims=True))
        masses = apply(jnp.exp, (_grouped(scores, group) - tops).reshape(scores.shape))
        values = by_head(features, scores.shape[-1])
        sums = multiply(jnp.broadcast_to(masses[..., None], values.shape), values).sum(axis=1)
        shares = apply(jnp.reciprocal, jnp.maximum(masses.sum(axis=1), LEAST_EVIDENCE))
        return multiply(sums, jnp.broadcast_to(shares[..., None], sums.shape)).reshape(len(features), -1)

    multiply = _shared_product(group)
    return Rules(apply, maximum, better, log_mean_exp, attend)


def _rescaled(group: int, function: Elementwise) -> Elementwise:
    @jax.custom_vjp
    def apply(inputs: Array) -> Array:
        return function(inputs)

    def forward(inputs: Array) -> tuple[Array, tuple[Array, Array]]:
        outputs = function(inputs)
        return outputs, (inputs, outputs)

    def backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
        inputs, outputs = (_grouped(value, group) for value in saved)
        change, effect = inputs[:, :1] - inputs, outputs[:, :1] - outputs
        _, slope = jax.jvp(function, (inputs,), (jnp.ones_like(inputs),))
        is_small = jnp.abs(change) < LEAST_DIFFERENCE
        ratio = jnp.where(is_small, slope, effect / jnp.where(is_small, 1.0, change))
        return (gradient * ratio.reshape(gradient.shape),)

    apply.defvjp(forward, backward)
    return apply


def _rescaled_maximum(group: int) -> Callable[[Array], Array]:
    """The maximum over the second to last axis; its difference is explained at the places of both maxima.

    With y the greater of both maxima, y less the maximum of the reference is explained at the place of the sequence's
    maximum, and the rest at that of the reference's; neither is divided by less than it explains.
    """

    @jax.custom_vjp
    def apply(values: Array) -> Array:
        return values.max(axis=-2)

    def forward(values: Array) -> tuple[Array, Array]:
        return values.max(axis=-2), values

    def backward(values: Array, gradient: Array) -> tuple[Array]:
        grouped = _grouped(values, group)
        here = grouped[:, :1]
        top, top_here = grouped.max(axis=-2, keepdims=True), here.max(axis=-2, keepdims=True)
        greater = jnp.maximum(top, top_here)
        change = here - grouped
        safe = jnp.where(jnp.abs(change) < LEAST_DIFFERENCE, 1.0, change)
        won_here, won_there = _is_first(here, top_here), _is_first(grouped, top)
        explained = jnp.where(won_here, greater - top, 0.0) + jnp.where(won_there, top_here - greater, 0.0)
        ratio = jnp.where(jnp.abs(change) < LEAST_DIFFERENCE, 0.0, explained / safe)
        return ((_grouped(gradient, group)[..., None, :] * ratio).reshape(values.shape),)

    apply.defvjp(forward, backward)
    return apply


def _shared_product(group: int) -> Callable[[Array, Array], Array]:
    """The product of two arrays; the difference of a product is shared between both as Shapley's values share it.

    With a, b in the sequence and c, d in the reference, ab - cd = (a - c)(b + d) / 2 + (b - d)(a + c) / 2.
    """

    @jax.custom_vjp
    def multiply(one: Array, other: Array) -> Array:
        return one * other

    def forward(one: Array, other: Array) -> tuple[Array, tuple[Array, Array]]:
        return one * other, (one, other)

    def backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        grouped = [_grouped(value, group) for value in saved]
        of_one, of_other = ((0.5 * (value[:, :1] + value)).reshape(gradient.shape) for value in reversed(grouped))
        return gradient * of_one, gradient * of_other

    multiply.defvjp(forward, backward)
    return multiply


def _is_first(values: Array, top: Array) -> Array:
    """Whether an entry is the first in its window that equals the maximum."""
    place = jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 2)
    first = jnp.where(values == top, place, values.shape[-2]).min(axis=-2, keepdims=True)
    return place == first


def _grouped(values: Array, group: int) -> Array:
    return values.reshape(-1, group, *values.shape[1:])
