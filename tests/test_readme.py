"""The README is true: its commands and its program run, on small files under the names that it uses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import processes
from ebox.sequences import SimulationConfig, draw_simulation, write_fasta

README = (Path(__file__).parents[1] / "README.md").read_text()
QUICK = "[train]\nmax_steps = 20\n[model]\nnum_filters = 8\n[evaluation]\nnum_bootstrap = 100\n"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in _blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("ebox ")]


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small files under the README's names."""
    folder = tmp_path_factory.mktemp("readme")
    config = SimulationConfig(motifs=("MA0140.3",), length_bp=200, num_positives=150, num_negatives=150)
    drawn = draw_simulation(config)
    names = [f"s{number}" for number in range(150)]
    write_fasta(folder / "bound.fa", names, drawn.positives)
    write_fasta(folder / "unbound.fa", names, drawn.negatives)
    write_fasta(folder / "new.fa", names[:20], drawn.positives[:20])
    write_fasta(folder / "hsc.fa", names[:100], drawn.positives[:100])
    write_fasta(folder / "ecfc.fa", names[50:], drawn.positives[50:])
    (folder / "tracks.tsv").write_text("track\tpositives\nHSC\thsc.fa\nECFC\tecfc.fa\n")
    rng = np.random.default_rng(0)
    chroms = ("chr1", "chr2", "chr3")
    with (folder / "hg38.fa").open("w") as genome, (folder / "peaks.bed").open("w") as peaks:
        for chrom in chroms:
            letters = rng.choice(list("ACGT"), 300_000)
            repeats = np.arange(300_000) % 7_000 < 2_000
            genome.write(f">{chrom}\n{''.join(np.where(repeats, np.char.lower(letters), letters))}\n")
            for start in range(5000, 300_000, 6000):
                peaks.write(f"{chrom}\t{start}\t{start + 300}\n")
    (folder / "others.bed").write_text("chr1\t150000\t150300\nchr2\t92000\t93000\n")
    return folder


# Trainings by groups of processes and explanations take longer than all the other commands together.
LONG = re.compile("--parity|--processes|--ensemble|^ebox explain")


@pytest.mark.slow
def test_every_command_runs(place: Path):
    _run_commands(place, [command for command in _commands() if not LONG.search(command)])
    assert (place / "runs" / "tal1" / "report.html").is_file()
    assert (place / "scores.tsv.gz").is_file()
    assert (place / "decision" / "decision.html").is_file()


@pytest.mark.slow
def test_every_long_command_runs(place: Path):
    before = re.compile("ebox (simulate|build --positives|run --positives bound.fa --negatives)")
    chosen = [command for command in _commands() if LONG.search(command) or before.match(command)]
    assert len(chosen) == 9
    _run_commands(place, chosen)


def _run_commands(place: Path, commands: Sequence[str]) -> None:
    (place / "quick.toml").write_text(QUICK)
    (place / "space.toml").write_text("[train]\nlearning_rate = {low = 1e-3, high = 3e-2, log = true}\n")
    for command in commands:
        words = shlex.split(command.replace(" > settings.toml", ""))[1:]
        if words[0] in {"run", "train", "tune"} and "--config" not in words:
            words += ["--config", "quick.toml"]
        if words[0] == "tune":
            words += ["--seeds", "1", "--space", "space.toml", "--overwrite"]
        if words[0] == "run":
            words += ["--overwrite"]
        if words[0] == "bench":
            words += ["--config", "quick.toml", "--only", "steps"]
        if words[0] == "plan":
            words += ["--slices", "none"]
        if words[0] == "explain":
            # A network of 20 steps may call nothing; and few sequences say as much of the command.
            for setting in ("sequences='positive'", "num_checked=10", "num_backgrounds=10", "max_gap_bp=3"):
                words += ["--set", f"explanation.{setting}"]
        if "--parity" in words:
            words += ["--workers", "2"]
        if words[0] == "simulate":
            words += ["--set", "num_positives=150", "--set", "num_negatives=150"]
        processes.run(processes.ebox(*words), cwd=place, seconds=600.0)


@pytest.mark.slow
def test_the_program_runs(place: Path):
    program = "\n".join(_blocks("python"))
    quick = '["train.max_steps=20", "model.num_filters=8", "evaluation.baselines=[]"]'
    program = program.replace('["train.epochs=12"]', quick).replace("runs/tal1", "runs/python")
    assert quick in program
    done = processes.run(processes.python(program), cwd=place)
    assert done.stdout.startswith("(0.")
    assert (place / "logo.svg").read_text().startswith("<svg")


def test_pictures_and_links_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (Path(__file__).parents[1] / target).exists(), target


def test_make_targets_are_there():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
