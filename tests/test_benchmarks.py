"""What benchmarks say of their measurements: no verdict that they do not carry, and no label that was not measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebox.settings.reading import make_config


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")


def test_a_difference_is_nothing_only_where_its_whole_interval_is_small():
    import augmentation

    assert augmentation.judge(-0.001, 0.002) == "nothing"
    assert augmentation.judge(-0.001, 0.004) == "not shown"
    assert augmentation.judge(0.001, 0.004) == "better"
    assert augmentation.judge(-0.004, -0.001) == "worse"


def test_two_seeds_give_no_verdict_and_many_comparisons_need_more():
    import augmentation

    own, default = [0.911, 0.912, 0.913, 0.9118], [0.9, 0.9, 0.9, 0.9]
    assert augmentation.compare(own[:1], default[:1], 1) == {
        "mean": pytest.approx(0.011),
        "n": 1,
        "says": "too few seeds",
    }
    assert augmentation.compare(own[:2], default[:2], 1)["says"] == "too few seeds"
    alone = augmentation.compare(own, default, 1)
    assert (alone["says"], alone["low"]) == ("better", alone["low_of_all"])
    among = augmentation.compare(own, default, 10_000)
    assert among["says"] == "not shown"
    assert (among["low"], among["high"]) == (alone["low"], alone["high"])
    assert among["low_of_all"] < 0.0


def test_comparisons_are_counted_over_sizes_ways_and_metrics():
    import augmentation

    enough = {(way, seed): {} for way in ("default", "noise", "mixup") for seed in range(3)}
    few = {("default", seed): {} for seed in range(3)} | {("noise", seed): {} for seed in range(2)}
    assert augmentation.count_comparisons({"1000": enough, "5000": few}) == 4
    assert augmentation.count_comparisons({"1000": {}}) == 1


def test_a_size_reaches_an_accuracy_with_all_seeds_alone():
    import transfer

    cells = [transfer.Cell("ecfc", 100), transfer.Cell("ecfc", 300)]
    arms = {"ecfc-100": (0.95, 2), "ecfc-300": (0.92, 5)}
    found = {name: {"arms": {"scratch": {"auroc": {"mean": mean, "n": n}}}} for name, (mean, n) in arms.items()}
    assert transfer._find_size(found, cells, "scratch") == "ecfc-300"
    assert transfer._find_size(found, cells[:1], "scratch") is None


def test_settings_that_a_run_did_not_have_are_named():
    import ensembles

    asked = make_config({"train": {"epochs": 3}, "ensemble": {"members": 5, "distil": True}})
    found = make_config({"train": {"epochs": 4}, "ensemble": {"members": 3, "distil": True}})
    assert ensembles.list_differences(asked, asked) == []
    assert ensembles.list_differences(asked, found) == ["train.epochs=4.0", "ensemble.members=3"]
