"""Every word that a reader sees, one package a language, of the names in `Language`.

Owns sentences and names. Facts on disk hold codes and numbers; here they become words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Language(Protocol):
    """What a language is: a package with these names."""

    @property
    def CODE(self) -> str:
        """Of the page, by BCP 47."""

    @property
    def TEXTS(self) -> Mapping[str, Mapping[str, Any]]:
        """The fixed texts of each section, with `{places}` for values; those of the whole page under `page`."""

    def say(self, note: Mapping[str, Any] | str, code: str | None = None) -> str:
        """The sentence for a note, or for plain values with a code; an unknown code is given back as it is."""

    def name_metric(self, metric: str) -> str:
        """The short words for a metric."""

    def explain_metric(self, metric: str) -> str:
        """What a metric means."""

    def name_baseline(self, baseline: str, kmer: int | None = None) -> str:
        """The short words for a baseline, or for the model."""

    def name_kind(self, kind: str) -> str:
        """The short words for a kind of example."""

    def explain_kind(self, kind: str) -> str:
        """What a kind of example is."""

    def name_method(self, method: str) -> str:
        """A method of attribution."""

    def tell_q(self, match: Mapping[str, Any]) -> str:
        """The q-value that decides whether a motif is like a known one."""

    def name_insert(self, label: str) -> str:
        """A word that was put in: one that ebox knows, or the name of a motif."""

    def join_words(self, words: Sequence[str]) -> str:
        """All of some words."""

    def quote_any(self, words: Sequence[str]) -> str:
        """One of some words, in quotation marks."""

    def format_date(self, text: str | None) -> str:
        """The day and minute of an ISO time."""


def find_language() -> Language:
    """The language of what commands print."""
    from ebox.reporting.languages import english

    return english


def capitalise(text: str) -> str:
    """The first letter as a capital, the others as they are."""
    return text[:1].upper() + text[1:]
