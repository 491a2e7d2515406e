"""Trainings of a bench: over seeds, and on parts of the train split."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ebox.diagnosis.bench_lab import Lab
from ebox.diagnosis.bench_plan import SHARES, SHORT_VALIDATIONS, choose_lengths, count_part_steps, interpolate
from ebox.diagnosis.bench_process import make_environment, run_process
from ebox.planning.profiles import Learning, Point
from ebox.settings.reading import TrainConfig, format_config
from ebox.storage import run_folder
from ebox.storage.publishing import read_json
from ebox.workers.contract import TrainTask


def train_whole(lab: Lab, seeds: int | None, *, whole: bool = False) -> None:
    """Train with the settings and several seeds, as many and as long as is wanted, or as five minutes allow.

    Args:
        lab: The bench.
        seeds: Number of whole trainings, those that are measured already included; None: what five minutes allow when
            the bench begins, and nothing more where trainings are there already.
        whole: Without `seeds`: one whole training, with which trainings on parts of the data are compared.
    """
    left = _list_left(lab, seeds, whole=whole)
    times = [expect_training(lab, count_steps(lab, length)) for _, length in left]
    lab.times.expect((), learning=float(sum(times)))
    done = 0.0
    for (seed, length), seconds in zip(left, times, strict=True):

        def reach(far: float, done: float = done, seconds: float = seconds) -> None:
            lab.times.reach((done + far * seconds) / sum(times))

        train = lab.config.train if length == 1.0 else _shorten(lab.config.train, count_steps(lab, length))
        made = _train(lab, train.model_copy(update={"seed": seed}), reach)
        lab.work.add("learning", made.model_dump(mode="json"))
        done += seconds


def _list_left(lab: Lab, seeds: int | None, *, whole: bool) -> list[tuple[int, float]]:
    """The trainings that are not measured yet, by seed and share of the steps."""
    known, first = lab.work.facts.get("learning", []), lab.config.train.seed
    if seeds is not None:
        wanted = [(seed, 1.0) for seed in range(first, first + seeds)]
    elif "trainings" in lab.work.facts:
        # An interrupted bench goes on to those that it began with.
        wanted = [(int(seed), float(length)) for seed, length in lab.work.facts["trainings"]]
    else:
        lengths = [] if known or whole else choose_lengths(_expect_share(lab), lab.times.spent)
        wanted = [(first + number, length) for number, length in enumerate(lengths)]
    if whole and seeds is None and not any(_is_made(lab, one["seed"], 1.0) for one in known):
        wanted = list(dict.fromkeys([*wanted, (first, 1.0)]))
    lab.work.keep(trainings=wanted)
    return [(seed, length) for seed, length in wanted if not _is_made(lab, seed, length)]


def _is_made(lab: Lab, seed: int, length: float) -> bool:
    """Whether a training with a seed is measured, at least as long; with patience it may have ended before."""
    least = 0 if lab.config.train.patience is not None else count_steps(lab, length)
    return any(one["seed"] == seed and one["num_steps"] >= least for one in lab.work.facts.get("learning", []))


def _expect_share(lab: Lab) -> Callable[[float], float]:
    return lambda length: expect_training(lab, count_steps(lab, length))


def expect_training(lab: Lab, num_steps: int) -> float:
    """Seconds that a training of some steps is expected to take, by the measured steps."""
    facts = lab.work.facts
    alone = [
        (one.batch_size, one.seconds.median)
        for one in lab.work.steps()
        if one.workers == 1 and one.precision == lab.precision
    ]
    once = facts["start_seconds"]["median"] + facts["compile_seconds"]["median"]
    train = lab.config.train if num_steps >= count_steps(lab) else _shorten(lab.config.train, num_steps)
    # The end calibrates, which is another validation.
    validations = (train.validations + train.calibrate) * facts["validation_seconds"]["median"]
    return once + validations + num_steps * interpolate(alone, train.batch_size)


def _shorten(train: TrainConfig, num_steps: int) -> TrainConfig:
    """The settings of a shorter training, which keeps no time for what the profile does not need of it."""
    validations = min(train.validations, SHORT_VALIDATIONS)
    return train.model_copy(update={"max_steps": num_steps, "validations": validations, "calibrate": False})


def count_steps(lab: Lab, length: float = 1.0) -> int:
    """Steps of a training: of a whole one, or of a share of it."""
    train, whole = lab.config.train, lab.config.train.max_steps
    if whole is None:
        examples = lab.work.facts["subject"]["examples_an_epoch"]
        whole = max(1, round(train.epochs * -(-examples // train.batch_size)))
    return max(1, round(length * whole))


def _train(lab: Lab, train: TrainConfig, reach: Callable[[float], None]) -> Learning:
    """A training as `ebox train` makes it, compiled anew; its schedule ends with it."""
    config, place = lab.config.model_copy(update={"train": train}), lab.folder / f"training-{train.seed}"
    task = TrainTask(str(lab.dataset.resolve()), str(place), format_config(config))

    def take(message: Mapping[str, Any]) -> None:
        if message["kind"] == "entry":
            reach(message["entry"]["step"] / message["num_steps"])

    began = time.time()
    seconds = run_process(lab.starters.training(task), make_environment(None), lab.log, take, lab.times.tick)
    learning = read_learning(place, began, seconds, train.seed, lab.work.facts["subject"]["num_train"])
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
    times = {share: expect_training(lab, count_part_steps(count_steps(lab), share)) for share in left}
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
