"""The house: imports go one way, heavy ones are late, and the public surface is what it says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ebox"
GROUND = ("errors", "publishing", "config")
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("publishing",),
    ("settings", "interruption"),
    ("config",),
    ("sequences",),
    ("datasets",),
    ("collectives",),
    ("models",),
    ("parallel",),
    ("training",),
    ("evaluation",),
    ("explanation", "planning"),
    ("reporting",),
    ("preflight",),
    ("prediction", "diagnosis", "parity", "scaling"),
    ("launch", "overrides"),
    ("stages",),
    ("worker", "locus"),
    ("explaining",),
    ("pipeline",),
    ("console",),
    ("options", "exits"),
    ("explain_verb", "doctor_verb"),
    ("cli",),
)
HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ebox":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ebox.")}
    return found - {"__version__"}


def _modules() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for other in _imports(path) - {own}:
        assert HEIGHT[other] < HEIGHT[own], f"{own} may not import {other}"


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_stay_short(path: Path):
    assert len(path.read_text().splitlines()) <= 400


def test_every_package_says_what_it_owns():
    for package in SOURCE.iterdir():
        if package.is_dir() and package.name != "__pycache__":
            docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
            assert docstring is not None, package
            assert len(docstring) > 60, package


@pytest.mark.parametrize("module", ["ebox", "ebox.cli", "ebox.sequences", "ebox.datasets"])
def test_light_modules_load_no_accelerator_stack(module: str):
    heavy = "{'jax', 'torch', 'sklearn', 'matplotlib', 'equinox', 'optax'}"
    program = f"import sys, {module}; bad = {heavy} & set(sys.modules); sys.exit(' '.join(bad) or 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
