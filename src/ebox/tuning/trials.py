"""What a trial is, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ebox.settings.reading import Config
from ebox.storage.notes import Code
from ebox.tuning.members import describe_shape
from ebox.tuning.spaces import Kept

State = Literal["whole", "dropped", "failed", "open"]
STATES: tuple[State, ...] = ("whole", "dropped", "failed", "open")


class Failure(Code):
    """Why a trial has no result."""

    REFUSED = "trial_refused"
    TRAINING = "trial_failed"


@dataclass(frozen=True)
class Trial:
    """One choice of settings.

    Args:
        number: Counted from 0.
        kept: Its values, as the space keeps them.
        results: What each rung measured: loss, auroc, auprc, steps, seconds, num_parameters.
        failure: Why it has no further result: a note, with the message of the error.
        is_told: Whether its round has ended.
        first: The first trial of its round.
    """

    number: int
    kept: Mapping[str, Kept]
    results: tuple[Mapping[str, Any], ...] = ()
    failure: Mapping[str, Any] | None = None
    is_told: bool = False
    first: int = 0

    def value(self, monitor: str, rung: int = -1) -> float | None:
        """The measure of a rung, by default the last one that it reached; None before the first."""
        return float(self.results[rung][monitor]) if self.results else None

    def state(self, rungs: int) -> State:
        """How far it came."""
        if self.failure is not None:
            return "failed"
        if len(self.results) == rungs:
            return "whole"
        return "dropped" if self.is_told else "open"


@dataclass(frozen=True)
class Job:
    """A training of a rung."""

    number: int
    rung: int
    config: Config
    steps: int

    @property
    def shape(self) -> tuple[Any, ...]:
        """What jobs that train together have in common: all but rates."""
        return self.rung, self.steps, describe_shape(self.config)


def find_best(trials: Sequence[Trial], monitor: str) -> Trial | None:
    """The best trial of those that came furthest; of equals the earlier one; None where none has a result."""
    reached = max((len(trial.results) for trial in trials if trial.failure is None), default=0)
    if reached == 0:
        return None
    sign = 1.0 if monitor == "loss" else -1.0
    there = [trial for trial in trials if trial.failure is None and len(trial.results) == reached]
    return min(there, key=lambda trial: (sign * float(trial.results[-1][monitor]), trial.number))
