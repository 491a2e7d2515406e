"""The known motifs that are similar to a matrix, with q-values: TOMTOM with JASPAR and the user's own files."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ebox.errors import InputError, install_command
from ebox.explanation.chance import find_chances
from ebox.sequences.motifs import Motif, load_known_motifs, read_motifs

# A match with a larger q-value is shown, but as not significant.
MAX_Q = 0.05
NUM_SHOWN = 5
_NEEDED = {"modiscolite": "modisco-lite", "memelite": "memelite"}


@dataclass(frozen=True)
class Match:
    """A known motif that is similar to a matrix; `strand` is "-" where its reverse complement fits.

    `p_value` is TOMTOM's, over all offsets and both strands; `q_value` is corrected for the number of known motifs
    (Benjamini and Hochberg). `chance_p` is the chance that the matrix resembles any known motif as much with its
    columns in another order; `chance_q` is corrected for the number of matrices. `offset_bp` is where the known motif,
    on `strand`, begins in the matrix (negative: before it).
    """

    id: str
    name: str
    source: str
    p_value: float
    q_value: float
    chance_p: float
    chance_q: float
    strand: str
    offset_bp: int
    num_columns: int

    @property
    def is_find(self) -> bool:
        """Whether the similarity is significant among known motifs, and more than that of permuted columns."""
        return max(self.q_value, self.chance_q) <= MAX_Q


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
    return [*(motif for file in motif_files for motif in read_motifs(file)), *load_known_motifs()]


def match_motifs(
    matrices: Sequence[Float[np.ndarray, "_ 4"]], targets: Sequence[Motif], *, num_shown: int = NUM_SHOWN
) -> list[list[Match]]:
    """Compare matrices of one kind with known motifs (TOMTOM, Gupta 2007); finds first, then by p-value.

    A find must also be more similar than the same columns in other orders are (`find_chances`).

    Numba compiles at the first call on a machine, which takes about a minute; later calls read its cache.
    """
    if not matrices:
        return []
    known = [motif.probabilities for motif in targets]
    p_values, offsets, overlaps, strands = _compare(matrices, known)
    chances = find_chances(matrices, known, p_values, lambda permuted: _compare(permuted, known)[0])
    chance_q = _correct_best(chances)
    matches = []
    for row in range(len(matrices)):
        q_values = correct_p_values(p_values[row])
        is_find = np.maximum(q_values, chance_q[row]) <= MAX_Q
        best = np.lexsort((p_values[row], ~is_find))[:num_shown].tolist()
        matches.append(
            [
                Match(
                    id=targets[column].name,
                    name=targets[column].alt_name if targets[column].alt_name else targets[column].name,
                    source=targets[column].source,
                    p_value=float(p_values[row, column]),
                    q_value=float(q_values[column]),
                    chance_p=float(chances[row, column]),
                    chance_q=float(chance_q[row, column]),
                    strand="-" if strands[row, column] else "+",
                    # TOMTOM's offset is where the matrix begins in the known motif.
                    offset_bp=-int(offsets[row, column]),
                    num_columns=int(overlaps[row, column]),
                )
                for column in best
            ]
        )
    return matches


def _compare(
    matrices: Sequence[Float[np.ndarray, "_ 4"]], known: Sequence[Float[np.ndarray, "_ 4"]]
) -> tuple[Float[np.ndarray, "matrix target"], np.ndarray, np.ndarray, np.ndarray]:
    """TOMTOM's p-value, offset, number of columns and strand of each matrix with each known motif."""
    from memelite import tomtom

    queries, targets = ([np.ascontiguousarray(matrix.T, np.float64) for matrix in some] for some in (matrices, known))
    with warnings.catch_warnings():
        # It warns of few targets; their number is shown beside the q-values anyway.
        warnings.simplefilter("ignore")
        p_values, _, offsets, overlaps, strands = tomtom(queries, targets)
    return p_values, offsets, overlaps, strands


def _correct_best(chances: Float[np.ndarray, "matrix target"]) -> Float[np.ndarray, "matrix target"]:
    """The q-value of each chance among the best of all matrices: that of the next best that is no smaller."""
    best = np.sort(chances.min(axis=1))
    q_values = np.append(correct_p_values(best), 1.0)
    return q_values[np.searchsorted(best, chances)]


def correct_p_values(p_values: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """q-values by Benjamini and Hochberg (1995): the lowest false discovery rate at which each is significant."""
    number = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, np.float64)[order] * number / np.arange(1, number + 1)
    falling = np.minimum.accumulate(scaled[::-1])[::-1]
    q_values = np.empty(number)
    q_values[order] = np.minimum(falling, 1.0)
    return q_values
