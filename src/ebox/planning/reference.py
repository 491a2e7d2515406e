"""The measured accelerator that comes with ebox, from which others are carried over where no profile is given."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ebox.planning.profiles import Profile, read_profile

# Made by benchmarks/h200_profile.py from kept measurements of the default network on one GPU.
REFERENCE = Path(__file__).parent / "data" / "h200.json"


@cache
def read_reference() -> Profile:
    """The profile of the GPU that comes with ebox."""
    return read_profile(REFERENCE)
