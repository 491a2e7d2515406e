"""Augmentation: each change does what it says, by the example's key alone; off is nothing; the second stage begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from scipy import stats

from ebox.datasets.folder import UNKNOWN_TARGET
from ebox.diagnosis.parity import relative_difference
from ebox.mesh.devices import DATA_AXIS, find_devices, make_mesh
from ebox.models.encoding import mutate, one_hot, reverse_complement, shift
from ebox.models.layers import Drop
from ebox.models.passes import Pass
from ebox.settings.reading import ParallelConfig, TrainConfig
from ebox.training.augmentation import (
    KINDS,
    AugmentationPlan,
    delete,
    draw_own_shares,
    hold_stage,
    insert,
    invert,
    mix,
    show,
    translocate,
)
from ebox.training.batches import ChunkPlan, Shares, make_chunk
from ebox.training.gradients import masked_loss_sum
from ebox.training.loop import TrainingResult
from ebox.training.sampling import PADDING_ROW, make_order
from ebox.training.state import Hyperparameters, make_hyperparameters
from planted import fit_small, largest_difference, named_arrays, small_config

# CAGATG in a run of T, and an N: what happened to a sequence can be read off it.
SITE = [1, 0, 2, 0, 3, 2]
LENGTH, MOST = 60, 6
ALL = {
    "deletion_rate": 0.5,
    "insertion_rate": 0.5,
    "translocation_rate": 0.5,
    "inversion_rate": 0.5,
    "mutation_rate": 0.05,
    "noise": 0.2,
}
EVERYTHING = {**ALL, "mixup_alpha": 0.4, "originals_fraction": 0.5, "ema_decay": 0.9, "learning_rate": 1e-3}


def marked() -> np.ndarray:
    codes = np.full(LENGTH, 3, np.uint8)
    codes[27:33] = SITE
    codes[45] = 4
    return codes


def apply_many(change: Any, codes: np.ndarray, count: int = 200) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0), count)
    most = jnp.int32(MOST)
    changed = jax.jit(jax.vmap(lambda key: change(jnp.asarray(codes), key, most)))(keys)
    assert changed.shape == (count, len(codes))
    assert changed.dtype == np.uint8
    return np.asarray(changed)


def find_site(codes: np.ndarray) -> list[int]:
    return [place for place in range(len(codes) - 5) if (codes[place : place + 6] == SITE).all()]


def test_a_translocation_rotates():
    codes, seen = marked(), set()
    for changed in apply_many(translocate, codes):
        (place,) = find_site(changed)
        seen.add(place - 27)
        np.testing.assert_array_equal(np.roll(changed, 27 - place), codes)
    assert seen == {*range(-MOST, 0), *range(1, MOST + 1)}


def test_an_inversion_reads_one_stretch_on_the_other_strand():
    codes, lengths = marked(), set()
    for changed in apply_many(invert, codes):
        places = np.flatnonzero(changed != codes)
        if not len(places):
            continue
        # T turns into A, so the stretch shows, but for bases that equal their turned ones at its ends.
        first, end = places[0], places[-1] + 1
        fits = [
            (start, stop)
            for start in range(max(0, end - MOST), first + 1)
            for stop in range(end, min(LENGTH, start + MOST) + 1)
            if (np.asarray(reverse_complement(jnp.asarray(codes[start:stop]))) == changed[start:stop]).all()
        ]
        assert fits
        lengths.add(end - first)
        assert (changed == 4).sum() == 1
    assert max(lengths) == MOST


def test_a_deletion_closes_the_gap_and_fills_both_ends():
    codes = np.random.default_rng(0).integers(0, 4, LENGTH, np.uint8)
    counts = set()
    for changed in apply_many(delete, codes):
        ways = [
            (count, place)
            for count in range(1, MOST + 1)
            for place in range(LENGTH - count + 1)
            if (
                changed[count // 2 : LENGTH - count + count // 2] == np.delete(codes, slice(place, place + count))
            ).all()
        ]
        assert ways
        counts.add(ways[0][0])
    assert counts == set(range(1, MOST + 1))


@pytest.mark.slow
def test_an_insertion_puts_random_bases_between_the_sequences_own():
    codes, fresh = np.full(LENGTH, 4, np.uint8), []
    for changed in apply_many(insert, codes):
        (places,) = np.nonzero(changed != 4)
        assert len(places) <= MOST
        assert len(places) == 0 or (np.diff(places) == 1).all()
        fresh += changed[places].tolist()
    assert min(np.bincount(fresh, minlength=4)) > 0.15 * len(fresh)
    # Other keys, other bases; and what stood beside the new bases stands there still, further apart.
    for changed in apply_many(insert, np.arange(LENGTH, dtype=np.uint8)):
        own = changed[changed > 3]
        assert len(set(own.tolist())) >= LENGTH - MOST - 4
        assert (np.diff(own.astype(int)) >= 1).all()


def rates_of(steps: int = 40, **train: Any) -> tuple[Hyperparameters, AugmentationPlan]:
    config = TrainConfig(**train)
    return make_hyperparameters(config, steps, 1.0), AugmentationPlan.of(config)


def draw_codes(count: int = 64, length: int = LENGTH) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).integers(0, 5, (count, length), np.uint8))


def show_all(codes: jax.Array, step: int = 0, plan: AugmentationPlan | None = None, **train: Any) -> np.ndarray:
    rates, own = rates_of(**train)
    keys = jax.random.split(jax.random.key(5), len(codes))
    chosen = own if plan is None else plan
    return np.asarray(jax.jit(lambda: show(codes, keys, jnp.int32(step), rates, chosen))())


@pytest.mark.slow
def test_without_augmentation_and_with_mutation_alone_it_is_what_it_was():
    codes = draw_codes()
    keys = jax.random.split(jax.random.key(5), len(codes))

    def as_before(sequence: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        strand_key, shift_key, mutation_key = jax.random.split(key, 3)
        moved = shift(sequence, jax.random.randint(shift_key, (), -8, 9))
        turned = jnp.where(jax.random.bernoulli(strand_key), reverse_complement(moved), moved)
        return turned, mutate(turned, 0.05, mutation_key)

    plain, mutated = jax.vmap(as_before)(codes, keys)
    np.testing.assert_array_equal(show_all(codes), one_hot(plain))
    np.testing.assert_array_equal(show_all(codes, mutation_rate=0.05), one_hot(mutated))
    assert AugmentationPlan.of(TrainConfig()) == AugmentationPlan(True, 8)


def test_what_is_dropped_has_nothing_to_do_with_strand_and_shift():
    # A lone A, which the other strand shows as T: it tells strand and shift.
    num = 4000
    codes = jnp.full((num, 21), 4, jnp.uint8).at[:, 10].set(0)
    shown, keys = show_all(codes), jax.random.split(jax.random.key(5), num)
    is_turned, shift_bp = shown[:, :, 3].any(axis=1), shown.any(axis=2).argmax(axis=1)
    assert 0.4 < is_turned.mean() < 0.6
    for place in range(4):
        dropped = np.asarray(Drop(place)(jnp.ones((num, 8)), Pass(keys, jnp.ones(num, bool), 0.5, 0.5))) == 0.0
        for seen in (is_turned, shift_bp):
            found = np.corrcoef(np.column_stack([seen, dropped]), rowvar=False)[0, 1:]
            assert np.abs(found).max() < 5.0 / np.sqrt(num)


@pytest.mark.slow
def test_what_an_example_gets_does_not_depend_on_what_the_program_holds():
    # A member of a population beside others that use everything.
    whole = AugmentationPlan.of(TrainConfig(), TrainConfig(**ALL, mixup_alpha=0.2))
    assert whole == AugmentationPlan(True, 8, KINDS, True)
    for own in ({}, {"insertion_rate": 0.7}, {"noise": 0.1, "inversion_rate": 1.0}):
        np.testing.assert_array_equal(show_all(draw_codes(), **own), show_all(draw_codes(), plan=whole, **own))
    with pytest.raises(ValueError, match="too many values"):
        AugmentationPlan.of(TrainConfig(), TrainConfig(shift_bp=3))


@pytest.mark.slow
def test_an_example_gets_at_most_the_limit():
    codes = jnp.asarray(np.repeat(marked()[None], 400, axis=0))
    still = {"shift_bp": 0, "reverse_complement": False, "max_augmentations": 1}
    rates = {"insertion_rate": 1.0, "noise": 0.1}
    shown = show_all(codes, **still, **rates)
    is_noisy = ~np.isin(shown, (0.0, 1.0)).all(axis=(1, 2))
    is_inserted = (shown.round().argmax(2) != one_hot(codes).argmax(2)).any(axis=1)
    assert 0.35 < is_noisy.mean() < 0.65
    # An insertion of T into a run of T is not seen.
    assert not (is_noisy & is_inserted).any()
    assert (~is_noisy & is_inserted).mean() > 0.3
    both = show_all(codes, **{**still, "max_augmentations": 2}, **rates)
    assert not np.isin(both, (0.0, 1.0)).all(axis=(1, 2)).any()


def test_n_stays_four_zeros_under_noise():
    codes = jnp.asarray(np.array([[0, 4, 2, 4]], np.uint8))
    shown = show_all(codes, shift_bp=0, reverse_complement=False, noise=1.0)
    assert (shown[0, [1, 3]] == 0.0).all()
    assert np.abs(shown[0, [0, 2]] - np.eye(4)[[0, 2]]).min() > 0.0


@pytest.mark.slow
def test_lengths_grow_with_the_sequence_and_are_never_zero():
    short, still = draw_codes(50, 4), {"shift_bp": 0, "reverse_complement": False}
    moved = show_all(short, **still, translocation_rate=1.0, change_fraction=0.01)
    rolled = [np.roll(np.asarray(one_hot(short)), offset, axis=1) for offset in (-1, 1)]
    is_rolled = [(moved == one).all(axis=(1, 2)) for one in rolled]
    assert (is_rolled[0] | is_rolled[1]).all()
    assert is_rolled[0].any()
    assert is_rolled[1].any()


@pytest.mark.slow
def test_the_last_steps_show_the_originals_on_random_strands():
    codes, chosen = draw_codes(), {**ALL, "originals_fraction": 0.25}
    assert (show_all(codes, step=29, **chosen) != show_all(codes)).any()
    np.testing.assert_array_equal(show_all(codes, step=30, **chosen), show_all(codes))
    np.testing.assert_array_equal(show_all(codes, step=10**6, **ALL), show_all(codes, step=0, **ALL))
    rates, _ = rates_of(**chosen, mixup_alpha=0.5)
    keys = jax.random.split(jax.random.key(5), 9)
    assert (draw_own_shares(keys, jnp.int32(29), rates) < 1.0).all()
    np.testing.assert_array_equal(draw_own_shares(keys, jnp.int32(30), rates), np.ones(9))
    # Batches of other steps are shown as this step shows its own.
    for step in (29, 30):
        held = hold_stage(rates, jnp.int32(step))
        expected = draw_own_shares(keys, jnp.int32(step), rates)
        np.testing.assert_array_equal(draw_own_shares(keys, jnp.int32(7_000), held), expected)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 5.0])
def test_mixup_shares_are_from_a_symmetric_beta_distribution(alpha: float):
    rates, _ = rates_of(mixup_alpha=alpha)
    shares = np.asarray(draw_own_shares(jax.random.split(jax.random.key(1), 20_000), jnp.int32(0), rates), np.float64)
    assert ((shares >= 0.0) & (shares <= 1.0)).all()
    # At both ends float32 has too few numbers for the smallest alpha.
    inside = shares[(shares > 1e-3) & (shares < 1.0 - 1e-3)]
    low, high = stats.beta.cdf([1e-3, 1.0 - 1e-3], alpha, alpha)
    found = stats.kstest(inside, lambda value: (stats.beta.cdf(value, alpha, alpha) - low) / (high - low))
    assert found.pvalue > 1e-3
    assert abs(len(inside) / len(shares) - (high - low)) < 0.015


def test_partners_are_a_permutation_of_the_batch_that_no_number_of_processes_changes():
    targets = (np.arange(23)[:, None] % 3 == 0).astype(np.uint8)
    codes = np.random.default_rng(0).integers(0, 4, (23, 9), np.uint8)
    codes[:, 0], codes[:, 1] = np.arange(23) // 5, np.arange(23) % 5
    order = make_order(targets, seed=1, batch_size=5, negatives_per_positive=None, has_partners=True)
    plan = ChunkPlan(3, 3)
    whole = make_chunk(codes, targets, order, plan, 3, Shares(5, 2))
    for place, step in enumerate((3, 4, 5)):
        own, others = order.batch_rows(step), order.partner_rows(step)
        assert sorted(own) == sorted(others)
        np.testing.assert_array_equal(own == PADDING_ROW, others == PADDING_ROW)
        known = np.flatnonzero(others != PADDING_ROW)
        np.testing.assert_array_equal(whole.partners.codes[place, known], codes[others[known]])
        np.testing.assert_array_equal(whole.partners.targets[place, known], targets[others[known]])
    assert (whole.partners.targets[:, 5:] == UNKNOWN_TARGET).all()
    parts = [make_chunk(codes, targets, order, plan, 3, Shares(5, 2, process=k, num_processes=2)) for k in (0, 1)]
    joined = np.concatenate([part.partners.codes for part in parts], axis=1)
    np.testing.assert_array_equal(joined, whole.partners.codes)
    alone = make_order(targets, seed=1, batch_size=5, negatives_per_positive=None)
    assert make_chunk(codes, targets, alone, plan, 3, Shares(5, 2)).partners is None


def test_mixed_examples_count_for_both_targets_by_their_shares():
    rates, _ = rates_of()
    logits, mask = jnp.asarray([[2.0], [-1.0], [0.5]]), jnp.asarray([True, True, True])
    ones, zeros = jnp.ones((3, 1), jnp.uint8), jnp.zeros((3, 1), jnp.uint8)
    shares = jnp.asarray([1.0, 0.25, 0.0])
    found = masked_loss_sum(logits, ones, mask, rates, shares) + masked_loss_sum(logits, zeros, mask, rates, 1 - shares)
    soft = np.asarray([1.0, 0.25, 0.0])
    expected = (np.logaddexp(0.0, logits[:, 0]) - soft * logits[:, 0]).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    a, b = one_hot(draw_codes(3)), one_hot(draw_codes(3)[::-1])
    np.testing.assert_array_equal(mix(a, b, shares)[0], a[0])
    np.testing.assert_array_equal(mix(a, b, shares)[2], b[2])
    np.testing.assert_allclose(mix(a, b, shares)[1], 0.25 * a[1] + 0.75 * b[1])


@pytest.mark.slow
def test_two_devices_show_the_very_examples_of_one():
    codes, (rates, plan) = draw_codes(), rates_of(**ALL)
    keys = jax.random.key_data(jax.random.split(jax.random.key(5), len(codes)))

    def show_share(codes: jax.Array, keys: jax.Array) -> jax.Array:
        return show(codes, jax.random.wrap_key_data(keys), jnp.int32(0), rates, plan)

    mesh, rows = make_mesh(find_devices(ParallelConfig(devices=2))), PartitionSpec(DATA_AXIS)
    two = jax.jit(jax.shard_map(show_share, mesh=mesh, in_specs=(rows, rows), out_specs=rows, check_vma=False))
    np.testing.assert_array_equal(two(codes, keys), jax.jit(show_share)(codes, keys))


@pytest.fixture(scope="module")
def augmented(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """One device, 50 steps, everything on, the originals from step 25 on."""
    return fit_small(tmp_path_factory.mktemp("augmented"), small_config(**EVERYTHING))


@pytest.mark.slow
def test_one_and_two_devices_train_the_same_model_on_augmented_examples(augmented: TrainingResult, tmp_path: Path):
    two = fit_small(tmp_path, small_config(**EVERYTHING), 2)
    assert relative_difference(named_arrays(augmented.network), named_arrays(two.network)) < 1e-6


class _Interruption(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("at", [20, 30])
def test_a_run_resumed_before_or_in_the_second_stage_is_the_whole_one(
    at: int, augmented: TrainingResult, tmp_path: Path
):
    config = small_config(checkpoint_every_steps=8, **EVERYTHING)

    def interrupt(entry: Mapping[str, Any], num_steps: int) -> None:
        if entry["step"] >= at:
            raise _Interruption

    with pytest.raises(_Interruption):
        fit_small(tmp_path, config, on_entry=interrupt)
    resumed = fit_small(tmp_path, config, resume=True)
    assert largest_difference(augmented.network, resumed.network) == 0.0


@pytest.mark.slow
def test_pieces_of_a_batch_are_augmented_as_the_whole_batch(tmp_path: Path):
    config = {**EVERYTHING, "batch_statistics": "group", "group_examples": 5, "max_steps": 10}
    whole = fit_small(tmp_path / "whole", small_config(**config))
    pieces = fit_small(tmp_path / "pieces", small_config(device_batch_size=15, **config))
    assert relative_difference(named_arrays(whole.network), named_arrays(pieces.network)) < 1e-6
