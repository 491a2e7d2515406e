"""The part of the report on what the network learned: facts into sentences, rows and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ebox.drawing.charts import Line, interval_chart, line_chart, make_axis
from ebox.drawing.logos import information_heights, logo_svg
from ebox.drawing.numbers import Real, format_number, format_percent
from ebox.reporting.languages.english import join_words
from ebox.sequences.codes import encode, one_hot

NUM_MOTIFS_SHOWN = 8
NUM_EXAMPLES_SHOWN = 3
ROW_BP = 50
MAX_SHOWN_BP = 200
# The flank of a site reaches some 2 bp past its word, so a second word that stands nearer may only complete the first.
MIN_CLEAR_GAP_BP = 3
_STYLES = ("model", "kmer_logistic", "best_pwm", "gc_logistic")
_STRANDS = {
    "++": "both on one strand",
    "+-": "second turned",
    "-+": "first turned",
    "--": "both turned",
}
_SHUFFLED = {"head": "last layers shuffled", "all": "all weights shuffled"}
# Positions that the first layers find stay strong whatever the last layers do with them.
_WANTED_OF_SPOILED = {"head": "no limit: this shows how much the last layers matter", "all": "near 0"}
METHOD_WORDS = {
    "deeplift": "DeepLIFT/SHAP",
    "saturation": "every base changed in turn",
    "integrated": "integrated gradients",
    "gradient": "gradient times input",
}


def describe_learned(explanation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The facts of an explanation as the page shows them; none where the run was not explained."""
    if explanation is None:
        return None
    motifs = [_describe_motif(entry) for entry in explanation["motifs"][:NUM_MOTIFS_SHOWN]]
    proof = explanation.get("proof")
    return {
        "track": explanation["track"],
        "sequences": explanation["sequences"],
        "attribution": explanation["attribution"],
        "num_targets": explanation["targets"]["num"],
        "sentences": _make_sentences(explanation, motifs),
        "motifs": motifs,
        "num_motifs": len(explanation["motifs"]),
        "motifs_reason": explanation.get("motifs_reason"),
        "pair": explanation["grammar"].get("pair"),
        "pair_reason": explanation["grammar"].get("reason"),
        "pair_sentences": _say_pair(explanation["grammar"].get("pair")),
        "examples": explanation["examples"][:NUM_EXAMPLES_SHOWN],
        "checks": [] if proof is None else list_checks(explanation["attribution"], proof),
        "num_checked": None if proof is None else proof["num_sequences"],
    }


def _describe_motif(entry: Mapping[str, Any]) -> dict[str, Any]:
    nearest = entry["matches"][0] if entry["matches"] else None
    destroyed, put_in = entry.get("destroyed"), entry.get("put_in")
    return {
        **entry,
        "title": entry["find"] if entry["find"] else entry["consensus"],
        "nearest": nearest,
        "nearest_q": None if nearest is None else format_q(nearest["q_value"]),
        "put_in_words": None if put_in is None else _say_factor(put_in),
        "destroyed_words": None if destroyed is None else _say_factor(destroyed["sites"]),
        "control_words": None if destroyed is None else _say_factor(destroyed["control"]),
    }


