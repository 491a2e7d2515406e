"""The tables of prices as TOML: those of ebox, a user's over them, every figure checked, and written out again."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tomli_w
from pydantic import ValidationError

from ebox.errors import InputError, suggest
from ebox.planning.hardware import Hardware, read_table
from ebox.planning.price_book import (
    Offer,
    Owned,
    PriceBook,
    PriceKind,
    PriceNote,
    Rate,
    Rates,
    age_days,
    check_currency,
)
from ebox.settings.fields import Settings
from ebox.settings.reading import explain_problem, read_toml

__all__ = [
    "Hardware",
    "Offer",
    "Owned",
    "PriceBook",
    "PriceKind",
    "PriceNote",
    "Rate",
    "Rates",
    "check_currency",
    "find_line",
    "format_prices",
    "read_prices",
]
SECTIONS: dict[str, type[Settings]] = {"rates": Rate, "hardware": Hardware, "offers": Offer, "owned": Owned}
SINGLE = ("currency", "taxes", "defaults")
EXAMPLE = "`ebox plan --print-prices` prints the whole table, with what each key means"
# What a key of an entry is called for its section.
_KEYS = {"hardware": "name", "offers": "id", "owned": "id"}
Place = tuple[str, ...]
SomeEntry = TypeVar("SomeEntry", bound=Settings)


def read_prices(path: Path | None = None, *, today: date | None = None) -> PriceBook:
    """The prices that come with ebox, with those of a user's file over them, entry by entry.

    An entry that the file changes has no date and has the file as its source, unless the file states them.
    `defaults = false` leaves out all money of ebox, so that another currency can be used.

    Args:
        path: A TOML file of the form that `format_prices` writes; None: the prices of ebox alone.
        today: The day on which they are read; None: this one.

    Raises:
        InputError: no such file, not TOML, an unknown key, a price that is missing, negative or no number, spot above
            on demand, another currency, unknown hardware, or a date to come.
    """
    tables = _read_defaults()
    if path is None:
        return _Reader(tables, None, today).book()
    given = read_toml(path, what="file of prices", flag="--prices", example=EXAMPLE)
    return _Reader(tables, path, today, given).book()


def format_prices(book: PriceBook) -> str:
    """The whole book as TOML with the meaning of every key, which `read_prices` reads back to an equal book."""
    lines = [
        "# Prices of `ebox plan`: edit this file, and give it with --prices. Without `defaults = false` a file needs",
        "# only the entries that differ, and the prices of ebox stand below them.",
        "",
        tomli_w.dumps({"defaults": False, "currency": book.currency, "taxes": book.taxes}).strip(),
        "",
    ]
    for name, rate in book.rates:
        lines += [f"# {Rates.model_fields[name].description}", _format_entry("rates", name, rate)]
    entries = (
        ("hardware", Hardware, [(one.name, one) for one in book.hardware.values()]),
        ("offers", Offer, [(one.id, one) for one in book.offers]),
        ("owned", Owned, [(one.id, one) for one in book.owned]),
    )
    for section, model, rows in entries:
        fields = (f"#   {name}: {field.description}" for name, field in model.model_fields.items())
        own = (f"#   {_KEYS[section]}:",)
        lines += [f"# [{section}.…]", *(line for line in fields if not line.startswith(own)), ""]
        lines += [_format_entry(section, name, entry) for name, entry in rows]
    return "\n".join(lines).rstrip() + "\n"


def find_line(text: str, place: Place) -> int | None:
    """The 1-based line of a TOML text that sets the value of a place; else that of the nearest table above it."""
    best, found = 0.0, None
    table: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[[^\[\]]+\])\s*(#.*)?$", line)
        table = _read_place(f"{header[1]}\n") if header else table
        key = None if header else re.match(r"\s*([^=#\[\]]+?)\s*=", line)
        here = (*table, *_read_place(f"{key[1]} = 0")) if key else table
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(place, here, strict=False)))
        is_above_or_below = shared == min(len(place), len(here))
        # A key beside it in the same entry will do, where the entry has no header.
        nearness = float(shared) if is_above_or_below else shared - 0.5 if shared == len(place) - 1 > 1 else 0.0
        if nearness > best:
            best, found = nearness, number
    return found


def _read_place(text: str) -> Place:
    """The names along the one entry of a line of TOML; () where it is none."""
    try:
        value: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return ()
    names = []
    while isinstance(value, dict) and len(value) == 1:
        name, value = next(iter(value.items()))
        names.append(name)
    return tuple(names)


def _read_defaults() -> dict[str, Any]:
    tables = [read_table(name) for name in ("rates.toml", "hardware.toml", "prices.toml")]
    return {key: value for table in tables for key, value in table.items()}


def _format_entry(section: str, name: str, entry: Settings) -> str:
    values = entry.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={_KEYS.get(section, "")})
    return tomli_w.dumps({section: {name: values}}).replace(f"[{section}]\n", "", 1).lstrip()


class _Reader:
    """Joins a user's tables with those of ebox, and knows where a value stands."""

    def __init__(
        self, defaults: Mapping[str, Any], path: Path | None, today: date | None, given: Mapping[str, Any] | None = None
    ) -> None:
        self.defaults, self.path = defaults, path
        self.given = {} if given is None else given
        self.today = datetime.now(UTC).date() if today is None else today

    def book(self) -> PriceBook:
        """Everything joined and checked."""
        self._check_keys()
        keeps = self._choose("defaults", (True, False), True)
        currency = self.given.get("currency", self.defaults["currency"])
        if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
            self.refuse(
                ("currency",), f"is no currency (found {currency!r})", "write three letters, such as USD or EUR"
            )
        if keeps and currency != self.defaults["currency"]:
            self.refuse(
                ("currency",),
                f"is {currency}, and the table below it is in {self.defaults['currency']}",
                f"give the prices in {self.defaults['currency']}; or write all out with `ebox plan --print-prices`, "
                f"and convert that file, which has `defaults = false`, to {currency}",
            )
        hardware = self._entries("hardware", Hardware)
        book = PriceBook(
            hardware={one.name: one for one in hardware},
            offers=self._entries("offers", Offer, keeps=keeps, currency=currency),
            owned=self._entries("owned", Owned, keeps=keeps, currency=currency),
            rates=self._rates(keeps=keeps),
            currency=currency,
            taxes=self._choose("taxes", ("excluded", "included"), self.defaults["taxes"]),
            files=() if self.path is None else (str(self.path),),
        )
        self._check(book)
        return book

    def refuse(self, place: Place, problem: str, remedy: str = EXAMPLE) -> NoReturn:
        """Raise InputError with the file and the line of a place."""
        line = None
        if self.path is not None:
            line = find_line(self.path.read_text(encoding="utf-8"), place)
        name = ".".join(place)
        file = "the prices of ebox" if self.path is None else self.path
        raise InputError(f"{name}: {problem}" if name else problem, file=file, line=line, remedy=remedy)

    def _check_keys(self) -> None:
        known = (*SINGLE, *SECTIONS)
        for key, value in self.given.items():
            if key not in known:
                self.refuse((key,), f"there is no such table or key{suggest(key, known)}")
            if key in SECTIONS and not isinstance(value, Mapping):
                self.refuse((key,), f"is no table (found {value!r})", f"write [{key}.NAME]; {EXAMPLE}")

    def _choose(self, key: str, allowed: tuple[Any, ...], default: Any) -> Any:
        value = self.given.get(key, default)
        if value not in allowed or isinstance(value, bool) != isinstance(default, bool):
            words = " or ".join(repr(one).lower() for one in allowed)
            self.refuse((key,), f"is {value!r}, and {words} was expected")
        return value

    def _entries(
        self, section: str, model: type[SomeEntry], *, keeps: bool = True, currency: str | None = None
    ) -> tuple[SomeEntry, ...]:
        """The entries of a section: those of ebox first, where they are kept."""
        defaults = self.defaults[section] if keeps else {}
        given = self.given.get(section, {})
        names = {**defaults, **given}
        return tuple(
            self._entry((section, name), model, defaults.get(name), given.get(name), currency) for name in names
        )

    def _entry(
        self, place: Place, model: type[SomeEntry], default: Mapping[str, Any] | None, given: Any, currency: str | None
    ) -> SomeEntry:
        values = self._merge(place, default, given)
        section, name = place
        key = _KEYS.get(section)
        if key in values:
            self.refuse((*place, str(key)), f"is the name of the table, {name!r}", "leave this key out")
        stated = values.get("currency", currency)
        if stated != currency:
            self.refuse((*place, "currency"), f"is {stated}, and the table is in {currency}", "convert the price")
        values |= {} if currency is None else {"currency": currency}
        if model is Offer and "machine" not in values and self._is_tpu(values.get("hardware")):
            values["machine"] = "tpu_slice"
        return self._make(place, model, {**values, **({} if key is None else {key: name})})

    def _merge(self, place: Place, default: Mapping[str, Any] | None, given: Any) -> dict[str, Any]:
        """The values of an entry; what a file changes is of no known date, and of that file."""
        if given is None:
            return dict(default or {})
        if place[0] == "rates" and not isinstance(given, Mapping):
            given = {"value": given}
        if not isinstance(given, Mapping):
            self.refuse(place, f"is no table (found {given!r})", f"write [{'.'.join(place)}]; {EXAMPLE}")
        kept = {} if default is None else {key: value for key, value in default.items() if key not in ("date", "note")}
        if "unverified" in kept:
            kept["unverified"] = [name for name in kept["unverified"] if name not in given]
        return {**kept, "source": str(self.path), **given}

    def _make(self, place: Place, model: type[SomeEntry], values: Mapping[str, Any]) -> SomeEntry:
        try:
            made = model.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            inner = tuple(str(part) for part in first["loc"])
            problem = explain_problem(dict(first), model)
            self.refuse((*place, *inner), problem.removeprefix(f"{'.'.join(inner)}: "))
        month = getattr(made, "date", None)
        if month is not None and age_days(month, self.today) < 0:
            self.refuse(
                (*place, "date"), f"is to come (found {month}; today is {self.today})", "write the month of the price"
            )
        return made

    def _rates(self, *, keeps: bool) -> Rates:
        defaults, given = self.defaults["rates"], self.given.get("rates", {})
        for name in given:
            if name not in Rates.model_fields:
                self.refuse(("rates", name), f"there is no such rate{suggest(name, Rates.model_fields)}")
        for name in Rates.model_fields:
            if name not in given and not keeps:
                self.refuse(("rates", name), "is missing, which `defaults = false` requires")
        found = {
            name: self._entry(("rates", name), Rate, defaults[name] if keeps else None, given.get(name), None)
            for name in Rates.model_fields
        }
        if found["power_usage_effectiveness"].value < 1.0:
            self.refuse(
                ("rates", "power_usage_effectiveness", "value"),
                "is below 1",
                "write all power over that of the machines",
            )
        return Rates(**found)

    def _is_tpu(self, name: Any) -> bool:
        if not isinstance(name, str):
            return False
        rows = (self.given.get("hardware", {}).get(name, {}), self.defaults["hardware"].get(name, {}))
        return any(isinstance(row, Mapping) and row.get("platform") == "tpu" for row in rows)

    def _check(self, book: PriceBook) -> None:
        """What holds between the figures of an entry, and between tables."""
        for section, entries in (("offers", book.offers), ("owned", book.owned)):
            for one in entries:
                if one.hardware is not None and one.hardware not in book.hardware:
                    self.refuse(
                        (section, one.id, "hardware"),
                        f"there is no hardware {one.hardware!r}{suggest(one.hardware, book.hardware)}",
                        f"add [hardware.{one.hardware}], or choose one of {', '.join(book.hardware)}",
                    )
        for row in book.hardware.values():
            for name in row.unverified:
                if getattr(row, name, None) is None:
                    self.refuse(
                        ("hardware", row.name, "unverified"),
                        f"{name!r} is no figure of this row{suggest(name, Hardware.model_fields)}",
                        "name keys of the row",
                    )
        if not book.offers and not book.owned:
            self.refuse((), "holds no offer and no machine that one owns", f"add [offers.NAME]; {EXAMPLE}")
        for offer in book.offers:
            for key, problem, remedy in _iter_problems(offer):
                self.refuse(("offers", offer.id, key), problem, remedy)


