"""What stands in the tables, read: collections, documents, passages, and what a scope lets of them be seen.

Every function reads within its caller's transaction. Knows no ranking; changes nothing.
Invariant: the condition of a scope stands inside every query that chooses passages or documents, so nothing is ever
chosen first and hidden later.
"""

from collections.abc import Sequence
from typing import Any, LiteralString

from msgspec import Struct, structs
from psycopg import sql
from psycopg.types.json import Jsonb

from loam.core.calls import Passage, Principal
from loam.grounding.canonical import page_of
from loam.grounding.postgres.tables import Connection, vectors_of
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


class Known(Struct, frozen=True):
    """A collection's own row. `stamp` is another after every change, and never one that was before."""

    id: int
    revision: str
    stamp: str
    encoder: str
    passages: int
    embedded: int


class Condition(Struct, frozen=True):
    """What stands behind AND in a query over `documents`; empty where the scope sees the whole collection."""

    sql: LiteralString = ""
    parameters: tuple[Any, ...] = ()


async def known(connection: Connection, name: str) -> Known:
    """Raises ModelFailure (not_found)."""
    cursor = await connection.execute(
        "SELECT id, revision, stamp, encoder, passages, embedded FROM collections WHERE name = %s", (name,)
    )
    row = await cursor.fetchone()
    if row is None:
        cursor = await connection.execute("SELECT name FROM collections ORDER BY name LIMIT 20")
        raise missing(name, [row[0] for row in await cursor.fetchall()])
    return Known(*row)


async def restricted(connection: Connection, collection: int) -> bool:
    """Whether any document of the collection is not for everybody."""
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT 1 FROM documents WHERE collection = %s AND access <> '{}')", (collection,)
    )
    return (await cursor.fetchall())[0][0]


async def condition(connection: Connection, collection: int, scope: Scope) -> Condition:
    """The scope as it bears on a collection: where all may read everything, readers need not be compared."""
    parts: LiteralString = ""
    parameters: list[Any] = []
    if scope.readers is not None and await restricted(connection, collection):
        parts += " AND (access = '{}' OR access && %s::text[])"
        parameters.append(list(scope.readers))
    if scope.metadata:
        parts += " AND metadata @> %s"
        parameters.append(Jsonb(scope.metadata))
    return Condition(parts, tuple(parameters))


async def revision(connection: Connection, name: str, principal: Principal | None) -> str:
    """The revision; where not everybody may read everything, one for each set of readers."""
    found = await known(connection, name)
    if principal is None or not await restricted(connection, found.id):
        return found.revision
    return _revision(found.revision, scope_of(principal))


def _revision(revision: str, scope: Scope) -> str:
    """What a revision is called to those who may not all read the same."""
    return f"{revision}:{digest('all' if scope.readers is None else ' '.join(sorted(scope.readers)))}"


async def collections(connection: Connection, scope: Scope, name: str = "") -> tuple[Collection, ...]:
    """By name, or the one, as far as the scope sees them: one of which it sees no document is not given."""
    cursor = await connection.execute(
        """SELECT collections.id, name, collections.revision, count(number), passages,
                  coalesce(sum(characters), 0)::bigint, encoder, embedded
             FROM collections LEFT JOIN documents ON documents.collection = collections.id
            WHERE %s IN ('', name) GROUP BY collections.id ORDER BY name""",
        (name,),
    )
    found = [await _seen(connection, row[0], Collection(*row[1:]), scope) for row in await cursor.fetchall()]
    return tuple(one for one in found if one is not None)


async def _seen(connection: Connection, number: int, whole: Collection, scope: Scope) -> Collection | None:
    if scope.readers is None:
        return whole
    within = await condition(connection, number, scope)
    if not within.sql:
        return whole if whole.documents else None
    cursor = await connection.execute(
        f"""SELECT count(*), coalesce(sum(characters), 0)::bigint FROM documents
             WHERE collection = %s {within.sql}""",  # noqa: S608 - conditions hold no values
        (number, *within.parameters),
    )
    documents, characters = (await cursor.fetchall())[0]
    pieces = f"""SELECT count(*) FROM passages JOIN documents ON number = document
                  WHERE documents.collection = %s {within.sql}"""  # noqa: S608 - conditions hold no values
    cursor = await connection.execute(pieces, (number, *within.parameters))
    passages = (await cursor.fetchall())[0][0]
    embedded = passages if whole.embedded == whole.passages else min(passages, whole.embedded)
    revision = _revision(whole.revision, scope)
    seen = structs.replace(
        whole, documents=documents, characters=characters, passages=passages, embedded=embedded, revision=revision
    )
    return seen if documents else None


async def readable(connection: Connection, name: str, scope: Scope) -> bool:
    """Whether the scope sees any document of a collection."""
    cursor = await connection.execute("SELECT id FROM collections WHERE name = %s", (name,))
    row = await cursor.fetchone()
    if row is None:
        return False
    within = await condition(connection, row[0], scope)
    cursor = await connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM documents WHERE collection = %s {within.sql})",  # noqa: S608 - conditions hold no values
        (row[0], *within.parameters),
    )
    return (await cursor.fetchall())[0][0]


async def collection(connection: Connection, name: str, scope: Scope) -> Collection:
    """Raises ModelFailure (not_found)."""
    await known(connection, name)
    found = await collections(connection, scope, name)
    if not found:
        raise missing(name, [one.name for one in await collections(connection, scope)][:20])
    return found[0]


