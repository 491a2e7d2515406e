"""The one pass is what its operations say: each is done again in NumPy, in float64, from its data alone."""

from __future__ import annotations

from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebox.models.architectures import build_model
from ebox.models.encoding import one_hot
from ebox.models.layers import (
    EXPONENT_LIMIT,
    Activation,
    BetterStrand,
    Convolution,
    Dense,
    Depthwise,
    Drop,
    MaxPool,
    Offset,
)
from ebox.models.network import Network
from ebox.models.normalisation import BATCH_NORM_EPSILON, BatchNorm
from ebox.models.passes import Pass
from ebox.models.pooling import GlobalPooling
from ebox.models.trace import Operation, trace
from ebox.settings.reading import ModelConfig

SMALL = {"num_filters": 8, "filter_width_bp": 7, "dense_units": (8,), "position_basis": 3}
NETWORKS = {
    "residual": ModelConfig(**SMALL),
    "motif": ModelConfig(architecture="motif", pooling=("max", "mean"), **SMALL),
    "even widths": ModelConfig(
        **{**SMALL, "filter_width_bp": 6, "body_width": 4, "pool_bp": 5, "activation": "gelu", "body_filters": 12}
    ),
    "no norm": ModelConfig(batch_norm=False, activation="relu", strands="both", pool_bp=1, pooling=("max",), **SMALL),
    "evidence": ModelConfig(
        architecture="motif", pooling=("log_mean_exp",), **{**SMALL, "activation": "linear", "dense_units": ()}
    ),
    "blocks": ModelConfig(
        architecture="convnext", blocks=2, block_width=6, pooling=("attention", "mean"), attention_heads=4, **SMALL
    ),
}


def moved_network(config: ModelConfig, length: int = 61) -> Network:
    """A network whose normalisations, offsets and position weights have something to do."""
    network = build_model(config, 2, length, np.random.default_rng(3))
    leaves, tree = jax.tree.flatten(eqx.filter(network, eqx.is_inexact_array))
    keys = jax.random.split(jax.random.key(4), len(leaves))
    moved = [leaf + 0.1 * jnp.abs(jax.random.normal(key, leaf.shape)) for leaf, key in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, moved), network)


def exactly(values: jax.Array) -> np.ndarray:
    return np.asarray(values, np.float64)


def convolve(operation: Convolution, values: np.ndarray) -> np.ndarray:
    weight, length = exactly(operation.weight), values.shape[1]
    if operation.both_strands:
        weight = np.concatenate([weight, weight[::-1, ::-1]], axis=2)
    padded = np.pad(values, ((0, 0), operation.padding, (0, 0)))
    starts = [tap * operation.dilation for tap in range(len(weight))]
    return sum(padded[:, start : start + length] @ taps for start, taps in zip(starts, weight, strict=True))


def slide(operation: Depthwise, values: np.ndarray) -> np.ndarray:
    padded = np.pad(values, ((0, 0), operation.padding, (0, 0)))
    taps = enumerate(exactly(operation.weight))
    return sum(padded[:, start : start + values.shape[1]] * weight for start, weight in taps)


def attend(pooling: GlobalPooling, values: np.ndarray) -> np.ndarray:
    batch, length, channels = values.shape
    masses = np.exp(values @ exactly(pooling.attention) / np.sqrt(channels))
    weights = masses / masses.sum(axis=1, keepdims=True)
    heads = values.reshape(batch, length, weights.shape[2], -1)
    return (weights[..., None] * heads).sum(axis=1).reshape(batch, channels)


def normalise(norm: BatchNorm, values: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(exactly(norm.running.variance) + BATCH_NORM_EPSILON)
    return (values - exactly(norm.running.mean)) / deviation * exactly(norm.scale) + exactly(norm.offset)


def pool(pooling: GlobalPooling, values: np.ndarray) -> np.ndarray:
    weights = 1.0
    if pooling.position is not None:
        centres = np.linspace(0.0, 1.0, len(pooling.position))
        away = (np.linspace(0.0, 1.0, values.shape[1])[:, None] - centres) * (len(centres) - 1)
        weights = 1.0 + np.exp(-0.5 * away**2) @ exactly(pooling.position)
    of = {
        "max": lambda: values.max(1),
        "mean": lambda: (values * weights).mean(1),
        "log_mean_exp": lambda: np.log(np.exp(values).mean(1)),
        "attention": lambda: attend(pooling, values),
    }
    return np.concatenate([of[kind]() for kind in pooling.kinds], axis=1)


def activate(kind: str, values: np.ndarray) -> np.ndarray:
    of = {
        "exponential": lambda: np.exp(np.minimum(values, EXPONENT_LIMIT)),
        "relu": lambda: np.maximum(values, 0.0),
        "gelu": lambda: 0.5 * values * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (values + 0.044715 * values**3))),
        "linear": lambda: values,
    }
    return of[kind]()


def do(operation: Operation, values: np.ndarray) -> np.ndarray:
    match operation:
        case Convolution():
            return convolve(operation, values)
        case Depthwise():
            return slide(operation, values)
        case BetterStrand():
            return values.reshape(*values.shape[:2], 2, -1).max(2)
        case MaxPool(width=width):
            windows = range(values.shape[1] // width)
            return np.stack([values[:, place * width : (place + 1) * width].max(1) for place in windows], axis=1)
        case BatchNorm():
            return normalise(operation, values)
        case Offset(values=offset):
            return values + exactly(offset)
        case Activation(kind=kind):
            return activate(kind, values)
        case Drop():
            return values
        case GlobalPooling():
            return pool(operation, values)
        case Dense(weight=weight, bias=bias):
            return values @ exactly(weight) + (0.0 if bias is None else exactly(bias))


def do_all(operations: Iterable[Operation], values: np.ndarray) -> np.ndarray:
    for operation in operations:
        values = do(operation, values)
    return values


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("even widths", "blocks") else name for name in NETWORKS],
)
def test_the_pass_is_what_its_operations_say(name: str):
    network, codes = moved_network(NETWORKS[name]), np.random.default_rng(0).integers(0, 5, (4, 61)).astype(np.uint8)
    inputs = one_hot(jnp.asarray(codes))
    stages = network.stages()
    found = trace(stages, inputs, Pass())

    def check(seen: jax.Array, expected: np.ndarray) -> None:
        np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-6 * float(np.abs(expected).max()))

    values = do_all([stages.scan], exactly(inputs))
    check(found.scanned, values)
    values = do_all(stages.motifs, values)
    check(found.features[0], values)
    for update, before, after in zip(stages.body, found.updates, found.features[1:], strict=True):
        linear = do_all(update.linear, values)
        check(before, linear)
        added = do_all([update.activation, *update.project], linear)
        values = values + added if added.shape == values.shape else added
        check(after, values)
    values = pool(stages.pooling, values)
    check(found.pooled, values)
    check(found.logits, do_all(stages.head, values))
    np.testing.assert_array_equal(network(inputs, Pass())[0], found.logits)
