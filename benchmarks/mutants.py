"""Mutants: code that carries a promise is broken on purpose, a place at a time, and the tests must notice.

    pip install cosmic-ray
    nice -n 5 python benchmarks/mutants.py [--groups publishing,metrics] [--mutants 30] [--seed 13] [--again]

Cosmic Ray says where it can change a module and how. Of each group of modules, places are drawn at random, and one
change at each; the group's own tests run against a copy of the project with that change. A test that fails, and one
that never ends, kills the mutant. Not drawn from, as nothing that is promised depends on it:

- annotations, `TYPE_CHECKING` blocks, arguments of `@dataclass`, and `@abstractmethod`, `@final` and `@override`;
- the texts of errors, warnings and progress; indents and stack levels;
- constants of tuning (`TUNING`), and how long something sleeps between two looks;
- changes that Python refuses or that are hardly ever one: `==` to `is`, or a sum to a shift.

What lives is in results/mutants.json, beside what killed the others. Where a change makes no difference that a user
could see, equivalent_mutants.json says why. The program goes on where it was stopped; `--again` gives those that
live another try, after tests were added.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import importlib
import json
import os
import random
import re
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import RESULTS, keep
from mutant_groups import GROUPS, TUNING, Group

PROJECT = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")
Position = tuple[int, int]
# A mutant may ask for all the memory there is.
MOST_BYTES = 8 << 30
# How a run of tests ends that tells nothing of the mutant: no tests, an error of this program, another ebox.
NO_VERDICT = (5, 98, 99)


QUIET_KEYWORDS = ("stacklevel", "indent", "maxsize", "prefix", "suffix")
QUIET_CALLS = re.compile(r"(\w*Error|_?warn|progress|sleep)$")
QUIET_DECORATORS = ("abstractmethod", "final", "override")
SWAPS = {
    "Add": ("Sub",),
    "Sub": ("Add",),
    "Mul": ("Div",),
    "Div": ("Mul",),
    "FloorDiv": ("Div", "Mul"),
    "Mod": ("FloorDiv",),
    "Pow": ("Mul",),
    "RShift": ("LShift",),
    "LShift": ("RShift",),
    "BitOr": ("BitAnd",),
    "BitAnd": ("BitOr",),
    "BitXor": ("BitOr",),
}
# Loaded once; each run of tests is a fork of this process.
PRELOADED = ("jax.numpy", "equinox", "optax", "scipy.stats", "sklearn.metrics", "pydantic", "hypothesis", "beartype")


@dataclass(frozen=True)
class Mutant:
    """A change: which module, where, by which operator, and at which of the places that the operator finds."""

    module: str
    position: Position
    operator: str
    occurrence: int


def is_apt(operator: str) -> bool:
    """Whether an operator of Cosmic Ray makes changes as one might make by mistake."""
    name = operator.split("/")[1]
    if name in ("VariableReplacer", "VariableInserter"):
        return False
    kind, *ends = name.split("_")
    if kind == "ReplaceBinaryOperator":
        return ends[1] in SWAPS[ends[0]]
    if kind == "ReplaceComparisonOperator":
        return ends[0].startswith("Is") == ends[1].startswith("Is")
    return True


def find_mutants(module: str) -> list[Mutant]:
    """Every change of a module that may be drawn."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    source = source_of(module).read_text(encoding="utf-8")
    quiet, nodes, found = list(quiet_spans(source)), list(ast_nodes(get_ast(source))), []
    for name in filter(is_apt, operator_names()):
        operator, occurrence = get_operator(name)(), 0
        for node in nodes:
            # The lone star of a signature is no operator.
            is_star = node.parent is not None and node.parent.type == "parameters"
            for start, _ in operator.mutation_positions(node):
                if not is_star and not any(first <= start < last for first, last in quiet):
                    found.append(Mutant(module, start, name, occurrence))
                occurrence += 1
    return found


def quiet_spans(source: str) -> Iterator[tuple[Position, Position]]:
    """The parts of a module in which nothing is drawn."""
    for node in ast.walk(ast.parse(source)):
        for part in quiet_parts(node):
            # One before, for the sign of a decorator.
            yield (part.lineno, part.col_offset - 1), (part.end_lineno or 0, part.end_col_offset or 0)


