"""What one training takes, and how many trainings are packed onto machines: seconds, machines, starts.

Whole trainings run one after another in each place of a machine, and side by side in several places: on a machine of 8
GPUs eight trainings of one GPU each. Billing begins once for a machine and not for every training, and only the first
training of a machine compiles from nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebox.planning.estimates import Estimate
from ebox.planning.profiles import Profile, Spread

JOBS = ("one", "search", "factors")
# Machines are added until waiting for them to start, all together, takes this share of the work; and no more of them.
OVERHEAD_SHARE, MOST_MACHINES = 0.1, 16
# Where no profile has the figure.
ASSUMED = {"start": 10.0, "compile": 30.0, "validation": 1.0, "checkpoint": 0.1}
# A cache of compiled programs leaves this share of the time of a compilation, where it was not measured.
CACHED_SHARE = 0.25


@dataclass(frozen=True)
class Training:
    """One whole training on one place, in seconds.

    Args:
        start: From starting the program to the compilation.
        compile: With an empty cache.
        cached_compile: From the cache.
        train: All steps.
        validate: All validations.
        checkpoint: Of one checkpoint.
        checkpoint_every: Between two checkpoints.
        checkpoint_bytes: Of the model and the last checkpoints, which are kept.
    """

    start: float
    compile: float
    cached_compile: float
    train: Estimate
    validate: float
    checkpoint: float
    checkpoint_every: float
    checkpoint_bytes: float

    def seconds(self, *, cached: bool, train: float | None = None) -> float:
        """From the start of the program to its end, without checkpoints; train: other seconds of all steps."""
        steps = self.train.value if train is None else train
        return self.start + (self.cached_compile if cached else self.compile) + steps + self.validate


@dataclass(frozen=True)
class Packing:
    """How the trainings of a job are spread over machines.

    Args:
        machines: At once.
        places: Trainings at once on each.
        rounds: Trainings one after another in a place.
    """

    machines: int
    places: int
    rounds: int

    def machine_seconds(self, training: Training, train: float | None = None) -> float:
        """From the first start of a program on a machine to the last end, without checkpoints."""
        later = (self.rounds - 1) * training.seconds(cached=True, train=train)
        return training.seconds(cached=False, train=train) + later

    def divide(self, training: Training) -> dict[str, float]:
        """The same seconds by what they are for."""
        return {
            "start": self.rounds * training.start,
            "compile": training.compile + (self.rounds - 1) * training.cached_compile,
            "train": self.rounds * training.train.value,
            "validate": self.rounds * training.validate,
        }


def foresee_training(
    step_seconds: Estimate,
    steps: Estimate,
    profile: Profile,
    others: tuple[Profile, ...],
    carry: Callable[[float, Profile], float],
) -> Training:
    """What one training takes.

    Args:
        step_seconds: Of a step.
        steps: How many.
        profile: The machine on which the forecast of a step rests.
        others: Profiles from which a figure is borrowed that this one lacks.
        carry: The seconds of a validation on the machine, by those on that of a profile.
    """
    train = combine(step_seconds, steps)
    settings: Mapping[str, Any] = next((one.settings for one in (*others, profile) if "train" in one.settings), {})
    loop = settings.get("train", {})
    compile_seconds = _figure("compile", profile, others)
    validated = next((one for one in (profile, *others) if one.validation_seconds is not None), None)
    validation = _figure("validation", profile, others)
    if validated is not None:
        validation = carry(validation, validated)
    return Training(
        start=_figure("start", profile, others),
        compile=compile_seconds,
        cached_compile=compile_seconds * _find_cached_share((profile, *others)),
        train=train,
        validate=validation * int(loop.get("validations", 6)),
        checkpoint=_figure("checkpoint", profile, others),
        checkpoint_every=float(loop.get("checkpoint_every_seconds", 60.0)),
        checkpoint_bytes=_bytes_kept(profile, others),
    )


def _find_cached_share(profiles: Sequence[Profile]) -> float:
    """Which share of a compilation is left with a cache, by the first profile that has both."""
    for one in profiles:
        if one.cached_compile_seconds is not None and one.compile_seconds is not None:
            return one.cached_compile_seconds.median / one.compile_seconds.median
    return CACHED_SHARE


def list_borrowed(profile: Profile) -> list[str]:
    """The figures of a training that a profile lacks."""
    return [name for name in ASSUMED if getattr(profile, f"{name}_seconds") is None]


def _figure(name: str, profile: Profile, others: tuple[Profile, ...]) -> float:
    for one in (profile, *others):
        found: Spread | None = getattr(one, f"{name}_seconds")
        if found is not None:
            return found.median
    return ASSUMED[name]


def _bytes_kept(profile: Profile, others: tuple[Profile, ...]) -> float:
    """A checkpoint; by the parameters, their moments and their average where none was measured."""
    for one in (profile, *others):
        if one.checkpoint_bytes is not None:
            return float(one.checkpoint_bytes)
    return 4.0 * profile.subject.gradient_bytes


def pack(
    trainings: int,
    training: Training,
    places: int,
    overhead_seconds: float,
    *,
    most_machines: int = MOST_MACHINES,
    meets: Callable[[Packing], bool] | None = None,
) -> Packing:
    """Spread trainings over machines.

    With a deadline, the fewest machines that meet it; if none do, and without one, the most machines whose starts
    together take a tenth of the work. Of those that need as many rounds the fewest are taken: all are paid to the end.

    Args:
        trainings: How many.
        training: One of them.
        places: Trainings at once on a machine.
        overhead_seconds: From ordering a machine until ebox can begin there.
        most_machines: At once.
        meets: Whether a packing meets the deadline; None: there is none.
    """
    needed = math.ceil(trainings / places)
    most = max(1, min(needed, most_machines))
    if meets is not None:
        for machines in range(1, most + 1):
            found = Packing(machines, places, math.ceil(needed / machines))
            if meets(found):
                return found
        return _fill(needed, most, places)
    work = needed * training.seconds(cached=True)
    each = overhead_seconds + training.seconds(cached=False) - training.seconds(cached=True)
    machines = most if each <= 0.0 else max(1, min(most, math.floor(OVERHEAD_SHARE * work / each)))
    return _fill(needed, machines, places)


def _fill(needed: int, machines: int, places: int) -> Packing:
    """As many rounds as a number of machines needs, on as few machines as those rounds take."""
    rounds = math.ceil(needed / machines)
    return Packing(math.ceil(needed / rounds), places, rounds)


def combine(first: Estimate, second: Estimate) -> Estimate:
    """The product of two independent estimates: their relative errors add up in squares."""
    value = first.value * second.value
    if value <= 0.0 or min(first.low, second.low) <= 0.0:
        return Estimate(value, first.low * second.low, first.high * second.high)
    below = math.hypot(math.log(first.value / first.low), math.log(second.value / second.low))
    if math.isinf(max(first.high, second.high)):
        return Estimate(value, value * math.exp(-below), math.inf)
    above = math.hypot(math.log(first.high / first.value), math.log(second.high / second.value))
    return Estimate(value, value * math.exp(-below), value * math.exp(above))
