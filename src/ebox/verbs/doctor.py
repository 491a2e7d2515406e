"""Say what is here, what is missing, and what a training would take, here or on other machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ebox.errors import EXIT_BAD_INPUT, EXIT_FAILED, InputError
from ebox.progress import PathLike, Progress, quiet
from ebox.storage.outputs import check_output
from ebox.verbs.train import worker_arguments
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.diagnosis.findings import DoctorResult
    from ebox.diagnosis.growth import GrowthResult
    from ebox.diagnosis.parity import ParityResult
    from ebox.diagnosis.preflight import PreflightResult
    from ebox.planning.examination import TopologyResult
    from ebox.settings.sections import Platform

Measured = TypeVar("Measured", "ParityResult", "GrowthResult")


def exit_code(result: DoctorResult | ParityResult | GrowthResult) -> int:
    """2 where no training can run, 1 where one worker and several do not train the same model."""
    from ebox.diagnosis.findings import DoctorResult
    from ebox.diagnosis.parity import ParityResult

    if isinstance(result, DoctorResult):
        return 0 if result.healthy else EXIT_BAD_INPUT
    return EXIT_FAILED if isinstance(result, ParityResult) and not result.holds else 0


VERB = Verb(
    "doctor",
    options={"dataset": "--for", "overrides": "--set"},
    exit_code=exit_code,
)


def doctor(
    topology: str | None = None,
    dataset: PathLike | None = None,
    config: PathLike | None = None,
    overrides: Sequence[str] = (),
    *,
    parity: bool = False,
    workers: str = "2,4,8",
    scaling: bool = False,
    link: str = "10gbit",
    platform: Platform | None = None,
    out: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = quiet,
) -> DoctorResult | ParityResult | GrowthResult:
    """Say what is here, what is missing, and what a training would take.

    The last with --for, here or on a --topology. With --parity, certify that one worker and several train the same
    model on this machine. With --scaling, measure steps of one worker and of several, and predict how the training of
    --for grows with more of them.

    Args:
        topology: Machines that are not here: v5e:4x4, h100:8, cpu:4.
        dataset: Dataset folder: what training on it would take.
        config: Settings file (TOML); see `ebox config`.
        overrides: One setting, as train.epochs=20.
        parity: Train a fixed problem (with --set too) with 1 and N workers, and compare.
        workers: With --parity: numbers of workers, as 2,4,8.
        scaling: With --for: measure steps here, and predict them for up to 256 workers.
        link: With --scaling: the network between workers, as 10gbit.
        platform: With --parity: what computes; none: cpu.
        out: With --parity or --scaling: JSON file; in a run, its report shows it; - is standard output.
        overwrite: Replace a file at --out.
        progress: Called with a phrase, the number done, and the number in all.

    Raises:
        InputError: options that don't go together, settings that can't be, a training that failed, or a file at `out`
            that may not be replaced.
    """
    if out is not None:
        if not (parity or scaling):
            raise InputError("--out is for --parity and --scaling", remedy="add one of them, or leave --out out")
        check_output(out, overwrite=overwrite)
    if parity:
        return _write(_certify(workers, platform, config, overrides, progress), out, overwrite=overwrite)
    if scaling:
        return _write(_measure(dataset, config, overrides, link, progress), out, overwrite=overwrite)
    return _examine(topology, dataset, config, overrides)


def _examine(
    topology: str | None, dataset: PathLike | None, config: PathLike | None, overrides: Sequence[str]
) -> DoctorResult:
    """Examine this machine, what a training would take on it, or the train step compiled for a topology."""
    from ebox.diagnosis.findings import DoctorResult, look_around
    from ebox.settings.reading import read_config

    if topology is not None:
        from ebox.planning.examination import examine_topology

        return DoctorResult((), examine_topology(topology, dataset, read_config(config, overrides)))
    if dataset is not None:
        from ebox.diagnosis.preflight import check_training

        return DoctorResult(look_around(), training=check_training(Path(dataset), read_config(config, overrides)))
    if config is not None or overrides:
        raise InputError(
            "--config and --set need --for or --topology", remedy="add --for DATASET or --topology v5e:4x4"
        )
    return DoctorResult(look_around())


def _certify(
    workers: str,
    platform: Platform | None,
    config: PathLike | None,
    overrides: Sequence[str],
    progress: Progress,
) -> ParityResult:
    """Compare the models of one worker and of several."""
    from ebox.diagnosis.parity import certify_parity, read_numbers

    if config is not None:
        raise InputError(
            "--parity trains a fixed problem, so --config can't be used", remedy="change single settings with --set"
        )
    return certify_parity(
        worker_arguments,
        read_numbers(workers),
        platform="cpu" if platform is None else platform,
        overrides=overrides,
        progress=progress,
    )


def _measure(
    dataset: PathLike | None,
    config: PathLike | None,
    overrides: Sequence[str],
    link: str,
    progress: Progress,
) -> GrowthResult:
    """Measure how the speed of a training grows with the workers."""
    from ebox.diagnosis.growth import measure_growth
    from ebox.planning.step_time import read_link
    from ebox.settings.reading import read_config

    if dataset is None:
        raise InputError("--scaling measures the training on a dataset", remedy="give its folder with --for")
    settings = read_config(config, overrides)
    return measure_growth(worker_arguments, Path(dataset), settings, read_link(link), progress=progress)


def _write(result: Measured, out: PathLike | None, *, overwrite: bool) -> Measured:
    """Write the certificate or the measurement where a file was named."""
    from ebox.diagnosis.growth import GrowthResult, write_growth
    from ebox.diagnosis.parity import write_parity

    if out is None:
        return result
    if isinstance(result, GrowthResult):
        write_growth(result, Path(out), overwrite=overwrite)
    else:
        write_parity(result, Path(out), overwrite=overwrite)
    return replace(result, path=Path(out))


def describe(result: Any) -> str:
    """The certificate, the curve, or the findings, and the path of the file."""
    from ebox.diagnosis.growth import GrowthResult
    from ebox.diagnosis.parity import ParityResult

    if isinstance(result, ParityResult):
        return _name_file(describe_parity(result), "certificate", result.path)
    if isinstance(result, GrowthResult):
        return _name_file(describe_growth(result), "scaling", result.path)
    return describe_doctor(result)


def _name_file(text: str, what: str, path: Path | None) -> str:
    return text if path is None else f"{text}\n{what}: {path}"


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
    """The certificate of one worker against several, as a table."""
    from ebox.diagnosis.parity import STEPS, TOLERANCE

    chosen = f" with {', '.join(result.overrides)}" if result.overrides else ""
    lines = [f"against one worker, after {STEPS} steps of a fixed problem{chosen}:"]
    for case in result.cases:
        verdict = "holds" if case.holds else "DOES NOT HOLD"
        rerun = "equal to the bit" if case.rerun_is_equal else "DIFFERENT"
        lines.append(
            f"  {case.workers:>2} {case.kind:<10} relative difference {case.relative_difference:.1e}, "
            f"a rerun {rerun}: {verdict}"
        )
    lines.append(
        "the same model" if result.holds else f"NOT the same model; the bound is {TOLERANCE:.0e} and an equal rerun"
    )
    return "\n".join(lines)


def describe_doctor(result: DoctorResult) -> str:
    """The doctor's findings, one on each line, with the remedy below; or those on a topology."""
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
    from ebox.reporting.languages import find_language

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
    return "\n".join([*lines, *(f"note: {find_language().say(remark)}" for remark in result.remarks)])


def describe_topology(result: TopologyResult) -> str:
    """The train step compiled for a topology: a table of names and facts, then the notes."""
    from ebox.reporting.languages import find_language

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
    for each in found.collectives:
        often = "a step" if each.in_step else "a dispatch"
        words = f"{each.count} {often}, {each.dtype}, {each.num_bytes:,} bytes, the largest {each.largest_bytes:,}"
        rows.append((each.kind, words))
    sent = ("sent by a chip", f"{result.sent_bytes:,.0f} bytes a step, at best")
    rows.append(sent if found.collectives else ("exchange", "none: one chip"))
    if found.flops is not None:
        rows.append(("operations", f"{found.flops / 1e9:,.2f} GFLOP a step and chip"))
    if result.least_seconds is not None:
        rows.append(
            ("time of a step", f"at least {result.least_seconds * 1e6:,.0f} µs, without the exchange (roofline)")
        )
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    rows.append(("compiled in", f"{found.lower_seconds + found.compile_seconds:.1f} s by {versions}"))
    lines = [f"{result.topology.name}: the train step compiles", *(f"  {name:<18}{fact}" for name, fact in rows)]
    return "\n".join([*lines, *(f"  note: {find_language().say(note)}" for note in result.notes)])
