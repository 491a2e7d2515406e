"""What a few changed inputs add to a convolution's outputs, with fewer products: the full convolution of a window.

A full convolution is a product of polynomials. The method of Toom and Cook evaluates both at 6 points, multiplies
there, and interpolates: 4 inputs with 3 taps need 6 products instead of 12, 2 inputs with 5 taps 6 instead of 10. The
rest at the end of a window is multiplied directly. The window is the first axis, so evaluation and interpolation are
products with small constant matrices. Source: as for `ebox.models.winograd`; these are its transforms, transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ebox.models.layers import Convolution, Depthwise
from ebox.models.normalisation import BatchNorm, per_channel
from ebox.models.trace import Operation
from ebox.models.winograd import MIN_CHANNELS, TILE, WIDTHS, make_transforms


@dataclass(frozen=True)
class Group:
    """Products with a few matrices, the same number for each: first all of the first matrix, then of the next."""

    of_filters: Float[np.ndarray, "matrix width"]
    of_inputs: Float[np.ndarray, "product place"]
    of_outputs: Float[np.ndarray, "output product"]

    @property
    def num_matrices(self) -> int:
        """How many matrices."""
        return len(self.of_filters)


@dataclass(frozen=True)
class Spreading:
    """How the full convolution of `size` inputs is computed; it has `wider` outputs."""

    size: int
    wider: int
    groups: tuple[Group, ...]


def plan_layer(
    linear: Sequence[Operation], window: int
) -> Callable[[Float[Array, "size row channel"]], Float[Array, "wider row filter"]]:
    """How changes of a window spread through the linear part of a body layer; what is constant is computed here.

    Args:
        linear: A convolution and what normalises its outputs, or one of each channel by itself and then a matrix.
        window: Places of the window.
    """
    match linear:
        case [Convolution() as convolution, *norms]:
            filters = _scale(convolution.filters(), norms)
            width, channels, num_filters = filters.shape
            spreading = plan_spreading(window, width, convolution.dilation, min(channels, num_filters))
            return partial(spread, spreading, matrices=transform_filters(spreading, filters))
        case [Depthwise() as depthwise, *norms, Convolution() as mixing]:
            return partial(_spread_taps, taps=_scale(depthwise.weight, norms), matrix=mixing.weight[0])
    raise TypeError(f"no rule for {linear}")


def _scale(weight: Array, norms: Sequence[Operation]) -> Array:
    """The filters with the factors of the normalisation of their outputs."""
    for norm in norms:
        assert isinstance(norm, BatchNorm)
        weight = weight * per_channel(norm.factor(), weight)
    return weight


def _spread_taps(change: Float[Array, "size row channel"], taps: Array, matrix: Array) -> Array:
    """The full convolution of each channel by itself, then the product with the matrix that mixes the channels."""
    reach, parts = len(taps) - 1, []
    for place, tap in enumerate(taps):
        # The first tap reads what lies furthest before an output, so it carries a change furthest behind it.
        moved = jnp.pad(change, ((reach - place, place), (0, 0), (0, 0)))
        parts.append(moved * per_channel(tap, change))
    return sum(parts[1:], start=parts[0]) @ matrix


@lru_cache(maxsize=64)
def plan_spreading(size: int, width: int, dilation: int, channels: int) -> Spreading:
    """Choose how to compute a full convolution.

    Args:
        size: Places of the window.
        width: Taps of the filters.
        dilation: Places from one tap to the next.
        channels: The smaller number of input and output channels.
    """
    wider = size + dilation * (width - 1)
    step = TILE + 1 - width
    block = step * dilation
    num_blocks, rest = 0, size
    if width in WIDTHS and channels >= MIN_CHANNELS:
        # Whole blocks by Toom and Cook, and one incomplete block if it still saves products.
        num_blocks, rest = divmod(size, block)
        if TILE * dilation < rest * width:
            num_blocks, rest = num_blocks + 1, 0
    groups = [_by_points(size, wider, width, dilation, num_blocks)] if num_blocks else []
    if rest:
        groups.append(_directly(size, wider, width, dilation, size - rest))
    return Spreading(size, wider, tuple(groups))


def _by_points(size: int, wider: int, width: int, dilation: int, num_blocks: int) -> Group:
    """Blocks of `step` places in each class of the dilation, 6 products each."""
    of_inputs, of_filters, of_outputs = make_transforms(width)
    step, classes = TILE + 1 - width, num_blocks * dilation
    inputs, outputs = np.zeros((TILE * classes, size)), np.zeros((wider, TILE * classes))
    for number in range(classes):
        first = number // dilation * step * dilation + number % dilation
        for point in range(TILE):
            product = point * classes + number
            for tap in range(step):
                place = first + tap * dilation
                if place < size:
                    inputs[product, place] = of_inputs[tap, point]
            for tap in range(TILE):
                place = first + tap * dilation
                if place < wider:
                    outputs[place, product] = of_outputs[point, tap]
    # A product of polynomials reverses the filter, a convolution of a network does not.
    return Group(of_filters[:, ::-1], inputs, outputs)


def _directly(size: int, wider: int, width: int, dilation: int, first: int) -> Group:
    """Every tap times every place from `first` on."""
    rest = size - first
    inputs, outputs = np.zeros((width * rest, size)), np.zeros((wider, width * rest))
    for tap in range(width):
        for number in range(rest):
            inputs[tap * rest + number, first + number] = 1.0
            outputs[first + number + (width - 1 - tap) * dilation, tap * rest + number] = 1.0
    return Group(np.eye(width), inputs, outputs)


def transform_filters(plan: Spreading, weight: Float[Array, "width channel filter"]) -> tuple[Array, ...]:
    """The matrices of each group, (matrix, channel, filter); the same for all windows of one size."""
    return tuple(jnp.tensordot(_constant(group.of_filters), weight, 1) for group in plan.groups)


def spread(
    plan: Spreading, change: Float[Array, "size row channel"], matrices: tuple[Array, ...]
) -> Float[Array, "wider row filter"]:
    """The full convolution of each row's window."""
    size, rows, channels = change.shape
    flat, total = change.reshape(size, rows * channels), None
    for group, group_matrices in zip(plan.groups, matrices, strict=True):
        inputs = _constant(group.of_inputs) @ flat
        inputs = inputs.reshape(group.num_matrices, -1, channels)
        products = jax.lax.batch_matmul(inputs, group_matrices)
        outputs = _constant(group.of_outputs) @ products.reshape(len(group.of_inputs), -1)
        total = outputs if total is None else total + outputs
    assert total is not None
    return total.reshape(plan.wider, rows, -1)


def _constant(values: np.ndarray) -> Array:
    return jnp.asarray(values, jnp.float32)
