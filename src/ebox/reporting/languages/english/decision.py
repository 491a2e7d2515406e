"""Sentences of a decision, for a reader who knows no machine learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ebox.drawing.numbers import (
    format_count,
    format_measure,
    format_money,
    format_number,
    format_percent,
    format_seconds,
)
from ebox.reporting.languages.english.decision_texts import ASSUMPTIONS, SWINGS
from ebox.reporting.languages.english.names import explain_kind, join_words, name_baseline, name_kind

Note = Mapping[str, Any]


def _auroc(found: Any) -> str:
    return f"AUROC {format_measure(found, 'auroc')}"


def _tell_target(row: Note) -> str:
    found, wanted = row["found"], format_number(row["wanted"])
    if row["wanted"] is None:
        return "No target was set, so there is nothing to hold a result against."
    if row["state"] == "holds":
        return f"It is accurate enough: {_auroc(found)} on sequences that training never saw, where {wanted} was asked."
    if row["state"] == "unsure":
        return (
            "Whether it is accurate enough can't be told from these few sequences: "
            f"{_auroc(found)}, where {wanted} was asked."
        )
    if not row["run"]:
        return f"{_tell_unmeasured(found)} {_tell_ceiling(row)}".strip()
    missed = f"It is not accurate enough: {_auroc(found)}, where {wanted} was asked."
    return f"{missed} {_tell_ceiling(row)}".strip()


def _tell_unmeasured(found: Any) -> str:
    expected = "" if found is None else f" From the trainings of the plan, {_auroc(found)} is expected."
    return f"Nothing was measured yet on sequences that training never saw.{expected}"


def _tell_ceiling(row: Note) -> str:
    if row["ceiling"] is None:
        return ""
    ceiling = format_measure(row["ceiling"], "auroc")
    if row["ceiling"]["high"] < row["wanted"]:
        return f"More data of this kind would not do: with ever more of it the AUROC tends to {ceiling}."
    return (
        f"More data might do: with ever more of this kind the AUROC tends to {ceiling}, and twice as much would give "
        f"{format_measure(row['at_twice'], 'auroc')}."
    )


def _tell_baseline(row: Note) -> str:
    if row["found"] is None:
        return "No simple method was measured beside the network, so what it adds is not known."
    name, found = name_baseline(row["baseline"], row["kmer"]), format_measure(row["found"], "auroc")
    better = row["found"].get("high") is not None and row["found"]["high"] < 0
    gain = f"the difference in AUROC to the best simple method, {name}, is {found}"
    return {
        "holds": f"It is better than what a simple method gives: {gain}.",
        "unsure": f"Whether it is better than a simple method by enough to matter can't be told: {gain}, where "
        f"{format_number(row['wanted'])} was asked.",
        "fails": f"A simple method does {'better' if better else 'as well'}: {gain}, where "
        f"{format_number(row['wanted'])} was asked.",
    }[row["state"]]


def _tell_hardest(row: Note) -> str:
    found = f"against {name_kind(row['kind']).lower()} ({explain_kind(row['kind'])}) it has {_auroc(row['found'])}"
    wanted = f"where at least {format_number(row['wanted'])} was asked of the hardest kind"
    return {
        "holds": f"It holds against the hardest kind of sites without binding, too: {found}.",
        "unsure": f"Whether it holds against the hardest kind of sites without binding can't be told: {found}, "
        f"{wanted}.",
        "fails": f"It does not hold against the hardest kind of sites without binding: {found}, {wanted}.",
    }[row["state"]]


def _tell_worth(row: Note) -> str:
    if row["found"] is None:
        return "What it saves can't be computed: there is no simple method, no curve or no price to compare with."
    found = format_measure(row["found"], "money", row["currency"])
    return {
        "holds": f"It pays: all in, {found} more is saved than spent.",
        "unsure": f"Whether it pays can't be told: all in, what is saved less what is spent is {found}.",
        "fails": f"It does not pay: all in, what is saved less what is spent is {found}.",
    }[row["state"]]


def _tell_budget(row: Note) -> str:
    if row["found"] is None:
        return "No machine with a price was found for this work, so its cost is not known."
    currency = row["currency"]
    found, wanted = format_measure(row["found"], "money", currency), format_money(row["wanted"], currency)
    return {
        "holds": f"The machines cost {found}, within the budget of {wanted}.",
        "unsure": f"The machines cost {found}, which may pass the budget of {wanted}.",
        "fails": f"The machines cost {found}, more than the budget of {wanted}.",
    }[row["state"]]


def _tell_deadline(row: Note) -> str:
    found, wanted = format_measure(row["found"], "seconds"), format_seconds(row["wanted"])
    return {
        "holds": f"It takes {found}, within the {wanted} that there are.",
        "unsure": f"It takes {found}, which may pass the {wanted} that there are.",
        "fails": f"It takes {found}, longer than the {wanted} that there are.",
    }[row["state"]]


def _tell_leaks(row: Note) -> str:
    if row["found"] is None:
        return "Whether test sequences also stand in training was not checked."
    found = f"{format_percent(row['found'])} of the test sequences also stand in training"
    if row["state"] == "holds":
        return f"The test is fair: {found}."
    return f"The test may flatter: {found}, where at most {format_percent(row['wanted'])} was allowed."


def _tell_labels(row: Note) -> str:
    if row["found"] is None:
        return "Whether the labels contradict each other was not checked."
    found = f"{format_percent(row['found'])} of the examples have both labels or lie on a bound site"
    if row["state"] == "holds":
        return f"The labels are clean: {found}."
    return f"The labels contradict each other: {found}, where at most {format_percent(row['wanted'])} was allowed."


def _tell_kinds(row: Note) -> str:
    kinds = join_words([name_kind(kind).lower() for kind in row["kinds"]])
    tested = f"tested against {kinds if kinds else 'no negatives'}"
    if row["state"] == "holds":
        return f"It was {tested}."
    if row["kinds"] == ["shuffled"]:
        return "It was tested against shuffled sequences alone, which are easier to tell than anything in a genome."
    return f"It was {tested} alone, where at least {row['wanted']} kinds were asked: against others it may do worse."


def _tell_enough(row: Note) -> str:
    found, wanted = format_count(row["found"]), format_count(row["wanted"])
    if row["state"] == "holds":
        return f"Enough was tested: {found} bound sequences."
    return f"Too little was tested: {found} bound sequences, where {wanted} independent ones were asked."


def _tell_choice(template: str) -> Callable[[Note], str]:
    def tell(row: Note) -> str:
        factors = "one factor" if row["factors"] == 1 else f"{format_count(row['factors'])} factors"
        return template.format(factors=factors)

    return tell


def _tell_cents(told: Note) -> str:
    money = format_money(told["money"], told["currency"])
    return (
        f"The machines for one training cost {money} and take {format_seconds(told['seconds'])}. So machines are not "
        f"what this decision is about: the people's work that goes with one factor costs "
        f"{format_money(told['people'], told['currency'])}."
    )


def _tell_machines(told: Note) -> str:
    share = told["share"]
    part = "less than 0.1 %" if share is not None and 0 < share < 0.0005 else format_percent(share)
    words = "" if share is None else f"Of all that is spent, machines are {part}. "
    many = "the one factor" if told["factors"] == 1 else f"all {format_count(told['factors'])} factors"
    return f"{words}People work {format_count(told['hours'])} hours for {many}."


def _tell_risk(calm: str, found: str, unknown: str = "") -> Callable[[Note], str]:
    def tell(risk: Note) -> str:
        share = risk.get("share")
        words = {"calm": calm, "found": found, "always": found, "unknown": unknown}[risk["state"]]
        return words.format(**{**risk, "share": "" if share is None else format_percent(share)})

    return tell


def _tell_turn_of_swing(turn: Note) -> str:
    name, unit = SWINGS[turn["factor"]], ASSUMPTIONS[turn["factor"]][1]
    at, value = (format_measure(turn[key], unit) for key in ("flips_at", "value"))
    return f"{name}: at {at} instead of {value} nothing would be won or lost."


def _tell_turn_of_criterion(turn: Note) -> str:
    row = turn["row"]
    unit = "auroc" if row["unit"] == "gain" else row["unit"]
    found, wanted = format_measure(row["found"], unit), format_measure(row["wanted"], unit)
    name = DECISION[f"title_{row['code']}"]
    assert isinstance(name, str)
    return f"{name}: found {found}, where the bound is {wanted}."


DECISION: dict[str, str | Callable[[Note], str]] = {
    "answer_go": "Go: it is accurate enough, and it pays",
    "answer_wait": "Wait: something has to be settled first",
    "answer_stop": "Stop: not on these terms",
    "answer_none": "No answer yet: something that it needs is missing",
    # What it rests on.
    "title_criterion_target": "Accurate enough",
    "title_criterion_baseline": "Beats simple methods",
    "title_criterion_hardest": "Hardest sites, too",
    "title_criterion_worth": "Pays, all in",
    "title_criterion_budget": "Machines in budget",
    "title_criterion_deadline": "In time",
    "title_criterion_leaks": "Fair test",
    "title_criterion_labels": "Clean labels",
    "title_criterion_kinds": "Several kinds of sites",
    "title_criterion_enough": "Enough tested",
    "title_criterion_real": "Real data",
    "criterion_target": _tell_target,
    "criterion_baseline": _tell_baseline,
    "criterion_hardest": _tell_hardest,
    "criterion_worth": _tell_worth,
    "criterion_budget": _tell_budget,
    "criterion_deadline": _tell_deadline,
    "criterion_leaks": _tell_leaks,
    "criterion_labels": _tell_labels,
    "criterion_kinds": _tell_kinds,
    "criterion_enough": _tell_enough,
    "criterion_real": "It was measured on simulated sequences, which say nothing of a real factor.",
    # What one can do, and what is good to know.
    "choice_nothing": _tell_choice("Do nothing, go on as now: {factors}"),
    "choice_one": _tell_choice("Use the network: {factors}"),
    "choice_all": _tell_choice("Use the network: {factors}"),
    "told_cents": _tell_cents,
    "told_machines": _tell_machines,
    "told_no_worth": "What it saves can't be computed: there is no simple method, no curve or no price to compare "
    "with.",
    "told_assumed": "Of the {of_num} numbers by which that is counted, ebox assumed {num}: put in your own.",
    "told_tracks": "This page is about “{track}”; the run holds {num:,} more, which are in its report.",
    # Risks.
    "title_risk_leaks": "Does anything that tests it also train it?",
    "title_risk_labels": "Are the labels right?",
    "title_risk_prevalence": "How rare are bound sites where it will be used?",
    "title_risk_negatives": "Against what was it tested?",
    "title_risk_luck": "Was it luck?",
    "title_risk_others": "Will other factors do as well?",
    "title_risk_money": "Do the prices hold?",
    "risk_leaks": _tell_risk(
        "The audit found nothing that matters ({share} of the test sequences stand in training).",
        "The audit found this:",
        "Not checked: the run holds no report on the quality of its data.",
    ),
    "risk_labels": _tell_risk(
        "No contradictions were found. Errors that contradict nothing can't be seen.",
        "These labels contradict each other:",
        "Not checked: the run holds no report on the quality of its data.",
    ),
    "risk_prevalence": _tell_risk("", "A share of right calls holds only where bound sites are as frequent as here."),
    "risk_negatives": _tell_risk("", "How hard the question was depends on the sites without binding."),
    "risk_luck": _tell_risk("", "Ranges show what other test sequences would change, and not everything else."),
    "risk_others": _tell_risk(
        "",
        "Only “{track}” was measured, and what it saves was taken for each of {factors} factors. Others may do better "
        "or worse, above all those with few known sites: begin with a few of them.",
    ),
    "risk_money": _tell_risk("Nothing speaks against the prices of the plan.", "The plan says of its prices:"),
    # What would change the answer.
    "turn_swing": _tell_turn_of_swing,
    "turn_criterion": _tell_turn_of_criterion,
    # What to do next.
    "step_target": "Say how accurate it has to be, and plan again.",
    "step_run": "Train one network, measure it on sequences that training never saw, and plan again with it.",
    "step_money": "Give prices of machines that you can have (--prices FILE), and plan again.",
    "step_data": "Collect more bound sites, or better ones, and measure again. Ask whether a lower target would do: "
    "then plan again with it.",
    "step_simpler": "Use the simple method: it is at hand already, and costs nothing more.",
    "step_split": "Make the dataset again with whole chromosomes held out (ebox build … --split chromosome), then "
    "train and measure again.",
    "step_labels": "Look at the records that the dataset lists as contradicting (dropped.tsv), settle them, and build "
    "it again.",
    "step_negatives": "Measure it against another kind of sites without binding, such as matched ones of the genome or "
    "open chromatin that is not bound (ebox evaluate RUN --positives … --negatives …; ebox build … --negative-kinds).",
    "step_examples": "Measure it on more sequences: with more of them the range becomes narrower.",
    "step_real": "Build a dataset from real sites, train on it, and measure again.",
    "step_smaller": "Plan for fewer factors or trainings, or ask for a larger budget or more time.",
    "step_ask": "Check the assumptions that matter most (the longest bars): the answer depends on them.",
    "step_field": "Check it in the field before all of it is done: score sites that you know, have 20 of the "
    "highest and 20 of the lowest tested, and hold the result against what this page promises.",
    # Where assumptions come from.
    "origin_assumed": "assumed by ebox, {date}; no one measured it",
    "origin_file": "{file}",
    "origin_said": "{source} ({file})",
    "origin_prices": lambda origin: (
        f"the prices of the plan, rates.person_per_hour: {origin['source']}, "
        + ("date unknown" if origin["date"] is None else str(origin["date"]))
    ),
}
