"""How a training would scale with the workers: real steps measured on this machine, a fitted model, and its curve.

A worker is a share of this machine's cores. Steps are measured in real trainings of 1 and of several such workers,
with several numbers of examples. With one worker, single trainings run at once on all shares of the cores, so that
the machine is as busy as with a group. What a network between machines would add is computed (docs/planning.md).
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from ebox.errors import InputError
from ebox.planning.collective_costs import exchange_rounds, exchange_volume
from ebox.planning.speedup import CurvePoint, scaling_curve
from ebox.planning.step_time import ScalingPoint, ScalingResult, StepCase, fit_scaling
from ebox.progress import Progress, quiet
from ebox.settings.reading import Config, format_config
from ebox.storage import run_folder
from ebox.storage.publishing import read_json
from ebox.storage.stamps import SCALING, write_stamped
from ebox.workers.contract import TrainTask, WorkerArguments

# Examples of a worker, as shares of those in the settings: several, to tell fixed costs from the cost of an example.
SIZES = (0.25, 0.5, 1.0)
MOST_WORKERS = 8
STEPS, LOG_STEPS, SKIPPED_ENTRIES = 192, 16, 3
# Latency of one message between machines in one room; what software adds is measured.
LATENCY_SECONDS = 50e-6


@dataclass(frozen=True)
class GrowthResult:
    """The fit to this machine's steps, and the curves of a training over a link between workers.

    Args:
        fit: The fitted model.
        link_bytes_per_second: Speed of the link in each direction.
        weak: The curve that keeps the examples of each worker, so that the batch grows.
        strong: The curve that divides the batch of the settings.
        environment: Facts about the machine that was measured.
        path: The file of the result; None: not written.
    """

    fit: ScalingResult
    link_bytes_per_second: float
    weak: tuple[CurvePoint, ...]
    strong: tuple[CurvePoint, ...]
    environment: dict[str, Any]
    path: Path | None = None

    def facts(self) -> dict[str, Any]:
        """All facts in the form of JSON, as docs/formats.md describes."""
        return {
            "points": self._describe_points(),
            "model": asdict(self.fit.model),
            "untold": list(self.fit.untold),
            "median_left_out_error": self.fit.median_left_out_error,
            "worst_left_out_error": self.fit.worst_left_out_error,
            "link_bytes_per_second": self.link_bytes_per_second,
            "latency_seconds": LATENCY_SECONDS,
            "weak": [point.facts() for point in self.weak],
            "strong": [point.facts() for point in self.strong],
            "environment": self.environment,
        }

    def _describe_points(self) -> list[dict[str, Any]]:
        fit = self.fit
        # JSON has no infinity, and on one machine there is no link.
        return [
            {**asdict(point.case), "bandwidth": None, "seconds": point.seconds, "error": error, "left_out_error": left}
            for point, error, left in zip(fit.points, fit.errors, fit.left_out_errors, strict=True)
        ]


def measure_growth(
    worker_arguments: WorkerArguments,
    dataset: Path,
    config: Config,
    link: float,
    *,
    progress: Progress = quiet,
) -> GrowthResult:
    """Measure steps of 1 and of several workers, fit the model, and follow it to 256 workers.

    Args:
        worker_arguments: What starts a training in a separate process.
        dataset: A dataset folder.
        config: The settings of the training.
        link: Speed of the network between the workers of the curve, in bytes per second in each direction.
        progress: Called with a phrase, the number done, and the total number.

    Raises:
        InputError: no dataset, only one core, not Linux, or a training that failed; the message contains its errors.
    """
    from ebox.datasets.folder import open_dataset
    from ebox.workers.machine import list_cores

    open_dataset(dataset)
    _check_measurable(config)
    cores = list_cores()
    if sys.platform != "linux" or len(cores) < 2:
        raise InputError(
            f"there is {'only one core' if len(cores) < 2 else 'no way to divide the cores'} on this machine",
            remedy="measure on Linux with two cores or more",
        )
    most = 2 ** min(MOST_WORKERS.bit_length() - 1, len(cores).bit_length() - 1)
    groups = [2**power for power in range(most.bit_length())]
    cases = [(workers, round(config.train.batch_size * share)) for workers in groups for share in SIZES]
    points = []
    with tempfile.TemporaryDirectory(prefix="ebox-scaling-") as temporary:
        for done, (workers, examples) in enumerate(cases):
            progress("measuring steps", done, len(cases))
            place = Path(temporary) / f"{workers}-{examples}"
            runs = list(start_trainings(worker_arguments, dataset, place, config, workers, examples, cores, most))
            finish_trainings(runs)
            points.append(read_point(place, workers, examples))
        environment = read_json(place / "0" / run_folder.ENVIRONMENT)
    progress("measuring steps", len(cases), len(cases))
    return follow_growth(points, config, link, environment)


def follow_growth(
    points: Sequence[ScalingPoint], config: Config, link: float, environment: Mapping[str, Any]
) -> GrowthResult:
    """Fit the model to measured steps, and follow it to 256 workers.

    Args:
        points: The steps; the last one has the most workers.
        config: The settings of the training.
        link: Speed of the network between the workers of the curve, in bytes per second in each direction.
        environment: Facts about the machine that was measured.
    """
    fit = _with_link(fit_scaling(points))
    batch, last = config.train.batch_size, points[-1].case
    case = replace(last, workers=1, examples=batch, bandwidth=link, latency=LATENCY_SECONDS)
    # Nothing overlaps, not even a delayed exchange: a processor runs its collectives in order and waits for them.
    curve = partial(scaling_curve, fit, case)
    kept = ("ebox", "python", "packages", "platform", "cpu", "num_cores")
    chosen = {key: environment[key] for key in kept}
    return GrowthResult(fit, link, curve(growth="weak"), curve(growth="strong"), chosen)


def write_growth(result: GrowthResult, path: Path, *, overwrite: bool = True) -> None:
    """Publish the measurement, the fit and the curves as JSON."""
    write_stamped(path, SCALING, result.facts(), overwrite=overwrite)


def _check_measurable(config: Config) -> None:
    """Raise InputError for settings whose growth can't be measured with processes of this machine."""
    parallel, batch = config.parallel, config.train.batch_size
    if parallel.cluster is not None:
        raise InputError(
            "steps are measured with processes of this machine, but the settings ask for a Ray cluster",
            remedy="leave out --cluster and sync = async",
        )
    if parallel.platform not in ("auto", "cpu"):
        raise InputError(
            f"steps are measured on this machine's cores, but the settings ask for the platform {parallel.platform!r}",
            remedy="leave out the platform; for accelerators use `ebox doctor --topology`",
        )
    if round(batch * SIZES[0]) < 1:
        raise InputError(
            f"a batch of {batch} is too small to tell fixed costs from the cost of an example",
            remedy=f"set train.batch_size to {round(1 / SIZES[0])} or more",
        )


