"""The learning curve: validation AUROC by the number of examples, and what more of them would bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ebox.errors import InputError
from ebox.planning.estimates import Estimate
from ebox.planning.power_laws import Candidate, PowerLaws, fit_power_laws

FEWEST_SIZES = 3


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """All curves that trainings on parts of the data leave possible (`ebox.planning.power_laws`).

    Args:
        points: Number of examples and AUROC of each training.
        laws: The error 1 - AUROC by the number of examples.
        shift: What the choice of the validation examples may have added to the logarithm of all errors.
    """

    points: tuple[tuple[int, float], ...]
    laws: PowerLaws
    shift: Float[np.ndarray, " draw"]

    @property
    def ceiling(self) -> Estimate:
        """The AUROC that no number of examples exceeds."""
        return self._estimate(self.laws.level * self.laws.floor)

    def predict(self, num_examples: float | int) -> Estimate:
        """The expected AUROC of a training with this number of examples."""
        return self._estimate(self.laws.errors(num_examples))

    def needed(self, target: float) -> Estimate | None:
        """How many examples reach an AUROC, without limit where it may be never; None: the ceiling's interval is below.

        The best value is without limit, too, where the target is more likely than not out of reach.
        """
        if self.ceiling.high < target:
            return None
        found = self.laws.solve((1.0 - target) * np.exp(-self.shift))
        low, value, high = np.quantile(found, [0.025, 0.5, 0.975], method="lower")
        return Estimate(float(value), float(low), float(high))

    def _estimate(self, errors: Float[np.ndarray, " draw"]) -> Estimate:
        aurocs = 1.0 - errors * np.exp(self.shift)
        return Estimate.of_draws(float(np.median(aurocs)), aurocs)


def fit_learning_curve(
    points: Sequence[tuple[int, float]],
    *,
    num_positive: int | None = None,
    num_negative: int | None = None,
    seed: int = 0,
) -> LearningCurve:
    """Fit trainings on parts of the data; several seeds may share a number of examples.

    Args:
        points: Number of examples and validation AUROC of each training.
        num_positive: Positives of the validation split; with the negatives, the intervals hold for other examples than
            these, too (Hanley and McNeil 1982); None: they are of this split.
        num_negative: Its negatives.
        seed: Of the draws.

    Raises:
        InputError: fewer than three different numbers of examples, or values that are no AUROC.
    """
    _check_points(points)
    sizes, aurocs = (np.array(column, np.float64) for column in zip(*points, strict=True))
    laws = fit_power_laws([Candidate(sizes)], 1.0 - aurocs, seed=seed)
    shift = np.zeros(len(laws.level))
    if num_positive is not None and num_negative is not None:
        best = float(aurocs[sizes == sizes.max()].mean())
        relative = auroc_error(best, num_positive, num_negative) / max(1.0 - best, 1e-9)
        shift = relative * np.random.default_rng(seed + 1).standard_normal(len(shift))
    return LearningCurve(tuple((int(size), float(auroc)) for size, auroc in points), laws, shift)


def auroc_error(auroc: float, num_positive: int, num_negative: int) -> float:
    """Standard error of an AUROC, by the number of examples alone (Hanley and McNeil 1982).

    Args:
        auroc: Found with them.
        num_positive: Positive examples.
        num_negative: Negative examples.
    """
    both_positive, both_negative = auroc / (2.0 - auroc), 2.0 * auroc**2 / (1.0 + auroc)
    total = auroc * (1.0 - auroc)
    total += (num_positive - 1) * (both_positive - auroc**2) + (num_negative - 1) * (both_negative - auroc**2)
    return float(np.sqrt(max(total, 0.0) / (num_positive * num_negative)))


def _check_points(points: Sequence[tuple[int, float]]) -> None:
    wrong = [point for point in points if not (point[0] >= 1 and 0.0 <= point[1] <= 1.0)]
    if wrong:
        raise InputError(f"a training on {wrong[0][0]} examples with an AUROC of {wrong[0][1]} is no point of a curve")
    sizes = sorted({size for size, _ in points})
    if len(sizes) < FEWEST_SIZES:
        raise InputError(
            f"a learning curve needs trainings on {FEWEST_SIZES} different numbers of examples, and there are "
            f"{len(sizes)}",
            remedy="measure them with `ebox bench DATASET --curve --out FILE`",
        )
