"""The scaling curve: predicted and simulated step times from 1 to 256 workers, as facts for tables and charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from ebox.planning.step_time import Real, ScalingModel, ScalingResult, StepCase
from ebox.planning.stragglers import StragglerResult, draw_slowest

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class SimulatedSteps:
    """Step times of simulated runs.

    Args:
        seconds: Mean over runs of a run's mean step time.
        low: 2.5 % of the runs have a mean step time below it.
        high: 2.5 % of the runs have a mean step time above it.
        slow_step: 1 % of all steps take longer.
    """

    seconds: float
    low: float
    high: float
    slow_step: float


@dataclass(frozen=True)
class CurvePoint:
    """One number of workers on a scaling curve.

    Args:
        workers: Number of workers.
        examples: Examples for each worker in a step.
        seconds: Predicted step time.
        low: The least prediction of the fits without one point.
        high: The greatest prediction of those fits.
        exchange_seconds: The exchange's part of `seconds`, before any overlap.
        simulated: The step time by Monte Carlo simulation.
        speedup: Examples per second, as a multiple of one worker's.
        efficiency: Speed-up divided by the number of workers.
    """

    workers: int
    examples: Real
    seconds: float
    low: float
    high: float
    exchange_seconds: float
    simulated: SimulatedSteps
    speedup: float
    efficiency: float

    def facts(self) -> dict[str, Any]:
        """All fields in the form of JSON."""
        return asdict(self)


def simulate_step(
    model: ScalingModel,
    case: StepCase,
    stragglers: StragglerResult | None = None,
    *,
    overlapped: bool = False,
    num_steps: int = 500,
    num_runs: int = 50,
    seed: int = 0,
) -> SimulatedSteps:
    """Draw runs in which every step waits for its slowest worker.

    Args:
        model: The costs.
        case: The training.
        stragglers: How unequal workers are; None: they vary from step to step, by the spread of the model.
        overlapped: Whether the exchange runs during the work of the next step.
        num_steps: Steps in a run.
        num_runs: Runs to draw.
        seed: Seed of the draws.
    """
    stragglers = StragglerResult(model.spread, 0.0, 0, 0.0) if stragglers is None else stragglers
    generator = np.random.default_rng(np.random.SeedSequence((seed, case.workers)))
    work = model.compute_seconds(case) * draw_slowest(case.workers, stragglers, num_steps, num_runs, generator)
    exchange = model.exchange_seconds(case)
    steps = np.maximum(work, exchange) if overlapped else work + exchange
    low, high = np.quantile(steps.mean(axis=1), (0.025, 0.975))
    return SimulatedSteps(float(steps.mean()), float(low), float(high), float(np.quantile(steps, 0.99)))


def scaling_curve(
    result: ScalingResult,
    case: StepCase,
    *,
    growth: Literal["weak", "strong"] = "strong",
    workers: Sequence[int] = WORKERS,
    stragglers: StragglerResult | None = None,
    overlapped: bool = False,
    seed: int = 0,
) -> tuple[CurvePoint, ...]:
    """Predict a training with more workers, by the fitted model and by simulation.

    Args:
        result: The fit.
        case: The training; its `workers` is ignored.
        growth: `weak`: `case.examples` for each worker, so that the global batch grows. `strong`: `case.examples` is
            the global batch, which the workers share.
        workers: The numbers of workers on the curve.
        stragglers: How unequal workers are; None: by the spread of the model.
        overlapped: Whether the exchange runs during the work of the next step.
        seed: Seed of the simulation.
    """
    alone = result.model.step_seconds(replace(case, workers=1))
    curve = []
    for count in workers:
        one = replace(case, workers=count, examples=case.examples if growth == "weak" else case.examples / count)
        predicted = result.predict(one, overlapped=overlapped)
        speedup = alone / predicted.seconds * (count if growth == "weak" else 1)
        curve.append(
            CurvePoint(
                workers=count,
                examples=one.examples,
                seconds=predicted.seconds,
                low=predicted.low,
                high=predicted.high,
                exchange_seconds=result.model.exchange_seconds(one),
                simulated=simulate_step(result.model, one, stragglers, overlapped=overlapped, seed=seed),
                speedup=speedup,
                efficiency=speedup / count,
            )
        )
    return tuple(curve)
