"""Say what a training would take on any machine: time, money and energy of every option, and which to choose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError, suggest
from ebox.progress import PathLike, Progress, quiet
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.planning.prices import PriceBook
    from ebox.planning.profiles import Profile

_EXAMPLES = """Examples:
  ebox bench data/tal1 --out bench/here.json
  ebox plan data/tal1 --measured bench/here.json --target auroc=0.94 --budget 50 --out plan
  ebox plan data/tal1 --measured bench/*.json --run runs/tal1 --out plan
  ebox plan --print-prices > prices.toml
  ebox plan --print-criteria > criteria.toml
"""
VERB = Verb("plan", arguments={"dataset": "DATASET", "more": "PROFILE"}, epilog=_EXAMPLES)
METRIC = "auroc"
ROWS_SHOWN, MOST_TRAININGS = 12, 1_000_000


@dataclass(frozen=True)
class PlanResult:
    """The facts of a plan (docs/formats.md), and its folder.

    Args:
        facts: Of the plan; empty where only prices or criteria were asked for.
        path: The folder; None: nothing was written.
        printed: The table of prices or the file of criteria as text, where one was asked for.
    """

    facts: dict[str, Any]
    path: Path | None = None
    printed: str | None = None


def plan(
    dataset: PathLike | None = None,
    more: Sequence[PathLike] = (),
    measured: Sequence[PathLike] = (),
    out: PathLike | None = None,
    *,
    target: str | None = None,
    budget: float | None = None,
    currency: str | None = None,
    deadline: float | None = None,
    trials: int | None = 100,
    factors: int | None = 200,
    folds: int | None = 5,
    hour_worth: float | None = 1.0,
    run: PathLike | None = None,
    criteria: PathLike | None = None,
    prices: PathLike | None = None,
    print_prices: bool = False,
    print_criteria: bool = False,
    slices: str = "all",
    no_compiler: bool = False,
    link: str = "10gbit",
    task: str | None = None,
    job: str = "one",
    overwrite: bool = False,
    progress: Progress = quiet,
) -> PlanResult:
    """Say what a training would take on any machine, in time, money and energy.

    Options are processors, GPUs and slices of TPUs, rented or owned, by number, batch and form of exchange; for one
    training, a search, and many factors. Steps rest on what `ebox bench` measured; prices on a table that
    --print-prices prints and --prices overrides.

    Args:
        dataset: Dataset folder.
        more: More profiles, as `--measured bench/*.json` gives them.
        measured: Profile that `ebox bench` wrote, of this dataset; the first is the main one.
        out: Folder for plan.json, plan.csv and pages; none: only print.
        target: Validation AUROC to reach, as auroc=0.94; none: the epochs of the settings.
        budget: Money for a job.
        currency: Currency of the budget; none: that of the prices.
        deadline: Hours from the order to the last result.
        trials: Trainings of a search.
        factors: Number of factors to train.
        folds: Trainings of each factor.
        hour_worth: What an hour of waiting is worth, in the currency of the prices.
        run: Run folder: with it, the decision page.
        criteria: File of criteria and assumptions (TOML) over those of ebox, for the decision page.
        prices: File of prices (TOML) over those of ebox.
        print_prices: Print the table of prices as TOML, and end.
        print_criteria: Print the criteria and assumptions of the decision page as TOML, and end.
        slices: Slices of TPUs: all (4 to 256 chips), none, or v5e:2x2,v4:2x2x1.
        no_compiler: Compile nothing for TPUs; they rest on the table of hardware, or on what was compiled before.
        link: The network between machines, as 10gbit.
        task: Write the chosen option as a task too: skypilot, slurm or ray.
        job: The job whose chosen option --task writes: one, search or factors.
        overwrite: Replace the plan at --out.
        progress: Called with a phrase, the number done, and the number in all.

    Raises:
        InputError: profiles of another network or dataset, prices, limits or slices that make no sense, or a folder
            that may not be replaced.
    """
    from ebox.planning.criteria import own_text
    from ebox.planning.plan import Question, make_plan
    from ebox.planning.plan_files import FACTS
    from ebox.planning.plan_inputs import find_figures, find_known, gather, list_overrides, open_profiles
    from ebox.planning.prices import check_currency, format_prices, read_prices
    from ebox.planning.slices import read_slices
    from ebox.planning.step_time import read_link
    from ebox.storage.publishing import check_absent, find_command

    if print_prices:
        return PlanResult({}, printed=format_prices(read_prices(None if prices is None else Path(prices))))
    if print_criteria:
        return PlanResult({}, printed=own_text())
    _check_choices(task, job)
    numbers = {
        name: _check_count(name, value) for name, value in (("trials", trials), ("factors", factors), ("folds", folds))
    }
    _check_limits({"--budget": budget, "--deadline": deadline}, hour_worth)
    topologies, network, goal = read_slices(slices), read_link(link), read_target(target)
    if dataset is None:
        raise InputError("there is no dataset to plan for", remedy="give its folder: ebox plan DATASET --measured FILE")
    if out is not None:
        check_absent(Path(out), overwrite=overwrite, mark=FACTS)
    else:
        for flag, value, what in (("--task", task, "a file"), ("--run", run, "the decision page")):
            if value is not None:
                raise InputError(f"{flag} writes {what}, and there is no --out", remedy="give --out FOLDER")
    book = read_prices(None if prices is None else Path(prices))
    if currency is not None:
        check_currency(book, currency)
    asked = None if criteria is None else Path(criteria)
    _check_criteria(asked, book, has_page=run is not None)
    files = open_profiles(
        Path(dataset), [Path(path) for path in (*measured, *more)], None if run is None else Path(run)
    )
    main = files.profiles[0][1]
    report = None if run is None else _read_report(Path(run), str(dataset), main)
    question = Question(
        str(dataset),
        str(main.subject.dataset),
        main.subject.length_bp,
        find_known(main.subject.num_train),
        goal,
        budget,
        deadline,
        hour_worth=0.0 if hour_worth is None else hour_worth,
        **numbers,
    )
    figures, remarks = find_figures(main, topologies, compiles=not no_compiler, progress=progress)
    inputs, needed = gather(files, book, figures, topologies, network, goal)
    facts = make_plan(question, inputs, needed, files)
    facts["remarks"] += remarks
    facts["command"] = find_command(None)
    if out is None:
        return PlanResult(facts)
    wanted = None
    if task is not None:
        option = _choose_for_task(facts, task, job)
        wanted = (task, option, list_overrides(main, facts, option))
    _write(facts, Path(out), book, wanted, (report, asked), overwrite=overwrite)
    return PlanResult(facts, Path(out))


def _choose_for_task(facts: dict[str, Any], task: str, job: str) -> Mapping[str, Any]:
    """The option that a task trains with: the recommended one, and through SkyPilot, which rents, one for rent."""
    from ebox.planning.plan import PlanNote
    from ebox.planning.plan_files import find_option
    from ebox.storage.notes import note

    chosen = facts["recommendation"][job]
    option = find_option(facts, chosen["option"])
    if task != "skypilot" or option["price_kind"] != "owned" or chosen["rented"] is None:
        return option
    facts["remarks"].append(note(PlanNote.TASK_RENTED, {"option": chosen["rented"], "recommended": option["id"]}))
    return find_option(facts, chosen["rented"])


def read_target(text: str | None) -> float | None:
    """The validation AUROC of a text such as `auroc=0.94`; None of None.

    Raises:
        InputError: another metric, or no number between 0.5 and 1.
    """
    if text is None:
        return None
    name, equals, number = text.partition("=")
    example = "write, for example, --target auroc=0.94"
    if not equals or name.strip().lower() != METRIC:
        hint = suggest(name.strip().lower(), (METRIC,))
        raise InputError(f"--target {text!r} is not {METRIC}=NUMBER{hint}", remedy=example)
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0.5 < value < 1.0:
        raise InputError(f"--target {text!r}: an AUROC to reach lies between 0.5 and 1", remedy=example)
    return value


def _check_criteria(criteria: Path | None, book: PriceBook, *, has_page: bool) -> None:
    """Criteria that can be read, in the currency of the prices, for a page that is asked for."""
    from ebox.planning.criteria import read_criteria

    if has_page:
        read_criteria(criteria).check_currency(book.currency)
    elif criteria is not None:
        raise InputError(
            "--criteria is for the decision page, which needs --run and --out", remedy="give --run RUN --out FOLDER"
        )


def _read_report(run: Path, dataset: str, main: Profile) -> dict[str, Any]:
    """The facts of an evaluated run of this dataset, before anything takes long."""
    from ebox.planning.decision import check_data
    from ebox.reporting.decision import read_report

    report = read_report(run)
    check_data(report, dataset, main.subject.dataset)
    return report


def _check_choices(task: str | None, job: str) -> None:
    from ebox.planning.jobs import JOBS
    from ebox.planning.tasks import TASKS

    for flag, value, known in (("--task", task, tuple(TASKS)), ("--job", job, JOBS)):
        if value is not None and value not in known:
            raise InputError(
                f"{flag} {value!r} is none of {', '.join(known)}{suggest(value, known)}",
                remedy=f"write {flag} {known[0]}",
            )


def _check_count(name: str, value: int | None) -> int:
    """A number of trainings."""
    if value is None or not 1 <= value <= MOST_TRAININGS:
        raise InputError(
            f"--{name} {value}: a number from 1 to {MOST_TRAININGS:,} was expected", remedy=f"write --{name} 100"
        )
    return value


def _check_limits(limits: Mapping[str, float | None], hour_worth: float | None) -> None:
    for flag, value in limits.items():
        if value is not None and not (math.isfinite(value) and value > 0.0):
            raise InputError(
                f"{flag} {value:g}: a number above 0 was expected", remedy=f"give {flag} 50, or leave it out"
            )
    if hour_worth is not None and not (math.isfinite(hour_worth) and hour_worth >= 0.0):
        raise InputError(
            f"--hour-worth {hour_worth:g}: 0 or more was expected", remedy="give --hour-worth 0 where waiting is free"
        )


def _write(
    facts: dict[str, Any],
    out: Path,
    book: PriceBook,
    wanted: tuple[str, Mapping[str, Any], tuple[str, ...]] | None,
    judged: tuple[dict[str, Any] | None, Path | None],
    *,
    overwrite: bool,
) -> None:
    """Publish the folder: facts, table, pages, and a task where one is wanted, with its option and settings.

    What is judged is the report of a run, by a file of criteria; without a report there is no decision page.
    """
    from ebox.planning.criteria import read_criteria
    from ebox.planning.decision import decide
    from ebox.planning.plan_files import DECISION, FACTS, PAGE, write_facts
    from ebox.planning.tasks import Task, write_task
    from ebox.reporting.decision import write_decision_page, write_plan_page
    from ebox.storage.publishing import publish_folder

    with publish_folder(out, overwrite=overwrite, mark=FACTS) as folder:
        whole = write_facts(facts, folder)
        write_plan_page(whole, folder / PAGE)
        report, criteria = judged
        if report is not None:
            write_decision_page(decide(whole, report, read_criteria(criteria)), folder / DECISION)
        if wanted is not None:
            task, option, overrides = wanted
            dataset = Path(facts["question"]["dataset"])
            hardware = book.hardware.get(option["hardware"])
            write_task(task, option, Task(dataset, Path("runs") / dataset.name, overrides), hardware, folder)


def describe(result: PlanResult) -> str:
    """The recommendation for each job, the best options as a table, and what to know."""
    if result.printed is not None:
        return result.printed.rstrip()
    from ebox.planning.jobs import JOBS
    from ebox.planning.plan import PlanNote

    facts = result.facts
    # What makes all that follows another answer than the one that was asked for stands first.
    first = [remark for remark in facts["remarks"] if remark["code"] == PlanNote.UNREACHABLE]
    lines = [f"WARNING: {_say(remark)}" for remark in first]
    lines += [line for job in JOBS for line in _describe_job(facts, job)]
    lines += _describe_stages(facts)
    remarks = (*facts["remarks"], *facts["prices"]["remarks"])
    lines += [f"note: {_say(remark)}" for remark in remarks if remark not in first]
    if result.path is not None:
        lines.append(f"plan: {result.path}")
    return "\n".join(lines)


def _describe_job(facts: Mapping[str, Any], job: str) -> list[str]:
    """The best options of a job: the recommended one first, then the front by money."""
    options = {option["id"]: option for option in facts["options"]}
    chosen = facts["recommendation"][job]
    number = facts["question"]["jobs"][job]["trainings"]
    front = [id for id, option in options.items() if option["jobs"][job]["pareto"]]
    front.sort(key=lambda id: options[id]["jobs"][job]["money"]["value"])
    first = [chosen["option"], *_find_owned(options, job)]
    shown = list(dict.fromkeys([*first, *front]))
    head = f"{'' if number == 1 else f'{number:,} trainings: '}recommended, and the best in time, money or energy"
    rows = [_describe_option(options[id], job, facts["prices"]["currency"]) for id in _spread(shown, ROWS_SHOWN)]
    more = [f"  and {len(shown) - ROWS_SHOWN} more in the files"] if len(shown) > ROWS_SHOWN else []
    return [
        f"{'one training: ' if number == 1 else ''}{head}",
        f"  {'option':<44} {'time':>10} {'range':>19} {'money':>10} {'energy':>10}  basis",
        *rows,
        *more,
        *(f"  {_say(reason)}" for reason in chosen["reasons"]),
        "",
    ]


def _find_owned(options: Mapping[str, Any], job: str) -> list[str]:
    """The fastest option of each machine that one owns."""
    owned = {id: option for id, option in options.items() if option["price_kind"] == "owned"}
    offers = sorted({option["offer"] for option in owned.values()})
    return [
        min(
            (id for id, option in owned.items() if option["offer"] == offer),
            key=lambda id: owned[id]["jobs"][job]["seconds"]["value"],
        )
        for offer in offers
    ]


def _spread(ids: Sequence[str], most: int) -> list[str]:
    """The first one, and an even choice of the others."""
    if len(ids) <= most:
        return list(ids)
    step = (len(ids) - 1) / (most - 1)
    return [ids[round(place * step)] for place in range(most)]


def _describe_option(option: Mapping[str, Any], job: str, currency: str) -> str:
    from ebox.drawing.numbers import format_money, format_seconds

    found = option["jobs"][job]
    time, money, joules = found["seconds"], found["money"], found["joules"]
    between = f"{format_seconds(time['low'])}-{format_seconds(time['high'])}"
    energy = "" if joules is None else f"{joules['value'] / 3.6e6:,.3g} kWh"
    return (
        f"  {option['id']:<44} {format_seconds(time['value']):>10} {between:>19} "
        f"{format_money(money['value']):>6} {currency} {energy:>10}  {option['basis']['kind']}"
    )


def _describe_stages(facts: Mapping[str, Any]) -> list[str]:
    from ebox.drawing.numbers import format_money, format_seconds

    stages, currency = facts["stages"], facts["prices"]["currency"]

    def tell(name: str, option: str, found: Mapping[str, Any]) -> str:
        return (
            f"  {name:<9} {option:<44} {format_seconds(found['seconds']['value']):>10} "
            f"{format_money(found['money']['value']):>8} {currency}"
        )

    return [
        "in stages:",
        *(tell(stage["stage"], stage["option"], stage) for stage in stages["plan"]),
        tell("in all", "", stages["total"]),
        tell("against", stages["against"]["option"], stages["against"]),
        *(f"  {_say(rule)}" for rule in stages["rule"]),
        "",
    ]


def _say(remark: Mapping[str, Any]) -> str:
    from ebox.reporting.languages import find_language

    return find_language().say(remark)
