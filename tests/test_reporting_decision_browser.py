"""The pages of a plan and of a decision in a real browser: quiet, offline, computed again, and one printed page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from browser import BROKEN, IDS_TWICE, TEXTS_COVERED, TEXTS_OUTSIDE, Browser, browser, needs_browser
from ebox.drawing.numbers import format_measure, format_money
from ebox.planning.worth import Work
from ebox.reporting.decision import write_plan_page
from planned import make_plan
from test_reporting_decision import write_decision
from test_reporting_reading import make_run_folder

__all__ = ["browser"]
pytestmark = needs_browser
# The room of one printed A4 page between its margins, at 96 dots an inch.
PAGE_WIDTH, PAGE_HEIGHT = 184 / 25.4 * 96, 275 / 25.4 * 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pages")
    run = make_run_folder(place / "tal1")
    plan = make_plan()
    plan["profiles"][0]["device"]["name"] = "<script>console.error('ran')</script>" + "a_very_long_name_" * 8
    write_plan_page(plan, place / "plan.html")
    write_decision(plan, run, place / "decision.html")
    plan["question"] |= {"target": {"metric": "auroc", "value": 0.955}, "budget": 4.2, "deadline_hours": 2.5}
    write_decision(plan, run, place / "wait.html")
    write_decision(make_plan(run=None), None, place / "none.html")
    endless = make_plan()
    for option in endless["options"]:
        option["jobs"]["factors"]["money"]["high"] = None
    write_decision(endless, run, place / "endless.html")
    return place


@pytest.mark.parametrize("name", ["decision", "plan", "none"])
@pytest.mark.parametrize(("width", "dark"), [(320, False), (400, True), (1280, False)])
def test_the_pages_are_quiet_and_no_wider_than_their_window(
    browser: Browser, folder: Path, name: str, width: int, dark: bool
) -> None:
    page = folder / f"{name}.html"
    browser.open(page, width, dark=dark)
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [page.as_uri()]
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask(IDS_TWICE) == []
    assert browser.ask(BROKEN) == []
    assert browser.ask(TEXTS_OUTSIDE) == []
    assert browser.ask(TEXTS_COVERED) == []


def enter(browser: Browser, **values: str) -> None:
    for name, value in values.items():
        browser.ask(
            f"(e=>{{e.value={json.dumps(value)};e.dispatchEvent(new Event('input',{{bubbles:true}}))}})"
            f"(document.getElementById('in-{name}'))"
        )


def read(browser: Browser) -> dict[str, str]:
    told: dict[str, str] = browser.ask(
        "Object.fromEntries([...document.querySelectorAll('output')].map(e=>[e.dataset.out,e.innerText.trim()]))"
    )
    return told


def shown(browser: Browser, attribute: str) -> list[str]:
    """The values of an attribute of what can be seen."""
    found: list[str] = browser.ask(
        f"[...document.querySelectorAll('[{attribute}]')].filter(e=>e.offsetParent)"
        f".map(e=>e.getAttribute('{attribute}'))"
    )
    return found


def expect(work: Work, worth: dict[str, Any], currency: str = "USD") -> dict[str, str]:
    """What the page should say, by the rules in Python."""
    avoided, machine = worth["avoided"], worth["machine"]
    low = replace(work, avoided=avoided["low"], machine=machine["high"]).net
    high = replace(work, avoided=avoided["high"], machine=machine["low"]).net
    at = work.factors_to_break_even
    told = {
        "saved": format_measure(work.saved, "plain"),
        "money": format_money(work.money, currency),
        "net": f"{format_money(work.net, currency)} {format_money(low)} to {format_money(high)}",
        "factors_to_break_even": "never" if at is None else format_measure(at, "plain"),
    }
    for name in ("experiments_to_break_even", "hours_to_break_even"):
        value = getattr(work, name)
        told[name] = "never" if value is None else format_measure(value, "plain")
    return told


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"factors": "1"},
        {"factors": "1500", "odds": "99"},
        {"per_hour": "123.45", "setup_hours": "0"},
        {"hours_per_factor": "40"},
        {"factors": "3", "setup_hours": "2"},
        {"cost": "0"},
        {"per_hour": "0", "cost": "0.004", "setup_hours": "0", "hours_per_factor": "0"},
    ],
    ids=str,
)
def test_the_page_computes_again_what_python_computes(browser: Browser, folder: Path, changes: dict[str, str]) -> None:
    worth = json.loads((folder / "decision.json").read_text())["worth"]
    names = Work.__dataclass_fields__
    own = Work(**{name: float(worth["work"][name]) for name in names})
    browser.open(folder / "decision.html", 1000)
    before = read(browser)
    enter(browser, factors="7", **{"odds": "50"})
    assert read(browser) != before
    base = {name: f"{getattr(own, name):g}" for name in ("factors", "odds")}
    enter(browser, **(base | changes))
    work = replace(own, **{name: float(value) for name, value in changes.items()})
    assert read(browser) == expect(work, worth)
    assert browser.complaints() == []


def test_the_answer_changes_with_the_readers_numbers(browser: Browser, folder: Path) -> None:
    browser.open(folder / "decision.html", 1000)
    assert shown(browser, "data-state") == ["holds"]
    assert shown(browser, "data-answer") == []
    enter(browser, per_hour="900")
    assert shown(browser, "data-state") == ["fails"]
    assert shown(browser, "data-answer") == ["stop"]
    enter(browser, per_hour="165")
    assert shown(browser, "data-state") == ["unsure"]
    assert shown(browser, "data-answer") == ["wait"]
    enter(browser, per_hour="80")
    assert shown(browser, "data-answer") == []
    browser.open(folder / "wait.html", 1000)
    enter(browser, per_hour="81")
    assert shown(browser, "data-state") == ["holds"]
    assert shown(browser, "data-answer") == ["wait"]


def test_a_cost_without_limit_leaves_what_is_won_without_one_whoever_computes(browser: Browser, folder: Path) -> None:
    browser.open(folder / "endless.html", 1000)
    assert " at most " in read(browser)["net"]
    enter(browser, per_hour="81")
    assert " at most " in read(browser)["net"]
    assert shown(browser, "data-state") == ["unsure"]


def test_what_is_no_number_shows_no_result(browser: Browser, folder: Path) -> None:
    browser.open(folder / "decision.html", 1000)
    for value in ("", "-5"):
        enter(browser, cost=value)
        assert {told.strip() for told in read(browser).values()} == {"\N{EN DASH}"}
        assert shown(browser, "data-state") == []
    enter(browser, cost="150")
    assert shown(browser, "data-state") == ["holds"]


def test_without_javascript_the_numbers_stand_and_can_not_be_changed(browser: Browser, folder: Path) -> None:
    browser.open(folder / "decision.html", 1000)
    before = read(browser)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(folder / "decision.html", 1000)
        assert read(browser) == before
        assert browser.ask("[...document.querySelectorAll('input')].every(e=>e.disabled)") is True
        assert "runs no JavaScript" in browser.ask("document.querySelector('#worth').innerText")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("name", ["decision", "wait", "none"])
def test_a_decision_is_one_printed_page_and_an_appendix(browser: Browser, folder: Path, name: str) -> None:
    browser.open(folder / f"{name}.html", round(PAGE_WIDTH))
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.ask("document.querySelector('.sheet').getBoundingClientRect().bottom") <= PAGE_HEIGHT
        assert browser.ask("getComputedStyle(document.querySelector('.appendix')).breakBefore") == "page"
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
    assert len(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"]) > 20_000
