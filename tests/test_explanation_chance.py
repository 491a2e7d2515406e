"""Whether a matrix is more like known motifs than its own columns in another order are."""

from __future__ import annotations

import numpy as np
import pytest

from ebox.explanation.chance import find_chances
from ebox.explanation.filters import FilterMotif, Shape, filter_motifs
from ebox.explanation.matching import gather_targets, match_motifs
from ebox.explanation.writing import describe_filters
from ebox.sequences import encode, load_jaspar, one_hot
from ebox.sequences.matrices import Motif

KNOWN = [load_jaspar(name).probabilities for name in ("MA0140.3", "MA0035.4", "MA0091.2")]


def compare(matrices, known=KNOWN) -> np.ndarray:
    """Exp of minus the best sum of products over all shifts: as a p-value it is wrong, and so a hard case."""
    rows = []
    for matrix in matrices:
        padded = np.pad(matrix - 0.25, ((20, 20), (0, 0)))
        windows = [np.lib.stride_tricks.sliding_window_view(padded, len(other), axis=0) for other in known]
        rows.append(
            [
                max(np.einsum("pbw,wb->p", view, turned - 0.25).max() for turned in (other, other[::-1, ::-1]))
                for view, other in zip(windows, known, strict=True)
            ]
        )
    return np.exp(-3.0 * np.array(rows))


def draw_noise(number: int, width: int = 15) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.dirichlet(np.full(4, 0.7), width) for _ in range(number)]


def test_few_of_noise_are_more_like_known_motifs_than_their_permutations():
    noise = draw_noise(200)
    chances = find_chances(noise, KNOWN, compare(noise), compare)
    assert chances.shape == (200, 3)
    assert ((chances > 0) & (chances <= 1)).all()
    least = chances.min(axis=1)
    assert (least <= 0.05).mean() < 0.085
    assert (least <= 0.01).mean() < 0.03
    # A fair chance is even.
    assert 0.35 < np.median(least) < 0.65


@pytest.mark.parametrize("number", [0, 40])
def test_what_is_like_a_known_motif_has_a_small_chance_alone_and_among_noise(number: int):
    flat = np.full((3, 4), 0.25)
    true = [np.concatenate([flat, 0.9 * matrix + 0.025]) for matrix in KNOWN]
    matrices = [*draw_noise(number), *true]
    chances = find_chances(matrices, KNOWN, compare(matrices), compare)
    assert (chances[number:].min(axis=1) < 0.005).all()
    permuted = [matrix[np.random.default_rng(5).permutation(len(matrix))] for matrix in true]
    assert (find_chances(permuted, KNOWN, compare(permuted), compare) > 0.02).all()


def test_one_base_throughout_is_like_its_permutations():
    matrix = 0.9 * one_hot(encode("AAAAAAAA"), np.float64) + 0.025
    known = [matrix, *KNOWN]
    found = find_chances([matrix], known, compare([matrix], known), lambda some: compare(some, known))
    assert found.min() > 0.2


def test_a_filter_that_says_next_to_nothing_is_flat_and_like_nothing():
    sharp = Motif("m", 0.9 * one_hot(encode("CAGATG"), np.float64) + 0.025).probabilities
    for matrix, shape in ((sharp, Shape.SHARP), (0.4 * sharp + 0.15, Shape.FLAT), (sharp[:1], Shape.FLAT)):
        own = FilterMotif(0, matrix, 50, 0.5, 0.1, 1.0, None)
        assert own.shape is shape
        assert own.information_bits == pytest.approx(Motif("m", matrix).information().sum())
        (facts,) = describe_filters([own], [[]])
        assert (facts["shape"], facts["information_bits"]) == (shape.value, round(own.information_bits, 3))


@pytest.mark.slow
def test_hardly_any_filter_of_noise_is_a_find_and_known_motifs_among_them_are():
    """Filters of random weights, laid over random sequences, with three known motifs between flat columns."""
    random = np.random.default_rng(1)
    codes = random.integers(0, 4, (200, 100)).astype(np.uint8)
    weights = random.normal(size=(60, 15, 4)).astype(np.float32)
    noise = filter_motifs(weights, codes, np.arange(200) < 100, known=[])
    flat = np.full((2, 4), 0.25)
    true = [np.concatenate([flat, load_jaspar(name).probabilities, flat]) for name in ("MA0140.3", "MA0091.2")]
    found = match_motifs([*(own.probabilities for own in noise), *true], gather_targets(()))
    assert sum(row[0].is_find for row in found[:-2]) <= 0.05 * len(noise)
    assert all(row[0].is_find for row in found[-2:])
    # By the q-values of TOMTOM alone most of them would be.
    assert sum(min(match.q_value for match in row) <= 0.05 for row in found[:-2]) > 0.4 * len(noise)
