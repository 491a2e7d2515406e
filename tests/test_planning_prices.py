"""Prices: what ebox ships, what a user's file changes, what is refused, and what is said about them."""

from __future__ import annotations

import ast
import contextlib
import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.planning.hardware import CHIPS, DATA, HARDWARE, Hardware
from ebox.planning.prices import Offer, Owned, PriceBook, Rates, check_currency, find_line, format_prices, read_prices
from ebox.reporting.languages import english
from house import SOURCE

TODAY = date(2026, 11, 30)
SOURCE_LINE = 'source = "a page"'


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return read_prices(today=TODAY)


def read(folder: Path, text: str) -> PriceBook:
    path = folder / "prices.toml"
    path.write_text(text)
    return read_prices(path, today=TODAY)


def refusal(folder: Path, text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    assert caught.value.file == str(folder / "prices.toml")
    assert caught.value.remedy
    return caught.value


def codes(book: PriceBook, today: date = TODAY, **options: Any) -> dict[str, dict[str, Any]]:
    return {one["code"]: one for one in book.remarks(today, **options)}


def test_every_price_that_ships_states_its_source_and_stands_for_known_hardware(book: PriceBook):
    assert len(book.offers) > 20
    assert {one.provider for one in book.offers} == {"GCP", "Lambda", "Nebius", "AWS"}
    for one in book.offers:
        assert one.source
        assert one.hardware in book.hardware
        assert book.hardware[one.hardware].platform != "tpu" or one.machine == "tpu_slice"
    assert all(rate.source for _, rate in book.rates)


def test_no_placeholder_and_no_spot_above_on_demand_ships(book: PriceBook):
    for one in book.offers:
        assert one.on_demand is not None
        assert one.on_demand < 15.0
        assert one.spot is None or one.spot < one.on_demand


def test_hosts_are_added_where_the_source_lists_bare_gpus(book: PriceBook):
    bare = {one.id for one in book.offers if one.provider == "GCP" and book.hardware[one.hardware].platform == "cuda"}
    assert {one.id for one in book.offers if one.has_host} == bare - {"gcp-b200"}
    offer = book.offer("gcp-h100-80gb-sxm")
    assert isinstance(offer, Offer)
    assert sum(offer.price("on_demand")) == pytest.approx(9.7965 + 1.18251)
    assert sum(offer.price("spot")) == pytest.approx(3.8099 + 0.4601)


def test_a_fact_of_hardware_is_said_once():
    assert CHIPS["h100"].peak_flops == HARDWARE["H100-80GB-SXM"].bf16_flops
    assert {chip.platform for chip in CHIPS.values()} == {"tpu", "cuda", "cpu"}
    numbers = [
        node.value
        for node in ast.walk(ast.parse((SOURCE / "planning" / "hardware.py").read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    assert not {one for one in numbers if one > 1e9}


def test_figures_that_no_page_confirmed_are_fields_of_their_row(book: PriceBook):
    for one in book.hardware.values():
        assert all(getattr(one, name) is not None for name in one.unverified)


@pytest.mark.parametrize(("asked", "billed"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 16), (16, 16), (99, 16)])
def test_machines_are_sold_in_doublings(book: PriceBook, asked: int, billed: int):
    offer = book.offer("gcp-a100-40gb")
    assert isinstance(offer, Offer)
    assert offer.billed_devices(asked) == billed


def test_sizes_that_are_sold_can_be_stated(book: PriceBook):
    offer = book.offer("nebius-h200")
    assert isinstance(offer, Offer)
    assert [offer.billed_devices(count) for count in (1, 2, 8)] == [1, 8, 8]


def test_what_is_written_out_is_read_back_equal(book: PriceBook, tmp_path: Path):
    text = format_prices(book)
    assert read(tmp_path, text) == book
    for field in (*Offer.model_fields, *Rates.model_fields):
        assert field == "id" or f"{field}: " in text or f"[rates.{field}]" in text


def test_a_changed_book_is_read_back_equal_too(tmp_path: Path):
    changed = read(
        tmp_path,
        f'[offers."it\'s \\"ours\\""]\nprovider = "x\\ny"\nhardware = "T4"\nspot = 1e-3\n{SOURCE_LINE}\n'
        "sizes = [2, 6]\nunit_devices = 2\nmax_devices = 6\n"
        '[owned.rack]\nhardware = "H200-SXM"\nnum_devices = 8\npurchase = 3e5\nyears = 4\nuse_share = 0.5\n'
        f"{SOURCE_LINE}\n",
    )
    (tmp_path / "again").mkdir()
    assert read(tmp_path / "again", format_prices(changed)) == changed


def test_a_file_changes_only_its_entries(book: PriceBook, tmp_path: Path):
    changed = read(tmp_path, "[offers.nebius-h200]\non_demand = 3\n[rates]\nelectricity_per_kwh = 0.3\n")
    mine, theirs = changed.offer("nebius-h200"), book.offer("nebius-h200")
    assert isinstance(mine, Offer)
    assert isinstance(theirs, Offer)
    assert (mine.on_demand, mine.spot, mine.hardware) == (3.0, theirs.spot, theirs.hardware)
    assert (changed.rates.electricity_per_kwh.value, changed.rates.vm_start_seconds) == (
        0.3,
        book.rates.vm_start_seconds,
    )
    assert [one for one in changed.offers if one.id != mine.id] == [one for one in book.offers if one.id != mine.id]
    assert changed.files == (str(tmp_path / "prices.toml"),)


def test_a_changed_price_does_not_keep_the_date_and_source_of_another(tmp_path: Path):
    changed = read(tmp_path, "[offers.aws-h200-block]\non_demand = 4.0\n[rates]\nstorage_per_gb_month = 0.1\n")
    offer = changed.offer("aws-h200-block")
    assert (offer.date, offer.source, offer.note) == (None, str(tmp_path / "prices.toml"), "")
    assert changed.rates.storage_per_gb_month.date is None
    assert "storage_per_gb_month" not in codes(changed)["rates_assumed"]["rates"]


def test_a_confirmed_figure_of_hardware_is_no_longer_called_unverified(tmp_path: Path):
    changed = read(tmp_path, "[hardware.B200-SXM]\nwatts = 1200\n")
    assert changed.hardware["B200-SXM"].unverified == ("memory_bytes_per_second", "link_bytes_per_second")


def test_a_spot_price_can_be_taken_out(tmp_path: Path):
    offer = read(tmp_path, '[offers.nebius-h200]\nspot = "none"\n').offer("nebius-h200")
    assert isinstance(offer, Offer)
    assert offer.spot is None
    with pytest.raises(InputError, match="no spot price"):
        offer.price("spot")


def test_a_host_costs_with_spot_what_it_costs_without_where_nothing_else_is_stated(tmp_path: Path):
    text = f'[offers.mine]\nprovider = "me"\nhardware = "T4"\non_demand = 0.4\nspot = 0.1\n{SOURCE_LINE}\n'
    offer = read(tmp_path, f"{text}host_per_hour = 0.2\n").offer("mine")
    assert isinstance(offer, Offer)
    assert offer.price("spot") == (0.1, 0.2)
    stated = read(tmp_path, f"{text}host_per_hour = 0.2\nhost_spot_per_hour = 0\n").offer("mine")
    assert isinstance(stated, Offer)
    assert stated.price("spot") == (0.1, 0.0)


def test_a_new_offer_of_a_tpu_is_a_slice(tmp_path: Path):
    text = '[hardware.TPU-v9]\nplatform = "tpu"\nsource = "a page"\n'
    text += f'[offers.mine]\nprovider = "me"\nhardware = "TPU-v9"\non_demand = 2.5\n{SOURCE_LINE}\n'
    offer = read(tmp_path, text).offer("mine")
    assert isinstance(offer, Offer)
    assert offer.machine == "tpu_slice"


def test_a_whole_table_may_be_in_another_currency(book: PriceBook, tmp_path: Path):
    text = format_prices(book).replace('currency = "USD"', 'currency = "EUR"')
    euros = read(tmp_path, text)
    assert euros.currency == "EUR"
    assert {one.currency for one in (*euros.offers, *euros.owned)} == {"EUR"}
    (tmp_path / "again").mkdir()
    assert read(tmp_path / "again", format_prices(euros)) == euros
    check_currency(euros, "eur")
    with pytest.raises(InputError, match="in EUR, not in USD"):
        check_currency(euros, "USD")


KEYS = {f"offers.gcp-t4.{name}" for name in Offer.model_fields} | {
    f"hardware.T4.{name}" for name in Hardware.model_fields
}
KEYS |= {f"owned.this-machine.{name}" for name in Owned.model_fields} | {f"rates.{name}" for name in Rates.model_fields}
KEYS |= {"rates.egress_per_gb.value", "offers", "rates", "hardware.T4", "currency", "taxes", "defaults", "owned.x"}
OFFER = f'[offers.mine]\nprovider = "me"\nhardware = "T4"\n{SOURCE_LINE}\n'


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[offers.gcp-t4]\n\n# cheap\non_demand = -0.3\n", 4, "on_demand: Input should be greater than 0 (found -0.3)"),
        ("[offers.gcp-t4]\non_demand = 0\n", 2, "greater than 0"),
        ("[offers.gcp-t4]\non_demand = nan\n", 2, "found nan"),
        ("[offers.gcp-t4]\non_demand = inf\n", 2, "found inf"),
        ('[offers.gcp-t4]\non_demand = "0.35"\n', 2, "valid number (found '0.35')"),
        ("[offers.gcp-t4]\non_demand = true\n", 2, "found True"),
        (OFFER, 1, "on_demand: is missing, and so is spot"),
        ('[offers.mine]\nprovider = "me"\non_demand = 1.0\nsource = "x"\n', 1, "hardware: Field required"),
        ("[offers.gcp-t4]\nspot = 0.36\n", 2, "spot: 0.36 is above on_demand, 0.35"),
        ("[offers.gcp-t4]\non_demand = 0.1\n", 1, "spot: 0.1065 is above on_demand, 0.1"),
        ("[offers.gcp-t4]\nhost_spot_per_hour = 0.2\n", 2, "above host_per_hour"),
        ('[offers.gcp-t4]\nhardware = "H20-SXM"\n', 2, "no hardware 'H20-SXM'; did you mean 'H200-SXM'?"),
        ("[offers.gcp-t4]\nondemand = 0.3\n", 2, "no setting 'ondemand'; did you mean 'on_demand'?"),
        ('[offers.gcp-t4]\nid = "other"\n', 2, "is the name of the table"),
        ('[offers.gcp-t4]\ncurrency = "EUR"\n', 2, "is EUR, and the table is in USD"),
        ('\ncurrency = "EUR"\n[offers.gcp-t4]\non_demand = 0.3\n', 2, "is EUR, and the table below it is in USD"),
        ('currency = "dollars"\n', 1, "no currency (found 'dollars')"),
        ("currency = 5\n", 1, "no currency (found 5)"),
        ("prices = 1\n", 1, "no such table or key"),
        ("[ofers.x]\non_demand = 1\n", 1, "no such table or key; did you mean 'offers'?"),
        ("offers = 3\n", 1, "is no table"),
        ("[offers]\ngcp-t4 = 0.3\n", 2, "is no table (found 0.3)"),
        ("defaults = 1\n", 1, "is 1, and true or false was expected"),
        ('taxes = "some"\n', 1, "is 'some', and 'excluded' or 'included'"),
        ("[rates]\nelectricity = 0.3\n", 2, "no such rate; did you mean 'electricity_per_kwh'?"),
        ("[rates]\nvm_start_seconds = -1\n", 2, "greater than or equal to 0"),
        ("[rates]\nstorage_per_gb_month = inf\n", 2, "finite number"),
        ("[owned.this-machine]\npurchase = inf\n", 2, "finite number"),
        ("[rates]\npower_usage_effectiveness = 0.9\n", 2, "is below 1"),
        ('[offers.gcp-t4]\ndate = "2026-13"\n', 2, "found '2026-13'"),
        ('[offers.gcp-t4]\ndate = "2027-01"\n', 2, "is to come"),
        ('[offers.gcp-t4]\ndate = "0000-01"\n', 2, "found '0000-01'"),
        ('[offers.gcp-t4]\nhardware = ["T4"]\n', 2, "hardware: Input should be a valid string"),
        ('[hardware.T4]\nunverified = ["wats"]\n', 2, "'wats' is no figure of this row; did you mean 'watts'?"),
        ('[hardware.T4]\nunverified = ["bf16_flops"]\n', 2, "'bf16_flops' is no figure of this row"),
        ("[offers.gcp-t4]\ndate = 2026-01-01\n", 2, "valid string"),
        ("[offers.gcp-t4]\nmax_devices = 0\n", 2, "max_devices"),
        ("[offers.nebius-b200]\nmax_devices = 4\n", 2, "is 4, below unit_devices, 8"),
        ("[offers.nebius-h200]\nsizes = [8, 1]\n", 2, "do not rise"),
        ("[offers.nebius-h200]\nsizes = [2, 8]\n", 2, "do not rise"),
        ('[offers.aws-h200-block]\nminimum_seconds = "none"\n', 2, "is missing, and the offer is reserved"),
        ("[owned.this-machine]\nuse_share = 0\n", 2, "use_share"),
        ("[owned.this-machine]\nuse_share = 1.5\n", 2, "use_share"),
        ("[owned.this-machine]\nyears = 0\n", 2, "years"),
        ('[owned.this-machine]\nhardware = "L40"\n', 2, "no hardware 'L40'; did you mean 'L40S'?"),
        ('[hardware.T4]\nplatform = "gpu"\n', 2, "'cuda'"),
        ("defaults = false\n", None, "rates.minimum_billing_seconds: is missing"),
    ],
)
def test_a_bad_figure_is_named_with_its_line(tmp_path: Path, text: str, line: int | None, problem: str):
    error = refusal(tmp_path, text)
    assert problem in error.problem
    assert error.line == line


VALUES = [
    "true",
    "-1",
    "0",
    "1e400",
    "nan",
    '""',
    '"x"',
    '"none"',
    "[]",
    "[1, 2]",
    "{}",
    "{ a = 1 }",
    "2026-01-01",
    "9" * 18,
]


@given(st.sampled_from(sorted(KEYS)), st.sampled_from(VALUES))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_anywhere_is_taken_or_refused_in_words(tmp_path: Path, key: str, value: str):
    text = f"{key} = {value}\n"
    with contextlib.suppress(InputError):
        read(tmp_path, text)
        return
    assert refusal(tmp_path, text).line == 1


def test_a_table_without_offers_is_refused(book: PriceBook, tmp_path: Path):
    whole = format_prices(book)
    assert "no offer and no machine" in refusal(tmp_path, whole[: whole.index("# [offers.")]).problem


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "no such file of prices"), (b"a = [", "not TOML"), (b"\xff", "TOML")]
)
def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path, content: bytes | None, problem: str):
    path = tmp_path / "prices.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        read_prices(path)


