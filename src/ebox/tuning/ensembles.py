"""The trainings of an ensemble's members, as one population: measured, kept, saved and resumed as lone ones are."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from jax.sharding import Mesh

from ebox.datasets.folder import Dataset
from ebox.errors import InputError, ResumableError
from ebox.evaluation.validation import ValidationSplit
from ebox.models.ensemble import Ensemble, count_all_parameters
from ebox.models.network import Network
from ebox.progress import OnEntry
from ebox.settings.reading import Config
from ebox.storage import run_folder
from ebox.storage.run_folder import MetricsLog
from ebox.training.checkpoints import (
    RunIdentity,
    Standing,
    check_resumable,
    load_newest_checkpoint,
    regroup_carried,
    save_checkpoint,
)
from ebox.training.loop import TrainingResult
from ebox.training.state import TrainState
from ebox.tuning.population import MemberSteps, Population
from ebox.workers.interruption import Interruption
from ebox.workers.processes import is_cluster_task, is_member


def settings_of_members(config: Config) -> dict[int, Config]:
    """The settings of each member of an ensemble, by its seed."""
    assert config.ensemble.members is not None
    first = config.train.seed
    return {seed: with_seed(config, seed) for seed in range(first, first + config.ensemble.members)}


def with_seed(config: Config, seed: int) -> Config:
    """The same settings for a training with another seed."""
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})


def check_members(config: Config) -> None:
    """Raise InputError where an ensemble can't be trained on any data, or not in this way; a plain training passes.

    Raises:
        InputError: more members than seeds, or several processes.
    """
    from ebox.settings.fields import SEED_END

    members, parallel = config.ensemble.members, config.parallel
    if members is None:
        return
    if is_member() or is_cluster_task(os.environ):
        raise InputError(
            "this is one of several processes that train together, and an ensemble is trained by one",
            remedy="start one process, outside a cluster's job of several tasks, or train without --ensemble",
        )
    if parallel.starts_workers or parallel.cluster is not None:
        raise InputError(
            "the members of an ensemble are trained by one process, which deals them to its devices",
            remedy="leave --processes, --cluster and --workers out, or train without --ensemble",
        )
    if config.train.seed + members > SEED_END:
        raise InputError(
            f"there are no {members:,} seeds from {config.train.seed:,} on; the last one is {SEED_END - 1:,}",
            remedy="give a lower --seed, or fewer members",
        )


def check_ensemble(data: Dataset, config: Config) -> None:
    """Raise InputError where an ensemble can't be trained on the data, or not in this way; a plain training passes.

    Raises:
        InputError: a class with fewer examples than members, or what `check_members` refuses.
    """
    check_members(config)
    members = config.ensemble.members
    if members is None:
        return
    targets = np.asarray(data.targets[data.rows("train")])
    for track, name in enumerate(data.tracks):
        for value, kind in ((1, "positives"), (0, "negatives")):
            count = int(np.count_nonzero(targets[:, track] == value))
            if count < members:
                raise InputError(
                    f"the train split holds {count:,} {kind} of {name}, fewer than the ensemble's {members:,} members, "
                    "so what the members learn would differ by little more than chance",
                    file=data.path,
                    remedy=f"give more {kind}, or fewer members" if count > 1 else f"give more {kind}",
                )


def check_members_resumable(folder: Path, config: Config, fingerprint: str) -> None:
    """Check that the members whose training has begun can go on.

    Raises:
        InputError: one began with other settings or data, or all of its checkpoints are damaged.
    """
    for seed, place in run_folder.find_members(folder).items():
        check_resumable(place, RunIdentity.of(with_seed(config, seed), fingerprint))


def train_ensemble(
    data: Dataset,
    config: Config,
    folder: Path,
    mesh: Mesh,
    validation: ValidationSplit,
    *,
    resume: bool = False,
    on_entry: OnEntry,
) -> TrainingResult:
    """Train the members, keep the chosen network of each, and calibrate their mean, unless one network is distilled.

    Each member has a folder of its own below `folder`, with its metrics and checkpoints as those of a lone training.

    Args:
        data: An opened dataset.
        config: The settings.
        folder: The run folder.
        mesh: The devices, all of this process.
        validation: The validation split.
        resume: Go on from the newest checkpoint of each member that has one.
        on_entry: Called with every entry of the members' metrics, whose `step` counts those of all members, and with
            the number of steps in all, those of a distillation included.

    Raises:
        InputError: nothing to train on, a checkpoint is damaged or of another run, or a loss is not finite.
        ResumableError: SIGTERM asked to stop; all members are saved.
        KeyboardInterrupt: SIGINT asked to stop; all members are saved.
    """
    return _Trainings(data, config, folder, mesh, validation, on_entry).run(resume)


class _Trainings:
    """The trainings of all members: what is constant in them, and how far each has come, by its number."""

    def __init__(
        self,
        data: Dataset,
        config: Config,
        folder: Path,
        mesh: Mesh,
        validation: ValidationSplit,
        on_entry: OnEntry,
    ) -> None:
        self.config, self.folder, self.validation, self.on_entry = config, folder, validation, on_entry
        members = settings_of_members(config)
        self.seeds = list(members)
        self.population = Population(data, list(members.values()), mesh, validate=validation.measure)
        self.num_steps = self.population.num_steps
        self.steps_per_epoch = self.population.inputs[0].order.steps_per_epoch
        self.places = [folder / run_folder.MEMBERS / str(seed) for seed in self.seeds]
        self.identities = [RunIdentity.of(one, data.fingerprint) for one in members.values()]
        self.logs = [MetricsLog(place) for place in self.places]
        self.standings = [Standing() for _ in self.seeds]
        self.kept: list[Network] = [one.fresh for one in self.population.inputs]
        self.saved_steps = [-1 for _ in self.seeds]
        # Members are measured before they are saved, so one that is loaded has been measured at its step.
        self.measured_steps = [0 for _ in self.seeds]
        self.began = self.saved_at = self.logged_at = time.perf_counter()
        self.shown_since = 0

    def run(self, resume: bool) -> TrainingResult:
        """Make the steps that are left, from one validation to the next."""
        self._start(resume)
        count = min(self.config.train.validations, self.num_steps)
        interruption = Interruption()
        with interruption:
            for number in range(1, count + 1):
                self._train_to(math.ceil(self.num_steps * number / count), interruption)
            self._save()
            ensemble, calibration = Ensemble.of(self.kept), list[dict[str, Any]]()
            if self.config.train.calibrate and not self.config.ensemble.distil:
                ensemble, calibration = self.validation.calibrate(ensemble, self.config.train.calibrate_by)
        if interruption.asked:
            _stop(interruption)
        if not self.config.ensemble.distil:
            self._write_mean_log()
        return self._finish(ensemble, calibration)

    def _start(self, resume: bool) -> None:
        """Read the members' checkpoints, and leave out those that patience has ended."""
        states = list(self.population.state())
        for number, place in enumerate(self.places):
            place.mkdir(parents=True, exist_ok=True)
            if resume:
                states[number] = self._load(number, states[number])
            self.logs[number].cut(self.standings[number].step)
        self.population.restore(states)
        self.began -= max(standing.seconds for standing in self.standings)
        self.shown_since = self._count_steps()
        self._drop_exhausted()

    def _load(self, number: int, fresh: TrainState) -> TrainState:
        """The state of a member's newest checkpoint, or the fresh one where it has none."""
        found = load_newest_checkpoint(self.places[number], fresh, self.kept[number], self.identities[number])
        if found is None:
            return fresh
        state, self.kept[number], self.standings[number], before = found
        self.saved_steps[number] = self.measured_steps[number] = self.standings[number].step
        layout, parallel = self.population.layout, self.config.parallel
        return regroup_carried(state, self.population.schedule, before, layout, parallel)

    def _train_to(self, stop: int, interruption: Interruption) -> None:
        """Train and measure all members at a stop; on the way save when it is time, and end when that is asked for."""
        while True:
            is_done = self.population.train_to(
                stop, self._note, is_stopped=lambda: bool(interruption.asked) or self._is_time_to_save()
            )
            # Before a checkpoint, so that none holds a member that has yet to be measured at its step.
            self._validate(stop)
            if interruption.asked or self._is_time_to_save():
                self._save()
            if interruption.asked:
                _stop(interruption)
            if is_done:
                return

    def _note(self, made: MemberSteps) -> None:
        """Check and log the steps of a member."""
        broken = made.find_broken()
        if broken is not None:
            self._fail(made.number, broken)
        standing = self.standings[made.number]
        self.standings[made.number] = replace(standing, step=made.last)
        every = self.config.train.log_every_steps
        if made.last // every == made.first // every and made.last != self.num_steps:
            return
        now, shown = time.perf_counter(), self._count_steps()
        rate = (shown - self.shown_since) * self.config.train.batch_size / max(now - self.logged_at, 1e-9)
        self.shown_since, self.logged_at = shown, now
        facts = {
            "loss": float(made.losses.mean()),
            "gradient_norm": float(made.gradient_norms[-1]),
            "learning_rate": float(made.learning_rates[-1]),
            "sequences_per_second": rate,
        }
        self._write("train", made.number, facts)

    def _validate(self, stop: int) -> None:
        """Measure the members that have come to a stop since they were measured last."""
        numbers = self.population.numbers
        due = [
            place
            for place, number in enumerate(numbers)
            if self.standings[number].step == stop != self.measured_steps[number]
        ]
        began = time.perf_counter()
        for place, measured in zip(due, self.population.measure(due), strict=True):
            self._keep(place, measured)
        self.logged_at += time.perf_counter() - began
        self._drop_exhausted()

    def _keep(self, place: int, measured: Mapping[str, float]) -> None:
        """Note a validation, and keep the network if it is the best; by the rule of a lone training."""
        number = self.population.numbers[place]
        standing = self.standings[number].after(measured, self.config.train)
        if standing.kept_step == standing.step:
            self.kept[number] = self.population.network(place)
        self.standings[number], self.measured_steps[number] = standing, standing.step
        self._write("validation", number, measured)

    def _drop_exhausted(self) -> None:
        """Save and leave out the members whose patience has run out."""
        gone = [place for place, number in enumerate(self.population.numbers) if self._is_exhausted(number)]
        if gone:
            self._save()
            self.population.drop(gone)

    def _is_exhausted(self, number: int) -> bool:
        return self.standings[number].is_exhausted(self.config.train)

    def _write(self, kind: str, number: int, facts: Mapping[str, float]) -> None:
        """Log an entry of a member, and report it with the steps of all members."""
        step, seconds = self.standings[number].step, time.perf_counter() - self.began
        entry = {"kind": kind, "step": step, "epoch": step / self.steps_per_epoch, **facts, "seconds": seconds}
        self.logs[number].append(entry)
        told = {**entry, "step": self._count_steps(), "member": number}
        self.on_entry(told, count_all_steps(self.config, self.num_steps))

    def _write_mean_log(self) -> None:
        """The log of the run: the means over the members of the entries that all of them have."""
        logs = [{(entry["kind"], entry["step"]): entry for entry in log.read()} for log in self.logs]
        common = [key for key in logs[0] if all(key in log for log in logs)]
        means = [
            {
                name: value if name == "kind" else fmean(log[key][name] for log in logs)
                for name, value in logs[0][key].items()
            }
            for key in common
        ]
        MetricsLog(self.folder).write([{**entry, "step": step} for entry, (_, step) in zip(means, common, strict=True)])

    def _count_steps(self) -> int:
        return sum(standing.step for standing in self.standings)

    def _is_time_to_save(self) -> bool:
        every, train = self.config.train.checkpoint_every_steps, self.config.train
        if every is not None:
            made = zip(self.standings, self.saved_steps, strict=True)
            return any(standing.step // every > max(saved, 0) // every for standing, saved in made)
        return time.perf_counter() - self.saved_at >= train.checkpoint_every_seconds

    def _save(self) -> None:
        """A checkpoint of every member that has made steps since its last one."""
        seconds, states = time.perf_counter() - self.began, self.population.state()
        for number, state in zip(self.population.numbers, states, strict=True):
            if self.saved_steps[number] != int(state.step):
                standing = replace(self.standings[number], step=int(state.step), seconds=seconds)
                self.standings[number] = standing
                identity, layout = self.identities[number], self.population.layout
                save_checkpoint(self.places[number], state, self.kept[number], standing, layout, identity)
                self.saved_steps[number] = standing.step
        self.saved_at = time.perf_counter()

    def _fail(self, number: int, step: int) -> None:
        raise InputError(
            f"the loss or the gradient of step {step} of the member with seed {self.seeds[number]} is not finite",
            file=self.places[number],
            remedy="lower train.learning_rate, or set train.clip_norm=1",
        )

    def _finish(self, ensemble: Ensemble, calibration: list[dict[str, Any]]) -> TrainingResult:
        seconds, steps = time.perf_counter() - self.began, [standing.step for standing in self.standings]
        shown = sum(steps) * self.config.train.batch_size
        are_exhausted = [self._is_exhausted(number) for number in range(len(self.seeds))]
        return TrainingResult(
            network=ensemble,
            folder=self.folder,
            steps=max(steps),
            epochs=max(steps) / self.steps_per_epoch,
            seconds=seconds,
            sequences_per_second=shown / max(seconds, 1e-9),
            num_parameters=count_all_parameters(ensemble),
            stopped="early" if all(are_exhausted) else "end",
            best_step=max(standing.kept_step for standing in self.standings),
            calibration=calibration,
            ensemble=self._describe(are_exhausted),
        )

    def _describe(self, are_exhausted: list[bool]) -> dict[str, Any]:
        members = zip(self.seeds, self.standings, are_exhausted, strict=True)
        return {
            "side_by_side": self.population.is_side_by_side,
            "distilled": False,
            "members": [
                {
                    "seed": seed,
                    "steps": standing.step,
                    "best_step": standing.kept_step,
                    "monitored": standing.best_value,
                    "stopped": "early" if is_exhausted else "end",
                }
                for seed, standing, is_exhausted in members
            ],
        }


def count_all_steps(config: Config, num_steps: int) -> int:
    """The steps of all members, and of a distillation after them."""
    assert config.ensemble.members is not None
    return (config.ensemble.members + config.ensemble.distil) * num_steps


def _stop(interruption: Interruption) -> None:
    """End after a checkpoint, as the signal demands."""
    if interruption.number == signal.SIGTERM:
        raise ResumableError("stopped, and every member is saved; `--resume` goes on")
    raise KeyboardInterrupt
