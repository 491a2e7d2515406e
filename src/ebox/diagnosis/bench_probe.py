"""What a process of a bench measures.

A process of its own, since start-up and compilation happen once in each, and since a GPU's memory is given back at
its end. It tells each result when it is ready.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax
    from jax.sharding import Mesh

    from ebox.datasets.folder import Dataset
    from ebox.diagnosis.bench_steps import Prepared
    from ebox.diagnosis.power import Reader
    from ebox.settings.reading import Config

# Validations after the first one, which compiles, and checkpoints.
VALIDATIONS, CHECKPOINTS = 2, 3
IDLE_SECONDS = 2.0


Validate = Callable[[Any], Mapping[str, float]]
# Makes what measures a network on the validation split of a dataset, on the devices of a mesh.
MakeValidate = Callable[["Dataset", "Config", "Mesh"], Validate]


@dataclass(frozen=True)
class Request:
    """What to measure.

    Args:
        kind: `start`, `steps`, `ceilings`, `part` or `noise`.
        dataset: A dataset folder.
        config: The settings as TOML.
        began: When the process was started, in seconds since 1970.
        facts: What else this kind needs.
    """

    kind: str
    dataset: str
    config: str
    began: float
    facts: dict[str, Any]

    def write(self) -> str:
        """The request as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> Request:
        """The request that `write` wrote."""
        return Request(**json.loads(text))


# The arguments to `python` that start a process with a request.
ProbeArguments = Callable[[Request], list[str]]


@dataclass(frozen=True)
class Probe:
    """A process that measures.

    Args:
        request: What to measure.
        data: The opened dataset.
        config: The settings of the training.
        tell: Called with a kind and facts, for whoever started the process.
        make_validate: Makes what measures a network on the validation split.
    """

    request: Request
    data: Dataset
    config: Config
    tell: Callable[..., None]
    make_validate: MakeValidate


def measure_start(probe: Probe) -> None:
    """Start-up, first dispatches and validations, which compile; where it is asked for, more of them and all else."""
    from ebox.diagnosis.bench_steps import Prepared
    from ebox.mesh.devices import make_mesh

    request, data, config = probe.request, probe.data, probe.config
    prepared = Prepared.of(data, config)
    validate = probe.make_validate(data, config, make_mesh(list(prepared.mesh.devices.flat)))
    start = time.time() - request.began
    dispatches = _time_first_dispatches(prepared)
    repeats = VALIDATIONS if request.facts["whole"] else 0
    validations = [_time(lambda: validate(prepared.inputs.fresh)) for _ in range(1 + repeats)]
    facts: dict[str, Any] = {"start": start, "dispatches": dispatches, "validations": validations}
    if request.facts["whole"]:
        facts |= _time_checkpoints(prepared, data, config)
        facts |= _describe(prepared, data, config)
    probe.tell("result", facts=facts)


def _time(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _time_first_dispatches(prepared: Prepared) -> list[float]:
    """Seconds of the first dispatches, of which the first one compiles."""
    import jax

    from ebox.training.batches import ChunkPlan

    seconds, state = list[float](), prepared.state
    for number in range(3):
        plan = ChunkPlan(number * prepared.chunk_steps, prepared.chunk_steps)
        began = time.perf_counter()
        state, metrics = prepared.dispatch(state, prepared.make_chunk(plan))
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - began)
    return seconds


def _time_checkpoints(prepared: Prepared, data: Dataset, config: Config) -> dict[str, Any]:
    from ebox.training.checkpoints import Layout, RunIdentity, Standing, host_arrays, save_checkpoint
    from ebox.training.state import place_state

    state = place_state(prepared.plan.schedule.start(prepared.inputs.fresh), prepared.mesh)
    layout, identity = Layout.of(prepared.mesh), RunIdentity.of(config, data.fingerprint)
    seconds, best = [], prepared.inputs.fresh
    with tempfile.TemporaryDirectory(prefix="ebox-bench-") as folder:
        for number in range(CHECKPOINTS):
            began = time.perf_counter()
            place = save_checkpoint(Path(folder), host_arrays(state), best, Standing(number), layout, identity)
            seconds.append(time.perf_counter() - began)
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    return {"checkpoint": seconds, "checkpoint_bytes": size}


def _describe(prepared: Prepared, data: Dataset, config: Config) -> dict[str, Any]:
    """The devices, the software, and what is trained."""
    import jax

    from ebox.mesh.devices import find_devices
    from ebox.models.network import count_parameters
    from ebox.training.schedules import trained_weights
    from ebox.workers.machine import describe_environment

    devices = find_devices(config.parallel.model_copy(update={"devices": None}))
    environment = describe_environment(devices, [])
    kept = ("ebox", "python", "packages", "platform", "cpu", "num_cores")
    rows, order = data.rows("train"), prepared.inputs.order
    subject = {
        "dataset": data.fingerprint,
        "num_parameters": count_parameters(prepared.inputs.fresh),
        "length_bp": data.length_bp,
        "num_tracks": len(data.tracks),
        "num_train": rows.stop - rows.start,
        "examples_an_epoch": order.examples_per_epoch,
        "flops_an_example": None,
        "bytes_an_example": None,
        "fixed_bytes": None,
        "gradient_bytes": sum(4 * leaf.size for leaf in jax.tree.leaves(trained_weights(prepared.inputs.fresh))),
    }
    return {
        "subject": subject,
        "device": _describe_device(devices, environment),
        "environment": {key: environment[key] for key in kept},
        "energy": _measure_idle(_find_reader(config)),
    }


