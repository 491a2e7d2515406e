"""Which examples are for training, validation and test: at random with whole clusters, or by chromosome."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Int8, Int64

from ebox.datasets.examples import Examples
from ebox.datasets.folder import SPLITS
from ebox.datasets.similarity import join
from ebox.errors import InputError
from ebox.settings.reading import DataConfig

_PART_OF_CHROM = re.compile(r"([^_]+)_(?:.+_)?(?:random|alt|fix|hap\d+)")


class SplitReason(StrEnum):
    """Why the examples were split as they were."""

    GIVEN = "given"
    ASKED = "asked"
    ALL_PLACED = "all_placed"
    NONE_PLACED = "none_placed"
    SOME_PLACED = "some_placed"


def explain_split(examples: Examples, setting: str, mode: str) -> dict[str, Any]:
    """Why the examples were split in this mode: the reason, how many name no place, and the first of these."""
    without = np.flatnonzero(~(examples.has_place | (examples.parent >= 0)))
    num, first = len(without), examples.names[int(without[0])] if len(without) else None
    # Made negatives have a place or a positive with one, so that the records of files decide.
    placed = bool(examples.has_place.any())
    by_places = (
        SplitReason.SOME_PLACED if num and placed else SplitReason.NONE_PLACED if num else SplitReason.ALL_PLACED
    )
    reason = SplitReason.GIVEN if mode == "given" else SplitReason.ASKED if setting != "auto" else by_places
    return {"why": reason.value, "num_without_place": num, "num_examples": len(examples), "record": first}


def choose_split(examples: Examples, split: str) -> str:
    """Turn the setting "auto" into "chromosome" where every example has coordinates, else into "random".

    Raises:
        InputError: a split by chromosome is wanted, and an example has no coordinates.
    """
    placed = examples.has_place | (examples.parent >= 0)
    if split == "auto":
        return "chromosome" if bool(placed.all()) else "random"
    if split == "chromosome" and not placed.all():
        row = int(np.flatnonzero(~placed)[0])
        raise InputError(
            f"a split by chromosome needs coordinates, and {int((~placed).sum()):,} examples have none",
            record=examples.names[row],
            remedy="write headers as >chrom:start-end, give peaks and a genome, or --set data.split=random",
        )
    return split


def factorize(values: np.ndarray) -> tuple[list[str], Int64[np.ndarray, " value"]]:
    """Distinct texts in order of appearance, and the index of each value among them."""
    found: dict[str, int] = {}
    index = np.fromiter(
        (found.setdefault(value, len(found)) for value in values.tolist()), dtype=np.int64, count=len(values)
    )
    return list(found), index


def split_by_chrom(
    examples: Examples, validation_chroms: Sequence[str], test_chroms: Sequence[str]
) -> Int8[np.ndarray, " example"]:
    """0 train, 1 validation, 2 test for each example by its chromosome; "chr1" and "1" are the same.

    A contig that is not placed on its chromosome, or is another form of a part of it (chr1_KI270706v1_random,
    chr8_KI270821v1_alt, chr2_KN538362v1_fix, chr6_apd_hap1), is in the split of its chromosome, unless it is listed
    itself. A shuffled negative is in the split of its positive.
    """
    names, index = factorize(examples.chrom)
    validation = {name.removeprefix("chr") for name in validation_chroms}
    test = {name.removeprefix("chr") for name in test_chroms}
    listed = validation | test
    bare = [find_home_chrom(name.removeprefix("chr"), listed) for name in names]
    of_chrom = np.array([2 if name in test else 1 if name in validation else 0 for name in bare], dtype=np.int8)
    split: np.ndarray = of_chrom[index]
    child = np.flatnonzero(examples.parent >= 0)
    split[child] = split[examples.parent[child]]
    return split


def find_home_chrom(name: str, listed: Collection[str]) -> str:
    """The chromosome of a contig by its UCSC name; the name itself where it is listed or names no such contig."""
    found = None if name in listed else _PART_OF_CHROM.fullmatch(name)
    return name if found is None else found[1]


def link_examples(examples: Examples, label: Int64[np.ndarray, " example"]) -> Int64[np.ndarray, " example"]:
    """Join clusters whose examples overlap on the genome, and shuffled negatives with their positives."""
    first, second = find_overlaps(examples)
    child = np.flatnonzero(examples.parent >= 0)
    return join(label, np.concatenate([first, child]), np.concatenate([second, examples.parent[child]]))


def find_overlaps(examples: Examples) -> tuple[Int64[np.ndarray, " link"], Int64[np.ndarray, " link"]]:
    """Links between examples that follow each other on a chromosome and overlap; they connect all that overlap."""
    rows = np.flatnonzero(examples.has_place)
    _, chrom = factorize(examples.chrom[rows])
    order = np.lexsort((examples.start[rows], chrom))
    rows, chrom = rows[order], chrom[order]
    # All chromosomes on one number line; each is shorter than 2^40.
    offset = chrom << 40
    start, end = examples.start[rows] + offset, examples.end[rows] + offset
    reached = np.maximum.accumulate(end) if len(end) else end
    overlaps = np.flatnonzero(start[1:] < reached[:-1])
    return rows[overlaps], rows[overlaps + 1]


def split_at_random(
    cluster: Int64[np.ndarray, " example"],
    stratum: Int[np.ndarray, " example"],
    fractions: tuple[float, float, float],
    seed: int,
) -> Int8[np.ndarray, " example"]:
    """0 train, 1 validation, 2 test: clusters stay whole, each stratum is divided by `fractions`.

    Clusters with the same number of examples of each stratum are exchangeable: they are shuffled and given to the
    splits in proportion to what each still lacks, the largest clusters first.

    Args:
        cluster: Label of the cluster of each example.
        stratum: Label, kind or another property that should have the same shares in all splits.
        fractions: Shares of train, validation and test; they sum to 1.
        seed: For the shuffles.
    """
    random = np.random.default_rng([seed, 0x5B117])
    _, member = np.unique(cluster, return_inverse=True)
    levels, level = np.unique(stratum, return_inverse=True)
    num_clusters = int(member.max(initial=-1)) + 1
    cell = member.ravel() * len(levels) + level.ravel()
    makeup = np.bincount(cell, minlength=num_clusters * len(levels)).reshape(num_clusters, len(levels))
    kind = np.zeros(num_clusters, dtype=np.int64)
    for counts in makeup.T:
        _, kind = np.unique(kind * (counts.max(initial=0) + 1) + counts, return_inverse=True)
    groups = np.split(np.argsort(kind, kind="stable"), np.cumsum(np.bincount(kind))[:-1])
    kinds = np.stack([makeup[group[0]] for group in groups])
    lacking = np.outer(fractions, makeup.sum(axis=0)).astype(np.float64)
    split_of_cluster = np.zeros(num_clusters, dtype=np.int8)
    for which in np.argsort(-kinds.sum(axis=1), kind="stable").tolist():
        clusters, counts = random.permutation(groups[which]), kinds[which]
        dealt = _deal(len(clusters), np.maximum(lacking, 0.0) @ counts, fractions)
        split_of_cluster[clusters] = np.repeat(np.arange(3, dtype=np.int8), dealt)
        lacking -= np.outer(dealt, counts)
    return split_of_cluster[member.ravel()]


def _deal(num: int, lacking: Float64[np.ndarray, " split"], fractions: Sequence[float]) -> Int64[np.ndarray, " split"]:
    """Divide `num` in proportion to what is lacking, by the largest remainder."""
    weight = lacking if lacking.sum() > 0 else np.asarray(fractions, dtype=np.float64)
    ideal = num * weight / weight.sum()
    dealt = np.floor(ideal).astype(np.int64)
    rest = num - int(dealt.sum())
    dealt[np.argsort(-(ideal - dealt), kind="stable")[:rest]] += 1
    return dealt


def draw_balanced(examples: Examples, given: Bool[np.ndarray, " example"], seed: int) -> Int64[np.ndarray, " row"]:
    """Rows of given negatives to leave out, so that no split has more of them than positives."""
    random = np.random.default_rng([seed, 0xBA1A])
    left_out = []
    for split in range(3):
        inside = examples.split == split
        wanted = int((inside & examples.is_positive).sum())
        rows = random.permutation(np.flatnonzero(inside & given))
        left_out.append(rows[wanted:])
    return np.sort(np.concatenate(left_out))


def check_splits(
    examples: Examples,
    config: DataConfig,
    mode: str,
    dropped: str,
    *,
    cluster: Int64[np.ndarray, " example"] | None = None,
    tracks: Sequence[str] = ("bound",),
) -> None:
    """Raise InputError when a split has no positives or no negatives of a track.

    Args:
        examples: With their splits assigned.
        config: Named in the remedy.
        mode: How the examples were split: "given", "random" or "chromosome".
        dropped: The counts of dropped examples in words.
        cluster: The cluster of each example, which a random split keeps whole; None: unknown.
        tracks: Their names.
    """
    for track, name in enumerate(tracks):
        positive, negative = examples.targets[:, track] == 1, examples.targets[:, track] == 0
        for split in range(len(SPLITS)):
            for found, what in ((positive, "positives"), (negative, "negatives")):
                if (found & (examples.split == split)).any():
                    continue
                counts = _count_classes(examples, positive, negative)
                told = None
                if mode == "random" and cluster is not None:
                    told = _tell_clusters(examples, cluster, positive, negative)
                raise InputError(
                    f"the {SPLITS[split]} split has no {what}{'' if len(tracks) == 1 else f' of {name}'} "
                    f"({counts}{f'; dropped: {dropped}' if dropped else ''})"
                    f"{'' if told is None else f'; {told[0]}'}",
                    remedy=_remedy(examples, config, mode) if told is None else told[1],
                )


def _count_classes(
    examples: Examples, positive: Bool[np.ndarray, " example"], negative: Bool[np.ndarray, " example"]
) -> str:
    return ", ".join(
        f"{name} {int((positive & (examples.split == number)).sum()):,} positive and "
        f"{int((negative & (examples.split == number)).sum()):,} negative"
        for number, name in enumerate(SPLITS)
    )


def _tell_clusters(
    examples: Examples,
    cluster: Int64[np.ndarray, " example"],
    positive: Bool[np.ndarray, " example"],
    negative: Bool[np.ndarray, " example"],
) -> tuple[str, str] | None:
    """What is wrong, and the remedy, where a class is in fewer clusters than there are splits; else None."""
    few = [rows for rows in (positive, negative) if len(np.unique(cluster[rows])) < len(SPLITS)]
    if not few:
        return None
    num = len(np.unique(cluster[few[0]]))
    class_name = "positive" if few[0] is positive else "negative"
    shown = f"the {class_name} sequences are in {num} cluster{'' if num == 1 else 's'}"
    if len(np.unique(cluster)) == 1:
        shown = f"all {len(examples):,} sequences are one cluster"
    problem = f"{shown}, since they are alike or overlap, and a random split keeps a cluster whole"
    apart = link_examples(examples, np.arange(len(examples)))
    if all(len(np.unique(apart[rows])) >= len(SPLITS) for rows in (positive, negative)):
        return problem, (
            "give sequences of other elements too; or --set data.max_similarity=1 to split these variants of the same, "
            "which measures nothing new"
        )
    return problem, "give sequences of other loci too: those that overlap, or were shuffled from one, stay together"


def _remedy(examples: Examples, config: DataConfig, mode: str) -> str:
    if mode == "given":
        return (
            "give tables for train, validation and test that each hold both labels, or positives and negatives apart: "
            "--test and --test-negatives, and so for the others"
        )
    if mode == "random":
        return "give more examples, or larger shares with --set data.split_fractions=[0.6,0.2,0.2]"
    found = sorted({name for name in examples.chrom.tolist() if name})
    shown = ", ".join(found[:8]) + (" …" if len(found) > 8 else "")
    return (
        f"the examples lie on {shown}; validation_chroms are {', '.join(config.validation_chroms)} and "
        f"test_chroms {', '.join(config.test_chroms)}: choose others that the data has, or "
        "--set data.split=random"
    )


def describe_split(config: DataConfig, mode: str) -> dict[str, Any]:
    """How the splits were made, for the quality report."""
    if mode == "random":
        return {"mode": mode, "fractions": list(config.split_fractions), "seed": config.seed}
    if mode == "chromosome":
        chroms = {"validation": list(config.validation_chroms), "test": list(config.test_chroms)}
        return {"mode": mode, "chroms": chroms}
    return {"mode": mode, "cleaned": config.clean_given_splits}