def start_trainings(
    worker_arguments: WorkerArguments,
    dataset: Path,
    place: Path,
    config: Config,
    workers: int,
    examples: int,
    cores: Sequence[int],
    most: int,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Start short trainings of `workers` each, at once, so that all of the cores are busy.

    Args:
        worker_arguments: What starts a training in a separate process.
        dataset: A dataset folder.
        place: A folder to make, for a run folder of each training.
        config: The settings of the training.
        workers: Workers of each training.
        examples: Examples of each worker in a step.
        cores: The cores to use.
        most: Into how many shares the cores are divided; a worker has one.
        environment: All variables of the processes; None: those of this one.
    """
    place.mkdir()
    share = len(cores) // most
    train = {
        "max_steps": STEPS,
        "validations": 1,
        "log_every_steps": LOG_STEPS,
        # A log entry is written after a whole dispatch.
        "steps_per_dispatch": min(config.train.steps_per_dispatch, LOG_STEPS),
        "batch_size": workers * examples,
        "checkpoint_every_seconds": 1e6,
        "checkpoint_every_steps": None,
        "calibrate": False,
    }
    settings = config.model_copy(
        update={
            "train": config.train.model_copy(update=train),
            "parallel": config.parallel.model_copy(update={"processes": workers, "platform": "cpu"}),
            # The validation at the end tells nothing here.
            "evaluation": config.evaluation.model_copy(update={"both_strands": False}),
        }
    )
    for number in range(most // workers):
        own = cores[number * workers * share : (number + 1) * workers * share]
        task = TrainTask(str(dataset), str(place / str(number)), format_config(settings))
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        yield subprocess.Popen(
            [sys.executable, *worker_arguments(task)],
            preexec_fn=partial(os.sched_setaffinity, 0, own),
            env=environment,
            **pipes,
        )


def finish_trainings(runs: Sequence[subprocess.Popen[str]], tick: Callable[[], None] = quiet) -> None:
    """Wait until trainings have ended; where one failed, the others are ended.

    Args:
        runs: The trainings.
        tick: Called twice a second.

    Raises:
        InputError: one failed; the message contains its errors.
    """
    said = ""
    try:
        for run in runs:
            said = _hear(run, tick)
            if run.returncode != 0:
                raise InputError(
                    f"a training to measure failed: {said.strip()[-500:]}",
                    remedy="check whether `ebox train` works with these settings",
                )
    finally:
        for run in runs:
            if run.poll() is None:
                run.terminate()
                run.wait()


def _hear(run: subprocess.Popen[str], tick: Callable[[], None]) -> str:
    """Wait for the end of a training; the text of its errors."""
    while True:
        try:
            return run.communicate(timeout=0.5)[1]
        except subprocess.TimeoutExpired:
            tick()


def read_point(place: Path, workers: int, examples: int) -> ScalingPoint:
    """The mean over all trainings in a folder of the median step time, and what they exchanged."""
    seconds = [median(each) for each in read_step_seconds(place, workers * examples)]
    case = describe_case(read_json(place / "0" / run_folder.TRAINING)["communication"], workers, examples)
    return ScalingPoint(case, sum(seconds) / len(seconds))


def read_step_seconds(place: Path, batch_size: int) -> list[list[float]]:
    """The seconds of a step at each log entry of all trainings in a folder, after the first entries."""
    seconds = []
    for run in sorted(path for path in place.iterdir() if path.is_dir()):
        entries = [json.loads(line) for line in (run / run_folder.METRICS).read_text().splitlines()]
        rates = [entry["sequences_per_second"] for entry in entries if entry["kind"] == "train"][SKIPPED_ENTRIES:]
        seconds.append([batch_size / rate for rate in rates])
    return seconds


def describe_case(communication: Mapping[str, Any], workers: int, examples: int) -> StepCase:
    """What a training exchanged, expressed as rings with the same bytes and rounds."""
    messages = communication["messages"]
    volume, steps = exchange_volume("ring", workers), int(communication["steps_a_meeting"])
    size = sum(message["sent_bytes"] for message in messages) / volume if volume else 0.0
    times = sum(_ring_share(message["collective"], workers) for message in messages)
    return StepCase(
        workers, examples, size, float("inf"), messages=max(1, math.ceil(times)), steps_per_exchange=max(1, steps)
    )


def _ring_share(collective: str, workers: int) -> float:
    """The rounds of a collective, as a share of the rounds of an all-reduce around the ring."""
    if collective == "swaps":
        return exchange_rounds("doubling", workers) / exchange_rounds("ring", workers)
    # An all-reduce goes around the ring twice, its halves and an all-to-all once.
    return {"all-reduce": 1.0, "all-gather": 0.5, "reduce-scatter": 0.5, "all-to-all": 0.5}[collective]


def _with_link(fit: ScalingResult) -> ScalingResult:
    """Assume that a link carries its nominal speed, which one machine can't show (measured: 1.02)."""
    models = tuple(replace(model, transfer=1.0) for model in fit.left_out_models)
    return replace(fit, model=replace(fit.model, transfer=1.0), left_out_models=models)
