"""Takes folders and uploads into a collection.

Knows what a run has to decide; files are `folders`' matter, formats `documents`', vectors `embedding`'s, storing the
store's. Invariants: a file whose bytes are known is not read into a document again; all changes of one run are stored
together or not at all.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from loam.core.errors import DocumentError
from loam.grounding.documents import CANON, READS, read_document
from loam.grounding.embedding import embed, embed_stored
from loam.grounding.folders import Content, FileError, Folder, bad_name, content, listed, stamp
from loam.grounding.passages import cut
from loam.grounding.store import Change, Collection, Held, Store, Taken, check_access, check_name, texts_of

if TYPE_CHECKING:
    from loam.grounding.encoder.port import Encoder

HANDBOOK = Path(__file__).parent / "handbook" / "pages"
"""The example documents that come with Loam."""

UPLOADS = "upload"
"""The source of documents that came by `ingest_texts`; a folder's source is its path."""


class IngestSettings(Struct, frozen=True, forbid_unknown_fields=True):
    max_document_bytes: Annotated[int, Meta(ge=1, description="Largest file that is taken in.")] = 20 * 2**20
    max_bytes: Annotated[int, Meta(ge=1, description="Most that one run reads, all files together.")] = 512 * 2**20
    max_documents: Annotated[int, Meta(ge=1, description="Most files of one run.")] = 50_000


DEFAULTS = IngestSettings()

Stage = Literal["reading", "embedding", "storing"]


class Progress(Struct, frozen=True):
    """`done` of `total` are over: files where `stage` is reading (`path` was the last), texts where it is embedding."""

    done: int
    total: int
    path: str
    stage: Stage = "reading"


class Labels(Struct, frozen=True):
    """What a run says of each of its documents: metadata to filter by, and who may read them (empty: everybody)."""

    metadata: dict[str, str] = {}
    access: tuple[str, ...] = ()


UNLABELLED = Labels()


class IngestReport(Struct, frozen=True):
    """What one run did; `collection` is how it stands afterwards. `remarks` tell what was guessed while reading."""

    collection: Collection
    added: int
    changed: int
    unchanged: int
    removed: int
    errors: tuple[FileError, ...]
    remarks: tuple[FileError, ...] = ()


class Upload(Struct, frozen=True):
    """A document by value; the ending of `name` says its format. `url` is where people find it."""

    name: str
    data: bytes
    labels: Labels = UNLABELLED
    url: str = ""


def no_progress(progress: Progress) -> None:
    """Tells nobody."""


async def ingest_folder(
    store: Store,
    collection: str,
    path: Path,
    *,
    source: str = "",
    encoder: "Encoder | None" = None,
    labels: Labels = UNLABELLED,
    on_progress: Callable[[Progress], None] = no_progress,
    settings: IngestSettings = DEFAULTS,
) -> IngestReport:
    """Makes the collection hold what the folder (or the one file) holds now: new, changed and vanished files.

    Hidden files and folders are left out. What cannot be taken in is told in the report and does not stop the rest.
    `source` names the folder across moves; it is its path by default. Raises DocumentError where there is nothing to
    take in, and ModelFailure for a bad collection name.
    """
    folder = await asyncio.to_thread(listed, path, settings.max_documents)
    run = Run(store, collection, source or str(folder.root), encoder=encoder, settings=settings, tell=on_progress)
    await run.begin()
    run.errors.extend(folder.errors)
    for done, name in enumerate(folder.files, 1):
        await asyncio.to_thread(_take_file, run, folder, name, labels)
        on_progress(Progress(done, len(folder.files), name))
    return await run.end(mirror=True)


async def ingest_texts(
    store: Store,
    collection: str,
    items: Sequence[Upload],
    *,
    encoder: "Encoder | None" = None,
    source: str = UPLOADS,
    settings: IngestSettings = DEFAULTS,
) -> IngestReport:
    """Adds documents, or replaces those of the same name; others stay. Raises as `ingest_folder` does."""
    run = Run(store, collection, source, encoder=encoder, settings=settings, tell=no_progress)
    await run.begin()
    for item in items:
        if run.welcomes(item.name):
            await asyncio.to_thread(run.take, item, "")
    return await run.end(mirror=False)


