"""The bytes of a file, plain, gzip or bgzip, recognised by content, with a message for every way that reading fails."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, cast

from ebox.errors import InputError
from ebox.progress import quiet

# Called with the bytes of a file as they are read, such as the `update` of a hash.
OnBytes = Callable[[memoryview], object]
BLOCK_BYTES = 1 << 22
GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
# The empty block that ends every complete bgzip file (SAM specification, section 4.1.2).
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_FOREIGN = (
    (b"BZh", "bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ", "xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unpack it with unzstd"),
    (b"PK\x03\x04", "a zip archive", "unpack it with unzip"),
    (b"\x43\x27\x41\x1a", "2bit", "convert it with twoBitToFa"),
    (b"\x1a\x45\xdf\xa3", "a media file", "give a text file"),
    (b"\x89PNG", "an image", "give a text file"),
    (b"%PDF", "a PDF", "give a text file"),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8 text"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8 text"),
)


def iter_bytes(
    path: str | os.PathLike[str], block_bytes: int = BLOCK_BYTES, *, on_bytes: OnBytes = quiet
) -> Iterator[bytes]:
    """Yield the unpacked bytes of a file in blocks; a UTF-8 byte order mark is left out.

    Pipes can be read too, so nothing is read twice.

    Args:
        path: The file.
        block_bytes: The most bytes of a block.
        on_bytes: Called with every piece of the file as it stands on the disk, packed where it is packed.

    Raises:
        InputError: missing, a folder, unreadable, empty, in a format that ebox does not read, or a gzip that is cut
            off or corrupt.
    """
    with BufferedReader(cast(Any, _Told(open_file(path), on_bytes))) as stream:
        start = stream.peek(32)[:32]
        if not start:
            raise InputError("is empty", file=path, remedy="check how it was made or fetched")
        _check_format(path, start)
        packed = start.startswith(GZIP_MAGIC)
        if is_bgzip(start):
            _check_bgzip_end(path)
        is_first = True
        for block in _unpack(path, stream, packed=packed, block_bytes=block_bytes):
            if is_first:
                block = block.removeprefix(_BOM)
                if packed:
                    _check_format(path, block[:32])
            is_first = False
            yield block
        if is_first:
            raise InputError("is empty once unpacked", file=path, remedy="check how it was made or fetched")


class _Told(RawIOBase):
    """A file that tells every byte that is read from it."""

    def __init__(self, file: BufferedReader, on_bytes: OnBytes) -> None:
        self._file, self._on_bytes = file, on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto1(buffer)
        self._on_bytes(memoryview(buffer)[:count])
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def check_regular(path: str | os.PathLike[str], why: str) -> None:
    """Raise InputError where a pipe or a device stands in place of a file, which can't be read a second time."""
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise InputError(
            f"is a pipe or a device, and {why}",
            file=path,
            remedy="write it to a file first (cat PIPE > FILE), and give that",
        )


def iter_lines(path: str | os.PathLike[str], *, on_bytes: OnBytes = quiet) -> Iterator[tuple[int, bytes]]:
    """Yield (1-based line number, line without its end); CRLF counts as LF.

    Args:
        path: The file.
        on_bytes: As for `iter_bytes`.

    Raises:
        InputError: as for `iter_bytes`.
    """
    number, rest = 0, b""
    for block in iter_bytes(path, on_bytes=on_bytes):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        for line in lines:
            number += 1
            yield number, line.removesuffix(b"\r")
    if rest:
        yield number + 1, rest.removesuffix(b"\r")


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file for reading bytes.

    Raises:
        InputError: missing, a folder, or unreadable.
    """
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        remedy = "give /dev/stdin for standard input" if os.fspath(path) == "-" else "check the path"
        raise InputError("does not exist", file=path, remedy=remedy) from None
    except IsADirectoryError:
        raise InputError("is a folder, not a file", file=path, remedy="name a file in it") from None
    except PermissionError:
        raise InputError(
            "can't be read: permission denied", file=path, remedy="ask its owner for the right to read it"
        ) from None
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", file=path, remedy="check the path") from None


def is_bgzip(start: bytes) -> bool:
    """Whether these first bytes are those of bgzip: a gzip header with the extra field BC."""
    return start[:4] == b"\x1f\x8b\x08\x04" and start[12:14] == b"BC"


def check_text(path: str | os.PathLike[str], block: bytes) -> None:
    """Raise InputError if a block has NUL bytes, which no text format has."""
    if b"\x00" in block:
        raise InputError("is not text: it has NUL bytes", file=path, remedy="give a text file, plain or gzip")


def _unpack(path: str | os.PathLike[str], stream: BufferedReader, *, packed: bool, block_bytes: int) -> Iterator[bytes]:
    source = gzip.GzipFile(fileobj=stream) if packed else stream
    again = "fetch or make it again (gzip -t checks it)"
    while True:
        try:
            block = source.read(block_bytes)
        except EOFError:
            raise InputError("is a gzip file that is cut off", file=path, remedy=again) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"is a corrupt gzip file: {error}", file=path, remedy=again) from None
        except OSError as error:
            raise InputError(f"can't be read: {error.strerror}", file=path, remedy="check the disk") from None
        if not block:
            return
        yield block


def _check_format(path: str | os.PathLike[str], start: bytes) -> None:
    for magic, name, remedy in _FOREIGN:
        if start.startswith(magic):
            raise InputError(f"is {name}; ebox reads text, plain or gzip", file=path, remedy=remedy)
    if start.startswith(b"BAM\x01"):
        raise InputError("is BAM, not text", file=path, remedy="convert it with samtools fasta")


def _check_bgzip_end(path: str | os.PathLike[str]) -> None:
    """Check the last block: a bgzip file that is cut between two blocks unpacks without an error."""
    if not Path(path).is_file():
        return
    with open_file(path) as stream:
        stream.seek(-min(len(_BGZIP_END), stream.seek(0, os.SEEK_END)), os.SEEK_END)
        if stream.read() != _BGZIP_END:
            raise InputError(
                "is a bgzip file that is cut off: its last block is missing",
                file=path,
                remedy="fetch or make it again",
            )
