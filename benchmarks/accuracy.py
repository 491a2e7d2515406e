"""Accuracy on simulated and real tasks through the whole pipeline, against what each task must reach.

    python benchmarks/accuracy.py                 every task
    python benchmarks/accuracy.py matched gue4    some of them

What a task reads, and with which settings, stands in a file of configs/: its settings, and above them the commands that
make and train it. Prints a line a task, writes benchmarks/results/accuracy_TASK.json, and puts hardware and score into
the head of the file. A task whose test set is small is trained with several seeds, and the mean is held to its goals.
Real tasks need the data folder ($EBOX_DATA or shared/data beside the project).
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
from statistics import fmean
from string import Template
from typing import Any

from ebox.datasets.sources import DatasetSources, read_sources
from ebox.sequences import draw_simulation, read_simulation_config, write_simulation
from ebox.settings.reading import Config, read_config
from ebox.verbs.run import RunResult, run
from machine import describe_machine, find_data, keep

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Task:
    """A task: the file of its settings and commands, and what it must reach.

    Args:
        file: Its name in configs/.
        goals: The least value of each metric.
        max_seconds: The most that a training may take.
        seeds: Of the trainings.
        variables: What stands for words such as `$TASK` in the commands, beside those of `prepare`.
        before: Makes files that the commands read; told the folder.
    """

    file: str
    goals: Mapping[str, float]
    max_seconds: float | None = None
    seeds: tuple[int, ...] = (0,)
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
    return Task("gue.toml", {"auroc": auroc, "mcc_at_0.5": mcc}, seeds=(0, 1, 2), variables={"TASK": name})


TASKS: Mapping[str, Task] = {
    "simulated": Task("simulated.toml", {"accuracy": 0.975, "auroc": 0.984}, max_seconds=30),
    "density": Task("density.toml", {"accuracy": 0.97}),
    "matched": Task("matched.toml", {"auroc": 0.950, "auprc": 0.855, "accuracy": 0.930}, max_seconds=360),
    "open": Task("open.toml", {"auroc": 0.912, "auprc": 0.912}, before=pick_unbound),
    "paper": Task("paper.toml", {"auroc": 0.952, "accuracy": 0.89}),
    "gue0": _gue_task("tf0", 0.895, 0.63),
    "gue1": _gue_task("tf1", 0.925, 0.68),
    "gue2": _gue_task("tf2", 0.950, 0.74),
    "gue3": _gue_task("tf3", 0.840, 0.49),
    "gue4": _gue_task("tf4", 0.965, 0.77),
}


def measure(name: str, task: Task) -> bool:
    """Run a task, print and keep its result, and say whether it reached its goals."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources = task.prepare(folder)
        runs = []
        for seed in task.seeds:
            command = ["benchmarks/accuracy.py", name]
            runs.append(run(folder / f"run-{seed}", sources, task.read_config(seed), command=command))
    seeds = [_describe_run(seed, result) for seed, result in zip(task.seeds, runs, strict=True)]
    means = {goal: fmean(one["test"]["metrics"][goal]["value"] for one in seeds) for goal in task.goals}
    seconds = max(one["training_seconds"] for one in seeds)
    reached = {goal: means[goal] >= least for goal, least in task.goals.items()}
    if task.max_seconds is not None:
        reached["seconds"] = seconds <= task.max_seconds
    shown = ", ".join(f"{goal} {_show(goal, seeds)}; goal {least})" for goal, least in task.goals.items())
    verdict = "reached" if all(reached.values()) else "NOT reached"
    print(f"{name}: {verdict}: {shown}; {seconds:.0f} s of training", flush=True)
    first, facts = seeds[0], runs[0].evaluation.facts["tracks"][0]
    content = {
        "task": name,
        "settings": tomllib.loads(task.path.read_text(encoding="utf-8")),
        "goals": dict(task.goals),
        "reached": reached,
        **{key: value for key, value in first.items() if key != "seed"},
        "comparison": facts["comparison"],
        "baselines": {
            key: {metric: value["splits"]["test"]["metrics"][metric] for metric in ("auroc", "auprc", "accuracy")}
            for key, value in facts["baselines"].items()
        },
        "ceiling": runs[0].evaluation.facts["ceiling"],
    }
    if len(seeds) > 1:
        content["mean_over_seeds"] = means
        content["other_seeds"] = seeds[1:]
    keep(f"accuracy_{name}", content)
    note_score(name, {"machine": describe_machine(), **content})
    return all(reached.values())


def _describe_run(seed: int, result: RunResult) -> dict[str, Any]:
    """What is kept of the training with one seed."""
    assert result.training is not None
    return {
        "seed": seed,
        "training_seconds": result.training.seconds,
        "sequences_per_second": result.training.sequences_per_second,
        "num_parameters": result.training.num_parameters,
        "test": result.evaluation.facts["tracks"][0]["splits"]["test"],
    }


def _show(goal: str, seeds: Sequence[Mapping[str, Any]]) -> str:
    """A metric with its interval, or over seeds its mean with every value; the bracket stays open."""
    found = [one["test"]["metrics"][goal] for one in seeds]
    if len(found) == 1:
        return f"{found[0]['value']:.4f} ({found[0]['low']:.4f} to {found[0]['high']:.4f}"
    mean = fmean(one["value"] for one in found)
    return f"{mean:.4f} (seeds {', '.join(format(one['value'], '.4f') for one in found)}"


def describe_result(name: str, content: Mapping[str, Any]) -> tuple[str, str]:
    """Two lines for the head of a settings file, of what was kept: the hardware, and the score of a task."""
    machine = content["machine"]
    versions = f"Python {machine['python']}, JAX {machine['packages']['jax']}, ebox {machine['ebox']}"
    seeds = [content, *content.get("other_seeds", ())]
    metrics = dict.fromkeys(("auroc", *content["goals"]))
    scores = ", ".join(f"{metric} {_show(metric, seeds)})" for metric in metrics)
    seconds = max(one["training_seconds"] for one in seeds)
    return (
        f"# Hardware: {machine['cpu']}, {machine['num_cores']} cores; {versions}",
        f"# Score of {name}: {scores}; {seconds:.0f} s of training",
    )


def note_score(name: str, content: Mapping[str, Any]) -> None:
    """Put hardware and score into the head of the settings file of a task."""
    path = TASKS[name].path
    text = path.read_text(encoding="utf-8")
    for line in describe_result(name, content):
        text = re.sub(rf"^{re.escape(line.partition(':')[0])}:.*$", line.replace("\\", r"\\"), text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


def main(names: list[str]) -> int:
    """Measure the tasks named, or all."""
    unknown = sorted(set(names) - set(TASKS))
    if unknown:
        raise SystemExit(f"no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    print(describe_machine(), flush=True)
    outcomes = [measure(name, TASKS[name]) for name in (names or TASKS)]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
