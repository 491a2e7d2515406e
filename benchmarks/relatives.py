"""How many relatives are found: planted pairs, shuffles, and real TAL1 beside the programs of the field.

    python benchmarks/relatives.py [--background 60000] [--pairs 1000] [--asked 2000]

Planted: sequences of 200 bp and changed copies of them among random ones; a copy is found where its original is among
its relatives. Real TAL1, split by chromosome: the share of test positives and negatives, and of dinucleotide shuffles
of them, that have a relative in train; where they are installed (Debian: cd-hit, mmseqs2), the same by `cd-hit-est-2d`
and `mmseqs easy-search`, with 80 % identity over half the window asked of each, within five minutes. Writes
results/relatives.json.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ebox.datasets.relatives import find_relatives
from ebox.sequences.codes import reverse_complement
from ebox.sequences.fasta import parse_locations, read_fasta, write_fasta
from ebox.sequences.shuffle import shuffle_dinucleotides
from machine import describe_machine, find_data, keep

LENGTH = 200
LIMIT_SECONDS = 300
TEST_CHROMS = ("chr1", "chr8", "chr9")
VALIDATION_CHROMS = ("chr2", "chr10")


def substitute(codes: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Another base at this share of the positions of each sequence."""
    changed = codes.copy()
    for row in changed:
        at = random.choice(LENGTH, round(share * LENGTH), replace=False)
        row[at] = (row[at] + random.integers(1, 4, len(at))) % 4
    return changed


def insert_and_delete(codes: np.ndarray, num: int, random: np.random.Generator) -> np.ndarray:
    """This number of single bases inserted or deleted in each sequence, filled up to its length."""
    changed = []
    for row in codes.tolist():
        for _ in range(num):
            at = int(random.integers(len(row)))
            if random.random() < 0.5:
                del row[at]
            else:
                row.insert(at, int(random.integers(4)))
        changed.append((row + random.integers(0, 4, LENGTH).tolist())[:LENGTH])
    return np.array(changed, dtype=np.uint8)


