"""What long work tells whoever started it, and the quiet default that tells nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

PathLike = str | os.PathLike[str]
# A phrase, how much is done, and how much there is in all.
Progress = Callable[[str, int, int], None]
# An entry of the training metrics, and how many steps there are in all.
OnEntry = Callable[[Mapping[str, Any], int], None]
# The name of a stage that begins.
OnStage = Callable[[str], None]


def quiet(*_: object) -> None:
    """Tell nobody."""
