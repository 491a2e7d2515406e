"""Every option of a plan: an offer, a number of devices, a batch, a form of exchange, with its step and its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ebox.planning.collective_costs import Exchange
from ebox.planning.estimates import Estimate
from ebox.planning.hardware import SLICES
from ebox.planning.jobs import Training, foresee_training, list_borrowed
from ebox.planning.machine_model import EXACT, MeasuredMachine
from ebox.planning.prediction import (
    INSIDE_LATENCY,
    NETWORK_LATENCY,
    AbsentMachine,
    Link,
    Machine,
    StepForecast,
    Way,
    predict_step,
    work_seconds,
)
from ebox.planning.prices import Hardware, Offer, Owned, PriceBook, PriceKind
from ebox.planning.profiles import Profile
from ebox.planning.slices import SliceFigures
from ebox.planning.topologies import Topology
from ebox.storage.notes import Code, note

# Global batches, as multiples of that of the settings; an epoch keeps this number of steps.
BATCHES, LEAST_STEPS_AN_EPOCH = (1, 4, 16, 64), 8
# Of GPUs and of processors, the most machines of one training.
MOST_TOGETHER = 4
# Inside a machine, where no speed of a link is known: PCIe of the fourth generation.
PCIE = Link(16e9, INSIDE_LATENCY, "halving")
# An assumption, which matters where a validation of one accelerator is carried over to another.
_EXAMPLES_OF_A_VALIDATION = 10_000
LOCAL_STEPS = 16
Steps = Callable[[Way], Estimate | None]


class OptionNote(Code):
    """What a plan leaves out, or takes from elsewhere."""

    NO_PROFILE_OF_PROCESSORS = "no_profile_of_processors"
    REFERENCE_USED = "reference_used"
    NO_COMPILER = "no_slice_compiler"
    NOT_COMPILED = "slices_not_compiled"
    OTHER_NETWORK = "reference_of_other_network"
    BORROWED = "figures_borrowed"
    ASSUMED_LINK = "link_assumed"
    ASSUMED_INSIDE = "link_inside_assumed"
    UNUSED = "profile_unused"
    NO_SLICES = "no_slices_known"


@dataclass(frozen=True)
class Inputs:
    """From what options are made.

    Args:
        machines: Measured with the user's training, the main one first.
        references: Measured with any training, that others are carried over from.
        book: The prices.
        figures: What a compiler says of chips, by their kind.
        slices: The slices of TPUs to consider.
        network_bytes_per_second: Of the link between machines.
        steps: The steps of a training in a way; None: it can't reach the target in this way.
        batch_size: That of the settings.
        examples_an_epoch: Examples that one epoch shows.
        precision: As the setting `train.precision`.
    """

    machines: tuple[MeasuredMachine, ...]
    references: tuple[MeasuredMachine, ...]
    book: PriceBook
    figures: Mapping[str, SliceFigures]
    slices: tuple[Topology, ...]
    network_bytes_per_second: float
    steps: Steps
    batch_size: int
    examples_an_epoch: int
    precision: str = "auto"


@dataclass(frozen=True)
class Option:
    """A way to train on an offer.

    Args:
        id: Its name.
        offer: What is rented or owned.
        kind: Which price.
        machine: What its step is predicted from.
        hardware: The row of the table of hardware; None: as measured.
        way: The workers, batch, precision and form of exchange.
        num_devices: Of one training.
        num_machines: That they are in.
        forecast: The step.
        steps: Of a training.
        efficiency: Speed by that of one device with the same batch, times their number.
        training: Seconds of a training.
    """

    id: str
    offer: Offer | Owned
    kind: PriceKind
    machine: Machine
    hardware: Hardware | None
    way: Way
    num_devices: int
    num_machines: int
    forecast: StepForecast
    steps: Estimate
    efficiency: float
    training: Training

    @property
    def platform(self) -> str:
        """What computes."""
        return self.machine.profile.device.platform if self.hardware is None else self.hardware.platform

    @property
    def places(self) -> int:
        """Trainings of this option that a machine holds side by side, where it has more devices than one needs."""
        if self.num_machines > 1:
            return 1
        most = self.offer.billed_devices(self.num_devices) if isinstance(self.offer, Offer) else self.offer.num_devices
        return max(1, most // self.num_devices)

    @property
    def watts(self) -> float | None:
        """Measured power of a device at the step most like its own: number type, then examples; None: not measured."""
        if isinstance(self.machine, AbsentMachine):
            return None
        told = [step for step in self.machine.profile.steps if step.watts is not None]
        alike = [step for step in told if step.precision == self.way.precision] or told
        if not alike:
            return None
        nearest = min(alike, key=lambda step: abs(math.log(step.batch_size / step.workers / self.way.examples)))
        assert nearest.watts is not None
        return nearest.watts.median / nearest.workers

    def facts(self) -> dict[str, Any]:
        """What it is, as `plan.json` holds it."""
        return {
            "id": self.id,
            "offer": self.offer.id,
            "provider": self.offer.provider if isinstance(self.offer, Offer) else None,
            "hardware": self.machine.profile.device.name if self.hardware is None else self.hardware.name,
            "platform": self.platform,
            "price_kind": self.kind,
            "num_devices": self.num_devices,
            "num_machines": self.num_machines,
            "batch_size": self.way.batch_size,
            "precision": self.way.precision,
            "exchange": self.way.exchange,
            "sync": self.way.sync,
            "step_seconds": self.forecast.seconds.facts(),
            "steps": self.steps.facts(),
            "efficiency": self.efficiency,
            "basis": self.forecast.facts(),
        }


def list_options(inputs: Inputs) -> tuple[Option, ...]:
    """Every option, offer by offer."""
    found: list[Option] = []
    offers: tuple[Offer | Owned, ...] = (*inputs.book.offers, *inputs.book.owned)
    for offer in offers:
        for name, machine, hardware in find_machines(inputs, offer):
            ways = list(_iter_ways(inputs, offer, machine, hardware))
            found += [_make(offer, name, kind, machine, hardware, way) for kind in _kinds(offer) for way in ways]
    return tuple(found)


def _make(
    offer: Offer | Owned,
    name: str,
    kind: PriceKind,
    machine: Machine,
    hardware: Hardware | None,
    found: tuple[Way, int, StepForecast, Estimate, float, Training],
) -> Option:
    way, num_machines, forecast, steps, efficiency, training = found
    form = way.exchange if way.sync == "every-step" else f"{way.exchange}-{way.sync}"
    id = f"{name}-x{way.workers}-{kind.replace('_', '-')}-b{way.batch_size}-{form}"
    return Option(
        id, offer, kind, machine, hardware, way, way.workers, num_machines, forecast, steps, efficiency, training
    )


def note_options(inputs: Inputs, options: Sequence[Option]) -> Iterator[dict[str, Any]]:
    """What the options leave out, and what was taken from elsewhere."""
    offered = {inputs.book.hardware[offer.hardware].platform for offer in inputs.book.offers}
    measured = {one.profile.device.platform for one in inputs.machines}
    if "cpu" in offered and "cpu" not in measured:
        yield note(OptionNote.NO_PROFILE_OF_PROCESSORS)
    if inputs.slices:
        offers = [inputs.book.hardware[offer.hardware] for offer in inputs.book.offers]
        unknown = sorted({one.name for one in offers if one.platform == "tpu" and one.chip not in SLICES})
        if unknown:
            yield note(OptionNote.NO_SLICES, {"hardware": unknown})
    absent = [one.machine for one in options if isinstance(one.machine, AbsentMachine)]
    based = {id(_find_basis(one.machine)) for one in options}
    for machine in inputs.machines[1:]:
        if id(machine.profile) not in based:
            yield note(OptionNote.UNUSED, {"profile": machine.profile.name})
    own = {one.profile.name for one in inputs.machines}
    for name in sorted({one.reference.profile.name for one in absent} - own):
        yield note(OptionNote.REFERENCE_USED, {"profile": name})
    scaled = {one.network_share for one in absent if one.is_other_network}
    if scaled:
        yield note(OptionNote.OTHER_NETWORK, {"share": max(scaled)})
    kinds = sorted({one.chip.name for one in inputs.slices} - set(inputs.figures))
    if kinds:
        yield note(OptionNote.NOT_COMPILED, {"kinds": kinds})
    for profile in {id(one.machine.profile): one.machine.profile for one in options}.values():
        if lacking := list_borrowed(profile):
            yield note(OptionNote.BORROWED, {"profile": profile.name, "figures": lacking})
    links = {one.hardware.name for one in options if one.hardware is not None and one.way.link == PCIE}
    if links:
        gigabytes = PCIE.bytes_per_second / 1e9
        yield note(OptionNote.ASSUMED_INSIDE, {"hardware": sorted(links), "gigabytes_per_second": gigabytes})
    if any(one.num_machines > 1 for one in options):
        yield note(OptionNote.ASSUMED_LINK, {"gbit_per_second": inputs.network_bytes_per_second * 8 / 1e9})


def find_machines(inputs: Inputs, offer: Offer | Owned) -> Iterator[tuple[str, Machine, Hardware | None]]:
    """The machines that an offer is: measured where there is a profile of its hardware, else carried over.

    A machine that one owns, of no row of the table, is each measured machine that is of none.
    """
    if offer.hardware is None:
        own = [one for one in inputs.machines if one.profile.device.hardware is None]
        for machine in own:
            yield offer.id if len(own) == 1 else f"{offer.id}-{machine.profile.name}", machine, None
        return
    hardware = inputs.book.hardware[offer.hardware]
    network = inputs.machines[0].profile.subject.network
    same = [one for one in inputs.references if one.profile.subject.network == network]
    exact = [one for one in (*inputs.machines, *same) if one.profile.device.hardware == hardware.name]
    if exact:
        yield offer.id, exact[0], hardware
        return
    reference = _choose_reference(inputs, hardware)
    if reference is not None:
        row = inputs.book.hardware.get(reference.profile.device.hardware or "")
        figures = inputs.figures.get(hardware.chip or "")
        yield offer.id, AbsentMachine(hardware, reference, row, inputs.machines[0].profile, figures), hardware


def _choose_reference(inputs: Inputs, hardware: Hardware) -> MeasuredMachine | None:
    """A measured machine of the same kind, or for TPUs a GPU; processors say nothing about them, nor they about those.

    Of several, one that has a row of its own is taken, since peaks and bandwidths are compared.
    """
    of_kind = ("cpu",) if hardware.platform == "cpu" else (hardware.platform, "cuda")
    for platform in of_kind:
        for machine in (*inputs.machines, *inputs.references):
            device = machine.profile.device
            if device.platform == platform and (platform == "cpu" or device.hardware in inputs.book.hardware):
                return machine
    return None


def _kinds(offer: Offer | Owned) -> tuple[PriceKind, ...]:
    if isinstance(offer, Owned):
        return ("owned",)
    prices: tuple[tuple[PriceKind, float | None], ...] = (("on_demand", offer.on_demand), ("spot", offer.spot))
    return tuple(kind for kind, price in prices if price is not None)


def _iter_ways(
    inputs: Inputs, offer: Offer | Owned, machine: Machine, hardware: Hardware | None
) -> Iterator[tuple[Way, int, StepForecast, Estimate, float, Training]]:
    """Each way to train on an offer, with what does not depend on its kind of price."""
    precision = _choose_precision(inputs.precision, machine, hardware)
    for num_devices in _list_counts(inputs, offer, machine, hardware):
        num_machines = _count_machines(offer, num_devices)
        for batch_size in _list_batches(inputs, num_devices):
            if not _fits(machine, batch_size, num_devices):
                continue
            for exchange, sync in _list_forms(num_devices, num_machines):
                link = _find_link(inputs, machine, hardware, num_devices, num_machines)
                way = Way(
                    num_devices, batch_size, precision, exchange, sync, LOCAL_STEPS if sync == "local" else 1, link
                )
                steps = inputs.steps(way)
                if steps is not None:
                    yield _foresee(inputs, machine, way, num_machines, steps)


def _foresee(
    inputs: Inputs, machine: Machine, way: Way, num_machines: int, steps: Estimate
) -> tuple[Way, int, StepForecast, Estimate, float, Training]:
    forecast = predict_step(machine, way)
    alone = forecast if way.workers == 1 else predict_step(machine, replace(way, workers=1, sync="every-step"))
    efficiency = alone.seconds.value / (way.workers * forecast.seconds.value)
    profile = _find_basis(machine)
    others = {id(one.profile): one for one in (*inputs.machines, *inputs.references)}
    # A validation is divided over the devices, too; workers that share cores gain nothing from that.
    shares = isinstance(machine, MeasuredMachine) and machine.shares_cores and way.link is None
    own = work_seconds(machine, way.precision, -(-_EXAMPLES_OF_A_VALIDATION // (1 if shares else way.workers)))

    def carry(validation: float, of: Profile) -> float:
        there = work_seconds(others[id(of)], way.precision, _EXAMPLES_OF_A_VALIDATION)
        if of.device.platform == "cpu":
            return validation * own / there
        # What an accelerator does not compute of it is the host's work, which stays.
        return max(validation - there, 0.0) + own

    named = tuple(one.profile for one in inputs.machines)
    training = foresee_training(forecast.seconds, steps, profile, named, carry)
    return way, num_machines, forecast, steps, efficiency, training


def _find_basis(machine: Machine) -> Profile:
    """The profile that the steps of a machine rest on."""
    return machine.reference.profile if isinstance(machine, AbsentMachine) else machine.profile


def _choose_precision(setting: str, machine: Machine, hardware: Hardware | None) -> str:
    """The number type of the settings; `auto` is float32 on processors and on devices without bfloat16."""
    platform = _find_basis(machine).device.platform if hardware is None else hardware.platform
    lacks = hardware is not None and hardware.platform != "cpu" and hardware.bf16_flops is None
    wanted = ("float32" if platform == "cpu" or lacks else "bfloat16") if setting == "auto" else setting
    model = machine.reference.model if isinstance(machine, AbsentMachine) else machine.model
    return wanted if wanted in model.precisions else model.precisions[0]


def _list_counts(inputs: Inputs, offer: Offer | Owned, machine: Machine, hardware: Hardware | None) -> list[int]:
    """The numbers of devices of a training: doublings, and for TPUs the chips of slices."""
    if isinstance(offer, Owned):
        most = offer.num_devices
    elif hardware is not None and hardware.platform == "tpu":
        own = sorted({one.num_chips for one in inputs.slices if one.chip.name == hardware.chip})
        return [count for count in own if count <= offer.max_devices]
    else:
        most = offer.max_devices * MOST_TOGETHER
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


def _count_machines(offer: Offer | Owned, num_devices: int) -> int:
    most = offer.num_devices if isinstance(offer, Owned) else offer.max_devices
    return -(-num_devices // most)


def _list_batches(inputs: Inputs, num_devices: int) -> list[int]:
    """Global batches that give every device an example, and an epoch enough steps."""
    most = inputs.examples_an_epoch // LEAST_STEPS_AN_EPOCH
    batches = [inputs.batch_size * factor for factor in BATCHES]
    return [batch for batch in batches if batch >= num_devices and (batch <= most or batch == inputs.batch_size)]


def _list_forms(num_devices: int, num_machines: int) -> list[tuple[str, str]]:
    """Between machines a link may be slow, so that fewer bytes or fewer meetings help."""
    return [EXACT] if num_machines == 1 else [EXACT, ("int8", "every-step"), ("exact", "local")]


def _find_link(
    inputs: Inputs, machine: Machine, hardware: Hardware | None, num_devices: int, num_machines: int
) -> Link | None:
    """What connects the devices; None: one of them, or a machine of which several were measured."""
    if num_devices == 1:
        return None
    if num_machines > 1:
        algorithm: Exchange = "ring" if hardware is None or hardware.platform == "cpu" else "halving"
        return Link(inputs.network_bytes_per_second, NETWORK_LATENCY, algorithm)
    if isinstance(machine, MeasuredMachine) and machine.model.has_exchange:
        return None
    stated = None if hardware is None else hardware.link_bytes_per_second
    # Makers state both directions together.
    return PCIE if stated is None else replace(PCIE, bytes_per_second=stated / 2.0)


def _fits(machine: Machine, batch_size: int, num_devices: int) -> bool:
    """Whether a device holds its share: by the compiler, or by the measured steps; unknown counts as yes."""
    examples = -(-batch_size // num_devices)
    if isinstance(machine, AbsentMachine):
        most, figures = machine.hardware.memory_bytes, machine.figures
        return figures is None or most is None or figures.memory_bytes(examples) <= most
    device = machine.profile.device
    most = device.memory_bytes
    told = [step for step in machine.profile.steps if step.memory_bytes is not None]
    if device.platform == "cpu" or most is None or not told:
        return True
    # Memory grows at most as the share does.
    nearest = min(told, key=lambda step: abs(step.batch_size / step.workers - examples))
    share = max(1.0, examples * nearest.workers / nearest.batch_size)
    return (nearest.memory_bytes or 0) * share <= most
