"""Which option to take for a job, and why: the least of money and waiting, within the budget and the deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ebox.planning.money import HOUR
from ebox.planning.options import Option
from ebox.planning.outcomes import Outcome, World, weigh
from ebox.planning.prices import Owned
from ebox.storage.notes import Code, note

# Beyond the first, options of the same offer differ little: a runner-up is of another offer.
CANDIDATES = 12


class Reason(Code):
    """Why an option is recommended, or what keeps it from the budget or the deadline."""

    LEAST_WORTH = "plan_least_worth"
    CHEAPEST = "plan_cheapest"
    FASTEST = "plan_fastest"
    MEASURED = "plan_measured"
    FITTED = "plan_fitted"
    MODELLED = "plan_modelled"
    OVER_BUDGET = "plan_over_budget"
    OVER_DEADLINE = "plan_over_deadline"
    RUNNER_UP = "plan_runner_up"
    PRICE = "plan_price"
    OWNED = "plan_owned"
    ENERGY = "plan_energy"
    START_DOMINATES = "plan_start_dominates"
    SPOT = "plan_spot"


@dataclass(frozen=True)
class Weighed:
    """An option with the money and the seconds of a job."""

    option: Option
    money: float
    seconds: float

    def worth(self, world: World) -> float:
        """The money, what waiting costs, and the person who sets up a rented machine."""
        return self.money + world.hour_worth * self.seconds / HOUR + world.handling(self.option)


@dataclass(frozen=True)
class Choice:
    """The recommendation for a job.

    Args:
        best: The option.
        runner_up: The best one of another offer; None: there is no other.
        rented: The best one that is for rent; None: there is none.
        within_budget: Whether it is.
        within_deadline: Whether it is.
        cheapest: Of all, whatever its time.
        fastest: Of all, whatever its money.
    """

    best: Weighed
    runner_up: Weighed | None
    rented: Weighed | None
    within_budget: bool
    within_deadline: bool
    cheapest: Weighed
    fastest: Weighed

    def facts(self, reasons: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """As `plan.json` holds it."""
        return {
            "option": self.best.option.id,
            "runner_up": None if self.runner_up is None else self.runner_up.option.id,
            "rented": None if self.rented is None else self.rented.option.id,
            "reasons": list(reasons),
        }


def weigh_all(options: Sequence[Option], job: str, world: World) -> list[Weighed]:
    """All options with the money and the seconds of a job."""
    return [Weighed(option, *weigh(option, job, world)) for option in options]


def choose(weighed: Sequence[Weighed], world: World, budget: float | None) -> Choice:
    """Choose the option that is worth most within the limits; where none is, the one that misses them least.

    Args:
        weighed: At least one option.
        world: The deadline, and what waiting is worth.
        budget: For the whole job; None: none.
    """

    def rank(one: Weighed) -> tuple[float, float, float, str]:
        return (*find_misses(one.money, one.seconds, world, budget), one.worth(world), one.option.id)

    ranked = sorted(weighed, key=rank)
    best = ranked[0]
    other = next((one for one in ranked if one.option.offer.id != best.option.offer.id), None)
    over_budget, over_deadline = find_misses(best.money, best.seconds, world, budget)
    return Choice(
        best=best,
        runner_up=other,
        rented=next((one for one in ranked if one.option.kind != "owned"), None),
        within_budget=over_budget == 0.0,
        within_deadline=over_deadline == 0.0,
        cheapest=min(weighed, key=lambda one: (one.money, one.seconds)),
        fastest=min(weighed, key=lambda one: (one.seconds, one.money)),
    )


def find_misses(money: float, seconds: float, world: World, budget: float | None) -> tuple[float, float]:
    """By what share work is over the budget and over the deadline; 0: it is not.

    Args:
        money: Of the work.
        seconds: Of the work.
        world: The deadline.
        budget: None: none.
    """
    deadline = world.deadline_seconds
    over_budget = 0.0 if budget is None or money <= budget else money / budget - 1.0
    return over_budget, 0.0 if deadline is None or seconds <= deadline else seconds / deadline - 1.0


def pick_candidates(weighed: Sequence[Weighed], world: World, always: Callable[[Option], bool]) -> list[Option]:
    """The options that may become best when the world differs a little: the best of each offer and kind of price.

    Args:
        weighed: All of them.
        world: What they are compared by.
        always: Options to keep whatever their place.
    """
    best: dict[tuple[str, str], Weighed] = {}
    for one in weighed:
        key = (one.option.offer.id, one.option.kind)
        if key not in best or one.worth(world) < best[key].worth(world):
            best[key] = one
    ranked = sorted(best.values(), key=lambda one: one.worth(world))[:CANDIDATES]
    kept = [one.option for one in ranked]
    return kept + [one.option for one in weighed if always(one.option) and one.option not in kept]


def give_reasons(choice: Choice, world: World, budget: float | None, outcome: Outcome) -> Iterator[dict[str, Any]]:
    """The notes on a recommendation.

    Args:
        choice: The recommendation.
        world: The deadline, and what waiting is worth.
        budget: For the whole job; None: none.
        outcome: What the job takes with it.
    """
    best, currency = choice.best, world.book.currency
    values = {"option": best.option.id, "money": best.money, "seconds": best.seconds, "currency": currency}
    handling = world.handling(best.option)
    yield note(Reason.LEAST_WORTH, {**values, "hour_worth": world.hour_worth, "handling": handling})
    if not choice.within_budget:
        yield note(Reason.OVER_BUDGET, {**values, "budget": budget})
    if not choice.within_deadline:
        deadline = world.deadline_seconds
        hours = None if deadline is None else deadline / HOUR
        yield note(Reason.OVER_DEADLINE, {**values, "hours": hours, "budget": budget})
    for code, other in ((Reason.CHEAPEST, choice.cheapest), (Reason.FASTEST, choice.fastest)):
        is_it = other.option.id == best.option.id
        yield note(
            code,
            {
                "option": other.option.id,
                "money": other.money,
                "seconds": other.seconds,
                "currency": currency,
                "is_recommended": is_it,
            },
        )
    yield _tell_price(best.option, currency)
    basis = {"measured": Reason.MEASURED, "fitted": Reason.FITTED, "modelled": Reason.MODELLED}
    forecast = best.option.forecast
    yield note(basis[forecast.kind], {"profile": forecast.profile, "error": forecast.error})
    joules = None if outcome.joules is None else outcome.joules.value
    is_owned = isinstance(best.option.offer, Owned)
    yield note(Reason.ENERGY, {"joules": joules, "from": outcome.joules_from, "is_owned": is_owned})
    start = outcome.parts["start"] + outcome.parts["compile"]
    if start > 0.5 * best.seconds:
        yield note(Reason.START_DOMINATES, {"seconds": start, "of_seconds": best.seconds})
    if best.option.kind == "spot":
        yield note(Reason.SPOT)
    if choice.runner_up is not None:
        other = choice.runner_up
        found = {"option": other.option.id, "money": other.money, "seconds": other.seconds, "currency": currency}
        yield note(Reason.RUNNER_UP, found)


def _tell_price(option: Option, currency: str) -> dict[str, Any]:
    """What a device costs for an hour, or what a machine that one owns cost, and from where that is known."""
    offer = option.offer
    known = {"currency": currency, "date": offer.date, "source": offer.source}
    if isinstance(offer, Owned):
        keys = ("id", "purchase", "years", "use_share")
        return note(Reason.OWNED, {**{key: getattr(offer, key) for key in keys}, **known})
    device, host = offer.price(option.kind)
    return note(Reason.PRICE, {"id": offer.id, "device": device, "host": host, "region": offer.region, **known})
