"""The section on what was learned: motifs, their grammar, single sequences, and the checks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ebox.drawing.charts import Line, interval_chart, line_chart, make_axis
from ebox.drawing.logos import contribution_heights, information_heights, logo_svg
from ebox.drawing.numbers import format_estimate
from ebox.reporting.languages import Language, capitalise
from ebox.reporting.reading import EXPLANATION, RunFiles
from ebox.reporting.section import Section
from ebox.storage.notes import Code, note

NUM_MOTIFS_SHOWN = 8
NUM_OTHERS_NAMED = 3
NUM_EXAMPLES_SHOWN = 3
ROW_BP = 50
MAX_SHOWN_BP = 200
# The flank of a site reaches about 2 bp past its word, so a second word nearer than that may only complete the first.
MIN_CLEAR_GAP_BP = 3
_STYLES = ("model", "kmer_logistic", "best_pwm", "gc_logistic")


class Learned(Code):
    """What a reader should remember of the motifs."""

    NO_MOTIF = "no_motif"
    FIRST_MOTIF = "first_motif"
    FIRST_DESTROYED = "first_motif_destroyed"
    OTHER_MOTIFS = "other_motifs"


class Together(Code):
    """What the experiment with two motifs shows."""

    BEST_PLACE = "best_place"
    BELONG = "belong_together"
    LESS = "less_together"
    NOT_MORE = "not_more_together"
    ONE_IDLE = "one_idle"
    ONE_FLANK = "one_flank"
    WHERE_KNOWN = "where_known"
    ELSEWHERE = "elsewhere"
    DISTANCE_KNOWN = "distance_known"


class Check(Code):
    """A check of an explanation; each language has texts for what was found (`found_`) and expected (`wanted_`)."""

    COMPLETENESS = "completeness"
    RECOVERY = "recovery"
    PLANTED_MOTIF = "planted_motif"
    SPOILED = "spoiled"
    AGREEMENT = "agreement"
    OTHER_SEED = "other_seed"


def collect(files: RunFiles) -> dict[str, Any]:
    """What `ebox explain` found, and what follows from it."""
    return {"learned": describe_learned(files.found[EXPLANATION])}


def describe_learned(explanation: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of an explanation as the page shows them."""
    motifs, pair = explanation["motifs"][:NUM_MOTIFS_SHOWN], explanation["grammar"].get("pair")
    proof = explanation.get("proof")
    return {
        **{key: explanation[key] for key in ("track", "sequences", "attribution")},
        "num_targets": explanation["targets"]["num"],
        "sentences": _list_lessons(explanation, motifs),
        "motifs": [{**entry, "nearest": entry["matches"][0] if entry["matches"] else None} for entry in motifs],
        "num_motifs": len(explanation["motifs"]),
        "motifs_reason": explanation.get("motifs_reason"),
        "pair": pair,
        "pair_reason": explanation["grammar"].get("reason"),
        "pair_sentences": [] if pair is None else list(_judge_pair(pair)),
        "examples": explanation["examples"][:NUM_EXAMPLES_SHOWN],
        "checks": [] if proof is None else list(list_checks(explanation["attribution"], proof)),
        "num_checked": None if proof is None else proof["num_sequences"],
    }


