"""Options of the command line, made from the fields of the settings that name a flag."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from ebox.settings.sections import Config


@dataclass(frozen=True)
class Flag:
    """An option that sets one setting, or the same setting of several sections.

    Args:
        name: The name that the user types, such as `--epochs`.
        keys: The settings, each as `section.name`.
        annotation: The type that its text is read as.
        help: A sentence, with the default.
        metavar: The name of the value in the help; None: its type.
        is_list: Whether it takes several values, with commas.
    """

    name: str
    keys: tuple[str, ...]
    annotation: Any
    help: str
    metavar: str | None
    is_list: bool

    @property
    def parameter(self) -> str:
        """Its name as a Python parameter."""
        name = self.name.removeprefix("--").replace("-", "_")
        return f"{name}_" if iskeyword(name) else name

    def read(self, value: Any) -> Any:
        """The value that was typed; words with commas are several values."""
        return [word.strip() for word in value.split(",")] if self.is_list else value


def list_flags(settings: Iterable[str]) -> list[Flag]:
    """The flags of some settings, in their order.

    Args:
        settings: Sections, such as `train`, or single settings, such as `parallel.platform`.
    """
    every = {key: field for key, field in _iter_fields() if _flag_of(field) is not None}
    wanted = [key for name in settings for key in every if key == name or key.startswith(f"{name}.")]
    flags: dict[str, Flag] = {}
    for key in wanted:
        name = str(_flag_of(every[key]))
        keys = tuple(other for other, field in every.items() if _flag_of(field) == name)
        flags.setdefault(name, _make_flag(name, keys, every[key]))
    return list(flags.values())


def read_flags(flags: Iterable[Flag], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values by `section.name` of the flags that were given; the others come from files and defaults."""
    values: dict[str, Any] = {}
    for flag in flags:
        value = given[flag.parameter]
        if value is not None:
            values |= dict.fromkeys(flag.keys, flag.read(value))
    return values


def _iter_fields() -> list[tuple[str, FieldInfo]]:
    return [
        (f"{section}.{name}", field)
        for section, model in Config.list_sections().items()
        for name, field in model.model_fields.items()
    ]


def _flag_of(field: FieldInfo) -> str | None:
    more = field.json_schema_extra
    flag = more["flag"] if isinstance(more, dict) else None
    return flag if isinstance(flag, str) else None


def _make_flag(name: str, keys: tuple[str, ...], field: FieldInfo) -> Flag:
    more = field.json_schema_extra
    metavar = more["metavar"] if isinstance(more, dict) else None
    default = "" if field.default is None else f" (default {field.default})"
    kind = _strip(field.annotation)
    is_list = get_origin(kind) is tuple
    text = f"{field.description}{' Several with commas.' if is_list else ''}{default}"
    return Flag(name, keys, str if is_list else kind, text, None if metavar is None else str(metavar), is_list)


def _strip(kind: Any) -> Any:
    """The type without None and without its bounds, which the settings check with their own messages."""
    members = [member for member in get_args(kind) if member is not type(None)]
    if len(members) == 1 and len(get_args(kind)) == 2:
        kind = members[0]
    return get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
