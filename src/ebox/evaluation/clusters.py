"""Which examples go together, and how much a sum over them varies: whole clusters are drawn, not examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from ebox.datasets.clusters import count_clusters, has_enough
from ebox.errors import InputError

Labels = Int[np.ndarray, " examples"]
# Counts of one chunk of resamples: 4 million of 8 bytes.
CHUNK_COUNTS = 4_000_000


@dataclass(frozen=True)
class Influence:
    """By how much each example moves a metric: the metric varies as the sum of the means of both parts."""

    positive: Float[np.ndarray, " positives"]
    negative: Float[np.ndarray, " negatives"]

    def __sub__(self, other: Influence) -> Influence:
        """Of the difference of two metrics."""
        return Influence(self.positive - other.positive, self.negative - other.negative)


def mean_influence(influences: Sequence[Influence]) -> Influence:
    """Of the mean of a metric over several models."""
    return Influence(
        np.mean([one.positive for one in influences], axis=0), np.mean([one.negative for one in influences], axis=0)
    )


@dataclass(frozen=True)
class Variance:
    """Variance of a metric over samples: what positives add, what negatives add, and both with what they share."""

    of_positives: float
    of_negatives: float
    total: float


@final
@dataclass(frozen=True)
class Clustering:
    """The cluster of each positive and of each negative, as numbers from 0; `num_clusters` has those of each class."""

    positive: Int[np.ndarray, " positives"]
    negative: Int[np.ndarray, " negatives"]
    num_all: int
    num_clusters: dict[str, int]

    @classmethod
    def of(cls, targets: Bool[np.ndarray, " examples"], labels: Int[np.ndarray, " labels"] | None = None) -> Clustering:
        """The clusters by their labels; None: each example is one.

        Raises:
            InputError: another number of labels than of targets.
        """
        if labels is not None and len(labels) != len(targets):
            raise InputError(f"there are {len(targets)} targets and {len(labels)} labels of clusters")
        if labels is None:
            labels = np.arange(len(targets))
        _, number = np.unique(labels, return_inverse=True)
        number = number.ravel()
        num_all = int(number.max(initial=-1)) + 1
        return cls(number[targets], number[~targets], num_all, count_clusters(number, targets))

    @property
    def has_enough(self) -> bool:
        """Whether there are clusters enough of each class for an interval."""
        return has_enough(self.num_clusters)

    @property
    def sizes(self) -> tuple[float, float]:
        """How many clusters hold a positive, and how many a negative, for formulas."""
        return float(self.num_clusters["positive"]), float(self.num_clusters["negative"])

    def weigh(self, influence: Influence) -> Variance:
        """The variance of a metric from sums over clusters, which may hold both classes (Obuchowski 1997)."""
        sums = [
            np.bincount(number, values, self.num_all) / len(values)
            for number, values in ((self.positive, influence.positive), (self.negative, influence.negative))
        ]
        own = [float(part @ part) * num / max(num - 1.0, 1.0) for part, num in zip(sums, self.sizes, strict=True)]
        shared = 2.0 * float(sums[0] @ sums[1]) * self.num_all / max(self.num_all - 1, 1)
        return Variance(own[0], own[1], max(own[0] + own[1] + shared, 0.0))

    def iter_resamples(
        self, num_bootstrap: int, seed: int
    ) -> Iterator[tuple[Int[np.ndarray, "resamples positives"], Int[np.ndarray, "resamples negatives"]]]:
        """Chunks of resamples: how often each positive and each negative was drawn with its cluster.

        Clusters of positives, of negatives and of both are drawn apart, so that each class keeps its clusters.

        Args:
            num_bootstrap: Resamples in all chunks; at least one.
            seed: For the draws.
        """
        if num_bootstrap < 1:
            raise InputError(f"num_bootstrap is {num_bootstrap}, and at least one resample is needed")
        generator = np.random.Generator(np.random.Philox(seed))
        kind = np.zeros(self.num_all, np.int8)
        kind[self.positive] = 1
        kind[np.unique(self.negative)] += 2
        chunk = max(1, CHUNK_COUNTS // (len(self.positive) + len(self.negative)))
        for start in range(0, num_bootstrap, chunk):
            counts = np.zeros((min(chunk, num_bootstrap - start), self.num_all), np.int16)
            for stratum in np.unique(kind):
                chosen = np.flatnonzero(kind == stratum)
                counts[:, chosen] = _draw_counts(generator, len(counts), len(chosen))
            yield np.take(counts, self.positive, axis=1), np.take(counts, self.negative, axis=1)


def correlate_within(values: Float[np.ndarray, " examples"], number: Int[np.ndarray, " examples"]) -> float:
    """Correlation of normal scores within clusters, from the analysis of variance (Donner 1986); 0 without company."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    _, number, sizes = np.unique(number, return_inverse=True, return_counts=True)
    num, num_clusters = len(values), len(sizes)
    if num_clusters in (num, 1):
        return 0.0
    scores = ndtri((rankdata(values) - 0.375) / (num + 0.25))
    means = np.bincount(number.ravel(), scores) / sizes
    between = float(sizes @ (means - scores.mean()) ** 2) / (num_clusters - 1)
    within = float(np.sum((scores - means[number.ravel()]) ** 2)) / (num - num_clusters)
    typical = (num - float(sizes @ sizes) / num) / (num_clusters - 1)
    spread = between + (typical - 1.0) * within
    return float(np.clip((between - within) / spread, 0.0, 0.99)) if spread > 0 else 0.0


def _draw_counts(generator: np.random.Generator, rows: int, size: int) -> Int[np.ndarray, "rows size"]:
    drawn = generator.integers(size, size=(rows, size)) + np.arange(rows)[:, None] * size
    counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
    # Counts are small, and sorting int16 takes a third of the time.
    return counts.astype(np.int16)
