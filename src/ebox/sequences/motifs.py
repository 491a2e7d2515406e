"""Motifs by name: from files, from the matrices that come with ebox, from JASPAR if it is installed."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import warnings
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from importlib.resources import as_file, files

import numpy as np

from ebox.errors import InputError, install_command
from ebox.sequences.matrices import Motif, scan_scores
from ebox.sequences.motif_files import read_jaspar, read_meme, read_motifs, write_meme

_ACCESSION = re.compile(r"([A-Z]{2}\d{4})(?:\.(\d+))?", re.IGNORECASE)


def load_jaspar(accession: str) -> Motif:
    """Load a JASPAR matrix by accession (MA0140.3; MA0140 is its newest version) or by name (GATA1::TAL1).

    The TAL1 and GATA1 matrices come with ebox (JASPAR 2026, CC BY 4.0); the others are looked up in pyjaspar,
    if it is installed.

    Raises:
        InputError: there is no such matrix, or it does not come with ebox and pyjaspar is not installed.
    """
    wanted = accession.strip()
    carried = load_carried_motifs()
    found = next((motif for motif in carried if motif.name.casefold() == wanted.casefold()), None)
    found = found if found is not None else _choose_newest(wanted, carried)
    has_pyjaspar = importlib.util.find_spec("pyjaspar") is not None
    if found is None and has_pyjaspar:
        found = _load_from_pyjaspar(wanted)
    if found is not None:
        return found
    remedy = "check the accession" if has_pyjaspar else f"the whole of JASPAR comes with {install_command('jaspar')}"
    lack = "is not in JASPAR" if has_pyjaspar else "is not among the JASPAR matrices that come with ebox"
    raise InputError(f"motif {accession!r} {lack}{_suggest(wanted, carried)}", remedy=remedy)


def load_carried_motifs() -> tuple[Motif, ...]:
    """The JASPAR matrices that come with ebox, by accession."""
    return _read_carried()


def find_motif(name: str, motif_files: Sequence[str | os.PathLike[str]] = ()) -> Motif:
    """Find a motif by name, accession or second name, first in the files, then in JASPAR.

    Raises:
        InputError: neither the files nor JASPAR have it; the message suggests similar names.
    """
    wanted = name.strip()
    listed = [motif for file in motif_files for motif in read_motifs(file)]
    for key in (str, str.casefold):
        for attribute in ("name", "alt_name"):
            for motif in listed:
                if key(getattr(motif, attribute)) == key(wanted):
                    return motif
    try:
        return load_jaspar(wanted)
    except InputError as error:
        if not listed:
            raise
        among = f"is not among the {len(listed)} motifs of {', '.join(os.fspath(file) for file in motif_files)}"
        suggestion = _suggest(wanted, listed) or _suggest(wanted, load_carried_motifs())
        raise InputError(f"motif {name!r} {among}, nor in JASPAR{suggestion}", remedy=error.remedy) from None


@cache
def _read_carried() -> tuple[Motif, ...]:
    with as_file(files("ebox.sequences") / "data" / "jaspar.txt") as path:
        motifs = read_jaspar(path)
    return tuple(
        Motif(motif.name, motif.probabilities, "JASPAR 2026", motif.alt_name, motif.num_sites) for motif in motifs
    )


def _choose_newest(wanted: str, motifs: Sequence[Motif]) -> Motif | None:
    """The newest version of a name, or of an accession that is given without a version."""
    key = wanted.casefold()
    fitting = [
        motif for motif in motifs if motif.name.partition(".")[0].casefold() == key or motif.alt_name.casefold() == key
    ]
    return max(fitting, key=lambda motif: int(motif.name.partition(".")[2])) if fitting else None


def _load_from_pyjaspar(wanted: str) -> Motif | None:
    from pyjaspar import jaspardb

    with warnings.catch_warnings():
        # Biopython warns that nothing was found, which the error below says better.
        warnings.simplefilter("ignore")
        database = jaspardb()
        # pyjaspar never closes its connection, and Python 3.13 warns of that.
        with closing(database.conn):
            if _ACCESSION.fullmatch(wanted):
                matrix = database.fetch_motif_by_id(wanted.upper())
            else:
                named = database.fetch_motifs_by_name(wanted)
                matrix = named[0] if named else None
    if matrix is None:
        return None
    counts = np.array([list(matrix.counts[base]) for base in "ACGT"], np.float64).T
    sums = counts.sum(axis=1, keepdims=True)
    sites = round(float(sums.max())) if sums.max() > 1.5 else None
    return Motif(str(matrix.matrix_id), counts / sums, str(database.release), str(matrix.name), sites)


def _suggest(wanted: str, motifs: Sequence[Motif]) -> str:
    names = {text.casefold(): text for motif in motifs for text in (motif.alt_name, motif.name) if text}
    near = [key for key in names if len(wanted) > 2 and wanted.casefold() in key]
    near = near or difflib.get_close_matches(wanted.casefold(), names, n=1, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(names[key]) for key in near[:3])}?" if near else ""


__all__ = [
    "Motif",
    "find_motif",
    "load_carried_motifs",
    "load_jaspar",
    "read_jaspar",
    "read_meme",
    "read_motifs",
    "scan_scores",
    "write_meme",
]
