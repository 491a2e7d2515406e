"""The criteria of a decision, each held against the facts of a plan and of a measured run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ebox.planning.criteria import Criteria
from ebox.storage.names import MODEL
from ebox.storage.notes import Code, note

Facts = Mapping[str, Any]
# What of the audit shows a test sequence in training, as the report names it.
_SAME = ("exact", "reverse_complement", "overlap")
# Warnings about labels, of which each counts examples.
LABELS = ("conflicts", "conflicts_dropped", "near_positives", "near_positives_dropped")


class Criterion(Code):
    """What an answer rests on."""

    TARGET = "criterion_target"
    BASELINE = "criterion_baseline"
    HARDEST = "criterion_hardest"
    WORTH = "criterion_worth"
    BUDGET = "criterion_budget"
    DEADLINE = "criterion_deadline"
    LEAKS = "criterion_leaks"
    LABELS = "criterion_labels"
    KINDS = "criterion_kinds"
    ENOUGH = "criterion_enough"
    REAL = "criterion_real"


class State(StrEnum):
    """What is known of a criterion; `unsure`: its interval holds both sides."""

    HOLDS = "holds"
    UNSURE = "unsure"
    FAILS = "fails"
    UNKNOWN = "unknown"


class Word(StrEnum):
    """The answers, from the best to the one that overrides all others; `none`: what is needed is not known."""

    GO = "go"
    WAIT = "wait"
    NONE = "none"
    STOP = "stop"


@dataclass(frozen=True)
class Case:
    """What is judged.

    Args:
        plan: The facts of plan.json.
        report: The facts of the report of a run; None: nothing was measured.
        criteria: What is asked of it.
    """

    plan: Facts
    report: Facts | None
    criteria: Criteria

    @property
    def track(self) -> Facts:
        """The first measured track of the run."""
        assert self.report is not None
        return self.report["tracks"][0]

    @property
    def per_hour(self) -> float:
        """What an hour of people's work costs: by the criteria, or else by the prices."""
        own = self.criteria.given.people.per_hour
        return float(self.plan["prices"]["person_per_hour"]["value"]) if own is None else own

    @property
    def job(self) -> Facts | None:
        """What the work that is decided on takes, on the machine that the plan recommends; None: it recommends none."""
        return self.find_job(self.criteria.given.question.job)

    def find_job(self, job: str) -> dict[str, Any] | None:
        """What a job takes on the machine that the plan recommends for it, with the facts of that machine."""
        chosen = self.plan["recommendation"].get(job)
        options = [] if chosen is None else self.plan["options"]
        for option in options:
            if option["id"] == chosen["option"]:
                keys = ("id", "provider", "hardware", "price_kind", "num_devices", "num_machines", "basis")
                return {**option["jobs"][job], **{key: option[key] for key in keys}, "reasons": chosen["reasons"]}
        return None

    def find_auroc(self, contender: str) -> Facts | None:
        """The AUROC of the network or a baseline on the test split; None: not measured."""
        entries = [entry for entry in self.track["contenders"] if entry["name"] == contender]
        return entries[0]["metrics"].get("auroc") if entries else None


def count_factors(case: Case) -> int:
    """How many factors are decided on."""
    job = case.criteria.given.question.job
    return int(case.plan["question"]["jobs"]["factors"]["factors"]) if job == "factors" else 1


def compare(found: Facts, wanted: float, *, at_least: bool = True) -> State:
    """Whether a number with an interval is surely at least, or at most, another one.

    One end that is None has no limit; where both are, there is no interval, and the number itself counts.
    """
    value, low, high = (found.get(end) for end in ("value", "low", "high"))
    if low is None and high is None:
        low = high = value
    ends = [-math.inf if low is None else low, math.inf if high is None else high]
    low, high = ends if at_least else [-end for end in reversed(ends)]
    bound = wanted if at_least else -wanted
    return State.HOLDS if low >= bound else State.FAILS if high < bound else State.UNSURE


