"""What waits for a run to end: vectors of texts, and bytes that were sent ahead.

Both are named by what they are, so a run that was broken off, or a file that only moved, finds them again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from loam.grounding.postgres.tables import Connection, vectors_of
from loam.grounding.staging import hash_of

_DAYS = 14


async def unstaged(connection: Connection, encoder: str, digests: Sequence[str]) -> set[str]:
    """Which texts have no vector; those that passages of any collection have are staged."""
    cursor = await connection.execute(
        "SELECT digest FROM staged WHERE encoder = %s AND digest = ANY(%s)", (encoder, list(digests))
    )
    lacking = set(digests) - {row[0] for row in await cursor.fetchall()}
    cursor = await connection.execute(
        """SELECT DISTINCT collections.id FROM passages JOIN collections ON collections.id = collection
            WHERE encoder = %s AND embedded > 0 AND digest = ANY(%s)""",
        (encoder, list(lacking)),
    )
    for (collection,) in await cursor.fetchall():
        copied = await connection.execute(
            sql.SQL(
                """INSERT INTO staged (digest, encoder, vector)
                   SELECT DISTINCT ON (digest) digest, %s, vector FROM passages JOIN {} ON passage = id
                    WHERE digest = ANY(%s) ON CONFLICT DO NOTHING RETURNING digest"""
            ).format(vectors_of(collection)),
            (encoder, list(lacking)),
        )
        lacking -= {row[0] for row in await copied.fetchall()}
    return lacking


async def stage(connection: Connection, encoder: str, digests: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Keeps vectors for the run that will apply them."""
    await connection.cursor().executemany(
        """INSERT INTO staged (digest, encoder, vector) VALUES (%s, %s, %s::halfvec)
           ON CONFLICT (digest, encoder) DO UPDATE SET vector = excluded.vector, day = current_date""",
        [(one, encoder, written(vector)) for one, vector in zip(digests, vectors, strict=True)],
    )


def written(vector: NDArray[np.float32]) -> str:
    """A vector as pgvector reads it."""
    return f"[{','.join(map(str, vector.astype(np.float16).tolist()))}]"


async def arrive(connection: Connection, contents: Sequence[bytes]) -> tuple[str, ...]:
    """Keeps bytes, and says what they are called."""
    hashes = tuple(hash_of(data) for data in contents)
    await connection.cursor().executemany(
        "INSERT INTO arrived (hash, data) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        list(zip(hashes, contents, strict=True)),
    )
    return hashes


async def arrived(connection: Connection, hashes: Sequence[str]) -> set[str]:
    """Which of these bytes are here."""
    cursor = await connection.execute("SELECT hash FROM arrived WHERE hash = ANY(%s)", (list(hashes),))
    return {row[0] for row in await cursor.fetchall()}


async def content(connection: Connection, hash: str) -> bytes | None:
    """Bytes that arrived, None where they did not."""
    row = await (await connection.execute("SELECT data FROM arrived WHERE hash = %s", (hash,))).fetchone()
    return row[0] if row else None


async def forget(connection: Connection, hashes: Sequence[str]) -> None:
    """Drops bytes that were taken in, and those that nobody asked for in weeks."""
    await connection.execute(
        "DELETE FROM arrived WHERE hash = ANY(%s) OR day < current_date - %s", (list(hashes), _DAYS)
    )
