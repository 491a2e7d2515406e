"""Successive halving: many short trainings, of which the best go on to longer ones (Jamieson 2016; Li 2018).

Every rung trains anew, from fresh weights, along the whole one-cycle schedule of its length. The other way, to go on
from where the rung before stopped, would save a quarter of the time with three rungs of three, but it measures a
network whose rate is still high: the order then says which settings bear a high rate, and not which end best. A rung of
its own is the training of `ebox train` with as many steps, of which it keeps the last network. It is also a function of
settings and data alone, so that a search that was killed loses at most the trainings that were under way, and any
process may make any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ebox.settings.reading import Config, TuningConfig

# How often a training of a rung says how far it is.
LOGS = 8


@dataclass(frozen=True)
class Halving:
    """The rungs of a round.

    Args:
        rungs: Their number; the last trains to the end.
        reduction: Of a rung's trials the best 1 / reduction go on, and train for as many times as long.
    """

    rungs: int
    reduction: int

    @staticmethod
    def of(settings: TuningConfig) -> Halving:
        """Take it from the settings."""
        return Halving(settings.rungs, settings.reduction)

    @property
    def round_trials(self) -> int:
        """Trials of a whole round, of which one reaches the last rung."""
        return int(self.reduction ** (self.rungs - 1))

    @property
    def last(self) -> int:
        """The last rung, counted from 0."""
        return self.rungs - 1

    def share(self, rung: int) -> float:
        """The length of a rung's training, as a share of the whole one."""
        return float(self.reduction) ** (rung - self.last)

    def steps(self, rung: int, whole: int) -> int:
        """The steps of a rung, where the whole training has `whole`."""
        return max(1, round(whole * self.share(rung)))

    def sizes(self, trials: int, *, carries: bool = False) -> list[int]:
        """How many trials of a round stand on each rung, at most; one more where one is carried to the last."""
        sizes = [trials]
        while len(sizes) < self.rungs:
            sizes.append(self._kept(sizes[-1]))
        return [trials, *(min(size + carries, trials) for size in sizes[1:])]

    def cost(self, trials: int, *, carries: bool = False) -> float:
        """What a round takes, in whole trainings, at most."""
        return sum(size * self.share(rung) for rung, size in enumerate(self.sizes(trials, carries=carries)))

    def choose(
        self, values: Mapping[int, float], trials: int, *, maximises: bool, carried: int | None = None
    ) -> list[int]:
        """The trials that go on to the next rung; of equals the earlier ones.

        Args:
            values: The measures of a rung by the trial's number; those that failed are left out.
            trials: How many stood on the rung, without one that was carried there.
            maximises: Whether a greater measure is better.
            carried: A trial that goes on whatever it measured, as one more where it is not among the best.
        """
        sign = -1.0 if maximises else 1.0
        ranked = sorted(values, key=lambda number: (sign * values[number], number))
        chosen = set(ranked[: self._kept(trials)])
        return sorted(chosen | ({carried} & set(ranked)) if carried is not None else chosen)

    def _kept(self, trials: int) -> int:
        return max(1, trials // self.reduction)


def shorten(config: Config, steps: int) -> Config:
    """Settings for one training of a rung: that many steps, and one validation at their end."""
    changes = {
        "max_steps": steps,
        "validations": 1,
        "patience": None,
        "keep": "last",
        "calibrate": False,
        "log_every_steps": max(1, steps // LOGS),
        # A dispatch makes no difference to the result, and the first one is that with the compiler's time.
        "steps_per_dispatch": min(config.train.steps_per_dispatch, max(1, steps // LOGS)),
    }
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})
