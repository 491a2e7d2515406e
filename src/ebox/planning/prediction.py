"""Seconds of a step on a machine that was measured, and on one that is not here, each with its parts and its error.

An absent machine is carried over from a measured one, its reference. Of the reference's step the launch stays as it
is. What grows with the batch is divided into memory (the bytes that the step moves over the measured bandwidth; half
of the time where the bytes are unknown) and arithmetic (the rest). Memory scales by bandwidth, arithmetic by peak: it
keeps the fraction of the peak that this network reached at this batch of a device. A bare roofline takes that fraction
to be 1, and is given beside. The range reaches from scaling all by the one to scaling all by the other, widened by the
error at which the model predicts steps of the reference that it did not see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ebox.planning.collective_costs import Exchange
from ebox.planning.estimates import Estimate
from ebox.planning.machine_model import EXACT, MeasuredMachine
from ebox.planning.operations import count_operations
from ebox.planning.profiles import Profile, Step
from ebox.planning.step_time import ScalingModel, StepCase
from ebox.settings.reading import make_config
from ebox.storage.notes import Code

if TYPE_CHECKING:
    from ebox.planning.prices import Hardware
    from ebox.planning.slices import SliceFigures

# Bytes that a form sends, as a share of the exact gradient, and steps between meetings: counted on the wire by
# benchmarks/network.py (docs/parallel.md), used where a profile did not measure the form.
SENT_SHARES: Mapping[str, float] = {"exact": 1.0, "half": 0.5, "int8": 0.25, "topk": 0.03, "powersgd": 0.066}
# Messages of a step of the default network, whose normalisations wait for two each; otherwise the gradient alone.
NORMALISED_MESSAGES = 12
# Where the error is unknown: steps that were not measured enough, and another kind of device.
UNKNOWN_ERROR, OTHER_PLATFORM_ERROR = 0.35, 2.0
_LEAST_ERROR = 0.05
# More cores make a step faster by this power of their number: an assumption, since steps wait for their slowest part.
CORES_POWER = 0.8
_RANGE_OF_MODELLED_EXCHANGE = 2.0


class ErrorSource(Code):
    """From what the error of a prediction is known."""

    REPEATS = "error_repeats"
    LEFT_OUT = "error_left_out"
    REFERENCE = "error_reference"
    UNKNOWN = "error_unknown"


@dataclass(frozen=True)
class Link:
    """What connects the workers of a training.

    Args:
        bytes_per_second: Of a worker, in one direction.
        latency_seconds: Of one message, its software included.
        algorithm: How an All-Reduce runs over it.
    """

    bytes_per_second: float
    latency_seconds: float
    algorithm: Exchange


# Latencies are assumptions: NCCL and ICI take microseconds for a message, TCP between machines tens of them.
INSIDE_LATENCY, NETWORK_LATENCY = 4e-6, 50e-6


@dataclass(frozen=True)
class Way:
    """A way to train, whose step is predicted.

    Args:
        workers: That share the global batch.
        batch_size: Global batch.
        precision: Number type.
        exchange: As the setting `parallel.exchange`.
        sync: As the setting `parallel.sync`.
        local_steps: Steps between two meetings (local).
        link: Between the workers; None: they are those of one machine, as measured.
    """

    workers: int
    batch_size: int
    precision: str
    exchange: str = "exact"
    sync: str = "every-step"
    local_steps: int = 1
    link: Link | None = None

    @property
    def examples(self) -> int:
        """Places for examples on a worker, padding included."""
        return math.ceil(self.batch_size / self.workers)


@dataclass(frozen=True)
class StepForecast:
    """A predicted step.

    Args:
        seconds: Of the step.
        parts: Seconds of `launch`, `arithmetic`, `memory`, `exchange` and `input`, which add up to the step.
        kind: `measured` as it is, `fitted` to other steps of the machine, `modelled` from another machine.
        profile: The name of the profile that it rests on.
        error: Relative size of the errors of such predictions; None: unknown.
        error_from: From what it is known.
        roofline_seconds: What operations at the peak and bytes at the bandwidth alone would take; None: unknown.
    """

    seconds: Estimate
    parts: Mapping[str, float]
    kind: Literal["measured", "fitted", "modelled"]
    profile: str
    error: float | None
    error_from: ErrorSource
    roofline_seconds: float | None

    def facts(self) -> dict[str, Any]:
        """The basis of the prediction, as `plan.json` holds it."""
        return {
            "kind": self.kind,
            "profile": self.profile,
            "error": self.error,
            "error_from": self.error_from.value,
            "parts": dict(self.parts),
            "roofline_seconds": self.roofline_seconds,
        }


@dataclass(frozen=True)
class AbsentMachine:
    """A machine that nobody measured.

    Args:
        hardware: Its row in the table of hardware.
        reference: The measured machine that it is carried over from.
        reference_hardware: The row of that one; None for processors, which are carried over by their cores.
        profile: The profile of the user's training, whose network the reference may not have.
        figures: What a compiler says of the step on it; None: not compiled.
    """

    hardware: Hardware
    reference: MeasuredMachine
    reference_hardware: Hardware | None
    profile: Profile
    figures: SliceFigures | None = None

    @cached_property
    def network_share(self) -> float:
        """Operations of an example of the user's network, by those of the reference's, both counted by their shapes."""
        if not self.is_other_network:
            return 1.0
        own, other = (
            count_operations(make_config({"model": one.settings.get("model", {})}).model, one.subject.length_bp)
            for one in (self.profile, self.reference.profile)
        )
        return own / other

    @property
    def is_other_network(self) -> bool:
        """Whether the reference was measured with another network than the user's."""
        return self.profile.subject.network != self.reference.profile.subject.network


