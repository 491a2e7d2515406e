"""What the user sees: bars on a terminal, plain lines elsewhere. Only this module prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from ebox.progress import tell_warnings

if TYPE_CHECKING:
    from rich.progress import Progress


QUIET_SECONDS = 5.0


def say(text: str) -> None:
    """Print a line of the result to standard output."""
    _write(sys.stdout, text)


def note(text: str) -> None:
    """Print a line that is not part of the result, to standard error."""
    _write(sys.stderr, text)


def _write(stream: TextIO | None, text: str) -> None:
    """Write a line at once; a stream that was closed before the program began is None."""
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()


def show_warnings_plainly() -> None:
    """Print each warning as one line, without its place in the code."""
    tell_warnings(lambda text: note(f"warning: {text}"))


class Display:
    """Progress of stages and of the training; a context manager.

    On a terminal each stage is a bar with the time left. Elsewhere a stage prints a line when it begins and then at
    most one every five seconds, and the training prints a line at each log step.
    """

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, float] = {}
        # When each stage began, the amount done then, and the amount done last.
        self._began: dict[str, tuple[float, int, int]] = {}

    def __enter__(self) -> Display:
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
            )
            self._bars = Progress(*columns, console=Console(stderr=True))
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def stage(self, name: str) -> None:
        """Show that a stage begins."""
        if self._bars is not None:
            self._bars.console.rule(name, align="left", style="dim")
        else:
            note(f"== {name}")

    def text(self, text: str) -> None:
        """Show a part of the result that is ready before the end; Rich prints it above its bars."""
        say(text)

    def progress(self, phrase: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if self._bars is not None:
            self._update(phrase, done, total, "")
            return
        now = time.monotonic()
        last, before = self._said.get(phrase), self._began.get(phrase, (0.0, 0, 0))[2]
        if done < before:
            # The same stage began again, on other sequences.
            last = None
        already = (now, done) if last is None else self._began[phrase][:2]
        self._began[phrase] = (*already, done)
        if last is None:
            self._said[phrase] = now
        elif done >= total and before >= total:
            # Its last line stands there already, or it was too short for one.
            return
        elif now - last >= QUIET_SECONDS or (done >= total and now - last >= 1.0):
            self._said[phrase] = now
            # For a stage that is done all at once, only the elapsed time is known.
            far = f"{now - already[0]:.0f} s elapsed" if total == 1 > done else f"{done:,} of {total:,}"
            note(f"{phrase}: {far}{self._describe_rest(phrase, now, done, total)}")

    def _describe_rest(self, phrase: str, now: float, done: int, total: int) -> str:
        """The time left, at the speed since the first call with this phrase."""
        began, already, _ = self._began[phrase]
        if done <= already or done >= total:
            return ""
        return f", {(now - began) / (done - already) * (total - done):.0f} s left"

    def entry(self, entry: Mapping[str, Any], num_steps: int) -> None:
        """Show one entry of the training metrics."""
        facts = _describe(entry)
        if self._bars is not None:
            self._update("training", int(entry["step"]), num_steps, facts)
            if entry["kind"] == "validation":
                self._bars.console.print(f"[dim]step {entry['step']}: {facts}")
            return
        left = ""
        if entry["kind"] == "train" and entry["step"]:
            seconds = entry["seconds"] / entry["step"] * (num_steps - entry["step"])
            left = f", {seconds:.0f} s left"
        note(f"step {entry['step']}/{num_steps}: {facts}{left}")

    def _update(self, phrase: str, done: int, total: int, facts: str) -> None:
        assert self._bars is not None
        if phrase not in self._tasks:
            self._tasks[phrase] = self._bars.add_task(phrase, total=total, facts=facts)
        task = self._tasks[phrase]
        if done < next(each.completed for each in self._bars.tasks if each.id == task):
            # The same stage began again: the time left follows from its own speed.
            self._bars.reset(task)
        self._bars.update(task, completed=done, total=total, facts=facts)


def _describe(entry: Mapping[str, Any]) -> str:
    member = f"member {entry['member'] + 1}, " if "member" in entry else ""
    if entry["kind"] == "validation":
        return f"{member}validation loss {entry['loss']:.4f}, AUROC {entry['auroc']:.4f}, AUPRC {entry['auprc']:.4f}"
    return f"{member}loss {entry['loss']:.4f}, {entry['sequences_per_second']:,.0f} sequences/s"
