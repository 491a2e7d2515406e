"""The page in a real browser: nothing is logged, fetched or wider than a phone, in light, dark and print."""

import json
import os
import select
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

import processes
from ebox.reporting.report import write_report
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

    def __init__(self, commands: IO[bytes], answers: IO[bytes]) -> None:
        self._commands, self._answers = commands, answers
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
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._answers], [], [], 60.0)[0], "the browser says nothing"
            block = self._answers.read(1 << 20)
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


@contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The end to read from and the end to write to."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as sink:
        yield source, sink


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert BROWSER is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, _pipe() as commands, _pipe() as answers:
        theirs = [commands[0], answers[1]]
        inherited = [stream.fileno() for stream in theirs]
        # The browser reads commands on descriptor 3 and writes answers on 4.
        words = ["bash", "-c", f'exec "$@" 3<&{inherited[0]} 4>&{inherited[1]}', "-", BROWSER, *FLAGS]
        with processes.started([*words, f"--user-data-dir={profile}"], ends=0, pass_fds=inherited) as process:
            for stream in theirs:
                stream.close()
            browser = Browser(commands[1], answers[0])
            yield browser
            browser.session = None
            browser.call("Browser.close")
            process.finish(60.0)


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
