"""How many steps a training needs to a validation AUROC, by its batch and by how its workers exchange gradients.

With a batch of B examples, `1 + B_noise / B` times as many steps are needed as with a batch without noise (McCandlish
2018, equation 2.7): `steps / (1 + B_noise / B)` is how far a training came, and the error falls as a power of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from ebox.planning.estimates import Estimate
from ebox.planning.power_laws import Candidate, PowerLaws, fit_power_laws
from ebox.planning.profiles import Learning, NoiseScale, Profile

# How many times as many steps an exchange and a kind of synchronisation take to the same AUROC: value, low, high.
# Four workers with 16 examples each, real TAL1, 3 epochs, one to three seeds (benchmarks/results/network.json and
# network_seeds.json): the steps to 0.93, and what the difference of the last AUROC is worth in steps.
EXCHANGE_STEPS: Mapping[str, Estimate] = MappingProxyType(
    {
        "exact": Estimate.exact(1.0),
        "half": Estimate(1.0, 0.95, 1.1),
        "int8": Estimate(1.02, 0.95, 1.15),
        "topk": Estimate(1.25, 1.1, 1.5),
        "powersgd": Estimate(1.06, 1.0, 1.2),
    }
)
# `local` with 16 steps between two meetings; a gradient that is late in `async` is as in `delayed`, but later.
SYNC_STEPS: Mapping[str, Estimate] = MappingProxyType(
    {
        "every-step": Estimate.exact(1.0),
        "delayed": Estimate(1.03, 0.95, 1.2),
        "local": Estimate(1.7, 1.3, 2.3),
        "async": Estimate(1.1, 0.95, 1.5),
    }
)
# The spread of the logarithm of the noise scale about the critical batch: it differs so between seeds; the mean of four
# was the critical batch (benchmarks/steps_to_target.py).
NOISE_SPREAD = 0.5
# What is supposed where no noise scale was measured: between a tenth and ten times of it.
SUPPOSED_NOISE, SUPPOSED_NOISE_SPREAD = 1000.0, 1.2
NUM_NOISES = 17
# A validation in the middle is about as good as the end of a training of these steps, since the network that is
# validated is a moving average: as that of its steps · (share of the steps)^power. On real TAL1 the powers lay between
# these: the default network had 0.9529 in the middle of 12 epochs and 0.9535 after 6 of 6, and 0.9486 in the middle of
# 6 and 0.947 after 3 of 3 (three seeds).
UNFINISHED_POWERS: Mapping[float, float] = MappingProxyType({-0.15: 0.25, 0.0: 0.5, 0.25: 0.25})
# Earlier ones say more of the rise of the rate than of learning (0.9296 after 2 of 12 epochs, 0.9395 after 2 of 6).
LEAST_SHARE = 1.0 / 3.0 - 1e-9
# From this ratio of the longest to the shortest training with one batch on, their ends alone are read: they are what is
# predicted. With validations in the middle too, 497 steps were said to be enough for what measured trainings of 598
# steps had reached at their ends (benchmarks/prediction.py).
LENGTHS_APART = 1.5


@dataclass(frozen=True)
class Reading:
    """A validation of a training.

    Args:
        step: Steps made.
        share: The part of the training that they are: 1 at its end.
        batch_size: Global batch.
        auroc: On the validation split.
        training: The number of the training.
    """

    step: int
    share: float
    batch_size: int
    auroc: float
    training: int


@dataclass(frozen=True, eq=False)
class StepsModel:
    """All ways to learn that the measured trainings leave possible.

    Args:
        laws: Error 1 - AUROC by steps of a batch without noise.
        noise: The critical batch of each.
        num_readings: Validations that were used.
        batch_sizes: Batches that were measured.
    """

    laws: PowerLaws
    noise: Float[np.ndarray, " draw"]
    num_readings: int
    batch_sizes: tuple[int, ...]

    @classmethod
    def of(cls, profile: Profile) -> StepsModel | None:
        """Fit the trainings of a profile; None: it holds none, or none of their later validations."""
        readings = take_readings(profile.learning)
        return fit_steps(readings, profile.noise_scale) if readings else None

    @property
    def ceiling(self) -> Estimate:
        """The AUROC that no number of steps exceeds, with these data and this network."""
        best = 1.0 - self.laws.level * self.laws.floor
        return Estimate.of_draws(float(np.median(best)), best)

    def steps(
        self, target_auroc: float, batch_size: int, *, sync: str = "every-step", exchange: str = "exact"
    ) -> Estimate | None:
        """Steps of a whole training that ends at a validation AUROC; None: more likely than not none are enough.

        The schedule of the rate ends with the training. The high end is without limit where that can't be excluded.

        Args:
            target_auroc: What the training should reach on validation.
            batch_size: Global batch.
            sync: As the setting `parallel.sync`.
            exchange: As the setting `parallel.exchange`.
        """
        found = self.laws.solve(1.0 - target_auroc) * (1.0 + self.noise / batch_size) * self._more(sync, exchange)
        low, value, high = np.quantile(found, [0.025, 0.5, 0.975], method="lower")
        return None if math.isinf(value) else Estimate(*(max(1.0, float(one)) for one in (value, low, high)))

    def predict(
        self, num_steps: float | int, batch_size: int, *, sync: str = "every-step", exchange: str = "exact"
    ) -> Estimate:
        """The validation AUROC at the end of a training.

        Args:
            num_steps: Its steps.
            batch_size: Global batch.
            sync: As the setting `parallel.sync`.
            exchange: As the setting `parallel.exchange`.
        """
        progress = num_steps / (1.0 + self.noise / batch_size) / self._more(sync, exchange)
        found = 1.0 - self.laws.errors(progress)
        return Estimate.of_draws(float(np.median(found)), found)

    def useful_batch(self, share: float = 0.5) -> Estimate:
        """The batch up to which a training needs at most 1 / share of the examples that it needs with small batches.

        At a half it is the critical batch: steps are twice the least, and so are examples. A larger batch, and so more
        devices, shortens a training by less than a half however large it is.
        """
        found = self.noise * (1.0 / share - 1.0)
        return Estimate.of_draws(float(np.median(found)), found)

    def _more(self, sync: str, exchange: str) -> Float[np.ndarray, " draw"]:
        """How many times as many steps this way to work together takes, for each draw."""
        rng = np.random.default_rng(len(self.noise))
        drawn = [_draw(factor, rng, len(self.noise)) for factor in (EXCHANGE_STEPS[exchange], SYNC_STEPS[sync])]
        return drawn[0] * drawn[1]


def take_readings(trainings: Sequence[Learning]) -> list[Reading]:
    """The validations of trainings that say how they learn: their ends, or with one length those after a third."""
    readings = [
        Reading(point.step, point.step / training.num_steps, training.batch_size, point.auroc, number)
        for number, training in enumerate(trainings)
        for point in training.points
    ]
    least = 1.0 if _have_lengths(trainings) else LEAST_SHARE
    return [reading for reading in readings if reading.share >= least]


def _have_lengths(trainings: Sequence[Learning]) -> bool:
    """Whether trainings with one batch had different lengths."""
    steps: dict[int, list[int]] = {}
    for training in trainings:
        steps.setdefault(training.batch_size, []).append(training.num_steps)
    return any(max(some) >= LENGTHS_APART * min(some) for some in steps.values())


def fit_steps(readings: Sequence[Reading], noise_scale: NoiseScale | None, *, seed: int = 0) -> StepsModel:
    """Weigh all power laws, critical batches and effects of an unfinished schedule by how well they fit.

    Args:
        readings: Validations of trainings, one at least; several batches tell the critical batch.
        noise_scale: What is known of the critical batch beside them; None: nothing was measured.
        seed: Of the draws.
    """
    noises, chances = _suppose_noise(noise_scale)
    laws, found = _weigh_noises(readings, noises, chances, seed)
    # Again, closer: many trainings at several batches leave less open than the first steps of the grid are wide.
    low, high = found.min() * noises[0] / noises[1], found.max() * noises[1] / noises[0]
    closer = np.geomspace(low, high, NUM_NOISES)
    chances = np.exp(np.interp(np.log(closer), np.log(noises), np.log(chances)))
    laws, found = _weigh_noises(readings, closer, chances, seed)
    return StepsModel(laws, found, len(readings), tuple(sorted({one.batch_size for one in readings})))


def _weigh_noises(
    readings: Sequence[Reading], noises: Float[np.ndarray, " noise"], chances: Float[np.ndarray, " noise"], seed: int
) -> tuple[PowerLaws, Float[np.ndarray, " draw"]]:
    """Curves and their critical batches.

    Args:
        readings: Validations of trainings.
        noises: Critical batches to weigh.
        chances: How likely each is before any training is looked at.
        seed: Of the draws.
    """
    steps, shares, sizes, aurocs = (
        np.array([getattr(one, name) for one in readings], np.float64)
        for name in ("step", "share", "batch_size", "auroc")
    )
    powers = UNFINISHED_POWERS if (shares < 1.0).any() else {0.0: 1.0}
    cases = list(itertools.product(zip(noises, chances, strict=True), powers.items()))
    candidates = [
        Candidate(steps * shares**power / (1.0 + noise / sizes), chance * likely)
        for (noise, chance), (power, likely) in cases
    ]
    laws = fit_power_laws(candidates, 1.0 - aurocs, [one.training for one in readings], seed=seed)
    return laws, np.array([noise for (noise, _), _ in cases])[laws.choice]


def _suppose_noise(scale: NoiseScale | None) -> tuple[Float[np.ndarray, " noise"], Float[np.ndarray, " noise"]]:
    """Critical batches, and how likely each is before any training is looked at: log-normal."""
    if scale is None:
        middle, spread = SUPPOSED_NOISE, SUPPOSED_NOISE_SPREAD
    else:
        within = math.log(scale.high / max(scale.low, 1e-9)) / (2.0 * 1.96)
        middle, spread = scale.batch_size, math.hypot(NOISE_SPREAD, within)
    places = np.linspace(-3.0, 3.0, NUM_NOISES)
    return middle * np.exp(spread * places), np.exp(-0.5 * places**2)


def _draw(factor: Estimate, rng: np.random.Generator, count: int) -> Float[np.ndarray, " draw"]:
    """Log-normal draws on both sides of a value, with 2.5 % past each end."""
    normal = rng.standard_normal(count)
    up, down = (math.log(end / factor.value) / 1.96 for end in (factor.high, factor.low))
    return factor.value * np.exp(normal * np.where(normal > 0.0, up, -down))
