"""Contributions of every base of many sequences: computed batch after batch, streamed to disk, resumable.

The store is a folder of memory-mapped arrays and a note of how many rows are done; a later call with the same network,
sequences and settings continues there. The result of a row depends only on the row and the seed.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, UInt8

from ebox.evaluation.inference import Job, Reader, iter_batches
from ebox.explanation.gradient_methods import DeepLiftJob, GradientJob, IntegratedJob
from ebox.explanation.saturation import SaturationJob
from ebox.models.ensemble import AnyNetwork, Ensemble
from ebox.models.passes import ConvolutionMethod
from ebox.progress import Progress, quiet
from ebox.sequences.codes import N_CODE, NUM_BASES
from ebox.sequences.shuffle import shuffle_dinucleotides
from ebox.settings.reading import ExplanationConfig
from ebox.storage.publishing import read_json, write_json

METHODS = ("saturation", "deeplift", "integrated", "gradient")
WARN_COMPLETENESS = 0.05
# References are drawn for blocks of this number of rows; they depend only on the block and the seed.
_REFERENCE_ROWS = 64
_FLUSH_SECONDS = 10.0
# With more bases in the references of a sequence (here 10 of 200 bp) the batch gets smaller than in the settings.
_USUAL_BASES = 2000
_BLOCK_ROWS = 1024
_NOTE = "state.json"


@dataclass(frozen=True)
class Attributions:
    """Contributions of sequences to one logit, in memory or memory-mapped.

    `hypothetical` is what each base would contribute at each place; `contributions` is the value of the base that is
    there. `logit` is explained, `reference` is what it is compared with. All are means over the members of an ensemble;
    `spread` is then the standard deviation of a contribution over the members.
    """

    method: str
    codes: UInt8[np.ndarray, "example length"]
    hypothetical: Float32[np.ndarray, "example length 4"]
    logit: Float32[np.ndarray, " example"]
    reference: Float32[np.ndarray, " example"]
    spread: Float32[np.ndarray, "example length"] | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def contributions(self, rows: slice = slice(None)) -> Float32[np.ndarray, "some length"]:
        """The contributions of some rows (a copy)."""
        return take_contributions(self.hypothetical[rows], self.codes[rows])

    def completeness_error(self) -> float:
        """Sum over all rows of |sum of contributions - difference of outputs|, as a share of the differences."""
        missed, explained = 0.0, 0.0
        for first in range(0, len(self), _BLOCK_ROWS):
            rows = slice(first, first + _BLOCK_ROWS)
            difference = (self.logit[rows] - self.reference[rows]).astype(np.float64)
            missed += float(np.abs(self.contributions(rows).sum(axis=1) - difference).sum())
            explained += float(np.abs(difference).sum())
        return missed / max(explained, 1e-12)


def take_contributions(
    hypothetical: Float[np.ndarray, "example length 4"], codes: UInt8[np.ndarray, "example length"]
) -> Float[np.ndarray, "example length"]:
    """The entry of the base at each place; 0 at an N."""
    places = np.minimum(codes, NUM_BASES - 1)[..., None].astype(np.int64)
    taken = np.take_along_axis(np.asarray(hypothetical), places, axis=2)[..., 0]
    return np.where(np.asarray(codes) < N_CODE, taken, np.float32(0.0))


def attribute(
    network: AnyNetwork,
    codes: UInt8[np.ndarray, "example length"],
    config: ExplanationConfig,
    track: int,
    *,
    method: str | None = None,
    store: Path | None = None,
    mesh: Mesh | None = None,
    progress: Progress = quiet,
) -> Attributions:
    """Compute the contributions of sequences to the logit of a track.

    Args:
        network: A trained network, or an ensemble.
        codes: Base codes, in memory or memory-mapped.
        config: Method, references, strands, seed and batch size.
        track: The column of the logits.
        method: None: that of the settings.
        store: A folder to stream to and to resume from; none: memory.
        mesh: The devices; none: all local ones.
        progress: Called with a phrase, the number done, and the number in all.
    """
    method = config.method if method is None else method
    identity = {} if store is None else _identify(network, codes, config, track, method)
    is_ensemble = isinstance(network, Ensemble)
    arrays, done = _open_arrays(store, codes.shape, identity, has_spread=is_ensemble)
    arrays["codes"][done:] = codes[done:]
    read, flushed = make_reader(codes, config, method, first=done), time.monotonic()
    job = make_job(method, config, track)
    job = MembersJob(job) if is_ensemble else job

    def tell(phrase: str, number: int, total: int) -> None:
        progress(phrase, done + number, len(codes))

    batches = iter_batches(
        network,
        job,
        read,
        len(codes) - done,
        batch_size=fit_batch(config, method, codes.shape[1]),
        mesh=mesh,
        progress=tell,
        phrase=f"attributing ({method})",
    )
    for rows, result in batches:
        place = slice(done + rows.start, done + rows.stop)
        for name, values in _finish(result, codes[place]).items():
            arrays[name][place] = values
        if store is not None and time.monotonic() - flushed > _FLUSH_SECONDS:
            _note(store, arrays, identity, place.stop)
            flushed = time.monotonic()
    if store is not None:
        _note(store, arrays, identity, len(codes))
    return Attributions(method, **arrays)


def fit_batch(config: ExplanationConfig, method: str, length_bp: int) -> int:
    """The batch size of the settings, or less where long sequences or many references need more memory."""
    if method not in ("deeplift", "integrated"):
        return config.batch_size
    return max(1, min(config.batch_size, config.batch_size * _USUAL_BASES // (config.num_references * length_bp)))


def make_job(method: str, config: ExplanationConfig, track: int) -> Job:
    """The job of a method."""
    if method == "saturation":
        return SaturationJob(track, config.both_strands)
    if method == "gradient":
        return GradientJob(track, config.both_strands)
    if method == "integrated":
        return IntegratedJob(track, config.both_strands, config.num_steps)
    return DeepLiftJob(track, config.both_strands)


@dataclass(frozen=True)
class MembersJob:
    """The mean of a job's results over the members of an ensemble, and the spread of its contributions.

    Contributions explain a logit, and the ensemble's logit is the mean of its members', so they are averaged too.
    """

    job: Job

    def __call__(self, network: Ensemble, method: ConvolutionMethod, *blocks: Array) -> Any:
        """What the job gives, and `spread` (batch, length); the codes are the first block."""
        results = network.over_members(lambda member: self.job(member, method, *blocks))
        codes, values = blocks[0], results.get("hypothetical")
        if values is None:
            values = results["mutated"] - results["mutated"].mean(axis=-1, keepdims=True)
        places = jnp.minimum(codes, NUM_BASES - 1).astype(jnp.int32)[None, ..., None]
        spread = jnp.take_along_axis(values, places, axis=-1)[..., 0].std(axis=0, ddof=1)
        mean = {name: value.mean(axis=0) for name, value in results.items()}
        return {**mean, "spread": jnp.where(codes < NUM_BASES, spread, 0.0)}


def make_reader(codes: np.ndarray, config: ExplanationConfig, method: str, *, first: int = 0) -> Reader:
    """Make the reader of the blocks of a method's job.

    Args:
        codes: Base codes, in memory or memory-mapped.
        config: Number of references, and the seed.
        method: One of METHODS; "deeplift" and "integrated" get references.
        first: The row of the codes that is row 0 of the job.
    """
    if method in ("saturation", "gradient"):
        return lambda rows: (np.asarray(codes[first + rows.start : first + rows.stop]),)
    references = _References(codes, config.num_references, config.seed)

    def read(rows: slice) -> tuple[np.ndarray, ...]:
        start, stop = first + rows.start, first + rows.stop
        return np.asarray(codes[start:stop]), references.of(start, stop)

    return read


class _References:
    """Dinucleotide shuffles of each row, drawn in blocks; an N in a sequence is an N in its references."""

    def __init__(self, codes: np.ndarray, number: int, seed: int) -> None:
        self._codes, self._number, self._seed = codes, number, seed
        self._last: tuple[int, np.ndarray] | None = None

    def of(self, start: int, stop: int) -> UInt8[np.ndarray, "row reference length"]:
        """The references of some rows."""
        blocks = range(start // _REFERENCE_ROWS, (stop - 1) // _REFERENCE_ROWS + 1)
        drawn = np.concatenate([self._draw(block) for block in blocks])
        offset = blocks.start * _REFERENCE_ROWS
        return drawn[start - offset : stop - offset]

    def _draw(self, block: int) -> np.ndarray:
        if self._last is not None and self._last[0] == block:
            return self._last[1]
        rows = np.asarray(self._codes[block * _REFERENCE_ROWS : (block + 1) * _REFERENCE_ROWS])
        copies = np.repeat(rows, self._number, axis=0)
        seed = np.random.SeedSequence([self._seed, block, 0xDEE]).generate_state(1)[0]
        shuffled = shuffle_dinucleotides(copies, int(seed))
        shuffled[copies == N_CODE] = N_CODE
        drawn = shuffled.reshape(len(rows), self._number, -1)
        self._last = (block, drawn)
        return drawn


def _finish(result: dict[str, np.ndarray], codes: np.ndarray) -> dict[str, np.ndarray]:
    """What is kept of a batch; logits of changes become contributions relative to the mean of the four bases."""
    if "mutated" not in result:
        return result
    mutated = result["mutated"]
    hypothetical = mutated - mutated.mean(axis=2, keepdims=True)
    hypothetical[np.asarray(codes) == N_CODE] = 0.0
    # The mean of the four estimates the logit of the sequence without this base.
    kept: dict[str, np.ndarray] = {name: result[name] for name in ("logit", "spread") if name in result}
    return {**kept, "reference": result["uniform"], "hypothetical": hypothetical}


def _open_arrays(
    store: Path | None, shape: tuple[int, ...], identity: dict[str, Any], *, has_spread: bool
) -> tuple[dict[str, np.ndarray], int]:
    """The arrays to fill, and how many rows are done already."""
    kinds: dict[str, tuple[tuple[int, ...], Any]] = {
        "codes": (tuple(shape), np.uint8),
        "hypothetical": ((*shape, NUM_BASES), np.float32),
        "logit": (tuple(shape[:1]), np.float32),
        "reference": (tuple(shape[:1]), np.float32),
    }
    kinds |= {"spread": (tuple(shape), np.float32)} if has_spread else {}
    if store is None:
        return {name: np.zeros(size, dtype) for name, (size, dtype) in kinds.items()}, 0
    note = store / _NOTE
    if note.exists():
        state = read_json(note)
        if state.get("identity") == identity:
            return {name: np.load(store / f"{name}.npy", mmap_mode="r+") for name in kinds}, int(state["done"])
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir(parents=True)
    make = np.lib.format.open_memmap
    arrays: dict[str, np.ndarray] = {
        name: make(store / f"{name}.npy", mode="w+", dtype=dtype, shape=size) for name, (size, dtype) in kinds.items()
    }
    return arrays, 0


def _note(store: Path, arrays: dict[str, np.ndarray], identity: dict[str, Any], done: int) -> None:
    """Write the arrays to disk, and note that the rows before `done` are there."""
    for array in arrays.values():
        assert isinstance(array, np.memmap)
        array.flush()
    write_json(store / _NOTE, {"identity": identity, "done": done})


def _identify(
    network: AnyNetwork, codes: np.ndarray, config: ExplanationConfig, track: int, method: str
) -> dict[str, Any]:
    """What must be equal for a store to be resumed."""
    weights = hashlib.sha256()
    for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)):
        weights.update(np.ascontiguousarray(leaf).tobytes())
    sequences = hashlib.sha256(repr(codes.shape).encode())
    for first in range(0, len(codes), _BLOCK_ROWS):
        sequences.update(np.ascontiguousarray(codes[first : first + _BLOCK_ROWS]).tobytes())
    settings = {name: getattr(config, name) for name in ("seed", "both_strands", "num_references", "num_steps")}
    return {
        "network": weights.hexdigest(),
        "sequences": sequences.hexdigest(),
        "track": track,
        "method": method,
        **settings,
    }
