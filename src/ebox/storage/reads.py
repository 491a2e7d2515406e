"""How often each set of test examples was measured with the network of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.storage import run_folder
from ebox.storage.stamps import TEST_READS, read_stamped, write_stamped


def count_read(run: Path, fingerprint: str, name: str | None) -> dict[str, Any]:
    """Add one to the times that test examples were measured, and return their entry.

    An evaluation that was there before the count began is counted.

    Args:
        run: The run folder.
        fingerprint: Of the test examples.
        name: That of other data; None: the test split of the run.

    Raises:
        InputError: the file of the counts is damaged.
    """
    path = run / run_folder.TEST_READS
    now = datetime.now(UTC).isoformat(timespec="seconds")
    tests = _read(path)
    entry = next((each for each in tests if each["fingerprint"] == fingerprint), None)
    if entry is None:
        file = run_folder.EVALUATION if name is None else run_folder.name_other(run_folder.EVALUATION, name)
        before = int(not path.exists() and (run / file).exists())
        entry = {"fingerprint": fingerprint, "name": name, "num_reads": before, "first": now, "last": now}
        tests.append(entry)
    entry |= {"num_reads": entry["num_reads"] + 1, "last": now}
    write_stamped(path, TEST_READS, {"tests": tests})
    return dict(entry)


def keep_reads(source: Path, target: Path) -> None:
    """Add the counts of one folder to those of another; of two for the same examples the greater holds.

    Raises:
        InputError: one of the files is damaged.
    """
    tests = {entry["fingerprint"]: entry for entry in _read(target / run_folder.TEST_READS)}
    before = dict(tests)
    for entry in _read(source / run_folder.TEST_READS):
        there = tests.get(entry["fingerprint"])
        if there is None or there["num_reads"] < entry["num_reads"]:
            tests[entry["fingerprint"]] = entry
    if tests != before:
        write_stamped(target / run_folder.TEST_READS, TEST_READS, {"tests": list(tests.values())})


def _read(path: Path) -> list[dict[str, Any]]:
    tests = read_stamped(path, TEST_READS).get("tests") if path.exists() else []
    if not isinstance(tests, list) or not all(_is_entry(each) for each in tests):
        raise InputError("does not say how often test examples were measured", file=path, remedy=TEST_READS.remedy)
    return tests


def _is_entry(found: Any) -> bool:
    return isinstance(found, dict) and "fingerprint" in found and isinstance(found.get("num_reads"), int)
