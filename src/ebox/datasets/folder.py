"""The dataset folder: written once, opened memory-mapped and checked; docs/formats.md specifies it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, UInt8

from ebox.errors import InputError
from ebox.settings.reading import DataConfig
from ebox.storage.names import SPLITS as SPLITS
from ebox.storage.publishing import read_json
from ebox.storage.stamps import DATASET, read_stamped

if TYPE_CHECKING:
    import polars

# The target of an example whose label is not known for a track.
UNKNOWN_TARGET = 255
MANIFEST = "manifest.json"
DATA_FILES = ("codes.npy", "targets.npy", "examples.parquet", "quality.json", "dropped.tsv")
EXAMPLE_COLUMNS = (
    "name",
    "source",
    "kind",
    "split",
    "chrom",
    "start",
    "end",
    "strand",
    "gc",
    "n_fraction",
    "masked",
    "cluster",
    "parent",
    "relative",
)
BUILD_AGAIN = DATASET.remedy
_CHUNK_BYTES = 1 << 22
_CHUNK_ROWS = 1 << 16


@dataclass(frozen=True)
class Dataset:
    """An open dataset folder: codes and targets are memory-mapped, the table is read at its first use.

    `codes` holds A C G T N as 0 to 4, `targets` 1, 0 or 255 for unknown. The rows are in the order train, validation,
    test.
    """

    path: Path
    manifest: dict[str, Any]
    config: DataConfig
    codes: UInt8[np.ndarray, "example length"]
    targets: UInt8[np.ndarray, "example track"]
    # Of a dataset that stands in no folder.
    table: polars.DataFrame | None = None

    def __len__(self) -> int:
        return int(self.codes.shape[0])

    @property
    def length_bp(self) -> int:
        """Length of every example."""
        return int(self.codes.shape[1])

    @property
    def tracks(self) -> tuple[str, ...]:
        """Names of the columns of `targets`."""
        return tuple(self.manifest["tracks"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the hashes of all files: equal for equal datasets."""
        return str(self.manifest["fingerprint"])

    def rows(self, split: str) -> slice:
        """The rows of a split.

        Raises:
            InputError: `split` is not train, validation or test.
        """
        if split not in SPLITS:
            raise InputError(f"there is no split {split!r}; there are {', '.join(SPLITS)}", file=self.path)
        part = self.manifest["splits"][split]
        return slice(int(part["start"]), int(part["stop"]))

    @cached_property
    def examples(self) -> polars.DataFrame:
        """The table of examples, one row each, in the order of `codes`."""
        return _read_examples(self.path / "examples.parquet", len(self)) if self.table is None else self.table

    @cached_property
    def kinds(self) -> np.ndarray:
        """The kind of each example as text, shape (num_examples,): "positive" or a kind of negative."""
        return self.examples["kind"].to_numpy().astype(np.str_)

    @cached_property
    def quality(self) -> dict[str, Any]:
        """The quality report."""
        return dict(read_json(self.path / "quality.json"))

    def hash_split(self, split: str) -> str:
        """SHA-256 over the codes and targets of a split."""
        rows = self.rows(split)
        digest = hashlib.sha256(f"{rows.stop - rows.start} {self.length_bp}".encode())
        for array in (self.codes, self.targets):
            for start in range(rows.start, rows.stop, _CHUNK_ROWS):
                digest.update(np.ascontiguousarray(array[start : min(start + _CHUNK_ROWS, rows.stop)]).data)
        return digest.hexdigest()

    def with_tracks(self, tracks: tuple[str, ...]) -> Dataset:
        """The same with its tracks, all of them, in another order."""
        order = [self.tracks.index(track) for track in tracks]
        manifest = {**self.manifest, "tracks": list(tracks)}
        return replace(self, manifest=manifest, targets=np.asarray(self.targets[:, order]))

    def is_positive(self, track: int = 0) -> Bool[np.ndarray, " example"]:
        """Whether the target of a track is 1, for each example."""
        return np.asarray(self.targets[:, track]) == 1


def open_dataset(path: str | os.PathLike[str], verify: Literal["quick", "full"] = "quick") -> Dataset:
    """Open a dataset folder, memory-mapped.

    Args:
        path: The folder.
        verify: quick checks format, sizes, types and shapes; full also reads every file, compares the hashes, and
            checks that each code is 0 to 4 and each target 0, 1 or 255.

    Raises:
        InputError: not a dataset, another format version, or a file that is missing, incomplete or changed.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    _check_sizes(folder, manifest)
    num, length = int(manifest["num_examples"]), int(manifest["length_bp"])
    codes = _open_array(folder / "codes.npy", (num, length))
    targets = _open_array(folder / "targets.npy", (num, len(manifest["tracks"])))
    dataset = Dataset(folder, manifest, _read_settings(folder, manifest), codes, targets)
    if verify == "full":
        _check_hashes(folder, manifest)
        _check_values(dataset)
    return dataset


def is_dataset(folder: Path) -> bool:
    """Whether a dataset was published at `folder`; a build that was killed leaves an empty folder there."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check manifest.json of a dataset folder.

    Raises:
        InputError: no such folder, no dataset, another version, or keys that are missing or contradict each other.
    """
    if not folder.is_dir():
        problem = "is a file, not a dataset folder" if folder.exists() else "there is no such dataset folder"
        raise InputError(problem, file=folder, remedy="give the folder that `ebox build --out` made")
    file = folder / MANIFEST
    if not is_dataset(folder):
        raise InputError(
            "is not a dataset folder: it has no manifest.json",
            file=folder,
            remedy="give the folder that `ebox build --out` made",
        )
    manifest = read_stamped(file, DATASET)
    _check_manifest(file, manifest)
    return manifest


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def compute_fingerprint(files: dict[str, dict[str, Any]]) -> str:
    """SHA-256 over the lines `name sha256` of all files, sorted by name."""
    text = "".join(f"{name} {files[name]['sha256']}\n" for name in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Hash and size of each data file, as the manifest holds them."""
    return {name: {"sha256": hash_file(folder / name), "bytes": (folder / name).stat().st_size} for name in DATA_FILES}


