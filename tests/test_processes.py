"""Tests start processes in one way, which notices each wrong end and leaves no process behind."""

from __future__ import annotations

import ast
import signal
from pathlib import Path

import psutil
import pytest

import processes

# What starts processes, as a module; and those functions of modules that do much else.
MODULES = {"asyncio", "concurrent", "multiprocessing", "pty", "subprocess"}
FUNCTIONS = {
    "os": ("exec", "fork", "popen", "posix_spawn", "spawn", "startfile", "system"),
    "psutil": ("Popen",),
}
# A process that lives for long, and one that it started and that lives in a session of its own.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(float(sys.argv[1]))
"""


def find_starts(source: str) -> list[int]:
    """The lines of a test file that start a process by themselves, or could."""
    return [node.lineno for node in ast.walk(ast.parse(source)) if any(map(_starts, _list_names(node)))]


def _list_names(node: ast.AST) -> list[str]:
    """What a node takes from modules, as `module.name`."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            return [f"{node.module}.{alias.name}" for alias in node.names]
        case ast.Attribute(value=ast.Name(id=module)):
            return [f"{module}.{node.attr}"]
        case ast.Call(func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module")):
            return [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)]
    return []


def _starts(name: str) -> bool:
    module, _, rest = name.partition(".")
    return module in MODULES or rest.startswith(FUNCTIONS.get(module, ("\0",)))


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_processes_are_started_in_one_way(path: Path):
    if path.stem != "processes":
        assert find_starts(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "import subprocess as quiet",
        "def f():\n    from subprocess import run",
        "from multiprocessing.pool import Pool",
        "from concurrent.futures import ProcessPoolExecutor",
        "from importlib import import_module\nimport_module('subprocess')",
        "__import__('pty')",
        "import os\nos.system('true')",
        "from os import spawnv",
        "import psutil\npsutil.Popen(['true'])",
    ],
)
def test_each_other_way_is_found(source: str):
    assert len(find_starts(source)) == 1


def test_what_starts_no_process_is_not_found():
    assert find_starts("import os, psutil\nos.kill(os.getpid(), 9)\npsutil.Process()\nfrom os import path") == []


def test_a_process_that_ends_otherwise_fails_the_test_and_shows_what_it_printed():
    program = processes.python("import sys; print('some words'); sys.exit('others')")
    with pytest.raises(AssertionError, match="ended with 1, and not with 0") as caught:
        processes.run(program)
    assert "some words" in caught.value.__notes__[0]
    assert "others" in caught.value.__notes__[0]
    assert processes.run(program, ends=1).output == "some words\nothers\n"
    assert processes.run(program, ends=(0, 1)).code == 1
    with pytest.raises(AssertionError, match="ended with 1, and not with -9"):
        processes.run(program, ends=-signal.SIGKILL)


def test_a_process_that_is_to_be_killed_must_live_until_then():
    for program in ("raise SystemExit(3)", "import no_such_module"):
        with (
            pytest.raises(AssertionError, match=r"ended with [13] before it did what the test waits for"),
            processes.started(processes.python(program), ends=-signal.SIGKILL) as process,
        ):
            process.wait_until(lambda: False)
    with (
        pytest.raises(AssertionError, match="ended with 0 before it got signal 9"),
        processes.started(processes.python(""), ends=-signal.SIGKILL) as process,
    ):
        process.process.wait()
        process.send_signal(signal.SIGKILL)


def test_a_process_that_does_not_end_is_ended():
    with pytest.raises(AssertionError, match=r"did not end within 0.2 s"):
        processes.run(processes.python("import time; time.sleep(100)"), seconds=0.2)


def test_a_test_that_fails_leaves_no_process():
    with (
        pytest.raises(RuntimeError, match="of the test"),
        processes.started(processes.python(PARENT, 100), ends=0) as process,
    ):
        process.wait_until(lambda: process.stdout.endswith("\n"))
        child = psutil.Process(int(process.stdout))
        assert child.is_running()
        raise RuntimeError("of the test")
    assert process.code == -signal.SIGKILL
    assert not processes.lives(child)


@pytest.mark.parametrize("ends", [0, -signal.SIGKILL])
def test_a_process_that_outlives_the_one_that_started_it_is_told_of_and_ended(
    ends: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    with (
        pytest.raises(AssertionError, match="left processes behind"),
        processes.started(processes.python(PARENT, 0 if ends == 0 else 100), ends=ends) as process,
    ):
        process.wait_until(lambda: process.stdout.endswith("\n"))
        child = psutil.Process(int(process.stdout))
        if ends:
            process.send_signal(signal.SIGKILL)
    assert not processes.lives(child)


def test_a_process_that_was_seen_once_is_told_of_though_it_shows_no_mark(monkeypatch: pytest.MonkeyPatch):
    # So does one that is about to end, for a moment: it has no environment any more.
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    unmarked = PARENT.replace("start_new_session=True", "start_new_session=True, env={}")
    assert unmarked != PARENT
    with (
        pytest.raises(AssertionError, match="left processes behind"),
        processes.started(processes.python(unmarked, 100), ends=-signal.SIGKILL) as process,
    ):
        process.wait_until(lambda: process.stdout.endswith("\n"))
        (child,) = process.children()
        process.send_signal(signal.SIGKILL)
    assert not processes.lives(child)


def test_much_that_is_printed_holds_no_process_up():
    program = "import sys\nfor stream in (sys.stdout, sys.stderr): stream.write('x' * 10**6)"
    done = processes.run(processes.python(program))
    assert (len(done.stdout), len(done.stderr)) == (10**6, 10**6)


def test_what_is_waited_for_has_a_limit():
    with (
        pytest.raises(AssertionError, match=r"did not do what the test waits for within 0.1 s"),
        processes.started(processes.python("import time; time.sleep(100)"), ends=0) as process,
    ):
        process.wait_until(lambda: False, 0.1)
