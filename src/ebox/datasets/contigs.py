"""Whether places lie on the chromosomes of a genome and hold its bases, and what to do where the names differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from ebox.datasets.examples import DropLog, Examples
from ebox.datasets.quality import Beware
from ebox.errors import InputError
from ebox.sequences.codes import N_CODE, reverse_complement
from ebox.storage.notes import note

if TYPE_CHECKING:
    from ebox.sequences.genome import Genome
    from ebox.sequences.intervals import Intervals

_NUM_SHOWN = 4
_NUM_COMPARED = 500
# Of bases, more than variants of one person; of records, more than a few that were edited.
_MOST_DIFFERENT = 0.05
# How the names of a file are written as those of a genome: of BED the first column, of FASTA the header.
_EDITS = {
    "peaks": ("sed -E '/^(#|track|browser)/!s/^/chr/'", "sed 's/^chr//'"),
    "headers": ("sed 's/^>/>chr/'", "sed 's/^>chr/>/'"),
}


def check_chroms(
    chroms: np.ndarray, genome: Genome, source: str, log: DropLog, *, said_by: str
) -> Bool[np.ndarray, " place"]:
    """Which places lie on a chromosome that the genome has; a note is made where some don't.

    Args:
        chroms: The chromosome of each place.
        genome: The genome.
        source: The file of the places.
        log: The note is added to it.
        said_by: What says the names: "peaks", "negatives" or "headers".

    Raises:
        InputError: no place lies on a chromosome of the genome.
    """
    known = np.array([name in genome.chroms for name in chroms.tolist()], dtype=bool)
    names = set(chroms.tolist())
    if not known.any():
        raise InputError(
            f"no record lies on a chromosome of the genome: {said_by} say {_few(names)}, "
            f"the genome has {_few(genome.chroms)}",
            file=source,
            remedy="use the genome that the places are from, with the same chromosome names"
            + _suggest(names, genome.chroms, said_by),
        )
    strange = sorted(names - set(genome.chroms))
    if strange:
        about = {"source": Path(source).name, "num": int((~known).sum()), "of": len(known)}
        shown = {"chroms": strange[:_NUM_SHOWN], "genome_chroms": sorted(genome.chroms)[:_NUM_SHOWN]}
        log.notes.append(note(Beware.UNKNOWN_CHROMS, about | shown))
    return known


def check_regions(regions: Intervals, chroms: Iterable[str], genome: Genome) -> None:
    """Raise InputError where regions of a genome are on none of some chromosomes, or past the end of one.

    Args:
        regions: The regions.
        chroms: Chromosomes of the genome, on one of which at least a region is expected.
        genome: The genome.
    """
    names = set(regions.chrom.tolist())
    if names.isdisjoint(chroms):
        raise InputError(
            f"shares no chromosome with the positives: it has {_few(names)}, they lie on {_few(chroms)}",
            file=regions.source,
            remedy="use the same names of chromosomes as the genome" + _suggest(names, genome.chroms, "peaks"),
        )
    sizes = np.array([genome.chroms.get(name, np.iinfo(np.int64).max) for name in regions.chrom.tolist()], np.int64)
    outside = np.flatnonzero(regions.end > sizes)
    if len(outside):
        row = int(outside[0])
        raise InputError(
            f"{regions.chrom[row]} ends at {sizes[row]:,} in the genome, before {regions.end[row]:,}",
            file=regions.source,
            line=int(regions.lines[row]),
            remedy="use regions of the build that the genome is of (hg19, hg38, ...)",
        )


def compare_bases(examples: Examples, genome: Genome, source: str, log: DropLog) -> None:
    """Make a note where records are not the genome at the places that their headers name; some are compared.

    Args:
        examples: With their places.
        genome: The genome.
        source: The file of the examples.
        log: The note is added to it.
    """
    rows = np.unique(np.linspace(0, len(examples) - 1, min(len(examples), _NUM_COMPARED)).astype(np.int64))
    rows = rows[np.array([name in genome.chroms for name in examples.chrom[rows].tolist()], dtype=bool)]
    num = sum(not _is_there(examples, int(row), genome) for row in rows)
    if num > _MOST_DIFFERENT * len(rows):
        log.notes.append(note(Beware.GENOME_DIFFERS, {"source": Path(source).name, "num": num, "of": len(rows)}))


def _is_there(examples: Examples, row: int, genome: Genome) -> bool:
    """Whether nearly all known bases of an example are those of the genome at its place."""
    chrom, start, end = str(examples.chrom[row]), int(examples.start[row]), int(examples.end[row])
    if end > genome.chroms[chrom]:
        return False
    there = genome.fetch(chrom, start, end)
    codes = examples.codes[row] if examples.strand[row] != "-" else reverse_complement(examples.codes[row])
    known = (there < N_CODE) & (codes < N_CODE)
    return bool((there != codes)[known].sum() <= _MOST_DIFFERENT * max(int(known.sum()), 1))


def _suggest(names: Iterable[str], known: Mapping[str, int], said_by: str) -> str:
    """The command that writes the names as the genome does, where `chr` alone is the difference."""
    longer, shorter = _EDITS.get(said_by, _EDITS["peaks"])
    if any(f"chr{name}" in known for name in names):
        return f"; or write the names as it does: {longer} OLD > NEW"
    if any(name.removeprefix("chr") in known for name in names):
        return f"; or write the names as it does: {shorter} OLD > NEW"
    return ""


def _few(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:_NUM_SHOWN]) + (" …" if len(shown) > _NUM_SHOWN else "")
