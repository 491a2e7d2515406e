"""The decision: each criterion turns the answer as it says, what is not known gives none, and the sums add up."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ebox.errors import InputError
from ebox.planning.criteria import own_text, read_criteria
from ebox.planning.decision import decide
from ebox.planning.estimates import Estimate
from ebox.planning.judgement import State, compare
from ebox.planning.worth import (
    Work,
    describe_work,
    estimate_net,
    find_false_share,
    list_swings,
    model_false_share,
)
from ebox.reporting.decision import read_report
from ebox.verbs.plan import plan as make_real_plan
from planned import estimate, make_plan
from test_reporting_reading import make_run_folder

WORK = Work(
    factors=200.0,
    per_hour=80.0,
    setup_hours=40.0,
    hours_per_factor=4.0,
    machine=0.02,
    cost=150.0,
    wanted=20.0,
    odds=3.0,
    avoided=0.08,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The facts of the report of a run, AUROC 0.955 against 0.921 of the best simple method."""
    return read_report(make_run_folder(tmp_path_factory.mktemp("decision") / "tal1"))


@pytest.fixture
def report(measured: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(measured)


def states(decision: dict[str, Any]) -> dict[str, str]:
    return {row["code"].removeprefix("criterion_"): str(row["state"]) for row in decision["criteria"]}


def because(decision: dict[str, Any]) -> list[str]:
    return [row["code"].removeprefix("criterion_") for row in decision["answer"]["because"]]


# What it is worth.


def test_each_factor_past_the_break_even_pays_and_none_before_it():
    at = WORK.factors_to_break_even
    assert at is not None
    assert replace(WORK, factors=float(at)).net >= 0.0
    assert replace(WORK, factors=at - 1.0).net < 0.0


def test_what_costs_more_than_it_saves_never_breaks_even():
    assert replace(WORK, hours_per_factor=100.0).factors_to_break_even is None
    assert replace(WORK, avoided=-0.01).factors_to_break_even is None


def test_what_is_won_is_what_doing_nothing_costs_less_what_doing_it_costs():
    """By the count of experiments: 1 + odds · false / found for each site that is confirmed."""
    found, false_now, false_own = 0.8, 0.12, 0.056
    work = replace(WORK, avoided=(false_now - false_own) / found)
    experiments = [work.wanted * (1.0 + work.odds * share / found) for share in (false_now, false_own)]
    nothing = work.factors * experiments[0] * work.cost
    doing = work.factors * experiments[1] * work.cost + work.money
    assert work.net == pytest.approx(nothing - doing)
    assert work.saved == pytest.approx(experiments[0] - experiments[1])


def test_the_experiments_and_hours_to_break_even_are_worth_what_is_spent():
    assert WORK.experiments_to_break_even == pytest.approx(WORK.money / 150.0)
    assert WORK.hours_to_break_even == pytest.approx(WORK.money / 80.0)
    free = replace(WORK, cost=0.0, per_hour=0.0)
    assert (free.experiments_to_break_even, free.hours_to_break_even) == (None, None)


@pytest.mark.parametrize("name", ["factors", "per_hour", "hours_per_factor", "cost", "wanted", "odds", "machine"])
def test_where_a_number_turns_the_result_nothing_is_won_or_lost(name: str):
    at = WORK.turns_at(name)
    assert at is not None
    assert replace(WORK, **{name: at}).net == pytest.approx(0.0, abs=1e-6)
    assert replace(WORK, **{name: at * 0.99}).net * replace(WORK, **{name: at * 1.01}).net < 0.0


def test_what_no_number_can_turn_is_said_to_turn_nowhere():
    assert replace(WORK, avoided=-0.05).turns_at("odds") is None
    assert replace(WORK, setup_hours=0.0).turns_at("factors") is None


def test_the_range_of_what_is_won_holds_every_mixture_of_its_parts():
    avoided, machine = Estimate(0.08, 0.06, 0.1), Estimate(0.02, 0.01, 0.05)
    net = estimate_net(WORK, avoided, machine)
    draw = random.Random(1)
    for _ in range(200):
        some = {"avoided": draw.uniform(0.06, 0.1), "machine": draw.uniform(0.01, 0.05)}
        assert net.low <= replace(WORK, **some).net <= net.high
    assert net.value == WORK.net


def test_the_widest_swing_stands_first_and_a_flip_is_one_that_crosses_zero():
    swings = list_swings(WORK, Estimate(0.08, 0.001, 0.1))
    widths = [abs(one["net_high"] - one["net_low"]) for one in swings]
    assert widths == sorted(widths, reverse=True)
    flips = {one["factor"] for one in swings if one["flips"]}
    assert "avoided" in flips
    assert "machine" not in flips


def test_a_false_share_is_read_off_the_curve_between_its_points():
    curve = {"x": [0.0, 0.1, 0.3, 1.0], "y": [0.0, 0.6, 1.0, 1.0]}
    assert find_false_share(curve, 0.8, 1000) == pytest.approx(0.2)
    assert find_false_share(curve, 0.6, 1000) == pytest.approx(0.1)
    assert find_false_share({"x": [0.0, 0.0, 1.0], "y": [0.0, 1.0, 1.0]}, 0.8, 50) == pytest.approx(1 / 50)


def test_the_false_share_of_two_normals_is_that_of_draws():
    auroc, found = 0.921, 0.8
    apart = 2**0.5 * 1.4118  # of the standard normal, its 92.1 % quantile
    draw = random.Random(2)
    bound = sorted(draw.gauss(apart, 1.0) for _ in range(20_000))
    threshold = bound[int(len(bound) * (1 - found))]
    others = sum(draw.gauss(0.0, 1.0) >= threshold for _ in range(20_000)) / 20_000
    assert model_false_share(auroc, found) == pytest.approx(others, abs=0.01)


def test_facts_of_the_work_hold_its_numbers_and_what_follows():
    facts = describe_work(WORK)
    assert facts["net"] == WORK.net
    assert facts["odds"] == 3.0


@pytest.mark.parametrize(
    ("found", "at_least", "state"),
    [
        ((0.95, 0.94, 0.96), True, State.HOLDS),
        ((0.95, 0.93, 0.96), True, State.UNSURE),
        ((0.92, 0.90, 0.93), True, State.FAILS),
        ((0.95, None, None), True, State.HOLDS),
        ((0.92, 0.90, None), False, State.UNSURE),
        ((0.95, 0.945, None), False, State.FAILS),
        ((0.95, 0.945, None), True, State.HOLDS),
        ((0.92, 0.90, 0.94), False, State.HOLDS),
        ((0.92, 0.90, 0.95), False, State.UNSURE),
        ((0.96, 0.95, 0.97), False, State.FAILS),
    ],
)
def test_a_number_passes_a_bound_only_with_its_whole_interval(found: Any, at_least: bool, state: State):
    facts = dict(zip(("value", "low", "high"), found, strict=True))
    assert compare(facts, 0.94, at_least=at_least) is state


# The answer.


def test_a_good_network_that_pays_is_a_go(report: dict[str, Any]):
    decision = decide(make_plan(), report, read_criteria())
    assert decision["answer"]["word"] == "go"
    assert set(states(decision).values()) == {"holds"}
    assert because(decision) == ["target", "baseline", "worth"]
    assert decision["next"]["code"] == "step_field"


def _set_target(plan: Any, report: Any, value: float) -> None:
    plan["question"]["target"]["value"] = value


def _set_leaks(plan: Any, report: Any) -> None:
    of = {"what": "exact", "num_examples": 100, "other_label": 0}
    report["data"]["leaks"] = [{"of": "test", "in": "train", "num_examples": 3600, "found": [of]}]


def _set_few(plan: Any, report: Any) -> None:
    report["tracks"][0]["no_interval"] = {"code": "few_clusters", "positive": 8, "negative": 30, "needed": 15}


def _set_difference(low: float, high: float) -> Callable[[Any, Any], None]:
    def change(plan: Any, report: Any) -> None:
        test = report["tracks"][0]["comparison"]["tests"]["auroc"]
        test["difference"] = {"value": (low + high) / 2, "low": low, "high": high}

    return change


def _set_labels(plan: Any, report: Any) -> None:
    report["data"]["warnings"] = [{"code": "conflicts", "num": 900, "of": "train"}]


def _set_kinds(*kinds: str) -> Callable[[Any, Any], None]:
    def change(plan: Any, report: Any) -> None:
        report["question"]["kinds"] = ["positive", *kinds]

    return change


def _set_hardest(plan: Any, report: Any) -> None:
    report["tracks"][0]["by_kind"]["matched"]["metrics"]["auroc"] = {"value": 0.75, "low": 0.73, "high": 0.77}


def _set_budget(plan: Any, report: Any) -> None:
    plan["question"]["budget"] = 1.0


def _set_deadline(plan: Any, report: Any) -> None:
    plan["question"]["deadline_hours"] = 0.1


def _set_simulated(plan: Any, report: Any) -> None:
    report["question"]["simulated"] = {"motifs": []}


@pytest.mark.parametrize(
    ("change", "word", "criterion", "state", "step"),
    [
        (lambda plan, report: _set_target(plan, report, 0.97), "wait", "target", "fails", "step_data"),
        (lambda plan, report: _set_target(plan, report, 0.99), "stop", "target", "fails", "step_data"),
        (lambda plan, report: _set_target(plan, report, 0.955), "wait", "target", "unsure", "step_examples"),
        (_set_difference(-0.02, 0.001), "stop", "baseline", "fails", "step_simpler"),
        (_set_difference(0.001, 0.04), "wait", "baseline", "unsure", "step_examples"),
        (_set_leaks, "wait", "leaks", "fails", "step_split"),
        (_set_labels, "wait", "labels", "fails", "step_labels"),
        (_set_kinds("shuffled"), "wait", "kinds", "fails", "step_negatives"),
        (_set_kinds("matched"), "wait", "kinds", "fails", "step_negatives"),
        (_set_hardest, "wait", "hardest", "fails", "step_negatives"),
        (_set_few, "wait", "enough", "fails", "step_examples"),
        (_set_budget, "stop", "budget", "fails", "step_smaller"),
        (_set_deadline, "wait", "deadline", "fails", "step_smaller"),
        (_set_simulated, "wait", "real", "fails", "step_real"),
    ],
)
def test_one_criterion_that_fails_turns_the_answer_and_names_the_next_step(
    report: dict[str, Any], change: Callable[[Any, Any], None], word: str, criterion: str, state: str, step: str
):
    plan = make_plan()
    change(plan, report)
    decision = decide(plan, report, read_criteria())
    assert decision["answer"]["word"] == word
    assert states(decision)[criterion] == state
    assert criterion in because(decision)
    assert decision["next"]["code"] == step


def test_figures_without_relatives_need_no_leak_to_be_counted(report: dict[str, Any]):
    plan = make_plan()
    _set_leaks(plan, report)
    report["headlines"][0]["sentences"].append({"code": "test_relatives", "taken": "without"})
    assert states(decide(plan, report, read_criteria()))["leaks"] == "holds"


def test_a_criterion_that_stops_overrides_one_that_waits(report: dict[str, Any]):
    plan = make_plan()
    _set_leaks(plan, report)
    _set_budget(plan, report)
    decision = decide(plan, report, read_criteria())
    assert decision["answer"]["word"] == "stop"
    assert because(decision) == ["budget"]


def test_without_a_target_there_is_no_answer(report: dict[str, Any]):
    plan = make_plan()
    plan["question"]["target"] = None
    decision = decide(plan, report, read_criteria())
    assert decision["answer"]["word"] == "none"
    assert decision["next"]["code"] == "step_target"
    (command,) = decision["next"]["command"]
    for words in (
        "ebox plan data/tal1 --measured bench/here.json --measured bench/h200.json --target auroc=0.94",
        "--budget 50.0 --trials 100 --factors 200 --folds 5 --prices prices.toml",
        "--run runs/tal1 --out plan --overwrite",
    ):
        assert words in command


def test_without_a_run_there_is_no_answer_and_the_commands_that_give_one():
    decision = decide(make_plan(run=None), None, read_criteria())
    assert decision["answer"]["word"] == "none"
    assert decision["worth"] is None
    assert decision["numbers"]["auroc"] == make_plan()["accuracy"]["expected"]
    assert [line.split()[1] for line in decision["next"]["command"]] == ["train", "evaluate", "plan"]


def test_a_target_out_of_reach_stops_before_anything_is_measured():
    plan = make_plan(run=None)
    plan["accuracy"]["reachable"] = False
    plan["question"]["target"]["value"] = 0.99
    assert decide(plan, None, read_criteria())["answer"]["word"] == "stop"
    plan["learning_curve"]["ceiling"]["high"] = 0.995
    assert decide(plan, None, read_criteria())["answer"]["word"] == "wait"


def test_without_a_machine_that_has_a_price_there_is_no_answer(report: dict[str, Any]):
    plan = make_plan(options=[], recommendation={"one": None, "search": None, "factors": None})
    decision = decide(plan, report, read_criteria())
    assert decision["answer"]["word"] == "none"
    assert because(decision) == ["budget"]
    assert decision["next"]["code"] == "step_money"
    assert decision["choices"] == []


def test_a_cost_without_limit_leaves_budget_and_worth_open(report: dict[str, Any]):
    plan = make_plan()
    for option in plan["options"]:
        option["jobs"]["factors"]["money"]["high"] = None
    decision = decide(plan, report, read_criteria())
    assert decision["answer"]["word"] == "wait"
    assert because(decision) == ["worth", "budget"]
    assert decision["worth"]["net"]["low"] is None
    assert decision["worth"]["net"]["high"] > 0.0


def test_without_a_simple_method_it_can_only_wait(report: dict[str, Any]):
    report["tracks"][0]["comparison"] = None
    decision = decide(make_plan(), report, read_criteria())
    assert decision["answer"]["word"] == "wait"
    assert because(decision) == ["baseline", "worth"]
    assert decision["told"][-1]["code"] == "told_no_worth"


def test_an_expensive_hour_turns_the_same_facts_into_a_stop(report: dict[str, Any], tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text('[people]\nper_hour = 900\n[sources]\n"people.per_hour" = "our accounting, 2026-10"\n')
    decision = decide(make_plan(), report, read_criteria(file))
    assert decision["answer"]["word"] == "stop"
    assert because(decision) == ["worth"]
    origins = {row["name"]: row["origin"] for row in decision["assumptions"]}
    assert origins["people.per_hour"] == {
        "code": "origin_said",
        "source": "our accounting, 2026-10",
        "file": str(file),
    }
    assert origins["people.setup_hours"]["code"] == "origin_assumed"


def test_an_hour_costs_what_the_prices_of_the_plan_say(report: dict[str, Any]):
    plan = make_plan()
    plan["prices"]["person_per_hour"] = {"value": 55.0, "source": "a survey", "date": "2026-03"}
    decision = decide(plan, report, read_criteria())
    assert decision["worth"]["work"]["per_hour"] == 55.0
    origin = next(row["origin"] for row in decision["assumptions"] if row["name"] == "people.per_hour")
    assert origin == {"code": "origin_prices", "source": "a survey", "date": "2026-03"}


def test_one_factor_costs_cents_and_the_page_turns_to_people(report: dict[str, Any]):
    told = {one["code"]: one for one in decide(make_plan(), report, read_criteria())["told"]}
    assert told["told_cents"]["money"] == 0.02
    assert told["told_cents"]["people"] == 44 * 80.0
    assert told["told_machines"]["share"] < 0.001


def test_numbers_that_ebox_assumed_are_said_beside_the_answer_until_they_are_given(
    report: dict[str, Any], tmp_path: Path
):
    def assumed(file: Path | None) -> list[str]:
        told = decide(make_plan(), report, read_criteria(file))["told"]
        return next((list(one["names"]) for one in told if one["code"] == "told_assumed"), [])

    assert len(assumed(None)) == 6
    file = tmp_path / "mine.toml"
    file.write_text(
        "[people]\nsetup_hours = 10\nhours_per_factor = 2\n[experiments]\ncost = 90\nwanted = 5\nodds = 9\n"
    )
    assert assumed(file) == ["experiments.found"]
    file.write_text(f"{file.read_text()}found = 0.9\n")
    assert assumed(file) == []


def test_doing_nothing_is_a_choice_beside_one_factor_and_all(report: dict[str, Any]):
    rows = decide(make_plan(), report, read_criteria())["choices"]
    assert [row["code"] for row in rows] == ["choice_nothing", "choice_one", "choice_nothing", "choice_all"]
    for nothing, doing in (rows[:2], rows[2:]):
        assert (nothing["hours"], nothing["machine"], nothing["net"]) == (0, 0, 0.0)
        assert doing["net"] == pytest.approx(nothing["money"] - doing["money"])
    assert rows[1]["net"] < 0.0 < rows[3]["net"]


def test_other_factors_are_a_risk_only_where_there_are_some(report: dict[str, Any], tmp_path: Path):
    many = decide(make_plan(), report, read_criteria())
    file = tmp_path / "one.toml"
    file.write_text('[question]\njob = "search"\n')
    one = decide(make_plan(), report, read_criteria(file))
    assert "risk_others" in [risk["code"] for risk in many["risks"]]
    assert "risk_others" not in [risk["code"] for risk in one["risks"]]
    assert one["worth"]["work"]["factors"] == 1


def test_another_simple_method_can_be_that_of_today(report: dict[str, Any], tmp_path: Path):
    file = tmp_path / "today.toml"
    file.write_text('[experiments]\ntoday = "best_pwm"\n')
    best, pwm = (decide(make_plan(), report, read_criteria(path))["worth"] for path in (None, file))
    assert (best["today"], pwm["today"]) == ("kmer_logistic", "best_pwm")
    assert pwm["net"]["value"] > best["net"]["value"]
    assert pwm["avoided"]["low"] < pwm["avoided"]["value"] < pwm["avoided"]["high"]
    file.write_text('[experiments]\ntoday = "guess"\n')
    with pytest.raises(InputError, match=r"was not measured\n.*best, best_pwm, gc_logistic, kmer_logistic"):
        decide(make_plan(), report, read_criteria(file))


def test_every_figure_names_where_it_comes_from(report: dict[str, Any]):
    decision = decide(make_plan(), report, read_criteria())
    names = {entry["name"] for entry in decision["sources"]}
    found = [row["of"] for key in ("criteria", "risks", "turns") for row in decision[key]]
    found += [decision["worth"]["of"], decision["numbers"]["of"]]
    assert all(found)
    assert {name for of in found for name in of} <= names
    commands = {entry["name"]: entry["command"] for entry in decision["sources"]}
    assert commands["quality"].startswith("ebox run --peaks")


def test_the_command_that_made_the_plan_is_that_of_its_figures(report: dict[str, Any]):
    for command, line in (
        (["/usr/bin/ebox", "plan", "my data", "--budget", "50"], "ebox plan 'my data' --budget 50"),
        ([], None),
    ):
        sources = decide(make_plan(command=command), report, read_criteria())["sources"]
        assert next(entry["command"] for entry in sources if entry["name"] == "plan") == line


def test_a_run_on_other_data_than_the_plan_is_refused(report: dict[str, Any]):
    report["data"]["fingerprint"] = "cd" * 32
    with pytest.raises(InputError, match=r"other data \(cdcd.* than the plan is for \(data/tal1, abab.*\n.*--run"):
        decide(make_plan(), report, read_criteria())


def test_criteria_in_another_currency_than_the_prices_are_refused(tmp_path: Path):
    file = tmp_path / "euro.toml"
    file.write_text('[question]\ncurrency = "EUR"\n[experiments]\ncost = 140.0\n')
    with pytest.raises(InputError, match=r"euro.toml: the criteria are in EUR, the prices of the plan in USD"):
        decide(make_plan(run=None), None, read_criteria(file))


def test_another_currency_takes_the_cost_of_an_experiment_along(tmp_path: Path):
    file = tmp_path / "euro.toml"
    file.write_text('[question]\ncurrency = "EUR"\n')
    with pytest.raises(InputError, match=r"euro.toml: the criteria are in EUR, and experiments.cost is that of ebox"):
        read_criteria(file)
    file.write_text('[question]\ncurrency = "EUR"\n[experiments]\ncost = 140.0\n')
    read_criteria(file).check_currency("EUR")


def test_prices_in_another_currency_ask_for_criteria_in_it():
    with pytest.raises(InputError, match="the criteria are in USD") as caught:
        read_criteria().check_currency("EUR")
    assert "--criteria" in str(caught.value.remedy)


# The file of criteria.


def test_the_criteria_of_the_page_are_those_of_ebox_and_change_nothing(tmp_path: Path):
    page = (Path(__file__).parents[1] / "docs" / "planning.md").read_text()
    assert f"```toml\n{own_text()}```" in page
    file = tmp_path / "criteria.toml"
    file.write_text(own_text())
    assert read_criteria(file).values() == read_criteria().values()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[people]\nper_hours = 3\n", "there is no setting 'people.per_hours'; did you mean 'per_hour'?"),
        ("[peple]\nper_hour = 3\n", "there is no setting 'peple'; did you mean 'people'?"),
        ("[people]\nsetup_hours = -1\n", "people.setup_hours: Input should be greater than or equal to 0"),
        ("[experiments]\ncost = nan\n", "experiments.cost: Input should be a finite number"),
        ("[experiments]\nfound = 1.0\n", "experiments.found: Input should be less than 1"),
        ("[accuracy]\nleast_gain = 'much'\n", "accuracy.least_gain"),
        ("people = 3\n", "people"),
        ('[question]\njob = "all"\n', "question.job"),
        ('[sources]\n"people.wage" = "x"\n', "names 'people.wage', which is no criterion"),
        ("[people\n", "is not TOML"),
    ],
)
def test_bad_criteria_are_refused_with_their_file(tmp_path: Path, text: str, problem: str):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_criteria(file)
    assert problem in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.remedy


