"""What would flip a recommendation: one thing at a time is made smaller and greater, and all is weighed again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ebox.planning.choosing import Choice, choose, weigh_all
from ebox.planning.options import Option
from ebox.planning.outcomes import World, weigh
from ebox.storage.notes import Code

_STEPS_OF_SEARCH = 8
# Where there is no upper end of the steps, they are tried up to this factor.
MOST_STEPS = 10.0


class Factor(Code):
    """What is changed."""

    PRICE = "tornado_price"
    STEP_SECONDS = "tornado_step_seconds"
    STEPS = "tornado_steps"
    START = "tornado_start"
    INTERRUPTIONS = "tornado_interruptions"
    TRAININGS = "tornado_trainings"
    HOUR_WORTH = "tornado_hour_worth"
    HANDLING = "tornado_handling"


@dataclass(frozen=True)
class Change:
    """A thing that may be otherwise: between a smaller and a greater factor; `make` gives the world with a factor."""

    factor: Factor
    low: float
    high: float
    make: Callable[[World, float], World]


def find_flips(
    options: Sequence[Option], job: str, world: World, budget: float | None, choice: Choice
) -> list[dict[str, Any]]:
    """For each thing the money of the recommended option at both ends, the best option there, and where it flips.

    Args:
        options: Those that may become best.
        job: Its name.
        world: As it is taken to be.
        budget: For the job; None: none.
        choice: The recommendation in this world.
    """
    best = choice.best.option
    rows = [_vary(change, options, job, world, budget, best) for change in _list_changes(best, job)]
    return sorted(rows, key=lambda row: row["money_low"] - row["money_high"])


def _list_changes(best: Option, job: str) -> list[Change]:
    step, steps = best.forecast.seconds, best.steps
    offer = best.offer.id
    changes = [
        Change(Factor.PRICE, 0.5, 2.0, lambda world, factor: replace(world, prices={offer: factor})),
        Change(
            Factor.STEP_SECONDS,
            min(0.9, step.low / step.value),
            max(1.1, step.high / step.value),
            lambda world, factor: replace(world, speeds={offer: factor}),
        ),
        Change(
            Factor.STEPS,
            min(0.8, steps.low / steps.value),
            min(MOST_STEPS, max(1.25, steps.high / steps.value)),
            lambda world, factor: replace(world, steps=factor),
        ),
        Change(Factor.START, 0.25, 4.0, _change_start),
        Change(Factor.INTERRUPTIONS, 0.1, 10.0, _change_interruptions),
        Change(
            Factor.HANDLING,
            0.1,
            4.0,
            lambda world, factor: replace(world, handling_hours=world.handling_hours * factor),
        ),
        Change(
            Factor.HOUR_WORTH, 0.1, 10.0, lambda world, factor: replace(world, hour_worth=world.hour_worth * factor)
        ),
    ]
    if job == "one":
        return changes
    return [*changes, Change(Factor.TRAININGS, 0.1, 10.0, _change_trainings)]


def _change_start(world: World, factor: float) -> World:
    names = [f"{kind}_{part}_seconds" for kind in ("vm", "tpu_slice", "container") for part in ("start", "image")]
    values = {name: getattr(world.book.rates, name).value * factor for name in names}
    return replace(world, book=world.book.with_rates(**values))


def _change_interruptions(world: World, factor: float) -> World:
    value = world.book.rates.spot_interruptions_per_hour.value * factor
    return replace(world, book=world.book.with_rates(spot_interruptions_per_hour=value))


def _change_trainings(world: World, factor: float) -> World:
    return replace(world, trainings={name: max(1, round(number * factor)) for name, number in world.trainings.items()})


def _vary(
    change: Change, options: Sequence[Option], job: str, world: World, budget: float | None, best: Option
) -> dict[str, Any]:
    def best_at(factor: float) -> str:
        other = change.make(world, factor)
        return choose(weigh_all(options, job, other), other, budget).best.option.id

    money = [weigh(best, job, change.make(world, factor))[0] for factor in (change.low, change.high)]
    ids = [best_at(factor) for factor in (change.low, change.high)]
    flips = [end for end, id in zip((change.low, change.high), ids, strict=True) if id != best.id]
    return {
        "factor": change.factor.value,
        "low": change.low,
        "high": change.high,
        "money_low": min(money),
        "money_high": max(money),
        "option_low": ids[0],
        "option_high": ids[1],
        "flips": bool(flips),
        "flips_at": min((_find_flip(best_at, end, best.id) for end in flips), key=_distance, default=None),
    }


def _find_flip(best_at: Callable[[float], str], end: float, id: str) -> float:
    """The factor between 1 and an end at which another option becomes best, by halving the logarithm."""
    kept, lost = 0.0, math.log(end)
    for _ in range(_STEPS_OF_SEARCH):
        middle = (kept + lost) / 2.0
        kept, lost = (middle, lost) if best_at(math.exp(middle)) == id else (kept, middle)
    return math.exp(lost)


def _distance(factor: float) -> float:
    return abs(math.log(factor))
