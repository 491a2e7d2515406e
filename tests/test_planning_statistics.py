"""Statistics of planning: noise of the gradient, steps to a target by batch, and learning curves, on planted truth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.planning.estimates import Estimate
from ebox.planning.learning_curve import auroc_error, fit_learning_curve
from ebox.planning.noise_scale import NoisePoint, average_noise, measure_points
from ebox.planning.profiles import Learning, NoiseScale, Point
from ebox.planning.steps_to_target import EXCHANGE_STEPS, SYNC_STEPS, Reading, StepsModel, fit_steps, take_readings
from measured import cpu_profile, learning

NUM_WEIGHTS = 12
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
NOISE, FLOOR, RATE, LEVEL = 400.0, 0.3, 0.5, 0.06


def error_after(progress: float, rate: float = RATE) -> float:
    """The planted error after steps without noise: LEVEL at 200."""
    return LEVEL * (FLOOR + (1.0 - FLOOR) * (progress / 200.0) ** -rate)


def plant_readings(batches: dict[int, tuple[float, ...]], spread: float = 0.03, seeds: int = 3) -> list[Reading]:
    """Ends of trainings with these lengths, in steps without noise, for each batch."""
    rng = np.random.default_rng(5)
    trainings = [(batch, length) for batch, lengths in batches.items() for length in lengths for _ in range(seeds)]
    return [
        Reading(
            round(length * (1.0 + NOISE / batch)),
            1.0,
            batch,
            1.0 - error_after(length) * math.exp(spread * rng.standard_normal()),
            number,
        )
        for number, (batch, length) in enumerate(trainings)
    ]


def planted_steps(target: float, batch: int) -> float:
    rest = ((1.0 - target) / LEVEL - FLOOR) / (1.0 - FLOOR)
    return 200.0 * rest ** (-1.0 / RATE) * (1.0 + NOISE / batch)


LENGTHS = (130.0, 200.0, 300.0)
MEASURED = NoiseScale(batch_size=NOISE, low=320.0, high=500.0, over_steps=())


def test_an_estimate_holds_its_value_and_the_middle_of_its_draws() -> None:
    found = Estimate.of_draws(0.5, np.linspace(0.0, 1.0, 1001))
    assert (found.low, found.value, found.high) == pytest.approx((0.025, 0.5, 0.975))
    assert Estimate.of_draws(2.0, [0.0, 1.0]).high == 2.0
    assert found.times(2.0).facts() == pytest.approx({"value": 1.0, "low": 0.05, "high": 1.95})


def test_facts_have_no_infinite_number() -> None:
    assert Estimate(3.0, 1.0, math.inf).facts() == {"value": 3.0, "low": 1.0, "high": None}


def test_steps_of_all_batches_are_found_from_four_of_them() -> None:
    model = fit_steps(plant_readings(dict.fromkeys((32, 128, 512, 2048), LENGTHS)), None)
    assert model.useful_batch().value == pytest.approx(NOISE, rel=0.1)
    assert model.useful_batch().low < NOISE < model.useful_batch().high
    for batch in (8, 32, 128, 512, 2048, 8192):
        steps = model.steps(0.93, batch)
        assert steps is not None
        assert steps.value == pytest.approx(planted_steps(0.93, batch), rel=0.1)
        assert steps.low < planted_steps(0.93, batch) < steps.high


@pytest.mark.parametrize("left_out", [32, 128, 512, 2048])
def test_a_batch_that_was_not_measured_is_predicted_from_the_others_and_the_noise(left_out: int) -> None:
    others = {batch: LENGTHS for batch in (32, 128, 512, 2048) if batch != left_out}
    steps = fit_steps(plant_readings(others), MEASURED).steps(0.93, left_out)
    assert steps is not None
    assert steps.value == pytest.approx(planted_steps(0.93, left_out), rel=0.15)


def test_one_batch_and_the_noise_scale_say_what_other_batches_need() -> None:
    model = fit_steps(plant_readings({64: LENGTHS}), MEASURED)
    for batch in (64, 1024):
        steps = model.steps(0.93, batch)
        assert steps is not None
        assert steps.value == pytest.approx(planted_steps(0.93, batch), rel=0.15)
    # Far from the batch that was measured less is known.
    near, far = model.steps(0.93, 64), model.steps(0.93, 4096)
    assert near is not None
    assert far is not None
    assert far.high / far.low > 1.5 * near.high / near.low


def test_without_a_noise_scale_one_batch_says_little_of_large_ones() -> None:
    readings = plant_readings({64: LENGTHS})
    known, unknown = (fit_steps(readings, scale).steps(0.93, 4096) for scale in (MEASURED, None))
    assert known is not None
    assert unknown is not None
    assert unknown.high / unknown.low > 3.0 * known.high / known.low


def test_at_the_useful_batch_steps_are_twice_the_least() -> None:
    model = fit_steps(plant_readings(dict.fromkeys((32, 128, 512, 2048), LENGTHS)), None)
    least, there = model.steps(0.93, 10**9), model.steps(0.93, round(model.useful_batch().value))
    assert least is not None
    assert there is not None
    assert there.value / least.value == pytest.approx(2.0, rel=0.02)
    assert model.useful_batch(0.25).value == pytest.approx(3.0 * model.useful_batch().value)


def test_trainings_whose_rate_still_rose_at_every_validation_give_no_model() -> None:
    begun = learning(0)
    only_early = begun.model_copy(update={"points": begun.points[:1]})
    assert StepsModel.of(cpu_profile(learning=(only_early,))) is None


def test_a_target_above_the_ceiling_takes_no_number_of_steps() -> None:
    model = fit_steps(plant_readings(dict.fromkeys((32, 2048), LENGTHS)), MEASURED)
    assert model.steps(0.999, 64) is None
    assert model.ceiling.low < 1.0 - LEVEL * FLOOR < model.ceiling.high


def test_a_prediction_and_the_steps_to_it_agree() -> None:
    model = fit_steps(plant_readings({64: LENGTHS, 512: LENGTHS}), MEASURED)
    steps = model.steps(0.935, 64)
    assert steps is not None
    assert model.predict(steps.value, 64).value == pytest.approx(0.935, abs=5e-4)


def test_an_exchange_takes_its_part_more_steps_and_widens_the_interval() -> None:
    model = fit_steps(plant_readings({64: LENGTHS}), MEASURED)
    exact, topk = model.steps(0.93, 64), model.steps(0.93, 64, exchange="topk", sync="local")
    assert exact is not None
    assert topk is not None
    expected = EXCHANGE_STEPS["topk"].value * SYNC_STEPS["local"].value
    assert topk.value / exact.value == pytest.approx(expected, rel=0.05)
    assert topk.high / topk.low > exact.high / exact.low


def test_factors_of_exchanges_hold_what_was_measured() -> None:
    ways = json.loads((RESULTS / "network.json").read_text(encoding="utf-8"))["ways"]
    like, whole = ways["exact, groups"]["steps_to_auroc"], ways["exact"]["steps_to_auroc"]
    for name in ("half", "int8", "topk", "powersgd"):
        assert EXCHANGE_STEPS[name].low <= ways[name]["steps_to_auroc"] / like <= EXCHANGE_STEPS[name].high
    assert SYNC_STEPS["delayed"].low <= ways["exact, delayed"]["steps_to_auroc"] / like <= SYNC_STEPS["delayed"].high
    assert SYNC_STEPS["local"].low <= ways["exact, local 16"]["steps_to_auroc"] / whole <= SYNC_STEPS["local"].high


def test_every_way_to_exchange_has_its_factor() -> None:
    from typing import get_args

    from ebox.settings.sections import ParallelConfig

    fields = ParallelConfig.model_fields
    assert set(get_args(fields["exchange"].annotation)) == set(EXCHANGE_STEPS)
    assert set(get_args(fields["sync"].annotation)) == set(SYNC_STEPS)


def test_validations_while_the_rate_rises_say_nothing_of_how_a_training_learns() -> None:
    points = tuple(Point(step=step, seconds=step, auroc=0.9) for step in (25, 50, 75, 100))
    training = Learning(seed=0, batch_size=64, num_examples=6400, num_steps=100, seconds=100.0, points=points)
    assert [(one.step, one.share) for one in take_readings([training])] == [(50, 0.5), (75, 0.75), (100, 1.0)]


def test_of_trainings_of_several_lengths_the_ends_alone_are_read() -> None:
    def train(num_steps: int, batch_size: int = 64) -> Learning:
        points = tuple(Point(step=num_steps * part // 2, seconds=1.0, auroc=0.9) for part in (1, 2))
        return Learning(
            seed=0, batch_size=batch_size, num_examples=6400, num_steps=num_steps, seconds=1.0, points=points
        )

    assert [one.step for one in take_readings([train(100), train(200)])] == [100, 200]
    # About one length, or other batches, whose steps are others anyway.
    assert [one.step for one in take_readings([train(100), train(120)])] == [50, 100, 60, 120]
    assert [one.step for one in take_readings([train(100), train(400, 256)])] == [50, 100, 200, 400]


SIZES = (5_400, 10_800, 21_700, 43_400)


def plant_curve(size: float, rate: float = 0.4, floor: float = 0.5) -> float:
    return 1.0 - 0.045 * (floor + (1.0 - floor) * (size / SIZES[-1]) ** -rate)


def test_a_learning_curve_holds_the_planted_one() -> None:
    rng = np.random.default_rng(1)
    points = [(size, 1.0 - (1.0 - plant_curve(size)) * math.exp(0.02 * rng.standard_normal())) for size in SIZES * 2]
    curve = fit_learning_curve(points)
    for size in (43_400, 86_800, 434_000):
        found = curve.predict(size)
        assert found.low < plant_curve(size) < found.high
    assert curve.predict(86_800).value == pytest.approx(plant_curve(86_800), abs=0.002)
    assert curve.ceiling.low < 1.0 - 0.045 * 0.5 < curve.ceiling.high
    needed = curve.needed(0.96)
    assert needed is not None
    assert needed.low < 43_400 * ((0.04 / 0.045 - 0.5) / 0.5) ** -2.5 < needed.high


def test_intervals_of_learning_curves_hold_the_truth_as_often_as_they_say() -> None:
    rng, within, trials = np.random.default_rng(2), 0, 80
    for _ in range(trials):
        rate, floor, spread = rng.uniform(0.1, 1.0), rng.uniform(0.0, 0.9), rng.choice([0.01, 0.04])
        sizes = SIZES[: rng.integers(3, 5)]
        noise = np.exp(spread * rng.standard_normal(len(sizes)))
        points = [
            (size, 1.0 - (1.0 - plant_curve(size, rate, floor)) * n) for size, n in zip(sizes, noise, strict=True)
        ]
        found = fit_learning_curve(points).predict(2 * SIZES[-1])
        within += found.low <= plant_curve(2 * SIZES[-1], rate, floor) <= found.high
    assert within / trials >= 0.9


def test_a_target_above_the_ceiling_needs_no_number_of_examples() -> None:
    curve = fit_learning_curve([(size, plant_curve(size, rate=1.0, floor=0.9)) for size in SIZES])
    assert curve.needed(0.9999) is None
    assert curve.ceiling.high < 0.9999


def test_what_may_be_out_of_reach_needs_examples_without_limit() -> None:
    curve = fit_learning_curve([(size, plant_curve(size)) for size in SIZES])
    needed = curve.needed(float(curve.ceiling.value))
    assert needed is not None
    assert needed.low > SIZES[-1]
    assert math.isinf(needed.high)


def test_few_validation_examples_widen_a_learning_curve() -> None:
    points = [(size, plant_curve(size)) for size in SIZES]
    sure, unsure = (fit_learning_curve(points, num_positive=n, num_negative=5 * n) for n in (100_000, 100))
    widths = [one.predict(SIZES[-1]).high - one.predict(SIZES[-1]).low for one in (sure, unsure)]
    assert widths[1] > 2.0 * widths[0]


def test_the_error_of_an_auroc_is_that_of_simulated_rankings() -> None:
    rng, aurocs = np.random.default_rng(3), []
    for _ in range(2000):
        positives, negatives = rng.exponential(4.0, 60), rng.exponential(1.0, 90)
        aurocs.append((positives[:, None] > negatives).mean())
    # Exponential scores are those for which Hanley and McNeil's formula is exact; here the AUROC is 0.8.
    assert auroc_error(0.8, 60, 90) == pytest.approx(np.std(aurocs), rel=0.05)


@pytest.mark.parametrize(
    ("points", "told"),
    [([(100, 0.8), (200, 0.9)], "3 different"), ([(100, 0.8), (200, 0.9), (400, 1.2)], "1.2"), ([], "there are 0")],
)
def test_what_is_no_learning_curve_is_refused(points: list[tuple[int, float]], told: str) -> None:
    with pytest.raises(InputError, match=told):
        fit_learning_curve(points)


class LinearModel:
    """Gradients of squared errors, of known mean and covariance: x (x · w + e), with x and e normal."""

    def __init__(self, distance: float = 0.5) -> None:
        self.apart = np.full(NUM_WEIGHTS, distance / math.sqrt(NUM_WEIGHTS))
        self.signal = distance**2
        # Isserlis: E[x xT w wT x xT] = 2 w wT + |w|^2 I, and the noise e adds I.
        self.noise = (NUM_WEIGHTS + 1) * self.signal + NUM_WEIGHTS

    def compare(self, rng: np.random.Generator, batch_size: int, num_batches: int) -> NoisePoint:
        inputs = rng.standard_normal((num_batches, batch_size, NUM_WEIGHTS))
        missed = inputs @ self.apart + rng.standard_normal((num_batches, batch_size))
        gradients = (inputs * missed[..., None]).mean(axis=1)
        return NoisePoint(0, gradients @ gradients.T, batch_size)


def test_signal_and_noise_are_those_of_a_linear_model() -> None:
    model, rng = LinearModel(), np.random.default_rng(4)
    found = np.mean([model.compare(rng, 16, 8).split() for _ in range(3000)], axis=0)
    assert found == pytest.approx((model.signal, model.noise), rel=0.03)


def test_noise_does_not_depend_on_the_batch_that_measured_it() -> None:
    model, rng = LinearModel(), np.random.default_rng(4)
    for batch_size in (2, 64):
        scale = average_noise([model.compare(rng, batch_size, 16) for _ in range(600)])
        assert scale.batch_size == pytest.approx(model.noise / model.signal, rel=0.1)


def test_the_interval_of_a_noise_scale_holds_the_truth_as_often_as_it_says() -> None:
    model, rng, within = LinearModel(), np.random.default_rng(6), 0
    for _ in range(200):
        scale = average_noise([model.compare(rng, 32, 16) for _ in range(4)])
        within += scale.low <= model.noise / model.signal <= scale.high
    assert 0.9 <= within / 200 <= 0.99


def test_early_and_late_steps_are_averaged_apart_in_noise_and_signal() -> None:
    early, late = LinearModel(2.0), LinearModel(0.1)
    rng = np.random.default_rng(7)
    scale = average_noise([model.compare(rng, 64, 32) for model in (early, late) for _ in range(50)])
    expected = (early.noise + late.noise) / (early.signal + late.signal)
    assert scale.batch_size == pytest.approx(expected, rel=0.1)


def test_a_gradient_that_is_all_noise_has_no_scale() -> None:
    rng = np.random.default_rng(8)
    with pytest.raises(InputError, match="can't be told from its noise"):
        average_noise([LinearModel(1e-6).compare(rng, 4, 8) for _ in range(3)])


@pytest.mark.slow
def test_the_noise_of_a_training_does_not_depend_on_the_batch_that_measured_it() -> None:
    """Without batch normalisation, gradients of examples are independent, and the training is the same."""
    from ebox.training.inputs import TrainingInputs
    from planted import planted, small_config

    data, found = planted(), []
    for batch_size in (4, 20):
        config = small_config(batch_size=batch_size, max_steps=2, learning_rate=1e-6)
        config = config.model_copy(update={"model": config.model.model_copy(update={"batch_norm": False})})
        points = measure_points(TrainingInputs.of(data, config), config)
        assert [point.step for point in points] == [0, 1, 2]
        found.append(np.mean([point.split()[1] for point in points]))
    assert found[0] == pytest.approx(found[1], rel=0.15)
