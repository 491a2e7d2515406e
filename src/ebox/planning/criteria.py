"""The criteria of a decision, and what it takes for granted: a TOML file of the package, changed by one of the user."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ebox.errors import InputError, suggest
from ebox.settings.fields import Fraction, NonNegative, Positive, PositiveInt, Settings
from ebox.settings.reading import check_settings, read_toml

# When the numbers of the package were assumed.
ASSUMED = "2026-11"
_REMEDY = "`ebox plan --print-criteria` prints the whole file, to change"


class Question(Settings):
    """What is decided on, and the currency of all money here."""

    job: Literal["one", "search", "factors"]
    currency: str = Field(min_length=1)


class Accuracy(Settings):
    """How good is good enough, beside the target, which the plan has."""

    least_gain: Fraction
    most_drop: Fraction


class Data(Settings):
    """What the data of a measurement must be like for it to count."""

    least_positives: PositiveInt
    least_kinds: PositiveInt
    most_leaked: Fraction
    most_conflicts: Fraction


class People(Settings):
    """What the work of people costs; without `per_hour` as the prices say."""

    per_hour: NonNegative | None = None
    setup_hours: NonNegative
    hours_per_factor: NonNegative


class Experiments(Settings):
    """What experiments cost, and from what their sites are chosen."""

    cost: NonNegative
    wanted: Positive
    odds: Positive
    found: float = Field(gt=0.0, lt=1.0)
    today: str = Field(min_length=1)


class Sections(Settings):
    """What the file holds; `sources` says where numbers come from, in the user's words, by `section.name`."""

    question: Question
    accuracy: Accuracy
    data: Data
    people: People
    experiments: Experiments
    sources: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Criteria:
    """All criteria and assumptions.

    Args:
        given: Their values.
        file: The file of the user; None: the values of the package.
        changed: What the user's file gives, by `section.name`.
    """

    given: Sections
    file: str | None
    changed: frozenset[str]

    def values(self) -> dict[str, Any]:
        """Every value by `section.name`."""
        sections = self.given.model_dump(exclude={"sources"})
        return {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}

    def check_currency(self, currency: str) -> None:
        """Raise InputError unless their money is in the currency of the prices."""
        own = self.given.question.currency
        if own != currency:
            remedy = f'write currency = "{currency}" under [question], and their money in {currency} (experiments.cost)'
            raise InputError(
                f"the criteria are in {own}, the prices of the plan in {currency}",
                file=self.file,
                remedy=remedy if self.file is not None else f"give a file with --criteria: {remedy}",
            )


def own_text() -> str:
    """The criteria of the package, as the text of a file that `read_criteria` takes."""
    return files("ebox.planning").joinpath("data", "criteria.toml").read_text(encoding="utf-8")


def read_criteria(path: Path | None = None) -> Criteria:
    """The criteria of the package, with those of a user's file in their place.

    Raises:
        InputError: no such file, not TOML, an unknown name (the nearest is suggested), a value that makes no sense, or
            another currency without the cost of an experiment in it.
    """
    own = tomllib.loads(own_text())
    given = {} if path is None else read_toml(path, what="file of criteria", flag="--criteria", example=_REMEDY)
    pairs = [(name, values) for name, values in given.items() if name in own and isinstance(values, Mapping)]
    merged = own | given | {name: own[name] | values for name, values in pairs}
    sections = check_settings(Sections, merged, remedy=_REMEDY, file=path)
    changed = frozenset(f"{name}.{key}" for name, values in pairs for key in values)
    if sections.question.currency != own["question"]["currency"] and "experiments.cost" not in changed:
        raise InputError(
            f"the criteria are in {sections.question.currency}, and experiments.cost is that of ebox, in "
            f"{own['question']['currency']}",
            file=path,
            remedy=f"write cost, in {sections.question.currency}, under [experiments]",
        )
    criteria = Criteria(sections, None if path is None else str(path), changed)
    known = criteria.values()
    for name in sections.sources:
        if name not in known:
            near = suggest(name, known)
            raise InputError(f"[sources] names {name!r}, which is no criterion{near}", file=path, remedy=_REMEDY)
    return criteria