Machine = MeasuredMachine | AbsentMachine


def predict_step(machine: Machine, way: Way) -> StepForecast:
    """Predict a step."""
    if isinstance(machine, AbsentMachine):
        return _predict_absent(machine, way)
    found = _find_measured(machine.profile, way)
    return _predict_fitted(machine, way) if found is None else _tell_measured(machine, way, found)


def work_seconds(machine: Machine, precision: str, examples: int) -> float:
    """What grows with the examples of a device, in seconds: to carry over what another machine took for them."""
    if isinstance(machine, AbsentMachine):
        return sum(_carry_over(machine, examples, _precision_of(machine, precision)))
    known = machine.model.precisions
    return machine.model.work_seconds(examples, precision if precision in known else known[0])


def _find_measured(profile: Profile, way: Way) -> Step | None:
    """The very step, where it was measured; over another link than the machine's own it is another step."""
    if way.link is not None and way.workers > 1:
        return None
    for step in profile.steps:
        same = (step.workers, step.batch_size, step.precision) == (way.workers, way.batch_size, way.precision)
        alone = way.workers == 1 or ((step.exchange, step.sync) == (way.exchange, way.sync))
        if same and alone and (way.sync != "local" or step.steps_per_exchange == way.local_steps):
            return step
    return None


def _tell_measured(machine: MeasuredMachine, way: Way, step: Step) -> StepForecast:
    spread = step.seconds
    work = machine.model.work_seconds(_examples_of(machine, way), way.precision)
    fitted = _divide(machine, way, work, step.exchange_seconds)
    share = spread.median / sum(fitted.values())
    return StepForecast(
        Estimate(spread.median, spread.low, spread.high),
        {name: seconds * share for name, seconds in fitted.items()},
        "measured",
        machine.profile.name,
        (spread.high - spread.low) / spread.median / 2.0,
        ErrorSource.REPEATS,
        roofline_of(machine, way),
    )


def _predict_fitted(machine: MeasuredMachine, way: Way) -> StepForecast:
    model, examples = machine.model, _examples_of(machine, way)
    case = replace(_case(machine.profile, way), examples=examples)
    whole = model.step_seconds(case, way.precision, (way.exchange, way.sync))
    work = model.work_seconds(examples, way.precision)
    exchange = max(0.0, whole - work - model.launch_seconds(way.precision))
    error = machine.worst_error
    wide = UNKNOWN_ERROR if error is None else max(error, _LEAST_ERROR)
    known = model.has_exchange or way.workers == 1
    unsure = 1.0 if known else _RANGE_OF_MODELLED_EXCHANGE
    rest = whole - exchange
    return StepForecast(
        Estimate(whole, rest / (1.0 + wide) + exchange / unsure, rest * (1.0 + wide) + exchange * unsure),
        _divide(machine, way, work, exchange),
        "fitted",
        machine.profile.name,
        error,
        ErrorSource.UNKNOWN if error is None else ErrorSource.LEFT_OUT,
        roofline_of(machine, way),
    )


