"""Words: plain present-day English in comments, docstrings and strings, and an explanation of each parameter."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ebox

SOURCE = Path(ebox.__file__).parent
MOST_UNEXPLAINED = 3

BANNED = re.compile(
    r"\b(?:"
    r"(?:hang|hangs|hung|hanging) on"
    r"|so (?:many|much|few|long|often|far)"
    r"|of (?:its|their|one's) own accord"
    r"|heed|heeds|heeded|lest|whilst|amongst|albeit|upon|unto|shall|nought|aught"
    r"|thereof|thereby|therein|whence|whereby|wherein|hitherto|henceforth|forthwith"
    r"|minds? (?:it|that|nothing)"
    r"|(?:is|are|was|were) to be"
    r"|that is to say|for the time being|in truth|must needs|as it were"
    r"|a one(?!-)"
    r")\b",
    re.IGNORECASE,
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def iter_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the words of every string and of every run of comment lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())
    first, last, words = 0, -1, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = token.string.lstrip("# ")
        if token.start[0] == last + 1:
            words += f" {text}"
        else:
            yield first, words
            first, words = token.start[0], text
        last = token.start[0]
    yield first, words


def iter_functions(
    body: list[ast.stmt], owner: ast.ClassDef | None = None
) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """Yield the public functions, and the public methods of public classes, with their class."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from iter_functions(node.body, node)
        elif isinstance(node, Function) and (node.name == "__init__" or not node.name.startswith("_")):
            yield node, owner


def list_parameters(function: Function) -> list[str]:
    """The names of the parameters, `self` and `cls` left out."""
    given = function.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    found += [parameter for parameter in (given.vararg, given.kwarg) if parameter is not None]
    return [parameter.arg for parameter in found if parameter.arg not in ("self", "cls")]


def explained_parameters(docstring: str) -> set[str]:
    """The names that the `Args` section of a docstring explains."""
    section = re.search(r"^Args:\n((?: .*\n?|\n)+)", docstring, re.MULTILINE)
    return set(re.findall(r"^ {4}\*{0,2}(\w+): ", section[1], re.MULTILINE)) if section else set()


def find_banned_words(source: str) -> Iterator[tuple[int, str]]:
    for line, text in iter_texts(source):
        for found in BANNED.finditer(text):
            yield line, f"{found[0]!r} in {text[max(0, found.start() - 30) : found.end() + 30]!r}"


def find_pointing_docstrings(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | Function) and (ast.get_docstring(node) or "").startswith("See `"):
            yield node.lineno, f"{node.name} only points elsewhere; mark an overriding method with @override"


def find_unexplained_parameters(source: str) -> Iterator[tuple[int, str]]:
    for function, owner in iter_functions(ast.parse(source).body):
        names = list_parameters(function)
        is_override = any(isinstance(each, ast.Name) and each.id == "override" for each in function.decorator_list)
        if len(names) <= MOST_UNEXPLAINED or is_override:
            continue
        explained = explained_parameters(ast.get_docstring(function) or "")
        if function.name == "__init__" and owner is not None:
            explained |= explained_parameters(ast.get_docstring(owner) or "")
        missing = [name for name in names if name not in explained]
        if missing:
            yield function.lineno, f"Args of {function.name} miss {', '.join(missing)}"


RULES = (find_banned_words, find_pointing_docstrings, find_unexplained_parameters)
Rule = Callable[[str], Iterator[tuple[int, str]]]


@pytest.mark.parametrize("rule", RULES)
def test_the_words_of_the_source_follow_the_rules(rule: Rule):
    paths = sorted(SOURCE.rglob("*.py"))
    assert len(paths) > 50
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {problem}"
        for path in paths
        for line, problem in rule(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_the_words_of_tests_and_benchmarks_are_plain_too():
    root = Path(__file__).parents[1]
    paths = {path for folder in ("tests", "benchmarks", "docs") for path in (root / folder).rglob("*.py")}
    found = [
        f"{path.relative_to(root)}:{line}: {problem}"
        for path in sorted(paths - {Path(__file__)})
        for line, problem in find_banned_words(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "source", "problem"),
    [
        (find_banned_words, '"""A width of so\n    many bases."""', "'so many'"),
        (find_banned_words, "x = 1  # It hangs\n# on the width.", "'hangs on'"),
        (find_banned_words, 'x = f"{y} is to be {z}"', "'is to be'"),
        (find_banned_words, "# A one that is lost.", "'A one'"),
        (find_pointing_docstrings, 'class A:\n    def f(self):\n        """See `B`."""', "f only points elsewhere"),
        (find_unexplained_parameters, "def f(a, b, *, c, d):\n    pass", "miss a, b, c, d"),
        (
            find_unexplained_parameters,
            'def f(a, b, c, *d):\n    """F.\n\n    Args:\n        a: A.\n    """',
            "miss b, c, d",
        ),
        (find_unexplained_parameters, "class A:\n    def __init__(self, a, b, c, d):\n        pass", "__init__ miss a"),
    ],
)
def test_what_breaks_a_rule_is_found(rule: Rule, source: str, problem: str):
    assert [problem in found for _, found in rule(source)] == [True]


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (find_banned_words, "# A one-hot row depends on the width; it ends, so the number of bases is known."),
        (find_pointing_docstrings, 'def f():\n    """Sees `B`."""'),
        (find_unexplained_parameters, "def f(a, b, c):\n    pass"),
        (find_unexplained_parameters, "def _f(a, b, c, d):\n    pass"),
        (find_unexplained_parameters, "class _A:\n    def f(self, a, b, c, d):\n        pass"),
        (find_unexplained_parameters, "class A(B):\n    @override\n    def f(self, a, b, c, d):\n        pass"),
        (
            find_unexplained_parameters,
            'class A:\n    """A.\n\n    Args:\n        a: A.\n\n        b: B.\n        **c: C.\n    """\n'
            '    def __init__(self, a, b, x, **c):\n        """M.\n\n        Args:\n            x: X.\n        """',
        ),
    ],
)
def test_what_follows_a_rule_is_left_alone(rule: Rule, source: str):
    assert list(rule(source)) == []
