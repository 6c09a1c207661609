"""Takes folders and uploads into a collection.

Knows files and the limits on them; formats are `documents`' matter, storing is `index`'s.
Invariants: a file whose bytes are known is not read into a document again; nothing outside the folder is ever opened
(links are not followed); all changes of one run are stored together or not at all.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

from msgspec import Meta, Struct

from loam.core.errors import DocumentError
from loam.grounding.documents import CANON, FORMATS, read_document
from loam.grounding.index import Collection, Index, Taken, check_name
from loam.grounding.passages import cut

HANDBOOK = Path(__file__).parent / "handbook" / "pages"
"""The example documents that come with Loam."""

UPLOADS = "upload"
"""The source of documents that came by `ingest_texts`; a folder's source is its path."""


class IngestSettings(Struct, frozen=True, forbid_unknown_fields=True):
    max_document_bytes: Annotated[int, Meta(ge=1, description="Largest file that is taken in.")] = 20 * 2**20
    max_bytes: Annotated[int, Meta(ge=1, description="Most that one run reads, all files together.")] = 512 * 2**20
    max_documents: Annotated[int, Meta(ge=1, description="Most files of one run.")] = 50_000


class Progress(Struct, frozen=True):
    """`done` of `total` files are read; `path` was the last of them."""

    done: int
    total: int
    path: str


class FileError(Struct, frozen=True):
    """Why a file was not taken in."""

    path: str
    message: str


class IngestReport(Struct, frozen=True):
    """What one run did; `collection` is how it stands afterwards."""

    collection: Collection
    added: int
    changed: int
    unchanged: int
    removed: int
    errors: tuple[FileError, ...]


class Upload(Struct, frozen=True):
    """A document by value; the ending of `name` says its format."""

    name: str
    data: bytes


def _no_progress(progress: Progress) -> None:
    pass


async def ingest_folder(
    index: Index,
    collection: str,
    path: Path,
    *,
    source: str = "",
    on_progress: Callable[[Progress], None] = _no_progress,
    settings: IngestSettings = IngestSettings(),  # noqa: B008 - frozen
) -> IngestReport:
    """Makes the collection hold what the folder (or the one file) holds now: new, changed and vanished files.

    Hidden files and folders are left out. What cannot be taken in is told in the report and does not stop the rest.
    `source` names the folder across moves; it is its path by default. Raises DocumentError where there is nothing to
    take in, and ModelFailure for a bad collection name.
    """
    check_name(collection)
    folder = await asyncio.to_thread(_listed, path, settings)
    run = _Run(index, collection, source or str(folder.root), settings)
    await run.begin()
    run.errors.extend(folder.errors)
    for done, file in enumerate(folder.files, 1):
        await asyncio.to_thread(run.take_file, folder.root, file)
        on_progress(Progress(done, len(folder.files), file))
    return await run.end(mirror=True)


async def ingest_texts(
    index: Index,
    collection: str,
    items: Sequence[Upload],
    *,
    settings: IngestSettings = IngestSettings(),  # noqa: B008 - frozen
) -> IngestReport:
    """Adds documents, or replaces those of the same name; others stay. Raises as `ingest_folder` does."""
    check_name(collection)
    run = _Run(index, collection, UPLOADS, settings)
    await run.begin()
    for item in items:
        await asyncio.to_thread(run.take_upload, item)
    return await run.end(mirror=False)


