"""The command line: its verbs, its speed, and what bad input gets: a message, code 2, nothing half-written."""

from __future__ import annotations

import gzip
import os
import re
import signal
import time
from pathlib import Path

import pytest

import processes
from ebox.cli.app import list_verbs

VERBS = [
    "bench",
    "build",
    "config",
    "demo",
    "doctor",
    "evaluate",
    "explain",
    "plan",
    "predict",
    "report",
    "run",
    "simulate",
    "train",
    "tune",
]


def ebox(*arguments: str | Path, cwd: Path | None = None, ends: int = 0) -> processes.Started:
    return processes.run(processes.ebox(*arguments), cwd=cwd, ends=ends)


def refused(*arguments: str | Path, cwd: Path | None = None) -> str:
    """The message for a person with which a command ends."""
    message = ebox(*arguments, cwd=cwd, ends=2).stderr
    assert "Traceback" not in message
    return message


def fasta(path: Path, *sequences: str) -> Path:
    path.write_text("".join(f">s{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))
    return path


def many(path: Path, count: int, seed: int, length: int = 60) -> Path:
    import numpy as np

    letters = np.array(list("ACGT"))
    rng = np.random.default_rng(seed)
    return fasta(path, *("".join(letters[rng.integers(0, 4, length)]) for _ in range(count)))


def test_the_verbs_are_these():
    help_text = ebox("--help").stdout
    assert sorted(re.findall(r"^  ([a-z]+)  ", help_text.partition("Commands:")[2], re.MULTILINE)) == VERBS


def test_an_option_for_one_file_is_refused_where_it_is_given_again(tmp_path: Path):
    one, other = many(tmp_path / "a.fa", 60, 0), many(tmp_path / "b.fa", 60, 1)
    message = refused("build", "--positives", one, f"--positives={other}", "--out", tmp_path / "d")
    assert "--positives takes one file, and is given 2 times" in message
    assert not (tmp_path / "d").exists()


def test_a_name_that_nothing_written_could_hold_is_refused(tmp_path: Path):
    named = many(tmp_path / os.fsdecode(b"b\xff.fa"), 60, 0)
    message = refused("build", "--positives", named, "--out", tmp_path / "d")
    assert r"b\xff.fa' is not text in UTF-8" in message
    assert "ln -s" in message
    assert not (tmp_path / "d").exists()


def test_the_list_of_verbs_shows_their_first_sentences():
    told = " ".join(ebox("--help").stdout.split())
    for verb, module in list_verbs().values():
        first = " ".join((verb.find_function(module).__doc__ or "").split()).partition(". ")[0].removesuffix(".")
        assert f"{verb.name} {first}." in told


def test_help_is_loaded_without_the_heavy_parts():
    program = (
        "import runpy, sys; sys.argv = ['ebox', '--help']\n"
        "try:\n    runpy.run_module('ebox', run_name='__main__')\nexcept SystemExit: pass\n"
        "bad = {'jax', 'numpy', 'polars', 'pydantic', 'pysam', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(' '.join(bad) or 0)"
    )
    assert "Commands:" in processes.run(processes.python(program)).stdout


def test_config_prints_settings_that_it_reads_back(tmp_path: Path):
    first = ebox("config", "--set", "train.epochs=20")
    (tmp_path / "c.toml").write_text(first.stdout)
    second = ebox("config", "--config", tmp_path / "c.toml")
    assert first.stdout == second.stdout
    assert "epochs = 20" in first.stdout


def test_the_doctor_names_devices_memory_and_what_is_missing():
    done = ebox("doctor")
    for word in ("devices", "memory", "jax", "cores"):
        assert word in done.stdout


@pytest.mark.slow
def test_the_doctor_compiles_the_step_for_machines_that_are_not_here():
    small = ("--set", "model.architecture=motif", "--set", "model.num_filters=8", "--set", "train.batch_size=12")
    done = ebox("doctor", "--topology", "cpu:8", *small)
    for words in (
        "cpu:8: the train step compiles",
        "2 a chip",
        "all-reduce",
        "bytes a step",
        "GFLOP",
        "4 of 16 places",
    ):
        assert words in done.stdout
    assert "write v5e:4x4" in refused("doctor", "--topology", "v5litepod-16")
    assert "no such dataset" in refused("doctor", "--topology", "cpu:2", "--for", "nowhere")
    assert "--topology" in refused("doctor", "--set", "train.epochs=2")


@pytest.mark.slow
def test_a_whole_session_by_hand(tmp_path: Path):
    simulated = ebox(
        *("simulate", "--motif", "MA0140.3", "--out", tmp_path / "s"),
        *("--set", "length_bp=60", "--set", "num_positives=200", "--set", "num_negatives=200"),
    )
    assert "ceiling" in simulated.stdout
    built = ebox(
        *("build", "--positives", tmp_path / "s" / "positives.fa", "--negatives", tmp_path / "s" / "negatives.fa"),
        *("--out", tmp_path / "d"),
    )
    assert "400 examples of 60 bp, 200 positive" in built.stdout
    settings = ("--set", "model.num_filters=4", "--set", "train.max_steps=6", "--set", "train.batch_size=16")
    trained = ebox("train", tmp_path / "d", "--out", tmp_path / "r", *settings)
    assert "step 6/6" in trained.stderr
    evaluated = ebox("evaluate", tmp_path / "r", "--set", "evaluation.num_bootstrap=100")
    assert "95 % interval" in evaluated.stdout
    ebox("predict", tmp_path / "r", "--fasta", tmp_path / "s" / "positives.fa", "--out", tmp_path / "scores.tsv")
    assert len((tmp_path / "scores.tsv").read_text().splitlines()) == 201
    ebox("report", tmp_path / "r")
    assert (tmp_path / "r" / "report.html").is_file()
    again = refused("train", tmp_path / "d", "--out", tmp_path / "r", *settings)
    assert "--overwrite" in again
    ebox("train", tmp_path / "d", "--out", tmp_path / "r", *settings, "--resume")


BAD_POSITIVES = {
    "empty": (b"", "empty"),
    "no header": (b"ACGT\n", "line 1"),
    "protein": (b">a\nMKLVFE\n", "protein"),
    "rna": (b">a\nACGU\n", "RNA"),
    "no sequence": (b">a\n>b\nACGT\n", "line 1"),
    "binary": (bytes(range(256)), "not text"),
    "truncated gzip": (gzip.compress(b"".join(b">%d\nACGT\n" % number for number in range(999)))[:600], "gzip"),
    "all n": (b">a\n" + b"N" * 60 + b"\n>b\n" + b"N" * 60 + b"\n", "positive"),
}


@pytest.mark.parametrize("name", BAD_POSITIVES)
def test_bad_positives_are_named_and_nothing_is_left(name: str, tmp_path: Path):
    data, word = BAD_POSITIVES[name]
    bad = tmp_path / "bad.fa"
    bad.write_bytes(data)
    negatives = many(tmp_path / "negatives.fa", 30, 0)
    message = refused("build", "--positives", bad, "--negatives", negatives, "--out", tmp_path / "d")
    assert word in message
    assert "bad.fa" in message or name == "all n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.fa", "negatives.fa"]


def test_a_plain_gzip_genome_says_how_to_index_it(tmp_path: Path):
    genome = tmp_path / "g.fa.gz"
    genome.write_bytes(gzip.compress(b">chr1\n" + b"ACGT" * 500 + b"\n"))
    (tmp_path / "p.bed").write_text("chr1\t100\t300\n")
    message = refused("build", "--peaks", tmp_path / "p.bed", "--genome", genome, "--out", tmp_path / "d")
    assert "bgzip" in message
    assert not (tmp_path / "d").exists()


def test_a_blacklist_that_would_do_nothing_is_refused(tmp_path: Path):
    many(tmp_path / "p.fa", 30, 1)
    (tmp_path / "b.bed").write_text("chr1\t1\t9\n")
    sources = ("--positives", tmp_path / "p.fa", "--blacklist", tmp_path / "b.bed")
    message = refused("build", *sources, "--out", tmp_path / "d")
    assert "no example has coordinates" in message


def test_lengths_that_vary_keep_most_of_the_sequences(tmp_path: Path):
    import random

    draw = random.Random(0)
    for name in ("p.fa", "n.fa"):
        fasta(tmp_path / name, *("".join(draw.choices("ACGT", k=draw.randint(100, 300))) for _ in range(200)))
    done = ebox("build", "--positives", tmp_path / "p.fa", "--negatives", tmp_path / "n.fa", "--out", tmp_path / "d")
    kept = int(done.stdout.split()[0])
    assert 375 <= kept < 400


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "--out", "r"], "positives"),
        (["run", "--out", "r", "--peaks", "p.bed"], "--genome"),
        (["run", "--out", "r", "--positives", "absent.fa"], "absent.fa"),
        (["run", "--out", "r", "--positives", "absent.fa", "--seeds", "0"], "give a whole number from 1 on"),
        (
            ["run", "--out", "r", "--positives", "absent.fa", "--seeds", "three"],
            "'--seeds': 'three' is not a whole number",
        ),
        (["train", "absent", "--out", "r", "--epochs", "ten"], "'--epochs': 'ten' is not a number"),
        (["run", "--out", "r", "--positives", "absent.fa", "--seed", "4294967295", "--seeds", "2"], "a lower --seed"),
        (["run", "--out", "r", "--positives", "."], "folder"),
        (["run", "--out", "r", "--positives", "absent.fa", "--set", "train.epoch=2"], "did you mean 'train.epochs'"),
        (["run", "--out", "r", "--positives", "absent.fa", "--config", "absent.toml"], "absent.toml"),
        (
            ["run", "--out", "r", "--positives", "absent.fa", "--split", "sideways"],
            "'sideways' is not one of 'auto', 'random', 'chromosome'",
        ),
        (
            ["train", "absent", "--out", "r", "--exchange", "exakt"],
            "'--exchange': 'exakt' is not one of 'exact', 'half', 'int8', 'topk', 'powersgd'; did you mean 'exact'?",
        ),
        (["train", "absent", "--out", "r", "--exchange", "7"], "'7' is not one of 'exact', "),
        (
            ["predict", "absent", "--fasta", "a.fa", "--out", "b.tsv", "--platform", "gpx"],
            "'--platform': 'gpx' is not one of 'auto', 'cpu', 'gpu', 'tpu'; did you mean 'gpu'?",
        ),
        (["doctor", "--parity", "--platform", "cpx"], "'cpx' is not one of 'auto', 'cpu', 'gpu', 'tpu'; did you mean"),
        (["train", "absent", "--out", "r"], "absent"),
        (["evaluate", "absent"], "absent"),
        (["predict", "absent", "--fasta", "a.fa", "--out", "b.tsv"], "absent"),
        (["report", "absent"], "absent"),
        (["simulate", "--motif", "MA0140.33", "--out", "s"], "MA0140"),
        (["simulate", "--motif", "MA0140.3", "--set", "lenght_bp=5", "--out", "s"], "length_bp"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_bad_commands_say_what_to_do(arguments: list[str], word: str, tmp_path: Path):
    message = refused(*arguments, cwd=tmp_path)
    assert word in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place_is_named(tmp_path: Path):
    tmp_path.chmod(0o500)
    message = refused("simulate", "--motif", "MA0140.3", "--out", tmp_path / "s")
    assert "choose an --out" in message


def test_an_out_below_a_file_is_named(tmp_path: Path):
    (tmp_path / "f").write_text("")
    message = refused("simulate", "--motif", "MA0140.3", "--out", tmp_path / "f" / "s")
    assert "not a folder" in message or "--out" in message


@pytest.mark.slow
def test_an_interrupted_training_goes_on(tmp_path: Path):
    many(tmp_path / "p.fa", 200, 1)
    many(tmp_path / "n.fa", 200, 2)
    ebox("build", "--positives", tmp_path / "p.fa", "--negatives", tmp_path / "n.fa", "--out", tmp_path / "d")
    settings = ("--set", "model.num_filters=4", "--set", "train.epochs=2000")
    command = processes.ebox("train", tmp_path / "d", "--out", tmp_path / "r", *settings)
    with processes.started(command, ends=130, seconds=60.0) as process:
        process.wait_until(lambda: "\nstep 128" in process.stderr)
        process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.stderr
    assert "--resume" in process.stderr
    assert list((tmp_path / "r" / "checkpoints").iterdir())


def test_the_first_command_answers_soon():
    """Not a benchmark (that is benchmarks/startup.py): only that nothing heavy crept in."""
    began = time.perf_counter()
    ebox("--help")
    assert time.perf_counter() - began < 5.0
