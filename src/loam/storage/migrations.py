"""Named, append-only migrations: a file knows which it has had.

Invariant: a migration that was ever released is never changed; a file with a name this program does not know was made
by a newer one, and is refused rather than guessed at.
"""

import sqlite3
from collections.abc import Sequence

from msgspec import Struct

from loam.core.errors import StorageError


class Migration(Struct, frozen=True):
    """`name` sorts within its room ("ledger-001-calls"); `sql` is one or more statements."""

    name: str
    sql: str


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> list[str]:
    """Applies what is missing, each in its own transaction, and returns the names applied."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations "
        "(name TEXT PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
    )
    had = {row[0] for row in connection.execute("SELECT name FROM migrations")}
    unknown = had - {migration.name for migration in migrations}
    if unknown:
        raise StorageError(
            f"the data was written by a newer Loam (it knows {', '.join(sorted(unknown))}); upgrade this one"
        )
    applied: list[str] = []
    for migration in migrations:
        if migration.name in had:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute("INSERT INTO migrations (name) VALUES (?)", (migration.name,))
            connection.execute("COMMIT")
        except sqlite3.Error:
            connection.execute("ROLLBACK")
            raise
        applied.append(migration.name)
    return applied


def _statements(sql: str) -> list[str]:
    """Splits at semicolons that end a statement (triggers keep theirs)."""
    statements: list[str] = []
    pending = ""
    for line in sql.splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    if pending.strip():
        statements.append(pending.strip())
    return statements
