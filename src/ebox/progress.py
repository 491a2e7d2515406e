"""What long work tells whoever started it, and the quiet default that tells nobody."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import IO, Any

PathLike = str | os.PathLike[str]
# A phrase, how much is done, and how much there is in all.
Progress = Callable[[str, int, int], None]
# An entry of the training metrics, and how many steps there are in all.
OnEntry = Callable[[Mapping[str, Any], int], None]
# The name of a stage that begins.
OnStage = Callable[[str], None]


def quiet(*_: object) -> None:
    """Tell nobody."""


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
