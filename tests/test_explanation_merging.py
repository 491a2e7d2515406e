"""Variants of one motif become one; different motifs stay apart; sites keep their place and strand."""

from __future__ import annotations

import numpy as np
import pytest

from ebox.explanation.merging import Alignment, Pattern, align, merge_alike, move_site
from ebox.sequences.codes import one_hot, reverse_complement

WIDTH, LENGTH = 10, 40
EBOX = np.array([0, 1, 0, 2, 0, 3, 2, 0], np.uint8)  # ACAGATGA, no palindrome
GATA = np.array([2, 0, 3, 0, 0, 2, 2, 1], np.uint8)


def _plant(motif: np.ndarray, num: int, seed: int, turned: bool = False) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (num, LENGTH), np.uint8)
    starts = [int(start) for start in rng.integers(5, 20, num)]
    for row, start in zip(codes, starts, strict=True):
        row[start : start + len(motif)] = reverse_complement(motif) if turned else motif
    return codes, starts


def _pattern(codes: np.ndarray, hypothetical: np.ndarray, sites: list[tuple[int, int, int, str]]) -> Pattern:
    rows = []
    for example, start, end, strand in sites:
        turn = -1 if strand == "-" else 1
        letters = one_hot(codes[example, start:end])
        rows.append((letters[::turn, ::turn], (letters * hypothetical[example, start:end])[::turn, ::turn]))
    shares, contributions = (np.mean([row[number] for row in rows], axis=0) for number in (0, 1))
    return Pattern(1, shares, contributions, tuple(sites))


def _hypothetical(codes: np.ndarray, starts: list[int], motif_width: int) -> np.ndarray:
    """1 for every base of a site, 0 outside."""
    values = np.zeros((*codes.shape, 4), np.float32)
    for row, start in zip(values, starts, strict=True):
        row[start : start + motif_width] = 1.0
    return values


def test_the_same_motif_on_the_other_strand_and_shifted_is_found_and_merged():
    forward, starts = _plant(EBOX, 60, 0)
    backward, other = _plant(EBOX, 40, 1, turned=True)
    codes = np.concatenate([forward, backward])
    hypothetical = _hypothetical(codes, starts + other, len(EBOX))
    first = _pattern(codes, hypothetical, [(row, start - 1, start + 9, "+") for row, start in enumerate(starts)])
    # Two columns further left as its strand reads, which is the forward one of the sequences.
    sites = [(60 + row, start - 2, start + 8, "+") for row, start in enumerate(other)]
    second = _pattern(codes, hypothetical, sites)
    (merged,) = merge_alike([second, first], codes, hypothetical)
    assert len(merged.sites) == 100
    assert set(merged.sites[60:]) == {(60 + row, start - 1, start + 9, "-") for row, start in enumerate(other)}
    np.testing.assert_allclose(merged.shares[1:9], one_hot(EBOX), atol=1e-6)
    np.testing.assert_allclose(merged.contributions[1:9], one_hot(EBOX), atol=1e-6)


def test_other_motifs_and_other_signs_stay():
    codes, starts = _plant(EBOX, 50, 2)
    more, other = _plant(GATA, 30, 3)
    together = np.concatenate([codes, more])
    hypothetical = _hypothetical(together, starts + other, 8)
    ebox = _pattern(together, hypothetical, [(row, start, start + 8, "+") for row, start in enumerate(starts)])
    gata = _pattern(together, hypothetical, [(50 + row, start, start + 8, "+") for row, start in enumerate(other)])
    against = Pattern(-1, ebox.shares, ebox.contributions, ebox.sites[:20])
    merged = merge_alike([gata, ebox, against], together, hypothetical)
    assert [(pattern.sign, len(pattern.sites)) for pattern in merged] == [(1, 50), (1, 30), (-1, 20)]


def test_a_site_that_is_there_already_or_would_reach_over_an_end_is_left_out():
    codes, starts = _plant(EBOX, 30, 4)
    hypothetical = _hypothetical(codes, starts, 8)
    first = _pattern(codes, hypothetical, [(row, start, start + 8, "+") for row, start in enumerate(starts)])
    same = _pattern(codes, hypothetical, list(first.sites[:10]))
    (merged,) = merge_alike([first, same], codes, hypothetical)
    assert merged.sites == first.sites
    # Two columns further right than the first has them: one at the start would begin before it, one at the end fits.
    narrow = Pattern(1, first.shares[2:], first.contributions[2:], ((0, 0, 6, "+"), (1, LENGTH - 6, LENGTH, "+")))
    (merged,) = merge_alike([first, narrow], codes, hypothetical)
    assert merged.sites == (*first.sites, (1, LENGTH - 8, LENGTH, "+"))
    wide = Pattern(1, first.shares[:-2], first.contributions[:-2], ((2, LENGTH - 6, LENGTH, "+"), (3, 0, 6, "+")))
    (merged,) = merge_alike([first, wide], codes, hypothetical)
    assert merged.sites == (*first.sites, (3, 0, 8, "+"))
    assert move_site((0, 1, 5, "+"), Alignment(1.0, 3, "+"), 8) == (0, -2, 6, "+")


def test_joined_contributions_are_the_mean_over_all_sites():
    codes, starts = _plant(EBOX, 40, 6)
    strength = np.random.default_rng(7).uniform(0.5, 2.0, 40).astype(np.float32)
    hypothetical = _hypothetical(codes, starts, 8) * strength[:, None, None]
    sites = [(row, start, start + 8, "+") for row, start in enumerate(starts)]
    parts = [_pattern(codes, hypothetical, sites[:25]), _pattern(codes, hypothetical, sites[25:])]
    (merged,) = merge_alike(parts, codes, hypothetical)
    np.testing.assert_allclose(merged.contributions, one_hot(EBOX) * strength.mean(), rtol=1e-5)


@pytest.mark.parametrize("offset", [-3, 0, 4])
@pytest.mark.parametrize("strand", ["+", "-"])
def test_an_alignment_is_found_back(offset: int, strand: str):
    rng = np.random.default_rng(5)
    first = rng.normal(size=(12, 4))
    padded = np.concatenate([np.zeros((6, 4)), first, np.zeros((6, 4))])
    second = padded[6 + offset : 6 + offset + 9]
    found = align(first, second if strand == "+" else second[::-1, ::-1])
    assert (found.offset, found.strand) == (offset, strand)
    # What the shorter one lacks counts against it.
    assert 0.5 < found.cosine <= 1.0 + 1e-12
