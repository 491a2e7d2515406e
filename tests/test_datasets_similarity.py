import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.datasets.kmers import (
    NO_KMER,
    distinct_kmers,
    group_equal,
    kmer_hashes,
    long_kmer_hashes,
    sequence_keys,
    sketch_sequences,
)
from ebox.datasets.similarity import (
    SketchIndex,
    cluster_similar,
    index_sketches,
    join,
    similar_across,
    similarity,
)
from ebox.sequences.codes import reverse_complement


def _random_codes(num: int, length: int, seed: int = 0, letters: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, letters, (num, length), dtype=np.uint8)


def _kmers(codes: np.ndarray, kmer_bp: int) -> set[tuple[int, ...]]:
    words = set()
    for start in range(len(codes) - kmer_bp + 1):
        word = tuple(int(code) for code in codes[start : start + kmer_bp])
        if max(word) < 4:
            words.add(min(word, tuple(3 - code for code in reversed(word))))
    return words


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 16), st.integers(0, 10_000))
def test_canonical_kmers_agree_with_sets_of_words(kmer_bp: int, seed: int) -> None:
    codes = _random_codes(6, 24, seed, letters=5)
    codes[:3] %= 4
    found = distinct_kmers(codes, kmer_bp)
    assert [(row != NO_KMER).sum() for row in found] == [len(_kmers(row, kmer_bp)) for row in codes]


@pytest.mark.parametrize("kmer_bp", [1, 5, 16])
def test_kmers_of_the_other_strand_are_the_same(kmer_bp: int) -> None:
    codes = _random_codes(20, 40)
    flipped = reverse_complement(codes)
    np.testing.assert_array_equal(kmer_hashes(codes, kmer_bp), kmer_hashes(flipped, kmer_bp)[:, ::-1])
    np.testing.assert_array_equal(long_kmer_hashes(codes, 31), long_kmer_hashes(flipped, 31)[:, ::-1])
    np.testing.assert_array_equal(sketch_sequences(codes, kmer_bp), sketch_sequences(flipped, kmer_bp))


def test_a_kmer_longer_than_its_word_is_refused() -> None:
    with pytest.raises(ValueError, match="k-mers of 17"):
        kmer_hashes(_random_codes(1, 40), 17)


def test_flipping_twice_is_the_identity() -> None:
    codes = _random_codes(10, 33, letters=5)
    np.testing.assert_array_equal(reverse_complement(reverse_complement(codes)), codes)


def test_keys_are_equal_for_both_strands_and_differ_otherwise() -> None:
    codes = _random_codes(5000, 50, letters=5)
    keys = sequence_keys(codes)
    np.testing.assert_array_equal(keys, sequence_keys(reverse_complement(codes)))
    assert len(np.unique(keys)) == 5000


