"""Two or more profiles side by side: scaling, time, and throughput per device, per unit of money and per joule.

Only profiles of one network and one dataset are compared, since another subject is another amount of work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ebox.errors import InputError
from ebox.planning.price_book import PriceBook
from ebox.planning.profiles import Learning, Profile, Spread, Step

HOUR = 3600.0
# A target that all reach is rounded down to this many digits.
_TARGET_DIGITS = 3


@dataclass(frozen=True)
class Difference:
    """What differs between two subjects: its name, and its two values."""

    name: str
    one: Any
    other: Any

    def __str__(self) -> str:
        """The name with both values."""
        return f"{self.name}: {_short(self.one)} against {_short(self.other)}"


def profiles_differ(one: Profile, other: Profile) -> list[Difference]:
    """What differs in the network and the dataset of two profiles; empty: they can be compared.

    A network is described by its settings and not by its fingerprint alone, as far as the settings tell it.
    """
    found = list[Difference]()
    if one.subject.dataset != other.subject.dataset:
        sizes = [
            Difference(name, getattr(one.subject, name), getattr(other.subject, name))
            for name in ("num_train", "length_bp", "num_tracks")
        ]
        found.append(Difference("dataset", one.subject.dataset, other.subject.dataset))
        found += [size for size in sizes if size.one != size.other]
    if one.subject.network != other.subject.network:
        mine, theirs = (profile.settings.get("model", {}) for profile in (one, other))
        told = [
            Difference(f"model.{key}", mine.get(key), theirs.get(key))
            for key in sorted({*mine, *theirs})
            if mine.get(key) != theirs.get(key)
        ]
        found += told if told else [Difference("network", one.subject.network, other.subject.network)]
    return found


def check_alike(profiles: Mapping[str, Profile]) -> None:
    """Raise InputError where profiles, by their files, are of different networks or datasets."""
    (first, one), *rest = profiles.items()
    for file, other in rest:
        differences = profiles_differ(one, other)
        if differences:
            raise InputError(
                f"was measured with another subject than {first}: {'; '.join(map(str, differences))} "
                f"({other.name} against {one.name})",
                file=file,
                remedy="measure both with the same dataset and the same settings of the network",
            )


def check_names(profiles: Mapping[str, Profile]) -> None:
    """Raise InputError where two profiles, by their files, have one name, by which tables and prices call them."""
    files = dict[str, str]()
    for file, profile in profiles.items():
        first = files.setdefault(profile.name, file)
        if first != file:
            raise InputError(
                f"is called {profile.name!r}, as is {first}",
                file=file,
                remedy=f'give it a name of its own: write "name": "{profile.name}-2", or another, in this file',
            )


@dataclass(frozen=True)
class Price:
    """What a device costs for an hour, with its host and its share of devices that have to be paid beside it.

    Args:
        money: In the currency of the prices.
        offer: The id of the cheapest offer on demand; None: the user gave it.
        date: Month of that offer; None: unknown.
    """

    money: float
    offer: str | None = None
    date: str | None = None


@dataclass(frozen=True)
class Throughput:
    """Steps of one worker with one batch.

    Args:
        batch_size: Global batch.
        precision: The faster one that was measured.
        sequences_per_second: Of the one worker.
        joules_an_example: Energy; None: not readable there.
        examples_for_one: Examples for one unit of money; None: no price is known.
    """

    batch_size: int
    precision: str
    sequences_per_second: float
    joules_an_example: float | None
    examples_for_one: float | None


@dataclass(frozen=True)
class Scaling:
    """Steps of several workers.

    Args:
        workers: Their number.
        batch_size: Global batch.
        exchange: How gradients travel.
        sequences_per_second: Of all workers.
        efficiency: The share of a step that is not spent on the exchange and on waiting for others.
    """

    workers: int
    batch_size: int
    exchange: str
    sequences_per_second: float
    efficiency: float


@dataclass(frozen=True)
class Times:
    """Whole trainings.

    Args:
        batch_size: Global batch.
        training_seconds: Over the seeds.
        to_target_seconds: Until the validation AUROC that all trainings of all profiles reach.
        best_auroc: The best validation AUROC.
        money: What a training costs while it runs; None: no price is known.
    """

    batch_size: int
    training_seconds: Spread
    to_target_seconds: Spread
    best_auroc: Spread
    money: float | None


@dataclass(frozen=True)
class Compared:
    """One profile in a comparison.

    Args:
        name: That of the profile.
        device: Its devices in words.
        num_devices: How many.
        price: Of one device for an hour; None: none is known.
        throughput: By batch.
        scaling: By workers.
        times: Of whole trainings; None: none were measured.
    """

    name: str
    device: str
    num_devices: int
    price: Price | None
    throughput: tuple[Throughput, ...]
    scaling: tuple[Scaling, ...]
    times: Times | None


@dataclass(frozen=True)
class ComparisonResult:
    """Profiles side by side.

    Args:
        profiles: Each one.
        target_auroc: What all trainings reach; None: a profile has no trainings.
        batches: Global batches that were measured in all profiles.
        currency: Of all money.
        remarks: What to know about the prices, as notes.
    """

    profiles: tuple[Compared, ...]
    target_auroc: float | None
    batches: tuple[int, ...]
    currency: str
    remarks: tuple[dict[str, Any], ...] = ()

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        spreads = {"training_seconds", "to_target_seconds", "best_auroc"}
        facts = asdict(self)
        for one in facts["profiles"]:
            if one["times"] is not None:
                one["times"] |= {name: one["times"][name].model_dump() for name in spreads}
        return facts


def compare_profiles(
    profiles: Sequence[Profile], given: Mapping[str, float], book: PriceBook | None = None
) -> ComparisonResult:
    """Compare profiles of one subject.

    Args:
        profiles: Two or more; see `check_alike`.
        given: Money for an hour of one device, by the name of a profile or of its hardware.
        book: Prices for all others; None: none.
    """
    sizes = ({step.batch_size for step in profile.steps if step.workers == 1} for profile in profiles)
    has_trainings = all(profile.learning for profile in profiles)
    target = find_target(profiles) if has_trainings else None
    compared = [_compare(profile, find_price(profile, given, book), target) for profile in profiles]
    currency = "USD" if book is None else book.currency
    return ComparisonResult(tuple(compared), target, tuple(sorted(set.intersection(*sizes))), currency)


def find_price(profile: Profile, given: Mapping[str, float], book: PriceBook | None) -> Price | None:
    """Of a device for an hour: as given for the profile or its hardware, else that of the cheapest offer on demand."""
    hardware = profile.device.hardware
    own = given.get(profile.name, None if hardware is None else given.get(hardware))
    if own is not None:
        return Price(own)
    offers = [] if book is None else [one for one in book.offers if one.hardware == hardware]
    sold = [one for one in offers if one.on_demand is not None and not one.reserved]
    count = profile.device.count
    fitting = [one for one in sold if one.max_devices >= count]
    paid = {one.id: sum(one.price("on_demand")) * one.billed_devices(count) / count for one in fitting}
    costs = {one.id: Price(paid[one.id], one.id, one.date) for one in fitting}
    return min(costs.values(), key=lambda cost: (cost.money, cost.offer), default=None)


def find_target(profiles: Sequence[Profile]) -> float:
    """The greatest validation AUROC that every training of every profile reaches, rounded down."""
    least = min(training.best_auroc for profile in profiles for training in profile.learning)
    scale = 10**_TARGET_DIGITS
    return int(least * scale) / scale


def time_to(training: Learning, auroc: float) -> float | None:
    """Seconds until the first validation that reaches an AUROC; None: none does."""
    return next((point.seconds for point in training.points if point.auroc >= auroc), None)


def _compare(profile: Profile, price: Price | None, target: float | None) -> Compared:
    device = profile.device
    alone = [step for step in profile.steps if step.workers == 1]
    fastest = {
        size: max((step for step in alone if step.batch_size == size), key=lambda step: step.sequences_per_second)
        for size in sorted({step.batch_size for step in alone})
    }
    return Compared(
        name=profile.name,
        device=f"{device.count} x {device.name}"
        if device.platform != "cpu"
        else f"{device.name}, {device.num_cores} cores",
        num_devices=device.count,
        price=price,
        throughput=tuple(_weigh(step, price) for step in fastest.values()),
        scaling=tuple(_scale(step) for step in sorted(profile.steps, key=_order) if step.workers > 1),
        times=None if target is None else _take_times(profile, price, target),
    )


def _order(step: Step) -> tuple[int, int, str]:
    return step.workers, step.batch_size, step.exchange


def _weigh(step: Step, price: Price | None) -> Throughput:
    rate = step.sequences_per_second
    joules = None if step.watts is None else step.watts.median / rate
    return Throughput(
        step.batch_size, step.precision, rate, joules, None if price is None else rate * HOUR / price.money
    )


def _scale(step: Step) -> Scaling:
    efficiency = max(0.0, 1.0 - step.exchange_seconds / step.seconds.median)
    return Scaling(step.workers, step.batch_size, step.exchange, step.sequences_per_second, efficiency)


def _take_times(profile: Profile, price: Price | None, target: float) -> Times:
    reached = [time_to(training, target) for training in profile.learning]
    seconds = Spread.of([training.seconds for training in profile.learning])
    devices = profile.device.count
    return Times(
        batch_size=profile.learning[0].batch_size,
        training_seconds=seconds,
        to_target_seconds=Spread.of([one for one in reached if one is not None]),
        best_auroc=Spread.of([training.best_auroc for training in profile.learning]),
        money=None if price is None else price.money * devices * seconds.median / HOUR,
    )


def _short(value: Any) -> str:
    text = "unknown" if value is None else str(value)
    return text if len(text) <= 20 else f"{text[:12]}…"