def _iter_problems(offer: Offer) -> Iterator[tuple[str, str, str]]:
    """What is wrong between the figures of an offer: the key, the problem, and the remedy."""
    if offer.on_demand is None and offer.spot is None:
        yield (
            "on_demand",
            "is missing, and so is spot",
            "write the price of one device for an hour, or leave the offer out",
        )
    pairs = (
        ("spot", offer.spot, "on_demand", offer.on_demand, '"none"'),
        ("host_spot_per_hour", offer.host_spot_per_hour, "host_per_hour", offer.host_per_hour, '"none"'),
    )
    for key, low, name, high, none in pairs:
        if low is not None and high is not None and low > high:
            yield (
                key,
                f"{low} is above {name}, {high}: one of the two is another kind of price",
                f"write both anew from one source, or `{key} = {none}`",
            )
    if offer.max_devices < offer.unit_devices:
        yield "max_devices", f"is {offer.max_devices}, below unit_devices, {offer.unit_devices}", "exchange them"
    sizes = offer.sizes
    if sizes and (
        list(sizes) != sorted(set(sizes)) or (sizes[0], sizes[-1]) != (offer.unit_devices, offer.max_devices)
    ):
        yield "sizes", f"{list(sizes)} do not rise from unit_devices to max_devices", "write for example sizes = [1, 8]"
    if offer.reserved and not offer.minimum_seconds:
        yield "minimum_seconds", "is missing, and the offer is reserved", "write the length of the block that is paid"
