"""What a verb is: the facts from which the command line makes a command of a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verb:
    """A verb beside its function, whose parameters and their `Args` become options and their help.

    Args:
        name: As typed after `ebox`.
        help: A line for the list of verbs.
        function: The function in the same module.
        arguments: Parameters that are given by their place, with the word that stands for each in the help.
        settings: Sections of the settings, or single settings, whose flags the verb takes.
        of_run: The section of a finished run's settings that it may change; None: its settings are read anew.
        options: Options that don't bear the name of their parameter, such as `{"dataset": "--for"}`.
        needed: Parameters with a default in Python that the command line asks for.
        hidden: Parameters that the command line does not offer.
        epilog: Text below the options, as it stands.
        exit_code: The exit code that a result means.
    """

    name: str
    help: str
    function: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    of_run: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    epilog: str | None = None
    exit_code: Callable[[Any], int] = lambda result: 0
