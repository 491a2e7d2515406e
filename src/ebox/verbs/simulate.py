"""Make sequences with planted motifs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebox.sequences.ceiling import CeilingResult


def describe_ceiling(ceiling: CeilingResult | None) -> str:
    """The best that any method can reach on simulated sequences."""
    if ceiling is None:
        return "the exact ceiling of this task can't be computed"
    parts = [
        f"{name} {metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"
        for name, metric in (("accuracy", ceiling.accuracy), ("AUROC", ceiling.auroc))
    ]
    return f"likelihood-ratio ceiling: {', '.join(parts)}"
