"""A gapped k-mer SVM beside the baseline on gapped k-mers: real TAL1, bound against matched, split by chromosome.

    python -m venv FOLDER && FOLDER/bin/python -m pip install gkmsvm-lite
    python benchmarks/gapped_kmer_svm.py --program FOLDER/bin/gkmsvm --train 2000

The SVM (LS-GKM's kernel with its default settings: words of 11 of which 7 count, up to 3 mismatches) takes time with
the square of its training examples, so it gets a sample, half of each class; the baselines get the same and then all.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ebox.evaluation.baselines import BaselineResult, LabelledCodes, fit_kmer_logistic
from ebox.evaluation.gapped_kmers import fit_gapped_kmer_logistic
from ebox.evaluation.metrics import compute_metrics
from ebox.evaluation.split_metrics import squash
from ebox.sequences import decode
from ebox.sequences.fasta import read_fasta
from machine import find_data, keep

SPLIT_OF = dict.fromkeys(("chr2", "chr10"), "validation") | dict.fromkeys(("chr1", "chr8", "chr9"), "test")


def main() -> None:
    """Measure the SVM and the baselines, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="the program gkmsvm of gkmsvm-lite")
    parser.add_argument("--train", type=int, default=2000, help="training examples of the SVM")
    parser.add_argument("--test", type=int, help="test examples that all are measured on, drawn as they are; none: all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    splits = read_splits(find_data() / "tal1")
    if arguments.test is not None:
        splits["test"] = splits["test"].sample(arguments.test, arguments.seed)
    sample = draw(splits["train"], arguments.train, arguments.seed)
    rows = [measure_svm(arguments.program, sample, splits["test"])]
    for train in (sample, splits["train"]):
        for fit in (fit_gapped_kmer_logistic, fit_kmer_logistic):
            began = time.perf_counter()
            fitted: BaselineResult = fit(train, splits["validation"])
            rows.append(describe(fitted.name, train, splits["test"], fitted.predict(splits["test"].codes), began))
            print(rows[-1], flush=True)
    sizes = {name: [len(part.targets), int(part.targets.sum())] for name, part in splits.items()}
    keep("gapped_kmer_svm", {"splits": sizes, "seed": arguments.seed, "rows": rows})


def read_splits(folder: Path) -> dict[str, LabelledCodes]:
    """TAL1-bound loci and matched ones by chromosome."""
    parts = [read_fasta(folder / f"{name}.fa.gz") for name in ("bound", "unbound_matched")]
    codes = np.concatenate([part.matrix(200) for part in parts])
    targets = np.arange(len(codes)) < len(parts[0])
    names = [name for part in parts for name in part.names]
    splits = np.array([SPLIT_OF.get(name.split(":")[0], "train") for name in names])
    return {
        name: LabelledCodes(codes[splits == name], targets[splits == name]) for name in ("train", "validation", "test")
    }


def draw(train: LabelledCodes, size: int, seed: int) -> LabelledCodes:
    """Half of each class."""
    random = np.random.default_rng(seed)
    classes = (np.flatnonzero(train.targets), np.flatnonzero(~train.targets))
    rows = np.sort(np.concatenate([random.choice(every, size // 2, replace=False) for every in classes]))
    return LabelledCodes(train.codes[rows], train.targets[rows])


def measure_svm(program: str, train: LabelledCodes, test: LabelledCodes) -> dict[str, Any]:
    """Train and score with the SVM's own program."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for name, codes in (
            ("positives", train.codes[train.targets]),
            ("negatives", train.codes[~train.targets]),
            ("test", test.codes),
        ):
            text = "".join(f">{number}\n{decode(row)}\n" for number, row in enumerate(codes))
            (place / f"{name}.fa").write_text(text)
        began = time.perf_counter()
        files = ["-p", place / "positives.fa", "-n", place / "negatives.fa", "-o", place / "model.npz"]
        subprocess.run([program, "train", *map(str, files), "--device", "cpu"], check=True)
        trained = time.perf_counter() - began
        files = ["-m", place / "model.npz", "-i", place / "test.fa", "-o", place / "scores.tsv"]
        subprocess.run([program, "predict", *map(str, files), "--device", "cpu"], check=True)
        lines = [line.split("\t") for line in (place / "scores.tsv").read_text().splitlines()]
        scores = {line[0]: float(line[1]) for line in lines if line[0].isdigit()}
    found = np.array([scores[str(number)] for number in range(len(test.targets))])
    row = describe("gapped_kmer_svm", train, test, found, began) | {"train_seconds": round(trained, 1)}
    print(row, flush=True)
    return row


def describe(name: str, train: LabelledCodes, test: LabelledCodes, scores: np.ndarray, began: float) -> dict[str, Any]:
    """Metrics on test, and the seconds since `began`."""
    metrics = compute_metrics(test.targets, squash(scores))
    found = {key: round(float(metrics[key]), 4) for key in ("auroc", "auprc")}
    return {"name": name, "num_train": len(train.targets), **found, "seconds": round(time.perf_counter() - began, 1)}


if __name__ == "__main__":
    main()
