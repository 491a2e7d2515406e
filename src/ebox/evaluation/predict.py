"""Batched inference: the one `predict` that evaluation, scanning and explanation call."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8

from ebox.config import ParallelConfig
from ebox.models.encoding import one_hot, reverse_complement
from ebox.models.network import Network, Pass
from ebox.parallel.devices import DATA_AXIS, choose_convolution, find_local_devices, make_mesh, replicate
from ebox.sequences.codes import N_CODE

Progress = Callable[[str, int, int], None]


def predict(
    network: Network,
    codes: UInt8[np.ndarray, "example length"],
    *,
    both_strands: bool = True,
    batch_size: int = 512,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Float[np.ndarray, "example track"]:
    """Give the logits of sequences, in float32, data-parallel over the devices of a mesh.

    Args:
        network: A trained network.
        codes: Base codes (A, C, G, T = 0 to 3, N = 4), in memory or memory-mapped.
        both_strands: Average the logits of the sequence and of its reverse complement.
        batch_size: Sequences a call over all devices; rounded up to a whole share for each.
        mesh: The devices; none: all local ones.
        progress: Called with a phrase, the number done, and the number in all.
    """
    mesh = make_mesh(find_local_devices(ParallelConfig())) if mesh is None else mesh
    batch = -(-min(batch_size, max(len(codes), 1)) // mesh.size) * mesh.size
    arrays, static = eqx.partition(network, eqx.is_array)
    forward = _build_forward(_Hashable(static), mesh, both_strands)
    arrays = replicate(arrays, mesh)
    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    waiting: tuple[int, Array] | None = None
    parts: list[np.ndarray] = []
    for first in range(0, max(len(codes), 1), batch):
        block = np.full((batch, codes.shape[1]), N_CODE, np.uint8)
        count = len(codes[first : first + batch])
        block[:count] = codes[first : first + batch]
        logits = forward(arrays, jax.device_put(block, sharding))
        # Fetched one batch late, so that the next is prepared while the device computes.
        _collect(waiting, parts)
        waiting = (count, logits)
        if progress is not None:
            progress("predicting", min(first + batch, len(codes)), len(codes))
    _collect(waiting, parts)
    return np.concatenate(parts)


def _collect(waiting: tuple[int, Array] | None, parts: list[np.ndarray]) -> None:
    if waiting is not None:
        count, logits = waiting
        parts.append(np.asarray(logits, np.float32)[:count])


class _Hashable:
    """A pytree's static part as a cache key: equal when the trees are."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        leaves, structure = jax.tree.flatten(tree)
        self._key = (structure, tuple(leaves))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and self._key == other._key


@lru_cache(maxsize=16)
def _build_forward(static: _Hashable, mesh: Mesh, both_strands: bool) -> Callable[[Any, Array], Array]:
    """Compile the pass over one batch; float32, also on accelerators, so that a score does not depend on the device."""
    method = choose_convolution(mesh.devices.flat[0].platform)

    def score(network: Network, codes: Array) -> Array:
        with jax.default_matmul_precision("highest"):
            logits, _ = network(one_hot(codes), Pass(method=method))
        return logits

    def run(arrays: Any, codes: Array) -> Array:
        network = eqx.combine(arrays, static.tree)
        logits = score(network, codes)
        return 0.5 * (logits + score(network, reverse_complement(codes))) if both_strands else logits

    sharded = PartitionSpec(DATA_AXIS)
    local = jax.shard_map(run, mesh=mesh, in_specs=(PartitionSpec(), sharded), out_specs=sharded, check_vma=False)
    return jax.jit(local)
