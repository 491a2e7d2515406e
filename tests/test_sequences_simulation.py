from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.sequences import (
    Motif,
    SimulationConfig,
    decode,
    draw_simulation,
    load_jaspar,
    measure_ceiling,
    read_simulation_config,
    scan_scores,
    write_meme,
    write_simulation,
)
from ebox.sequences.composition import Composition, fit_composition, make_composition
from ebox.sequences.fasta import read_fasta
from ebox.sequences.grammar import (
    Element,
    Grammar,
    Part,
    count_arrangements,
    draw_sites,
    list_elements,
    log_likelihood_ratios,
)
from ebox.sequences.records import make_sequence_set


def draw_motif(width: int, seed: int) -> Motif:
    return Motif(f"m{width}", np.random.default_rng(seed).dirichlet([0.4] * 4, width))


def make_chain(seed: int) -> Composition:
    generator = np.random.default_rng(seed)
    return Composition((generator.dirichlet([2.0] * 4, 1), generator.dirichlet([2.0] * 4, 4)))


def list_arrangements(grammar: Grammar, num_sites: int) -> list[tuple[tuple[Element, int], ...]]:
    """Every arrangement, by trying all elements at all places."""
    found = []
    for elements in itertools.product(grammar.elements, repeat=num_sites):
        for starts in itertools.product(range(grammar.start, grammar.stop), repeat=num_sites):
            edges = [(start, start + e.width) for start, e in zip(starts, elements, strict=True)]
            ordered = all(left[1] <= right[0] for left, right in itertools.pairwise(edges))
            if ordered and edges[-1][1] <= grammar.stop:
                found.append(tuple(zip(elements, starts, strict=True)))
    return found


def ratio_slowly(row: np.ndarray, grammar: Grammar, chain: Composition) -> float:
    """The likelihood ratio, arrangement by arrangement."""
    background = np.exp(chain.log_probabilities(row[None])[0])
    by_number = []
    for number in range(grammar.min_sites, grammar.max_sites + 1):
        ratios = []
        for arrangement in list_arrangements(grammar, number):
            ratio = 1.0
            for element, start in arrangement:
                for part in element.parts:
                    motif = grammar.motifs[part.motif]
                    turned = motif if part.strand == "+" else motif.reverse_complement()
                    for step, shares in enumerate(turned.probabilities):
                        place = start + part.offset + step
                        ratio *= shares[row[place]] / background[place]
            ratios.append(ratio)
        by_number.append(np.mean(ratios))
    return float(np.log(np.mean(by_number)))


