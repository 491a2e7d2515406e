"""The errors for users to read: what is wrong, where, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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

    exit_code = 2

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


def explain_memory(error: Exception) -> InputError | None:
    """The error to show if an error of JAX says that the memory of a device is used up; else None."""
    if "RESOURCE_EXHAUSTED" not in str(error):
        return None
    return InputError(
        "a device has too little memory for this batch",
        remedy="set train.device_batch_size (gradients are then accumulated), or a smaller train.batch_size",
    )


def pip_command(*words: str) -> str:
    """The command that installs packages into the Python that runs this, whatever the shell's own pip belongs to."""
    python = shlex.quote(sys.executable or "python")
    first = "" if importlib.util.find_spec("pip") else f"{python} -m ensurepip && "
    return f"{first}{python} -m pip install {shlex.join(words)}"


def install_command(extra: str) -> str:
    """The command that installs what an extra of ebox needs, as the installed metadata say it.

    It names the packages themselves: a package that is called ebox on an index may be another one. Where ebox runs from
    its source and is not installed, it is the source that is installed, with the extra.
    """
    from importlib.metadata import PackageNotFoundError

    try:
        needed = list(_iter_requirements(extra))
    except PackageNotFoundError:
        needed = []
    return pip_command(*needed) if needed else pip_command("--editable", f"{Path(__file__).parents[2]}[{extra}]")


def _iter_requirements(extra: str) -> Iterator[str]:
    """The requirements of an extra that apply to this Python and system; an extra that it names is looked into."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires("ebox") or ()):
        marker, requirement.marker = requirement.marker, None
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        if requirement.name == "ebox":
            for inner in sorted(requirement.extras):
                yield from _iter_requirements(inner)
        else:
            yield str(requirement)


class WorkersFailedError(Exception):
    """The workers of a group failed more times than allowed. The command line exits with code 1."""


class ResumableError(Exception):
    """SIGTERM stopped a training, which was saved and can be resumed. The command line exits with code 75."""
