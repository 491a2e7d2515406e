"""The stamp of a file that ebox writes: its format and version, the ebox that wrote it, and the time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ebox.errors import InputError
from ebox.storage.publishing import read_json, write_json
from ebox.version import __version__


@dataclass(frozen=True)
class Format:
    """A kind of file: its name and version in the stamp, how to make such a file again, and older versions to read."""

    name: str
    version: int
    remedy: str
    older: tuple[int, ...] = ()


class OtherFormatError(InputError):
    """A file has another format, or a version that this ebox does not read."""


# A version is raised when the facts of a format change; a file of another version is refused with the remedy, unless
# it is one of the older ones, whose readers do without what it lacks.
BENCH = Format("ebox-bench", 1, "measure again with `ebox bench DATASET --out FILE --overwrite`")
CHECKPOINT = Format("ebox-checkpoint", 2, "resume with the ebox that wrote it, or begin again with --overwrite")
DATASET = Format("ebox-dataset", 5, "build the dataset again with `ebox build`")
DECISION = Format("ebox-decision", 1, "decide again with `ebox plan … --run RUN`")
DISTILLED = Format("ebox-distilled", 1, "use the ebox that wrote it, or train again")
ENSEMBLE = Format("ebox-ensemble", 1, "use the ebox that wrote it, or train again")
EVALUATION = Format("ebox-evaluation", 5, "measure again with `ebox evaluate`", older=(3, 4))
EXPLANATION = Format("ebox-explanation", 3, "run `ebox explain` again")
FILTERS = Format("ebox-filters", 2, "measure again with `ebox evaluate`")
MODEL = Format("ebox-model", 2, "use the ebox that wrote it, or train again", older=(1,))
PARITY = Format("ebox-parity", 1, "delete it, or make it again with `ebox doctor --parity --out FILE --overwrite`")
PLAN = Format("ebox-plan", 2, "plan again with `ebox plan`")
REPORT = Format("ebox-report", 4, "write it again with `ebox report`")
SCALING = Format(
    "ebox-scaling",
    1,
    "delete it, or measure again with `ebox doctor --scaling --for DATASET --out FILE --overwrite`",
)
TRANSFER = Format("ebox-transfer", 1, "train again with `ebox train … --from RUN`")
TUNING = Format("ebox-tuning", 1, "search again with `ebox tune`")
TEST_READS = Format("ebox-test-reads", 1, "delete it; then the count begins anew")
SIMULATION = Format("ebox-simulation", 2, "simulate again with `ebox simulate`")
# The copies in a run folder, which stay as they are when the original is made again.
DATASET_OF_RUN = replace(
    DATASET, remedy="build the dataset again with `ebox build`, then train on it again with `ebox train … --overwrite`"
)
SIMULATION_OF_RUN = replace(
    SIMULATION, remedy="simulate again with `ebox simulate`, then begin this run again with `ebox run … --overwrite`"
)


def stamped(kind: Format, facts: Mapping[str, Any], *, created: str | None = None) -> dict[str, Any]:
    """Put a stamp before the facts.

    Args:
        kind: Their format.
        facts: Plain values.
        created: The time in ISO form; None: now.
    """
    return {
        "format": kind.name,
        "format_version": kind.version,
        "ebox_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds") if created is None else created,
        **facts,
    }


def write_stamped(
    path: str | os.PathLike[str], kind: Format, facts: Mapping[str, Any], *, overwrite: bool = True
) -> None:
    """Publish the facts as JSON with a stamp.

    Args:
        path: The file.
        kind: Their format.
        facts: Plain values.
        overwrite: Whether to replace a file that exists.
    """
    write_json(path, stamped(kind, facts), overwrite=overwrite)


def read_stamped(path: str | os.PathLike[str], kind: Format) -> dict[str, Any]:
    """Read facts that `write_stamped` wrote.

    Raises:
        InputError: the file is missing, is not whole JSON, or has another format or version.
    """
    return check_stamp(read_json(path), kind, path)


def check_stamp(facts: Any, kind: Format, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts if their stamp has this format, and its version or an older one that is still read.

    Raises:
        OtherFormatError: not a JSON object, another format, or a version that is not read.
    """
    if not isinstance(facts, dict) or facts.get("format") != kind.name:
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise OtherFormatError(f"is not of the format {kind.name} (found {found!r})", file=path, remedy=kind.remedy)
    if facts.get("format_version") not in (kind.version, *kind.older):
        raise OtherFormatError(
            f"is of {kind.name} version {facts.get('format_version')}, written by ebox "
            f"{facts.get('ebox_version', 'unknown')}; ebox {__version__} reads version {kind.version}",
            file=path,
            remedy=kind.remedy,
        )
    return facts