GRAMMARS = {
    "one": (list_elements([draw_motif(3, 0)], "both", None), (draw_motif(3, 0),), 1, 1),
    "several": (
        list_elements([draw_motif(2, 1), draw_motif(3, 2)], "both", None),
        (draw_motif(2, 1), draw_motif(3, 2)),
        1,
        3,
    ),
    "composite": (
        list_elements([draw_motif(2, 1), draw_motif(3, 2)], "both", (0, 2)),
        (draw_motif(2, 1), draw_motif(3, 2)),
        1,
        1,
    ),
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_likelihood_ratio_is_the_sum_over_all_arrangements(name: str) -> None:
    elements, motifs, low, high = GRAMMARS[name]
    grammar = Grammar(motifs, elements, 1, 10, low, high)
    codes = np.random.default_rng(0).integers(0, 4, (8, 12)).astype(np.uint8)
    chain = make_chain(3)
    expected = [ratio_slowly(row, grammar, chain) for row in codes]
    np.testing.assert_allclose(log_likelihood_ratios(codes, grammar, chain), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", GRAMMARS)
def test_arrangements_are_counted_and_drawn_alike(name: str) -> None:
    elements, motifs, low, high = GRAMMARS[name]
    grammar = Grammar(motifs, elements, 2, 11, low, high)
    totals = count_arrangements(grammar)[:, -1]
    generator = np.random.default_rng(1)
    sites = draw_sites(grammar, 20_000, generator)
    rows = Counter(
        tuple(zip(*(column[first:last].tolist() for column in columns), strict=True))
        for columns in [(sites.motif, sites.start, sites.end, sites.strand)]
        for first, last in itertools.pairwise(np.searchsorted(sites.example, np.arange(20_001)).tolist())
    )
    num_parts = len(elements[0].parts)
    for number in range(low, high + 1):
        arrangements = list_arrangements(grammar, number)
        assert totals[number] == len(arrangements)
        counts = [count for sites_of, count in rows.items() if len(sites_of) == number * num_parts]
        assert len(counts) <= len(arrangements)
        expected = 20_000 / (high - low + 1) / len(arrangements)
        missing = (len(arrangements) - len(counts)) * expected
        chi_square = sum((count - expected) ** 2 / expected for count in counts) + missing
        assert abs(chi_square - len(arrangements)) < 5 * np.sqrt(2 * len(arrangements)) + 10


def test_equal_widths_fit_in_as_many_ways_as_combinatorics_says() -> None:
    element = Element(4, (Part(0, "+", 0),))
    grammar = Grammar((draw_motif(4, 0),), (element,), 0, 30, 1, 3)
    assert count_arrangements(grammar)[:, -1].tolist() == [1, 27, math.comb(24, 2), math.comb(21, 3)]


def test_the_drawn_sequences_follow_the_law() -> None:
    elements, motifs, low, _ = GRAMMARS["several"]
    grammar = Grammar(motifs, elements, 0, 6, low, 2)
    chain = make_chain(5)
    everything = np.array(list(itertools.product(range(4), repeat=6)), np.uint8)
    law = np.exp(chain.log_probabilities(everything).sum(axis=1) + log_likelihood_ratios(everything, grammar, chain))
    assert law.sum() == pytest.approx(1.0, abs=1e-9)
    generator = np.random.default_rng(0)
    num_draws = 40_000
    sites = draw_sites(grammar, num_draws, generator)
    planted = np.full((num_draws, 6), -1, np.int32)
    columns = np.concatenate([turned.probabilities for m in motifs for turned in (m, m.reverse_complement())])
    first = np.array([0, 2, 4, 7])[2 * sites.motif + (sites.strand == "-")]
    for step in range(3):
        inside = sites.start + step < sites.end
        planted[sites.example[inside], sites.start[inside] + step] = first[inside] + step
    codes = chain.draw(planted, columns, generator)
    counts = np.bincount(codes.astype(np.int64) @ 4 ** np.arange(5, -1, -1), minlength=4**6)
    chi_square = ((counts - num_draws * law) ** 2 / np.maximum(num_draws * law, 1e-12)).sum()
    assert abs(chi_square - 4**6) < 6 * np.sqrt(2 * 4**6)


def test_where_nothing_can_have_made_it_the_ratio_is_zero() -> None:
    motif = Motif("sharp", np.eye(4))
    grammar = Grammar((motif,), list_elements([motif], "forward", None), 0, 6, 1, 1)
    codes = np.array([[0, 0, 1, 2, 3, 0], [0, 0, 0, 0, 0, 0]], np.uint8)
    ratios = log_likelihood_ratios(codes, grammar, make_composition(0.5))
    np.testing.assert_allclose(ratios, [np.log(4**4 / 3), -np.inf])


def test_strong_motifs_do_not_overflow() -> None:
    motif = Motif("sharp", np.eye(4)[np.zeros(60, int)])
    grammar = Grammar((motif,), list_elements([motif], "forward", None), 0, 600, 8, 8)
    ratios = log_likelihood_ratios(np.zeros((2, 600), np.uint8), grammar, make_composition(0.5))
    np.testing.assert_allclose(ratios, 8 * 60 * np.log(4))


def test_ceiling_is_as_pairs_and_calls_say() -> None:
    generator = np.random.default_rng(0)
    ratios = np.round(generator.normal(size=300), 1)
    is_positive = generator.random(300) < 0.4
    ratios[is_positive] += 0.5
    ratios[:20] = -np.inf
    # Sums such as 0.1 + 0.5 and 0.6 differ by rounding, and count as ties all the same.
    exact = ratios.round(1)
    result = measure_ceiling(ratios, is_positive)
    pairs = exact[is_positive][:, None], exact[~is_positive][None]
    expected = (pairs[0] > pairs[1]).mean() + (pairs[0] == pairs[1]).mean() / 2
    assert result.auroc.value == pytest.approx(expected)
    limit = np.log((~is_positive).sum() / is_positive.sum())
    assert result.accuracy.value == ((ratios > limit) == is_positive).mean()
    for metric in (result.accuracy, result.auroc):
        assert metric.low < metric.value < metric.high
    with pytest.raises(InputError, match="both classes"):
        measure_ceiling(ratios, np.ones(300, bool))


def test_ceiling_interval_is_as_wide_as_resampling_says() -> None:
    generator = np.random.default_rng(2)
    values = []
    for _ in range(300):
        ratios = np.concatenate([generator.normal(1, 1, 100), generator.normal(0, 1, 150)])
        result = measure_ceiling(ratios, np.arange(250) < 100)
        values.append((result.auroc.value, (result.auroc.high - result.auroc.low) / 3.92))
    spread, claimed = np.std([value for value, _ in values]), np.mean([width for _, width in values])
    assert claimed == pytest.approx(spread, rel=0.15)


@pytest.mark.real_data
def test_one_motif_reaches_the_known_ceiling(real_data: Path) -> None:
    files = [real_data / "motifs" / "encode_tal1.meme"]
    result = draw_simulation(
        read_simulation_config(["TAL1_known4"], files, ["num_positives=10000", "num_negatives=10000"])
    )
    assert result.ceiling.num_examples == 20_000
    assert result.ceiling.accuracy.value == pytest.approx(0.980, abs=0.003)
    assert result.ceiling.auroc.value == pytest.approx(0.988, abs=0.003)


@pytest.mark.real_data
def test_central_sites_reach_the_known_ceiling(real_data: Path) -> None:
    files = [real_data / "motifs" / "encode_tal1.meme"]
    overrides = ["length_bp=1500", "centre_bp=150", "min_sites=2", "max_sites=4", 'negatives="anywhere"']
    overrides += ["num_positives=3000", "num_negatives=3000"]
    result = draw_simulation(read_simulation_config(["TAL1_known4"], files, overrides))
    assert result.ceiling.accuracy.value == pytest.approx(0.994, abs=0.003)
    positive = result.planted.example < 3000
    assert result.planted.start[positive].min() >= 675
    assert result.planted.end[positive].max() <= 825
    assert result.planted.start[~positive].min() < 50
    assert set(np.bincount(result.planted.example)) == {2, 3, 4}


def small(**settings: object) -> SimulationConfig:
    values = {"motifs": ["MA0140.3"], "length_bp": 120, "num_positives": 150, "num_negatives": 130}
    return SimulationConfig.model_validate(values | settings)


@pytest.mark.parametrize("orientation", ["forward", "reverse", "both"])
def test_planted_sites_hold_their_motif(orientation: str) -> None:
    result = draw_simulation(small(orientation=orientation, max_sites=3))
    motif = load_jaspar("MA0140.3")
    planted = result.planted
    codes = np.concatenate([result.positives, result.negatives])
    for example, start, end, strand in zip(planted.example, planted.start, planted.end, planted.strand, strict=True):
        turned = motif if strand == "+" else motif.reverse_complement()
        assert (turned.probabilities[np.arange(17), codes[example, start:end]] > 0).all()
    same = planted.example[1:] == planted.example[:-1]
    assert (planted.start[1:] >= planted.end[:-1])[same].all()
    strands = {"forward": {"+"}, "reverse": {"-"}, "both": {"+", "-"}}[orientation]
    assert set(planted.strand) == strands
    assert set(planted.example) == set(range(150))


def test_a_composite_keeps_its_gap_on_both_strands() -> None:
    result = draw_simulation(small(motifs=["MA0035.5", "MA0091.2"], spacing_bp=[5, 8], max_sites=2))
    planted = result.planted
    gaps = planted.start[1::2] - planted.end[::2]
    assert set(gaps) == {5, 6, 7, 8}
    assert (planted.example[1::2] == planted.example[::2]).all()
    assert (planted.strand[1::2] == planted.strand[::2]).all()
    forward = planted.strand[::2] == "+"
    assert set(planted.motif[::2][forward]) == {0}
    assert set(planted.motif[::2][~forward]) == {1}


def test_a_planted_motif_is_found_again() -> None:
    result = draw_simulation(small())
    motif = load_jaspar("MA0140.3")
    high, low = scan_scores(result.positives, motif), scan_scores(result.negatives, motif)
    assert (high[:, None] > low[None]).mean() > 0.97
    assert result.ceiling.auroc.value > 0.97
    assert result.log_likelihood_ratio.shape == (280,)


def test_background_has_the_gc_that_was_asked_for() -> None:
    result = draw_simulation(small(gc=0.3, num_negatives=2000))
    assert np.isin(result.negatives, [1, 2]).mean() == pytest.approx(0.3, abs=0.005)


def test_background_of_a_file_has_its_pairs(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    # CG is rare, as in the human genome.
    table = np.full((4, 4), 0.25)
    table[1] = [0.35, 0.3, 0.02, 0.33]
    nothing = np.full((200, 500), -1, np.int32)
    codes = Composition((np.full((1, 4), 0.25), table)).draw(nothing, np.eye(4), generator)
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">r{n}\n{decode(row)}\n" for n, row in enumerate(codes)))
    learned = fit_composition(read_fasta(path), 1)
    pairs = codes[:, :-1].astype(np.int64) * 4 + codes[:, 1:]
    counts = np.bincount(pairs.ravel(), minlength=16).reshape(4, 4)
    counts = counts + counts[::-1, ::-1].T
    np.testing.assert_allclose(learned.tables[1], counts / counts.sum(axis=1, keepdims=True), atol=1e-4)
    settings = {"background_file": str(path), "background_order": 1, "num_negatives": 1000}
    drawn = draw_simulation(small(**settings)).negatives
    share = ((drawn[:, :-1] == 1) & (drawn[:, 1:] == 2)).mean()
    assert share == pytest.approx(float(counts[1, 2] / counts.sum()), abs=0.004)


def test_words_across_records_and_with_n_are_not_learned() -> None:
    rows = [np.array(row, np.uint8) for row in ([0, 0], [1, 4, 1], [2], [0, 0])]
    offsets = np.cumsum([0] + [len(row) for row in rows])
    whole = make_sequence_set(np.zeros((1, 2), np.uint8), ["x"])
    sequences = type(whole)(np.concatenate(rows), offsets, list("abcd"), np.arange(4), "test")
    table = fit_composition(sequences, 1).tables[1]
    # AA twice and, as the other strand has it, TT twice; one is added to each.
    assert table[0].tolist() == [3 / 6, 1 / 6, 1 / 6, 1 / 6]
    assert table[3].tolist() == [1 / 6, 1 / 6, 1 / 6, 3 / 6]
    assert table[1].tolist() == [0.25] * 4


def test_the_seed_decides() -> None:
    first, again, other = draw_simulation(small()), draw_simulation(small()), draw_simulation(small(seed=1))
    assert np.array_equal(first.positives, again.positives)
    assert np.array_equal(first.negatives, again.negatives)
    assert not np.array_equal(first.positives, other.positives)
    assert not np.array_equal(first.positives[:130], first.negatives)


def test_what_is_written_is_what_was_drawn(tmp_path: Path) -> None:
    result = draw_simulation(small(centre_bp=60, negatives="anywhere"))
    place = tmp_path / "simulation"
    write_simulation(result, place)
    assert sorted(path.name for path in place.iterdir()) == [
        "negatives.fa",
        "planted.bed",
        "positives.fa",
        "simulation.json",
    ]
    positives = read_fasta(place / "positives.fa")
    assert np.array_equal(positives.matrix(120), result.positives)
    assert positives.names[0] == "positive_1"
    assert np.array_equal(read_fasta(place / "negatives.fa").matrix(120), result.negatives)
    lines = [line.split("\t") for line in (place / "planted.bed").read_text().splitlines()]
    assert len(lines) == len(result.planted) == 280
    assert lines[0] == [
        "positive_1",
        str(result.planted.start[0]),
        str(result.planted.end[0]),
        "MA0140.3",
        "0",
        str(result.planted.strand[0]),
    ]
    assert {line[0] for line in lines} == set(result.names())
    facts = json.loads((place / "simulation.json").read_text())
    assert facts["format"] == "ebox-simulation"
    assert facts["config"] == result.config.model_dump(mode="json")
    assert facts["ceiling"]["num_examples"] == 280
    for name in ("accuracy", "auroc"):
        assert set(facts["ceiling"][name]) == {"value", "low", "high"}
    with pytest.raises(InputError, match="already exists"):
        write_simulation(result, place)
    write_simulation(result, place, overwrite=True)


def test_motifs_come_from_files_too(tmp_path: Path) -> None:
    write_meme(tmp_path / "own.meme", [Motif("own", np.eye(4))])
    config = read_simulation_config(["own"], [tmp_path / "own.meme"], ["length_bp=30", "orientation=forward"])
    assert config.motif_files == (str(tmp_path / "own.meme"),)
    result = draw_simulation(config)
    assert all("ACGT" in decode(row) for row in result.positives)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lenght_bp=3", "there is no setting 'lenght_bp'; did you mean 'length_bp'"),
        ("length_bp", "--set 'length_bp' is not key=value"),
        ("gc=2", "gc: Input should be less than 1 (found 2)"),
        ("max_sites=0", "max_sites: Input should be greater than 0"),
        ("min_sites=3", "max_sites 1 is less than min_sites 3"),
        ("spacing_bp=[1,2]", "spacing_bp is for two motifs, found 1"),
        ("centre_bp=501", "centre_bp 501 is more than length_bp 500"),
        ("negatives=anywhere", "need centre_bp"),
        ("background_order=1", "needs background_file"),
        ("motifs=[]", "at least 1 item"),
    ],
)
def test_settings_that_cannot_be_are_refused(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_simulation_config(["MA0140.3"], [], [override])
    assert message in str(caught.value)


def test_sites_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="3 sites of 17 bp don't fit into 50 bp"):
        draw_simulation(small(length_bp=50, max_sites=3))
    with pytest.raises(InputError, match="don't fit into 10 bp"):
        draw_simulation(small(centre_bp=10))
    with pytest.raises(InputError, match="1 sites of 7 or 17 bp don't fit into 12 bp"):
        draw_simulation(small(motifs=["MA0035.5", "MA0140.3"], centre_bp=12))
