"""Remedies that install something name this Python and the packages themselves."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from ebox.diagnosis.findings import EXTRAS
from ebox.errors import install_command, pip_command

ROOT = Path(__file__).parents[1]
METADATA = [
    "numpy>=2.0",
    "ray>=2.40 ; extra == 'cluster'",
    "a[b]>=1 ; (python_version >= '3.0') and extra == 'cluster'",
    "old ; python_version < '3.0' and extra == 'cluster'",
    "ebox[cluster] ; extra == 'all'",
    "other ; extra == 'all'",
]


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: METADATA)
    monkeypatch.setattr(sys, "executable", "/my env/python")


def test_the_command_names_this_python_and_what_the_metadata_say(metadata: None):
    assert shlex.split(install_command("cluster")) == ["/my env/python", "-m", "pip", "install", "ray>=2.40", "a[b]>=1"]


def test_an_extra_that_an_extra_names_is_looked_into(metadata: None):
    assert shlex.split(install_command("all"))[4:] == ["ray>=2.40", "a[b]>=1", "other"]


def test_a_python_without_pip_gets_it_first(metadata: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = "'/my env/python' -m ensurepip && '/my env/python' -m pip install 'ray>=2'"
    assert pip_command("ray>=2") == words


def test_a_source_that_is_not_installed_is_what_is_installed(monkeypatch: pytest.MonkeyPatch):
    def refuse(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", refuse)
    assert shlex.split(install_command("cluster"))[-2:] == ["--editable", f"{ROOT}[cluster]"]


@pytest.mark.parametrize("extra", sorted({extra for _, extra in EXTRAS.values()} | {"cuda"}))
def test_every_extra_that_is_told_of_exists(extra: str):
    assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert "ebox[" not in install_command(extra)


def test_no_text_names_a_package_of_an_index_that_is_not_ours():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/*.py")]
    for page in pages:
        assert not re.search(r"install\W[^\n]*\bebox\[", page.read_text()), page
