"""Small fits without SciPy, whose optimisers take half a second to import: as long as all of them together."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
from jaxtyping import Float

_PLACES, _ROUNDS = 9, 6


def solve_non_negative(
    columns: Float[np.ndarray, "row column"], wanted: Float[np.ndarray, " row"]
) -> tuple[Float[np.ndarray, " column"], float]:
    """The numbers from 0 on whose sum of columns is nearest to what is wanted, and the distance that is left.

    The solution is the plain one of those columns whose numbers are not 0, so for the few columns of a cost model it is
    found among the plain solutions of all their choices (Lawson and Hanson 1974, chapter 23).
    """
    count = columns.shape[1]
    best, least = np.zeros(count), float(np.linalg.norm(wanted))
    for size in range(count, 0, -1):
        for chosen in combinations(range(count), size):
            part = columns[:, chosen]
            found = np.linalg.lstsq(part, wanted, rcond=None)[0]
            if (found < 0.0).any():
                continue
            left = float(np.linalg.norm(part @ found - wanted))
            if left < least:
                best, least = np.zeros(count), left
                best[list(chosen)] = found
            if size == count:
                # Without any limit nothing is nearer.
                return best, least
    return best, least


def find_least(function: Callable[[float], float], low: float, high: float) -> float:
    """The place of the least value between two ends, which count too, for a function with one valley.

    A grid is drawn together around its least place until it is 1e-4 of the range wide.
    """
    for _ in range(_ROUNDS):
        places = np.linspace(low, high, _PLACES)
        at = int(np.argmin([function(float(place)) for place in places]))
        low, high = places[max(0, at - 1)], places[min(_PLACES - 1, at + 1)]
    return float(places[at])
