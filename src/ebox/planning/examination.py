"""A topology examined before anyone pays for it: does the train step compile, does it fit, what does it exchange?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.planning.isolation import TIMEOUT_SECONDS, compile_for_topology
from ebox.planning.topologies import Topology, check_compiler, parse_topology
from ebox.settings.reading import Config
from ebox.storage.notes import Code, note

if TYPE_CHECKING:
    from ebox.planning.compilation import CompilationResult, StepShape

DEFAULT_LENGTH_BP = 200


class TopologyNote(Code):
    """What is good to know of a compiled step."""

    EMPTY_PLACES = "empty_places"
    OPERATIONS_OF_PROGRAM = "operations_of_program"
    ASSUMED_DATA = "assumed_data"


@dataclass(frozen=True)
class TopologyResult:
    """What was found out about a topology.

    Args:
        topology: The chips.
        compilation: The compiled step.
        length_bp: Length of the examples that it was compiled for.
        notes: What the user should know or change, each with a code of `TopologyNote`.
    """

    topology: Topology
    compilation: CompilationResult
    length_bp: int
    notes: tuple[dict[str, Any], ...]

    @property
    def fits(self) -> bool:
        """Whether the step fits a chip's memory; true where the chip uses the memory of the host."""
        memory = self.topology.chip.memory_bytes
        return memory is None or self.compilation.memory.total <= memory

    @property
    def exchanged_bytes(self) -> int:
        """Bytes of all collectives of one step, as arrays on one chip."""
        return sum(one.num_bytes for one in self.compilation.collectives if one.in_step)

    @property
    def sent_bytes(self) -> float:
        """Bytes that one chip sends in one step when links are used as well as possible."""
        chips = self.compilation.num_chips
        return sum(one.sent_bytes(chips) for one in self.compilation.collectives if one.in_step)

    @property
    def least_seconds(self) -> float | None:
        """The roofline of one step without its exchange: no chip of this kind is faster (Williams 2009)."""
        chip, found = self.topology.chip, self.compilation
        if chip.peak_flops is None or chip.memory_bytes_per_second is None or found.flops is None:
            return None
        moved = 0.0 if found.accessed_bytes is None else found.accessed_bytes / chip.memory_bytes_per_second
        return max(found.flops / chip.peak_flops, moved)


def examine_topology(
    name: str,
    dataset: str | os.PathLike[str] | None = None,
    config: Config | None = None,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> TopologyResult:
    """Compile the real train step for a topology that may be absent, and read what it needs.

    Args:
        name: Such as `v5e:4x4`, `v4:2x2x1`, `h100:8`, `cpu:4`, as `parse_topology` reads it.
        dataset: A dataset folder, for the length and tracks of its examples; None: one track of `data.length_bp`.
        config: The settings; None: the defaults.
        timeout_seconds: Time limit of the compilation, which takes 10 to 25 s of one core.

    Raises:
        InputError: no such topology, its compiler is missing, a bad dataset, or a step that is too large for a chip.
    """
    config = Config() if config is None else config
    topology = parse_topology(name)
    check_compiler(topology)
    shape = _find_shape(dataset, config)
    compilation = compile_for_topology(topology, config, shape, timeout_seconds=timeout_seconds)
    notes = tuple(_note(compilation, shape, dataset is not None))
    return TopologyResult(topology, compilation, shape.length_bp, notes)


def _find_shape(dataset: str | os.PathLike[str] | None, config: Config) -> StepShape:
    """The shapes of a training on the dataset."""
    from ebox.datasets.folder import open_dataset
    from ebox.planning.compilation import StepShape
    from ebox.training.loop import check_trainable
    from ebox.training.sampling import make_order

    train = config.train
    if dataset is None:
        length_bp = DEFAULT_LENGTH_BP if config.data.length_bp is None else config.data.length_bp
        return StepShape(length_bp, 1, train.steps_per_dispatch)
    data = open_dataset(Path(dataset))
    check_trainable(data, config)
    order = make_order(
        data.targets[data.rows("train")],
        seed=train.seed,
        batch_size=train.batch_size,
        negatives_per_positive=train.negatives_per_positive,
    )
    steps = min(train.steps_per_dispatch, order.count_steps(train.epochs, train.max_steps))
    return StepShape(data.length_bp, data.targets.shape[1], steps)


def _note(found: CompilationResult, shape: StepShape, from_data: bool) -> Iterator[dict[str, Any]]:
    places = found.batch_per_chip * found.num_chips
    if places > found.batch_size:
        values = {"batch_size": found.batch_size, "empty": places - found.batch_size, "places": places}
        yield note(TopologyNote.EMPTY_PLACES, values)
    if found.flops_from == "program":
        yield note(TopologyNote.OPERATIONS_OF_PROGRAM)
    if not from_data:
        yield note(TopologyNote.ASSUMED_DATA, {"length_bp": shape.length_bp})
