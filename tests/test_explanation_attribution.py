"""Contributions: equal to the naive form, complete, independent of batches and devices, resumable; nothing at an N."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebox.evaluation.inference import ScoreJob, iter_batches, predict
from ebox.explanation.attribution import METHODS, Attributions, fit_batch, make_job, make_reader
from ebox.explanation.attribution import attribute as attribute_on
from ebox.explanation.gradient_methods import UNCUT, DeepLiftJob, rescale_rules
from ebox.explanation.saturation import SaturationJob
from ebox.mesh.devices import make_mesh
from ebox.models.architectures import build_model
from ebox.models.encoding import one_hot
from ebox.models.network import Network
from ebox.models.passes import Pass
from ebox.sequences import reverse_complement
from ebox.settings.reading import ExplanationConfig, ModelConfig

NETWORKS = {
    "default": ModelConfig(num_filters=8, dense_units=(8,)),
    "one layer": ModelConfig(
        architecture="motif", strands="one", num_filters=8, filter_width_bp=12, pool_bp=5, pooling=("max",)
    ),
    # Wide enough for the convolutions with fewer products.
    "both strands": ModelConfig(
        num_filters=64, strands="both", pooling=("max", "mean"), dilations=(3,), dense_units=(8,)
    ),
    "no norm": ModelConfig(num_filters=6, body_filters=5, batch_norm=False, activation="relu", pool_bp=1),
    "evidence": ModelConfig(
        architecture="motif",
        strands="one",
        num_filters=4,
        activation="linear",
        pooling=("log_mean_exp",),
        dense_units=(),
    ),
    "blocks": ModelConfig(
        architecture="convnext",
        num_filters=8,
        body_filters=6,
        blocks=2,
        block_width=4,
        pooling=("attention", "max"),
        attention_heads=3,
        dense_units=(8,),
    ),
}
SOME = [name if name in ("default", "evidence") else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
# Of what takes longest to compile, one.
FEW = [name if name == "one layer" else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
QUICK_METHODS = [pytest.param(name, marks=pytest.mark.slow) if name == "saturation" else name for name in METHODS]
QUICK = ExplanationConfig(num_references=4, batch_size=8)
# Compiling for eight devices takes long, and where devices are not the question it tells nothing.
ONE = make_mesh(jax.devices()[:1])


def attribute(*arguments: Any, **named: Any) -> Attributions:
    return attribute_on(*arguments, **{"mesh": ONE, **named})


def network_of(name: str, length: int = 61, tracks: int = 2) -> Network:
    """A network whose normalisations and position weights have something to do."""
    network = build_model(NETWORKS[name], tracks, length, np.random.default_rng(3))
    leaves, tree = jax.tree.flatten(eqx.filter(network, eqx.is_inexact_array))
    keys = jax.random.split(jax.random.key(4), len(leaves))
    moved = [leaf + 0.1 * jnp.abs(jax.random.normal(key, leaf.shape)) for leaf, key in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, moved), network)


def draw(count: int, length: int = 61, seed: int = 0, most: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, (count, length)).astype(np.uint8)


def mutate_naively(network: Network, codes: np.ndarray, both_strands: bool) -> np.ndarray:
    """The logits of every single-base change by as many whole passes."""
    count, length = codes.shape
    changed = np.repeat(codes[:, None], 4 * length, axis=1).reshape(count, length, 4, length).copy()
    for place in range(length):
        for base in range(4):
            changed[:, place, base, place] = base
    return predict(network, changed.reshape(-1, length), both_strands=both_strands).reshape(count, length, 4, -1)


@pytest.mark.parametrize("name", FEW)
def test_rules_of_propagation_change_no_output(name: str):
    network = network_of(name)
    inputs = one_hot(jnp.asarray(draw(6)))
    for method in ("winograd", "im2col", "native"):
        expected = network(inputs, Pass(method=method))[0]
        for rules in (UNCUT, rescale_rules(3)):
            found = network(inputs, Pass(method=method, rules=rules))[0]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FEW)
def test_changes_from_their_reach_equal_whole_passes(name: str):
    network, codes = network_of(name), draw(3)
    (_, result) = next(iter_batches(network, SaturationJob(1, True), lambda rows: (codes[rows],), 3, mesh=ONE))
    expected = mutate_naively(network, codes, True)[..., 1]
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(result["mutated"], expected, atol=1e-5 * scale)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("both_strands", [pytest.param(True, marks=pytest.mark.slow), False])
def test_deeplift_is_complete(name: str, both_strands: bool):
    config = ExplanationConfig(num_references=4, both_strands=both_strands)
    found = attribute(network_of(name), draw(6, most=5), config, 1)
    assert found.completeness_error() < 1e-4
    np.testing.assert_allclose(
        found.logit, predict(network_of(name), draw(6, most=5), both_strands=both_strands)[:, 1], atol=1e-4, rtol=1e-4
    )


@pytest.mark.slow
def test_integrated_gradients_become_complete_with_more_points():
    network, codes = network_of("default"), draw(6)
    errors = [
        attribute(network, codes, ExplanationConfig(num_references=2, num_steps=steps), 0, method="integrated")
        for steps in (2, 64)
    ]
    assert errors[1].completeness_error() < 0.02
    assert errors[1].completeness_error() < errors[0].completeness_error()


def test_all_methods_agree_on_a_linear_network():
    """One filter, no pooling, no nonlinearity but a mean: every method must give the weights."""
    config = ModelConfig(
        architecture="motif",
        strands="one",
        num_filters=3,
        filter_width_bp=1,
        activation="linear",
        pool_bp=1,
        position_basis=0,
        dense_units=(),
        batch_norm=False,
    )
    network, codes = build_model(config, 1, 20, np.random.default_rng(0)), draw(4, 20)
    weight = np.asarray(network.motifs.convolution.weight)[0] @ np.asarray(network.head.output.weight)[:, 0] / 20
    settings = ExplanationConfig(both_strands=False, num_references=50)
    for method in ("saturation", "gradient"):
        found = attribute(network, codes, settings, 0, method=method)
        np.testing.assert_allclose(found.hypothetical, np.broadcast_to(weight - weight.mean(), (4, 20, 4)), atol=1e-6)
        assert found.completeness_error() < 1e-4
    for method in ("deeplift", "integrated"):
        found = attribute(network, codes, settings, 0, method=method)
        references = make_reader(codes, settings, method)(slice(0, 4))[1]
        expected = weight - weight[references].mean(axis=1)[..., None]
        np.testing.assert_allclose(found.hypothetical, expected, atol=1e-6)


def explain_plainly(network: Network, codes: np.ndarray) -> np.ndarray:
    inputs = one_hot(jnp.asarray(codes))
    slopes = np.asarray(jax.grad(lambda inputs: network(inputs, Pass(method="winograd"))[0][:, 0].sum())(inputs))
    return slopes - slopes.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize("name", FEW)
def test_the_gradient_is_the_networks_own_where_nothing_is_cut(name: str):
    network, codes = network_of(name), draw(4)
    config = QUICK.model_copy(update={"both_strands": False})
    found = attribute(network, codes, config, 0, method="gradient")
    plain = explain_plainly(network, codes)
    np.testing.assert_allclose(found.hypothetical, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())
    np.testing.assert_allclose(found.logit, predict(network, codes, both_strands=False)[:, 0], rtol=1e-5, atol=1e-5)


def test_a_site_past_the_cut_of_the_exponential_still_counts():
    """One filter of a 4-bp word, whose site scores 8: past e^6 the network's own gradient is 0."""
    config = ModelConfig(
        architecture="motif",
        strands="one",
        num_filters=1,
        filter_width_bp=4,
        activation="exponential",
        pool_bp=1,
        position_basis=0,
        dense_units=(),
        batch_norm=False,
        pooling=("max",),
    )
    network, codes = build_model(config, 1, 20, np.random.default_rng(0)), np.full((1, 20), 3, np.uint8)
    codes[0, 8:12] = [0, 1, 2, 0]
    filters = 2.0 * np.eye(4, dtype=np.float32)[[0, 1, 2, 0]].reshape(network.motifs.convolution.weight.shape)
    network = eqx.tree_at(
        lambda tree: (tree.motifs.convolution.weight, tree.head.output.weight),
        network,
        (jnp.asarray(filters), jnp.ones_like(network.head.output.weight)),
    )
    assert not explain_plainly(network, codes).any()
    settings = QUICK.model_copy(update={"both_strands": False})
    found = attribute(network, codes, settings, 0, method="gradient").contributions()[0]
    np.testing.assert_allclose(found[8:12], 1.5 * np.exp(6.0), rtol=1e-4)
    assert not found[:8].any()
    assert not found[12:].any()