def judge(case: Case, net: Facts | None) -> list[dict[str, Any]]:
    """Each criterion that applies, as a note with its state and what it turns the answer to where it does not hold.

    Args:
        case: What is judged.
        net: What is won in money, as an estimate; None: not known.
    """
    rows = [_judge_target(case)]
    if case.report is not None:
        rows += [_judge_baseline(case), *_judge_hardest(case)]
        state = State.UNKNOWN if net is None else compare(net, 0.0)
        of, currency = ("evaluation", "plan", "criteria"), case.criteria.given.question.currency
        rows.append(_row(Criterion.WORTH, state, Word.STOP, net, 0.0, "money", of, currency=currency))
    rows += [*_judge_budget(case), *_judge_deadline(case)]
    return rows if case.report is None else [*rows, *_judge_data(case)]


def _row(
    code: Criterion,
    state: State,
    then: Word,
    found: Any,
    wanted: Any,
    unit: str,
    of: Sequence[str],
    **more: Any,
) -> dict[str, Any]:
    """A criterion as a note: where it is unsure or unknown, it turns the answer to `wait`, but for what `more` says."""
    turns = {State.HOLDS: Word.GO, State.FAILS: then}.get(state, Word.WAIT)
    values = {"state": state, "turns": more.pop("turns", turns), "found": found, "wanted": wanted, "unit": unit}
    return note(code, {**values, "of": list(of), **more})


def _judge_target(case: Case) -> dict[str, Any]:
    target, curve = case.plan["question"]["target"], case.plan["learning_curve"]
    wanted = None if target is None else target["value"]
    reachable = case.plan["accuracy"].get("reachable") if wanted is not None else None
    best = None if curve is None else curve["ceiling"]
    within = wanted is not None and best is not None and best["high"] >= wanted
    row: dict[str, Any] = {"reachable": reachable, "ceiling": best, "at_twice": curve and curve["at_twice"]}
    if wanted is None or case.report is None:
        hopeless = case.report is None and reachable is False
        state = State.FAILS if hopeless else State.UNKNOWN
        turns = (Word.WAIT if within else Word.STOP) if hopeless else Word.NONE
        found = case.plan["accuracy"].get("expected") if case.report is None else case.find_auroc(MODEL)
        row["run"] = case.report is not None
        return _row(Criterion.TARGET, state, Word.STOP, found, wanted, "auroc", ("plan",), turns=turns, **row)
    found = case.find_auroc(MODEL)
    state = State.UNKNOWN if found is None else compare(found, wanted)
    then = Word.WAIT if within else Word.STOP
    return _row(Criterion.TARGET, state, then, found, wanted, "auroc", ("evaluation", "plan"), run=True, **row)


def _judge_baseline(case: Case) -> dict[str, Any]:
    wanted = case.criteria.given.accuracy.least_gain
    comparison = case.track["comparison"]
    found = None if comparison is None else comparison["tests"]["auroc"]["difference"]
    state = State.UNKNOWN if found is None else compare(found, wanted)
    named = {"baseline": None if comparison is None else comparison["baseline"], "kmer": _find_kmer(case)}
    return _row(Criterion.BASELINE, state, Word.STOP, found, wanted, "gain", ("evaluation", "criteria"), **named)


def _find_kmer(case: Case) -> int | None:
    return case.track["contenders"][0]["kmer"]


def _judge_hardest(case: Case) -> list[dict[str, Any]]:
    """The kind of negatives against which the network does worst; nothing without a target, or kinds."""
    target = case.plan["question"]["target"]
    kinds = {kind: entry["metrics"].get("auroc") for kind, entry in case.track["by_kind"].items()}
    measured = {kind: found for kind, found in kinds.items() if found is not None}
    if target is None or not measured:
        return []
    kind = min(measured, key=lambda name: measured[name]["value"])
    wanted = target["value"] - case.criteria.given.accuracy.most_drop
    state, of = compare(measured[kind], wanted), ("evaluation", "criteria")
    return [_row(Criterion.HARDEST, state, Word.WAIT, measured[kind], wanted, "auroc", of, kind=kind)]


