"""`ebox doctor --scaling`: links are read, real steps are measured and fitted, and the report shows the curve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ebox.config import make_config
from ebox.errors import InputError
from ebox.parity import make_dataset
from ebox.planning import ScalingPoint, StepCase, fit_scaling, scaling_curve
from ebox.scaling import GrowthResult, measure_growth, read_link, write_growth
from groups import SETTINGS, environment


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
        measure_growth(None, make_config({}), 1.25e9)


def make_growth() -> GrowthResult:
    """A fit to steps that follow the model, without measuring."""
    points = [
        ScalingPoint(
            StepCase(workers, size, 800_000, float("inf"), messages=11),
            0.004 + 0.0005 * size + 2e-4 * 22 * (workers - 1),
        )
        for workers in (1, 2)
        for size in (16, 32, 64)
    ]
    fit, case = fit_scaling(points), StepCase(1, 64, 800_000, 1.25e9, 5e-5, 11)
    weak, strong = scaling_curve(fit, case, growth="weak"), scaling_curve(fit, case)
    return GrowthResult(fit, 1.25e9, weak, strong, {"cpu": "a processor", "num_cores": 2})


def test_what_was_measured_is_published_as_json(tmp_path: Path):
    write_growth(make_growth(), tmp_path / "scaling.json")
    facts = json.loads((tmp_path / "scaling.json").read_text())
    assert [point["workers"] for point in facts["weak"]] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert facts["weak"][0]["speedup"] == pytest.approx(1.0)
    assert facts["weak"][-1]["speedup"] > facts["strong"][-1]["speedup"]
    assert facts["median_left_out_error"] < 0.01
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    for key in facts:
        assert f"`{key}`" in text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores")
def test_steps_of_this_machine_are_measured_and_shown(tmp_path: Path):
    dataset = make_dataset(tmp_path)
    chosen = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "ebox.cli", "doctor", "--scaling", "--for", str(dataset), *chosen]
    out = tmp_path / "scaling.json"
    done = subprocess.run([*command, "--out", str(out)], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "256" in done.stdout
    facts = json.loads(out.read_text())
    assert {point["workers"] for point in facts["points"]} >= {1, 2}
    assert all(point["seconds"] > 0 for point in facts["points"])
    assert facts["points"][-1]["message_bytes"] > facts["points"][0]["message_bytes"] == 0
