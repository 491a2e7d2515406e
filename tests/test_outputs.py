"""Where --out leads: devices, pipes and links stay what they are, and nothing is replaced unasked."""

from __future__ import annotations

import gzip
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import ebox
import processes
from ebox.errors import InputError
from ebox.storage import run_folder
from ebox.storage.outputs import check_output
from ebox.storage.publishing import check_absent, claim_folder, publish_file, publish_folder
from ebox.storage.targets import is_standard_output, is_stream


def _publish(path: Path | str, text: str = "new", **options: bool) -> None:
    with publish_file(path, **options) as temporary:
        temporary.write_text(text)


def _make_node(path: Path, kind: int, numbers: tuple[int, int]) -> Path:
    try:
        os.mknod(path, kind | 0o666, os.makedev(*numbers))
    except PermissionError:
        pytest.skip("devices can't be made here")
    return path


def _read_pipe(path: Path) -> Callable[[], bytes]:
    """Begin to read a named pipe; the function that is returned waits for its end."""
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    thread.start()

    def finish() -> bytes:
        thread.join(20.0)
        return found[0]

    return finish


@pytest.mark.parametrize("behind_link", [False, True])
def test_a_device_is_written_into_and_stays_a_device(tmp_path: Path, behind_link: bool):
    device = _make_node(tmp_path / "null", stat.S_IFCHR, (1, 3))
    (tmp_path / "link").symlink_to(device)
    path = tmp_path / "link" if behind_link else device
    check_output(path, overwrite=False)
    _publish(path)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "null"]


def test_a_full_device_says_so(tmp_path: Path):
    device = _make_node(tmp_path / "full", stat.S_IFCHR, (1, 7))
    with pytest.raises(InputError, match="No space left"):
        _publish(device)
    assert stat.S_ISCHR(device.stat().st_mode)


@pytest.mark.parametrize("name", ["pipe", "pipe.gz"])
def test_a_named_pipe_gives_its_reader_all_and_stays_a_pipe(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / name)
    finish = _read_pipe(tmp_path / name)
    _publish(tmp_path / name, "row\n" * 100_000)
    found = finish()
    assert (gzip.decompress(found) if name.endswith(".gz") else found) == b"row\n" * 100_000
    assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)


def test_a_reader_that_ends_early_is_told_of(tmp_path: Path):
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(InputError, match="its reader ended"):
        _publish(f"/dev/fd/{write}")
    os.close(write)


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path: Path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "old.tsv").write_text("old")
    (tmp_path / "link.tsv").symlink_to("store/old.tsv")
    (tmp_path / "dangling.tsv").symlink_to("store/absent.tsv")
    with pytest.raises(InputError, match=r"link\.tsv: already exists"):
        check_output(tmp_path / "link.tsv", overwrite=False)
    for name in ("link.tsv", "dangling.tsv"):
        _publish(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    assert sorted(os.listdir(tmp_path / "store")) == ["absent.tsv", "old.tsv"]


def test_links_in_a_circle_are_refused(tmp_path: Path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="leads in a circle"):
            _publish(tmp_path / "a", overwrite=overwrite)
    assert (tmp_path / "a").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_folder_behind_a_link_is_replaced_there(tmp_path: Path):
    (tmp_path / "link").symlink_to("store")
    for text in ("old", "new"):
        with publish_folder(tmp_path / "link", overwrite=True) as place:
            (place / "x").write_text(text)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "store" / "x").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["link", "store"]


def test_a_name_in_gz_is_packed_to_the_same_bytes_each_time(tmp_path: Path):
    _publish(tmp_path / "a.tsv.gz", "rows")
    first = (tmp_path / "a.tsv.gz").read_bytes()
    assert gzip.decompress(first) == b"rows"
    _publish(tmp_path / "a.tsv.gz", "rows")
    assert (tmp_path / "a.tsv.gz").read_bytes() == first
    assert os.listdir(tmp_path) == ["a.tsv.gz"]


