"""The settings of ebox: read from TOML and written back to TOML. An unknown key is an error."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError

from ebox.errors import InputError, suggest
from ebox.progress import PathLike
from ebox.settings.data import DataConfig, NegativeKind
from ebox.settings.fields import Settings
from ebox.settings.network import ModelConfig
from ebox.settings.sections import (
    Config,
    EvaluationConfig,
    ExplanationConfig,
    ParallelConfig,
    TrainConfig,
)
from ebox.settings.transfer import TransferConfig
from ebox.settings.tuning import EnsembleConfig, TuningConfig
from ebox.storage import run_folder

__all__ = [
    "Config",
    "DataConfig",
    "EnsembleConfig",
    "EvaluationConfig",
    "ExplanationConfig",
    "ModelConfig",
    "NegativeKind",
    "ParallelConfig",
    "Settings",
    "TrainConfig",
    "TransferConfig",
    "TuningConfig",
    "check_settings",
    "describe_settings",
    "explain_problem",
    "fingerprint_source",
    "format_config",
    "make_config",
    "read_config",
    "read_config_text",
    "read_run_settings",
    "read_toml",
    "write_config",
]

SomeSettings = TypeVar("SomeSettings", bound=Settings)


def read_config(
    path: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Read settings from a TOML file, then apply `section.key=value` overrides in order, then flags.

    Args:
        path: A TOML file with the sections data, model, train, transfer, parallel, ensemble, evaluation, explanation,
            tuning; None: the defaults.
        overrides: Each `section.key=value`, the value in TOML syntax; a bare word counts as a string.
        flags: Values by `section.key`.

    Raises:
        InputError: not TOML, an unknown key (the nearest is suggested), or a value that is not allowed.
    """
    values = {} if path is None else read_toml(Path(path))
    return _change(values, overrides, {} if flags is None else flags, path)


def _change(
    values: dict[str, Any], overrides: Iterable[str], flags: Mapping[str, Any], file: str | os.PathLike[str] | None
) -> Config:
    """Apply overrides and then flags to nested settings."""
    for override in overrides:
        _apply_override(values, override)
    for key, value in flags.items():
        section, _, name = key.partition(".")
        _section(values, section)[name] = value
    return make_config(values, file=file)


def read_config_text(text: str) -> Config:
    """Read settings from a text of `format_config`."""
    return make_config(tomllib.loads(text))


def make_config(values: Mapping[str, Any], *, file: str | os.PathLike[str] | None = None) -> Config:
    """Check nested settings and freeze them.

    Raises:
        InputError: a key or value that is not allowed; the message lists every problem with its key.
    """
    return _check(Config, values, file=file, remedy="`ebox config` prints every setting with its default")


