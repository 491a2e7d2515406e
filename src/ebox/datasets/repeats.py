"""The repeats of a genome, from a BED file or its lower-case letters, and their share of windows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64

from ebox.datasets.contigs import check_regions
from ebox.datasets.examples import DropLog, Examples
from ebox.datasets.quality import Beware
from ebox.errors import InputError
from ebox.storage.notes import note

if TYPE_CHECKING:
    from ebox.sequences.genome import Genome
    from ebox.sequences.intervals import Intervals

_NUM_SHOWN = 4
_HOW_TO_MAKE = (
    "give the repeats as BED with --repeats, such as those of UCSC (zcat rmsk.txt.gz | cut -f6-8 > repeats.bed), or "
    "use a genome with soft-masked repeats"
)


@dataclass(frozen=True)
class RepeatRanges:
    """The repeats of one chromosome: half-open ranges in rising order that share no base."""

    start: Int64[np.ndarray, " range"]
    end: Int64[np.ndarray, " range"]

    def measure(self, starts: Int64[np.ndarray, " window"], length: int) -> Float32[np.ndarray, " window"]:
        """The share of repeats in windows of `length` bp that begin at `starts`."""
        return ((self._count(starts + length) - self._count(starts)) / length).astype(np.float32)

    def _count(self, place: Int64[np.ndarray, " place"]) -> Int64[np.ndarray, " place"]:
        """The number of repeat bases before each place."""
        total = np.concatenate([[0], np.cumsum(self.end - self.start)])
        begun = np.searchsorted(self.start, place, side="right")
        over = np.concatenate([[0], self.end])[begun] - place
        return np.asarray(total[begun] - np.maximum(np.where(begun > 0, over, 0), 0))


@dataclass
class Repeats:
    """Where the repeats of a genome lie.

    Args:
        genome: The genome; its lower-case letters are repeats where no regions are given.
        regions: The repeats of a BED file.
        by_gc_alone: Shares of windows that were paired by GC alone, for comparison with those that were taken.
    """

    genome: Genome
    regions: Intervals | None = None
    by_gc_alone: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        from ebox.sequences.intervals import merge

        self._merged = None if self.regions is None else merge(self.regions)

    def find(self, chrom: str) -> RepeatRanges:
        """The repeats of a chromosome of the genome."""
        if self._merged is None:
            return RepeatRanges(*self.genome.find_lower_case(chrom))
        rows = np.flatnonzero(self._merged.chrom == chrom)
        return RepeatRanges(self._merged.start[rows], self._merged.end[rows])

    def check(self, positives: Examples, log: DropLog) -> None:
        """Raise InputError where repeats can't be matched; a note is made of chromosomes that have none.

        Raises:
            InputError: the genome has no lower-case letters, or no upper-case ones; or the regions are of another
                genome, or on none of the chromosomes of the positives.
        """
        names, counts = np.unique(positives.chrom.astype(str), return_counts=True)
        here = {name: num for name, num in zip(names.tolist(), counts.tolist(), strict=True) if name in self._sizes}
        if self._merged is None:
            bare = self._check_letters(here)
            source = self.genome.path.name
        else:
            check_regions(self._merged, here, self.genome)
            bare = sorted(set(here) - set(self._merged.chrom.tolist()))
            source = Path(self._merged.source).name
        if bare:
            about = {"source": source, "num": sum(here[name] for name in bare), "of": sum(here.values())}
            log.notes.append(note(Beware.NO_REPEATS, about | {"chroms": bare[:_NUM_SHOWN]}))

    @property
    def _sizes(self) -> dict[str, int]:
        return dict(self.genome.chroms)

    def _check_letters(self, chroms: Iterable[str]) -> list[str]:
        """The chromosomes without lower-case letters; InputError where that is all of them."""
        cases = {name: self.genome.count_cases(name) for name in chroms}
        for case, place in (("lower", 0), ("upper", 1)):
            if not any(counts[place] for counts in cases.values()):
                raise InputError(
                    f"has no {case}-case letters on the chromosomes of the positives, so its repeats are not known",
                    file=self.genome.path,
                    remedy=_HOW_TO_MAKE,
                )
        return [name for name, (lower, _) in cases.items() if not lower]

    def measure(self, examples: Examples) -> Examples:
        """The examples with the share of repeats at their places; it stays unknown where no place on the genome is.

        All stay unknown where no window, or every base of every window, is a repeat: then the genome is not masked,
        unless repeats were matched, and so are known.
        """
        sizes = np.array([self._sizes.get(name, -1) for name in examples.chrom.tolist()], dtype=np.int64)
        rows = np.flatnonzero((examples.start >= 0) & (examples.end <= sizes))
        shares = self._measure_windows(examples.chrom[rows], examples.start[rows], examples.codes.shape[1])
        if not self.by_gc_alone and (not shares.any() or (shares == 1).all()):
            return examples
        masked = examples.masked.copy()
        masked[rows] = shares
        return replace(examples, masked=masked)

    def _measure_windows(self, chrom: np.ndarray, start: np.ndarray, length: int) -> Float32[np.ndarray, " window"]:
        shares = np.zeros(len(start), dtype=np.float32)
        for name in dict.fromkeys(chrom.tolist()):
            rows = np.flatnonzero(chrom == name)
            shares[rows] = self.find(name).measure(start[rows], length)
        return shares

    def describe(self) -> dict[str, Any]:
        """What the repeats are known from, and their mean share in windows that were paired by GC alone."""
        shares = np.concatenate([np.empty(0, np.float32), *self.by_gc_alone])
        mean = round(float(shares.mean()), 4) if len(shares) else None
        return {"known_from": "letters" if self._merged is None else "file", "by_gc_alone": mean}
