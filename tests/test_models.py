"""Networks: both forms of convolution agree, strands are strands, padding is nothing, shapes are what they say."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from ebox.errors import InputError
from ebox.mesh.collectives import Axis
from ebox.mesh.devices import DATA_AXIS, find_devices, make_mesh
from ebox.models.architectures import build_model, first_layer_filters
from ebox.models.encoding import mutate, one_hot, reverse_complement, shift
from ebox.models.layers import Depthwise, Drop, MaxPool, convolve, slide_channels
from ebox.models.network import Network, apply_moments, count_parameters, is_trainable
from ebox.models.normalisation import BATCH_NORM_EPSILON, BatchNorm, Moments, Statistics
from ebox.models.passes import Pass, maximum_over
from ebox.models.pooling import GlobalPooling, position_bumps
from ebox.settings.reading import ModelConfig, ParallelConfig

SMALL = {"num_filters": 8, "filter_width_bp": 7, "dense_units": (8,), "position_basis": 3}
ARCHITECTURES = [
    ModelConfig(architecture="motif", strands="one", pooling=("max", "mean"), **SMALL),
    ModelConfig(architecture="motif", strands="both", pooling=("max",), **SMALL),
    ModelConfig(
        architecture="motif",
        strands="both",
        pooling=("log_mean_exp",),
        activation="linear",
        **{**SMALL, "dense_units": ()},
    ),
    ModelConfig(architecture="residual", **SMALL),
    ModelConfig(architecture="residual", body_filters=12, batch_norm=False, activation="relu", **SMALL),
    ModelConfig(
        architecture="convnext",
        blocks=2,
        block_width=6,
        body_filters=12,
        pooling=("mean", "attention"),
        attention_heads=3,
        **SMALL,
    ),
]


def test_motif_filters_read_both_strands_unless_told_otherwise():
    names = ("motif", "residual", "convnext")
    assert [ModelConfig(architecture=name).read_strands for name in names] == ["both", "one", "one"]
    assert ModelConfig(architecture="motif", strands="one").read_strands == "one"


def _codes(count: int = 6, length: int = 60, *, with_n: bool = True) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, 5 if with_n else 4, (count, length), np.uint8))


@eqx.filter_jit
def _apply(network: Network, codes: jax.Array, a_pass: Pass) -> tuple[jax.Array, tuple[Moments, ...]]:
    return network(one_hot(codes), a_pass)


def _network(config: ModelConfig, length: int = 60) -> Network:
    return build_model(config, 2, length, np.random.default_rng(0))


@pytest.mark.parametrize(("width", "dilation", "channels"), [(1, 1, 4), (15, 1, 4), (4, 1, 8), (3, 2, 8), (3, 8, 8)])
def test_columns_and_native_convolution_agree(width: int, dilation: int, channels: int):
    inputs = jax.random.normal(jax.random.key(0), (3, 31, channels))
    weight = jax.random.normal(jax.random.key(1), (width, channels, 5))

    def total(inputs: jax.Array, weight: jax.Array, method: str) -> jax.Array:
        return jnp.sum(jnp.sin(convolve(inputs, weight, dilation, method)))

    np.testing.assert_allclose(
        convolve(inputs, weight, dilation, "im2col"), convolve(inputs, weight, dilation, "native"), atol=2e-5
    )
    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), static_argnums=2)
    columns, native = gradient(inputs, weight, "im2col"), gradient(inputs, weight, "native")
    for one, other in zip(columns, native, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("length", [5, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 50))])
@pytest.mark.parametrize(("width", "dilation"), [(3, 1), (3, 2), (3, 4), (5, 1), (5, 3)])
def test_winograd_tiles_give_the_same_numbers_and_gradients(width: int, dilation: int, length: int):
    inputs = jax.random.normal(jax.random.key(0), (2, length, 64))
    weight = jax.random.normal(jax.random.key(1), (width, 64, 64)) / np.sqrt(width * 64)
    cotangent = jax.random.normal(jax.random.key(2), (2, length, 64))
    results = {}
    for method in ("winograd", "native"):
        outputs, pull = jax.vjp(lambda x, w, method=method: convolve(x, w, dilation, method), inputs, weight)
        results[method] = (outputs, *pull(cotangent))
    for tiles, native in zip(results["winograd"], results["native"], strict=True):
        np.testing.assert_allclose(tiles, native, atol=1e-5 * float(np.abs(native).max()))


@pytest.mark.parametrize("width", [1, 4, 7])
def test_a_depthwise_convolution_is_one_by_groups(width: int):
    inputs = jax.random.normal(jax.random.key(0), (3, 12, 5))
    weight, pull = jax.random.normal(jax.random.key(1), (width, 5)), jax.random.normal(jax.random.key(2), (3, 12, 5))

    def by_groups(inputs: jax.Array, weight: jax.Array) -> jax.Array:
        numbers = ("NWC", "WIO", "NWC")
        padding = (Depthwise(weight).padding,)
        return jax.lax.conv_general_dilated(
            inputs, weight[:, None], (1,), padding, dimension_numbers=numbers, feature_group_count=5
        )

    expected, back = jax.vjp(by_groups, inputs, weight)
    found, own_back = jax.vjp(slide_channels, inputs, weight)
    for one, two in zip((found, *own_back(pull)), (expected, *back(pull)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    # Inputs of few bits give outputs and gradients of few bits, but the sums are float32.
    low, back = jax.vjp(slide_channels, inputs.astype(jnp.bfloat16), weight)
    of_inputs, of_weight = back(pull.astype(jnp.bfloat16))
    assert (low.dtype, of_inputs.dtype, of_weight.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(of_weight, own_back(pull)[1], atol=0.2)


def test_convolution_is_correlation_with_zero_padding():
    inputs = jnp.arange(5.0)[None, :, None]
    weight = jnp.array([1.0, 10.0, 100.0])[:, None, None]
    expected = [100.0, 210.0, 321.0, 432.0, 43.0]
    np.testing.assert_allclose(convolve(inputs, weight, 1, "im2col")[0, :, 0], expected)


@pytest.mark.parametrize("config", ARCHITECTURES, ids=lambda config: f"{config.architecture}-{config.strands}")
def test_all_forms_give_the_same_logits(config: ModelConfig):
    network, codes = _network(config), _codes()
    native, _ = _apply(network, codes, Pass(method="native"))
    assert native.shape == (6, 2)
    for method in ("winograd", "im2col"):
        np.testing.assert_allclose(_apply(network, codes, Pass(method=method))[0], native, atol=1e-4)


def test_a_network_that_reads_both_strands_can_not_tell_them_apart():
    config = ModelConfig(architecture="motif", strands="both", num_filters=8, filter_width_bp=7, pooling=("max",))
    network, codes = _network(config), _codes()
    forward, _ = _apply(network, codes, Pass())
    backward, _ = _apply(network, reverse_complement(codes), Pass())
    np.testing.assert_allclose(forward, backward, atol=1e-5)


@pytest.mark.parametrize("config", ARCHITECTURES, ids=lambda config: f"{config.architecture}-{config.strands}")
def test_masked_examples_change_no_moment_and_no_other_logit(config: ModelConfig):
    network, codes = _network(config), _codes(8)
    keys = jax.random.split(jax.random.key(3), 8)
    mask = jnp.arange(8) < 5
    other = codes.at[5:].set(jnp.uint8(2))
    logits, moments = _apply(network, codes, Pass(keys, mask, 0.2, 0.1))
    logits_2, moments_2 = _apply(network, other, Pass(keys, mask, 0.2, 0.1))
    np.testing.assert_array_equal(logits[:5], logits_2[:5])
    for one, two in zip(jax.tree.leaves(moments), jax.tree.leaves(moments_2), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("centre", [0.7, 100.0])
def test_batch_moments_are_those_of_numpy(centre: float):
    values = jax.random.normal(jax.random.key(0), (4, 9, 3)) * 5.0 + centre
    norm = BatchNorm.create(3)
    outputs, moments = norm.by_batch(values, jnp.array([True, True, False, True]), Statistics())
    kept = np.asarray(values)[[0, 1, 3]].reshape(-1, 3)
    np.testing.assert_allclose(moments.mean, kept.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, kept.var(0), rtol=1e-5)
    expected = (np.asarray(values) - kept.mean(0)) / np.sqrt(kept.var(0) + BATCH_NORM_EPSILON)
    np.testing.assert_allclose(outputs, expected, atol=3e-5)


@pytest.mark.slow
def test_gradient_of_batch_normalisation_is_that_of_its_formula():
    values = jax.random.normal(jax.random.key(0), (5, 7, 3)) * 2.0 + 1.0
    scale, offset = jnp.array([0.5, 1.0, 2.0]), jnp.array([0.1, -0.2, 0.3])
    # Padding has no part in the loss, so nothing of it may flow back through the moments either.
    mask = jnp.array([True, True, False, True, True])
    pull = jax.random.normal(jax.random.key(1), (5, 7, 3)) * mask.astype(jnp.float32)[:, None, None]

    def by_formula(values: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
        weights = mask.astype(jnp.float32)[:, None, None]
        count = weights.sum() * 7
        mean = (values * weights).sum((0, 1), keepdims=True) / count
        variance = ((values - mean) ** 2 * weights).sum((0, 1), keepdims=True) / count
        normal = (values - mean) / jnp.sqrt(variance + BATCH_NORM_EPSILON)
        return (pull * (normal * scale[None, None] + offset[None, None])).sum()

    def by_layer(values: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
        norm = BatchNorm(scale, offset, Moments(jnp.zeros(3), jnp.ones(3)))
        return (pull * norm.by_batch(values, mask, Statistics())[0]).sum()

    expected = jax.grad(by_formula, (0, 1, 2))(values, scale, offset)
    for one, two in zip(jax.grad(by_layer, (0, 1, 2))(values, scale, offset), expected, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5)


def test_groups_are_normalised_each_by_itself():
    values = jax.random.normal(jax.random.key(0), (6, 9, 3)) * jnp.arange(1.0, 7.0)[:, None, None] + 2.0
    mask = jnp.array([True, True, False, True, True, False])
    outputs, moments = BatchNorm.create(3).by_batch(values, mask, Statistics(group_examples=2))
    for first in (0, 2, 4):
        part = slice(first, first + 2)
        expected, _ = BatchNorm.create(3).by_batch(values[part], mask[part], Statistics())
        np.testing.assert_allclose(outputs[part], expected, atol=1e-5)
    kept = np.asarray(values)[np.asarray(mask)].reshape(-1, 3)
    np.testing.assert_allclose(moments.mean, kept.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, kept.var(0), rtol=1e-5)


@pytest.mark.parametrize("statistics", [Statistics(group_examples=2), Statistics()], ids=["groups", "device"])
def test_padding_alone_stays_small_through_many_layers(statistics: Statistics):
    network = build_model(ModelConfig(**SMALL, dilations=(1,) * 12), 1, 40, np.random.default_rng(0))
    codes = jax.random.randint(jax.random.key(0), (4, 40), 0, 4, jnp.uint8)
    full = jnp.array([True, True, False, False]) & (statistics.group_examples is not None)
    logits, moments = _apply(network, codes, Pass(jax.random.split(jax.random.key(1), 4), full, statistics=statistics))
    assert (jnp.abs(logits) < 100.0).all()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(moments))


@pytest.mark.parametrize(("group", "swaps"), [(2, False), (3, True), (6, False), (None, True)])
def test_groups_across_devices_are_those_of_one_device(group: int | None, swaps: bool):
    # The last group of three holds padding alone, and others of its examples lie on two devices.
    values = jax.random.normal(jax.random.key(0), (12, 5, 3)) * 2.0 + 3.0
    pull = jax.random.normal(jax.random.key(1), (12, 5, 3))
    mask = jnp.array([True] * 7 + [False, True, False, False, False])
    norm = BatchNorm(jnp.array([0.5, 1.0, 2.0]), jnp.zeros(3), Moments(jnp.zeros(3), jnp.ones(3)))
    mesh = make_mesh(find_devices(ParallelConfig(devices=4)))
    rows, everywhere = PartitionSpec(DATA_AXIS), PartitionSpec()

    def pass_over(values: jax.Array, mask: jax.Array, pull: jax.Array, statistics: Statistics) -> tuple[Any, ...]:
        pull = pull * mask.astype(jnp.float32)[:, None, None]
        outputs, back, moments = jax.vjp(lambda inputs: norm.by_batch(inputs, mask, statistics), values, has_aux=True)
        return outputs, *back(pull), moments

    across = jax.shard_map(
        partial(pass_over, statistics=Statistics(Axis(DATA_AXIS, swaps), group)),
        mesh=mesh,
        in_specs=(rows, rows, rows),
        out_specs=(rows, rows, everywhere),
        check_vma=False,
    )
    one_device = jax.jit(partial(pass_over, statistics=Statistics(group_examples=group)))
    found, expected = jax.jit(across)(values, mask, pull), one_device(values, mask, pull)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, atol=2e-6)


def test_log_mean_exp_pooling_is_the_log_likelihood_ratio_of_one_site_anywhere():
    scores = np.asarray(jax.random.normal(jax.random.key(0), (3, 40, 2)) * 8.0, np.float64)
    pooled = GlobalPooling.create(("log_mean_exp",), 2, 0)(jnp.asarray(scores, jnp.float32), Pass())
    np.testing.assert_allclose(pooled, np.log(np.exp(scores).mean(axis=1)), rtol=1e-5)


@pytest.mark.parametrize("config", ARCHITECTURES)
def test_moments_go_back_to_the_normalisation_that_saw_them(config: ModelConfig):
    network = _network(config)
    _, moments = _apply(network, _codes(), Pass(jax.random.split(jax.random.key(3), 6), jnp.ones(6, bool)))
    assert [len(seen.mean) for seen in moments] == [len(norm.scale) for norm in network.norms()]
    # Told apart by their values: each pass of inference then uses what training saw at the same place.
    moved = apply_moments(network, moments, momentum=1.0)
    for norm, seen in zip(moved.norms(), moments, strict=True):
        np.testing.assert_array_equal(norm.running.variance, seen.variance)
    assert len({float(seen.variance.sum()) for seen in moments}) == len(moments)


def test_running_moments_are_moved_but_not_trained():
    config = next(config for config in ARCHITECTURES if config.architecture == "residual" and config.batch_norm)
    network = _network(config)
    trained, fixed = eqx.partition(network, is_trainable(network))
    assert len(jax.tree.leaves(fixed)) == 2 * len(network.norms())
    assert count_parameters(network) == sum(leaf.size for leaf in jax.tree.leaves(trained))
    keys = jax.random.split(jax.random.key(3), 6)
    _, moments = _apply(network, _codes(), Pass(keys, jnp.ones(6, bool)))
    moved = apply_moments(network, moments, momentum=1.0)
    for norm, seen in zip(moved.norms(), moments, strict=True):
        np.testing.assert_array_equal(norm.running.mean, seen.mean)


def test_dropout_depends_on_the_example_not_on_its_place():
    keys = jax.random.split(jax.random.key(0), 4)
    ones = jnp.ones((4, 50))
    whole = Drop(1)(ones, Pass(keys, jnp.ones(4, bool), 0.5, 0.1))
    part = Drop(1)(ones[2:], Pass(keys[2:], jnp.ones(2, bool), 0.5, 0.1))
    np.testing.assert_array_equal(whole[2:], part)
    assert 0.3 < float((whole == 0).mean()) < 0.7
    assert set(np.unique(whole)) == {0.0, 2.0}
    filters = Drop(1, of_filters=True)(ones, Pass(keys, jnp.ones(4, bool), 0.5, 0.1))
    assert 0.0 < float((filters == 0).mean()) < 0.25


def test_outside_training_nothing_is_dropped():
    np.testing.assert_array_equal(Drop(0)(jnp.ones((2, 5)), Pass(dropout=0.9)), jnp.ones((2, 5)))


def test_maximum_and_its_gradient():
    values = jnp.array([[[1.0, 5.0], [3.0, 2.0], [2.0, 4.0]]])
    np.testing.assert_array_equal(maximum_over(values), [[3.0, 5.0]])
    gradient = jax.grad(lambda x: jnp.sum(maximum_over(x) * jnp.array([[1.0, 10.0]])))(values)
    np.testing.assert_array_equal(gradient, [[[0, 10.0], [1.0, 0], [0, 0]]])


def test_pooling_leaves_out_a_rest_shorter_than_the_window():
    values = jnp.arange(7.0)[None, :, None]
    np.testing.assert_array_equal(MaxPool(3)(values, Pass())[0, :, 0], [2.0, 5.0])


def test_attention_starts_as_a_mean_and_finds_the_position_that_its_scores_name():
    features = jax.random.normal(jax.random.key(0), (2, 9, 6))
    pooling = GlobalPooling.create(("attention",), 6, 0, 2)
    np.testing.assert_allclose(pooling(features, Pass()), features.mean(axis=1), atol=1e-6)
    # The first head looks for a large first feature, the second for a small last one.
    scores = jnp.zeros((6, 2)).at[0, 0].set(1e4).at[5, 1].set(-1e4)
    found = eqx.tree_at(lambda tree: tree.attention, pooling, scores)(features, Pass())
    rows = jnp.arange(2)
    np.testing.assert_allclose(found[:, :3], features[rows, features[:, :, 0].argmax(1), :3], atol=1e-6)
    np.testing.assert_allclose(found[:, 3:], features[rows, features[:, :, 5].argmin(1), 3:], atol=1e-6)
    assert pooling(features.astype(jnp.bfloat16), Pass()).dtype == jnp.bfloat16


def test_heads_that_do_not_divide_the_features_are_refused():
    with pytest.raises(ValueError, match="attention_heads = 8 does not divide the 12 features"):
        ModelConfig(body_filters=12, pooling=("attention",))
    assert ModelConfig(architecture="motif", num_filters=16, body_filters=12, pooling=("attention",)).num_features == 16
    # Where there is no attention, its heads are not read.
    assert ModelConfig(body_filters=12).num_features == 12


@pytest.mark.parametrize("architecture", ["residual", "convnext"])
def test_networks_can_be_wide(architecture: str):
    config = ModelConfig(architecture=architecture, num_filters=256, body_filters=256, pooling=("mean", "attention"))
    network = _network(config)
    shapes = jax.eval_shape(lambda: network(one_hot(_codes()), Pass(method="winograd"))[0])
    assert shapes.shape == (6, 2)
    assert count_parameters(network) > 3e5


def test_settings_that_a_network_does_not_use_do_not_describe_it():
    plain = ModelConfig().describe_network()
    assert ModelConfig(blocks=7, attention_heads=4).describe_network() == plain
    assert ModelConfig(architecture="convnext", blocks=7).describe_network()["blocks"] == 7
    assert ModelConfig(pooling=("attention",), attention_heads=4).describe_network()["attention_heads"] == 4


def test_position_weights_start_as_a_plain_mean_and_bumps_cover_the_sequence():
    weighted = _network(ModelConfig(**{**SMALL, "position_basis": 5}))
    plain = _network(ModelConfig(**{**SMALL, "position_basis": 0}))
    codes = _codes()
    np.testing.assert_allclose(_apply(weighted, codes, Pass())[0], _apply(plain, codes, Pass())[0], atol=1e-6)
    assert position_bumps(50, 5).sum(1).min() > 1.0


def test_n_is_four_zeros_and_bases_are_in_order():
    np.testing.assert_array_equal(one_hot(jnp.arange(5, dtype=jnp.uint8)), np.eye(5, 4))


def test_reverse_complement_twice_is_the_identity():
    codes = _codes()
    np.testing.assert_array_equal(reverse_complement(reverse_complement(codes)), codes)
    np.testing.assert_array_equal(reverse_complement(jnp.array([0, 1, 4], jnp.uint8)), [4, 2, 3])


@pytest.mark.parametrize(("offset", "expected"), [(0, [0, 1, 2, 3]), (1, [4, 0, 1, 2]), (-2, [2, 3, 4, 4])])
def test_shift_fills_with_n(offset: int, expected: list[int]):
    np.testing.assert_array_equal(shift(jnp.arange(4, dtype=jnp.uint8), jnp.int32(offset)), expected)


def test_mutation_changes_the_share_asked_for_and_never_an_n():
    codes = jnp.asarray(np.random.default_rng(0).integers(0, 5, 20_000, np.uint8))
    changed = np.asarray(mutate(codes, 0.25, jax.random.key(0)))
    known = np.asarray(codes) < 4
    assert (changed[~known] == 4).all()
    assert changed[known].max() < 4
    assert abs((changed != np.asarray(codes))[known].mean() - 0.25) < 0.02


def test_first_layer_filters_are_in_the_order_of_the_field():
    network = _network(ARCHITECTURES[0])
    filters = first_layer_filters(network)
    assert filters.shape == (8, 7, 4)
    np.testing.assert_array_equal(filters[3, 2], np.asarray(network.motifs.convolution.weight)[2, :, 3])


def test_too_short_sequences_are_refused():
    with pytest.raises(InputError, match="10 bp long, shorter than the first layer needs"):
        build_model(ModelConfig(filter_width_bp=15), 1, 10, np.random.default_rng(0))
