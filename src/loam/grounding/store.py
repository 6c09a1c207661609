"""What a place that keeps collections offers, and the words it speaks: SQLite by default, Postgres at scale.

Knows no database. Invariants of every store: `apply` changes a collection in one step, so a reader sees it before or
after, never between; a passage's text is the document's text from `start` to `end`; a collection's vectors are all of
one encoder; no passage outside the scope of a search is ever given; where enough passages fit, a search gives as many
as were asked for.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from loam.core.calls import Passage, Principal
from loam.core.errors import ModelFailure, refuse
from loam.grounding.canonical import Document
from loam.grounding.passages import Piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_READER = re.compile(r"(?:user|team):\S.{0,199}")


class Collection(Struct, frozen=True):
    """What a collection holds; `revision` changes when any of its documents does.

    `encoder` made its vectors (empty for none); `embedded` of its passages have one. To whoever may not read
    all of it, it is what they may read.
    """

    name: str
    revision: str
    documents: int
    passages: int
    characters: int
    encoder: str = ""
    embedded: int = 0


class DocumentEntry(Struct, frozen=True):
    """A document without its text. `path` is its name within `source`, `revision` the hash of its text.

    `access` lists who may read it ("user:NAME", "team:NAME"); empty is everybody.
    """

    id: str
    source: str
    path: str
    title: str
    revision: str
    characters: int
    metadata: dict[str, str] = {}
    access: tuple[str, ...] = ()


class StoredDocument(Struct, frozen=True):
    """A document as citations count its characters; `pages` is where each page begins."""

    id: str
    source: str
    path: str
    title: str
    revision: str
    text: str
    pages: tuple[int, ...] = ()
    metadata: dict[str, str] = {}
    access: tuple[str, ...] = ()


class Taken(Struct, frozen=True):
    """A document to store as `path`, cut into `pieces`, with the hash of the bytes it was read from.

    `stamp` is what the file system said of the file when its bytes were read; empty where that proves nothing.
    """

    path: str
    document: Document
    pieces: tuple[Piece, ...]
    content_hash: str
    stamp: str = ""
    metadata: dict[str, str] = {}
    access: tuple[str, ...] = ()
    url: str = ""


class Held(Struct, frozen=True):
    """What a collection knows of a file that it holds."""

    content_hash: str
    stamp: str
    metadata: dict[str, str]
    access: tuple[str, ...]


class Change(Struct, frozen=True):
    """What one run does to the documents of a source: `taken` go in or replace, `gone` leave, `stamps` are noted.

    `encoder` names the encoder whose staged vectors the collection's passages get; empty leaves vectors as they are.
    Stamps alone are no change that a search or a revision would notice.
    """

    source: str
    taken: Sequence[Taken] = ()
    gone: Sequence[str] = ()
    stamps: dict[str, str] = {}
    encoder: str = ""


class Scope(Struct, frozen=True):
    """What a search may see: documents open to one of `readers` (everything where it is None), with this metadata."""

    readers: tuple[str, ...] | None = None
    metadata: dict[str, str] = {}


ALL = Scope()
"""For whoever keeps the collections; never for whoever asks."""


class Hit(Struct, frozen=True):
    """A passage that was found; passages that say the same share `fold`."""

    id: int
    fold: int
    score: float


class Hits(Struct, frozen=True):
    """Hits, best first, each fold once. `stamp` is the state of the collection in which they were found."""

    stamp: str
    hits: tuple[Hit, ...]
    note: str = ""


class Fetched(Struct, frozen=True):
    """Passages by their id, as they stand in the state `stamp`; an id that is gone or out of scope is left out."""

    stamp: str
    passages: dict[int, Passage]


class Text(Struct, frozen=True):
    """A text that needs a vector; `digest` names it, see `embedded_text`."""

    digest: str
    text: str


class Store(Protocol):
    """Where collections are kept. Raises ModelFailure (not_found) for a collection that is not there."""

    async def collections(self, *, scope: Scope = ALL) -> tuple[Collection, ...]:
        """By name, those that the scope sees a document of, counted as far as it sees them; all, where it sees all."""
        ...

    async def collection(self, name: str, *, scope: Scope = ALL) -> Collection: ...

    async def readable(self, collection: str, *, scope: Scope) -> bool:
        """Whether the scope sees a document of the collection; it sees none of one that is not there."""
        ...

    async def revision(self, collection: str, *, principal: Principal | None = None) -> str: ...

    async def documents(
        self, collection: str, *, after: str = "", limit: int = 1000, scope: Scope = ALL
    ) -> tuple[DocumentEntry, ...]: ...

    async def document(self, collection: str, document_id: str, *, scope: Scope = ALL) -> StoredDocument: ...

    async def passages(self, collection: str, document_id: str, *, scope: Scope = ALL) -> tuple[Passage, ...]: ...

    async def held(self, collection: str, source: str) -> dict[str, Held]:
        """By path, what the collection has from a source; empty for a collection that is not there."""
        ...

    async def apply(self, collection: str, change: Change) -> Collection:
        """Makes the collection if it is new, and changes it, all or nothing."""
        ...

    async def delete(self, collection: str, document_id: str | None = None) -> None: ...

    async def find_words(self, collection: str, question: str, *, scope: Scope, limit: int) -> Hits:
        """The passages whose words fit the question best; a score is a share, 1 where no words could fit better."""
        ...

    async def find_near(self, collection: str, vector: "Vectors", *, encoder: str, scope: Scope, limit: int) -> Hits:
        """The passages whose vectors are nearest; none, and a note, where they are not of the encoder that is named."""
        ...

    async def fetch(self, collection: str, ids: Sequence[int], *, scope: Scope, neighbours: int = 0) -> Fetched:
        """The passages of these ids, each grown by so many neighbours of the same document on either side."""
        ...

    async def vectors(self, ids: Sequence[int]) -> "dict[int, Vectors]":
        """The vectors of these passages, where they have one."""
        ...

    async def unembedded(self, collection: str, encoder: str, limit: int) -> list[Text]:
        """Texts of the collection's passages that have no vector of this encoder, neither stored nor staged."""
        ...

    async def unstaged(self, encoder: str, digests: Sequence[str]) -> set[str]:
        """Which of these texts no vector is known of; those that other passages have are staged on the way."""
        ...

    async def stage(self, encoder: str, digests: Sequence[str], vectors: "Vectors") -> None:
        """Keeps vectors for the run that will apply them; one that is broken off finds them again."""
        ...


