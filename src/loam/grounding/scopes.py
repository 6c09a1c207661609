"""A scope as SQL: which documents a search may see.

Invariant: the condition stands inside every query that chooses passages or documents, so nothing is ever chosen first
and hidden later.
"""

import sqlite3

from msgspec import Struct

from loam.grounding.store import Scope


class Condition(Struct, frozen=True):
    """What stands behind AND in a query over `documents`; empty where the scope sees the whole collection."""

    sql: str = ""
    parameters: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sql)


def condition(connection: sqlite3.Connection, collection: int, scope: Scope) -> Condition:
    """The scope as it bears on a collection: where all may read everything, readers need not be compared."""
    parts: list[str] = []
    parameters: list[str] = []
    if scope.readers is not None and restricted(connection, collection):
        marks = ", ".join("?" * len(scope.readers))
        parts.append(f"(access = '[]' OR EXISTS (SELECT 1 FROM json_each(access) WHERE value IN ({marks})))")  # noqa: S608 - marks
        parameters.extend(scope.readers)
    for name, value in scope.metadata.items():
        parts.append("EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND value = ?)")
        parameters.extend((name, value))
    return Condition(f"AND {' AND '.join(parts)}" if parts else "", tuple(parameters))


def restricted(connection: sqlite3.Connection, collection: int) -> bool:
    """Whether any document of the collection is not for everybody."""
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM documents WHERE collection = ? AND access <> '[]')", (collection,)
    ).fetchone()
    return bool(row[0])


def allowed(connection: sqlite3.Connection, collection: int, scope: Scope) -> list[int] | None:
    """The numbers of the documents in scope, None for all."""
    within = condition(connection, collection, scope)
    if not within:
        return None
    query = f"SELECT number FROM documents WHERE collection = ? {within.sql}"  # noqa: S608 - conditions hold no values
    return [row[0] for row in connection.execute(query, (collection, *within.parameters))]
