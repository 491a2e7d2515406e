"""How the time of a step grows with the workers: a model of four costs, fitted to measured steps.

    seconds = (fixed + per_example * examples) * slowest(workers, spread)
            + (rounds(exchange, workers) * messages * (latency + per_message)
               + volume(exchange, workers) * bytes * transfer / bandwidth) / steps_per_exchange

`rounds` and `volume` come from `collective_costs`, `slowest` from `stragglers`. For a given spread the model is
linear in the four costs, so they are found by non-negative least squares on relative errors, and the spread by a
search over one number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ebox.errors import InputError
from ebox.planning.collective_costs import Exchange, exchange_rounds, exchange_volume
from ebox.planning.least_squares import find_least, solve_non_negative
from ebox.planning.stragglers import mean_of_slowest

# Where the points can't tell costs from each other, the last of them in this order is dropped first.
COSTS = ("per_example_seconds", "transfer", "per_message_seconds", "fixed_seconds")
_WIDEST_SPREAD = 1.0
_UNITS = {"k": 1e3, "m": 1e6, "g": 1e9}
Real = int | float


@dataclass(frozen=True)
class StepCase:
    """A training for which to predict the step time.

    Args:
        workers: Workers that share the global batch.
        examples: Examples for each worker in a step.
        message_bytes: Bytes that each worker brings to one exchange: its gradient, in the form that is sent.
        bandwidth: Speed of a worker's link in each direction, in bytes per second; infinite if there is no link.
        latency: Seconds of latency of one message, if known; what software adds is fitted.
        messages: Exchanges in a step, one after another: batch statistics need additional ones.
        exchange: The algorithm.
        steps_per_exchange: 1; more for local updates.
    """

    workers: int
    examples: Real
    message_bytes: Real
    bandwidth: Real
    latency: Real = 0.0
    messages: int = 1
    exchange: Exchange = "ring"
    steps_per_exchange: int = 1


@dataclass(frozen=True)
class ScalingPoint:
    """A measured step: the case, and its typical time in seconds."""

    case: StepCase
    seconds: Real


@dataclass(frozen=True)
class ScalingModel:
    """The fitted costs.

    Args:
        fixed_seconds: Time of a step that does not depend on its batch.
        per_example_seconds: Time of each example.
        per_message_seconds: Time that software adds to the latency of a message.
        transfer: Seconds for the bytes that the link could carry in one second; 1 is a perfect network.
        spread: Spread of the workers' times, as the standard deviation of the logarithm.
    """

    fixed_seconds: float
    per_example_seconds: float
    per_message_seconds: float
    transfer: float
    spread: float

    def compute_seconds(self, case: StepCase) -> float:
        """The time that the mean worker computes in a step."""
        return self.fixed_seconds + self.per_example_seconds * case.examples

    def exchange_seconds(self, case: StepCase) -> float:
        """The time of the exchange in a step."""
        rounds = exchange_rounds(case.exchange, case.workers) * case.messages
        volume = exchange_volume(case.exchange, case.workers) * case.message_bytes
        once = rounds * (case.latency + self.per_message_seconds) + volume * self.transfer / case.bandwidth
        return once / case.steps_per_exchange

    def step_seconds(self, case: StepCase, *, overlapped: bool = False) -> float:
        """The expected time of a step; overlapped: the exchange runs during the work of the next step."""
        work = self.compute_seconds(case) * mean_of_slowest(case.workers, self.spread)
        exchange = self.exchange_seconds(case)
        return max(work, exchange) if overlapped else work + exchange


@dataclass(frozen=True)
class StepPrediction:
    """A predicted step time, and the least and greatest prediction of the fits without one point."""

    seconds: float
    low: float
    high: float


@dataclass(frozen=True)
class ScalingResult:
    """A fitted model and how far to trust it.

    Args:
        model: The model fitted to all points.
        points: The points.
        errors: Relative error of the model at each point.
        left_out_models: For each point the model fitted to all other points.
        left_out_errors: Relative error of each of these models at its left-out point.
        untold: Costs that these points can't tell from the others; they are 0 in the model.
    """

    model: ScalingModel
    points: tuple[ScalingPoint, ...]
    errors: tuple[float, ...]
    left_out_models: tuple[ScalingModel, ...]
    left_out_errors: tuple[float, ...]
    untold: tuple[str, ...]

    @property
    def median_left_out_error(self) -> float:
        """The median size of the errors on points left out."""
        return float(np.median(np.abs(self.left_out_errors)))

    @property
    def worst_left_out_error(self) -> float:
        """The largest size of an error on a point left out."""
        return float(np.max(np.abs(self.left_out_errors)))

    def predict(self, case: StepCase, *, overlapped: bool = False) -> StepPrediction:
        """Predict the time of a step that was not measured."""
        others = [model.step_seconds(case, overlapped=overlapped) for model in self.left_out_models]
        seconds = self.model.step_seconds(case, overlapped=overlapped)
        return StepPrediction(seconds, min([seconds, *others]), max([seconds, *others]))


def read_link(text: str) -> float:
    """Bytes per second of a link such as `10gbit`, `100mbit`.

    Raises:
        InputError: the text is not of this form.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg])bit", text.strip().lower())
    if found is None or float(found[1]) == 0.0:
        raise InputError(f"{text!r} is not a speed of a link", remedy="write, for example, 10gbit or 100mbit")
    return float(found[1]) * _UNITS[found[2]] / 8


