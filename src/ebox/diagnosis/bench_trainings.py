"""Whole trainings of a bench: over seeds, and on parts of the train split."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ebox.diagnosis.bench_lab import Lab
from ebox.diagnosis.bench_plan import SHARES, count_part_steps, count_seeds, interpolate
from ebox.diagnosis.bench_process import make_environment, run_process
from ebox.planning.profiles import Learning, Point
from ebox.settings.reading import format_config
from ebox.storage import run_folder
from ebox.storage.publishing import read_json
from ebox.workers.contract import TrainTask


def train_whole(lab: Lab, seeds: int | None) -> None:
    """Train with the settings and as many seeds as are wanted, or as five minutes allow.

    Args:
        lab: The bench.
        seeds: Number of trainings, those that are measured already included; None: as many as five minutes allow when
            the bench begins, and no more than are there in a profile that is whole.
    """
    known = {one["seed"] for one in lab.work.facts.get("learning", [])}
    each = expect_training(lab)
    wanted = seeds
    if wanted is None:
        # An interrupted bench goes on to the number that it began with.
        fitting = 0 if known else count_seeds(each, lab.times.spent)
        wanted = int(lab.work.facts.get("num_seeds", fitting))
    lab.work.keep(num_seeds=wanted)
    left = [seed for seed in range(lab.config.train.seed, lab.config.train.seed + wanted) if seed not in known]
    lab.times.expect((), learning=each * len(left))
    for number, seed in enumerate(left):

        def reach(far: float, number: int = number) -> None:
            lab.times.reach((number + far) / len(left))

        lab.work.add("learning", _train(lab, seed, reach).model_dump(mode="json"))


def expect_training(lab: Lab, share: float = 1.0) -> float:
    """Seconds that a training is expected to take, by the measured steps."""
    steps = count_part_steps(_count_steps(lab), share)
    facts = lab.work.facts
    alone = [
        (one.batch_size, one.seconds.median)
        for one in lab.work.steps()
        if one.workers == 1 and one.precision == lab.precision
    ]
    once = facts["start_seconds"]["median"] + facts["compile_seconds"]["median"]
    validations = lab.config.train.validations * facts["validation_seconds"]["median"]
    return once + validations + steps * interpolate(alone, lab.config.train.batch_size)


def _count_steps(lab: Lab) -> int:
    """Steps of a whole training."""
    train = lab.config.train
    if train.max_steps is not None:
        return train.max_steps
    examples = lab.work.facts["subject"]["examples_an_epoch"]
    return max(1, round(train.epochs * -(-examples // train.batch_size)))


def _train(lab: Lab, seed: int, reach: Callable[[float], None]) -> Learning:
    """A whole training as `ebox train` makes it, compiled anew."""
    train = lab.config.train.model_copy(update={"seed": seed})
    config, place = lab.config.model_copy(update={"train": train}), lab.folder / f"training-{seed}"
    task = TrainTask(str(lab.dataset.resolve()), str(place), format_config(config))

    def take(message: Mapping[str, Any]) -> None:
        if message["kind"] == "entry":
            reach(message["entry"]["step"] / message["num_steps"])

    began = time.time()
    seconds = run_process(lab.starters.training(task), make_environment(None), lab.log, take, lab.times.tick)
    learning = read_learning(place, began, seconds, seed, lab.work.facts["subject"]["num_train"])
    shutil.rmtree(place)
    return learning


def read_learning(run: Path, began: float, seconds: float, seed: int, num_examples: int) -> Learning:
    """A finished training as facts, its times counted from the start of the program.

    Args:
        run: The run folder.
        began: When the program was started, in seconds since 1970.
        seconds: How long it ran.
        seed: Of the training.
        num_examples: Examples of the train split.
    """
    facts = read_json(run / run_folder.TRAINING)
    # The log counts from the begin of the loop. Its facts are written at the end of the loop.
    before = (run / run_folder.TRAINING).stat().st_mtime - began - facts["seconds"]
    entries = [entry for entry in run_folder.MetricsLog(run).read() if entry["kind"] == "validation"]
    points = [
        Point(step=entry["step"], seconds=max(0.0, before) + entry["seconds"], auroc=entry["auroc"])
        for entry in entries
    ]
    return Learning(
        seed=seed,
        batch_size=_read_batch(run),
        num_examples=num_examples,
        num_steps=facts["steps"],
        seconds=seconds,
        points=tuple(points),
    )


def _read_batch(run: Path) -> int:
    from ebox.settings.reading import read_config

    return read_config(run / run_folder.CONFIG).train.batch_size


def train_parts(lab: Lab) -> None:
    """Train on the parts of the train split that are not measured yet."""
    whole = lab.work.facts["subject"]["num_train"]
    known = [one["num_examples"] for one in lab.work.facts.get("data_curve", [])]
    # Rounding up by class makes a part a little larger.
    left = [share for share in SHARES if not any(abs(count - share * whole) <= 2 for count in known)]
    times = {share: expect_training(lab, share) for share in left}
    lab.times.expect((), curve=float(sum(times.values())))
    done = 0.0
    for share in left:

        def take(message: Mapping[str, Any], done: float = done, share: float = share) -> None:
            if message["kind"] == "entry":
                far = message["entry"]["step"] / message["num_steps"]
                lab.times.reach((done + far * times[share]) / sum(times.values()))
            elif message["kind"] == "result":
                lab.work.add("data_curve", message["facts"])

        lab.probe("part", take, share=share)
        done += times[share]
