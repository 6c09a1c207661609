"""What stands in the tables, read: collections, documents, passages.

Every function reads within one transaction of its caller. Knows no ranking; changes nothing.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct, structs

from loam.core.calls import Passage, Principal
from loam.grounding.canonical import page_of
from loam.grounding.scopes import Condition, condition, restricted
from loam.grounding.store import (
    Collection,
    DocumentEntry,
    Held,
    Scope,
    StoredDocument,
    Text,
    digest,
    embedded_text,
    missing,
    missing_document,
    scope_of,
)

T = TypeVar("T")


def snapshot(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """The work, seeing one state of the database however many statements it has."""

    def whole(connection: sqlite3.Connection) -> T:
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            connection.execute("COMMIT")

    return whole


class Known(Struct, frozen=True):
    """A collection's own row. `stamp` is another after every change, and never one that was before."""

    id: int
    revision: str
    stamp: str
    encoder: str
    passages: int
    embedded: int


def known(connection: sqlite3.Connection, name: str) -> Known:
    """Raises ModelFailure (not_found)."""
    row = connection.execute(
        "SELECT id, revision, stamp, encoder, passages, embedded FROM collections WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        rows = connection.execute("SELECT name FROM collections ORDER BY name LIMIT 20")
        raise missing(name, [row[0] for row in rows])
    return Known(*row)


def revision(connection: sqlite3.Connection, name: str, principal: Principal | None) -> str:
    """The revision; where not everybody may read everything, one for each set of readers."""
    found = known(connection, name)
    if principal is None or not restricted(connection, found.id):
        return found.revision
    return _revision(found.revision, scope_of(principal))


def _revision(revision: str, scope: Scope) -> str:
    """What a revision is called to those who may not all read the same."""
    return f"{revision}:{digest('all' if scope.readers is None else ' '.join(sorted(scope.readers)))}"


def collections(connection: sqlite3.Connection, scope: Scope, name: str = "") -> tuple[Collection, ...]:
    """By name, or the one, as far as the scope sees them: one of which it sees no document is not given."""
    rows = connection.execute(
        """SELECT collections.id, name, collections.revision, count(number), passages, coalesce(sum(characters), 0),
                  encoder, embedded
             FROM collections LEFT JOIN documents ON documents.collection = collections.id
            WHERE ? IN ('', name) GROUP BY collections.id ORDER BY name""",
        (name,),
    ).fetchall()
    found = (_seen(connection, row[0], Collection(*row[1:]), scope) for row in rows)
    return tuple(one for one in found if one is not None)


def _seen(connection: sqlite3.Connection, number: int, whole: Collection, scope: Scope) -> Collection | None:
    if scope.readers is None:
        return whole
    within = condition(connection, number, scope)
    if not within:
        return whole if whole.documents else None
    documents, characters, passages = connection.execute(
        f"""SELECT count(*), coalesce(sum(characters), 0),
                   coalesce(sum((SELECT count(*) FROM passages WHERE document = number)), 0)
              FROM documents WHERE collection = ? {within.sql}""",  # noqa: S608 - conditions hold no values
        (number, *within.parameters),
    ).fetchone()
    embedded = passages if whole.embedded == whole.passages else min(passages, whole.embedded)
    revision = _revision(whole.revision, scope)
    seen = structs.replace(
        whole, documents=documents, characters=characters, passages=passages, embedded=embedded, revision=revision
    )
    return seen if documents else None


def readable(connection: sqlite3.Connection, name: str, scope: Scope) -> bool:
    """Whether the scope sees any document of a collection."""
    row = connection.execute("SELECT id FROM collections WHERE name = ?", (name,)).fetchone()
    if row is None:
        return False
    within = condition(connection, row[0], scope)
    found = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM documents WHERE collection = ? {within.sql})",  # noqa: S608 - conditions hold no values
        (row[0], *within.parameters),
    ).fetchone()
    return bool(found[0])


def collection(connection: sqlite3.Connection, name: str, scope: Scope) -> Collection:
    """Raises ModelFailure (not_found)."""
    known(connection, name)
    found = collections(connection, scope, name)
    if not found:
        raise missing(name, [one.name for one in collections(connection, scope)][:20])
    return found[0]


def documents(
    connection: sqlite3.Connection, name: str, *, after: str, limit: int, scope: Scope
) -> tuple[DocumentEntry, ...]:
    """By path, from beyond the document with the id `after`."""
    within = _within(connection, name, scope)
    rows = connection.execute(
        f"""SELECT id, source, path, title, revision, characters, metadata, access FROM documents
             WHERE collection = ? AND (? = '' OR (path, id) > (SELECT path, id FROM documents WHERE id = ?))
                   {within.sql} ORDER BY path, id LIMIT ?""",  # noqa: S608 - conditions hold no values
        (within.collection, after, after, *within.parameters, limit),
    )
    return tuple(_entry(*row) for row in rows)


