"""Write the files of a dataset folder: codes, targets, table of examples, reports and manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, UInt8

from ebox.datasets.audit import AuditResult
from ebox.datasets.cleaning import measure_gc, measure_n
from ebox.datasets.examples import DropLog, Examples, Source
from ebox.datasets.folder import EXAMPLE_COLUMNS, MANIFEST, SPLITS, compute_fingerprint, describe_files
from ebox.datasets.quality import report_quality
from ebox.settings.reading import DataConfig
from ebox.storage.publishing import write_json
from ebox.storage.stamps import DATASET, write_stamped

if TYPE_CHECKING:
    import polars

_ROWS_AT_ONCE = 1 << 16
_CONTROL = str.maketrans({"\t": " ", "\n": " ", "\r": " "})


def write_dataset(
    folder: Path,
    examples: Examples,
    *,
    config: DataConfig,
    kinds: Sequence[str],
    tracks: Sequence[str],
    log: DropLog,
    cluster: Int64[np.ndarray, " example"],
    made: Mapping[str, Mapping[str, Any]],
    split: Mapping[str, Any],
    num_near_positives: int = 0,
    audit: AuditResult,
    command: Sequence[str],
) -> None:
    """Write all files of a dataset into an empty folder; the structure is in docs/formats.md.

    Args:
        folder: Where to write; the caller publishes it.
        examples: With their splits; the rows are sorted by split, and keep their order inside each split.
        config: Settings, kept in the manifest.
        kinds: Name of each kind.
        tracks: Name of each track.
        log: The files read, and what was dropped.
        cluster: Cluster of each example.
        made: For each made kind of negative how many were wanted and made.
        split: Mode and settings of the split.
        num_near_positives: Negatives that lie on a positive, or are nearly the same, and were kept.
        audit: From `audit_splits`.
        command: The command line.
    """
    order = np.argsort(examples.split, kind="stable")
    gc, n_fraction = measure_gc(examples.codes), measure_n(examples.codes)
    _write_codes(folder / "codes.npy", examples.codes, order)
    np.save(folder / "targets.npy", examples.targets[order], allow_pickle=False)
    table = tabulate_examples(examples, order, kinds, log.sources, gc, n_fraction, cluster, audit.relative)
    table.write_parquet(folder / "examples.parquet", compression="zstd", statistics=False)
    write_dropped(folder / "dropped.tsv", log)
    quality = report_quality(
        examples,
        kinds,
        tracks,
        log,
        gc=gc,
        n_fraction=n_fraction,
        cluster=cluster,
        made=made,
        split=split,
        num_near_positives=num_near_positives,
        audit=audit.report,
    )
    write_json(folder / "quality.json", quality)
    files = describe_files(folder)
    present = np.unique(examples.kind).tolist()
    manifest = {
        "command": list(command),
        "config": config.model_dump(mode="json"),
        "length_bp": int(examples.codes.shape[1]),
        "num_examples": len(examples),
        "tracks": list(tracks),
        "kinds": [name for number, name in enumerate(kinds) if number in present],
        "splits": _describe_splits(examples),
        "sources": [
            {"path": each.path, "role": each.role, "sha256": each.sha256, "records": each.num_records}
            for each in log.sources
        ],
        "files": files,
        "fingerprint": compute_fingerprint(files),
    }
    write_stamped(folder / MANIFEST, DATASET, manifest)


def _describe_splits(examples: Examples) -> dict[str, dict[str, Any]]:
    edges = np.concatenate([[0], np.cumsum(np.bincount(examples.split, minlength=3))]).tolist()
    return {
        name: {
            "start": edges[number],
            "stop": edges[number + 1],
            "num_positive": (examples.targets[examples.split == number] == 1).sum(axis=0).tolist(),
        }
        for number, name in enumerate(SPLITS)
    }


def _write_codes(path: Path, codes: UInt8[np.ndarray, "example length"], order: Int64[np.ndarray, " example"]) -> None:
    """Write the rows of `codes` in `order` as a .npy file, a block at a time."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(order), codes.shape[1])}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(order), _ROWS_AT_ONCE):
            stream.write(codes[order[start : start + _ROWS_AT_ONCE]].tobytes())


def tabulate_examples(
    examples: Examples,
    order: Int64[np.ndarray, " example"],
    kinds: Sequence[str],
    sources: Sequence[Source],
    gc: np.ndarray,
    n_fraction: np.ndarray,
    cluster: np.ndarray,
    relative: np.ndarray,
) -> polars.DataFrame:
    """The table of examples; its columns are in docs/formats.md.

    Args:
        examples: With their splits.
        order: Their rows in the order of the table.
        kinds: Name of each kind.
        sources: The files read.
        gc: Share of G and C of each example.
        n_fraction: Share of N of each example.
        cluster: Cluster of each example.
        relative: Row of a relative in an earlier split, -1: none.
    """
    import polars

    new_row = np.empty(len(order), dtype=np.int64)
    new_row[order] = np.arange(len(order))
    parent, relative = examples.parent[order], relative[order]
    _, numbered = np.unique(cluster[order], return_inverse=True)
    columns = {
        "name": polars.Series([examples.names[row] for row in order.tolist()], dtype=polars.String),
        "source": _take_text([source.name for source in sources], examples.source[order]),
        "kind": _take_text(kinds, examples.kind[order]),
        "split": _take_text(SPLITS, examples.split[order]),
        "chrom": polars.Series(examples.chrom[order].tolist(), dtype=polars.String),
        "start": polars.Series(examples.start[order]),
        "end": polars.Series(examples.end[order]),
        "strand": polars.Series(examples.strand[order].tolist(), dtype=polars.String),
        "gc": polars.Series(gc[order]),
        "n_fraction": polars.Series(n_fraction[order]),
        "masked": polars.Series(examples.masked[order]).fill_nan(None),
        "cluster": polars.Series(numbered.astype(np.int64)),
        "parent": polars.Series(np.where(parent >= 0, new_row[parent], -1)),
        "relative": polars.Series(np.where(relative >= 0, new_row[relative], -1)),
    }
    by_place = dict.fromkeys(("chrom", "start", "end"), polars.col("start") < 0)
    unknown = by_place | {name: polars.col(name) < 0 for name in ("parent", "relative")}
    return polars.DataFrame({name: columns[name] for name in EXAMPLE_COLUMNS}).with_columns(
        polars.when(test).then(None).otherwise(polars.col(name)).alias(name) for name, test in unknown.items()
    )


def _take_text(names: Sequence[str], index: np.ndarray) -> Any:
    """A text column from a short list of texts and the index of each row."""
    import polars

    return polars.Series(list(names), dtype=polars.String).gather(index.astype(np.uint32))


def write_dropped(path: Path, log: DropLog) -> None:
    """Write the records that became no example, one a line."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("source\tline\trecord\treason\tdetail\n")
        for source, line, record, reason, detail in log.rows:
            place = str(line) if line > 0 else ""
            texts = (text.translate(_CONTROL) for text in (source, place, record, reason, detail))
            stream.write("\t".join(texts) + "\n")
