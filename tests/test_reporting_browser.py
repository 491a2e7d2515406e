"""The page in a real browser: nothing is logged, fetched or wider than a phone, in light, dark and print."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebox.reporting import write_report
from test_reporting_reading import make_run_folder

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Browser:
    """Chromium at the other end of two pipes; its DevTools protocol is JSON messages that end in a NUL."""

    def __init__(self, profile: str) -> None:
        assert BROWSER is not None
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        self.process = subprocess.Popen(
            # The browser reads commands on descriptor 3 and writes answers on 4.
            [
                "bash",
                "-c",
                f'exec "$@" 3<&{to_read} 4>&{to_write}',
                "-",
                BROWSER,
                *FLAGS,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session: str | None = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            block = os.read(self._from, 1 << 20)
            assert block, "the browser has gone"
            self._rest += block
        text, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def open(self, page: Path, width: int, *, dark: bool = False) -> None:
        self.events.clear()
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def ask(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def complaints(self) -> list[Any]:
        logged = (
            "Log.entryAdded",
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Page.javascriptDialogOpening",
        )
        return [event["params"] for event in self.events if event.get("method") in logged]

    def requests(self) -> list[str]:
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._to)
        os.close(self._from)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            yield browser
        finally:
            browser.close()


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
    repeated = "[...document.querySelectorAll('[id]')].map(e=>e.id).filter((x,i,a)=>a.indexOf(x)!==i)"
    assert browser.ask(repeated) == []
    broken = (
        "[...document.querySelectorAll('use,a[href^=\"#\"]')].map(e=>e.getAttribute('href').slice(1))"
        ".filter(x=>!document.getElementById(x))"
    )
    assert browser.ask(broken) == []
    named = """[...document.querySelectorAll('[aria-labelledby]')]
      .every(e=>document.getElementById(e.getAttribute('aria-labelledby')))"""
    assert browser.ask(named) is True


@pytest.mark.parametrize("width", [390, 1000])
def test_no_text_of_a_chart_leaves_its_drawing_or_covers_another(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    outside = """[...document.querySelectorAll('svg.chart')].flatMap(s=>{const b=s.getBoundingClientRect();
      return [...s.querySelectorAll('text')].filter(t=>{const r=t.getBoundingClientRect();
        return r.left<b.left-1||r.right>b.right+1||
          r.top<b.top-1||r.bottom>b.bottom+1}).map(t=>t.textContent)})"""
    assert browser.ask(outside) == []
    covered = """[...document.querySelectorAll('svg.chart')].flatMap(s=>{
      const all=[...s.querySelectorAll('text')].map(t=>[t.textContent,t.getBoundingClientRect()]);
      return all.flatMap(([a,r],i)=>all.slice(i+1).filter(([b,q])=>
        r.left<q.right-1&&q.left<r.right-1&&r.top<q.bottom-4&&q.top<r.bottom-4).map(([b])=>a+' / '+b))})"""
    assert browser.ask(covered) == []


def test_the_page_prints(browser: Browser, page: Path) -> None:
    browser.open(page, 1000)
    assert len(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"]) > 20_000
