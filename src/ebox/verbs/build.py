"""Make a dataset folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.datasets.sources import DatasetSources
from ebox.progress import PathLike, Progress
from ebox.settings.reading import Config
from ebox.storage.publishing import find_command

if TYPE_CHECKING:
    from ebox.datasets.folder import Dataset


def build_stage(
    out: PathLike,
    sources: DatasetSources,
    config: Config,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> Dataset:
    """Build a dataset folder from its sources; see `ebox.build`."""
    from ebox.datasets.build import build_dataset

    arguments = {field.name: getattr(sources, field.name) for field in fields(sources)}
    return build_dataset(
        config.data, Path(out), **arguments, overwrite=overwrite, progress=progress, command=find_command(command)
    )


def describe_dataset(manifest: Mapping[str, Any], quality: Mapping[str, Any]) -> str:
    """Counts by split and kind, what was dropped and why, and what to beware of."""
    lines = [f"{quality['num_examples']:,} examples of {quality['length_bp']} bp, {quality['num_positive']:,} positive"]
    lines.append(f"  {'kind':<24}{'train':>10}{'validation':>12}{'test':>10}")
    for kind, counts in quality["kinds"].items():
        lines.append(f"  {kind:<24}{counts['train']:>10,}{counts['validation']:>12,}{counts['test']:>10,}")
    for reason, count in quality["dropped"].items():
        lines.append(f"  dropped, {reason}: {count:,}")
    lines += [f"  beware: {warning}" for warning in quality["warnings"]]
    lines.append(f"  fingerprint {manifest['fingerprint'][:16]}")
    return "\n".join(lines)
