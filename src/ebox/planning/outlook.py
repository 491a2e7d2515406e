"""Around a decision: the risks that the data show, what would change the answer, and the next step."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ebox.planning.judgement import (
    LABELS,
    Case,
    Criterion,
    Facts,
    State,
    Word,
    count_factors,
    find_conflicts,
    find_leaked,
    find_relatives,
)
from ebox.storage.notes import Code, note

# Stands in a command for the target that nobody has set yet.
_EXAMPLE_TARGET = 0.94
_LEAKS = ("leak_equal", "leak_overlap", "leak_similar", "leak_relative", "leak_kmers")


class Risk(Code):
    """Where the figures might mislead."""

    LEAKS = "risk_leaks"
    LABELS = "risk_labels"
    PREVALENCE = "risk_prevalence"
    NEGATIVES = "risk_negatives"
    LUCK = "risk_luck"
    OTHERS = "risk_others"
    MONEY = "risk_money"


class Turn(Code):
    """What would change the answer."""

    CRITERION = "turn_criterion"
    SWING = "turn_swing"


class Step(Code):
    """What to do next."""

    TARGET = "step_target"
    RUN = "step_run"
    MONEY = "step_money"
    DATA = "step_data"
    SIMPLER = "step_simpler"
    SPLIT = "step_split"
    LABELS = "step_labels"
    NEGATIVES = "step_negatives"
    EXAMPLES = "step_examples"
    REAL = "step_real"
    SMALLER = "step_smaller"
    ASK = "step_ask"
    FIELD = "step_field"


# What settles a criterion that fails.
_SETTLES = {
    Criterion.TARGET: Step.DATA,
    Criterion.BASELINE: Step.SIMPLER,
    Criterion.HARDEST: Step.NEGATIVES,
    Criterion.WORTH: Step.ASK,
    Criterion.BUDGET: Step.SMALLER,
    Criterion.DEADLINE: Step.SMALLER,
    Criterion.LEAKS: Step.SPLIT,
    Criterion.LABELS: Step.LABELS,
    Criterion.KINDS: Step.NEGATIVES,
    Criterion.ENOUGH: Step.EXAMPLES,
    Criterion.REAL: Step.REAL,
}
# What settles one that is unsure or not known: what can be measured is measured on more.
_NARROWS = _SETTLES | dict.fromkeys((Criterion.TARGET, Criterion.BASELINE, Criterion.HARDEST), Step.EXAMPLES)


def list_risks(case: Case) -> list[dict[str, Any]]:
    """Each kind of risk with its state, and the notes of the report that speak of it."""
    report = case.report
    assert report is not None
    warnings, limits = report["data"]["warnings"], {limit["code"]: limit for limit in report["limits"]}
    audited = report["data"]["leaks"] is not None
    relatives = find_relatives(report)
    leaks = [one for one in warnings if one["code"] in _LEAKS] + ([] if relatives is None else [relatives])
    labels = [one for one in warnings if one["code"] in LABELS]
    others = [one for one in warnings if one not in leaks and one not in labels]

    def state(notes: Sequence[Any]) -> str:
        return "found" if notes else "calm" if audited else "unknown"

    def named(*codes: str) -> list[Any]:
        return [limits[code] for code in codes if code in limits]

    prices = list(case.plan["prices"]["remarks"])
    factors = count_factors(case)
    one = {"state": "always", "notes": [], "track": case.track["track"], "factors": factors, "of": ["criteria"]}
    share, conflicts = find_leaked(report), find_conflicts(report)
    return [
        note(Risk.LEAKS, {"state": state(leaks), "share": share, "notes": leaks, "of": ["evaluation", "quality"]}),
        note(Risk.LABELS, {"state": state(labels), "share": conflicts, "notes": labels, "of": ["quality"]}),
        note(Risk.PREVALENCE, {"state": "always", "notes": named("limit_odds"), "of": ["evaluation"]}),
        note(
            Risk.NEGATIVES,
            {"state": "always", "notes": [*named("limit_negatives"), *others], "of": ["evaluation", "quality"]},
        ),
        note(
            Risk.LUCK,
            {
                "state": "always",
                "notes": named("limit_one_run", "limit_seeds", "limit_spent_once"),
                "of": ["evaluation"],
            },
        ),
        *([note(Risk.OTHERS, one)] if factors > 1 else []),
        note(Risk.MONEY, {"state": "found" if prices else "calm", "notes": prices, "of": ["prices"]}),
    ]


def list_turns(rows: Sequence[Mapping[str, Any]], worth: Facts | None) -> list[dict[str, Any]]:
    """The criteria that have a bound, and the assumptions at which nothing would be won, the nearest first."""
    bounds = [
        note(Turn.CRITERION, {"row": dict(row), "of": row["of"]})
        for row in rows
        if row["wanted"] is not None and row["found"] is not None and row["code"] != Criterion.WORTH
    ]
    swings = [] if worth is None else [one for one in worth["swings"] if one["flips_at"] is not None and one["value"]]
    near = sorted(swings, key=lambda one: max(one["flips_at"] / one["value"], one["value"] / one["flips_at"]))
    return [note(Turn.SWING, {**one, "of": ["criteria"]}) for one in near if one["factor"] != "avoided"] + bounds


def find_next(case: Case, rows: Sequence[Mapping[str, Any]], word: Word) -> dict[str, Any]:
    """The next step: of an answer that is not go, what settles its first reason."""
    dataset, target = case.plan["question"]["dataset"], case.plan["question"]["target"]
    if word is Word.GO:
        places = ["--bed", "candidates.bed", "--genome", "genome.fa", "--out", "places.tsv"]
        return _step(Step.FIELD, ["predict", str(case.plan["run"]), *places])
    row = next(row for row in rows if row["turns"] == word)
    if row["code"] == Criterion.TARGET and target is None:
        return _step(Step.TARGET, _plan_again(case, case.plan["run"]))
    if row["code"] == Criterion.TARGET and not row["run"] and row["state"] == State.UNKNOWN:
        run = "runs/decision"
        return _step(Step.RUN, ["train", dataset, "--out", run], ["evaluate", run], _plan_again(case, run))
    if row["code"] == Criterion.BUDGET and row["found"] is None:
        return _step(Step.MONEY)
    return _step(_SETTLES[Criterion(row["code"])] if row["state"] == State.FAILS else _NARROWS[Criterion(row["code"])])


def _plan_again(case: Case, run: str | None) -> list[str]:
    """The command line of the same plan, with a target and a run."""
    asked, jobs = case.plan["question"], case.plan["question"]["jobs"]
    target = asked["target"]
    options = {
        "--target": f"auroc={_EXAMPLE_TARGET if target is None else target['value']:g}",
        "--budget": asked["budget"],
        "--deadline": asked["deadline_hours"],
        "--trials": jobs["search"]["trainings"],
        "--factors": jobs["factors"]["factors"],
        "--folds": jobs["factors"]["folds"],
        "--prices": next(iter(case.plan["prices"]["files"]), None),
        "--criteria": case.criteria.file,
        "--run": run,
    }
    measured = [part for profile in case.plan["profiles"] for part in ("--measured", profile["file"])]
    given = [part for flag, value in options.items() if value is not None for part in (flag, f"{value}")]
    return ["plan", asked["dataset"], *measured, *given, "--out", "plan", "--overwrite"]


def _step(step: Step, *commands: Sequence[str]) -> dict[str, Any]:
    """A step with the command lines of ebox that do it."""
    return note(step, {"command": [f"ebox {shlex.join(command)}" for command in commands]})
