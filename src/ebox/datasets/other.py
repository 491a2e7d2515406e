"""Data that a network is measured on and was not trained for: every example is test, or the test split of a dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from ebox.datasets.build import gather_examples, start_build
from ebox.datasets.cleaning import measure_gc, measure_n
from ebox.datasets.examples import DropLog, Examples
from ebox.datasets.families import link_relatives
from ebox.datasets.folder import SPLITS, Dataset
from ebox.datasets.quality import report_quality
from ebox.datasets.seen import audit_against, find_seen
from ebox.datasets.similarity import SketchIndex, cluster_similar
from ebox.datasets.sources import DatasetSources
from ebox.datasets.splits import link_examples
from ebox.datasets.writing import tabulate_examples
from ebox.errors import InputError
from ebox.progress import Progress, quiet
from ebox.settings.reading import DataConfig

if TYPE_CHECKING:
    import polars

# What an evaluation reads of the table of examples.
_COLUMNS = ("name", "kind", "split", "chrom", "start", "end", "masked", "cluster", "relative")
_MADE = ("shuffled", "matched")


@dataclass(frozen=True)
class OtherData:
    """The training and validation splits of a network with test examples of other data.

    `is_known` says whether the training data are there: without them there are no examples of these two splits, and
    nothing is known of relatives. `quality` and `log` are those of a build; None for a dataset that was built before.
    """

    dataset: Dataset
    is_known: bool
    quality: dict[str, Any] | None = None
    log: DropLog | None = None


def choose_made(config: DataConfig, sources: DatasetSources, trained: Mapping[str, Any]) -> DataConfig:
    """The settings with the negatives that are made for sources: none beside given ones, else those of the training.

    Args:
        config: Settings; `negatives` and `match_repeats` stay as they are where they are set.
        sources: The files.
        trained: The manifest of the dataset of the network.

    Raises:
        InputError: there are no negatives, and those of the training were given; or those of the training were matched
            by a file of repeats, and none is given.
    """
    chosen = _choose_negatives(config, sources, trained["kinds"])
    if "matched" not in (chosen.negatives or ()) or chosen.match_repeats is not None or sources.repeats is not None:
        return chosen
    as_trained = trained["config"].get("match_repeats")
    if as_trained is None and any(source["role"] == "repeats" for source in trained.get("sources", ())):
        raise InputError(
            "the matched negatives of the training took the share of repeats from a file, and none is given here",
            file=sources.positives if sources.peaks is None else sources.peaks,
            remedy="give --repeats FILE, or match by GC alone: --set data.match_repeats=false",
        )
    return chosen.model_copy(update={"match_repeats": as_trained})


def _choose_negatives(config: DataConfig, sources: DatasetSources, trained_kinds: Sequence[str]) -> DataConfig:
    if config.negatives is not None:
        return config
    if sources.negatives or sources.table is not None:
        return config.model_copy(update={"negatives": ("given",)})
    made = tuple(kind for kind in _MADE if kind in trained_kinds)
    if not made:
        raise InputError(
            "there are no negatives, and those of the training were given in a file, so none can be made like them",
            file=sources.positives if sources.peaks is None else sources.peaks,
            remedy="give --negatives FILE, or have others made: --negative-kinds "
            + ("shuffled" if sources.genome is None else "matched"),
        )
    return config.model_copy(update={"negatives": made})


def read_other(
    config: DataConfig,
    sources: DatasetSources,
    trained: Dataset | None,
    *,
    path: Path,
    before: Sequence[Dataset] = (),
    progress: Progress = quiet,
) -> OtherData:
    """Read, clean and label sources as `build_dataset` does; every example is test.

    Args:
        config: How to clean; with the length and the track of the network.
        sources: The files.
        trained: The dataset of the network; None where it is gone.
        path: The file that the others belong to.
        before: Datasets of the networks that this one began with.
        progress: Called with the stage, the number done and the number in all.

    Raises:
        InputError: input that can't be read, files that don't go together, or examples of one class only.
    """
    build = start_build(config, sources, progress)
    build.has_free_length = False
    examples = gather_examples(build)
    examples = replace(examples, split=np.full(len(examples), SPLITS.index("test"), dtype=np.int8))
    cluster = _cluster(examples, config, build.sketch(examples.codes), progress)
    audit = audit_against(trained, examples, progress)
    gc, n_fraction = measure_gc(examples.codes), measure_n(examples.codes)
    quality = report_quality(
        examples,
        build.kinds,
        build.tracks,
        build.log,
        gc=gc,
        n_fraction=n_fraction,
        cluster=cluster,
        made=build.made,
        split={"mode": "test"},
        num_near_positives=build.num_near_positives,
        audit=audit.report,
    )
    # Of the splits that were trained on, the report of their own dataset tells; other notes have a number there.
    quality["warnings"] = [each for each in quality["warnings"] if each.get("of") not in SPLITS[:2]]
    rows, unrelated = np.arange(len(examples)), np.full(len(examples), -1)
    table = tabulate_examples(examples, rows, build.kinds, build.log.sources, gc, n_fraction, cluster, unrelated)
    test = _make_test(path, config, build.tracks, examples, table)
    related = (audit.relative[-len(examples) :] >= 0) | _find_related(before, test, progress)
    return OtherData(_join(trained, test, related), trained is not None, quality, build.log)


def take_test(
    trained: Dataset | None, other: Dataset, progress: Progress = quiet, before: Sequence[Dataset] = ()
) -> OtherData:
    """The test split of another dataset beside the training and validation splits of the network's own.

    Args:
        trained: The dataset of the network; None where it is gone.
        other: The other dataset.
        progress: Called with the stage.
        before: Datasets of the networks that this one began with.
    """
    related = _find_related([*before, *([] if trained is None else [trained])], other, progress)
    return OtherData(_join(trained, other, related), trained is not None)


def _find_related(trained: Sequence[Dataset], other: Dataset, progress: Progress) -> Bool[np.ndarray, " test"]:
    """Which test examples were seen in one of several trainings, at least as relatives."""
    rows = other.rows("test")
    related = np.zeros(rows.stop - rows.start, dtype=bool)
    for each in trained:
        related |= find_seen(each, other, rows, progress).related
    return related


def _cluster(examples: Examples, config: DataConfig, index: SketchIndex, progress: Progress) -> np.ndarray:
    """Like sequences and families, which count once where an interval is estimated."""
    cluster = link_examples(examples, cluster_similar(examples.codes, config.max_similarity, index, progress))
    if config.keep_families and config.max_similarity < 1.0:
        cluster, _, _ = link_relatives(examples.codes, cluster, [np.arange(len(examples))], progress)
    return cluster


def _make_test(
    path: Path, config: DataConfig, tracks: Sequence[str], examples: Examples, table: polars.DataFrame
) -> Dataset:
    """A dataset in memory whose examples are all test; its fingerprint is over their codes and targets."""
    manifest = {"tracks": list(tracks), "splits": _place_splits([0, 0, len(examples)]), "fingerprint": ""}
    made = Dataset(path, manifest, config, examples.codes, examples.targets, table)
    return replace(made, manifest={**manifest, "fingerprint": made.hash_split("test")})


def _place_splits(sizes: Sequence[int]) -> dict[str, dict[str, int]]:
    """Where each split begins and ends, as in a manifest."""
    edges = np.cumsum([0, *sizes]).tolist()
    return {name: {"start": edges[at], "stop": edges[at + 1]} for at, name in enumerate(SPLITS)}


def _join(trained: Dataset | None, other: Dataset, related: np.ndarray) -> Dataset:
    """Train and validation of one dataset and test of another; `related`: which of these have a relative in train."""
    import polars

    rows = other.rows("test")
    relative = polars.Series("relative", related).replace_strict({True: 0, False: None}, return_dtype=polars.Int64)
    columns = [name for name in _COLUMNS if name != "relative"]
    parts = [other.examples[rows.start : rows.stop].select(columns).with_columns(relative)]
    codes, targets = [other.codes[rows]], [other.targets[rows]]
    sizes = [0, 0, rows.stop - rows.start]
    if trained is not None:
        first, edge = trained.rows("validation").start, trained.rows("validation").stop
        sizes[:2] = first, edge - first
        parts.insert(0, trained.examples[:edge].select(_COLUMNS))
        codes.insert(0, trained.codes[:edge])
        targets.insert(0, trained.targets[:edge])
    manifest = {"tracks": list(other.tracks), "splits": _place_splits(sizes), "fingerprint": other.fingerprint}
    table = polars.concat(parts, how="vertical_relaxed")
    return Dataset(
        Path(os.path.abspath(other.path)), manifest, other.config, np.concatenate(codes), np.concatenate(targets), table
    )
