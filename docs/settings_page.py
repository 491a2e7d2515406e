"""The page of settings, made from their fields: `python docs/settings_page.py` writes docs/settings.md again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from ebox.sequences.simulation import SimulationConfig
from ebox.settings.fields import Settings
from ebox.settings.sections import Config, changes_result

HEAD = """# Settings

Every setting by its section, made from the fields in `src/ebox/settings` by `python docs/settings_page.py`;
at the end those of a simulation, from `src/ebox/sequences/simulation.py`.

Settings come from `--config FILE` (TOML), then `--set section.key=value`, then flags. `ebox config` prints a file with
all of them; a file needs only those that differ. TOML has no null, so files say `"none"`. The resolved settings are
kept as `config.toml` in the run folder.

*Another training* says whether a training with another value is another training: `--resume` refuses it, and the
workers of a group compare it when they meet. Settings of `data` make another dataset, and with it another training.
Those of `evaluation` and `explanation` change no training. `ebox simulate` takes those of `simulation` as
`--set key=value`, without a section.
"""
# A greatest value past this is a guard against overflow, which no reader needs.
GUARD = 10**9
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
KINDS = {"integer": "integer", "number": "number", "string": "text", "null": '`"none"`'}


def make_page() -> str:
    """The page as Markdown."""
    sections = [make_section(name, model) for name, model in Config.list_sections().items()]
    return "\n".join([HEAD, *sections, make_section("simulation", SimulationConfig)])


def make_section(section: str, model: type[Settings]) -> str:
    """A heading, what the section is, and a table with a row for each setting."""
    defaults = model.model_construct().model_dump(mode="json", warnings=False)
    schemas = model.model_json_schema(by_alias=False)["properties"]
    titles = ["setting", "default", "values", "flag", "meaning", *(["another training"] if model.trains else [])]
    rows = []
    for name, field in model.model_fields.items():
        more = field.json_schema_extra
        flag = more["flag"] if isinstance(more, dict) else None
        default = "" if field.is_required() else f"`{_to_toml(defaults[name])}`"
        cells = [f"`{name}`", default, describe_values(schemas[name])]
        cells += ["" if flag is None else f"`{flag}`", str(field.description)]
        cells += [("yes" if changes_result(model, name) else "no")] if model.trains else []
        rows.append(_row(cells))
    about = " ".join((model.__doc__ or "").split())
    return "\n".join([f"## {section}", "", about, "", _row(titles), _row(["---"] * len(titles)), *rows, ""])


def describe_values(schema: Mapping[str, Any]) -> str:
    """What a value may be, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(describe_values(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f'`"{value}"`' for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "boolean":
        return "`true`, `false`"
    if schema["type"] != "array":
        bounds = [f"{sign} {schema[key]:,g}" for key, sign in BOUNDS.items() if key in schema and schema[key] < GUARD]
        return f"{KINDS[schema['type']]}{' ' if bounds else ''}{', '.join(bounds)}"
    if "prefixItems" in schema:
        return f"{len(schema['prefixItems'])} of: {describe_values(schema['prefixItems'][0])}"
    return f"list of: {describe_values(schema['items'])}"


def _to_toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, list):
        return f"[{', '.join(map(_to_toml, value))}]"
    return tomli_w.dumps({"value": value}).partition(" = ")[2].strip()


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    (Path(__file__).parent / "settings.md").write_text(make_page(), encoding="utf-8")
