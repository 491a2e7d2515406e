"""The pages of a plan and of a decision: whole, escaped, traced, in every state, with words for every note."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ebox.datasets.folder import open_dataset
from ebox.drawing import numbers
from ebox.drawing.charts import make_axis
from ebox.drawing.comparisons import Spot, Swing, find_front, log_axis, scatter_chart, tornado_chart
from ebox.drawing.numbers import format_measure, format_money, format_step_time
from ebox.errors import InputError
from ebox.planning.criteria import read_criteria
from ebox.planning.decision import decide
from ebox.planning.plan import PlanNote
from ebox.reporting.decision import read_report, write_decision_page, write_plan_page
from ebox.reporting.decision.pages import render_decision, render_plan
from ebox.reporting.languages import english
from ebox.reporting.rendering import hash_script
from ebox.storage.stamps import DECISION, PLAN, read_stamped, stamped, write_stamped
from planned import make_plan
from test_plan_verb import place, planned
from test_reporting_reading import make_run_folder
from test_reporting_report import HOSTILE, Tags
from test_reporting_words import iter_notes, iter_sentences

__all__ = ["place"]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run_folder(tmp_path_factory.mktemp("decision") / "tal1")


@pytest.fixture(scope="module")
def report(run: Path) -> dict[str, Any]:
    return read_report(run)


def write_decision(plan: dict[str, Any], run: Path | None, path: Path, criteria: Path | None = None) -> Path:
    """As `ebox plan` does."""
    report = None if run is None else read_report(run)
    return write_decision_page(decide(plan, report, read_criteria(criteria)), path)


def text_of(page: str) -> str:
    body = re.sub(r"<script>.*?</script>|<sup.*?</sup>", "", page[page.index("<body>") :], flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def test_a_page_and_its_facts_are_written_and_need_nothing_else(run: Path, tmp_path: Path):
    plan = tmp_path / "plan.json"
    write_stamped(plan, PLAN, {key: value for key, value in make_plan().items() if key not in stamped(PLAN, {})})
    facts = read_stamped(plan, PLAN)
    assert write_decision(facts, run, tmp_path / "decision.html") == tmp_path / "decision.html"
    assert write_plan_page(facts, tmp_path / "plan.html") == tmp_path / "plan.html"
    assert read_stamped(tmp_path / "decision.json", DECISION)["answer"]["word"] == "go"
    for name in ("decision.html", "plan.html"):
        page = (tmp_path / name).read_text(encoding="utf-8")
        parsed = Tags(page)
        assert parsed.open == []
        assert {tag for tag, _ in parsed.tags}.isdisjoint({"iframe", "object", "embed", "base", "form"})
        links = [value for _, found in parsed.tags for key, value in found.items() if key in ("href", "src")]
        assert all(link is not None and link.startswith(("#", "data:")) for link in links)
        assert all("scope" in found for tag, found in parsed.tags if tag == "th")
        assert [tag for tag, _ in parsed.tags].count("h1") == 1


def test_the_same_facts_give_the_same_bytes(run: Path, tmp_path: Path):
    pages = [write_decision(make_plan(), run, tmp_path / f"{name}.html") for name in "ab"]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_only_the_one_script_of_the_page_may_run(run: Path, tmp_path: Path):
    page = write_decision(make_plan(), run, tmp_path / "decision.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == page.count("<script") == 1
    policy = next(found["content"] for tag, found in Tags(page).tags if tag == "meta" and "http-equiv" in found)
    assert f"script-src {hash_script(scripts[0])};" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert "<script" not in write_plan_page(make_plan(), tmp_path / "plan.html").read_text(encoding="utf-8")


def test_a_decision_without_a_sum_needs_no_script(tmp_path: Path):
    page = write_decision(make_plan(run=None), None, tmp_path / "decision.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "script-src" not in page


def test_hostile_texts_of_plan_run_and_criteria_are_escaped(run: Path, tmp_path: Path):
    plan = make_plan(run=f"runs/{HOSTILE}")
    plan["question"]["dataset"] = HOSTILE
    plan["prices"] |= {"sources": [HOSTILE], "files": [HOSTILE]}
    for profile in plan["profiles"]:
        profile |= {"name": HOSTILE, "file": HOSTILE}
        profile["device"]["name"] = HOSTILE
    for option in plan["options"]:
        option |= {"hardware": HOSTILE, "provider": HOSTILE, "exchange": HOSTILE}
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["tracks"][0]["track"] = HOSTILE
    other = make_run_folder(tmp_path / "run")
    (other / "evaluation.json").write_text(json.dumps(evaluation))
    criteria = tmp_path / "criteria.toml"
    criteria.write_text(f"[people]\nper_hour = 80\n[sources]\n\"people.per_hour\" = '''{HOSTILE}'''\n")
    pages = [
        write_decision(plan, other, tmp_path / "decision.html", criteria=criteria),
        write_plan_page(plan, tmp_path / "plan.html"),
    ]
    for file in pages:
        page = file.read_text(encoding="utf-8")
        parsed = Tags(page)
        assert parsed.open == []
        assert "alert" in page
        assert "<img" not in page
        assert page.count("<script") == (1 if file.name == "decision.html" else 0)
        assert not any(key.startswith("on") for _, found in parsed.tags for key in found)


def test_every_figure_leads_to_where_it_comes_from(report: dict[str, Any]):
    facts = stamped(DECISION, decide(make_plan(), report, read_criteria()))
    page = render_decision(facts)
    ids = set(re.findall(r'id="(source-\d+)"', page))
    led = re.findall(r'href="#(source-\d+)"', page)
    assert len(ids) == len(facts["sources"])
    assert set(led) <= ids
    assert len(led) > 60
    tiles = page[page.index('class="tiles"') : page.index("</dl>")]
    assert tiles.count('class="of"') == 3
    assert "ebox run --peaks" in text_of(page)
    assert "bench/h200.json" in text_of(page)


def test_prices_and_criteria_of_ebox_are_named_each_by_its_own_file(report: dict[str, Any]):
    plan = make_plan()
    plan["prices"]["files"] = []
    facts = stamped(DECISION, decide(plan, report, read_criteria()))
    places = {entry["name"]: number for number, entry in enumerate(facts["sources"], start=1)}
    page = render_decision(facts)
    for name, file in (("prices", "prices.toml"), ("criteria", "criteria.toml")):
        row = page[page.index(f'id="source-{places[name]}"') :]
        assert file in row[: row.index("</tr>")]


@pytest.mark.parametrize(
    ("num_undated", "oldest", "words"),
    [
        (3, "2024-12", "of 7 prices 3 have no known date; the others are of 2024-12 to 2026-05"),
        (0, "2024-12", "the prices are of 2024-12 to 2026-05"),
        (0, "2026-05", "the prices are of 2026-05"),
        (7, None, "no price has a known date"),
    ],
)
def test_no_date_is_said_of_prices_that_have_none(num_undated: int, oldest: str | None, words: str):
    plan = make_plan()
    plan["prices"]["dates"] |= {"num_undated": num_undated, "oldest": oldest}
    if oldest is None:
        plan["prices"]["dates"]["newest"] = None
    assert words in text_of(render_plan(plan)).lower()


def test_the_three_numbers_stand_with_their_ranges(report: dict[str, Any]):
    text = text_of(render_decision(stamped(DECISION, decide(make_plan(), report, read_criteria()))))
    assert "95.5 of 100 AUROC 0.955 (0.949 to 0.961), asked: 0.940 6-mer logistic: 92.1 of 100" in text
    assert "2 h 43 min 2 h 18 min to 3 h 07 min one training: 3 min 30 s" in text
    assert "3.95 USD 2.96 to 4.94 one training: 0.02 USD" in text
    assert "The machines for one training cost 0.02 USD" in text
    assert "People work 840 hours for all 200 factors." in text


def _drop(key: str, value: Any) -> Change:
    return lambda plan: plan.__setitem__(key, value)


def _no_target(plan: dict[str, Any]) -> None:
    plan["question"]["target"] = None
    plan["accuracy"] |= {"target": None, "reachable": None, "expected": None, "from": None}


def _no_statistics(plan: dict[str, Any]) -> None:
    plan["statistics"] = {"noise_scale": None, "useful_batch": None, "by_batch": [], "most_devices": []}
    plan["learning_curve"] = None


def _unknown_error(plan: dict[str, Any]) -> None:
    for option in plan["options"]:
        option["basis"] |= {"error": None, "roofline_seconds": None, "parts": {}}
        option["sync"] = "local"


def _no_options(plan: dict[str, Any]) -> None:
    plan |= {"options": [], "recommendation": {"one": None, "search": None, "factors": None}}
    plan |= {"tornado": {}, "stages": None}


def _no_dates(plan: dict[str, Any]) -> None:
    plan["prices"] |= {"dates": {"oldest": None, "newest": None, "num": 7, "num_undated": 7}, "files": []}
    plan["question"] |= {"budget": None, "deadline_hours": 3.5}


def _no_limit(plan: dict[str, Any]) -> None:
    for option in plan["options"]:
        for job in option["jobs"].values():
            for what in ("seconds", "money"):
                job[what]["high"] = None


STATES: list[tuple[str, Change]] = [
    ("whole", lambda plan: None),
    ("no_target", _no_target),
    ("no_statistics", _no_statistics),
    ("unknown_error", _unknown_error),
    ("no_options", _no_options),
    ("no_dates", _no_dates),
    ("no_limit", _no_limit),
    ("no_profiles", _drop("profiles", [])),
    ("no_tornado", _drop("tornado", {"one": [], "search": [], "factors": []})),
]


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize(("name", "change"), STATES, ids=[name for name, _ in STATES])
def test_every_state_of_a_plan_has_its_pages(report: dict[str, Any], name: str, change: Change, measured: bool):
    plan = make_plan()
    change(plan)
    facts = stamped(DECISION, decide(plan, report if measured else None, read_criteria()))
    for page in (render_plan(plan), render_decision(facts)):
        parsed = Tags(page)
        assert parsed.open == []
        assert "None" not in text_of(page)
        assert "nan" not in text_of(page).split()
        assert not re.search(r"[{}]", text_of(page))


def test_a_plan_claims_no_more_of_batches_and_devices_than_was_looked_at():
    plan = make_plan()
    known = text_of(render_plan(plan))
    assert "Steps by batch. To the target." in known
    assert "exact 4 " in known
    assert "8 or more" in known
    assert "4 or more" not in known
    plan["accuracy"] |= {"reachable": False}
    assert "With the epochs of the settings." in text_of(render_plan(plan))
    assert "To the target." not in text_of(render_plan(plan))


@pytest.mark.parametrize(
    ("high", "words"), [(0.93, "is out of reach:"), (0.96, "is more likely out of reach than not:")]
)
def test_a_target_inside_the_interval_is_not_said_to_be_surely_out_of_reach(high: float, words: str):
    note = {"code": PlanNote.UNREACHABLE.value, "target": 0.95, "value": 0.92, "low": 0.9, "high": high}
    assert words in english.say(note)


def test_what_is_not_known_is_said(report: dict[str, Any]):
    plan = make_plan()
    _no_target(plan)
    _no_statistics(plan)
    facts = stamped(DECISION, decide(plan, None, read_criteria()))
    text = text_of(render_decision(facts))
    assert "No answer yet" in text
    assert "No target was set" in text
    assert "what more data would bring is not known" in text
    assert "What it saves can't be computed yet" in text
    _no_options(plan)
    assert "No machine can be recommended" in text_of(render_plan(plan))


def test_every_note_of_a_decision_is_said_in_words(report: dict[str, Any]):
    facts = decide(make_plan(), report, read_criteria())
    for note in iter_notes(facts):
        words = english.say(note)
        assert words not in ("", note["code"]), note
        assert not re.search(r"[{}]", words)


def test_no_fact_of_a_decision_is_a_sentence(report: dict[str, Any]):
    facts = decide(make_plan(), report, read_criteria())
    # Prices say where they come from, in the words of who wrote them down.
    assert list(iter_sentences({key: value for key, value in facts.items() if key != "prices"})) == []


def test_simple_methods_and_kinds_of_sites_are_in_the_appendix(report: dict[str, Any]):
    page = text_of(render_decision(stamped(DECISION, decide(make_plan(), report, read_criteria()))))
    for words in ("Network 0.955 (0.949 to 0.961)", "Best PWM hit 0.812", "Network against Matched negatives 0.940"):
        assert words in page


@pytest.mark.parametrize(("high", "words"), [(0.001, "does as well"), (-0.01, "does better")])
def test_a_simple_method_that_does_better_is_said_to(report: dict[str, Any], high: float, words: str):
    comparison = {"tests": {"auroc": {"difference": {"value": -0.03, "low": -0.05, "high": high}}}}
    track = report["tracks"][0]
    worse = {**track, "comparison": {**track["comparison"], **comparison}}
    rows = decide(make_plan(), {**report, "tracks": [worse]}, read_criteria())["criteria"]
    row = next(row for row in rows if row["code"] == "criterion_baseline")
    assert english.say(row).startswith(f"A simple method {words}: ")


def test_other_tracks_of_a_run_are_named(report: dict[str, Any]):
    several = {**report, "tracks": [report["tracks"][0], report["tracks"][0]]}
    told = decide(make_plan(), several, read_criteria())["told"][-1]
    assert english.say(told) == "This page is about “TAL1”; the run holds 1 more, which are in its report."


def test_every_assumption_and_swing_has_words_and_a_unit(report: dict[str, Any]):
    facts = decide(make_plan(), report, read_criteria())
    words = english.TEXTS["decision"]
    names = [row["name"].partition(".")[2] for row in facts["assumptions"]]
    names += [row["factor"] for row in facts["worth"]["swings"]]
    assert set(names) <= set(words["assumptions"])
    assert {words["units"][name] for name in names} <= {"text", "auroc", "count", "share", "money", "plain"}
    assert {row["factor"] for row in facts["worth"]["swings"]} == set(words["bars"])


def test_facts_that_lack_something_are_refused_and_nothing_is_written(run: Path, tmp_path: Path):
    plan = make_plan()
    del plan["prices"]["dates"]
    with pytest.raises(InputError, match=r"facts for this page lack something \(.*'dates'\)\n.*`ebox plan`"):
        write_plan_page(plan, tmp_path / "page.html")
    with pytest.raises(InputError, match=r"facts for this page lack something \(.*'dates'\)\n.*`ebox plan`"):
        write_decision(plan, run, tmp_path / "page.html")
    del plan["prices"]["person_per_hour"]
    with pytest.raises(InputError, match=r"does not hold what it should \(KeyError: .*'\)\n.*`ebox plan`"):
        write_decision(plan, run, tmp_path / "page.html")
    decision = decide(make_plan(), None, read_criteria())
    del decision["sources"]
    with pytest.raises(InputError, match=r"facts for this page lack something \(.*'sources'\)"):
        write_decision_page(decision, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_not_evaluated_is_refused_with_the_command(run: Path, tmp_path: Path):
    other = make_run_folder(tmp_path / "run")
    (other / "evaluation.json").unlink()
    with pytest.raises(InputError, match=r"ebox evaluate"):
        write_decision(make_plan(), other, tmp_path / "decision.html")
    with pytest.raises(InputError, match=r"no such run folder"):
        write_decision(make_plan(), tmp_path / "none", tmp_path / "decision.html")
    assert not (tmp_path / "decision.html").exists()


# The charts.


def test_the_front_is_what_no_other_beats_in_both():
    spots = [Spot(x, y, "model", f"{x}") for x, y in ((3.0, 1.0), (1.0, 5.0), (2.0, 2.0), (2.5, 2.0), (2.0, 4.0))]
    assert [(spot.x, spot.y) for spot in find_front(spots)] == [(1.0, 5.0), (2.0, 2.0), (3.0, 1.0)]


def test_charts_of_comparisons_are_well_formed_whatever_the_labels():
    hostile = "</text><script>"
    axis = log_axis(hostile, [1.0, 50.0], [(10.0**power, f"{power}") for power in range(-2, 5)])
    spots = [Spot(1.0, 50.0, "model", hostile, True), Spot(50.0, 1.0, "other")]
    charts = [
        scatter_chart("a", spots, axis, axis, title=hostile, key=[("model", hostile)]),
        tornado_chart("b", [Swing(hostile, -3.0, 5.0, hostile)], 1.0, make_axis(hostile, -3, 5), title=hostile, rule=0),
    ]
    for chart in charts:
        ElementTree.fromstring(chart)
        assert "<script" not in chart


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.002, 4e5], [90.0, 95.0], [3e9, 4e9], [1e-9, 1e-8]])
def test_a_logarithmic_axis_holds_its_values_and_few_ticks(values: list[float]):
    marks = [(10.0**power, f"{power}") for power in range(-3, 10)]
    axis = log_axis("x", values, marks)
    assert axis.low < min(values)
    assert axis.high > max(values)
    assert 1 <= len(axis.ticks) <= 6
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


def test_a_bar_of_a_tornado_reaches_from_the_base_to_each_end():
    chart = tornado_chart("a", [Swing("s", 0.0, 4.0, "w")], 1.0, make_axis("x", 0, 4, num=4), title="t")
    bars = [bar for bar in ElementTree.fromstring(chart).iter() if (bar.get("class") or "").startswith("swing")]
    widths = {str(bar.get("class")).split()[1]: float(bar.get("width", "nan")) for bar in bars}
    assert widths["more"] == pytest.approx(3 * widths["less"], rel=0.01)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, numbers.DASH),
        (0.0, "0"),
        (0.0001, "< 0.001"),
        (0.0197, "0.02"),
        (3.951, "3.95"),
        (-2802.4, f"{numbers.MINUS}2,802"),
        (99.999, "100.00"),
        (76_373.8, "76,374"),
    ],
)
def test_words_for_money(value: float | None, words: str):
    assert format_money(value) == words


def test_words_for_measures_and_short_times():
    assert format_measure({"value": 0.955, "low": 0.949, "high": 0.961}, "auroc") == "0.955 (0.949 to 0.961)"
    assert format_measure({"value": 3.0, "low": 3.0, "high": 3.0}, "money", "EUR") == "3.00 EUR"
    assert format_measure({"value": 3.0, "low": 2.0, "high": None}, "seconds") == "3.0 s (2.0 s or more)"
    assert format_measure({"value": 3.0, "low": None, "high": 4.0}, "count") == "3 (at most 4)"
    assert format_measure({"value": 3.0, "low": None, "high": None}, "count") == "3"
    assert format_measure(1592.9, "plain") == "1,593"
    assert format_measure(999.7, "plain") == "1,000"
    assert format_measure(-8.637, "plain") == f"{numbers.MINUS}8.64"
    assert format_step_time(0.00123) == "1.23 ms"
    assert format_step_time(0.000123) == "123 µs"


def test_a_run_on_other_data_is_refused_before_anything_takes_long(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = make_run_folder(tmp_path / "tal1")
    (run / "model").mkdir()
    monkeypatch.setattr("ebox.planning.plan_inputs.find_figures", lambda *one, **more: pytest.fail("it compiles"))
    with pytest.raises(InputError, match="was trained on other data"):
        planned(place, run=run, out=tmp_path / "plan")
    assert not (tmp_path / "plan").exists()


@pytest.mark.slow
def test_a_plan_with_a_run_holds_the_decision_on_it(place: Path, tmp_path: Path):
    run = make_run_folder(tmp_path / "tal1")
    (run / "model").mkdir()
    dataset = json.loads((run / "dataset.json").read_text())
    dataset["fingerprint"] = open_dataset(place / "dataset").fingerprint
    (run / "dataset.json").write_text(json.dumps(dataset))
    criteria = tmp_path / "criteria.toml"
    criteria.write_text("[people]\nper_hour = 900\n")
    planned(place, run=run, out=tmp_path / "plan", target="auroc=0.9", criteria=criteria)
    decision = read_stamped(tmp_path / "plan" / "decision.json", DECISION)
    assert decision["answer"]["word"] == "stop"
    assert decision["question"]["run"]["name"] == "tal1"
    text = text_of((tmp_path / "plan" / "decision.html").read_text(encoding="utf-8"))
    assert "Stop: not on these terms" in text
    assert str(criteria) in text
    dataset["fingerprint"] = "ef" * 32
    (run / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(InputError, match=r"trained on other data"):
        planned(place, run=run, out=tmp_path / "other", target="auroc=0.9")
    assert not (tmp_path / "other").exists()
