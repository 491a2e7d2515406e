"""The training loop: dispatches, late metrics, validations, checkpoints. Never waits for the device in between."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from ebox.config import Config
from ebox.errors import InputError
from ebox.models import Network, build_model, check_length, count_parameters
from ebox.parallel.devices import replicate
from ebox.training.batches import ChunkPlan, iter_chunks, iter_plans
from ebox.training.checkpoints import RunIdentity, Standing, load_newest_checkpoint, save_checkpoint
from ebox.training.run_folder import MetricsLog
from ebox.training.sampling import ExampleOrder, make_order
from ebox.training.state import TrainState, make_hyperparameters, make_state
from ebox.training.step import StepMetrics, build_run_chunk, make_plan

Validate = Callable[[Network], Mapping[str, float]]
OnEntry = Callable[[Mapping[str, Any], int], None]


@runtime_checkable
class TrainingData(Protocol):
    """What the loop needs of a dataset."""

    @property
    def codes(self) -> UInt8[np.ndarray, "example length"]: ...  # noqa: D102
    @property
    def targets(self) -> UInt8[np.ndarray, "example track"]: ...  # noqa: D102
    @property
    def length_bp(self) -> int: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    def rows(self, split: str) -> slice: ...  # noqa: D102


@dataclass(frozen=True)
class TrainingResult:
    """A finished training: the network that was kept, and how it went."""

    network: Network
    steps: int
    epochs: float
    seconds: float
    sequences_per_second: float
    num_parameters: int
    stopped: str
    best_step: int

    def facts(self) -> dict[str, Any]:
        """All but the network, for `training.json`."""
        return {key: value for key, value in vars(self).items() if key != "network"}


def fit(
    data: TrainingData,
    config: Config,
    folder: Path,
    mesh: Mesh,
    validate: Validate,
    *,
    resume: bool = False,
    on_entry: OnEntry | None = None,
) -> TrainingResult:
    """Train a network on the train split.

    Args:
        data: An opened dataset.
        config: The settings.
        folder: The run folder, for metrics and checkpoints.
        mesh: The devices.
        validate: Measures a network on the validation split: loss, auroc, auprc.
        resume: Go on from the newest checkpoint in `folder`, where there is one.
        on_entry: Called with every entry of the metrics and the number of steps in all.

    Raises:
        InputError: nothing to train on, a damaged or foreign checkpoint, or a loss that is not finite.
    """
    return _Loop(data, config, folder, mesh, validate, on_entry).run(resume)


class _Loop:
    """One run: what is constant in it, and the few things that its hooks change."""

    def __init__(
        self,
        data: TrainingData,
        config: Config,
        folder: Path,
        mesh: Mesh,
        validate: Validate,
        on_entry: OnEntry | None,
    ) -> None:
        self.config, self.folder, self.mesh, self.validate, self.on_entry = (
            config,
            folder,
            mesh,
            validate,
            on_entry,
        )
        train = config.train
        rows = data.rows("train")
        self.codes, self.targets = data.codes[rows], data.targets[rows]
        self.order = make_order(
            self.targets,
            seed=train.seed,
            batch_size=train.batch_size,
            negatives_per_positive=train.negatives_per_positive,
        )
        self.num_steps = self.order.count_steps(train.epochs, train.max_steps)
        self.hyper = make_hyperparameters(train, self.num_steps, _positive_weight(config, self.order))
        self.identity = RunIdentity.of(config, data.fingerprint)
        self.log = MetricsLog(folder)
        key = jax.random.fold_in(jax.random.key(train.seed), 0)
        self.fresh = build_model(config.model, data.targets.shape[1], data.length_bp, key)
        self.platform = mesh.devices.flat[0].platform
        self.standing = Standing()
        self.best = self.fresh
        self.began = self.saved_at = time.perf_counter()
        self.logged_step, self.logged_at = 0, self.began

    def run(self, resume: bool) -> TrainingResult:
        """Run the steps that are left, then choose the network to keep."""
        state = self._start(resume)
        chunk_steps = min(self.config.train.steps_per_dispatch, self.num_steps)
        run_chunk = build_run_chunk(self.mesh, make_plan(self.config.train, self.platform), chunk_steps)
        stops = self._validation_steps()
        plans = list(iter_plans(self.standing.step, self.num_steps, chunk_steps, stops))
        if self._is_exhausted():
            plans = []
        waiting: tuple[ChunkPlan, StepMetrics] | None = None
        interruption = Interruption()
        chunks = iter_chunks(self.codes, self.targets, self.order, plans, chunk_steps, self.mesh)
        with interruption, closing(chunks):
            for plan, chunk in chunks:
                state, metrics = run_chunk(state, chunk, self.hyper, jnp.asarray(plan.count, jnp.int32))
                self.standing = replace(self.standing, step=plan.first + plan.count)
                # The metrics of the dispatch before are ready by now; those of this one are not waited for.
                self._note(waiting)
                waiting = (plan, metrics)
                if self.standing.step in stops:
                    self._note(waiting)
                    waiting = None
                    self._validate(state.average)
                    if self._is_exhausted():
                        break
                if interruption.asked or self._is_save_due(plan):
                    # Checked first: a checkpoint is only of steps whose loss was finite.
                    self._note(waiting)
                    waiting = None
                    self._save(state)
                if interruption.asked:
                    raise KeyboardInterrupt
        self._save(state)
        return self._finish()

    def _start(self, resume: bool) -> TrainState:
        """The state to begin with, on the devices."""
        state = make_state(self.fresh, self.config.train)
        found = load_newest_checkpoint(self.folder, state, self.best, self.identity) if resume else None
        if found is not None:
            state, self.best, self.standing = found
            self.began -= self.standing.seconds
            self.logged_step = self.standing.step
        # Also where there is no checkpoint yet: a run killed before its first one has logged already.
        self.log.cut(self.standing.step)
        return _on_devices(state, self.mesh)

    def _validation_steps(self) -> frozenset[int]:
        count = min(self.config.train.validations, self.num_steps)
        return frozenset(math.ceil(self.num_steps * number / count) for number in range(1, count + 1))

    def _note(self, waiting: tuple[ChunkPlan, StepMetrics] | None) -> None:
        """Fetch the metrics of a dispatch, check them, and log where a log step was passed."""
        if waiting is None:
            return
        plan, metrics = waiting
        losses = np.asarray(metrics.loss)[: plan.count]
        if not np.isfinite(losses).all():
            self._fail(plan.first + int(np.flatnonzero(~np.isfinite(losses))[0]))
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
                "gradient_norm": float(np.asarray(metrics.gradient_norm)[plan.count - 1]),
                "learning_rate": float(np.asarray(metrics.learning_rate)[plan.count - 1]),
                "sequences_per_second": rate,
                "seconds": now - self.began,
            }
        )

    def _is_exhausted(self) -> bool:
        """Whether patience has run out."""
        patience = self.config.train.patience
        return patience is not None and self.standing.validations_since_best >= patience

    def _validate(self, average: Network) -> None:
        """Measure the averaged network, and remember it if it is the best."""
        began = time.perf_counter()
        measured = dict(self.validate(average))
        # The rate between two log steps is that of training alone.
        self.logged_at += time.perf_counter() - began
        value = -measured["loss"] if self.config.train.monitor == "loss" else measured[self.config.train.monitor]
        step, best = self.standing.step, self.standing.best_value
        # Of equal ones the later is kept, but only a better one renews the patience.
        missed = 0 if best is None or value > best else self.standing.validations_since_best + 1
        self.standing = replace(self.standing, validations_since_best=missed)
        if best is None or value >= best:
            self.standing = replace(self.standing, best_step=step, best_value=value)
        if self.config.train.keep == "last" or best is None or value >= best:
            # On the host, since the next dispatch is given this memory.
            self.best, self.standing = _on_host(average), replace(self.standing, kept_step=step)
        epoch, seconds = step / self.order.steps_per_epoch, time.perf_counter() - self.began
        self._write({"kind": "validation", "step": step, "epoch": epoch, **measured, "seconds": seconds})

    def _is_save_due(self, plan: ChunkPlan) -> bool:
        every = self.config.train.checkpoint_every_steps
        if every is not None:
            return (plan.first + plan.count) // every > plan.first // every
        return time.perf_counter() - self.saved_at >= self.config.train.checkpoint_every_seconds

    def _save(self, state: TrainState) -> None:
        self.standing = replace(self.standing, seconds=time.perf_counter() - self.began)
        save_checkpoint(self.folder, state, self.best, self.standing, self.identity)
        self.saved_at = time.perf_counter()

    def _finish(self) -> TrainingResult:
        seconds = time.perf_counter() - self.began
        shown = self.standing.step * self.config.train.batch_size
        return TrainingResult(
            network=self.best,
            steps=self.standing.step,
            epochs=self.standing.step / self.order.steps_per_epoch,
            seconds=seconds,
            sequences_per_second=shown / max(seconds, 1e-9),
            num_parameters=count_parameters(self.fresh),
            stopped="early" if self._is_exhausted() else "end",
            best_step=self.standing.kept_step,
        )

    def _write(self, entry: dict[str, Any]) -> None:
        self.log.append(entry)
        if self.on_entry is not None:
            self.on_entry(entry, self.num_steps)

    def _fail(self, step: int) -> None:
        raise InputError(
            f"the loss of step {step + 1} is not finite; the last good checkpoint is kept",
            file=self.folder,
            remedy="lower train.learning_rate, or set train.clip_norm=1",
        )


@final
class Interruption:
    """Notes a Ctrl-C instead of raising it, so that a dispatch ends and is saved; a second one is raised at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._take)

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _take(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def check_trainable(data: TrainingData, config: Config) -> None:
    """Raise InputError when the settings can't be trained on the data, before anything is written."""
    rows = data.rows("train")
    make_order(data.targets[rows], seed=0, batch_size=config.train.batch_size, negatives_per_positive=None)
    check_length(config.model, data.length_bp)


def _positive_weight(config: Config, order: ExampleOrder) -> float:
    chosen = config.train.positive_weight
    if chosen != "balanced":
        return chosen
    positives = order.examples_per_epoch - order.negatives_per_epoch
    return order.negatives_per_epoch / max(positives, 1)


def _on_devices(state: TrainState, mesh: Mesh) -> TrainState:
    arrays, static = eqx.partition(state, eqx.is_array)
    return eqx.combine(replicate(arrays, mesh), static)


def _on_host(network: Network) -> Network:
    arrays, static = eqx.partition(network, eqx.is_array)
    return eqx.combine(jax.tree.map(np.array, arrays), static)
