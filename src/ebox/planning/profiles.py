"""The profile of a machine: what `ebox bench` measured there, as one JSON file, and reading it again.

Times are in seconds, rates in sequences a second, sizes in bytes, power in watts, energy in joules; a `Spread` is of
several measurements. What could not be measured is None.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ebox.errors import InputError
from ebox.settings.network import ModelConfig
from ebox.storage.stamps import BENCH, read_stamped, write_stamped

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Platform = Literal["cpu", "cuda", "tpu"]


class Part(BaseModel):
    """A part of a profile: plain values, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Spread(Part):
    """Repeated measurements of one number.

    Args:
        median: Their median.
        low: The least.
        high: The greatest.
        n: How many.
    """

    median: NotNegative
    low: NotNegative
    high: NotNegative
    n: Count

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of at least one value."""
        return cls(median=median(values), low=min(values), high=max(values), n=len(values))


class Device(Part):
    """The devices that were measured, all of one kind.

    Args:
        name: The kind as JAX names it, or the model of the processor.
        platform: What computes.
        count: How many there are.
        hardware: The row of the hardware table that it is, such as `H200-SXM`; None: it is in no row.
        memory_bytes: Of one device.
        driver: Version of the driver, if it has one.
        num_cores: Cores of the host that this process may use.
        host_memory_bytes: Memory of the host; None: not kept.
    """

    name: str
    platform: Platform
    count: Count
    hardware: str | None
    memory_bytes: int | None
    driver: str | None
    num_cores: Count
    host_memory_bytes: int | None


class Subject(Part):
    """What was trained: two profiles are comparable where these are equal.

    Args:
        network: Fingerprint of the settings of the network.
        dataset: Fingerprint of the dataset; None: steps alone were timed, on sequences of this length.
        num_parameters: Trained numbers.
        length_bp: Length of a sequence.
        num_tracks: Outputs.
        num_train: Examples of the train split; None without a dataset.
        examples_an_epoch: Examples that one epoch shows; None without a dataset.
        flops_an_example: Operations of one example in a train step, by the compiled program or its text; None: unknown.
        bytes_an_example: Bytes that a step moves for one example, by the compiler.
        fixed_bytes: Bytes that a step moves whatever its batch: parameters and state of the optimiser.
        gradient_bytes: Of the gradient in float32.
    """

    network: str
    dataset: str | None
    num_parameters: Count
    length_bp: Count
    num_tracks: Count
    num_train: Count | None
    examples_an_epoch: Count | None
    flops_an_example: Positive | None
    bytes_an_example: Positive | None
    fixed_bytes: NotNegative | None
    gradient_bytes: NotNegative


class Step(Part):
    """One way to train that was measured, after compilation.

    Args:
        workers: Workers that share the global batch; on one machine each is a device, or a share of its cores.
        batch_size: Global batch.
        precision: `float32` or `bfloat16`.
        exchange: How gradients travel, as the setting `parallel.exchange`; with one worker `exact`.
        sync: As the setting `parallel.sync`.
        seconds: Of one step, all in.
        input_seconds: Of making and sending its examples, measured alone (it overlaps the compute).
        exchange_seconds: Of its exchange, measured alone or as the difference to one worker with as many examples (on a
            processor: with such a share of the cores); 0 with one.
        messages: Exchanges one after another in a step.
        message_bytes: Bytes that a worker brings to the exchanges of one step.
        steps_per_exchange: 1; more for local updates.
        memory_bytes: Most memory of one device; None: not told here.
        watts: Power during the steps; None: not readable.
    """

    workers: Count
    batch_size: Count
    precision: Literal["float32", "bfloat16"]
    exchange: str
    sync: str
    seconds: Spread
    input_seconds: Spread | None = None
    exchange_seconds: NotNegative
    messages: int
    message_bytes: NotNegative
    steps_per_exchange: Count = 1
    memory_bytes: int | None = None
    watts: Spread | None = None

    @property
    def sequences_per_second(self) -> float:
        """Examples a second of all workers."""
        return self.batch_size / self.seconds.median


class Ceilings(Part):
    """What the device can do at best, measured, for the model of machines that are not here.

    Args:
        flops: Operations a second of a large product of matrices, by precision.
        bytes_per_second: Of memory.
        launch_seconds: The least time of a dispatched program that does nothing; None: not measured.
    """

    flops: dict[str, Positive]
    bytes_per_second: Positive
    launch_seconds: NotNegative | None


class Point(Part):
    """A validation in a training: after how many steps, how many seconds from the start of the program, its AUROC."""

    step: Count
    seconds: NotNegative
    auroc: float


class Learning(Part):
    """A whole training, by its validations.

    Args:
        seed: Of the training.
        batch_size: Global batch.
        num_examples: Examples of the train split that it was given.
        num_steps: Its steps in all.
        seconds: From its start to its end, start-up and compilation included.
        points: Its validations in order.
    """

    seed: int
    batch_size: Count
    num_examples: Count
    num_steps: Count
    seconds: Positive
    points: tuple[Point, ...] = Field(min_length=1)

    @property
    def best_auroc(self) -> float:
        """The greatest AUROC on validation, that of the model that is kept."""
        return max(point.auroc for point in self.points)


class NoiseScale(Part):
    """The gradient noise scale over a training (McCandlish 2018, appendix A.1).

    Args:
        batch_size: The critical batch in examples: tr(Σ) / |G|², averaged over the training.
        low: 2.5 % of the resampled estimates are below it.
        high: 2.5 % are above it.
        over_steps: Estimates at single steps, as pairs of step and batch.
    """

    batch_size: Positive
    low: NotNegative
    high: NotNegative
    over_steps: tuple[tuple[int, float], ...]


class Energy(Part):
    """Where power was read.

    Args:
        source: `nvml`, `rapl`; None: not readable here.
        covers: What the reading covers: `devices` or `processors`.
        idle_watts: Before the measurement.
    """

    source: Literal["nvml", "rapl"] | None
    covers: Literal["devices", "processors"] | None
    idle_watts: NotNegative | None


class Profile(Part):
    """All that `ebox bench` measured on one machine.

    Args:
        name: What tables call it.
        created: When, in ISO form.
        device: The devices.
        environment: Versions: ebox, Python, packages, operating system.
        network_link: What connects the workers: `none`, `host` (one machine), or a speed such as `10gbit`.
        subject: What was trained.
        settings: The settings of the training, as sections.
        start_seconds: From starting the program to the first compilation; None here and below: not measured.
        compile_seconds: Of the train step and the validation, with an empty cache.
        cached_compile_seconds: The same from the cache.
        validation_seconds: Of one validation.
        checkpoint_seconds: Of one checkpoint.
        checkpoint_bytes: Its size.
        steps: The ways to train that were measured.
        ceilings: What the device can do at best.
        energy: Where power was read.
        learning: Whole trainings on all of the train split, one for each seed and batch.
        data_curve: Whole trainings on parts of the train split; empty: not measured.
        noise_scale: None: not measured.
    """

    name: str
    created: str
    device: Device
    environment: dict[str, Any]
    network_link: str
    subject: Subject
    settings: dict[str, Any]
    start_seconds: Spread | None
    compile_seconds: Spread | None
    cached_compile_seconds: Spread | None
    validation_seconds: Spread | None
    checkpoint_seconds: Spread | None
    checkpoint_bytes: Count | None
    steps: tuple[Step, ...] = Field(min_length=1)
    ceilings: Ceilings | None
    energy: Energy
    learning: tuple[Learning, ...] = ()
    data_curve: tuple[Learning, ...] = ()
    noise_scale: NoiseScale | None = None


def fingerprint_network(model: ModelConfig) -> str:
    """The fingerprint of the settings that a network uses."""
    text = json.dumps(model.describe_network(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_profile(profile: Profile, path: Path, *, overwrite: bool = False) -> None:
    """Publish a profile as JSON."""
    write_stamped(path, BENCH, profile.model_dump(mode="json", exclude={"created"}), overwrite=overwrite)


def read_profile(path: Path) -> Profile:
    """Read a profile that `ebox bench` wrote.

    Raises:
        InputError: no such file, another format or version, or a value that is missing or makes no sense.
    """
    facts = read_stamped(path, BENCH)
    stamp = ("format", "format_version", "ebox_version")
    try:
        return Profile.model_validate({key: value for key, value in facts.items() if key not in stamp})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{place}: {first['msg']} (found {str(first['input'])[:80]!r})",
            file=path,
            remedy="measure again with `ebox bench DATASET --out FILE --overwrite`, or undo the change of the file",
        ) from None
