"""A word is said once: facts hold codes, every code has its words, and a section is one file that the page finds."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import pytest

import ebox
from ebox.evaluation.metrics import METRIC_NAMES
from ebox.explanation.experiments import ARRANGEMENTS
from ebox.reporting import section
from ebox.reporting.languages import Language, english
from ebox.reporting.languages.english.names import METHODS, METRICS, STRANDS
from ebox.reporting.report import render_report, write_report
from ebox.reporting.sections.learned import Check
from ebox.reporting.sections.limits import Limit
from ebox.sequences import SimulationConfig, draw_simulation, write_simulation
from ebox.settings.reading import ExplanationConfig, make_config
from ebox.storage.notes import Code
from house import SOURCE, list_modules
from test_reporting_reading import make_run_folder

TEMPLATES = SOURCE / "reporting" / "templates"
FACTS = (
    "quality.json",
    "evaluation.json",
    "filters.json",
    "training.json",
    "explanation/explanation.json",
    "report.json",
)
# Words of a user or of a machine: names, paths, commands, versions, what an error of another library says.
GIVEN = {
    "absent",
    "command",
    "cpu",
    "error",
    "example",
    "equals",
    "file",
    "files",
    "kind",
    "line",
    "motif_files",
    "name",
    "path",
    "platform",
    "record",
    "run",
    "source",
    "track",
}


def list_codes() -> list[Code]:
    """Every code that ebox can write; the modules that define some are read from the code."""
    for path in list_modules():
        if "(Code)" in path.read_text(encoding="utf-8"):
            importlib.import_module(".".join(("ebox", *path.relative_to(SOURCE).with_suffix("").parts)))
    return [member for kind in Code.__subclasses__() for member in kind]


def iter_sentences(value: Any, key: str = "") -> Iterator[str]:
    """Each text in facts that is a sentence: three words or more, and not given by a user or a machine."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from iter_sentences(name) if len(name.split()) > 2 else ()
            yield from iter_sentences(inner, name) if name not in GIVEN else ()
    elif isinstance(value, list):
        for inner in value:
            yield from iter_sentences(inner, key)
    elif isinstance(value, str) and len(value.split()) > 2:
        yield f"{key}: {value}"