class Run:
    """One run's account of what it has seen: `begin`, then each file once, then `end`."""

    def __init__(
        self,
        store: Store,
        collection: str,
        source: str,
        *,
        encoder: "Encoder | None",
        settings: IngestSettings,
        tell: Callable[[Progress], None],
    ) -> None:
        self._store = store
        self._collection = collection
        self._source = source
        self._encoder = encoder
        self._settings = settings
        self._tell = tell
        self._known: dict[str, Held] = {}
        self._kept: set[str] = set()
        self._taken: dict[str, Taken] = {}
        self._stamps: dict[str, str] = {}
        self._bytes = 0
        self.errors: list[FileError] = []
        self.remarks: list[FileError] = []

    @property
    def largest(self) -> int:
        """Bytes that a document may have."""
        return self._settings.max_document_bytes

    async def begin(self) -> None:
        """Raises ModelFailure for a name that no collection can have."""
        check_name(self._collection)
        self._known = await self._store.held(self._collection, self._source)

    def unchanged(self, name: str, labels: Labels, *, stamp: str = "", content_hash: str = "") -> bool:
        """Whether a file is as the collection has it, by its stamp or its bytes' hash; it is then kept."""
        held = self._known.get(name)
        if held is None or (held.metadata, held.access) != (labels.metadata, tuple(sorted(labels.access))):
            return False
        if stamp and held.stamp == stamp and held.content_hash.startswith(_CANON):
            self._kept.add(name)
            return True
        if content_hash and held.content_hash == content_hash:
            self._kept.add(name)
            if stamp != held.stamp:
                self._stamps[name] = stamp
            return True
        return False

    def stays(self, name: str, why: str) -> None:
        """A file that cannot be read now is left as the collection has it."""
        held = name in self._known
        self.errors.append(FileError(name, f"{name}: cannot be read ({why}){'; it stays as it was' * held}"))
        if held:
            self._kept.add(name)

    def too_large(self, name: str) -> None:
        """A file that is not even read; one that the collection has leaves it."""
        self.errors.append(FileError(name, self._beyond(name)))

    def welcomes(self, name: str) -> bool:
        """Whether a name can be taken; why not is told."""
        if problem := bad_name(name):
            self.errors.append(FileError(name[:200], f"{name[:200]!r} {problem}"))
        elif name in self._kept:
            self.errors.append(FileError(name, f"{name}: given twice; the first one counts"))
        else:
            return True
        return False

    def take(self, item: Upload, stamp: str) -> None:
        """Reads one document; what cannot be read is told. Raises DocumentError where the run gets too large."""
        name = item.name
        self._bytes += len(item.data)
        if self._bytes > self._settings.max_bytes:
            raise DocumentError(
                f"these are more than {self._settings.max_bytes} bytes, which is all that one run reads; nothing was "
                "stored; name a smaller folder, or raise grounding.ingest.max_bytes"
            )
        check_access(item.labels.access)
        try:
            if len(item.data) > self._settings.max_document_bytes:
                raise DocumentError(self._beyond(name))
            named = content_hash(hashlib.sha256(item.data).hexdigest())
            if not self.unchanged(name, item.labels, stamp=stamp, content_hash=named):
                self._taken[name] = _taken(item, named, stamp)
                self.remarks.extend(FileError(name, remark) for remark in self._taken[name].document.remarks)
            self._kept.add(name)
        except DocumentError as error:
            self.errors.append(FileError(name, str(error)))

    def _beyond(self, name: str) -> str:
        return f"{name}: larger than {self.largest} bytes; split it, or raise grounding.ingest.max_document_bytes"

    async def end(self, *, mirror: bool) -> IngestReport:
        """Makes the vectors and stores what changed; a run that mirrors also drops what it has not seen."""
        gone = sorted(self._known.keys() - self._kept) if mirror else []
        if not self._known and not self._taken:
            first = f"; the first: {self.errors[0].message}" if self.errors else ""
            raise DocumentError(f"nothing to take in: Loam reads {READS}{first}")
        taken = tuple(self._taken.values())
        lacking = await self._embed(taken)
        if taken or gone or lacking or self._stamps:
            self._tell(Progress(0, len(taken), "", "storing"))
            encoder = self._encoder.id if self._encoder and (taken or lacking) else ""
            change = Change(self._source, taken, gone, self._stamps, encoder)
            collection = await self._store.apply(self._collection, change)
        else:
            collection = await self._store.collection(self._collection)
        changed = len(self._taken.keys() & self._known.keys())
        return IngestReport(
            collection,
            added=len(taken) - changed,
            changed=changed,
            unchanged=len(self._kept) - len(taken),
            removed=len(gone),
            errors=tuple(self.errors),
            remarks=tuple(self.remarks),
        )

    async def _embed(self, taken: Sequence[Taken]) -> bool:
        """Stages the vectors of what was taken and of what older runs left without; whether these lacked any."""
        if self._encoder is None:
            return False

        def tell(done: int, total: int) -> None:
            self._tell(Progress(done, total, "", "embedding"))

        texts = [text for one in taken for text in texts_of(one)]
        await embed(self._store, self._encoder, texts, tell)
        return await embed_stored(self._store, self._encoder, self._collection, tell)


def content_hash(sha256: str) -> str:
    """What a document's bytes are called, and by which rules they were read; empty for no hash."""
    return _CANON + sha256 if sha256 else ""


_CANON = f"{CANON}:"


def _taken(item: Upload, named: str, stamp: str) -> Taken:
    document = read_document(item.name, item.data)
    return Taken(
        item.name,
        document,
        tuple(cut(document)),
        named,
        stamp,
        item.labels.metadata,
        item.labels.access,
        item.url,
    )


def _take_file(run: Run, folder: Folder, name: str, labels: Labels) -> None:
    """Reads one file; one that cannot be opened now stays as the collection has it."""
    path, now = folder.path(name), time.time_ns()
    try:
        if run.unchanged(name, labels, stamp=stamp(path, now=now)):
            return
        read: Content = content(path, run.largest, now=now)
    except OSError as error:
        run.stays(name, error.strerror or str(error))
        return
    run.take(Upload(name, read.data, labels), read.stamp)
