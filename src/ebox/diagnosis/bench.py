"""A machine's profile: what a training costs here, measured part by part, each in processes of its own.

The parts: `start` (start-up, compilation, validation, checkpoint), `steps` (over batches and precisions on one worker),
`exchange` (over workers), `ceilings`, `learning` (trainings over seeds), `curve` (on parts of the data) and
`noise`. Each is written down when it is measured, so that an interruption loses no finished part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ebox.diagnosis.bench_groups import measure_exchange, with_exchange
from ebox.diagnosis.bench_lab import Lab, Starters
from ebox.diagnosis.bench_plan import ExpectedTimes
from ebox.diagnosis.bench_trainings import train_parts, train_whole
from ebox.diagnosis.bench_ways import measure_steps
from ebox.diagnosis.bench_work import Identity, Work
from ebox.errors import InputError, suggest
from ebox.planning.profiles import Profile, Spread, write_profile
from ebox.progress import OnStage, Progress, quiet
from ebox.settings.reading import Config
from ebox.storage.targets import is_stream

DEFAULT_PARTS = ("start", "steps", "exchange", "ceilings", "learning")
PARTS = (*DEFAULT_PARTS, "curve", "noise")
# Without them there is no profile.
NEEDED = ("start", "steps")
CACHED_STARTS = 1


@dataclass(frozen=True)
class Wishes:
    """What to measure.

    Args:
        parts: Some of `PARTS`; those that a profile needs are measured anyway.
        seeds: Whole trainings; None: as many as five minutes allow, up to three, or two shorter ones.
    """

    parts: tuple[str, ...] = DEFAULT_PARTS
    seeds: int | None = None


def read_parts(text: str) -> tuple[str, ...]:
    """Parts of a bench from a text such as `steps,exchange`.

    Raises:
        InputError: a word that is no part.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in PARTS:
            raise InputError(
                f"{word!r} is no part of a bench{suggest(word, PARTS)}",
                remedy=f"name some of these, with commas: {', '.join(PARTS)}",
            )
    return tuple(part for part in PARTS if part in words)


def measure_profile(
    starters: Starters,
    dataset: Path,
    config: Config,
    out: Path,
    wishes: Wishes,
    *,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = quiet,
    on_stage: OnStage = quiet,
) -> Profile:
    """Measure what a training costs on this machine, and publish its profile.

    Args:
        starters: What starts its processes.
        dataset: A dataset folder.
        config: The settings of the training.
        out: The file of the profile.
        wishes: What to measure.
        name: What tables call the machine; None: that of before, or of the file.
        resume: Go on with what an interrupted or a finished bench has measured.
        overwrite: Replace an earlier profile.
        progress: Called with a phrase, the seconds that the measured parts were expected to take, and those of all.
        on_stage: Called with the part that begins.

    Raises:
        InputError: no dataset, settings that can't be measured on one machine, a file that may not be replaced, or a
            training that failed.
    """
    from ebox.datasets.folder import open_dataset

    check_benchable(config)
    data = open_dataset(dataset)
    work = Work.open(out, Identity.of(config, data.fingerprint), resume=resume, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="ebox-bench-") as folder:
        lab = Lab(starters, dataset, config, work, ExpectedTimes(progress), Path(folder))
        _measure(lab, wishes, on_stage)
    profile = work.finish(name if name is not None else work.facts.get("name", _name_after(out)))
    write_profile(profile, out, overwrite=overwrite or resume)
    work.clear()
    return profile


def _name_after(out: Path) -> str:
    return "here" if is_stream(out) else out.name.partition(".")[0] or out.name


def check_benchable(config: Config) -> None:
    """Raise InputError for settings that ask for several machines, or for a group of workers of their own."""
    if config.parallel.cluster is not None:
        raise InputError(
            "a bench measures one machine, but the settings ask for a Ray cluster",
            remedy="leave out cluster, workers and sync = async",
        )
    if config.parallel.processes > 1:
        raise InputError(
            f"the settings ask for {config.parallel.processes} processes, but a bench chooses its workers itself",
            remedy="leave parallel.processes out",
        )


def _measure(lab: Lab, wishes: Wishes, on_stage: OnStage) -> None:
    """All parts that are wanted and not measured yet."""
    acts: dict[str, Callable[[], None]] = {
        "start": lambda: _measure_start(lab),
        "steps": lambda: measure_steps(lab),
        "exchange": lambda: measure_exchange(lab),
        "ceilings": lambda: _measure_ceilings(lab),
        "learning": lambda: train_whole(lab, wishes.seeds, whole="curve" in wishes.parts),
        "curve": lambda: train_parts(lab),
        "noise": lambda: _measure_noise(lab),
    }
    wanted = [part for part in PARTS if part in (*wishes.parts, *NEEDED)]
    lab.times.expect(wanted)
    for part in wanted:
        on_stage(part)
        lab.times.begin(part)
        acts[part]()
        lab.times.end(part)
    steps = list(with_exchange(lab.work.steps()))
    lab.work.keep(steps=[step.model_dump(mode="json") for step in steps])


def _measure_start(lab: Lab) -> None:
    """Start-up and compilation with an empty cache and from the cache, and what happens beside the steps."""
    if lab.work.facts.get("start_seconds") is not None:
        return
    found: list[dict[str, Any]] = []
    for number in range(1 + CACHED_STARTS):
        lab.probe("start", lambda message: found.append(message["facts"]), whole=number == 0)
        lab.times.reach((1 + number) / (1 + CACHED_STARTS))
    first = found[0]
    validations = first["validations"][1:]
    compiled = [find_compilation(one["dispatches"], one["validations"][0], median(validations)) for one in found]
    lab.work.keep(
        device=first["device"],
        environment=first["environment"],
        energy=first["energy"],
        network_link="none" if first["device"]["count"] == 1 else "host",
        settings=lab.config.model_dump(mode="json"),
        subject={**first["subject"], "network": lab.work.facts["identity"]["network"]},
        start_seconds=_spread([one["start"] for one in found]),
        compile_seconds=_spread(compiled[:1]),
        cached_compile_seconds=_spread(compiled[1:]),
        validation_seconds=_spread(validations),
        checkpoint_seconds=_spread(first["checkpoint"]),
        checkpoint_bytes=first["checkpoint_bytes"],
        ceilings=None,
    )


def find_compilation(dispatches: Sequence[float], first_validation: float, validation: float) -> float:
    """What the first dispatch and the first validation of a process take longer than later ones, in seconds."""
    return max(0.0, dispatches[0] - min(dispatches[1:])) + max(0.0, first_validation - validation)


def _measure_ceilings(lab: Lab) -> None:
    if lab.work.facts["ceilings"] is None:
        lab.probe("ceilings", lambda message: lab.work.keep(ceilings=message["facts"]))


def _measure_noise(lab: Lab) -> None:
    """The gradient noise scale."""
    if lab.work.facts.get("noise_scale") is not None:
        return

    def take(message: Any) -> None:
        if message["kind"] == "far":
            lab.times.reach(message["done"] / max(1, message["total"]))
        else:
            lab.work.keep(noise_scale=message["facts"])

    lab.probe("noise", take)


def _spread(values: list[float]) -> dict[str, Any]:
    return Spread.of(values).model_dump(mode="json")
