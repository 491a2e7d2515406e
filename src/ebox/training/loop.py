"""The training loop: dispatches, late metrics, validations, checkpoints. Never waits for the device in between."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebox.errors import InputError, ResumableError
from ebox.mesh.devices import DATA_AXIS, put, replicate
from ebox.mesh.hosts import check_alike, is_chief, wait_for_all
from ebox.models.architectures import check_length
from ebox.models.ensemble import AnyNetwork, Ensemble
from ebox.models.network import Network, count_parameters
from ebox.progress import OnEntry, quiet
from ebox.settings.reading import Config
from ebox.storage.run_folder import MetricsLog
from ebox.training.asynchronous import AsyncEngine, WorkerPool
from ebox.training.batches import ChunkPlan, even_chunk_steps, iter_chunks, iter_plans
from ebox.training.checkpoints import (
    Layout,
    RunIdentity,
    Standing,
    find_checkpoints,
    host_arrays,
    load_newest_checkpoint,
    regroup_carried,
    save_checkpoint,
)
from ebox.training.communication import describe_communication
from ebox.training.inputs import TrainingData, TrainingInputs, on_host
from ebox.training.sampling import make_order
from ebox.training.state import TrainState, place_state
from ebox.training.step import NUM_SIGNALS, SAVE, STOP, DispatchMetrics, build_run_chunk, make_plan
from ebox.workers.interruption import Interruption
from ebox.workers.watch import UNWATCHED, Watch

Validate = Callable[[Network], Mapping[str, float]]
# A dispatch: its plan, and what makes its steps.
Dispatch = tuple[ChunkPlan, Callable[[TrainState], tuple[TrainState, DispatchMetrics]]]
Calibrate = Callable[[Network], tuple[Network, list[dict[str, Any]]]]


@dataclass(frozen=True)
class TrainingResult:
    """A finished training: the network that was kept, its run folder, and how it went.

    `ensemble` says how the members of an ensemble were trained; it is empty for a single network.
    """

    network: AnyNetwork
    folder: Path
    steps: int
    epochs: float
    seconds: float
    sequences_per_second: float
    num_parameters: int
    stopped: str
    best_step: int
    communication: dict[str, Any] = field(default_factory=dict)
    calibration: list[dict[str, Any]] = field(default_factory=list)
    ensemble: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """How it went, for `training.json`."""
        return {key: value for key, value in vars(self).items() if key not in ("network", "folder")}


def fit(
    data: TrainingData,
    config: Config,
    folder: Path,
    mesh: Mesh,
    validate: Validate,
    *,
    calibrate: Calibrate | None = None,
    resume: bool = False,
    on_entry: OnEntry = quiet,
    watch: Watch = UNWATCHED,
    pool: WorkerPool | None = None,
    teacher: Ensemble | None = None,
) -> TrainingResult:
    """Train a network on the train split; every process of a group calls it with the same arguments.

    Args:
        data: An opened dataset.
        config: The settings.
        folder: The run folder, for metrics and checkpoints; the first process writes them, all read them.
        mesh: The devices of all processes.
        validate: Measures a network on the validation split: loss, auroc, auprc.
        calibrate: Calibrates the kept network, and says how in one dict per track; none: the network stays as it is.
        resume: Go on from the newest checkpoint in `folder`, if there is one.
        on_entry: Called with every entry of the metrics and the total number of steps.
        watch: Is told that steps were made, or that none will come for a while.
        pool: Workers that compute the gradients of an asynchronous training; none: the mesh computes them.
        teacher: An ensemble whose logits the network learns instead of the targets, with their spread as second half of
            its outputs; none: it learns the targets.

    Raises:
        InputError: there is nothing to train on, a checkpoint is damaged or of another run, or a loss is not finite.
        ResumableError: SIGTERM asked to stop; a checkpoint is saved.
        KeyboardInterrupt: SIGINT asked to stop; a checkpoint is saved.
    """
    return _Loop(data, config, folder, mesh, validate, calibrate, on_entry, watch, pool, teacher).run(resume)


class _Loop:
    """One run: what is constant in it, and the few things that its hooks change."""

    def __init__(
        self,
        data: TrainingData,
        config: Config,
        folder: Path,
        mesh: Mesh,
        validate: Validate,
        calibrate: Calibrate | None,
        on_entry: OnEntry,
        watch: Watch,
        pool: WorkerPool | None,
        teacher: Ensemble | None,
    ) -> None:
        self.config, self.folder, self.mesh = config, folder, mesh
        self.validate, self.calibrate, self.on_entry, self.watch = validate, calibrate, on_entry, watch
        self.inputs = TrainingInputs.of(data, config, teacher)
        self.order, self.num_steps, self.hyper = self.inputs.order, self.inputs.num_steps, self.inputs.hyper
        if teacher is not None:
            # Once for all dispatches.
            self.hyper = replicate(self.hyper, mesh)
        self.identity = RunIdentity.of(config, data.fingerprint)
        self.log = MetricsLog(folder)
        self.fresh = self.inputs.fresh
        self.plan = make_plan(config, mesh)
        self.engine = None if pool is None else AsyncEngine(pool, config, mesh, self.num_steps)
        self.standing = Standing()
        self.best = self.fresh
        self.began = self.saved_at = time.perf_counter()
        self.logged_step, self.logged_at = 0, self.began
        self.heard = np.zeros(NUM_SIGNALS, np.float32)

    def run(self, resume: bool) -> TrainingResult:
        """Run the steps that are left, then choose the network to keep."""
        state = self._start(resume)
        stops = self._validation_steps()
        waiting: tuple[ChunkPlan, DispatchMetrics] | None = None
        interruption = Interruption()
        with interruption:
            with closing(self._dispatches(stops, interruption)) as dispatches:
                for plan, make_steps in dispatches:
                    state, metrics = make_steps(state)
                    self.standing = replace(self.standing, step=plan.first + plan.count)
                    # The metrics of the dispatch before are ready by now; this one's are not waited for.
                    self._note(waiting)
                    waiting = (plan, metrics)
                    if self.standing.step in stops:
                        self._note(waiting)
                        waiting = None
                        self._validate(state.average)
                        if self._is_exhausted():
                            break
                    if self.heard.any() or self._is_step_to_save(plan):
                        # Checked first, so that a checkpoint holds only steps whose loss was finite.
                        self._note(waiting)
                        waiting = None
                        self._save(state)
                    if self.heard[STOP]:
                        self._stop(interruption)
                    self.heard[:] = 0.0
            self._save(state)
            network, calibration = self._calibrate()
        # A group has agreed on its last step; a signal that comes later lets it finish.
        if interruption.asked and jax.process_count() == 1:
            self._stop(interruption)
        return self._finish(network, calibration)

    def _dispatches(self, stops: frozenset[int], interruption: Interruption) -> Generator[Dispatch, None, None]:
        """The dispatches that are left."""
        chunk_steps, is_whole = min(self.config.train.steps_per_dispatch, self.num_steps), self.plan.whole_chunks
        if is_whole:
            chunk_steps = even_chunk_steps(chunk_steps, self.num_steps, stops)
        plans = list(iter_plans(self.standing.step, self.num_steps, chunk_steps, stops, from_stops=is_whole))
        if self._is_exhausted():
            plans = []
        if self.engine is not None:
            for plan in plans:
                yield plan, partial(self.engine.run, plan, self.hyper, self._own_signals(interruption))
            return
        run_chunk = build_run_chunk(self.mesh, self.plan, chunk_steps)
        size = self.config.train.device_batch_size
        chunks = iter_chunks(
            self.inputs.codes, self.inputs.targets, self.order, plans, chunk_steps, self.mesh, device_batch_size=size
        )
        with closing(chunks):
            for plan, chunk in chunks:
                rest = chunk, self._signals(interruption), self.hyper, jnp.asarray(plan.count, jnp.int32)
                yield plan, lambda state, rest=rest: run_chunk(state, *rest)

    def _start(self, resume: bool) -> TrainState:
        """The state to begin with, on the devices."""
        state = self.plan.schedule.start(self.fresh)
        found = load_newest_checkpoint(self.folder, state, self.best, self.identity) if resume else None
        if found is not None:
            state, self.best, self.standing, before = found
            state = regroup_carried(state, self.plan.schedule, before, Layout.of(self.mesh), self.config.parallel)
            self.began -= self.standing.seconds
            self.logged_step = self.standing.step
        check_alike({"step of the checkpoint": self.standing.step})
        # Also without a checkpoint: a run that was killed before its first one has logged already.
        if is_chief():
            self.log.cut(self.standing.step)
        return place_state(state, self.mesh)

    def _signals(self, interruption: Interruption) -> jax.Array:
        """What this process tells the others with the next dispatch."""
        own = self._own_signals(interruption)
        local = sum(device.process_index == jax.process_index() for device in self.mesh.devices.flat)
        rows: Any = np.repeat(own[None], local, axis=0)
        return put(rows, NamedSharding(self.mesh, PartitionSpec(DATA_AXIS)))

    def _own_signals(self, interruption: Interruption) -> np.ndarray:
        own = np.zeros(NUM_SIGNALS, np.float32)
        own[STOP] = interruption.asked
        own[SAVE] = is_chief() and self._is_time_to_save()
        return own

    def _stop(self, interruption: Interruption) -> None:
        """End after a checkpoint, as the signal that this process or another one got demands."""
        if interruption.number == signal.SIGTERM or interruption.number is None:
            raise ResumableError(f"stopped after step {self.standing.step}, saved; `--resume` goes on")
        raise KeyboardInterrupt

    def _validation_steps(self) -> frozenset[int]:
        count = min(self.config.train.validations, self.num_steps)
        return frozenset(math.ceil(self.num_steps * number / count) for number in range(1, count + 1))

    def _note(self, waiting: tuple[ChunkPlan, DispatchMetrics] | None) -> None:
        """Fetch the metrics of a dispatch, check them, and log where a log step was passed."""
        if waiting is None:
            return
        plan, metrics = waiting
        losses, norms = np.asarray(metrics.loss)[: plan.count], np.asarray(metrics.gradient_norm)[: plan.count]
        self.heard = np.maximum(self.heard, np.asarray(metrics.signals))
        self.watch.beat()
        bad = ~(np.isfinite(losses) & np.isfinite(norms))
        if bad.any():
            place = int(np.flatnonzero(bad)[0])
            self._fail(plan.first + place, "gradient" if np.isfinite(losses[place]) else "loss")
        last = plan.first + plan.count
        every = self.config.train.log_every_steps
        if last // every == plan.first // every and last != self.num_steps:
            return
        now = time.perf_counter()
        rate = (last - self.logged_step) * self.config.train.batch_size / max(now - self.logged_at, 1e-9)
        self.logged_step, self.logged_at = last, now
        self._write(
            {
                "kind": "train",
                "step": last,
                "epoch": last / self.order.steps_per_epoch,
                "loss": float(losses.mean()),
                "gradient_norm": float(norms[-1]),
                "learning_rate": float(np.asarray(metrics.learning_rate)[plan.count - 1]),
                "sequences_per_second": rate,
                "seconds": now - self.began,
            }
        )

    def _is_exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.standing.is_exhausted(self.config.train)

    def _validate(self, average: Network) -> None:
        """Measure the averaged network, and remember it if it is the best."""
        began = time.perf_counter()
        self.watch.rest()
        measured = dict(self.validate(average))
        self.watch.beat()
        # The rate between two log steps is that of training alone.
        self.logged_at += time.perf_counter() - began
        self.standing = self.standing.after(measured, self.config.train)
        step = self.standing.step
        if self.standing.kept_step == step:
            # On the host, since the next dispatch reuses this memory.
            self.best = on_host(average)
        epoch, seconds = step / self.order.steps_per_epoch, time.perf_counter() - self.began
        self._write({"kind": "validation", "step": step, "epoch": epoch, **measured, "seconds": seconds})

    def _is_step_to_save(self, plan: ChunkPlan) -> bool:
        every = self.config.train.checkpoint_every_steps
        return every is not None and (plan.first + plan.count) // every > plan.first // every

    def _is_time_to_save(self) -> bool:
        """By the clock; the first process tells the others, since theirs may differ."""
        since = time.perf_counter() - self.saved_at
        return self.config.train.checkpoint_every_steps is None and since >= self.config.train.checkpoint_every_seconds

    def _save(self, state: TrainState) -> None:
        self.watch.rest()
        self.standing = replace(self.standing, seconds=time.perf_counter() - self.began)
        # In all processes: the rows that devices carry are gathered from all.
        arrays = host_arrays(state)
        if is_chief():
            save_checkpoint(self.folder, arrays, self.best, self.standing, Layout.of(self.mesh), self.identity)
        # Writing may take long: the other processes must not conclude that the writer hangs.
        wait_for_all("saved")
        self.saved_at = time.perf_counter()
        self.watch.beat()

    def _calibrate(self) -> tuple[Network, list[dict[str, Any]]]:
        """The kept network, calibrated if the caller asked for it."""
        self.watch.rest()
        return (self.best, []) if self.calibrate is None else self.calibrate(self.best)

    def _finish(self, network: Network, calibration: list[dict[str, Any]]) -> TrainingResult:
        seconds = time.perf_counter() - self.began
        shown = self.standing.step * self.config.train.batch_size
        return TrainingResult(
            network=network,
            folder=self.folder,
            steps=self.standing.step,
            epochs=self.standing.step / self.order.steps_per_epoch,
            seconds=seconds,
            sequences_per_second=shown / max(seconds, 1e-9),
            num_parameters=count_parameters(self.fresh),
            stopped="early" if self._is_exhausted() else "end",
            best_step=self.standing.kept_step,
            communication=self._describe_communication(),
            calibration=calibration,
        )

    def _describe_communication(self) -> dict[str, Any]:
        if self.engine is not None:
            return self.engine.facts(self.fresh)
        return describe_communication(self.plan.schedule, self.config.parallel, self.fresh, self.mesh).facts()

    def _write(self, entry: dict[str, Any]) -> None:
        if is_chief():
            self.log.append(entry)
        self.on_entry(entry, self.num_steps)

    def _fail(self, step: int, what: str) -> None:
        epoch, batch = divmod(step, self.order.steps_per_epoch)
        kept = find_checkpoints(self.folder)
        good = f"the last good checkpoint is {kept[-1].name}" if kept else "there was no checkpoint yet"
        raise InputError(
            f"the {what} of step {step + 1} (batch {batch + 1} of epoch {epoch + 1}) is not finite; {good}",
            file=self.folder,
            remedy="lower train.learning_rate, or set train.clip_norm=1",
        )


def check_trainable(data: TrainingData, config: Config) -> None:
    """Raise InputError when the settings can't be trained on the data, before anything is written."""
    rows = data.rows("train")
    make_order(data.targets[rows], seed=0, batch_size=config.train.batch_size, negatives_per_positive=None)
    check_length(config.model, data.length_bp)
