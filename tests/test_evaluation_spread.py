"""Several trainings are compared by one quantity: that of the headline."""

from __future__ import annotations

from typing import Any

import pytest

from ebox.evaluation.spread import SPREAD_METRICS, describe_spread


def _track(whole: float, without: float | None, taken: str = "with") -> dict[str, Any]:
    def section(value: float) -> dict[str, Any]:
        return {"metrics": {name: {"value": value, "low": None, "high": None} for name in SPREAD_METRICS}}

    parts = None if without is None else {"with": section(whole), "without": section(without), "taken": taken}
    chosen = whole if without is None or taken == "with" else without
    return {"splits": {"test": {**section(chosen), "relatives": parts}}}


@pytest.mark.parametrize(
    ("taken", "values"), [("with", [0.95, 0.97, 0.96]), ("without", [0.90, 0.89, 0.94])], ids=["with", "without"]
)
def test_every_seed_is_measured_with_relatives_or_without_as_the_run_is(taken: str, values: list[float]):
    others = {8: _track(0.97, 0.89, "without"), 9: _track(0.96, 0.94, "with")}
    found = describe_spread(_track(0.95, 0.90, taken), others, 7)
    assert found["seeds"] == [7, 8, 9]
    for metric in found["metrics"].values():
        assert metric["values"] == values
        assert (metric["min"], metric["max"]) == (min(values), max(values))


def test_mean_and_standard_deviation_are_those_of_a_sample():
    found = describe_spread(_track(0.90, None), {1: _track(0.92, None), 2: _track(0.94, None)}, 0)
    assert found["metrics"]["auroc"] == {
        "values": [0.90, 0.92, 0.94],
        "mean": 0.92,
        "sd": 0.02,
        "min": 0.90,
        "max": 0.94,
    }


def test_one_seed_and_a_test_split_without_metrics_have_no_spread():
    assert describe_spread(_track(0.9, None), {}, 0) is None
    bare = {"splits": {"test": {"metrics": None, "relatives": None}}}
    assert describe_spread(bare, {1: bare}, 0) is None
