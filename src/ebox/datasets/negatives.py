"""Negatives made for the positives: dinucleotide shuffles, or windows of the genome with the same GC and repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from ebox.datasets.cleaning import measure_gc, measure_n
from ebox.datasets.examples import Examples, make_examples
from ebox.datasets.splits import factorize
from ebox.progress import Progress, quiet
from ebox.settings.reading import DataConfig

if TYPE_CHECKING:
    from ebox.datasets.repeats import RepeatRanges, Repeats
    from ebox.sequences.genome import Genome
    from ebox.sequences.intervals import Intervals

_SHUFFLES_AT_ONCE = 100_000
_MAX_CANDIDATES = 100_000
_CANDIDATES_PER_SLOT = 6
_MAX_IDLE_ROUNDS = 40
_MAX_ROUNDS = 400


@dataclass(frozen=True)
class Ranges:
    """Half-open ranges on one chromosome."""

    start: Int64[np.ndarray, " range"]
    end: Int64[np.ndarray, " range"]


@dataclass(frozen=True)
class Traits:
    """What a negative has in common with the positive it is modelled on: GC, and the share of repeats if matched."""

    gc: Float32[np.ndarray, " window"]
    masked: Float32[np.ndarray, " window"] | None = None

    def take(self, rows: Int64[np.ndarray, " row"]) -> Traits:
        """Those of some windows."""
        return Traits(self.gc[rows], None if self.masked is None else self.masked[rows])

    def bin(self, length: int, apart: int, config: DataConfig) -> Int64[np.ndarray, " window"]:
        """The number of G and C of each window, and `apart` more for each bin of the share of repeats."""
        gc = np.rint(self.gc.astype(np.float64) * length).astype(np.int64)
        if self.masked is None:
            return gc
        width = max(config.repeat_tolerance, 1.0 / length)
        return gc + apart * np.rint(self.masked.astype(np.float64) / width).astype(np.int64)


def choose_models(num_positives: int, ratio: float, seed: int) -> Int64[np.ndarray, " negative"]:
    """The positive that each negative is modelled on; `ratio` is the number of negatives for each positive."""
    random = np.random.default_rng([seed, 0x30DE1])
    wanted = max(1, round(num_positives * ratio))
    whole, rest = divmod(wanted, num_positives)
    some = random.choice(num_positives, rest, replace=False)
    return np.sort(np.concatenate([np.repeat(np.arange(num_positives), whole), some])).astype(np.int64)


def shuffle_positives(positives: Examples, config: DataConfig, kind: int, progress: Progress = quiet) -> Examples:
    """Make dinucleotide shuffles of the positives.

    Args:
        positives: What is shuffled; `parent` of the result is the row here.
        config: Ratio and seed.
        kind: Kind of the examples made.
        progress: Called with the stage, the number done and the number in all.
    """
    from ebox.sequences.shuffle import shuffle_dinucleotides

    parent = choose_models(len(positives), config.negative_ratio, config.seed)
    codes = np.empty((len(parent), positives.codes.shape[1]), dtype=np.uint8)
    for number, start in enumerate(range(0, len(parent), _SHUFFLES_AT_ONCE)):
        progress("shuffling positives", start, len(parent))
        block = slice(start, start + _SHUFFLES_AT_ONCE)
        seed = int(np.random.SeedSequence([config.seed, 0x5F1E, number]).generate_state(1)[0])
        codes[block] = shuffle_dinucleotides(positives.codes[parent[block]], seed)
    progress("shuffling positives", len(parent), len(parent))
    made = make_examples(
        codes,
        [f"{positives.names[row]} shuffled" for row in parent.tolist()],
        target=0,
        kind=kind,
        source=0,
        parent=parent,
    )
    made.source[:] = positives.source[parent]
    return made


def match_positives(
    positives: Examples,
    genome: Genome,
    avoid: Sequence[Intervals],
    blacklist: Intervals | None,
    config: DataConfig,
    kind: int,
    source: int,
    progress: Progress = quiet,
    repeats: Repeats | None = None,
) -> Examples:
    """Take windows of the genome with the GC of the positives, on the same chromosomes, away from every peak.

    Args:
        positives: With their places; each negative takes the GC and the chromosome of one of them.
        genome: The windows are taken from it.
        avoid: Peaks and positives; windows are at least `config.min_peak_distance_bp` away from them.
        blacklist: Regions that no window overlaps.
        config: Ratio, tolerance, distance, N and seed.
        kind: Kind of the examples made.
        source: Index of the genome among the sources.
        progress: Called with the stage, the number done and the number in all.
        repeats: Those of the genome, where windows take the share of repeats of the positives, too.

    Returns:
        The windows, which don't overlap; fewer than the ratio asks for if a chromosome has too few that fit.
    """
    models = choose_models(len(positives), config.negative_ratio, config.seed)
    names, chrom = factorize(positives.chrom[models])
    gc = measure_gc(positives.codes)[models]
    found: list[tuple[str, np.ndarray, np.ndarray]] = []
    done = 0
    for number, name in enumerate(names):
        progress("matching negatives", done, len(models))
        here = chrom == number
        wanted = Traits(gc[here])
        done += len(wanted.gc)
        if name not in genome.chroms:
            continue
        length = positives.codes.shape[1]
        room = _allowed_starts(name, genome.chroms[name], length, avoid, blacklist, config)
        # The seed depends only on the name of the chromosome, so that other chromosomes don't change its windows.
        random = np.random.default_rng([config.seed, 0x3A7C4, *name.encode()])
        codes = genome.fetch(name, 0, genome.chroms[name])
        ranges = None if repeats is None else repeats.find(name)
        if ranges is not None:
            wanted = Traits(wanted.gc, ranges.measure(positives.start[models[here]], length))
        start, windows, alone = _sample_chrom(codes, wanted, room, length, config, random, ranges)
        if repeats is not None:
            repeats.by_gc_alone.append(alone)
        found.append((name, start, windows))
    progress("matching negatives", len(models), len(models))
    return _collect(found, positives.codes.shape[1], kind, source)


def _collect(found: Sequence[tuple[str, np.ndarray, np.ndarray]], length: int, kind: int, source: int) -> Examples:
    empty = np.empty((0, length), dtype=np.uint8)
    codes = np.concatenate([empty, *(windows for _, _, windows in found)])
    start = np.concatenate([np.empty(0, dtype=np.int64), *(start for _, start, _ in found)])
    chrom = np.array([name for name, start, _ in found for _ in range(len(start))], dtype=object)
    names = [f"{name}:{place}-{place + length}" for name, place in zip(chrom, start.tolist(), strict=True)]
    return make_examples(codes, names, target=0, kind=kind, source=source, chrom=chrom, start=start, end=start + length)


def _allowed_starts(
    name: str, size: int, length: int, avoid: Sequence[Intervals], blacklist: Intervals | None, config: DataConfig
) -> Ranges:
    """Where a window of `length` may start: inside the chromosome, away from peaks, off the blacklist."""
    starts, ends = [], []
    regions = [(intervals, config.min_peak_distance_bp) for intervals in avoid]
    if blacklist is not None:
        regions.append((blacklist, 0))
    for intervals, distance in regions:
        here = intervals.chrom == name
        # From such a start the window would be nearer than `distance`.
        starts.append(intervals.start[here] - distance - length + 1)
        ends.append(intervals.end[here] + distance)
    start, end = np.concatenate(starts), np.concatenate(ends)
    order = np.argsort(start, kind="stable")
    reached = np.maximum.accumulate(np.concatenate([[0], end[order]]))
    until = np.minimum(np.concatenate([start[order], [size - length + 1]]), size - length + 1)
    free = np.flatnonzero(until > reached)
    return Ranges(reached[free].astype(np.int64), until[free].astype(np.int64))


def _sample_chrom(
    codes: UInt8[np.ndarray, " position"],
    wanted: Traits,
    room: Ranges,
    length: int,
    config: DataConfig,
    random: np.random.Generator,
    repeats: RepeatRanges | None,
) -> tuple[Int64[np.ndarray, " negative"], UInt8[np.ndarray, "negative length"], Float32[np.ndarray, " candidate"]]:
    """Draw windows until each slot has one with its traits, or no more are found.

    The last of what is given back is the share of repeats of windows that the first draw pairs by GC alone.
    """
    cumulative = np.cumsum(room.end - room.start)
    taken = np.empty(0, dtype=np.int64)
    is_open, alone = np.ones(len(wanted.gc), dtype=bool), None
    idle = 0
    for _ in range(_MAX_ROUNDS if len(cumulative) else 0):
        slots = np.flatnonzero(is_open)
        if not len(slots) or idle >= _MAX_IDLE_ROUNDS:
            break
        num = min(_MAX_CANDIDATES, max(2000, _CANDIDATES_PER_SLOT * len(slots)))
        start = _draw_starts(room, cumulative, num, random)
        start = start[_is_clear(start, taken, length)]
        windows = codes[start[:, None] + np.arange(length)]
        good = measure_n(windows) <= min(config.max_n_fraction, 0.999)
        start, gc = start[good], measure_gc(windows[good])
        found = Traits(gc, None if repeats is None else repeats.measure(start, length))
        if found.masked is not None and alone is None:
            by_gc = _pair(Traits(wanted.gc), Traits(gc), config, length, np.random.default_rng(config.seed))[1]
            alone = found.masked[by_gc]
        slot, candidate = _pair(wanted.take(slots), found, config, length, random)
        # Of two chosen windows that overlap, the second is not taken.
        order = np.argsort(start[candidate], kind="stable")
        slot, chosen = slot[order], start[candidate[order]]
        apart = np.ones(len(chosen), dtype=bool)
        apart[1:] = np.diff(chosen) >= length
        is_open[slots[slot[apart]]] = False
        taken = np.sort(np.concatenate([taken, chosen[apart]]))
        idle = 0 if apart.any() else idle + 1
    alone = np.empty(0, dtype=np.float32) if alone is None else alone
    return taken, codes[taken[:, None] + np.arange(length)], alone


def _draw_starts(
    room: Ranges, cumulative: np.ndarray, num: int, random: np.random.Generator
) -> Int64[np.ndarray, " candidate"]:
    """Starts drawn evenly from the allowed ranges, each at most once."""
    drawn = np.unique(random.integers(0, cumulative[-1], num))
    which = np.searchsorted(cumulative, drawn, side="right")
    starts: np.ndarray = room.start[which] + drawn - (cumulative - (room.end - room.start))[which]
    return random.permutation(starts)


def _is_clear(start: np.ndarray, taken: np.ndarray, length: int) -> np.ndarray:
    """Whether windows overlap none of those already taken (sorted starts, same length)."""
    if not len(taken):
        return np.ones(len(start), dtype=bool)
    after = np.searchsorted(taken, start)
    left = taken[np.maximum(after - 1, 0)]
    right = taken[np.minimum(after, len(taken) - 1)]
    return np.asarray((np.abs(start - left) >= length) & (np.abs(start - right) >= length))


def _pair(
    wanted: Traits,
    found: Traits,
    config: DataConfig,
    length: int,
    random: np.random.Generator,
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
    """Pair slots with candidates of the nearest GC, within the tolerance; nearest first, so without bias.

    Where repeats are matched, both are in one bin of their share, which is as wide as its tolerance.
    """
    steps = int(np.floor(config.gc_tolerance * length + 1e-6))
    slot_bin, found_bin = (traits.bin(length, length + 2 * steps + 1, config) for traits in (wanted, found))
    slots, candidates = np.arange(len(slot_bin)), np.arange(len(found_bin))
    pairs_slot, pairs_candidate = [], []
    offsets = [0]
    for step in range(1, steps + 1):
        offsets += [step, -step] if random.random() < 0.5 else [-step, step]
    for offset in offsets:
        left = _rank_in_bins(slot_bin[slots])
        right = _rank_in_bins(found_bin[candidates] - offset)
        _, at_slot, at_candidate = np.intersect1d(left, right, assume_unique=True, return_indices=True)
        pairs_slot.append(slots[at_slot])
        pairs_candidate.append(candidates[at_candidate])
        slots, candidates = np.delete(slots, at_slot), np.delete(candidates, at_candidate)
    slot, candidate = np.concatenate(pairs_slot), np.concatenate(pairs_candidate)
    # Where a window has N its bin is rounded, so the tolerance is checked on the shares themselves.
    near = np.abs(wanted.gc[slot].astype(np.float64) - found.gc[candidate]) <= config.gc_tolerance + 1e-6
    return slot[near], candidate[near]


def _rank_in_bins(bins: Int64[np.ndarray, " value"]) -> Int64[np.ndarray, " value"]:
    """A unique number for each pair of a bin and the count of earlier values in that bin."""
    order = np.argsort(bins, kind="stable")
    ordered = bins[order]
    begin = np.searchsorted(ordered, ordered)
    rank = np.empty(len(bins), dtype=np.int64)
    rank[order] = np.arange(len(bins)) - begin
    return bins * (1 << 32) + rank
