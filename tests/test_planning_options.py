"""Options, jobs and the choice: packing, ranges, the front, limits, what flips a choice, stages."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.planning.choosing import CANDIDATES, Reason, Weighed, choose, pick_candidates, weigh_all
from ebox.planning.estimates import Estimate
from ebox.planning.jobs import JOBS, MOST_MACHINES, OVERHEAD_SHARE, Packing, Training, combine, pack
from ebox.planning.machine_model import MeasuredMachine
from ebox.planning.options import Inputs, Option, OptionNote, list_options, note_options
from ebox.planning.outcomes import World, foresee_job, pack_job, weigh
from ebox.planning.pareto import find_front
from ebox.planning.plan import Files, Needed, PlanNote, Question, make_plan
from ebox.planning.plan_files import FACTS, TABLE, find_option, read_facts, write_facts
from ebox.planning.prediction import Way
from ebox.planning.prices import Owned, read_prices
from ebox.planning.reference import read_reference
from ebox.planning.slices import read_slices
from ebox.planning.stages import STAGES, StageNote, find_rent_from, plan_stages
from ebox.planning.steps_to_target import StepsModel
from ebox.planning.tornado import Factor
from ebox.reporting.languages import english
from measured import FINGERPRINT, cpu_profile, spread, step

ESTIMATE = {"value", "low", "high"}


def training(train: float = 60.0, **more: float) -> Training:
    facts = {
        "start": 2.0,
        "compile": 10.0,
        "cached_compile": 1.0,
        "validate": 3.0,
        "checkpoint": 0.1,
        "checkpoint_every": 60.0,
        "checkpoint_bytes": 4e6,
    }
    return Training(train=Estimate(train, train * 0.8, train * 1.25), **(facts | more))


def needed(**more: Any) -> Needed:
    facts = {"model": None, "target": None, "epochs": 12.0, "max_steps": None}
    return Needed(**(facts | more), examples_an_epoch=21_000, batch_size=64)


# One offer of each kind; all of them take a while under type checks.
OFFERS = ("gcp-t4", "nebius-h200", "nebius-b200", "gcp-tpu-v4", "gcp-tpu-v5e", "gcp-cpu-16")
SLICES = "v4:2x2x1,v5e:2x2,v5e:4x8"


@cache
def gathered(slices: str = SLICES) -> Inputs:
    book = read_prices()
    return Inputs(
        machines=(MeasuredMachine(cpu_profile()),),
        references=(MeasuredMachine(read_reference()),),
        book=replace(book, offers=tuple(offer for offer in book.offers if offer.id in OFFERS)),
        figures={},
        slices=read_slices(slices),
        network_bytes_per_second=1.25e9,
        steps=needed().steps,
        batch_size=64,
        examples_an_epoch=21_000,
    )


@cache
def options() -> tuple[Option, ...]:
    return list_options(gathered())


def question(**more: Any) -> Question:
    facts: dict[str, Any] = {
        "dataset": "data/tal1",
        "fingerprint": FINGERPRINT,
        "length_bp": 200,
        "num_train": 43_000,
        "target": None,
        "budget": None,
        "deadline_hours": None,
        "trials": 100,
        "factors": 200,
        "folds": 5,
        "hour_worth": 1.0,
    }
    return Question(**(facts | more))


def world(**more: Any) -> World:
    return replace(question().world(gathered().book), **more)


@cache
def planned() -> dict[str, Any]:
    files = Files((("here.json", gathered().machines[0].profile),), None)
    return make_plan(question(), gathered(), needed(), files)


def named(id: str) -> Option:
    return next(option for option in options() if option.id == id)


# How trainings are packed.


@pytest.mark.parametrize("trainings", [1, 7, 8, 100, 1000])
@pytest.mark.parametrize("places", [1, 8])
def test_every_training_has_a_place_and_few_places_stay_empty(trainings: int, places: int):
    found = pack(trainings, training(), min(places, trainings), 180.0)
    assert found.machines * found.places * found.rounds >= trainings
    assert found.machines * found.places * (found.rounds - 1) < trainings
    assert 1 <= found.machines <= MOST_MACHINES


def test_machines_are_added_until_their_starts_take_a_tenth_of_the_work():
    one, overhead = training(), 180.0
    found = pack(1000, one, 1, overhead, most_machines=1000)
    extra = overhead + one.seconds(cached=False) - one.seconds(cached=True)
    work = 1000 * one.seconds(cached=True)
    assert found.machines * extra <= OVERHEAD_SHARE * work < (found.machines + 1) * extra


@pytest.mark.parametrize("trainings", [17, 33, 100])
@pytest.mark.parametrize("deadline", [None, 1.0])
def test_no_machine_is_paid_that_another_round_of_the_others_does_not_need(trainings: int, deadline: float | None):
    long = training(36_000.0)
    found = pack(trainings, long, 1, 180.0, meets=None if deadline is None else lambda packing: False)
    assert found.rounds == math.ceil(trainings / MOST_MACHINES)
    assert (found.machines - 1) * found.rounds < trainings <= found.machines * found.rounds


def test_a_deadline_takes_the_fewest_machines_that_meet_it():
    one, deadline = training(), 3600.0
    found = pack(300, one, 1, 180.0, meets=lambda packing: 180.0 + packing.machine_seconds(one) <= deadline)
    assert 180.0 + found.machine_seconds(one) <= deadline
    fewer = Packing(found.machines - 1, 1, math.ceil(300 / (found.machines - 1)))
    assert 180.0 + fewer.machine_seconds(one) > deadline


def test_only_the_first_training_of_a_machine_compiles_from_nothing():
    one, packing = training(), Packing(2, 1, 10)
    assert packing.machine_seconds(one) == pytest.approx(10 * (2 + 60 + 3) + 10 + 9 * 1)
    assert sum(packing.divide(one).values()) == pytest.approx(packing.machine_seconds(one))


def test_ranges_of_independent_factors_add_up_in_squares():
    found = combine(Estimate(10.0, 5.0, 20.0), Estimate(3.0, 1.5, 6.0))
    assert found.value == 30.0
    assert found.high == pytest.approx(30.0 * 2 ** math.sqrt(2))
    assert found.low == pytest.approx(30.0 / 2 ** math.sqrt(2))
    known = combine(Estimate.exact(2.0), Estimate(3.0, 1.0, 4.0))
    assert (known.value, known.low, known.high) == pytest.approx((6.0, 2.0, 8.0))


# The front.


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_that_of_comparing_all_with_all(seed: int):
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 12, (200, 3)).astype(float)
    rows = [(a, b, None if generator.random() < 0.3 else c) for a, b, c in values.tolist()]

    def beats(other: tuple[float, float, float | None], row: tuple[float, float, float | None]) -> bool:
        if row[2] is None:
            pairs = [(other[0], row[0]), (other[1], row[1])]
        elif other[2] is None:
            return False
        else:
            pairs = [(other[0], row[0]), (other[1], row[1]), (other[2], row[2])]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    assert find_front(rows) == [not any(beats(other, row) for other in rows) for row in rows]


def test_the_front_of_nothing_is_nothing():
    assert find_front([]) == []


# The options.


def test_every_offer_has_options_and_ids_are_unique():
    book = gathered().book
    assert {option.offer.id for option in options()} == {offer.id for offer in (*book.offers, *book.owned)}
    ids = [option.id for option in options()]
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_all_prices_of_ebox_make_options_but_for_chips_without_slices():
    inputs = replace(gathered("all"), book=read_prices())
    found = {option.offer.id for option in list_options(inputs)}
    old = {"TPU-v2", "TPU-v3"}
    assert found == {offer.id for offer in (*inputs.book.offers, *inputs.book.owned) if offer.hardware not in old}


def test_the_time_of_a_step_and_its_price_do_not_depend_on_each_other():
    on_demand, spot = named("nebius-h200-x1-on-demand-b64-exact"), named("nebius-h200-x1-spot-b64-exact")
    assert on_demand.forecast == spot.forecast
    assert on_demand.forecast.kind == "measured"
    assert weigh(spot, "one", world())[0] < weigh(on_demand, "one", world())[0]


def test_a_measured_machine_is_not_carried_over():
    own = [option for option in options() if isinstance(option.offer, Owned)]
    assert {option.forecast.profile for option in own} == {"here"}
    assert "modelled" not in {option.forecast.kind for option in own}
    assert {option.forecast.kind for option in options() if option.platform == "tpu"} == {"modelled"}


def test_slices_that_were_chosen_are_the_only_ones():
    found = list_options(gathered("v5e:2x2,v4:2x2x1"))
    tpus = {(option.offer.hardware, option.num_devices) for option in found if option.platform == "tpu"}
    assert tpus == {("TPU-v5e", 4), ("TPU-v4", 4)}
    assert not [option for option in list_options(gathered("none")) if option.platform == "tpu"]


def test_trainings_of_one_gpu_fill_a_machine_that_has_eight():
    option = next(option for option in options() if option.offer.id == "nebius-b200" and option.num_devices == 1)
    assert option.places == 8
    one, many = weigh(option, "one", world()), weigh(option, "search", world(trainings={"search": 8}))
    assert many[0] == pytest.approx(one[0], rel=0.1)  # a machine is paid, whatever trains on it


def test_without_a_profile_of_a_processor_those_for_rent_are_left_out_and_it_is_said():
    gpu = read_reference()
    subject = cpu_profile().subject
    machine = MeasuredMachine(gpu.model_copy(update={"subject": subject, "name": "gpu"}))
    inputs = replace(gathered("none"), machines=(machine,))
    found = list_options(inputs)
    assert {option.platform for option in found} == {"cuda"}
    codes = {remark["code"] for remark in note_options(inputs, found)}
    assert OptionNote.NO_PROFILE_OF_PROCESSORS in codes
    assert OptionNote.REFERENCE_USED not in codes


def test_steps_of_another_network_are_scaled_by_the_operations_of_its_shapes():
    profile = cpu_profile()
    subject = profile.subject.model_copy(update={"network": "other"})
    model = {**profile.settings["model"], "num_filters": 64}
    other = profile.model_copy(update={"subject": subject, "settings": {**profile.settings, "model": model}})
    inputs = replace(gathered("none"), machines=(MeasuredMachine(other),))
    (told,) = (one for one in note_options(inputs, list_options(inputs)) if one["code"] == OptionNote.OTHER_NETWORK)
    # The first layer has half of the operations, the body a quarter.
    assert 0.25 < told["share"] < 0.5


def test_a_deadline_counts_checkpoints_and_what_interruptions_cost():
    here = world(deadline_seconds=1800.0)
    for option in options():
        for job in ("search", "factors"):
            packing = pack_job(option, job, here)
            if foresee_job(option, job, here).seconds.value > 1800.0 and option.kind != "owned":
                # With 16 machines it takes as many rounds.
                needed = math.ceil(here.trainings[job] / packing.places)
                assert packing.rounds == math.ceil(needed / min(needed, MOST_MACHINES))


def test_energy_is_that_of_the_measured_step_most_like_the_option():
    steps = [step(1, 64, 0.001, precision="bfloat16"), step(1, 64, 0.002), step(1, 1024, 0.01)]
    watts = (150.0, 400.0, 650.0)
    told = tuple(one.model_copy(update={"watts": spread(many)}) for one, many in zip(steps, watts, strict=True))
    option = next(one for one in options() if isinstance(one.machine, MeasuredMachine))
    machine = MeasuredMachine(option.machine.profile.model_copy(update={"steps": told}))
    found = [
        replace(option, machine=machine, way=Way(1, batch, precision)).watts
        for batch, precision in ((64, "bfloat16"), (4096, "bfloat16"), (64, "float32"), (512, "float32"))
    ]
    assert found == [150.0, 150.0, 400.0, 650.0]


def test_a_link_that_no_table_states_is_said_to_be_assumed():
    told = {one["code"]: one for one in note_options(gathered(), options())}
    assert told[OptionNote.ASSUMED_INSIDE]["hardware"] == ["T4", "TPU-v4"]


def test_a_profile_on_which_nothing_rests_is_said():
    reference = read_reference()
    subject = cpu_profile().subject
    machines = tuple(
        MeasuredMachine(reference.model_copy(update={"subject": subject, "name": name})) for name in ("first", "second")
    )
    inputs = replace(gathered("none"), machines=(*gathered("none").machines, *machines))
    found = list(note_options(inputs, list_options(inputs)))
    assert [one["profile"] for one in found if one["code"] == OptionNote.UNUSED] == ["second"]


def test_offers_of_chips_without_slices_are_said_where_slices_are_asked_for():
    old = [offer for offer in read_prices().offers if offer.hardware == "TPU-v2"]
    book = replace(gathered().book, offers=(*gathered().book.offers, *old))
    for slices, names in ((SLICES, ["TPU-v2"]), ("none", None)):
        inputs = replace(gathered(slices), book=book)
        told = {one["code"]: one for one in note_options(inputs, options())}
        assert told.get(OptionNote.NO_SLICES, {}).get("hardware") == names


# Jobs.


def test_the_parts_of_a_job_add_up_to_its_time_and_its_money():
    for option in options()[::13]:
        for job in JOBS:
            found = foresee_job(option, job, world())
            assert sum(found.parts.values()) == pytest.approx(found.seconds.value), option.id
            assert sum(found.money_parts.values()) == pytest.approx(found.money.value), option.id
            assert found.seconds.low <= found.seconds.value <= found.seconds.high
            assert weigh(option, job, world()) == (pytest.approx(found.money.value), pytest.approx(found.seconds.value))


def test_a_machine_that_one_owns_is_there_once():
    own = next(option for option in options() if isinstance(option.offer, Owned))
    assert foresee_job(own, "factors", world()).machines_at_once == 1
    rented = named("nebius-h200-x1-on-demand-b64-exact")
    assert foresee_job(rented, "factors", world()).machines_at_once > 1


@pytest.mark.parametrize(("stated", "source"), [(None, "energy_measured"), (6000.0, "energy_stated")])
def test_the_energy_of_an_owned_machine_is_as_stated_or_else_as_measured(stated: float | None, source: str):
    reference = read_reference()
    steps = tuple(step.model_copy(update={"watts": spread(400.0)}) for step in reference.steps)
    machine = MeasuredMachine(reference.model_copy(update={"steps": steps, "subject": cpu_profile().subject}))
    facts: dict[str, Any] = {"purchase": 3e5, "years": 4.0, "use_share": 0.5, "source": "invoice"}
    rack = Owned(id="rack", hardware="H200-SXM", num_devices=8, watts=stated, **facts)
    book = replace(gathered().book, owned=(rack,), offers=())
    inputs = replace(gathered("none"), machines=(machine,), book=book)
    option = next(one for one in list_options(inputs) if one.num_devices == 2)
    found = foresee_job(option, "one", replace(world(), book=book))
    assert found.joules_from == source
    assert found.joules is not None
    assert found.joules.value == pytest.approx((800.0 if stated is None else stated) * found.seconds.value)


# The choice.


def weighed(*numbers: tuple[float, float]) -> list[Weighed]:
    rented = [option for option in options() if not isinstance(option.offer, Owned)]
    by_offer = list({option.offer.id: option for option in rented}.values())
    return [Weighed(option, *pair) for option, pair in zip(by_offer, numbers, strict=False)]


def test_the_choice_is_the_least_of_money_and_waiting():
    cheap, quick = 1.0, 3.0
    rows = weighed((cheap, 10 * 3600.0), (quick, 3600.0))
    assert choose(rows, world(hour_worth=0.0), None).best.money == cheap
    assert choose(rows, world(hour_worth=1.0), None).best.money == quick


def test_the_choice_keeps_the_budget_and_the_deadline_where_it_can():
    rows = weighed((1.0, 9 * 3600.0), (5.0, 2 * 3600.0), (20.0, 600.0))
    assert choose(rows, world(deadline_seconds=3 * 3600.0), None).best.money == 5.0
    assert choose(rows, world(hour_worth=100.0), 10.0).best.money == 5.0
    found = choose(rows, world(), 0.5)
    assert (found.best.money, found.within_budget) == (1.0, False)
    late = choose(rows, world(deadline_seconds=60.0), None)
    assert (late.best.seconds, late.within_deadline) == (600.0, False)


def test_the_runner_up_is_of_another_offer():
    found = choose(weigh_all(options(), "search", world()), world(), None)
    assert found.runner_up is not None
    assert found.runner_up.option.offer.id != found.best.option.offer.id


def test_candidates_hold_the_best_option():
    rows = weigh_all(options(), "search", world())
    best = choose(rows, world(), None).best.option
    kept = pick_candidates(rows, world(), lambda option: option.kind == "owned")
    assert best in kept
    assert len(kept) <= CANDIDATES + sum(option.kind == "owned" for option in options())


# The plan.


def test_the_facts_have_the_agreed_form():
    facts = planned()
    assert set(facts) == {
        "question",
        "profiles",
        "prices",
        "accuracy",
        "options",
        "recommendation",
        "tornado",
        "stages",
        "statistics",
        "learning_curve",
        "run",
        "remarks",
    }
    assert facts["question"]["jobs"]["factors"] == {"trainings": 1000, "factors": 200, "folds": 5}
    for option in facts["options"]:
        assert set(option["steps"]) == set(option["step_seconds"]) == ESTIMATE
        for job in JOBS:
            assert set(option["jobs"][job]["seconds"]) == ESTIMATE
    ids = {option["id"] for option in facts["options"]}
    for job in JOBS:
        assert {facts["recommendation"][job]["option"], facts["recommendation"][job]["runner_up"]} <= ids
        assert {row[end] for row in facts["tornado"][job] for end in ("option_low", "option_high")} <= ids
    assert [stage["stage"] for stage in facts["stages"]["plan"]] == list(STAGES)


def test_every_note_of_a_plan_has_a_sentence():
    facts = planned()
    notes = [*facts["remarks"], *facts["prices"]["remarks"], *facts["stages"]["rule"]]
    notes += [reason for job in JOBS for reason in facts["recommendation"][job]["reasons"]]
    notes += [{"code": row["factor"]} for job in JOBS for row in facts["tornado"][job]]
    for note in notes:
        assert english.say(note) != note["code"], note
        assert "{" not in english.say(note)


def test_a_flip_is_where_the_choice_changes():
    found = [row for job in JOBS for row in planned()["tornado"][job] if row["flips"]]
    assert found
    for row in found:
        assert min(row["low"], 1.0) <= row["flips_at"] <= max(row["high"], 1.0)
    kept = [row for job in JOBS for row in planned()["tornado"][job] if not row["flips"]]
    for job in JOBS:
        best = planned()["recommendation"][job]["option"]
        assert all(row["option_low"] == row["option_high"] == best for row in planned()["tornado"][job] if row in kept)


def test_a_dearer_offer_costs_more_and_no_other_thing_changes_a_machine_at_hand_that_waits_for_none():
    rows = {row["factor"]: row for row in planned()["tornado"]["one"]}
    price = rows[Factor.PRICE]
    assert price["money_low"] < price["money_high"]
    best = find_option(planned(), planned()["recommendation"]["one"]["option"])
    if best["price_kind"] == "owned":
        assert rows[Factor.START]["money_low"] == rows[Factor.START]["money_high"]
        assert rows[Factor.INTERRUPTIONS]["money_low"] == rows[Factor.INTERRUPTIONS]["money_high"]


def test_one_training_belongs_on_the_machine_at_hand_and_a_thousand_do_not():
    facts = planned()
    kinds = [find_option(facts, facts["recommendation"][job]["option"])["price_kind"] for job in ("one", "factors")]
    assert kinds[0] == "owned"
    assert kinds[1] != "owned"
    (rule,) = (note for note in facts["stages"]["rule"] if note["code"] == StageNote.RENT_FROM)
    assert 1 < rule["trainings"] <= 1000


def test_the_rule_of_thumb_names_the_number_at_which_the_choice_changes():
    owned = [option for option in options() if isinstance(option.offer, Owned)]
    rented = [named("nebius-h200-x1-on-demand-b64-exact")]
    number = find_rent_from(owned, rented, world())
    assert number is not None

    def best(trainings: int) -> str:
        here = world(trainings={"search": trainings})
        return choose(weigh_all([*owned, *rented], "search", here), here, None).best.option.kind

    assert best(number) == "on_demand"
    assert best(number - 1) == "owned"


def test_stages_cost_no_more_in_all_than_on_one_machine():
    stages = planned()["stages"]
    assert stages["total"]["money"]["value"] <= stages["against"]["money"]["value"] + 1e-9 or (
        stages["total"]["seconds"]["value"] <= stages["against"]["seconds"]["value"]
    )


def said_of(facts: dict[str, Any], job: str) -> str:
    return "\n".join(english.say(reason) for reason in facts["recommendation"][job]["reasons"])


def test_reasons_say_what_the_price_is_from_when_and_where_and_from_which_power_the_energy():
    own, rented = (said_of(planned(), job) for job in ("one", "factors"))
    assert "2,500 USD over 4 years, in use 25 % of the time (assumed: say what yours costs under [owned.this-m" in own
    assert "is taken from the power that was stated for the machine" in own
    chosen = find_option(planned(), planned()["recommendation"]["factors"]["option"])
    offer = gathered().book.offer(chosen["offer"])
    assert not isinstance(offer, Owned)
    device, _ = offer.price(chosen["price_kind"])
    assert f"its price ({offer.id}) is {device:.2g} USD" in rented or f"is {device:.2f} USD" in rented
    assert f"date unknown; {offer.source}" in rented
    assert "kWh, is taken from" in rented or "its energy is not known" in rented


def test_reasons_say_what_limit_is_missed_and_no_limit_that_nobody_set():
    files = Files((("here.json", gathered().machines[0].profile),), None)
    late, both = (
        said_of(make_plan(question(deadline_hours=1e-3, budget=budget), gathered("none"), needed(), files), "one")
        for budget in (None, 1e-4)
    )
    assert "longer than 0.001 h: no option keeps the deadline" in late
    assert "budget" not in late
    assert "no option keeps both the budget and the deadline" in both


def test_reasons_say_where_the_budget_is_missed():
    files = Files((("here.json", gathered().machines[0].profile),), None)
    facts = make_plan(question(budget=1e-4), gathered("none"), needed(), files)
    codes = [reason["code"] for reason in facts["recommendation"]["one"]["reasons"]]
    assert Reason.OVER_BUDGET in codes
    assert not any(option["jobs"]["one"]["within_budget"] for option in facts["options"])


def test_a_budget_below_every_least_billing_is_refused_where_nothing_is_owned():
    book = replace(gathered().book, owned=())
    inputs = replace(gathered("none"), book=book)
    files = Files((("here.json", inputs.machines[0].profile),), None)
    with pytest.raises(InputError, match="below the least"):
        make_plan(question(budget=1e-4), inputs, needed(), files)


@cache
def learned(target: float) -> Needed:
    """By the trainings of the profile, whose best AUROC is about 0.955."""
    return replace(needed(), model=StepsModel.of(gathered().machines[0].profile), target=target)


def test_a_target_sets_the_steps_of_every_batch_and_form():
    want = learned(0.93)
    assert want.is_reachable is True
    cases = ((64, "every-step"), (512, "every-step"), (64, "local"))
    small, large, local = (want.steps(Way(4, batch, "float32", "exact", sync)) for batch, sync in cases)
    assert small is not None
    assert large is not None
    assert local is not None
    assert small.value > large.value
    assert local.value > small.value


def test_a_target_out_of_reach_is_said_with_the_interval_and_the_settings_are_planned():
    want = learned(0.9999)
    inputs = replace(gathered("none"), steps=want.steps)
    files = Files((("here.json", inputs.machines[0].profile),), None)
    facts = make_plan(question(target=0.9999), inputs, want, files)
    assert facts["accuracy"]["reachable"] is False
    (remark,) = (one for one in facts["remarks"] if one["code"] == PlanNote.UNREACHABLE)
    said = english.say(remark)
    assert want.model is not None
    ceiling = want.model.ceiling
    assert f"{ceiling.low:.4f} to {ceiling.high:.4f}" in said
    assert "0.9999" in said
    assert {option["steps"]["value"] for option in facts["options"] if option["batch_size"] == 64} == {3938.0}


def test_an_end_without_limit_is_none_in_the_facts_and_stops_nothing(tmp_path: Path):
    def steps(way: Way) -> Estimate:
        return Estimate(4000.0, 2000.0, math.inf)

    inputs = replace(gathered("none"), steps=steps)
    files = Files((("here.json", inputs.machines[0].profile),), None)
    facts = make_plan(question(), inputs, needed(), files)
    assert all(option["jobs"]["one"]["seconds"]["high"] is None for option in facts["options"])
    assert all(option["jobs"]["one"]["seconds"]["low"] > 0 for option in facts["options"])
    write_facts(facts, tmp_path)


@pytest.mark.parametrize(("limits", "code"), [({"budget": 0.02}, "budget"), ({"deadline_hours": 0.1}, "deadline")])
def test_limits_that_all_stages_together_miss_are_said(limits: dict[str, float], code: str):
    files = Files((("here.json", gathered().machines[0].profile),), None)
    facts = make_plan(question(**limits), gathered("none"), needed(), files)
    rules = {rule["code"]: english.say(rule) for rule in facts["stages"]["rule"]}
    assert "all stages together" in rules[f"stages_over_{code}"]
    assert not {f"stages_over_{one}" for one in ("budget", "deadline")} & {
        rule["code"] for rule in planned()["stages"]["rule"]
    }


def test_stages_keep_a_budget_for_all_of_them_where_they_can():
    rich = planned()["stages"]
    least = sum(
        min(weigh(option, "search", world(trainings={"search": number}))[0] for option in options())
        for number in (1, 100, 5)
    )
    budget = (least + rich["total"]["money"]["value"]) / 2
    assert budget < rich["total"]["money"]["value"]
    stages = plan_stages(options(), world(), budget, 100)
    assert stages["total"]["money"]["value"] <= budget


def test_the_machine_at_hand_has_its_rule_of_thumb_however_large_the_search_is():
    files = Files((("here.json", gathered().machines[0].profile),), None)
    facts = make_plan(question(trials=100_000), gathered("none"), needed(), files)
    assert StageNote.RENT_FROM in {rule["code"] for rule in facts["stages"]["rule"]}
    pilot = find_option(facts, facts["stages"]["plan"][0]["option"])
    assert pilot["price_kind"] == "owned"


# The files.


def test_the_table_holds_the_numbers_of_the_facts(tmp_path: Path):
    whole = write_facts(planned(), tmp_path)
    assert read_facts(tmp_path) == whole
    with (tmp_path / TABLE).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(JOBS) * len(planned()["options"])
    for row in rows[::31]:
        option = find_option(whole, row["id"])
        money = option["jobs"][row["job"]]["money"]
        assert [float(row[f"money_{end}"]) for end in ("value", "low", "high")] == list(money.values())
        assert float(row["step_seconds_value"]) == option["step_seconds"]["value"]
    assert json.loads((tmp_path / FACTS).read_text(encoding="utf-8"))["format"] == "ebox-plan"


def test_an_option_that_is_not_there_is_named():
    with pytest.raises(InputError, match="'nothing'"):
        find_option(planned(), "nothing")
