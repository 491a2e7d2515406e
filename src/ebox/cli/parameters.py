"""The options of a verb: made from the parameters of its function, their `Args`, and the fields of the settings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from ebox.verbs.verb import Verb

# How a parameter is typed on the command line, by its annotation; other annotations make no option.
KINDS: Mapping[str, Any] = {
    "PathLike": Path,
    "PathLike | None": Path | None,
    "Sequence[PathLike]": list[Path] | None,
    "Sequence[str]": list[str] | None,
    "str": str,
    "str | None": str | None,
    "bool": bool,
    "int | None": int | None,
    "float | None": float | None,
}
# Its choices stand in the settings, which are loaded late.
PLATFORM = "Platform | None"
FILES = list[Path] | None
REPEATED: Mapping[Any, Any] = {FILES: list[Path], list[str] | None: list[str]}
# The name of an option's value in the help, where its type says too little.
STAND_INS = {"--set": "KEY=VALUE", "--config": "FILE", "--price": "NAME=MONEY"}


@dataclass(frozen=True)
class Option:
    """An option or argument of a command.

    Args:
        parameter: The Python name under which the command gets the value.
        name: The name that the user types, such as `--out`; for an argument its name in the help.
        kind: The type that its text is read as.
        help: What it means.
        default: Its value if it is left out; `inspect.Parameter.empty`: it is required.
        is_argument: Whether it is given by its position.
        metavar: The name of the value in the help; None: its type.
    """

    parameter: str
    name: str
    kind: Any
    help: str
    default: Any = None
    is_argument: bool = False
    metavar: str | None = None


@dataclass(frozen=True)
class Part:
    """A parameter of a verb's function, its options, and the function that makes its value from theirs."""

    parameter: str
    options: tuple[Option, ...]
    make: Callable[[Mapping[str, Any]], Any]


def list_parts(verb: Verb, function: Callable[..., Any]) -> list[Part]:
    """The parameters of a verb's function that come from the command line."""
    signature = inspect.signature(function)
    texts = read_args(function)
    return list(_iter_parts(verb, signature.parameters, texts))


def read_args(function: Callable[..., Any]) -> dict[str, str]:
    """The text of each parameter in the `Args` of a docstring, in one line."""
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    if "Args:" not in lines:
        return {}
    texts: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Args:") + 1 :]:
        if line and not line.startswith(" "):
            break
        found = re.match(r"    (\w+): (.*)", line)
        if found is not None:
            name, texts[found[1]] = found[1], found[2]
        elif line.strip() and name:
            texts[name] += f" {line.strip()}"
    return texts


def _iter_parts(verb: Verb, parameters: Mapping[str, inspect.Parameter], texts: Mapping[str, str]) -> Iterator[Part]:
    for name, parameter in parameters.items():
        if name in verb.hidden:
            continue
        annotation = str(parameter.annotation)
        if annotation in KINDS or annotation == PLATFORM:
            yield Part(name, (_make_option(verb, parameter, texts[name]),), itemgetter(name))
        elif annotation in ("DatasetSources", "DatasetSources | None"):
            from ebox.datasets.sources import read_sources

            yield _spread(verb, name, read_sources, is_needed=annotation == "DatasetSources")
        elif annotation == "SimulationConfig":
            from ebox.sequences.simulation import read_simulation_config

            yield _spread(verb, name, read_simulation_config)
        elif annotation == "Config | None":
            yield _make_settings(verb)


def _make_option(verb: Verb, parameter: inspect.Parameter, text: str) -> Option:
    name, kind, default = parameter.name, _find_kind(str(parameter.annotation)), parameter.default
    if name in verb.arguments:
        # Where none is given, a list is that of the function.
        return Option(name, verb.arguments[name], kind, text, None if kind in REPEATED else default, is_argument=True)
    flag = verb.options.get(name, "--" + name.replace("_", "-"))
    if name in verb.needed:
        # The default in Python does not matter here.
        default, text = inspect.Parameter.empty, text.split("; none:")[0].rstrip(".") + "."
    if kind in REPEATED:
        kind, default = (REPEATED[kind], default) if default is inspect.Parameter.empty else (kind, None)
        text = f"{text.removesuffix('.')}; repeatable."
    return Option(name, flag, kind, text, default, metavar=STAND_INS.get(flag, "FILE" if kind == FILES else None))


def _find_kind(annotation: str) -> Any:
    if annotation != PLATFORM:
        return KINDS[annotation]
    from ebox.settings.sections import Platform

    return Platform | None


def _spread(verb: Verb, name: str, reader: Callable[..., Any], *, is_needed: bool = True) -> Part:
    """A parameter that a function makes from several options; None where it is not needed and none was given."""
    texts = read_args(reader)
    every = inspect.signature(reader).parameters
    parameters = {each: parameter for each, parameter in every.items() if each not in verb.without}
    options = tuple(_make_option(verb, parameter, texts[each]) for each, parameter in parameters.items())

    def make(given: Mapping[str, Any]) -> Any:
        chosen = {each: given[each] for each in parameters}
        if not is_needed and not any(chosen.values()):
            return None
        return reader(**{each: value for each, value in chosen.items() if value is not None})

    return Part(name, options, make)


def _make_settings(verb: Verb) -> Part:
    """The settings: flags of the verb's sections, a file, and `--set`."""
    from ebox.settings.flags import list_flags, read_flags
    from ebox.settings.reading import read_config, read_run_settings

    flags = list_flags(verb.settings)
    options = [
        Option(flag.parameter, flag.name, flag.annotation | None, flag.help, metavar=flag.metavar) for flag in flags
    ]
    example = f"{verb.of_run[0]}.seed=1" if verb.of_run else "train.epochs=20"
    text = f"One setting, such as {example}; repeatable."
    chosen = Option("overrides", "--set", list[str] | None, text, metavar=STAND_INS["--set"])
    if verb.of_run:

        def make(given: Mapping[str, Any]) -> Any:
            # Those of data are for files that are given here.
            has_data = any(given.get(name) for name in ("positives", "peaks", "table"))
            sections = [section for section in verb.of_run if section != "data" or has_data]
            return read_run_settings(given["run"], sections, given["overrides"] or (), read_flags(flags, given))

        return Part("config", (*options, chosen), make)
    file = Option(
        "config",
        "--config",
        Path | None,
        "Settings file (TOML); `ebox config` prints one.",
        metavar=STAND_INS["--config"],
    )
    return Part(
        "config",
        (*options, file, chosen),
        lambda given: read_config(given["config"], given["overrides"] or (), read_flags(flags, given)),
    )
