"""The house: the one order of imports, every import read from the code, and the picture of both.

`python docs/house.py` draws docs/architecture.svg again; tests/test_layering.py holds the order and the picture against
the code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "ebox"
# From the ground up: a package imports only what stands on a floor below its own, never what stands beside it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "version", "progress"),
    ("storage",),
    ("settings",),
    ("sequences", "workers"),
    ("datasets", "mesh", "drawing"),
    ("models",),
    ("training", "evaluation", "exporting"),
    ("explanation", "tuning", "planning"),
    ("scanning", "judging", "diagnosis"),
    ("reporting",),
    ("verbs",),
    ("cli",),
)
# What needs an accelerator stack.
ACCELERATED = {"jax", "equinox", "optax"}
HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names}
# Functions that import or run a module by a name; what they are given is read, or it may be any module of ebox.
LOADERS = {"import_module", "__import__", "run_module"}
ANY = "ebox.(any)"
# They find modules as they go: the verbs for the top floor, and the sections of a package for itself.
FINDERS = {"cli/app.py", "reporting/section.py"}
# Functions that start a command.
STARTERS = {"run", "Popen", "call", "check_call", "check_output", "system"}


@dataclass(frozen=True)
class Import:
    """One module that a module loads, or starts by its name."""

    path: Path
    line: int
    module: str

    @property
    def owner(self) -> str:
        """The package or top module that imports."""
        return self.path.relative_to(SOURCE).parts[0].removesuffix(".py")

    @property
    def target(self) -> str:
        """The package or top module that is imported; `ebox` itself is the command line where it is started."""
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 else "cli"

    @property
    def is_wrong(self) -> bool:
        """Whether it is against the order; what stands on no floor, such as a public function, is above them all."""
        top = len(FLOORS) - 1
        return self.target != self.owner and HEIGHT.get(self.target, top) >= HEIGHT[self.owner]


def list_modules() -> list[Path]:
    """Every module but the package's own, which only names what is loaded on demand."""
    apart = {SOURCE / "__init__.py", SOURCE / "__main__.py"}
    return [path for path in sorted(SOURCE.rglob("*.py")) if path not in apart]


def read_imports(path: Path) -> list[Import]:
    """All imports of a module, those inside functions and those by name (`importlib`, `-m ebox…`) included."""
    return [Import(path, line, module) for line, module in sorted(set(_iter_imports(path)))]


def _iter_imports(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    loaders = LOADERS | {alias.asname for alias in _list_aliases(tree) if alias.asname and alias.name in LOADERS}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, name) for name in _name_modules(path, node))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if _is_own(alias.name))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield from ((node.lineno, name) for name in _find_named(node.value))
        elif isinstance(node, ast.List | ast.Tuple):
            yield from ((node.lineno, name) for name in _find_started(node))
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, name) for name in _find_called(path, node, loaders))


def _list_aliases(tree: ast.Module) -> list[ast.alias]:
    return [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]


def _name_modules(path: Path, node: ast.ImportFrom) -> list[str]:
    module = node.module if node.module is not None else ""
    if node.level:
        module = _resolve(path, node.level, module)
    if not _is_own(module):
        return []
    return [f"ebox.{alias.name}" for alias in node.names] if module == "ebox" else [module]


def _resolve(path: Path, level: int, module: str) -> str:
    """The whole name of a module that a module names with `level` dots before it."""
    return ".".join(["ebox", *path.relative_to(SOURCE).parts[:-level], *([module] if module else [])])


def _find_called(path: Path, node: ast.Call, loaders: set[str]) -> list[str]:
    """Modules that a call imports by another name than a whole one, or starts in one text."""
    function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    given = [*node.args, *(word.value for word in node.keywords)]
    name = given[0].value if given and isinstance(given[0], ast.Constant) else None
    if function in STARTERS and isinstance(name, str):
        return ["ebox"] if name.split()[:1] == ["ebox"] else []
    if function not in loaders or path.relative_to(SOURCE).as_posix() in FINDERS:
        return []
    if not isinstance(name, str):
        return [ANY]
    level = len(name) - len(name.lstrip("."))
    if not level:
        return ["ebox"] if name == "ebox" else []
    is_own = len(given) > 1 and ast.unparse(given[1]) == "__package__"
    return [_resolve(path, level, name.lstrip("."))] if is_own else [ANY]


def _find_named(text: str) -> list[str]:
    """Modules that a string names as a whole, or starts in a command line (`python -m ebox.x`)."""
    words = text.split()
    started = [word for flag, word in pairwise(words) if flag == "-m"]
    started += [word[2:] for word in words if word.startswith("-m")]
    whole = [text] if "." in text else []
    return [name for name in {*started, *whole} if _is_own(name) and (name == "ebox" or _exists(name))]


def _find_started(node: ast.List | ast.Tuple) -> list[str]:
    """Modules that follow `-m` in a list of words; `ebox` itself where the list is a command of it."""
    words = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
    verbs = {file.stem for file in (SOURCE / "verbs").glob("*.py")}
    # Other lists begin with the same word, such as that of the packages in an environment.
    is_command = words[:1] == ["ebox"] and (len(words) == 1 or words[1] is None or words[1] in verbs)
    started = [word for flag, word in pairwise(words) if flag == "-m" and isinstance(word, str) and _is_own(word)]
    return [*started, *(["ebox"] if is_command else [])]


def _is_own(name: str) -> bool:
    return name == "ebox" or name.startswith("ebox.")


def _exists(name: str) -> bool:
    """Whether a dotted name is a module of ebox, or a name in one."""
    parts = name.split(".")[1:]
    places = (SOURCE.joinpath(*parts[:count]) for count in range(1, len(parts) + 1))
    return any(place.is_dir() or place.with_suffix(".py").is_file() for place in places)


def list_edges() -> dict[str, set[str]]:
    """The packages and top modules that each one imports, but for itself."""
    edges: dict[str, set[str]] = {name: set() for name in HEIGHT}
    for path in list_modules():
        for one in read_imports(path):
            if one.owner != one.target and one.target in HEIGHT:
                edges[one.owner].add(one.target)
    return edges


def reduce_edges(edges: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Those that do not follow from others: where a way of two or more imports leads to the same, one is left out."""

    def reach(name: str) -> set[str]:
        return edges[name].union(*(reach(below) for below in edges[name]))

    return [
        (name, below)
        for name in HEIGHT
        for below in sorted(edges[name], key=list(HEIGHT).index)
        if not any(below in reach(other) for other in edges[name] if other != below)
    ]


def read_purpose(name: str) -> str | None:
    """The first sentence of what a package or top module says of itself; None where it is not built yet."""
    places = (SOURCE / name / "__init__.py", SOURCE / f"{name}.py")
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        return None
    text = " ".join((ast.get_docstring(ast.parse(place.read_text(encoding="utf-8"))) or "").split())
    return text.partition(". ")[0].removesuffix(".") + "."


def uses_jax(name: str) -> bool:
    """Whether a module of it imports JAX, or what stands on JAX, at any place."""
    paths = [path for path in list_modules() if path.relative_to(SOURCE).parts[0].removesuffix(".py") == name]
    trees = [node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    named = [alias.name for node in trees if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in trees if isinstance(node, ast.ImportFrom)]
    return any(module.split(".")[0] in ACCELERATED for module in named)


if __name__ == "__main__":
    from house_picture import draw_house

    (Path(__file__).parent / "architecture.svg").write_text(draw_house(), encoding="utf-8")
