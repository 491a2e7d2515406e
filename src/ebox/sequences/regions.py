"""The sequences of places on a genome."""

from __future__ import annotations

import os

import numpy as np

from ebox.errors import InputError
from ebox.sequences.bed import read_bed
from ebox.sequences.codes import reverse_complement
from ebox.sequences.genome import Genome
from ebox.sequences.places import Intervals
from ebox.sequences.records import SequenceSet, make_offsets


def read_places(bed: str | os.PathLike[str], genome: str | os.PathLike[str]) -> SequenceSet:
    """Read the sequence of every place of a BED file, in its order and on its strand, as bedtools getfasta -s does.

    The name of each is `chrom:start-end(strand)`, with `NAME::` before it where the file names it.

    Raises:
        InputError: a file that can't be read, or a place that is not wholly on the genome. The message names the line.
    """
    places = read_bed(bed)
    codes = np.empty(int(places.widths.sum()), np.uint8)
    offsets = make_offsets(places.widths)
    strands = ["."] * len(places) if places.strand is None else places.strand.tolist()
    with Genome(genome) as opened:
        for row, (chrom, start, end) in enumerate(_iter_places(places)):
            try:
                piece = opened.fetch(chrom, start, end)
            except InputError as error:
                raise InputError(
                    f"{chrom}:{start}-{end}: {error.problem}",
                    file=places.source,
                    line=int(places.lines[row]),
                    remedy=error.remedy,
                ) from None
            codes[offsets[row] : offsets[row + 1]] = reverse_complement(piece) if strands[row] == "-" else piece
    return SequenceSet(codes, offsets, _name(places, strands), places.lines, places.source)


def _iter_places(places: Intervals) -> list[tuple[str, int, int]]:
    return list(zip(places.chrom.tolist(), places.start.tolist(), places.end.tolist(), strict=True))


def _name(places: Intervals, strands: list[str]) -> list[str]:
    """Names that `parse_location` reads; white space in a name would end it there."""
    given = [""] * len(places) if places.name is None else places.name.tolist()
    return [
        ("" if name in ("", ".") else "_".join(name.split()) + "::") + f"{chrom}:{start}-{end}({strand})"
        for name, strand, (chrom, start, end) in zip(given, strands, _iter_places(places), strict=True)
    ]
