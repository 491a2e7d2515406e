"""English: names, sentences for notes, and the fixed texts of the page.

Owns no number and no rule about a run; `say` turns a note of any file into a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebox.reporting.languages.english.data import DATA
from ebox.reporting.languages.english.decision import DECISION
from ebox.reporting.languages.english.decision_texts import DECISION_TEXTS
from ebox.reporting.languages.english.doctor import DOCTOR
from ebox.reporting.languages.english.ensembles import ENSEMBLES
from ebox.reporting.languages.english.learned import LEARNED, name_insert, tell_q
from ebox.reporting.languages.english.measures import MEASURES
from ebox.reporting.languages.english.names import (
    explain_kind,
    explain_metric,
    format_date,
    join_words,
    name_baseline,
    name_kind,
    name_method,
    name_metric,
    quote_any,
)
from ebox.reporting.languages.english.plans import PLANS
from ebox.reporting.languages.english.prices import PRICES
from ebox.reporting.languages.english.texts import REPORT_TEXTS
from ebox.reporting.languages.english.transfer import TRANSFER
from ebox.reporting.languages.english.tuning import TUNING, TUNING_TEXTS

__all__ = [
    "CODE",
    "NOTES",
    "TEXTS",
    "explain_kind",
    "explain_metric",
    "format_date",
    "join_words",
    "name_baseline",
    "name_insert",
    "name_kind",
    "name_method",
    "name_metric",
    "quote_any",
    "say",
    "tell_q",
]
CODE = "en"
TEXTS: dict[str, dict[str, Any]] = {**REPORT_TEXTS, **DECISION_TEXTS, **TUNING_TEXTS}
# A section may keep the sentences of its notes with its texts, under `notes`.
_OF_SECTIONS = {code: sentence for texts in TEXTS.values() for code, sentence in texts.get("notes", {}).items()}
NOTES: dict[str, Any] = {
    **DATA,
    **DECISION,
    **DOCTOR,
    **MEASURES,
    **ENSEMBLES,
    **LEARNED,
    **PRICES,
    **PLANS,
    **TRANSFER,
    **TUNING,
    **_OF_SECTIONS,
}


def say(note: Mapping[str, Any] | str, code: str | None = None) -> str:
    """The sentence for a note, or for plain values with a code; an unknown code is given back as it is."""
    values: Mapping[str, Any] = {"code": note} if isinstance(note, str) else note
    told = str(values["code"] if code is None else code)
    sentence = NOTES.get(told)
    if sentence is None:
        return told
    return sentence(values) if callable(sentence) else sentence.format(**values)
