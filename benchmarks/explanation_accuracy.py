"""What explanations find, against what is known: planted motifs in simulated sequences, TAL1's motifs in real ones.

    python benchmarks/explanation_accuracy.py RUNS                 both
    python benchmarks/explanation_accuracy.py RUNS simulated       one

RUNS is a folder for the trained runs; a run that is there already is not trained again, which would take minutes.
`simulated` plants TAL1_known4 in 500 bp and trains the default network for 6 epochs; `one_layer` trains the small
network of accuracy.py on the same; `matched` is real TAL1, default settings. The last two are trained with two seeds,
which are compared. Prints whether each goal is reached, and keeps the facts in results/explanation_NAME.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accuracy import TASKS
from ebox import explain
from ebox.settings.reading import read_config
from ebox.verbs.run import run
from machine import describe_machine, find_data, keep

# The task of each run; the default network learns the simulated one in fewer epochs than real ones.
RUNS: Mapping[str, str] = {"simulated": "simulated", "one_layer": "simulated", "matched": "matched"}
DEFAULT_NETWORK_EPOCHS = 6
SEEDS: Mapping[str, tuple[int, ...]] = {"simulated": (0,), "one_layer": (0, 1), "matched": (0, 1)}


def prepare(folder: Path, name: str, seed: int) -> Path:
    """The run of a seed; trained where it is not there."""
    task = TASKS[RUNS[name]]
    place = folder / f"{name}_{seed}"
    if not (place / "report.html").exists():
        source = folder / f"{RUNS[name]}_data"
        source.mkdir(parents=True, exist_ok=True)
        default = {"train.seed": seed, "train.epochs": DEFAULT_NETWORK_EPOCHS}
        config = read_config(flags=default) if name == "simulated" else task.read_config(seed)
        run(place, task.prepare(source), config, overwrite=place.exists())
    return place


def judge_simulated(facts: Mapping[str, Any]) -> dict[str, bool]:
    """The goals on planted motifs."""
    recovery = {entry["method"]: entry["auroc"]["value"] for entry in facts["proof"]["recovery"]}
    planted = facts["proof"]["planted_motifs"][0]
    goals = {
        f"AUROC {method}": value >= (0.97 if method == "saturation" else 0.95) for method, value in recovery.items()
    }
    goals["found first"] = planted["rank"] == 1
    goals["q < 1e-4"] = planted["q_value"] is not None and planted["q_value"] < 1e-4
    return goals


def judge_real(facts: Mapping[str, Any]) -> dict[str, bool]:
    """The goals on TAL1: the composite, or a GATA and an E-box, and the spacing of the literature."""
    finds = {
        match["id"].partition(".")[0]
        for motif in facts["motifs"]
        for match in motif["matches"]
        if match["q_value"] < 0.01
    }
    pair = facts["grammar"]["pair"]
    low, high = pair["expected"]["gap_bp"]
    best = pair["best"]
    return {
        "composite, or GATA and E-box, q < 0.01": "MA0140" in finds or {"MA0035", "MA0091"} <= finds,
        "spacing of the literature": low <= best["gap_bp"] <= high and best["arrangement"] == "++",
    }


def measure(folder: Path, name: str) -> bool:
    """Explain, judge, print, keep."""
    first, *others = [prepare(folder, name, seed) for seed in SEEDS[name]]
    files = (find_data() / "motifs" / "encode_tal1.meme",)
    for other in others:
        if not (other / "explanation").is_dir():
            explain(other, motifs=files)
    began = time.perf_counter()
    facts = explain(first, motifs=files, against=others[0] if others else None).facts
    seconds = time.perf_counter() - began
    reached = judge_real(facts) if name == "matched" else judge_simulated(facts)
    print(f"{name}: {'reached' if all(reached.values()) else 'NOT reached'}: {reached}; {seconds:.0f} s", flush=True)
    motifs = [
        {key: value for key, value in motif.items() if key not in ("probabilities", "contributions")}
        for motif in facts["motifs"]
    ]
    for motif in motifs:
        # What is kept must not name a place of this machine.
        motif["matches"] = [{**match, "source": Path(match["source"]).name} for match in motif.get("matches", [])]
    pair = facts["grammar"]["pair"]
    keep(
        f"explanation_{name}",
        {
            "task": name,
            "seconds": seconds,
            "reached": reached,
            "sequences": facts["sequences"],
            "attribution": facts["attribution"],
            "motifs": motifs,
            "pair": pair,
            "proof": facts["proof"],
        },
    )
    return all(reached.values())


def main(arguments: list[str]) -> int:
    """Measure the tasks named, or all."""
    if not arguments:
        raise SystemExit(__doc__)
    print(describe_machine(), flush=True)
    names = arguments[1:] if len(arguments) > 1 else list(RUNS)
    outcomes = [measure(Path(arguments[0]), name) for name in names]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
