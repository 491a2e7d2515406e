"""Labels of several tracks: what one sequence or locus is in each of them, and what is unknown."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from ebox.datasets.clusters import count_clusters
from ebox.datasets.examples import DropLog, Dropped, Examples
from ebox.datasets.folder import SPLITS, UNKNOWN_TARGET
from ebox.datasets.splits import factorize

# Centres of one locus are at most this share of the window apart, so that the site of each stands well inside.
_SAME_LOCUS = 0.25


def contradict(left: UInt8[np.ndarray, "row track"], right: UInt8[np.ndarray, "row track"]) -> Bool[np.ndarray, " row"]:
    """Whether two rows of labels differ in a track in which both are known."""
    differs = (left != right) & (left != UNKNOWN_TARGET) & (right != UNKNOWN_TARGET)
    return np.asarray(differs.any(axis=1))


def unite(
    targets: UInt8[np.ndarray, "row track"], group: Int64[np.ndarray, " row"]
) -> tuple[UInt8[np.ndarray, "group track"], Bool[np.ndarray, " group"]]:
    """What the rows of each group say together, and whether they contradict each other.

    Args:
        targets: Labels of the rows.
        group: The number of the group of each row, from 0 on.
    """
    num = int(group.max(initial=-1)) + 1
    is_one, is_zero = (np.zeros((num, targets.shape[1]), dtype=bool) for _ in range(2))
    np.logical_or.at(is_one, group, targets == 1)
    np.logical_or.at(is_zero, group, targets == 0)
    united = np.where(is_one, 1, np.where(is_zero, 0, UNKNOWN_TARGET)).astype(np.uint8)
    return united, np.asarray((is_one & is_zero).any(axis=1))


def drop_unlabelled(examples: Examples, log: DropLog) -> Examples:
    """Drop examples whose label is unknown in every track."""
    unknown = (examples.targets == UNKNOWN_TARGET).all(axis=1)
    if not unknown.any():
        return examples
    log.add_examples(examples, np.flatnonzero(unknown), Dropped.UNLABELLED, "")
    return examples.take(np.flatnonzero(~unknown))


def join_loci(examples: Examples, log: DropLog) -> Examples:
    """Make one example of positives of different tracks at one locus: the first on the chromosome, with all labels.

    Their centres are at most a quarter of the length apart, and no track knows both. Loci of one track stay apart.
    """
    rows = np.flatnonzero(examples.is_positive & examples.has_place)
    if examples.num_tracks == 1 or not len(rows):
        return examples
    _, chrom = factorize(examples.chrom[rows])
    order = np.lexsort((rows, examples.start[rows], chrom))
    row, partner = _pair_loci(examples, rows[order], chrom[order])
    if not len(row):
        return examples
    targets = examples.targets.copy()
    for one, other in zip(row.tolist(), partner.tolist(), strict=True):
        targets[other] = np.minimum(targets[other], targets[one])
    details = [f"with={examples.names[other]}" for other in partner.tolist()]
    log.add_examples(examples, row, Dropped.JOINED, details)
    keep = np.ones(len(examples), dtype=bool)
    keep[row] = False
    return replace(examples, targets=targets).take(np.flatnonzero(keep))


def _pair_loci(
    examples: Examples, rows: Int64[np.ndarray, " positive"], chrom: Int64[np.ndarray, " positive"]
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
    """Rows that join an earlier one, and that one; `rows` are in the order of their places."""
    reach = int(_SAME_LOCUS * examples.codes.shape[1])
    starts, chroms = examples.start[rows].tolist(), chrom.tolist()
    known = examples.targets[rows] != UNKNOWN_TARGET
    # Each locus that is still in reach: chromosome, start, row, and the tracks in which it is known.
    near: deque[tuple[int, int, int, np.ndarray]] = deque()
    pairs: list[tuple[int, int]] = []
    for place, row in enumerate(rows.tolist()):
        while near and (near[0][0] != chroms[place] or near[0][1] < starts[place] - reach):
            near.popleft()
        free = [locus for locus in near if not (locus[3] & known[place]).any()]
        if free:
            # The nearest is the last one.
            free[-1][3][:] |= known[place]
            pairs.append((row, free[-1][2]))
        else:
            near.append((chroms[place], starts[place], row, known[place].copy()))
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def find_strata(examples: Examples) -> Int64[np.ndarray, " example"]:
    """What should have the same share in every split: the kind, and of positives the rarest track that they are in."""
    kind = examples.kind.astype(np.int64)
    if examples.num_tracks == 1:
        return kind
    positive = examples.targets == 1
    rarity = np.argsort(np.argsort(positive.sum(axis=0), kind="stable"), kind="stable")
    rank = np.where(positive, rarity, examples.num_tracks).min(axis=1)
    return kind * (examples.num_tracks + 1) + rank


def count_labels(
    examples: Examples, names: Sequence[str], cluster: Int64[np.ndarray, " example"]
) -> dict[str, dict[str, Any]]:
    """For each track and split how many labels are positive, negative and unknown, and of how many clusters."""
    counts: dict[str, dict[str, Any]] = {name: {} for name in names}
    for number, name in enumerate(names):
        targets = examples.targets[:, number]
        for at, split in enumerate(SPLITS):
            inside = (examples.split == at) & (targets != UNKNOWN_TARGET)
            num, positive = int(inside.sum()), int((targets[inside] == 1).sum())
            counts[name][split] = {
                "positive": positive,
                "negative": num - positive,
                "unknown": int((examples.split == at).sum()) - num,
                "clusters": count_clusters(cluster[inside], targets[inside] == 1),
            }
    return counts
