"""What a score means where positives are rarer: weights, thresholds for a false discovery rate, shifted log-odds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars
import pytest
from scipy.special import ndtr, ndtri

from ebox.errors import InputError
from ebox.evaluation.metrics import auprc, auroc
from ebox.evaluation.prevalence import Labelled, choose_at, list_prevalences, shift_log_odds
from ebox.evaluation.reading import Protocol, find_shareless, read_validation
from ebox.evaluation.scores import ScoresResult, write_scores
from ebox.evaluation.split_metrics import SplitScores, choose_threshold_of, measure_prevalences, squash
from ebox.evaluation.thresholds import find_fdr_threshold
from ebox.reporting.languages.english import say
from ebox.settings.reading import EvaluationConfig


def draw_split(num_positive: int, num_negative: int, shift: float = 3.0, seed: int = 0) -> SplitScores:
    generator = np.random.default_rng(seed)
    targets = np.repeat([True, False], [num_positive, num_negative])
    scores = generator.normal(size=len(targets)) + shift * targets
    kinds = np.where(targets, "positive", "matched").astype(object)
    rows = np.arange(len(targets))
    return SplitScores(rows, targets, kinds, rows, {"model": squash(shift * scores - shift**2 / 2.0)})


def test_weighted_negatives_count_like_copies_of_them() -> None:
    split = draw_split(50, 250, 1.5)
    scores = split.probabilities["model"]
    copies = np.concatenate([scores[split.targets], np.tile(scores[~split.targets], 20)])
    targets = np.repeat([True, False], [50, 5000])
    assert auprc(split.targets, scores, 20.0) == pytest.approx(auprc(targets, copies))
    assert auroc(split.targets, scores) == pytest.approx(auroc(targets, copies))


def test_precision_falls_with_the_prevalence_as_in_a_sample_that_has_it() -> None:
    validation, test = draw_split(400, 2000), draw_split(400, 2000, seed=1)
    thresholds = {"model": choose_threshold_of(validation, "model", "accuracy")}
    config = EvaluationConfig(prevalence=0.02)
    rare = measure_prevalences(validation, test, thresholds, config)["model"]
    assert [entry["odds"] for entry in rare] == pytest.approx([1.0, 100.0, 1000.0, 49.0])
    assert rare[3]["prevalence"] == 0.02
    for entry in rare:
        positives, negatives = (test.probabilities["model"][part] for part in (test.targets, ~test.targets))
        found = np.mean(positives >= thresholds["model"]["value"])
        false = entry["odds"] * np.mean(negatives >= thresholds["model"]["value"])
        used = entry["calls"]["used"]
        assert used["sensitivity"]["value"] == pytest.approx(found, abs=1e-6)
        assert used["precision"]["value"] == pytest.approx(found / (found + false), abs=1e-6)
        assert used["precision"]["low"] < used["precision"]["value"] < used["precision"]["high"]
    large = draw_split(20_000, 20_000, seed=2)
    assert rare[0]["auprc"]["low"] < auprc(large.targets, large.probabilities["model"]) < rare[0]["auprc"]["high"]
    # 2,000 negatives are too few to say how well the AUPRC is known where there are 49 or more for each positive.
    for entry in rare[1:]:
        assert (entry["auprc"]["low"], entry["auprc"]["high"]) == (None, None)
        assert entry["no_interval"]["needed"] == round(100 * entry["odds"])
    precisions = [entry["calls"]["used"]["precision"]["value"] for entry in rare]
    assert precisions[0] > precisions[3] > precisions[1] > precisions[2]


def test_the_threshold_for_a_false_discovery_rate_keeps_its_promise_on_other_data() -> None:
    kept = []
    for seed in range(40):
        validation, test = draw_split(100, 2000, seed=seed), draw_split(2000, 2000, seed=1000 + seed)
        threshold = find_fdr_threshold(validation.targets, validation.probabilities["model"], 0.1, 20 * 100 / 2000)
        assert threshold is not None
        called = test.probabilities["model"] >= threshold
        found, false = called[test.targets].mean(), 20.0 * called[~test.targets].mean()
        kept.append(false / max(found + false, 1e-9))
    assert np.mean(kept) <= 0.1
    # And it is not needlessly strict.
    assert np.mean(kept) > 0.02


@pytest.mark.parametrize(
    ("num", "share_of_large", "large", "odds", "fdr"), [(450, 1.0, 20, 20.0, 0.2), (1000, 0.03, 60, 50.0, 0.3)]
)
def test_the_promise_is_kept_where_like_negatives_stand_in_clusters(
    num: int, share_of_large: float, large: int, odds: float, fdr: float
) -> None:
    """Unit normals 3.5 apart; the negatives of a cluster have nearly the same score."""
    true = {"clusters": [], "alone": []}
    for seed in range(150):
        generator = np.random.default_rng(seed)
        labels = np.repeat(np.arange(num), np.where(generator.random(num) < share_of_large, large, 1))
        negatives = np.sqrt(0.95) * generator.normal(size=num)[labels]
        negatives += np.sqrt(0.05) * generator.normal(size=len(labels))
        scores = np.concatenate([generator.normal(size=500) + 3.5, negatives])
        targets = np.arange(len(scores)) < 500
        clusters = np.concatenate([num + np.arange(500), labels])
        for name, known in (("clusters", clusters), ("alone", None)):
            chosen = choose_at(Labelled(targets, scores, known), odds, "accuracy", fdr)["fdr"]["value"]
            if chosen is not None:
                found, false = ndtr(3.5 - chosen), odds * ndtr(-chosen)
                true[name].append(false / (found + false))
    assert len(true["clusters"]) > 100
    assert np.mean(true["clusters"]) < fdr < np.mean(true["alone"])


def test_negatives_that_are_needed_are_counted_by_clusters() -> None:
    targets = np.repeat([True, False], [10, 900])
    scores = np.where(targets, 1.0, 0.0)
    for num, is_enough in ((180, False), (900, True)):
        clusters = np.concatenate([1000 + np.arange(10), np.arange(900) % num])
        found = choose_at(Labelled(targets, scores, clusters), 100.0, "accuracy", 0.1)["fdr"]
        assert (found["value"] is not None) == is_enough
        reason = {"code": "few_negatives", "fdr": 0.1, "num_negative": 180, "needed": 900, "odds": 100.0}
        assert found["reason"] == (None if is_enough else reason)


def test_too_few_negatives_for_a_false_discovery_rate_are_told_with_how_many_are_needed() -> None:
    validation, test = draw_split(100, 890), draw_split(100, 890, seed=1)
    thresholds = {"model": choose_threshold_of(validation, "model", "accuracy")}
    rare = measure_prevalences(validation, test, thresholds, EvaluationConfig())["model"]
    assert rare[0]["calls"]["fdr"]["threshold"]["value"] is not None
    for entry, needed in ((rare[1], 900), (rare[2], 9000)):
        reason = entry["calls"]["fdr"]["reason"]
        assert reason["code"] == "few_negatives"
        assert f"{needed:,} are needed" in say(reason)
    enough = draw_split(10, 900, 50.0)
    assert find_fdr_threshold(enough.targets, enough.probabilities["model"], 0.1, 100 * 10 / 900) is not None
    fewer = draw_split(10, 899, 50.0)
    assert find_fdr_threshold(fewer.targets, fewer.probabilities["model"], 0.1, 100 * 10 / 899) is None


def test_no_threshold_that_keeps_the_rate_and_no_call_are_told() -> None:
    generator = np.random.default_rng(3)
    validation, test = draw_split(100, 2000, 0.1), draw_split(100, 2000, 0.1, seed=1)
    test.probabilities["model"] = np.minimum(test.probabilities["model"], 0.4 + 0.01 * generator.random(2100))
    thresholds = {"model": {"value": 0.5, "criterion": None, "split": None, "reason": None}}
    rare = measure_prevalences(validation, test, thresholds, EvaluationConfig())["model"][1]
    assert rare["calls"]["fdr"]["reason"]["code"] == "fdr_not_reached"
    assert "no threshold gives at most 10 % false calls at 1 positive to 100 negatives" in say(
        rare["calls"]["fdr"]["reason"]
    )
    assert rare["calls"]["used"]["precision"] is None
    assert say(rare["calls"]["used"]["reason"]) == "nothing is called"


def test_few_clusters_have_no_intervals_at_a_prevalence_either() -> None:
    split = draw_split(14, 100)
    thresholds = {"model": choose_threshold_of(split, "model", "accuracy")}
    (entry, *_) = measure_prevalences(split, split, thresholds, EvaluationConfig())["model"]
    assert (entry["auprc"]["low"], entry["calls"]["used"]["sensitivity"]["high"]) == (None, None)


def test_shifted_probabilities_are_those_of_bayes() -> None:
    """Two unit normals: the log-odds of a score x are known for any share of positives."""
    generator = np.random.default_rng(4)
    share, rare, area = 0.3, 0.001, 0.9
    distance = np.sqrt(2.0) * ndtri(area)
    scores = generator.normal(size=1000)

    def log_odds(prevalence: float) -> np.ndarray:
        return distance * scores - distance**2 / 2.0 + np.log(prevalence / (1.0 - prevalence))

    np.testing.assert_allclose(log_odds(share) + shift_log_odds(share, rare), log_odds(rare), rtol=1e-12)
    assert shift_log_odds(0.5, 0.001) == pytest.approx(-6.906755)


def test_a_stated_prevalence_stands_beside_the_usual_ones_once() -> None:
    assert list(list_prevalences(None).values()) == [1.0, 100.0, 1000.0]
    assert list(list_prevalences(0.001).values()) == pytest.approx([1.0, 100.0, 1000.0, 999.0])
    assert list(list_prevalences(0.5).values()) == [1.0, 100.0, 1000.0]


def test_predicted_scores_have_a_column_at_the_stated_prevalence(tmp_path: Path) -> None:
    protocol = Protocol((0.5, 0.5), both_strands=True, shares=(0.2, None), prevalence=0.001)
    shifts = protocol.find_shifts(0.001, tmp_path)
    assert shifts == (pytest.approx(shift_log_odds(0.2, 0.001)), None)
    logits = np.array([[0.0, 1.0], [3.0, -1.0]], np.float32)
    result = ScoresResult(
        names=("a", "b"), lengths=np.array([50, 50]), tracks=("x", "y"), length_bp=50, logits=logits,
        windows=np.zeros((2, 2), np.int64), thresholds=(0.5, 0.5), num_padded=0, num_windowed=0,
        shifts=shifts, prevalence=0.001,
    )  # fmt: skip
    write_scores(result, tmp_path / "scores.tsv")
    header, first, second = ((tmp_path / "scores.tsv").read_text()).splitlines()
    column = header.split("\t").index("x_probability_at_prevalence")
    expected = squash(np.array([0.0, 3.0]) + shift_log_odds(0.2, 0.001))
    assert [float(row.split("\t")[column]) for row in (first, second)] == pytest.approx(expected, rel=5e-3)
    # The share for which the other track's probabilities hold isn't known.
    assert first.endswith("\t")


def test_a_prevalence_for_a_network_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    protocol = Protocol((None,), both_strands=True)
    assert protocol.find_shifts(None, tmp_path) == (None,)
    with pytest.raises(InputError, match=r"need the share of positives.*\n.*ebox evaluate"):
        protocol.find_shifts(0.001, tmp_path)
    # What the evaluation stated doesn't keep a network without a share from predicting.
    assert protocol.find_shifts(0.001, None) == (None,)


def test_only_a_calibration_that_moves_the_logits_makes_them_hold_for_the_share_of_validation(tmp_path: Path) -> None:
    assert find_shareless(tmp_path, ("x",)) == {"x": {"code": "not_calibrated"}}
    few = {"code": "few_of_a_class", "least": 20}
    entries = [
        {"track": "temperature", "method": "temperature", "reason": None},
        {"track": "few", "method": None, "reason": few},
        {"track": "older", "scale": 1.2, "offset": 0.1, "reason": None},
        *({"track": method, "method": method, "reason": None} for method in ("platt", "isotonic")),
    ]
    (tmp_path / "training.json").write_text(json.dumps({"calibration": entries}))
    found = find_shareless(tmp_path, tuple(entry["track"] for entry in entries))
    assert {track: reason["code"] for track, reason in found.items()} == {
        "temperature": "calibrated_by_temperature",
        "few": "not_calibrated",
    }
    assert all("that training showed" in say(reason) for reason in found.values())


def test_kept_validation_scores_are_read_without_relatives_of_training_and_by_clusters(tmp_path: Path) -> None:
    table = polars.DataFrame(
        {
            "split": ["validation"] * 5 + ["test"],
            "cluster": [3, 4, 4, 5, 6, 7],
            "related": [False, False, False, True, False, False],
            "target_x": np.array([1, 0, 0, 0, 255, 1], np.uint8),
            "probability_x": [0.9, 0.2, 0.3, 0.1, 0.4, 0.8],
        }
    )
    table.write_parquet(tmp_path / "predictions.parquet")
    found = read_validation(tmp_path, "x")
    assert found.targets.tolist() == [True, False, False]
    assert found.probabilities.tolist() == [0.9, 0.2, 0.3]
    assert found.clusters is not None
    assert (found.clusters.tolist(), found.num_negative_clusters) == ([3, 4, 4], 1)
    # One by an older ebox doesn't say which are relatives.
    table.drop("related").write_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(InputError, match=r"is not a table of predictions of x.*\n.*ebox evaluate"):
        read_validation(tmp_path, "x")
