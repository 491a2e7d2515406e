"""What an ensemble gains over one member, what the distilled network keeps of it, and what both cost.

    python benchmarks/ensembles.py FOLDER [TASK …] [--members 5] [--set KEY=VALUE …]

The tasks are those of benchmarks/accuracy.py, each with its own settings; without any: matched, open, paper and gue0 to
gue4. Runs are kept in FOLDER; what was interrupted goes on, and what is finished is not made again. The test split is
measured when all is trained. Writes results/ensembles_TASK.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

from accuracy import TASKS, Task
from ebox.settings.reading import Config, read_config
from ebox.storage.publishing import read_json
from ebox.storage.run_folder import CONFIG, EVALUATION, TRAINING
from ebox.verbs.run import run
from machine import describe_machine, keep

SECTIONS = ("data", "model", "train", "transfer", "ensemble", "evaluation")
CHOSEN = ("matched", "open", "paper", "gue0", "gue1", "gue2", "gue3", "gue4")


def measure(folder: Path, task: Task, members: int, overrides: list[str]) -> dict[str, Any]:
    """Train and measure where that is not done yet; the facts to keep.

    What is finished must be what is asked for: members and settings are those of the run itself.
    """
    place = folder / "run"
    config = read_config(task.path, overrides, {"ensemble.members": members, "ensemble.distil": True})
    # The baselines are in the results of benchmarks/accuracy.py.
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"baselines": ()})})
    if not (place / EVALUATION).exists():
        folder.mkdir(parents=True, exist_ok=True)
        run(place, task.prepare(folder), config, resume=True)
    kept = read_config(place / CONFIG)
    if different := list_differences(config, kept):
        raise SystemExit(f"{place} was made with other settings: {'; '.join(different)}. Give another folder.")
    training, (track, *_) = read_json(place / TRAINING), read_json(place / EVALUATION)["tracks"]
    relatives = track["ensemble"]["relatives"]
    return {
        "members": len(training["ensemble"]["members"]),
        "settings": list_differences(read_config(task.path), kept),
        "member_seconds": training["ensemble"]["seconds"] / len(training["ensemble"]["members"]),
        "distillation_seconds": training["seconds"],
        # Of the examples with which relatives were taken, and in its `relatives` both of all and of those without any.
        "ensemble": track["ensemble"],
        "relatives": None if relatives is None else relatives["taken"],
    }


def list_differences(asked: Config, found: Config) -> list[str]:
    """The settings of data, network, training and evaluation that differ, with what was found."""
    one, other = (each.model_dump(mode="json") for each in (asked, found))
    return [
        f"{section}.{name}={value}"
        for section in SECTIONS
        for name, value in other[section].items()
        if one[section][name] != value
    ]


def main() -> None:
    """Measure task after task; print, keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("tasks", nargs="*", default=[])
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    for task in options.tasks or CHOSEN:
        found = measure(options.folder / task, TASKS[task], options.members, options.overrides)
        told = found["ensemble"]
        for name in ("auroc", "auprc"):
            one = fmean(member[name] for member in told["members"])
            print(
                task, name, f"one {one:.4f}", f"ensemble {told['ensemble'][name]:.4f}", told["gain"][name], flush=True
            )
            own = told["distilled"]
            print("  distilled", f"{own['metrics'][name]:.4f}", "keeps", own["kept"][name], own["kept_interval"][name])
            for who, over in (("ensemble", told), ("distilled", own)):
                print("  against the single network with the first seed,", who, over["over_first"][name], flush=True)
        print(
            f"  {found['member_seconds']:.0f} s a member, {found['distillation_seconds']:.0f} s to distil", flush=True
        )
        keep(f"ensembles_{task}", found)


if __name__ == "__main__":
    main()
