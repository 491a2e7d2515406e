"""The callbacks by which long work reports its progress, and the quiet default that does nothing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import IO, Any

PathLike = str | os.PathLike[str]
# Called with a phrase, the amount done, and the total amount.
Progress = Callable[[str, int, int], None]
# Called with an entry of the training metrics, and the total number of steps.
OnEntry = Callable[[Mapping[str, Any], int], None]
# Called with the name of a stage that begins.
OnStage = Callable[[str], None]
# Called with a part of the result that is ready, in words.
OnText = Callable[[str], None]


def quiet(*_: object) -> None:
    """Do nothing."""


def tell_warnings(tell: Callable[[str], None]) -> None:
    """Hand every warning to `tell` as its text alone, without the place in the code."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: IO[str] | None = None,
        line: str | None = None,
    ) -> None:
        tell(str(message))

    warnings.showwarning = show
