"""Which examples of another dataset a network has seen in its training: the same, nearly the same, or relatives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int64

from ebox.datasets.audit import AuditResult, audit_splits
from ebox.datasets.examples import Examples, concatenate, make_examples
from ebox.datasets.folder import Dataset
from ebox.progress import Progress, quiet
from ebox.settings.reading import DataConfig

_TEST = 2
# The findings of the audit that mean the same locus, or nearly the same sequence.
_SAME = ("exact", "reverse_complement", "overlap", "similar")


@dataclass(frozen=True)
class SeenResult:
    """Of some examples, which were seen in a training as they are or nearly so, and which at least as relatives.

    `partner` is a row of the other dataset that was found for each, or -1.
    """

    same: Bool[np.ndarray, " asked"]
    related: Bool[np.ndarray, " asked"]
    partner: Int64[np.ndarray, " asked"]


def find_seen(
    trained: Dataset, asked: Dataset, rows: slice, progress: Progress = quiet, split: str = "train"
) -> SeenResult:
    """Which examples at `rows` equal, overlap, resemble or are relatives of those of the training of `trained`.

    Places are compared by the names of the chromosomes; both datasets are taken for the same genome build. Where the
    lengths differ, the longer sequences are looked through in windows of the shorter length, half of which overlap.

    Args:
        trained: The dataset of the network.
        asked: The other dataset.
        rows: The examples of `asked` that are looked for.
        progress: Called with the stage.
        split: The split of `trained` that counts.
    """
    length_bp = min(trained.length_bp, asked.length_bp)
    found = _audit_beside(trained, _take(asked, rows, _TEST, length_bp), length_bp, progress, split)
    num = rows.stop - rows.start
    windows = num * len(_place_windows(asked.length_bp, length_bp))
    first = len(found.relative) - windows
    same = np.zeros(windows, dtype=bool)
    for kind in _SAME:
        same[found.tested[kind] - first] = True
    partner = found.relative[first:]
    related = partner >= 0
    # The window of each example that shows most.
    best = (same.astype(np.int8) + related).reshape(num, -1).argmax(axis=1) if num else np.empty(0, np.int64)
    chosen = partner.reshape(num, -1)[np.arange(num), best] if num else partner
    windows_each = len(_place_windows(trained.length_bp, length_bp))
    chosen = np.where(chosen >= 0, trained.rows(split).start + chosen // windows_each, -1)
    return SeenResult(_any_window(same, num), _any_window(related, num), chosen)


def audit_against(trained: Dataset | None, asked: Examples, progress: Progress = quiet) -> AuditResult:
    """Audit examples as the test split of the training of `trained`; without one only among themselves.

    `relative` has the rows of the training first.
    """
    return _audit_beside(trained, asked, asked.codes.shape[1], progress)


def _audit_beside(
    trained: Dataset | None, asked: Examples, length_bp: int, progress: Progress, seen: str = "train"
) -> AuditResult:
    # Whatever the tracks: an example of the training was seen there whole.
    positive = asked.is_positive[:, None].astype(np.uint8)
    split = np.full(len(asked), _TEST, dtype=np.int8)
    asked = replace(asked, chrom=_strip(asked.chrom.tolist()), split=split, targets=positive)
    parts = [] if trained is None else [_take(trained, trained.rows(seen), 0, length_bp)]
    return audit_splits(concatenate([*parts, asked]), DataConfig().max_similarity, seed=0, progress=progress)


def _take(dataset: Dataset, rows: slice, split: int, length_bp: int) -> Examples:
    """Some rows of a dataset as examples of a length, each cut into windows that follow one another in the result."""
    table = dataset.examples[rows.start : rows.stop]
    offsets = _place_windows(dataset.length_bp, length_bp)
    codes = np.asarray(dataset.codes[rows])
    windows = np.stack([codes[:, first : first + length_bp] for first in offsets.tolist()], axis=1)
    start = table["start"].fill_null(-1).to_numpy().astype(np.int64)
    known = np.repeat(start >= 0, len(offsets))
    starts = (start[:, None] + offsets).ravel()
    targets = (np.asarray(dataset.targets[rows]) == 1).any(axis=1).astype(np.uint8)
    return make_examples(
        windows.reshape(-1, length_bp),
        [name for name in table["name"].to_list() for _ in offsets],
        target=np.repeat(targets, len(offsets)),
        kind=1,
        source=0,
        chrom=np.repeat(_strip(table["chrom"].to_list()), len(offsets)),
        start=np.where(known, starts, -1),
        end=np.where(known, starts + length_bp, -1),
        split=split,
    )


def _any_window(found: Bool[np.ndarray, " window"], num: int) -> Bool[np.ndarray, " asked"]:
    """Whether any of the windows of each of `num` examples was found."""
    whole: np.ndarray = found.reshape(num, -1)
    return np.asarray(whole.any(axis=1))


def _place_windows(whole_bp: int, length_bp: int) -> Int64[np.ndarray, " window"]:
    """Where windows of a length begin in a sequence, at most half a length from one to the next."""
    num = 1 if whole_bp == length_bp else 2 * -(-whole_bp // length_bp) - 1
    return np.linspace(0, whole_bp - length_bp, num).round().astype(np.int64)


def _strip(chroms: list[str | None]) -> np.ndarray:
    """Chromosomes bare of the prefix "chr", so that both ways to write a place meet."""
    return np.array([(name or "").removeprefix("chr") for name in chroms], dtype=object)
