"""Profiles side by side: what is comparable, and what each costs by time, dollars and joules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ebox
from ebox.errors import InputError
from ebox.planning.comparison import Price, compare_profiles, find_price, find_target, profiles_differ
from ebox.planning.prices import Offer, read_prices
from ebox.planning.profiles import Learning, Point, Profile, read_profile, write_profile
from ebox.planning.recognition import KINDS, find_hardware
from ebox.verbs.bench import BenchResult, describe, describe_comparison, read_amounts
from measured import cpu_profile, spread, step


def make_learning(seed: int, seconds: float, *aurocs: float) -> Learning:
    count = len(aurocs)
    points = tuple(
        Point(step=100 * place, seconds=seconds * place / count, auroc=auroc) for place, auroc in enumerate(aurocs, 1)
    )
    return Learning(seed=seed, batch_size=64, num_examples=1000, num_steps=100 * count, seconds=seconds, points=points)


def make_profile(name: str = "here", platform: Any = "cpu", **more: Any) -> Profile:
    """A profile without trainings, with the fields that a test names."""
    whole = cpu_profile([step(1, 64, 0.016), step(1, 256, 0.06)])
    gpu = {} if platform == "cpu" else {"name": "NVIDIA H200", "platform": platform, "hardware": "H200-SXM"}
    facts: dict[str, Any] = {
        "name": name,
        "created": "",
        "network_link": "none",
        "settings": {"model": {"num_filters": 128}},
        "learning": (),
        **more,
        "device": whole.device.model_copy(update={**gpu, **more.get("device", {})}),
        "subject": whole.subject.model_copy(update=more.get("subject", {})),
    }
    return whole.model_copy(update=facts)


def test_profiles_of_one_subject_do_not_differ_whatever_the_machine():
    assert profiles_differ(make_profile(), make_profile("there", "cuda")) == []


def test_what_differs_is_named_with_both_values():
    one = make_profile()
    other = make_profile(subject={"network": "b" * 16}, settings={"model": {"num_filters": 64}})
    assert [str(found) for found in profiles_differ(one, other)] == ["model.num_filters: 128 against 64"]
    other = make_profile(subject={"dataset": "e" * 64, "length_bp": 500})
    assert [found.name for found in profiles_differ(one, other)] == ["dataset", "length_bp"]
    # Settings of another version of ebox may not tell it.
    assert [found.name for found in profiles_differ(one, make_profile(subject={"network": "b" * 16}))] == ["network"]


def test_throughput_is_that_of_the_faster_precision_by_dollar_and_joule():
    steps = (
        step(1, 64, 0.002, watts=spread(300.0)),
        step(1, 64, 0.001, precision="bfloat16", watts=spread(400.0)),
    )
    result = compare_profiles([make_profile(), make_profile("there", "cuda", steps=steps)], {"H200-SXM": 3.6})
    here, there = result.profiles
    assert result.batches == (64,)
    (fast,) = there.throughput
    assert (fast.precision, fast.sequences_per_second) == ("bfloat16", pytest.approx(64_000))
    assert fast.joules_an_example == pytest.approx(400 / 64_000)
    assert fast.examples_for_one == pytest.approx(64_000 * 1000)
    assert here.throughput[0].joules_an_example is None
    assert here.throughput[0].examples_for_one is None


def test_a_price_of_a_profile_goes_before_that_of_its_hardware():
    profiles = [make_profile("there", "cuda"), make_profile("other", "cuda")]
    found = compare_profiles(profiles, {"H200-SXM": 3.6, "other": 1.0}).profiles
    assert [one.price for one in found] == [Price(3.6), Price(1.0)]


def make_offer(id: str, on_demand: float, **more: Any) -> Offer:
    facts = {"provider": "any", "hardware": "H200-SXM", "max_devices": 8, "source": "a page", **more}
    return Offer(id=id, on_demand=on_demand, **facts)


def test_other_prices_are_those_of_the_cheapest_offer_with_its_host():
    offers = (
        make_offer("bare", 2.0, host_per_hour=0.5),
        make_offer("whole", 2.4, date="2026-10"),
        make_offer("ahead", 1.0, reserved=True),
        make_offer("few", 0.5, max_devices=1),
        make_offer("other", 0.1, hardware="L4"),
    )
    book = replace(read_prices(), offers=offers)
    two, one = (make_profile("there", "cuda", device={"count": count}) for count in (2, 1))
    assert find_price(two, {}, book) == Price(2.4, "whole", "2026-10")
    assert find_price(one, {}, book) == Price(0.5, "few", None)
    assert find_price(make_profile(), {}, book) is None


def test_devices_that_are_paid_and_not_used_are_in_the_price_of_those_that_are():
    """Machines of 8 at 1 an hour for a device cost 8 to use one, and a single one at 3 less."""
    offers = (make_offer("eight", 1.0, unit_devices=8), make_offer("single", 3.0, max_devices=1))
    book = replace(read_prices(), offers=offers)
    found = {count: find_price(make_profile("there", "cuda", device={"count": count}), {}, book) for count in (1, 4, 8)}
    assert found == {1: Price(3.0, "single"), 4: Price(2.0, "eight"), 8: Price(1.0, "eight")}


def test_every_device_that_is_known_has_its_row_in_the_table_of_hardware():
    assert set(KINDS.values()) <= set(read_prices().hardware)


def test_efficiency_is_what_the_exchange_leaves_of_a_step():
    steps = (step(1, 64, 0.016), step(2, 64, 0.010, exchange_seconds=0.002, messages=1))
    (found,) = compare_profiles([make_profile(steps=steps), make_profile()], {}).profiles[0].scaling
    assert (found.workers, found.efficiency) == (2, pytest.approx(0.8))


def test_times_run_to_an_auroc_that_all_trainings_reach():
    slow = make_profile(learning=(make_learning(0, 120.0, 0.8, 0.9, 0.95), make_learning(1, 150.0, 0.7, 0.9444, 0.94)))
    fast = make_profile("there", "cuda", learning=(make_learning(0, 12.0, 0.94, 0.95, 0.951),))
    assert find_target([slow, fast]) == 0.944
    here, there = compare_profiles([slow, fast], {"there": 3.6}).profiles
    assert here.times is not None
    assert there.times is not None
    assert (here.times.to_target_seconds.low, here.times.to_target_seconds.high) == (100.0, 120.0)
    assert here.times.training_seconds.median == 135.0
    assert there.times.to_target_seconds.median == pytest.approx(8.0)
    assert there.times.money == pytest.approx(12.0 * 3.6 / 3600)


def test_without_trainings_in_all_profiles_there_are_no_times():
    result = compare_profiles([make_profile(learning=(make_learning(0, 9.0, 0.9),)), make_profile()], {})
    assert result.target_auroc is None
    assert "--resume" in describe_comparison(result)


def write(folder: Path, name: str, **more: Any) -> Path:
    write_profile(make_profile(name, **more), folder / f"{name}.json")
    return folder / f"{name}.json"


def test_files_of_profiles_are_compared_in_words(tmp_path: Path):
    cpu = write(tmp_path, "here", learning=(make_learning(0, 120.0, 0.9, 0.95),))
    gpu = write(tmp_path, "h200", platform="cuda", learning=(make_learning(0, 12.0, 0.9, 0.96),))
    text = describe(ebox.bench(compare=[cpu, gpu], price=["H200-SXM=3.6"]))
    assert "validation AUROC 0.95 after 120 s" in text
    assert "0.012 USD" in text
    assert "no price is known (--price)" in text


def test_a_profile_is_read_as_it_was_written_and_shown(tmp_path: Path):
    steps = (step(1, 64, 0.016, watts=spread(90.0)), step(2, 64, 0.02, exchange_seconds=0.005, messages=1))
    path = write(tmp_path, "here", steps=steps, learning=(make_learning(0, 120.0, 0.9, 0.95),))
    profile = read_profile(path)
    assert profile.steps == steps
    text = describe(BenchResult(profile, path))
    assert "power is not readable here" in text
    assert "validation AUROC 0.9500 after 120 s" in text
    assert f"profile: {path}" in text


def test_the_time_to_what_all_seeds_reach_is_told(tmp_path: Path):
    learning = make_learning(0, 120.0, 0.9, 0.95), make_learning(1, 140.0, 0.951, 0.96)
    path = write(tmp_path, "here", learning=learning)
    assert "validation AUROC 0.95 after 95 s (70 to 120) in all 2 trainings" in describe(
        BenchResult(read_profile(path), path)
    )


def test_other_subjects_are_refused_and_named(tmp_path: Path):
    one = write(tmp_path, "here")
    other = write(tmp_path, "there", subject={"dataset": "e" * 64, "num_train": 77})
    with pytest.raises(InputError, match=r"there\.json.*dataset: ababab.*num_train: 43000 against 77"):
        ebox.bench(compare=[one, other])


@pytest.mark.parametrize("text", ["3.5", "H200-SXM", "H200-SXM=", "H200-SXM=free", "H200-SXM=0", "here=nan", "here=-1"])
def test_what_is_no_price_is_refused(text: str):
    with pytest.raises(InputError, match=r"write, for example, H200-SXM=3\.50"):
        read_amounts([text])


def test_prices_of_nothing_or_twice_are_refused(tmp_path: Path):
    files = [write(tmp_path, "here"), write(tmp_path, "there", platform="cuda")]
    with pytest.raises(InputError, match=r"did you mean 'H200-SXM'.*\n.*H200-SXM, here, there"):
        ebox.bench(compare=files, price=["H200=3.5"])
    with pytest.raises(InputError, match="twice"):
        ebox.bench(compare=files, price=["here=3.5", "here=1"])


def test_one_profile_is_nothing_to_compare_and_nothing_is_measured(tmp_path: Path):
    file = write(tmp_path, "here")
    with pytest.raises(InputError, match="two or more"):
        ebox.bench(compare=[file])
    with pytest.raises(InputError, match="--curve is given"):
        ebox.bench(compare=[file, file], curve=True)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H200", "H200-SXM"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB-SXM"),
        ("TPU v5 lite", "TPU-v5e"),
        ("TPU v6 lite", "TPU-v6e"),
        ("NVIDIA H200 NVL", None),
        ("cpu", None),
    ],
)
def test_a_device_is_the_row_that_its_whole_name_says(kind: str, name: str | None):
    assert find_hardware(kind) == name
