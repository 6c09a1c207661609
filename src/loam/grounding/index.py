"""Collections of documents in SQLite, searched with FTS5.

Knows its own database file and the ranking. Does not know folders, formats or models.
Invariants: `apply` changes a collection in one transaction, so a reader sees it before or after, never between; a
passage's text is the document's text from `start` to `end`; a collection's revision changes exactly when one
of its documents does.
"""

import hashlib
import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from loam.core.calls import Passage
from loam.core.errors import ModelFailure, refuse
from loam.grounding.canonical import Document
from loam.grounding.passages import Piece
from loam.grounding.terms import match_query, searchable
from loam.storage.database import Database
from loam.storage.migrations import Migration

MIGRATIONS = (
    Migration(
        "documents-001-collections",
        """
        CREATE TABLE collections (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            revision TEXT NOT NULL
        ) STRICT;
        CREATE TABLE documents (
            id TEXT PRIMARY KEY,
            collection INTEGER NOT NULL REFERENCES collections (id),
            source TEXT NOT NULL,
            path TEXT NOT NULL,
            title TEXT NOT NULL,
            text TEXT NOT NULL,
            revision TEXT NOT NULL,
            content_hash TEXT NOT NULL,
            UNIQUE (collection, source, path)
        ) STRICT;
        CREATE TABLE passages (
            id INTEGER PRIMARY KEY,
            document TEXT NOT NULL REFERENCES documents (id),
            section TEXT NOT NULL,
            start INTEGER NOT NULL,
            end INTEGER NOT NULL,
            text TEXT NOT NULL
        ) STRICT;
        CREATE INDEX passages_of_a_document ON passages (document, start);
        CREATE VIRTUAL TABLE passage_words USING fts5 (
            collection, title, section, body, content = '', tokenize = 'porter unicode61'
        );
        """,
    ),
)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_WEIGHTS = "0.0, 1.0, 3.0, 1.0"  # collection, title, section, body: measured by bench/reader.py


class Collection(Struct, frozen=True):
    """What a collection holds; `revision` changes when any of its documents does."""

    name: str
    revision: str
    documents: int
    passages: int
    characters: int


class DocumentEntry(Struct, frozen=True):
    """A document without its text. `path` is its name within `source`, `revision` the hash of its text."""

    id: str
    source: str
    path: str
    title: str
    revision: str
    characters: int


class StoredDocument(Struct, frozen=True):
    """A document as citations count its characters."""

    id: str
    source: str
    path: str
    title: str
    revision: str
    text: str


class Taken(Struct, frozen=True):
    """A document to store as `path`, cut into `pieces`, with the hash of the bytes it was read from."""

    path: str
    document: Document
    pieces: tuple[Piece, ...]
    content_hash: str


class Index:
    """Use one for a database opened with `MIGRATIONS`.

    ```python
    index = Index(await Database.open(folder / "documents.db", MIGRATIONS))
    passages = await index.search("handbook", "Who approves leave?", 5)
    ```
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, collection: str, question: str, limit: int) -> tuple[Passage, ...]:
        """The passages that fit the question best, best first. Raises ModelFailure (not_found)."""
        return await self._database.read(lambda connection: _search(connection, collection, question, limit))

    async def revision(self, collection: str) -> str:
        """The collection's revision. Raises ModelFailure (not_found)."""
        return await self._database.read(lambda connection: _known(connection, collection).revision)

    async def collections(self) -> tuple[Collection, ...]:
        """All collections by name."""
        return await self._database.read(lambda connection: _collections(connection, ""))

    async def collection(self, name: str) -> Collection:
        """One collection. Raises ModelFailure (not_found)."""
        return await self._database.read(lambda connection: _collection(connection, name))

    async def documents(self, collection: str, *, after: str = "", limit: int = 1000) -> tuple[DocumentEntry, ...]:
        """The documents by path, from beyond the document with the id `after`. Raises ModelFailure (not_found)."""
        return await self._database.read(lambda connection: _documents(connection, collection, after, limit))

    async def document(self, collection: str, document_id: str) -> StoredDocument:
        """A document with its text. Raises ModelFailure (not_found)."""
        return await self._database.read(lambda connection: _document(connection, collection, document_id))

    async def passages(self, collection: str, document_id: str) -> tuple[Passage, ...]:
        """A document's passages in order. Raises ModelFailure (not_found)."""
        return await self._database.read(lambda connection: _passages(connection, collection, document_id))

    async def hashes(self, collection: str, source: str) -> dict[str, str]:
        """Path to content hash of what the collection has from a source; empty for a collection that is not there."""
        return await self._database.read(lambda connection: _hashes(connection, collection, source))

    async def apply(
        self, collection: str, *, source: str, taken: Sequence[Taken], gone: Sequence[str] = ()
    ) -> Collection:
        """Makes the collection if it is new, stores `taken` in place of what stood there, drops the paths `gone`.

        All of it or nothing. Raises ModelFailure (bad_request) for a name that no collection can have.
        """
        check_name(collection)
        return await self._database.write(lambda connection: _apply(connection, collection, source, taken, gone))

    async def delete(self, collection: str, document_id: str | None = None) -> None:
        """Drops a document, or the collection with all it holds. Raises ModelFailure (not_found)."""
        await self._database.write(lambda connection: _delete(connection, collection, document_id))


