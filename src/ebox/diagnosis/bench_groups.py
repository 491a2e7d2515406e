"""The exchange between workers: on a processor groups of processes that share its cores, else the devices of one.

A worker of a group has a share of the cores. It is compared with a single training on such a share, while the same
trainings run on all other shares, so that the machine is as busy: the difference is the exchange and the waiting for
the slowest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from ebox.diagnosis.bench_lab import Lab
from ebox.diagnosis.bench_plan import choose_compressed, choose_device_ways, choose_groups, interpolate
from ebox.diagnosis.bench_process import make_environment
from ebox.diagnosis.bench_ways import measure_ways
from ebox.diagnosis.growth import describe_case, finish_trainings, read_step_seconds, start_trainings
from ebox.planning.profiles import Spread, Step
from ebox.storage import run_folder
from ebox.storage.publishing import read_json
from ebox.workers.machine import list_cores


@dataclass(frozen=True)
class Group:
    """Workers that share the cores of a processor, and how they exchange."""

    workers: int
    exchange: str


def measure_exchange(lab: Lab) -> None:
    """Measure the groups or devices that are not measured yet; with one core or device there is nothing to measure."""
    if lab.platform == "cpu":
        for group in list_groups(lab):
            _measure_group(lab, group)
        return
    devices, batch = int(lab.work.facts["device"]["count"]), lab.config.train.batch_size
    measure_ways(
        lab, choose_device_ways(batch, devices, lab.precision, choose_compressed(lab.config.parallel.exchange))
    )


def list_groups(lab: Lab) -> list[Group]:
    """The groups that are not measured yet: exact ones, and the largest one with a compressed exchange too."""
    cores = list_cores()
    counts = [count for count in choose_groups(len(cores)) if count <= lab.config.train.batch_size]
    if sys.platform != "linux" or not counts:
        return []
    compressed = choose_compressed(lab.config.parallel.exchange)
    groups = [*(Group(count, "exact") for count in counts), Group(counts[-1], compressed)]
    known = {(step.workers, step.exchange) for step in lab.work.steps()}
    return [group for group in groups if (group.workers, group.exchange) not in known]


def _measure_group(lab: Lab, group: Group) -> None:
    """Measure a group, and single trainings on its shares of the cores, which are kept for the next exchange."""
    batch, workers = lab.config.train.batch_size, group.workers
    alone = lab.folder / f"alone-{workers}"
    if not alone.exists():
        _run(lab, alone, 1, batch // workers, "exact", workers)
    place = lab.folder / f"group-{workers}-{group.exchange}"
    _run(lab, place, workers, batch // workers, group.exchange, workers)
    shared = batch // workers * workers
    seconds = Spread.of(read_step_seconds(place, shared)[0])
    single = mean(median(each) for each in read_step_seconds(alone, batch // workers))
    case = describe_case(read_json(place / "0" / run_folder.TRAINING)["communication"], workers, batch // workers)
    step = Step(
        workers=workers,
        batch_size=shared,
        precision=lab.precision,
        exchange=group.exchange,
        sync=lab.config.parallel.sync,
        seconds=seconds,
        exchange_seconds=max(0.0, seconds.median - single),
        messages=case.messages,
        message_bytes=float(case.message_bytes),
        steps_per_exchange=case.steps_per_exchange,
    )
    lab.work.keep(network_link="host")
    lab.work.add("steps", step.model_dump(mode="json"))


def _run(lab: Lab, place: Path, workers: int, examples: int, exchange: str, most: int) -> None:
    parallel = lab.config.parallel.model_copy(update={"exchange": exchange})
    config = lab.config.model_copy(update={"parallel": parallel})
    runs = list(
        start_trainings(
            lab.starters.training,
            lab.dataset,
            place,
            config,
            workers,
            examples,
            list_cores(),
            most,
            # What earlier processes compiled, a validation above all, is found there.
            make_environment(lab.folder / "compiled"),
        )
    )
    finish_trainings(runs, lab.times.tick)


def with_exchange(steps: list[Step]) -> Iterator[Step]:
    """Steps of several devices with their exchange, as the difference to one device with as many examples."""
    for step in steps:
        alone = [
            (one.batch_size, one.seconds.median)
            for one in steps
            if one.workers == 1 and one.precision == step.precision
        ]
        if step.workers == 1 or step.exchange_seconds > 0.0 or not alone:
            yield step
            continue
        share = interpolate(alone, step.batch_size / step.workers)
        changed: dict[str, Any] = {"exchange_seconds": max(0.0, step.seconds.median - share)}
        yield step.model_copy(update=changed)