def _describe_device(devices: list[jax.Device], environment: Mapping[str, Any]) -> dict[str, Any]:
    from ebox.diagnosis.power import find_driver
    from ebox.planning.recognition import find_hardware

    first = devices[0]
    is_processor = first.platform == "cpu"
    told: Any = None if is_processor else first.memory_stats()
    return {
        "name": environment["cpu"] if is_processor else first.device_kind,
        "platform": {"gpu": "cuda"}.get(first.platform, first.platform),
        "count": 1 if is_processor else len(devices),
        "hardware": find_hardware(first.device_kind),
        "memory_bytes": int(told["bytes_limit"]) if told and "bytes_limit" in told else None,
        "driver": find_driver() if first.platform == "gpu" else None,
        "num_cores": environment["num_cores"],
        "host_memory_bytes": environment["memory_bytes"],
    }


def _measure_idle(reader: Reader | None) -> dict[str, Any]:
    """Where power is read, and how much there is while this program waits."""
    from ebox.diagnosis.power import Recorder

    with Recorder(reader) as recorder:
        if reader is not None:
            time.sleep(IDLE_SECONDS)
    used = recorder.energy
    if reader is None or used is None:
        return {"source": None, "covers": None, "idle_watts": None}
    return {"source": reader.source, "covers": reader.covers, "idle_watts": used.joules / used.seconds}


def _find_reader(config: Config) -> Reader | None:
    """What tells the energy of the devices that these settings choose."""
    from ebox.diagnosis.power import find_reader
    from ebox.mesh.devices import find_devices
    from ebox.workers.local_crew import list_gpus

    devices = find_devices(config.parallel)
    # NVIDIA's library counts those that it sees from 0, whatever their files are called.
    named = list_gpus(os.environ) if "CUDA_VISIBLE_DEVICES" in os.environ else map(str, range(len(devices)))
    return find_reader(devices[0].platform, list(named)[: len(devices)])


def measure_ways(probe: Probe) -> None:
    """Steps of each way; the first one tells how long a dispatch of the others takes."""
    from ebox.diagnosis.bench_plan import set_way
    from ebox.diagnosis.bench_steps import measure_step
    from ebox.mesh.devices import find_devices
    from ebox.planning.prediction import Way

    request, config = probe.request, probe.config
    is_slow = find_devices(config.parallel)[0].platform == "cpu"
    rate = request.facts["rate"]
    for facts in request.facts["ways"]:
        way = Way(**facts)
        reader = _find_reader(set_way(config, way))
        found = measure_step(probe.data, config, way, reader, rate if is_slow else None)
        rate = found.step.sequences_per_second if rate is None else rate
        probe.tell("result", facts=found.facts())


def measure_ceilings(probe: Probe) -> None:
    """What the device can do at best."""
    from ebox.diagnosis.bench_steps import find_ceilings
    from ebox.mesh.devices import find_devices

    probe.tell("result", facts=find_ceilings(find_devices(probe.config.parallel)[0].platform))


def train_part(probe: Probe) -> None:
    """A whole training on a part of the train split."""
    from ebox.diagnosis.bench_parts import train_on_part

    def on_entry(entry: Mapping[str, Any], num_steps: int) -> None:
        probe.tell("entry", entry=dict(entry), num_steps=num_steps)

    found = train_on_part(probe, probe.request.facts["share"], on_entry)
    probe.tell("result", facts=found.model_dump(mode="json"))


def measure_noise(probe: Probe) -> None:
    """The gradient noise scale."""
    from ebox.planning.noise_scale import measure_noise_scale

    def progress(phrase: str, done: int, total: int) -> None:
        probe.tell("far", done=done, total=total)

    found = measure_noise_scale(Path(probe.request.dataset), probe.config, progress=progress)
    probe.tell("result", facts=found.model_dump(mode="json"))


KINDS: Mapping[str, Callable[[Probe], None]] = {
    "start": measure_start,
    "steps": measure_ways,
    "ceilings": measure_ceilings,
    "part": train_part,
    "noise": measure_noise,
}


def measure(request: Request, tell: Callable[..., None], make_validate: MakeValidate) -> None:
    """Measure what is asked for, and tell it.

    Args:
        request: What to measure.
        tell: Called with a kind and facts, for whoever started the process.
        make_validate: Makes what measures a network on the validation split.

    Raises:
        InputError: the dataset or the settings can't be used here.
    """
    from ebox.datasets.folder import open_dataset
    from ebox.settings.reading import read_config_text

    data = open_dataset(Path(request.dataset), verify="full")
    KINDS[request.kind](Probe(request, data, read_config_text(request.config), tell, make_validate))
