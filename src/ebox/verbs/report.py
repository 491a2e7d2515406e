"""Write the self-contained HTML report of a run."""

from __future__ import annotations

from pathlib import Path

from ebox.progress import PathLike
from ebox.verbs.verb import Verb

VERB = Verb("report", "Write the self-contained HTML report of a run.", "report", arguments={"run": "RUN"})


def report(run: PathLike, out: PathLike | None = None, *, overwrite: bool = False) -> Path:
    """Write the self-contained HTML report of an evaluated run, and the same facts as JSON beside it.

    Args:
        run: Evaluated run folder.
        out: HTML file; report.html in the run when left out. In - (standard output), a pipe or a device there is the
            page alone, without the JSON.
        overwrite: Replace files at --out; the report in the run itself is always replaced.

    Raises:
        InputError: the run was not evaluated, one of its files is damaged, or a file at `out` may not be replaced or
            can't be written.
    """
    from ebox.reporting.report import write_report

    return write_report(Path(run), None if out is None else Path(out), overwrite=overwrite)


def describe(path: Path) -> str:
    """The path of the report."""
    return f"report: {path}"
