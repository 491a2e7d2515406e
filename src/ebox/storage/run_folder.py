"""The names of the files in a run folder, and how small files are read and written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.storage import stamps
from ebox.storage.publishing import explain_disk_errors, publish_file, read_json
from ebox.storage.stamps import read_stamped

CONFIG = "config.toml"
# The sources and settings that the dataset of a run was built with, and the seeds where several were asked for.
REQUEST = "request.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
TRAINING = "training.json"
DATASET = "dataset.json"
QUALITY = "quality.json"
SIMULATION = "simulation.json"
EVALUATION = "evaluation.json"
PREDICTIONS = "predictions.parquet"
# Only of other data: the records that became no example.
DROPPED = "dropped.tsv"
FILTERS = "filters.json"
# How often the test split of the run, and other data, were measured.
TEST_READS = "test_reads.json"
# How the settings of the run were found (`ebox tune`).
TUNING = "tuning.json"
# The certificate of `ebox doctor --parity --out RUN/parity.json`; not part of the training, so never cleared.
PARITY = "parity.json"
# The measurements of `ebox doctor --scaling --out RUN/scaling.json`; never cleared either.
SCALING = "scaling.json"
REPORT = "report.html"
REPORT_FACTS = "report.json"
CHECKPOINTS = "checkpoints"
MODEL = "model"
# What stands beside the arrays of a model or a checkpoint.
TENSOR_FACTS = "facts.json"
# Of a training that began with a trained network: what was taken over, and what of the data that network had seen.
TRANSFER = "transfer.json"
DATASET_FOLDER = "dataset"
# The trainings with other seeds than that of the run: a run folder for each, named by its seed.
SEEDS = "seeds"
# The trainings of the members of an ensemble, each in a folder named by its seed; beside a distilled network also the
# ensemble itself, as a model.
MEMBERS = "members"
# The folder of `ebox explain`, and its files.
EXPLANATION = "explanation"
EXPLANATION_FACTS = "explanation.json"
MOTIFS = "motifs.meme"
FILTER_MATRICES = "filters.meme"
HITS = "hits.bed"
CONTRIBUTIONS = "contributions.npz"
BIGWIG = "contributions.bw"
# The folder into which contributions are streamed; a later call continues from it.
EXPLANATION_WORK = ".explanation.part"
# The output of the workers of a group; kept when a training begins again, since it may show the reason.
LOGS = "logs"

# The files of a training and of later commands; the last one marks a folder as a run folder.
OWN_FILES = (
    SEEDS,
    MEMBERS,
    METRICS,
    TRAINING,
    TRANSFER,
    DATASET,
    QUALITY,
    EVALUATION,
    PREDICTIONS,
    FILTERS,
    TEST_READS,
    TUNING,
    REPORT,
    REPORT_FACTS,
    CHECKPOINTS,
    MODEL,
    CONFIG,
    ENVIRONMENT,
)


# Of these there may be more, for other data, each with the name of the data.
OTHERS = (EVALUATION, PREDICTIONS, DROPPED)


def check_run_folder(path: Path) -> None:
    """Raise InputError unless `path` is a run folder with a trained model."""
    if not path.is_dir():
        raise InputError("there is no such run folder", file=path, remedy="train one with `ebox train`")
    if not (path / MODEL).is_dir():
        has_begun = (path / CHECKPOINTS).is_dir() or (path / MEMBERS).is_dir()
        state = "training has begun but not ended" if has_begun else "has no trained model"
        remedy = "continue it with `ebox train … --resume`" if has_begun else "train one with `ebox train`"
        raise InputError(state, file=path, remedy=remedy)


def fingerprint_model(run: Path) -> str:
    """SHA-256 of the weights of a run's trained network.

    Raises:
        InputError: there is no trained network.
    """
    check_run_folder(run)
    facts = read_json(run / MODEL / TENSOR_FACTS)
    if not isinstance(facts, dict) or not isinstance(facts.get("sha256"), str):
        raise InputError("holds no checksum, so ebox did not write it", file=run / MODEL / TENSOR_FACTS)
    return facts["sha256"]


def find_seeds(run: Path) -> dict[int, Path]:
    """The run folders of the other seeds that were asked for and are trained, by their seeds."""
    places = {seed: run / SEEDS / str(seed) for seed in read_request(run).get("seeds", [])}
    return {seed: place for seed, place in places.items() if (place / TRAINING).exists()}


def find_members(run: Path) -> dict[int, Path]:
    """The folders of the members of an ensemble whose training has begun, by their seeds in order."""
    seeds = sorted(int(path.name) for path in (run / MEMBERS).glob("*") if path.name.isdigit())
    return {seed: run / MEMBERS / str(seed) for seed in seeds}


def read_request(run: Path) -> dict[str, Any]:
    """What the dataset of a run was asked to be made from, and the seeds where there are several; empty where unknown.

    Raises:
        InputError: the file is damaged.
    """
    path = run / REQUEST
    request = read_json(path) if path.is_file() else {}
    seeds = request.get("seeds", []) if isinstance(request, dict) else None
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise InputError(
            "does not say what a run was asked for",
            file=path,
            remedy="delete it; a run that is resumed then counts as one of a single seed, unless --seeds says more",
        )
    return request


def read_dataset(run: Path) -> dict[str, Any]:
    """Read the manifest of the dataset that a run was trained on.

    Raises:
        InputError: it is missing, or not a manifest.
    """
    facts = read_json(run / DATASET)
    if not isinstance(facts, dict) or not {"path", "fingerprint", "config", "kinds"} <= set(facts):
        raise InputError("does not name a dataset", file=run / DATASET, remedy="train again")
    return facts


def name_other(file: str, name: str) -> str:
    """The name of a file of the evaluation on other data, such as `evaluation-NAME.json`."""
    stem, dot, ending = file.partition(".")
    return f"{stem}-{name}{dot}{ending}"


def list_others(folder: Path) -> list[Path]:
    """The files of evaluations on other data."""
    return [path for file in OTHERS for path in sorted(folder.glob(name_other(file, "*")))]


def read_explanation(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the facts of an explained run.

    Raises:
        InputError: it was not explained, or the file is of another format.
    """
    path = Path(run) / EXPLANATION / EXPLANATION_FACTS
    facts = read_stamped(path, stamps.EXPLANATION)
    if facts.get("kind") != "test":
        raise InputError("explains sequences of a file, not the test set", file=path, remedy="run `ebox explain` again")
    return facts


class MetricsLog:
    """The growing file of metrics: one JSON object in each line, each line flushed whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one line."""
        line = json.dumps(dict(entry), allow_nan=False) + "\n"
        with explain_disk_errors(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; a last line that a kill cut off is left out."""
        if not self.path.exists():
            return []
        entries = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return entries

    def cut(self, last_step: int) -> None:
        """Keep only the entries up to a step, so that a resumed run writes the rest again."""
        self.write([entry for entry in self.read() if entry["step"] <= last_step])

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Publish these entries alone."""
        with publish_file(self.path) as temporary:
            temporary.write_text("".join(json.dumps(dict(entry)) + "\n" for entry in entries), encoding="utf-8")


def clear_run(folder: Path) -> None:
    """Remove the files of training, evaluation and report from a run folder; the mark of a run folder goes last."""
    others = list_others(folder)
    for path in (*others, *(folder / name for name in (EXPLANATION, EXPLANATION_WORK, SIMULATION, *OWN_FILES))):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
