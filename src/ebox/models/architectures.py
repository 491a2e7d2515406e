"""From settings to a network: `motif`, one layer of detectors; `residual` and `convnext` also read their grammar."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ebox.errors import InputError
from ebox.models.layers import Convolution, Dense, Depthwise, draw_weights
from ebox.models.network import Block, Head, MotifLayer, Network
from ebox.models.normalisation import BatchNorm
from ebox.models.pooling import GlobalPooling
from ebox.settings.reading import ModelConfig

BODY_DILATED_WIDTH = 3


def build_model(config: ModelConfig, num_tracks: int, length_bp: int, rng: np.random.Generator) -> Network:
    """Draw a network with fresh weights.

    Args:
        config: Its settings.
        num_tracks: Number of logits.
        length_bp: Length of the sequences it will read; other lengths work too if they hold a whole pool.
        rng: Draws the weights.

    Raises:
        InputError: the sequences are too short for the filters or the pooling.
    """
    check_length(config, length_bp)
    motifs = MotifLayer(
        Convolution(
            draw_weights((config.filter_width_bp, 4, config.num_filters), rng), 1, config.read_strands == "both"
        ),
        _build_norm(config, config.num_filters),
        None if config.batch_norm else jnp.zeros(config.num_filters),
        config.pool_bp,
        config.activation,
    )
    body, channels = _build_body(config, rng), config.num_features
    pooling = GlobalPooling.create(config.pooling, channels, config.position_basis, config.attention_heads)
    return Network(motifs, body, pooling, _build_head(config, channels, num_tracks, rng))


def first_layer_filters(network: Network) -> Float[np.ndarray, "filter width 4"]:
    """The first layer's filters over A, C, G, T, as NumPy."""
    return np.asarray(network.motifs.convolution.weight, np.float32).transpose(2, 0, 1)


def rescale_logits(
    network: Network, scale: Float[np.ndarray, " track"], offset: Float[np.ndarray, " track"]
) -> Network:
    """The network whose logits are those of `network` times `scale` plus `offset`, track by track."""
    output = network.head.output
    assert output.bias is not None
    weight, bias = np.asarray(output.weight) * scale, np.asarray(output.bias) * scale + offset
    return eqx.tree_at(lambda tree: tree.head.output, network, Dense(jnp.asarray(weight), jnp.asarray(bias)))


def _build_norm(config: ModelConfig, channels: int) -> BatchNorm | None:
    return BatchNorm.create(channels) if config.batch_norm else None


def _build_body(
    config: ModelConfig, rng: np.random.Generator
) -> tuple[tuple[Convolution, BatchNorm | None] | Block, ...]:
    if config.architecture == "convnext":
        return _build_blocks(config, rng)
    return _build_layers(config, rng) if config.architecture == "residual" else ()


def _build_layers(config: ModelConfig, rng: np.random.Generator) -> tuple[tuple[Convolution, BatchNorm | None], ...]:
    """One convolution over pooled positions, then one dilated one for each entry of `dilations`."""
    filters = config.num_features
    plan = [(config.body_width, 1), *((BODY_DILATED_WIDTH, dilation) for dilation in config.dilations)]
    channels, layers = config.num_filters, []
    for width, dilation in plan:
        convolution = Convolution(draw_weights((width, channels, filters), rng), dilation)
        layers.append((convolution, _build_norm(config, filters)))
        channels = filters
    return tuple(layers)


def _build_blocks(config: ModelConfig, rng: np.random.Generator) -> tuple[Block, ...]:
    """Blocks over pooled positions; where the body has another number of filters, the first one changes it."""
    channels, blocks = config.num_filters, []
    for _ in range(config.blocks):
        depthwise = Depthwise(draw_weights((config.block_width, channels), rng, 1.0))
        middle = config.expansion * channels
        expand = Convolution(draw_weights((1, channels, middle), rng))
        contract = Convolution(draw_weights((1, middle, config.num_features), rng, 1.0))
        blocks.append(Block(depthwise, _build_norm(config, channels), expand, contract))
        channels = config.num_features
    return tuple(blocks)


def _build_head(config: ModelConfig, channels: int, num_tracks: int, rng: np.random.Generator) -> Head:
    inputs, hidden = channels * len(config.pooling), []
    for units in config.dense_units:
        bias = None if config.batch_norm else jnp.zeros(units)
        hidden.append((Dense(draw_weights((inputs, units), rng), bias), _build_norm(config, units)))
        inputs = units
    return Head(tuple(hidden), Dense(draw_weights((inputs, num_tracks), rng, 1.0), jnp.zeros(num_tracks)))


def check_length(config: ModelConfig, length_bp: int) -> None:
    """Raise InputError when sequences are too short for the first layer."""
    least = max(config.filter_width_bp, config.pool_bp)
    if length_bp < least:
        raise InputError(
            f"the sequences are {length_bp} bp long, shorter than the first layer needs ({least} bp)",
            remedy="set model.filter_width_bp and model.pool_bp smaller, or use longer sequences",
        )
