"""What a bench measures in which order, and how long it is expected to take; no JAX."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np

from ebox.planning.prediction import Way
from ebox.progress import Progress
from ebox.settings.reading import Config

# Batches as factors of that of the settings, which is measured first.
FACTORS = (1.0, 0.25, 4.0, 16.0)
# What is measured beside the exact exchange, unless the settings name another one.
COMPRESSED = "int8"
MOST_WORKERS = 8
# Of the train split, for the learning curve; the whole is in `learning`.
SHARES = (0.125, 0.25, 0.5)
# All default parts on two cores, of which some are kept back; and the trainings in them.
BUDGET_SECONDS, KEPT_BACK_SECONDS, FEWEST_SEEDS, MOST_SEEDS = 300.0, 10.0, 2, 3
# Where no two whole trainings fit: two of different lengths, as shares of the steps, the longest that do.
SHORTER = ((0.5, 0.25), (0.25, 0.125), (0.125, 0.0625))
# Of a shorter training: its later ones tell how it learns, and on a processor they take as long as its steps.
SHORT_VALIDATIONS = 3
# The schedule of the rates does not end while steps are measured.
ANY_STEPS = 1_000_000
# What the parts take on two quiet cores with the default network; the trainings follow from measured steps.
EXPECTED_SECONDS = {
    "start": 30.0,
    "steps": 45.0,
    "exchange": 80.0,
    "ceilings": 5.0,
    "learning": 95.0,
    "curve": 200.0,
    "noise": 60.0,
}
_CPU_FLAGS = ("avx512_bf16", "amx_bf16")


def set_way(config: Config, way: Way) -> Config:
    """The settings of a training in a way, on one machine; they keep their own `parallel.sync`."""
    train = {"batch_size": way.batch_size, "precision": way.precision, "max_steps": ANY_STEPS}
    parallel = {"devices": way.workers, "exchange": way.exchange, "processes": 1}
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=train),
            "parallel": config.parallel.model_copy(update=parallel),
        }
    )


def choose_ways(batch_size: int, most: int, precision: str, platform: str) -> list[Way]:
    """The ways to train on one worker: several batches, in both precisions where a device computes in both.

    Args:
        batch_size: That of the settings.
        most: The examples of an epoch, which no batch exceeds.
        precision: What the settings mean here.
        platform: `cpu`, `cuda` or `tpu`.
    """
    batches = list(dict.fromkeys(min(most, max(1, round(factor * batch_size))) for factor in FACTORS))
    other = "bfloat16" if precision == "float32" else "float32"
    ways = [Way(1, batch, precision) for batch in batches]
    if platform != "cpu":
        return [*ways, *(Way(1, batch, other) for batch in batches)]
    return [*ways, Way(1, batches[0], other)] if other == "float32" or has_bfloat16() else ways


def choose_device_ways(batch_size: int, devices: int, precision: str, exchange: str) -> list[Way]:
    """The ways to train on several devices: the batch shared, and grown with them; compressed on all of them.

    Args:
        batch_size: That of the settings.
        devices: How many there are.
        precision: What the settings mean here.
        exchange: The compressed one.
    """
    counts = [2**power for power in range(1, devices.bit_length()) if 2**power <= devices]
    counts = sorted({*counts, devices} - {1})
    ways = [Way(count, size, precision) for count in counts for size in (batch_size, count * batch_size)]
    compressed = [Way(devices, devices * batch_size, precision, exchange)] if counts else []
    return list(dict.fromkeys([*ways, *compressed]))


def choose_groups(cores: int) -> list[int]:
    """Workers that share the cores of a processor: two, and the greatest power of two up to eight."""
    most = 2 ** (min(MOST_WORKERS, cores).bit_length() - 1)
    return sorted({2, most} - {1}) if most > 1 else []


def choose_compressed(exchange: str) -> str:
    """The compressed exchange to measure."""
    return COMPRESSED if exchange == "exact" else exchange


def has_bfloat16(info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether a processor says that it computes in bfloat16; without it such steps are slow for no use."""
    if not info.is_file():
        return False
    words = set(info.read_text(encoding="utf-8", errors="replace").split())
    return any(flag in words for flag in _CPU_FLAGS)


