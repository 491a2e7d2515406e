"""Publication: old or new, never half."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import processes
from ebox.errors import InputError
from ebox.storage import publishing
from ebox.storage.publishing import (
    check_absent,
    claim_folder,
    explain_disk_errors,
    find_command,
    publish_file,
    publish_folder,
    read_json,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError, match="midway"), publish_file(path) as temporary:
        temporary.write_text("{half")
        raise RuntimeError("midway")
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failed_folder_leaves_the_old_one_and_no_rest(tmp_path: Path):
    place = tmp_path / "d"
    with publish_folder(place) as temporary:
        (temporary / "x").write_text("old")
    with pytest.raises(RuntimeError, match="midway"), publish_folder(place, overwrite=True) as temporary:
        (temporary / "x").write_text("new")
        raise RuntimeError("midway")
    assert (place / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["d"]


def test_a_folder_in_use_is_only_replaced_when_asked(tmp_path: Path):
    place = tmp_path / "d"
    with publish_folder(place) as temporary:
        (temporary / "x").write_text("old")
    with pytest.raises(InputError, match="--overwrite"), publish_folder(place):
        pass
    with publish_folder(place, overwrite=True) as temporary:
        (temporary / "y").write_text("new")
    assert os.listdir(place) == ["y"]
    assert os.listdir(tmp_path) == ["d"]


def test_a_folder_of_another_make_is_never_replaced(tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with (
        pytest.raises(InputError, match=r"not made by this command"),
        publish_folder(tmp_path / "thesis", overwrite=True, mark="manifest.json"),
    ):
        pass
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_nan_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert os.listdir(tmp_path) == []


def test_truncated_json_is_named_with_its_line(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"a": 1,\n')
    with pytest.raises(InputError, match=r"line 2.*not whole JSON"):
        read_json(tmp_path / "a.json")


def test_json_that_is_missing_or_no_text_says_which(tmp_path: Path):
    with pytest.raises(InputError, match="is missing"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"can't be read: Is a directory"):
        read_json(tmp_path)
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_json(tmp_path / "a.json")


def test_letters_beyond_ascii_are_written_as_themselves(tmp_path: Path):
    write_json(tmp_path / "new" / "folder" / "a.json", {"by": "Söding"})
    assert (tmp_path / "new" / "folder" / "a.json").read_text(encoding="utf-8") == '{\n  "by": "Söding"\n}\n'


@pytest.mark.parametrize("umask", [0o027, 0o022, 0o000])
def test_what_is_published_may_be_read_by_whom_the_umask_lets(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", {})
        with publish_folder(tmp_path / "d" / "e") as temporary:
            (temporary / "x").write_text("")
        assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o666 & ~umask
        assert (tmp_path / "d" / "e").stat().st_mode & 0o777 == 0o777 & ~umask
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_an_empty_folder_is_taken_and_a_file_in_the_place_is_not(tmp_path: Path):
    (tmp_path / "d").mkdir()
    check_absent(tmp_path / "d", overwrite=False)
    check_absent(tmp_path / "absent", overwrite=True, mark="manifest.json")
    (tmp_path / "d" / "manifest.json").write_text("")
    check_absent(tmp_path / "d", overwrite=True, mark="manifest.json")
    with pytest.raises(InputError, match="already exists and is not empty"):
        check_absent(tmp_path / "d", overwrite=False, mark="manifest.json")
    with pytest.raises(InputError, match="already exists"):
        check_absent(tmp_path / "d" / "manifest.json", overwrite=False)


def _write(place: Path, text: str) -> None:
    with publish_folder(place, overwrite=True) as temporary:
        (temporary / "x").write_text(text)


def _refuse(*anything: object) -> None:
    raise OSError(errno.EACCES, "Permission denied")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names in one act")
def test_an_old_folder_is_exchanged_in_one_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _write(tmp_path / "d", "old")
    monkeypatch.setattr(Path, "replace", _refuse)
    _write(tmp_path / "d", "new")
    assert (tmp_path / "d" / "x").read_text() == "new"
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("how", ["no such call", "the disk refuses", "another system"])
def test_where_names_cannot_be_exchanged_the_old_folder_makes_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    library = SimpleNamespace() if how == "no such call" else SimpleNamespace(renameat2=lambda *args: -1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: library)
    if how == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(ctypes, "CDLL", _refuse)
    _write(tmp_path / "d", "old")
    _write(tmp_path / "d", "new")
    assert (tmp_path / "d" / "x").read_text() == "new"
    assert os.listdir(tmp_path) == ["d"]


def test_an_old_folder_that_made_way_comes_back_when_the_new_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publishing, "_exchange", lambda first, second: False)
    _write(tmp_path / "d", "old")
    replace = Path.replace

    def refuse_new(self: Path, target: Path) -> Path:
        return _refuse() if self.suffix == ".tmp" else replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse_new)
    with pytest.raises(InputError, match="that you may write to"):
        _write(tmp_path / "d", "new")
    assert (tmp_path / "d" / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["d"]


def test_an_error_about_a_file_of_the_folder_names_the_folder_that_was_asked_for(tmp_path: Path):
    with pytest.raises(InputError, match="is bad") as caught, publish_folder(tmp_path / "d") as temporary:
        raise InputError("is bad", file=temporary / "x", remedy="mend it")
    assert (caught.value.file, caught.value.remedy) == (str(tmp_path / "d"), "mend it")
    with pytest.raises(InputError, match="is bad") as caught, publish_folder(tmp_path / "d"):
        raise InputError("is bad", file=tmp_path / "reads.fa", line=3)
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "reads.fa"), 3)
    with pytest.raises(InputError, match="is bad") as caught, publish_folder(tmp_path / "d"):
        raise InputError("is bad")
    assert caught.value.file is None


def test_an_error_that_no_remedy_is_known_for_stays_itself(tmp_path: Path):
    with pytest.raises(OSError, match="Input/output error"), explain_disk_errors(tmp_path):
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(OSError, match="without a number"), explain_disk_errors(tmp_path):
        raise OSError("without a number")


def test_a_disk_without_locks_is_worked_on_and_one_that_fails_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def answer(number: int) -> None:
        def flock(handle: int, how: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    answer(errno.ENOLCK)
    with claim_folder(tmp_path):
        write_json(tmp_path / "a.json", [])
    assert json.loads((tmp_path / "a.json").read_text()) == []
    answer(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"), claim_folder(tmp_path):
        pass


def test_a_command_line_is_kept_where_it_is_one_of_ebox(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ebox", "train", "data"])
    assert find_command(None) == ["/usr/bin/ebox", "train", "data"]
    assert find_command(["ebox", "run"]) == ["ebox", "run"]
    monkeypatch.setattr(sys, "argv", ["/site-packages/ebox/__main__.py", "train"])
    assert find_command(None) == ["/site-packages/ebox/__main__.py", "train"]
    for other in ("notebook.py", "/site-packages/pytest/__main__.py", "__main__.py", "cli.py", ""):
        monkeypatch.setattr(sys, "argv", [other])
        assert find_command(None) == []


def test_a_path_through_a_file_says_so(tmp_path: Path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="choose another --out"):
        write_json(tmp_path / "f" / "a.json", {})


def test_all_files_of_a_folder_are_on_the_disk_before_it_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flushed, fsync = set(), os.fsync

    def note(handle: int) -> None:
        flushed.add(os.fstat(handle).st_ino)
        assert not (tmp_path / "d").exists()
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    with publish_folder(tmp_path / "d") as temporary:
        (temporary / "inner").mkdir()
        for name in ("x", "inner/y"):
            (temporary / name).write_text(name)
    assert flushed == {(tmp_path / "d" / name).stat().st_ino for name in ("x", "inner/y")}


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match="free some space"):
        write_json(tmp_path / "a.json", {})
    assert os.listdir(tmp_path) == []


_REPLACER = """
import sys
from pathlib import Path
from ebox.storage.publishing import publish_folder
number = 0
while True:
    number += 1
    with publish_folder(Path(sys.argv[1]), overwrite=True) as temporary:
        for name in "ab":
            (temporary / name).write_text(str(number))
    print(number, flush=True)
"""


def test_a_folder_replaced_under_kill_is_always_whole(tmp_path: Path):
    place = tmp_path / "d"
    for trial in range(8):
        with processes.started(processes.python(_REPLACER, place), ends=-signal.SIGKILL) as process:
            process.wait_until(lambda process=process, trial=trial: process.stdout.count("\n") >= 3 + trial)
            process.send_signal(signal.SIGKILL)
        assert sorted(os.listdir(place)) == ["a", "b"]
        assert (place / "a").read_text() == (place / "b").read_text()


_CLAIMER = """
import sys, time
from pathlib import Path
from ebox.storage.publishing import claim_folder
with claim_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100.0)
"""


def test_a_folder_is_claimed_by_one_process_and_free_after_its_death(tmp_path: Path):
    with processes.started(processes.python(_CLAIMER, tmp_path), ends=-signal.SIGKILL) as process:
        process.wait_until(lambda: process.stdout == "held\n")
        with pytest.raises(InputError, match="another ebox is writing"), claim_folder(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    with claim_folder(tmp_path):
        pass
