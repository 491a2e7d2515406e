"""The front of options that no other one beats in time, money and energy at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

Row = tuple[float, float, float | None]


def find_front(rows: Sequence[Row]) -> list[bool]:
    """Which rows are on the front: no other row is at least as good in everything and better in something.

    Args:
        rows: Seconds, money and joules. Where joules are unknown, two rows are compared by the other two, and a row
            of unknown joules can't beat one whose joules are known.
    """
    front: list[Row] = []
    kept = [False] * len(rows)
    # Sorted, a row can only be beaten by one before it, and then by one of the front, since beating is transitive.
    for place in sorted(range(len(rows)), key=lambda one: _sort_key(rows[one])):
        if not any(_beats(other, rows[place]) for other in front):
            front.append(rows[place])
            kept[place] = True
    return kept


def _sort_key(row: Row) -> tuple[float, float, float]:
    return row[0], row[1], math.inf if row[2] is None else row[2]


def _beats(other: Row, row: Row) -> bool:
    if other[0] > row[0] or other[1] > row[1]:
        return False
    better = other[0] < row[0] or other[1] < row[1]
    if row[2] is None:
        return better
    return other[2] is not None and other[2] <= row[2] and (better or other[2] < row[2])
