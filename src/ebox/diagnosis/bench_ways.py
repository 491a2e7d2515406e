"""Steps of one process over batches, precisions and devices, as far as they are not measured yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ebox.diagnosis.bench_lab import Lab
from ebox.diagnosis.bench_plan import choose_ways, fit_line
from ebox.planning.prediction import Way


def measure_steps(lab: Lab) -> None:
    """Measure steps over batches and precisions on one worker, and count the work of an example."""
    limits = lab.config.train.batch_size, lab.work.facts["subject"]["examples_an_epoch"]
    measure_ways(lab, choose_ways(*limits, lab.precision, lab.platform))
    count_work(lab)


def measure_ways(lab: Lab, ways: Sequence[Way]) -> None:
    """Measure those ways that are not measured yet, each precision in one process.

    A device tells the most memory since the process began, so there the batches come in order of size. On a processor
    the first one tells how many steps of the others fit in a dispatch.
    """
    known = {(step.workers, step.batch_size, step.precision, step.exchange) for step in lab.work.steps()}
    left = [way for way in ways if (way.workers, way.batch_size, way.precision, way.exchange) not in known]
    if lab.platform != "cpu":
        left.sort(key=lambda way: (way.workers, way.batch_size))
    done = 0

    def take(message: Mapping[str, Any]) -> None:
        nonlocal done
        facts = message["facts"]
        step = facts["step"]
        count = [step["workers"], step["batch_size"], step["precision"], facts["flops"], facts["accessed_bytes"]]
        lab.work.keep(counts=[*lab.work.facts.get("counts", []), count], steps=[*lab.work.facts.get("steps", []), step])
        done += 1
        lab.times.reach(done / len(left))

    rates = [step.sequences_per_second for step in lab.work.steps() if step.workers == 1]
    for precision in dict.fromkeys(way.precision for way in left):
        chosen = [asdict(way) for way in left if way.precision == precision]
        lab.probe("steps", take, ways=chosen, rate=max(rates) if rates else None)


def count_work(lab: Lab) -> None:
    """Operations and bytes of an example, and bytes of any step: lines through what the compiler counts by batch."""
    counts = lab.work.facts.get("counts", [])
    mine = [one for one in counts if one[0] == 1 and one[2] == lab.precision]
    flops, moved = (fit_line([(one[1], one[place]) for one in mine]) for place in (3, 4))
    # Counts of an earlier bench are not kept, but what followed from them is.
    found: dict[str, Any] = {}
    if flops is not None:
        found["flops_an_example"] = flops[1] or None
    if moved is not None:
        found |= {"fixed_bytes": moved[0], "bytes_an_example": moved[1] or None}
    lab.work.keep(subject={**lab.work.facts["subject"], **found})
