"""Batched inference: the one way of batching, and `predict`, which evaluation, scanning and explanation call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8

from ebox.mesh.devices import DATA_AXIS, choose_convolution, find_local_devices, make_mesh, replicate
from ebox.models.encoding import one_hot, reverse_complement
from ebox.models.ensemble import AnyNetwork, Ensemble
from ebox.models.passes import ConvolutionMethod, Pass
from ebox.progress import Progress, quiet
from ebox.sequences.codes import N_CODE
from ebox.settings.reading import ParallelConfig
from ebox.workers.machine import count_cores

MAX_THREADS = 4


@runtime_checkable
class Job(Protocol):
    """A computation on a batch. It is hashable, so that equal jobs are compiled once."""

    def __call__(self, network: Any, method: ConvolutionMethod, *blocks: Array) -> Any:
        """Give arrays with the examples as first axis; runs under `shard_map` on the share of a device."""

    def __hash__(self) -> int:
        """Equal jobs have equal hashes."""


Reader = Callable[[slice], tuple[UInt8[np.ndarray, "some ..."], ...]]


def predict(
    network: AnyNetwork,
    codes: UInt8[np.ndarray, "example length"],
    *,
    both_strands: bool = True,
    batch_size: int = 512,
    mesh: Mesh | None = None,
    progress: Progress = quiet,
) -> Float[np.ndarray, "example track"]:
    """Give the logits of sequences, in float32, data-parallel over the devices of a mesh.

    Args:
        network: A trained network, or an ensemble, whose members' logits are averaged.
        codes: Base codes (A, C, G, T = 0 to 3, N = 4), in memory or memory-mapped.
        both_strands: Average the logits of the sequence and of its reverse complement.
        batch_size: Sequences in a call over all devices; rounded up to the same share for each.
        mesh: The devices; none: all local ones.
        progress: Called with a phrase, the number done, and the number in all.
    """
    return _score(network, ScoreJob(both_strands), codes, batch_size, mesh, progress)


def predict_members(
    network: Ensemble,
    codes: UInt8[np.ndarray, "example length"],
    *,
    both_strands: bool = True,
    batch_size: int = 512,
    mesh: Mesh | None = None,
    progress: Progress = quiet,
) -> Float[np.ndarray, "member example track"]:
    """Give the logits of every member of an ensemble; their mean is what `predict` gives.

    Args:
        network: The ensemble.
        codes: As for `predict`.
        both_strands: As for `predict`.
        batch_size: As for `predict`.
        mesh: As for `predict`.
        progress: As for `predict`.
    """
    return _score(network, MembersJob(both_strands), codes, batch_size, mesh, progress).swapaxes(0, 1)


def _score(
    network: AnyNetwork, job: Job, codes: np.ndarray, batch_size: int, mesh: Mesh | None, progress: Progress
) -> np.ndarray:
    """What a job that reads codes gives for each of them, in float32."""
    empty = codes[:0] if len(codes) else np.full((1, codes.shape[1]), N_CODE, np.uint8)
    read = (lambda rows: (codes[rows],)) if len(codes) else (lambda rows: (empty,))
    batches = iter_batches(
        network,
        job,
        read,
        max(len(codes), 1),
        batch_size=batch_size,
        mesh=mesh,
        progress=progress if len(codes) else quiet,
    )
    return np.concatenate([np.asarray(logits, np.float32) for _, logits in batches])[: len(codes)]


def iter_batches(
    network: AnyNetwork,
    job: Job,
    read: Reader,
    num_examples: int,
    *,
    batch_size: int = 512,
    mesh: Mesh | None = None,
    progress: Progress = quiet,
    phrase: str = "predicting",
) -> Iterator[tuple[slice, Any]]:
    """Run a job over examples, batch after batch, data-parallel over the devices of a mesh.

    Args:
        network: A trained network.
        job: What to compute for a batch.
        read: Gives the blocks of codes of some rows; each is padded with N to a whole batch.
        num_examples: How many rows there are.
        batch_size: Examples in a call over all devices; rounded up to the same share for each.
        mesh: The devices; none: all local ones.
        progress: Called with the phrase, the number done, and the number in all.
        phrase: For `progress`.

    Yields:
        The rows, and the job's result on them as NumPy arrays, in order. Memory holds a batch for each thread, and one
        more.
    """
    mesh = make_mesh(find_local_devices(ParallelConfig())) if mesh is None else mesh
    batch = -(-min(batch_size, max(num_examples, 1)) // mesh.size) * mesh.size
    arrays, static = eqx.partition(network, eqx.is_array)
    arrays = replicate(arrays, mesh)
    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    static = _Hashable(static)

    def work(blocks: tuple[np.ndarray, ...], count: int) -> Any:
        on_devices = tuple(jax.device_put(_pad(block, batch), sharding) for block in blocks)
        result = _compile(static, job, mesh, len(blocks))(arrays, *on_devices)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], result)

    threads = _count_threads(mesh)
    waiting: deque[tuple[slice, Future[Any]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ebox-batch") as pool:
        try:
            for first in range(0, num_examples, batch):
                rows = slice(first, min(first + batch, num_examples))
                waiting.append((rows, pool.submit(work, read(rows), rows.stop - rows.start)))
                # One batch more than threads, so that no thread waits for reading.
                if len(waiting) > threads:
                    yield _take(waiting, progress, phrase, num_examples)
            while waiting:
                yield _take(waiting, progress, phrase, num_examples)
        finally:
            for _, future in waiting:
                future.cancel()


def _take(
    waiting: deque[tuple[slice, Future[Any]]], progress: Progress, phrase: str, num_examples: int
) -> tuple[slice, Any]:
    """The rows and the result of the next batch."""
    rows, future = waiting.popleft()
    result = future.result()
    progress(phrase, rows.stop, num_examples)
    return rows, result


def _count_threads(mesh: Mesh) -> int:
    """How many batches are computed at the same time.

    On CPU one for each core, up to MAX_THREADS: within a batch only the matrix products and the loops that XLA divides
    use several cores, which left a third of two cores idle. On accelerators two: one computes while the other is
    fetched.
    """
    if mesh.devices.flat[0].platform != "cpu":
        return 2
    return max(1, min(MAX_THREADS, count_cores() // mesh.size))


@dataclass(frozen=True)
class ScoreJob:
    """The logits of every track, of one strand or averaged over both.

    In float32, also on accelerators, so that a score does not depend on the device.
    """

    both_strands: bool

    def __call__(self, network: AnyNetwork, method: ConvolutionMethod, *blocks: Array) -> Any:
        """One block of codes in, (batch, track) out."""
        (codes,) = blocks
        logits = self._score(network, method, codes)
        return 0.5 * (logits + self._score(network, method, reverse_complement(codes))) if self.both_strands else logits

    def _score(self, network: AnyNetwork, method: ConvolutionMethod, codes: Array) -> Array:
        return network(one_hot(codes), Pass(method=method))[0]


@dataclass(frozen=True)
class MembersJob:
    """The logits of every member of an ensemble, as `ScoreJob` gives those of one network."""

    both_strands: bool

    def __call__(self, network: Ensemble, method: ConvolutionMethod, *blocks: Array) -> Any:
        """One block of codes in, (batch, member, track) out."""
        of_members = network.over_members(lambda member: ScoreJob(self.both_strands)(member, method, *blocks))
        return of_members.swapaxes(0, 1)


def _pad(block: np.ndarray, batch: int) -> np.ndarray:
    padded = np.full((batch, *block.shape[1:]), N_CODE, np.uint8)
    padded[: len(block)] = block
    return padded


class _Hashable:
    """The static part of a pytree as a cache key: equal when the trees are equal."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        leaves, structure = jax.tree.flatten(tree)
        self._key = (structure, tuple(leaves))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and self._key == other._key


@lru_cache(maxsize=16)
def _compile(static: _Hashable, job: Job, mesh: Mesh, num_blocks: int) -> _Compiled:
    """A job over one batch."""
    method = choose_convolution(mesh.devices.flat[0].platform)

    def run(arrays: Any, *blocks: Array) -> Any:
        with jax.default_matmul_precision("highest"):
            return job(eqx.combine(arrays, static.tree), method, *blocks)

    sharded = PartitionSpec(DATA_AXIS)
    specs = (PartitionSpec(), *(sharded for _ in range(num_blocks)))
    return _Compiled(jax.jit(jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=sharded, check_vma=False)))


@final
class _Compiled:
    """A function that is compiled once for each shape, by the first thread that calls it."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._known: dict[tuple[tuple[Any, ...], ...], Any] = {}

    def __call__(self, arrays: Any, *blocks: Array) -> Any:
        # With the shapes of the weights, since networks of one kind differ in their widths.
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves((arrays, blocks)))
        with self._lock:
            if shapes not in self._known:
                self._known[shapes] = self._function.lower(arrays, *blocks).compile()
        return self._known[shapes](arrays, *blocks)
