"""Batches for several steps at a time, prepared on the host while the devices compute."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int64, UInt8

from ebox.datasets.folder import UNKNOWN_TARGET
from ebox.mesh.devices import DATA_AXIS, put
from ebox.sequences.codes import N_CODE
from ebox.training.augmentation import Partners
from ebox.training.sampling import PADDING_ROW, ExampleOrder

Plan = TypeVar("Plan")


class Chunk(eqx.Module):
    """The batches of one dispatch: `codes` 1 byte per base, `targets` 0, 1 or 255 (unknown), `mask` false for padding.

    `known` counts, of each global batch, the known negative targets, and the positive ones of each track; all devices
    hold it whole. `partners` are what examples are mixed with, if the order has any.
    """

    codes: UInt8[Array | np.ndarray, "step batch length"]
    targets: UInt8[Array | np.ndarray, "step batch track"]
    mask: Bool[Array | np.ndarray, "step batch"]
    known: Float[Array | np.ndarray, "step known"]
    partners: Partners | None = None


@dataclass(frozen=True)
class Shares:
    """How a global batch is cut: over the devices, and on each into micro-batches; and which part this process has.

    Args:
        batch_size: Examples of a global batch.
        num_devices: Devices of all processes.
        device_batch_size: Upper limit of the examples that a device takes at once; none: its whole share.
        process: The number of this process.
        num_processes: Number of processes, each with the same number of devices.
    """

    batch_size: int
    num_devices: int
    device_batch_size: int | None = None
    process: int = 0
    num_processes: int = 1

    @staticmethod
    def of(mesh: Mesh, batch_size: int, device_batch_size: int | None = None) -> Shares:
        """The shares on a mesh, for this process."""
        owners = sorted({device.process_index for device in mesh.devices.flat})
        return Shares(batch_size, mesh.size, device_batch_size, owners.index(jax.process_index()), len(owners))

    @property
    def micro_batches(self) -> int:
        """Into how many pieces a device cuts its share; it takes one after another."""
        share = -(-self.batch_size // self.num_devices)
        return 1 if self.device_batch_size is None else -(-share // self.device_batch_size)

    @property
    def padded_batch_size(self) -> int:
        """The batch size rounded up to whole and equal pieces."""
        pieces = self.num_devices * self.micro_batches
        return -(-self.batch_size // pieces) * pieces

    @property
    def piece_size(self) -> int:
        """Examples, padding included, that a device takes at once."""
        return self.padded_batch_size // (self.num_devices * self.micro_batches)

    @property
    def own(self) -> slice:
        """Places of a global batch that this process prepares."""
        size = self.padded_batch_size // self.num_processes
        return slice(self.process * size, (self.process + 1) * size)


@dataclass(frozen=True)
class ChunkPlan:
    """A dispatch: the steps from `first` on, `count` of them; the rest of the chunk is padding that changes nothing."""

    first: int
    count: int


def even_chunk_steps(most: int, num_steps: int, stops: frozenset[int]) -> int:
    """The number of steps of a dispatch, at most `most`, that leaves little padding between two stops.

    For devices that run whole chunks: on them a new chunk begins after every stop (`iter_plans` with `from_stops`).
    """
    ends = sorted({0, num_steps, *(stop for stop in stops if 0 < stop < num_steps)})
    longest = max(end - begin for begin, end in itertools.pairwise(ends))
    return -(-longest // -(-longest // most))


def iter_plans(
    first_step: int, num_steps: int, chunk_steps: int, stops: frozenset[int], *, from_stops: bool = False
) -> Iterator[ChunkPlan]:
    """Cut the steps into dispatches that end at every step of `stops` and at every multiple of `chunk_steps`.

    Args:
        first_step: The first step that is left.
        num_steps: Number of steps of the whole training.
        chunk_steps: Upper limit of the steps of a dispatch.
        stops: Steps after which a dispatch must end.
        from_stops: Count the multiples from the last stop, not from step 0.
    """
    step = first_step
    while step < num_steps:
        base = max((stop for stop in stops if stop <= step), default=0) if from_stops else 0
        end = min(num_steps, base + ((step - base) // chunk_steps + 1) * chunk_steps)
        end = min([end, *(stop for stop in stops if step < stop < end)])
        yield ChunkPlan(step, end - step)
        step = end


def make_chunk(
    codes: UInt8[np.ndarray, "row length"],
    targets: UInt8[np.ndarray, "row track"],
    order: ExampleOrder,
    plan: ChunkPlan,
    chunk_steps: int,
    shares: Shares,
) -> Chunk:
    """Gather this process's share of the rows of a plan into arrays whose shape is always the same.

    Args:
        codes: Base codes of the training rows.
        targets: Their targets.
        order: Which rows make up the batch of a step.
        plan: Which steps.
        chunk_steps: Number of steps in the arrays; those after the plan's are padding.
        shares: How a batch is cut, and which part this process has.
    """
    size = (chunk_steps, shares.padded_batch_size)
    rows, partner_rows = np.full(size, PADDING_ROW, np.int64), np.full(size, PADDING_ROW, np.int64)
    known = np.zeros((chunk_steps, 1 + targets.shape[1]), np.float32)
    for place in range(plan.count):
        rows[place, : order.batch_size] = order.batch_rows(plan.first + place)
        if order.has_partners:
            partner_rows[place, : order.batch_size] = order.partner_rows(plan.first + place)
        batch = targets[rows[place][rows[place] != PADDING_ROW]]
        known[place] = (batch == 0).sum(), *(batch == 1).sum(axis=0)
    own = rows[:, shares.own]
    partners = Partners(*_gather(codes, targets, partner_rows[:, shares.own])) if order.has_partners else None
    return Chunk(*_gather(codes, targets, own), own != PADDING_ROW, known, partners)


def _gather(
    codes: UInt8[np.ndarray, "row length"],
    targets: UInt8[np.ndarray, "row track"],
    rows: Int64[np.ndarray, "step batch"],
) -> tuple[UInt8[np.ndarray, "step batch length"], UInt8[np.ndarray, "step batch track"]]:
    """The examples of some rows; N and unknown targets for padding."""
    mask = rows != PADDING_ROW
    row_codes = np.full((*rows.shape, codes.shape[1]), N_CODE, np.uint8)
    row_codes[mask] = codes[rows[mask]]
    row_targets = np.full((*rows.shape, targets.shape[1]), UNKNOWN_TARGET, np.uint8)
    row_targets[mask] = targets[rows[mask]]
    return row_codes, row_targets


def put_chunk(chunk: Chunk, mesh: Mesh) -> Chunk:
    """Put a process's share of a chunk on its devices."""
    sharded, everywhere = NamedSharding(mesh, PartitionSpec(None, DATA_AXIS)), NamedSharding(mesh, PartitionSpec())
    codes, targets, mask, partners = put((chunk.codes, chunk.targets, chunk.mask, chunk.partners), sharded)
    return Chunk(codes, targets, mask, put(chunk.known, everywhere), partners)


