"""The house: imports go one way, heavy ones are late, and the public surface is what it says."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import ebox
import processes
from house import FLOORS, SOURCE, Import, list_modules, read_imports

LONGEST_MODULE = 400


def _name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def find_wrong(imports: list[Import]) -> list[str]:
    """Imports against the order, each as a sentence."""
    return [
        f"{_name(one.path)}:{one.line}: {one.owner} may not import {one.target} ({one.module})"
        for one in imports
        if one.is_wrong
    ]


def plant(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> Path:
    """A small house with a module of `storage` that holds a line."""
    house = folder / "ebox"
    for package in ("storage", "verbs", "cli"):
        (house / package).mkdir(parents=True)
    (house / "verbs" / "train.py").write_text("")
    (house / "verbs" / "train_worker.py").write_text("")
    module = house / "storage" / "publishing.py"
    module.write_text(f'"""A module that names `ebox.verbs.train` in its words alone."""\n{line}\n')
    monkeypatch.setattr("house.SOURCE", house)
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", house)
    return module


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
        "from ebox import train",
        "import ebox",
        "from importlib import import_module\nimport_module('..verbs.train', __package__)",
        "from importlib import import_module\nimport_module('.train', 'e' + 'box.verbs')",
        "from importlib import import_module\nimport_module('ebox' + '.verbs')",
        "from importlib import import_module as load\nload(f'{__package__}.train')",
        "import importlib\nimportlib.import_module(name=PLACE)",
        "import runpy\nrunpy.run_module('ebox')",
        "__import__('ebox')",
        "import subprocess\nsubprocess.run(['ebox', 'train'])",
        "import subprocess\nsubprocess.run(('ebox', verb))",
        "import subprocess\nsubprocess.run('ebox train', shell=True)",
        "import sys\ncommand = [sys.executable, '-mebox.verbs.train']",
        "command = 'python -mebox.verbs.train'",
    ],
)
def test_an_import_against_the_order_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str):
    assert len(find_wrong(read_imports(plant(tmp_path, monkeypatch, line)))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import importlib\nimportlib.import_module('jax')",
        "import subprocess\nsubprocess.run(['ray', 'stop'])",
        "REMEDY = 'train one with `ebox train`'",
        "KEPT = ('ebox', 'python', 'packages')",
        "from ..errors import InputError",
        "from importlib import import_module\nimport_module('..errors', __package__)",
    ],
)
def test_what_follows_the_order_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str):
    module = plant(tmp_path, monkeypatch, line)
    assert find_wrong(read_imports(module)) == []


def test_no_package_bears_the_name_of_a_public_function():
    assert {name for floor in FLOORS for name in floor} & set(ebox.PLACES) == set()


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
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ebox.no_such_name


def test_public_names_are_sorted_and_there():
    assert list(ebox.__all__) == sorted(ebox.__all__)
    for name in ebox.__all__:
        assert getattr(ebox, name) is not None
        assert name in dir(ebox)
