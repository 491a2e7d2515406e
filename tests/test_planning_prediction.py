"""Steps of machines: costs that were put in are found again, kept GPU figures are predicted from each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ebox.planning.machine_model import MeasuredMachine, fit_machine
from ebox.planning.prediction import (
    NETWORK_LATENCY,
    AbsentMachine,
    Link,
    StepForecast,
    Way,
    describe_exchange,
    predict_step,
    roofline_of,
)
from ebox.planning.prices import Hardware, read_prices
from ebox.planning.profiles import Profile, Step
from ebox.planning.reference import REFERENCE, read_reference
from ebox.planning.slices import SliceFigures
from ebox.storage.stamps import BENCH, read_stamped
from measured import cpu_profile, step

ROOT = Path(__file__).parents[1]
NETWORK = Link(1.25e9, NETWORK_LATENCY, "ring")
BFLOAT16 = [one for one in read_reference().steps if one.precision == "bfloat16"]


def without(profile: Profile, left_out: Step) -> MeasuredMachine:
    kept = tuple(one for one in profile.steps if one is not left_out)
    return MeasuredMachine(profile.model_copy(update={"steps": kept}))


def h200(**more: float) -> Hardware:
    row = read_prices().hardware["H200-SXM"]
    return row.model_copy(update=more)


def absent(hardware: Hardware, figures: SliceFigures | None = None) -> AbsentMachine:
    profile = read_reference()
    return AbsentMachine(hardware, MeasuredMachine(profile), h200(), profile, figures)


def test_the_reference_is_made_from_the_kept_figures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from h200_profile import make_profile

    assert read_reference().model_dump(exclude={"created"}) == make_profile().model_dump(exclude={"created"})


@pytest.mark.parametrize("left_out", read_reference().steps, ids=lambda one: f"{one.precision}-{one.batch_size}")
def test_a_batch_of_the_gpu_is_predicted_from_the_others(left_out: Step):
    found = predict_step(without(read_reference(), left_out), Way(1, left_out.batch_size, left_out.precision))
    assert found.kind == "fitted"
    assert found.seconds.value == pytest.approx(left_out.seconds.median, rel=0.35)


def test_the_error_that_a_prediction_states_is_that_on_steps_left_out():
    profile = read_reference()
    errors = [
        predict_step(without(profile, one), Way(1, one.batch_size, one.precision)).seconds.value / one.seconds.median
        - 1.0
        for one in profile.steps
    ]
    machine = MeasuredMachine(profile)
    assert machine.left_out_errors == pytest.approx(errors)
    stated = predict_step(machine, Way(1, 1024, "bfloat16"))
    assert stated.error == pytest.approx(max(map(abs, errors)))
    assert stated.seconds.high / stated.seconds.value == pytest.approx(1.0 + max(map(abs, errors)))


@pytest.mark.parametrize("measured", BFLOAT16, ids=lambda one: str(one.batch_size))
def test_a_bare_roofline_is_off_by_ten_to_fifty_times(measured: Step):
    found = roofline_of(MeasuredMachine(read_reference()), Way(1, measured.batch_size, "bfloat16"))
    assert found is not None
    assert 9.0 < measured.seconds.median / found < 60.0


def test_a_step_that_was_measured_is_told_as_it_was():
    measured = BFLOAT16[1]
    found = predict_step(MeasuredMachine(read_reference()), Way(1, measured.batch_size, "bfloat16"))
    assert found.kind == "measured"
    assert (found.seconds.value, found.seconds.low, found.seconds.high) == (
        measured.seconds.median,
        measured.seconds.low,
        measured.seconds.high,
    )


def iter_forecasts() -> list[StepForecast]:
    machines = (MeasuredMachine(read_reference()), absent(read_prices().hardware["L4"]))
    ways = (Way(1, 64, "bfloat16"), Way(1, 100, "bfloat16"), Way(4, 256, "bfloat16", "int8", link=NETWORK))
    return [predict_step(machine, way) for machine in machines for way in ways]


def test_the_parts_of_a_prediction_add_up_to_it():
    for found in iter_forecasts():
        assert set(found.parts) == {"launch", "arithmetic", "memory", "exchange", "input"}
        assert sum(found.parts.values()) == pytest.approx(found.seconds.value)
        assert found.seconds.low <= found.seconds.value <= found.seconds.high


def test_a_machine_like_the_reference_is_predicted_like_it():
    way = Way(1, 1000, "bfloat16")
    there = predict_step(MeasuredMachine(read_reference()), way).seconds.value
    assert predict_step(absent(h200()), way).seconds.value == pytest.approx(there)


def test_work_takes_twice_as_long_on_half_a_device_and_the_launch_does_not():
    row = h200()
    assert row.memory_bytes_per_second is not None
    assert row.bf16_flops is not None
    half = h200(memory_bytes_per_second=row.memory_bytes_per_second / 2, bf16_flops=row.bf16_flops / 2)
    way = Way(1, 512, "bfloat16")
    whole, slower = predict_step(absent(row), way), predict_step(absent(half), way)
    assert slower.parts["launch"] == whole.parts["launch"]
    assert slower.parts["memory"] == pytest.approx(2 * whole.parts["memory"])
    assert slower.parts["arithmetic"] == pytest.approx(2 * whole.parts["arithmetic"])
    assert slower.kind == "modelled"


def test_the_range_of_an_absent_machine_holds_both_ways_to_scale():
    row = h200()
    assert row.memory_bytes_per_second is not None
    found = predict_step(
        absent(h200(memory_bytes_per_second=row.memory_bytes_per_second / 4)), Way(1, 4096, "bfloat16")
    )
    work = found.parts["launch"] + (found.parts["memory"] / 4 + found.parts["arithmetic"]) * 4
    same = found.parts["launch"] + found.parts["memory"] / 4 + found.parts["arithmetic"]
    assert found.seconds.low < same < found.seconds.value < work < found.seconds.high


def test_bytes_that_a_compiler_counts_take_the_place_of_the_reference_s():
    tpu = read_prices().hardware["TPU-v5e"]
    figures = SliceFigures("v5e", ("v5e:2x2",), 1.4e6, 46e6, 6e7, 1e4, 1e7, ((4, 13, 824_692), (32, 16, 802_584)), {})
    found = predict_step(absent(tpu, figures), Way(4, 256, "bfloat16", link=Link(200e9, 4e-6, "halving")))
    assert tpu.memory_bytes_per_second is not None
    assert found.parts["memory"] == pytest.approx((46e6 + 64 * 1.4e6) / tpu.memory_bytes_per_second)
    assert found.error is None  # no TPU was measured
    assert found.seconds.high / found.seconds.value > 2.0
    assert figures.exchange(4) == figures.exchange(16) == (13, 824_692)
    assert figures.exchange(32) == figures.exchange(256) == (16, 802_584)


def nodes(steps: list[Step]) -> MeasuredMachine:
    """Workers that have a machine each."""
    return MeasuredMachine(cpu_profile(steps, network_link="10gbit"))


def make_steps() -> list[Step]:
    """Launch 2 ms, 0.3 ms an example, 0.2 ms for each of the rounds of 12 messages."""
    return [
        step(workers, batch, 0.002 + 3e-4 * batch / workers + 2e-4 * 12 * 2 * (workers - 1))
        for workers in (1, 2, 4)
        for batch in (64, 256, 1024)
    ]


def test_the_costs_of_several_workers_are_found_again_and_carried_to_more():
    machine = nodes(make_steps())
    costs = machine.model.costs["float32"]
    assert machine.model.has_exchange
    assert costs.per_message_seconds == pytest.approx(2e-4, rel=0.1)
    found = predict_step(machine, Way(8, 512, "float32"))
    assert found.seconds.value == pytest.approx(0.002 + 3e-4 * 64 + 2e-4 * 12 * 14, rel=0.1)


def test_processes_that_share_cores_say_what_messages_cost_and_not_that_work_is_halved():
    """One process uses both cores; two have one each, and compute the same batch in the same time."""
    steps = [step(1, batch, 0.002 + 3e-4 * batch) for batch in (16, 64, 256, 1024)]
    steps += [step(2, batch, 0.002 + 3e-4 * batch + 2e-4 * 12 * 2) for batch in (64, 128)]
    machine = MeasuredMachine(cpu_profile(steps))
    assert machine.shares_cores
    assert machine.model.costs["float32"].per_message_seconds == pytest.approx(2e-4, rel=0.1)
    two = predict_step(machine, Way(2, 512, "float32"))
    assert two.seconds.value == pytest.approx(0.002 + 3e-4 * 512 + 2e-4 * 24, rel=0.05)
    apart = predict_step(machine, Way(2, 512, "float32", link=NETWORK))
    assert apart.parts["launch"] + apart.parts["arithmetic"] + apart.parts["memory"] == pytest.approx(
        0.002 + 3e-4 * 256, rel=0.05
    )


def test_a_slower_link_makes_for_slower_exchanges_and_fewer_bytes_for_faster_ones():
    machine = nodes(make_steps())
    slow = replace(NETWORK, bytes_per_second=1.25e7)
    ways = [
        Way(4, 256, "float32", link=NETWORK),
        Way(4, 256, "float32", link=slow),
        Way(4, 256, "float32", "int8", link=slow),
        Way(4, 256, "float32", "exact", "local", 16, slow),
    ]
    fast, exact, small, local = (predict_step(machine, way).parts["exchange"] for way in ways)
    assert fast < small < exact
    assert local < small
    bytes_on_slow, bytes_on_fast = 1.5 * 800_000 / 1.25e7, 1.5 * 800_000 / 1.25e9
    assert exact - fast == pytest.approx(bytes_on_slow - bytes_on_fast, rel=0.05)


def test_what_a_measured_form_of_exchange_takes_beside_its_bytes_is_kept():
    more = [step(2, 256, 0.002 + 3e-4 * 128 + 2e-4 * 24 + 0.005, exchange="int8", message_bytes=200_000.0)]
    machine = nodes([*make_steps(), *more])
    assert machine.model.additions["int8", "every-step"] == pytest.approx(0.005, rel=0.1)
    assert describe_exchange(machine.profile, "int8", "every-step") == (200_000.0, 12)
    assert describe_exchange(machine.profile, "half", "every-step") == (400_000.0, 12)
    assert describe_exchange(machine.profile, "exact", "local") == (800_000.0, 1)


def test_one_measured_step_gives_a_line_through_it():
    machine = MeasuredMachine(cpu_profile([step(1, 64, 0.02)]))
    assert predict_step(machine, Way(1, 128, "float32")).seconds.value == pytest.approx(0.04)
    assert machine.worst_error is None
    assert predict_step(machine, Way(1, 128, "float32")).error is None


def test_larger_batches_that_use_a_device_better_have_a_growth_below_one():
    steps = [step(1, batch, 1e-3 + 2e-4 * batch**0.85) for batch in (16, 64, 256, 1024)]
    model = fit_machine(steps)
    assert model.growth == pytest.approx(0.85, abs=0.02)
    assert model.launch_seconds("float32") == pytest.approx(1e-3, rel=0.2)


def test_processors_are_carried_over_by_their_cores():
    profile = cpu_profile()
    hardware = read_prices().hardware["CPU-16-vCPU"]
    machine = AbsentMachine(hardware, MeasuredMachine(profile), None, profile)
    way = Way(1, 1024, "float32")
    here, there = predict_step(MeasuredMachine(profile), way), predict_step(machine, way)
    assert here.seconds.value / 8 < there.seconds.value < here.seconds.value
    assert there.seconds.low < here.seconds.value / 8 * 1.2


def test_the_profile_of_the_gpu_says_what_was_not_measured():
    facts = read_stamped(REFERENCE, BENCH)
    unknown = ("cached_compile_seconds", "checkpoint_seconds", "checkpoint_bytes")
    assert all(facts[name] is None for name in unknown)
    # Two whole trainings told these.
    known = ("start_seconds", "compile_seconds", "validation_seconds")
    assert all(facts[name]["n"] == 2 for name in known)
    assert facts["subject"]["dataset"] is None
    assert json.dumps(facts["energy"]) == '{"source": null, "covers": null, "idle_watts": null}'


@pytest.mark.parametrize("together", [(), (step(2, 64, 0.0095),), (step(2, 64, 0.009), step(2, 256, 0.0085))])
def test_steps_that_seem_to_cost_nothing_an_example_are_predicted_all_the_same(together: tuple[Step, ...]):
    alone = (step(1, 16, 0.0100), step(1, 64, 0.0090), step(1, 256, 0.0085))
    machine = MeasuredMachine(cpu_profile([*alone, *together]))
    times = [predict_step(machine, Way(1, batch, "float32")).seconds.value for batch in (512, 1024)]
    assert 0.0 < times[0] < times[1]