@pytest.mark.parametrize("suffix", [".bgz", ".bz2", ".xz", ".zst", ".zip", ".BZ2"])
def test_a_name_of_another_packer_is_refused_and_the_remedy_is_taken(tmp_path: Path, suffix: str):
    with pytest.raises(InputError, match=r"gzip alone\n.*name it a\.tsv\.gz") as caught:
        _publish(tmp_path / f"a.tsv{suffix}")
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError):
        check_output(tmp_path / f"a.tsv{suffix}", overwrite=True)
    assert caught.value.remedy is not None
    _publish(tmp_path / "a.tsv.gz")


_WRITER = """
import os, sys
from ebox.storage.publishing import publish_file
print("before", flush=True)
with publish_file(sys.argv[1]) as temporary:
    temporary.write_text("rows\\n")
"""


@pytest.mark.parametrize("name", ["-", "/proc/self/fd/1", "link"])
def test_standard_output_gets_the_bytes_after_what_stands_there(tmp_path: Path, name: str):
    # Never the real /dev: a fault would replace what stands there.
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    done = processes.run(processes.python(_WRITER, name), cwd=tmp_path)
    assert done.stdout == "before\nrows\n"
    assert os.listdir(tmp_path) == ["link"]


def test_an_open_descriptor_of_a_file_is_written_on_and_not_begun_anew(tmp_path: Path):
    (tmp_path / "log").write_text("head\n")
    with (tmp_path / "log").open("ab") as log:
        path = f"/dev/fd/{log.fileno()}"
        check_output(path, overwrite=False)
        _publish(path, "rows\n")
    assert (tmp_path / "log").read_text() == "head\nrows\n"
    with pytest.raises(InputError, match=r"descriptor \d+ is not open"):
        check_output(path, overwrite=False)


def test_which_paths_are_standard_output():
    assert all(map(is_standard_output, ("-", "/dev/stdout", "/dev/fd/1", Path("-"))))
    assert not any(map(is_standard_output, ("/dev/stderr", "/dev/null", "x/-", "/dev/fd/11")))
    assert all(map(is_stream, ("-", "/dev/stderr", "/dev/null")))


def test_standard_output_that_is_closed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(InputError, match="standard output is closed"):
        _publish("-")


def test_disks_sockets_and_folders_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")
    (tmp_path / "folder").mkdir()
    for name, what in (("socket", "a socket"), ("folder", "a folder")):
        for refuse in (_publish, lambda path: check_output(path, overwrite=True)):
            with pytest.raises(InputError, match=what):
                refuse(Path(name))
    listener.close()
    with pytest.raises(InputError, match="is a disk"):
        _publish(_make_node(tmp_path / "disk", stat.S_IFBLK, (7, 200)))


def test_a_file_is_replaced_only_when_asked(tmp_path: Path):
    path = tmp_path / "scores.tsv"
    _publish(path, "old", overwrite=False)
    with pytest.raises(InputError, match=r"already exists\n.*--overwrite"):
        _publish(path, "new", overwrite=False)
    assert path.read_text() == "old"
    check_output(path, overwrite=True)
    _publish(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["scores.tsv"]


@pytest.mark.parametrize("has_second_names", [True, False])
def test_a_file_that_came_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_second_names: bool
):
    def refuse(*paths: object) -> None:
        raise PermissionError(1, "no second names on this disk")

    if not has_second_names:
        monkeypatch.setattr(os, "link", refuse)
    _publish(tmp_path / "free", overwrite=False)
    with (
        pytest.raises(InputError, match="already exists"),
        publish_file(tmp_path / "scores.tsv", overwrite=False) as temporary,
    ):
        temporary.write_text("mine")
        (tmp_path / "scores.tsv").write_text("theirs")
    assert (tmp_path / "scores.tsv").read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == ["free", "scores.tsv"]


