"""Time, money and energy of a job with an option, as estimates; and the same in a world that differs in one thing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ebox.planning.estimates import Estimate
from ebox.planning.jobs import MOST_MACHINES, Packing, pack
from ebox.planning.money import Activity, Cost, price_activity
from ebox.planning.options import Option
from ebox.planning.prices import Offer, Owned, PriceBook

GB = 1e9
# What a training leaves behind is kept for a month and fetched once.
KEPT_HOURS = 730.0
# An assumption. It is weighed, and no part of the money of an option.
HANDLING_HOURS = 0.25


@dataclass(frozen=True)
class World:
    """What an outcome depends on beside the option.

    Args:
        book: The prices.
        trainings: How many each job has.
        deadline_seconds: From the order to the end; None: none.
        hour_worth: What an hour of waiting is worth, in the currency of the book.
        handling_hours: What a person needs to set up a rented machine: account, image, data, results.
        prices: Factors of the price of offers, by their ids.
        speeds: Factors of the seconds of a step, by the id of an offer.
        steps: Factor of all steps.
    """

    book: PriceBook
    trainings: Mapping[str, int]
    deadline_seconds: float | None = None
    hour_worth: float = 1.0
    handling_hours: float = HANDLING_HOURS
    prices: Mapping[str, float] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)
    steps: float = 1.0

    def handling(self, option: Option) -> float:
        """What the person costs who sets a machine up; a machine that one owns is set up."""
        return 0.0 if isinstance(option.offer, Owned) else self.handling_hours * self.book.rates.person_per_hour.value

    def offer(self, option: Option) -> Offer | Owned:
        """The offer with its price in this world."""
        factor = self.prices.get(option.offer.id, 1.0)
        if factor == 1.0:
            return option.offer
        if isinstance(option.offer, Owned):
            return option.offer.model_copy(update={"purchase": option.offer.purchase * factor})
        keys = ("on_demand", "spot", "host_per_hour", "host_spot_per_hour")
        values = {key: getattr(option.offer, key) for key in keys}
        return option.offer.model_copy(
            update={key: value * factor for key, value in values.items() if value is not None}
        )


@dataclass(frozen=True)
class Outcome:
    """What a job takes with an option.

    Args:
        seconds: From the order to the last result.
        money: In the currency of the prices.
        joules: None: the power is not known.
        joules_from: From which power the energy is.
        machines_at_once: Machines, or groups of them for a training on several.
        parts: The seconds by what they are for.
        money_parts: The money by what it is for.
    """

    seconds: Estimate
    money: Estimate
    joules: Estimate | None
    joules_from: str
    machines_at_once: int
    parts: Mapping[str, float]
    money_parts: Mapping[str, float]

    def facts(self) -> dict[str, Any]:
        """As `plan.json` holds it."""
        return {
            "seconds": self.seconds.facts(),
            "money": self.money.facts(),
            "joules": None if self.joules is None else self.joules.facts(),
            "joules_from": self.joules_from,
            "machines_at_once": self.machines_at_once,
            "parts": dict(self.parts),
            "money_parts": dict(self.money_parts),
        }


def foresee_job(option: Option, job: str, world: World) -> Outcome:
    """Time, money and energy of a job."""
    packing = pack_job(option, job, world)
    factor = world.speeds.get(option.offer.id, 1.0) * world.steps
    train = option.training.train
    ends = (train.value, train.low, train.high)
    costs = [_price(option, packing, world, seconds * factor) for seconds in ends if math.isfinite(seconds)]
    middle = costs[0]
    joules = [one.joules for one in costs]
    known = None if any(one is None for one in joules) else [one for one in joules if one is not None]
    # Where it can't be excluded that no number of steps is enough, there is no upper end.
    most = [math.inf] * (len(ends) - len(costs))
    groups = packing.machines
    divided = packing.divide(option.training)
    start = middle.seconds_parts["start"] - option.training.start - option.training.compile
    return Outcome(
        seconds=_estimate([*(one.seconds for one in costs), *most]),
        money=_estimate([*(one.money * groups for one in costs), *most]),
        joules=None if known is None else _estimate([*(one * groups for one in known), *most]),
        joules_from=middle.joules_from,
        machines_at_once=groups,
        parts={
            **divided,
            "start": start + divided["start"],
            "train": divided["train"] * factor,
            "checkpoint": middle.seconds_parts["checkpoint"],
            "lost": middle.seconds_parts["lost"] + middle.seconds_parts["wait"],
        },
        money_parts={name: value * groups for name, value in middle.parts.items()},
    )


def weigh(option: Option, job: str, world: World) -> tuple[float, float]:
    """Money and seconds of a job, without their ranges: for comparing many options."""
    factor = world.speeds.get(option.offer.id, 1.0) * world.steps
    packing = pack_job(option, job, world)
    cost = _price(option, packing, world, option.training.train.value * factor)
    return cost.money * packing.machines, cost.seconds


def pack_job(option: Option, job: str, world: World) -> Packing:
    """How the trainings of a job are spread over machines of an option; what one owns is there once."""
    owned = isinstance(option.offer, Owned)
    training = option.training
    factor = world.speeds.get(option.offer.id, 1.0) * world.steps
    if factor != 1.0:
        training = replace(training, train=training.train.times(factor))
    start = 0.0 if isinstance(option.offer, Owned) else world.book.rates.start_seconds(option.offer)
    places = 1 if job == "one" else option.places
    trainings = world.trainings[job]

    def meets(found: Packing) -> bool:
        # With its checkpoints, and where machines are taken back with what that costs.
        assert world.deadline_seconds is not None
        return _price(option, found, world, option.training.train.value * factor).seconds <= world.deadline_seconds

    return pack(
        trainings,
        training,
        min(places, trainings),
        start,
        most_machines=1 if owned else MOST_MACHINES,
        meets=None if world.deadline_seconds is None else meets,
    )


def _price(option: Option, packing: Packing, world: World, train: float) -> Cost:
    """What one machine of a packing costs, or the machines of one training that needs several."""
    training = option.training
    begin = training.start + training.compile
    devices = option.num_devices * packing.places
    gigabytes = training.checkpoint_bytes * packing.rounds * packing.places / GB
    rented = isinstance(option.offer, Offer)
    # What is stated for a whole machine holds its host, which no counter of its devices does.
    is_stated = isinstance(option.offer, Owned) and option.offer.watts is not None
    watts = None if is_stated else option.watts
    activity = Activity(
        machine_seconds=packing.machine_seconds(training, train) - begin,
        num_devices=devices,
        num_machines=option.num_machines,
        storage_gb_hours=gigabytes * KEPT_HOURS if rented else 0.0,
        egress_gb=gigabytes if rented else 0.0,
        checkpoint_seconds=training.checkpoint,
        checkpoint_every_seconds=training.checkpoint_every,
        restart_seconds=begin,
        watts=None if watts is None else watts * devices,
    )
    return price_activity(world.offer(option), activity, world.book, option.kind)


def _estimate(values: list[float]) -> Estimate:
    """The middle value and the ends."""
    return Estimate(values[0], min(values), max(values))
