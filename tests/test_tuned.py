"""What a search trains and measures at the end: once, anew where anything differs, and with all reads counted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ebox.progress import quiet
from ebox.settings.reading import Config, make_config
from ebox.storage.reads import count_read, keep_reads
from ebox.storage.run_folder import clear_run, read_request
from ebox.storage.stamps import EVALUATION, write_stamped
from ebox.training.checkpoints import RunIdentity
from ebox.tuning.budget import Budget
from ebox.tuning.halving import Halving
from ebox.verbs import tuned
from ebox.verbs.evaluate import EvaluationResult
from ebox.verbs.tune_folder import check_folder, clear
from ebox.verbs.tuned import Final


class KilledError(BaseException):
    """Stands for a process that is gone."""


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a search, whose final trainings and evaluations only leave their marks."""

    def train(dataset: Path, place: Path, config: Config, *, overwrite: bool, **_: Any) -> None:
        if overwrite:
            clear_run(place)
        place.mkdir(parents=True, exist_ok=True)
        (place / "training.json").write_text(json.dumps({"identity": asdict(RunIdentity.of(config, "data"))}))

    def evaluate(run: Path, *, config: Config, **_: Any) -> EvaluationResult:
        reads = count_read(run, "test", None)
        facts = {"seeds": read_request(run)["seeds"], "num_bootstrap": config.evaluation.num_bootstrap, "reads": reads}
        write_stamped(run / "evaluation.json", EVALUATION, facts)
        return EvaluationResult(run / "evaluation.json", facts)

    monkeypatch.setattr(tuned, "train", train)
    monkeypatch.setattr(tuned, "evaluate", evaluate)
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def end(out: Path, seeds: list[int], num_bootstrap: int = 100, rate: float = 0.01) -> dict[str, Any]:
    """Train and measure; what the evaluation says."""
    config = make_config({"evaluation": {"num_bootstrap": num_bootstrap}, "train": {"learning_rate": rate}})
    final = Final(Path("data"), "data", out / "best", config, seeds, [])
    trained = final.train(Budget(Halving(3, 3), 3), quiet, quiet)
    facts = {"final_seeds": trained, "evaluation": config.evaluation.model_dump(mode="json")}
    final.measure(facts, quiet)
    found: dict[str, Any] = json.loads((out / "best" / "evaluation.json").read_text())
    return found


def count(out: Path) -> int:
    return int(json.loads((out / "test_reads.json").read_text())["tests"][0]["num_reads"])


def test_an_evaluation_is_made_once_and_again_where_seeds_or_its_settings_differ(out: Path):
    first = end(out, [1])
    assert end(out, [1]) == first
    assert end(out, [1, 2])["seeds"] == [1, 2]
    assert end(out, [1, 2], num_bootstrap=500)["num_bootstrap"] == 500
    assert count(out) == count(out / "best") == 3


def test_an_evaluation_that_was_killed_is_not_taken_from_the_one_before(out: Path, monkeypatch: pytest.MonkeyPatch):
    end(out, [1])
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(tuned, "evaluate", kill)
        end(out, [1, 2, 3])
    assert end(out, [1, 2, 3])["seeds"] == [1, 2, 3]
    # The other way round as well.
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(tuned, "evaluate", kill)
        end(out, [1])
    assert end(out, [1, 2, 3])["seeds"] == [1, 2, 3]


def kill(*_: Any, **__: Any) -> None:
    raise KilledError


def test_reads_are_counted_over_winners_kills_and_searches(out: Path, monkeypatch: pytest.MonkeyPatch):
    end(out, [1])
    clears = tuned.train

    def clear_and_die(*given: Any, **more: Any) -> None:
        clears(*given, **more)
        raise KilledError

    # Another winner takes the place of the first, and is killed.
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(tuned, "train", clear_and_die)
        end(out, [1], rate=0.02)
    assert not (out / "best" / "test_reads.json").exists()
    assert end(out, [1], rate=0.02)["reads"]["num_reads"] == 2
    # Measured by hand, then begun anew.
    count_read(out / "best", "test", None)
    (out / "journal.log").write_text("")
    clear(out)
    assert [path.name for path in out.iterdir()] == ["test_reads.json"]
    check_folder(out, resume=False, overwrite=False)
    assert end(out, [1])["reads"]["num_reads"] == 4


def test_of_two_counts_the_greater_holds(tmp_path: Path):
    for name, fingerprints in (("one", "aab"), ("other", "abbc")):
        (tmp_path / name).mkdir()
        for fingerprint in fingerprints:
            count_read(tmp_path / name, fingerprint, None)
    keep_reads(tmp_path / "one", tmp_path / "other")
    tests = json.loads((tmp_path / "other" / "test_reads.json").read_text())["tests"]
    assert {entry["fingerprint"]: entry["num_reads"] for entry in tests} == {"a": 2, "b": 2, "c": 1}
