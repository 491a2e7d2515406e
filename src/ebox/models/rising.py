"""A rising, piecewise linear map of logits: what isotonic calibration adds behind a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class RisingMap:
    """Knots of a strictly rising map from logits to calibrated ones, straight between them, of slope 1 beyond the ends.

    Since it rises everywhere, no two logits change places.
    """

    logits: tuple[float, ...]
    calibrated: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise ValueError unless there are as many finite, strictly rising numbers on both sides."""
        sides = np.array(self.logits, np.float64), np.array(self.calibrated, np.float64)
        if not len(sides[0]) or len(sides[0]) != len(sides[1]):
            raise ValueError(f"there are {len(sides[0])} logits and {len(sides[1])} calibrated ones")
        if not all(np.isfinite(side).all() and (np.diff(side) > 0.0).all() for side in sides):
            raise ValueError("the knots don't rise strictly")

    def apply(self, logits: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The calibrated logits, in the number type of those given."""
        values = logits.astype(np.float64)
        inside = np.interp(values, self.logits, self.calibrated)
        beyond = np.minimum(values - self.logits[0], 0.0) + np.maximum(values - self.logits[-1], 0.0)
        return (inside + beyond).astype(logits.dtype)

    def facts(self) -> dict[str, list[float]]:
        """The knots, for the facts of a model."""
        return {"logits": list(self.logits), "calibrated": list(self.calibrated)}

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> RisingMap:
        """The map of such facts.

        Raises:
            KeyError, TypeError, ValueError: they hold no map.
        """
        logits, calibrated = (tuple(float(value) for value in facts[side]) for side in ("logits", "calibrated"))
        return cls(logits, calibrated)
