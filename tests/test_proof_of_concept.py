"""The protocol of a proof of concept is true: its commands run in its order, on small files under its names."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import processes
from ebox.planning.criteria import read_criteria
from ebox.sequences import SimulationConfig, draw_simulation, write_fasta

PAGE = (Path(__file__).parents[1] / "docs" / "proof_of_concept.md").read_text()
QUICK = """[train]
max_steps = 40
validations = 2
precision = "float32"
[model]
architecture = "motif"
num_filters = 4
dense_units = [4]
[evaluation]
num_bootstrap = 100
"""
# What makes a command quick on small data, by its verb.
MORE = {
    "bench": ["--config", "quick.toml", "--only", "steps"],
    "plan": ["--slices", "none"],
    "train": ["--config", "quick.toml"],
    "evaluate": ["--set", "evaluation.num_bootstrap=100", "--set", "evaluation.baselines=['kmer_logistic']"],
}
# Parts of a bench that take minutes on any data; tests of the bench measure them.
LONG = ("--curve", "--noise")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line]


def test_every_step_has_a_command_and_every_command_is_of_ebox():
    steps = re.findall(r"^## (\d)\. .*?(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert steps == [str(number) for number in range(1, 8)]
    assert all(line.startswith("ebox ") for line in commands())
    verbs = [line.split()[1] for line in commands()]
    assert verbs == ["build", "bench", "plan", "train", "evaluate", "report", "predict", "evaluate", "plan"]


def test_the_criteria_of_the_page_are_a_file_that_can_be_read(tmp_path: Path):
    file = tmp_path / "criteria.toml"
    file.write_text(blocks("toml")[0])
    assert read_criteria(file).changed == {"experiments.cost", "experiments.wanted", "people.setup_hours"}


def test_parts_that_are_left_out_here_are_parts_of_a_bench():
    told = processes.run(processes.ebox("bench", "--help")).stdout
    assert all(re.search(rf"^  {part}\b", told, re.MULTILINE) for part in LONG)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with small files under the names of the page."""
    rng = np.random.default_rng(0)
    config = SimulationConfig(motifs=("MA0140.3",), length_bp=200, num_positives=400, num_negatives=40)
    drawn = draw_simulation(config)
    letters = np.array(list("ACGTN"))
    sites = ["".join(letters[row]) for row in drawn.positives]
    with (tmp_path / "hg38.fa").open("w") as genome, (tmp_path / "peaks.bed").open("w") as peaks:
        for number in range(1, 11):
            bases = rng.choice(list("ACGT"), 120_000)
            for place, start in enumerate(range(2000, 118_000, 3000)):
                bases[start : start + 200] = list(sites[(number * 39 + place) % 400])
                peaks.write(f"chr{number}\t{start}\t{start + 200}\n")
            genome.write(f">chr{number}\n{''.join(bases)}\n")
    (tmp_path / "candidates.bed").write_text("chr1\t50000\t50200\nchr2\t92000\t93000\n")
    names = [f"s{number}" for number in range(40)]
    write_fasta(tmp_path / "confirmed.fa", names, drawn.positives[:40])
    write_fasta(tmp_path / "refuted.fa", names, drawn.negatives[:40])
    (tmp_path / "criteria.toml").write_text(blocks("toml")[0])
    (tmp_path / "quick.toml").write_text(QUICK)
    return tmp_path


@pytest.mark.slow
def test_every_step_runs_in_its_order(place: Path):
    for command in commands():
        words = [word for word in shlex.split(command)[1:] if word not in LONG]
        processes.run(processes.ebox(*words, *MORE.get(words[0], [])), cwd=place, seconds=600.0)
    decision = json.loads((place / "plan" / "decision" / "decision.json").read_text())
    assert decision["answer"]["word"] in ("go", "wait", "stop")
    assert decision["worth"]["work"]["cost"] == 150.0
    assert (place / "plan" / "decision" / "decision.html").is_file()
