"""The known motifs that are similar to a matrix, with q-values: TOMTOM with JASPAR and the user's own files."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ebox.errors import InputError, install_command
from ebox.sequences.motifs import Motif, load_carried_motifs, read_motifs

# A match with a larger q-value is shown, but as not significant.
MAX_Q = 0.05
NUM_SHOWN = 5
JASPAR_GROUP = "vertebrates"
_NEEDED = {"modiscolite": "modisco-lite", "memelite": "memelite"}


@dataclass(frozen=True)
class Match:
    """A known motif that is similar to a matrix; `strand` is "-" where its reverse complement fits.

    `p_value` is TOMTOM's, over all offsets and both strands; `q_value` is corrected for the number of known motifs
    (Benjamini and Hochberg). `offset_bp` is where the known motif, on `strand`, begins in the matrix (negative: before
    it).
    """

    id: str
    name: str
    source: str
    p_value: float
    q_value: float
    strand: str
    offset_bp: int
    num_columns: int

    @property
    def is_find(self) -> bool:
        """Whether the similarity is significant."""
        return self.q_value <= MAX_Q


def check_extra() -> None:
    """Raise InputError unless the packages for motif discovery and matching are installed."""
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(
            f"motif discovery needs {' and '.join(missing)}, which is not installed",
            remedy=f"{install_command('explain')}, or leave it out with `--set explanation.discover=false`",
        )


def gather_targets(motif_files: Sequence[str | os.PathLike[str]]) -> list[Motif]:
    """The known motifs: those of the user's files, then JASPAR's (with pyjaspar), then the few that ebox contains.

    Raises:
        InputError: a file that holds no motifs.
    """
    own = [motif for file in motif_files for motif in read_motifs(file)]
    jaspar = _load_jaspar_group() if importlib.util.find_spec("pyjaspar") is not None else ()
    names = {motif.name for motif in jaspar}
    return [*own, *jaspar, *(motif for motif in load_carried_motifs() if motif.name not in names)]


def _load_jaspar_group() -> tuple[Motif, ...]:
    from pyjaspar import jaspardb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        database = jaspardb()
        # pyjaspar never closes its connection, and Python 3.13 warns of that.
        with closing(database.conn):
            found = database.fetch_motifs(collection="CORE", tax_group=[JASPAR_GROUP])
    motifs = []
    for matrix in found:
        counts = np.array([list(matrix.counts[base]) for base in "ACGT"], np.float64).T
        shares = counts / counts.sum(axis=1, keepdims=True)
        motifs.append(Motif(str(matrix.matrix_id), shares, str(database.release), str(matrix.name)))
    return tuple(motifs)


def match_motifs(
    matrices: Sequence[Float[np.ndarray, "_ 4"]], targets: Sequence[Motif], *, num_shown: int = NUM_SHOWN
) -> list[list[Match]]:
    """Compare matrices with known motifs (TOMTOM, Gupta 2007); for each the best match first.

    Numba compiles at the first call on a machine, which takes about a minute; later calls read its cache.
    """
    from memelite import tomtom

    if not matrices:
        return []
    with warnings.catch_warnings():
        # It warns of few targets; their number is shown beside the q-values anyway.
        warnings.simplefilter("ignore")
        queries = [np.ascontiguousarray(matrix.T, np.float64) for matrix in matrices]
        known = [np.ascontiguousarray(motif.probabilities.T) for motif in targets]
        p_values, _, offsets, overlaps, strands = tomtom(queries, known)
    matches = []
    for row in range(len(matrices)):
        q_values = correct_p_values(p_values[row])
        best = np.argsort(p_values[row], kind="stable")[:num_shown].tolist()
        matches.append(
            [
                Match(
                    id=targets[column].name,
                    name=targets[column].alt_name if targets[column].alt_name else targets[column].name,
                    source=targets[column].source,
                    p_value=float(p_values[row, column]),
                    q_value=float(q_values[column]),
                    strand="-" if strands[row, column] else "+",
                    # TOMTOM's offset is where the matrix begins in the known motif.
                    offset_bp=-int(offsets[row, column]),
                    num_columns=int(overlaps[row, column]),
                )
                for column in best
            ]
        )
    return matches


def correct_p_values(p_values: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """q-values by Benjamini and Hochberg (1995): the lowest false discovery rate at which each is significant."""
    number = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, np.float64)[order] * number / np.arange(1, number + 1)
    falling = np.minimum.accumulate(scaled[::-1])[::-1]
    q_values = np.empty(number)
    q_values[order] = np.minimum(falling, 1.0)
    return q_values
