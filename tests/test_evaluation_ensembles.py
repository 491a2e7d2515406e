"""The gain of an ensemble over one member, and the share of it that a distilled network keeps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ebox.evaluation.bootstrap import bootstrap_models, compare_models, compare_with_mean
from ebox.evaluation.ensembles import MemberLogits, describe_ensemble, describe_ensembles
from ebox.evaluation.split_metrics import SplitScores, squash
from ebox.models.rising import RisingMap
from ebox.reporting.languages import english
from ebox.settings.reading import EvaluationConfig
from ebox.storage.names import MODEL

RANDOM = np.random.default_rng(0)
TARGETS = np.arange(400) % 2 == 0
# Members that share what is true, and err each in their own way.
MEMBERS = (np.where(TARGETS, 1.0, -1.0) + RANDOM.normal(0.0, 2.0, (4, 400))).astype(np.float32)
CONFIG = EvaluationConfig()


def split(probabilities: np.ndarray, rows: slice = slice(0, 400)) -> SplitScores:
    places = np.arange(400)[rows]
    kinds = np.where(TARGETS[rows], "positive", "given").astype(object)
    return SplitScores(places, TARGETS[rows], kinds, places, {MODEL: probabilities[rows]})


def members(*, is_distilled: bool) -> MemberLogits:
    return MemberLogits.of(MEMBERS[..., None], slice(0, 400), 400, is_distilled)


def test_the_gain_is_that_over_the_mean_of_the_members():
    whole = split(squash(MEMBERS.mean(axis=0)))
    found = describe_ensemble(whole, whole, members(is_distilled=False), 0, CONFIG)
    assert found is not None
    assert (found["code"], found["num_members"], found["distilled"]) == ("ensemble", 4, None)
    for metric in ("auroc", "auprc"):
        gain = found["gain"][metric]["difference"]
        mean = np.mean([member[metric] for member in found["members"]])
        assert gain["value"] == pytest.approx(found["ensemble"][metric] - mean, abs=1e-5)
        # Independent errors: the gain is large and sure.
        assert 0.0 < gain["low"] < gain["value"] < gain["high"]
        assert found["gain"][metric]["p_value"] < 1e-3


def test_a_distilled_network_is_held_against_the_gain_of_its_ensemble():
    mean = MEMBERS.mean(axis=0)
    whole = split(squash(mean))
    same = describe_ensemble(whole, whole, members(is_distilled=True), 0, CONFIG)
    assert same is not None
    assert same["code"] == "distilled"
    assert same["distilled"]["kept"] == {"auroc": 1.0, "auprc": 1.0}
    worse = split(squash(mean + RANDOM.normal(0.0, 0.7, 400)))
    found = describe_ensemble(worse, worse, members(is_distilled=True), 0, CONFIG)
    assert found is not None
    assert 0.0 < found["distilled"]["kept"]["auroc"] < 1.0
    assert found["gain"] == same["gain"]


def distil_noisily(rows: slice, noise: float, seed: int = 1) -> dict[str, Any]:
    """The section on a distilled network that errs by itself beside the mean of the members."""
    mean = MEMBERS.mean(axis=0) + np.random.default_rng(seed).normal(0.0, noise, 400)
    some = split(squash(mean), rows)
    found = describe_ensemble(some, some, members(is_distilled=True), 0, CONFIG)
    assert found is not None
    return found


def test_the_share_that_is_kept_has_an_interval_that_fits_those_of_the_gains():
    for noise in (0.3, 0.7, 1.5):
        found = distil_noisily(slice(0, 400), noise)
        for metric in ("auroc", "auprc"):
            share, ends = found["distilled"]["kept"][metric], found["distilled"]["kept_interval"][metric]
            assert ends["low"] < share < ends["high"]
            own, whole = (one["gain"][metric]["difference"] for one in (found["distilled"], found))
            assert share == pytest.approx(own["value"] / whole["value"], abs=1e-3)
            # A share of none is in the interval where the network's own gain may be 0.
            assert (ends["low"] > 0.0) == (own["low"] > 0.0)
    told = english.say({**found, "track": None})
    assert re.search(r"It keeps .* % \(95 % interval .* % to .* %\) of the gain in AUROC", told)


def test_of_a_gain_that_is_not_shown_no_share_is_given():
    # Members that say almost the same: the ratio of both gains would be that of two accidents.
    noise = np.random.default_rng(3).normal(0.0, 0.02, (5, 400))
    close = MemberLogits.of((MEMBERS[0] + noise[:4]).astype(np.float32)[..., None], slice(0, 400), 400, True)
    whole = split(squash(MEMBERS[0] + noise[4]))
    found = describe_ensemble(whole, whole, close, 0, CONFIG)
    assert found is not None
    for metric in ("auroc", "auprc"):
        assert found["gain"][metric]["difference"]["low"] <= 0.0 != found["gain"][metric]["difference"]["value"]
    assert found["distilled"]["kept"] == found["distilled"]["kept_interval"] == {"auroc": None, "auprc": None}
    told = english.say({**found, "track": None})
    assert "A gain of the ensemble in AUROC and AUPRC is not shown" in told
    assert "keeps" not in told


def test_both_sections_are_kept_where_test_sequences_have_relatives():
    whole, some = split(squash(MEMBERS.mean(axis=0))), members(is_distilled=False)
    related = np.arange(400) < 100
    alone = describe_ensembles(whole, whole, np.zeros(400, bool), {}, some, 0, CONFIG)
    assert alone is not None
    assert alone["relatives"] is None
    found = describe_ensembles(whole, whole, related, {MODEL: {"taken": "without"}}, some, 0, CONFIG)
    assert found is not None
    parts = found["relatives"]
    assert parts["with"] == describe_ensemble(whole, whole, some, 0, CONFIG)
    assert parts["without"] == describe_ensemble(whole, whole.take(~related), some, 0, CONFIG)
    assert (parts["taken"], found["gain"]) == ("without", parts["without"]["gain"])
    assert found["gain"] != parts["with"]["gain"]
    told = english.say({**found, "track": None})
    assert "leave out the test sequences with relatives in training; with them the ensemble gains" in told


def test_the_first_member_is_the_single_network_that_the_ensemble_is_held_against():
    whole = split(squash(MEMBERS.mean(axis=0)))
    found = describe_ensemble(whole, whole, members(is_distilled=True), 0, CONFIG)
    assert found is not None
    for over, own in ((found["over_first"], found["ensemble"]), (found["distilled"]["over_first"], found["ensemble"])):
        for metric in ("auroc", "auprc"):
            expected = own[metric] - found["members"][0][metric]
            assert over[metric]["difference"]["value"] == pytest.approx(expected, abs=1e-5)
            assert over[metric]["difference"]["low"] is not None


def test_members_that_are_alike_gain_nothing_and_nothing_can_be_kept():
    alike = MemberLogits.of(np.repeat(MEMBERS[:1, :, None], 3, axis=0), slice(0, 400), 400, True)
    whole = split(squash(MEMBERS[0]))
    found = describe_ensemble(whole, whole, alike, 0, CONFIG)
    assert found is not None
    assert found["gain"]["auroc"] == {"difference": {"value": 0.0, "low": 0.0, "high": 0.0}, "p_value": 1.0}
    assert found["distilled"]["kept"] == {"auroc": None, "auprc": None}


def test_members_are_measured_behind_the_map_that_calibrates_their_mean():
    curve = RisingMap((-1.0, 1.0), (-0.2, 5.0))
    bent = MemberLogits.of(MEMBERS[..., None], slice(0, 400), 400, True, (curve,))
    mean = MEMBERS.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(bent.squash(mean, 0), squash(curve.apply(mean)))
    # A network that says what the calibrated ensemble says keeps all of its gain.
    whole = split(squash(curve.apply(mean)))
    found = describe_ensemble(whole, whole, bent, 0, CONFIG)
    assert found is not None
    assert found["distilled"]["metrics"] == found["ensemble"]
    assert found["distilled"]["kept"] == {"auroc": 1.0, "auprc": 1.0}


def test_a_split_without_metrics_says_nothing_of_members():
    whole, bare = split(squash(MEMBERS.mean(axis=0))), split(squash(MEMBERS.mean(axis=0)), slice(0, 400, 2))
    assert describe_ensemble(whole, bare, members(is_distilled=False), 0, CONFIG) is None


def test_a_comparison_with_one_model_is_that_with_the_mean_of_one():
    scores = {str(number): squash(row) for number, row in enumerate(MEMBERS)}
    found = bootstrap_models(TARGETS, scores, dict.fromkeys(scores, 0.5), num_bootstrap=1)
    assert compare_models(found["0"], found["1"], "auroc") == compare_with_mean(found["0"], [found["1"]], "auroc")
    doubled = compare_with_mean(found["0"], [found["1"], found["1"]], "auprc")
    assert doubled.difference.low == pytest.approx(compare_models(found["0"], found["1"], "auprc").difference.low)