def fit_scaling(points: Sequence[ScalingPoint], spread: float | None = None) -> ScalingResult:
    """Fit the model to measured steps, and measure its error on each point left out.

    Args:
        points: Steps of at least two numbers of workers; the more the steps differ in examples, bytes and bandwidth,
            the more costs can be told from each other.
        spread: Spread of the workers' times, if known (`fit_stragglers`); None: fitted with the rest.

    Raises:
        InputError: too few points for the costs, only one number of workers, or a value that makes no sense.
    """
    _check_points(points)
    told = _choose_costs(points)
    needed = len(told) + (1 if spread is None else 0) + 1
    if len(points) < needed:
        raise InputError(
            f"{len(points)} points are too few to fit {needed - 1} numbers and to leave one out",
            remedy=f"measure at least {needed}, of different workers, examples, bytes and bandwidths",
        )
    model = _fit(points, told, spread)
    left_out = tuple(_fit([*points[:place], *points[place + 1 :]], told, spread) for place in range(len(points)))
    return ScalingResult(
        model=model,
        points=tuple(points),
        errors=tuple(_error(model, point) for point in points),
        left_out_models=left_out,
        left_out_errors=tuple(_error(other, point) for other, point in zip(left_out, points, strict=True)),
        untold=tuple(cost for cost in COSTS if cost not in told),
    )


def _error(model: ScalingModel, point: ScalingPoint) -> float:
    return model.step_seconds(point.case) / point.seconds - 1.0


def _check_points(points: Sequence[ScalingPoint]) -> None:
    for number, point in enumerate(points, start=1):
        case = point.case
        finite = (point.seconds, case.examples, case.message_bytes, case.latency)
        above = point.seconds > 0 and case.workers >= 1 and case.bandwidth > 0 and case.messages >= 1
        if not (
            all(math.isfinite(value) and value >= 0 for value in finite) and above and case.steps_per_exchange >= 1
        ):
            raise InputError(f"point {number} makes no sense: {point}", remedy="times and bandwidths must be above 0")
    if len({point.case.workers for point in points}) < 2:
        raise InputError(
            "the points all have the same number of workers, so they say nothing about scaling",
            remedy="measure the step with 1 worker and with several",
        )


def _choose_costs(points: Sequence[ScalingPoint]) -> tuple[str, ...]:
    """The costs that the points can tell from each other: each that is not a mixture of those before it."""
    columns, _ = _linear_system(points, 0.0)
    told: list[int] = []
    for place in range(len(COSTS)):
        chosen = columns[:, [*told, place]]
        size = np.linalg.norm(chosen, axis=0)
        if (size > 0).all() and np.linalg.matrix_rank(chosen / size, tol=1e-6) == len(told) + 1:
            told.append(place)
    return tuple(COSTS[place] for place in told)


def _linear_system(
    points: Sequence[ScalingPoint], spread: float
) -> tuple[Float[np.ndarray, "point cost"], Float[np.ndarray, " point"]]:
    """The factor of each cost in each point, and what is left to explain, both as shares of the measured time."""
    rows, rest = [], []
    for point in points:
        case = point.case
        slowest = mean_of_slowest(case.workers, spread)
        rounds = exchange_rounds(case.exchange, case.workers) * case.messages / case.steps_per_exchange
        volume = exchange_volume(case.exchange, case.workers) * case.message_bytes / case.steps_per_exchange
        row = (case.examples * slowest, volume / case.bandwidth, rounds, slowest)
        rows.append([value / point.seconds for value in row])
        rest.append(1.0 - rounds * case.latency / point.seconds)
    return np.array(rows), np.array(rest)


def _fit(points: Sequence[ScalingPoint], told: tuple[str, ...], spread: float | None) -> ScalingModel:
    if spread is None:
        spread = find_least(lambda one: _solve(points, told, one)[1], 0.0, _WIDEST_SPREAD)
    costs, _ = _solve(points, told, spread)
    return ScalingModel(**{cost: costs.get(cost, 0.0) for cost in COSTS}, spread=spread)


def _solve(points: Sequence[ScalingPoint], told: tuple[str, ...], spread: float) -> tuple[dict[str, float], float]:
    """The costs for a given spread, and the norm of the remaining relative errors."""
    columns, rest = _linear_system(points, spread)
    chosen = columns[:, [COSTS.index(cost) for cost in told]]
    size = np.linalg.norm(chosen, axis=0)
    # If the only point that shows a cost is left out, the column of that cost is 0.
    values, residual = solve_non_negative(chosen / np.where(size > 0, size, 1.0), rest)
    return dict(zip(told, (values / np.where(size > 0, size, 1.0)).tolist(), strict=True)), residual
