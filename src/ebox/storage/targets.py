"""Where a path of the user leads: to a file, to standard output, or to a device or pipe that is written into."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from ebox.errors import InputError

STANDARD_OUTPUT = 1
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
# More links than Linux follows, so that a loop of links ends.
_MAX_LINKS = 41
_PACKED = ".gz"
# Names by which a reader would take plain bytes for packed ones.
_OTHER_PACKERS = (".bgz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z")


def is_standard_output(path: str | os.PathLike[str]) -> bool:
    """Whether a path is `-`, /dev/stdout, or a link to it."""
    return _find_descriptor(path) == STANDARD_OUTPUT


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether bytes are sent to what stands at a path (a descriptor, a device, a pipe), instead of replacing it."""
    if _find_descriptor(path) is not None:
        return True
    mode = _read_mode(path)
    return mode is not None and (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode))


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether the bytes are packed by gzip: the name ends in .gz."""
    return Path(path).suffix == _PACKED


def open_stream(path: str | os.PathLike[str]) -> BinaryIO:
    """Open what `is_stream` says is one, for writing.

    Raises:
        InputError: standard output is closed.
    """
    number = _find_descriptor(path)
    if number is None:
        # Without O_CREAT: a device that is gone is an error, and not a new file.
        return os.fdopen(os.open(path, os.O_WRONLY), "wb")
    if number == STANDARD_OUTPUT:
        if sys.stdout is None:
            raise InputError("standard output is closed", remedy="name a file with --out")
        sys.stdout.flush()
    return os.fdopen(os.dup(number), "wb")


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise InputError where no file can be written to a path, whatever is asked.

    That is a folder, a disk, a socket, a circle of links, a descriptor that is not open, or a name that promises a
    packing that ebox does not write.
    """
    other = next((suffix for suffix in _OTHER_PACKERS if Path(path).suffix.lower() == suffix), None)
    if other is not None:
        raise InputError(
            f"ends in {other}, but ebox packs with gzip alone",
            file=path,
            remedy=f"name it {Path(path).with_suffix(_PACKED).name}, or leave {other} out",
        )
    number = _find_descriptor(path)
    if number is not None:
        _check_open(path, number)
        return
    # What is still a link at its end leads to itself.
    if os.path.islink(os.path.realpath(path)):
        raise InputError("is a link that leads in a circle", file=path, remedy="name a file with --out")
    mode = _read_mode(path)
    if mode is None or stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return
    what = {stat.S_IFDIR: "a folder", stat.S_IFBLK: "a disk", stat.S_IFSOCK: "a socket"}
    raise InputError(
        f"is {what.get(stat.S_IFMT(mode), 'no file')}; a file was expected", file=path, remedy="name a file with --out"
    )


def check_folder_target(path: str | os.PathLike[str]) -> None:
    """Raise InputError where a path is standard output, a device or a pipe, in which no folder can stand."""
    if is_stream(path):
        raise InputError(
            "is standard output, a device or a pipe; a folder is written here", file=path, remedy="choose another --out"
        )


def _find_descriptor(path: str | os.PathLike[str]) -> int | None:
    """The number of the open descriptor that a path names itself or through links; None: it names none.

    To open such a path would begin a file anew that a shell has opened to append to, and to follow it to the end would
    replace that file.
    """
    if os.fspath(path) == "-":
        return STANDARD_OUTPUT
    place = os.path.abspath(path)
    for _ in range(_MAX_LINKS):
        found = _DESCRIPTOR.fullmatch(place)
        if found is not None:
            return int(found[1])
        if not os.path.islink(place):
            return None
        place = os.path.normpath(os.path.join(os.path.dirname(place), os.readlink(place)))
    return None


def _read_mode(path: str | os.PathLike[str]) -> int | None:
    """The kind and rights of what stands at a path, behind links; None: nothing, or it can't be seen."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def _check_open(path: str | os.PathLike[str], number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        raise InputError(f"descriptor {number} is not open", file=path, remedy="name a file with --out") from None
