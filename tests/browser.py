"""A real browser for tests of pages, at the other end of two pipes."""

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

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
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


# What no chart may have: texts that leave its drawing, and texts that cover each other.
TEXTS_OUTSIDE = """[...document.querySelectorAll('svg.chart')].flatMap(s=>{const b=s.getBoundingClientRect();
  return [...s.querySelectorAll('text')].filter(t=>{const r=t.getBoundingClientRect();
    return r.left<b.left-1||r.right>b.right+1||
      r.top<b.top-1||r.bottom>b.bottom+1}).map(t=>t.textContent)})"""
TEXTS_COVERED = """[...document.querySelectorAll('svg.chart')].flatMap(s=>{
  const all=[...s.querySelectorAll('text')].map(t=>[t.textContent,t.getBoundingClientRect()]);
  return all.flatMap(([a,r],i)=>all.slice(i+1).filter(([b,q])=>
    r.left<q.right-1&&q.left<r.right-1&&r.top<q.bottom-4&&q.top<r.bottom-4).map(([b])=>a+' / '+b))})"""
# Ids that are there twice, and references that lead nowhere.
IDS_TWICE = "[...document.querySelectorAll('[id]')].map(e=>e.id).filter((x,i,a)=>a.indexOf(x)!==i)"
BROKEN = (
    "[...document.querySelectorAll('use,a[href^=\"#\"]')].map(e=>e.getAttribute('href').slice(1))"
    ".filter(x=>!document.getElementById(x))"
)
