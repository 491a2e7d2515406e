"""What machines cost for some work: start-up, least billing, interruptions of spot machines, electricity, wear."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from ebox.errors import InputError
from ebox.planning.price_book import Offer, Owned, PriceBook, PriceKind
from ebox.storage.notes import Code

HOUR = 3600.0
HOURS_A_MONTH = 730.0
HOURS_A_YEAR = 8766.0
JOULES_A_KWH = 3.6e6


class EnergyFrom(Code):
    """From which power an energy is."""

    MEASURED = "energy_measured"
    STATED = "energy_stated"
    THERMAL_DESIGN = "energy_of_thermal_design"
    MEASURED_MEAN = "energy_of_published_mean"
    UNKNOWN = "energy_unknown"


class MoneyPart(Code):
    """What a sum of money is for."""

    DEVICES = "money_devices"
    HOSTS = "money_hosts"
    STORAGE = "money_storage"
    EGRESS = "money_egress"
    DEPRECIATION = "money_depreciation"
    ELECTRICITY = "money_electricity"


@dataclass(frozen=True)
class Activity:
    """Work for machines that start together, work, and are given back; `starts` times one after another.

    Args:
        machine_seconds: Work in all, without starts and checkpoints.
        num_devices: Devices that work together, on all machines.
        num_machines: Machines that they are in.
        starts: How many times machines are started for it; each pays the start and at least the least billing.
        storage_gb_hours: GB kept, times hours.
        egress_gb: GB fetched from the provider.
        checkpoint_seconds: Of one checkpoint.
        checkpoint_every_seconds: Work between two of them.
        preemptible: Whether it goes on from its last checkpoint after an interruption; else from its beginning.
        restart_seconds: What each start of the program takes before it works: loading, compilation, reading.
        watts: Measured power of all machines while they work; None: not measured.
    """

    machine_seconds: float
    num_devices: int = 1
    num_machines: int = 1
    starts: int = 1
    storage_gb_hours: float = 0.0
    egress_gb: float = 0.0
    checkpoint_seconds: float = 0.0
    checkpoint_every_seconds: float = 60.0
    preemptible: bool = True
    restart_seconds: float = 0.0
    watts: float | None = None

    @property
    def devices_each(self) -> int:
        """Devices of the machine that has most."""
        return -(-self.num_devices // self.num_machines)


@dataclass(frozen=True)
class Cost:
    """What an activity is expected to cost.

    Args:
        seconds: From the first order to the last result: starts, interruptions and waiting for machines included.
        billed_seconds: Of each machine that are paid.
        money: In the currency of the book.
        parts: Its parts, by codes of `MoneyPart`.
        seconds_parts: The seconds: `start`, `work`, `checkpoint`, `lost` to interruptions, and `wait` for machines.
        joules: From the first start of the program on, without what the site uses; None: the power is not known.
        joules_from: A code of `EnergyFrom`.
    """

    seconds: float
    billed_seconds: float
    money: float
    parts: dict[str, float]
    seconds_parts: dict[str, float]
    joules: float | None
    joules_from: str

    def facts(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)


def expected_seconds(
    work: float, *, every: float, checkpoint: float, restart: float, interruptions_per_second: float
) -> float:
    """The expected time for which machines run until some work is done, with interruptions by a Poisson process.

    A piece of s seconds that is done again from its begin, after a restart of R seconds, whenever it is interrupted at
    the rate r, takes exp(r R) (exp(r s) - 1) / r on average; the first start is such a piece with R = 0. Checkpoints
    stand between pieces and belong to the piece before. Interruptions may come in restarts, too.

    Args:
        work: Seconds of work.
        every: Seconds of work between two checkpoints; infinite: none is written.
        checkpoint: Seconds of a checkpoint.
        restart: Seconds from the order of a machine until work goes on.
        interruptions_per_second: The rate; 0: the sum of the parts.

    Source: the complete model of Daly 2006, which generalises Young 1974.
    """
    pieces = max(1, math.ceil(work / every))
    last = work - (pieces - 1) * (every if pieces > 1 else 0.0)
    rate = interruptions_per_second
    if rate == 0.0:
        return restart + work + (pieces - 1) * checkpoint
    try:
        whole = 0.0 if pieces == 1 else (pieces - 1) * math.expm1(rate * (every + checkpoint))
        again = math.exp(rate * restart) * (whole + math.expm1(rate * last))
        return (math.expm1(rate * restart) + again) / rate
    except OverflowError:
        return math.inf


def price_activity(offer: Offer | Owned, activity: Activity, book: PriceBook, kind: PriceKind) -> Cost:
    """What an activity is expected to cost with an offer, or on machines that one owns.

    With `spot`, work since the last checkpoint is lost at each interruption, another machine is waited for (which is
    not billed), started and paid; of several machines one that is taken back interrupts all.

    Args:
        offer: A device for rent, or a machine that one owns.
        activity: The work.
        book: The rates.
        kind: Which price; `owned` for machines that one owns, and only for them.

    Raises:
        InputError: the offer has no such price, no machine with that number of devices, or is interrupted too much.
    """
    _check_size(offer, activity)
    if isinstance(offer, Owned) != (kind == "owned"):
        raise InputError(f"{offer.id} has no {kind} price", remedy="`owned` is the price of machines that one owns")
    rates, each = book.rates, activity.machine_seconds / activity.starts
    start = 0.0 if isinstance(offer, Owned) else rates.start_seconds(offer)
    restart = start + activity.restart_seconds
    per_second = rates.spot_interruptions_per_hour.value / HOUR * activity.num_machines if kind == "spot" else 0.0
    is_lost_whole = kind == "spot" and not activity.preemptible
    timing = {
        "every": math.inf if is_lost_whole else activity.checkpoint_every_seconds,
        "checkpoint": activity.checkpoint_seconds,
        "restart": restart,
    }
    calm = expected_seconds(each, **timing, interruptions_per_second=0.0)
    running = expected_seconds(each, **timing, interruptions_per_second=per_second)
    if not math.isfinite(running):
        raise InputError(
            f"work of {each / HOUR:,.0f} hours is interrupted before it is done, again and again ({offer.id}, spot)",
            remedy="write checkpoints, or take machines on demand",
        )
    seconds = {
        "start": restart,
        "work": each,
        "checkpoint": calm - restart - each,
        "lost": running - calm,
        "wait": per_second * running * rates.spot_wait_seconds.value,
    }
    seconds = {name: activity.starts * value for name, value in seconds.items()}
    billed = activity.starts * _bill(offer, running, book)
    joules, source = _find_energy(offer, activity, book, activity.starts * (running - start))
    parts = _price_owned(offer, activity, book, billed, joules) if isinstance(offer, Owned) else {}
    if isinstance(offer, Offer):
        parts = _price_rented(offer, activity, book, kind, billed)
    return Cost(sum(seconds.values()), billed, sum(parts.values()), parts, seconds, joules, source.value)


def least_cost(offer: Offer | Owned, book: PriceBook, kind: PriceKind) -> Cost:
    """What the smallest machine of an offer costs for no work at all: its start, and the least that is billed."""
    devices = offer.unit_devices if isinstance(offer, Offer) else offer.num_devices
    return price_activity(offer, Activity(0.0, devices), book, kind)


def check_budget(budget: float, book: PriceBook, used: Collection[str] | None = None) -> None:
    """Check that a budget pays for the start of some machine.

    Args:
        budget: In the currency of the book.
        book: The prices.
        used: The ids of the offers that count; None: all that are for rent.

    Raises:
        InputError: it is not positive, or below the least that any offer bills.
    """
    if not (math.isfinite(budget) and budget > 0.0):
        raise InputError(f"a budget of {budget} is no sum of money", remedy="give more than 0")
    kinds: tuple[PriceKind, ...] = ("on_demand", "spot")
    least = [
        (least_cost(offer, book, kind).money, offer.id, kind)
        for offer in book.offers
        for kind in kinds
        if (used is None or offer.id in used) and getattr(offer, kind) is not None
    ]
    if least and budget < min(least)[0]:
        money, name, kind = min(least)
        raise InputError(
            f"a budget of {budget:g} {book.currency} is below the least that any offer costs before it has done "
            f"anything: {money:.3g} {book.currency} ({name}, {kind})",
            remedy=f"give at least {math.ceil(money * 100) / 100:g} {book.currency}, or use a machine that you own",
        )


def _check_size(offer: Offer | Owned, activity: Activity) -> None:
    most = offer.max_devices if isinstance(offer, Offer) else offer.num_devices
    if activity.devices_each > most:
        raise InputError(
            f"{offer.id} has machines of up to {most} devices, and {activity.devices_each} on one were asked for",
            remedy=f"take {-(-activity.num_devices // most)} machines, or fewer devices",
        )


def _bill(offer: Offer | Owned, seconds: float, book: PriceBook) -> float:
    """The seconds that are billed for a machine that ran this long."""
    if isinstance(offer, Owned):
        return seconds
    least = book.rates.minimum_seconds(offer)
    return math.ceil(seconds / least) * least if offer.reserved else max(seconds, least)


def _price_rented(
    offer: Offer, activity: Activity, book: PriceBook, kind: PriceKind, billed: float
) -> dict[str, float]:
    device, host = offer.price(kind)
    hours = billed / HOUR * offer.billed_devices(activity.devices_each) * activity.num_machines
    parts = {
        MoneyPart.DEVICES: hours * device,
        MoneyPart.HOSTS: hours * host,
        MoneyPart.STORAGE: activity.storage_gb_hours / HOURS_A_MONTH * book.rates.storage_per_gb_month.value,
        MoneyPart.EGRESS: activity.egress_gb * book.rates.egress_per_gb.value,
    }
    return {code.value: money for code, money in parts.items()}


def _price_owned(
    owned: Owned, activity: Activity, book: PriceBook, seconds: float, joules: float | None
) -> dict[str, float]:
    """Wear by the hours of use, and electricity with what the site adds; unknown power costs nothing here."""
    used_hours = owned.years * HOURS_A_YEAR * owned.use_share
    site = owned.power_usage_effectiveness or book.rates.power_usage_effectiveness.value
    kwh = 0.0 if joules is None else joules * site / JOULES_A_KWH
    return {
        MoneyPart.DEPRECIATION.value: owned.purchase / used_hours * seconds / HOUR * activity.num_machines,
        MoneyPart.ELECTRICITY.value: kwh * book.rates.electricity_per_kwh.value,
    }


def _find_energy(
    offer: Offer | Owned, activity: Activity, book: PriceBook, seconds: float
) -> tuple[float | None, EnergyFrom]:
    """The energy of machines that work for some seconds, and from which power it is."""
    if activity.watts is not None:
        return activity.watts * seconds, EnergyFrom.MEASURED
    if isinstance(offer, Owned) and offer.watts is not None:
        return offer.watts * activity.num_machines * seconds, EnergyFrom.STATED
    hardware = None if offer.hardware is None else book.hardware[offer.hardware]
    if hardware is None or hardware.watts is None:
        return None, EnergyFrom.UNKNOWN
    sources = {"measured_mean": EnergyFrom.MEASURED_MEAN, "thermal_design": EnergyFrom.THERMAL_DESIGN}
    return hardware.watts * activity.num_devices * seconds, sources.get(hardware.watts_kind, EnergyFrom.STATED)
