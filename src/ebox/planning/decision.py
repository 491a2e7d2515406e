"""The decision on an undertaking: go, wait, stop, or no answer, with everything that it rests on, as facts.

A plan says what time and money it takes, the report of a run how good it is, and the criteria what is asked of it.
Facts hold codes and numbers; `of` names entries of `sources`, where a figure comes from.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ebox.errors import InputError
from ebox.planning.criteria import ASSUMED, Criteria
from ebox.planning.gains import describe_worth, list_choices, list_told
from ebox.planning.jobs import JOBS
from ebox.planning.judgement import Case, Criterion, Facts, Word, judge
from ebox.planning.outlook import find_next, list_risks, list_turns
from ebox.storage import run_folder
from ebox.storage.names import MODEL
from ebox.storage.notes import Code, note


class Answer(Code):
    """The answer, as the title of the page."""

    GO = "answer_go"
    WAIT = "answer_wait"
    STOP = "answer_stop"
    NONE = "answer_none"


class Origin(Code):
    """Where an assumption comes from."""

    ASSUMED = "origin_assumed"
    FILE = "origin_file"
    SAID = "origin_said"
    PRICES = "origin_prices"


def decide(plan: Facts, report: Facts | None, criteria: Criteria) -> dict[str, Any]:
    """The decision and everything that it rests on.

    Args:
        plan: The facts of plan.json.
        report: The facts of the report of the run that was measured (report.json); None: there is none.
        criteria: What is asked of it, and what is taken for granted.

    Raises:
        InputError: the run was trained on other data than the plan is for, the criteria are in another currency than
            the prices, or facts are missing.
    """
    try:
        return _decide(plan, report, criteria)
    except (KeyError, TypeError, IndexError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"the plan or the run does not hold what it should ({type(error).__name__}: {error})",
            remedy="plan again with `ebox plan`, and measure the run again with `ebox evaluate`, with this ebox",
        ) from error


def _decide(plan: Facts, report: Facts | None, criteria: Criteria) -> dict[str, Any]:
    case = Case(plan, report, criteria)
    _check_same(case)
    worth = describe_worth(case)
    net = None if worth is None else worth["net"]
    rows = judge(case, net)
    word, because = _answer(rows)
    others, _ = _answer([row for row in rows if row["code"] != Criterion.WORTH])
    question = criteria.given.question
    return {
        "planned": plan["created"],
        "answer": {"word": word, "title": note(Answer(f"answer_{word}")), "because": because, "others": others},
        "question": {**_describe_question(case), "job": question.job, "currency": question.currency},
        "numbers": _describe_numbers(case),
        "accuracy": None if report is None else _describe_accuracy(case),
        "criteria": rows,
        "worth": worth,
        "choices": list_choices(case, worth),
        "learning_curve": plan["learning_curve"],
        "told": list_told(case, worth),
        "risks": [] if report is None else list_risks(case),
        "turns": list_turns(rows, worth),
        "next": find_next(case, rows, word),
        "assumptions": _list_assumptions(case),
        "prices": plan["prices"],
        "remarks": plan["remarks"],
        "sources": _list_sources(case),
    }


def _check_same(case: Case) -> None:
    case.criteria.check_currency(case.plan["prices"]["currency"])
    if case.report is not None:
        asked = case.plan["question"]
        check_data(case.report, asked["dataset"], asked["fingerprint"])


def check_data(report: Facts, dataset: str, fingerprint: str | None) -> None:
    """Raise InputError where the run of a report was trained on other data than a plan is for.

    Args:
        report: The facts of the report.
        dataset: The folder of the plan's dataset, as it was named.
        fingerprint: Of that dataset; None: not known.
    """
    trained = report["data"]["fingerprint"]
    if None not in (fingerprint, trained) and fingerprint != trained:
        raise InputError(
            f"the run {report['run']} was trained on other data ({str(trained)[:16]}) than the plan is for "
            f"({dataset}, {str(fingerprint)[:16]})",
            remedy="plan for the dataset of the run, or name a run of this dataset with --run",
        )


def _answer(rows: Sequence[Mapping[str, Any]]) -> tuple[Word, list[dict[str, Any]]]:
    """The answer, and the criteria that gave it: of stop, none, wait and go the first that some criterion turns to."""
    for word in (Word.STOP, Word.NONE, Word.WAIT):
        because = [dict(row) for row in rows if row["turns"] == word]
        if because:
            return word, because
    first = (Criterion.TARGET, Criterion.BASELINE, Criterion.WORTH)
    return Word.GO, [dict(row) for row in rows if row["code"] in first]


def _describe_question(case: Case) -> dict[str, Any]:
    asked = case.plan["question"]
    keys = ("dataset", "fingerprint", "length_bp", "num_train", "target", "budget", "deadline_hours", "jobs")
    run = None if case.report is None else {"name": case.report["run"], "measured": case.report["created"]}
    return {**{key: asked[key] for key in keys}, "track": None if run is None else case.track["track"], "run": run}


def _describe_accuracy(case: Case) -> dict[str, Any]:
    """AUROC of the network and of each simple method, and of the network against each kind of negatives."""
    keys = ("name", "kmer")
    return {
        "contenders": [
            {**{key: entry[key] for key in keys}, "auroc": entry["metrics"].get("auroc")}
            for entry in case.track["contenders"]
        ],
        "kinds": [
            {"kind": kind, "auroc": entry["metrics"].get("auroc")} for kind, entry in case.track["by_kind"].items()
        ],
        "of": ["evaluation"],
    }


def _describe_numbers(case: Case) -> dict[str, Any]:
    """Accuracy beside the best simple method, and time and money by job."""
    auroc, baseline = case.plan["accuracy"].get("expected"), None
    if case.report is not None:
        auroc, comparison = case.find_auroc(MODEL), case.track["comparison"]
        if comparison is not None:
            name = comparison["baseline"]
            kmer = case.track["contenders"][0]["kmer"]
            baseline = {"name": name, "kmer": kmer, "auroc": case.find_auroc(name)}
    target = case.plan["question"]["target"]
    jobs = {job: case.find_job(job) for job in JOBS if job in case.plan["recommendation"]}
    return {
        "auroc": auroc,
        "measured": case.report is not None,
        "baseline": baseline,
        "target": None if target is None else target["value"],
        "jobs": jobs,
        "of": ["plan"] if case.report is None else ["evaluation"],
    }


def _list_assumptions(case: Case) -> list[dict[str, Any]]:
    """Every number that is taken for granted, with where it comes from and when."""
    criteria = case.criteria
    said = criteria.given.sources
    rows = []
    values = criteria.values() | {"people.per_hour": case.per_hour}
    for name, value in values.items():
        origin = note(Origin.ASSUMED, {"date": ASSUMED})
        if name in said:
            origin = note(Origin.SAID, {"source": said[name], "file": criteria.file})
        elif name in criteria.changed:
            origin = note(Origin.FILE, {"file": criteria.file})
        elif name == "people.per_hour":
            hour = case.plan["prices"]["person_per_hour"]
            origin = note(Origin.PRICES, {"source": hour["source"], "date": hour["date"]})
        rows.append({"name": name, "value": value, "origin": origin})
    return rows


def _list_sources(case: Case) -> list[dict[str, Any]]:
    """Where figures come from: files, the command that made each, and its time."""
    plan, report = case.plan, case.report
    command = f"ebox {shlex.join(plan['command'][1:])}" if plan.get("command") else None
    entries = [{"name": "plan", "file": "plan.json", "created": plan.get("created"), "command": command}]
    if report is not None:
        commands = {did: command["line"] for command in report["commands"] for did in command["did"]}
        folder, created = str(plan["run"]), report["created"]
        made = {"evaluation": (run_folder.EVALUATION, "evaluation"), "quality": (run_folder.QUALITY, "data")}
        entries += [
            {"name": name, "file": f"{folder}/{file}", "created": created, "command": commands.get(did)}
            for name, (file, did) in made.items()
        ]
    own = ", ".join(plan["prices"]["files"])
    entries.append({"name": "prices", "file": own if own else None, "created": None, "command": None})
    file = case.criteria.file
    entries.append({"name": "criteria", "file": file, "created": ASSUMED if file is None else None, "command": None})
    entries += [
        {"name": f"profile {profile['name']}", "file": profile["file"], "created": profile["created"], "command": None}
        for profile in plan["profiles"]
    ]
    return entries
