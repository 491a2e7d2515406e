"""The page in a real browser: nothing is logged, fetched or wider than a phone, in light, dark and print."""

import json
from pathlib import Path

import pytest

from browser import BROKEN, IDS_TWICE, TEXTS_COVERED, TEXTS_OUTSIDE, Browser, browser, needs_browser
from ebox.reporting.report import write_report
from test_reporting_reading import make_run_folder

__all__ = ["browser"]
pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run_folder(tmp_path_factory.mktemp("reporting") / "run", simulated=True)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    dataset = json.loads((folder / "dataset.json").read_text())
    dataset["sources"][0]["path"] = "/data/<script>console.error('ran')</script>" + "a_very_long_name_" * 8 + ".bed"
    evaluation["tracks"][0]["by_kind"] = {}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return write_report(folder)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_the_page_is_quiet_and_no_wider_than_its_window(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, dark=dark)
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [page.as_uri()]
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.scripts.length") == 0


def test_dark_is_dark_and_readable(browser: Browser, page: Path) -> None:
    colours = {}
    for dark in (False, True):
        browser.open(page, 1000, dark=dark)
        style = "getComputedStyle(document.body)"
        colours[dark] = (browser.ask(f"{style}.backgroundColor"), browser.ask(f"{style}.color"))
    assert colours[False] != colours[True]


def test_ids_are_unique_and_every_reference_has_its_target(browser: Browser, page: Path) -> None:
    browser.open(page, 1000)
    assert browser.ask(IDS_TWICE) == []
    assert browser.ask(BROKEN) == []
    named = """[...document.querySelectorAll('[aria-labelledby]')]
      .every(e=>document.getElementById(e.getAttribute('aria-labelledby')))"""
    assert browser.ask(named) is True


@pytest.mark.parametrize("width", [390, 1000])
def test_no_text_of_a_chart_leaves_its_drawing_or_covers_another(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.ask(TEXTS_OUTSIDE) == []
    assert browser.ask(TEXTS_COVERED) == []


def test_the_page_prints(browser: Browser, page: Path) -> None:
    browser.open(page, 1000)
    assert len(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"]) > 20_000
