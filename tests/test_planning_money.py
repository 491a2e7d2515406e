"""Money: starts and least billing, interruptions against a Monte Carlo, wear and electricity, energy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.planning.money import Activity, Cost, check_budget, expected_seconds, least_cost, price_activity
from ebox.planning.prices import Offer, Owned, PriceBook, PriceKind, read_prices

BOOK = read_prices()
WORK = st.floats(0.0, 1e6)
KINDS = st.sampled_from(["on_demand", "spot"])
OFFERS = st.sampled_from([one for one in BOOK.offers if one.spot is not None])


def price(name: str, activity: Activity, kind: PriceKind = "on_demand", book: PriceBook = BOOK) -> Cost:
    return price_activity(book.offer(name), activity, book, kind)


def simulate(activity: Activity, restart: float, rate: float, *, trials: int, seed: int) -> tuple[float, float]:
    """Mean seconds that machines run, and mean interruptions, by drawing when they are interrupted."""
    rng = np.random.default_rng(seed)
    ran = lost = 0.0
    for _ in range(trials):
        left, busy = activity.machine_seconds, restart
        while True:
            until = rng.exponential(1.0 / rate)
            if until < busy:
                ran, lost, busy = ran + until, lost + 1.0, restart
                continue
            ran, until = ran + busy, until - busy
            while True:
                piece = min(left, activity.checkpoint_every_seconds)
                whole = piece + (activity.checkpoint_seconds if piece < left else 0.0)
                if until < whole:
                    ran, lost, busy = ran + until, lost + 1.0, restart
                    break
                ran, until, left = ran + whole, until - whole, left - piece
                if left <= 0.0:
                    break
            if left <= 0.0:
                break
    return ran / trials, lost / trials


@pytest.mark.parametrize(
    ("work", "every", "checkpoint", "restart", "hours"),
    [
        (3600.0, 60.0, 0.2, 200.0, 1.0),
        (20_000.0, 600.0, 30.0, 300.0, 0.5),
        (900.0, 1e9, 0.0, 60.0, 0.25),
        (0.0, 60.0, 1.0, 400.0, 0.2),
    ],
)
def test_interruptions_cost_what_a_simulation_gives(
    work: float, every: float, checkpoint: float, restart: float, hours: float
):
    activity = Activity(work, checkpoint_every_seconds=every, checkpoint_seconds=checkpoint)
    rate = 1.0 / (hours * 3600.0)
    expected = expected_seconds(
        work, every=every, checkpoint=checkpoint, restart=restart, interruptions_per_second=rate
    )
    ran, lost = simulate(activity, restart, rate, trials=4000, seed=3)
    assert expected == pytest.approx(ran, rel=0.03)
    assert rate * expected == pytest.approx(lost, rel=0.05)


def test_the_money_of_a_spot_machine_is_that_of_the_simulation():
    book = BOOK.with_rates(spot_interruptions_per_hour=2.0)
    activity = Activity(7200.0, checkpoint_seconds=1.0, checkpoint_every_seconds=300.0, restart_seconds=20.0)
    cost = price("nebius-h200", activity, "spot", book)
    ran, lost = simulate(activity, 200.0, 2.0 / 3600.0, trials=4000, seed=5)
    assert cost.money == pytest.approx(1.45 * ran / 3600.0, rel=0.03)
    assert cost.seconds == pytest.approx(ran + 300.0 * lost, rel=0.03)


def test_our_resume_makes_interruptions_cheap():
    activity = Activity(36_000.0, checkpoint_seconds=0.2, restart_seconds=20.0)
    resumed, begun_anew = (
        price("nebius-h200", replace(activity, preemptible=is_so), "spot") for is_so in (True, False)
    )
    assert resumed.seconds_parts["lost"] < 0.005 * resumed.seconds
    assert begun_anew.seconds_parts["lost"] > 0.2 * begun_anew.seconds


@given(OFFERS, KINDS, WORK, WORK)
@settings(deadline=None)
def test_more_work_never_costs_less(offer: Offer, kind: PriceKind, one: float, other: float):
    low, high = (price_activity(offer, Activity(work, offer.unit_devices), BOOK, kind) for work in sorted((one, other)))
    assert low.money <= high.money * (1 + 1e-9)
    assert low.seconds <= high.seconds * (1 + 1e-9)


@given(OFFERS, KINDS, WORK, st.integers(1, 9))
@settings(deadline=None)
def test_never_below_the_least_billing(offer: Offer, kind: PriceKind, work: float, starts: int):
    cost = price_activity(offer, Activity(work, offer.unit_devices, starts=starts), BOOK, kind)
    hourly = sum(offer.price(kind)) * offer.unit_devices
    assert cost.billed_seconds >= starts * BOOK.rates.minimum_seconds(offer)
    assert cost.money >= hourly / 3600.0 * starts * BOOK.rates.minimum_seconds(offer) * (1 - 1e-9)
    assert cost.money >= starts * least_cost(offer, BOOK, kind).money * (1 - 1e-9)


@given(OFFERS, WORK, st.floats(0.0, 0.5), st.floats(0.0, 0.5))
@settings(deadline=None)
def test_more_interruptions_never_cost_less(offer: Offer, work: float, one: float, other: float):
    low, high = (
        price_activity(
            offer, Activity(work, offer.unit_devices), BOOK.with_rates(spot_interruptions_per_hour=rate), "spot"
        )
        for rate in sorted((one, other))
    )
    assert low.money <= high.money * (1 + 1e-6)


@given(OFFERS, KINDS, WORK)
@settings(deadline=None)
def test_parts_add_up(offer: Offer, kind: PriceKind, work: float):
    activity = Activity(work, offer.unit_devices, storage_gb_hours=730.0, egress_gb=2.0, checkpoint_seconds=0.5)
    cost = price_activity(offer, activity, BOOK, kind)
    assert sum(cost.parts.values()) == pytest.approx(cost.money)
    assert sum(cost.seconds_parts.values()) == pytest.approx(cost.seconds)
    assert min(cost.seconds_parts.values()) > -1e-6 * cost.seconds
    assert cost.parts["money_storage"] == pytest.approx(0.02)
    assert cost.parts["money_egress"] == pytest.approx(0.24)


def test_a_training_of_seconds_costs_its_start():
    cost = price("nebius-h200", Activity(12.0))
    assert cost.seconds_parts["start"] == 180.0
    assert cost.money == pytest.approx(3.5 * 192.0 / 3600.0)
    assert cost.money > 10 * 3.5 * 12.0 / 3600.0


def test_the_least_billing_holds_where_the_start_is_quick():
    book = BOOK.with_rates(vm_start_seconds=1.0, vm_image_seconds=0.0)
    assert price("nebius-h200", Activity(12.0), book=book).billed_seconds == 60.0


def test_a_reserved_block_is_paid_whole():
    for work, days in ((12.0, 1), (86_400.0, 2), (200_000.0, 3)):
        cost = price("aws-h200-block", Activity(work, 8))
        assert cost.billed_seconds == days * 86_400.0
        assert cost.money == pytest.approx(days * 24 * 8 * 5.4075)
        assert cost.seconds == pytest.approx(work + 180.0)


def test_devices_that_are_not_used_are_paid_too():
    one, three, eight = (price("nebius-h200", Activity(3600.0, count)).money for count in (1, 3, 8))
    assert three == eight == pytest.approx(8 * one)
    assert price("nebius-h200", Activity(3600.0, 16, num_machines=2)).money == pytest.approx(16 * one)


def test_several_machines_are_interrupted_when_any_is():
    book = BOOK.with_rates(spot_interruptions_per_hour=0.5)
    alone, four = (price("nebius-h200", Activity(3600.0, count, num_machines=count), "spot", book) for count in (1, 4))
    assert four.seconds_parts["lost"] > 3.5 * alone.seconds_parts["lost"]


def test_work_that_is_never_done_between_interruptions_is_refused():
    with pytest.raises(InputError, match="interrupted before it is done") as caught:
        price("nebius-h200", Activity(1e8, preemptible=False), "spot")
    assert "checkpoints" in str(caught.value.remedy)
    assert math.isfinite(price("nebius-h200", Activity(1e8), "spot").money)


def test_an_owned_machine_costs_wear_and_electricity():
    rack: dict[str, Any] = {"purchase": 87_660.0, "years": 5.0, "use_share": 0.5, "source": "invoice"}
    owned = Owned(id="rack", hardware="H200-SXM", num_devices=8, power_usage_effectiveness=1.5, watts=6000.0, **rack)
    cost = price_activity(owned, Activity(3600.0, 8), BOOK, "owned")
    assert cost.parts["money_depreciation"] == pytest.approx(87_660.0 / (5 * 8766 * 0.5))
    assert cost.parts["money_electricity"] == pytest.approx(6.0 * 1.5 * 0.15)
    assert cost.joules == pytest.approx(6000.0 * 3600.0)
    assert (cost.joules_from, cost.seconds) == ("energy_stated", 3600.0)


@pytest.mark.parametrize(
    ("name", "kind", "watts", "joules", "source"),
    [
        ("nebius-h200", "on_demand", None, 700.0, "energy_of_thermal_design"),
        ("nebius-h200", "on_demand", 350.0, 350.0, "energy_measured"),
        ("gcp-tpu-v5e", "on_demand", None, None, "energy_unknown"),
        ("this-machine", "owned", None, 200.0, "energy_stated"),
        ("this-machine", "owned", 90.0, 90.0, "energy_measured"),
    ],
)
def test_energy_says_from_which_power_it_is(
    name: str, kind: PriceKind, watts: float | None, joules: float | None, source: str
):
    cost = price(name, Activity(100.0, watts=watts), kind)
    assert cost.joules == (None if joules is None else pytest.approx(100.0 * joules))
    assert cost.joules_from == source
    assert cost.facts()["joules_from"] == source


def test_a_published_mean_power_is_called_so():
    assert price("gcp-tpu-v4", Activity(100.0, 4)).joules_from == "energy_of_published_mean"


@pytest.mark.parametrize(
    ("name", "kind", "activity", "problem"),
    [
        ("lambda-h100-80gb-pcie", "spot", Activity(1.0), "no spot price"),
        ("nebius-h200", "owned", Activity(1.0), "no owned price"),
        ("this-machine", "on_demand", Activity(1.0), "no on_demand price"),
        ("nebius-h200", "on_demand", Activity(1.0, 16), "up to 8 devices, and 16 on one"),
        ("this-machine", "owned", Activity(1.0, 2), "up to 1 devices"),
    ],
)
def test_what_an_offer_does_not_have_is_refused(name: str, kind: PriceKind, activity: Activity, problem: str):
    with pytest.raises(InputError, match=problem):
        price(name, activity, kind)


def test_a_budget_below_the_least_billing_is_refused():
    least = min(least_cost(one, BOOK, "spot").money for one in BOOK.offers if one.spot is not None)
    check_budget(least, BOOK)
    with pytest.raises(InputError, match="below the least that any offer costs") as caught:
        check_budget(least * 0.99, BOOK)
    assert "at least 0.01 USD" in str(caught.value.remedy)
    with pytest.raises(InputError, match="nebius-h200"):
        check_budget(0.05, BOOK, used={"nebius-h200"})


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_that_is_no_sum_is_refused(budget: float):
    with pytest.raises(InputError, match="no sum of money"):
        check_budget(budget, BOOK)
