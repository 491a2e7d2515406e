"""The verb `ebox doctor`: parse, call one function, print. No logic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ebox.cli.exits import FAILED_CODE
from ebox.cli.parameters import (
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

if TYPE_CHECKING:
    from ebox.diagnosis.findings import DoctorResult
    from ebox.diagnosis.growth import GrowthResult
    from ebox.diagnosis.parity import ParityResult
    from ebox.diagnosis.preflight import PreflightResult
    from ebox.planning import TopologyResult


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
    from ebox.cli import console

    if parity:
        _certify(workers, platform, config, set_ or (), out)
        return
    if scaling:
        _grow(dataset, config, set_ or (), link, out)
        return
    from ebox.diagnosis.findings import doctor as examine

    result = examine(topology, dataset, config, set_ or ())
    console.say(describe_findings(result))
    raise typer.Exit(0 if result.healthy else 2)


def _certify(
    workers: str, platform: str | None, config: Path | None, overrides: Sequence[str], out: Path | None
) -> None:
    """Make the certificate of 1 against N, show it and keep it; code 1 where it does not hold."""
    from ebox.cli import console
    from ebox.diagnosis.parity import certify_parity, read_numbers, write_parity
    from ebox.errors import InputError

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
    console.say(describe_parity(result))
    if out is not None:
        write_parity(result, out)
        console.say(f"certificate: {out}")
    if not result.holds:
        raise typer.Exit(FAILED_CODE)


def _grow(dataset: Path | None, file: Path | None, overrides: Sequence[str], link: str, out: Path | None) -> None:
    """Measure how a training grows with the workers, show it and keep it."""
    from ebox.cli import console
    from ebox.diagnosis.growth import measure_growth, read_link, write_growth
    from ebox.settings.reading import read_config

    with console.Display() as display:
        result = measure_growth(dataset, read_config(file, overrides), read_link(link), progress=display.progress)
    console.say(describe_growth(result))
    if out is not None:
        write_growth(result, out)
        console.say(f"scaling: {out}")


def describe_growth(result: GrowthResult) -> str:
    """The curve of a training over workers as a table."""
    fit = result.fit
    lines = [
        f"fitted to {len(fit.points)} measured steps; error on a step left out {fit.median_left_out_error:.1%} "
        f"(median), {fit.worst_left_out_error:.1%} (worst)",
        f"predicted for a link of {result.link_bytes_per_second * 8 / 1e9:g} Gbit/s, each worker keeping its examples:",
        " workers   a step    speed-up   efficiency",
    ]
    lines += [
        f"{point.workers:8,} {point.seconds * 1e3:7.1f} ms {point.speedup:9.1f} {point.efficiency:11.0%}"
        for point in result.weak
    ]
    return "\n".join(lines)


def describe_parity(result: ParityResult) -> str:
    """The certificate of 1 against N as a table."""
    chosen = f" with {', '.join(result.overrides)}" if result.overrides else ""
    lines = [f"against one worker, after 50 steps of a fixed problem{chosen}:"]
    for case in result.cases:
        verdict = "holds" if case.holds else "DOES NOT HOLD"
        rerun = "equal to the bit" if case.rerun_is_equal else "DIFFERENT"
        lines.append(
            f"  {case.workers:>2} {case.kind:<10} relative difference {case.relative_difference:.1e}, "
            f"a rerun {rerun}: {verdict}"
        )
    lines.append("the same model" if result.holds else "NOT the same model; the bound is 1e-06 and an equal rerun")
    return "\n".join(lines)


def describe_findings(result: DoctorResult) -> str:
    """The doctor's findings, a line each, with the remedy below where there is one; or those on a topology."""
    if result.topology is not None:
        return describe_topology(result.topology)
    marks = {"ok": "ok     ", "missing": "MISSING", "warning": "note   "}
    lines = []
    for finding in result.findings:
        lines.append(f"{marks[finding.state]}  {finding.topic}: {finding.found}")
        if finding.remedy is not None:
            lines.append(f"           {finding.remedy}")
    if result.training is not None:
        lines += ["", describe_preflight(result.training)]
    return "\n".join(lines)


def describe_preflight(result: PreflightResult) -> str:
    """What a training would take on this machine."""
    minutes = result.training_seconds / 60
    rate = result.batch_size / result.step_seconds
    rows = [
        ("training on", result.devices),
        ("examples", f"{result.num_examples:,} to train on, {result.num_steps:,} steps of {result.batch_size:,}"),
        ("network", f"{result.num_parameters:,} trained parameters"),
        ("time", f"{minutes:,.1f} min for all steps ({rate:,.0f} sequences/s), without validations"),
        ("", f"first step after {result.compile_seconds:.0f} s; {result.step_seconds * 1e3:.1f} ms a step after it"),
        (
            "memory",
            f"{result.step_bytes / 2**20:,.0f} MiB a device for a step, {result.free_bytes / 2**30:,.1f} GiB free",
        ),
        ("largest batch", f"about {result.largest_batch_size:,} examples a step would fit"),
    ]
    lines = [f"{name:<14} {fact}" for name, fact in rows]
    return "\n".join([*lines, *(f"note: {remark}" for remark in result.remarks)])


def describe_topology(result: TopologyResult) -> str:
    """What the compiler made of the train step for a topology: a table of names and facts, then the notes."""
    found, chip = result.compilation, result.topology.chip
    memory, total = found.memory, f"{found.memory.total / 2**20:,.1f} MiB"
    if chip.memory_bytes is not None:
        verdict = "fits" if result.fits else "DOES NOT FIT"
        total += f", {found.memory.total / chip.memory_bytes:.2%} of {chip.memory_bytes / 1e9:g} GB: {verdict}"
    rows = [
        ("chips", f"{found.num_chips:,} x {found.device_kind} on {found.num_hosts:,} hosts"),
        ("batch", f"{found.batch_size:,} examples of {result.length_bp:,} bp a step, {found.batch_per_chip:,} a chip"),
        ("network", f"{found.num_parameters:,} trained parameters, computed in {found.precision}"),
        ("memory of a chip", total),
        ("", f"arguments {memory.arguments:,}, outputs {memory.outputs:,} ({memory.shared:,} of them in place),"),
        ("", f"temporaries {memory.temporaries:,}, code {memory.code:,} bytes"),
        ("gradient", f"{found.gradient_bytes:,} bytes in float32"),
    ]
    for one in found.collectives:
        often = "a step" if one.in_step else "a dispatch"
        words = f"{one.count} {often}, {one.dtype}, {one.num_bytes:,} bytes, the largest {one.largest_bytes:,}"
        rows.append((one.kind, words))
    if not found.collectives:
        rows.append(("exchange", "none: one chip"))
    else:
        rows.append(("sent by a chip", f"{result.sent_bytes:,.0f} bytes a step, at best"))
    if found.flops is not None:
        rows.append(("operations", f"{found.flops / 1e9:,.2f} GFLOP a step and chip"))
    if result.least_seconds is not None:
        rows.append(
            ("time of a step", f"at least {result.least_seconds * 1e6:,.0f} µs, without the exchange (roofline)")
        )
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    rows.append(("compiled in", f"{found.lower_seconds + found.compile_seconds:.1f} s by {versions}"))
    lines = [f"{result.topology.name}: the train step compiles", *(f"  {name:<18}{fact}" for name, fact in rows)]
    return "\n".join([*lines, *(f"  note: {note}" for note in result.notes)])
