from __future__ import annotations

import csv
import gzip
import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.evaluation.baselines import (
    LabelledCodes,
    count_kmers,
    find_kmer_columns,
    fit_confound_logistic,
    fit_gc_logistic,
    fit_kmer_logistic,
    measure_background,
)
from ebox.evaluation.gapped_kmers import INFORMED, WORD_BP, fit_gapped_kmer_logistic, list_gapped
from ebox.evaluation.metrics import auprc, auroc
from ebox.evaluation.motif_hits import MAX_JUDGED, Screen, fit_best_pwm, fit_motif_logistic
from ebox.reporting.languages.english import say
from ebox.sequences.codes import decode, encode, reverse_complement
from ebox.sequences.motifs import Motif, load_carried_motifs

EBOX = "CAGCTG"


def make_motif(consensus: str, name: str) -> Motif:
    """A motif that is its consensus nine times in ten."""
    probabilities = np.full((len(consensus), 4), 0.1 / 3)
    probabilities[np.arange(len(consensus)), encode(consensus)] = 0.9
    return Motif(name=name, probabilities=probabilities, source="test", alt_name="", num_sites=None)


def draw_codes(generator: np.random.Generator, size: int, length: int = 60, gc: float = 0.5) -> np.ndarray:
    shares = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    return generator.choice(4, size=(size, length), p=shares).astype(np.uint8)


def plant(generator: np.random.Generator, size: int, site: str = EBOX) -> LabelledCodes:
    """Half of the sequences hold the site."""
    codes, word = draw_codes(generator, size), encode(site)
    targets = np.arange(size) % 2 == 0
    for row in np.flatnonzero(targets):
        start = generator.integers(0, codes.shape[1] - len(word))
        codes[row, start : start + len(word)] = word
    return LabelledCodes(codes, targets)


def test_kmers_are_counted_as_a_brute_force_count_does() -> None:
    generator = np.random.default_rng(0)
    codes = draw_codes(generator, 20, 30)
    codes[3, 5:8] = 4
    codes[4] = 4
    columns = find_kmer_columns(3)
    counted = count_kmers(codes, 3, columns).toarray()
    words = ["".join(word) for word in itertools.product("ACGT", repeat=3)]
    canonical = [word for word in words if word <= decode(reverse_complement(encode(word)))]
    assert counted.shape == (20, len(canonical))
    for row, text in enumerate(decode(sequence) for sequence in codes):
        reverse = decode(reverse_complement(encode(text)))
        for column, word in enumerate(canonical):
            places = range(28)
            expected = sum(word in (text[i : i + 3], reverse[27 - i : 30 - i]) for i in places)
            assert counted[row, column] == expected


@pytest.mark.parametrize(("kmer", "expected"), [(1, 2), (2, 10), (6, 2080), (8, 32896)])
def test_kmers_of_both_strands_share_a_column(kmer: int, expected: int) -> None:
    assert find_kmer_columns(kmer).max() + 1 == expected


def test_kmer_logistic_finds_a_planted_word_on_either_strand() -> None:
    generator = np.random.default_rng(1)
    train, validation, test = (plant(generator, size, "GATAAG") for size in (800, 300, 400))
    fitted = fit_kmer_logistic(train, validation, kmer=6)
    scores = fitted.predict(test.codes)
    assert auroc(test.targets, scores) > 0.93
    np.testing.assert_allclose(fitted.predict(reverse_complement(test.codes)), scores, atol=1e-9)
    assert fitted.settings["num_train"] == 800


def test_kmer_logistic_does_not_learn_from_noise() -> None:
    generator = np.random.default_rng(2)
    sets = [LabelledCodes(draw_codes(generator, 600), generator.random(600) < 0.5) for _ in range(3)]
    fitted = fit_kmer_logistic(sets[0], sets[1], kmer=4)
    # Four standard errors of the AUROC of 300 against 300.
    assert auroc(sets[2].targets, fitted.predict(sets[2].codes)) == pytest.approx(0.5, abs=0.095)


