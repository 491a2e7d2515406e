"""What a step costs on a machine that was measured: a fit to the steps of its profile, and its error on steps left out.

    seconds = launch + first[precision] * (batch / workers) ** growth + exchange

`first` is the time of a single example, and a `growth` below 1 says that larger batches use the device better. The
exchange has the form of `step_time`, whose fit finds its costs where several workers were measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

import numpy as np

from ebox.planning.collective_costs import exchange_rounds
from ebox.planning.least_squares import solve_non_negative
from ebox.planning.profiles import Profile, Step
from ebox.planning.step_time import Real, ScalingModel, ScalingPoint, StepCase, fit_scaling

EXACT = ("exact", "every-step")
_GROWTHS = np.arange(0.70, 1.105, 0.01)


@dataclass(frozen=True)
class MachineModel:
    """Fitted costs of a step.

    Args:
        costs: By precision; their `per_example_seconds` is for `examples ** growth`.
        growth: The power of the examples of a worker.
        additions: Seconds that a form of exchange (exchange, sync) takes beside its messages and bytes.
        has_exchange: Whether several workers were measured, so that the costs of messages are known.
    """

    costs: Mapping[str, ScalingModel]
    growth: float
    additions: Mapping[tuple[str, str], float]
    has_exchange: bool

    @property
    def precisions(self) -> tuple[str, ...]:
        """The number types that were measured."""
        return tuple(self.costs)

    def launch_seconds(self, precision: str) -> float:
        """The part of a step that does not depend on its batch."""
        return self.costs[precision].fixed_seconds

    def work_seconds(self, examples: Real, precision: str) -> float:
        """The part that grows with the examples of a worker."""
        return self.costs[precision].per_example_seconds * examples**self.growth

    def step_seconds(self, case: StepCase, precision: str, form: tuple[str, str] = EXACT) -> float:
        """The whole step; the case holds the plain number of examples."""
        added = self.additions.get(form, 0.0) if case.workers > 1 else 0.0
        return self.costs[precision].step_seconds(_grow(case, self.growth)) + added


@dataclass(frozen=True)
class MeasuredMachine:
    """A profile, the model of its steps, and the models that each leave one step out."""

    profile: Profile
    bandwidth: float = math.inf

    @property
    def shares_cores(self) -> bool:
        """Whether its workers are processes that share the cores on which one worker alone uses all of them."""
        return self.profile.device.platform == "cpu" and self.profile.network_link == "host"

    @cached_property
    def model(self) -> MachineModel:
        """Fitted to all steps."""
        return self._fit(self.profile.steps)

    def case_of(self, step: Step) -> StepCase:
        """A measured step as a case of `step_time`; workers that share cores compute the whole batch on all of them."""
        return case_of(step, self.bandwidth, self.shares_cores)

    def _fit(self, steps: Sequence[Step]) -> MachineModel:
        return fit_machine(steps, self.bandwidth, shares_cores=self.shares_cores)

    @cached_property
    def left_out_errors(self) -> tuple[float, ...]:
        """Relative errors at steps that the fit did not see; a step that no other one says anything about is left out.

        At least three steps of a number type are needed, or what is left fixes every cost without any check.
        """
        steps = self.profile.steps
        checked = [step for step in steps if sum(other.precision == step.precision for other in steps) >= 3]
        errors = []
        for step in checked:
            model = self._fit([other for other in steps if other is not step])
            seconds = model.step_seconds(self.case_of(step), step.precision, (step.exchange, step.sync))
            errors.append(seconds / step.seconds.median - 1.0)
        return tuple(errors)

    @property
    def worst_error(self) -> float | None:
        """The largest size of an error on a step left out; None: too few steps."""
        return max(map(abs, self.left_out_errors), default=None)

    @property
    def median_error(self) -> float | None:
        """The median size of the errors on steps left out; None: too few steps."""
        return median(map(abs, self.left_out_errors)) if self.left_out_errors else None


def case_of(step: Step, bandwidth: float = math.inf, shares_cores: bool = False) -> StepCase:
    """A measured step as a case of `step_time`."""
    return StepCase(
        step.workers,
        step.batch_size if shares_cores else math.ceil(step.batch_size / step.workers),
        step.message_bytes,
        bandwidth,
        messages=max(1, step.messages),
        steps_per_exchange=step.steps_per_exchange,
    )


def fit_machine(steps: Sequence[Step], bandwidth: float = math.inf, *, shares_cores: bool = False) -> MachineModel:
    """Fit the costs to measured steps by non-negative least squares on relative errors.

    Args:
        steps: At least one; if none has a single worker, the work is fitted to those that have the fewest.
        bandwidth: Speed of the link between workers, in bytes per second; infinite on one machine.
        shares_cores: Whether several workers compute the whole batch on the cores of one.
    """
    cases = {id(step): case_of(step, bandwidth, shares_cores) for step in steps}
    fewest = min(step.workers for step in steps)
    alone = [step for step in steps if step.workers == fewest and (step.exchange, step.sync) == EXACT]
    launch, first, growth = _fit_work(alone if alone else list(steps), cases)
    costs = {precision: ScalingModel(launch, seconds, 0.0, 1.0, 0.0) for precision, seconds in first.items()}
    model = MachineModel(costs, growth, {}, has_exchange=False)
    together = [step for step in steps if step.workers > 1]
    if not together:
        return model
    model = _fit_exchange(model, [step for step in steps if (step.exchange, step.sync) == EXACT], cases)
    return replace(model, additions=_find_additions(model, together, cases))


def _fit_work(steps: Sequence[Step], cases: Mapping[int, StepCase]) -> tuple[float, dict[str, float], float]:
    """Launch, seconds of the first example by precision, and growth; launch and growth are the same for all."""
    precisions = sorted({step.precision for step in steps})
    shares = np.array([cases[id(step)].examples for step in steps], np.float64)
    seconds = np.array([step.seconds.median for step in steps])
    told = len(steps) >= len(precisions) + 3 and len(set(shares)) >= 3
    tried = [
        _solve_work(shares**growth, seconds, [[step.precision == one for step in steps] for one in precisions])
        for growth in (_GROWTHS if told else (1.0,))
    ]
    best = min(range(len(tried)), key=lambda place: tried[place][1])
    launch, *first = tried[best][0]
    return launch, dict(zip(precisions, first, strict=True)), float(_GROWTHS[best]) if told else 1.0


def _solve_work(
    shares: np.ndarray, seconds: np.ndarray, of_precision: Sequence[Sequence[bool]]
) -> tuple[list[float], float]:
    """The costs for a given growth, and the norm of the relative errors."""
    columns = np.stack([np.ones_like(shares), *(shares * np.array(one) for one in of_precision)], axis=1)
    if len(set(shares)) == 1:
        columns[:, 0] = 0.0  # one batch can't tell what is fixed
    columns = columns / seconds[:, None]
    size = np.linalg.norm(columns, axis=0)
    size[size == 0.0] = 1.0
    values, residual = solve_non_negative(columns / size, np.ones_like(seconds))
    if not values[1:].all():
        # Noise can hide what an example costs, which is more than nothing.
        columns[:, 0] = 0.0
        values, residual = solve_non_negative(columns / size, np.ones_like(seconds))
    return (values / size).tolist(), residual


def _fit_exchange(model: MachineModel, steps: Sequence[Step], cases: Mapping[int, StepCase]) -> MachineModel:
    """Add the costs of messages, from the steps of the number type that was measured most with several workers."""
    if not any(step.workers > 1 for step in steps):
        return model
    chosen = [step.precision for step in steps if step.workers > 1]
    main = max(sorted(set(chosen)), key=chosen.count)
    points = [
        ScalingPoint(_grow(cases[id(step)], model.growth), step.seconds.median)
        for step in steps
        if step.precision == main
    ]
    free = math.isinf(points[0].case.bandwidth)
    costs = 3 if free else 4
    found: ScalingModel | None
    if len({point.case.workers for point in points}) > 1 and len(points) > costs:
        found = fit_scaling(points, None if len(points) > costs + 1 else 0.0).model
        # One machine can't show what a link adds: it is taken at its nominal speed (measured: 1.02).
        found = replace(found, transfer=1.0) if free else found
    else:
        found = None
    if found is None or found.per_example_seconds == 0.0:
        found = replace(model.costs[main], per_message_seconds=_price_message(model.costs[main], points))
    shares = {
        name: one.per_example_seconds / model.costs[main].per_example_seconds for name, one in model.costs.items()
    }
    fitted = {
        name: replace(found, per_example_seconds=found.per_example_seconds * share) for name, share in shares.items()
    }
    return replace(model, costs=fitted, has_exchange=True)


def _price_message(costs: ScalingModel, points: Sequence[ScalingPoint]) -> float:
    """Seconds of a round, where there are too few points for a fit: what is left beside the work."""
    left = []
    for point in points:
        rounds = exchange_rounds(point.case.exchange, point.case.workers) * point.case.messages
        if rounds:
            left.append(max(0.0, point.seconds - costs.step_seconds(point.case)) / rounds)
    return median(left) if left else 0.0


def _find_additions(
    model: MachineModel, steps: Sequence[Step], cases: Mapping[int, StepCase]
) -> dict[tuple[str, str], float]:
    """What each measured form of exchange takes beyond its messages and bytes."""
    beyond: dict[tuple[str, str], list[float]] = {}
    for step in steps:
        form = (step.exchange, step.sync)
        if form != EXACT and step.precision in model.costs:
            seconds = model.step_seconds(cases[id(step)], step.precision)
            beyond.setdefault(form, []).append(step.seconds.median - seconds)
    return {form: max(0.0, median(values)) for form, values in beyond.items()}


def _grow(case: StepCase, growth: float) -> StepCase:
    return replace(case, examples=case.examples**growth)
