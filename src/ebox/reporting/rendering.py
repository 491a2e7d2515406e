"""Turning facts into a page: templates, and the functions by which they turn values into text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from ebox.drawing import numbers
from ebox.reporting.languages import Language, capitalise
from ebox.reporting.sections.again import continue_command


def render(template: str, language: Language, **values: Any) -> str:
    """Fill a template. Every text is escaped, except drawings that `trust` marks.

    Args:
        template: Its name in the folder of templates.
        language: The language of the page.
        **values: What the template names.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("ebox.reporting")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= _list_filters(language)
    return environment.get_template(template).render(language=language, texts=language.TEXTS, **values)


def _list_filters(language: Language) -> dict[str, Callable[..., Any]]:
    """The functions by which templates turn values into text."""
    return {
        "number": numbers.format_number,
        "count": numbers.format_count,
        "range": numbers.format_range,
        "percent": numbers.format_percent,
        "interval": numbers.format_interval,
        "measure": numbers.format_measure,
        "money": numbers.format_money,
        "spread": numbers.format_spread,
        "seconds": numbers.format_seconds,
        "step_time": numbers.format_step_time,
        "continued": continue_command,
        "capital": capitalise,
        "fill": fill,
        "say": language.say,
        "any": language.quote_any,
        "baseline": language.name_baseline,
        "date": language.format_date,
        "explain_kind": language.explain_kind,
        "explain_metric": language.explain_metric,
        "insert": language.name_insert,
        "kind": language.name_kind,
        "metric": language.name_metric,
        "words": language.join_words,
    }


def fill(text: str, **values: Any) -> str:
    """Fill values into a text of a language; tags in the text stay, and every value is escaped."""
    from markupsafe import Markup

    return Markup(text).format(**values)


def trust(drawn: Any) -> Any:
    """Mark the drawings inside dicts and lists as markup that is not escaped."""
    from markupsafe import Markup

    if isinstance(drawn, dict):
        return {name: trust(value) for name, value in drawn.items()}
    if isinstance(drawn, list):
        return [trust(value) for value in drawn]
    return None if drawn is None else Markup(drawn)


def hash_script(script: str) -> str:
    """The source of a script for a page's Content-Security-Policy, by which it and no other runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
