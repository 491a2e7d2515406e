"""A training that begins with a trained network: whether it can, and what that network has seen of the new data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.progress import Progress, quiet
from ebox.storage import run_folder
from ebox.storage.seen import count_seen
from ebox.storage.stamps import TRANSFER, read_stamped
from ebox.verbs.opening import open_dataset_of
from ebox.verbs.shared_examples import count_same, describe_shared, find_shared, refuse_seen

if TYPE_CHECKING:
    from ebox.datasets.folder import Dataset
    from ebox.models.files import ModelDescription
    from ebox.settings.reading import Config, TransferConfig


def take_settings(config: Config, out: Path) -> Config:
    """The settings of a training with those of the network that it begins with, if it begins with one.

    Args:
        config: The settings that were given.
        out: The run folder of the training.

    Raises:
        InputError: the source is no finished run, is damaged, lies in `out`, is an ensemble, or has another shape than
            the settings say.
    """
    from ebox.models.files import describe_model
    from ebox.models.tensors import read_arrays

    if config.transfer.source is None:
        return config
    source = Path(config.transfer.source).resolve()
    if out.resolve() in (source, *source.parents):
        raise InputError(
            "the network to begin with lies in the folder to write",
            file=source,
            remedy="choose another --out, or copy the run of --from first",
        )
    found = describe_model(source)
    if found.num_members is not None:
        raise InputError(
            f"holds an ensemble of {found.num_members} networks, and a training begins with one",
            file=source,
            remedy="begin with a run that was trained without --ensemble, or with --distil",
        )
    if not (source / run_folder.TRAINING).is_file():
        raise InputError("training has not ended", file=source, remedy="continue it with `ebox train … --resume`")
    read_arrays(source / run_folder.MODEL)
    for name in sorted(config.model.model_fields_set):
        asked, given = getattr(config.model, name), getattr(found.config, name)
        if asked != given:
            raise InputError(
                f"has a network with model.{name} = {given}, and the settings ask for {asked}",
                file=source,
                remedy=f"leave model.{name} out: the shape of the network is that of the source",
            )
    given = {"source": str(source)} | ({"min_steps": None} if _asks_for_epochs(config) else {})
    transfer = config.transfer.model_copy(update=given)
    return config.model_copy(update={"model": found.config, "transfer": transfer})


def _asks_for_epochs(config: Config) -> bool:
    """Whether the user gave epochs and no least number of steps; a settings file that ebox wrote gives both."""
    return "epochs" in config.train.model_fields_set and "min_steps" not in config.transfer.model_fields_set


def fit_settings(config: Config, data: Dataset) -> Config:
    """The settings of `take_settings` for a dataset: which layers are drawn anew is then said.

    Raises:
        InputError: the source reads another length, or has another number of tracks.
    """
    from ebox.models.files import describe_model

    transfer = config.transfer
    if transfer.source is None:
        return config
    found = describe_model(transfer.source)
    if data.length_bp != found.length_bp and not transfer.other_length:
        raise InputError(
            f"was trained on sequences of {found.length_bp} bp, and those of the dataset have {data.length_bp} bp",
            file=transfer.source,
            remedy=f"build the dataset with --length {found.length_bp}, or insist with --other-length: the layers then "
            "slide over the other length, and weights by position are stretched",
        )
    return config.model_copy(
        update={
            "transfer": transfer.model_copy(
                update={"fresh": _choose_fresh(transfer.fresh, found, data, transfer.source)}
            )
        }
    )


def _choose_fresh(asked: str | None, found: ModelDescription, data: Dataset, found_at: str) -> str | None:
    if asked == "auto":
        return None if found.tracks == data.tracks else "output"
    if asked is None and len(found.tracks) != len(data.tracks):
        raise InputError(
            f"gives the tracks {', '.join(found.tracks)}, and the dataset has {', '.join(data.tracks)}",
            file=found_at,
            remedy="have the output drawn anew: --set transfer.fresh=output",
        )
    return asked


def describe_transfer(
    config: Config,
    data: Dataset,
    resumed: Path | None,
    progress: Progress = quiet,
    *,
    out: Path | None = None,
) -> dict[str, Any] | None:
    """What a training takes over and what that has seen of its data, for `transfer.json`; None: fresh weights.

    Args:
        config: The settings, with a source that was checked.
        data: The dataset of the training.
        resumed: The run folder of a training that goes on, which may hold what was found when it began.
        progress: Called with the stage.
        out: The run folder that is asked for; the test examples that are refused are listed in a file beside it.

    Raises:
        InputError: the source, or one that it began with, has seen test examples, or that can't be known.
    """
    transfer = config.transfer
    if transfer.source is None:
        return None
    sources = _list_sources(Path(transfer.source))
    if resumed is not None and (resumed / run_folder.TRANSFER).is_file():
        facts = read_stamped(resumed / run_folder.TRANSFER, TRANSFER)
        same = (facts["dataset"], facts["sources"][0]["model"]) == (data.fingerprint, sources[0]["model"])
        if same and _is_settled(facts, transfer):
            return facts
    trained = find_datasets(sources, transfer.source_data)
    if None in trained and not transfer.allow_seen:
        gone = sources[trained.index(None)]
        raise InputError(
            f"the dataset that {gone['run']} was trained on is gone, so it can't be known whether it has seen the test "
            "examples",
            file=gone["dataset"],
            remedy="give its folder with --source-data, or train without knowing with --allow-seen",
        )
    known = [each for each in trained if each is not None]
    found = find_shared(known, data, progress)
    seen = {split: describe_shared(found, data, split) for split in ("validation", "test")}
    if count_same(seen["test"]) and not transfer.allow_seen:
        raise refuse_seen(found, seen["test"], data, Path(transfer.source), out)
    return {
        "dataset": data.fingerprint,
        "sources": sources,
        "num_unknown": len(trained) - len(known),
        "seen": seen,
        "allowed": transfer.allow_seen,
    }


def _is_settled(facts: Mapping[str, Any], transfer: TransferConfig) -> bool:
    """Whether what was found when a training began still holds for how it is asked to go on."""
    if facts["num_unknown"] and (transfer.source_data is not None or not transfer.allow_seen):
        return False
    return transfer.allow_seen or not count_same(facts["seen"]["test"])


def _list_sources(run: Path) -> list[dict[str, Any]]:
    """The run that a training begins with, and those before it."""
    facts = run_folder.read_dataset(run)
    own = {
        "run": str(run),
        "model": run_folder.fingerprint_model(run),
        "dataset": facts["path"],
        "fingerprint": facts["fingerprint"],
        "tracks": facts.get("tracks"),
        "length_bp": facts.get("length_bp"),
    }
    return [own, *read_sources_of(run)]


def read_sources_of(run: Path) -> list[dict[str, Any]]:
    """The runs that the training of a run began with, the nearest first; none: fresh weights."""
    place = run / run_folder.TRANSFER
    return list(read_stamped(place, TRANSFER)["sources"]) if place.is_file() else []


def find_datasets(sources: Sequence[Mapping[str, Any]], given: Sequence[str] | None = None) -> list[Dataset | None]:
    """Open the datasets that runs were trained on; None where one is gone.

    Args:
        sources: Of `transfer.json`.
        given: Folders that may hold some of them.

    Raises:
        InputError: a given folder holds none of them.
    """
    from ebox.datasets.folder import open_dataset

    there: dict[str, Dataset] = {}
    for folder in () if given is None else given:
        data = open_dataset(folder, verify="full")
        if data.fingerprint not in {each["fingerprint"] for each in sources}:
            raise InputError(
                "is not the dataset that the source, or one before it, was trained on",
                file=folder,
                remedy=f"that of {sources[0]['run']} stood at {sources[0]['dataset']}",
            )
        there[data.fingerprint] = data
    return [there[each["fingerprint"]] if each["fingerprint"] in there else _find_dataset(each) for each in sources]


def _find_dataset(source: Mapping[str, Any]) -> Dataset | None:
    """The dataset of a run, by the run or by its own place."""
    from ebox.datasets.folder import open_dataset

    try:
        data, _ = open_dataset_of(Path(source["run"]), None)
        if data.fingerprint == source["fingerprint"]:
            return data
    except InputError:
        pass
    try:
        data = open_dataset(source["dataset"], verify="full")
    except InputError:
        return None
    return data if data.fingerprint == source["fingerprint"] else None


def mark_seen(run: Path, data: Dataset) -> Dataset:
    """The dataset of a run, whose test examples that a source has seen count as relatives of the training."""
    import numpy as np
    import polars

    place = run / run_folder.TRANSFER
    if not place.is_file():
        return data
    relative = data.examples["relative"].fill_null(-1).to_numpy().copy()
    rows = data.rows("test").start + np.array(read_stamped(place, TRANSFER)["seen"]["test"]["rows"], np.int64)
    relative[rows] = np.maximum(relative[rows], 0)
    column = polars.Series("relative", relative)
    marked = data.examples.with_columns(polars.when(column >= 0).then(column).alias("relative"))
    return replace(data, table=marked)


def count_seen_by_source(run: Path) -> dict[str, Any] | None:
    """How many test and validation examples of a run its source has seen; None: fresh weights."""
    place = run / run_folder.TRANSFER
    return count_seen(read_stamped(place, TRANSFER)) if place.is_file() else None
