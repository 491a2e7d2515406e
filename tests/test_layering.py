"""The house: imports go one way, heavy ones are late, and the public surface is what it says."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import processes
from house import FLOORS, HEIGHT, SOURCE, Import, list_modules, read_imports

LONGEST_MODULE = 400


def _name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def find_wrong(imports: list[Import]) -> list[str]:
    """Imports against the order, each as a sentence."""
    return [
        f"{_name(one.path)}:{one.line}: {one.owner} may not import {one.target} ({one.module})"
        for one in imports
        if one.target != one.owner and HEIGHT[one.target] >= HEIGHT[one.owner]
    ]


@pytest.mark.parametrize("path", list_modules(), ids=_name)
def test_imports_go_one_way(path: Path):
    assert find_wrong(read_imports(path)) == []


@pytest.mark.parametrize(
    "line",
    [
        "from ebox.cli.app import main",
        "def late():\n    from ebox.verbs import train",
        "import ebox.verbs.train",
        "from ebox import verbs",
        "from ..verbs import train",
        "import importlib\nimportlib.import_module('ebox.verbs.train')",
        "import sys\ncommand = [sys.executable, '-m', 'ebox.verbs.train_worker']",
        "import sys\ncommand = [sys.executable, '-m', 'ebox', 'train']",
        "command = 'python -m ebox.verbs.train_worker'",
        "PLACE = 'ebox.verbs.train.train'",
    ],
)
def test_an_import_against_the_order_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str):
    house = tmp_path / "ebox"
    for package in ("storage", "verbs", "cli"):
        (house / package).mkdir(parents=True)
    (house / "verbs" / "train.py").write_text("")
    (house / "verbs" / "train_worker.py").write_text("")
    module = house / "storage" / "publishing.py"
    module.write_text(f'"""A module that names `ebox.verbs.train` in its words alone."""\n{line}\n')
    monkeypatch.setattr("house.SOURCE", house)
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", house)
    assert len(find_wrong(read_imports(module))) == 1


def test_every_package_has_its_floor():
    packages = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()}
    files = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert packages | files <= {name for floor in FLOORS for name in floor}


def test_few_files_stand_beside_the_packages():
    assert len([path for path in SOURCE.iterdir() if path.is_file()]) <= 6


@pytest.mark.parametrize("path", list_modules(), ids=_name)
def test_modules_stay_short(path: Path):
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


def test_every_package_says_what_it_owns():
    for package in SOURCE.rglob("__init__.py"):
        docstring = ast.get_docstring(ast.parse(package.read_text()))
        assert docstring is not None, package
        assert len(docstring) > 60, package


@pytest.mark.parametrize("module", ["ebox", "ebox.cli", "ebox.sequences", "ebox.datasets", "ebox.workers"])
def test_light_modules_load_no_accelerator_stack(module: str):
    heavy = "{'jax', 'torch', 'sklearn', 'matplotlib', 'equinox', 'optax'}"
    walk = f"import importlib, pkgutil, {module} as P\nfor m in pkgutil.walk_packages(P.__path__, P.__name__ + '.'):"
    every = f"{walk}\n    importlib.import_module(m.name)\n" if module == "ebox.workers" else ""
    program = f"import sys, {module}\n{every}bad = {heavy} & set(sys.modules)\nsys.exit(' '.join(bad) or 0)"
    processes.run(processes.python(program))


def test_importing_a_name_that_is_not_there_says_so():
    import ebox

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ebox.no_such_name


def test_public_names_are_sorted_and_there():
    import ebox

    assert list(ebox.__all__) == sorted(ebox.__all__)
    for name in ebox.__all__:
        assert getattr(ebox, name) is not None
        assert name in dir(ebox)