async def documents(
    connection: Connection, name: str, *, after: str, limit: int, scope: Scope
) -> tuple[DocumentEntry, ...]:
    """By path, from beyond the document with the id `after`."""
    found = await known(connection, name)
    within = await condition(connection, found.id, scope)
    cursor = await connection.execute(
        f"""SELECT id, source, path, title, revision, characters, metadata, access FROM documents
             WHERE collection = %s AND (%s = '' OR (path, id) > (SELECT path, id FROM documents WHERE id = %s))
                   {within.sql} ORDER BY path, id LIMIT %s""",  # noqa: S608 - conditions hold no values
        (found.id, after, after, *within.parameters, limit),
    )
    return tuple(DocumentEntry(*row[:-1], access=tuple(row[-1])) for row in await cursor.fetchall())


async def document(connection: Connection, name: str, document_id: str, scope: Scope) -> StoredDocument:
    """Raises ModelFailure (not_found), the same for a document out of scope."""
    found = await known(connection, name)
    within = await condition(connection, found.id, scope)
    cursor = await connection.execute(
        f"""SELECT id, source, path, title, revision, text, pages, metadata, access FROM documents
             WHERE collection = %s AND id = %s {within.sql}""",  # noqa: S608 - conditions hold no values
        (found.id, document_id, *within.parameters),
    )
    row = await cursor.fetchone()
    if row is None:
        raise missing_document(name, document_id)
    return StoredDocument(*row[:6], pages=tuple(row[6]), metadata=row[7], access=tuple(row[8]))


async def passages(connection: Connection, name: str, document_id: str, scope: Scope) -> tuple[Passage, ...]:
    """A document's, in order. Raises ModelFailure (not_found)."""
    await document(connection, name, document_id, scope)
    cursor = await connection.execute(f"{_PASSAGE} WHERE documents.id = %s ORDER BY passages.id", (document_id,))
    return tuple(_passage(row[1:]) for row in await cursor.fetchall())


async def fetched(
    connection: Connection, name: str, ids: Sequence[int], *, scope: Scope, neighbours: int
) -> dict[int, Passage]:
    """The passages of these numbers that are in scope; each with its neighbours, where any are asked for."""
    found = await known(connection, name)
    within = await condition(connection, found.id, scope)
    cursor = await connection.execute(
        f"{_PASSAGE} WHERE passages.id = ANY(%s) AND passages.collection = %s {within.sql}",
        (list(ids), found.id, *within.parameters),
    )
    rows = {row[0]: _passage(row[1:]) for row in await cursor.fetchall()}
    in_order = [number for number in ids if number in rows]
    if not neighbours:
        return {number: rows[number] for number in in_order}
    return {number: await _grown(connection, number, rows[number], neighbours) for number in in_order}


async def held(connection: Connection, name: str, source: str) -> dict[str, Held]:
    """By path, what the collection has from a source."""
    cursor = await connection.execute(
        """SELECT path, content_hash, documents.stamp, metadata, access
             FROM documents JOIN collections ON collections.id = collection WHERE name = %s AND source = %s""",
        (name, source),
    )
    return {row[0]: Held(*row[1:-1], access=tuple(row[-1])) for row in await cursor.fetchall()}


async def unembedded(connection: Connection, name: str, encoder: str, limit: int) -> list[Text]:
    """Texts of the collection's passages that neither have a vector of this encoder nor one that is staged."""
    cursor = await connection.execute(
        "SELECT id, encoder, passages = embedded FROM collections WHERE name = %s", (name,)
    )
    found = await cursor.fetchone()
    if found is None or (found[1] == encoder and found[2]):
        return []
    bare = sql.SQL("AND NOT EXISTS (SELECT 1 FROM {} WHERE passage = passages.id)").format(vectors_of(found[0]))
    cursor = await connection.execute(
        sql.SQL(
            """SELECT DISTINCT title, section, passages.text FROM passages JOIN documents ON number = document
                WHERE passages.collection = %s {} AND NOT EXISTS (
                      SELECT 1 FROM staged WHERE staged.digest = passages.digest AND staged.encoder = %s) LIMIT %s"""
        ).format(bare if found[1] == encoder else sql.SQL("")),
        (found[0], encoder, limit),
    )
    return [embedded_text(*row) for row in await cursor.fetchall()]


_PASSAGE: LiteralString = """
    SELECT passages.id, documents.id, title, coalesce(nullif(url, ''), path), section, first, past, passages.text,
           revision, page
      FROM passages JOIN documents ON number = document"""


def _passage(row: Sequence[Any]) -> Passage:
    *told, revision, page = row
    return Passage(*told, score=0.0, revision=revision, page=page)


async def _grown(connection: Connection, number: int, own: Passage, neighbours: int) -> Passage:
    """A passage and what stands before and after it in the same document, as one stretch of its text."""
    cursor = await connection.execute(
        """SELECT least(min(near.first), %(first)s), greatest(max(near.past), %(past)s), documents.text, pages
             FROM documents JOIN passages AS near
               ON near.document = number AND near.id BETWEEN %(id)s - %(reach)s AND %(id)s + %(reach)s
            WHERE documents.id = %(document)s GROUP BY number""",
        {"id": number, "reach": neighbours, "document": own.document_id, "first": own.start, "past": own.end},
    )
    first, past, text, pages = (await cursor.fetchall())[0]
    return Passage(
        own.document_id,
        own.title,
        own.url,
        own.section,
        first,
        past,
        text[first:past],
        score=0.0,
        revision=own.revision,
        page=page_of(tuple(pages), first),
    )
