"""How long a search goes on: a number of trials, or the minutes that it may take with the trainings after it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ebox.errors import InputError
from ebox.tuning.halving import Halving
from ebox.tuning.trials import Trial

# What is kept back beside the expected time.
SAFETY = 1.15


@dataclass(frozen=True)
class Pace:
    """What trainings take: seconds of each beside its steps (compiler, validation), and of the steps of a whole one."""

    start: float
    whole: float

    @staticmethod
    def of(trials: Sequence[Trial], halving: Halving) -> Pace | None:
        """The mean over all results; None where there are none."""
        found = [
            (result["seconds"] - result["step_seconds"] * result["steps"], result, halving.share(rung))
            for trial in trials
            for rung, result in enumerate(trial.results)
        ]
        if not found:
            return None
        starts = [start for start, _, _ in found]
        wholes = [result["step_seconds"] * result["steps"] / share for _, result, share in found]
        return Pace(sum(starts) / len(found), sum(wholes) / len(found))

    def of_rung(self, share: float) -> float:
        """The seconds of a training of a rung."""
        return self.start + self.whole * share


@dataclass(frozen=True)
class Budget:
    """What a search may use.

    Args:
        halving: Its rungs.
        trials: How many trials; None: as many as the time allows.
        seconds: The time from now on, with that of the final trainings; None: as long as the trials take.
        finals: How many final trainings follow.
        processes: How many trainings go side by side.
        carries: Whether the first trial of the first round is carried to its last rung.
        began: When it began, by `time.monotonic`.
    """

    halving: Halving
    trials: int | None = None
    seconds: float | None = None
    finals: int = 0
    processes: int = 1
    carries: bool = False
    began: float = field(default_factory=time.monotonic)

    @staticmethod
    def read(
        halving: Halving,
        trials: int | None,
        minutes: float | None,
        *,
        finals: int,
        processes: int,
        carries: bool = False,
    ) -> Budget:
        """Take it from what the user asked for.

        Args:
            halving: The rungs of the search.
            trials: Number of trials.
            minutes: Minutes for all.
            finals: How many final trainings follow.
            processes: How many trainings go side by side.
            carries: Whether the first trial of the first round is carried to its last rung.

        Raises:
            InputError: neither or both are given, no such numbers, or too few trials for one rung.
        """
        if (trials is None) == (minutes is None):
            found = "neither --trials nor --minutes is given" if trials is None else "--trials and --minutes are given"
            raise InputError(found, remedy="say how long to search: --trials 27, or --minutes 20")
        if minutes is not None:
            if not (math.isfinite(minutes) and minutes > 0.0):
                raise InputError(f"--minutes {minutes:g} is not a time", remedy="give a number above 0")
            return Budget(halving, None, 60.0 * minutes, finals, processes, carries)
        least = halving.reduction if halving.rungs > 1 else 1
        if trials is None or trials < least:
            raise InputError(
                f"--trials {trials} is too few for one rung, of which one in {halving.reduction} goes on"
                if trials and halving.rungs > 1
                else f"--trials {trials} is not a number of trials",
                remedy=f"give --trials {least} or more; a whole round has {halving.round_trials}",
            )
        return Budget(halving, trials, None, finals, processes, carries)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def reserve(self, trials: Sequence[Trial]) -> float:
        """The seconds that the final trainings will take: as long as the longest that may win."""
        whole = [trial for trial in trials if len(trial.results) == self.halving.rungs]
        paces = [pace for trial in (whole if whole else trials) if (pace := Pace.of([trial], self.halving)) is not None]
        return self.finals * SAFETY * max((pace.start + pace.whole for pace in paces), default=0.0)

    def is_over(self, trials: Sequence[Trial]) -> bool:
        """Whether only the time for the final trainings is left."""
        return self.seconds is not None and self.elapsed + self.reserve(trials) >= self.seconds

    def afford(self, trials: Sequence[Trial], first: int) -> int:
        """How many trials of the round that begins with trial `first` there is time for."""
        assert self.seconds is not None
        pace = Pace.of(trials, self.halving)
        if pace is None:
            return 0
        left = self.seconds - self.elapsed - self.reserve(trials)
        sizes = range(self.halving.round_trials, 0, -1)
        return next((size for size in sizes if SAFETY * self._foresee(pace, size, trials, first) <= left), 0)

    def least_minutes(self, trials: Sequence[Trial]) -> int:
        """The minutes that the smallest search would take, with what has been learned of the pace."""
        pace = Pace.of(trials, self.halving)
        assert pace is not None
        seconds = SAFETY * self._foresee(pace, self.least, trials, 0) + self.reserve(trials)
        return math.ceil((seconds + self.elapsed) / 60.0)

    def guess_minutes(self, first_rung: float) -> int:
        """The minutes that the smallest search would take, where a training of the first rung takes some seconds."""
        pace = Pace(0.0, first_rung / self.halving.share(0))
        seconds = self._foresee(pace, self.least, (), 0) + self.finals * pace.whole
        return math.ceil(SAFETY * seconds / 60.0)

    def _foresee(self, pace: Pace, size: int, trials: Sequence[Trial], first: int) -> float:
        """The seconds of what is not measured yet of a round: of each rung as many turns as its processes need."""
        there, seconds = [trial for trial in trials if trial.first == first], 0.0
        for rung, number in enumerate(self.halving.sizes(size, carries=self.carries and first == 0)):
            done = sum(
                len(one.results) > rung or (len(one.results) == rung and one.failure is not None) for one in there
            )
            seconds += math.ceil(max(0, number - done) / self.processes) * pace.of_rung(self.halving.share(rung))
        return seconds

    @property
    def least(self) -> int:
        """The trials of the smallest round in which some are dropped."""
        return self.halving.reduction if self.halving.rungs > 1 else 1
