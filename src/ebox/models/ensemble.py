"""Several networks of one shape as one: the mean of their logits, and how far they spread; and one network of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ebox.models.architectures import first_layer_filters, rescale_logits
from ebox.models.layers import Dense
from ebox.models.network import Network, count_parameters
from ebox.models.normalisation import Moments
from ebox.models.passes import Pass


class Ensemble(eqx.Module):
    """Networks of one shape, whose logits are averaged (Lakshminarayanan 2017).

    `stacked` is one network whose arrays have the members as a first axis, so that one compiled pass serves all.
    """

    stacked: Network

    @staticmethod
    def of(members: Sequence[Network]) -> Ensemble:
        """Put networks of one shape together."""
        parts = [eqx.partition(member, eqx.is_array) for member in members]
        arrays = jax.tree.map(
            lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *(one for one, _ in parts)
        )
        return Ensemble(eqx.combine(arrays, parts[0][1]))

    @property
    def num_members(self) -> int:
        """How many networks there are."""
        return int(jax.tree.leaves(eqx.filter(self.stacked, eqx.is_array))[0].shape[0])

    @property
    def members(self) -> tuple[Network, ...]:
        """The networks, one by one."""
        arrays, static = eqx.partition(self.stacked, eqx.is_array)
        rows = [jax.tree.map(lambda leaf, place=place: leaf[place], arrays) for place in range(self.num_members)]
        return tuple(eqx.combine(row, static) for row in rows)

    def over_members(self, function: Callable[[Network], Any]) -> Any:
        """What a function gives for each member, stacked; one member after another, so that one fits the memory."""
        arrays, static = eqx.partition(self.stacked, eqx.is_array)
        return jax.lax.map(lambda row: function(eqx.combine(row, static)), arrays)

    def logits_of_members(
        self, inputs: Float[Array, "batch length 4"], a_pass: Pass
    ) -> Float[Array, "member batch track"]:
        """The float32 logits of every member."""
        logits: Array = self.over_members(lambda member: member(inputs, a_pass)[0])
        return logits

    def __call__(
        self, inputs: Float[Array, "batch length 4"], a_pass: Pass
    ) -> tuple[Float[Array, "batch track"], tuple[Moments, ...]]:
        """The mean logits of the members; no moments, since an ensemble is not trained as a whole."""
        return self.logits_of_members(inputs, a_pass).mean(axis=0), ()


AnyNetwork = Network | Ensemble
SomeNetwork = TypeVar("SomeNetwork", Network, Ensemble)


def list_members(network: AnyNetwork) -> tuple[Network, ...]:
    """The networks that a model consists of."""
    return network.members if isinstance(network, Ensemble) else (network,)


def count_all_parameters(network: AnyNetwork) -> int:
    """The number of trained weights, of all members together."""
    return sum(count_parameters(member) for member in list_members(network))


def all_filters(network: AnyNetwork) -> Float[np.ndarray, "filter width 4"]:
    """The first layer's filters over A, C, G, T, of one member after another."""
    return np.concatenate([first_layer_filters(member) for member in list_members(network)])


@overload
def rescale(network: Network, scale: np.ndarray, offset: np.ndarray) -> Network: ...
@overload
def rescale(network: Ensemble, scale: np.ndarray, offset: np.ndarray) -> Ensemble: ...
def rescale(network: AnyNetwork, scale: Float[np.ndarray, " track"], offset: Float[np.ndarray, " track"]) -> AnyNetwork:
    """The network whose logits are those of `network` times `scale` plus `offset`; so are those of all members."""
    if isinstance(network, Ensemble):
        return Ensemble.of([rescale_logits(member, scale, offset) for member in network.members])
    return rescale_logits(network, scale, offset)


def split_outputs(network: Network, num_tracks: int) -> tuple[Network, Network]:
    """Two networks that differ in their outputs alone: the first `num_tracks` logits, and the others."""
    weight, bias = _output_arrays(network)

    def with_columns(columns: slice) -> Network:
        return eqx.tree_at(lambda tree: tree.head.output, network, Dense(weight[:, columns], bias[columns]))

    return with_columns(slice(None, num_tracks)), with_columns(slice(num_tracks, None))


def join_outputs(first: Network, second: Network) -> Network:
    """The network that `split_outputs` took apart."""
    parts = _output_arrays(first), _output_arrays(second)
    weight = jnp.concatenate([one for one, _ in parts], axis=1)
    output = Dense(weight, jnp.concatenate([bias for _, bias in parts]))
    return eqx.tree_at(lambda tree: tree.head.output, first, output)


def _output_arrays(network: Network) -> tuple[Array, Array]:
    output = network.head.output
    assert output.bias is not None
    return jnp.asarray(output.weight), jnp.asarray(output.bias)
