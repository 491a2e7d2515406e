"""Writing plan.html from the facts of a plan, and decision.html from those of a decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from ebox.drawing.numbers import format_measure, format_money, format_number
from ebox.errors import InputError
from ebox.reporting.decision.figures import (
    draw_front,
    draw_learning_curve,
    draw_plan_tornado,
    draw_worth_tornado,
    number_front,
)
from ebox.reporting.languages import Language, english
from ebox.reporting.reading import read_run_files
from ebox.reporting.rendering import hash_script, render, trust
from ebox.reporting.report import collect_facts
from ebox.reporting.section import find_sections
from ebox.storage.publishing import publish_file, write_json
from ebox.storage.stamps import DECISION, stamped

Facts = Mapping[str, Any]
# What the reader may change on the page of a decision, and what is computed again.
INPUTS = ("factors", "per_hour", "setup_hours", "hours_per_factor", "cost", "wanted", "odds")
OUTPUTS = ("saved", "money", "net", "factors_to_break_even", "experiments_to_break_even", "hours_to_break_even")


def write_plan_page(facts: Facts, path: Path, *, language: Language = english, overwrite: bool = True) -> Path:
    """Write the page of a plan.

    Args:
        facts: Of plan.json, with their stamp.
        path: The HTML file.
        language: The language of the page.
        overwrite: Whether to replace a file at `path`.

    Raises:
        InputError: the facts are not those of a plan, or the file can't be written.
    """
    with _explain_facts(path):
        page = render_plan(facts, language)
    _write(path, page, overwrite=overwrite)
    return path


def write_decision_page(facts: Facts, path: Path, *, language: Language = english, overwrite: bool = True) -> Path:
    """Write the page of a decision, and the same facts beside it as JSON.

    Args:
        facts: Of `ebox.planning.decision.decide`.
        path: The HTML file; the JSON has the same name with `.json`.
        language: The language of the page.
        overwrite: Whether to replace files at `path`.

    Raises:
        InputError: the facts are not those of a decision, or a file can't be written.
    """
    with _explain_facts(path):
        facts = stamped(DECISION, facts, created=facts["planned"])
        page = render_decision(facts, language)
    write_json(path.with_suffix(".json"), facts, overwrite=overwrite)
    _write(path, page, overwrite=overwrite)
    return path


def read_report(run: Path) -> dict[str, Any]:
    """The facts of the report of a run, from its files.

    Raises:
        InputError: it was not evaluated, or a file is damaged.
    """
    return collect_facts(read_run_files(run, [name for section in find_sections() for name in section.reads]))


@contextmanager
def _explain_facts(path: Path) -> Iterator[None]:
    """Errors of facts that lack something, as errors for the user."""
    from jinja2 import UndefinedError

    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, UndefinedError) as error:
        raise InputError(
            f"the facts for this page lack something ({type(error).__name__}: {error})",
            file=path,
            remedy="plan again with `ebox plan`, with this ebox",
        ) from error


def _write(path: Path, page: str, *, overwrite: bool) -> None:
    with publish_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_plan(facts: Facts, language: Language = english) -> str:
    """The page of a plan as text."""
    currency, asked = facts["prices"]["currency"], facts["question"]
    jobs = list(asked["jobs"])
    by_id = {option["id"]: option for option in facts["options"]}
    advised = {job: entry["option"] for job in jobs if (entry := facts["recommendation"].get(job)) is not None}
    target = None if asked["target"] is None else asked["target"]["value"]
    drawn = {
        "front": {
            job: draw_front(f"front-{job}", facts["options"], job, advised.get(job), currency, language) for job in jobs
        },
        "tornado": {job: _draw_tornado(facts, job, by_id[option], language) for job, option in advised.items()},
        "curve": draw_learning_curve("curve", facts["learning_curve"], target, language),
    }
    return render(
        "plan.html.j2",
        language,
        facts=facts,
        drawn=trust(drawn),
        by_id=by_id,
        fronts={job: number_front(facts["options"], job, advised.get(job)) for job in jobs},
        best=[option for option in facts["options"] if any(option["jobs"][job]["pareto"] for job in jobs)],
        advised=advised,
        currency=currency,
        dated=facts["prices"]["dates"],
        top=_find_top(facts, advised, by_id, language),
        wishes=_list_wishes(asked, currency, language),
    )


def _draw_tornado(facts: Facts, job: str, option: Facts, language: Language) -> str | None:
    rows, money = facts["tornado"].get(job), option["jobs"][job]["money"]
    if not rows or money is None:
        return None
    return draw_plan_tornado(f"tornado-{job}", rows, money["value"], facts["prices"]["currency"], language)


def _find_top(
    facts: Facts, advised: Mapping[str, str], by_id: Mapping[str, Facts], language: Language
) -> dict[str, Any] | None:
    """The first job that has an advised machine, for the title of the page."""
    for job, option in advised.items():
        name = language.TEXTS["plan"]["jobs"][job].format(num=f"{facts['question']['jobs'][job]['trainings']:,}")
        return {**by_id[option], **by_id[option]["jobs"][job], "job": job, "name": name}
    return None


def _list_wishes(asked: Facts, currency: str, language: Language) -> list[str]:
    """What was asked of the plan, in words."""
    words = language.TEXTS["plan"]
    target, budget, hours = (asked[key] for key in ("target", "budget", "deadline_hours"))
    wishes = [words["no_target"]]
    if target is not None:
        metric = language.name_metric(target["metric"])
        wishes = [words["target"].format(metric=metric, value=format_number(target["value"]))]
    wishes += [] if budget is None else [words["budget"].format(value=format_money(budget, currency))]
    return wishes + ([] if hours is None else [words["deadline"].format(value=format_measure(hours, "plain"))])


def render_decision(facts: Facts, language: Language = english) -> str:
    """The page of a decision as text, with the one script that computes the break-even again."""
    worth, currency = facts["worth"], facts["question"]["currency"]
    drawn = {
        "curve": draw_learning_curve("curve", facts["learning_curve"], facts["numbers"]["target"], language),
        "swings": None if worth is None else draw_worth_tornado("swings", worth, currency, language),
    }
    script = None if worth is None else _read_script()
    allowed = "" if script is None else f"script-src {hash_script(script)}; "
    places = {entry["name"]: number for number, entry in enumerate(facts["sources"], start=1)}
    found = next(row["value"] for row in facts["assumptions"] if row["name"] == "experiments.found")
    return render(
        "decision.html.j2",
        language,
        facts=facts,
        drawn=trust(drawn),
        places=places,
        currency=currency,
        dated=facts["prices"]["dates"],
        found=found,
        inputs=INPUTS,
        outputs=OUTPUTS,
        script=trust(script),
        allowed=trust(allowed),
    )


def _read_script() -> str:
    return files("ebox.reporting").joinpath("templates", "decision.js").read_text(encoding="utf-8").strip()
