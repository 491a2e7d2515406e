"""The settings behind the figures: what a file says of its score is what was kept, and ebox takes it as it stands."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ebox
import processes
from ebox.sequences import write_fasta

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("*.toml"))
KEPT = {path.stem.removeprefix("accuracy_"): path for path in (ROOT / "benchmarks" / "results").glob("accuracy_*.json")}


def _read_kept(task: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(KEPT[task].read_text())
    return facts


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark of accuracy."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import accuracy

    return accuracy


def test_every_task_has_a_file_and_a_result(accuracy: ModuleType):
    assert {task.path for task in accuracy.TASKS.values()} == set(FILES)
    assert set(accuracy.TASKS) == set(KEPT)


@pytest.mark.parametrize("task", sorted(KEPT))
def test_a_file_says_the_score_that_was_kept(task: str, accuracy: ModuleType):
    lines = accuracy.TASKS[task].path.read_text().splitlines()
    assert set(accuracy.describe_result(task, _read_kept(task))) <= set(lines), "run accuracy.note_score on the result"


def test_the_table_of_the_readme_is_that_of_what_was_kept(accuracy: ModuleType):
    assert accuracy.make_table() in (ROOT / "README.md").read_text(), "run accuracy.py table"


@pytest.mark.parametrize("task", sorted(KEPT))
def test_a_file_holds_the_settings_that_were_measured(task: str, accuracy: ModuleType):
    from ebox.settings.reading import make_config

    assert accuracy.TASKS[task].read_config(0) == make_config(_read_kept(task)["settings"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_opens_with_a_command_that_reads_it(path: Path, accuracy: ModuleType):
    *simulations, run = map(accuracy.read_command, accuracy.read_commands(path))
    assert run[0] == "run"
    assert run[1]["config"] == [f"configs/{path.name}"]
    for verb, options in simulations:
        assert verb == "simulate"
        ebox.read_simulation_config(options["motif"], options["motifs"], options["set"])
    settings = path.read_text().partition("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in settings)


def test_noting_a_score_replaces_the_one_before(accuracy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = accuracy.TASKS["gue4"].path.read_text()
    monkeypatch.setattr(accuracy, "CONFIGS", tmp_path)
    (tmp_path / "gue.toml").write_text(before)
    content = _read_kept("gue4")
    for seed in content["seeds"]:
        seed["test"]["with"]["metrics"]["auroc"]["value"] = 0.5
    accuracy.note_score("gue4", content)
    after = (tmp_path / "gue.toml").read_text()
    changed = [new for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert len(changed) == 1
    assert "0.5000" in changed[0]


@pytest.mark.slow
def test_ebox_run_takes_a_file(tmp_path: Path):
    motif = ebox.SimulationConfig(motifs=("MA0140.3",), length_bp=100, num_positives=60, num_negatives=60)
    drawn = ebox.simulate(motif)
    for name, codes in (("bound", drawn.positives), ("unbound", drawn.negatives)):
        write_fasta(tmp_path / f"{name}.fa", [f"s{number}" for number in range(60)], codes)
    few = ("train.max_steps=4", "evaluation.num_bootstrap=100", "evaluation.baselines=[]")
    words = ["run", "--positives", "bound.fa", "--negatives", "unbound.fa", "--out", "run"]
    words += ["--config", str(ROOT / "configs" / "simulated.toml"), *(word for one in few for word in ("--set", one))]
    processes.run(processes.ebox(*words), cwd=tmp_path)
    settings = ebox.read_config(tmp_path / "run" / "config.toml")
    assert settings.model == ebox.read_config(ROOT / "configs" / "simulated.toml").model
    assert (settings.train.max_steps, settings.train.negatives_per_positive) == (4, None)