def test_gc_logistic_finds_a_middle_gc() -> None:
    generator = np.random.default_rng(3)

    def draw(size: int) -> LabelledCodes:
        middle = draw_codes(generator, size, gc=0.5)
        ends = np.concatenate([draw_codes(generator, size // 2, gc=gc) for gc in (0.2, 0.8)])
        return LabelledCodes(np.concatenate([middle, ends]), np.repeat([True, False], size))

    train, validation, test = draw(400), draw(200), draw(200)
    scores = fit_gc_logistic(train, validation).predict(test.codes)
    assert auroc(test.targets, scores) > 0.98


def test_best_pwm_chooses_the_planted_motif_and_keeps_the_order_of_hits() -> None:
    generator = np.random.default_rng(4)
    train, validation, test = (plant(generator, size, "CAGCTGTT") for size in (300, 300, 300))
    motifs = [
        make_motif("GATAAG", "wrong"),
        make_motif("CAGCTGTT", "right"),
        make_motif("A" * 80, "too wide"),
    ]
    fitted = fit_best_pwm(train, validation, Screen(train, motifs))
    assert fitted.settings["motif"] == "right"
    assert "best log-odds hit of right" in say(fitted.description)
    assert "the best of 2 motifs" in say(fitted.description)
    assert auroc(test.targets, fitted.predict(test.codes)) > 0.95
    np.testing.assert_allclose(fitted.predict(reverse_complement(test.codes)), fitted.predict(test.codes), atol=1e-4)


def test_a_depleted_motif_is_not_turned_round() -> None:
    generator = np.random.default_rng(5)
    sets = [plant(generator, 300) for _ in range(3)]
    train, validation, test = (LabelledCodes(part.codes, ~part.targets) for part in sets)
    fitted = fit_best_pwm(train, validation, Screen(train, [make_motif(EBOX, "ebox")]))
    assert auroc(test.targets, fitted.predict(test.codes)) < 0.3


def test_baselines_say_how_many_examples_they_were_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebox.evaluation.baselines.MAX_TRAIN_EXAMPLES", 200)
    generator = np.random.default_rng(6)
    train, validation = plant(generator, 1000), plant(generator, 100)
    first = fit_kmer_logistic(train, validation, kmer=4, seed=3)
    assert "fitted to 200 of 1,000 training examples" in say(first.description)
    again = fit_kmer_logistic(train, validation, kmer=4, seed=3)
    np.testing.assert_array_equal(first.predict(train.codes), again.predict(train.codes))
    other = fit_kmer_logistic(train, validation, kmer=4, seed=4)
    assert (first.predict(train.codes) != other.predict(train.codes)).any()


def test_unknown_bases_are_borne() -> None:
    generator = np.random.default_rng(7)
    train, validation = plant(generator, 200), plant(generator, 100)
    codes = np.full((2, 60), 4, np.uint8)
    for fitted in (
        fit_best_pwm(train, validation, Screen(train, [make_motif(EBOX, "ebox")])),
        fit_motif_logistic(train, validation, Screen(train, [make_motif(EBOX, "ebox")])),
        fit_gc_logistic(train, validation),
        fit_confound_logistic(train, validation),
        fit_gapped_kmer_logistic(train, validation),
        fit_kmer_logistic(train, validation, kmer=4),
    ):
        assert np.isfinite(fitted.predict(codes)).all()


def test_of_many_motifs_the_planted_one_is_among_those_judged_on_validation() -> None:
    generator = np.random.default_rng(9)
    train, validation = plant(generator, 400, "CAGCTGTT"), plant(generator, 300, "CAGCTGTT")
    words = ["".join(generator.choice(list("ACGT"), 8)) for _ in range(5 * MAX_JUDGED)]
    motifs = [make_motif(word, f"other {number}") for number, word in enumerate(words)]
    motifs.insert(77, make_motif("CAGCTGTT", "right"))
    screen = Screen(train, motifs)
    assert len(screen.best(MAX_JUDGED)) == MAX_JUDGED
    fitted = fit_best_pwm(train, validation, screen)
    assert (fitted.settings["motif"], fitted.settings["num_motifs"]) == ("right", len(motifs))


def test_several_motifs_tell_what_one_cannot_and_twins_are_left_out() -> None:
    generator = np.random.default_rng(10)
    sets = []
    for _ in range(3):
        first, second = plant(generator, 600, "CAGCTGTT"), plant(generator, 600, "AGATAAGC")
        sets.append(LabelledCodes(np.concatenate([first.codes, second.codes]), np.tile(first.targets, 2)))
    train, validation, test = sets
    motifs = [make_motif("CAGCTGTT", "one"), make_motif("CAGCTGTT", "twin"), make_motif("AGATAAGC", "two")]
    screen = Screen(train, motifs)
    together = fit_motif_logistic(train, validation, screen)
    assert sorted(together.settings["motifs"]) in (["one", "two"], ["twin", "two"])
    alone = auroc(test.targets, fit_best_pwm(train, validation, screen).predict(test.codes))
    assert auroc(test.targets, together.predict(test.codes)) > alone + 0.1
    assert "best hits of 2 of 3 motifs" in say(together.description)


def test_gapped_kmers_are_those_of_both_strands() -> None:
    """The product of the two matrices, against a count letter by letter."""
    generator = np.random.default_rng(11)
    codes = draw_codes(generator, 3, 30)
    columns = find_kmer_columns(WORD_BP)
    product = (count_kmers(codes, WORD_BP, columns) @ list_gapped(columns)).toarray()
    for row, sequence in zip(product, codes, strict=True):
        expected: dict[tuple[str, ...], int] = {}
        for start in range(len(sequence) - WORD_BP + 1):
            word = sequence[start : start + WORD_BP]
            for kept in itertools.combinations(range(WORD_BP), INFORMED):
                masked = np.full(WORD_BP, 4, np.uint8)
                masked[list(kept)] = word[list(kept)]
                name = tuple(sorted((decode(masked), decode(reverse_complement(masked[None])[0]))))
                expected[name] = expected.get(name, 0) + 1
        found = row[row > 0] * 28**0.5
        np.testing.assert_allclose(np.sort(found), np.sort(np.array(list(expected.values()))), rtol=1e-5)


def test_gapped_kmers_find_a_word_with_a_gap_that_whole_words_find_less() -> None:
    generator = np.random.default_rng(12)
    sets = []
    for _ in range(3):
        part = plant(generator, 400, "CAGNNTGC".replace("N", "A"))
        for row in np.flatnonzero(part.targets):
            text = decode(part.codes[row])
            place = max(text.find("CAGAATGC"), 0)
            part.codes[row, place + 3 : place + 5] = generator.integers(0, 4, 2)
        sets.append(part)
    train, validation, test = sets
    gapped = fit_gapped_kmer_logistic(train, validation)
    score = auroc(test.targets, gapped.predict(test.codes))
    assert score > 0.85
    assert score > auroc(test.targets, fit_kmer_logistic(train, validation, kmer=6).predict(test.codes)) + 0.03
    np.testing.assert_allclose(gapped.predict(reverse_complement(test.codes)), gapped.predict(test.codes), atol=1e-4)
    assert "8 bp, 6 of them informed" in say(gapped.description)


def test_what_is_no_sequence_is_told_and_words_are_not() -> None:
    generator = np.random.default_rng(13)

    def draw(site: str | None) -> LabelledCodes:
        part = (
            plant(generator, 400) if site is None else LabelledCodes(draw_codes(generator, 400), np.arange(400) < 200)
        )
        if site == "ends":
            part.codes[part.targets, -4:] = 4
        elif site == "moved":
            part.codes[part.targets, -4:] = 4
            part.codes[~part.targets, 28:32] = 4
        elif site == "repeats":
            part.codes[part.targets, 20:44] = np.tile([0, 1], 12)
        return part

    for site, low, high in ((None, 0.3, 0.62), ("ends", 0.99, 1.0), ("moved", 0.99, 1.0), ("repeats", 0.95, 1.0)):
        fitted = fit_confound_logistic(draw(site), draw(site))
        test = draw(site)
        assert low <= auroc(test.targets, fitted.predict(test.codes)) <= high, site


def test_background_is_that_of_both_strands() -> None:
    background = measure_background(np.array([[0, 0, 1, 4]], np.uint8))
    np.testing.assert_allclose(background, np.array([4, 3, 3, 4]) / 14)


def test_what_cannot_be_fitted_is_refused() -> None:
    generator = np.random.default_rng(8)
    train, validation = plant(generator, 50), plant(generator, 50)
    one_class = LabelledCodes(train.codes, np.ones(50, bool))
    with pytest.raises(InputError, match="hold no 61-mers"):
        fit_kmer_logistic(train, validation, kmer=61)
    with pytest.raises(InputError, match="in the training split there are only positive ones"):
        fit_kmer_logistic(one_class, validation)
    with pytest.raises(InputError, match="in the validation split there are only positive ones"):
        fit_gc_logistic(train, one_class)
    with pytest.raises(InputError, match="none of 1 motifs fits into sequences of 60 bp"):
        Screen(train, [make_motif("A" * 61, "wide")])
    with pytest.raises(InputError, match="hold no 8-mers"):
        fit_gapped_kmer_logistic(LabelledCodes(train.codes[:, :7], train.targets), validation)
    with pytest.raises(InputError, match="in the training split there are only positive ones"):
        Screen(one_class, [make_motif(EBOX, "ebox")])


def load_tal1(folder: Path, negatives: str) -> dict[str, LabelledCodes]:
    """TAL1-bound loci against negatives, by the chromosome split of the data's README."""
    from ebox.sequences.fasta import read_fasta

    parts = [read_fasta(folder / "bound.fa.gz"), read_fasta(folder / f"{negatives}.fa.gz")]
    chosen = [np.arange(len(part)) for part in parts]
    if negatives == "open_chromatin_hsc":
        with gzip.open(folder / "open_chromatin_hsc_labels.tsv.gz", "rt") as stream:
            unbound = [row["TAL1_any"] == "0" for row in csv.DictReader(stream, delimiter="\t")]
        chosen[1] = np.flatnonzero(np.array(unbound) & (parts[1].lengths == 500))
    matrices, names = [], []
    for part, rows in zip(parts, chosen, strict=True):
        subset = part.take(rows)
        length = int(subset.lengths[0])
        matrices.append(subset.matrix(length)[:, (length - 200) // 2 : (length + 200) // 2])
        names += subset.names
    split_of = dict.fromkeys(("chr2", "chr10"), "validation") | dict.fromkeys(("chr1", "chr8", "chr9"), "test")
    splits = np.array([split_of.get(name.split(":")[0], "train") for name in names])
    codes, targets = np.concatenate(matrices), np.arange(len(names)) < len(matrices[0])
    return {
        split: LabelledCodes(codes[splits == split], targets[splits == split])
        for split in ("train", "validation", "test")
    }


@pytest.mark.slow
@pytest.mark.real_data
def test_the_best_matrix_for_real_tal1_comes_with_the_package(real_data: Path) -> None:
    splits = load_tal1(real_data / "tal1", "unbound_matched")
    fitted = fit_best_pwm(splits["train"], splits["validation"], Screen(splits["train"], load_carried_motifs()))
    assert fitted.settings["motif"] == "MA0140.1"
    assert auroc(splits["test"].targets, fitted.predict(splits["test"].codes)) >= 0.83


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("negatives", "auroc_floor", "auprc_floor"),
    [("unbound_matched", 0.926, 0.763), ("open_chromatin_hsc", 0.870, 0.858)],
)
def test_kmer_logistic_reaches_its_floor_on_real_tal1(
    real_data: Path, negatives: str, auroc_floor: float, auprc_floor: float
) -> None:
    splits = load_tal1(real_data / "tal1", negatives)
    start = time.perf_counter()
    fitted = fit_kmer_logistic(splits["train"], splits["validation"])
    scores = fitted.predict(splits["test"].codes)
    assert time.perf_counter() - start < 60
    assert auroc(splits["test"].targets, scores) >= auroc_floor
    assert auprc(splits["test"].targets, scores) >= auprc_floor