def test_groups_of_equal_keys_name_their_first_row() -> None:
    rows, first = group_equal(np.array([7, 3, 7, 9, 3, 7], dtype=np.uint64))
    assert rows.tolist() == [0, 1, 2, 4, 5]
    assert first.tolist() == [0, 1, 0, 1, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_join_finds_connected_sets(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.integers(0, 40, (2, 30))
    label = join(np.arange(40), first, second)
    expected = list(range(40))
    for _ in range(40):
        for a, b in zip(first, second, strict=True):
            expected[a] = expected[b] = min(expected[a], expected[b])
    assert label.tolist() == expected


def test_similarity_is_the_shared_part_of_the_larger_set() -> None:
    codes = _random_codes(2, 100)
    codes[1, :60] = codes[0, 40:]
    # 60 shared letters hold 45 of 85 16-mers.
    assert similarity(codes, np.array([0]), np.array([1]))[0] == pytest.approx(45 / 85)
    assert similarity(reverse_complement(codes)[:1].repeat(2, 0), np.array([0]), np.array([1]))[0] == 1.0


def test_of_two_sets_the_larger_counts_whichever_comes_first() -> None:
    codes = _random_codes(2, 100)
    codes[1, :50] = codes[0, :50]
    codes[1, 50:] = 4
    # 35 of 85 16-mers; the second has no others.
    for first, second in ((0, 1), (1, 0)):
        assert similarity(codes, np.array([first]), np.array([second]))[0] == pytest.approx(35 / 85)


def test_clusters_agree_with_all_against_all() -> None:
    random = np.random.default_rng(3)
    codes = _random_codes(300, 120, 3)
    for row in range(100):  # overlaps, mutated copies and reverse complements of the first hundred
        shift = int(random.integers(0, 120))
        codes[100 + row, : 120 - shift] = codes[row, shift:]
        copy = reverse_complement(codes[row : row + 1])[0] if row % 2 else codes[row].copy()
        mutated = random.random(120) < 0.03
        codes[200 + row] = np.where(mutated, (copy + 1) % 4, copy)
    first, second = np.triu_indices(300, 1)
    linked = similarity(codes, first, second) > 0.5
    expected = join(np.arange(300), first[linked], second[linked])
    found = cluster_similar(codes, 0.5)
    assert (found == expected).mean() > 0.99
    assert (cluster_similar(codes, 1.0) == np.arange(300)).all()


def test_low_complexity_does_not_join_unrelated_sequences() -> None:
    codes = _random_codes(50, 100)
    codes[:, 40:60] = 0  # a run of A in all of them, and one that is nothing else
    codes[0] = 0
    assert (cluster_similar(codes, 0.5) == np.arange(50)).all()


def test_a_large_family_is_one_cluster() -> None:
    codes = np.concatenate([_random_codes(20, 60), np.repeat(_random_codes(1, 60, 9), 500, axis=0)])
    label = cluster_similar(codes, 0.5)
    assert (label[20:] == 20).all()
    assert (label[:20] == np.arange(20)).all()


def test_sequences_without_kmers_stand_alone() -> None:
    codes = np.full((4, 30), 4, dtype=np.uint8)
    assert cluster_similar(codes, 0.5).tolist() == [0, 1, 2, 3]
    assert len(cluster_similar(codes[:, :3], 0.5)) == 4


def test_similar_across_finds_partners_on_the_other_side_only() -> None:
    codes = _random_codes(400, 100)
    codes[300:340] = codes[:40]
    codes[340:360] = reverse_complement(codes[40:60])
    codes[360:370] = codes[370:380]
    side = np.repeat(np.array([0, 1], dtype=np.uint8), [300, 100])
    side[0] = 2  # the first belongs to neither
    rows, partners = similar_across(codes, side, 0.5, index_sketches(codes))
    assert rows.tolist() == list(range(301, 360))
    assert partners.tolist() == list(range(1, 60))


def test_sequences_that_are_alike_on_one_side_alone_are_no_partners() -> None:
    codes = _random_codes(3, 100)
    codes[1] = codes[0]
    for side in ([1, 1, 0], [0, 0, 1]):
        rows, partners = similar_across(codes, np.array(side, dtype=np.uint8), 0.5, index_sketches(codes))
        assert len(rows) == len(partners) == 0


def test_a_large_family_whose_ends_differ_is_one_cluster() -> None:
    # Some ends bring the lowest entry of a sketch, so that rows stand out of order in the buckets.
    codes = np.repeat(_random_codes(1, 100, 9), 200, axis=0)
    codes[:, -4:] = _random_codes(200, 4, 1)
    assert (cluster_similar(codes, 0.5) == 0).all()


def _buckets(codes: np.ndarray, *sizes: int) -> SketchIndex:
    """The rows in their order, in buckets of these sizes."""
    bucket = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
    return SketchIndex(16, sketch_sequences(codes, 16), bucket, np.arange(len(codes), dtype=np.int64))


def test_in_a_bucket_each_is_compared_with_the_next_and_the_first() -> None:
    codes = _random_codes(22, 100)
    codes[21] = codes[2]
    codes[12] = codes[11]
    # Equal rows of other buckets are none of its business.
    codes[1] = codes[5]
    expected = [*range(12), 11, *range(13, 21), 2]
    assert cluster_similar(codes, 0.5, _buckets(codes, 2, 20)).tolist() == expected


def test_in_a_small_bucket_all_are_compared() -> None:
    codes = _random_codes(6, 100)
    codes[5] = codes[1]
    codes[4] = codes[2]
    assert cluster_similar(codes, 0.5, _buckets(codes, 6)).tolist() == [0, 1, 2, 3, 2, 1]
