"""Writing plan.html from the facts of a plan, and decision.html from those and a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.planning.criteria import read_criteria
from ebox.planning.decision import JOBS, decide
from ebox.planning.judgement import Criterion, Word
from ebox.planning.worth import DERIVED
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
from ebox.storage.stamps import DECISION, PLAN, check_stamp, stamped

Facts = Mapping[str, Any]
# What the reader may change on the page of a decision, and what is computed again.
INPUTS = ("factors", "per_hour", "setup_hours", "hours_per_factor", "cost", "wanted", "odds")
OUTPUTS = tuple(name for name in DERIVED if name not in ("hours", "gain_per_factor"))


def write_plan_page(facts: Facts, path: Path, *, language: Language = english, overwrite: bool = True) -> Path:
    """Write the page of a plan.

    Args:
        facts: Of plan.json.
        path: The HTML file.
        language: The language of the page.
        overwrite: Whether to replace a file at `path`.

    Raises:
        InputError: the facts are not those of a plan, or the file can't be written.
    """
    check_stamp(facts, PLAN, path)
    with _explain_facts(path):
        page = render_plan(facts, language)
    _write(path, page, overwrite=overwrite)
    return path


def write_decision_page(
    plan: Facts,
    run: Path | None,
    path: Path,
    *,
    criteria: Path | None = None,
    language: Language = english,
    overwrite: bool = True,
) -> Path:
    """Write the page of a decision, and the same facts beside it as JSON.

    Args:
        plan: The facts of plan.json.
        run: The folder of an evaluated run on the dataset of the plan; None: nothing was measured yet.
        path: The HTML file; the JSON has the same name with `.json`.
        criteria: A TOML file with criteria and assumptions of the user; None: those of the package.
        language: The language of the page.
        overwrite: Whether to replace files at `path`.

    Raises:
        InputError: the run was not evaluated or is one of other data, the criteria make no sense or are in another
            currency, the facts are not those of a plan, or a file can't be written.
    """
    check_stamp(plan, PLAN, path)
    asked = read_criteria(criteria)
    report = None if run is None else read_report(run)
    with _explain_facts(path):
        facts = stamped(DECISION, decide(plan, report, asked), created=plan["created"])
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
            f"the plan or the run does not hold what it should ({type(error).__name__}: {error})",
            file=path,
            remedy="plan again with `ebox plan`, and measure the run again with `ebox evaluate`, with this ebox",
        ) from error


def _write(path: Path, page: str, *, overwrite: bool) -> None:
    with publish_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_plan(facts: Facts, language: Language = english) -> str:
    """The page of a plan as text."""
    currency, options = facts["prices"]["currency"], facts["options"]
    advised = {job: entry["option"] for job in JOBS if (entry := facts["recommendation"].get(job)) is not None}
    by_id = {option["id"]: option for option in options}
    drawn: dict[str, Any] = {"front": {}, "tornado": {}}
    for job in JOBS:
        if job not in facts["question"]["jobs"]:
            continue
        drawn["front"][job] = draw_front(f"front-{job}", options, job, advised.get(job), currency, language)
        if job in advised and facts["tornado"].get(job):
            money = by_id[advised[job]]["jobs"][job]["money"]["value"]
            rows = facts["tornado"][job]
            drawn["tornado"][job] = draw_plan_tornado(f"tornado-{job}", rows, money, currency, language)
    target = facts["question"]["target"]
    drawn["curve"] = draw_learning_curve(
        "curve", facts["learning_curve"], None if target is None else target["value"], language
    )
    fronts = {job: number_front(options, job) for job in drawn["front"]}
    values = {"drawn": trust(drawn), "by_id": by_id, "fronts": fronts, "advised": advised, "currency": currency}
    return render("plan.html.j2", language, facts=facts, **values)


def render_decision(facts: Facts, language: Language = english) -> str:
    """The page of a decision as text, with the one script that computes the break-even again."""
    worth, currency = facts["worth"], facts["question"]["currency"]
    drawn = {
        "curve": draw_learning_curve("curve", facts["learning_curve"], facts["numbers"]["target"], language),
        "swings": None if worth is None else draw_worth_tornado("swings", worth, currency, language),
    }
    script = None if worth is None else _read_script()
    allowed = "" if script is None else hash_script(script)
    places = {entry["name"]: number for number, entry in enumerate(facts["sources"], start=1)}
    turns = [row["turns"] for row in facts["criteria"] if row["code"] != Criterion.WORTH]
    found = next(row["value"] for row in facts["assumptions"] if row["name"] == "experiments.found")
    return render(
        "decision.html.j2",
        language,
        facts=facts,
        drawn=trust(drawn),
        places=places,
        currency=currency,
        found=found,
        inputs=INPUTS,
        outputs=OUTPUTS,
        others=max(turns, key=list(Word).index),
        script=trust(script),
        allowed=trust(allowed),
    )


def _read_script() -> str:
    return files("ebox.reporting").joinpath("templates", "decision.js").read_text(encoding="utf-8").strip()