def check_settings(
    model: type[SomeSettings],
    values: Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    remedy: str,
    file: str | os.PathLike[str] | None = None,
) -> SomeSettings:
    """Make settings that are no section of a config from values, then from `key=value` overrides.

    Args:
        model: The class of the settings.
        values: Values by key.
        overrides: Each `key=value`, the value in TOML syntax.
        remedy: What the user can do about an unknown key.
        file: Where the values stand.

    Raises:
        InputError: an unknown key (the nearest is suggested), or a value that is not allowed.
    """
    merged = dict(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {override!r} is not key=value", remedy=remedy)
        merged[key.strip()] = _parse_value(text.strip())
    return _check(model, merged, file=file, remedy=remedy)


def _check(
    model: type[SomeSettings],
    values: Mapping[str, Any],
    *,
    file: str | os.PathLike[str] | None = None,
    remedy: str,
) -> SomeSettings:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(explain_problem(dict(item), model) for item in error.errors())
        raise InputError(problems, file=file, remedy=remedy) from None


def write_config(config: Config, path: str | os.PathLike[str]) -> None:
    """Publish the settings as TOML."""
    from ebox.storage.publishing import publish_file

    with publish_file(path) as temporary:
        temporary.write_text(format_config(config), encoding="utf-8")


def format_config(config: Config) -> str:
    """The settings as TOML text that `read_config` reads back to an equal object; None is written as "none"."""
    sections = config.model_dump(mode="json")
    return tomli_w.dumps(
        {
            name: {key: "none" if value is None else value for key, value in section.items()}
            for name, section in sections.items()
        }
    )


def describe_settings(config: Config) -> str:
    """The settings as TOML, each with its meaning as a comment above it."""
    lines: list[str] = []
    values = tomllib.loads(format_config(config))
    for section, model in Config.list_sections().items():
        lines += ["", f"# {(model.__doc__ or '').strip()}", f"[{section}]"]
        for key, field in model.model_fields.items():
            if field.description:
                lines.append(f"# {field.description}")
            lines.append(tomli_w.dumps({key: values[section][key]}, multiline_strings=False).strip())
    return "\n".join(lines).strip()


def read_run_settings(
    run: PathLike, sections: Sequence[str], overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Config:
    """The settings of a finished run, with changes in some sections, and with the devices to use now.

    Where `data` may be changed, for other data than those of the training, its settings are those of the dataset of the
    run, but for the kinds of negatives and whether their repeats are matched, which depend on the files that are given.

    Args:
        run: A run folder.
        sections: The sections that may be changed.
        overrides: Each `section.key=value`.
        flags: Values by `section.key`, in the sections or in `parallel`.

    Raises:
        InputError: no trained model, or an override of another section.
    """
    run_folder.check_run_folder(Path(run))
    other = [text for text in overrides if text.strip().partition(".")[0] not in sections]
    if other:
        allowed = " and ".join(f"{section}.…" for section in sections)
        raise InputError(f"--set {other[0]!r} can't change a trained network", remedy=f"only {allowed} can be set here")
    given = {} if flags is None else flags
    odd = [key for key in given if key.partition(".")[0] not in (*sections, "parallel")]
    if odd:
        raise InputError(f"{odd[0]} can't change a trained network, nor its data", remedy="leave it out")
    own = {key: value for key, value in given.items() if key.partition(".")[0] in sections}
    devices = {key: value for key, value in given.items() if key.startswith("parallel.")}
    file = Path(run) / run_folder.CONFIG
    values = read_toml(file)
    if "data" in sections:
        values["data"] = {**run_folder.read_dataset(Path(run))["config"], "negatives": None, "match_repeats": None}
    settings = _change(values, overrides, own, file)
    return settings.model_copy(update={"parallel": read_config(None, (), devices).parallel})


def fingerprint_source(config: Config) -> str | None:
    """The fingerprint of the network that a training begins with; None: fresh weights.

    Raises:
        InputError: `transfer.source` holds no trained network.
    """
    source = config.transfer.source
    return None if source is None else run_folder.fingerprint_model(Path(source))


def read_toml(
    path: Path,
    *,
    what: str = "settings file",
    flag: str = "--config",
    example: str = "`ebox config` prints an example",
) -> dict[str, Any]:
    """Read a TOML file of a user.

    Args:
        path: The file.
        what: What it is, for the error where it is missing.
        flag: The option that named it.
        example: The remedy where it is not TOML.

    Raises:
        InputError: no such file, it can't be read, or it is not TOML.
    """
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        raise InputError(f"there is no such {what}", file=path, remedy=f"check {flag}") from None
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", file=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"is not TOML: {error}", file=path, remedy=example) from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or len(parts) != 2 or not all(parts):
        raise InputError(
            f"--set {override!r} is not section.key=value", remedy="write, for example, --set train.epochs=20"
        )
    section, name = parts
    _section(values, section)[name] = _parse_value(text.strip())


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    section: Any = values.setdefault(name, {})
    if not isinstance(section, dict):
        raise InputError(f"{name!r} is not a section of settings", remedy="`ebox config` prints the sections")
    return section


def _parse_value(text: str) -> Any:
    try:
        values = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return text
    return values["value"] if set(values) == {"value"} else text


def explain_problem(item: Mapping[str, Any], model: type[Settings]) -> str:
    """What pydantic found wrong with a value, in words: the key, what is expected, what was found."""
    place = [str(part) for part in item["loc"]]
    key = ".".join(place)
    if item["type"] == "extra_forbidden":
        return f"there is no setting {key!r}{_suggest(place, model)}"
    found = "" if item["type"] == "missing" else f" (found {item['input']!r})"
    if item["type"] == "literal_error":
        found += suggest(str(item["input"]), re.findall("'(.*?)'", item["ctx"]["expected"]))
    name = f"{key}: " if key else ""
    return f"{name}{item['msg'].removeprefix('Value error, ')}{found if key else ''}"


def _suggest(place: list[str], model: type[Settings]) -> str:
    """Name the nearest known key, first in the same section, then in all sections."""
    if not issubclass(model, Config):
        within: Any = model
        for part in place[:-1]:
            within = within.model_fields[part].annotation
        return suggest(place[-1], within.model_fields)
    sections = model.list_sections()
    known = {f"{section}.{key}": key for section, fields in sections.items() for key in fields.model_fields}
    full, key = ".".join(place), place[-1]
    same_name = [other for other, name in known.items() if name == key]
    if len(place) == 1:
        return suggest(same_name[0], same_name) if same_name else suggest(key, sections)
    inside = suggest(full, [other for other in known if other.startswith(f"{place[0]}.")], 0.7)
    return inside or (suggest(same_name[0], same_name) if same_name else suggest(full, known, 0.5))
