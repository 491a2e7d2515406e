"""A number that is not known exactly: its best value, and the interval that holds it in 95 of 100 cases."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A best value between a low and a high one, all in the unit of what is estimated."""

    value: float
    low: float
    high: float

    @staticmethod
    def exact(value: float) -> Estimate:
        """A number that is known."""
        return Estimate(value, value, value)

    @staticmethod
    def of_draws(value: float, draws: Iterable[float], level: float = LEVEL) -> Estimate:
        """The value, between the quantiles of resampled values that hold the middle share `level` of them.

        A value outside of its draws widens the interval to itself.
        """
        low, high = np.quantile(np.asarray(list(draws), np.float64), [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
        return Estimate(value, min(value, float(low)), max(value, float(high)))

    def times(self, factor: float) -> Estimate:
        """The estimate in another unit; the factor is not negative."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def facts(self) -> dict[str, float | None]:
        """The three numbers, as facts on disk hold them; None: without limit, as JSON has no infinity."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: value if math.isfinite(value) else None for name, value in ends.items()}
