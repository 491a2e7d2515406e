"""The front of options that no other one beats in time, money and energy at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def find_front(rows: Sequence[tuple[float, float, float | None]]) -> list[bool]:
    """Which rows are on the front: no other row is at least as good in everything and better in something.

    Args:
        rows: Seconds, money and joules. Where joules are unknown, two rows are compared by the other two, and a row
            of unknown joules can't beat one whose joules are known.
    """
    if not rows:
        return []
    known = np.array([joules is not None for *_, joules in rows])
    values = np.array([(seconds, money, 0.0 if joules is None else joules) for seconds, money, joules in rows])
    return [not _is_beaten(values, known, place) for place in range(len(rows))]


def _is_beaten(values: np.ndarray, known: np.ndarray, place: int) -> bool:
    own = values[place]
    as_good, better = values <= own, values < own
    if not known[place]:
        as_good[:, 2], better[:, 2] = True, False
    else:
        as_good[~known, 2] = False
    return bool((as_good.all(axis=1) & better.any(axis=1)).any())
