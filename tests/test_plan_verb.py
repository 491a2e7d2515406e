"""`ebox plan`: what it writes, what it says, and what bad input gets."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import processes
from ebox.datasets.folder import open_dataset
from ebox.diagnosis.parity import make_dataset
from ebox.errors import InputError
from ebox.planning.criteria import read_criteria
from ebox.planning.plan_files import DECISION, FACTS, PAGE, TABLE, find_option, read_facts
from ebox.planning.plan_inputs import find_figures
from ebox.planning.prices import format_prices, read_prices
from ebox.planning.profiles import Profile, read_profile, write_profile
from ebox.planning.reference import REFERENCE
from ebox.planning.slices import SliceFigures, cache_folder, compile_slices, find_kept, read_slices
from ebox.settings.reading import Config, read_config
from ebox.verbs.plan import PlanResult, describe, plan, read_target
from measured import cpu_profile

OFFERS = ("gcp-t4", "nebius-h200", "gcp-tpu-v5e")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, a profile of it, and a short table of prices."""
    folder = tmp_path_factory.mktemp("plan")
    data = open_dataset(make_dataset(folder))
    profile = cpu_profile()
    subject = profile.subject.model_copy(
        update={
            "dataset": data.fingerprint,
            "length_bp": data.length_bp,
            "num_train": data.rows("train").stop,
            "examples_an_epoch": data.rows("train").stop,
        }
    )
    write_profile(profile.model_copy(update={"subject": subject}), folder / "here.json")
    book = read_prices()
    small = replace(book, offers=tuple(offer for offer in book.offers if offer.id in OFFERS))
    (folder / "prices.toml").write_text(format_prices(small), encoding="utf-8")
    return folder


def planned(place: Path, **more: Any) -> PlanResult:
    facts: dict[str, Any] = {
        "measured": [place / "here.json"],
        "prices": place / "prices.toml",
        "slices": "v5e:2x2",
        "no_compiler": True,
    }
    return plan(place / "dataset", **(facts | more))


def test_a_plan_writes_its_files_and_says_what_it_recommends(place: Path, tmp_path: Path):
    result = planned(place, target="auroc=0.93", budget=50.0, out=tmp_path / "plan", task="slurm")
    names = {path.name for path in (tmp_path / "plan").iterdir()}
    assert {FACTS, TABLE, PAGE} <= names
    assert DECISION not in names
    (task,) = names - {FACTS, TABLE, PAGE}
    assert "train.max_steps=" in (tmp_path / "plan" / task).read_text(encoding="utf-8")
    facts = json.loads((tmp_path / "plan" / FACTS).read_text(encoding="utf-8"))
    assert facts["question"]["target"] == {"metric": "auroc", "value": 0.93}
    said = describe(result)
    for job in facts["recommendation"].values():
        assert job["option"] in said
    assert "without taxes" in said
    assert str(tmp_path / "plan") in said
    with (tmp_path / "plan" / TABLE).open(encoding="utf-8", newline="") as stream:
        assert {row["offer"] for row in csv.DictReader(stream)} == {*OFFERS, "this-machine"}


def test_the_command_line_takes_profiles_as_a_shell_gives_them(place: Path):
    """`--measured bench/*.json` gives the first to the option, and the others as words of their own."""
    write_profile(changed(read_profile(REFERENCE), length_bp=48), place / "gpu.json")
    words = ["plan", "dataset", "--measured", "here.json", "gpu.json", "--prices", "prices.toml", "--no-compiler"]
    words += ["--slices", "none", "--out", "with command"]
    said = processes.run(processes.ebox(*words), cwd=place).stdout
    assert "recommended" in said
    assert read_facts(place / "with command")["command"][1:] == words
    # The GPU that comes with ebox is now one of the user's own.
    assert "comes with ebox" not in said


def test_prices_are_printed_so_that_they_are_read_back_equal(place: Path, tmp_path: Path):
    text = describe(plan(print_prices=True))
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    assert read_prices(tmp_path / "all.toml") == read_prices()


def test_criteria_are_printed_so_that_they_are_read_back_equal(tmp_path: Path):
    (tmp_path / "all.toml").write_text(describe(plan(print_criteria=True)), encoding="utf-8")
    assert read_criteria(tmp_path / "all.toml").values() == read_criteria().values()


def test_a_task_for_skypilot_is_for_a_machine_for_rent_where_ones_own_is_recommended(place: Path, tmp_path: Path):
    result = planned(place, target="auroc=0.93", out=tmp_path / "plan", task="skypilot")
    chosen = result.facts["recommendation"]["one"]
    assert find_option(result.facts, chosen["option"])["price_kind"] == "owned"
    rented = find_option(result.facts, chosen["rented"])
    assert rented["price_kind"] in ("on_demand", "spot")
    (task,) = (tmp_path / "plan").glob("*.yaml")
    text = task.read_text(encoding="utf-8")
    assert chosen["rented"] in text
    assert f"train.max_steps={round(rented['steps']['value'])}" in text
    assert f"the task is for {chosen['rented']}" in describe(result)