def iter_notes(value: Any) -> Iterator[dict[str, Any]]:
    """Each note in facts."""
    if isinstance(value, dict):
        if "code" in value:
            yield value
        for inner in value.values():
            yield from iter_notes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from iter_notes(inner)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, explained, with a baseline that does not fit, a warning and dropped records."""
    folder = tmp_path_factory.mktemp("words")
    config = SimulationConfig(motifs=("MA0140.3",), length_bp=60, num_positives=300, num_negatives=300)
    write_simulation(draw_simulation(config), folder / "simulation")
    positives = folder / "simulation" / "positives.fa"
    with positives.open("a") as stream:
        stream.write(f">short\nACGT\n>of G and C alone\n{'GC' * 30}\n>of G and C again\n{'GC' * 30}\n")
    sources = ebox.DatasetSources(positives=positives, negatives=(folder / "simulation" / "negatives.fa",))
    settings = {
        "data": {"balance_given": True, "length_bp": 60},
        "model": {"architecture": "motif", "num_filters": 4, "dense_units": [4]},
        "train": {"max_steps": 60, "validations": 1},
        "evaluation": {"num_bootstrap": 100, "baselines": ["gc_logistic", "best_pwm", "kmer_logistic"], "kmer": 6},
        "explanation": {
            "method": "gradient",
            "sequences": "all",
            "discover": False,
            "pair": ["CAG", "GAT"],
            "num_checked": 10,
            "num_backgrounds": 6,
            "max_gap_bp": 2,
            "num_references": 2,
            "num_steps": 2,
        },
        "parallel": {"devices": 1},
    }
    ebox.run(folder / "run", sources, make_config(settings))
    ebox.explain(folder / "run", config=make_config(settings))
    return folder / "run"


@pytest.mark.slow
def test_no_fact_on_disk_is_a_sentence(run: Path):
    for name in FACTS:
        assert list(iter_sentences(json.loads((run / name).read_text()))) == [], name
    rows = [line.split("\t") for line in (run / "dataset" / "dropped.tsv").read_text().splitlines()[1:]]
    assert {row[3] for row in rows} >= {"too_short", "duplicate"}
    assert not any(" " in row[3] for row in rows)


def test_a_sentence_in_facts_is_found():
    facts = {"tracks": [{"reason": "validation has no positives", "name": "a name of words"}]}
    assert list(iter_sentences(facts)) == ["reason: validation has no positives"]


@pytest.mark.slow
def test_every_note_of_a_run_is_said_in_words(run: Path):
    codes = {code.value for code in list_codes()}
    notes = [note for name in FACTS for note in iter_notes(json.loads((run / name).read_text()))]
    assert len({note["code"] for note in notes}) > 15
    for note in notes:
        assert note["code"] in codes
        words = english.say(note)
        assert words not in ("", note["code"]) or note["code"] in ("duplicate", "blacklisted")
        assert not re.search(r"[{}]", words)


def test_every_code_has_words_and_a_meaning_of_its_own():
    codes = list_codes()
    assert len(codes) > 60
    assert len({code.value for code in codes}) == len(codes)
    assert [code for code in codes if code.value not in english.NOTES] == []
    more = [f"{part}_{check.value}" for check in Check for part in ("found", "wanted")]
    more += [f"title_{limit.value}" for limit in Limit]
    assert [code for code in more if code not in english.NOTES] == []


def test_every_choice_that_the_page_names_has_words():
    assert set(get_args(ExplanationConfig.model_fields["method"].annotation)) == set(METHODS)
    assert set(ARRANGEMENTS) == set(STRANDS) == set(english.TEXTS["learned"]["strands"])
    assert set(METRIC_NAMES) == set(METRICS)


def test_notes_are_made_of_listed_codes_alone():
    for path in list_modules():
        if path.name == "notes.py" and path.parent.name == "storage":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keys = (
                [key.value for key in node.keys if isinstance(key, ast.Constant)] if isinstance(node, ast.Dict) else []
            )
            assert "code" not in keys or "english" in path.parts, f"{path}:{node.lineno}"


def test_english_has_every_name_of_a_language():
    assert isinstance(english, Language)


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.j2")), ids=lambda path: path.name)
def test_templates_hold_no_words_and_name_texts_that_are_there(path: Path):
    template = path.read_text(encoding="utf-8")
    name = path.name.partition(".")[0]
    if name in english.TEXTS:
        used = set(re.findall(r"\bwords\.(\w+)", template))
        assert used - set(english.TEXTS[name]) == set()
    bare = re.sub(r"\{[%{#].*?[%}#]\}|<style>.*?</style>", "", template, flags=re.DOTALL)
    bare = re.sub(r"<[^>]*>", " ", bare)
    assert set(re.findall(r"[A-Za-z]{2,}", bare)) <= {"DOCTYPE", "html", "ebox", "Python"}


def test_every_fixed_text_is_used():
    sources = "".join(path.read_text() for path in (*TEMPLATES.glob("*.j2"), *(SOURCE / "reporting").rglob("*.py")))
    for name, texts in english.TEXTS.items():
        unused = [key for key in texts if not re.search(rf"\.{key}\b|\"{key}\"\]|get\(\"{key}\"", sources)]
        spread = [key for key in unused if not key.endswith(("_axes", "_title", "_note"))]
        assert spread == [], name


def test_a_section_is_a_module_and_words_and_needs_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Money is made up here: its module says what it reads and shows, and a language has its texts."""

    class Money(Code):
        COSTS = "costs_made_up"

    made = section.Section(
        "money",
        35,
        lambda files: {"money": {"notes": [section_note(Money.COSTS, files)]}},
        reads=("decision.json",),
        figures=lambda facts, language: {"bar": "<svg role='img'></svg>"},
    )

    def section_note(code: Code, files: Any) -> dict[str, Any]:
        return {"code": code.value, "euros": files.get("decision.json")["euros"]}

    found = {entry.name for entry in pkgutil.iter_modules(section.sections.__path__)}
    module = ModuleType("ebox.reporting.sections.money")
    module.SECTION = made  # type: ignore[attr-defined]
    monkeypatch.setitem(importlib.import_module("sys").modules, module.__name__, module)
    entries = [SimpleNamespace(name=name) for name in (*sorted(found), "money")]
    monkeypatch.setattr(section, "iter_modules", lambda path: entries)
    monkeypatch.setitem(english.TEXTS, "money", {"title": "Money", "bar": "Costs", "bar_note": "By day."})
    monkeypatch.setitem(english.NOTES, "costs_made_up", "It costs {euros} euros.")
    section.find_sections.cache_clear()
    try:
        folder = make_run_folder(tmp_path / "run")
        assert "euros" not in write_report(folder).read_text()
        (folder / "decision.json").write_text('{"euros": 12}')
        page = write_report(folder).read_text()
    finally:
        section.find_sections.cache_clear()
    assert page.index('id="training"') < page.index('id="money"') < page.index('id="measures"')
    assert "<p>It costs 12 euros.</p>" in page
    assert '<a href="#money">Money</a>' in page
    assert "<svg role='img'></svg>" in page


def test_sections_stand_at_places_of_their_own():
    places = [entry.place for entry in section.find_sections()]
    assert places == sorted(set(places))
    assert section.find_sections()[0].name == "result"


def test_another_language_is_one_more_package_of_the_same_names(tmp_path: Path):
    folder = make_run_folder(tmp_path / "run")
    write_report(folder)
    facts = json.loads((folder / "report.json").read_text())
    other = {name: getattr(english, name) for name in english.__all__}
    other |= {"CODE": "xx", "say": lambda note, code=None: "SAID", "name_kind": lambda kind: "KIND"}
    other["TEXTS"] = {name: {**texts, "title": f"{name} TITLE"} for name, texts in english.TEXTS.items()}
    page = render_report(facts, SimpleNamespace(**other))
    assert '<html lang="xx">' in page
    assert "<h1>SAID</h1>" in page
    assert "measures TITLE" in page
    assert "How well it does" not in page
    assert "Matched negatives" not in page