def _judge_budget(case: Case) -> list[dict[str, Any]]:
    """The money for machines; without a budget only that it is known."""
    budget, job = case.plan["question"]["budget"], case.job
    money = {"currency": case.criteria.given.question.currency}
    if job is None or job["money"] is None:
        unknown, of = State.UNKNOWN, ("plan",)
        return [_row(Criterion.BUDGET, unknown, Word.STOP, None, budget, "money", of, turns=Word.NONE, **money)]
    if budget is None:
        return []
    state = compare(job["money"], budget, at_least=False)
    return [_row(Criterion.BUDGET, state, Word.STOP, job["money"], budget, "money", ("plan", "prices"), **money)]


def _judge_deadline(case: Case) -> list[dict[str, Any]]:
    hours, job = case.plan["question"]["deadline_hours"], case.job
    if hours is None or job is None:
        return []
    wanted = hours * 3600.0
    state = compare(job["seconds"], wanted, at_least=False)
    return [_row(Criterion.DEADLINE, state, Word.WAIT, job["seconds"], wanted, "seconds", ("plan",))]


def _judge_data(case: Case) -> list[dict[str, Any]]:
    """What the data of the measurement are like."""
    assert case.report is not None
    data, of = case.criteria.given.data, ("evaluation", "quality")
    leaked, labels = find_leaked(case.report), find_conflicts(case.report)
    kinds = [kind for kind in case.report["question"]["kinds"] if kind != "positive"]
    few = len(kinds) < data.least_kinds or kinds == ["shuffled"]
    positives = case.track["num_positive"]
    enough = case.track["no_interval"] is None and positives is not None and positives >= data.least_positives
    simulated = case.report["question"]["simulated"] is not None
    return [
        _judge_share(Criterion.LEAKS, leaked, data.most_leaked, of),
        _judge_share(Criterion.LABELS, labels, data.most_conflicts, of),
        _row(Criterion.KINDS, _holds(not few), Word.WAIT, len(kinds), data.least_kinds, "count", of, kinds=kinds),
        _row(Criterion.ENOUGH, _holds(enough), Word.WAIT, positives, data.least_positives, "count", of),
        *([_row(Criterion.REAL, State.FAILS, Word.WAIT, None, None, "count", of)] if simulated else []),
    ]


def _holds(is_so: bool) -> State:
    return State.HOLDS if is_so else State.FAILS


def _judge_share(code: Criterion, found: float | None, wanted: float, of: Sequence[str]) -> dict[str, Any]:
    state = State.UNKNOWN if found is None else _holds(found <= wanted)
    return _row(code, state, Word.WAIT, found, wanted, "share", of)


def find_leaked(report: Facts) -> float | None:
    """The share of test sequences that may also stand in training; 0 where the figures are without them."""
    relatives = find_relatives(report)
    if relatives is not None and relatives.get("taken") == "without":
        return 0.0
    leaks = report["data"]["leaks"]
    pairs = [] if leaks is None else [pair for pair in leaks if (pair["of"], pair["in"]) == ("test", "train")]
    if not pairs:
        return None
    num = pairs[0]["num_examples"]
    seen = sum(found["num_examples"] for found in pairs[0]["found"] if found["what"] in _SAME)
    return min(seen, num) / num if num else None


def find_relatives(report: Facts) -> dict[str, Any] | None:
    """What the result says of test sequences with relatives in training."""
    sentences = report["headlines"][0]["sentences"]
    return next((dict(one) for one in sentences if one["code"] == "test_relatives"), None)


def find_conflicts(report: Facts) -> float | None:
    """The share of examples that stand in the data with both labels, or are negatives on a positive."""
    num, data = report["data"]["num_examples"], report["data"]
    if not num or data["leaks"] is None:
        return None
    return sum(found["num"] for found in data["warnings"] if found["code"] in LABELS) / num
