"""What the report says of an explanation: no more than its facts bear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebox.explanation.attribution import Attributions
from ebox.explanation.writing import describe_attribution
from ebox.reporting.languages.english import say
from ebox.reporting.sections.learned import describe_learned
from ebox.settings.reading import ExplanationConfig

REFERENCE = "wadman_1997"


def mean(value: float, spread: float = 0.1) -> dict[str, Any]:
    return {"value": value, "low": value - spread, "high": value + spread, "num": 100}


def explanation_of(**changed: Any) -> dict[str, Any]:
    """The least facts that the report reads."""
    return {
        "track": "bound",
        "sequences": {"num": 10},
        "attribution": {"completeness_error": 0.0, "warning": None, "method": "deeplift"},
        "targets": {"num": 2},
        "motifs": [],
        "motifs_reason": {"code": "nothing_recurs", "num_searched": 10},
        "grammar": {"pair": None, "reason": {"code": "no_pair"}},
        "examples": [],
        "proof": None,
        **changed,
    }


def pair_words(gap: int, first: float, second: float, interaction: float) -> str:
    parts = {"first_alone": mean(first), "second_alone": mean(second), "interaction": mean(interaction)}
    pair = {
        "first": {"label": "e_box", "word": "CATCTG"},
        "second": {"label": "gata_site", "word": "AGATAA"},
        "best": {"arrangement": "++", "gap_bp": gap, "both": mean(first + second + interaction), **parts},
        "expected": {"arrangement": "++", "gap_bp": [7, 9], "reference": REFERENCE},
    }
    learned = describe_learned(explanation_of(grammar={"pair": pair, "reason": None}))
    return " ".join(say(sentence) for sentence in learned["pair_sentences"])


def test_two_motifs_with_clear_effects_belong_together():
    words = pair_words(8, 0.7, 2.4, 2.9)
    assert "belong together" in words
    assert "This is where the literature puts it" in words
    assert "elsewhere" in pair_words(20, 0.7, 2.4, 2.9)


@pytest.mark.parametrize(
    ("facts", "instead"),
    [
        ((8, 0.7, 0.0, 2.9), "for the GATA site alone no rise is certain"),
        ((8, 0.0, 0.0, 2.9), "for the E-box and the GATA site alone no rise"),
        ((8, 0.7, 2.4, 0.05), "not shown to be more"),
        ((8, 0.7, 2.4, -2.0), "less than the product"),
        ((1, 0.7, 2.4, 2.9), "complete the flank"),
    ],
)
def test_no_grammar_is_stated_that_the_experiment_does_not_show(facts: tuple[int, float, float, float], instead: str):
    words = pair_words(*facts)
    assert "belong together" not in words
    assert "literature puts it" not in words
    assert instead in words


def motif_of(find: str | None, share_with_hit: float, **changed: Any) -> dict[str, Any]:
    return {
        "name": "motif_1",
        "sign": 1,
        "consensus": "CAGATG",
        "find": find,
        "matches": [],
        "num_hits": 100,
        "share_of_sequences": 0.11,
        "share_with_hit": share_with_hit,
        "put_in": None,
        "destroyed": None,
        **changed,
    }


def sentences_of(*motifs: dict[str, Any]) -> str:
    learned = describe_learned(explanation_of(motifs=list(motifs)))
    return " ".join(say(sentence) for sentence in learned["sentences"])


def test_where_a_motif_stands_is_counted_by_its_hits():
    words = sentences_of(motif_of("TAL1", 0.9))
    assert "90 %" in words
    assert "11 %" not in words
    assert "0 %" not in sentences_of(motif_of("TAL1", 0.0, num_hits=0))


def test_the_check_with_spoiled_last_layers_is_said_to_inform_only():
    randomised = [{"shuffled": name, "spearman": mean(0.5), "pearson": mean(0.5)} for name in ("head", "all")]
    proof = {
        "num_sequences": 10,
        "recovery": None,
        "planted_motifs": None,
        "randomised": randomised,
        "agreement": [],
        "seeds": None,
    }
    learned = describe_learned(explanation_of(proof=proof))
    _, head, everything = learned["checks"]
    assert "100 draws" in say(head, "found_spoiled")
    assert "no limit" in say(head, "wanted_spoiled")
    assert say(everything, "wanted_spoiled") == "near 0"


@pytest.mark.parametrize(("method", "alone"), [("saturation", True), ("gradient", True), ("integrated", False)])
def test_only_methods_that_measure_each_base_alone_say_so(method: str, alone: bool):
    ones, codes = np.ones(1, np.float32), np.zeros((1, 2), np.uint8)
    found = Attributions(method, codes, np.full((1, 2, 4), 0.4, np.float32), logit=ones, reference=0 * ones)
    attribution = describe_attribution(found, ExplanationConfig())
    proof = {
        "num_sequences": 10,
        "recovery": None,
        "planted_motifs": None,
        "randomised": [],
        "agreement": [],
        "seeds": None,
    }
    learned = describe_learned(explanation_of(attribution=attribution, proof=proof))
    assert ("measured alone" in say(learned["checks"][0], "wanted_completeness")) == alone
    assert ("measures each base alone" in say(learned["attribution"]["warning"])) == alone
    assert "they miss it by 20 % on average (more than 5 %)" in say(learned["attribution"]["warning"])


def test_variants_of_one_motif_are_named_once():
    assert "also" not in sentences_of(motif_of("TAL1", 0.9), motif_of("TAL1", 0.2))
    words = sentences_of(motif_of("TAL1", 0.9), *(motif_of(name, 0.1) for name in ("TAL1", "Runx1", "Runx1", "ETV1")))
    assert "It also uses Runx1 and ETV1." in words
    assert "(unknown)" in sentences_of(motif_of("TAL1", 0.9), motif_of(None, 0.1))
