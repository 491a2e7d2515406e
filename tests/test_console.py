import io
import sys
import time
from pathlib import Path

import pytest

from ebox.cli.console import Display, note, say
from ebox.verbs.evaluate import describe_metrics

METRICS = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in ("auroc", "auprc", "accuracy", "mcc")}
RARE = [
    {
        "odds": odds,
        "auprc": {"value": 0.5 / odds},
        "calls": {
            "used": {"precision": {"value": 0.1}, "reason": None},
            "fdr": {"threshold": {"value": kept}, "sensitivity": {"value": 0.25}, "reason": None},
        },
    }
    for odds, kept in ((1.0, 0.75), (1000.0, None))
]
TEST = {
    "prevalences": RARE,
    "num_examples": 20,
    "num_positive": 10,
    "metrics": METRICS,
    "reason": None,
    "no_interval": None,
    "relatives": None,
}


def test_a_baseline_that_was_not_fitted_says_why() -> None:
    baselines = {
        "best_pwm": {"reason": {"code": "no_motif_fits", "num_motifs": 3, "length_bp": 8}, "splits": {}},
        "gc_logistic": {"reason": None, "splits": {"test": TEST}},
    }
    told = describe_metrics({"tracks": [{"track": "TAL1", "splits": {"test": TEST}, "baselines": baselines}]})
    assert "against best_pwm: not fitted: none of 3 motifs fits into sequences of 8 bp" in told
    assert "against gc_logistic: AUROC 0.5000, AUPRC 0.5000" in told
    assert "positives are 1:1: AUPRC 0.5000, precision 0.1000; at 0.7500 sensitivity 0.2500\n" in told
    assert "positives are 1:1,000: AUPRC 0.0005, precision 0.1000\n" in told


def test_the_spread_over_seeds_stands_below_the_intervals() -> None:
    spread = {"values": [0.945, 0.949], "mean": 0.947, "sd": 0.0028, "min": 0.945, "max": 0.949}
    seeds = {"code": "seeds", "seeds": [0, 1], "metrics": dict.fromkeys(METRICS, spread)}
    told = describe_metrics({"tracks": [{"track": "T", "splits": {"test": TEST}, "baselines": {}, "seeds": seeds}]})
    line = "Over 2 seeds, mean ± standard deviation: AUROC 0.9470 ± 0.0028, AUPRC 0.9470 ± 0.0028, "
    assert f"0.4000 to 0.6000)\n  {line}Accuracy 0.9470 ± 0.0028, MCC 0.9470 ± 0.0028.\n" in told


def test_too_few_to_measure_are_told_without_intervals() -> None:
    few = {"code": "few_clusters", "positive": 2, "negative": 40, "needed": 15}
    metrics = {name: {"value": 0.5, "low": None, "high": None} for name in METRICS}
    test = {**TEST, "metrics": metrics, "no_interval": few}
    told = describe_metrics({"tracks": [{"track": "TAL1", "splits": {"test": test}, "baselines": {}}]})
    assert "  auroc    0.5000\n" in told
    assert "no intervals: Independent positives: 2, independent negatives: 40" in told
    assert "needs 15 of each or more" in told


def test_a_track_that_was_not_measured_says_why() -> None:
    test = {"num_examples": 10, "num_positive": 0, "metrics": None, "reason": {"code": "no_positives"}}
    told = describe_metrics({"tracks": [{"track": "TAL1", "splits": {"test": test}, "baselines": {}}]})
    assert told == "TAL1, test split, 10 examples, 0 positive\n  not measured: no positives"


def test_streams_that_were_closed_are_written_to_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with Display() as display:
        display.stage("build")
        display.progress("cleaning", 1, 1)
    say("done")
    note("done")


def test_a_bar_that_begins_again_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with Display() as display:
        for done in (0, 8, 2):
            display.progress("training", done, 8)
        assert display._bars is not None
        (bar,) = display._bars.tasks
        assert (bar.completed, bar.finished) == (2, False)


def test_what_is_done_all_at_once_shows_the_time_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with (tmp_path / "said").open("w+") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Display() as display:
            display.progress("finding motifs", 0, 1)
            now = 140.0
            display.progress("finding motifs", 0, 1)
            now = 160.0
            display.progress("finding motifs", 1, 1)
    said = (tmp_path / "said").read_text()
    assert said == "finding motifs: 40 s elapsed\nfinding motifs: 1 of 1\n"


def test_the_end_of_a_stage_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with (tmp_path / "said").open("w+") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Display() as display:
            display.progress("measuring", 0, 9)
            for done in (9, 9, 9, 3, 9):
                now += 10.0
                display.progress("measuring", done, 9)
    # The stage that began again, with 3 of 9, ends with a line of its own.
    assert (tmp_path / "said").read_text() == "measuring: 9 of 9\n" * 2