@pytest.mark.parametrize("method", QUICK_METHODS)
def test_both_strands_are_explained_alike(method: str):
    network, codes = network_of("default"), draw(4)
    there = attribute(network, codes, QUICK, 0, method=method)
    assert there.hypothetical.shape == (4, 61, 4)
    if method in ("saturation", "gradient"):
        back = attribute(network, np.ascontiguousarray(reverse_complement(codes)), QUICK, 0, method=method)
        np.testing.assert_allclose(back.hypothetical[:, ::-1, ::-1], there.hypothetical, atol=1e-4)


@pytest.mark.parametrize("method", QUICK_METHODS)
def test_an_n_gets_nothing(method: str):
    codes = draw(3)
    codes[:, 20:30] = 4
    found = attribute(network_of("default"), codes, QUICK, 0, method=method)
    assert not found.hypothetical[:, 20:30].any()
    assert not found.contributions()[:, 20:30].any()
    assert found.contributions()[:, :20].any()


@pytest.mark.parametrize("method", ["deeplift", pytest.param("saturation", marks=pytest.mark.slow)])
def test_batches_and_devices_change_nothing(method: str):
    network, codes = network_of("default"), draw(70, 40)
    one = attribute(network, codes, QUICK, 0, method=method, mesh=make_mesh(jax.devices()[:1]))
    config = QUICK.model_copy(update={"batch_size": 33})
    many = attribute(network, codes, config, 0, method=method, mesh=make_mesh(jax.devices()))
    # Logits of some hundreds may differ by two units in the last place; saturation takes differences of them.
    unit = np.spacing(np.abs(one.logit).max())
    atol = 4 * unit if method == "saturation" else 2e-5
    np.testing.assert_allclose(many.hypothetical, one.hypothetical, atol=atol)
    np.testing.assert_allclose(many.logit, one.logit, atol=2 * unit)


