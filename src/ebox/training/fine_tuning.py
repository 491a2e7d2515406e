"""Training that begins with a trained network: what is taken over, and how fast each layer is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from ebox.mesh.devices import choose_convolution
from ebox.models.encoding import one_hot, reverse_complement
from ebox.models.ensemble import join_outputs, split_outputs
from ebox.models.files import load_model
from ebox.models.network import Network, apply_moments, fix_moments, is_trainable
from ebox.models.normalisation import Moments
from ebox.models.passes import ConvolutionMethod, Pass
from ebox.settings.reading import Config, TransferConfig
from ebox.training.sampling import PADDING_ROW, ExampleOrder
from ebox.training.state import LayerRates

# Examples whose statistics stand for those of all.
ESTIMATED_EXAMPLES = 2048

# A layer: the beginning of the path to its arrays, such as ("body", "0").
Layer = tuple[str, ...]
ABOVE_BODY = ("pooling", "head")


@dataclass(frozen=True)
class Beginning:
    """The network before the first step, and the rates of its layers."""

    network: Network
    layers: LayerRates


def begin_from_source(
    fresh: Network, config: Config, codes: UInt8[np.ndarray, "row length"], order: ExampleOrder, num_steps: int
) -> Beginning:
    """Take over the network of `transfer.source`, in the shape of a fresh one.

    Args:
        fresh: A network of the same settings, with weights drawn anew.
        config: The settings; `transfer.fresh` says which layers are drawn anew.
        codes: The training examples, from which statistics are estimated where that is asked for.
        order: Their order.
        num_steps: Number of steps of the whole training.

    Raises:
        InputError: there is no trained network.
    """
    transfer = config.transfer
    assert transfer.source is not None
    assert transfer.fresh != "auto"
    source = load_model(Path(transfer.source)).network
    assert isinstance(source, Network)
    network = replace_fresh(_on_device(source), fresh, transfer.fresh)
    if transfer.statistics == "estimate":
        network = _estimate_moments(network, config, codes, order)
    if transfer.statistics != "move":
        network = _fix_taken(network, transfer.fresh)
    return Beginning(network, rate_layers(network, transfer, num_steps))


def replace_fresh(source: Network, fresh: Network, parts: str | None) -> Network:
    """The source's network with the fresh one's output or head (`parts`: output, head; none: neither).

    Outputs that the source lacks, such as those of the spread in a distillation, are the fresh ones.
    """
    if parts is None:
        more = fresh.num_outputs > source.num_outputs
        return join_outputs(source, split_outputs(fresh, source.num_outputs)[1]) if more else source
    if parts == "output":
        return eqx.tree_at(lambda tree: tree.head.output, source, fresh.head.output)
    return eqx.tree_at(lambda tree: tree.head, source, fresh.head)


def list_layers(network: Network) -> list[Layer]:
    """The layers with weights, from the sequence to the output."""
    weights = eqx.filter(network, is_trainable(network))
    return list(dict.fromkeys(_find_layer(path) for path, _ in jax.tree_util.tree_leaves_with_path(weights)))


def is_frozen(layer: Layer, freeze: str | None) -> bool:
    """Whether a layer stays as it is, with `transfer.freeze`."""
    return {None: False, "motifs": layer[0] == "motifs", "body": layer[0] not in ABOVE_BODY}[freeze]


def is_fresh(layer: Layer, parts: str | None) -> bool:
    """Whether a layer is drawn anew, with `transfer.fresh`."""
    return layer[0] == "head" and (parts == "head" or (parts == "output" and layer[1] == "output"))


def rate_layers(network: Network, transfer: TransferConfig, num_steps: int) -> LayerRates:
    """The rate of each array of weights, and its first step; the depth of a layer is counted from the output.

    Args:
        network: The network before the first step.
        transfer: The settings.
        num_steps: Number of steps of the whole training.
    """
    layers = list_layers(network)
    depths = {layer: len(layers) - 1 - place for place, layer in enumerate(layers)}

    def rate(layer: Layer) -> float:
        if is_fresh(layer, transfer.fresh):
            return transfer.fresh_rate
        kept = is_frozen(layer, transfer.freeze)
        return 0.0 if kept else transfer.rate * transfer.rate_decay ** depths[layer]

    def begin(layer: Layer) -> int:
        if is_fresh(layer, transfer.fresh):
            return 0
        return math.ceil(transfer.unfreeze_share * num_steps * depths[layer] / max(len(layers) - 1, 1))

    weights = eqx.filter(network, is_trainable(network))

    def mark(of: Callable[[Layer], float]) -> Network:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: jnp.asarray(of(_find_layer(path)), jnp.float32), weights
        )

    return LayerRates(mark(rate), mark(begin))


def _find_layer(path: tuple[Any, ...]) -> Layer:
    """The layer of an array by its path: a member of a list of layers, or else a part of the network or of its head."""
    names = tuple(str(getattr(key, "name", getattr(key, "idx", key))) for key in path)
    listed = [place for place, key in enumerate(path) if isinstance(key, jax.tree_util.SequenceKey)]
    if listed:
        return names[: listed[0] + 1]
    return names[: 2 if names[0] == "head" else 1]


def _fix_taken(network: Network, parts: str | None) -> Network:
    """Keep the running moments of all layers that are taken over."""
    head = network.head
    fixed = fix_moments(network)
    return eqx.tree_at(lambda tree: tree.head, fixed, head) if parts == "head" else fixed


def _estimate_moments(network: Network, config: Config, codes: np.ndarray, order: ExampleOrder) -> Network:
    """Replace the running moments by those of training examples (Li 2018); the same in all processes."""
    method = choose_convolution(jax.local_devices()[0].platform)
    found: list[tuple[int, tuple[Moments, ...]]] = []
    for step in range(-(-ESTIMATED_EXAMPLES // order.batch_size)):
        rows = order.batch_rows(step)
        mask = rows != PADDING_ROW
        shown = jnp.asarray(codes[rows]), jnp.asarray(mask)
        seen = _see_moments(network, *shown, config.train.reverse_complement, method)
        found.append((int(mask.sum()), seen))
    return _on_all(apply_moments(network, _join(found), momentum=1.0))


@eqx.filter_jit
def _see_moments(
    network: Network, codes: Array, mask: Array, both: bool, method: ConvolutionMethod
) -> tuple[Moments, ...]:
    """What the normalisations see in a batch without noise, every other example on the other strand where `both`."""
    if both:
        flip = (jnp.arange(codes.shape[0]) % 2 == 1)[:, None]
        codes = jnp.where(flip, reverse_complement(codes), codes)
    keys = jax.random.split(jax.random.key(0), codes.shape[0])
    _, moments = network(one_hot(codes), Pass(keys, mask, method=method))
    return moments


def _join(found: list[tuple[int, tuple[Moments, ...]]]) -> tuple[Moments, ...]:
    """The moments of all batches together, weighted by their numbers of examples, in float64."""
    shares = np.array([count for count, _ in found], np.float64)
    shares /= shares.sum()
    joined = []
    for batches in zip(*(moments for _, moments in found), strict=True):
        means = np.stack([np.asarray(one.mean, np.float64) for one in batches])
        variances = np.stack([np.asarray(one.variance, np.float64) for one in batches])
        mean = shares @ means
        variance = shares @ (variances + (means - mean) ** 2)
        joined.append(Moments(jnp.asarray(mean, jnp.float32), jnp.asarray(variance, jnp.float32)))
    return tuple(joined)


def _on_device(network: Network) -> Network:
    """A copy with JAX's arrays."""
    arrays, static = eqx.partition(network, eqx.is_array)
    return eqx.combine(jax.tree.map(jnp.asarray, arrays), static)


def _on_all(network: Network) -> Network:
    """The network of the first process, in every process of a group."""
    if jax.process_count() == 1:
        return network
    from jax.experimental import multihost_utils

    arrays, static = eqx.partition(network, eqx.is_array)
    return eqx.combine(multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, arrays)), static)