def _predict_absent(machine: AbsentMachine, way: Way) -> StepForecast:
    reference, precision = machine.reference, _precision_of(machine, way.precision)
    memory, arithmetic = _carry_over(machine, way.examples, precision)
    launch = reference.model.launch_seconds(precision)
    exchange = _exchange_seconds(machine, way)
    value = launch + memory + arithmetic + exchange
    least, most = _range_of_work(machine, way.examples, precision)
    error = reference.worst_error
    wide = UNKNOWN_ERROR if error is None else max(error, _LEAST_ERROR)
    if machine.hardware.platform != reference.profile.device.platform:
        error, wide = None, OTHER_PLATFORM_ERROR
    low = (launch + min(least, memory + arithmetic)) / (1.0 + wide) + exchange / _RANGE_OF_MODELLED_EXCHANGE
    high = (launch + max(most, memory + arithmetic)) * (1.0 + wide) + exchange * _RANGE_OF_MODELLED_EXCHANGE
    return StepForecast(
        Estimate(value, low, high),
        {"launch": launch, "arithmetic": arithmetic, "memory": memory, "exchange": exchange, "input": 0.0},
        "modelled",
        reference.profile.name,
        error,
        ErrorSource.UNKNOWN if error is None else ErrorSource.REFERENCE,
        roofline_of(machine, way),
    )


def _exchange_seconds(machine: AbsentMachine, way: Way) -> float:
    """The exchange over the link of an absent machine, without any cost of software beyond its latency."""
    case = _case(machine.profile, way)
    if machine.figures is not None and way.exchange == "exact" and way.sync == "every-step":
        messages, num_bytes = machine.figures.exchange(way.workers)
        case = replace(case, messages=messages, message_bytes=num_bytes)
    return ScalingModel(0.0, 0.0, 0.0, 1.0, 0.0).exchange_seconds(case)


def _carry_over(machine: AbsentMachine, examples: int, precision: str) -> tuple[float, float]:
    """Seconds of memory and of arithmetic on an absent machine."""
    memory, arithmetic = _divide_work(machine.reference, examples, precision)
    slower, weaker = _ratios(machine, precision)
    share = machine.network_share
    memory, arithmetic = memory * slower * share, arithmetic * weaker * share
    figures = machine.figures
    if figures is not None and figures.bytes_an_example is not None and machine.hardware.memory_bytes_per_second:
        moved = figures.fixed_bytes + figures.bytes_an_example * examples
        memory = moved / machine.hardware.memory_bytes_per_second
    return memory, arithmetic


def _range_of_work(machine: AbsentMachine, examples: int, precision: str) -> tuple[float, float]:
    """The work if all of it scaled by bandwidth, or all by peak: the smaller and the greater."""
    work = machine.reference.model.work_seconds(examples, precision) * machine.network_share
    slower, weaker = _ratios(machine, precision)
    if machine.hardware.platform == "cpu":
        # From cores that help in full to a power of one half.
        slower, weaker = slower ** (1.0 / CORES_POWER), slower ** (0.5 / CORES_POWER)
    return work * min(slower, weaker), work * max(slower, weaker)


def _ratios(machine: AbsentMachine, precision: str) -> tuple[float, float]:
    """How many times longer memory and arithmetic take than on the reference; the other one where one is unknown."""
    here, there = machine.hardware, machine.reference_hardware
    if here.platform == "cpu" and here.num_cores is not None:
        cores = machine.reference.profile.device.num_cores / here.num_cores
        return cores**CORES_POWER, cores**CORES_POWER
    if there is None:
        return 1.0, 1.0
    bandwidths = (there.memory_bytes_per_second, here.memory_bytes_per_second)
    peaks = (_peak(there, precision), _peak(here, precision))
    slower = bandwidths[0] / bandwidths[1] if bandwidths[0] and bandwidths[1] else None
    weaker = peaks[0] / peaks[1] if peaks[0] and peaks[1] else None
    known = next((ratio for ratio in (slower, weaker) if ratio is not None), 1.0)
    return known if slower is None else slower, known if weaker is None else weaker


