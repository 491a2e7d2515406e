"""Measure what a training costs on this machine, or compare machines that were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ebox.errors import InputError, suggest
from ebox.progress import OnStage, PathLike, Progress, quiet
from ebox.storage.outputs import check_output
from ebox.verbs.train import worker_arguments
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.diagnosis.bench import Wishes
    from ebox.diagnosis.bench_probe import Request
    from ebox.planning.comparison import ComparisonResult, Price
    from ebox.planning.profiles import Learning, Profile, Spread, Step
    from ebox.settings.reading import Config

VERB = Verb(
    "bench",
    arguments={"dataset": "DATASET"},
    settings=("parallel.platform",),
    epilog="""\
The parts of --only, and their time on two quiet cores with the default network and 43,000 examples:
  start     0:30  start-up, compilation (empty cache, and from it), validation, checkpoint; always measured
  steps     0:45  a step of one worker over batches and precisions, input, memory, power; always measured
  exchange  1:20  groups of workers on this processor, or its other devices, exact and compressed
  ceilings  0:05  matrix products, memory, empty dispatches
  learning  1:35  trainings with several seeds: how long until which validation AUROC
  curve     3:30  not by default: whole trainings on 1/8, 1/4 and 1/2 of the train split
  noise     1:00  not by default: the gradient noise scale""",
)


@dataclass(frozen=True)
class BenchResult:
    """The profile of this machine, and its file."""

    profile: Profile
    path: Path


def bench(
    dataset: PathLike | None = None,
    out: PathLike | None = None,
    config: Config | None = None,
    *,
    only: str | None = None,
    seeds: int | None = None,
    curve: bool = False,
    noise: bool = False,
    name: str | None = None,
    compare: Sequence[PathLike] = (),
    price: Sequence[str] = (),
    prices: PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = quiet,
    on_stage: OnStage = quiet,
) -> BenchResult | ComparisonResult:
    """Measure what a training costs on this machine, or compare machines that were measured.

    It writes the profile from which `ebox plan` works. What is measured is written down part by part, and --resume goes
    on after an interruption, or adds parts to a finished profile. The default network on two quiet cores takes five
    minutes. Another load on the machine is measured with it.

    Args:
        dataset: Dataset folder made by `ebox build`.
        out: JSON file to write: the profile.
        config: The settings; none: the defaults.
        only: Parts to measure, as steps,exchange (see below); none: all but curve and noise.
        seeds: Number of whole trainings; none: two or three if five minutes allow, else two shorter ones.
        curve: Train on parts of the data too, for the learning curve.
        noise: Measure the gradient noise scale too.
        name: What tables call this machine; none: the name of the file.
        compare: A profile to compare with others, instead of measuring.
        price: With --compare: price of one device for an hour, by profile or hardware, as H200-SXM=3.50; others cost
            what the cheapest offer on demand does.
        prices: With --compare: file of prices over those of ebox, as `ebox plan` reads it.
        resume: Keep the parts that are measured already, and measure the others.
        overwrite: Replace a profile at --out.
        progress: Called with a phrase, the number of seconds done, and the number in all.
        on_stage: Called with the part that begins.

    Raises:
        InputError: options that don't go together, no dataset, settings that can't be measured on one machine, a file
            that may not be replaced, a training that failed, or profiles of different subjects.
    """
    from ebox.settings.reading import Config

    settings = Config() if config is None else config
    if compare:
        given = {"DATASET": dataset, "--out": out, "--only": only, "--seeds": seeds, "--name": name, "--curve": curve}
        given |= {"--noise": noise, "--resume": resume, "--overwrite": overwrite, "a setting": settings != Config()}
        _check_unused(given, "--compare compares profiles and measures nothing")
        return _compare([Path(file) for file in compare], read_amounts(price), prices)
    _check_unused({"--price": price, "--prices": prices}, "a bench measures; money is for --compare")
    if dataset is None or out is None:
        raise InputError(
            f"{'no dataset' if dataset is None else 'no --out'} is given",
            remedy="ebox bench DATASET --out FILE measures; ebox bench --compare A.json --compare B.json compares",
        )
    from ebox.diagnosis.bench import measure_profile
    from ebox.diagnosis.bench_lab import Starters

    wishes = _read_wishes(only, seeds, curve=curve, noise=noise)
    check_output(out, overwrite=overwrite or resume)
    profile = measure_profile(
        Starters(worker_arguments, probe_arguments),
        Path(dataset),
        settings,
        Path(out),
        wishes,
        name=name,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        on_stage=on_stage,
    )
    return BenchResult(profile, Path(out))


def probe_arguments(request: Request) -> list[str]:
    """The arguments to `python` that start a process that measures."""
    return ["-m", "ebox.verbs.bench_worker", request.write()]


def _check_unused(given: Mapping[str, object], problem: str) -> None:
    """Raise InputError where something was given that has no use here."""
    found = [name for name, value in given.items() if value is not None and value is not False and value != ()]
    if found:
        raise InputError(f"{problem}, but {found[0]} is given", remedy=f"leave {found[0]} out")


def _read_wishes(only: str | None, seeds: int | None, *, curve: bool, noise: bool) -> Wishes:
    """What to measure."""
    from ebox.diagnosis.bench import DEFAULT_PARTS, Wishes, read_parts

    if seeds is not None and (not isinstance(seeds, int) or seeds < 1):
        raise InputError(f"--seeds {seeds} is not how many trainings to make", remedy="give a whole number from 1 on")
    parts = DEFAULT_PARTS if only is None else read_parts(only)
    if seeds is not None and "learning" not in parts:
        raise InputError(
            "--seeds is for the part learning, which --only leaves out", remedy="add it to --only, or leave --seeds out"
        )
    return Wishes((*parts, *(["curve"] if curve else []), *(["noise"] if noise else [])), seeds)


def read_amounts(texts: Sequence[str]) -> dict[str, float]:
    """Money for an hour of one device by a name, from texts such as `H200-SXM=3.50`.

    Raises:
        InputError: a text of another form, or a price that is no number above 0.
    """
    found = dict[str, float]()
    for text in texts:
        name, _, amount = text.rpartition("=")
        try:
            money = float(amount)
        except ValueError:
            money = math.nan
        if not name or not math.isfinite(money) or money <= 0.0:
            raise InputError(f"{text!r} is no price of a device", remedy="write, for example, H200-SXM=3.50")
        if name in found:
            raise InputError(f"--price names {name} twice", remedy="give one price for each")
        found[name] = money
    return found


def _compare(files: Sequence[Path], given: Mapping[str, float], prices: PathLike | None) -> ComparisonResult:
    from ebox.planning.comparison import check_alike, check_names, compare_profiles
    from ebox.planning.prices import PriceNote, read_prices
    from ebox.planning.profiles import read_profile

    profiles = {str(file): read_profile(file) for file in files}
    if len(profiles) < 2:
        raise InputError(
            f"one profile is given ({files[0]}), and two or more can be compared",
            remedy="ebox bench --compare A.json --compare B.json",
        )
    check_alike(profiles)
    check_names(profiles)
    known = {name for one in profiles.values() for name in (one.name, one.device.hardware) if name is not None}
    for name in given:
        if name not in known:
            raise InputError(
                f"--price names {name}, which is none of the profiles and no hardware of theirs{suggest(name, known)}",
                remedy=f"name one of {', '.join(sorted(known))}",
            )
    book = read_prices(None if prices is None else Path(prices))
    result = compare_profiles(list(profiles.values()), given, book)
    used = {one.price.offer for one in result.profiles if one.price is not None and one.price.offer is not None}
    told = (PriceNote.OLD, PriceNote.UNDATED, PriceNote.HOSTS, PriceNote.TAXES_EXCLUDED, PriceNote.TAXES_INCLUDED)
    remarks = book.remarks(datetime.now(UTC).date(), used) if used else ()
    # A price by the hour says nothing of starts and interruptions, so what is assumed of them does not matter.
    return replace(result, remarks=tuple(remark for remark in remarks if remark["code"] in told))


def describe(result: BenchResult | ComparisonResult) -> str:
    """The profile in tables and its path, or the comparison."""
    if isinstance(result, BenchResult):
        return f"{describe_profile(result.profile)}\nprofile: {result.path}"
    return describe_comparison(result)


def describe_profile(profile: Profile) -> str:
    """What was measured on a machine."""
    device, energy = profile.device, profile.energy
    power = "power is not readable here"
    if energy.source is not None and energy.idle_watts is not None:
        power = f"power of the {energy.covers} by {energy.source}, {energy.idle_watts:,.0f} W before the measurement"
    known = "" if device.hardware is None else f" ({device.hardware})"
    lines = [
        f"{profile.name}: {device.count} x {device.name}{known}, {device.num_cores} cores for this process; {power}",
        f"start-up {_seconds(profile.start_seconds)}, compilation {_seconds(profile.compile_seconds)}"
        f"{_from_cache(profile.cached_compile_seconds)}, validation {_seconds(profile.validation_seconds)}, "
        f"checkpoint {_seconds(profile.checkpoint_seconds)}{_megabytes(profile.checkpoint_bytes)}",
        " workers   batch  precision  exchange       a step (least to most)     sequences/s  exchange   input   memory",
        *(_describe_step(step) for step in profile.steps),
    ]
    if profile.ceilings is not None:
        flops = ", ".join(f"{value / 1e9:,.0f} GFLOP/s in {name}" for name, value in profile.ceilings.flops.items())
        launch = profile.ceilings.launch_seconds
        dispatch = "" if launch is None else f", {launch * 1e6:,.0f} µs an empty dispatch"
        lines.append(f"at best: {flops}, {profile.ceilings.bytes_per_second / 1e9:,.1f} GB/s{dispatch}")
    lines += [_describe_training(training) for training in (*profile.learning, *profile.data_curve)]
    if len(profile.learning) > 1:
        lines.append(_describe_target(profile))
    if profile.noise_scale is not None:
        noise = profile.noise_scale
        lines.append(f"gradient noise scale: {noise.batch_size:,.0f} ({noise.low:,.0f} to {noise.high:,.0f}) examples")
    return "\n".join(lines)


def _from_cache(cached: Spread | None) -> str:
    return "" if cached is None else f" (from the cache {_seconds(cached)})"


def _seconds(spread: Spread | None) -> str:
    return "not measured" if spread is None else f"{spread.median:.2f} s"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f" ({size / 1e6:,.1f} MB)"


def _describe_step(step: Step) -> str:
    seconds = step.seconds
    spread = f"{seconds.median * 1e3:9.2f} ms ({seconds.low * 1e3:.2f} to {seconds.high * 1e3:.2f})"
    share = f"{step.exchange_seconds / seconds.median:8.0%}" if step.workers > 1 else f"{'':8}"
    fed = "" if step.input_seconds is None else f"{step.input_seconds.median * 1e3:.2f} ms"
    memory = "" if step.memory_bytes is None else f"{step.memory_bytes / 2**20:,.0f} MiB"
    watts = "" if step.watts is None else f"  {step.watts.median:,.0f} W"
    return (
        f"{step.workers:8,} {step.batch_size:7,}  {step.precision:<9}  {step.exchange:<9} {spread:>32} "
        f"{step.sequences_per_second:12,.0f}  {share} {fed:>9} {memory:>9}{watts}"
    )


def _describe_training(training: Learning) -> str:
    best = max(training.points, key=lambda point: point.auroc)
    return (
        f"training with seed {training.seed} on {training.num_examples:,} examples: {training.num_steps:,} steps of "
        f"{training.batch_size:,} in {training.seconds:.0f} s, "
        f"validation AUROC {best.auroc:.4f} after {best.seconds:.0f} s"
    )


def _describe_target(profile: Profile) -> str:
    """The time to what all trainings reach."""
    from ebox.planning.comparison import find_target, time_to
    from ebox.planning.profiles import Spread

    target = find_target([profile])
    seconds = [time_to(training, target) for training in profile.learning]
    found = Spread.of([one for one in seconds if one is not None])
    return (
        f"validation AUROC {target:g} after {found.median:.0f} s ({found.low:.0f} to {found.high:.0f}) "
        f"in all {found.n} trainings"
    )


def _describe_price(price: Price | None, currency: str) -> str:
    """What a device costs, and from where that is known."""
    if price is None:
        return "no price is known (--price)"
    text = f"{price.money:g} {currency} an hour of one"
    if price.offer is None:
        return text
    return f"{text} ({price.offer} on demand, {'date unknown' if price.date is None else price.date})"


def describe_comparison(result: ComparisonResult) -> str:
    """Profiles side by side: throughput by batch, scaling, and times of whole trainings."""
    from ebox.reporting.languages import find_language

    first, lines = result.profiles[0], list[str]()
    for one in result.profiles:
        lines.append(f"{one.name}: {one.device}; {_describe_price(one.price, result.currency)}")
    lines += [f"note: {find_language().say(remark)}" for remark in result.remarks]
    lines.append(
        f"one worker:  batch  profile                         sequences/s   against the first  for 1 {result.currency}"
        "    a joule"
    )
    for size in result.batches:
        base = next(each for each in first.throughput if each.batch_size == size).sequences_per_second
        for one in result.profiles:
            found = next(each for each in one.throughput if each.batch_size == size)
            bought = "" if found.examples_for_one is None else f"{found.examples_for_one:,.0f}"
            joule = "" if found.joules_an_example is None else f"{1 / found.joules_an_example:,.1f}"
            named = f"{one.name} ({found.precision})"
            lines.append(
                f"{size:18,}  {named:<30} {found.sequences_per_second:12,.0f} "
                f"{found.sequences_per_second / base:9.2f} x {bought:>15} {joule:>10}"
            )
    lines += [
        f"{one.name}: {each.workers} workers, batch {each.batch_size:,}, {each.exchange}: "
        f"{each.sequences_per_second:,.0f} sequences/s, efficiency {each.efficiency:.0%}"
        for one in result.profiles
        for each in one.scaling
    ]
    if result.target_auroc is None:
        return "\n".join(
            [*lines, "whole trainings were not measured in all of them: `ebox bench … --resume` adds them"]
        )
    for one in result.profiles:
        times = one.times
        if times is not None:
            money = "" if times.money is None else f", {times.money:.3f} {result.currency}"
            lines.append(
                f"{one.name}: validation AUROC {result.target_auroc:g} after {times.to_target_seconds.median:.0f} s "
                f"({times.to_target_seconds.low:.0f} to {times.to_target_seconds.high:.0f}, "
                f"over {times.to_target_seconds.n} seeds with batches of {times.batch_size:,}), "
                f"a whole training {times.training_seconds.median:.0f} s{money}"
            )
    return "\n".join(lines)