def _list_lessons(explanation: Mapping[str, Any], motifs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a reader should remember, the most important first."""
    if not motifs:
        return [note(Learned.NO_MOTIF, {"reason": explanation.get("motifs_reason")})]
    first = motifs[0]
    keys = ("find", "consensus", "sign", "num_hits", "share_with_hit")
    lessons = [note(Learned.FIRST_MOTIF, {"track": explanation["track"], **{key: first[key] for key in keys}})]
    if first["destroyed"] is not None:
        lessons.append(note(Learned.FIRST_DESTROYED, {key: first["destroyed"][key] for key in ("sites", "control")}))
    # Variants of one motif are found separately, under the same name.
    variants: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for motif in motifs:
        variants.setdefault((motif["find"], None if motif["find"] else motif["consensus"]), motif)
    others = list(variants.values())[1 : 1 + NUM_OTHERS_NAMED]
    if others:
        named = [{"find": motif["find"], "consensus": motif["consensus"]} for motif in others]
        lessons.append(note(Learned.OTHER_MOTIFS, {"motifs": named}))
    return lessons


def _judge_pair(pair: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Where two motifs have most effect, whether they belong together, and whether the literature knows the pair."""
    best, expected = pair["best"], pair.get("expected")
    yield note(Together.BEST_PLACE, {key: pair[key] for key in ("first", "second", "best")})
    together, belong = best["interaction"], _belong_together(best)
    alone = ((pair["first"]["label"], best["first_alone"]), (pair["second"]["label"], best["second_alone"]))
    idle = [label for label, effect in alone if effect["low"] <= 0]
    if belong:
        yield note(Together.BELONG, {"interaction": together})
    elif together["high"] < 0:
        yield note(Together.LESS)
    elif together["low"] <= 0:
        yield note(Together.NOT_MORE)
    elif idle:
        yield note(Together.ONE_IDLE, {"interaction": together, "idle": idle})
    else:
        yield note(Together.ONE_FLANK, {"interaction": together, "least_gap_bp": MIN_CLEAR_GAP_BP})
    if expected is not None:
        low, high = expected["gap_bp"]
        same = low <= best["gap_bp"] <= high and best["arrangement"] == expected["arrangement"]
        known = Together.WHERE_KNOWN if same else Together.ELSEWHERE
        yield note(known if belong else Together.DISTANCE_KNOWN, expected)


def _belong_together(best: Mapping[str, Any]) -> bool:
    """Whether each has an effect alone, both have more, and neither lies in the other's flank."""
    parts = ("first_alone", "second_alone", "interaction")
    return all(best[part]["low"] > 0 for part in parts) and best["gap_bp"] >= MIN_CLEAR_GAP_BP


def list_checks(attribution: Mapping[str, Any], proof: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each check with what was found, as a note."""
    warning = attribution["warning"]
    missed = {"error": attribution["completeness_error"], "beware": None if warning is None else warning["code"]}
    yield note(Check.COMPLETENESS, missed)
    for check, entries in (
        (Check.RECOVERY, proof["recovery"]),
        (Check.PLANTED_MOTIF, proof["planted_motifs"]),
        (Check.SPOILED, proof["randomised"]),
        (Check.AGREEMENT, proof["agreement"]),
        (Check.OTHER_SEED, None if proof["seeds"] is None else [proof["seeds"]]),
    ):
        yield from (note(check, entry) for entry in (entries if entries is not None else ()))


def draw(facts: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """Motif logos, the curves of the pair, the logos of examples."""
    learned, pair, words = facts["learned"], facts["learned"]["pair"], language.TEXTS["learned"]
    return {
        "motifs": [_draw_motif(number, motif, words) for number, motif in enumerate(learned["motifs"])],
        "spacing": None if pair is None else _draw_spacing(pair, language),
        "halves": None if pair is None else _draw_halves(pair, language),
        "examples": [_draw_example(number, entry, words) for number, entry in enumerate(learned["examples"])],
    }


def _draw_motif(number: int, motif: Mapping[str, Any], words: Mapping[str, Any]) -> str:
    matrix = np.asarray(motif["probabilities"], np.float64)
    heights = information_heights(matrix / matrix.sum(axis=1, keepdims=True))
    title = words["logo"].format(name=motif["name"], consensus=motif["consensus"])
    return logo_svg(heights, title=title, id_prefix=f"learned-{number}")


def _draw_spacing(pair: Mapping[str, Any], language: Language) -> str:
    words, lines = language.TEXTS["learned"], []
    for style, (arrangement, curve) in zip(_STYLES, pair["curves"].items(), strict=True):
        effect = curve["effect"]
        middle, low, high = ([point[key] for point in effect] for key in ("value", "low", "high"))
        lines.append(Line(curve["gap_bp"], middle, style, words["strands"][arrangement], low=low, high=high))
    values = [value for line in lines for value in (*line.low, *line.high)]
    x = make_axis(words["spacing_axes"][0], 0, max(lines[0].x), num=6)
    y = make_axis(words["spacing_axes"][1], min(0.0, *values), max(values), num=5)
    best = pair["best"]
    title = words["spacing_title"].format(
        first=language.name_insert(pair["first"]["label"]),
        second=language.name_insert(pair["second"]["label"]),
        gap=best["gap_bp"],
        strands=words["strands"][best["arrangement"]],
        effect=format_estimate(best["both"]),
    )
    return line_chart("spacing", lines, x, y, title=title, height=366.0, key=True)


def _draw_halves(pair: Mapping[str, Any], language: Language) -> str:
    best, words = pair["best"], language.TEXTS["learned"]
    first, second = (capitalise(language.name_insert(pair[which]["label"])) for which in ("first", "second"))
    named = [
        (words["alone"].format(name=first), "gc_logistic", best["first_alone"]),
        (words["alone"].format(name=second), "gc_logistic", best["second_alone"]),
        (words["both"].format(gap=best["gap_bp"]), "model", best["both"]),
        (words["more"], "best_pwm", best["interaction"]),
    ]
    rows = [(label, style, e["value"], e["low"], e["high"], format_estimate(e, 2)) for label, style, e in named]
    ends = [end for _, _, e in named for end in (e["low"], e["high"])]
    axis = make_axis(words["halves_axis"], min(0.0, *ends), max(ends))
    values = "; ".join(f"{row[0]} {row[5]}" for row in rows)
    return interval_chart("halves", rows, axis, title=words["halves_title"].format(values=values))


def _draw_example(number: int, entry: Mapping[str, Any], words: Mapping[str, Any]) -> list[str]:
    """The contributions along a sequence, a logo for each fifty bases, all on one scale.

    Of a long sequence the rows with the strongest contributions are shown.
    """
    values = np.asarray(entry["contributions"], np.float64)
    strength = np.add.reduceat(np.abs(values), range(0, len(values), ROW_BP))
    shown = np.sort(np.argsort(-strength, kind="stable")[: MAX_SHOWN_BP // ROW_BP]) * ROW_BP
    heights = contribution_heights(entry["sequence"], values)
    limit = max(float(np.abs(values).max()), 1e-9)
    return [
        logo_svg(
            heights[start : start + ROW_BP],
            title=words["contributions"].format(
                name=entry["name"], first=start + 1, last=min(start + ROW_BP, len(values))
            ),
            limit=limit,
            unit="logit",
            first_position=start + 1,
            id_prefix=f"example-{number}-{start}",
        )
        for start in shown.tolist()
    ]


READS = (EXPLANATION,)
SECTION = Section("learned", 70, collect, reads=READS, figures=draw, template="learned.html.j2", starts_sheet=True)
