"""The exchange of gradients between the devices of a mesh: the interface, and its exact and its half form.

An exchange turns each device's share of a tree into the sum over all devices. A compressed one carries from step to
step what it has not sent yet (error feedback: Seide 2014, Karimireddy 2019), with one row for each device.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from typing_extensions import override

from ebox.mesh.collectives import Axis
from ebox.mesh.devices import DATA_AXIS, DEVICE_AXIS, NODE_AXIS

Tree = TypeVar("Tree")
Carried = Any
Vector = Float[Array, " number"]

DATA = Axis(DATA_AXIS)

# Gradients of a mean loss are about 1e-6 to 1; this brings them into the middle of float16's range.
HALF_SCALE = 1024.0
HALF_GREATEST = 65504.0


@dataclass(frozen=True)
class Message:
    """One collective of an exchange: its name, the bytes of what is exchanged, and the bytes that each worker sends.

    Except for swaps, the bytes sent are those of the ring algorithms (Patarasuk and Yuan 2009), the fewest possible:
    2 (n - 1) / n of the payload for an all-reduce, (n - 1) / n for its two halves and for an all-to-all.
    """

    collective: str
    payload_bytes: int
    sent_bytes: float


def sum_message(payload_bytes: int, workers: int, axis: Axis = DATA) -> Message:
    """The message of a sum over `workers`: an all-reduce, or swaps of the whole payload."""
    if axis.is_swapped(workers, payload_bytes):
        return Message("swaps", payload_bytes, float(payload_bytes * (workers.bit_length() - 1)))
    return Message("all-reduce", payload_bytes, 2 * payload_bytes * (workers - 1) / workers)


def half_message(collective: str, payload_bytes: int, workers: int) -> Message:
    """The message of a reduce-scatter, an all-gather or an all-to-all of `payload_bytes` in total."""
    return Message(collective, payload_bytes, payload_bytes * (workers - 1) / workers)


class Exchange(abc.ABC):
    """A way to sum trees over the devices; `reduce` and `reduce_beside` are called under `shard_map`."""

    workers: int
    axis: Axis
    # Whether it keeps what it did not send, and adds it to the next step.
    owes: ClassVar[bool] = False

    @abc.abstractmethod
    def start(self, like: Any) -> Carried:
        """What is carried into the first step, a row for each device (NumPy, leading axis `device`); None: nothing."""

    @abc.abstractmethod
    def reduce(self, share: Tree, carried: Carried) -> tuple[Tree, Carried]:
        """Sum the devices' shares; `carried` is this device's row, without its leading axis."""

    def reduce_beside(self, share: Tree, carried: Carried, beside: Vector) -> tuple[Tree, Carried, Vector]:
        """Sum the shares as `reduce` does, and a short vector exactly: in the same message if that is exact too."""
        return *self.reduce(share, carried), self.axis.sum(beside)

    @abc.abstractmethod
    def regroup(self, carried: Carried, like: Any) -> Carried:
        """Divide what another number of devices carried among the devices of this exchange; the sum stays the same."""

    @abc.abstractmethod
    def messages(self, like: Any) -> tuple[Message, ...]:
        """The collectives of one reduction between workers."""

    def messages_beside(self, like: Any, length: int) -> tuple[Message, ...]:
        """The collectives of one `reduce_beside` with a vector of `length`."""
        return (*self.messages(like), sum_message(4 * length, self.workers, self.axis))


class VectorExchange(Exchange):
    """An exchange that treats a whole tree as one vector, so that small tensors are sent in one message."""

    @override
    def reduce(self, share: Tree, carried: Carried) -> tuple[Tree, Carried]:
        vector, restore = ravel_pytree(share)
        total, carried = self.reduce_vector(vector, carried)
        return restore(total), carried

    @override
    def start(self, like: Any) -> Carried:
        return self.start_vector(count_numbers(like))

    @override
    def regroup(self, carried: Carried, like: Any) -> Carried:
        return self.regroup_vector(carried, count_numbers(like))

    @override
    def messages(self, like: Any) -> tuple[Message, ...]:
        return self.vector_messages(count_numbers(like))

    @abc.abstractmethod
    def reduce_vector(self, share: Vector, carried: Carried) -> tuple[Vector, Carried]:
        """Sum vectors over the devices."""

    @abc.abstractmethod
    def vector_messages(self, length: int) -> tuple[Message, ...]:
        """The collectives of one reduction of a vector."""

    def start_vector(self, length: int) -> Carried:
        """What is carried into the first step for a vector of `length`; None: nothing."""
        return None

    def regroup_vector(self, carried: Carried, length: int) -> Carried:
        """Divide what another number of devices carried, for a vector of `length`; nothing is carried by default."""
        return None


@dataclass(frozen=True)
class ExactExchange(VectorExchange):
    """An All-Reduce in float32."""

    workers: int
    axis: Axis = DATA

    @override
    def reduce_beside(self, share: Tree, carried: Carried, beside: Vector) -> tuple[Tree, Carried, Vector]:
        (total, summed), carried = self.reduce((share, beside), carried)
        return total, carried, summed

    @override
    def messages_beside(self, like: Any, length: int) -> tuple[Message, ...]:
        return self.vector_messages(count_numbers(like) + length)

    @override
    def reduce_vector(self, share: Vector, carried: Carried) -> tuple[Vector, Carried]:
        return self.axis.sum(share), carried

    @override
    def vector_messages(self, length: int) -> tuple[Message, ...]:
        return (sum_message(4 * length, self.workers, self.axis),)


@dataclass(frozen=True)
class HalfExchange(VectorExchange):
    """An All-Reduce in 16 bits: bfloat16, but float16 on CPU, where bfloat16 would be sent as float32.

    In float16 the shares are scaled, and cut where their sum could overflow.
    """

    workers: int
    bfloat16: bool
    axis: Axis = DATA

    @override
    def reduce_vector(self, share: Vector, carried: Carried) -> tuple[Vector, Carried]:
        if self.bfloat16:
            return self.axis.sum(share.astype(jnp.bfloat16)).astype(jnp.float32), carried
        # Rounded down, so that the sum stays in range. A number that isn't finite becomes NaN: the loop stops on it.
        greatest = float(np.nextafter(np.float16(HALF_GREATEST / self.workers), np.float16(0.0)))
        cut = jnp.clip(share * HALF_SCALE, -greatest, greatest)
        scaled = jnp.where(jnp.isfinite(share), cut, jnp.nan).astype(jnp.float16)
        return self.axis.sum(scaled).astype(jnp.float32) / HALF_SCALE, carried

    @override
    def vector_messages(self, length: int) -> tuple[Message, ...]:
        return (sum_message(2 * length, self.workers, self.axis),)


@dataclass(frozen=True)
class HierarchicalExchange(VectorExchange):
    """Exact inside a node, another exchange between nodes.

    Each device of a node gets a piece of the node's sum (reduce-scatter) and exchanges it with the devices that have
    the same piece on other nodes; then the pieces are joined (all-gather). A byte leaves a node once.

    Args:
        workers: Number of devices.
        node_devices: Devices of a node.
        between: The exchange between nodes.
        axis: How the devices reach each other.
    """

    workers: int
    node_devices: int
    between: VectorExchange
    axis: Axis = DATA

    @override
    def reduce_vector(self, share: Vector, carried: Carried) -> tuple[Vector, Carried]:
        length = share.shape[0]
        padded = jnp.pad(share, (0, self._piece(length) * self.node_devices - length))
        piece = jax.lax.psum_scatter(padded, DEVICE_AXIS, tiled=True)
        piece, carried = self.between.reduce_vector(piece, carried)
        return jax.lax.all_gather(piece, DEVICE_AXIS, tiled=True)[:length], carried

    @override
    def start_vector(self, length: int) -> Carried:
        """One row for each device: the devices of a node have different pieces."""
        rows = self.between.start_vector(self._piece(length))
        return jax.tree.map(lambda row: np.repeat(row, self.node_devices, axis=0), rows)

    @override
    def regroup_vector(self, carried: Carried, length: int) -> Carried:
        """Drop what was not sent yet: with other pieces it is not known which piece it belongs to."""
        return self.start_vector(length)

    @override
    def vector_messages(self, length: int) -> tuple[Message, ...]:
        """The collectives of one device between nodes."""
        return self.between.vector_messages(self._piece(length))

    def _piece(self, length: int) -> int:
        return -(-length // self.node_devices)


def count_numbers(tree: Any) -> int:
    """The number of numbers in a tree of arrays."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(tree))


def sum_over_nodes(vector: Vector, node_devices: int) -> Vector:
    """Sum a vector over the nodes, where all devices of a node have the same: each device sends one piece of it."""
    if node_devices == 1:
        return jax.lax.psum(vector, NODE_AXIS)
    length = vector.shape[0]
    piece = -(-length // node_devices)
    padded = jnp.pad(vector, (0, piece * node_devices - length))
    mine = jax.lax.dynamic_slice_in_dim(padded, jax.lax.axis_index(DEVICE_AXIS) * piece, piece)
    return jax.lax.all_gather(jax.lax.psum(mine, NODE_AXIS), DEVICE_AXIS, tiled=True)[:length]
