"""Sentences about what was learned: motifs, their grammar, and how sure an explanation is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ebox.drawing.numbers import format_count, format_estimate, format_factor, format_number, format_percent, format_q
from ebox.reporting.languages.english.names import METHODS, STRANDS, join_words

_KNOWN = {"e_box": "the E-box", "gata_site": "the GATA site"}
_SHUFFLED = {"head": "last layers shuffled", "all": "all weights shuffled"}


def name_insert(label: str) -> str:
    """A word that was put in: one that ebox knows, or the name of a motif."""
    return _KNOWN.get(label, label)


def tell_q(match: Mapping[str, Any]) -> str:
    """The q-value that decides whether a match is a find: the larger of that among known motifs and that of chance."""
    return format_q(max(match["q_value"], match["chance_q"]))


def _tell_first_motif(motif: Mapping[str, Any]) -> str:
    what = f"a motif, {motif['consensus']}, that is like none known"
    what = f"a motif like {motif['find']}" if motif["find"] else what
    verb = "speaks for" if motif["sign"] > 0 else "speaks against"
    where = "no single place of it is good enough to be called a hit"
    if motif["num_hits"]:
        where = f"it stands in {format_percent(motif['share_with_hit'], 0)} of the sequences explained"
    return f"Above all the network looks for {what}, which {verb} “{motif['track']}”: {where}."


def _tell_motif(motif: Mapping[str, Any]) -> str:
    """What stands below the logo of a motif."""
    nearest, words = motif["nearest"], []
    if motif["sign"] < 0:
        words.append("Speaks against.")
    if motif["find"]:
        turned = ", reverse complement" if nearest["strand"] == "-" else ""
        words.append(f"{nearest['id']}, q = {tell_q(nearest)}{turned}.")
    elif nearest:
        words.append(f"No find: the nearest, {nearest['name']} ({nearest['id']}), has q = {tell_q(nearest)}.")
    share = format_percent(motif["share_with_hit"], 0)
    words.append(f"Made from {format_count(motif['num_sites'])} sites; found in {share} of the sequences.")
    if motif["put_in"]:
        words.append(f"Put into shuffled sequences it multiplies the odds by {format_factor(motif['put_in'])}.")
    if (destroyed := motif["destroyed"]) is not None:
        words.append(
            f"Destroyed in {format_count(destroyed['num_sequences'])} real sequences it divides them by "
            f"{format_factor(destroyed['sites'])}; as much elsewhere, by {format_factor(destroyed['control'])}."
        )
    return " ".join(words)


def _tell_subject(learned: Mapping[str, Any]) -> str:
    sequences, attribution = learned["sequences"], learned["attribution"]
    words = f"{format_count(sequences['num'])} sequences of the test split were explained"
    if sequences.get("chosen") == "called":
        words += f", drawn from the {format_count(sequences['num_available'])} that the network calls "
        words += f"“{learned['track']}”"
    words += (
        f". For each base the question is how much of the score rests on it (by {METHODS[attribution['method']]}, "
        f"against {LEARNED[attribution['reference']]})."
    )
    with_n = sequences["num_with_n"]
    return words + (f" {format_count(with_n)} hold N, to which nothing is attributed." if with_n else "")


def _tell_best_place(pair: Mapping[str, Any]) -> str:
    best, first, second = pair["best"], name_insert(pair["first"]["label"]), name_insert(pair["second"]["label"])
    return (
        f"The two count most with {best['gap_bp']} bp between them, {STRANDS[best['arrangement']]}: they multiply the "
        f"odds by {format_factor(best['both'])}. Alone, {first} gives {format_factor(best['first_alone'])} and "
        f"{second} {format_factor(best['second_alone'])}."
    )


def _tell_together(ending: str) -> Callable[[Mapping[str, Any]], str]:
    def tell(found: Mapping[str, Any]) -> str:
        idle = join_words([name_insert(label) for label in found.get("idle", ())])
        values = {"idle": idle, "least": found.get("least_gap_bp")}
        times = f"The two together do {format_factor(found['interaction'])} times as much as the product of what each "
        return f"{times}does alone{ending.format(**values)}"

    return tell


def _tell_literature(verdict: str) -> Callable[[Mapping[str, Any]], str]:
    def tell(expected: Mapping[str, Any]) -> str:
        low, high = expected["gap_bp"]
        known = f"{low} to {high} bp, {STRANDS[expected['arrangement']]}"
        return f"{verdict} ({known}): {_REFERENCES.get(expected['reference'], expected['reference'])}."

    return tell


def _tell_spoiled(entry: Mapping[str, Any]) -> str:
    numbers = f"{format_estimate(entry['pearson'])}; of ranks {format_estimate(entry['spearman'])}"
    if entry["shuffled"] == "head":
        return f"Correlation of strengths with the real one, over {entry['pearson']['num']} draws, {numbers}"
    return f"Correlation with the real one {numbers}"


def _tell_correlation(entry: Mapping[str, Any]) -> str:
    return f"Correlation {format_estimate(entry['pearson'])}; of ranks {format_estimate(entry['spearman'])}"


def _tell_recovery(entry: Mapping[str, Any]) -> str:
    chance = format_number(entry["share_planted"], 3)
    return f"AUROC {format_estimate(entry['auroc'])}, AUPRC {format_estimate(entry['auprc'])} (chance {chance})"


def _tell_planted_motif(entry: Mapping[str, Any]) -> str:
    if entry["discovered"] is None:
        return "Not found"
    q = "" if entry["q_value"] is None else f", q = {format_q(entry['q_value'])}"
    return f"As {entry['discovered']}, correlation {format_number(entry['correlation'], 3)}{q}"


_REFERENCES = {
    "wadman_1997": "a GATA site about 9 bp downstream of the E-box, which is 8 bp to the A of AGATAA: Wadman et al. "
    "1997, EMBO J 16:3145; the JASPAR matrices MA0140.1 to MA0140.3 have the same distance"
}
_BEWARE = {
    "bases_alone": "; here each base was measured alone",
    "few_points": "; here more points on the way would bring it down",
}
_MISSED = (
    "the contributions of a sequence do not add up to what they explain: they miss it by {error:.0%} on average "
    "(more than {limit:.0%}); "
)
LEARNED: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    **_KNOWN,
    **_REFERENCES,
    # Against what, and whether it adds up.
    "dinucleotide_shuffles": "dinucleotide shuffles of the sequence",
    "equal_shares": "a quarter of every base at every place",
    "bases_alone": lambda found: (
        _missed(found) + f"{METHODS[found['method']]} measures each base alone, so they need not"
    ),
    "few_points": lambda found: _missed(found) + "more points on the way (explanation.num_steps) bring it down",
    "spread_of_members": "contributions are means over the members of the ensemble, whose spread is {share:.0%} of "
    "their mean size",
    # Why there is none.
    "discovery_left_out": "discovery was left out (explanation.discover)",
    "discovery_stopped": "TF-MoDISco stopped before its end ({error}), so nothing is known of motifs; it does so where "
    "few stretches stand out, and more sequences (explanation.max_sequences) may help",
    "nothing_recurs": "no stretch of high contribution recurs often enough in {num_searched:,} sequences; more "
    "sequences (explanation.max_sequences), or a network that has learned more, may show one",
    "grammar_left_out": "left out (explanation.grammar)",
    "no_pair": "no two motifs were found or named (explanation.pair)",
    "no_room": "the two motifs do not fit into a sequence side by side",
    "few_backgrounds": "{least} sequences at least are needed to put them into",
    "run_not_explained": "the run's test set was not explained, so no motifs are known to call hits of",
    "other_track": "the run's test set was explained for the track {explained!r}, not {track!r}",
    "no_motifs": "no motif was found in the run's test set",
    # What to take away.
    "subject": _tell_subject,
    "no_motif": lambda found: f"No motif was found: {_tell_reason(found['reason'])}.",
    "first_motif": _tell_first_motif,
    "first_motif_destroyed": lambda found: (
        "Where its real sites are overwritten, the odds that the network gives fall by a factor of "
        f"{format_factor(found['sites'])}; where as many bases are overwritten elsewhere, by "
        f"{format_factor(found['control'])}."
    ),
    "other_motifs": lambda found: f"It also uses {join_words([_name_motif(motif) for motif in found['motifs']])}.",
    "motif": _tell_motif,
    # Two motifs.
    "best_place": _tell_best_place,
    "belong_together": _tell_together(": the network has learned that they belong together."),
    "less_together": "The two together do less than the product of what each does alone.",
    "not_more_together": "That is not shown to be more than the product of what each does alone.",
    "one_idle": _tell_together(
        ", but for {idle} alone no rise is certain: that may be a longer word or other flanks that the network likes, "
        "and does not show that it looks for two motifs."
    ),
    "one_flank": _tell_together(
        ", but with fewer than {least} bp between them one may only complete the flank of the other: this does not "
        "show that the network looks for two motifs at a distance."
    ),
    "where_known": _tell_literature("This is where the literature puts it"),
    "elsewhere": _tell_literature("The literature puts it elsewhere"),
    "distance_known": _tell_literature("Where both are needed, the literature knows a distance"),
    # The checks: what is asked, found and wanted.
    "completeness": "Do the contributions add up?",
    "found_completeness": lambda check: f"They miss the difference they explain by {format_percent(check['error'], 1)}",
    "wanted_completeness": lambda check: "less than 5 %" + _BEWARE.get(check["beware"], ""),
    "recovery": lambda check: f"Are planted bases told from others ({METHODS[check['method']]})?",
    "found_recovery": _tell_recovery,
    "wanted_recovery": "AUROC near 1",
    "planted_motif": "Was the planted {name} found?",
    "found_planted_motif": _tell_planted_motif,
    "wanted_planted_motif": "found, correlation near 1",
    "spoiled": lambda check: f"Does a spoiled network ({_SHUFFLED[check['shuffled']]}) explain itself otherwise?",
    "found_spoiled": _tell_spoiled,
    # Positions that the first layers find stay strong whatever the last layers do with them.
    "wanted_spoiled": lambda check: (
        "no limit: this shows how much the last layers matter" if check["shuffled"] == "head" else "near 0"
    ),
    "agreement": lambda check: f"Do {METHODS[check['methods'][0]]} and {METHODS[check['methods'][1]]} agree?",
    "found_agreement": _tell_correlation,
    "wanted_agreement": "near 1",
    "other_seed": "Does a network of another seed ({run}) explain the same?",
    "found_other_seed": _tell_correlation,
    "wanted_other_seed": "near 1",
}


def _tell_reason(reason: Mapping[str, Any]) -> str:
    sentence = LEARNED[reason["code"]]
    return sentence(reason) if callable(sentence) else sentence.format(**reason)


def _missed(found: Mapping[str, Any]) -> str:
    return _MISSED.format(**found).replace("%", " %")


def _name_motif(motif: Mapping[str, Any]) -> str:
    return str(motif["find"]) if motif["find"] else f"{motif['consensus']} (unknown)"
