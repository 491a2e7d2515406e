"""The learning curve: validation AUROC as a function of the number of examples, and what more of them would bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ebox.planning.estimates import Estimate


@dataclass(frozen=True)
class LearningCurve:
    """AUROC by the number of examples n: 1 - AUROC = floor + scale · n^(-rate) (Cortes 1994, Figueroa 2012)."""

    @property
    def ceiling(self) -> Estimate:
        """The AUROC that no number of examples exceeds."""
        raise NotImplementedError

    def predict(self, num_examples: float) -> Estimate:
        """The expected AUROC with this number of examples."""
        raise NotImplementedError

    def needed(self, target: float) -> Estimate | None:
        """How many examples reach an AUROC; None: the interval of the ceiling lies below it."""
        raise NotImplementedError


def fit_learning_curve(points: Sequence[tuple[int, float]]) -> LearningCurve:
    """Fit trainings on parts of the data; several seeds may share a number of examples.

    Raises:
        InputError: fewer than three different numbers of examples.
    """
    raise NotImplementedError
