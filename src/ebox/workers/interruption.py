"""SIGINT and SIGTERM are only noted: the running work ends and is saved before the program stops."""

from __future__ import annotations

import signal
import threading
from typing import Any, final

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_noted: list[int] = []
_notes_only = False


def note_signals_from_now_on() -> None:
    """Only note signals, from the start of a worker to its end; its supervisor kills it if necessary."""
    global _notes_only
    _notes_only = True
    for number in SIGNALS:
        signal.signal(number, lambda number, _: _noted.append(number))


@final
class Interruption:
    """Notes SIGINT and SIGTERM instead of stopping, so that a dispatch ends and is saved; a second one stops at once.

    In a worker, whose signals are already noted, a second one does nothing.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def number(self) -> int | None:
        """The first signal that came; None: none came."""
        return _noted[0] if _noted else self._number

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self.number is not None

    def __enter__(self) -> None:
        if not _notes_only and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: object) -> None:
        if self._number is not None:
            raise KeyboardInterrupt
        self._number = number
