"""Changes to what stands in the tables: a run's documents go in and out in one transaction.

Knows every table that a document leaves a trace in. Invariants: whoever changes a collection holds its row, so changes
follow each other; its stamp is another after every change; its revision changes exactly when a document does; a passage
that leaves takes its words and its vector along.
"""

import secrets
from collections.abc import Sequence

from msgspec import Struct, structs
from psycopg import sql
from psycopg.types.json import Jsonb

from loam.grounding.canonical import page_of
from loam.grounding.folding import Likeness, alike, likeness
from loam.grounding.postgres import catalogue
from loam.grounding.postgres.tables import Connection, drop_tables, make_vectors, make_words, vectors_of, words_of
from loam.grounding.postgres.words import kept
from loam.grounding.store import ALL, Change, Collection, Taken, digest, document_id, embedded_text, revision_of
from loam.grounding.tables import first_passage

_DAYS_STAGED = 14  # that what a run left behind is kept for the next one


async def apply(connection: Connection, name: str, change: Change) -> Collection:
    """Makes the collection if it is new, and changes it."""
    cursor = await connection.execute(
        "INSERT INTO collections (name) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id", (name,)
    )
    if made := await cursor.fetchone():
        await make_words(connection, made[0])
    collection = await _locked(connection, name)
    leaving = [*change.gone, *(taken.path for taken in change.taken)]
    await _drop(connection, collection, [document_id(name, change.source, path) for path in leaving])
    for taken in change.taken:
        await _store(
            connection, collection, document_id(name, change.source, taken.path), change.source, _storable(taken)
        )
    await connection.cursor().executemany(
        "UPDATE documents SET stamp = %s WHERE id = %s",
        [(stamp, document_id(name, change.source, path)) for path, stamp in change.stamps.items()],
    )
    if change.encoder:
        await _embed(connection, collection, change.encoder)
    if made or leaving or change.encoder:
        await _revise(connection, collection)
    return await catalogue.collection(connection, name, ALL)


async def delete(connection: Connection, name: str, document: str | None) -> None:
    """Drops a document, or the collection with all it holds. Raises ModelFailure (not_found)."""
    collection = await _locked(connection, name)
    if document is not None:
        await catalogue.document(connection, name, document, ALL)
        await _drop(connection, collection, [document])
        await _revise(connection, collection)
        return
    await connection.execute("DELETE FROM passages WHERE collection = %s", (collection,))
    await connection.execute("DELETE FROM documents WHERE collection = %s", (collection,))
    await connection.execute("DELETE FROM collections WHERE id = %s", (collection,))
    await drop_tables(connection, collection)


async def _locked(connection: Connection, name: str) -> int:
    """The collection's number, held until the transaction ends. Raises ModelFailure (not_found)."""
    found = await catalogue.known(connection, name)
    await connection.execute("SELECT 1 FROM collections WHERE id = %s FOR UPDATE", (found.id,))
    return found.id


def _storable(taken: Taken) -> Taken:
    """Postgres keeps no NUL; another sign in its place leaves every offset as it was."""
    document = taken.document
    if "\0" not in f"{document.title}{document.text}{''.join(piece.section for piece in taken.pieces)}":
        return taken
    clean = structs.replace(
        document, title=document.title.replace("\0", "\ufffd"), text=document.text.replace("\0", "\ufffd")
    )
    pieces = tuple(structs.replace(piece, section=piece.section.replace("\0", "\ufffd")) for piece in taken.pieces)
    return structs.replace(taken, document=clean, pieces=pieces)


async def _store(connection: Connection, collection: int, identity: str, source: str, taken: Taken) -> None:
    document = taken.document
    cursor = await connection.execute(
        """INSERT INTO documents (id, collection, source, path, url, title, revision, characters, pages, metadata,
                                  access, content_hash, stamp, text)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING number""",
        (
            *(identity, collection, source, taken.path, taken.url, document.title),
            *(digest(document.text), len(document.text), list(document.pages)),
            *(Jsonb(taken.metadata), sorted(taken.access), taken.content_hash, taken.stamp, document.text),
        ),
    )
    number = (await cursor.fetchall())[0][0]
    cursor = await connection.execute(
        """UPDATE collections SET last_passage = greatest(last_passage, %s) + %s, passages = passages + %s
            WHERE id = %s RETURNING last_passage""",
        (first_passage(collection), len(taken.pieces), len(taken.pieces), collection),
    )
    first = (await cursor.fetchall())[0][0] - len(taken.pieces) + 1
    seen = [likeness(piece.section, document.text[piece.start : piece.end]) for piece in taken.pieces]
    folds = await _folds(connection, collection, taken, seen, first)
    passages: list[tuple[object, ...]] = []
    words: list[tuple[object, ...]] = []
    for place, (piece, like, fold) in enumerate(zip(taken.pieces, seen, folds, strict=True), first):
        text = document.text[piece.start : piece.end]
        named = embedded_text(document.title, piece.section, text).digest
        where = (page_of(document.pages, piece.start), piece.start, piece.end)
        marks = like.marks or (None, None)
        passages.append((place, collection, number, fold, *where, named, like.sameness, *marks, piece.section, text))
        words.append((place, kept(document.title, piece.section, text)))
    await connection.cursor().executemany(
        "INSERT INTO passages VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", passages
    )
    await connection.cursor().executemany(
        sql.SQL("INSERT INTO {} VALUES (%s, %s::tsvector)").format(words_of(collection)), words
    )


