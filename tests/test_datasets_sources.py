"""Sources are read once: a pipe is as good as a file, and each has the hash of what was read."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import processes
from ebox.datasets.build import build_dataset
from ebox.datasets.sources import DatasetSources
from ebox.errors import InputError
from ebox.sequences import Genome, read_motifs
from ebox.settings.reading import DataConfig
from ebox.storage.publishing import claim_folder


def _fasta(num: int, seed: int) -> bytes:
    codes = np.random.default_rng(seed).integers(0, 4, (num, 60))
    rows = ("".join("ACGT"[code] for code in row) for row in codes)
    return "".join(f">r{number}\n{row}\n" for number, row in enumerate(rows)).encode()


def _pipe(path: Path, content: bytes) -> Path:
    """A named pipe into which a thread writes once."""
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()
    return path


def _sources(folder: Path) -> list[tuple[str, str]]:
    manifest = json.loads((folder / "manifest.json").read_text())
    return [(source["role"], source["sha256"]) for source in manifest["sources"]]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("is_packed", [False, True])
def test_named_pipes_are_read_once_and_hashed_as_read(tmp_path: Path, is_packed: bool):
    bound, unbound = _fasta(3000, 0), _fasta(3000, 1)
    if is_packed:
        bound, unbound = gzip.compress(bound), gzip.compress(unbound)
    dataset = build_dataset(
        DataConfig(),
        tmp_path / "out",
        DatasetSources(positives=_pipe(tmp_path / "p", bound), negatives=(_pipe(tmp_path / "n", unbound),)),
    )
    assert len(dataset) == 6000
    assert _sources(tmp_path / "out") == [("positives", _hash(bound)), ("negatives", _hash(unbound))]


def test_a_table_through_a_pipe_is_hashed_as_read(tmp_path: Path):
    rows = [line.decode() for line in _fasta(80, 0).split()[1::2]]
    table = "sequence,label\n" + "".join(f"{row},{number % 2}\n" for number, row in enumerate(rows))
    build_dataset(DataConfig(), tmp_path / "out", DatasetSources(table=_pipe(tmp_path / "t", table.encode())))
    assert _sources(tmp_path / "out") == [("table", _hash(table.encode()))]


@pytest.mark.parametrize("negatives", ["shuffled", "matched"])
def test_the_genome_and_the_blacklist_are_among_the_sources_once(tmp_path: Path, negatives: str):
    contigs = {f"chr{number}": _fasta(300, number).replace(b"\n", b"") for number in (1, 2, 3)}
    contigs = {name: bytes(letter for letter in text if letter in b"ACGT") for name, text in contigs.items()}
    genome = b"".join(b">%s\n%s\n" % (name.encode(), text) for name, text in contigs.items())
    (tmp_path / "genome.fa").write_bytes(genome)
    places = [(name, start) for name in contigs for start in range(1000, 15_000, 1000)]
    peaks = "".join(f"{name}\t{start}\t{start + 100}\n" for name, start in places).encode()
    black = b"chr3\t16000\t16500\n"
    build_dataset(
        DataConfig(length_bp=60, min_peak_distance_bp=100, test_chroms=("1",), negatives=(negatives,)),
        tmp_path / "out",
        DatasetSources(
            peaks=_pipe(tmp_path / "peaks", peaks),
            genome=tmp_path / "genome.fa",
            blacklist=_pipe(tmp_path / "black", black),
        ),
    )
    assert _sources(tmp_path / "out") == [
        ("peaks", _hash(peaks)),
        ("genome", _hash(genome)),
        ("blacklist", _hash(black)),
    ]


def test_what_is_read_more_than_once_is_refused_as_a_pipe_without_opening_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for read in (Genome, read_motifs):
        # Nobody writes into the pipe: opening it would wait for ever.
        with pytest.raises(InputError, match=r"is a pipe or a device(.|\n)*write it to a file first"):
            read(tmp_path / "pipe")


def _write_two(folder: Path) -> DatasetSources:
    (folder / "p.fa").write_bytes(_fasta(60, 0))
    (folder / "n.fa").write_bytes(_fasta(60, 1))
    return DatasetSources(positives=folder / "p.fa", negatives=(folder / "n.fa",))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_build_into_one_folder_is_refused(tmp_path: Path, overwrite: bool):
    sources = _write_two(tmp_path)
    with (
        claim_folder(tmp_path / "out"),
        pytest.raises(InputError, match="another ebox is writing to this folder"),
    ):
        build_dataset(DataConfig(), tmp_path / "out", sources, overwrite=overwrite)
    assert not (tmp_path / "out").exists()
    build_dataset(DataConfig(), tmp_path / "out", sources)


_CUT_OFF = """
import os, signal, sys
from pathlib import Path
from ebox.datasets import build, writing
from ebox.datasets.sources import DatasetSources
from ebox.settings.data import DataConfig
writing.write_dropped = lambda path, log: os.kill(os.getpid(), signal.SIGKILL)
p, n, out = map(Path, sys.argv[1:])
build.build_dataset(DataConfig(), out, DatasetSources(positives=p, negatives=(n,)))
"""


def test_a_build_that_was_killed_does_not_block_the_next(tmp_path: Path):
    sources = _write_two(tmp_path)
    command = processes.python(_CUT_OFF, tmp_path / "p.fa", tmp_path / "n.fa", tmp_path / "out")
    processes.run(command, ends=-9)
    assert len(build_dataset(DataConfig(), tmp_path / "out", sources)) == 120


def test_a_build_that_fails_takes_back_the_folders_it_made(tmp_path: Path):
    (tmp_path / "p.fa").write_text(">a\nMKWVTF\n")
    with pytest.raises(InputError, match=r"p\.fa"):
        build_dataset(
            DataConfig(negatives=("shuffled",)), tmp_path / "a" / "b", DatasetSources(positives=tmp_path / "p.fa")
        )
    assert os.listdir(tmp_path) == ["p.fa"]
