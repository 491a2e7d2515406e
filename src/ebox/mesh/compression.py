"""Exchanges that send fewer bytes and remember what they left out: 8-bit numbers, or only the greatest numbers.

Both are a reduce-scatter and an all-gather: each worker owns one piece of the vector, gets the share of it from every
worker, sums, and sends the sum to all. So the bytes that a worker sends don't grow with the number of workers. Both
messages are compressed, and both senders remember their error: the worker that of its share, the owner that of the sum.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, UInt8
from typing_extensions import override

from ebox.mesh.collectives import Axis
from ebox.mesh.exchange import DATA, Carried, Message, Vector, VectorExchange, half_message

INT8_BLOCK = 512


class Residuals(eqx.Module):
    """What was not sent yet: of this worker's shares, and of the sums that it owns."""

    share: Float[Array | np.ndarray, "*device padded"]
    owned: Float[Array | np.ndarray, "*device piece"]


@dataclass(frozen=True)
class CompressedExchange(VectorExchange):
    """What the compressed exchanges share: pieces, owners and error feedback."""

    workers: int
    axis: Axis = DATA
    owes: ClassVar[bool] = True

    @abc.abstractmethod
    def piece_length(self, length: int) -> int:
        """How many numbers of a vector of `length` each worker owns."""

    @abc.abstractmethod
    def encode(self, pieces: Float[Array, "piece number"]) -> UInt8[Array, "piece byte"]:
        """Compress each row to bytes."""

    @abc.abstractmethod
    def decode(self, message: UInt8[Array, "piece byte"], length: int) -> Float[Array, "piece number"]:
        """Turn bytes back into rows; what was not sent is 0."""

    @abc.abstractmethod
    def encoded_bytes(self, piece: int) -> int:
        """The bytes of a compressed piece of `piece` numbers."""

    @override
    def reduce_vector(self, share: Vector, carried: Carried) -> tuple[Vector, Carried]:
        length, piece = share.shape[0], self.piece_length(share.shape[0])
        wanted = jnp.pad(share, (0, piece * self.workers - length)) + carried.share
        message = self.encode(wanted.reshape(self.workers, piece))
        left = wanted - self.decode(message, piece).reshape(-1)
        received = jax.lax.all_to_all(message, self.axis.name, 0, 0, tiled=True)
        total = self.decode(received, piece).sum(axis=0) + carried.owned
        sent = self.encode(total[None])
        owned_left = total - self.decode(sent, piece)[0]
        everything = jax.lax.all_gather(sent[0], self.axis.name)
        return self.decode(everything, piece).reshape(-1)[:length], Residuals(left, owned_left)

    @override
    def start_vector(self, length: int) -> Residuals:
        piece = self.piece_length(length)
        share = np.zeros((self.workers, piece * self.workers), np.float32)
        return Residuals(share, np.zeros((self.workers, piece), np.float32))

    @override
    def regroup_vector(self, carried: Carried, length: int) -> Residuals:
        owned = np.asarray(carried.owned).reshape(-1)[:length]
        total = np.asarray(carried.share).sum(axis=0)[:length] + owned
        fresh = self.start_vector(length)
        rows = np.broadcast_to(total / self.workers, (self.workers, length))
        share = np.pad(rows, ((0, 0), (0, fresh.share.shape[1] - length))).astype(np.float32)
        return Residuals(share, fresh.owned)

    @override
    def vector_messages(self, length: int) -> tuple[Message, ...]:
        payload = self.workers * self.encoded_bytes(self.piece_length(length))
        return tuple(half_message(name, payload, self.workers) for name in ("all-to-all", "all-gather"))


@dataclass(frozen=True)
class Int8Exchange(CompressedExchange):
    """Numbers as 8 bits and one float32 scale for each block, with error feedback."""

    block: int = INT8_BLOCK

    @override
    def piece_length(self, length: int) -> int:
        """How many numbers each worker owns: whole blocks."""
        return -(-length // (self.workers * self.block)) * self.block

    @override
    def encode(self, pieces: Float[Array, "piece number"]) -> UInt8[Array, "piece byte"]:
        blocks = pieces.reshape(pieces.shape[0], -1, self.block)
        # A maximum may ignore a NaN, but the NaN must stay visible: the loop stops on it.
        finite = jnp.isfinite(blocks).all(axis=-1)
        scale = jnp.where(finite, jnp.abs(blocks).max(axis=-1) / 127.0, jnp.nan)
        steps = jnp.round(blocks / jnp.where(scale == 0.0, 1.0, scale)[..., None]).astype(jnp.int8)
        return jnp.concatenate([_to_bytes(steps), _to_bytes(scale)], axis=1)

    @override
    def decode(self, message: UInt8[Array, "piece byte"], length: int) -> Float[Array, "piece number"]:
        steps = jax.lax.bitcast_convert_type(message[:, :length], jnp.int8).astype(jnp.float32)
        scale = _from_bytes(message[:, length:], jnp.float32)
        return (steps.reshape(len(message), -1, self.block) * scale[..., None]).reshape(len(message), length)

    @override
    def encoded_bytes(self, piece: int) -> int:
        return piece + 4 * (piece // self.block)


@dataclass(frozen=True)
class TopKExchange(CompressedExchange):
    """The greatest numbers of each piece and their positions, with error feedback (Stich 2018)."""

    fraction: float = 0.01

    @override
    def piece_length(self, length: int) -> int:
        return -(-length // self.workers)

    @override
    def encode(self, pieces: Float[Array, "piece number"]) -> UInt8[Array, "piece byte"]:
        # top_k treats a NaN as the greatest number, so it is sent and seen.
        _, places = jax.lax.top_k(jnp.abs(pieces), self._count(pieces.shape[1]))
        values = jnp.take_along_axis(pieces, places, axis=1)
        return jnp.concatenate([_to_bytes(values), _to_bytes(places.astype(jnp.int32))], axis=1)

    @override
    def decode(self, message: UInt8[Array, "piece byte"], length: int) -> Float[Array, "piece number"]:
        count = 4 * self._count(length)
        values, places = _from_bytes(message[:, :count], jnp.float32), _from_bytes(message[:, count:], jnp.int32)
        rows = jnp.arange(len(message))[:, None]
        return jnp.zeros((len(message), length), jnp.float32).at[rows, places].set(values)

    @override
    def encoded_bytes(self, piece: int) -> int:
        return 8 * self._count(piece)

    def _count(self, piece: int) -> int:
        return max(1, round(self.fraction * piece))


def _to_bytes(values: Array) -> UInt8[Array, "piece byte"]:
    return jax.lax.bitcast_convert_type(values, jnp.uint8).reshape(values.shape[0], -1)


def _from_bytes(message: Array, dtype: DTypeLike) -> Array:
    return jax.lax.bitcast_convert_type(message.reshape(message.shape[0], -1, 4), dtype)
