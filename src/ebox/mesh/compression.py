"""Exchanges that send fewer bytes and remember what they left out: 8-bit numbers, and the greatest numbers only.

Both travel as a reduce-scatter and an all-gather: each worker owns one piece of the vector, gets everybody's share of
it, sums, and sends the sum to all. So the bytes of a worker don't grow with the number of workers. Both ways are
compressed, and both remember their error: the sender what it rounded off, the owner what it rounded off the sum.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, UInt8

from ebox.mesh.collectives import Axis
from ebox.mesh.exchange import DATA, Carried, Message, Vector, VectorExchange, half_message

INT8_BLOCK = 512


class Residuals(eqx.Module):
    """What was not sent yet, of this worker's shares and of the sums that it owns."""

    share: Float[Array | np.ndarray, "*device padded"]
    owned: Float[Array | np.ndarray, "*device piece"]


@dataclass(frozen=True)
class CompressedExchange(VectorExchange):
    """What the compressed exchanges share: pieces, owners and error feedback."""

    workers: int
    axis: Axis = DATA

    @abc.abstractmethod
    def piece_length(self, length: int) -> int:
        """Numbers that each worker owns, of a vector of `length`."""

    @abc.abstractmethod
    def encode(self, pieces: Float[Array, "piece number"]) -> UInt8[Array, "piece byte"]:
        """Compress each row to bytes."""

    @abc.abstractmethod
    def decode(self, message: UInt8[Array, "piece byte"], length: int) -> Float[Array, "piece number"]:
        """Give the rows back, as far as they were sent."""

    @abc.abstractmethod
    def encoded_bytes(self, piece: int) -> int:
        """Bytes of a compressed piece."""

    def reduce_vector(self, share: Vector, carried: Carried) -> tuple[Vector, Carried]:
        """See `VectorExchange`."""
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

    def start_vector(self, length: int) -> Residuals:
        """See `VectorExchange`."""
        piece = self.piece_length(length)
        share = np.zeros((self.workers, piece * self.workers), np.float32)
        return Residuals(share, np.zeros((self.workers, piece), np.float32))

    def regroup_vector(self, carried: Carried, length: int) -> Residuals:
        """See `VectorExchange`."""
        owned = np.asarray(carried.owned).reshape(-1)[:length]
        total = np.asarray(carried.share).sum(axis=0)[:length] + owned
        fresh = self.start_vector(length)
        rows = np.broadcast_to(total / self.workers, (self.workers, length))
        share = np.pad(rows, ((0, 0), (0, fresh.share.shape[1] - length))).astype(np.float32)
        return Residuals(share, fresh.owned)

    def vector_messages(self, length: int) -> tuple[Message, ...]:
        """See `VectorExchange`."""
        payload = self.workers * self.encoded_bytes(self.piece_length(length))
        return tuple(half_message(name, payload, self.workers) for name in ("all-to-all", "all-gather"))


@dataclass(frozen=True)
class Int8Exchange(CompressedExchange):
    """Numbers as 8 bits and one float32 scale for each block, with error feedback."""

    block: int = INT8_BLOCK

    def piece_length(self, length: int) -> int:
        """Whole blocks."""
        return -(-length // (self.workers * self.block)) * self.block

    def encode(self, pieces: Float[Array, "piece number"]) -> UInt8[Array, "piece byte"]:
        """See `CompressedExchange`."""
        blocks = pieces.reshape(pieces.shape[0], -1, self.block)
        # A maximum may pass over a NaN, which must stay visible: the loop stops on it.
        finite = jnp.isfinite(blocks).all(axis=-1)
        scale = jnp.where(finite, jnp.abs(blocks).max(axis=-1) / 127.0, jnp.nan)
        steps = jnp.round(blocks / jnp.where(scale == 0.0, 1.0, scale)[..., None]).astype(jnp.int8)
        return jnp.concatenate([_to_bytes(steps), _to_bytes(scale)], axis=1)

    def decode(self, message: UInt8[Array, "piece byte"], length: int) -> Float[Array, "piece number"]:
        """See `CompressedExchange`."""
        steps = jax.lax.bitcast_convert_type(message[:, :length], jnp.int8).astype(jnp.float32)
        scale = _from_bytes(message[:, length:], jnp.float32)
        return (steps.reshape(len(message), -1, self.block) * scale[..., None]).reshape(len(message), length)

    def encoded_bytes(self, piece: int) -> int:
        """See `CompressedExchange`."""
        return piece + 4 * (piece // self.block)


@dataclass(frozen=True)
class TopKExchange(CompressedExchange):
    """The greatest numbers of each piece with their places, with error feedback (Stich 2018)."""

    fraction: float = 0.01

    def piece_length(self, length: int) -> int:
        """See `CompressedExchange`."""
        return -(-length // self.workers)

    def encode(self, pieces: Float[Array, "piece number"]) -> UInt8[Array, "piece byte"]:
        """See `CompressedExchange`."""
        # top_k takes a NaN for the greatest, so that one is sent and seen.
        _, places = jax.lax.top_k(jnp.abs(pieces), self._count(pieces.shape[1]))
        values = jnp.take_along_axis(pieces, places, axis=1)
        return jnp.concatenate([_to_bytes(values), _to_bytes(places.astype(jnp.int32))], axis=1)

    def decode(self, message: UInt8[Array, "piece byte"], length: int) -> Float[Array, "piece number"]:
        """See `CompressedExchange`."""
        count = 4 * self._count(length)
        values, places = _from_bytes(message[:, :count], jnp.float32), _from_bytes(message[:, count:], jnp.int32)
        rows = jnp.arange(len(message))[:, None]
        return jnp.zeros((len(message), length), jnp.float32).at[rows, places].set(values)

    def encoded_bytes(self, piece: int) -> int:
        """See `CompressedExchange`."""
        return 8 * self._count(piece)

    def _count(self, piece: int) -> int:
        return max(1, round(self.fraction * piece))


def _to_bytes(values: Array) -> UInt8[Array, "piece byte"]:
    return jax.lax.bitcast_convert_type(values, jnp.uint8).reshape(values.shape[0], -1)


def _from_bytes(message: Array, dtype: DTypeLike) -> Array:
    return jax.lax.bitcast_convert_type(message.reshape(message.shape[0], -1, 4), dtype)
