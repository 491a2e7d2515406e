"""Batches for several steps at a time, prepared on the host while the devices compute."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, UInt8

from ebox.parallel.devices import DATA_AXIS
from ebox.sequences.codes import N_CODE
from ebox.training.sampling import PADDING_ROW, UNKNOWN_TARGET, ExampleOrder


class Chunk(eqx.Module):
    """The batches of one dispatch: `codes` 1 byte a base, `targets` 0, 1 or 255 (unknown), `mask` false for padding."""

    codes: UInt8[Array | np.ndarray, "step batch length"]
    targets: UInt8[Array | np.ndarray, "step batch track"]
    mask: Bool[Array | np.ndarray, "step batch"]


@dataclass(frozen=True)
class ChunkPlan:
    """A dispatch: the steps from `first` on, `count` of them; the rest of the chunk is padding that is not run."""

    first: int
    count: int


def iter_plans(first_step: int, num_steps: int, chunk_steps: int, stops: frozenset[int]) -> Iterator[ChunkPlan]:
    """Cut the steps into dispatches that end at every multiple of `chunk_steps` and at every step of `stops`."""
    step = first_step
    while step < num_steps:
        end = min(num_steps, (step // chunk_steps + 1) * chunk_steps)
        end = min([end, *(stop for stop in stops if step < stop < end)])
        yield ChunkPlan(step, end - step)
        step = end


def padded_batch_size(batch_size: int, num_devices: int) -> int:
    """The batch size rounded up to a whole share for every device."""
    return -(-batch_size // num_devices) * num_devices


def make_chunk(
    codes: UInt8[np.ndarray, "row length"],
    targets: UInt8[np.ndarray, "row track"],
    order: ExampleOrder,
    plan: ChunkPlan,
    chunk_steps: int,
    num_devices: int,
) -> Chunk:
    """Gather the rows of a plan into arrays of always the same shape."""
    batch = padded_batch_size(order.batch_size, num_devices)
    rows = np.full((chunk_steps, batch), PADDING_ROW, np.int64)
    for place in range(plan.count):
        rows[place, : order.batch_size] = order.batch_rows(plan.first + place)
    mask = rows != PADDING_ROW
    chunk_codes = np.full((chunk_steps, batch, codes.shape[1]), N_CODE, np.uint8)
    chunk_codes[mask] = codes[rows[mask]]
    chunk_targets = np.full((chunk_steps, batch, targets.shape[1]), UNKNOWN_TARGET, np.uint8)
    chunk_targets[mask] = targets[rows[mask]]
    return Chunk(chunk_codes, chunk_targets, mask)


def iter_chunks(
    codes: UInt8[np.ndarray, "row length"],
    targets: UInt8[np.ndarray, "row track"],
    order: ExampleOrder,
    plans: list[ChunkPlan],
    chunk_steps: int,
    mesh: Mesh,
    *,
    ahead: int = 2,
) -> Generator[tuple[ChunkPlan, Chunk], None, None]:
    """Yield each plan with its chunk on the devices, made `ahead` of time by a thread.

    An error in the thread is raised here, at the chunk that it struck.
    """
    sharding = NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))
    ready: queue.Queue[tuple[ChunkPlan, Chunk] | BaseException | None] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(item: tuple[ChunkPlan, Chunk] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for plan in plans:
                chunk = make_chunk(codes, targets, order, plan, chunk_steps, mesh.size)
                put((plan, jax.device_put(chunk, sharding)))
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            put(error)

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
