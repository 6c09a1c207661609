"""The vectors nearest to one, by pgvector's HNSW graph.

Knows pgvector. With a filter a plain graph search comes back short: it looks at the nearest vectors first and filters
after. So the scan goes on (`iterative_scan = relaxed_order`) until enough have passed. Where few passages are in scope,
or the scan gives up all the same, every vector in scope is compared.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from loam.grounding.postgres.catalogue import Condition, condition
from loam.grounding.postgres.staging import written
from loam.grounding.postgres.tables import Connection, vectors_of
from loam.grounding.store import Hit, Scope
from loam.grounding.tables import first_passage

_EXACT = 5_000
"""Passages in scope, up to which all are compared: a graph that hardly anything passes takes longer."""
_SEEN = 200  # candidates that the graph search keeps in hand; recall@10 .9985 at 100, 100k vectors


async def search(
    connection: Connection, collection: int, vector: NDArray[np.float32], *, scope: Scope, limit: int
) -> list[Hit]:
    """The passages in scope whose vectors are nearest, each fold once; fewer than `limit` only where there are."""
    await connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
    await connection.execute(f"SET LOCAL hnsw.ef_search = {min(1000, max(_SEEN, 2 * limit)):d}".encode())
    within = await condition(connection, collection, scope)
    exact = await _few(connection, collection, within)
    wanted = limit
    while True:
        hits = await _nearest(connection, collection, vector, within, exact=exact, limit=wanted)
        unfolded = {hit.fold: hit for hit in reversed(hits)}
        if len(unfolded) >= limit or (exact and len(hits) < wanted):
            return sorted(unfolded.values(), key=lambda hit: (-hit.score, hit.id))[:limit]
        if len(hits) < wanted:
            exact = True
        else:
            wanted *= 4


async def _few(connection: Connection, collection: int, within: Condition) -> bool:
    """Whether so little is in scope that the graph is no help; what is not filtered is the graph's own."""
    if not within.sql:
        return False
    cursor = await connection.execute(
        f"""SELECT count(*) <= %s FROM (
                SELECT 1 FROM documents JOIN passages ON number = document
                 WHERE documents.collection = %s {within.sql} LIMIT %s) AS found""",  # noqa: S608 - no values
        (_EXACT, collection, *within.parameters, _EXACT + 1),
    )
    return (await cursor.fetchall())[0][0]


async def _nearest(
    connection: Connection,
    collection: int,
    vector: NDArray[np.float32],
    within: Condition,
    *,
    exact: bool,
    limit: int,
) -> list[Hit]:
    """The graph answers a query that orders by the distance itself; by anything made of it, all are compared."""
    cursor = await connection.execute(
        sql.SQL(
            """SELECT id, fold, -distance FROM (
                   SELECT passages.id, fold, vector <#> %s::halfvec AS distance
                     FROM {} JOIN passages ON passages.id = passage JOIN documents ON number = document
                    WHERE true {} ORDER BY {} LIMIT %s) AS found
                ORDER BY distance, id"""
        ).format(
            vectors_of(collection),
            sql.SQL(within.sql),
            sql.SQL("(vector <#> {}::halfvec) + 0" if exact else "vector <#> {}::halfvec").format(
                sql.Literal(written(vector))
            ),
        ),
        (written(vector), *within.parameters, limit),
    )
    return [Hit(*row) for row in await cursor.fetchall()]


async def vectors(connection: Connection, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """The vectors of these passages, where they have one; a passage's number says its collection."""
    found: dict[int, NDArray[np.float32]] = {}
    for collection in {number // first_passage(1) for number in ids}:
        cursor = await connection.execute("SELECT 1 FROM collections WHERE id = %s AND encoder <> ''", (collection,))
        if await cursor.fetchone():
            cursor = await connection.execute(
                sql.SQL("SELECT passage, vector::real[] FROM {} WHERE passage = ANY(%s)").format(
                    vectors_of(collection)
                ),
                (list(ids),),
            )
            found |= {number: np.array(vector, np.float32) for number, vector in await cursor.fetchall()}
    return found