def test_a_plan_is_replaced_only_where_that_is_asked(place: Path, tmp_path: Path):
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / FACTS).write_text("{}")
    with pytest.raises(InputError, match="already exists"):
        planned(place, out=tmp_path / "plan")
    planned(place, out=tmp_path / "plan", overwrite=True, slices="none")
    assert read_facts(tmp_path / "plan")["options"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="was not made by this command"):
        planned(place, out=tmp_path / "mine", overwrite=True)


def test_a_target_out_of_reach_is_the_first_thing_that_is_said(place: Path):
    result = planned(place, target="auroc=0.99999", slices="none")
    assert describe(result).startswith("WARNING: the target 0.99999 is out of reach: more steps lead to 0.9")
    assert result.facts["accuracy"]["reachable"] is False


# Bad input.


def changed(profile: Profile, **subject: Any) -> Profile:
    return profile.model_copy(update={"subject": profile.subject.model_copy(update=subject)})


def other_network(profile: Profile) -> Profile:
    settings = {**profile.settings, "model": {**profile.settings["model"], "num_filters": 64}}
    return changed(profile.model_copy(update={"settings": settings}), network="other")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: changed(one, dataset="cd" * 32), "another dataset: fingerprint cdcdcdcdcdcd"),
        (lambda one: changed(one, length_bp=500), "length_bp 500 against 48"),
        (lambda one: changed(one, num_tracks=3), "num_tracks 3 against 1"),
        (other_network, "model.num_filters"),
    ],
    ids=["dataset", "length", "tracks", "network"],
)
def test_a_profile_of_something_else_is_refused_and_what_differs_is_named(
    place: Path, tmp_path: Path, change: Callable[[Profile], Profile], said: str
):
    write_profile(change(read_profile(place / "here.json")), tmp_path / "other.json")
    with pytest.raises(InputError, match=said) as caught:
        planned(place, measured=[place / "here.json", tmp_path / "other.json"], out=tmp_path / "plan")
    assert caught.value.file == str(tmp_path / "other.json")
    assert "ebox bench" in str(caught.value.remedy)
    assert not (tmp_path / "plan").exists()


def test_two_profiles_of_one_name_are_refused_and_the_remedy_works(place: Path, tmp_path: Path):
    first, second = place / "here.json", tmp_path / "here.json"
    write_profile(read_profile(first), second)
    with pytest.raises(InputError, match=f"is called 'here', as is {first}") as caught:
        planned(place, measured=[first, second], slices="none")
    assert (caught.value.file, '"name": "here-2"' in str(caught.value.remedy)) == (str(second), True)
    second.write_text(second.read_text().replace('"name": "here"', '"name": "here-2"'), encoding="utf-8")
    ids = [option["id"] for option in planned(place, measured=[first, second], slices="none").facts["options"]]
    assert len(set(ids)) == len(ids)
    assert {"this-machine-here-x1", "this-machine-here-2-x1"} == {
        id.partition("-owned")[0] for id in ids if "this" in id
    }


def test_without_a_profile_the_command_to_measure_one_is_given(place: Path):
    with pytest.raises(InputError, match="nothing was measured") as caught:
        planned(place, measured=[])
    assert f"ebox bench {place / 'dataset'} --out FILE" in str(caught.value.remedy)


