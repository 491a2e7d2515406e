import json

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.explanation.filters import FilterMotif, filter_motifs, filters_to_json, find_resemblance
from ebox.sequences.motifs import Motif

EBOX = "CAGATGGT"


def _matrix(text: str, certainty: float = 0.91) -> np.ndarray:
    matrix = np.full((len(text), 4), (1.0 - certainty) / 3.0)
    matrix[np.arange(len(text)), ["ACGT".index(base) for base in text]] = certainty
    return matrix


def _motif(name: str, text: str) -> Motif:
    return Motif(name=name, probabilities=_matrix(text), source="made", alt_name=f"{name} protein", num_sites=None)


def _planted(num: int = 300, length: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random sequences; the E-box stands somewhere in the first half of them."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 4, (num, length)).astype(np.uint8)
    site = np.array(["ACGT".index(base) for base in EBOX], dtype=np.uint8)
    for row in range(num // 2):
        start = int(random.integers(0, length - len(EBOX) + 1))
        codes[row, start : start + len(EBOX)] = site
    return codes, np.arange(num) < num // 2


def _filters(width: int = 12) -> np.ndarray:
    """One filter that reads the E-box, one of noise, one that nothing excites."""
    random = np.random.default_rng(1)
    filters = np.zeros((3, width, 4), dtype=np.float32)
    filters[0, 2 : 2 + len(EBOX)] = np.log2(_matrix(EBOX) / 0.25)
    filters[1] = random.normal(0, 0.2, (width, 4))
    return filters


def test_a_planted_motif_is_found_again() -> None:
    codes, targets = _planted()
    known = [_motif("OTHER", "TTTTAAAACC"), _motif("EBOX", EBOX)]
    motifs = filter_motifs(_filters(), codes, targets, known=known, threshold=0.8)
    best = motifs[0]
    assert best.index == 0
    assert EBOX in best.consensus
    assert best.share_positive > 0.95  # wider than the site, which may stand at an end
    assert best.share_negative < 0.1
    assert best.resembles is not None
    assert (best.resembles.id, best.resembles.name) == ("EBOX", "EBOX protein")
    assert best.resembles.offset_bp == 2
    assert best.resembles.num_columns == len(EBOX)


def test_a_filter_that_never_fires_is_left_out() -> None:
    codes, targets = _planted()
    assert sorted(motif.index for motif in filter_motifs(_filters(), codes, targets, known=[])) == [0, 1]


def test_those_that_favour_positives_come_first() -> None:
    codes, targets = _planted()
    differences = [motif.difference for motif in filter_motifs(_filters(), codes, targets, known=[])]
    assert differences == sorted(differences, reverse=True)


def test_the_matrix_is_what_counting_by_hand_gives() -> None:
    codes, targets = _planted(num=40, length=30)
    filters = _filters()[1:2, :8]
    (motif,) = filter_motifs(filters, codes, targets, known=[], num_sequences=40, threshold=0.6)
    centred = filters[0] - filters[0].mean(axis=1, keepdims=True)
    windows = [codes[row, start : start + 8] for row in range(40) for start in range(23)]
    scores = np.array([centred[np.arange(8), window].sum() for window in windows])
    chosen = [window for window, score in zip(windows, scores, strict=True) if score >= 0.6 * scores.max()]
    counts = np.stack([[(np.array(chosen)[:, column] == base).sum() for base in range(4)] for column in range(8)])
    assert motif.num_sites == len(chosen)
    np.testing.assert_allclose(motif.probabilities, (counts + 0.5) / (len(chosen) + 2.0))


def test_an_offset_of_a_column_changes_nothing() -> None:
    codes, targets = _planted()
    moved = _filters() + np.arange(12, dtype=np.float32)[None, :, None]
    for before, after in zip(
        filter_motifs(_filters(), codes, targets, known=[]),
        filter_motifs(moved, codes, targets, known=[]),
        strict=False,
    ):
        np.testing.assert_allclose(before.probabilities, after.probabilities, atol=0.02)


def test_both_strands_find_a_motif_on_the_other_one() -> None:
    codes, targets = _planted()
    flipped = np.ascontiguousarray(3 - codes[:, ::-1])
    one = filter_motifs(_filters(), flipped, targets, known=[], threshold=0.8)
    both = filter_motifs(_filters(), flipped, targets, known=[], threshold=0.8, strands="both")
    shares = [next(m.share_positive for m in found if m.index == 0) for found in (one, both)]
    assert shares[0] < 0.5
    assert shares[1] > 0.95
    assert EBOX in next(m.consensus for m in both if m.index == 0)


def test_n_neither_excites_nor_counts() -> None:
    codes, targets = _planted()
    codes[:, :20] = 4
    for motif in filter_motifs(_filters(), codes, targets, known=[]):
        np.testing.assert_allclose(motif.probabilities.sum(axis=1), 1.0)


def test_the_draw_is_a_function_of_the_seed() -> None:
    codes, targets = _planted()
    runs = [filter_motifs(_filters(), codes, targets, known=[], num_sequences=100, seed=seed) for seed in (1, 1, 2)]
    results = [filters_to_json(run) for run in runs]
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_progress_ends_at_its_total() -> None:
    codes, targets = _planted()
    told: list[tuple[str, int, int]] = []
    filter_motifs(_filters(), codes, targets, known=[], progress=lambda *now: told.append(now))
    assert told[-1][1] == told[-1][2]


def test_what_goes_to_json_comes_back() -> None:
    codes, targets = _planted()
    motifs = filter_motifs(_filters(), codes, targets, known=[_motif("EBOX", EBOX)], threshold=0.8)
    value = json.loads(json.dumps(filters_to_json(motifs, num_sequences=300), allow_nan=False))
    assert value["format"] == "ebox-filters"
    assert value["num_sequences"] == 300
    assert value["num_filters"] == len(motifs)
    assert value["filters"][0]["resembles"]["id"] == "EBOX"
    np.testing.assert_allclose(value["filters"][0]["probabilities"], motifs[0].probabilities, atol=1e-4)


def test_a_known_motif_is_recognised_on_either_strand_and_shifted() -> None:
    known = [_motif("EBOX", EBOX)]
    matrix = np.vstack([np.full((3, 4), 0.25), _matrix(EBOX, 0.8), np.full((2, 4), 0.25)])
    forward, backward = find_resemblance(matrix, known), find_resemblance(matrix[::-1, ::-1], known)
    assert forward is not None
    assert backward is not None
    assert (forward.strand, forward.offset_bp) == ("+", 3)
    assert (backward.strand, backward.offset_bp) == ("-", 2)
    assert forward.correlation == pytest.approx(1.0)


def test_half_a_motif_is_no_resemblance() -> None:
    assert find_resemblance(_matrix("GGTACCAA" + EBOX), [_motif("EBOX", EBOX)]) is None


def test_noise_resembles_nothing() -> None:
    random = np.random.default_rng(0)
    known = [_motif("EBOX", EBOX), _motif("GATA", "AGATAAGC")]
    assert all(find_resemblance(random.dirichlet([1.0] * 4, 15), known) is None for _ in range(50))


def test_the_package_carries_known_motifs() -> None:
    codes, targets = _planted(num=20)
    assert all(isinstance(motif, FilterMotif) for motif in filter_motifs(_filters(), codes, targets))


def test_the_consensus_says_how_sure_it_is() -> None:
    rows = np.array([[0.9, 0.04, 0.03, 0.03], [0.4, 0.3, 0.2, 0.1], [0.3, 0.3, 0.2, 0.2]])
    motif = FilterMotif(0, rows, 5, 0.5, 0.25, 1.0, None)
    assert motif.consensus == "Aan"
    assert motif.difference == 0.25


def test_what_cannot_be_read_is_refused() -> None:
    codes, targets = _planted(num=20)
    with pytest.raises(InputError, match="shorter than the filters"):
        filter_motifs(_filters(), codes[:, :6], targets, known=[])
    with pytest.raises(InputError, match="one class is missing"):
        filter_motifs(_filters(), codes, np.zeros(20, dtype=bool), known=[])
    with pytest.raises(InputError, match="threshold"):
        filter_motifs(_filters(), codes, targets, known=[], threshold=0.0)
