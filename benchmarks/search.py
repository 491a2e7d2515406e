"""The search: against random search at equal wall clock, and killed at random moments against an undisturbed one.

    python benchmarks/search.py [--repeats 10] [--seconds 90] [--kills 20] [--processes 2]

The first part searches settings for real TAL1 loci, some of those of the demo: by halving with a sampler that learns,
and at random with whole trainings; both have the same time, the same first trial and the same seed, in turns. The
second part runs `ebox tune --trials`, kills it at a random moment, goes on with --resume, and compares every trial.
Writes results/search.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ebox.datasets.folder import open_dataset
from ebox.errors import InputError
from ebox.settings.reading import Config, make_config
from ebox.training.sampling import make_order
from ebox.tuning.budget import Budget
from ebox.tuning.halving import Halving
from ebox.tuning.journal import Journal, make_identity
from ebox.tuning.search import Search
from ebox.tuning.spaces import read_space
from ebox.tuning.training import start_workers
from ebox.tuning.trials import find_best
from ebox.verbs.tune import worker_arguments
from machine import describe_machine, keep

LOCI = Path(__file__).parents[1] / "src" / "ebox" / "datasets" / "data"
# Small, so that many trainings fit into a minute.
SETTINGS: dict[str, dict[str, Any]] = {
    "model": {"num_filters": 32, "dilations": [2], "dense_units": [32]},
    "train": {"epochs": 3},
}
SPACE = """[model]
num_filters = {low = 16, high = 64, step = 16}
filter_width_bp = {low = 9, high = 21, step = 4}
activation = {choices = ["exponential", "relu", "gelu"]}
pooling = {choices = [["mean"], ["max"], ["mean", "max"]]}
[train]
learning_rate = {low = 3e-4, high = 3e-2, log = true}
weight_decay = {low = 1e-4, high = 1e-1, log = true}
dropout = {low = 0.0, high = 0.6}
filter_dropout = {low = 0.0, high = 0.3}
shift_bp = {low = 0, high = 16, step = 4}
"""
WAYS = {"halving": {"sampler": "tpe"}, "random": {"sampler": "random", "rungs": 1}}


def search(dataset: Path, folder: Path, space_file: Path, seconds: float, processes: int, **tuning: Any) -> Any:
    """One search of some seconds: its best validation AUROC of a whole training, and how much it tried."""
    config = make_config({**SETTINGS, "tuning": tuning, "parallel": {"processes": processes}})
    space, data, halving = read_space(space_file), open_dataset(dataset), Halving.of(config.tuning)
    targets = data.targets[data.rows("train")]

    def count_steps(chosen: Config) -> int:
        train = chosen.train
        order = make_order(
            targets, seed=0, batch_size=train.batch_size, negatives_per_positive=train.negatives_per_positive
        )
        return order.count_steps(train.epochs, train.max_steps)

    steps = tuple(halving.steps(rung, count_steps(config)) for rung in range(halving.rungs))
    identity = make_identity(space, config, data.fingerprint)
    journal = Journal(folder / "journal.log", space, config, identity, steps)
    with start_workers(dataset, config, folder / "work", worker_arguments) as measure:
        budget = Budget(halving, None, seconds, 0, processes, carries=space.holds(config))
        try:
            Search(journal, config, budget, measure, count_steps).run()
        except InputError as error:
            # Too little time, or nothing but failures: it has no whole trial, and loses.
            print(error, flush=True)
    trials = journal.trials()
    whole = [trial for trial in trials if len(trial.results) == halving.rungs]
    best = find_best(whole, "auroc")
    return {
        "auroc": None if best is None else best.value("auroc"),
        "given": trials[0].value("auroc") if trials[0] in whole else None,
        "num_trials": len(trials),
        "num_whole": len(whole),
        "seconds": budget.elapsed,
    }


def compare(dataset: Path, folder: Path, repeats: int, seconds: float, processes: int) -> Iterator[dict[str, Any]]:
    """Both ways with the same time, in turns."""
    space = folder / "space.toml"
    for seed in range(repeats):
        found = {}
        # Whoever is first meets the machine as it is then; so they change places.
        for name in list(WAYS) if seed % 2 == 0 else list(WAYS)[::-1]:
            place = folder / f"{name}-{seed}"
            found[name] = search(dataset, place, space, seconds, processes, seed=seed, **WAYS[name])
        yield {"seed": seed, **found}


def is_not_below(outcome: Mapping[str, Any]) -> bool:
    """Whether halving found what is as good as the find of random search; without a whole trial a way has lost."""
    found, other = outcome["halving"]["auroc"], outcome["random"]["auroc"]
    return found is not None and (other is None or found >= other)


def tune(dataset: Path, out: Path, trials: int, processes: int) -> subprocess.Popen[bytes]:
    """Start a search by trials."""
    settings = [
        word
        for section, values in {**SETTINGS, "evaluation": {"baselines": [], "num_bootstrap": 100}}.items()
        for key, value in values.items()
        for word in ("--set", f"{section}.{key}={json.dumps(value)}")
    ]
    command = [sys.executable, "-m", "ebox", "tune", str(dataset), "--space", str(dataset.parent / "space.toml")]
    command += ["--out", str(out), "--trials", str(trials), "--processes", str(processes), "--seeds", "1", "--resume"]
    return subprocess.Popen([*command, *settings], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def read_trials(out: Path) -> tuple[int, list[Any]]:
    """The best trial, and of all what must be the same in each run of a search: all but times."""
    facts = json.loads((out / "tuning.json").read_text())
    measures = ("loss", "auroc", "auprc", "steps")
    trials = [
        [
            trial["number"],
            trial["state"],
            trial["settings"],
            [[rung[name] for name in measures] for rung in trial["rungs"]],
        ]
        for trial in facts["trials"]
    ]
    return facts["best"], trials


def kill(dataset: Path, folder: Path, kills: int, trials: int, processes: int) -> Iterator[dict[str, Any]]:
    """Searches that are killed once each at a random moment, against an undisturbed one."""
    began = time.perf_counter()
    assert tune(dataset, folder / "undisturbed", trials, processes).wait() == 0
    seconds = time.perf_counter() - began
    expected, choice = read_trials(folder / "undisturbed"), random.Random(0)
    for number in range(kills):
        out = folder / f"killed-{number}"
        process = tune(dataset, out, trials, processes)
        after = choice.uniform(0.05, 0.95) * seconds
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
        lines = (out / "journal.log").read_bytes().count(b"\n") if (out / "journal.log").exists() else 0
        again = tune(dataset, out, trials, processes)
        _, told = again.communicate()
        if again.returncode:
            print(told.decode()[-500:], flush=True)
        found = read_trials(out) if again.returncode == 0 else None
        yield {
            "after": after,
            "undisturbed_seconds": seconds,
            "journal_lines": lines,
            "finished": again.returncode == 0,
            "best_equal": found is not None and found[0] == expected[0],
            "all_equal": found == expected,
        }


def main() -> None:
    """Do both parts, or one of them where the other is asked for 0 times."""
    parser = argparse.ArgumentParser(description="The search against random search, and killed")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--loci", type=int, default=600)
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    facts: dict[str, Any] = {"settings": SETTINGS, "space": SPACE, "loci": options.loci, "seconds": options.seconds}
    facts |= {"processes": options.processes, "trials": options.trials, "repeats": [], "kills": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "space.toml").write_text(SPACE)
        dataset = build(folder, options.loci)
        parts = {"repeats": compare(dataset, folder, options.repeats, options.seconds, options.processes)}
        if options.kills:
            parts["kills"] = kill(dataset, folder, options.kills, options.trials, options.processes)
        for part, outcomes in parts.items():
            for outcome in outcomes:
                print(outcome, flush=True)
                facts[part].append(outcome)
                # As it comes: what ends early has measured this much.
                keep("search", facts | count(facts))
    print(count(facts))


def count(facts: Mapping[str, Any]) -> dict[str, int]:
    """In how many repeats halving was not below random search, and how many killed searches came to the same."""
    equal = {key: sum(one[key] for one in facts["kills"]) for key in ("finished", "best_equal", "all_equal")}
    return {"not_below_random": sum(map(is_not_below, facts["repeats"])), **equal}


def build(folder: Path, loci: int) -> Path:
    """A dataset of some loci of the demo, bound and twice as many unbound."""
    for name, number in (("bound", loci), ("unbound", 2 * loci)):
        records = gzip.decompress((LOCI / f"tal1_{name}.fa.gz").read_bytes()).decode().split(">")[1:]
        # From all chromosomes.
        records = records[:: len(records) // number][:number]
        (folder / f"{name}.fa").write_text("".join(f">{record}" for record in records))
    sources = ["--positives", str(folder / "bound.fa"), "--negatives", str(folder / "unbound.fa")]
    command = [sys.executable, "-m", "ebox", "build", *sources, "--out", str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "data"


if __name__ == "__main__":
    main()