def _peak(hardware: Hardware, precision: str) -> float | None:
    return hardware.bf16_flops if precision == "bfloat16" else hardware.fp32_flops


def _precision_of(machine: AbsentMachine, precision: str) -> str:
    """The precision whose costs the reference has: a device without bfloat16 is carried over from float32."""
    known = machine.reference.model.precisions
    return precision if precision in known else known[0]


def _divide_work(machine: MeasuredMachine, examples: int, precision: str) -> tuple[float, float]:
    """What grows with the batch, divided into memory and arithmetic."""
    work, subject = machine.model.work_seconds(examples, precision), machine.profile.subject
    ceilings = machine.profile.ceilings
    if subject.bytes_an_example is None or ceilings is None:
        return work / 2.0, work / 2.0
    memory = min(work, subject.bytes_an_example * examples / ceilings.bytes_per_second)
    return memory, work - memory


def _examples_of(machine: MeasuredMachine, way: Way) -> int:
    """The examples that the cores of a worker compute: all, where the workers share the cores of one machine."""
    return way.batch_size if machine.shares_cores and way.link is None else way.examples


def _divide(machine: MeasuredMachine, way: Way, work: float, exchange: float) -> dict[str, float]:
    memory, arithmetic = _divide_work(machine, _examples_of(machine, way), way.precision)
    share = work / (memory + arithmetic) if memory + arithmetic > 0.0 else 0.0
    launch = machine.model.launch_seconds(way.precision)
    return {
        "launch": launch,
        "arithmetic": arithmetic * share,
        "memory": memory * share,
        "exchange": exchange,
        "input": 0.0,
    }


def roofline_of(machine: Machine, way: Way) -> float | None:
    """Operations at the peak, or bytes at the bandwidth, whichever takes longer (Williams 2009); None: unknown."""
    subject = machine.profile.subject
    if subject.flops_an_example is None:
        return None
    if isinstance(machine, AbsentMachine):
        peak, bandwidth = _peak(machine.hardware, way.precision), machine.hardware.memory_bytes_per_second
    else:
        ceilings = machine.profile.ceilings
        peak = None if ceilings is None else ceilings.flops.get(way.precision)
        bandwidth = None if ceilings is None else ceilings.bytes_per_second
    if not peak:
        return None
    moved = 0.0 if subject.bytes_an_example is None or not bandwidth else subject.bytes_an_example / bandwidth
    return way.examples * max(subject.flops_an_example / peak, moved)


def _case(profile: Profile, way: Way) -> StepCase:
    """What a way to train sends: as measured for its form, else a share of the exact exchange."""
    link = Link(math.inf, 0.0, "ring") if way.link is None else way.link
    num_bytes, messages = describe_exchange(profile, way.exchange, way.sync)
    return StepCase(
        way.workers,
        way.examples,
        num_bytes,
        link.bytes_per_second,
        link.latency_seconds,
        messages,
        link.algorithm,
        way.local_steps if way.sync == "local" else 1,
    )


def describe_exchange(profile: Profile, exchange: str, sync: str) -> tuple[float, int]:
    """Bytes of a worker and messages of one exchange of a form."""
    for step in profile.steps:
        if step.workers > 1 and (step.exchange, step.sync) == (exchange, sync):
            return step.message_bytes, max(1, step.messages)
    exact = next((step for step in profile.steps if step.workers > 1 and (step.exchange, step.sync) == EXACT), None)
    num_bytes = profile.subject.gradient_bytes if exact is None else exact.message_bytes
    messages = _count_messages(profile) if exact is None else max(1, exact.messages)
    # Workers that train alone normalise alone, and meet over their weights.
    return num_bytes * SENT_SHARES.get(exchange, 1.0), 1 if sync == "local" else messages


def _count_messages(profile: Profile) -> int:
    model, train = profile.settings.get("model", {}), profile.settings.get("train", {})
    alone = model.get("batch_norm") is False or train.get("batch_statistics") in ("group", "device")
    return 1 if alone else NORMALISED_MESSAGES
