"""Mirrors a folder over the native API: says what there is, sends what is wanted, follows the run to its end.

Knows the folder and the API. Invariants: files are read one after the other and sent in pieces of bounded size; whoever
interrupts leaves the collection as it was.
"""

import base64
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from msgspec import Struct, structs, to_builtins

from loam.cli.reach import Gateway, Refused
from loam.core.errors import DocumentError
from loam.grounding.documents import supported
from loam.grounding.folders import Folder, content, hashed, stamp_of
from loam.grounding.mirrors import ListedFile

_PIECE = 8 * 2**20  # bytes that are sent at a time; a larger file goes alone
_PAUSE = 0.2  # seconds between two looks at a run

Tell = Callable[[str, int, int], None]
"""Stage, done, total."""


class Labelled(Struct, frozen=True):
    """What is said of every document."""

    metadata: dict[str, str]
    access: tuple[str, ...]


class Mirrored(Struct, frozen=True):
    """The gateway's report; `problems` are what kept files from being sent, `skipped` files have no known format."""

    report: dict[str, Any]
    problems: list[str]
    skipped: int


def mirror(reached: Gateway, collection: str, folder: Folder, *, source: str, labels: Labelled, tell: Tell) -> Mirrored:
    """Makes the collection hold what the folder holds. Raises Refused, and DocumentError where the run fails."""
    names = [name for name in folder.files if supported(name)]
    files = {name: _looked_at(folder.path(name), name) for name in names}
    drawer = Drawer(reached, collection, source, labels)
    for done, name in enumerate(drawer.wanted(files.values()), 1):
        files[name] = _hashed(folder.path(name), files[name])
        tell("reading", done, len(files))
    drawer.send(files, lambda name: _bytes(folder.path(name), files[name].size), tell)
    problems = [error.message for error in folder.errors]
    return Mirrored(drawer.store(files.values(), tell), problems, len(folder.files) - len(names))


class Drawer:
    """One source of a collection, as the API sees it."""

    def __init__(self, reached: Gateway, collection: str, source: str, labels: Labelled) -> None:
        self._reached = reached
        self._path = f"/loam/v1/collections/{collection}/mirror"
        self._said: dict[str, Any] = {
            "source": source,
            "metadata": labels.metadata,
            "access": list(labels.access),
        }

    def wanted(self, files: Iterable[ListedFile]) -> list[str]:
        """The files whose stamp and hash the collection does not know."""
        return self._reached.send("POST", f"{self._path}/plan", self._manifest(files))["wanted"]

    def send(self, files: dict[str, ListedFile], read: Callable[[str], bytes], tell: Tell) -> None:
        """Sends what is wanted ahead, noting in `files` what was sent and what could not be."""
        wanted = self.wanted(files.values())
        sent = 0
        for piece in _pieces(wanted, read, files):
            body = {"contents": [base64.b64encode(data).decode() for data in piece.values()]}
            try:
                hashes = self._reached.send("POST", f"{self._path}/contents", body)["hashes"]
            except Refused as error:
                if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    raise
                why = f"larger than http.max_body of the gateway allows: {error}"
                files.update((name, ListedFile(name, unreadable=why)) for name in piece)
                continue
            for name, hash in zip(piece, hashes, strict=True):
                changed = hash != files[name].hash
                files[name] = structs.replace(files[name], hash=hash, stamp="" if changed else files[name].stamp)
            sent += len(piece)
            tell("sending", sent, len(wanted))

    def store(self, files: Iterable[ListedFile], tell: Tell) -> dict[str, Any]:
        """Has the list stored, and waits for it. Raises DocumentError where that fails."""
        run = self._reached.send("POST", self._path, self._manifest(files))
        where = f"{self._path}/{run['id']}"
        try:
            while run["state"] == "running":
                time.sleep(_PAUSE)
                run = self._reached.get(where)
                tell(run["stage"], run["done"], run["total"])
        except KeyboardInterrupt:
            self._reached.send("DELETE", where)
            raise
        if run["report"] is None:
            raise DocumentError(run["problem"])
        return run["report"]

    def _manifest(self, files: Iterable[ListedFile]) -> dict[str, Any]:
        return {**self._said, "files": [to_builtins(file) for file in files]}


def _looked_at(path: Path, name: str) -> ListedFile:
    try:
        status = path.lstat()
    except OSError as error:
        return ListedFile(name, unreadable=error.strerror or str(error))
    return ListedFile(name, stamp=stamp_of(status, now=time.time_ns()), size=status.st_size)


def _hashed(path: Path, file: ListedFile) -> ListedFile:
    try:
        read = hashed(path, now=time.time_ns())
    except OSError as error:
        return ListedFile(file.path, unreadable=error.strerror or str(error))
    return structs.replace(file, hash=read.hash, stamp=read.stamp)


def _bytes(path: Path, size: int) -> bytes:
    """A file that was of this size when it was listed. Raises OSError, also where it grew."""
    data = content(path, size, now=time.time_ns()).data
    if len(data) > size:
        raise OSError(0, "it grew while it was read")
    return data


def _pieces(
    wanted: list[str], read: Callable[[str], bytes], files: dict[str, ListedFile]
) -> Iterator[dict[str, bytes]]:
    """The wanted files' bytes, so many at a time; one that cannot be read any more is noted as such."""
    piece: dict[str, bytes] = {}
    size = 0
    for name in wanted:
        try:
            data = read(name)
        except OSError as error:
            files[name] = ListedFile(name, unreadable=error.strerror or str(error))
            continue
        if piece and (size + len(data) > _PIECE or len(piece) == 500):
            yield piece
            piece, size = {}, 0
        piece[name] = data
        size += len(data)
    if piece:
        yield piece
