"""Accuracy on simulated and real tasks through the whole pipeline, against what each task must reach.

    python benchmarks/accuracy.py                 every task
    python benchmarks/accuracy.py matched gue4    some of them
    python benchmarks/accuracy.py table           only write the table of what is kept into README.md again

What a task reads, and with which settings, stands in a file of configs/: its settings, and above them the commands that
make and train it. Prints a line a task, writes benchmarks/results/accuracy_TASK.json, puts hardware and score into the
head of the file and the table of all tasks into README.md. Every task is trained with three seeds on one dataset, and
the mean over all test examples is held to its goals. Real tasks need the data folder ($EBOX_DATA or shared/data beside
the project).
"""

from __future__ import annotations

import csv
import gzip
import re
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from string import Template
from typing import Any

from ebox.datasets.sources import DatasetSources, read_sources
from ebox.sequences import draw_simulation, read_simulation_config, write_simulation
from ebox.settings.reading import Config, read_config
from ebox.storage.publishing import read_json
from ebox.storage.run_folder import EVALUATION, SEEDS, TRAINING
from ebox.verbs.run import run
from machine import RESULTS, describe_machine, find_data, keep

CONFIGS = Path(__file__).parents[1] / "configs"
README = Path(__file__).parents[1] / "README.md"


@dataclass(frozen=True)
class Task:
    """A task: the file of its settings and commands, and what it must reach.

    Args:
        file: Its name in configs/.
        title: Its name in the table of the README.
        goals: The least value of each metric.
        max_seconds: The most that a training may take.
        seeds: Of the trainings.
        variables: What stands for words such as `$TASK` in the commands, beside those of `prepare`.
        before: Makes files that the commands read; told the folder.
    """

    file: str
    title: str
    goals: Mapping[str, float]
    max_seconds: float | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    variables: Mapping[str, str] | None = None
    before: Callable[[Path], None] | None = None

    @property
    def path(self) -> Path:
        """The file of its settings."""
        return CONFIGS / self.file

    def prepare(self, folder: Path) -> DatasetSources:
        """Make what the commands make, where it is not there yet, and name what `ebox run` is to read."""
        given = {"EBOX_DATA": str(find_data()), "OUT": str(folder), "SEED": "0", **(self.variables or {})}
        if self.before is not None:
            self.before(folder)
        for command in read_commands(self.path):
            verb, options = read_command(Template(command).substitute(given))
            if verb == "simulate" and not Path(options["out"][0]).exists():
                config = read_simulation_config(options["motif"], options["motifs"], options["set"])
                write_simulation(draw_simulation(config), Path(options["out"][0]))
        files = {name: options[name][0] for name in ("positives", "train", "validation", "test") if name in options}
        return read_sources(**files, negatives=options.get("negatives", ()))

    def read_config(self, seed: int) -> Config:
        """The settings of its file, with the seed of a training."""
        return read_config(self.path, flags={"train.seed": seed})