def test_steps_alone_are_no_profile_of_the_dataset(place: Path, tmp_path: Path):
    steps = changed(read_profile(place / "here.json"), dataset=None, num_train=None, examples_an_epoch=None)
    write_profile(steps, tmp_path / "steps.json")
    with pytest.raises(InputError, match="of steps alone"):
        planned(place, measured=[tmp_path / "steps.json"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "auroc"}, "is not auroc=NUMBER"),
        ({"target": "aurok=0.9"}, "did you mean 'auroc'"),
        ({"target": "auroc=high"}, "between 0.5 and 1"),
        ({"target": "auroc=nan"}, "between 0.5 and 1"),
        ({"target": "auroc=94"}, "between 0.5 and 1"),
        ({"target": "auroc=1"}, "between 0.5 and 1"),
        ({"budget": -1.0}, "--budget -1: a number above 0"),
        ({"budget": math.nan}, "--budget nan"),
        ({"deadline": 0.0}, "--deadline 0"),
        ({"deadline": math.inf}, "--deadline inf"),
        ({"hour_worth": -1.0}, "--hour-worth -1"),
        ({"trials": 0}, "--trials 0"),
        ({"factors": -5}, "--factors -5"),
        ({"folds": 10_000_000}, "--folds 10000000"),
        ({"currency": "EUR"}, "the prices are in USD, not in EUR"),
        ({"slices": "v5e:3x3"}, "there is no v5e slice 3x3"),
        ({"slices": "h100:8"}, "is no slice of a TPU"),
        ({"slices": "v9:2x2"}, "there is no accelerator 'v9'"),
        ({"link": "fast"}, "is not a speed of a link"),
        ({"task": "slrum", "out": "plan"}, "did you mean 'slurm'"),
        ({"task": "slurm"}, "there is no --out"),
        ({"job": "many"}, "--job 'many' is none of one, search, factors"),
        ({"prices": "nowhere.toml"}, "there is no such file of prices"),
        ({"run": "nowhere", "out": "plan"}, "there is no such run folder"),
        ({"run": "nowhere"}, "--run writes the decision page, and there is no --out"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        planned(place, **options)
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_slices_that_exist_are_listed_where_one_does_not(place: Path):
    with pytest.raises(InputError) as caught:
        planned(place, slices="v5e:3x3")
    assert "v5e:2x2" in str(caught.value.remedy)


def test_a_topology_of_the_remedy_works(place: Path):
    assert [one.name for one in read_slices("v5e:2x2,v4:2x2x1")] == ["v5e:2x2", "v4:2x2x1"]
    assert all(4 <= one.num_chips <= 256 for one in read_slices("all"))
    assert {one.chip.name for one in read_slices("all")} == {"v4", "v5e", "v5p", "v6e"}


def test_a_budget_below_the_least_billing_is_refused_where_nothing_is_owned(place: Path, tmp_path: Path):
    book = read_prices(place / "prices.toml")
    text = format_prices(replace(book, owned=()))
    (tmp_path / "rented.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="below the least"):
        planned(place, prices=tmp_path / "rented.toml", budget=0.0001)


def test_a_target_is_a_number():
    assert read_target(None) is None
    assert read_target("auroc=0.94") == read_target(" AUROC = 0.94") == 0.94


# What compilers say, without a compiler.


FIGURES = SliceFigures(
    "v5e", ("v5e:2x2", "v5e:4x8"), 1.4e6, 46e6, 6e7, 2e4, 1.4e7, ((4, 13, 8), (32, 16, 9)), {"jax": "1"}
)


def test_what_was_compiled_is_found_again_and_not_for_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, asked = Config(), []

    def compile_all(kinds: Any, *more: Any) -> Any:
        asked.append(list(kinds))
        return {kind: {} for kind in kinds}

    monkeypatch.setattr("ebox.planning.slices.check_compiler", lambda topology: None)
    monkeypatch.setattr("ebox.planning.slices._compile_all", compile_all)
    monkeypatch.setattr("ebox.planning.slices._draw_lines", lambda kind, compiled: replace(FIGURES, chip=kind))
    first = compile_slices(["v5e", "v4"], config, (200, 1), tmp_path, processes=2)
    assert compile_slices(["v5e", "v4"], config, (200, 1), tmp_path, processes=2) == first
    assert asked == [["v5e", "v4"]]
    batch = read_config(overrides=["train.batch_size=512"])
    assert find_kept(["v5e"], batch, (200, 1), tmp_path) == {"v5e": first["v5e"]}
    others = (
        (read_config(overrides=["model.num_filters=64"]), (200, 1)),
        (read_config(overrides=["parallel.exchange='int8'"]), (200, 1)),
        (config, (500, 1)),
    )
    assert not any(find_kept(["v5e"], other, form, tmp_path) for other, form in others)


def test_a_damaged_answer_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ebox.planning.slices.check_compiler", lambda topology: None)
    monkeypatch.setattr("ebox.planning.slices._compile_all", lambda kinds, *more: {kind: {} for kind in kinds})
    monkeypatch.setattr("ebox.planning.slices._draw_lines", lambda kind, compiled: FIGURES)
    compile_slices(["v5e"], Config(), (200, 1), tmp_path, processes=1)
    (file,) = tmp_path.iterdir()
    for text in ("", "{}", "[1]", '{"chip": 1}'):
        file.write_text(text)
        assert find_kept(["v5e"], Config(), (200, 1), tmp_path) == {}


def test_without_a_compiler_the_command_to_get_it_is_said_and_the_plan_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found, remarks = find_figures(cpu_profile(), read_slices("v5e:2x2"), compiles=True)
    assert found == {}
    (remark,) = remarks
    assert "libtpu" in remark["problem"]
    assert "pip install" in remark["remedy"]
    assert cache_folder() == tmp_path / "ebox" / "slices"
