"""Sentences about prices, sums of money and energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_RATES = {
    "minimum_billing_seconds": "the least time that is billed",
    "vm_start_seconds": "the start of a virtual machine",
    "vm_image_seconds": "the installation on a virtual machine",
    "tpu_slice_start_seconds": "the start of a TPU slice",
    "tpu_slice_image_seconds": "the installation on a TPU slice",
    "container_start_seconds": "the start of a container",
    "container_image_seconds": "the fetching of its image",
    "storage_per_gb_month": "storage",
    "egress_per_gb": "data that leave the cloud",
    "spot_interruptions_per_hour": "interruptions of spot machines",
    "spot_wait_seconds": "the wait after an interruption",
    "electricity_per_kwh": "electricity",
    "power_usage_effectiveness": "the power that a site adds",
    "person_per_hour": "an hour of a person",
}


def _join(names: list[str], most: int = 4) -> str:
    """Names in a row, the rest as a number."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _undated(values: Mapping[str, Any]) -> str:
    which = (
        "no price has" if values["num"] == values["of_num"] else f"{values['num']} of {values['of_num']} prices have no"
    )
    date = "a known date" if values["num"] == values["of_num"] else "known date"
    return f"{which} {date}: look them up before you spend money ({_join(values['offers'])})"


def _dated(values: Mapping[str, Any]) -> str:
    """From when the prices of a plan are."""
    if values["num"] == 0:
        return "no machine for rent is in this plan"
    if values["oldest"] is None:
        return "no price has a known date"
    span = values["oldest"] if values["oldest"] == values["newest"] else f"{values['oldest']} to {values['newest']}"
    if values["num_undated"] == 0:
        return f"the prices are of {span}"
    return f"of {values['num']} prices {values['num_undated']} have no known date; the others are of {span}"


def _unverified(values: Mapping[str, Any]) -> str:
    return f"figures that no page confirmed are used for {_join(values['hardware'])}"


def _assumed(values: Mapping[str, Any]) -> str:
    return f"assumed, not found anywhere: {_join([_RATES[name] for name in values['rates']], len(_RATES))}"


def _rates_old(values: Mapping[str, Any]) -> str:
    names = _join([_RATES[name] for name in values["rates"]], len(_RATES))
    return f"more than {values['days']} days old, or of an unknown date: {names}"


def _hosts(values: Mapping[str, Any]) -> str:
    return f"the price of the host was added where the source lacks it: {_join(values['offers'], 6)}"


def _reserved(values: Mapping[str, Any]) -> str:
    return f"reserved for whole days and paid ahead, not an on-demand price: {_join(values['offers'])}"


PRICES: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "prices_old": "{num} prices are more than {days} days old, the oldest of {oldest}: look them up before you spend "
    "money",
    "prices_undated": _undated,
    "prices_dated": _dated,
    "figures_unverified": _unverified,
    "rates_assumed": _assumed,
    "rates_old": _rates_old,
    "taxes_excluded": "all money is in {currency}, without taxes",
    "taxes_included": "all money is in {currency}, taxes included",
    "spot_no_promise": "spot prices change daily, and no one promises that a spot machine can be had",
    "hosts_added": _hosts,
    "offers_reserved": _reserved,
    "energy_measured": "from the measured power of its devices, without hosts",
    "energy_stated": "from the power that was stated for the machine",
    "energy_of_thermal_design": "from the thermal design power of the devices, which they seldom reach, without hosts",
    "energy_of_published_mean": "from the mean power that the maker published, without hosts",
    "energy_unknown": "the power is not known",
    "money_devices": "devices",
    "money_hosts": "hosts",
    "money_storage": "storage",
    "money_egress": "data that leave the cloud",
    "money_depreciation": "wear of the machine",
    "money_electricity": "electricity",
}
