import numpy as np
import pytest

from ebox.datasets.examples import Examples, concatenate, make_examples
from ebox.datasets.splits import (
    check_splits,
    choose_split,
    draw_balanced,
    find_overlaps,
    link_examples,
    split_at_random,
    split_by_chrom,
)
from ebox.errors import InputError
from ebox.settings.reading import DataConfig


def _examples(num: int, target: int = 1, chroms: tuple[str, ...] = ("",), length: int = 20) -> Examples:
    random = np.random.default_rng(num + target)
    placed = bool(chroms[0])
    start = np.arange(num, dtype=np.int64) * 100 if placed else np.full(num, -1, dtype=np.int64)
    return make_examples(
        random.integers(0, 4, (num, length), dtype=np.uint8),
        [f"{'np'[target]}{row}" for row in range(num)],
        target=target,
        kind=1 - target,
        source=0,
        chrom=np.array([chroms[row % len(chroms)] for row in range(num)], dtype=object),
        start=start,
        end=start + length if placed else start,
    )


def test_random_split_is_stratified_exactly() -> None:
    stratum = np.repeat([0, 1, 2], [1000, 3000, 500])
    split = split_at_random(np.arange(4500), stratum, (0.7, 0.2, 0.1), seed=1)
    for level, num in ((0, 1000), (1, 3000), (2, 500)):
        assert np.bincount(split[stratum == level]).tolist() == [num * 0.7, num * 0.2, num * 0.1]


def test_random_split_keeps_clusters_whole_and_shares_right() -> None:
    random = np.random.default_rng(0)
    cluster = random.integers(0, 900, 3000)
    stratum = random.integers(0, 2, 3000)
    split = split_at_random(cluster, stratum, (0.6, 0.2, 0.2), seed=1)
    assert all(len(set(split[cluster == label])) == 1 for label in range(900) if (cluster == label).any())
    for level in (0, 1):
        shares = np.bincount(split[stratum == level], minlength=3) / (stratum == level).sum()
        np.testing.assert_allclose(shares, (0.6, 0.2, 0.2), atol=0.01)


def test_a_giant_cluster_goes_to_train() -> None:
    cluster = np.concatenate([np.zeros(400, dtype=np.int64), np.arange(1, 601)])
    split = split_at_random(cluster, np.zeros(1000, dtype=np.int64), (0.7, 0.2, 0.1), seed=0)
    assert (split[:400] == 0).all()
    assert np.bincount(split).tolist() == [700, 200, 100]


