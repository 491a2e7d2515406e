"""The held-out examples of a training that the network it begins with has seen: counts, and a list beside a refusal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.progress import Progress
from ebox.storage.publishing import publish_file

if TYPE_CHECKING:
    from ebox.datasets.folder import Dataset
    from ebox.datasets.seen import SeenResult

# The splits of a source that its network depends on: one trained it, and the other chose its step and calibrated it.
SEEN_SPLITS = ("train", "validation")
_HEADER = ("name", "seen_name", "seen_split", "seen_dataset")


@dataclass(frozen=True)
class Shared:
    """What a split of a source's dataset shares with the validation and test examples of another, in their order."""

    source: Dataset
    split: str
    found: SeenResult


def find_shared(sources: Sequence[Dataset], data: Dataset, progress: Progress) -> list[Shared]:
    """Look for the validation and test examples of a dataset in what its sources were trained and chosen on.

    Args:
        sources: The datasets of the sources.
        data: The dataset of the training.
        progress: Called with the stage.
    """
    from ebox.datasets.seen import find_seen

    rows = slice(data.rows("validation").start, data.rows("test").stop)
    return [
        Shared(source, split, find_seen(source, data, rows, progress, split))
        for source in sources
        for split in SEEN_SPLITS
    ]


def describe_shared(shared: Sequence[Shared], data: Dataset, split: str) -> dict[str, Any]:
    """Of a split: how many examples the sources have seen in their training and validation, and the rows of these.

    Args:
        shared: What was found.
        data: The dataset of the training.
        split: One of its splits, validation or test.
    """
    import numpy as np

    rows, first = data.rows(split), data.rows("validation").start
    nothing = np.zeros(rows.stop - rows.start, dtype=bool)
    marks = {(seen, kind): nothing.copy() for seen in SEEN_SPLITS for kind in ("same", "related")}
    for one in shared:
        for kind in ("same", "related"):
            marks[one.split, kind] |= getattr(one.found, kind)[rows.start - first : rows.stop - first]
    trained, validated = (
        {f"num_{kind}": int(marks[seen, kind].sum()) for kind in ("same", "related")} for seen in SEEN_SPLITS
    )
    return {
        "of": len(nothing),
        **trained,
        "in_validation": validated,
        "rows": np.flatnonzero(marks["train", "related"] | marks["validation", "related"]).tolist(),
    }


def count_same(seen: Mapping[str, Any]) -> int:
    """How many findings of a split mean that an example, or nearly the same one, trained or chose the source."""
    return int(seen["num_same"]) + int(seen["in_validation"]["num_same"])


def refuse_seen(
    shared: Sequence[Shared], seen: Mapping[str, Any], data: Dataset, source: Path, out: Path | None
) -> InputError:
    """The error of a training whose source has seen test examples; a file beside the run folder lists them.

    Args:
        shared: What was found.
        seen: The counts of the test split.
        data: The dataset of the training.
        source: The run that the training begins with.
        out: The run folder that is asked for; none: no list is written.
    """
    lines = list(_iter_lines(shared, data))
    whole = f"of the {seen['of']:,} test examples of the dataset, or on nearly the same ones"
    parts = [f"trained on {seen['num_same']:,} {whole}"] if seen["num_same"] else []
    if validated := seen["in_validation"]["num_same"]:
        parts.append(f"was chosen on its validation split with {validated:,} {whole if not parts else 'of them'}")
    problem = f"{', and '.join(parts)}, such as {lines[0][0]}"
    place = None if out is None else _write_list(out, lines)
    ways = ["choose another --out, beside which they can be listed"]
    if place is not None:
        ways = [
            f"take the sequences that {place} lists out of the files of the dataset",
            "train the source anew without their partners in that list",
        ]
    if all(_has_places(each) for each in (data, *(one.source for one in shared))):
        ways.append("build both datasets with the same chromosomes for test")
    ways.append("insist with --allow-seen: `ebox evaluate` then measures the test split with them and without them")
    return InputError(problem, file=source, remedy="; or ".join(ways))


def _iter_lines(shared: Sequence[Shared], data: Dataset) -> Iterator[tuple[str, str, str, str]]:
    """The name of each test example that was seen, and that of its partner, its split and its dataset."""
    import numpy as np

    first, test = data.rows("validation").start, data.rows("test")
    names = data.examples["name"]
    for one in shared:
        others, found = one.source.examples["name"], one.found
        for row in np.flatnonzero(found.same[test.start - first :]).tolist():
            partner = int(found.partner[test.start - first + row])
            yield names[test.start + row], others[partner], one.split, str(one.source.path)


def _write_list(out: Path, lines: Sequence[tuple[str, ...]]) -> Path | None:
    """Write the list beside a run folder; None where it can't be written, or where another file has its name."""
    place, header = out.parent / f"{out.name}-seen.tsv", "\t".join(_HEADER)
    try:
        if place.exists() and not place.read_text(encoding="utf-8").startswith(header):
            return None
        with publish_file(place) as temporary:
            temporary.write_text("".join("\t".join(line) + "\n" for line in (_HEADER, *lines)), encoding="utf-8")
    except (InputError, OSError, UnicodeDecodeError):
        return None
    return place


def _has_places(data: Dataset) -> bool:
    return not data.examples["chrom"].has_nulls()
