"""`ebox doctor --scaling`: links are read, real steps are measured and fitted, and the report shows the curve."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import processes
from ebox.diagnosis.growth import GrowthResult, describe_case, follow_growth, measure_growth, write_growth
from ebox.diagnosis.parity import make_dataset
from ebox.errors import InputError
from ebox.planning.step_time import ScalingPoint, StepCase, read_link
from ebox.settings.reading import make_config
from ebox.storage.stamps import SCALING, stamped
from ebox.verbs.doctor import doctor
from ebox.verbs.train import worker_arguments
from groups import SETTINGS


@pytest.mark.parametrize(
    ("text", "found"), [("10gbit", 1.25e9), ("100Mbit", 12.5e6), ("2.5gbit", 312.5e6), ("64kbit", 8e3)]
)
def test_the_speed_of_a_link_is_read(text: str, found: float):
    assert read_link(text) == pytest.approx(found)


@pytest.mark.parametrize("text", ["", "10", "gbit", "-1gbit", "0gbit", "10 gigabytes", "nan gbit"])
def test_what_is_no_speed_is_refused(text: str):
    with pytest.raises(InputError, match="10gbit"):
        read_link(text)


def test_without_a_dataset_the_error_says_what_to_give():
    with pytest.raises(InputError, match="--for"):
        doctor(scaling=True)


ENVIRONMENT = dict.fromkeys(("ebox", "python", "packages", "platform", "cpu", "num_cores"), "any")


def make_growth(link: float = 1.25e9, **parallel: Any) -> GrowthResult:
    """What follows from steps that follow the model, without measuring."""
    points = [
        ScalingPoint(
            StepCase(workers, size, 800_000, float("inf"), messages=11),
            0.004 + 0.0005 * size + 2e-4 * 22 * (workers - 1),
        )
        for workers in (1, 2)
        for size in (16, 32, 64)
    ]
    return follow_growth(points, make_config({"parallel": parallel}), link, ENVIRONMENT)


def test_a_slower_link_makes_for_slower_steps_of_all_but_one_worker():
    fast, slow = make_growth(1.25e9), make_growth(1.25e7)
    assert slow.weak[0].seconds == pytest.approx(fast.weak[0].seconds)
    # Two workers send 800 kB each, once.
    assert slow.weak[1].seconds - fast.weak[1].seconds == pytest.approx(0.8 / 12.5 - 0.8 / 1250, rel=1e-3)


def test_a_delayed_exchange_hides_behind_no_work_of_processors():
    plain, delayed = make_growth(1.25e7), make_growth(1.25e7, sync="delayed")
    assert [point.seconds for point in delayed.weak] == [point.seconds for point in plain.weak]


def test_what_a_training_exchanged_is_counted_as_rings():
    ring = {"collective": "all-reduce", "payload_bytes": 800, "sent_bytes": 800.0}
    halves = [{"collective": "all-to-all", "payload_bytes": 200, "sent_bytes": 100.0}] * 2
    swaps = {"messages": [{"collective": "swaps", "payload_bytes": 800, "sent_bytes": 1600.0}] * 6}
    few = describe_case({**swaps, "steps_a_meeting": 1.0}, 4, 32)
    # Two rounds each, and a ring of four has six; 1,600 bytes sent are those of a ring of 1,067.
    assert (few.message_bytes, few.messages) == (pytest.approx(6 * 1600.0 / 1.5), 2)
    exact = describe_case({"messages": [ring], "steps_a_meeting": 1.0}, 2, 32)
    int8 = describe_case({"messages": halves, "steps_a_meeting": 16.0}, 2, 32)
    assert (exact.message_bytes, exact.messages, exact.steps_per_exchange) == (800.0, 1, 1)
    assert (int8.message_bytes, int8.messages, int8.steps_per_exchange) == (200.0, 1, 16)
    assert describe_case({"messages": [], "steps_a_meeting": 1.0}, 1, 32).message_bytes == 0.0


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"parallel": {"cluster": "local", "workers": 2}}, "Ray cluster"),
        ({"parallel": {"platform": "gpu"}}, "this machine's cores"),
        ({"train": {"batch_size": 1}}, "too small"),
    ],
)
def test_what_can_not_be_measured_here_is_refused(tmp_path: Path, settings: dict[str, Any], problem: str):
    with pytest.raises(InputError, match=problem):
        measure_growth(worker_arguments, make_dataset(tmp_path), make_config(settings), 1.25e9)


def test_what_was_measured_is_published_as_json(tmp_path: Path):
    write_growth(make_growth(), tmp_path / "scaling.json")
    facts = json.loads((tmp_path / "scaling.json").read_text())
    assert [point["workers"] for point in facts["weak"]] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert facts["weak"][0]["speedup"] == pytest.approx(1.0)
    assert facts["weak"][-1]["speedup"] > facts["strong"][-1]["speedup"]
    assert facts["median_left_out_error"] < 0.01
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    told = text.split("### scaling.json")[1].split("\n### ")[0]
    for key in (*(set(facts) - set(stamped(SCALING, {}))), *facts["points"][0]):
        assert f"`{key}`" in told


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores")
def test_steps_of_this_machine_are_measured_and_shown(tmp_path: Path):
    dataset = make_dataset(tmp_path)
    chosen = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    out = tmp_path / "scaling.json"
    done = processes.run(processes.ebox("doctor", "--scaling", "--for", dataset, *chosen, "--out", out), seconds=600.0)
    assert "256" in done.stdout
    facts = json.loads(out.read_text())
    assert {point["workers"] for point in facts["points"]} >= {1, 2}
    assert all(point["seconds"] > 0 for point in facts["points"])
    assert facts["points"][-1]["message_bytes"] > facts["points"][0]["message_bytes"] == 0