def test_random_split_depends_on_the_seed_alone() -> None:
    cluster, stratum = np.arange(100), np.zeros(100, dtype=np.int64)
    first, again, other = (split_at_random(cluster, stratum, (0.7, 0.2, 0.1), seed) for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


def test_the_random_split_of_a_seed_stays_what_it_was() -> None:
    split = split_at_random(np.arange(20), np.zeros(20, dtype=np.int64), (0.5, 0.25, 0.25), seed=1)
    assert split.tolist() == [0, 0, 1, 0, 1, 0, 0, 2, 2, 0, 2, 2, 0, 1, 0, 0, 1, 1, 0, 2]


def test_chromosomes_go_where_the_settings_say_with_or_without_chr() -> None:
    examples = _examples(6, chroms=("chr1", "2", "chrX"))
    assert split_by_chrom(examples, ("chr2",), ("1",)).tolist() == [2, 1, 0, 2, 1, 0]


def test_other_forms_of_a_held_out_chromosome_are_held_out_too() -> None:
    names = ("chr1_KI270706v1_random", "chr8_KI270821v1_alt", "chr2_KN538362v1_fix", "chr1_random", "chr6_apd_hap1")
    assert split_by_chrom(_examples(5, chroms=names), ("chr2",), ("chr1", "8")).tolist() == [2, 2, 1, 2, 0]
    # Their own name goes first; names that follow another scheme are their own.
    names = ("chr1_KI270706v1_random", "chrUn_KI270302v1", "NC_000001.11", "scaffold_12")
    assert split_by_chrom(_examples(4, chroms=names), ("1_KI270706v1_random",), ("1",)).tolist() == [1, 0, 0, 0]


def test_shuffled_negatives_follow_their_positive() -> None:
    positives = _examples(3, chroms=("chr1", "chr2", "chr3"))
    shuffled = make_examples(
        positives.codes[::-1], ["a", "b", "c"], target=0, kind=1, source=0, parent=np.array([2, 0, 1])
    )
    both = concatenate([positives, shuffled])
    both.parent[3:] = [2, 0, 1]
    assert split_by_chrom(both, ("chr2",), ("chr1",)).tolist() == [2, 1, 0, 0, 2, 1]
    assert link_examples(both, np.arange(6)).tolist() == [0, 1, 2, 2, 0, 1]
    assert choose_split(both, "auto") == "chromosome"


def test_overlaps_are_chained_and_neighbours_are_not() -> None:
    start = np.array([100, 110, 129, 140, 100, 149], dtype=np.int64)
    chrom = np.array(["1", "1", "1", "1", "2", "1"], dtype=object)
    examples = make_examples(
        np.zeros((6, 20), dtype=np.uint8),
        list("abcdef"),
        target=1,
        kind=0,
        source=0,
        chrom=chrom,
        start=start,
        end=start + 20,
    )
    # a-b-c-d-f overlap one after the other; e lies on another chromosome.
    assert link_examples(examples, np.arange(6)).tolist() == [0, 0, 0, 0, 4, 0]
    assert len(find_overlaps(examples)[0]) == 4


def test_touching_windows_do_not_overlap() -> None:
    start = np.array([0, 20], dtype=np.int64)
    examples = make_examples(
        np.zeros((2, 20), dtype=np.uint8),
        ["a", "b"],
        target=1,
        kind=0,
        source=0,
        chrom=np.array(["1", "1"], dtype=object),
        start=start,
        end=start + 20,
    )
    assert len(find_overlaps(examples)[0]) == 0


def test_auto_is_random_when_one_place_is_unknown() -> None:
    both = concatenate([_examples(3, chroms=("chr1",)), _examples(3, target=0)])
    assert choose_split(both, "auto") == choose_split(both, "random") == "random"
    with pytest.raises(InputError, match=r"3 examples have none(.|\n)*data\.split=random"):
        choose_split(both, "chromosome")


def test_balanced_draw_leaves_as_many_negatives_as_positives_in_each_split() -> None:
    both = concatenate([_examples(30), _examples(300, target=0)])
    both.split[:] = np.arange(330) % 3
    out = draw_balanced(both, both.kind == 1, seed=0)
    assert len(out) == 270
    assert (both.kind[out] == 1).all()
    assert np.bincount(both.split[out]).tolist() == [90, 90, 90]


def test_an_empty_split_says_where_the_examples_lie() -> None:
    both = concatenate([_examples(4, chroms=("chr5", "chr1")), _examples(4, target=0, chroms=("chr5", "chr1"))])
    both.split[:] = split_by_chrom(both, ("chr2",), ("chr1",))
    with pytest.raises(InputError, match=r"validation split has no positives(.|\n)*lie on chr1, chr5"):
        check_splits(both, DataConfig(), "chromosome", "")


def test_a_split_of_one_class_is_refused() -> None:
    both = concatenate([_examples(9), _examples(9, target=0)])
    both.split[:] = np.arange(18) % 3
    both.split[(both.kind == 1) & (both.split == 2)] = 0
    with pytest.raises(InputError, match="test split has no negatives"):
        check_splits(both, DataConfig(), "random", "3 duplicate")


@pytest.mark.parametrize("num_loci", [2, 3])
def test_a_class_of_too_few_clusters_is_told_why(num_loci: int) -> None:
    both = concatenate([_examples(9, chroms=("chr5",)), _examples(9, target=0, chroms=("chr6",))])
    if num_loci == 2:
        both.start[:9], both.end[:9] = np.arange(9) % 2 * 100, np.arange(9) % 2 * 100 + 20
    both.split[:] = 0
    # The positives are alike: two clusters, of two overlapping loci or of nine that lie apart.
    cluster = np.concatenate([np.arange(9) % 2, np.arange(9, 18)])
    with pytest.raises(InputError, match="the positive sequences are in 2 clusters") as raised:
        check_splits(both, DataConfig(), "random", "", cluster=cluster)
    assert ("max_similarity=1" in str(raised.value.remedy)) == (num_loci == 3)
    for mode, remedy in (("chromosome", "the examples lie on chr5, chr6"), ("given", "give tables")):
        with pytest.raises(InputError) as raised:
            check_splits(both, DataConfig(), mode, "", cluster=cluster)
        assert "2 clusters" not in str(raised.value)
        assert remedy in str(raised.value.remedy)
