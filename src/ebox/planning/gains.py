"""What a better choice of sites is worth by the facts of a plan and a run, beside doing nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ebox.errors import InputError
from ebox.planning.estimates import Estimate
from ebox.planning.judgement import Case, Facts, compare, count_factors
from ebox.planning.worth import (
    Work,
    describe_work,
    estimate_net,
    find_false_share,
    list_swings,
    model_false_share,
)
from ebox.storage.names import MODEL
from ebox.storage.notes import Code, note

# Below this share of what people cost, the money for machines is not what is decided about.
SMALL_SHARE = 0.05

# The criteria that what it is worth is counted by.
_COUNTED = (
    "people.setup_hours",
    "people.hours_per_factor",
    "experiments.cost",
    "experiments.wanted",
    "experiments.odds",
    "experiments.found",
)


class Choice(Code):
    """What one can do."""

    NOTHING = "choice_nothing"
    ONE = "choice_one"
    ALL = "choice_all"


class Told(Code):
    """What is good to know beside the answer."""

    CENTS = "told_cents"
    MACHINES = "told_machines"
    NO_WORTH = "told_no_worth"
    ASSUMED = "told_assumed"
    TRACKS = "told_tracks"


def describe_worth(case: Case) -> dict[str, Any] | None:
    """What it is worth against choosing sites as now; None: not measured, nothing to compare with, or no price."""
    if case.report is None or case.job is None or case.job["money"] is None:
        return None
    shares = _find_false_shares(case)
    if shares is None:
        return None
    given, factors = case.criteria.given, float(count_factors(case))
    machine = _read_estimate(case.job["money"]).times(1.0 / factors)
    people = given.people.model_dump() | {"per_hour": case.per_hour}
    chosen = {key: getattr(given.experiments, key) for key in ("cost", "wanted", "odds")}
    now, own, avoided = shares
    work = Work(factors=factors, machine=machine.value, avoided=avoided.value, **people, **chosen)
    per_site = {name: 1.0 + work.odds * share / given.experiments.found for name, share in (("now", now), ("own", own))}
    net = estimate_net(work, avoided, machine).facts()
    return {
        "work": describe_work(work),
        "avoided": avoided.facts(),
        "machine": machine.facts(),
        "net": net,
        "state": compare(net, 0.0),
        "today": _find_today(case),
        "kmer": case.track["contenders"][0]["kmer"],
        "found": given.experiments.found,
        "false_shares": {"now": now, "own": own},
        "experiments_a_site": per_site,
        "swings": list_swings(work, avoided),
        "of": ["evaluation", "plan", "criteria"],
    }


def _read_estimate(facts: Facts) -> Estimate:
    """An estimate of a plan; an end that is None has no limit."""
    low, high = facts["low"], facts["high"]
    ends = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    return Estimate(float(facts["value"]), *ends)


def _find_today(case: Case) -> str | None:
    """The simple method by which sites are chosen now, if it was measured."""
    today, comparison = case.criteria.given.experiments.today, case.track["comparison"]
    names = [entry["name"] for entry in case.track["contenders"] if entry["name"] != MODEL]
    if today == "best":
        return None if comparison is None else comparison["baseline"]
    if today not in names:
        raise InputError(
            f"experiments.today is {today!r}, which was not measured",
            file=case.criteria.file,
            remedy=f"write one of: {', '.join(['best', *sorted(names)])}; or measure it with `ebox evaluate`",
        )
    return today


def _find_false_shares(case: Case) -> tuple[float, float, Estimate] | None:
    """The share of unbound sites that is chosen now, that of the network, and what is avoided for each that is found.

    Both are read off the ROC curves; the interval has the width that the interval of the difference in AUROC has on
    curves of two normals.
    """
    today, curves, found = _find_today(case), case.track["curves"].get("roc", {}), case.criteria.given.experiments.found
    if today is None or today not in curves or MODEL not in curves:
        return None
    num_negative = case.track["num_examples"] - case.track["num_positive"]
    now, own = (find_false_share(curves[name], found, num_negative) for name in (today, MODEL))
    base = case.find_auroc(today)
    own_auroc = case.find_auroc(MODEL)
    assert base is not None
    assert own_auroc is not None
    gain = _find_gain(case, today, own_auroc, base)
    middle = model_false_share(own_auroc["value"], found)
    ends = [
        model_false_share(own_auroc["value"] + gain[end] - gain["value"], found) - middle for end in ("low", "high")
    ]
    value = (now - own) / found
    return now, own, Estimate(value, value - max(ends[0], 0.0) / found, value - min(ends[1], 0.0) / found)


def _find_gain(case: Case, today: str, own: Facts, base: Facts) -> dict[str, float]:
    """The difference in AUROC with its interval: the paired one where it was measured."""
    comparison = case.track["comparison"]
    value = own["value"] - base["value"]
    if comparison is not None and comparison["baseline"] == today:
        paired = comparison["tests"]["auroc"]["difference"]
        if paired.get("low") is not None:
            return {key: paired[key] for key in ("value", "low", "high")}
    if own.get("low") is None or base.get("low") is None:
        return {"value": value, "low": value, "high": value}
    return {"value": value, "low": own["low"] - base["high"], "high": own["high"] - base["low"]}


def list_choices(case: Case, worth: Facts | None) -> list[dict[str, Any]]:
    """Nothing, one factor, all factors: what each takes."""
    if worth is None:
        return []
    names = {key: worth["work"][key] for key in Work.__dataclass_fields__}
    work, a_site = Work(**names), worth["experiments_a_site"]
    today = case.find_auroc(worth["today"])
    factors = sorted({1.0, work.factors})

    def choose(code: Choice, part: Work, auroc: Any, site: float, spent: bool) -> dict[str, Any]:
        experiments = part.factors * part.wanted * site
        money = {"hours": part.hours, "machine": part.factors * part.machine} if spent else {"hours": 0, "machine": 0}
        total = experiments * part.cost + (part.money if spent else 0.0)
        values = {"factors": part.factors, "auroc": auroc, "experiments": experiments, **money, "money": total}
        return note(code, {**values, "net": part.net if spent else 0.0})

    rows = []
    for num in factors:
        part = replace(work, factors=num)
        code = Choice.ONE if num == 1 else Choice.ALL
        rows.append(choose(Choice.NOTHING, part, today, a_site["now"], False))
        rows.append(choose(code, part, case.find_auroc(MODEL), a_site["own"], True))
    return rows


def list_told(case: Case, worth: Facts | None) -> list[dict[str, Any]]:
    """That one factor costs cents, what share machines are of all, and what is not known."""
    told, one = [], case.find_job("one")
    people = case.criteria.given.people
    if one is not None and one["money"] is not None:
        money, seconds = one["money"]["value"], one["seconds"]["value"]
        of_people = (people.setup_hours + people.hours_per_factor) * case.per_hour
        if money < SMALL_SHARE * of_people:
            currency = case.criteria.given.question.currency
            values = {"money": money, "seconds": seconds, "currency": currency, "people": of_people}
            told.append(note(Told.CENTS, values))
    if worth is not None:
        work = worth["work"]
        share = work["factors"] * work["machine"] / work["money"] if work["money"] else None
        told.append(note(Told.MACHINES, {"share": share, "hours": work["hours"], "factors": work["factors"]}))
        assumed = [name for name in _COUNTED if name not in case.criteria.changed]
        if assumed:
            told.append(note(Told.ASSUMED, {"names": assumed, "num": len(assumed), "of_num": len(_COUNTED)}))
    elif case.report is not None:
        told.append(note(Told.NO_WORTH))
    tracks = [] if case.report is None else case.report["tracks"]
    if len(tracks) > 1:
        told.append(note(Told.TRACKS, {"track": case.track["track"], "num": len(tracks) - 1}))
    return told
