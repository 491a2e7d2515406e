"""Sets of answers: how often they hold the right one, by class and by cluster, and when there are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars
import pytest

from ebox.errors import InputError
from ebox.evaluation.clusters import Clustering
from ebox.evaluation.conformal import ANSWERS, Limits, find_limits, measure_sets
from ebox.evaluation.reading import read_kept, read_protocol
from ebox.evaluation.scores import ScoresResult, write_scores
from ebox.evaluation.split_metrics import squash
from ebox.reporting.languages.english import say
from ebox.verbs.predict import _choose_for_fdr
from ebox.verbs.predict import describe as describe_scores


def find(num_positive: int, num_negative: int, seed: int, coverage: float = 0.9, copies: int = 1) -> Limits:
    """Limits from probabilities that are equally likely everywhere, in clusters of equal ones."""
    generator = np.random.default_rng(seed)
    probabilities = np.repeat(generator.random(num_positive + num_negative), copies)
    targets = np.arange(len(probabilities)) < num_positive * copies
    clusters = Clustering.of(targets, np.arange(len(probabilities)) // copies)
    limits, reason = find_limits(targets, probabilities, clusters, coverage)
    assert limits is not None
    assert reason is None
    return limits


@pytest.mark.parametrize(
    ("num", "coverage", "copies"), [(9, 0.9, 1), (19, 0.9, 1), (25, 0.9, 1), (12, 0.9, 10), (7, 0.8, 3)]
)
def test_over_many_samples_the_coverage_of_each_class_is_its_bound(num: int, coverage: float, copies: int) -> None:
    # A sample of n leaves out k of n + 1 places, k the greatest whole number within 1 - coverage: Vovk 2003.
    expected = 1.0 - np.floor((1.0 - coverage) * (num + 1) + 1e-9) / (num + 1)
    assert expected >= coverage - 1e-12
    found = [find(num, num, seed, coverage, copies) for seed in range(800)]
    assert np.mean([1.0 - limits.positive for limits in found]) == pytest.approx(expected, abs=0.01)
    assert np.mean([limits.negative for limits in found]) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("num", "share_of_large", "large"), [(50, 0.1, 50), (30, 0.1, 100), (100, 0.05, 100)])
def test_a_sequence_of_a_new_cluster_is_covered_where_clusters_are_unequal(
    num: int, share_of_large: float, large: int
) -> None:
    # All examples of a cluster have one score, equally likely everywhere, so the chance of a new one is known.
    held = []
    for seed in range(800):
        generator = np.random.default_rng(seed)
        sizes = np.where(generator.random(2 * num) < share_of_large, large, 1)
        labels = np.repeat(np.arange(2 * num), sizes)
        targets = labels < num
        limits, _ = find_limits(targets, generator.random(2 * num)[labels], Clustering.of(targets, labels), 0.9)
        assert limits is not None
        held.append((1.0 - limits.positive, limits.negative))
    for mean in np.mean(held, axis=0):
        assert mean == pytest.approx(1.0 - np.floor(0.1 * (num + 1)) / (num + 1), abs=0.012)
        assert mean > 0.892


def draw(num_positive: int, num_negative: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    targets = np.arange(num_positive + num_negative) < num_positive
    scores = np.random.default_rng(seed).normal(size=len(targets)) + 1.5 * targets
    return targets, squash(1.5 * scores - 4.0)


def test_the_rare_class_is_covered_as_well_as_the_common_one() -> None:
    targets, probabilities = draw(2000, 40_000, 0)
    limits, _ = find_limits(targets, probabilities, Clustering.of(targets), 0.9)
    assert limits is not None
    # Limits of both classes at once would keep 90 % of all by leaving out positives.
    for num_positive in (20_000, 1000):
        targets, probabilities = draw(num_positive, 20_000, num_positive)
        found = measure_sets(limits, targets, probabilities, Clustering.of(targets))
        for name in ("positive", "negative"):
            assert found[name]["coverage"]["value"] == pytest.approx(0.9, abs=0.025), name
            assert found[name]["coverage"]["low"] < 0.9 < found[name]["coverage"]["high"] + 0.02
            answers = found[name]["answers"]
            assert sum(answers.values()) == pytest.approx(1.0)
            assert found[name]["mean_size"] == pytest.approx(
                answers["bound"] + answers["unbound"] + 2 * answers["both"]
            )


def test_a_set_holds_every_answer_that_is_not_too_strange() -> None:
    overlapping, apart = Limits(0.9, 0.3, 0.6), Limits(0.9, 0.6, 0.3)
    probabilities = np.array([0.1, 0.3, 0.45, 0.6, 0.9])
    named = [[ANSWERS[answer] for answer in limits.find_sets(probabilities)] for limits in (overlapping, apart)]
    assert named[0] == ["unbound", "both", "both", "both", "bound"]
    assert named[1] == ["unbound", "unbound", "none", "bound", "bound"]


def test_few_clusters_of_a_class_give_no_sets_and_say_how_many_are_needed() -> None:
    targets = np.arange(80) < 30
    labels = np.where(targets, np.arange(80) % 8, np.arange(80))
    limits, reason = find_limits(targets, np.linspace(1.0, 0.0, 80), Clustering.of(targets, labels), 0.9)
    assert limits is None
    assert reason == {"code": "few_for_set", "positive": 8, "negative": 50, "needed": 9, "coverage": 0.9}
    assert "they need 9 independent validation examples of each that have no relative in training" in say(reason)
    assert "there are 8 positives and 50 negatives" in say(reason)


def test_predicted_sets_have_a_column_and_none_for_sequences_of_several_windows(tmp_path: Path) -> None:
    logits = np.array([[-3.0], [0.0], [3.0], [3.0]], np.float32)
    result = ScoresResult(
        names=("a", "b", "c", "long"), lengths=np.array([50, 50, 40, 51]), tracks=("x",), length_bp=50, logits=logits,
        windows=np.zeros((4, 1), np.int64), thresholds=(0.5,), num_padded=1, num_windowed=1,
        limits=(Limits(0.9, 0.4, 0.6),), fdr_thresholds=(0.9,), target_fdr=0.1,
    )  # fmt: skip
    write_scores(result, tmp_path / "scores.tsv")
    header, *rows = [line.split("\t") for line in (tmp_path / "scores.tsv").read_text().splitlines()]
    assert header[-2:] == ["x_set", "x_call_at_fdr"]
    assert [row[-2:] for row in rows] == [["unbound", "0"], ["both", "0"], ["bound", "1"], ["", ""]]


def test_the_console_says_what_sets_and_calls_are_meant_to_keep_and_what_was_measured() -> None:
    few = {"code": "few_negatives", "fdr": 0.1, "num_negative": 180, "needed": 900, "odds": 100.0}
    result = ScoresResult(
        names=("a", "b"), lengths=np.array([50, 50]), tracks=("x", "y"), length_bp=50,
        logits=np.array([[-3.0, 1.0], [3.0, 1.0]], np.float32), windows=np.zeros((2, 2), np.int64),
        thresholds=(0.5, 0.5), num_padded=0, num_windowed=0, limits=(Limits(0.9, 0.4, 0.6), Limits(0.9, 0.4, 0.6)),
        coverages=({"positive": 0.871, "negative": 0.9}, None), fdr_thresholds=(0.9, None), target_fdr=0.1,
        fdr_reasons=(None, few),
    )  # fmt: skip
    lines = describe_scores(result).splitlines()
    sets = [line for line in lines if "sets of answers" in line]
    meant = "sets of answers, meant to be right for 0.9 of each class"
    assert f"x: {meant} and on test right for 0.871 of the positives and 0.9 of the negatives: " in sets[0]
    assert f"y: {meant}: none 0, unbound 0, bound 2, both 0" in sets[1]
    kept = [line for line in lines if "of the calls false" in line]
    assert kept[0].endswith("1 called at 0.9 or more")
    assert kept[1].endswith(f"no threshold keeps that, since {say(few)}")


def test_a_rate_that_no_track_keeps_is_refused_with_the_reason_of_each(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"split": ["validation"] * 300, "cluster": [*range(300)]}
    columns |= {"related": [False] * 300}
    for track, num_positive in (("x", 20), ("y", 150)):
        columns |= {f"target_{track}": [int(row < num_positive) for row in range(300)]}
        columns |= {f"probability_{track}": [0.5] * 300}
    polars.DataFrame(columns).write_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(InputError, match=r"x: 280 independent .* are needed; y: 150 independent .* are needed\n"):
        _choose_for_fdr(tmp_path, ("x", "y"), 0.001, 0.1)
    with pytest.raises(InputError, match=r"x: no threshold gives .*; y: no threshold gives"):
        _choose_for_fdr(tmp_path, ("x", "y"), 0.1, 0.1)


def test_limits_are_read_back_and_an_older_evaluation_has_none(tmp_path: Path) -> None:
    threshold = {"value": 0.4}
    track = {
        "track": "x",
        "threshold": threshold,
        "share": 0.2,
        "splits": {"test": {"balanced": {"threshold": threshold}}},
    }
    sets = {"coverage": 0.8, "limits": {"positive": 0.1 + 0.2, "negative": 0.5}, "reason": None, "test": None}
    for version, more, expected in ((4, {"sets": sets}, Limits(0.8, 0.1 + 0.2, 0.5)), (3, {}, None)):
        config = {"both_strands": True, "prevalence": None}
        facts = {
            "format": "ebox-evaluation",
            "format_version": version,
            "config": config,
            "tracks": [{**track, **more}],
        }
        (tmp_path / "evaluation.json").write_text(json.dumps(facts))
        assert read_protocol(tmp_path, ("x",)).limits == (expected,)
        assert read_protocol(tmp_path, ("x",)).coverages == (None,)
        assert read_kept(tmp_path)["x"].limits == expected
