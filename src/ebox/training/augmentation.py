"""Augmentation in the compiled step: how an example is changed depends on its own key and on nothing else.

Deletion, insertion, translocation, inversion, mutation, noise, the limit of them for an example and the second stage
are those of EvoAug (Lee 2023), with lengths as a share of the sequence, which keeps its own length. Mixup is by Zhang
(2018). A device finds the partners of its examples in its batch, so no message is needed between devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Int, UInt8

from ebox.models.encoding import mutate, one_hot, reverse_complement, shift
from ebox.sequences.codes import NUM_BASES
from ebox.settings.reading import TrainConfig
from ebox.training.state import Hyperparameters

Kind = Literal["deletion", "insertion", "translocation", "inversion", "mutation", "noise"]
# In the order in which they are made.
KINDS: tuple[Kind, ...] = get_args(Kind)
# The setting of each, which is also its name among the rates.
RATES: Mapping[Kind, str] = {kind: "noise" if kind == "noise" else f"{kind}_rate" for kind in KINDS}
# Keys for these draws are numbered from here, far from those of dropout, which counts its layers from 0.
_FIRST_KEY = 1 << 20
_LOTTERY, _MIXUP, _PARTNER = (_FIRST_KEY + len(KINDS) + number for number in range(3))


class Partners(eqx.Module):
    """The examples that those of a batch are mixed with, place by place."""

    codes: Any  # uint8, (batch, length) or (step, batch, length)
    targets: Any  # uint8, (batch, track) or (step, batch, track)


@dataclass(frozen=True)
class AugmentationPlan:
    """Which augmentations a compiled step holds; how much there is of each is data (`Hyperparameters`).

    Of `kinds` each costs time. A member of a population whose rate of one is 0 gets what it would get without it.

    Args:
        reverse_complement: Show each example on a random strand.
        shift_bp: Shift each example by up to this many bases, to either side.
        kinds: Those that any example may get, in the order of `KINDS`.
        mixup: Mix each example with its partner.
    """

    reverse_complement: bool
    shift_bp: int
    kinds: tuple[Kind, ...] = ()
    mixup: bool = False

    @staticmethod
    def of(*members: TrainConfig) -> AugmentationPlan:
        """What one training uses, or any member of a population.

        Raises:
            ValueError: members differ in `reverse_complement` or `shift_bp`, which are constants of the program.
        """
        ((strand, shift_bp),) = {(member.reverse_complement, member.shift_bp) for member in members}
        kinds = tuple(kind for kind in KINDS if any(getattr(member, RATES[kind]) > 0.0 for member in members))
        return AugmentationPlan(strand, shift_bp, kinds, any(member.mixup_alpha > 0.0 for member in members))


def show(
    codes: UInt8[Array, "batch length"],
    keys: Array,
    step: Int[Array, ""],
    rates: Hyperparameters,
    plan: AugmentationPlan,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "batch length 4"]:
    """Augment examples, and encode them one-hot.

    Args:
        codes: The examples.
        keys: One PRNG key per example.
        step: The step, counted from 0; the last ones may show the originals.
        rates: How much there is of each augmentation.
        plan: Which augmentations are made.
        dtype: Of the result.
    """
    on_strand = jax.vmap(lambda sequence, key: _place(sequence, key, plan))(codes, keys)
    if not plan.kinds:
        return one_hot(on_strand, dtype)

    def change(sequence: Array, key: Array) -> tuple[Array, Array]:
        chosen = dict(zip(KINDS, _draw_kinds(key, step, rates), strict=True))
        changed = _change(sequence, key, chosen, rates, plan)
        return changed, chosen["noise"]

    changed, is_noisy = jax.vmap(change)(on_strand, keys)
    inputs = one_hot(changed, dtype)
    if "noise" not in plan.kinds:
        return inputs
    deviation = jnp.where(is_noisy, rates.noise, 0.0)
    return inputs + _draw_noise(changed, keys, deviation).astype(dtype)


def draw_own_shares(keys: Array, step: Int[Array, ""], rates: Hyperparameters) -> Float[Array, " batch"]:
    """Mixup's share of each example itself, from Beta(alpha, alpha); 1 where nothing is mixed.

    Drawn without rejection, as (1 + T / sqrt(2 alpha + T^2)) / 2 of Student's T with 2 alpha degrees of freedom, and T
    by Bailey's polar method (Bailey 1994, Devroye 1996).

    Args:
        keys: One PRNG key per example.
        step: The step, counted from 0.
        rates: Hold alpha and the last step that mixes.
    """
    draws = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _MIXUP), (2,)))(keys)
    is_mixed = (rates.mixup_alpha > 0.0) & _is_augmented(step, rates)
    alpha = jnp.where(is_mixed, rates.mixup_alpha, 1.0)
    numbers = jnp.finfo(jnp.float32)
    # 1 - u is above 0, where u may be 0.
    radius = jnp.minimum(jnp.expm1(-jnp.log1p(-draws[:, 0]) / alpha), numbers.max)
    angle = jnp.cos(2.0 * jnp.pi * draws[:, 1])
    squares = jnp.maximum(radius * angle**2, numbers.tiny)
    share = 0.5 + 0.5 * jnp.sign(angle) / jnp.sqrt(1.0 + 1.0 / squares)
    return jnp.where(is_mixed, share, 1.0)


def key_partners(keys: Array) -> Array:
    """The keys by which the partners of examples are augmented."""
    return jax.vmap(lambda key: jax.random.fold_in(key, _PARTNER))(keys)


def mix(one: Array, other: Array, own_share: Float[Array, " batch"]) -> Float[Array, "batch length 4"]:
    """Put examples and their partners together, in the dtype of `one`."""
    share = own_share.astype(one.dtype)[:, None, None]
    return share * one + (1.0 - share) * other


def hold_stage(rates: Hyperparameters, step: Int[Array, ""]) -> Hyperparameters:
    """Rates that keep the stage of a step, whatever step they are used with."""
    last = jnp.where(_is_augmented(step, rates), jnp.inf, 0.0)
    return eqx.tree_at(lambda tree: tree.augmented_steps, rates, last)


def delete(codes: UInt8[Array, " length"], key: Array, most: Int[Array, ""]) -> UInt8[Array, " length"]:
    """Take out 1 to `most` bases at a random place, and put random ones at the ends, half of them at each."""
    count, place, here, fresh = _draw_stretch(codes, key, most)
    kept = here - count // 2
    is_kept = (kept >= 0) & (kept < len(codes) - count)
    return jnp.where(is_kept, _take(codes, kept + jnp.where(kept >= place, count, 0)), fresh)


def insert(codes: UInt8[Array, " length"], key: Array, most: Int[Array, ""]) -> UInt8[Array, " length"]:
    """Put in 1 to `most` random bases at a random place, and cut off as many at the ends, half of them at each."""
    count, place, here, fresh = _draw_stretch(codes, key, most, between=True)
    before = count // 2
    first = place - before
    is_fresh = (here >= first) & (here < first + count)
    return jnp.where(is_fresh, fresh, _take(codes, here + jnp.where(here < first, before, before - count)))


def invert(codes: UInt8[Array, " length"], key: Array, most: Int[Array, ""]) -> UInt8[Array, " length"]:
    """Read 1 to `most` bases at a random place on the other strand; N stays N."""
    count, place, here, _ = _draw_stretch(codes, key, most)
    is_turned = (here >= place) & (here < place + count)
    # The reverse complement holds base p at place length - 1 - p.
    turned = _take(reverse_complement(codes), here + len(codes) - 2 * place - count)
    return jnp.where(is_turned, turned, codes)


def translocate(codes: UInt8[Array, " length"], key: Array, most: Int[Array, ""]) -> UInt8[Array, " length"]:
    """Rotate by 1 to `most` bases to either side: what leaves at one end comes back at the other."""
    count_key, side_key = jax.random.split(key)
    count = jax.random.randint(count_key, (), 1, most + 1)
    return jnp.roll(codes, jnp.where(jax.random.bernoulli(side_key), count, -count))


_CHANGES: Mapping[Kind, Callable[[Array, Array, Array], Array]] = {
    "deletion": delete,
    "insertion": insert,
    "translocation": translocate,
    "inversion": invert,
}


def _place(sequence: Array, key: Array, plan: AugmentationPlan) -> Array:
    """Shift, then read a random strand."""
    strand_key, shift_key, _ = jax.random.split(key, 3)
    if plan.shift_bp:
        sequence = shift(sequence, jax.random.randint(shift_key, (), -plan.shift_bp, plan.shift_bp + 1))
    if plan.reverse_complement:
        flip = jax.random.bernoulli(strand_key)
        sequence = jnp.where(flip, reverse_complement(sequence), sequence)
    return sequence


def _change(
    sequence: Array, key: Array, chosen: Mapping[Kind, Array], rates: Hyperparameters, plan: AugmentationPlan
) -> Array:
    """Make the chosen changes of one example, all but noise."""
    most = jnp.round(rates.change_fraction * len(sequence)).astype(jnp.int32)
    most = jnp.clip(most, 1, len(sequence))
    for number, kind in enumerate(KINDS):
        if kind in plan.kinds and kind in _CHANGES:
            changed = _CHANGES[kind](sequence, jax.random.fold_in(key, _FIRST_KEY + number), most)
            sequence = jnp.where(chosen[kind], changed, sequence)
    if "mutation" not in plan.kinds:
        return sequence
    _, _, mutation_key = jax.random.split(key, 3)
    return mutate(sequence, jnp.where(chosen["mutation"], rates.mutation_rate, 0.0), mutation_key)


def _draw_kinds(key: Array, step: Array, rates: Hyperparameters) -> Bool[Array, " kind"]:
    """Which of `KINDS` one example gets: each by its chance, and of more than the limit a random choice.

    Drawn for all of them, so that what one example gets doesn't depend on which kinds the program holds.
    """
    draws, places = jax.random.uniform(jax.random.fold_in(key, _LOTTERY), (2, len(KINDS)))
    each = {kind: getattr(rates, RATES[kind]) for kind in KINDS}
    # The rates of these are not chances: how many bases, and how strong.
    each |= {kind: jnp.where(each[kind] > 0.0, 1.0, 0.0) for kind in KINDS if kind not in _CHANGES}
    is_drawn = (draws < jnp.stack([each[kind] for kind in KINDS])) & _is_augmented(step, rates)
    # Those that were not drawn stand behind all others.
    places = jnp.where(is_drawn, places, 2.0)
    num_before = (places[None, :] < places[:, None]).sum(axis=1).astype(jnp.float32)
    return is_drawn & (num_before < rates.max_augmentations)


def _is_augmented(step: Array, rates: Hyperparameters) -> Bool[Array, ""]:
    return step.astype(jnp.float32) < rates.augmented_steps


def _draw_noise(codes: Array, keys: Array, deviation: Float[Array, " batch"]) -> Float[Array, "batch length 4"]:
    """Normal noise; none at an N, which stays four zeros."""

    def draw(key: Array) -> Array:
        return jax.random.normal(
            jax.random.fold_in(key, _FIRST_KEY + KINDS.index("noise")), (codes.shape[1], NUM_BASES)
        )

    scale = jnp.where(codes < NUM_BASES, deviation[:, None], 0.0)
    return jax.vmap(draw)(keys) * scale[..., None]


def _draw_stretch(
    codes: Array, key: Array, most: Array, *, between: bool = False
) -> tuple[Array, Array, Int[Array, " length"], UInt8[Array, " length"]]:
    """The length of a stretch, where it begins, all places, and random bases.

    It lies inside the sequence, or with `between` before any base or behind the last one.
    """
    length = len(codes)
    count_key, place_key, base_key = jax.random.split(key, 3)
    count = jax.random.randint(count_key, (), 1, most + 1)
    end = length + 1 if between else length - count + 1
    place = jax.random.randint(place_key, (), 0, end)
    fresh = jax.random.randint(base_key, (length,), 0, NUM_BASES, dtype=jnp.uint8)
    return count, place, jnp.arange(length), fresh


def _take(codes: Array, source: Int[Array, " length"]) -> UInt8[Array, " length"]:
    return codes[jnp.clip(source, 0, len(codes) - 1)]