def test_a_folder_that_came_meanwhile_is_not_replaced(tmp_path: Path):
    with pytest.raises(InputError, match="already exists and is not empty"), publish_folder(tmp_path / "d") as place:
        (place / "x").write_text("mine")
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "x").write_text("theirs")
    assert (tmp_path / "d" / "x").read_text() == "theirs"
    assert os.listdir(tmp_path) == ["d"]


def test_a_file_protected_against_writing_is_kept_until_that_is_taken_off(tmp_path: Path):
    path = tmp_path / "scores.tsv"
    path.write_text("kept")
    path.chmod(0o444)
    with pytest.raises(InputError, match=r"protected against writing(.|\n)*chmod u\+w"):
        check_output(path, overwrite=True)
    path.chmod(0o644)
    check_output(path, overwrite=True)


def test_inputs_and_files_of_a_run_are_never_replaced(tmp_path: Path):
    (tmp_path / "in.fa").write_text(">a\nACGT\n")
    os.link(tmp_path / "in.fa", tmp_path / "same.fa")
    (tmp_path / "link.fa").symlink_to("in.fa")
    for name in ("in.fa", "same.fa", "link.fa"):
        with pytest.raises(InputError, match="is the file of the sequences"):
            check_output(tmp_path / name, overwrite=True, inputs={"sequences": tmp_path / "in.fa"})
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / run_folder.ENVIRONMENT).write_text("{}")
    for name in ("evaluation.json", "model/facts.json", "dataset/codes.npy"):
        with pytest.raises(InputError, match="belongs to the run"):
            check_output(run / name, overwrite=True)
    check_output(run / "scores.tsv", overwrite=False)
    check_output(run / run_folder.PARITY, overwrite=False)
    check_output(run / run_folder.REPORT, overwrite=False, own=run / run_folder.REPORT)


def test_no_folder_is_written_into_a_stream(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for place in (Path("-"), tmp_path / "pipe"):
        for overwrite in (False, True):
            with pytest.raises(InputError, match="a folder is written here"):
                check_absent(place, overwrite=overwrite)
        with pytest.raises(InputError, match="a folder is written here"), claim_folder(place):
            pass
    assert not Path("-").exists()


def test_a_claim_makes_the_folder_and_takes_it_back_if_nothing_came(tmp_path: Path):
    with claim_folder(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
        with pytest.raises(InputError, match="another ebox is writing"), claim_folder(tmp_path / "a" / "b"):
            pass
    assert os.listdir(tmp_path) == []
    (tmp_path / "mine").mkdir()
    with claim_folder(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()
    with claim_folder(tmp_path / "c" / "d"), publish_folder(tmp_path / "c" / "d") as place:
        (place / "x").write_text("")
    assert os.listdir(tmp_path / "c" / "d") == ["x"]
    with claim_folder(tmp_path / "c" / "d"):
        pass


def test_a_folder_that_is_replaced_while_it_is_claimed_is_claimed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, opened = tmp_path / "d", []
    system_open = os.open

    def replace_after(path: Path, flags: int) -> int:
        handle = system_open(path, flags)
        opened.append(handle)
        if len(opened) == 1:
            folder.rmdir()
        return handle

    monkeypatch.setattr(os, "open", replace_after)
    with claim_folder(folder):
        monkeypatch.undo()
        assert os.path.samestat(os.fstat(opened[-1]), folder.stat())
    assert len(opened) == 2


def test_the_doctor_refuses_an_out_before_it_works(tmp_path: Path):
    with pytest.raises(InputError, match="--out is for --parity and --scaling"):
        ebox.doctor(out=tmp_path / "a.json")
    (tmp_path / "a.json").write_text("mine")
    for chosen in ({"parity": True}, {"scaling": True, "dataset": tmp_path}):
        with pytest.raises(InputError, match=r"a\.json: already exists"):
            ebox.doctor(out=tmp_path / "a.json", **chosen)
    assert (tmp_path / "a.json").read_text() == "mine"
