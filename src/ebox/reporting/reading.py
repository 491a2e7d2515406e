"""Reading a run folder: what a report needs, what it can do without, and what is broken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.settings.reading import Config, read_config
from ebox.storage import stamps
from ebox.storage.publishing import read_json
from ebox.storage.run_folder import EXPLANATION, EXPLANATION_FACTS
from ebox.storage.stamps import read_stamped

NUM_MISTAKES_SHOWN = 5


@dataclass(frozen=True)
class RunFiles:
    """The contents of a run folder; what is none was not there, and `absent` names it."""

    name: str
    config: Config
    dataset: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    environment: Mapping[str, Any] | None
    training: Mapping[str, Any] | None
    metrics: tuple[Mapping[str, Any], ...]
    quality: Mapping[str, Any] | None
    filters: Mapping[str, Any] | None
    explanation: Mapping[str, Any] | None
    simulation: Mapping[str, Any] | None
    parity: Mapping[str, Any] | None
    scaling: Mapping[str, Any] | None
    mistakes: Mapping[str, Mapping[str, list[dict[str, Any]]]]
    absent: tuple[str, ...]


def read_run_files(folder: Path) -> RunFiles:
    """Read config.toml, dataset.json and evaluation.json, and whatever else is there.

    Raises:
        InputError: no such folder; one of the three is missing; or any file that is there is not whole.
    """
    from ebox.storage import run_folder as names

    if not folder.is_dir():
        raise InputError("there is no such run folder", file=folder, remedy="train one with `ebox train`")
    _check_present(folder / names.CONFIG, "train one with `ebox train`")
    _check_present(folder / names.DATASET, "train again: it is written when training begins")
    _check_present(folder / names.EVALUATION, f"measure the model first: `ebox evaluate {folder}`")
    optional = (names.ENVIRONMENT, names.TRAINING, names.QUALITY, names.FILTERS, names.SIMULATION)
    measured = (names.PARITY, names.SCALING)
    found = {name: _read_object(folder / name) for name in (*optional, *measured) if (folder / name).exists()}
    evaluation = _read_evaluation(folder / names.EVALUATION)
    metrics = _read_metrics(folder / names.METRICS)
    predictions = folder / names.PREDICTIONS
    present = {
        *found,
        *([names.METRICS] if metrics else []),
        *([names.PREDICTIONS] if predictions.exists() else []),
    }
    return RunFiles(
        name=folder.resolve().name,
        config=read_config(folder / names.CONFIG),
        dataset=_read_dataset(folder / names.DATASET),
        evaluation=evaluation,
        environment=found.get(names.ENVIRONMENT),
        training=found.get(names.TRAINING),
        metrics=metrics,
        quality=found.get(names.QUALITY),
        filters=found.get(names.FILTERS),
        explanation=_read_explanation(folder / EXPLANATION / EXPLANATION_FACTS),
        simulation=found.get(names.SIMULATION),
        parity=found.get(names.PARITY),
        scaling=found.get(names.SCALING),
        mistakes=_read_mistakes(predictions, evaluation) if predictions.exists() else {},
        absent=tuple(name for name in (*optional, names.METRICS, names.PREDICTIONS) if name not in present),
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


def _read_explanation(file: Path) -> dict[str, Any] | None:
    """The facts of `ebox explain`, where it was run."""
    if not file.exists():
        return None
    value = read_stamped(file, stamps.EXPLANATION)
    if value.get("kind") != "test":
        raise InputError("explains sequences of a file, not the test set", file=file, remedy="run `ebox explain` again")
    return value


def is_measured(track: Mapping[str, Any]) -> bool:
    """Whether a track of evaluation.json has an AUROC on the test split; one that lacks a class has none."""
    metrics = track.get("splits", {}).get("test", {}).get("metrics")
    return isinstance(metrics, dict) and "auroc" in metrics


def _read_dataset(file: Path) -> dict[str, Any]:
    value = read_stamped(file, stamps.DATASET)
    if "splits" not in value:
        raise InputError("is not the manifest of a dataset", file=file, remedy="train again to copy it here")
    return value


def _read_metrics(file: Path) -> tuple[Mapping[str, Any], ...]:
    """Every whole line; a last line without its end was cut off by a kill and is left out."""
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
