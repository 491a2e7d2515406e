"""Steps of a training measured in this process: the parts of the training loop without its log and validations."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ebox.datasets.folder import Dataset
from ebox.diagnosis.bench_plan import ANY_STEPS, set_way
from ebox.diagnosis.growth import describe_case
from ebox.diagnosis.power import Reader, Recorder
from ebox.mesh.devices import find_devices, make_mesh
from ebox.planning.compilation import StepShape, count_work, read_memory
from ebox.planning.prediction import Way
from ebox.planning.profiles import Spread, Step
from ebox.settings.reading import Config
from ebox.training.batches import ChunkPlan, Shares, iter_chunks, iter_plans, make_chunk, put_chunk
from ebox.training.communication import describe_communication
from ebox.training.inputs import TrainingInputs
from ebox.training.state import TrainState, place_state
from ebox.training.step import NUM_SIGNALS, RunChunk, StepPlan, build_run_chunk, make_plan

# The least time of a measurement, and its least dispatches after the first ones.
SECONDS, DISPATCHES, WARM_UP, MOST_DISPATCHES = 2.0, 5, 2, 20_000
# A dispatch of a slow device holds fewer steps while it is measured, so that there are several dispatches.
DISPATCH_SECONDS = 0.3
INPUT_REPEATS = 5


@dataclass(frozen=True)
class Prepared:
    """All that the dispatches of a training need."""

    mesh: Mesh
    plan: StepPlan
    inputs: TrainingInputs
    shares: Shares
    chunk_steps: int
    run: RunChunk
    state: TrainState

    @staticmethod
    def of(data: Dataset, config: Config, chunk_steps: int | None = None) -> Prepared:
        """Draw the network and place the state on the devices that the settings ask for; nothing is compiled yet."""
        mesh = make_mesh(find_devices(config.parallel), config.parallel.node_devices)
        plan, inputs = make_plan(config, mesh), TrainingInputs.of(data, config)
        steps = min(config.train.steps_per_dispatch, inputs.num_steps) if chunk_steps is None else chunk_steps
        shares = Shares.of(mesh, config.train.batch_size, config.train.device_batch_size)
        state = place_state(plan.schedule.start(inputs.fresh), mesh)
        return Prepared(mesh, plan, inputs, shares, steps, build_run_chunk(mesh, plan, steps), state)

    @property
    def precision(self) -> str:
        """The number type of the compute."""
        return jnp.dtype(self.plan.schedule.pass_plan.dtype).name

    def compile(self) -> tuple[Prepared, Any]:
        """The same with its steps compiled, and the compiled program, which tells what it takes."""
        run: Any = self.run
        compiled = run.lower(self.state, self.make_chunk(ChunkPlan(0, self.chunk_steps)), *self._rest()).compile()
        return replace(self, run=compiled), compiled

    def dispatch(self, state: TrainState, chunk: Any) -> tuple[TrainState, Any]:
        """Send one dispatch."""
        return self.run(state, chunk, *self._rest())

    def make_chunk(self, plan: ChunkPlan) -> Any:
        """The examples of a dispatch, on the devices."""
        inputs = self.inputs
        chunk = make_chunk(inputs.codes, inputs.targets, inputs.order, plan, self.chunk_steps, self.shares)
        return put_chunk(chunk, self.mesh)

    def _rest(self) -> tuple[Any, ...]:
        """What a dispatch is given beside state and examples."""
        signals = jnp.zeros((self.mesh.size, NUM_SIGNALS))
        return signals, self.inputs.hyper, jnp.asarray(self.chunk_steps, jnp.int32)

    def time_dispatches(self, reader: Reader | None, seconds: float = SECONDS) -> tuple[list[float], Recorder]:
        """Seconds of a step in each dispatch, input in a thread beside it as in the loop; and the energy."""
        plans = list(islice(iter_plans(0, ANY_STEPS, self.chunk_steps, frozenset()), MOST_DISPATCHES))
        inputs, state, waiting = self.inputs, self.state, None
        chunks = iter_chunks(inputs.codes, inputs.targets, inputs.order, plans, self.chunk_steps, self.mesh)
        marks: list[float] = []
        recorder = Recorder(reader)
        with ExitStack() as stack:
            stack.enter_context(closing(chunks))
            for number, (_, chunk) in enumerate(chunks):
                if number == WARM_UP:
                    stack.enter_context(recorder)
                state, metrics = self.dispatch(state, chunk)
                if waiting is not None:
                    # As in the loop, the metrics of the dispatch before are fetched.
                    np.asarray(waiting.loss)
                    marks.append(time.perf_counter())
                waiting = metrics
                measured = marks[WARM_UP:]
                if len(measured) > DISPATCHES and measured[-1] - measured[0] >= seconds:
                    break
            jax.block_until_ready(waiting)
        return [float(one) / self.chunk_steps for one in np.diff(marks[WARM_UP:])], recorder

    def time_input(self) -> list[float]:
        """Seconds of making and sending the examples of a step, alone."""
        seconds = []
        for plan in list(iter_plans(0, self.chunk_steps * INPUT_REPEATS, self.chunk_steps, frozenset())):
            began = time.perf_counter()
            jax.block_until_ready(self.make_chunk(plan))
            seconds.append((time.perf_counter() - began) / self.chunk_steps)
        return seconds


@dataclass(frozen=True)
class Measured:
    """A measured step with what the compiler counts in it."""

    step: Step
    flops: float | None
    accessed_bytes: float | None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "step": self.step.model_dump(mode="json")}


def measure_step(data: Dataset, config: Config, way: Way, reader: Reader | None, rate: float | None = None) -> Measured:
    """Compile a way to train, and measure its steps.

    Args:
        data: An opened dataset.
        config: The settings of the training.
        way: What differs from them.
        reader: What tells the energy; None: nothing.
        rate: Sequences a second that are expected, which choose the steps of a dispatch; None: as the settings say.
    """
    changed = set_way(config, way)
    chunk_steps = choose_chunk(config.train.steps_per_dispatch, way.batch_size, rate)
    prepared = Prepared.of(data, changed, chunk_steps)
    before = _read_peak(prepared.mesh)
    shape = StepShape(data.length_bp, len(data.tracks), chunk_steps)
    prepared, compiled = prepared.compile()
    flops, _, accessed = count_work(compiled, prepared.mesh, changed, shape)
    seconds, recorder = prepared.time_dispatches(reader)
    used = recorder.energy
    facts = describe_communication(
        prepared.plan.schedule, changed.parallel, prepared.inputs.fresh, prepared.mesh
    ).facts()
    case = describe_case(facts, way.workers, -(-way.batch_size // way.workers))
    step = Step(
        workers=way.workers,
        batch_size=way.batch_size,
        precision=prepared.precision,
        exchange=way.exchange,
        sync=config.parallel.sync,
        seconds=Spread.of(seconds),
        input_seconds=Spread.of(prepared.time_input()),
        exchange_seconds=0.0,
        messages=case.messages if way.workers > 1 else 0,
        message_bytes=float(case.message_bytes),
        steps_per_exchange=case.steps_per_exchange,
        memory_bytes=_read_peak(prepared.mesh, before) or read_memory(compiled).total,
        watts=None if used is None else used.spread,
    )
    return Measured(step, flops, accessed)


def choose_chunk(most: int, batch_size: int, rate: float | None) -> int:
    """Steps of a dispatch: those of the settings, or fewer where they would take longer than a third of a second."""
    return most if rate is None else max(1, min(most, round(DISPATCH_SECONDS * rate / batch_size)))


def _read_peak(mesh: Mesh, before: int = 0) -> int:
    """The most memory that a device had in use; 0 where it does not tell, or where it was no more than `before`."""
    found: Any = mesh.devices.flat[0].memory_stats()
    peak = 0 if not found else int(found.get("peak_bytes_in_use", 0))
    return peak if peak > before else 0


def find_ceilings(platform: str) -> dict[str, Any]:
    """What the first device does at best: products of matrices by precision, a pass over memory, and a dispatch."""
    size, length = (2048, 2**26) if platform == "cpu" else (8192, 2**29)
    flops = {}
    for dtype, precision in ((jnp.float32, "highest"), (jnp.bfloat16, "default")):
        matrix = jnp.ones((size, size), dtype)
        with jax.default_matmul_precision(precision):
            product = jax.jit(lambda one: one @ one)
            flops[jnp.dtype(dtype).name] = 2 * size**3 / _least_seconds(product, matrix)
    vector = jnp.zeros((length,), jnp.float32)
    copied = _least_seconds(jax.jit(lambda one: one + 1.0), vector)
    # A program that returns its argument would not be dispatched at all.
    empty = _least_seconds(jax.jit(lambda one: one + 1.0), jnp.zeros(()), repeats=200)
    return {"flops": flops, "bytes_per_second": 2 * 4 * length / copied, "launch_seconds": empty}


def _least_seconds(function: Any, argument: jax.Array, repeats: int = 7) -> float:
    jax.block_until_ready(function(argument))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(argument))
        seconds.append(time.perf_counter() - began)
    return min(seconds)
