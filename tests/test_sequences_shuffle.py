from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.sequences import decode, encode, shuffle_dinucleotides


def count_pairs(codes: np.ndarray) -> np.ndarray:
    pairs = codes[:, :-1].astype(np.int64) * 5 + codes[:, 1:]
    return np.stack([(pairs == pair).sum(axis=1) for pair in range(25)], axis=1)


def list_orders(text: str) -> set[str]:
    """Every text with the same pairs and the same ends, by trying all of them."""
    pairs = collections.Counter(itertools.pairwise(text))
    tried = {text[0] + "".join(middle) + text[-1] for middle in itertools.permutations(text[1:-1])}
    return {other for other in tried if collections.Counter(itertools.pairwise(other)) == pairs}


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 6),
    length=st.integers(0, 60),
    letters=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_shuffle_keeps_pairs_and_ends(rows: int, length: int, letters: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, letters, (rows, length)).astype(np.uint8)
    shuffled = shuffle_dinucleotides(codes, seed)
    assert shuffled.shape == codes.shape
    assert shuffled.dtype == np.uint8
    if length > 1:
        assert np.array_equal(count_pairs(codes), count_pairs(shuffled))
        assert np.array_equal(codes[:, [0, -1]], shuffled[:, [0, -1]])


@pytest.mark.parametrize(
    "text", ["ACACGAT", "AACCNACNA", "AAAAAACAA", "GATTACAGA", "ACGTNACGT", "CANACNGC", "TANATNGT"]
)
def test_every_order_is_equally_likely(text: str) -> None:
    orders = list_orders(text)
    num_draws = 20_000
    shuffled = shuffle_dinucleotides(np.tile(encode(text), (num_draws, 1)), 3)
    counts = collections.Counter(decode(row) for row in shuffled)
    assert set(counts) == orders
    expected = num_draws / len(orders)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    freedom = len(orders) - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * max(freedom, 1)) + 8


def test_what_has_one_order_only_stays() -> None:
    for text in ("AAAAAAAAAC", "NNNNNNNN", "AC", "A", "ACG"):
        codes = np.tile(encode(text), (3, 1))
        assert np.array_equal(shuffle_dinucleotides(codes, 0), codes)


def test_no_sequences_give_no_sequences() -> None:
    assert shuffle_dinucleotides(np.empty((0, 200), np.uint8), 0).shape == (0, 200)


def test_the_seed_decides_and_the_input_is_left_alone() -> None:
    codes = np.random.default_rng(0).integers(0, 4, (50, 200)).astype(np.uint8)
    before = codes.copy()
    first = shuffle_dinucleotides(codes, 7)
    assert np.array_equal(codes, before)
    assert np.array_equal(first, shuffle_dinucleotides(codes, 7))
    assert not np.array_equal(first, shuffle_dinucleotides(codes, 8))
    assert (first != codes).mean() > 0.6


def test_equal_sequences_are_shuffled_differently() -> None:
    codes = np.tile(np.random.default_rng(0).integers(0, 4, 200).astype(np.uint8), (200, 1))
    assert len(np.unique(shuffle_dinucleotides(codes, 0), axis=0)) == 200


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).integers(0, 5, (64, 40)).astype(np.uint8)
    monkeypatch.setattr("ebox.sequences.shuffle._BLOCK_BASES", 400)
    shuffled = shuffle_dinucleotides(codes, 1)
    assert np.array_equal(count_pairs(codes), count_pairs(shuffled))
    assert np.array_equal(shuffle_dinucleotides(codes[:10], 1), shuffled[:10])


def test_long_runs_cost_no_more() -> None:
    text = "A" * 3000 + "C" + "A" * 3000 + "G" + "T" * 500
    codes = np.tile(encode(text), (20, 1))
    shuffled = shuffle_dinucleotides(codes, 0)
    assert np.array_equal(count_pairs(codes), count_pairs(shuffled))
    assert len(np.unique((shuffled == 1).argmax(axis=1))) > 15
