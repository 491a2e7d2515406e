"""Commands made from verbs: parse, call one function, print its description of the result. No logic."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

import ebox
from ebox.cli.exits import run_app
from ebox.cli.parameters import Option, Part, list_parts
from ebox.errors import InputError, suggest
from ebox.verbs.verb import Verb

HELP = "Train convolutional networks on DNA, data-parallel, to find where a transcription factor binds."
# The callbacks of a verb, and what shows their calls.
SHOWN = {"progress": "progress", "on_entry": "entry", "on_stage": "stage", "on_text": "text"}
NUMBERS: Mapping[Any, str] = {int: "a whole number", float: "a number"}


def list_verbs() -> dict[str, tuple[Verb, ModuleType]]:
    """Every verb by its name, with its module, in the order of the table of public names."""
    modules = [importlib.import_module(place) for place in ebox.PLACES.values() if place.startswith("ebox.verbs.")]
    return {module.VERB.name: (module.VERB, module) for module in modules}


def make_app(typed: str | None) -> typer.Typer:
    """The command line, with the options of the verb that was typed; the other verbs are only listed.

    Making the options of a verb loads the settings, and the list of verbs should appear at once.
    """
    app = typer.Typer(
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback()(_root)
    for name, (verb, module) in list_verbs().items():
        epilog = None if verb.epilog is None else f"\b\n{verb.epilog}"
        command = _make_command(verb, module) if name == typed else _stub
        app.command(name, short_help=_read_first_sentence(verb.find_function(module)), epilog=epilog)(command)
    return app


def _show_version(wanted: bool | None) -> None:
    if wanted:
        typer.echo(f"ebox {ebox.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    pass


def _stub() -> None:
    pass


def _make_command(verb: Verb, module: ModuleType) -> Callable[..., None]:
    """A function with the options of a verb as its parameters, which calls the verb and prints its description."""
    function = verb.find_function(module)
    parts = list_parts(verb, function)

    def command(**given: Any) -> None:
        _check_text(sys.argv[1:])
        _check_once(parts, sys.argv[1:])
        result = _call(function, parts, given)
        from ebox.cli import console
        from ebox.storage.targets import is_standard_output

        # Where the result itself went to standard output, nothing else goes there.
        out = given.get("out")
        tell = console.note if out is not None and is_standard_output(out) else console.say
        tell(module.describe(result))
        code = verb.exit_code(result)
        if code:
            raise typer.Exit(code)

    options = {option.parameter: option for part in parts for option in part.options}
    ordered = sorted(options.values(), key=lambda option: (not option.is_argument, option.default is None))
    parameters = [_make_parameter(option) for option in ordered]
    command.__doc__ = _read_opening(function)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _check_text(words: Sequence[str]) -> None:
    """Raise InputError where a word is not UTF-8, since tables, JSON and the report could not name it."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{ascii(os.fsencode(word))[1:]} is not text in UTF-8, so no file that is written could name it",
                remedy="rename the file, or give it through a link: ln -s FILE LINK",
            ) from None


def _check_once(parts: Sequence[Part], words: Sequence[str]) -> None:
    """Raise InputError where an option for one file is given again, since only the last would be read."""
    for option in (option for part in parts for option in part.options):
        times = sum(word.split("=", 1)[0] == option.name for word in words)
        if times > 1 and option.kind in (Path, Path | None):
            raise InputError(
                f"{option.name} takes one file, and is given {times} times",
                remedy="give it once; files of one kind can be put into one: cat A B > C",
            )


def _call(function: Callable[..., Any], parts: list[Part], given: Mapping[str, Any]) -> Any:
    from ebox.cli import console

    names = inspect.signature(function).parameters
    with console.Display() as display:
        values = {part.parameter: part.make(given) for part in parts}
        values |= {name: getattr(display, method) for name, method in SHOWN.items() if name in names}
        if "command" in names:
            values["command"] = sys.argv
        return function(**{name: value for name, value in values.items() if value is not None})


def _make_parameter(option: Option) -> inspect.Parameter:
    about: Any
    parser: Callable[[str], Any] | None = None
    kind, metavar = option.kind, option.metavar
    choices = [choice for part in (kind, *get_args(kind)) if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        # Typer's own message has no nearest choice, and names an error of a library.
        kind, metavar, parser = str | None, f"<{'|'.join(choices)}>", partial(_choose, choices)
    number = next((part for part in (kind, *get_args(kind)) if part in NUMBERS), None)
    if number is not None:
        # Typer's own message does not say what was found.
        metavar, parser = metavar or f"<{number.__name__}>", partial(_read_number, number)
    if option.is_argument:
        about = typer.Argument(help=option.help, metavar=option.name)
    else:
        # Only one name: a flag has no opposite, unless it is on by default.
        is_on = option.default is True
        name = f"{option.name}/--no-{option.name.removeprefix('--')}" if is_on else option.name
        about = typer.Option(name, help=option.help, metavar=metavar, parser=parser)
    return inspect.Parameter(
        option.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=option.default,
        annotation=Annotated[kind, about],
    )


def _choose(choices: Sequence[str], word: str) -> str:
    """The word, if it is one of the choices."""
    if word not in choices:
        listed = ", ".join(map(repr, choices))
        raise typer.BadParameter(f"{word!r} is not one of {listed}{suggest(word, choices)}")
    return word


def _read_number(kind: type[int] | type[float], word: str) -> int | float:
    """The number that a word says."""
    try:
        return kind(word)
    except ValueError:
        raise typer.BadParameter(f"{word!r} is not {NUMBERS[kind]}") from None


def _read_opening(function: Callable[..., Any]) -> str:
    """The docstring of a function, up to its sections."""
    text = inspect.cleandoc(function.__doc__ or "")
    return text.split("\n\nArgs:")[0].split("\n\nRaises:")[0]


def _read_first_sentence(function: Callable[..., Any]) -> str:
    return " ".join(_read_opening(function).split()).partition(". ")[0].removesuffix(".") + "."


def main() -> None:
    """Run the command line."""
    typed = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    run_app(make_app(typed))
