"""Print every setting with its value, as a settings file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.settings.reading import Config

VERB = Verb("config", function="describe_config")


def describe_config(config: Config | None = None) -> str:
    """Write every setting with its value and what it means, as the text of a settings file.

    Args:
        config: The settings; none: the defaults.
    """
    from ebox.settings.reading import Config, describe_settings

    return describe_settings(Config() if config is None else config)


def describe(text: str) -> str:
    """The text, unchanged."""
    return text
