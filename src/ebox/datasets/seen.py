"""Which examples of another dataset a network has seen in its training: equal, overlapping, or relatives."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from ebox.datasets.audit import audit_splits
from ebox.datasets.examples import Examples, concatenate, make_examples
from ebox.datasets.folder import Dataset
from ebox.progress import Progress, quiet
from ebox.settings.reading import DataConfig


def find_seen(trained: Dataset, asked: Dataset, rows: slice, progress: Progress = quiet) -> Bool[np.ndarray, " asked"]:
    """Whether an example at `rows` equals, overlaps, resembles or is a relative of one of the training of `trained`.

    Places are compared by the names of the chromosomes; both datasets are taken for the same genome build.

    Args:
        trained: The dataset of the network; its training split counts.
        asked: The other dataset, with sequences of the same length.
        rows: The examples of `asked` that are looked for.
        progress: Called with the stage.
    """
    parts = (_take(trained, trained.rows("train"), 0), _take(asked, rows, 2))
    both = concatenate(parts)
    found = audit_splits(both, DataConfig().max_similarity, seed=0, progress=progress)
    return found.relative[len(parts[0]) :] >= 0


def _take(dataset: Dataset, rows: slice, split: int) -> Examples:
    """Some rows of a dataset as examples; a place is bare of the prefix "chr", so that both ways to write it meet."""
    table = dataset.examples[rows.start : rows.stop]
    return make_examples(
        np.asarray(dataset.codes[rows]),
        table["name"].to_list(),
        target=0,
        kind=1,
        source=0,
        chrom=np.array([(name or "").removeprefix("chr") for name in table["chrom"].to_list()], dtype=object),
        start=table["start"].fill_null(-1).to_numpy().astype(np.int64),
        end=table["end"].fill_null(-1).to_numpy().astype(np.int64),
        split=split,
    )
