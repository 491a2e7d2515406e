"""Names in facts that several packages write and read."""

from __future__ import annotations

SPLITS = ("train", "validation", "test")
# The trained network, among the baselines that it is compared with.
MODEL = "model"
