"""Families: what relatives connect, up to a largest size.

Copies of an interspersed repeat would connect a large part of a genome. So links are taken in the order of falling
identity, and one that would make a family too large is cut. What a random split then parts is counted by the audit, and
evaluation measures the test examples without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from ebox.datasets.relatives import Relatives, find_relatives
from ebox.datasets.similarity import join
from ebox.progress import Progress, quiet

# Most examples of a family: 1 of 200, but a hundred in a small dataset.
MIN_FAMILY_CAP, FAMILY_CAP_SHARE = 100, 200


def link_relatives(
    codes: UInt8[np.ndarray, "example length"],
    cluster: Int64[np.ndarray, " example"],
    groups: Sequence[np.ndarray],
    progress: Progress = quiet,
) -> tuple[Int64[np.ndarray, " example"], int, Bool[np.ndarray, " example"]]:
    """Join the clusters of relatives inside each group of rows.

    Args:
        codes: The sequences.
        cluster: For each row a label of its cluster.
        groups: Arrays of rows; relatives are looked for inside each.
        progress: Called with the stage.

    Returns:
        The clusters, each labelled by its smallest row, the number of links that were cut, and which rows may have
        relatives outside their cluster.
    """
    suspects = np.zeros(len(codes), dtype=bool)
    _, first, number = np.unique(cluster, return_index=True, return_inverse=True)
    cluster, num_cut = first[number], 0
    for rows in groups:
        found = find_relatives(codes, rows, rows, progress)
        cluster, cut = join_families(cluster, found, max(MIN_FAMILY_CAP, len(rows) // FAMILY_CAP_SHARE))
        num_cut += len(cut)
        suspects[np.concatenate([found.crowded, found.query[cut], found.source[cut]])] = True
    return cluster, num_cut, suspects


def join_families(
    label: Int64[np.ndarray, " example"], relatives: Relatives, max_size: int
) -> tuple[Int64[np.ndarray, " example"], Int64[np.ndarray, " cut"]]:
    """Join the clusters of relatives to families of at most `max_size`.

    Args:
        label: For each row the label of its cluster, its smallest row; clusters are never divided, whatever their size.
        relatives: The links.
        max_size: Most examples of a family of several clusters.

    Returns:
        For each row the smallest row of its family; and the pairs of `relatives` that were cut, by their number.
    """
    whole = join(label, relatives.query, relatives.source)
    large = np.bincount(whole, minlength=len(whole))[whole[relatives.query]] > max_size
    small = join(label, relatives.query[~large], relatives.source[~large])
    order = np.flatnonzero(large)[np.argsort(-relatives.identity[large], kind="stable")]
    left, right = small[relatives.query[order]], small[relatives.source[order]]
    members = dict(enumerate(np.bincount(small, minlength=len(small)).tolist()))
    root: dict[int, int] = {}
    for first, second in zip(left.tolist(), right.tolist(), strict=True):
        one, other = sorted((_find_root(root, first), _find_root(root, second)))
        if one != other and members[one] + members[other] <= max_size:
            root[other] = one
            members[one] += members[other]
    joined = np.arange(len(small))
    for row in root:
        joined[row] = _find_root(root, row)
    joined = joined[small]
    return joined, np.flatnonzero(joined[relatives.query] != joined[relatives.source])


def _find_root(root: dict[int, int], row: int) -> int:
    """The smallest row of a family; the way there is shortened on the way."""
    while row in root:
        above = root[row]
        if above in root:
            root[row] = root[above]
        row = above
    return row
