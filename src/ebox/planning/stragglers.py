"""Workers of unequal speed: a step of synchronous training takes the time of its slowest worker.

The time of one worker for one step is its mean times exp(worker_spread * z_worker + step_spread * z_step), scaled to
mean 1. Both z are standard normal: z_worker is drawn for each worker of a run, z_step for each worker and step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from ebox.errors import InputError

_GRID = np.linspace(-9.0, 9.0, 4001)


@dataclass(frozen=True)
class StragglerResult:
    """How unequal the times of workers are.

    Args:
        step_spread: Spread of one worker from step to step, as the standard deviation of the logarithm.
        worker_spread: Spread between workers that stay slow or fast, likewise.
        num_samples: Number of times that it was fitted to; 0 if it was not fitted.
        distance: Kolmogorov-Smirnov distance of the standardised times from the fitted distribution; large if the
            tails are heavier than log-normal.
    """

    step_spread: float
    worker_spread: float
    num_samples: int
    distance: float

    @property
    def spread(self) -> float:
        """Spread of the time of any worker at any step."""
        return math.hypot(self.step_spread, self.worker_spread)


def fit_stragglers(seconds: Float[np.ndarray, "worker step"]) -> StragglerResult:
    """Fit the two spreads to measured times of single workers, without the exchange (one-way variance components).

    Raises:
        InputError: fewer than two steps, or a time that is not above 0.
    """
    from scipy.stats import kstest

    if seconds.shape[1] < 2 or not (np.isfinite(seconds).all() and (seconds > 0).all()):
        raise InputError(
            f"the spread can't be fitted to {seconds.shape[0]} x {seconds.shape[1]} times of workers and steps",
            remedy="measure at least two steps of each worker; every time must be a number above 0",
        )
    logs = np.log(seconds)
    within = float(logs.var(axis=1, ddof=1).mean())
    between = 0.0 if len(logs) < 2 else float(logs.mean(axis=1).var(ddof=1)) - within / logs.shape[1]
    scale = math.sqrt(within)
    standard = (logs - logs.mean(axis=1, keepdims=True)).ravel() / (scale if scale > 0 else 1.0)
    distance = float(kstest(standard, "norm").statistic)
    return StragglerResult(scale, math.sqrt(max(between, 0.0)), seconds.size, distance)


@lru_cache(maxsize=1024)
def mean_of_slowest(workers: int, spread: float) -> float:
    """Expected time of the slowest of independent workers, in means of one; by numerical integration.

    E[max] = exp(-s^2 / 2) * integral of exp(s z) N phi(z) Phi(z)^(N - 1) dz for N log-normal times of mean 1.
    """
    if workers == 1 or spread == 0.0:
        return 1.0
    if workers == 2:
        return 1.0 + math.erf(spread / 2.0)  # the integral in closed form
    from scipy.special import ndtr

    # Completing the square moves the density to where the integrand is: no overflow for wide spreads.
    places = _GRID + spread
    density = np.exp(-0.5 * _GRID**2) / math.sqrt(2.0 * math.pi)
    return float(np.trapezoid(workers * density * ndtr(places) ** (workers - 1), places))


def draw_slowest(
    workers: int, stragglers: StragglerResult, num_steps: int, num_runs: int, generator: np.random.Generator
) -> Float[np.ndarray, "run step"]:
    """Draw the time of the slowest worker, in means of one, for every step of several runs (Monte Carlo).

    Args:
        workers: Number of workers.
        stragglers: How unequal they are.
        num_steps: Steps in a run.
        num_runs: Runs to draw.
        generator: The source of random numbers.
    """
    slow = stragglers.worker_spread * generator.standard_normal((num_runs, 1, workers))
    logs = slow + stragglers.step_spread * generator.standard_normal((num_runs, num_steps, workers))
    return np.exp(logs.max(axis=2) - 0.5 * stragglers.spread**2)
