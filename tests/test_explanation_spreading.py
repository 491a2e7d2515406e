"""The full convolution of a window by fewer products equals NumPy's, for every size, width and dilation."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from ebox.explanation.full_convolution import plan_spreading, spread, transform_filters


def _convolve(change: np.ndarray, weight: np.ndarray, dilation: int) -> np.ndarray:
    """Channel by channel with NumPy: (size, row, channel) and (width, channel, filter)."""
    width, channels, filters = weight.shape
    taps = np.zeros(((width - 1) * dilation + 1, channels, filters))
    # The network's convolutions slide the filter; NumPy turns it round.
    taps[::dilation] = weight[::-1]
    outputs = np.zeros((len(change) + len(taps) - 1, change.shape[1], filters))
    for row in range(change.shape[1]):
        for channel in range(channels):
            for number in range(filters):
                outputs[:, row, number] += np.convolve(change[:, row, channel], taps[:, channel, number])
    return outputs


@pytest.mark.parametrize("channels", [8, 64])
@pytest.mark.parametrize(("width", "dilation"), [(1, 1), (3, 1), (3, 2), (3, 4), (4, 2), (5, 1), (5, 3)])
@pytest.mark.parametrize("size", [1, 4, 5, 9, 13])
def test_spreading_equals_numpy(size: int, width: int, dilation: int, channels: int):
    rng = np.random.default_rng(size)
    change = rng.standard_normal((size, 2, channels)).astype(np.float32)
    weight = rng.standard_normal((width, channels, 3)).astype(np.float32)
    plan = plan_spreading(size, width, dilation, channels)
    found = np.asarray(spread(plan, jnp.asarray(change), transform_filters(plan, jnp.asarray(weight))))
    expected = _convolve(change.astype(np.float64), weight.astype(np.float64), dilation)
    assert plan.wider == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("size", "width", "dilation", "products"), [(4, 5, 1, 12), (9, 3, 2, 15), (13, 3, 4, 24)])
def test_many_channels_take_fewer_products(size: int, width: int, dilation: int, products: int):
    for channels, expected in ((128, products), (8, size * width)):
        plan = plan_spreading(size, width, dilation, channels)
        assert sum(len(group.of_inputs) for group in plan.groups) == expected <= size * width