def test_the_remedy_for_spot_above_on_demand_works(tmp_path: Path):
    text = "[offers.gcp-t4]\non_demand = 0.1\n"
    assert '`spot = "none"`' in str(refusal(tmp_path, text).remedy)
    offer = read(tmp_path, f'{text}spot = "none"\n').offer("gcp-t4")
    assert isinstance(offer, Offer)
    assert (offer.on_demand, offer.spot) == (0.1, None)


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ("a = 1\n[b]\nc = 2\n", ("b", "c"), 3),
        ("a = 1\n[b]\nc = 2\n", ("b", "d"), 2),
        ('[b."x y"]  # note\n"c d" = 2\n', ("b", "x y", "c d"), 2),
        ("[b]\nc.d = 2\n", ("b", "c", "d"), 2),
        ("[b]\n[b.c]\n", ("b",), 1),
        ("a = 1\n", ("z",), None),
        ("b.c.d = 2\n", ("b", "c", "e"), 1),
        ("b.c.d = 2\n[b.c.f]\n", ("b", "c", "f"), 2),
        ("[b.c]\n[b.d]\ne = 1\n", ("b", "f", "e"), None),
    ],
)
def test_the_line_of_a_value_is_found(text: str, place: tuple[str, ...], line: int | None):
    assert find_line(text, place) == line


