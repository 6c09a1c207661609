"""Changes to what stands in the tables: a run's documents go in and out in one transaction.

Knows every table that a document leaves a trace in. Invariants: a collection's stamp is another after every change; its
revision changes exactly when one of its documents does; a passage that leaves takes its words and its vector along.
"""

import json
import sqlite3

from loam.grounding import lexical
from loam.grounding.canonical import page_of
from loam.grounding.catalogue import collection as collection_of
from loam.grounding.catalogue import document as document_of
from loam.grounding.catalogue import known
from loam.grounding.folding import alike, likeness
from loam.grounding.lexical import Worded
from loam.grounding.passages import Piece
from loam.grounding.store import (
    ALL,
    Change,
    Collection,
    Taken,
    digest,
    document_id,
    embedded_text,
    revision_of,
)
from loam.grounding.tables import first_passage, last_passage

_DAYS_STAGED = 14  # that what a run left behind is kept for the next one
_RIVALS = 2  # passages under each mark that a new one is compared with, to see whether it says the same


def apply(connection: sqlite3.Connection, name: str, change: Change) -> Collection:
    """Makes the collection if it is new, and changes it."""
    made = connection.execute("INSERT OR IGNORE INTO collections (name, revision) VALUES (?, '')", (name,)).rowcount
    collection = known(connection, name).id
    if made:
        lexical.create(connection, collection)
        connection.execute("UPDATE collections SET words = ? WHERE id = ?", (lexical.VERSION, collection))
    for path in change.gone:
        _drop(connection, collection, document_id(name, change.source, path))
    for taken in change.taken:
        _store(connection, collection, document_id(name, change.source, taken.path), change.source, taken)
    for path, stamp in change.stamps.items():
        connection.execute(
            "UPDATE documents SET stamp = ? WHERE id = ?", (stamp, document_id(name, change.source, path))
        )
    if change.encoder:
        _embed(connection, collection, change.encoder)
    if made or change.gone or change.taken or change.encoder:
        _revise(connection, collection)
    return collection_of(connection, name, ALL)


def delete(connection: sqlite3.Connection, name: str, document: str | None) -> None:
    """Drops a document, or the collection with all it holds. Raises ModelFailure (not_found)."""
    collection = known(connection, name).id
    if document is not None:
        document_of(connection, name, document, ALL)
        _drop(connection, collection, document)
        _revise(connection, collection)
        return
    lexical.drop(connection, collection)
    connection.execute(
        "DELETE FROM vectors WHERE passage BETWEEN ? AND ?", (first_passage(collection), last_passage(collection))
    )
    connection.execute("DELETE FROM passages WHERE collection = ?", (collection,))
    connection.execute(
        "DELETE FROM texts WHERE document IN (SELECT number FROM documents WHERE collection = ?)", (collection,)
    )
    connection.execute("DELETE FROM documents WHERE collection = ?", (collection,))
    connection.execute("DELETE FROM collections WHERE id = ?", (collection,))


def renew(connection: sqlite3.Connection) -> int:
    """Brings up to date what older programs stored: words, digests, folds. Gives the number of collections renewed."""
    behind = connection.execute("SELECT id FROM collections WHERE words <> ?", (lexical.VERSION,)).fetchall()
    for (collection,) in behind:
        lexical.drop(connection, collection)
        lexical.create(connection, collection)
        rows = connection.execute(
            """SELECT passages.id, title, section, text FROM passages JOIN documents ON number = document
                WHERE passages.collection = ? ORDER BY passages.id""",
            (collection,),
        )
        for row in rows.fetchall():
            passage = Worded(*row)
            lexical.put(connection, collection, passage)
            _name(connection, collection, passage)
        connection.execute("UPDATE collections SET words = ? WHERE id = ?", (lexical.VERSION, collection))
    return len(behind)


def _store(connection: sqlite3.Connection, collection: int, identity: str, source: str, taken: Taken) -> None:
    _drop(connection, collection, identity)
    document = taken.document
    number = connection.execute(
        """INSERT INTO documents (id, collection, source, path, url, title, revision, characters, pages, metadata,
                                  access, content_hash, stamp) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            *(identity, collection, source, taken.path, taken.url, document.title),
            *(digest(document.text), len(document.text), json.dumps(document.pages)),
            *(json.dumps(taken.metadata, sort_keys=True), json.dumps(sorted(taken.access))),
            *(taken.content_hash, taken.stamp),
        ),
    ).lastrowid
    assert number is not None
    connection.execute("INSERT INTO texts VALUES (?, ?)", (number, document.text))
    row = connection.execute("SELECT last_passage FROM collections WHERE id = ?", (collection,)).fetchone()
    first = max(row[0], first_passage(collection)) + 1
    for place, piece in enumerate(taken.pieces, first):
        _store_passage(connection, collection, number, taken, piece=piece, id=place)
    connection.execute(
        "UPDATE collections SET last_passage = ?, passages = passages + ? WHERE id = ?",
        (first + len(taken.pieces) - 1, len(taken.pieces), collection),
    )


def _store_passage(
    connection: sqlite3.Connection, collection: int, number: int, taken: Taken, *, piece: Piece, id: int
) -> None:
    document = taken.document
    text = document.text[piece.start : piece.end]
    connection.execute(
        """INSERT INTO passages (id, collection, document, fold, page, start, end, section, text)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            *(id, collection, number, id, page_of(document.pages, piece.start)),
            *(piece.start, piece.end, piece.section, text),
        ),
    )
    passage = Worded(id, document.title, piece.section, text)
    lexical.put(connection, collection, passage)
    _name(connection, collection, passage)


