"""What lets a worker of a group not fail unnoticed: a watch over its steps, and a quick exit."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import NoReturn, final

from ebox.errors import EXIT_LOST

# A step, or a job of an asynchronous worker, may take this multiple of the time of the slowest one before it.
PATIENCE = 10.0
# JAX's own heartbeat waits this time longer than a `Watch`, since it can only abort, without our message. It is for
# what a `Watch` doesn't see: a loss while it rests.
HEARTBEAT_MORE_SECONDS = 3.0


@final
class Watch:
    """Ends this process when a step takes too long: another worker hangs, or the connection to it is cut.

    It is armed only between two `beat`s, and there is one `beat` in each dispatch. A dispatch may take ten times as
    long as the slowest one before it, so that a slow network does not count as a dead one; until one was timed, ten
    times as long as the first one, which is timed with its compilation.
    """

    def __init__(self, stall_seconds: float | None) -> None:
        """Watch from now on; None: for nothing, as in a process that waits for no other."""
        self._stall_seconds = 0.0 if stall_seconds is None else stall_seconds
        self._made_at = time.monotonic()
        self._first, self._slowest = 0.0, 0.0
        self._since: float | None = None
        self._lock = threading.Lock()
        if stall_seconds is not None:
            threading.Thread(target=self._look, name="ebox-watch", daemon=True).start()

    def beat(self) -> None:
        """A dispatch is done; wait for the next one."""
        with self._lock:
            now = time.monotonic()
            self._first = self._first or now - self._made_at
            if self._since is not None:
                self._slowest = max(self._slowest, now - self._since)
            self._since = now

    def rest(self) -> None:
        """Something of unknown length begins; wait for nothing until the next `beat`."""
        with self._lock:
            self._since = None

    def _look(self) -> None:
        while True:
            time.sleep(0.5)
            with self._lock:
                waited = 0.0 if self._since is None else time.monotonic() - self._since
                limit = max(self._stall_seconds, PATIENCE * (self._slowest or self._first))
            if waited > limit:
                leave(EXIT_LOST, f"no step for {waited:.0f} s: another worker hangs, or the connection to it is cut")


UNWATCHED = Watch(None)


def leave(code: int, reason: str) -> NoReturn:
    """End this process at once: a normal exit would wait for the workers that are gone."""
    sys.stderr.write(f"{reason}\n")
    sys.stderr.flush()
    os._exit(code)
