"""Examples while a dataset is built: label, kind and place of each; and the log of what was dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, UInt8

from ebox.storage.notes import Code

if TYPE_CHECKING:
    from ebox.sequences.intervals import Intervals


@dataclass(frozen=True)
class Source:
    """A file that examples came from."""

    path: str
    role: str
    num_records: int
    sha256: str
    cropped: int = 0
    # Of a file of places, how many windows stand around summits and around middles.
    on_summits: int | None = None
    on_middles: int | None = None

    @property
    def name(self) -> str:
        """The file name without its folders."""
        return self.path.replace("\\", "/").rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Examples:
    """Sequences of one length with what is known about each.

    `kind` and `source` are indices into lists that the caller keeps; `split` is 0 for train, 1 for validation, 2 for
    test, -1 where not yet assigned; `chrom` is "" and `start`, `end` are -1 where the place is unknown; `parent` is the
    row of the positive that a shuffled negative was made from, -1 for all others; `masked` is the share of bases in
    repeats of the genome, NaN where unknown.
    """

    codes: UInt8[np.ndarray, "example length"]
    targets: UInt8[np.ndarray, "example track"]
    names: list[str]
    kind: Int[np.ndarray, " example"]
    source: Int[np.ndarray, " example"]
    line: Int64[np.ndarray, " example"]
    chrom: np.ndarray
    start: Int64[np.ndarray, " example"]
    end: Int64[np.ndarray, " example"]
    strand: np.ndarray
    split: Int[np.ndarray, " example"]
    parent: Int64[np.ndarray, " example"]
    masked: Float32[np.ndarray, " example"]

    def __len__(self) -> int:
        return int(self.codes.shape[0])

    @property
    def is_positive(self) -> Bool[np.ndarray, " example"]:
        """Whether any track of the example is 1."""
        return (self.targets == 1).any(axis=1)

    @property
    def num_tracks(self) -> int:
        """How many tracks there are."""
        return int(self.targets.shape[1])

    @property
    def has_place(self) -> Bool[np.ndarray, " example"]:
        """Whether the coordinates are known."""
        return self.start >= 0

    def take(self, rows: Int64[np.ndarray, " row"]) -> Examples:
        """The examples at `rows`, in that order; a parent that is not among them becomes -1."""
        new_row = np.full(len(self), -1, dtype=np.int64)
        new_row[rows] = np.arange(len(rows))
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        columns["parent"] = np.where(columns["parent"] >= 0, new_row[columns["parent"]], -1)
        return Examples(names=[self.names[row] for row in rows.tolist()], **columns)


_COLUMNS = tuple(column.name for column in fields(Examples) if column.name != "names")


def make_examples(
    codes: UInt8[np.ndarray, "example length"],
    names: list[str],
    *,
    target: int | UInt8[np.ndarray, "example ..."],
    kind: int | Int[np.ndarray, " example"],
    source: int,
    line: Int64[np.ndarray, " example"] | None = None,
    chrom: np.ndarray | None = None,
    start: Int64[np.ndarray, " example"] | None = None,
    end: Int64[np.ndarray, " example"] | None = None,
    strand: np.ndarray | None = None,
    split: int = -1,
    parent: Int64[np.ndarray, " example"] | None = None,
) -> Examples:
    """Examples of one source; whatever is not given is unknown.

    Args:
        codes: Base codes.
        names: One for each example.
        target: 0 or 1, for all or for each; of several tracks a row for each.
        kind: Index of the kind, for all or for each.
        source: Index of the source.
        line: Line in the source.
        chrom: Chromosome.
        start: First base of the place, 0-based.
        end: End of the place, exclusive.
        strand: "+", "-" or ".".
        split: 0 train, 1 validation, 2 test; -1: not yet assigned.
        parent: Row of the positive that a shuffled negative was made from.
    """
    num = codes.shape[0]
    targets = np.asarray(target, dtype=np.uint8)
    targets = targets if targets.ndim == 2 else np.broadcast_to(targets, (num,)).copy()[:, None]
    return Examples(
        codes=codes,
        targets=targets,
        names=names,
        kind=np.broadcast_to(np.asarray(kind, dtype=np.int16), (num,)).copy(),
        source=np.full(num, source, dtype=np.int16),
        line=_unknown(num) if line is None else line,
        chrom=np.full(num, "", dtype=object) if chrom is None else chrom.astype(object),
        start=_unknown(num) if start is None else start,
        end=_unknown(num) if end is None else end,
        strand=np.full(num, ".", dtype="<U1") if strand is None else strand.astype("<U1"),
        split=np.full(num, split, dtype=np.int8),
        parent=_unknown(num) if parent is None else parent,
        masked=np.full(num, np.nan, dtype=np.float32),
    )


def _unknown(num: int) -> Int64[np.ndarray, " example"]:
    return np.full(num, -1, dtype=np.int64)


def concatenate(parts: Sequence[Examples]) -> Examples:
    """One table of all parts in order; `parent` must already count the rows of the whole."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    return Examples(names=[name for part in parts for name in part.names], **columns)


