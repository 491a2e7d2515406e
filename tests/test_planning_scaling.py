"""The scaling model: known costs are found again, unseen points are predicted, stragglers cost what theory says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.planning.speedup import scaling_curve, simulate_step
from ebox.planning.step_time import ScalingModel, ScalingPoint, StepCase, fit_scaling
from ebox.planning.stragglers import StragglerResult, draw_slowest, fit_stragglers, mean_of_slowest

TRUTH = ScalingModel(fixed_seconds=2e-3, per_example_seconds=5e-5, per_message_seconds=2e-4, transfer=1.08, spread=0.08)
BYTES = 793_348


def cases(workers: tuple[int, ...] = (1, 2, 4)) -> list[StepCase]:
    return [
        StepCase(count, examples, BYTES, bandwidth, latency=1e-4, messages=12)
        for count in workers
        for examples in (16, 64)
        for bandwidth in (12.5e6, 125e6)
    ]


def measured(model: ScalingModel, noise: float = 0.0, seed: int = 0) -> list[ScalingPoint]:
    draws = np.random.default_rng(seed).standard_normal(100)
    return [
        ScalingPoint(case, model.step_seconds(case) * math.exp(noise * draw))
        for case, draw in zip(cases(), draws, strict=False)
    ]


def test_known_costs_are_found_again():
    result = fit_scaling(measured(TRUTH))
    for name in ("fixed_seconds", "per_example_seconds", "per_message_seconds", "transfer"):
        assert getattr(result.model, name) == pytest.approx(getattr(TRUTH, name), rel=0.02), name
    assert result.model.spread == pytest.approx(TRUTH.spread, abs=0.01)
    assert result.untold == ()
    assert result.worst_left_out_error < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_noisy_points_predict_more_workers_than_were_measured(seed: int):
    result = fit_scaling(measured(TRUTH, noise=0.02, seed=seed), spread=TRUTH.spread)
    assert result.median_left_out_error < 0.05
    case = StepCase(16, 64, BYTES, 125e6, latency=1e-4, messages=12)
    predicted = result.predict(case)
    assert predicted.seconds == pytest.approx(TRUTH.step_seconds(case), rel=0.12)
    assert predicted.low <= predicted.seconds <= predicted.high


def test_the_error_on_a_point_left_out_is_of_a_fit_that_never_saw_it():
    points = measured(TRUTH)
    points[-1] = replace(points[-1], seconds=points[-1].seconds * 1.5)
    result = fit_scaling(points, spread=TRUTH.spread)
    assert result.left_out_errors[-1] == pytest.approx(1 / 1.5 - 1, abs=0.01)
    assert abs(result.errors[-1]) < abs(result.left_out_errors[-1])
    assert len(result.left_out_models) == len(points)


def test_costs_that_the_points_cannot_tell_apart_are_named():
    points = [point for point in measured(TRUTH) if point.case.examples == 64]
    result = fit_scaling(points, spread=TRUTH.spread)
    assert result.untold == ("fixed_seconds",)
    assert result.model.compute_seconds(points[0].case) == pytest.approx(
        TRUTH.compute_seconds(points[0].case), rel=0.02
    )
    assert result.worst_left_out_error < 0.02


def test_a_known_latency_is_not_fitted_again():
    silent = replace(TRUTH, per_message_seconds=0.0)
    result = fit_scaling(measured(silent), spread=TRUTH.spread)
    assert result.model.per_message_seconds < 1e-6
    assert result.model.step_seconds(cases()[-1]) > replace(silent).step_seconds(replace(cases()[-1], latency=0.0))


def test_workers_without_a_network_between_them_can_be_fitted():
    free = [ScalingPoint(replace(case, bandwidth=math.inf), 0.0) for case in cases()]
    points = [replace(point, seconds=TRUTH.step_seconds(point.case)) for point in free]
    result = fit_scaling(points, spread=TRUTH.spread)
    assert result.untold == ("transfer",)
    assert result.worst_left_out_error < 0.01


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda points: points[:3] + points[4:6], "too few"),
        (lambda points: [point for point in points if point.case.workers == 2], "same number of workers"),
        (lambda points: [*points, replace(points[0], seconds=0.0)], "point 13 makes no sense"),
        (lambda points: [*points, replace(points[0], seconds=math.nan)], "makes no sense"),
        (lambda points: [replace(points[0], case=replace(points[0].case, bandwidth=0.0)), *points], "point 1 makes"),
    ],
)
def test_points_that_cannot_be_fitted_are_refused(change, words: str):  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=words):
        fit_scaling(change(measured(TRUTH)))


def test_the_slowest_of_two_and_of_many_is_as_late_as_theory_says():
    # Two log-normal times: E max = 2 Phi(s / sqrt 2), in means of one.
    for spread in (0.05, 0.3, 1.5):
        exact = 2 * 0.5 * (1 + math.erf(spread / 2))
        assert mean_of_slowest(2, spread) == pytest.approx(exact, rel=1e-6)
    slowest = [mean_of_slowest(workers, 0.1) for workers in (1, 2, 8, 64, 256)]
    assert slowest[0] == 1.0
    assert slowest == sorted(slowest)
    # Of 256 normal times the largest lies 2.8 standard deviations out.
    assert slowest[-1] == pytest.approx(math.exp(0.1 * 2.8), rel=0.03)
    assert mean_of_slowest(256, 0.0) == 1.0


@pytest.mark.parametrize("workers", [1, 4, 256])
@pytest.mark.parametrize("overlapped", [False, True])
def test_the_simulation_agrees_with_the_model(workers: int, overlapped: bool):
    case = StepCase(workers, 64, BYTES, 125e6, messages=12)
    simulated = simulate_step(TRUTH, case, overlapped=overlapped)
    expected = TRUTH.step_seconds(case, overlapped=overlapped)
    # Behind an overlap the model takes the maximum of means, which is at most the mean of maxima.
    assert expected * 0.998 < simulated.seconds < expected * (1.02 if overlapped else 1.002)
    # All steps last as long as the exchange where that is the longer of the two.
    assert simulated.low <= simulated.seconds * (1 + 1e-9)
    assert simulated.seconds <= simulated.high * (1 + 1e-9)
    assert simulated.slow_step >= simulated.high * (1 - 1e-9)
    assert simulate_step(TRUTH, case, overlapped=overlapped) == simulated


def test_the_spreads_of_workers_and_steps_are_told_apart():
    generator = np.random.default_rng(3)
    slow = 0.1 * generator.standard_normal((400, 1))
    seconds = 0.02 * np.exp(slow + 0.05 * generator.standard_normal((400, 50)))
    found = fit_stragglers(seconds)
    assert found.step_spread == pytest.approx(0.05, rel=0.05)
    assert found.worker_spread == pytest.approx(0.1, rel=0.15)
    assert found.spread == pytest.approx(math.hypot(0.1, 0.05), rel=0.15)
    assert found.distance < 0.02
    heavy = 0.02 * (1 + generator.pareto(1.5, (400, 50)))
    assert fit_stragglers(heavy).distance > 0.1
    assert fit_stragglers(np.full((1, 9), 0.5)) == StragglerResult(0.0, 0.0, 9, 0.5)
    for bad in (np.ones((3, 1)), np.array([[1.0, -1.0]]), np.array([[1.0, math.inf]])):
        with pytest.raises(InputError, match="spread can't be fitted"):
            fit_stragglers(bad)


def test_a_worker_that_stays_slow_holds_up_every_step_of_its_run():
    lasting, fleeting = StragglerResult(0.0, 0.2, 0, 0.0), StragglerResult(0.2, 0.0, 0, 0.0)
    drawn = [draw_slowest(8, kind, 400, 300, np.random.default_rng(1)) for kind in (lasting, fleeting)]
    assert drawn[0].mean() == pytest.approx(drawn[1].mean(), rel=0.02)
    assert drawn[0].mean() == pytest.approx(mean_of_slowest(8, 0.2), rel=0.02)
    assert drawn[0].std(axis=1).max() == pytest.approx(0.0, abs=1e-12)
    assert drawn[1].mean(axis=1).std() < 0.2 * drawn[0].mean(axis=1).std()


def test_a_curve_follows_a_training_to_256_workers():
    result = fit_scaling(measured(TRUTH), spread=TRUTH.spread)
    batch = StepCase(1, 16384, BYTES, 1.25e9, messages=12)
    strong, weak = scaling_curve(result, batch), scaling_curve(result, replace(batch, examples=64), growth="weak")
    assert [point.workers for point in strong] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert strong[0].speedup == pytest.approx(1.0)
    assert strong[-1].examples == 64
    assert strong[-1].seconds == pytest.approx(weak[-1].seconds)
    for curve in (strong, weak):
        efficiencies = [point.efficiency for point in curve]
        assert efficiencies == sorted(efficiencies, reverse=True)
        for point in curve:
            assert point.low <= point.seconds <= point.high
            assert point.simulated.seconds == pytest.approx(point.seconds, rel=0.01)
    local = scaling_curve(result, replace(batch, steps_per_exchange=16))
    assert local[-1].efficiency > strong[-1].efficiency
    hidden = scaling_curve(result, batch, overlapped=True)
    assert hidden[3].seconds < strong[3].seconds
