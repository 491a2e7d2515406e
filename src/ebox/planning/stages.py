"""A project in stages, each on the machine that suits it: a pilot, a search, the final trainings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ebox.planning.choosing import Weighed, choose, find_misses, weigh_all
from ebox.planning.estimates import Estimate
from ebox.planning.money import HOUR
from ebox.planning.options import Option
from ebox.planning.outcomes import Outcome, World, foresee_job
from ebox.planning.prices import Owned
from ebox.storage.notes import Code, note

# Trainings of the pilot, and of the end: several seeds.
PILOT, FINAL = 1, 5
STAGES = ("pilot", "search", "final")
_MOST_TRAININGS = 100_000


class StageNote(Code):
    """The rule of thumb for which stage belongs where, and limits that all stages together miss."""

    SAME = "stages_same"
    SPLIT = "stages_split"
    RENT_FROM = "stages_rent_from"
    NEVER_RENT = "stages_never_rent"
    ALWAYS_RENT = "stages_always_rent"
    OVER_BUDGET = "stages_over_budget"
    OVER_DEADLINE = "stages_over_deadline"


def plan_stages(options: Sequence[Option], world: World, budget: float | None, trials: int) -> dict[str, Any]:
    """Choose for each stage, and compare with the one option that is best for all stages together.

    The budget and the deadline are those of all stages: where the best of each stage miss them together, the cheapest
    or the soonest of each may keep them.

    Args:
        options: Those that may become best.
        world: The prices.
        budget: For all stages; None: none.
        trials: Trainings of the search.
    """
    worlds = {stage: _world(world, number) for stage, number in zip(STAGES, (PILOT, trials, FINAL), strict=True)}
    weighed = {stage: weigh_all(options, "search", here) for stage, here in worlds.items()}

    def rank(stages: Iterable[Weighed]) -> tuple[float, float, float]:
        rows = tuple(stages)
        money, seconds = sum(one.money for one in rows), sum(one.seconds for one in rows)
        return (*find_misses(money, seconds, world, budget), _add_up(rows, world))

    choices = [choose(rows, worlds[stage], budget) for stage, rows in weighed.items()]
    single = min(zip(*weighed.values(), strict=True), key=rank)
    # Whoever rents at one place for all stages sets a machine up once; of equals that one is taken.
    splits = [tuple(getattr(one, kind) for one in choices) for kind in ("best", "cheapest", "fastest")]
    chosen = dict(zip(STAGES, min([single, *splits], key=rank), strict=True))
    outcomes = {stage: foresee_job(one.option, "search", worlds[stage]) for stage, one in chosen.items()}
    alone = [foresee_job(one.option, "search", here) for one, here in zip(single, worlds.values(), strict=True)]
    total = _time_and_money(list(outcomes.values()))
    missed = _note_limits(total, world, budget)
    return {
        "plan": [
            {"stage": stage, "option": chosen[stage].option.id, **_time_and_money([outcomes[stage]])}
            for stage in STAGES
        ],
        "total": total,
        "against": {"option": single[0].option.id, **_time_and_money(alone)},
        "rule": [*missed, *_give_rule(options, world, [one.option for one in chosen.values()])],
    }


def _add_up(rows: Sequence[Weighed], world: World) -> float:
    """What stages are worth together."""
    handled = {one.option.offer.id: world.handling(one.option) for one in rows}
    return sum(one.money + world.hour_worth * one.seconds / HOUR for one in rows) + sum(handled.values())


def _note_limits(total: dict[str, Any], world: World, budget: float | None) -> list[dict[str, Any]]:
    """The limits that all stages together miss."""
    money, seconds = total["money"]["value"], total["seconds"]["value"]
    over_budget, over_deadline = find_misses(money, seconds, world, budget)
    found = []
    if over_budget and budget is not None:
        values = {"money": money, "budget": budget, "currency": world.book.currency}
        found.append(note(StageNote.OVER_BUDGET, values))
    if over_deadline and world.deadline_seconds is not None:
        found.append(note(StageNote.OVER_DEADLINE, {"seconds": seconds, "hours": world.deadline_seconds / HOUR}))
    return found


def _world(world: World, trainings: int) -> World:
    return replace(world, trainings={"search": trainings})


def _time_and_money(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Stages come one after another."""
    return {
        "seconds": _sum([one.seconds for one in outcomes]).facts(),
        "money": _sum([one.money for one in outcomes]).facts(),
    }


def _sum(values: Sequence[Estimate]) -> Estimate:
    return Estimate(*(sum(getattr(one, end) for one in values) for end in ("value", "low", "high")))


def _give_rule(options: Sequence[Option], world: World, chosen: Sequence[Option]) -> Iterator[dict[str, Any]]:
    offers = {option.offer.id for option in chosen}
    yield note(StageNote.SPLIT if len(offers) > 1 else StageNote.SAME, {"offers": sorted(offers)})
    owned = [option for option in options if isinstance(option.offer, Owned)]
    rented = [option for option in options if not isinstance(option.offer, Owned)]
    if not owned or not rented:
        return
    number = find_rent_from(owned, rented, world)
    if number is None:
        yield note(StageNote.NEVER_RENT, {"trainings": _MOST_TRAININGS})
    elif number == 1:
        yield note(StageNote.ALWAYS_RENT)
    else:
        yield note(StageNote.RENT_FROM, {"trainings": number})


def find_rent_from(owned: Sequence[Option], rented: Sequence[Option], world: World) -> int | None:
    """The least number of trainings from which rented machines are worth more than those that one owns; None: never."""

    def is_rented(number: int) -> bool:
        here = _world(world, number)
        here = replace(here, deadline_seconds=None)
        own, other = (min(one.worth(here) for one in weigh_all(some, "search", here)) for some in (owned, rented))
        return other < own

    if is_rented(1):
        return 1
    if not is_rented(_MOST_TRAININGS):
        return None
    low, high = 1, _MOST_TRAININGS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_rented(middle) else (middle, high)
    return high