def places_of(examples: Examples, rows: Int64[np.ndarray, " row"]) -> Intervals:
    """The places of some examples as intervals."""
    from ebox.sequences.places import make_intervals

    places = make_intervals(examples.chrom[rows], examples.start[rows], examples.end[rows], source="examples")
    return replace(places, lines=examples.line[rows])


class Dropped(Code):
    """Why a record did not become an example."""

    AVOIDED = "avoided"
    BLACKLISTED = "blacklisted"
    CONFLICTING = "conflicting_labels"
    DUPLICATE = "duplicate"
    IN_OTHER_SPLIT = "in_other_split"
    JOINED = "joined"
    NEAR_POSITIVE = "near_positive"
    NOT_DRAWN = "not_drawn"
    OFF_CONTIG = "off_contig"
    TOO_MUCH_N = "too_much_n"
    TOO_SHORT = "too_short"
    UNLABELLED = "unlabelled"
    UNKNOWN_CHROMOSOME = "unknown_chromosome"


@dataclass
class DropLog:
    """The files read, what is in doubt of them, and every record that did not become an example, with its reason.

    `measured` holds what the bases of examples don't show, by feature and number of the kind.
    """

    sources: list[Source] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rows: list[tuple[str, int, str, str, str]] = field(default_factory=list)
    notes: list[Mapping[str, Any]] = field(default_factory=list)
    measured: dict[str, dict[int, list[np.ndarray]]] = field(default_factory=dict)

    def measure(self, feature: str, kinds: Int[np.ndarray, " record"], values: np.ndarray) -> None:
        """Keep what the bases of the examples don't show, such as a length before they were cut, by kind."""
        of_kinds = self.measured.setdefault(feature, {})
        for kind in np.unique(kinds).tolist():
            of_kinds.setdefault(int(kind), []).append(values[kinds == kind])

    def add(
        self, source: str, lines: Iterable[int], names: Iterable[str], reason: Dropped, details: Iterable[str]
    ) -> None:
        """Add records of one source that were dropped for one reason.

        Args:
            source: Name of the source.
            lines: Line of each record.
            names: Name of each record.
            reason: Why they were dropped.
            details: `key=value` words for each record.
        """
        before = len(self.rows)
        self.rows += [
            (source, line, name, reason, detail) for line, name, detail in zip(lines, names, details, strict=True)
        ]
        if len(self.rows) > before:
            self.counts[reason] += len(self.rows) - before

    def add_examples(
        self, examples: Examples, rows: Int64[np.ndarray, " row"], reason: Dropped, details: Sequence[str] | str
    ) -> None:
        """Add rows of a table of examples that were dropped for one reason.

        Args:
            examples: The table.
            rows: The dropped rows.
            reason: Why they were dropped.
            details: `key=value` words for each row, or one text for all.
        """
        texts = [details] * len(rows) if isinstance(details, str) else list(details)
        lines = examples.line[rows].tolist()
        origin = examples.source[rows].tolist()
        self.rows += [
            (self.sources[index].name, line, examples.names[row], reason, text)
            for index, line, row, text in zip(origin, lines, rows.tolist(), texts, strict=True)
        ]
        if len(rows):
            self.counts[reason] += len(rows)

    def describe(self) -> str:
        """The counts by the reasons of dropped.tsv, most frequent first."""
        return ", ".join(f"{num:,} {reason}" for reason, num in self.counts.most_common())
