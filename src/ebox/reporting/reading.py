"""Reading a run folder: what a report needs, what it can do without, and what is broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.settings.reading import Config, read_config
from ebox.storage import run_folder, stamps
from ebox.storage.publishing import read_json
from ebox.storage.stamps import read_stamped

NUM_MISTAKES_SHOWN = 5
# What `ebox explain` writes, in a folder of its own.
EXPLANATION = f"{run_folder.EXPLANATION}/{run_folder.EXPLANATION_FACTS}"
# What `ebox run` leaves in a run folder; a report names those that are missing.
EXPECTED = (run_folder.ENVIRONMENT, run_folder.TRAINING, run_folder.QUALITY, run_folder.FILTERS, run_folder.SIMULATION)
# Every report needs these.
NEEDED = (run_folder.CONFIG, run_folder.DATASET, run_folder.EVALUATION)


@dataclass(frozen=True)
class RunFiles:
    """The contents of a run folder. `found` holds JSON objects by file name; `absent` names the missing files."""

    name: str
    config: Config
    dataset: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    found: Mapping[str, Mapping[str, Any]]
    metrics: tuple[Mapping[str, Any], ...]
    mistakes: Mapping[str, Mapping[str, list[dict[str, Any]]]]
    absent: tuple[str, ...]

    def get(self, name: str) -> Mapping[str, Any] | None:
        """The JSON object of a file; None where the file is missing."""
        return self.found.get(name)

    def has_any(self, read: Sequence[str]) -> bool:
        """Whether at least one of the named files is there; True where none is named."""
        there = {*self.found, *NEEDED, *([run_folder.METRICS] if self.metrics else [])}
        return not read or bool(there.intersection(read))

    @property
    def tracks(self) -> list[Mapping[str, Any]]:
        """The tracks of the evaluation; those without metrics come last, so that the page opens with a result."""
        return sorted(self.evaluation["tracks"], key=lambda track: not is_measured(track))

    @property
    def kmer(self) -> int:
        """The word length of the k-mer baseline, from the settings of the evaluation."""
        return int(self.evaluation.get("config", {}).get("kmer", self.config.evaluation.kmer))


def read_run_files(folder: Path, more: Iterable[str] = ()) -> RunFiles:
    """Read config.toml, dataset.json and evaluation.json, and each other known file that is there.

    Args:
        folder: The folder of the run.
        more: Names of further JSON files to read if they are there.

    Raises:
        InputError: no such folder, one of the three is missing, or a file is damaged.
    """
    if not folder.is_dir():
        raise InputError("there is no such run folder", file=folder, remedy="train one with `ebox train`")
    _check_present(folder / run_folder.CONFIG, "train one with `ebox train`")
    _check_present(folder / run_folder.DATASET, "train again: it is written when training begins")
    _check_present(folder / run_folder.EVALUATION, f"measure the model first: `ebox evaluate {folder}`")
    wanted = sorted({*EXPECTED, *more} - {*NEEDED, run_folder.METRICS})
    found = {name: _READERS.get(name, _read_object)(folder / name) for name in wanted if (folder / name).exists()}
    evaluation = _read_evaluation(folder / run_folder.EVALUATION)
    metrics = _read_metrics(folder / run_folder.METRICS)
    predictions = folder / run_folder.PREDICTIONS
    missing = [name for name in EXPECTED if name not in found]
    missing += [] if metrics else [run_folder.METRICS]
    missing += [] if predictions.exists() else [run_folder.PREDICTIONS]
    return RunFiles(
        name=folder.resolve().name,
        config=read_config(folder / run_folder.CONFIG),
        dataset=_read_dataset(folder / run_folder.DATASET),
        evaluation=evaluation,
        found=found,
        metrics=metrics,
        mistakes=_read_mistakes(predictions, evaluation) if predictions.exists() else {},
        absent=tuple(missing),
    )


def _check_present(file: Path, remedy: str) -> None:
    if not file.exists():
        raise InputError("is missing, and a report can't be written without it", file=file, remedy=remedy)


def _read_object(file: Path) -> dict[str, Any]:
    value = read_json(file)
    if not isinstance(value, dict):
        raise InputError(f"holds a {type(value).__name__}, not a JSON object", file=file, remedy="make it again")
    return value


def _read_evaluation(file: Path) -> dict[str, Any]:
    value = read_stamped(file, stamps.EVALUATION)
    tracks = value.get("tracks")
    if not isinstance(tracks, list) or not tracks:
        raise InputError("holds no tracks", file=file, remedy="measure again with `ebox evaluate`")
    if not any(is_measured(track) for track in tracks):
        raise InputError("holds no AUROC of the test split", file=file, remedy="measure again with `ebox evaluate`")
    return value


# For other files it is enough that they hold an object.
_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    EXPLANATION: lambda file: run_folder.read_explanation(file.parents[1]),
    run_folder.FILTERS: lambda file: read_stamped(file, stamps.FILTERS),
    run_folder.PARITY: lambda file: read_stamped(file, stamps.PARITY),
    run_folder.SCALING: lambda file: read_stamped(file, stamps.SCALING),
    run_folder.SIMULATION: lambda file: read_stamped(file, stamps.SIMULATION_OF_RUN),
    run_folder.TRANSFER: lambda file: read_stamped(file, stamps.TRANSFER),
    run_folder.TUNING: lambda file: read_stamped(file, stamps.TUNING),
}


def is_measured(track: Mapping[str, Any]) -> bool:
    """Whether a track of evaluation.json has an AUROC on the test split; with one class only there is none."""
    metrics = track.get("splits", {}).get("test", {}).get("metrics")
    return isinstance(metrics, dict) and "auroc" in metrics


def _read_dataset(file: Path) -> dict[str, Any]:
    value = read_stamped(file, stamps.DATASET_OF_RUN)
    if "splits" not in value:
        raise InputError("is not the manifest of a dataset", file=file, remedy="train again to copy it here")
    return value


def _read_metrics(file: Path) -> tuple[Mapping[str, Any], ...]:
    """Every complete line; a last line without a line break, which a killed training leaves, is ignored."""
    if not file.exists():
        return ()
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", file=file, remedy="restore it, or delete it") from None
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", file=file, remedy="restore it, or delete it") from None
    entries: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"is not JSON: {error.msg}", file=file, line=number, remedy="delete that line, or the file"
            ) from None
        if not isinstance(entry, dict) or "step" not in entry or "kind" not in entry:
            raise InputError("has no kind or no step", file=file, line=number, remedy="delete that line, or the file")
        entries.append(entry)
    return tuple(entries)


def _read_mistakes(file: Path, evaluation: Mapping[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """For each track the test positives that scored lowest and the test negatives that scored highest."""
    import polars as pl

    try:
        table = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"is not a whole Parquet table: {error}", file=file, remedy="measure again with `ebox evaluate`"
        ) from None
    found = {}
    for track in (str(entry["track"]) for entry in evaluation["tracks"]):
        target, probability = f"target_{track}", f"probability_{track}"
        if not {"name", "kind", "split", target, probability} <= set(table.columns):
            continue
        test = table.filter(pl.col("split") == "test").select(
            pl.col("name").cast(pl.String),
            pl.col("kind").cast(pl.String),
            pl.col(target).alias("target"),
            pl.col(probability).alias("probability"),
        )
        ranked = test.sort(["probability", "name"])
        found[track] = {
            "missed": ranked.filter(pl.col("target") == 1).head(NUM_MISTAKES_SHOWN).to_dicts(),
            "false_alarms": ranked.filter(pl.col("target") == 0).tail(NUM_MISTAKES_SHOWN).reverse().to_dicts(),
        }
    return found