def quiet_parts(node: ast.AST) -> Iterator[Any]:
    """Of a node of the syntax, the parts in which nothing is drawn."""
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
        yield node.annotation
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield from (one for one in node.decorator_list if name_of(one) in (*QUIET_DECORATORS, "dataclass"))
    if isinstance(node, ast.FunctionDef) and node.returns is not None:
        yield node.returns
    if isinstance(node, ast.If) and name_of(node.test) == "TYPE_CHECKING":
        yield node
    if isinstance(node, ast.Call) and QUIET_CALLS.match(name_of(node)):
        is_whole = name_of(node) in ("progress", "sleep")
        yield from (one for one in ast.walk(node) if isinstance(one, ast.JoinedStr) or (is_whole and one is node))
    if isinstance(node, ast.keyword) and node.arg in QUIET_KEYWORDS:
        yield node.value
    if isinstance(node, ast.Assign) and TUNING.fullmatch(name_of(node.targets[0])):
        yield node.value


def name_of(node: ast.AST) -> str:
    """The last name of a name, an attribute or what is called."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def draw(group: Group, count: int, choice: random.Random) -> list[tuple[Mutant, str]]:
    """Mutants and their code, each at another place."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    places: dict[tuple[str, Position], list[Mutant]] = {}
    for module in group.modules:
        for mutant in find_mutants(module):
            places.setdefault((module, mutant.position), []).append(mutant)
    drawn: list[tuple[Mutant, str]] = []
    for place in choice.sample(sorted(places), len(places)):
        mutant = choice.choice(places[place])
        source = source_of(mutant.module).read_text(encoding="utf-8")
        code = mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)
        with suppress(SyntaxError):
            compile(code, mutant.module, "exec")
            drawn.append((mutant, code))
        if len(drawn) == count:
            break
    return drawn


def source_of(module: str, project: Path = PROJECT) -> Path:
    """The file of a module."""
    return project / "src" / "ebox" / f"{module}.py"


def preload() -> None:
    """Load what all tests need, under the settings that the tests ask for, and nothing of ebox."""
    runpy.run_path(str(PROJECT / "tests" / "conftest.py"))
    for name in PRELOADED:
        importlib.import_module(name)
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)


@contextmanager
def scratch_project() -> Iterator[Path]:
    """A copy of the project, to be broken."""
    with tempfile.TemporaryDirectory(prefix="ebox-mutants-") as temporary:
        copy = Path(temporary) / "project"
        ignore = shutil.ignore_patterns(".*", "__pycache__", "runs", "results")
        shutil.copytree(PROJECT, copy, ignore=ignore)
        yield copy


def replace_module(copy: Path, module: str, code: str) -> None:
    """Write a module of the copy, and forget what was compiled of it: two versions can be of one second and size."""
    file = source_of(module, copy)
    file.write_text(code, encoding="utf-8")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()


def be_pytest(copy: Path, arguments: Sequence[str], log: Path) -> int:
    """Run tests of the copy in this process, which is a fork made for it."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.chdir(copy)
    for name in [name for name in sys.modules if name.split(".")[0] in ("ebox", "machine")]:
        del sys.modules[name]
    sources = str(copy / "src")
    sys.path[0] = os.environ["PYTHONPATH"] = sources
    import pytest

    quiet = ("-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    code = pytest.main(["-x", "-q", "--tb=short", "--hypothesis-seed=0", *quiet, *arguments])
    ebox = sys.modules.get("ebox")
    if ebox is not None and not str(ebox.__file__).startswith(sources):
        print("the tests took another ebox than that of the copy", ebox.__file__)
        return 99
    return int(code)


def run_round(copy: Path, arguments: Sequence[str], most_seconds: float) -> tuple[int | None, str]:
    """The exit code of a run of tests, none where it took too long, and what it printed."""
    log = copy.parent / "log"
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 98
        try:
            code = be_pytest(copy, arguments, log)
        finally:
            os._exit(code)
    end, code = time.monotonic() + most_seconds, None
    while code is None and time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        # Also what it started and left behind.
        os.killpg(pid, signal.SIGKILL)
    if code is None:
        os.waitpid(pid, 0)
    return code, log.read_text(encoding="utf-8", errors="replace")


def measure_baseline(copy: Path, group: Group) -> list[float]:
    """Seconds of each round on whole code; all must pass."""
    seconds = []
    for arguments in group.rounds:
        began = time.monotonic()
        code, text = run_round(copy, arguments, 1200.0)
        if code != 0:
            raise SystemExit(f"the tests fail on whole code ({code}): {' '.join(arguments)}\n{text[-3000:]}")
        seconds.append(time.monotonic() - began)
    return seconds


def judge(copy: Path, group: Group, mutant: Mutant, code: str, baseline: Sequence[float]) -> dict[str, Any]:
    """Put a mutant in the place of its module, and tell how it ends."""
    whole, began = source_of(mutant.module).read_text(encoding="utf-8"), time.monotonic()
    replace_module(copy, mutant.module, code)
    try:
        outcome, killer = try_rounds(copy, group, baseline)
    finally:
        replace_module(copy, mutant.module, whole)
    return {
        "module": mutant.module,
        "line": mutant.position[0],
        "operator": mutant.operator.split("/")[1],
        "diff": list(difflib.unified_diff(whole.splitlines(), code.splitlines(), lineterm="", n=0))[3:],
        "outcome": outcome,
        "killed_by": killer,
        "seconds": round(time.monotonic() - began, 1),
    }


def try_rounds(copy: Path, group: Group, baseline: Sequence[float]) -> tuple[str, str | None]:
    """Run the rounds until one fails; how it ended, and which test failed first."""
    for arguments, usual in zip(group.rounds, baseline, strict=True):
        ended, text = run_round(copy, arguments, 5 * usual + 30)
        if ended in NO_VERDICT:
            raise SystemExit(text[-3000:])
        if ended != 0:
            found = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
            outcome = "killed" if ended is not None else "killed by its time"
            return outcome, found[1] if found else " ".join(arguments)
    return "survived", None


def explain(found: dict[str, Any], known: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Tell one that lives and makes no difference from one that the tests miss."""
    lines = {sign: " ".join(line[1:].strip() for line in found["diff"] if line[0] == sign) for sign in "-+"}
    change = (found["module"], lines["-"], lines["+"])
    reasons = [one["reason"] for one in known if (one["module"], one["from"], one["to"]) == change]
    if reasons and found["outcome"] == "survived":
        return {**found, "outcome": "equivalent", "reason": reasons[0]}
    return found


