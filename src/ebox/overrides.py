"""The settings of a finished run with some changed, for what is made of its network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ebox.config import Config, ParallelConfig, read_config
from ebox.errors import InputError

Section = Literal["evaluation", "explanation"]


def read_run_settings(
    run: str | os.PathLike[str],
    section: Section,
    overrides: Sequence[str] = (),
    *,
    chosen: Mapping[str, Any] | None = None,
    platform: str | None = None,
    devices: int | None = None,
) -> tuple[Config, ParallelConfig]:
    """The settings of a run, those of one section changed, and the devices to use.

    Args:
        run: A run folder.
        section: What may be changed.
        overrides: Each `section.key=value`.
        chosen: Values of the section's keys, which go before; None: as they are.
        platform: As in `ParallelConfig`.
        devices: As in `ParallelConfig`.

    Raises:
        InputError: no trained model, or an override of another section.
    """
    from ebox.training import run_folder

    run_folder.check_run_folder(Path(run))
    other = [text for text in overrides if not text.strip().startswith(f"{section}.")]
    if other:
        raise InputError(
            f"--set {other[0]!r} can't change a trained network", remedy=f"only {section}.… can be set here"
        )
    own = {f"{section}.{key}": value for key, value in (chosen or {}).items() if value is not None}
    flags = {"parallel.platform": platform, "parallel.devices": devices}
    parallel = read_config(None, (), {key: value for key, value in flags.items() if value is not None}).parallel
    return read_config(Path(run) / run_folder.CONFIG, overrides, own), parallel