def test_prices_are_warned_of_past_180_days(tmp_path: Path):
    text = '[offers.gcp-t4]\non_demand = 0.4\ndate = "2026-06"\n'
    changed = read(tmp_path, text)
    assert codes(changed, date(2026, 11, 28), used={"gcp-t4"}).keys().isdisjoint({"prices_old", "prices_undated"})
    assert codes(changed, date(2026, 11, 29), used={"gcp-t4"})["prices_old"]["oldest"] == "2026-06"


def test_what_ships_is_said_to_be_old_undated_and_partly_assumed(book: PriceBook):
    found = codes(book)
    assert found["prices_old"]["oldest"] == "2024-12"
    assert found["prices_undated"]["num"] == len(book.offers) - found["prices_old"]["num"]
    assert "H200-SXM" not in found["figures_unverified"]["hardware"]
    assert "spot_interruptions_per_hour" in found["rates_assumed"]["rates"]
    assert found["taxes_excluded"]["currency"] == "USD"
    assert {"spot_no_promise", "hosts_added", "offers_reserved"} <= found.keys()


def test_rates_are_warned_of_as_prices_are(tmp_path: Path):
    changed = read(
        tmp_path,
        '[rates]\nelectricity_per_kwh = 0.3\n[rates.egress_per_gb]\nvalue = 0.1\ndate = "2026-06"\n'
        '[rates.power_usage_effectiveness]\nvalue = 1.2\ndate = "2026-05"\n',
    )
    told = codes(changed, date(2026, 11, 28))["rates_old"]["rates"]
    assert {"electricity_per_kwh", "power_usage_effectiveness"} <= set(told)
    assert {"egress_per_gb", "storage_per_gb_month", "vm_start_seconds"}.isdisjoint(told)


