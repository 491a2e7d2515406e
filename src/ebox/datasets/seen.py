"""Which examples of another dataset a network has seen in its training: equal, overlapping, or relatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from ebox.datasets.audit import AuditResult, audit_splits
from ebox.datasets.examples import Examples, concatenate, make_examples
from ebox.datasets.folder import Dataset
from ebox.progress import Progress, quiet
from ebox.settings.reading import DataConfig

_TEST = 2


def find_seen(trained: Dataset, asked: Dataset, rows: slice, progress: Progress = quiet) -> Bool[np.ndarray, " asked"]:
    """Whether an example at `rows` equals, overlaps, resembles or is a relative of one of the training of `trained`.

    Places are compared by the names of the chromosomes; both datasets are taken for the same genome build.

    Args:
        trained: The dataset of the network; its training split counts.
        asked: The other dataset, with sequences of the same length.
        rows: The examples of `asked` that are looked for.
        progress: Called with the stage.
    """
    found = audit_against(trained, _take(asked, rows, _TEST), progress)
    return found.relative[-(rows.stop - rows.start) :] >= 0


def audit_against(trained: Dataset | None, asked: Examples, progress: Progress = quiet) -> AuditResult:
    """Audit examples as the test split of the training of `trained`; without one only among themselves.

    `relative` has the rows of the training first.
    """
    # Whatever the tracks: an example of the training was seen there whole.
    positive = asked.is_positive[:, None].astype(np.uint8)
    split = np.full(len(asked), _TEST, dtype=np.int8)
    asked = replace(asked, chrom=_strip(asked.chrom.tolist()), split=split, targets=positive)
    parts = [] if trained is None else [_take(trained, trained.rows("train"), 0)]
    return audit_splits(concatenate([*parts, asked]), DataConfig().max_similarity, seed=0, progress=progress)


def _take(dataset: Dataset, rows: slice, split: int) -> Examples:
    """Some rows of a dataset as examples."""
    table = dataset.examples[rows.start : rows.stop]
    return make_examples(
        np.asarray(dataset.codes[rows]),
        table["name"].to_list(),
        target=(np.asarray(dataset.targets[rows]) == 1).any(axis=1).astype(np.uint8),
        kind=1,
        source=0,
        chrom=_strip(table["chrom"].to_list()),
        start=table["start"].fill_null(-1).to_numpy().astype(np.int64),
        end=table["end"].fill_null(-1).to_numpy().astype(np.int64),
        split=split,
    )


def _strip(chroms: list[str | None]) -> np.ndarray:
    """Chromosomes bare of the prefix "chr", so that both ways to write a place meet."""
    return np.array([(name or "").removeprefix("chr") for name in chroms], dtype=object)
