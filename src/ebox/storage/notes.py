"""Notes: what a fact on disk says, as a code with numbers beside it. `ebox.reporting.languages` has the sentences."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """What a note can say. Each package lists its own in a subclass; every member has a sentence in each language."""


def note(code: Code, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A code and the plain values that its sentence needs."""
    return {"code": code.value, **({} if values is None else values)}