def _make_sentences(explanation: Mapping[str, Any], motifs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader should take away, first things first."""
    if not motifs:
        return [f"No motif was found: {explanation.get('motifs_reason')}."]
    sentences = []
    first = motifs[0]
    what = (
        f"a motif like {first['find']}" if first["find"] else f"a motif, {first['consensus']}, that is like none known"
    )
    verb = "speaks for" if first["sign"] > 0 else "speaks against"
    where = (
        f"it stands in {format_percent(first['share_with_hit'], 0)} of the sequences explained"
        if first["num_hits"]
        else "no single place of it is good enough to be called a hit"
    )
    sentences.append(f"Above all the network looks for {what}, which {verb} “{explanation['track']}”: {where}.")
    if first["destroyed"] is not None:
        sentences.append(
            f"Where its real sites are overwritten, the odds that the network gives fall by a factor of "
            f"{first['destroyed_words']}; where as many bases are overwritten elsewhere, by {first['control_words']}."
        )
    # Variants of one motif are found apart, and have the same name.
    names = dict.fromkeys(motif["find"] if motif["find"] else f"{motif['consensus']} (unknown)" for motif in motifs)
    others = list(names)[1:4]
    if others:
        sentences.append(f"It also uses {join_words(others)}.")
    return sentences


def _say_pair(pair: Mapping[str, Any] | None) -> list[str]:
    if pair is None:
        return []
    best, first, second = pair["best"], pair["first"]["label"], pair["second"]["label"]
    strands = _STRANDS[best["arrangement"]]
    sentences = [
        f"The two count most with {best['gap_bp']} bp between them, {strands}: they multiply the odds by "
        f"{_say_factor(best['both'])}. Alone, {first} gives {_say_factor(best['first_alone'])} and {second} "
        f"{_say_factor(best['second_alone'])}."
    ]
    together, belong = best["interaction"], _belong_together(best)
    times = f"The two together do {_say_factor(together)} times as much as the product of what each does alone"
    idle = [name for name, alone in ((first, best["first_alone"]), (second, best["second_alone"])) if alone["low"] <= 0]
    if belong:
        sentences.append(f"{times}: the network has learned that they belong together.")
    elif together["high"] < 0:
        sentences.append("The two together do less than the product of what each does alone.")
    elif together["low"] <= 0:
        sentences.append("That is not shown to be more than the product of what each does alone.")
    elif idle:
        sentences.append(
            f"{times}, but for {join_words(idle)} alone no rise is certain: that may be a longer word or other "
            "flanks that the network likes, and does not show that it looks for two motifs."
        )
    else:
        sentences.append(
            f"{times}, but with fewer than {MIN_CLEAR_GAP_BP} bp between them one may only complete the flank of the "
            "other: this does not show that the network looks for two motifs at a distance."
        )
    expected = pair.get("expected")
    if expected is not None:
        low, high = expected["gap_bp"]
        same = low <= best["gap_bp"] <= high and best["arrangement"] == expected["arrangement"]
        verdict = "This is where the literature puts it" if same else "The literature puts it elsewhere"
        verdict = verdict if belong else "Where both are needed, the literature knows a distance"
        sentences.append(
            f"{verdict} ({low} to {high} bp, {_STRANDS[expected['arrangement']]}): {expected['reference']}."
        )
    return sentences


def _belong_together(best: Mapping[str, Any]) -> bool:
    """Whether each does something alone, both do more, and neither stands in the other's flank."""
    parts = ("first_alone", "second_alone", "interaction")
    return all(best[part]["low"] > 0 for part in parts) and best["gap_bp"] >= MIN_CLEAR_GAP_BP


def list_checks(attribution: Mapping[str, Any], proof: Mapping[str, Any]) -> list[dict[str, str]]:
    """Each check as a row: the question, what was found, and what one would want."""
    error = attribution["completeness_error"]
    beware = ""
    if attribution["warning"] is not None:
        apart = attribution["method"] in ("saturation", "gradient")
        beware = "; here each base was measured alone" if apart else "; here more points on the way would bring it down"
    rows = [
        _check(
            "Do the contributions add up?",
            f"They miss the difference they explain by {format_percent(error, 1)}",
            "less than 5 %" + beware,
        )
    ]
    for entry in proof["recovery"] if proof["recovery"] is not None else ():
        rows.append(
            _check(
                f"Are planted bases told from others ({METHOD_WORDS[entry['method']]})?",
                f"AUROC {_say(entry['auroc'])}, AUPRC {_say(entry['auprc'])} (chance "
                f"{format_number(entry['share_planted'], 3)})",
                "AUROC near 1",
            )
        )
    for entry in proof["planted_motifs"] if proof["planted_motifs"] is not None else ():
        if entry["discovered"] is None:
            found = "Not found"
        else:
            q = "" if entry["q_value"] is None else f", q = {format_q(entry['q_value'])}"
            found = f"As {entry['discovered']}, correlation {format_number(entry['correlation'], 3)}{q}"
        rows.append(_check(f"Was the planted {entry['name']} found?", found, "found, correlation near 1"))
    for entry in proof["randomised"]:
        rows.append(
            _check(
                f"Does a spoiled network ({_SHUFFLED[entry['shuffled']]}) explain itself otherwise?",
                _say_spoiled(entry),
                _WANTED_OF_SPOILED[entry["shuffled"]],
            )
        )
    for entry in proof["agreement"]:
        one, two = (METHOD_WORDS[method] for method in entry["methods"])
        rows.append(
            _check(
                f"Do {one} and {two} agree?",
                f"Correlation {_say(entry['pearson'])}; of ranks {_say(entry['spearman'])}",
                "near 1",
            )
        )
    seeds = proof["seeds"]
    if seeds is not None:
        rows.append(
            _check(
                f"Does a network of another seed ({seeds['run']}) explain the same?",
                f"Correlation {_say(seeds['pearson'])}; of ranks {_say(seeds['spearman'])}",
                "near 1",
            )
        )
    return rows


def _say_spoiled(entry: Mapping[str, Any]) -> str:
    numbers = f"{_say(entry['pearson'])}; of ranks {_say(entry['spearman'])}"
    if entry["shuffled"] == "head":
        return f"Correlation of strengths with the real one, over {entry['pearson']['num']} draws, {numbers}"
    return f"Correlation with the real one {numbers}"


def draw_learned(learned: Mapping[str, Any] | None) -> dict[str, Any]:
    """The figures of the section: motif logos, the curves of the pair, the logos of examples."""
    if learned is None:
        return {"motifs": [], "spacing": None, "halves": None, "examples": []}
    pair = learned["pair"]
    return {
        "motifs": [_draw_motif(number, motif) for number, motif in enumerate(learned["motifs"])],
        "spacing": None if pair is None else _draw_spacing(pair),
        "halves": None if pair is None else _draw_halves(pair),
        "examples": [_draw_example(number, entry) for number, entry in enumerate(learned["examples"])],
    }


def _draw_motif(number: int, motif: Mapping[str, Any]) -> str:
    matrix = np.asarray(motif["probabilities"], np.float64)
    heights = information_heights(matrix / matrix.sum(axis=1, keepdims=True))
    return logo_svg(heights, title=f"Logo of {motif['name']}: {motif['consensus']}", id_prefix=f"learned-{number}")


def _draw_spacing(pair: Mapping[str, Any]) -> str:
    lines = []
    for style, (arrangement, curve) in zip(_STYLES, pair["curves"].items(), strict=True):
        effect = curve["effect"]
        lines.append(
            Line(
                curve["gap_bp"],
                [point["value"] for point in effect],
                style,
                _STRANDS[arrangement],
                low=[point["low"] for point in effect],
                high=[point["high"] for point in effect],
            )
        )
    values = [value for line in lines for value in (*line.low, *line.high)]
    x = make_axis("Bases between the two", 0, max(lines[0].x), num=6)
    y = make_axis("Change of the logit", min(0.0, *values), max(values), num=5)
    best = pair["best"]
    title = (
        f"Effect of {pair['first']['label']} and {pair['second']['label']} by the gap between them; greatest at "
        f"{best['gap_bp']} bp, {_STRANDS[best['arrangement']]}: {_say(best['both'])}"
    )
    return line_chart("spacing", lines, x, y, title=title, height=366.0, key=True)


def _draw_halves(pair: Mapping[str, Any]) -> str:
    best = pair["best"]
    named = [
        (_capital(pair["first"]["label"]) + " alone", "gc_logistic", best["first_alone"]),
        (_capital(pair["second"]["label"]) + " alone", "gc_logistic", best["second_alone"]),
        (f"Both, {best['gap_bp']} bp apart", "model", best["both"]),
        ("More than both alone", "best_pwm", best["interaction"]),
    ]
    rows = [(label, style, e["value"], e["low"], e["high"], _say(e, 2)) for label, style, e in named]
    ends = [end for _, _, e in named for end in (e["low"], e["high"])]
    axis = make_axis("Change of the logit; bars are 95 % intervals", min(0.0, *ends), max(ends))
    words = "; ".join(f"{row[0]} {row[5]}" for row in rows)
    return interval_chart("halves", rows, axis, title=f"What each half contributes: {words}")


def _draw_example(number: int, entry: Mapping[str, Any]) -> list[str]:
    """The contributions along a sequence, a logo for each fifty bases, all on one scale.

    Of a long one the rows are shown on which most of the score rests.
    """
    values = np.asarray(entry["contributions"], np.float64)
    strength = np.add.reduceat(np.abs(values), range(0, len(values), ROW_BP))
    shown = np.sort(np.argsort(-strength, kind="stable")[: MAX_SHOWN_BP // ROW_BP]) * ROW_BP
    heights = one_hot(encode(entry["sequence"]), np.float64) * values[:, None]
    limit = max(float(np.abs(values).max()), 1e-9)
    return [
        logo_svg(
            heights[start : start + ROW_BP],
            title=f"Contributions in {entry['name']}, bases {start + 1} to {min(start + ROW_BP, len(values))}",
            limit=limit,
            unit="logit",
            first_position=start + 1,
            id_prefix=f"example-{number}-{start}",
        )
        for start in shown.tolist()
    ]


def format_q(value: Real) -> str:
    """A q-value in two figures."""
    return "0" if value == 0 else f"{value:.1e}" if value < 0.001 else f"{value:.2g}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _check(question: str, found: str, wanted: str) -> dict[str, str]:
    return {"question": question, "found": found, "wanted": wanted}


def _say(entry: Mapping[str, Any], digits: int = 3) -> str:
    numbers = [format_number(entry[key], digits) for key in ("value", "low", "high")]
    return f"{numbers[0]} ({numbers[1]} to {numbers[2]})"


def _say_factor(entry: Mapping[str, Any]) -> str:
    """A change of the logit as a factor of the odds, with its interval."""
    numbers = [_round(math.exp(min(entry[key], 50.0))) for key in ("value", "low", "high")]
    return f"{numbers[0]} ({numbers[1]} to {numbers[2]})"


def _round(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
