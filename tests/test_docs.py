"""The pages for readers and for developers are held to the code that they speak of."""

from __future__ import annotations

import ast
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from ebox import errors
from ebox.cli.parameters import list_parts
from ebox.workers import contract
from house import HEIGHT, SOURCE, list_edges, reduce_edges
from house_picture import WIDTH, draw_house, make_plan, place_columns, width_of
from settings_page import describe_values, make_page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md"]
SVG = "{http://www.w3.org/2000/svg}"


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# The picture of the house.


@pytest.mark.slow
def test_the_picture_is_that_of_the_code():
    assert (DOCS / "architecture.svg").read_text() == draw_house(), "run python docs/house.py"


@pytest.mark.slow
def test_every_box_and_every_arrow_is_in_the_picture_once():
    root = ElementTree.fromstring(draw_house())
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert [words.count(name) for name in HEIGHT] == [1] * len(HEIGHT)
    arrows = [path[0].text for path in root.iter(f"{SVG}path") if len(path)]
    assert sorted(filter(None, arrows)) == sorted(f"{one} imports {other}" for one, other in reduce_edges(list_edges()))


@pytest.mark.slow
def test_arrows_that_are_left_out_follow_from_those_drawn():
    drawn: dict[str, set[str]] = {name: set() for name in HEIGHT}
    for upper, lower in reduce_edges(list_edges()):
        assert HEIGHT[upper] > HEIGHT[lower]
        drawn[upper].add(lower)
    for name, below in list_edges().items():
        reached, ahead = set[str](), list(drawn[name])
        while ahead:
            reached.add(ahead[-1])
            ahead += drawn[ahead.pop()]
        assert below <= reached, name


def test_an_import_that_follows_from_two_others_is_left_out():
    edges = {name: set[str]() for name in HEIGHT} | {"cli": {"verbs", "errors"}, "verbs": {"errors"}}
    assert reduce_edges(edges) == [("verbs", "errors"), ("cli", "verbs")]


@pytest.mark.slow
def test_boxes_of_a_floor_stand_apart_and_on_the_paper():
    plan = make_plan(reduce_edges(list_edges()))
    columns = place_columns(plan)
    for floor in plan.floors:
        for left, right in pairwise(floor):
            assert columns[right] - columns[left] > (width_of(left) + width_of(right)) / 2
        assert columns[floor[0]] - width_of(floor[0]) / 2 >= 0
        assert columns[floor[-1]] + width_of(floor[-1]) / 2 <= WIDTH


@pytest.mark.slow
def test_few_arrows_cross():
    # Two packages that both import two others can't be drawn without one crossing: training and evaluation; and above
    # them tuning and planning, which import those.
    assert make_plan(reduce_edges(list_edges())).count_crossings() <= 2


# The page of settings.


def test_the_page_of_settings_is_made_from_the_fields():
    assert (DOCS / "settings.md").read_text() == make_page(), "run python docs/settings_page.py"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"enum": ["one", "both"], "type": "string"}, '`"one"`, `"both"`'),
        ({"exclusiveMinimum": 0, "maximum": 10**9, "type": "integer"}, "integer > 0"),
        (
            {"anyOf": [{"minimum": 0.0, "maximum": 1.0, "type": "number"}, {"type": "null"}]},
            'number ≥ 0, ≤ 1 or `"none"`',
        ),
        ({"prefixItems": [{"type": "string"}] * 2, "type": "array"}, "2 of: text"),
    ],
)
def test_values_are_described_by_their_schema(schema: dict[str, object], words: str):
    assert describe_values(schema) == words


# Exit codes and variables.


def _read_rows(page: str) -> list[list[str]]:
    lines = (DOCS / page).read_text().splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_exit_codes_are_those_of_the_code():
    said = {row[1]: int(row[0]) for row in _read_rows("exit_codes.md") if row[0].isdigit() and row[1]}
    assert said == {name: value for name, value in vars(errors).items() if name.startswith("EXIT_")}


def test_variables_of_ebox_are_those_of_the_contract():
    said = {row[0] for row in _read_rows("exit_codes.md") if row[0].startswith("EBOX_")}
    values = (value for value in vars(contract).values() if isinstance(value, str))
    assert said == {value for value in values if value.startswith("EBOX_")}


def test_variables_of_others_are_those_that_the_code_reads():
    """Every name that a module asks an environment for stands on the page."""
    page = (DOCS / "exit_codes.md").read_text()
    asked = r'environ(?:ment)?(?:\.get\(|\[)"([A-Z_]+)"|"([A-Z_]+)" (?:not )?in (?:os\.)?environ'
    found = {name for path in SOURCE.rglob("*.py") for pair in re.findall(asked, path.read_text()) for name in pair}
    assert {"SLURM_STEP_NODELIST", "CUDA_VISIBLE_DEVICES", "XLA_FLAGS"} <= found
    for name in found - {""}:
        assert f"`{name}`" in page, name


# What pages name is there.


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_and_tests_that_a_page_names_are_there(page: Path):
    text = page.read_text()
    for place in re.findall(r"`((?:src|tests|docs|benchmarks|configs)/[\w./]*)", text):
        # NAME stands for one that the reader chooses.
        assert (ROOT / place.replace("NAME.py", "")).exists(), place
    for place, test in re.findall(r"`(tests/\w+\.py)::(\w+)`", text):
        names = {
            node.name for node in ast.walk(ast.parse((ROOT / place).read_text())) if isinstance(node, ast.FunctionDef)
        }
        assert test in names, f"{place}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_names_of_the_package_that_a_page_gives_are_there(page: Path):
    import importlib

    for statement in re.findall(r"^from (ebox[\w.]*) import (.+)$", page.read_text(), re.MULTILINE):
        module = importlib.import_module(statement[0])
        for name in statement[1].split(","):
            assert hasattr(module, name.strip()), statement


def test_the_page_of_architecture_names_every_package_and_every_rule():
    text = (DOCS / "architecture.md").read_text()
    for name in HEIGHT:
        assert f"`{name}`" in text, name
    rules = re.split(
        r"^\d\. ", text.partition("## Rules of computing")[2].partition("\nAnd for")[0], flags=re.MULTILINE
    )
    assert len(rules) == 10
    assert all("`tests/" in rule for rule in rules[1:])


def test_the_verb_that_contributors_are_shown_is_one():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    example = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "VERB = " in block)
    space: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "example", "exec"), space)
    parts = list_parts(space["VERB"], space["VERB"].find_function(SimpleNamespace(**space)))
    assert [option.name for part in parts for option in part.options] == ["DATASET"]
    assert space["describe"]({"train": 2}) == "train: 2"


def test_the_citation_is_of_this_version():
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    keys = {line.partition(":")[0] for line in lines if re.match(r"[a-z-]+:", line)}
    assert {"cff-version", "message", "title", "authors"} <= keys
    license_name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert f"license: {license_name}" in lines
    assert "cff-version: 1.2.0" in lines


def test_the_changelog_has_its_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
