"""A file that the user names with --out: what is refused before the work begins."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from ebox.errors import InputError
from ebox.storage import run_folder
from ebox.storage.publishing import refuse_present
from ebox.storage.targets import check_target, is_stream


def check_output(
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
    inputs: Mapping[str, str | os.PathLike[str]] | None = None,
    own: Path | None = None,
) -> None:
    """Raise InputError unless a file may be written at `path`.

    Devices, pipes and standard output may be written into. A file that exists is replaced only when that was asked for,
    and never where it is an input, belongs to a run, or is protected against writing.

    Args:
        path: The file that the user named.
        overwrite: Whether the user asked to replace it.
        inputs: Files that are read, by what they are.
        own: A file that is replaced without asking, such as the report of the run.
    """
    check_target(path)
    if is_stream(path):
        return
    place = Path(os.path.realpath(path))
    if own is not None and place == Path(os.path.realpath(own)):
        return
    for what, file in ({} if inputs is None else inputs).items():
        if place == Path(os.path.realpath(file)) or (place.exists() and _is_same(place, Path(file))):
            raise InputError(f"is the file of the {what}", file=path, remedy="choose another --out")
    if _is_of_run(place):
        raise InputError("belongs to the run", file=path, remedy="choose another --out")
    if not place.exists():
        return
    if not overwrite:
        raise refuse_present(path)
    if not place.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(
            "is protected against writing, so --overwrite does not replace it",
            file=path,
            remedy="choose another --out, or allow it: chmod u+w",
        )


def _is_same(place: Path, file: Path) -> bool:
    """Whether two names are those of one regular file."""
    return file.is_file() and place.samefile(file)


def _is_of_run(place: Path) -> bool:
    """Whether a file is one that a run folder is made of, at any depth."""
    kept = {*run_folder.OWN_FILES, run_folder.DATASET_FOLDER, run_folder.EXPLANATION, run_folder.REQUEST}
    return any(
        place.relative_to(folder).parts[0] in kept or place in run_folder.list_others(folder)
        for folder in place.parents
        if (folder / run_folder.ENVIRONMENT).is_file()
    )
