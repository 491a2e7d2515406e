"""The two networks: `motif`, one layer of motif detectors, and `residual`, which also reads their grammar."""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ebox.errors import InputError
from ebox.models.layers import Convolution, Dense, activate, convolve, max_pool
from ebox.models.network import Network, Pass, Recorder
from ebox.models.normalisation import BatchNorm, Moments, per_channel
from ebox.models.pooling import GlobalPooling
from ebox.settings.reading import ModelConfig

BODY_DILATED_WIDTH = 3


class MotifLayer(eqx.Module):
    """Filters over bases: convolution, optional reading of both strands, pooling, normalisation, activation."""

    convolution: Convolution
    norm: BatchNorm | None
    offset: Float[Array, " filter"] | None  # only without a normalisation, which has its own
    pool_bp: int = eqx.field(static=True)
    both_strands: bool = eqx.field(static=True)
    activation: Literal["exponential", "relu", "gelu", "linear"] = eqx.field(static=True)

    def __call__(self, inputs: Float[Array, "batch length 4"], this: Pass, record: Recorder) -> Array:
        """Give the activations, `(batch, length / pool_bp, filter)`; pooling first is exact, activations rise."""
        features = max_pool(self._scan(inputs, this), self.pool_bp)
        features = record.normalise(self.norm, features)
        if self.offset is not None:
            features = features + per_channel(self.offset, features)
        return this.drop(activate(features, self.activation), this.filter_dropout, 0)

    def _scan(self, inputs: Array, this: Pass) -> Array:
        """Score every position, on the better strand where both are read."""
        weight = self.convolution.weight.astype(inputs.dtype)
        if not self.both_strands:
            return convolve(inputs, weight, 1, this.method)
        strands = jnp.concatenate([weight, weight[::-1, ::-1]], axis=-1)
        forward, backward = jnp.split(convolve(inputs, strands, 1, this.method), 2, axis=-1)
        return jnp.maximum(forward, backward)


class Head(eqx.Module):
    """Dense layers on the pooled features, then one logit a track."""

    hidden: tuple[tuple[Dense, BatchNorm | None], ...]
    output: Dense

    def __call__(self, features: Float[Array, "batch pooled"], this: Pass, record: Recorder) -> Array:
        """Give float32 logits."""
        features = this.drop(features, this.dropout, 1)
        for number, (dense, norm) in enumerate(self.hidden):
            features = jax.nn.relu(record.normalise(norm, dense(features)))
            features = this.drop(features, this.dropout, 2 + number)
        return self.output(features).astype(jnp.float32)


class MotifNetwork(Network):
    """Motif detectors, global pooling, dense head: finds motifs anywhere, blind to their order."""

    motifs: MotifLayer
    pooling: GlobalPooling
    head: Head

    def __call__(
        self, inputs: Float[Array, "batch length 4"], this: Pass
    ) -> tuple[Float[Array, "batch track"], tuple[Moments, ...]]:
        """See `Network`."""
        record = Recorder(this)
        features = self.motifs(inputs.astype(this.dtype), this, record)
        logits = self.head(self.pooling(features), this, record)
        return logits, tuple(record.moments)


class ResidualNetwork(Network):
    """Motif detectors, a body of dilated residual convolutions that sees their order and spacing, pooling, head."""

    motifs: MotifLayer
    body: tuple[tuple[Convolution, BatchNorm | None], ...]
    pooling: GlobalPooling
    head: Head

    def __call__(
        self, inputs: Float[Array, "batch length 4"], this: Pass
    ) -> tuple[Float[Array, "batch track"], tuple[Moments, ...]]:
        """See `Network`."""
        record = Recorder(this)
        features = self.motifs(inputs.astype(this.dtype), this, record)
        for convolution, norm in self.body:
            update = jax.nn.relu(record.normalise(norm, convolution(features, this.method)))
            features = features + update if update.shape == features.shape else update
        logits = self.head(self.pooling(features), this, record)
        return logits, tuple(record.moments)