def check_name(collection: str) -> None:
    """Raises ModelFailure (bad_request) for a name that no collection can have."""
    if not _NAME.fullmatch(collection):
        raise refuse(
            "bad_request",
            f"{collection[:80]!r} is no name for a collection; use 1 to 64 of a-z, 0-9, dot, dash and underscore, "
            "beginning with a letter or digit",
            param="collection",
        )


class _Known(Struct, frozen=True):
    id: int
    revision: str


def _known(connection: sqlite3.Connection, name: str) -> _Known:
    row = connection.execute("SELECT id, revision FROM collections WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise _missing(connection, name)
    return _Known(*row)


def _missing(connection: sqlite3.Connection, name: str) -> ModelFailure:
    names = [row[0] for row in connection.execute("SELECT name FROM collections ORDER BY name LIMIT 20")]
    there = f"there are: {', '.join(names)}" if names else "there is none yet; make one with `loam ingest`"
    return refuse("not_found", f"there is no collection {name[:80]!r}; {there}", param="collection")


def _collections(connection: sqlite3.Connection, name: str) -> tuple[Collection, ...]:
    rows = connection.execute(
        """SELECT name, collections.revision, count(documents.id),
                  (SELECT count(*) FROM passages JOIN documents ON documents.id = passages.document
                    WHERE documents.collection = collections.id),
                  coalesce(sum(length(text)), 0)
             FROM collections LEFT JOIN documents ON documents.collection = collections.id
            WHERE ? IN ('', name) GROUP BY collections.id ORDER BY name""",
        (name,),
    )
    return tuple(Collection(*row) for row in rows)


def _collection(connection: sqlite3.Connection, name: str) -> Collection:
    found = _collections(connection, name) if name else ()
    if not found:
        raise _missing(connection, name)
    return found[0]


def _documents(connection: sqlite3.Connection, collection: str, after: str, limit: int) -> tuple[DocumentEntry, ...]:
    rows = connection.execute(
        """SELECT id, source, path, title, revision, length(text) FROM documents
            WHERE collection = ? AND (? = '' OR (path, id) > (SELECT path, id FROM documents WHERE id = ?))
            ORDER BY path, id LIMIT ?""",
        (_known(connection, collection).id, after, after, limit),
    )
    return tuple(DocumentEntry(*row) for row in rows)


def _document(connection: sqlite3.Connection, collection: str, document_id: str) -> StoredDocument:
    row = connection.execute(
        "SELECT id, source, path, title, revision, text FROM documents WHERE collection = ? AND id = ?",
        (_known(connection, collection).id, document_id),
    ).fetchone()
    if row is None:
        raise refuse("not_found", f"collection {collection!r} has no document {document_id[:80]!r}", param="document")
    return StoredDocument(*row)


def _passages(connection: sqlite3.Connection, collection: str, document_id: str) -> tuple[Passage, ...]:
    document = _document(connection, collection, document_id)
    rows = connection.execute(
        "SELECT section, start, end, text FROM passages WHERE document = ? ORDER BY start", (document_id,)
    )
    return tuple(
        Passage(document.id, document.title, document.path, *row, score=0.0, revision=document.revision) for row in rows
    )


def _search(connection: sqlite3.Connection, collection: str, question: str, limit: int) -> tuple[Passage, ...]:
    known = _known(connection, collection)
    query = match_query(question)
    if not query:
        return ()
    rows = connection.execute(
        f"""SELECT documents.id, title, path, section, start, end, passages.text, -found.score, documents.revision
              FROM (SELECT rowid, bm25(passage_words, {_WEIGHTS}) AS score FROM passage_words
                     WHERE passage_words MATCH ? ORDER BY score LIMIT ?) AS found
              JOIN passages ON passages.id = found.rowid
              JOIN documents ON documents.id = passages.document
             ORDER BY found.score, passages.id""",  # noqa: S608 - the weights are a constant above
        (f'collection : "{_scope(known.id)}" AND {{title section body}} : ({query})', limit),
    )
    return tuple(Passage(*row) for row in rows)


def _hashes(connection: sqlite3.Connection, collection: str, source: str) -> dict[str, str]:
    rows = connection.execute(
        """SELECT path, content_hash FROM documents JOIN collections ON collections.id = documents.collection
            WHERE name = ? AND source = ?""",
        (collection, source),
    )
    return dict(rows.fetchall())


def _apply(
    connection: sqlite3.Connection, collection: str, source: str, taken: Sequence[Taken], gone: Sequence[str]
) -> Collection:
    connection.execute("INSERT OR IGNORE INTO collections (name, revision) VALUES (?, '')", (collection,))
    known = _known(connection, collection)
    for path in gone:
        _drop(connection, known.id, _document_id(collection, source, path))
    for one in taken:
        _store(connection, known.id, _document_id(collection, source, one.path), source, one)
    _revise(connection, known.id)
    return _collection(connection, collection)


def _store(connection: sqlite3.Connection, collection: int, document_id: str, source: str, taken: Taken) -> None:
    _drop(connection, collection, document_id)
    document = taken.document
    connection.execute(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(document_id, collection, source, taken.path),
            *(document.title, document.text, _digest(document.text), taken.content_hash),
        ),
    )
    for piece in taken.pieces:
        text = document.text[piece.start : piece.end]
        cursor = connection.execute(
            "INSERT INTO passages (document, section, start, end, text) VALUES (?, ?, ?, ?, ?)",
            (document_id, piece.section, piece.start, piece.end, text),
        )
        connection.execute(
            "INSERT INTO passage_words (rowid, collection, title, section, body) VALUES (?, ?, ?, ?, ?)",
            (cursor.lastrowid, *_words(collection, document.title, piece.section, text)),
        )


