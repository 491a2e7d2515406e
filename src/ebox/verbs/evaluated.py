"""What an evaluation measures: the test split of a run, that of another dataset, or sequences and places."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.progress import PathLike, Progress
from ebox.storage.notes import Code
from ebox.storage.stamps import EVALUATION, read_stamped
from ebox.verbs.opening import open_dataset_of
from ebox.verbs.transferred import find_datasets, mark_seen, read_sources_of

if TYPE_CHECKING:
    from ebox.datasets.examples import DropLog
    from ebox.datasets.folder import Dataset
    from ebox.datasets.other import OtherData
    from ebox.datasets.sources import DatasetSources
    from ebox.evaluation.reading import Kept
    from ebox.models.files import LoadedModel
    from ebox.settings.reading import DataConfig

# Part of a file name, on every system.
_NAME = re.compile(r'[^/\\:*?"<>|\x00-\x1f]{1,100}')
# A file name has at most 255 bytes on most disks, and `predictions-NAME.parquet` is one.
_MAX_NAME_BYTES = 200
_ENDINGS = re.compile(r"(\.(fa|fasta|fna|fas|txt|csv|tsv|seq|bed|narrowPeak))?(\.(gz|bgz))?$")


class ChosenOn(Code):
    """Where the thresholds for other data come from, and what the baselines were fitted to."""

    TRAINING_DATA = "chosen_on_training_data"
    # The training data are gone; the network was measured before that, or not.
    EVALUATION = "chosen_on_evaluation"
    NOTHING = "chosen_on_nothing"


@dataclass(frozen=True)
class Evaluated:
    """The examples with all three splits; what is other than those of the run is named.

    `name` is None and `files` are none for the run's own dataset. `quality` and `log` are those of a build from
    sources.
    """

    dataset: Dataset
    name: str | None = None
    files: tuple[str, ...] = ()
    chosen_on: ChosenOn | None = None
    kept: dict[str, Kept] | None = None
    quality: dict[str, Any] | None = None
    log: DropLog | None = None

    def of_training(self, run: Path) -> Evaluated:
        """The same for another training on the same data, whose own earlier thresholds count where these do."""
        from ebox.evaluation.reading import read_kept

        return self if self.kept is None else replace(self, kept=read_kept(run))

    def count_seen(self) -> dict[str, int] | None:
        """How many test examples of other data this network has seen; None for its own, or where nothing is known."""
        if self.chosen_on is not ChosenOn.TRAINING_DATA:
            return None
        rows = self.dataset.rows("test")
        seen = self.dataset.examples["relative"][rows.start : rows.stop].is_not_null()
        return {"num_examples": int(seen.sum()), "of": len(seen)}


def find_evaluated(
    run: Path,
    model: LoadedModel,
    data: PathLike | None,
    sources: DatasetSources | None,
    name: str | None,
    config: DataConfig,
    progress: Progress,
) -> Evaluated:
    """Open or make what is measured.

    Args:
        run: The run folder.
        model: Its network.
        data: Another dataset folder, or that of the run; none: that of the run, or the sources.
        sources: Files of which every example is test.
        name: Of the other data; none: that of the folder or file.
        config: How sources are cleaned.
        progress: Called with the stage.

    Raises:
        InputError: no dataset, sources that can't be read or measured, or a name that other data have.
    """
    from ebox.datasets.other import take_test

    if sources is not None:
        if data is not None:
            raise InputError(
                "--data is a dataset folder, and can't be combined with files of sequences", remedy="give one of them"
            )
        return _read_sources(run, model, sources, name, config, progress)
    dataset, is_own = open_dataset_of(run, data)
    dataset = _fit_to(dataset, model)
    if is_own:
        if name is not None:
            raise InputError("--name is for other data than those of the run", remedy="leave --name out")
        return Evaluated(mark_seen(run, dataset))
    place = dataset.path.resolve()
    files = (str(place),)
    name = _check_name(run, place.name if name is None else name, files)
    before = _find_before(run)
    return _describe(run, name, files, take_test(_find_trained(run), dataset, progress, before))


def _read_sources(
    run: Path,
    model: LoadedModel,
    sources: DatasetSources,
    name: str | None,
    config: DataConfig,
    progress: Progress,
) -> Evaluated:
    from ebox.datasets.other import choose_made, read_other
    from ebox.storage import run_folder

    head = _find_head(sources)
    if len(model.tracks) != 1 and sources.table is None:
        raise InputError(
            f"the network has the tracks {', '.join(model.tracks)}, and a file of sequences one label",
            file=head,
            remedy="give a --table with a column of labels for each of these tracks, or a dataset: --data FOLDER",
        )
    if config.length_bp not in (None, model.length_bp):
        raise InputError(
            f"data.length_bp is {config.length_bp}, and the network reads {model.length_bp} bp",
            remedy="leave data.length_bp out",
        )
    files = tuple(os.path.abspath(path) for path in (head, *sources.negatives))
    name = _check_name(run, _make_name(head) if name is None else name, files)
    config = choose_made(config, sources, run_folder.read_dataset(run))
    columns = model.tracks if len(model.tracks) > 1 else _find_column(sources, config)
    fixed = {"length_bp": model.length_bp, "track": model.tracks[0], "label_columns": columns}
    config = config.model_copy(update=fixed)
    before = _find_before(run)
    found = read_other(config, sources, _find_trained(run), path=head, before=before, progress=progress)
    return _describe(run, name, files, found)


def _find_column(sources: DatasetSources, config: DataConfig) -> tuple[str, ...] | None:
    """The column of labels of a network with one track: that of the settings for a table; else none."""
    columns = config.label_columns if sources.table is not None else None
    if columns is not None and len(columns) > 1:
        raise InputError(
            f"data.label_columns names {len(columns)} columns, and the network has one track",
            file=sources.table,
            remedy="name the one that the network is measured on",
        )
    return columns


def _describe(run: Path, name: str, files: tuple[str, ...], found: OtherData) -> Evaluated:
    from ebox.evaluation.reading import read_kept

    kept = None if found.is_known else read_kept(run)
    without = ChosenOn.EVALUATION if kept else ChosenOn.NOTHING
    chosen_on = ChosenOn.TRAINING_DATA if found.is_known else without
    return Evaluated(found.dataset, name, files, chosen_on, kept, found.quality, found.log)


def _find_head(sources: DatasetSources) -> Path:
    """The file that the others belong to."""
    if sources.splits or sources.split_negatives:
        raise InputError(
            "every example is test here, so there are no splits", remedy="give the file of the test split as --table"
        )
    for path in (sources.table, sources.positives, sources.peaks):
        if path is not None:
            return path
    raise InputError("there are no positives", remedy="give one of --positives, --peaks or --table")


def _find_trained(run: Path) -> Dataset | None:
    """The dataset that a run was trained on; None where it is gone or has changed."""
    try:
        return open_dataset_of(run, None)[0]
    except InputError:
        return None


def _find_before(run: Path) -> list[Dataset]:
    """The datasets of the networks that the training of a run began with, as far as they are there."""
    return [data for data in find_datasets(read_sources_of(run)) if data is not None]


def _make_name(head: Path) -> str:
    name = _ENDINGS.sub("", head.name)
    if not head.exists():
        raise InputError("there is no such file", file=head, remedy="check the path")
    if head.is_dir():
        raise InputError(
            "is a folder, not a file", file=head, remedy="name a file in it; a dataset folder is given with --data"
        )
    if not head.is_file():
        raise InputError("is a pipe, and gives the evaluation no name", file=head, remedy="give one: --name NAME")
    return name


def _check_name(run: Path, name: str, files: tuple[str, ...]) -> str:
    """The name of other data, if no evaluation of other files has it."""
    from ebox.storage import run_folder

    if not _NAME.fullmatch(name) or len(os.fsencode(name)) > _MAX_NAME_BYTES:
        raise InputError(
            f"{name!r} can't be the name of an evaluation, which is part of the names of its files",
            file=files[0],
            remedy="give one: --name NAME",
        )
    earlier = run / run_folder.name_other(run_folder.EVALUATION, name)
    if not earlier.exists():
        return name
    try:
        found = read_stamped(earlier, EVALUATION).get("files")
    except InputError:
        found = None
    if found != list(files):
        raise InputError(
            f"is the evaluation of {' and '.join(found) if found else 'other data'}, and would be replaced",
            file=earlier,
            remedy="give another name: --name NAME",
        )
    return name


def _fit_to(data: Dataset, model: LoadedModel) -> Dataset:
    """The dataset with its tracks in the order of the model's."""
    if data.length_bp != model.length_bp:
        raise InputError(
            f"holds sequences of {data.length_bp} bp; the model was trained on {model.length_bp} bp",
            file=data.path,
            remedy=f"build it with --length {model.length_bp}, or give its files here: --table, --positives or --peaks",
        )
    if data.tracks == model.tracks:
        return data
    if set(data.tracks) == set(model.tracks):
        return data.with_tracks(model.tracks)
    names = ",".join(model.tracks)
    way = f"with --set data.track={names}" if len(model.tracks) == 1 else f"with the tracks {names}, in any order"
    raise InputError(
        f"has the tracks {', '.join(data.tracks)}; the model gives {', '.join(model.tracks)}",
        file=data.path,
        remedy=f"build it {way} from the positives of these alone (of a table with a column of labels for each: "
        f"--label-columns {names}), if that is what they have in common",
    )
