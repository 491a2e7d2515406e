"""Convolution by Winograd's minimal filtering, for many channels on CPU: fewer products for the same numbers.

A tile of 6 positions is transformed so that the convolution becomes 6 products. Width 3 gives 4 outputs per tile
(F(4,3): 6 products for 12) and width 5 gives 2 (F(2,5): 6 for 10), with the points 0, 1, -1, 2, -2 and infinity.
Source: Winograd, Arithmetic Complexity of Computations, 1980; for networks Lavin and Gray, 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

TILE = 6
WIDTHS = (3, 5)
# With fewer channels the transforms cost more than the products that they save.
MIN_CHANNELS = 64
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)


@lru_cache(maxsize=len(WIDTHS))
def make_transforms(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices of outputs (outputs, 6), filters (6, width) and data (6, 6), by Toom and Cook's construction."""
    outputs = TILE + 1 - width
    of_outputs, of_filters, of_data = np.zeros((outputs, TILE)), np.zeros((TILE, width)), np.zeros((TILE, TILE))
    for place, point in enumerate(_POINTS):
        others = [other for other in _POINTS if other != point]
        scale = np.prod([point - other for other in others])
        of_outputs[:, place] = [point**power for power in range(outputs)]
        of_filters[place] = [point**power / scale for power in range(width)]
        of_data[place, : TILE - 1] = np.poly(others)[::-1]
    of_outputs[-1, -1] = of_filters[-1, -1] = 1.0
    of_data[-1] = np.poly(_POINTS)[::-1]
    return of_outputs, of_filters, of_data


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_winograd(
    inputs: Float[Array, "batch length channel"], weight: Float[Array, "width channel filter"], dilation: int
) -> Float[Array, "batch length filter"]:
    """Convolve with zero padding to the same length; the width is 3 or 5. Equal to other forms to about 3e-6."""
    return _convolve(inputs, weight, dilation)


def _convolve(inputs: Array, weight: Array, dilation: int) -> Array:
    return _multiply(_transform_data(inputs, weight.shape[0], dilation), weight, inputs.shape, dilation)


def _transform_data(inputs: Array, width: int, dilation: int) -> list[Array]:
    """The six transformed positions of every tile, each (batch, tile, dilation, channel)."""
    return _combine(make_transforms(width)[2], _cut_tiles(inputs, width, dilation))


def _multiply(data: list[Array], weight: Array, shape: tuple[int, ...], dilation: int) -> Array:
    """Multiply the transformed data by the transformed filters, and transform the six products back."""
    width, channels, filters = weight.shape
    batch, length, _ = shape
    of_outputs, of_filters, _ = make_transforms(width)
    weights = _combine(of_filters, [weight[place] for place in range(width)])
    products = [part.reshape(-1, channels) @ matrix for part, matrix in zip(data, weights, strict=True)]
    outputs = jnp.stack([part.reshape(batch, -1, dilation, filters) for part in _combine(of_outputs, products)], 2)
    return outputs.reshape(batch, -1, filters)[:, :length]


def _forward(inputs: Array, weight: Array, dilation: int) -> tuple[Array, tuple[list[Array], Array]]:
    data = _transform_data(inputs, weight.shape[0], dilation)
    return _multiply(data, weight, inputs.shape, dilation), (data, weight)


def _backward(dilation: int, saved: tuple[list[Array], Array], gradient: Array) -> tuple[Array, Array]:
    """The gradient of the inputs is a convolution again; that of the weights is six products over the tiles.

    With Y = A M, M_i = V_i U_i and U = G W, the gradients are dM = A' dY, dU_i = V_i' dM_i and dW = G' dU.
    """
    data, weight = saved
    width, channels, filters = weight.shape
    of_inputs = _convolve(gradient, weight[::-1].transpose(0, 2, 1), dilation)
    of_outputs, of_filters, _ = make_transforms(width)
    spread = _combine(of_outputs.T, _cut_outputs(gradient, width, dilation))
    products = [
        part.reshape(-1, channels).T @ change.reshape(-1, filters) for part, change in zip(data, spread, strict=True)
    ]
    return of_inputs, jnp.stack(_combine(of_filters.T, products))


convolve_winograd.defvjp(_forward, _backward)


def _cut_tiles(inputs: Array, width: int, dilation: int) -> list[Array]:
    """The six positions of every tile, each (batch, tile, dilation, channel): a dilated row is several plain rows."""
    batch, length, channels = inputs.shape
    step = TILE + 1 - width
    tiles = _count_tiles(length, width, dilation)
    needed = (tiles * step + width - 1) * dilation
    left = dilation * (width // 2)
    padded = jnp.pad(inputs, ((0, 0), (left, needed - length - left), (0, 0)))
    rows = padded.reshape(batch, needed // dilation, dilation, channels)
    return [
        jax.lax.slice_in_dim(rows, place, place + step * (tiles - 1) + 1, stride=step, axis=1) for place in range(TILE)
    ]


def _cut_outputs(outputs: Array, width: int, dilation: int) -> list[Array]:
    """The output positions of every tile, each (batch, tile, dilation, filter)."""
    batch, length, filters = outputs.shape
    step = TILE + 1 - width
    tiles = _count_tiles(length, width, dilation)
    padded = jnp.pad(outputs, ((0, 0), (0, tiles * step * dilation - length), (0, 0)))
    rows = padded.reshape(batch, tiles, step, dilation, filters)
    return [rows[:, :, place] for place in range(step)]


def _count_tiles(length: int, width: int, dilation: int) -> int:
    return math.ceil(length / (dilation * (TILE + 1 - width)))


def _combine(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
    """Linear combinations of arrays, one per row of the matrix; written out, so that zeros cost nothing."""
    sums = []
    for row in matrix:
        terms = [part * jnp.asarray(factor, part.dtype) for factor, part in zip(row, parts, strict=True) if factor]
        sums.append(sum(terms[1:], start=terms[0]))
    return sums