def _drop(connection: sqlite3.Connection, collection: int, document_id: str) -> None:
    """A contentless index forgets a row only when told exactly what it was given."""
    rows = connection.execute(
        """SELECT passages.id, title, section, passages.text FROM passages
             JOIN documents ON documents.id = passages.document WHERE document = ?""",
        (document_id,),
    ).fetchall()
    for rowid, *given in rows:
        connection.execute(
            """INSERT INTO passage_words (passage_words, rowid, collection, title, section, body)
               VALUES ('delete', ?, ?, ?, ?, ?)""",
            (rowid, *_words(collection, *given)),
        )
    connection.execute("DELETE FROM passages WHERE document = ?", (document_id,))
    connection.execute("DELETE FROM documents WHERE id = ?", (document_id,))


def _delete(connection: sqlite3.Connection, collection: str, document_id: str | None) -> None:
    known = _known(connection, collection)
    if document_id is not None:
        _document(connection, collection, document_id)
        _drop(connection, known.id, document_id)
        _revise(connection, known.id)
        return
    rows = connection.execute("SELECT id FROM documents WHERE collection = ?", (known.id,)).fetchall()
    for row in rows:
        _drop(connection, known.id, row[0])
    connection.execute("DELETE FROM collections WHERE id = ?", (known.id,))


def _revise(connection: sqlite3.Connection, collection: int) -> None:
    rows = connection.execute(
        "SELECT id, title, revision FROM documents WHERE collection = ? ORDER BY id", (collection,)
    )
    revision = _digest("\n".join("\t".join(row) for row in rows))
    connection.execute("UPDATE collections SET revision = ? WHERE id = ?", (revision, collection))


def _words(collection: int, title: str, section: str, text: str) -> tuple[Any, ...]:
    return _scope(collection), searchable(title), searchable(section), searchable(text)


def _scope(collection: int) -> str:
    """The word that every passage of a collection carries, so that the search itself keeps to it."""
    return f"k{collection}"


def _document_id(collection: str, source: str, path: str) -> str:
    return f"doc_{_digest(chr(0).join((collection, source, path)))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
