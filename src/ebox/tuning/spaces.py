"""The space of a search: which settings are tried, and between which ends; read from TOML and checked against them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebox.errors import InputError, suggest
from ebox.settings.fields import Settings
from ebox.settings.reading import Config, check_settings, make_config, read_toml
from ebox.settings.sections import changes_result
from ebox.tuning.members import MEMBER_SETTINGS, SWITCHES

DEFAULT_SPACE = Path(__file__).parent / "data" / "space.toml"
# The sections whose settings can be tried.
SECTIONS = ("model", "train")
# What the search itself needs, and so sets for all trials alike.
OWN = ("seed", "epochs", "max_steps", "monitor", "validations", "patience", "keep")
# How a value of a trial is kept: a number of a range, or a choice as JSON.
Kept = int | float | str
_REMEDY = "`ebox tune --print-space` prints a space to edit"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; with `step` only low, low + step, …; with `log` evenly by ratio."""

    key: str
    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False
    whole: bool = False

    def keep(self, value: Any) -> Kept | None:
        """How a setting's value is kept; None: it is not in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        step = 1 if self.whole and self.step is None else self.step
        if step is not None and not math.isclose((value - self.low) / step, round((value - self.low) / step)):
            return None
        return int(value) if self.whole else float(value)

    def read(self, kept: Kept) -> Any:
        """The setting's value."""
        return kept

    def facts(self) -> dict[str, Any]:
        """As in the file of a space."""
        return {"low": self.low, "high": self.high, "step": self.step, "log": self.log}


