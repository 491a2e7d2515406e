"""Contributions on a genome: bigWig for genome browsers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from ebox.errors import InputError, install_command
from ebox.sequences.places import Interval
from ebox.storage.publishing import publish_file


def check_bigwig() -> None:
    """Raise InputError unless pyBigWig is installed."""
    if importlib.util.find_spec("pyBigWig") is None:
        raise InputError("writing bigWig needs pyBigWig", remedy=install_command("explain"))


def write_bigwig(
    path: str | os.PathLike[str],
    places: Sequence[Interval | None],
    contributions: Sequence[np.ndarray],
) -> int:
    """Publish contributions as bigWig, and return the number of sequences in it; if that is 0, nothing is written.

    Where sequences overlap, a base gets the mean. The sizes of the chromosomes are not known here: each gets the
    end of its last sequence as its size.

    Args:
        path: The file to write.
        places: Where each sequence lies; None: unknown, the sequence is left out.
        contributions: One array for each sequence, in the order of its own strand.
    """
    import pyBigWig

    by_chrom: dict[str, list[int]] = {}
    for row, place in enumerate(places):
        if place is not None:
            by_chrom.setdefault(place.chrom, []).append(row)
    if not by_chrom:
        return 0
    sizes = [(chrom, max(_end(places, row) for row in rows)) for chrom, rows in sorted(by_chrom.items())]
    with publish_file(path) as temporary:
        file = pyBigWig.open(os.fspath(temporary), "w")
        try:
            file.addHeader(sizes)
            for chrom, _ in sizes:
                bases, means = _average([(places[row], contributions[row]) for row in by_chrom[chrom]])
                file.addEntries(chrom, bases, values=means, span=1)
        finally:
            file.close()
    return sum(len(rows) for rows in by_chrom.values())


def _end(places: Sequence[Interval | None], row: int) -> int:
    place = places[row]
    assert place is not None
    return place.end


def _average(
    pieces: Sequence[tuple[Interval | None, np.ndarray]],
) -> tuple[Int64[np.ndarray, " base"], Float64[np.ndarray, " base"]]:
    """Each base once, in order, with its mean over the sequences."""
    starts, values = [], []
    for place, piece in pieces:
        assert place is not None
        starts.append(np.arange(place.start, place.end))
        values.append(piece[::-1] if place.strand == "-" else piece)
    bases, inverse = np.unique(np.concatenate(starts), return_inverse=True)
    flat = np.concatenate(values).astype(np.float64)
    return bases, np.bincount(inverse, weights=flat) / np.bincount(inverse)
