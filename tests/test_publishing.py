"""Publication: old or new, never half."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import processes
from ebox.errors import InputError
from ebox.storage.publishing import claim_folder, publish_file, publish_folder, read_json, write_json


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


def test_a_path_through_a_file_says_so(tmp_path: Path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="choose another --out"):
        write_json(tmp_path / "f" / "a.json", {})


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
