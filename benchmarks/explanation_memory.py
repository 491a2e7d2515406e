"""Memory and time to explain many sequences, and to find motifs in ten thousand.

    python benchmarks/explanation_memory.py RUN [--sequences 50000] [--discovery 10000] [--method deeplift]

Real unbound loci of the data folder are explained with `ebox explain RUN --fasta`, which streams to disk; then motifs
are discovered in the contributions of bound loci. The greatest resident memory is read from the operating system: of
each process for the first, of the discovery's own process for the second.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ebox.explanation.attribution import attribute
from ebox.explanation.discovery import discover
from ebox.explanation.matching import gather_targets
from ebox.models.files import load_model
from ebox.sequences import read_fasta, write_fasta
from ebox.settings.reading import ExplanationConfig
from machine import describe_machine, find_data, keep


def explain_many(run: str, count: int, method: str, folder: Path) -> dict[str, object]:
    """Explain `count` loci with the command line."""
    loci = read_fasta(find_data() / "tal1" / "unbound_matched.fa.gz")
    write_fasta(folder / "loci.fa", None, loci.take(np.arange(min(count, len(loci)))))
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "ebox.cli.app",
        "explain",
        run,
        "--method",
        method,
        "--fasta",
        str(folder / "loci.fa"),
    ]
    process = subprocess.Popen([*command, "--out", str(folder / "out")])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("ebox explain failed")
    seconds = time.perf_counter() - began
    return {"sequences": count, "method": method, "seconds": seconds, "max_resident_bytes": usage.ru_maxrss * 1024}


def discover_many(run: str, count: int, folder: Path) -> dict[str, object]:
    """Find motifs in the contributions of bound loci."""
    model = load_model(run)
    bound = read_fasta(find_data() / "tal1" / "bound.fa.gz").matrix()
    codes = np.concatenate([bound, read_fasta(find_data() / "tal1" / "unbound_matched.fa.gz").matrix()])[:count]
    config = ExplanationConfig(max_seqlets=20_000)
    found = attribute(model.network, codes, config, 0, store=folder / "store")
    began = time.perf_counter()
    found_motifs = discover(found.codes, found.hypothetical, gather_targets(()), config)
    return {
        "sequences": len(codes),
        "seconds": time.perf_counter() - began,
        "max_resident_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "motifs": [
            {
                "consensus": motif.motif.consensus,
                "sites": len(motif.sites),
                "best": None if motif.best is None else [motif.best.id, motif.best.name, motif.best.q_value],
            }
            for motif in found_motifs.motifs
        ],
    }


def main() -> None:
    """Explain, discover, print, keep."""
    parser = argparse.ArgumentParser(description="Memory of explanations")
    parser.add_argument("run")
    parser.add_argument("--sequences", type=int, default=50_000)
    parser.add_argument("--discovery", type=int, default=10_000)
    parser.add_argument("--method", default="deeplift")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        if options.sequences:
            explained = explain_many(options.run, options.sequences, options.method, Path(temporary))
            print(f"explained: {explained}", flush=True)
            keep("explanation_memory", explained)
        if options.discovery:
            discovery = discover_many(options.run, options.discovery, Path(temporary))
            print(f"discovery: {discovery}", flush=True)
            keep("explanation_discovery", discovery)


if __name__ == "__main__":
    main()
