"""What a verb is: the facts from which the command line turns a function into a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verb:
    """A verb; the parameters of its function and their `Args` become options and their help.

    Args:
        name: The word after `ebox` on the command line.
        function: The name of the function in the same module, whose first sentence stands in the list of verbs; "":
            that of the verb.
        arguments: Parameters without a flag, each with its name in the help.
        settings: Sections of the settings, or single settings, whose flags the verb takes.
        of_run: The sections of a finished run's settings that it may change; none: it reads no run's settings.
        options: Options with another name than their parameter, such as `{"dataset": "--for"}`.
        needed: Parameters that have a default in Python but are required on the command line.
        hidden: Parameters that are no options on the command line.
        without: Options that this verb does not take, of a parameter that is made from several.
        epilog: Text below the options, printed unchanged.
        exit_code: Gives the exit code for a result.
    """

    name: str
    function: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    of_run: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    epilog: str | None = None
    exit_code: Callable[[Any], int] = lambda result: 0

    def find_function(self, module: object) -> Callable[..., Any]:
        """The function of the verb in its module."""
        function: Callable[..., Any] = getattr(module, self.function or self.name)
        return function