def choose_lengths(expect: Callable[[float], float], spent_seconds: float) -> list[float]:
    """The trainings that five minutes allow, as shares of the steps of a whole one; two at least.

    They are whole where two or three whole ones fit. Two shorter ones tell more than a single whole one: how seeds
    differ, and how the AUROC grows with the length of a training whose schedule ends with it.

    Args:
        expect: Seconds of a training of a share of the steps.
        spent_seconds: What the other parts took.
    """
    left = BUDGET_SECONDS - KEPT_BACK_SECONDS - spent_seconds
    whole = min(MOST_SEEDS, math.floor(left / expect(1.0)))
    if whole >= FEWEST_SEEDS:
        return [1.0] * whole
    fitting = (lengths for lengths in SHORTER if sum(map(expect, lengths)) <= left)
    return list(next(fitting, SHORTER[-1]))


def count_part_steps(num_steps: int, share: float) -> int:
    """Steps of a training on a part: they fall with the square root of its size.

    With as many epochs as the whole, a small part would see too few steps to learn; with as many steps, it would be
    learned by heart. Either would make more data look better than they are.
    """
    return max(1, round(num_steps * math.sqrt(share)))


def interpolate(points: Sequence[tuple[int, float]], batch_size: int | float) -> float:
    """Seconds of a step at a batch between measured ones; beyond them in proportion to the nearest two."""
    known = sorted(points)
    if len(known) == 1:
        return known[0][1] * batch_size / known[0][0]
    sizes = [size for size, _ in known]
    place = min(max(1, int(np.searchsorted(sizes, batch_size))), len(known) - 1)
    (low, first), (high, last) = known[place - 1], known[place]
    return max(0.0, first + (last - first) * (batch_size - low) / (high - low))


def fit_line(points: Sequence[tuple[int | float, int | float | None]]) -> tuple[float, float] | None:
    """Value at 0 and slope of the line through values over batches, neither below 0; None: unknown, or one batch.

    Relative errors count, so that a small batch weighs as much as a large one.
    """
    known = [(batch, value) for batch, value in points if value is not None and value > 0.0]
    if len({batch for batch, _ in known}) < 2:
        return None
    batches, values = np.array([one[0] for one in known], float), np.array([one[1] for one in known], float)
    slope, fixed = np.polyfit(batches, values, 1, w=1.0 / values)
    return max(0.0, float(fixed)), max(0.0, float(slope))


@final
class ExpectedTimes:
    """How far a bench is, in the seconds that its parts were expected to take."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._expected = dict[str, float]()
        self._done = 0.0
        self._part, self._began, self._start = "", 0.0, time.monotonic()
        self._share: float | None = None

    @property
    def spent(self) -> float:
        """Seconds since the bench began."""
        return time.monotonic() - self._start

    def expect(self, parts: Sequence[str], **seconds: float) -> None:
        """Set which parts are measured, or how long one takes, now that more is known."""
        self._expected.update({part: EXPECTED_SECONDS[part] for part in parts})
        self._expected.update(seconds)

    def begin(self, part: str) -> None:
        """A part begins."""
        self._part, self._began, self._share = part, time.monotonic(), None
        self.tick()

    def end(self, part: str) -> None:
        """A part is measured."""
        self._done += self._expected[part]
        self._part = ""
        self.tick()

    def reach(self, share: float) -> None:
        """A share of the part that runs is done."""
        self._share = share
        self.tick()

    def tick(self) -> None:
        """Tell how far the bench is."""
        whole = sum(self._expected.values())
        far = 0.0
        if self._part:
            expected = self._expected[self._part]
            # A part that takes longer than expected stands just before its end.
            elapsed = min(time.monotonic() - self._began, 0.95 * expected)
            far = elapsed if self._share is None else self._share * expected
        self._progress("measuring (seconds)", round(self._done + far), round(whole))