def _name(connection: sqlite3.Connection, collection: int, passage: Worded) -> None:
    """Notes what the passage's text is called, and which other passage says the same."""
    seen = likeness(passage.section, passage.text)
    marks = seen.marks or (None, None)
    fold = connection.execute(
        "SELECT fold FROM passages WHERE collection = ? AND sameness = ? AND id <> ? LIMIT 1",
        (collection, seen.sameness, passage.id),
    ).fetchone()
    if fold is None and seen.marks:
        rivals = connection.execute(
            """SELECT * FROM (SELECT fold, text FROM passages WHERE collection = ? AND mark = ? LIMIT ?)
               UNION ALL
               SELECT * FROM (SELECT fold, text FROM passages WHERE collection = ? AND second_mark = ? LIMIT ?)""",
            (collection, marks[0], _RIVALS, collection, marks[1], _RIVALS),
        )
        fold = next((rival for rival in rivals if alike(rival[1], passage.text)), None)
    connection.execute(
        "UPDATE passages SET digest = ?, sameness = ?, mark = ?, second_mark = ?, fold = ? WHERE id = ?",
        (
            *(embedded_text(passage.title, passage.section, passage.text).digest, seen.sameness),
            *(*marks, fold[0] if fold else passage.id, passage.id),
        ),
    )


def _drop(connection: sqlite3.Connection, collection: int, identity: str) -> None:
    found = connection.execute("SELECT number, title FROM documents WHERE id = ?", (identity,)).fetchone()
    if found is None:
        return
    number, title = found
    rows = connection.execute("SELECT id, section, text FROM passages WHERE document = ?", (number,)).fetchall()
    embedded = 0
    for id, section, text in rows:
        lexical.take(connection, collection, Worded(id, title, section, text))
        embedded += connection.execute("DELETE FROM vectors WHERE passage = ?", (id,)).rowcount
    for statement in (
        "DELETE FROM passages WHERE document = ?",
        "DELETE FROM texts WHERE document = ?",
        "DELETE FROM documents WHERE number = ?",
    ):
        connection.execute(statement, (number,))
    connection.execute(
        "UPDATE collections SET passages = passages - ?, embedded = embedded - ? WHERE id = ?",
        (len(rows), embedded, collection),
    )


def _embed(connection: sqlite3.Connection, collection: int, encoder: str) -> None:
    """Gives every passage whose text is staged its vector; vectors of another encoder leave first."""
    bounds = (first_passage(collection), last_passage(collection))
    row = connection.execute("SELECT encoder FROM collections WHERE id = ?", (collection,)).fetchone()
    if row[0] != encoder:
        connection.execute("DELETE FROM vectors WHERE passage BETWEEN ? AND ?", bounds)
        connection.execute("UPDATE collections SET encoder = ?, embedded = 0 WHERE id = ?", (encoder, collection))
    given = connection.execute(
        """INSERT INTO vectors SELECT passages.id, vector FROM staged
             CROSS JOIN passages INDEXED BY passages_by_digest USING (digest)
            WHERE encoder = ? AND collection = ? AND NOT EXISTS (SELECT 1 FROM vectors WHERE passage = passages.id)""",
        (encoder, collection),
    ).rowcount
    connection.execute("UPDATE collections SET embedded = embedded + ? WHERE id = ?", (given, collection))
    connection.execute(
        """DELETE FROM staged WHERE day < CAST(julianday('now') AS INTEGER) - ? OR encoder = ? AND EXISTS (
               SELECT 1 FROM passages INDEXED BY passages_by_digest
                WHERE passages.digest = staged.digest AND collection = ?)""",
        (_DAYS_STAGED, encoder, collection),
    )


def _revise(connection: sqlite3.Connection, collection: int) -> None:
    rows = connection.execute(
        "SELECT id, title, revision, metadata, access FROM documents WHERE collection = ? ORDER BY id", (collection,)
    )
    connection.execute(
        "UPDATE collections SET revision = ?, stamp = lower(hex(randomblob(8))) WHERE id = ?",
        (revision_of(rows.fetchall()), collection),
    )