def shift_by_half(codes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The second half of each sequence, then other bases."""
    return np.concatenate(
        [codes[:, LENGTH // 2 :], random.integers(0, 4, (len(codes), LENGTH // 2)).astype(np.uint8)], axis=1
    )


PLANTED: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "5 % substitutions": lambda codes, random: substitute(codes, 0.05, random),
    "10 % substitutions": lambda codes, random: substitute(codes, 0.10, random),
    "15 % substitutions": lambda codes, random: substitute(codes, 0.15, random),
    "20 % substitutions": lambda codes, random: substitute(codes, 0.20, random),
    "10 indels": lambda codes, random: insert_and_delete(codes, 10, random),
    "half an overlap": shift_by_half,
}


def measure_planted(num_pairs: int, num_background: int) -> dict[str, dict[str, float]]:
    """The share of planted pairs that is found, and of queries that find a stranger."""
    random = np.random.default_rng(0)
    results = {}
    for name, change in PLANTED.items():
        first = random.integers(0, 4, (num_pairs, LENGTH)).astype(np.uint8)
        second = change(first, random)
        second[::2] = reverse_complement(second[::2])
        background = random.integers(0, 4, (num_background, LENGTH)).astype(np.uint8)
        num_sources = num_pairs + num_background
        codes = np.concatenate([first, background, second])
        began = time.perf_counter()
        found = find_relatives(codes, np.arange(num_sources, num_sources + num_pairs), np.arange(num_sources))
        is_partner = found.source == found.query - num_sources
        results[name] = {
            "found": len(np.unique(found.query[is_partner])) / num_pairs,
            "strangers": len(np.unique(found.query[~is_partner])) / num_pairs,
            "seconds": time.perf_counter() - began,
        }
        print(f"{name:20} found {results[name]['found']:7.1%}, strangers {results[name]['strangers']:.1%}")
    return results


def read_tal1() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real TAL1: the sequences, whether each is bound, and its split (0 train, 1 validation, 2 test)."""
    folder = find_data() / "tal1"
    parts = [read_fasta(folder / name) for name in ("bound.fa.gz", "unbound_matched.fa.gz")]
    chrom = np.concatenate([places.chrom for places in map(parse_locations, parts) if places is not None])
    split = np.where(np.isin(chrom, TEST_CHROMS), 2, np.where(np.isin(chrom, VALIDATION_CHROMS), 1, 0))
    bound = np.repeat([True, False], [len(part) for part in parts])
    return np.concatenate([part.matrix(LENGTH) for part in parts]), bound, split


def search_cd_hit(folder: Path) -> set[str]:
    """Names of the queries that CD-HIT (Li and Godzik 2006) puts with a source."""
    command = ["cd-hit-est-2d", "-i", "train.fa", "-i2", "test.fa", "-o", "out", "-c", "0.8", "-n", "5", "-r", "1"]
    command += ["-G", "0", "-aS", "0.5", "-T", "0", "-M", "0", "-d", "0"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT_SECONDS)
    lines = (folder / "out.clstr").read_text().splitlines()
    return {line.split(">")[1].split("...")[0] for line in lines if " at " in line}


def search_mmseqs(folder: Path) -> set[str]:
    """Names of the queries that MMseqs2 (Steinegger and Söding 2017) aligns to a source."""
    command = ["mmseqs", "easy-search", "test.fa", "train.fa", "out.m8", "work", "--search-type", "3", "-s", "7.5"]
    command += [
        "--min-seq-id",
        "0.8",
        "--min-aln-len",
        str(LENGTH // 2),
        "-k",
        "11",
        "--spaced-kmer-mode",
        "0",
        "-v",
        "1",
    ]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, cwd=folder, check=True, timeout=LIMIT_SECONDS, **quiet)
    return {line.split("\t")[0] for line in (folder / "out.m8").read_text().splitlines()}


PROGRAMS = {"cd-hit-est-2d": search_cd_hit, "mmseqs": search_mmseqs}


def measure_real(num_asked: int) -> dict[str, Any]:
    """The share of test sequences, and of shuffles of them, with a relative in train, by ebox and by other programs."""
    codes, bound, split = read_tal1()
    random = np.random.default_rng(1)
    train = np.flatnonzero(split == 0)
    asked = {
        name: np.sort(random.permutation(np.flatnonzero((split == 2) & (bound == label)))[:num_asked])
        for name, label in (("positives", True), ("negatives", False))
    }
    rows = np.concatenate(list(asked.values()))
    every = np.concatenate([codes, shuffle_dinucleotides(codes[rows], 7)])
    shuffled = np.arange(len(codes), len(every))
    began = time.perf_counter()
    found = set(find_relatives(every, np.concatenate([rows, shuffled]), train).query.tolist())
    results: dict[str, Any] = {"ebox": {"seconds": time.perf_counter() - began}}
    groups = {**asked, "shuffles": shuffled}
    results["ebox"] |= {name: float(np.mean([row in found for row in part.tolist()])) for name, part in groups.items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_fasta(folder / "train.fa", [f"t{row}" for row in train.tolist()], every[train])
        queries = np.concatenate([rows, shuffled])
        write_fasta(folder / "test.fa", [f"q{row}" for row in queries.tolist()], every[queries])
        for program, search in PROGRAMS.items():
            if shutil.which(program) is None:
                print(f"{program} is not installed: left out")
                continue
            began = time.perf_counter()
            try:
                names = search(folder)
            except subprocess.TimeoutExpired:
                print(f"{program} did not end within {LIMIT_SECONDS} s")
                results[program] = {"did_not_end_within_seconds": LIMIT_SECONDS}
                continue
            facts = {
                name: float(np.mean([f"q{row}" in names for row in part.tolist()])) for name, part in groups.items()
            }
            ours = {f"q{row}" for row in found}
            both = len(ours & names) / max(1, len(names))
            results[program] = {"seconds": time.perf_counter() - began, **facts, "also_found_by_ebox": both}
    for program, facts in results.items():
        print(program, {name: round(value, 4) for name, value in facts.items()})
    return results


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description="How many relatives are found")
    parser.add_argument("--background", type=int, default=60_000)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--asked", type=int, default=2000)
    options = parser.parse_args()
    print(describe_machine())
    facts = {"pairs": options.pairs, "background": options.background, "length_bp": LENGTH, "asked": options.asked}
    planted = measure_planted(options.pairs, options.background)
    keep("relatives", {**facts, "planted": planted, "tal1": measure_real(options.asked)})


if __name__ == "__main__":
    main()
