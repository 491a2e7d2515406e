"""The real TAL1 loci that ship with ebox: the files, the rule by which they were chosen, and how to make them again.

`python -m ebox.datasets.demo_loci hg19.fa OUT` cuts the shipped places from a genome; with two BED files of candidates
after OUT, bound and unbound, the loci are chosen anew. Either way the same bytes come out.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ebox.datasets.kmers import long_kmer_hashes
from ebox.datasets.sources import DatasetSources
from ebox.errors import InputError
from ebox.sequences.bed import read_bed
from ebox.sequences.fasta import parse_locations, read_fasta, write_fasta
from ebox.sequences.genome import Genome
from ebox.sequences.places import Intervals

BOUND, UNBOUND = "tal1_bound.fa.gz", "tal1_unbound.fa.gz"
LENGTH_BP = 200
NUM_BOUND = 2000
NUM_UNBOUND_EACH = 2
# Of unrelated loci one in 300 shares 18 bases with any of the other 6,000, on either strand.
SHARED_BP = 18
GC_STEP = 0.05


@contextmanager
def open_demo_loci() -> Iterator[DatasetSources]:
    """The shipped loci as the sources of a dataset, for as long as the context lasts."""
    folder = files("ebox.datasets") / "data"
    with as_file(folder / BOUND) as bound, as_file(folder / UNBOUND) as unbound:
        yield DatasetSources(positives=bound, negatives=(unbound,))


def make_demo_loci(genome: Path, out: Path, bound: Path | None = None, unbound: Path | None = None) -> None:
    """Write both files of loci again, from a genome and the shipped places or those of two BED files.

    The rule. Bound: of each experiment (column 4) the loci with the highest peak score (column 5), as many as its share
    of all candidates, 2,000 in all. Unbound: two for each bound locus, on the same chromosome and of the same GC
    content in steps of 5 %, in the order of the SHA-256 of their names. A locus with an N, or that shares 18 bases in a
    row on either strand with one that was taken before, is passed over, so that all but distant relatives are left out.

    Args:
        genome: hg19 as FASTA, or pieces of it named `chrom:start-end` (0-based, half-open), each a locus.
        out: Folder for the two files.
        bound: Candidates with experiment and score; None: the shipped loci, none left out.
        unbound: Candidates; None: as for `bound`.

    Raises:
        InputError: a place that the genome lacks, another genome, one file of candidates, or too few of them.
    """
    if (bound is None) != (unbound is None):
        raise InputError(
            "only one file of candidates is given", remedy="give the bound and the unbound ones, or neither"
        )
    with Genome(genome) as opened:
        if bound is None or unbound is None:
            _cut_shipped(opened, out)
        else:
            _choose(opened, read_bed(bound), read_bed(unbound), out)


def _cut_shipped(genome: Genome, out: Path) -> None:
    with open_demo_loci() as shipped:
        paths = [path for path in (shipped.positives, *shipped.negatives) if path is not None]
        sets = {path.name: read_fasta(path) for path in paths}
    # Each is checked before one is written.
    for loci in sets.values():
        places = parse_locations(loci)
        assert places is not None
        other = np.flatnonzero((_cut(genome, places) != loci.matrix(LENGTH_BP)).any(axis=1))
        if len(other):
            raise InputError(
                f"differs from the shipped sequence at {len(other):,} of {len(loci):,} places, first here",
                file=genome.path,
                record=loci.names[other[0]],
                remedy="give hg19",
            )
    for name, loci in sets.items():
        write_fasta(out / name, loci.names, loci)


def _choose(genome: Genome, bound: Intervals, unbound: Intervals, out: Path) -> None:
    if bound.name is None or bound.score is None:
        raise InputError("lacks the experiment or the score", file=bound.source, remedy="give BED of 5 columns")
    taken: set[int] = set()
    codes, scores = _cut(genome, bound), bound.score.tolist()
    order = sorted(range(len(bound)), key=lambda row: (-scores[row], _name(bound, row)))
    shares = Counter(bound.name.tolist())
    wanted = {name: round(NUM_BOUND * count / len(bound)) for name, count in shares.items()}
    rows = _take(bound, codes, order, bound.name.tolist(), wanted, taken)
    strata = Counter(_strata(bound.take(np.array(rows)), codes[rows]))
    others = _cut(genome, unbound)
    order = sorted(range(len(unbound)), key=lambda row: sha256(_name(unbound, row).encode()).digest())
    wanted = {stratum: NUM_UNBOUND_EACH * count for stratum, count in strata.items()}
    chosen = _take(unbound, others, order, _strata(unbound, others), wanted, taken)
    names = [f"{_name(bound, row)} experiment={bound.name[row]} score={scores[row]:g}" for row in rows]
    write_fasta(out / BOUND, names, codes[rows])
    write_fasta(out / UNBOUND, [_name(unbound, row) for row in chosen], others[chosen])


def _take(
    places: Intervals,
    codes: UInt8[np.ndarray, "locus length"],
    order: Sequence[int],
    strata: Sequence[str],
    wanted: Mapping[str, int],
    taken: set[int],
) -> list[int]:
    """The first loci of each stratum that share no k-mer with those taken before; their k-mers are added to `taken`."""
    hashes = long_kmer_hashes(codes, SHARED_BP)
    left = Counter(wanted)
    rows = []
    for row in order:
        if left[strata[row]] > 0 and (codes[row] < 4).all():
            words = set(hashes[row].tolist())
            if taken.isdisjoint(words):
                taken |= words
                left[strata[row]] -= 1
                rows.append(row)
    stratum = next(iter(+left), None)
    if stratum is not None:
        raise InputError(
            f"has too few candidates: {left[stratum]} more of {stratum} are needed",
            file=places.source,
            remedy="give more candidates",
        )
    return sorted(rows)


def _strata(places: Intervals, codes: UInt8[np.ndarray, "locus length"]) -> list[str]:
    gc = ((codes == 1) | (codes == 2)).mean(axis=1)
    return [f"{chrom} {int(share / GC_STEP)}" for chrom, share in zip(places.chrom.tolist(), gc.tolist(), strict=True)]


def _name(places: Intervals, row: int) -> str:
    return f"{places.chrom[row]}:{places.start[row]}-{places.end[row]}"


def _cut(genome: Genome, places: Intervals) -> UInt8[np.ndarray, "locus length"]:
    """The codes of places on whole chromosomes, or of pieces with the names of the places."""
    names = [_name(places, row) for row in range(len(places))]
    are_pieces = bool(names) and names[0] in genome.chroms
    chroms = names if are_pieces else places.chrom.tolist()
    starts = np.zeros(len(names), np.int64) if are_pieces else places.start
    return genome.fetch_windows(chroms, starts, LENGTH_BP)


def main(words: list[str]) -> None:
    """Make the files; the words are those after the name of the program."""
    if len(words) not in (2, 4):
        raise InputError("2 or 4 paths are needed", remedy="GENOME OUT, or GENOME OUT BOUND.bed UNBOUND.bed")
    make_demo_loci(*map(Path, words))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