def test_batches_shrink_as_references_grow():
    config = ExplanationConfig()
    assert [fit_batch(config, "deeplift", length) for length in (100, 200, 400, 1500, 10**6)] == [64, 64, 32, 8, 1]
    assert fit_batch(config.model_copy(update={"num_references": 40}), "integrated", 200) == 16
    assert fit_batch(config, "gradient", 1500) == 64


def test_references_keep_dinucleotides_and_n():
    codes = draw(3, most=5)
    references = make_reader(codes, QUICK, "deeplift")(slice(0, 3))[1]
    assert references.shape == (3, 4, 61)
    for row, group in zip(codes, references, strict=True):
        assert (group[:, row == 4] == 4).all()
    clean = draw(2)
    for row, group in zip(clean, make_reader(clean, QUICK, "deeplift")(slice(0, 2))[1], strict=True):
        pairs = np.bincount(row[:-1] * 4 + row[1:], minlength=16)
        for reference in group:
            np.testing.assert_array_equal(np.bincount(reference[:-1] * 4 + reference[1:], minlength=16), pairs)


def test_an_interrupted_attribution_goes_on_to_the_same_end(tmp_path: Path):
    network, codes = network_of("default"), draw(100, 40)
    whole = attribute(network, codes, QUICK, 0)

    class StopError(Exception):
        pass

    def stop(phrase: str, done: int, total: int) -> None:
        if done >= 64:
            raise StopError

    import ebox.explanation.attribution as module

    module._FLUSH_SECONDS, before = 0.0, module._FLUSH_SECONDS
    try:
        with pytest.raises(StopError):
            attribute(network, codes, QUICK, 0, store=tmp_path / "s", progress=stop)
        seen: list[int] = []
        found = attribute(
            network, codes, QUICK, 0, store=tmp_path / "s", progress=lambda phrase, done, total: seen.append(done)
        )
    finally:
        module._FLUSH_SECONDS = before
    assert seen[0] > 8
    np.testing.assert_array_equal(found.hypothetical, whole.hypothetical)
    np.testing.assert_array_equal(found.codes, codes)


def test_a_store_of_other_settings_is_begun_anew(tmp_path: Path):
    network, codes = network_of("default"), draw(10, 40)
    first = attribute(network, codes, QUICK, 0, store=tmp_path / "s")
    kept = np.array(first.hypothetical)
    other = attribute(network, codes, QUICK.model_copy(update={"seed": 5}), 0, store=tmp_path / "s")
    assert np.abs(kept - other.hypothetical).max() > 1e-4


def test_jobs_are_keys_by_value():
    assert make_job("deeplift", QUICK, 1) == DeepLiftJob(1, True)
    assert hash(ScoreJob(True)) == hash(ScoreJob(True))
