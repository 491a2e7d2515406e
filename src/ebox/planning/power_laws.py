"""A power law with a floor, fitted to a few noisy points: what they leave open is spread over many draws.

The error of a trained network falls as floor + scale · x^(-rate) with the number x of its examples or steps (Cortes
1994, Figueroa 2012, Hestness 2017). A best fit with three or four points says nothing of how far it can be trusted, so
all curves are weighed by how well they fit, and a result is the spread of what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

NUM_DRAWS = 2000
# Rates that were seen with networks lie between these (Hestness 2017: 0.07 to 0.35; 0.5 and 1 in theory).
SLOWEST_RATE, FASTEST_RATE = 0.05, 2.0
NUM_RATES, NUM_FLOORS = 31, 31
# What is supposed of the spread of an error before any point is seen (a part of it), and how many points it counts as.
SUPPOSED_SPREAD, SUPPOSED_WEIGHT = 0.03, 2.0
# Which part of the variance of an error is common to all validations of one training.
SHARED = 0.9
# An AUROC nearer to 1 than this is as good as 1.
LEAST_ERROR = 1e-5


@dataclass(frozen=True, eq=False)
class PowerLaws:
    """Curves error(x) = level · (floor + (1 - floor) · (x / unit)^(-rate)), each as likely as any other.

    Args:
        level: Error at x = unit, a number for each curve.
        floor: The part of it that stays for ever.
        rate: How fast the rest falls.
        unit: The x at which `level` is.
        choice: Which of the candidates of the fit each curve belongs to.
        spread: Spread of single trainings about the curve, as a share of the error.
    """

    level: Float[np.ndarray, " draw"]
    floor: Float[np.ndarray, " draw"]
    rate: Float[np.ndarray, " draw"]
    unit: Float[np.ndarray, " draw"]
    choice: Int64[np.ndarray, " draw"]
    spread: Float[np.ndarray, " draw"]

    def errors(self, x: float | int | Float[np.ndarray, " draw"]) -> Float[np.ndarray, " draw"]:
        """The error of each curve at x."""
        return self.level * (self.floor + (1.0 - self.floor) * (x / self.unit) ** -self.rate)

    def solve(self, error: float | Float[np.ndarray, " draw"]) -> Float[np.ndarray, " draw"]:
        """The x at which each curve comes down to an error; infinite where it never does."""
        rest = (error / self.level - self.floor) / (1.0 - self.floor)
        with np.errstate(divide="ignore", over="ignore"):
            return np.where(rest > 0.0, self.unit * np.maximum(rest, 1e-300) ** (-1.0 / self.rate), np.inf)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to say how far each training had come.

    Args:
        x: The progress of each training: examples, or steps that count.
        weight: How likely the candidate is before any training is looked at.
    """

    x: Float[np.ndarray, " point"]
    weight: float = 1.0


def fit_power_laws(
    candidates: Sequence[Candidate],
    errors: Float[np.ndarray, " point"],
    groups: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> PowerLaws:
    """Weigh all power laws by how well they fit, and draw from them.

    The logarithm of an error is normal about that of the curve, with an unknown spread. For each floor, rate and
    candidate, level and spread are integrated out in closed form (regression on a constant, normal-gamma prior).

    Args:
        candidates: What the progress of the trainings may have been.
        errors: 1 - AUROC of each training.
        groups: Which errors are of the same training, and so shifted together: the same number; None: each of its own.
        seed: Of the draws.
    """
    logs = np.log(np.maximum(errors, LEAST_ERROR))
    floors = (np.arange(NUM_FLOORS) + 0.5) / NUM_FLOORS
    rates = np.geomspace(SLOWEST_RATE, FASTEST_RATE, NUM_RATES)
    whiten = _whiten(range(len(errors)) if groups is None else groups)
    grid = [_weigh(candidate, logs, whiten, floors, rates) for candidate in candidates]
    chance = np.stack([one[0] for one in grid])
    chance = np.exp(chance - chance.max()) * np.array([one.weight for one in candidates])[:, None, None]
    rng = np.random.default_rng(seed)
    cells = rng.choice(chance.size, size=NUM_DRAWS, p=(chance / chance.sum()).ravel())
    choice, row, column = np.unravel_index(cells, chance.shape)
    level, rest = (np.stack([one[place] for one in grid])[choice, row, column] for place in (1, 2))
    degrees = SUPPOSED_WEIGHT + len(errors) - 1.0
    spread = np.sqrt(rest / rng.chisquare(degrees, NUM_DRAWS))
    unit = np.array([one.x.max() for one in candidates])[choice]
    level = np.exp(level + spread / np.linalg.norm(whiten.sum(axis=1)) * rng.standard_normal(NUM_DRAWS))
    # Within its cell of the grid, a floor is anywhere.
    floor = floors[row] + rng.uniform(-0.5, 0.5, NUM_DRAWS) / NUM_FLOORS
    return PowerLaws(level, floor, rates[column], unit, choice, spread)


def _whiten(groups: Sequence[int]) -> Float[np.ndarray, "point point"]:
    """The matrix that makes independent numbers of equal spread out of the deviations of errors from a curve."""
    same = np.equal.outer(groups, groups)
    alike = np.where(same, SHARED, 0.0) + (1.0 - SHARED) * np.eye(len(same))
    return np.linalg.inv(np.linalg.cholesky(alike))


def _weigh(
    candidate: Candidate,
    logs: Float[np.ndarray, " point"],
    whiten: Float[np.ndarray, "point point"],
    floors: Float[np.ndarray, " floor"],
    rates: Float[np.ndarray, " rate"],
) -> tuple[Float[np.ndarray, "floor rate"], ...]:
    """For each floor and rate: log likelihood, best level (log), the squares that are left.

    Args:
        candidate: How far each training had come.
        logs: Logarithms of the errors.
        whiten: Makes their deviations independent.
        floors: Floors to weigh.
        rates: Rates to weigh.
    """
    fallen = (candidate.x / candidate.x.max()) ** -rates[:, None]
    shape = np.log(floors[:, None, None] + (1.0 - floors[:, None, None]) * fallen)
    apart, one = (logs - shape) @ whiten.T, whiten.sum(axis=1)
    level = apart @ one / (one @ one)
    rest = SUPPOSED_WEIGHT * SUPPOSED_SPREAD**2 + ((apart - level[..., None] * one) ** 2).sum(axis=-1)
    return -0.5 * (SUPPOSED_WEIGHT + len(logs) - 1.0) * np.log(rest), level, rest