@dataclass(frozen=True)
class Choices:
    """A few values."""

    key: str
    values: tuple[Any, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """How each value is kept."""
        return tuple(json.dumps(value) for value in self.values)

    def keep(self, value: Any) -> Kept | None:
        """How a setting's value is kept; None: it is none of the choices."""
        found = json.dumps(value)
        return found if found in self.kept else None

    def read(self, kept: Kept) -> Any:
        """The setting's value."""
        return json.loads(str(kept))

    def facts(self) -> dict[str, Any]:
        """As in the file of a space."""
        return {"choices": list(self.values)}


Dimension = Range | Choices


@dataclass(frozen=True)
class Space:
    """What is tried, by `section.name`."""

    dimensions: tuple[Dimension, ...]

    def apply(self, config: Config, kept: Mapping[str, Kept]) -> Config:
        """The settings with the values of a trial.

        Raises:
            InputError: the values don't go together.
        """
        values = config.model_dump(mode="json")
        for dimension in self.dimensions:
            section, _, name = dimension.key.partition(".")
            values[section][name] = dimension.read(kept[dimension.key])
        return make_config(values)

    def find(self, config: Config) -> dict[str, Kept]:
        """The values of these settings, as far as they lie in the space."""
        values = config.model_dump(mode="json")
        found = {}
        for dimension in self.dimensions:
            section, _, name = dimension.key.partition(".")
            kept = dimension.keep(values[section][name])
            if kept is not None:
                found[dimension.key] = kept
        return found

    def holds(self, config: Config) -> bool:
        """Whether it holds all values of these settings."""
        return len(self.find(config)) == len(self.dimensions)

    def read(self, kept: Mapping[str, Kept]) -> dict[str, Any]:
        """The values of a trial as those of the settings."""
        return {dimension.key: dimension.read(kept[dimension.key]) for dimension in self.dimensions}

    @property
    def shape_keys(self) -> tuple[str, ...]:
        """What makes another shape of network, or another step."""
        rates = {f"train.{name}" for name in MEMBER_SETTINGS}
        return tuple(dimension.key for dimension in self.dimensions if dimension.key not in rates)

    @property
    def switch_keys(self) -> tuple[str, ...]:
        """What makes another step where it is above 0."""
        switches = {f"train.{name}" for name in SWITCHES}
        return tuple(dimension.key for dimension in self.dimensions if dimension.key in switches)

    def is_on(self, key: str, kept: Kept) -> bool:
        """Whether a switch is above 0."""
        return bool(next(one for one in self.dimensions if one.key == key).read(kept) > 0.0)

    def facts(self) -> dict[str, Any]:
        """The space as plain values."""
        return {dimension.key: dimension.facts() for dimension in self.dimensions}


def read_space(path: Path | None = None) -> Space:
    """Read a space; without a file that of ebox.

    Raises:
        InputError: not TOML; an unknown key, with the nearest; an empty range; or a value that the setting refuses.
    """
    file = DEFAULT_SPACE if path is None else path
    values = read_toml(file, what="file of a space", flag="--space", example=_REMEDY)
    dimensions = []
    for section, entries in values.items():
        if section not in SECTIONS:
            problem = f"[{section}] can't be searched, only {' and '.join(f'[{name}]' for name in SECTIONS)}"
            raise InputError(f"{problem}{suggest(section, SECTIONS)}", file=file, remedy=_REMEDY)
        if not isinstance(entries, dict):
            raise _refuse(file, section, f"is {entries!r}, not a section", f"write [{section}] above its settings")
        dimensions += [_read_dimension(file, section, name, entry) for name, entry in entries.items()]
    if not dimensions:
        raise InputError("holds no setting to search", file=file, remedy=_REMEDY)
    return Space(tuple(dimensions))


def _read_dimension(file: Path, section: str, name: str, entry: Any) -> Dimension:
    key, model = f"{section}.{name}", Config.list_sections()[section]
    if name not in model.model_fields:
        problem = f"there is no setting {key!r}{suggest(name, model.model_fields)}"
        raise InputError(problem, file=file, remedy="`ebox config` prints every setting")
    if name in OWN or not changes_result(model, name):
        why = "is set by the search itself" if name in OWN else "changes no result"
        raise _refuse(file, key, why, f"leave it out, and set it for all trials: --set {key}=…")
    if not isinstance(entry, dict):
        remedy = f"write {name} = {{choices = [{entry!r}, …]}}, or set it for all trials: --set {key}=…"
        raise _refuse(file, key, f"is {entry!r}, not a range or choices", remedy)
    if set(entry) == {"choices"}:
        return _read_choices(file, key, model, entry["choices"])
    known = ("low", "high", "step", "log")
    for word in entry:
        if word not in known:
            raise _refuse(file, key, f"has {word!r}{suggest(word, (*known, 'choices'))}", _write_range(name))
    if not {"low", "high"} <= set(entry):
        raise _refuse(file, key, "has no low and high, and no choices", _write_range(name))
    return _read_range(file, key, model, entry)


def _write_range(name: str) -> str:
    return f"write {name} = {{low = …, high = …}}, with step = … or log = true, or {name} = {{choices = […]}}"


def _read_choices(file: Path, key: str, model: type[Settings], values: Any) -> Choices:
    if not isinstance(values, list) or not values:
        raise _refuse(file, key, f"has choices = {values!r}, not a list of values", "list at least one value")
    found: list[Any] = []
    for value in values:
        # As the setting keeps it: 0 may be 0.0, and "none" is none.
        kept = _check_value(file, key, model, value)
        if json.dumps(kept) in map(json.dumps, found):
            raise _refuse(file, key, f"has the choice {value!r} twice", "list it once")
        found.append(kept)
    return Choices(key, tuple(found))


def _read_range(file: Path, key: str, model: type[Settings], entry: Mapping[str, Any]) -> Range:
    name = key.partition(".")[2]
    for word in ("low", "high", "step"):
        value = entry.get(word, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _refuse(file, key, f"has {word} = {value!r}, not a number", _write_range(name))
    low, high, step, log = entry["low"], entry["high"], entry.get("step"), entry.get("log", False)
    if not isinstance(log, bool):
        raise _refuse(file, key, f"has log = {log!r}, not true or false", _write_range(name))
    if low >= high:
        raise _refuse(file, key, f"is an empty range: low = {low} is not below high = {high}", "set high above low")
    for value in (low, high):
        _check_value(file, key, model, value)
    whole = not _accepts(model, name, _find_between(low, high))
    if whole:
        low, high = int(low), int(high)
    if log and (low <= 0 or step is not None):
        wrong = f"low = {low}" if low <= 0 else f"step = {step}"
        raise _refuse(file, key, f"has log = true with {wrong}", "set low above 0, and leave step out")
    if step is not None:
        step = _check_step(file, key, low, high, step, whole=whole)
    return Range(key, low, high, step, log, whole)


def _check_step(
    file: Path, key: str, low: int | float, high: int | float, step: int | float, *, whole: bool
) -> int | float:
    if step <= 0 or (whole and step != int(step)):
        raise _refuse(file, key, f"has step = {step}", f"give a {'whole ' if whole else ''}number above 0")
    number = (high - low) / step
    if number < 1 or not math.isclose(number, round(number)):
        last = low + max(1, math.floor(number)) * step
        problem = f"does not get from low = {low} to high = {high} with step = {step}"
        raise _refuse(file, key, problem, f"write high = {last:g}")
    return int(step) if whole else step


def _find_between(low: int | float, high: int | float) -> float:
    """A number between the two that is not whole."""
    middle = (low + high) / 2
    return middle if middle != int(middle) else low + (middle - low) * 0.75 + min(0.1, (middle - low) / 8)


def _accepts(model: type[Settings], name: str, value: Any) -> bool:
    try:
        check_settings(model, {name: value}, remedy="")
    except InputError:
        return False
    return True


def _check_value(file: Path, key: str, model: type[Settings], value: Any) -> Any:
    """The value as the setting keeps it; raise InputError where it is refused."""
    name = key.partition(".")[2]
    try:
        return check_settings(model, {name: value}, remedy=_REMEDY).model_dump(mode="json")[name]
    except InputError as error:
        raise _refuse(file, key, f"holds a value that the setting refuses: {error.problem}", "change it") from None


def _refuse(file: Path, key: str, problem: str, remedy: str) -> InputError:
    return InputError(problem, file=file, record=key, remedy=remedy)