def test_criteria_that_are_not_there_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"there is no such file of criteria\n.*--criteria"):
        read_criteria(tmp_path / "none.toml")


def test_a_plan_may_be_for_one_training_alone(report: dict[str, Any], tmp_path: Path):
    plan = make_plan()
    plan["options"][0]["jobs"]["one"]["money"] = estimate(0.0, 0.0)
    file = tmp_path / "one.toml"
    file.write_text('[question]\njob = "one"\n')
    decision = decide(plan, report, read_criteria(file))
    assert decision["numbers"]["jobs"]["one"]["money"]["value"] == 0.02
    assert decision["worth"]["work"]["factors"] == 1


def test_criteria_of_a_plan_are_refused_before_anything_is_read(tmp_path: Path):
    file, nowhere = tmp_path / "mine.toml", tmp_path / "none.json"
    file.write_text('[question]\ncurrency = "EUR"\n[experiments]\ncost = 140.0\n')
    with pytest.raises(InputError, match=r"--criteria is for the decision page.*\n.*--run RUN --out"):
        make_real_plan(tmp_path, measured=[nowhere], criteria=file)
    with pytest.raises(InputError, match=r"the criteria are in EUR, the prices of the plan in USD\n.*USD"):
        make_real_plan(tmp_path, measured=[nowhere], criteria=file, run=tmp_path / "run", out=tmp_path / "out")
    file.write_text("[people]\nper_hours = 80\n")
    with pytest.raises(InputError, match=r"did you mean 'per_hour'"):
        make_real_plan(tmp_path, measured=[nowhere], criteria=file, run=tmp_path / "run", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