def _entry(*row: Any) -> DocumentEntry:
    return DocumentEntry(*row[:6], metadata=json.loads(row[6]), access=tuple(json.loads(row[7])))


def document(connection: sqlite3.Connection, name: str, document_id: str, scope: Scope) -> StoredDocument:
    """Raises ModelFailure (not_found), the same for a document out of scope."""
    within = _within(connection, name, scope)
    row = connection.execute(
        f"""SELECT id, source, path, title, revision, text, pages, metadata, access
              FROM documents JOIN texts ON document = number
             WHERE collection = ? AND id = ? {within.sql}""",  # noqa: S608 - conditions hold no values
        (within.collection, document_id, *within.parameters),
    ).fetchone()
    if row is None:
        raise missing_document(name, document_id)
    return StoredDocument(
        *row[:6], pages=tuple(json.loads(row[6])), metadata=json.loads(row[7]), access=tuple(json.loads(row[8]))
    )


def passages(connection: sqlite3.Connection, name: str, document_id: str, scope: Scope) -> tuple[Passage, ...]:
    """A document's, in order. Raises ModelFailure (not_found)."""
    document(connection, name, document_id, scope)
    rows = connection.execute(
        f"{_PASSAGE} WHERE documents.id = ? ORDER BY passages.id",
        (document_id,),
    )
    return tuple(_passage(row) for row in rows)


def fetched(
    connection: sqlite3.Connection, name: str, ids: Sequence[int], *, scope: Scope, neighbours: int
) -> dict[int, Passage]:
    """The passages of these numbers that are in scope; each with its neighbours, where any are asked for."""
    within = _within(connection, name, scope)
    found: dict[int, Passage] = {}
    for number in ids:
        row = connection.execute(
            f"{_PASSAGE} WHERE passages.id = ? AND passages.collection = ? {within.sql}",
            (number, within.collection, *within.parameters),
        ).fetchone()
        if row is not None:
            found[number] = _grown(connection, number, neighbours) if neighbours else _passage(row)
    return found


def held(connection: sqlite3.Connection, name: str, source: str) -> dict[str, Held]:
    rows = connection.execute(
        """SELECT path, content_hash, documents.stamp, metadata, access
             FROM documents JOIN collections ON collections.id = collection WHERE name = ? AND source = ?""",
        (name, source),
    )
    return {
        path: Held(content, stamp, json.loads(metadata), tuple(json.loads(access)))
        for path, content, stamp, metadata, access in rows
    }


def unembedded(connection: sqlite3.Connection, name: str, encoder: str, limit: int) -> list[Text]:
    """Texts of the collection's passages that neither have a vector of this encoder nor one that is staged."""
    rows = connection.execute("SELECT id, encoder, passages, embedded FROM collections WHERE name = ?", (name,))
    found = rows.fetchone()
    if found is None or (found[1] == encoder and found[2] == found[3]):
        return []
    kept = "" if found[1] != encoder else "AND NOT EXISTS (SELECT 1 FROM vectors WHERE passage = passages.id)"
    texts = connection.execute(
        f"""SELECT DISTINCT digest, title, section, passages.text FROM passages JOIN documents ON number = document
             WHERE passages.collection = ? {kept} AND NOT EXISTS (
                   SELECT 1 FROM staged WHERE staged.digest = passages.digest AND staged.encoder = ?) LIMIT ?""",  # noqa: S608 - a constant
        (found[0], encoder, limit),
    )
    return [Text(digest, embedded_text(*told).text) for digest, *told in texts]


_PASSAGE = """SELECT documents.id, title, coalesce(nullif(url, ''), path), section, start, end, passages.text,
                     revision, page
                FROM passages JOIN documents ON number = document"""


def _passage(row: Sequence[Any]) -> Passage:
    return Passage(*row[:7], score=0.0, revision=row[7], page=row[8])


def _grown(connection: sqlite3.Connection, number: int, neighbours: int) -> Passage:
    """A passage and what stands before and after it in the same document, as one stretch of its text."""
    row = connection.execute(
        """SELECT documents.id, title, coalesce(nullif(url, ''), path), own.section, min(passages.start),
                  max(passages.end), substr(texts.text, min(passages.start) + 1,
                  max(passages.end) - min(passages.start)), revision, pages
             FROM passages AS own
             JOIN passages ON passages.id BETWEEN own.id - ? AND own.id + ? AND passages.document = own.document
             JOIN documents ON number = own.document JOIN texts ON texts.document = own.document
            WHERE own.id = ?""",
        (neighbours, neighbours, number),
    ).fetchone()
    return _passage([*row[:8], page_of(tuple(json.loads(row[8])), row[4])])


class _Within(Struct, frozen=True):
    collection: int
    sql: str
    parameters: tuple[str, ...]


def _within(connection: sqlite3.Connection, name: str, scope: Scope) -> _Within:
    number = known(connection, name).id
    found: Condition = condition(connection, number, scope)
    return _Within(number, found.sql, found.parameters)