class Library(Store, Protocol):
    """A store as a gateway runs on it: it also keeps bytes that are sent ahead, and is closed at the end."""

    async def arrive(self, contents: Sequence[bytes]) -> tuple[str, ...]:
        """Keeps bytes that a later mirroring will name by the hashes that this gives."""
        ...

    async def arrived(self, hashes: Sequence[str]) -> set[str]:
        """Which of these bytes are here."""
        ...

    async def content(self, hash: str) -> bytes | None:
        """Bytes that arrived, None where they did not."""
        ...

    async def forget(self, hashes: Sequence[str]) -> None:
        """Drops bytes that were taken in, and those that nobody asked for in weeks."""
        ...

    async def close(self) -> None: ...


def scope_of(principal: Principal, metadata: dict[str, str] | None = None) -> Scope:
    """What a principal may see: an administrator everything, others what is open to all, to them or to their team."""
    named = (("user", principal.user), ("team", principal.team))
    readers = None if principal.admin else tuple(f"{kind}:{name}" for kind, name in named if name)
    return Scope(readers, metadata or {})


def check_name(collection: str) -> None:
    """Raises ModelFailure (bad_request) for a name that no collection can have."""
    if not _NAME.fullmatch(collection):
        raise refuse(
            "bad_request",
            f"{collection[:80]!r} is no name for a collection; use 1 to 64 of a-z, 0-9, dot, dash and underscore, "
            "beginning with a letter or digit",
            param="collection",
        )


def check_access(access: Sequence[str]) -> None:
    """Raises ModelFailure (bad_request) for a reader that is neither a user nor a team."""
    for reader in access:
        if not _READER.fullmatch(reader):
            raise refuse(
                "bad_request", f"{reader[:80]!r} names no reader; write user:NAME or team:NAME", param="access"
            )


def missing(name: str, names: Sequence[str]) -> ModelFailure:
    """There is no such collection; `names` are some that there are."""
    there = f"there are: {', '.join(names)}" if names else "there is none yet; make one with `loam ingest`"
    return refuse("not_found", f"there is no collection {name[:80]!r}; {there}", param="collection")


def missing_document(collection: str, document_id: str) -> ModelFailure:
    """The collection has no such document, or not for this reader: the two look the same from outside."""
    return refuse("not_found", f"collection {collection!r} has no document {document_id[:80]!r}", param="document")


class Embedded(Protocol):
    """How far a collection's passages have vectors, and of which encoder."""

    @property
    def encoder(self) -> str: ...
    @property
    def passages(self) -> int: ...
    @property
    def embedded(self) -> int: ...


def lacking(name: str, now: Embedded, encoder: str) -> str:
    """What keeps a collection's vectors from being all that they could be to this encoder; empty for nothing."""
    if now.passages and now.encoder != encoder:
        had = f"has vectors of {now.encoder}" if now.encoder else "has no vectors yet"
        return f"{name} {had}; it is searched by words until it is ingested again with {encoder}"
    if now.embedded < now.passages:
        missing = now.passages - now.embedded
        return f"{missing} of {now.passages} passages of {name} have no vector yet; ingest again"
    return ""


def embedded_text(title: str, section: str, text: str) -> Text:
    """What the encoder reads of a passage: where it stands, then what it says."""
    whole = f"{title}{' > ' if section else ''}{section}\n{text}"
    return Text(digest(whole), whole)


def texts_of(taken: Taken) -> list[Text]:
    """What the encoder reads of a document, piece by piece."""
    document = taken.document
    return [
        embedded_text(document.title, piece.section, document.text[piece.start : piece.end]) for piece in taken.pieces
    ]


def document_id(collection: str, source: str, path: str) -> str:
    return f"doc_{digest(chr(0).join((collection, source, path)))}"


def digest(text: str) -> str:
    """Names a text by what it says."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def revision_of(rows: Sequence[tuple[Any, ...]]) -> str:
    """The revision of a collection from what distinguishes its documents, in the order of their ids."""
    return digest("\n".join("\t".join(map(str, row)) for row in rows))