class _Run:
    """One run's account of what it has seen."""

    def __init__(self, index: Index, collection: str, source: str, settings: IngestSettings) -> None:
        self._index = index
        self._collection = collection
        self._source = source
        self._settings = settings
        self._known: dict[str, str] = {}
        self._kept: set[str] = set()
        self._taken: dict[str, Taken] = {}
        self._bytes = 0
        self.errors: list[FileError] = []

    async def begin(self) -> None:
        self._known = await self._index.hashes(self._collection, self._source)

    def take_file(self, root: Path, name: str) -> None:
        """Reads one file; one that cannot be opened now stays as the collection has it."""
        try:
            data = _content(root / name if root.is_dir() else root, self._settings.max_document_bytes)
        except OSError as error:
            self.errors.append(FileError(name, f"{name}: cannot be read ({error.strerror}); it stays as it was"))
            self._kept.add(name)
            return
        self._take(name, data)

    def take_upload(self, item: Upload) -> None:
        if problem := _bad_name(item.name):
            self.errors.append(FileError(item.name[:200], f"{item.name[:200]!r} {problem}"))
        elif item.name in self._kept:
            self.errors.append(FileError(item.name, f"{item.name}: given twice; the first one counts"))
        else:
            self._take(item.name, item.data)

    def _take(self, name: str, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > self._settings.max_bytes:
            raise DocumentError(
                f"these are more than {self._settings.max_bytes} bytes, which is all that one run reads; nothing was "
                "stored; name a smaller folder, or raise grounding.ingest.max_bytes"
            )
        digest = hashlib.sha256(f"{CANON}\n".encode() + data).hexdigest()
        try:
            if len(data) > self._settings.max_document_bytes:
                raise DocumentError(
                    f"{name}: larger than {self._settings.max_document_bytes} bytes; split it, or raise "
                    "grounding.ingest.max_document_bytes"
                )
            if self._known.get(name) != digest:
                document = read_document(name, data)
                self._taken[name] = Taken(name, document, tuple(cut(document)), digest)
            self._kept.add(name)
        except DocumentError as error:
            self.errors.append(FileError(name, str(error)))

    async def end(self, *, mirror: bool) -> IngestReport:
        """Stores what changed; a run that mirrors also drops what it has not seen."""
        gone = sorted(self._known.keys() - self._kept) if mirror else []
        if not self._known and not self._taken:
            first = f"; the first: {self.errors[0].message}" if self.errors else ""
            raise DocumentError(f"nothing to take in: no document ending in {', '.join(FORMATS)} was found{first}")
        taken = tuple(self._taken.values())
        collection = (
            await self._index.apply(self._collection, source=self._source, taken=taken, gone=gone)
            if taken or gone
            else await self._index.collection(self._collection)
        )
        changed = len(self._taken.keys() & self._known.keys())
        return IngestReport(
            collection,
            added=len(taken) - changed,
            changed=changed,
            unchanged=len(self._kept) - len(taken),
            removed=len(gone),
            errors=tuple(self.errors),
        )


class _Folder(Struct, frozen=True):
    root: Path
    files: list[str]
    errors: list[FileError]


def _listed(path: Path, settings: IngestSettings) -> _Folder:
    """The regular files under `path` by name; a path that is a file stands for itself."""
    try:
        root = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise DocumentError(f"cannot find {path}; name a folder or a file that is there") from error
    if root.is_file():
        return _Folder(root, [root.name], [])
    if not root.is_dir():
        raise DocumentError(f"{path} is neither a folder nor a file")
    folder = _Folder(root, [], [])
    for where, folders, names in os.walk(root, onerror=lambda error: _unreadable(folder, error)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted((*names, *(name for name in folders if Path(where, name).is_symlink()))):
            if not name.startswith("."):
                _list(folder, Path(where, name))
        if len(folder.files) > settings.max_documents:
            raise DocumentError(
                f"{path} has more than {settings.max_documents} files; name a smaller folder, or raise "
                "grounding.ingest.max_documents"
            )
    return folder


def _unreadable(folder: _Folder, error: OSError) -> None:
    folder.errors.append(FileError(str(error.filename), f"{error.filename}: cannot be listed ({error.strerror})"))


def _list(folder: _Folder, path: Path) -> None:
    name = path.relative_to(folder.root).as_posix()
    if problem := _bad_name(name):
        shown = name.encode("utf-8", "backslashreplace").decode()
        folder.errors.append(FileError(shown, f"{shown!r} {problem}"))
    elif path.is_symlink():
        folder.errors.append(FileError(name, f"{name}: a link; links are not followed, take in what it points to"))
    elif not path.is_file():
        folder.errors.append(FileError(name, f"{name}: no regular file"))
    else:
        folder.files.append(name)


def _bad_name(name: str) -> str:
    """What is wrong with a document's name, if anything."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8; rename it"
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or len(name) > 1000 or not name.isprintable():
        return "is no name for a document; use a relative path such as folder/page.md"
    return ""


def _content(path: Path, limit: int) -> bytes:
    """The file's bytes, one more than `limit` at most; a link put in its place since it was listed is not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "no regular file")
        return file.read(limit + 1)