def iter_chunks(
    codes: UInt8[np.ndarray, "row length"],
    targets: UInt8[np.ndarray, "row track"],
    order: ExampleOrder,
    plans: list[ChunkPlan],
    chunk_steps: int,
    mesh: Mesh,
    *,
    device_batch_size: int | None = None,
    ahead: int = 2,
) -> Generator[tuple[ChunkPlan, Chunk], None, None]:
    """Yield each plan with its chunk on the devices, prepared by a thread; an error in the thread is raised here.

    Args:
        codes: Base codes of the training rows.
        targets: Their targets.
        order: Which rows make up the batch of a step.
        plans: The dispatches, in order.
        chunk_steps: Number of steps in the arrays of a chunk.
        mesh: The devices.
        device_batch_size: Upper limit of the examples that a device takes at once; none: its whole share.
        ahead: Number of chunks that may wait to be used.
    """
    shares = Shares.of(mesh, order.batch_size, device_batch_size)

    def make(plan: ChunkPlan) -> Chunk:
        return put_chunk(make_chunk(codes, targets, order, plan, chunk_steps, shares), mesh)

    return iter_ahead(plans, make, ahead=ahead)


def iter_ahead(
    plans: Iterable[Plan], make: Callable[[Plan], Chunk], *, ahead: int = 2
) -> Generator[tuple[Plan, Chunk], None, None]:
    """Yield each plan with its chunk, prepared by a thread; an error in the thread is raised here.

    Args:
        plans: The dispatches, in order.
        make: Gives the chunk of a plan, on the devices.
        ahead: Number of chunks that may wait to be used.
    """
    ready: queue.Queue[tuple[Plan, Chunk] | BaseException | None] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def hand_over(item: tuple[Plan, Chunk] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for plan in plans:
                hand_over((plan, make(plan)))
                if stopped.is_set():
                    return
            hand_over(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            hand_over(error)

    thread = threading.Thread(target=work, name="ebox-batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
