"""What a section of the report is, and the list of all sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ebox.reporting import sections
from ebox.reporting.languages import Language
from ebox.reporting.reading import RunFiles

Facts = dict[str, Any]
PLAIN = "plain.html.j2"


def draw_nothing(facts: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """No figures."""
    return {}


@dataclass(frozen=True)
class Section:
    """One section of the report; each module of `ebox.reporting.sections` defines one as SECTION.

    Args:
        name: Its id on the page, and the key of its texts in each language.
        place: Sections are sorted by this number.
        facts: Takes the facts of the section from the files of a run: plain values, by their keys in report.json. If
            all of them are None, the section is left out.
        reads: The files of a run folder that it is about; if all of them are missing, the section is left out.
        figures: Draws SVGs from the facts of the report, as texts in dicts and lists by any names.
        template: Shows facts and figures; the plain one shows all notes of `facts[name]["notes"]` and all figures.
        starts_sheet: Whether it starts on a new sheet in print.
    """

    name: str
    place: int
    facts: Callable[[RunFiles], Facts]
    reads: tuple[str, ...] = ()
    figures: Callable[[Mapping[str, Any], Language], dict[str, Any]] = draw_nothing
    template: str = PLAIN
    starts_sheet: bool = False

    def collect(self, files: RunFiles) -> Facts:
        """Its facts; None under its own name if its files are missing."""
        return self.facts(files) if files.has_any(self.reads) else {self.name: None}


@cache
def find_sections() -> tuple[Section, ...]:
    """Every section, in the order of the page."""
    modules = [import_module(f"{sections.__name__}.{entry.name}") for entry in iter_modules(sections.__path__)]
    return tuple(sorted((module.SECTION for module in modules), key=lambda section: section.place))
