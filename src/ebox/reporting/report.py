"""Writing the report of a run: one HTML file that needs nothing else, and the same facts as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebox.drawing import numbers
from ebox.errors import InputError
from ebox.reporting import figures
from ebox.reporting.languages import english as wording
from ebox.reporting.reading import read_run_files
from ebox.reporting.sections.learned import draw_learned
from ebox.reporting.sections.measures import collect_facts
from ebox.storage.publishing import publish_file, read_json, write_json
from ebox.storage.stamps import REPORT

_TEMPLATE = "report.html.j2"


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Write report.html, and report.json beside it, from the files of an evaluated run.

    The same files give the same bytes: nothing of the moment of writing goes in.

    Args:
        run_folder: The folder of the run; only files in it are read.
        out: The HTML file to write; none: report.html in the run folder. The JSON takes its name and `.json`.

    Returns:
        Where the HTML stands.

    Raises:
        InputError: config.toml, dataset.json or evaluation.json is missing, a file is broken or lacks what it
            should hold, or `out` can't be written.
    """
    from jinja2 import UndefinedError

    from ebox.storage import run_folder as names

    folder = Path(run_folder)
    target = folder / names.REPORT if out is None else Path(out)
    _check_place(target, is_own=out is None)
    files = read_run_files(folder)
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
    write_json(target.with_suffix(".json"), facts)
    with publish_file(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def _check_place(target: Path, *, is_own: bool) -> None:
    """Raise InputError where no page belongs, or where its JSON would replace a file that is no report."""
    if target.is_dir() or target.suffix not in (".html", ".htm"):
        raise InputError("is no place for the page of a report", file=target, remedy="name a file, such as report.html")
    beside = target.with_suffix(".json")
    if is_own or not beside.exists() or _is_report(beside):
        return
    raise InputError(
        f"its facts would be written to {beside.name}, where a file that is no report stands",
        file=target,
        remedy="choose another name",
    )


def _is_report(file: Path) -> bool:
    try:
        facts = read_json(file)
    except InputError:
        return False
    return isinstance(facts, dict) and facts.get("format") == REPORT.name


def render_report(facts: Mapping[str, Any]) -> str:
    """Turn facts into the page. Every text is escaped; only drawings made here go in as they are."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("ebox.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": numbers.format_number,
        "count": numbers.format_count,
        "percent": numbers.format_percent,
        "interval": numbers.format_interval,
        "seconds": numbers.format_seconds,
        "bytes": numbers.format_bytes,
        "date": wording.format_date,
        "continued": wording.continue_command,
        "metric": wording.name_metric,
        "kind": wording.name_kind,
        "explain_kind": wording.explain_kind,
        "words": wording.join_words,
    }
    drawn = _draw(facts)
    safe = {name: None if svg is None else Markup(svg) for name, svg in drawn["figures"].items()}
    filters = [{**entry, "svg": Markup(entry["svg"])} for entry in drawn["filters"]]
    learned = draw_learned(facts["learned"])
    safe_learned = {
        "motifs": [Markup(svg) for svg in learned["motifs"]],
        "examples": [[Markup(svg) for svg in rows] for rows in learned["examples"]],
        **{name: None if learned[name] is None else Markup(learned[name]) for name in ("spacing", "halves")},
    }
    template = environment.get_template(_TEMPLATE)
    return template.render(
        facts=facts,
        figures=safe,
        filters=filters,
        learned=facts["learned"],
        drawn=safe_learned,
        metric_words=wording.METRICS,
        style_of=figures.style_of,
    )


def _choose_ceiling(facts: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The ceiling, where it is that of the whole test split and so may stand in one chart with the rest."""
    ceiling: Mapping[str, Any] | None = facts["ceiling"]
    return None if ceiling is None or ceiling["kind"] is not None else ceiling


def _draw(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Every figure by its name; the names are ids on the page."""
    drawings: dict[str, str | None] = {}
    for number, track in enumerate(facts["tracks"]):
        drawings[f"contenders-{number}"] = figures.draw_contenders(
            f"contenders-{number}", track, _choose_ceiling(facts) if number == 0 else None
        )
        for which in ("roc", "pr"):
            drawings[f"{which}-{number}"] = figures.draw_curves(f"{which}-{number}", track, which)
        drawings[f"scores-{number}"] = figures.draw_scores(f"scores-{number}", track)
        drawings[f"calibration-{number}"] = figures.draw_calibration(f"calibration-{number}", track)
    if facts["training"] is not None:
        for metric in ("loss", "auroc"):
            drawings[f"training-{metric}"] = figures.draw_training(f"training-{metric}", facts["training"], metric)
    if facts["scaling"] is not None:
        drawings["scaling"] = figures.draw_scaling("scaling", facts["scaling"]["weak"])
    shown = [] if facts["filters"] is None else figures.draw_filters("filter", facts["filters"])
    return {"figures": drawings, "filters": shown}