def build_model(config: ModelConfig, num_tracks: int, length_bp: int, rng: np.random.Generator) -> Network:
    """Draw a network with fresh weights.

    Args:
        config: Its settings.
        num_tracks: Logits to give.
        length_bp: Length of the sequences it will read; other lengths work too where they hold a whole pool.
        rng: Draws the weights.

    Raises:
        InputError: the sequences are too short for the filters or the pooling.
    """
    check_length(config, length_bp)
    motifs = MotifLayer(
        Convolution.create(config.filter_width_bp, 4, config.num_filters, rng),
        BatchNorm.create(config.num_filters) if config.batch_norm else None,
        None if config.batch_norm else jnp.zeros(config.num_filters),
        config.pool_bp,
        config.read_strands == "both",
        config.activation,
    )
    channels = config.num_filters
    if config.architecture == "motif":
        pooling = GlobalPooling.create(config.pooling, channels, config.position_basis)
        return MotifNetwork(motifs, pooling, _build_head(config, channels, num_tracks, rng))
    body = _build_body(config, rng)
    channels = config.num_filters if config.body_filters is None else config.body_filters
    pooling = GlobalPooling.create(config.pooling, channels, config.position_basis)
    return ResidualNetwork(motifs, body, pooling, _build_head(config, channels, num_tracks, rng))


def first_layer_filters(network: Network) -> Float[np.ndarray, "filter width 4"]:
    """The first layer's filters over A, C, G, T, as NumPy."""
    if not isinstance(network, MotifNetwork | ResidualNetwork):
        raise TypeError(f"{type(network).__name__} has no layer of motif filters")
    return np.asarray(network.motifs.convolution.weight, np.float32).transpose(2, 0, 1)


def rescale_logits(
    network: Network, scale: Float[np.ndarray, " track"], offset: Float[np.ndarray, " track"]
) -> Network:
    """The network whose logits are those of `network` times `scale` plus `offset`, track by track."""
    if not isinstance(network, MotifNetwork | ResidualNetwork):
        raise TypeError(f"{type(network).__name__} has no head")
    output = network.head.output
    assert output.bias is not None
    weight, bias = np.asarray(output.weight) * scale, np.asarray(output.bias) * scale + offset
    return eqx.tree_at(lambda this: this.head.output, network, Dense(jnp.asarray(weight), jnp.asarray(bias)))


def _build_body(config: ModelConfig, rng: np.random.Generator) -> tuple[tuple[Convolution, BatchNorm | None], ...]:
    """One convolution over pooled positions, then one dilated one for each entry of `dilations`."""
    filters = config.num_filters if config.body_filters is None else config.body_filters
    plan = [(config.body_width, 1), *((BODY_DILATED_WIDTH, dilation) for dilation in config.dilations)]
    channels, layers = config.num_filters, []
    for width, dilation in plan:
        convolution = Convolution.create(width, channels, filters, rng, dilation=dilation)
        layers.append((convolution, BatchNorm.create(filters) if config.batch_norm else None))
        channels = filters
    return tuple(layers)


def _build_head(config: ModelConfig, channels: int, num_tracks: int, rng: np.random.Generator) -> Head:
    inputs, hidden = channels * len(config.pooling), []
    for units in config.dense_units:
        norm = BatchNorm.create(units) if config.batch_norm else None
        hidden.append((Dense.create(inputs, units, rng, bias=norm is None), norm))
        inputs = units
    return Head(tuple(hidden), Dense.create(inputs, num_tracks, rng, gain=1.0))


def check_length(config: ModelConfig, length_bp: int) -> None:
    """Raise InputError when sequences are too short for the first layer."""
    least = max(config.filter_width_bp, config.pool_bp)
    if length_bp < least:
        raise InputError(
            f"the sequences are {length_bp} bp long, shorter than the first layer needs ({least} bp)",
            remedy="set model.filter_width_bp and model.pool_bp smaller, or use longer sequences",
        )
