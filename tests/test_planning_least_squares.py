"""Small fits against those of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from ebox.planning.least_squares import find_least, solve_non_negative


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_nearest_sum_with_numbers_from_0_on_is_that_of_scipy(count: int):
    rng, at_limit = np.random.default_rng(count), 0
    for _ in range(100):
        columns, wanted = rng.random((7, count)), rng.normal(size=7)
        values, left = solve_non_negative(columns, wanted)
        expected, distance = nnls(columns, wanted)
        assert values == pytest.approx(expected, abs=1e-9)
        assert left == pytest.approx(distance, rel=1e-9)
        at_limit += int((values == 0.0).any())
    # Plain solutions alone would not have passed.
    assert at_limit > 10


def test_a_column_of_zeros_counts_for_nothing():
    columns = np.array([[1.0, 0.0], [2.0, 0.0]])
    values, left = solve_non_negative(columns, np.array([2.0, 4.0]))
    assert values[0] == pytest.approx(2.0)
    assert left == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("place", [0.0, 0.037, 0.5, 1.0])
def test_the_least_place_is_found_between_the_ends_and_at_them(place: float):
    assert find_least(lambda one: abs(one - place) ** 1.5, 0.0, 1.0) == pytest.approx(place, abs=2e-4)