def _check_manifest(file: Path, manifest: dict[str, Any]) -> None:
    expected = {
        "config": dict,
        "length_bp": int,
        "num_examples": int,
        "tracks": list,
        "kinds": list,
        "splits": dict,
        "files": dict,
        "fingerprint": str,
    }
    for key, kind in expected.items():
        if not isinstance(manifest.get(key), kind):
            raise InputError(f"the manifest has no {key!r} of type {kind.__name__}", file=file, remedy=BUILD_AGAIN)
    for kind_of_name, names, found in (("split", SPLITS, "splits"), ("file", DATA_FILES, "files")):
        missing = [name for name in names if name not in manifest[found]]
        if missing:
            raise InputError(f"the manifest lacks the {kind_of_name} {missing[0]!r}", file=file, remedy=BUILD_AGAIN)
    for name, facts in manifest["files"].items():
        known = facts if isinstance(facts, dict) else {}
        if not isinstance(known.get("sha256"), str) or not isinstance(known.get("bytes"), int):
            raise InputError(f"the file {name!r} has no sha256 and bytes", file=file, remedy=BUILD_AGAIN)
    edges = [0]
    for name in SPLITS:
        part = manifest["splits"][name]
        if not isinstance(part, dict) or not all(isinstance(part.get(key), int) for key in ("start", "stop")):
            raise InputError(f"the split {name!r} has no start and stop", file=file, remedy=BUILD_AGAIN)
        if part["start"] != edges[-1] or part["stop"] <= part["start"]:
            raise InputError(f"the rows of split {name!r} do not follow the ones before", file=file)
        edges.append(part["stop"])
    if edges[-1] != manifest["num_examples"]:
        raise InputError(
            f"the splits hold {edges[-1]} examples, the manifest says {manifest['num_examples']}", file=file
        )
    if compute_fingerprint(manifest["files"]) != manifest["fingerprint"]:
        raise InputError("the fingerprint does not fit the hashes of the files", file=file, remedy=BUILD_AGAIN)


def _check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    for name in DATA_FILES:
        file = folder / name
        if not file.is_file():
            raise InputError("is missing from the dataset", file=file, remedy=BUILD_AGAIN)
        found, expected = file.stat().st_size, int(manifest["files"][name]["bytes"])
        if found != expected:
            what = "is cut short" if found < expected else "has grown"
            raise InputError(f"{what}: {found:,} bytes, expected {expected:,}", file=file, remedy=BUILD_AGAIN)


def _open_array(file: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, TokenError) as error:
        raise InputError(f"is not a whole .npy file: {error}", file=file, remedy=BUILD_AGAIN) from None
    if array.dtype != np.uint8 or array.shape != shape:
        raise InputError(
            f"holds {array.dtype} of shape {array.shape}, expected uint8 of shape {shape}",
            file=file,
            remedy=BUILD_AGAIN,
        )
    return array


def _read_settings(folder: Path, manifest: dict[str, Any]) -> DataConfig:
    from pydantic import ValidationError

    try:
        return DataConfig.model_validate(manifest["config"])
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise InputError(
            f"the settings of the dataset can't be read: {key}: {problem['msg']}",
            file=folder / MANIFEST,
            remedy=f"use ebox {manifest.get('ebox_version', 'unknown')}, which wrote it, or {BUILD_AGAIN}",
        ) from None


def _check_hashes(folder: Path, manifest: dict[str, Any]) -> None:
    for name in DATA_FILES:
        if hash_file(folder / name) != manifest["files"][name]["sha256"]:
            raise InputError(
                "has changed since it was written (its hash differs)", file=folder / name, remedy=BUILD_AGAIN
            )


def _check_values(dataset: Dataset) -> None:
    for start in range(0, len(dataset), _CHUNK_ROWS):
        codes = dataset.codes[start : start + _CHUNK_ROWS]
        if codes.max(initial=0) > 4:
            row = start + int(np.flatnonzero((codes > 4).any(axis=1))[0])
            raise InputError(f"row {row} holds a code above 4", file=dataset.path / "codes.npy", remedy=BUILD_AGAIN)
        targets = dataset.targets[start : start + _CHUNK_ROWS]
        if not np.isin(targets, (0, 1, UNKNOWN_TARGET)).all():
            raise InputError(
                f"holds a target that is not 0, 1 or {UNKNOWN_TARGET}",
                file=dataset.path / "targets.npy",
                remedy=BUILD_AGAIN,
            )
    if dataset.examples.height != len(dataset):
        raise InputError("has another number of rows", file=dataset.path / "examples.parquet", remedy=BUILD_AGAIN)


def _read_examples(file: Path, num: int) -> polars.DataFrame:
    import polars

    try:
        table = polars.read_parquet(file)
    except (OSError, polars.exceptions.PolarsError) as error:
        raise InputError(f"is not a whole Parquet file: {error}", file=file, remedy=BUILD_AGAIN) from None
    if tuple(table.columns) != EXAMPLE_COLUMNS or table.height != num:
        raise InputError(
            f"holds {table.height} rows of {', '.join(table.columns)}; expected {num} of {', '.join(EXAMPLE_COLUMNS)}",
            file=file,
            remedy=BUILD_AGAIN,
        )
    return table
