"""From contributions to motifs, matches, hits, experiments and checks, on small made cases with known answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ebox.datasets.build import build_dataset
from ebox.datasets.sources import DatasetSources
from ebox.drawing.logo_png import write_logo_png
from ebox.errors import InputError
from ebox.explanation import discovery
from ebox.explanation.checks import (
    check_agreement,
    check_randomised,
    compare_planted,
    correlate_ranks,
    measure_recovery,
    shuffle_weights,
)
from ebox.explanation.discovery import Discovered, discover, draw_rows
from ebox.explanation.experiments import (
    Insert,
    describe_mean,
    destroy,
    make_insert,
    marginalise,
    measure_spacing,
    motif_insert,
    put_in,
    read_insert,
)
from ebox.explanation.filters import find_resemblance
from ebox.explanation.hits import Hit, call_hits, find_threshold, mark_hits
from ebox.explanation.matching import Match, correct_p_values, gather_targets, match_motifs
from ebox.explanation.subject import Truth, choose_pair, choose_rows, find_truth
from ebox.explanation.writing import describe_motif
from ebox.models.architectures import build_model
from ebox.models.network import Network
from ebox.sequences import (
    Interval,
    SimulationConfig,
    draw_simulation,
    encode,
    load_jaspar,
    one_hot,
    read_bed,
    reverse_complement,
    write_simulation,
)
from ebox.sequences.bigwig import write_bigwig
from ebox.sequences.matrices import Motif, make_tables, make_words, sum_tables
from ebox.sequences.motif_files import write_meme
from ebox.settings.reading import DataConfig, ExplanationConfig, ModelConfig

WORD = "CAGATGGATAA"


def draw(count: int, length: int = 100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (count, length)).astype(np.uint8)


def plant(codes: np.ndarray, word: str, seed: int = 1, margin: int = 5) -> list[tuple[int, int, int, str]]:
    """Write a word into each row, on either strand, and say where."""
    random, letters, sites = np.random.default_rng(seed), encode(word), []
    for row in range(len(codes)):
        start, strand = int(random.integers(margin, codes.shape[1] - len(word) - margin)), "+-"[int(random.integers(2))]
        codes[row, start : start + len(word)] = letters if strand == "+" else reverse_complement(letters)
        sites.append((row, start, start + len(word), strand))
    return sites


def discovered(word: str, sites: tuple[tuple[int, int, int, str], ...] = (), matches: tuple[Match, ...] = ()):
    sharp = one_hot(encode(word), np.float64)
    return Discovered("motif_1", 1, 0.94 * sharp + 0.015, sharp.copy(), sites, matches)


def count_word(word: str):
    """A scorer that gives 3 for each copy of a word on either strand."""
    letters = encode(word)

    def score(codes: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(codes, len(letters), axis=1)
        found = (windows == letters).all(axis=2) | (windows == reverse_complement(letters)).all(axis=2)
        return 3.0 * found.sum(axis=1).astype(np.float64)

    return score


@pytest.mark.slow
def test_discovery_finds_what_was_planted_and_names_it(monkeypatch: pytest.MonkeyPatch):
    # Of more sequences some are drawn; the sites must name those that were given.
    monkeypatch.setattr(discovery, "MAX_SEQUENCES", 270)
    # TF-MoDISco takes no stretch within some 30 bp of an end.
    codes = draw(300, 160)
    sites = plant(codes, WORD, margin=45)
    hypothetical = np.random.default_rng(2).normal(0, 0.02, (*codes.shape, 4)).astype(np.float32)
    letters = one_hot(encode(WORD), np.float32)
    for row, start, end, strand in sites:
        hypothetical[row, start:end] += letters if strand == "+" else letters[::-1, ::-1]
    planted = Motif("planted", 0.97 * one_hot(encode(WORD), np.float64) + 0.0075, "test")
    targets = [planted, *(motif for motif in gather_targets(()) if motif.name != "planted")]
    found = discover(codes, hypothetical, targets, ExplanationConfig(), filters=[planted.probabilities[:9]])
    ((match, *_),) = found.filter_matches
    assert match.id == "planted"
    assert match.q_value < 0.05
    assert (found.num_searched, found.reason) == (270, None)
    motifs = found.motifs
    assert motifs
    assert max(site[0] for site in motifs[0].sites) >= 270
    first = motifs[0]
    assert first.best is not None
    assert first.best.id == "planted"
    assert first.best.q_value < 1e-4
    assert WORD in {first.motif.consensus, first.motif.reverse_complement().consensus}
    assert len(first.sites) > 200
    cut = np.stack(
        [
            reverse_complement(codes[row, start:end]) if strand == "-" else codes[row, start:end]
            for row, start, end, strand in first.sites
        ]
    )
    agreement = (cut == first.probabilities.argmax(axis=1)).mean()
    assert agreement > 0.95
    (row,) = compare_planted(motifs, [planted])
    assert row["rank"] == 1
    assert row["correlation"] > 0.95


@pytest.mark.slow
def test_discovery_in_noise_finds_nothing_and_does_not_fail():
    codes = draw(40, 60)
    hypothetical = np.random.default_rng(2).normal(0, 0.02, (*codes.shape, 4)).astype(np.float32)
    assert discover(codes, np.zeros_like(hypothetical), gather_targets(()), ExplanationConfig()).motifs == ()


def test_sequences_to_search_are_drawn_from_all_of_them():
    assert draw_rows(50, 0).tolist() == list(range(50))
    rows = draw_rows(40_000, 0)
    assert len(np.unique(rows)) == 10_000
    assert (np.diff(rows) > 0).all()
    assert 18_000 < rows.mean() < 22_000
    np.testing.assert_array_equal(rows, draw_rows(40_000, 0))
    assert draw_rows(40_000, 1).tolist() != rows.tolist()


def test_shares_of_sites_are_of_the_sequences_searched_and_those_of_hits_of_all():
    motif = discovered(WORD, sites=((0, 1, 12, "+"), (0, 20, 31, "+"), (9, 1, 12, "-")))
    hits = [Hit(row, "motif_1", 1, 12, "+", 10.0, 1.0) for row in range(6)]
    facts = describe_motif(motif, hits, 20, 10)
    assert facts["share_of_sequences"] == pytest.approx(2 / 10)
    assert facts["share_with_hit"] == pytest.approx(6 / 20)


def test_a_failure_within_discovery_keeps_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import modiscolite.tfmodisco

    def fail(*arguments: object, **named: object) -> None:
        raise IndexError("out of bounds")

    monkeypatch.setattr(modiscolite.tfmodisco, "TFMoDISco", fail)
    np.save(tmp_path / "codes.npy", draw(4))
    np.save(tmp_path / "hypothetical.npy", np.zeros((4, 100, 4), np.float32))
    settings = {"max_seqlets": 10, "leiden_runs": 1, "sources": ["test"], "filters": []}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    write_meme(tmp_path / "targets.meme", [load_jaspar("MA0140.3")])
    discovery.main(tmp_path)
    written = json.loads((tmp_path / "motifs.json").read_text())
    assert (written["motifs"], written["reason"]) == ([], "IndexError: out of bounds")


@pytest.mark.slow
def test_a_jaspar_matrix_matches_itself_on_either_strand():
    motif = load_jaspar("MA0140.3")
    rows = match_motifs([motif.probabilities, motif.reverse_complement().probabilities], gather_targets(()))
    for row in rows:
        assert row[0].id == "MA0140.3"
        assert row[0].q_value < 1e-6
    assert rows[0][0].strand != rows[1][0].strand


@pytest.mark.slow
def test_offsets_of_matches_are_counted_as_those_of_resemblances():
    motif = load_jaspar("MA0140.3")
    known = [motif, load_jaspar("MA0035.5"), load_jaspar("MA0091.2")]
    flat = np.full((4, 4), 0.25)
    cases = [(motif.probabilities[3:], -3), (np.concatenate([flat, motif.probabilities]), 4)]
    cases += [(matrix[::-1, ::-1], None) for matrix, _ in cases]
    matches = match_motifs([matrix for matrix, _ in cases], known)
    for (matrix, offset), (best, *_) in zip(cases, matches, strict=True):
        like = find_resemblance(matrix, [motif])
        assert like is not None
        assert (best.offset_bp, best.strand) == (like.offset_bp, like.strand)
        assert offset in (None, best.offset_bp)


def test_q_values_are_those_of_benjamini_and_hochberg():
    p_values = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(correct_p_values(p_values), [0.02, 0.04, 0.04, 0.02])
    assert (correct_p_values(np.array([0.9, 0.8])) <= 1).all()


def test_thresholds_hold_their_p_value():
    motif = load_jaspar("MA0035.5")
    background = np.full(4, 0.25)
    threshold = find_threshold(motif.log_odds(), background, 1e-3)
    random = np.random.default_rng(0).integers(0, 4, (400_000, motif.width))
    share = (motif.log_odds()[np.arange(motif.width), random].sum(axis=1) >= threshold).mean()
    assert 0.0003 < share < 0.0013


@pytest.mark.parametrize("width", [4, 6, 7, 8])
@pytest.mark.parametrize("sharpness", [0.97, 0.8])
@pytest.mark.parametrize("gc", [0.5, 0.4])
def test_thresholds_of_short_and_sharp_motifs_hold_their_p_value_exactly(width: int, sharpness: float, gc: float):
    """All words are listed: those that reach the threshold are at most as frequent as asked, and no more would fit."""
    random = np.random.default_rng(width)
    matrix = np.full((width, 4), (1 - sharpness) / 3)
    matrix[np.arange(width), random.integers(0, 4, width)] = sharpness
    background = np.array([(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2])
    log_odds = Motif("m", matrix).log_odds(background)
    words = np.indices((4,) * width).reshape(width, -1).T
    scores = log_odds[np.arange(width), words].sum(axis=1)
    shares = background[words].prod(axis=1)
    for p_value in (1e-4, 1e-3):
        threshold = find_threshold(log_odds, background, p_value)
        called = scores >= threshold
        assert shares[called].sum() <= p_value * (1 + 1e-9)
        # The next lower score, with all words that have it to within rounding.
        least = scores[~called].max()
        assert shares[scores >= least - 0.001 * width].sum() > p_value
        assert np.isinf(threshold) == (not called.any())


@pytest.mark.parametrize("width", [6, 7, 8])
@pytest.mark.parametrize("seed", range(4))
def test_no_more_words_reach_a_threshold_than_its_p_value_promises(width: int, seed: int):
    """Matrices without two equal scores, where a threshold may lie anywhere; computed in float32, as hits are."""
    random = np.random.default_rng([width, seed])
    background = random.dirichlet(np.full(2, 20.0))[[0, 1, 1, 0]] / 2
    log_odds = Motif("m", random.dirichlet(np.full(4, 0.5), width)).log_odds(background)
    words = np.indices((4,) * width).reshape(width, -1).T
    shares = background[words].prod(axis=1)
    exact = log_odds[np.arange(width), words].sum(axis=1)
    scores = sum_tables(make_words(words.astype(np.uint8)), list(make_tables(log_odds, np.float32)), width)[:, 0]
    for p_value in (1e-4, 1e-3, 1e-2):
        threshold = find_threshold(log_odds, background, p_value)
        assert shares[scores >= threshold].sum() <= p_value
        nearest = min(threshold, float(exact.max())) - 0.001 * (width + 1)
        assert shares[exact >= nearest].sum() > p_value


def test_a_motif_too_short_for_its_p_value_has_no_hits():
    codes = draw(5)
    plant(codes, "CAGATG")
    ones = np.ones(codes.shape, np.float32)
    assert call_hits([discovered("CAGATG")], codes, ones, 1e-5) == []
    assert call_hits([discovered("CAGATG")], codes, ones, 1e-2)


def test_hits_stand_where_the_motif_was_planted_and_is_used():
    codes = draw(30)
    sites = plant(codes, WORD)
    contributions = np.zeros(codes.shape, np.float32)
    for row, start, end, _ in sites[:20]:
        contributions[row, start:end] = 1.0
    hits = call_hits([discovered(WORD)], codes, contributions, 1e-4)
    assert [(hit.example, hit.start, hit.end, hit.strand) for hit in hits] == sites[:20]
    assert mark_hits(hits, codes.shape).sum() == 20 * len(WORD)
    assert all(hit.contribution == pytest.approx(len(WORD)) for hit in hits)


def test_a_word_put_in_keeps_the_rest():
    codes = draw(4, 20)
    changed = put_in(codes, make_insert("x", "ANT"), 5)
    assert (changed[:, 5] == 0).all()
    assert (changed[:, 7] == 3).all()
    kept = np.ones(20, bool)
    kept[[5, 7]] = False
    np.testing.assert_array_equal(changed[:, kept], codes[:, kept])
    assert Insert("x", encode("ACG")).turned("-").word == "CGT"


def test_marginalisation_measures_a_known_effect():
    effect = marginalise(count_word(WORD), draw(50), make_insert("x", WORD))
    assert effect["value"] == pytest.approx(3.0, abs=0.1)
    assert effect["low"] <= effect["value"] <= effect["high"]
    assert effect["num"] == 50


def test_the_spacing_experiment_finds_the_one_gap_that_counts():
    # 100 bp, 12 bp of words and gaps up to 15: the first word stands at 36 and ends at 42.
    score = count_word("CAGATGACTCATGATAAG")
    backgrounds = put_in(draw(20), make_insert("x", "ACTCAT"), 42)
    found = measure_spacing(score, backgrounds, make_insert("one", "CAGATG"), make_insert("two", "GATAAG"), 15)
    assert found["best"]["arrangement"] == "++"
    assert found["best"]["both"]["value"] == pytest.approx(3.0)
    assert found["best"]["interaction"]["low"] > 2.9
    assert found["best"]["first_alone"]["value"] == pytest.approx(0.0)
    assert set(found["curves"]) == {"++", "+-", "-+", "--"}
    effect = [point["value"] for point in found["curves"]["++"]["effect"]]
    assert np.argmax(effect) == found["best"]["gap_bp"] == 6


def test_the_best_of_many_cells_is_measured_on_backgrounds_that_did_not_choose_it():
    """Pure noise: the greatest of 124 means is far above 0, and says nothing."""

    def score(codes: np.ndarray) -> np.ndarray:
        weights = np.random.default_rng(0).integers(1, 2**31, codes.shape[1], np.int64)
        return np.sin((codes * weights).sum(axis=1).astype(np.float64))

    hits = 0
    for seed in range(8):
        found = measure_spacing(score, draw(40, seed=seed), make_insert("a", "CAGATG"), make_insert("b", "GATAAG"), 30)
        assert found["best"]["both"]["num"] == 20
        hits += found["best"]["both"]["low"] > 0
    # By chance one in 40; chosen and measured on the same it is nearly all.
    assert hits <= 2


def test_destroying_sites_takes_their_effect_away_and_a_control_does_not():
    codes = draw(40)
    sites = plant(codes, WORD)
    hits = [Hit(row, "motif_1", start, end, strand, 10.0, 1.0) for row, start, end, strand in sites]
    found = destroy(count_word(WORD), codes, hits, discovered(WORD), 30)
    assert found is not None
    assert found["num_sequences"] == 30
    assert found["num_sites"] == found["num_windows"] == 30
    assert found["sites"]["value"] == pytest.approx(3.0)
    assert found["control"]["value"] == pytest.approx(0.0)
    assert destroy(count_word(WORD), codes, [], discovered(WORD), 30) is None
    # In 20 bp no window of 11 bp fits beside a site.
    hits = [Hit(0, "motif_1", 5, 16, "+", 10.0, 1.0)]
    crowded = destroy(count_word(WORD), draw(1, 20), hits, discovered(WORD), 30)
    assert crowded is not None
    assert (crowded["num_sites"], crowded["num_windows"]) == (1, 0)


def test_words_and_names_are_read_and_unknown_names_get_the_nearest():
    assert read_insert("CANNTG").word == "CANNTG"
    assert "GATA" in read_insert("MA0035.5").label
    with pytest.raises(InputError, match=r"MA0140\.3"):
        read_insert("MA0140.33")


def test_uninformative_columns_are_left_to_the_background():
    flat = np.full((1, 4), 0.25)
    sharp = one_hot(encode("CAG"), np.float64)
    assert motif_insert(Motif("m", np.concatenate([sharp, flat, sharp])), "m").word == "CAGNCAG"


def test_pairs_come_from_settings_then_the_literature_then_the_motifs():
    found = Match("MA0140.3", "GATA1::TAL1", "JASPAR", 1e-9, 1e-8, 1e-9, 1e-8, "+", 0, 10)
    assert choose_pair([], ExplanationConfig(), ()) is None
    known = choose_pair([discovered(WORD, matches=(found,))], ExplanationConfig(), ())
    assert known is not None
    assert known.reference
    own = choose_pair([discovered(WORD)], ExplanationConfig(), ())
    assert own is not None
    assert not own.reference
    assert own.first.word == own.second.word == WORD
    asked = choose_pair([discovered(WORD)], ExplanationConfig(pair=("CAGCTG", "MA0035.5")), ())
    assert asked is not None
    assert asked.first.word == "CAGCTG"


@pytest.mark.parametrize(
    ("best", "known"),
    [
        (("MA0140.3",), True),
        (("MA0091.2", "MA0035.5"), True),
        (("MA0091.2",), False),
        (("MA0035.5",), False),
        (("TAL1_known4",), False),
    ],
)
def test_the_pair_of_the_literature_is_taken_for_the_best_matches_only(best: tuple[str, ...], known: bool):
    def match(name: str, q_value: float) -> Match:
        return Match(name, name, "JASPAR", q_value, q_value, q_value, q_value, "+", 0, 10)

    # What is found further down the list is no reason.
    others = (match("MA0140.1", 0.01), match("MA0091.2", 0.01), match("MA0035.5", 0.01))
    motifs = [discovered(WORD, matches=(match(name, 1e-8), *others)) for name in best]
    pair = choose_pair(motifs, ExplanationConfig(), ())
    assert pair is not None
    assert bool(pair.reference) == known


def test_recovery_is_perfect_for_the_truth_and_chance_for_noise():
    planted = np.zeros((40, 50), bool)
    planted[:, 20:28] = True
    noise = np.random.default_rng(0).normal(0, 0.1, planted.shape)
    assert measure_recovery(planted + noise, planted)["auroc"]["value"] > 0.999
    chance = measure_recovery(noise, planted)
    assert chance["auroc"]["low"] < 0.5 < chance["auroc"]["high"] + 0.05
    assert chance["share_planted"] == pytest.approx(0.16)


def test_correlations_of_explanations():
    one = np.random.default_rng(0).normal(size=(20, 50))
    two = np.random.default_rng(1).normal(size=(20, 50))
    assert correlate_ranks(one, 2 * one)["spearman"]["value"] == pytest.approx(1.0)
    assert abs(correlate_ranks(one, two)["pearson"]["value"]) < 0.1
    assert [entry["methods"] for entry in check_agreement({"a": one, "b": one, "c": two})] == [
        ["a", "b"],
        ["a", "c"],
        ["b", "c"],
    ]


def test_shuffled_weights_are_as_large_and_in_other_places():
    network = build_model(ModelConfig(num_filters=8), 1, 60, np.random.default_rng(0))
    head = shuffle_weights(network, 0, head_only=True)
    everything = shuffle_weights(network, 0)
    before, after = (np.asarray(net.motifs.convolution.weight) for net in (network, everything))
    np.testing.assert_allclose(np.sort(after.ravel()), np.sort(before.ravel()))
    assert np.abs(before - after).max() > 0.1
    np.testing.assert_array_equal(np.asarray(head.motifs.convolution.weight), before)
    assert np.abs(np.asarray(head.head.output.weight) - np.asarray(network.head.output.weight)).max() > 0
    np.testing.assert_array_equal(np.asarray(everything.motifs.norm.running.mean), 0.0)


def test_spoiled_last_layers_are_drawn_often_and_judged_by_strength():
    network = build_model(ModelConfig(num_filters=8), 1, 60, np.random.default_rng(0))
    one = np.random.default_rng(0).normal(size=(20, 50))
    explained = []

    def explain(other: Network, method: str) -> np.ndarray:
        """With any weights the same places, with a sign that each draw tosses anew."""
        assert method == "deeplift"
        explained.append(np.asarray(other.head.output.weight))
        return one if len(explained) % 2 else -one

    head, everything = check_randomised(network, explain, "deeplift", one)
    assert len({weights.tobytes() for weights in explained}) == len(explained) == 11
    assert (head["shuffled"], everything["shuffled"]) == ("head", "all")
    for name in ("spearman", "pearson"):
        assert head[name]["value"] == pytest.approx(1.0)
        assert head[name]["num"] == 10
    assert everything["pearson"]["num"] == 20


def test_intervals_hold_the_mean():
    entry = describe_mean(np.random.default_rng(0).normal(1.0, 1.0, 200))
    assert entry["low"] < entry["value"] < entry["high"]


def test_choosing_sequences():
    logits, positive = np.array([3.0, -3.0, 2.0, -2.0]), np.array([True, True, False, False])
    for sequences, expected in (("called", [0, 2]), ("positive", [0, 1]), ("all", [0, 1, 2, 3])):
        rows, available = choose_rows(logits, positive, 0.5, ExplanationConfig(sequences=sequences))
        assert rows.tolist() == expected
        assert available == len(expected)
    few, available = choose_rows(logits, positive, 0.5, ExplanationConfig(sequences="all", max_sequences=2))
    assert (len(few), available) == (2, 4)
    with pytest.raises(InputError, match="nothing to explain"):
        choose_rows(logits, positive, 0.999, ExplanationConfig())


@pytest.mark.parametrize("length", [80, 61])
def test_planted_bases_are_those_of_the_motif_also_where_the_dataset_holds_the_centre_only(tmp_path: Path, length: int):
    config = SimulationConfig(
        motifs=("MA0035.5",), length_bp=80, num_positives=60, num_negatives=60, orientation="forward"
    )
    result = draw_simulation(config)
    write_simulation(result, tmp_path / "simulation")
    place = tmp_path / "simulation"
    data = build_dataset(
        DataConfig(length_bp=length),
        tmp_path / "run" / "dataset",
        DatasetSources(positives=place / "positives.fa", negatives=(place / "negatives.fa",)),
    )
    shutil.copy(place / "simulation.json", tmp_path / "run" / "simulation.json")
    truth = find_truth(tmp_path / "run", data, None)
    names = data.examples["name"].to_list()
    mask = truth.mark(names, length)
    assert mask is not None
    whole = (mask.sum(axis=1) == 7) & np.asarray(data.is_positive(0))
    assert whole.sum() > 30
    words = np.asarray(data.codes)[whole][mask[whole]].reshape(-1, 7)
    likeliest = load_jaspar("MA0035.5").probabilities.argmax(axis=1)
    assert (words == likeliest).mean() > 0.7
    given = find_truth(tmp_path / "run", data, place / "planted.bed").mark(names, length)
    np.testing.assert_array_equal(given, mask)


def test_planted_sites_of_other_records_are_refused(tmp_path: Path):
    (tmp_path / "p.bed").write_text("other\t3\t9\n")
    truth = Truth((), read_bed(tmp_path / "p.bed"))
    with pytest.raises(InputError, match=r"p\.bed: names none of the explained sequences: .*'other'.*'mine'"):
        truth.check_names(["mine"], tmp_path / "p.bed")
    truth.check_names(["mine", "other"], tmp_path / "p.bed")


def test_bigwig_holds_each_base_once_with_the_mean(tmp_path: Path):
    import pyBigWig

    places = [Interval("chr1", 100, 104, "+"), Interval("chr1", 102, 106, "-"), None, Interval("chr2", 5, 9, ".")]
    values = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([8.0, 7.0, 6.0, 5.0]), np.ones(4), np.full(4, -1.0)]
    assert write_bigwig(tmp_path / "c.bw", places, values) == 3
    file = pyBigWig.open(str(tmp_path / "c.bw"))
    np.testing.assert_allclose(file.values("chr1", 100, 106), [1.0, 2.0, 4.0, 5.0, 7.0, 8.0])
    np.testing.assert_allclose(file.values("chr2", 5, 9), -1.0)
    file.close()
    assert write_bigwig(tmp_path / "none.bw", [None], [np.ones(4)]) == 0
    assert not (tmp_path / "none.bw").exists()


def test_png_logos_show_their_letters(tmp_path: Path):
    from matplotlib.image import imread

    write_logo_png(tmp_path / "l.png", np.array([[2.0, 0, 0, 0], [0, 0, 0, -1.0]]), title="x")
    pixels = imread(tmp_path / "l.png")
    green, red = (np.abs(pixels[..., :3] - np.array(colour) / 255).max(axis=-1) < 0.05 for colour in (GREEN, RED))
    assert green.sum() > 500
    assert red.sum() > 200
    assert np.nonzero(green)[0].mean() < np.nonzero(red)[0].mean()
    assert np.nonzero(green)[1].mean() < np.nonzero(red)[1].mean()


GREEN, RED = (0x10, 0x96, 0x48), (0xD6, 0x28, 0x39)
