"""The verb `ebox doctor`: parse, call one function, print. No logic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ebox.exits import FAILED_CODE
from ebox.options import (
    ConfigOption,
    ForOption,
    LinkOption,
    ParityOption,
    PlatformOption,
    ScalingOption,
    SetOption,
    TopologyOption,
    WorkersOption,
)


def doctor(
    topology: TopologyOption = None,
    dataset: ForOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    parity: ParityOption = False,
    workers: WorkersOption = "2,4,8",
    scaling: ScalingOption = False,
    link: LinkOption = "10gbit",
    platform: PlatformOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --parity or --scaling: JSON file; in a run, its report shows it.")
    ] = None,
) -> None:
    """Say what is here and what is missing; with --for, what a training would take, here or on a --topology.

    With --parity, certify that one worker and several train the same model on this machine. With --scaling, measure
    steps of one worker and of several, and predict how the training of --for grows with more of them.
    """
    from ebox import console

    if parity:
        _certify(workers, platform, config, set_ or (), out)
        return
    if scaling:
        _grow(dataset, config, set_ or (), link, out)
        return
    from ebox.diagnosis import doctor as examine

    result = examine(topology, dataset, config, set_ or ())
    console.say(console.describe_findings(result))
    raise typer.Exit(0 if result.healthy else 2)


def _certify(
    workers: str, platform: str | None, config: Path | None, overrides: Sequence[str], out: Path | None
) -> None:
    """Make the certificate of 1 against N, show it and keep it; code 1 where it does not hold."""
    from ebox import console
    from ebox.errors import InputError
    from ebox.parity import certify_parity, read_numbers, write_parity

    if config is not None:
        raise InputError(
            "--parity trains a fixed problem, in which --config has no part", remedy="give what shall differ with --set"
        )
    with console.Display() as display:
        result = certify_parity(
            read_numbers(workers),
            platform="cpu" if platform is None else platform,
            overrides=overrides,
            progress=display.progress,
        )
    console.say(console.describe_parity(result))
    if out is not None:
        write_parity(result, out)
        console.say(f"certificate: {out}")
    if not result.holds:
        raise typer.Exit(FAILED_CODE)


def _grow(dataset: Path | None, file: Path | None, overrides: Sequence[str], link: str, out: Path | None) -> None:
    """Measure how a training grows with the workers, show it and keep it."""
    from ebox import console
    from ebox.config import read_config
    from ebox.scaling import measure_growth, read_link, write_growth

    with console.Display() as display:
        result = measure_growth(dataset, read_config(file, overrides), read_link(link), progress=display.progress)
    console.say(console.describe_growth(result))
    if out is not None:
        write_growth(result, out)
        console.say(f"scaling: {out}")
