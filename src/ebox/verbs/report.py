"""Write the report of a run."""

from __future__ import annotations

from pathlib import Path

from ebox.progress import PathLike


def report(run: PathLike, out: PathLike | None = None) -> Path:
    """Write the self-contained HTML report of an evaluated run, and the same facts as JSON beside it."""
    from ebox.reporting.report import write_report

    return write_report(Path(run), None if out is None else Path(out))
