"""What waits for a run to end: vectors of texts, and bytes that were sent ahead.

Both are named by what they are, so a run that was broken off, or a file that only moved, finds them again.
"""

import hashlib
import sqlite3
from collections.abc import Sequence

_DAYS = 14


def unstaged(connection: sqlite3.Connection, encoder: str, digests: Sequence[str]) -> set[str]:
    """Which texts have no vector; those that passages of any collection have are staged."""
    lacking: set[str] = set()
    for digest in digests:
        if connection.execute("SELECT 1 FROM staged WHERE digest = ? AND encoder = ?", (digest, encoder)).fetchone():
            continue
        copied = connection.execute(
            """INSERT INTO staged (digest, encoder, vector)
               SELECT digest, encoder, vector FROM passages JOIN vectors ON passage = passages.id
                 JOIN collections ON collections.id = collection WHERE digest = ? AND encoder = ? LIMIT 1""",
            (digest, encoder),
        ).rowcount
        if not copied:
            lacking.add(digest)
    return lacking


def stage(connection: sqlite3.Connection, encoder: str, vectors: Sequence[tuple[str, bytes]]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO staged (digest, encoder, vector) VALUES (?, ?, ?)",
        [(digest, encoder, vector) for digest, vector in vectors],
    )


def arrive(connection: sqlite3.Connection, contents: Sequence[bytes]) -> tuple[str, ...]:
    hashes = tuple(hash_of(data) for data in contents)
    connection.executemany(
        "INSERT OR IGNORE INTO arrived (hash, data) VALUES (?, ?)", zip(hashes, contents, strict=True)
    )
    return hashes


def arrived(connection: sqlite3.Connection, hashes: Sequence[str]) -> set[str]:
    return {hash for hash in hashes if connection.execute("SELECT 1 FROM arrived WHERE hash = ?", (hash,)).fetchone()}


def content(connection: sqlite3.Connection, hash: str) -> bytes | None:
    row = connection.execute("SELECT data FROM arrived WHERE hash = ?", (hash,)).fetchone()
    return row[0] if row else None


def forget(connection: sqlite3.Connection, hashes: Sequence[str]) -> None:
    connection.executemany("DELETE FROM arrived WHERE hash = ?", [(hash,) for hash in hashes])
    connection.execute("DELETE FROM arrived WHERE day < CAST(julianday('now') AS INTEGER) - ?", (_DAYS,))


def hash_of(data: bytes) -> str:
    """What bytes are called."""
    return hashlib.sha256(data).hexdigest()
