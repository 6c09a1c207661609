"""What files a folder holds, their bytes, and what proves that a file is still the same.

Knows the file system; knows no format and no collection. Invariants: nothing outside the folder is ever opened (links
are not followed); hidden files are left out; a stamp is given only where a later change of the file must change it.
"""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePosixPath

from msgspec import Struct

from loam.core.errors import DocumentError

_SETTLED = 2 * 10**9
"""Nanoseconds: a file changed later than this before it was read may change again within the same tick of its clock."""


_LONGEST = 1000
_BREAKING = ("Cc", "Zl", "Zp")
_TURNING = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
"""Marks that turn the direction of reading: a name could seem to end other than it does."""


class FileError(Struct, frozen=True):
    """Why a file was not taken in."""

    path: str
    message: str


class Folder(Struct, frozen=True):
    """The files under `root`, by their names below it; a root that is a file holds itself."""

    root: Path
    files: list[str]
    errors: list[FileError]

    def path(self, name: str) -> Path:
        return self.root / name if self.root.is_dir() else self.root


class Content(Struct, frozen=True):
    """A file's bytes and its stamp, empty where the file is too young for one."""

    data: bytes
    stamp: str


class Hashed(Struct, frozen=True):
    """The SHA-256 of a file's bytes in hexadecimal, and its stamp as `Content` has it."""

    hash: str
    stamp: str


def listed(path: Path, most: int) -> Folder:
    """The regular files under `path`. Raises DocumentError where there is nothing, or more than `most` files."""
    try:
        root = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise DocumentError(f"cannot find {path}; name a folder or a file that is there") from error
    if root.is_file():
        return Folder(root, [root.name], [])
    if not root.is_dir():
        raise DocumentError(f"{path} is neither a folder nor a file")
    folder = Folder(root, [], [])
    for where, folders, names in os.walk(root, onerror=lambda error: _unreadable(folder, error)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted((*names, *(name for name in folders if Path(where, name).is_symlink()))):
            if not name.startswith("."):
                _list(folder, Path(where, name))
        if len(folder.files) > most:
            raise DocumentError(
                f"{path} has more than {most} files; name a smaller folder, or raise grounding.ingest.max_documents"
            )
    return folder


def bad_name(name: str) -> str:
    """What is wrong with a document's name, if anything."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8; rename it"
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        return "is no name for a document; use a relative path such as folder/page.md"
    if len(name) > _LONGEST:
        return f"has a name of more than {_LONGEST} characters; give it a shorter one"
    if any(unicodedata.category(char) in _BREAKING or char in _TURNING for char in name):
        return "has a name with control characters or line breaks in it; rename it"
    return ""


def stamp(path: Path, *, now: int) -> str:
    """What the file system says of the file at this moment, as `stamp_of`. Raises OSError."""
    return stamp_of(path.lstat(), now=now)


def content(path: Path, limit: int, *, now: int) -> Content:
    """The file's bytes, one more than `limit` at most; a link put in its place since it was listed is not followed.

    Raises OSError.
    """
    with _opened(path) as file:
        before = os.fstat(file.fileno())
        data = file.read(limit + 1)
        whole = len(data) == before.st_size and _still(file, before, now)
    return Content(data, stamp_of(before, now=now) if whole else "")


def hashed(path: Path, *, now: int) -> Hashed:
    """What the file's bytes are called, without holding them all; a link is not followed. Raises OSError."""
    with _opened(path) as file:
        before = os.fstat(file.fileno())
        hash = hashlib.file_digest(file, "sha256").hexdigest()
        whole = file.tell() == before.st_size and _still(file, before, now)
    return Hashed(hash, stamp_of(before, now=now) if whole else "")


def stamp_of(status: os.stat_result, *, now: int) -> str:
    """Size, times, device and inode; empty for a file that changed within the last two seconds before `now`.

    The time of the last change of the inode is among them: it moves with every write, and no program can set it back.
    """
    if max(status.st_mtime_ns, status.st_ctime_ns) > now - _SETTLED or not stat.S_ISREG(status.st_mode):
        return ""
    told = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino)
    return ":".join(map(str, told))


@contextmanager
def _opened(path: Path) -> Generator[BufferedReader, None, None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "no regular file")
        yield file


def _still(file: BufferedReader, before: os.stat_result, now: int) -> bool:
    """Whether the file is as it was before it was read."""
    return stamp_of(os.fstat(file.fileno()), now=now) == stamp_of(before, now=now)


def _unreadable(folder: Folder, error: OSError) -> None:
    folder.errors.append(FileError(str(error.filename), f"{error.filename}: cannot be listed ({error.strerror})"))


def _list(folder: Folder, path: Path) -> None:
    name = path.relative_to(folder.root).as_posix()
    if problem := bad_name(name):
        shown = name.encode("utf-8", "backslashreplace").decode()
        folder.errors.append(FileError(shown, f"{name!r} {problem}"))
    elif path.is_symlink():
        folder.errors.append(FileError(name, f"{name}: a link; links are not followed, take in what it points to"))
    elif not path.is_file():
        folder.errors.append(FileError(name, f"{name}: no regular file"))
    else:
        folder.files.append(name)
