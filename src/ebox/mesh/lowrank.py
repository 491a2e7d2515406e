"""The low-rank exchange of matrices (PowerSGD: Vogels 2019), with error feedback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import override

from ebox.mesh.collectives import Axis, split_like
from ebox.mesh.devices import DEVICE_AXIS
from ebox.mesh.exchange import DATA, Carried, Exchange, Message, Tree, Vector, sum_message, sum_over_nodes


class LowRankState(eqx.Module):
    """For each matrix what was not sent yet, and the directions found in the step before."""

    left: tuple[
        Float[Array | np.ndarray, ...], ...
    ]  # each (rows, columns), with a leading axis `device` outside a step
    directions: tuple[Float[Array | np.ndarray, ...], ...]  # each (columns, rank), likewise


@dataclass(frozen=True)
class PowerExchange(Exchange):
    """Each matrix as a product of two thin ones, found by one power iteration from the directions of the last step.

    Vectors, and matrices that would not shrink by half, are sent whole in the first of the two messages.

    Args:
        workers: Number of devices.
        rank: Columns of the thin matrices.
        node_devices: Devices of a node.
        hierarchical: Whether the shares are first summed exactly inside each node.
        axis: How the devices reach each other.
    """

    workers: int
    rank: int
    node_devices: int = 1
    hierarchical: bool = False
    axis: Axis = DATA
    owes: ClassVar[bool] = True

    @override
    def reduce(self, share: Tree, carried: Carried) -> tuple[Tree, Carried]:
        total, carried, _ = self._reduce(share, carried, [])
        return total, carried

    @override
    def reduce_beside(self, share: Tree, carried: Carried, beside: Vector) -> tuple[Tree, Carried, Vector]:
        if self.hierarchical:
            return super().reduce_beside(share, carried, beside)
        total, carried, (summed,) = self._reduce(share, carried, [beside])
        return total, carried, summed

    def _reduce(self, share: Tree, carried: Carried, beside: list[Vector]) -> tuple[Tree, Carried, list[Vector]]:
        leaves, structure = jax.tree.flatten(share)
        if self.hierarchical:
            leaves = jax.lax.psum(leaves, DEVICE_AXIS)
        chosen = [self._is_compressed(leaf) for leaf in leaves]
        matrices = [
            _as_matrix(leaf) + left
            for leaf, left in zip(
                [leaf for leaf, yes in zip(leaves, chosen, strict=True) if yes], carried.left, strict=True
            )
        ]
        thin = [matrix @ columns for matrix, columns in zip(matrices, carried.directions, strict=True)]
        whole = [leaf for leaf, yes in zip(leaves, chosen, strict=True) if not yes]
        sums = self._sum([*thin, *whole, *beside])
        bases = [jnp.linalg.qr(columns)[0] for columns in sums[: len(thin)]]
        directions = self._sum([matrix.T @ base for matrix, base in zip(matrices, bases, strict=True)])
        totals = [base @ columns.T for base, columns in zip(bases, directions, strict=True)]
        senders = self.workers // self.node_devices if self.hierarchical else self.workers
        left = tuple(matrix - total / senders for matrix, total in zip(matrices, totals, strict=True))
        big, small = iter(totals), iter(sums[len(thin) :])
        summed = [
            next(big).reshape(leaf.shape) if yes else next(small) for leaf, yes in zip(leaves, chosen, strict=True)
        ]
        return jax.tree.unflatten(structure, summed), LowRankState(left, tuple(directions)), list(small)

    @override
    def start(self, like: Any) -> LowRankState:
        shapes = [_matrix_shape(leaf) for leaf in jax.tree.leaves(like) if self._is_compressed(leaf)]
        left = tuple(np.zeros((self.workers, *shape), np.float32) for shape in shapes)
        rng = np.random.default_rng(0)
        drawn = [rng.standard_normal((columns, self.rank)).astype(np.float32) for _, columns in shapes]
        return LowRankState(left, tuple(np.repeat(one[None], self.workers, axis=0) for one in drawn))

    @override
    def regroup(self, carried: Carried, like: Any) -> LowRankState:
        fresh = self.start(like)
        if self.hierarchical:
            # The rows of a node are copies, but which rows were a node is not known here, so the rest is dropped.
            return fresh

        def deal(rows: np.ndarray, share: float) -> np.ndarray:
            return np.repeat(np.asarray(rows).sum(axis=0, keepdims=True) * np.float32(share), self.workers, axis=0)

        left = tuple(deal(rows, 1.0 / self.workers) for rows in carried.left)
        # Only the span of the directions matters, not their length.
        return LowRankState(left, tuple(deal(rows, 1.0 / len(rows)) for rows in carried.directions) or fresh.directions)

    @override
    def messages(self, like: Any) -> tuple[Message, ...]:
        return self._messages(like, 0)

    @override
    def messages_beside(self, like: Any, length: int) -> tuple[Message, ...]:
        if self.hierarchical:
            return super().messages_beside(like, length)
        return self._messages(like, length)

    def _messages(self, like: Any, beside: int) -> tuple[Message, ...]:
        first, second = beside, 0
        for leaf in jax.tree.leaves(like):
            rows, columns = _matrix_shape(leaf)
            compressed = self._is_compressed(leaf)
            first += rows * self.rank if compressed else rows * columns
            second += columns * self.rank if compressed else 0
        senders = self.workers // self.node_devices if self.hierarchical else self.workers
        pieces = self.node_devices if self.hierarchical else 1
        axis = DATA if self.hierarchical else self.axis
        return tuple(sum_message(-(-4 * numbers // pieces), senders, axis) for numbers in (first, second) if numbers)

    def _sum(self, parts: list[Array]) -> list[Array]:
        """Sum several arrays over the workers in one message; without arrays (no compressed matrix) there is none."""
        if not (self.hierarchical and parts):
            return self.axis.sum_parts(parts)
        vector = jnp.concatenate([part.reshape(-1) for part in parts])
        return split_like(sum_over_nodes(vector, self.node_devices), parts)

    def _is_compressed(self, leaf: Any) -> bool:
        rows, columns = _matrix_shape(leaf)
        return np.ndim(leaf) > 1 and self.rank * (rows + columns) <= rows * columns // 2


def _matrix_shape(leaf: Any) -> tuple[int, int]:
    """The shape of a tensor as a matrix: its last axis is the columns."""
    shape = np.shape(leaf)
    return (int(np.prod(shape[:-1])), shape[-1]) if shape else (1, 1)


def _as_matrix(leaf: Array) -> Array:
    return leaf.reshape(_matrix_shape(leaf))
