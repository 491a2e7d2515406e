"""Writing the report of a run: one HTML file that needs nothing else, and the same facts as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.reporting.languages import Language, english
from ebox.reporting.reading import RunFiles, read_run_files
from ebox.reporting.rendering import render, trust
from ebox.reporting.section import find_sections
from ebox.storage.outputs import check_output
from ebox.storage.publishing import publish_file, read_json, write_json
from ebox.storage.stamps import REPORT, stamped
from ebox.storage.targets import is_stream


def write_report(run_folder: Path, out: Path | None = None, *, overwrite: bool = True) -> Path:
    """Write report.html, and report.json beside it, from the files of an evaluated run.

    The same files give the same bytes: the time of writing is left out.

    Args:
        run_folder: The folder of the run; only files in it are read.
        out: The HTML file to write; none: report.html in the run folder. The JSON has the same name with `.json`; it is
            not written where `out` is standard output, a pipe or a device.
        overwrite: Whether to replace files at `out`; those in the run folder itself are always replaced.

    Returns:
        The path of the HTML file.

    Raises:
        InputError: config.toml, dataset.json or evaluation.json is missing, a file is damaged or incomplete, or `out`
            can't be written.
    """
    from jinja2 import UndefinedError

    from ebox.storage import run_folder as names

    folder = Path(run_folder)
    own = folder / names.REPORT
    target = own if out is None else Path(out)
    is_own = _check_place(target, own, overwrite=overwrite)
    overwrite = overwrite or is_own
    files = read_run_files(folder, [name for section in find_sections() for name in section.reads])
    try:
        facts = collect_facts(files)
        page = render_report(facts)
        json.dumps(facts, allow_nan=False)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError, UndefinedError) as error:
        raise InputError(
            f"a file of this run does not hold what it should ({type(error).__name__}: {error})",
            file=folder,
            remedy="measure again with `ebox evaluate`, with the same ebox as this",
        ) from error
    if not is_stream(target):
        write_json(target.with_suffix(".json"), facts, overwrite=overwrite)
    with publish_file(target, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def _check_place(target: Path, own: Path, *, overwrite: bool) -> bool:
    """Whether the report is that of the run folder itself, which is always replaced.

    Raises:
        InputError: `target` is no HTML file, or it or its JSON would replace a file that may not be replaced.
    """
    if not is_stream(target) and (target.is_dir() or target.suffix not in (".html", ".htm")):
        raise InputError("is not the name of an HTML file", file=target, remedy="name a file, such as report.html")
    check_output(target, overwrite=overwrite, own=own)
    if is_stream(target):
        return False
    if target.resolve() == own.resolve():
        return True
    beside = target.with_suffix(".json")
    if beside.exists() and not _is_report(beside):
        raise InputError(
            f"the facts would replace {beside.name}, which is not a report", file=target, remedy="choose another name"
        )
    check_output(beside, overwrite=overwrite)
    return False


def _is_report(file: Path) -> bool:
    try:
        facts = read_json(file)
    except InputError:
        return False
    return isinstance(facts, dict) and facts.get("format") == REPORT.name


def collect_facts(files: RunFiles) -> dict[str, Any]:
    """What every section shows of a run, as plain values; the page escapes all text in them."""
    facts: dict[str, Any] = {"run": files.name, "absent": list(files.absent), "sections": []}
    for section in find_sections():
        found = section.collect(files)
        facts |= found
        if any(value is not None for value in found.values()):
            facts["sections"].append(section.name)
    return stamped(REPORT, facts, created=files.evaluation.get("created"))


def render_report(facts: Mapping[str, Any], language: Language = english) -> str:
    """Turn facts into the page. Every text is escaped, except the drawings that are made here.

    Args:
        facts: From `collect_facts`, or read from report.json.
        language: The language of the page.
    """
    shown = [section for section in find_sections() if section.name in facts["sections"]]
    drawn = {section.name: trust(section.figures(facts, language)) for section in shown}
    return render("report.html.j2", language, facts=facts, sections=shown, drawn=drawn)