async def _folds(
    connection: Connection, collection: int, taken: Taken, seen: Sequence[Likeness], first: int
) -> list[int]:
    """For every piece the passage, already there or before it in the document, that says the same; else itself."""
    marks = [mark for like in seen if like.marks for mark in like.marks]
    cursor = await connection.execute(
        """SELECT fold, sameness, mark, second_mark, text FROM passages
            WHERE collection = %(collection)s
              AND (sameness = ANY(%(same)s) OR mark = ANY(%(marks)s) OR second_mark = ANY(%(marks)s))
            ORDER BY id""",
        {"collection": collection, "same": [like.sameness for like in seen], "marks": marks},
    )
    there = [_Rival(*row) for row in await cursor.fetchall()]
    folds: list[int] = []
    for place, (piece, like) in enumerate(zip(taken.pieces, seen, strict=True), first):
        text = taken.document.text[piece.start : piece.end]
        fold = next((rival.fold for rival in there if rival.says(like, text)), place)
        folds.append(fold)
        there.append(_Rival(fold, like.sameness, *(like.marks or (None, None)), text))
    return folds


class _Rival(Struct, frozen=True):
    """A passage that may say the same as a new one."""

    fold: int
    sameness: str
    mark: int | None
    second_mark: int | None
    text: str

    def says(self, like: Likeness, text: str) -> bool:
        if self.sameness == like.sameness:
            return True
        marked = like.marks is not None and (self.mark == like.marks[0] or self.second_mark == like.marks[1])
        return marked and alike(self.text, text)


async def _drop(connection: Connection, collection: int, identities: Sequence[str]) -> None:
    cursor = await connection.execute(
        """DELETE FROM passages USING documents WHERE number = document AND documents.id = ANY(%s)
           RETURNING passages.id""",
        (list(identities),),
    )
    gone = [row[0] for row in await cursor.fetchall()]
    await connection.execute("DELETE FROM documents WHERE id = ANY(%s)", (list(identities),))
    if not gone:
        return
    await connection.execute(sql.SQL("DELETE FROM {} WHERE passage = ANY(%s)").format(words_of(collection)), (gone,))
    row = await (await connection.execute("SELECT encoder FROM collections WHERE id = %s", (collection,))).fetchone()
    embedded = 0
    if row and row[0]:
        left = await connection.execute(
            sql.SQL("DELETE FROM {} WHERE passage = ANY(%s)").format(vectors_of(collection)), (gone,)
        )
        embedded = left.rowcount
    await connection.execute(
        "UPDATE collections SET passages = passages - %s, embedded = embedded - %s WHERE id = %s",
        (len(gone), embedded, collection),
    )


async def _embed(connection: Connection, collection: int, encoder: str) -> None:
    """Gives every passage whose text is staged its vector; vectors of another encoder leave first."""
    row = await (await connection.execute("SELECT encoder FROM collections WHERE id = %s", (collection,))).fetchone()
    if row and row[0] != encoder:
        cursor = await connection.execute(
            """SELECT vector_dims(vector) FROM staged JOIN passages USING (digest)
                WHERE encoder = %s AND collection = %s LIMIT 1""",
            (encoder, collection),
        )
        size = await cursor.fetchone()
        if size is None:
            return
        await make_vectors(connection, collection, size[0])
        await connection.execute(
            "UPDATE collections SET encoder = %s, embedded = 0 WHERE id = %s", (encoder, collection)
        )
    given = await connection.execute(
        sql.SQL(
            """INSERT INTO {} SELECT passages.id, vector FROM staged JOIN passages USING (digest)
                WHERE encoder = %s AND collection = %s ON CONFLICT DO NOTHING"""
        ).format(vectors_of(collection)),
        (encoder, collection),
    )
    await connection.execute(
        "UPDATE collections SET embedded = embedded + %s WHERE id = %s", (given.rowcount, collection)
    )
    await connection.execute(
        """DELETE FROM staged WHERE day < current_date - %s OR encoder = %s AND EXISTS (
               SELECT 1 FROM passages WHERE passages.digest = staged.digest AND collection = %s)""",
        (_DAYS_STAGED, encoder, collection),
    )


async def _revise(connection: Connection, collection: int) -> None:
    cursor = await connection.execute(
        """SELECT id, title, revision, metadata::text, access::text FROM documents
            WHERE collection = %s ORDER BY id""",
        (collection,),
    )
    await connection.execute(
        "UPDATE collections SET revision = %s, stamp = %s WHERE id = %s",
        (revision_of(await cursor.fetchall()), secrets.token_hex(8), collection),
    )