def read_commands(path: Path) -> list[str]:
    """The commands in the head of a settings file; a line that ends with a backslash goes on in the next."""
    head = [line.removeprefix("#").strip() for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    joined = "\n".join(head).replace("\\\n", "")
    return [line for line in joined.splitlines() if line.startswith("ebox ")]


def read_command(command: str) -> tuple[str, dict[str, list[str]]]:
    """The verb of a command, and the values of each option in order."""
    _, verb, *words = shlex.split(command)
    options: dict[str, list[str]] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        options.setdefault(name.removeprefix("--"), []).append(value)
    return verb, options


def pick_unbound(folder: Path) -> None:
    """Write the accessible regions with no TAL1 peak of any set to open_unbound.fa."""
    data = find_data() / "tal1"
    with gzip.open(data / "open_chromatin_hsc_labels.tsv.gz", "rt") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        unbound = {f"{row['chrom']}:{row['start']}-{row['end']}" for row in rows if row["TAL1_any"] == "0"}
    with gzip.open(data / "open_chromatin_hsc.fa.gz", "rt") as stream, (folder / "open_unbound.fa").open("w") as out:
        kept = False
        for line in stream:
            if line.startswith(">"):
                kept = line[1:].split()[0] in unbound
            if kept:
                out.write(line)


def _gue_task(name: str, auroc: float, mcc: float) -> Task:
    """One of the five human tasks of the GUE benchmark, with its own splits."""
    title = f"GUE {name}, its own splits"
    return Task("gue.toml", title, {"auroc": auroc, "mcc_at_0.5": mcc}, variables={"TASK": name})


TASKS: Mapping[str, Task] = {
    "matched": Task(
        "matched.toml",
        "real TAL1: bound against matched, by chromosome",
        {"auroc": 0.950, "auprc": 0.855, "accuracy": 0.930},
        max_seconds=360,
    ),
    "open": Task(
        "open.toml",
        "real TAL1: bound against accessible but unbound",
        {"auroc": 0.912, "auprc": 0.912},
        before=pick_unbound,
    ),
    "paper": Task(
        "paper.toml",
        "real TAL1: random 70/20/10, as many negatives as positives",
        {"auroc": 0.952, "accuracy": 0.89},
    ),
    "simulated": Task(
        "simulated.toml", "simulated: one motif in 500 bp", {"accuracy": 0.975, "auroc": 0.984}, max_seconds=30
    ),
    "density": Task("density.toml", "simulated: motifs in the centre or anywhere, 1,500 bp", {"accuracy": 0.97}),
    "gue0": _gue_task("tf0", 0.895, 0.63),
    "gue1": _gue_task("tf1", 0.925, 0.68),
    "gue2": _gue_task("tf2", 0.950, 0.74),
    "gue3": _gue_task("tf3", 0.840, 0.49),
    "gue4": _gue_task("tf4", 0.965, 0.77),
}


def measure(name: str, task: Task) -> bool:
    """Train a task with every seed, print and keep the result, and say whether it reached its goals."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources, out = task.prepare(folder), folder / "run"
        command = ["benchmarks/accuracy.py", name]
        facts = run(
            out, sources, task.read_config(task.seeds[0]), seeds=len(task.seeds), command=command
        ).evaluation.facts
        places = [out, *(out / SEEDS / str(seed) for seed in task.seeds[1:])]
        seeds = [_describe_run(seed, place) for seed, place in zip(task.seeds, places, strict=True)]
    means = {goal: fmean(list_values(seeds, goal)) for goal in task.goals}
    seconds = max(one["training_seconds"] for one in seeds)
    reached = {goal: means[goal] >= least for goal, least in task.goals.items()}
    if task.max_seconds is not None:
        reached["seconds"] = seconds <= task.max_seconds
    shown = ", ".join(f"{goal} {_show(goal, seeds)}; goal {least})" for goal, least in task.goals.items())
    verdict = "reached" if all(reached.values()) else "NOT reached"
    print(f"{name}: {verdict}: {shown}; {seconds:.0f} s of training", flush=True)
    track = facts["tracks"][0]
    content = {
        "task": name,
        "settings": tomllib.loads(task.path.read_text(encoding="utf-8")),
        "goals": dict(task.goals),
        "reached": reached,
        "mean_over_seeds": means,
        "comparison": track["comparison"],
        "baselines": {key: _shorten(value["splits"]["test"]) for key, value in track["baselines"].items()},
        "ceiling": facts["ceiling"],
        "seeds": seeds,
    }
    keep(f"accuracy_{name}", content)
    note_score(name, {"machine": describe_machine(), **content})
    return all(reached.values())


def _describe_run(seed: int, folder: Path) -> dict[str, Any]:
    """What is kept of the training with one seed."""
    training = read_json(folder / TRAINING)
    kept = ("sequences_per_second", "num_parameters")
    return {
        "seed": seed,
        "training_seconds": training["seconds"],
        **{key: training[key] for key in kept},
        "test": _shorten(read_json(folder / EVALUATION)["tracks"][0]["splits"]["test"]),
    }


def _shorten(test: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a test split: of all its examples, and without those that have a relative in training."""
    relatives = test["relatives"]
    if relatives is None:
        return {"num_relatives": 0, "taken": "with", "with": _pick(test), "without": None}
    parts = {part: _pick(relatives[part]) for part in ("with", "without")}
    return {"num_relatives": relatives["num_relatives"], "taken": relatives["taken"], **parts}


def _pick(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: section[key] for key in ("num_examples", "num_positive", "metrics")}


def list_values(seeds: Sequence[Mapping[str, Any]], metric: str, part: str = "with") -> list[float]:
    """A metric of every training, of all test examples or of those `without` relatives in training."""
    return [one["test"][part]["metrics"][metric]["value"] for one in seeds]


def _show(goal: str, seeds: Sequence[Mapping[str, Any]]) -> str:
    """The mean of a metric over seeds, with every value; the bracket stays open."""
    values = list_values(seeds, goal)
    return f"{fmean(values):.4f} (seeds {', '.join(format(value, '.4f') for value in values)}"


def describe_result(name: str, content: Mapping[str, Any]) -> tuple[str, str]:
    """Two lines for the head of a settings file, of what was kept: the hardware, and the score of a task."""
    machine = content["machine"]
    versions = f"Python {machine['python']}, JAX {machine['packages']['jax']}, ebox {machine['ebox']}"
    metrics = dict.fromkeys(("auroc", *content["goals"]))
    scores = ", ".join(f"{metric} {_show(metric, content['seeds'])})" for metric in metrics)
    return (
        f"# Hardware: {machine['cpu']}, {machine['num_cores']} cores; {versions}",
        f"# Score of {name}: {scores}",
    )


def note_score(name: str, content: Mapping[str, Any]) -> None:
    """Put hardware and score into the head of the settings file of a task."""
    path = TASKS[name].path
    text = path.read_text(encoding="utf-8")
    for line in describe_result(name, content):
        text = re.sub(rf"^{re.escape(line.partition(':')[0])}:.*$", line.replace("\\", r"\\"), text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


def make_table() -> str:
    """The table of the README: a row a task, and a second one without relatives of training where there are any."""
    rows = [
        "| task | AUROC: mean ± sd of 3 seeds (interval of the first) | AUPRC | accuracy | MCC at 0.5 "
        "| 6-mer logistic AUROC |",
        "|---|---|---|---|---|---|",
    ]
    for name in TASKS:
        content = read_json(RESULTS / f"accuracy_{name}.json")
        parts = [part for part in ("with", "without") if content["seeds"][0]["test"][part] is not None]
        rows += [_make_row(name, content, part) for part in parts]
    return "\n".join(rows)


def _make_row(name: str, content: Mapping[str, Any], part: str) -> str:
    """The row of a task, of all test examples or of those without relatives; the one that ebox prints first is bold."""
    seeds, first = content["seeds"], content["seeds"][0]["test"]
    title = TASKS[name].title
    if part == "without":
        share = first["num_relatives"] / first["with"]["num_examples"]
        title = f"… without the {100.0 * share:.0f} % with a relative in training"
    auroc = first[part]["metrics"]["auroc"]
    shown = f"{_spread(seeds, 'auroc', part)} ({auroc['low']:.3f} to {auroc['high']:.3f})"
    if first["taken"] == part and first["without"] is not None:
        shown = f"**{shown}**"
    others = [_spread(seeds, metric, part) for metric in ("auprc", "accuracy", "mcc_at_0.5")]
    logistic = content["baselines"]["kmer_logistic"][part]["metrics"]["auroc"]["value"]
    return f"| {' | '.join([title, shown, *others, format(logistic, '.3f')])} |"


def _spread(seeds: Sequence[Mapping[str, Any]], metric: str, part: str) -> str:
    values = list_values(seeds, metric, part)
    return f"{fmean(values):.4f} ± {stdev(values):.4f}"


def write_table() -> None:
    """Put the table into the README, in place of the one that is there."""
    text = README.read_text(encoding="utf-8")
    README.write_text(TABLE.sub(lambda _: make_table(), text), encoding="utf-8")


TABLE = re.compile(r"(?<=<!-- made by benchmarks/accuracy.py -->\n).*?(?=\n\n)", re.DOTALL)


def main(names: list[str]) -> int:
    """Measure the tasks named, or all."""
    if names == ["table"]:
        write_table()
        return 0
    unknown = sorted(set(names) - set(TASKS))
    if unknown:
        raise SystemExit(f"no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    print(describe_machine(), flush=True)
    outcomes = [measure(name, TASKS[name]) for name in (names or TASKS)]
    write_table()
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
