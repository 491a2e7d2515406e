"""The errors for users to read: what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Any

# Exit codes of a process, for whoever started it, and for the supervisor of a worker.
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: saved, to be resumed
EXIT_LOST = 76  # lost another worker, or made no step for too long
EXIT_INTERRUPTED = 130


class InputError(Exception):
    """Input, a setting or an environment that ebox cannot work with.

    The command line prints the message without a traceback and exits with `exit_code`.

    Args:
        problem: What is wrong, in one clause, with what was found and what was expected.
        file: The file or folder with the problem.
        line: The 1-based line of that file.
        record: The name of the record, if the format has names.
        remedy: What the user can do.
    """

    exit_code = EXIT_BAD_INPUT

    def __init__(
        self,
        problem: str,
        *,
        file: str | os.PathLike[str] | None = None,
        line: int | None = None,
        record: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else os.fspath(file)
        self.line = line
        self.record = record
        self.remedy = remedy
        super().__init__(str(self))

    def facts(self) -> dict[str, Any]:
        """The parts of the error, by the names of the parameters."""
        return {name: getattr(self, name) for name in ("problem", "file", "line", "record", "remedy")}

    def __str__(self) -> str:
        """Join place, problem and remedy into one message."""
        place = [] if self.file is None else [self.file]
        if self.line is not None:
            place.append(f"line {self.line}")
        if self.record is not None:
            place.append(f"record {self.record!r}")
        where = f"{', '.join(place)}: " if place else ""
        remedy = "" if self.remedy is None else f"\n  What to do: {self.remedy}"
        return f"{where}{self.problem}{remedy}"


def suggest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a message that names the known word nearest to another one; "" where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def explain_memory(error: Exception) -> InputError | None:
    """The error to show if an error of JAX says that the memory of a device is used up; else None."""
    if "RESOURCE_EXHAUSTED" not in str(error):
        return None
    return InputError(
        "a device has too little memory for this batch",
        remedy="set train.device_batch_size (gradients are then accumulated), or a smaller train.batch_size",
    )


class WorkersFailedError(Exception):
    """The workers of a group failed more times than allowed."""

    exit_code = EXIT_FAILED


class ResumableError(Exception):
    """SIGTERM stopped a training, which was saved and can be resumed."""

    exit_code = EXIT_RESUMABLE