def count(mutants: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many there are, how they ended, and how many of them lived until tests were added."""
    ends = ["killed" if one["outcome"].startswith("killed") else one["outcome"] for one in mutants]
    later = sum("survived_at_first" in one for one, end in zip(mutants, ends, strict=True) if end == "killed")
    kinds = {end: ends.count(end) for end in ("killed", "equivalent", "survived")}
    return {"mutants": len(ends), **kinds, "killed_by_tests_added_since": later}


def run_group(name: str, results: dict[str, Any], options: argparse.Namespace, copy: Path) -> None:
    """Judge the mutants of a group that are not judged yet, and keep each result at once."""
    group, known = GROUPS[name], json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    digest = hashlib.sha256(b"".join(source_of(module).read_bytes() for module in group.modules)).hexdigest()
    drawn, before = draw(group, options.mutants, random.Random(f"{options.seed} {name}")), results.get(name, {})
    identity = {"seed": options.seed, "sources_sha256": digest}
    done = before["found"] if all(before.get(key) == value for key, value in identity.items()) else []
    todo = [n for n in range(len(drawn)) if n >= len(done) or (options.again and done[n]["outcome"] == "survived")]
    baseline = measure_baseline(copy, group) if todo else before["baseline_seconds"]
    facts = {"modules": group.modules, "tests": group.rounds, **identity, "baseline_seconds": baseline}
    began = time.monotonic()
    for place, number in enumerate([*todo, None], start=1):
        if number is not None:
            found = judge(copy, group, *drawn[number], baseline)
            done[number : number + 1] = [{**found, "survived_at_first": True} if number < len(done) else found]
            left = (time.monotonic() - began) / place * (len(todo) - place)
            print(f"{name} {place}/{len(todo)}: {describe(found)}; {left / 60:.0f} min left", flush=True)
        done = [explain(one, known) for one in done]
        results[name] = {**facts, "counts": count(done), "found": done}
        keep("mutants", {"groups": results})


def describe(found: dict[str, Any]) -> str:
    """A mutant and its end in a line."""
    return f"{found['outcome']}, {found['module']}:{found['line']} {found['diff'][-1].strip()[:60]}"


def main() -> None:
    """Run all groups, and print a table."""
    parser = argparse.ArgumentParser(description="Do the tests notice broken code?")
    parser.add_argument("--groups", default=",".join(GROUPS))
    parser.add_argument("--mutants", type=int, default=30, help="of each group")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--again", action="store_true", help="give those that lived another try")
    options = parser.parse_args()
    preload()
    kept = RESULTS / "mutants.json"
    results = json.loads(kept.read_text(encoding="utf-8"))["groups"] if kept.exists() else {}
    with scratch_project() as copy:
        for name in options.groups.split(","):
            run_group(name, results, options, copy)
    for name in results:
        print(f"{name:<12}", results[name]["counts"])


if __name__ == "__main__":
    main()
