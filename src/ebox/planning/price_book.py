"""What devices cost: offers, rates, and machines that one owns, from tables that a user edits or overrides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ebox.errors import InputError
from ebox.planning.hardware import Count, Hardware, Positive
from ebox.settings.fields import Settings
from ebox.storage.notes import Code, note

PriceKind = Literal["on_demand", "spot", "owned"]
PRICE_KINDS: tuple[PriceKind, ...] = ("on_demand", "spot", "owned")
# Older prices are warned of.
OLD_DAYS = 180
NotNegative = Annotated[float, Field(ge=0.0)]
Month = Annotated[str, Field(pattern=r"^(19|20)\d{2}-(0[1-9]|1[0-2])$")]
ASSUMPTION = "assumption"


class PriceNote(Code):
    """What to know about prices before money is spent."""

    OLD = "prices_old"
    UNDATED = "prices_undated"
    UNVERIFIED = "figures_unverified"
    ASSUMED = "rates_assumed"
    RATES_OLD = "rates_old"
    TAXES_EXCLUDED = "taxes_excluded"
    TAXES_INCLUDED = "taxes_included"
    SPOT = "spot_no_promise"
    HOSTS = "hosts_added"
    RESERVED = "offers_reserved"


class Entry(Settings):
    """A row of a table: frozen, nothing unknown, no text where a number belongs."""

    model_config = ConfigDict(strict=True)


class Offer(Entry):
    """What a provider asks for a device. All prices are for one device and one hour."""

    id: str = Field(description="its name in plans")
    provider: str = Field(description="who rents it out")
    hardware: str = Field(description="its row of the table of hardware")
    on_demand: Positive | None = Field(None, description="price while one wants it; none: not offered")
    spot: Positive | None = Field(None, description="price where the provider may take it back; none: not offered")
    currency: str = Field("USD", description="that of the whole table")
    unit_devices: Count = Field(1, description="devices of the smallest machine or slice")
    max_devices: Count = Field(1, description="devices of the largest machine or slice")
    sizes: tuple[Count, ...] = Field(
        (), strict=False, description="the sizes that are sold; none: doublings from the smallest to the largest"
    )
    host_per_hour: NotNegative = Field(0.0, description="for the host of a device, where the price lacks it")
    host_spot_per_hour: NotNegative | None = Field(None, description="the same with spot; none: as without")
    machine: Literal["vm", "tpu_slice", "container"] = Field(
        "vm", description="what is started, for the time that it takes; tpu_slice for TPUs if not given"
    )
    minimum_seconds: NotNegative | None = Field(None, description="least time that is billed; none: that of the rates")
    reserved: bool = Field(False, description="paid ahead, in whole blocks of the least time")
    region: str = Field("", description="where")
    date: Month | None = Field(None, description="month of the price; none: nobody knows it")
    source: str = Field(description="where the price is from")
    note: str = Field("", description="what else to know")

    @property
    def has_host(self) -> bool:
        """Whether a host is added to the price."""
        return self.host_per_hour > 0.0

    def billed_devices(self, devices: int) -> int:
        """The devices of the smallest machine that has this number; that of the largest where none has."""
        return next((size for size in self._list_sizes() if size >= devices), self.max_devices)

    def price(self, kind: PriceKind) -> tuple[float, float]:
        """The price of a device and of its host for an hour.

        Raises:
            InputError: there is no such price.
        """
        device = {"on_demand": self.on_demand, "spot": self.spot}.get(kind)
        if device is None:
            raise InputError(
                f"the offer {self.id} has no {kind} price", remedy="choose another kind of price, or another offer"
            )
        return device, self._host_spot if kind == "spot" else self.host_per_hour

    @property
    def _host_spot(self) -> float:
        return self.host_per_hour if self.host_spot_per_hour is None else self.host_spot_per_hour

    def _list_sizes(self) -> tuple[int, ...]:
        if self.sizes:
            return self.sizes
        sizes = [self.unit_devices]
        while sizes[-1] * 2 < self.max_devices:
            sizes.append(sizes[-1] * 2)
        return (*sizes, self.max_devices)


class Owned(Entry):
    """A machine that one owns: it costs its depreciation and its electricity."""

    id: str = Field(description="its name in plans")
    hardware: str | None = Field(None, description="its row of the table of hardware; none: as it was measured")
    num_devices: Count = Field(1, description="devices in it")
    purchase: NotNegative = Field(description="what it cost, with its host")
    years: Positive = Field(description="until it is worth nothing")
    use_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(description="share of the time in which it is used")
    watts: Positive | None = Field(None, description="power of the machine under load; none: that of its devices")
    power_usage_effectiveness: Annotated[float, Field(ge=1.0)] | None = Field(
        None, description="all power over that of the machine; none: that of the rates"
    )
    currency: str = Field("USD", description="that of the whole table")
    date: Month | None = Field(None, description="month of its figures")
    source: str = Field(description="where the figures are from, or assumption")
    note: str = Field("", description="what else to know")


class Rate(Entry):
    """One figure that every offer shares."""

    value: NotNegative = Field(description="the figure")
    source: str = Field(description="where it is from, or assumption")
    date: Month | None = Field(None, description="month of the figure")
    note: str = Field("", description="what else to know")


class Rates(Entry):
    """What money and time depend on beside the price of a device."""

    minimum_billing_seconds: Rate = Field(description="least time that is billed for a machine")
    vm_start_seconds: Rate = Field(description="until a virtual machine runs")
    vm_image_seconds: Rate = Field(description="until ebox is installed there, or its image fetched")
    tpu_slice_start_seconds: Rate = Field(description="until a TPU slice runs")
    tpu_slice_image_seconds: Rate = Field(description="until ebox is installed there")
    container_start_seconds: Rate = Field(description="until a container runs on a machine that is there")
    container_image_seconds: Rate = Field(description="until its image is fetched")
    storage_per_gb_month: Rate = Field(description="to keep a GB for a month of 730 hours")
    egress_per_gb: Rate = Field(description="to fetch a GB from the provider")
    spot_interruptions_per_hour: Rate = Field(description="how many times an hour a spot machine is taken back")
    spot_wait_seconds: Rate = Field(description="until another is had; it is not billed")
    electricity_per_kwh: Rate = Field(description="for a machine that one owns")
    power_usage_effectiveness: Rate = Field(description="all power of a site over that of its machines")
    person_per_hour: Rate = Field(description="an hour of the person who runs trainings")

    def start_seconds(self, offer: Offer) -> float:
        """From ordering a machine of an offer until ebox can begin there."""
        start: Rate = getattr(self, f"{offer.machine}_start_seconds")
        image: Rate = getattr(self, f"{offer.machine}_image_seconds")
        return start.value + image.value

    def minimum_seconds(self, offer: Offer) -> float:
        """The least time that is billed for a machine of an offer."""
        return self.minimum_billing_seconds.value if offer.minimum_seconds is None else offer.minimum_seconds


@dataclass(frozen=True)
class PriceBook:
    """All prices, and what they are made of.

    Args:
        hardware: Kinds of devices by name.
        offers: Devices for rent.
        owned: Machines that one owns.
        rates: Figures that all offers share.
        currency: Of all money.
        taxes: Whether the prices hold taxes: `excluded` or `included`.
        files: Files of the user that were read over the tables of ebox.
    """

    hardware: Mapping[str, Hardware]
    offers: tuple[Offer, ...]
    owned: tuple[Owned, ...]
    rates: Rates
    currency: str = "USD"
    taxes: Literal["excluded", "included"] = "excluded"
    files: tuple[str, ...] = field(default=(), compare=False)

    def offer(self, id: str) -> Offer | Owned:
        """The offer, or the owned machine, of a name."""
        every: tuple[Offer | Owned, ...] = (*self.offers, *self.owned)
        return next(one for one in every if one.id == id)

    def with_rates(self, **values: float) -> PriceBook:
        """The same book with other figures of some rates, to see what follows from them."""
        changed = {
            name: getattr(self.rates, name).model_copy(update={"value": value}) for name, value in values.items()
        }
        return replace(self, rates=self.rates.model_copy(update=changed))

    def remarks(self, today: date, used: Collection[str] | None = None) -> tuple[dict[str, Any], ...]:
        """What to know about the prices.

        Args:
            today: The day on which they are read.
            used: The ids of the offers that count; None: all.
        """
        offers = [one for one in self.offers if used is None or one.id in used]
        old = sorted(one.date for one in offers if one.date is not None and age_days(one.date, today) > OLD_DAYS)
        undated = [one.id for one in offers if one.date is None]
        names = sorted({one.hardware for one in offers if self.hardware[one.hardware].unverified})
        assumed = [name for name, rate in self.rates if rate.source == ASSUMPTION]
        known = [(name, rate.date) for name, rate in self.rates if rate.source != ASSUMPTION]
        stale = [name for name, month in known if month is None or age_days(month, today) > OLD_DAYS]
        hosts = [one.id for one in offers if one.has_host]
        reserved = [one.id for one in offers if one.reserved]
        taxes = PriceNote.TAXES_EXCLUDED if self.taxes == "excluded" else PriceNote.TAXES_INCLUDED
        found: list[tuple[Any, PriceNote, dict[str, Any]]] = [
            (old, PriceNote.OLD, {"num": len(old), "oldest": old[0] if old else None, "days": OLD_DAYS}),
            (undated, PriceNote.UNDATED, {"num": len(undated), "of_num": len(offers), "offers": undated}),
            (names, PriceNote.UNVERIFIED, {"num": len(names), "hardware": names}),
            (assumed, PriceNote.ASSUMED, {"num": len(assumed), "rates": assumed}),
            (stale, PriceNote.RATES_OLD, {"num": len(stale), "rates": stale, "days": OLD_DAYS}),
            (hosts, PriceNote.HOSTS, {"num": len(hosts), "offers": hosts}),
            (reserved, PriceNote.RESERVED, {"num": len(reserved), "offers": reserved}),
            (any(one.spot is not None for one in offers), PriceNote.SPOT, {}),
            (True, taxes, {"currency": self.currency}),
        ]
        return tuple(note(code, values) for is_so, code, values in found if is_so)

    def facts(self, today: date, used: Collection[str] | None = None) -> dict[str, Any]:
        """Currency, dates, sources, a person's hour, remarks, as a plan keeps them; `today`, `used` as in `remarks`."""
        offers = [one for one in self.offers if used is None or one.id in used]
        dates = sorted(one.date for one in offers if one.date is not None)
        return {
            "currency": self.currency,
            "dates": {
                "oldest": dates[0] if dates else None,
                "newest": dates[-1] if dates else None,
                "num": len(offers),
                "num_undated": len(offers) - len(dates),
            },
            "sources": sorted({one.source for one in offers}),
            "files": list(self.files),
            "person_per_hour": self.rates.person_per_hour.model_dump(mode="json", exclude={"note"}),
            "remarks": list(self.remarks(today, used)),
        }


def age_days(month: str, today: date) -> int:
    """Days since the first of a month in the form 2026-11."""
    year, number = month.split("-")
    return (today - date(int(year), int(number), 1)).days


def check_currency(book: PriceBook, currency: str) -> None:
    """Check that money in a currency can be compared with the prices.

    Raises:
        InputError: the prices are in another one.
    """
    if currency.upper() != book.currency:
        raise InputError(
            f"the prices are in {book.currency}, not in {currency}",
            remedy=f"give money in {book.currency}, or write all prices out with `ebox plan --print-prices`, convert "
            "them, and give that file with --prices",
        )