def test_remarks_are_of_the_offers_that_count(book: PriceBook):
    found = codes(book, used={"nebius-h200"})
    assert found.keys().isdisjoint({"prices_old", "hosts_added", "offers_reserved", "figures_unverified"})
    assert found["prices_undated"]["offers"] == ["nebius-h200"]


def test_every_remark_has_a_sentence(book: PriceBook):
    for one in (
        *book.remarks(TODAY),
        *book.remarks(TODAY, {"nebius-h200"}),
        {"code": "taxes_included", "currency": "EUR"},
    ):
        words = english.say(one)
        assert " " in words
        assert not set("{}[]") & set(words)
    assert set(Rates.model_fields) == set(english.prices._RATES)


def test_the_facts_of_a_plan_state_dates_sources_and_files(tmp_path: Path):
    facts = read(tmp_path, '[offers.gcp-t4]\non_demand = 0.4\ndate = "2026-10"\n').facts(TODAY)
    offers = len(read_prices().offers)
    assert facts["dates"] == {"oldest": "2024-12", "newest": "2026-10", "num": offers, "num_undated": offers - 4}
    assert facts["files"] == [str(tmp_path / "prices.toml")]
    assert str(tmp_path / "prices.toml") in facts["sources"]
    assert facts["currency"] == "USD"


def test_a_rate_can_be_changed_to_see_what_follows(book: PriceBook):
    changed = book.with_rates(electricity_per_kwh=0.5)
    assert changed.rates.electricity_per_kwh.value == 0.5
    assert changed.offers == book.offers
    assert math.isclose(book.rates.electricity_per_kwh.value, 0.15)


def test_the_tables_are_in_the_package_with_their_story():
    assert {path.name for path in DATA.glob("*")} >= {"hardware.toml", "prices.toml", "rates.toml", "README.txt"}
