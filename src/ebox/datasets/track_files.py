"""The table of several tracks: for each its positives or peaks, and negatives of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebox.errors import InputError, suggest
from ebox.progress import PathLike

COLUMNS = ("track", "positives", "peaks", "negatives")


@dataclass(frozen=True)
class TrackFiles:
    """A track and its files: positives (FASTA) or peaks (BED), and negatives that are known for this track alone."""

    name: str
    bound: Path
    is_peaks: bool = False
    negatives: Path | None = None


def read_tracks(path: PathLike) -> tuple[TrackFiles, ...]:
    """Read the table of tracks: TSV or CSV with a column track, positives or peaks or both, and perhaps negatives.

    A path that is not absolute begins at the folder of the table. Each line has positives or peaks.

    Raises:
        InputError: a column that is unknown or missing, a line of another width, a name that stands there twice, a
            track with no positives or with both positives and peaks, or a file that is not there or serves two tracks.
    """
    from ebox.sequences.streams import iter_bytes
    from ebox.sequences.tables import check_width, iter_fields

    source = str(path)
    rows = iter_fields(iter_bytes(path), source)
    line, header = next(rows, (1, []))
    header = [column.strip() for column in header]
    _check_header(header, source, line)
    found: list[TrackFiles] = []
    for line, fields in rows:
        check_width(fields, header, source, line)
        cells = {column: text.strip() for column, text in zip(header, fields, strict=True)}
        found.append(_make_track(cells, Path(path).parent, source, line))
        _check_new(found, source, line)
    if not found:
        raise InputError("names no track", file=source, remedy="give a line for each track below the names of columns")
    return tuple(found)


def _check_header(header: Sequence[str], source: str, line: int) -> None:
    shown = "\\t".join(COLUMNS)
    remedy = f"begin the table with {shown} (peaks, positives or negatives may be left out)"
    unknown = [column for column in header if column not in COLUMNS]
    if unknown:
        near = suggest(unknown[0], COLUMNS, 0.4)
        raise InputError(f"has the column {unknown[0][:30]!r}{near}", file=source, line=line, remedy=remedy)
    twice = [column for column in header if header.count(column) > 1]
    if twice:
        raise InputError(f"has the column {twice[0]!r} twice", file=source, line=line, remedy=remedy)
    if "track" not in header or not {"positives", "peaks"} & set(header):
        missing = "positives or peaks" if "track" in header else "track"
        raise InputError(f"has no column {missing}", file=source, line=line, remedy=remedy)


def _make_track(cells: Mapping[str, str], folder: Path, source: str, line: int) -> TrackFiles:
    name = cells["track"]
    if not name:
        raise InputError("the name of the track is empty", file=source, line=line, remedy="name the track")
    files = {column: folder / cells[column] for column in COLUMNS[1:] if cells.get(column)}
    if ("positives" in files) == ("peaks" in files):
        what = "positives and peaks" if "peaks" in files else "neither positives nor peaks"
        raise InputError(f"has {what}", file=source, line=line, record=name, remedy="give one of them for each track")
    for column, file in files.items():
        if not file.exists():
            raise InputError(
                f"there is no such file of {column}: {file}",
                file=source,
                line=line,
                record=name,
                remedy="check the path; one that is not absolute begins at the folder of this table",
            )
    is_peaks = "peaks" in files
    return TrackFiles(name, files["peaks" if is_peaks else "positives"], is_peaks, files.get("negatives"))


def _check_new(found: Sequence[TrackFiles], source: str, line: int) -> None:
    """Raise InputError where the last track has the name or the positives of an earlier one."""
    *earlier, last = found
    for other in earlier:
        problem = None
        if other.name == last.name:
            problem, remedy = "stands there twice", "give each track a name of its own; join files of one track first"
        elif other.bound.samefile(last.bound):
            problem, remedy = f"has the positives of {other.name}: {last.bound}", "give each track its own positives"
        if problem is not None:
            raise InputError(problem, file=source, line=line, record=last.name, remedy=remedy)


def list_negatives(tracks: Sequence[TrackFiles]) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Each file of negatives of single tracks, once, with the numbers of the tracks that it belongs to."""
    found: dict[Path, list[int]] = {}
    for number, track in enumerate(tracks):
        if track.negatives is not None:
            found.setdefault(track.negatives, []).append(number)
    for path, numbers in found.items():
        yield path, tuple(numbers)
