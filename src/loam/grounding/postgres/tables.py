"""The tables of a documents schema in Postgres, and those that each collection has of its own.

Knows SQL's shape of things. Words and vectors of a collection have tables of their own, so that neither the time of a
search nor its ranking depends on what other collections hold, and vectors of two encoders never lie together.
Invariant: a migration that was ever released is never changed; a schema that a newer program made is refused.
"""

from typing import Any

from psycopg import AsyncConnection, errors, sql

from loam.core.errors import StorageError
from loam.storage.migrations import Migration

Connection = AsyncConnection[tuple[Any, ...]]

MIGRATIONS = (
    Migration(
        "documents-001-collections",
        """
        CREATE TABLE collections (
            id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
            name text COLLATE "C" NOT NULL UNIQUE,
            revision text NOT NULL DEFAULT '',
            stamp text NOT NULL DEFAULT '',
            encoder text NOT NULL DEFAULT '',
            last_passage bigint NOT NULL DEFAULT 0,
            passages integer NOT NULL DEFAULT 0,
            embedded integer NOT NULL DEFAULT 0
        );
        CREATE TABLE documents (
            number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
            id text COLLATE "C" NOT NULL UNIQUE,
            collection integer NOT NULL REFERENCES collections (id),
            source text NOT NULL,
            path text COLLATE "C" NOT NULL,
            url text NOT NULL,
            title text NOT NULL,
            revision text NOT NULL,
            characters integer NOT NULL,
            pages integer[] NOT NULL,
            metadata jsonb NOT NULL,
            access text[] NOT NULL,
            content_hash text NOT NULL,
            stamp text NOT NULL,
            text text NOT NULL,
            UNIQUE (collection, source, path)
        );
        CREATE INDEX documents_by_path ON documents (collection, path, id);
        CREATE INDEX restricted_documents ON documents (collection) WHERE access <> '{}';
        CREATE TABLE passages (
            id bigint PRIMARY KEY,
            collection integer NOT NULL REFERENCES collections (id),
            document bigint NOT NULL REFERENCES documents (number),
            fold bigint NOT NULL,
            page integer,
            first integer NOT NULL,
            past integer NOT NULL,
            digest text NOT NULL,
            sameness text NOT NULL,
            mark bigint,
            second_mark bigint,
            section text NOT NULL,
            text text NOT NULL
        );
        CREATE INDEX passages_of_a_document ON passages (document);
        CREATE INDEX passages_by_digest ON passages (digest);
        CREATE INDEX passages_by_sameness ON passages (collection, sameness);
        CREATE INDEX passages_by_mark ON passages (collection, mark) WHERE mark IS NOT NULL;
        CREATE INDEX passages_by_second_mark ON passages (collection, second_mark) WHERE second_mark IS NOT NULL;
        CREATE TABLE staged (
            digest text NOT NULL,
            encoder text NOT NULL,
            vector halfvec NOT NULL,
            day date NOT NULL DEFAULT current_date,
            PRIMARY KEY (digest, encoder)
        );
        CREATE TABLE arrived (
            hash text PRIMARY KEY,
            data bytea NOT NULL,
            day date NOT NULL DEFAULT current_date
        );
        """,
    ),
)

_LOCK = 0x10A3  # an advisory lock: two programs that start together migrate one after the other
_LEAST = (0, 8)  # has half-precision vectors, and graph searches that go on behind a filter
_PGVECTOR = ".".join(map(str, _LEAST))


async def migrate(connection: Connection, schema: str) -> None:
    """Makes the schema and brings it up to date.

    Raises StorageError where a newer program made it, and where the server has no pgvector that will do.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await _extend(connection)
        await _make_schema(connection, schema)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz)"
        )
        rows = await (await connection.execute("SELECT name FROM migrations")).fetchall()
        had = {name for (name,) in rows}
        unknown = had - {migration.name for migration in MIGRATIONS}
        if unknown:
            raise StorageError(
                f"the schema {schema} was made by a newer Loam (it knows {', '.join(sorted(unknown))}); upgrade this"
            )
        for migration in MIGRATIONS:
            if migration.name not in had:
                await connection.execute(migration.sql.encode())
                await connection.execute("INSERT INTO migrations VALUES (%s, now())", (migration.name,))


async def _extend(connection: Connection) -> None:
    found = "SELECT extversion, nspname FROM pg_extension JOIN pg_namespace ON extnamespace = pg_namespace.oid"
    cursor = await connection.execute(f"{found} WHERE extname = 'vector'")
    row = await cursor.fetchone()
    if row is None:
        try:
            await connection.execute("CREATE EXTENSION vector SCHEMA public")
        except (errors.FeatureNotSupported, errors.UndefinedFile) as error:
            raise StorageError(
                f"this Postgres has no pgvector ({_PGVECTOR} or newer); install it on the server, for instance the "
                "package postgresql-18-pgvector"
            ) from error
        except errors.InsufficientPrivilege as error:
            raise StorageError(
                "this user of Postgres may not create what Loam needs; let an administrator run `CREATE EXTENSION "
                "vector` in this database"
            ) from error
        row = await (await connection.execute(f"{found} WHERE extname = 'vector'")).fetchone()
    assert row is not None
    version, place = row
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST:
        raise StorageError(
            f"this Postgres has pgvector {version}, and Loam needs {_PGVECTOR}; install a newer one on the server, and "
            "run `ALTER EXTENSION vector UPDATE`"
        )
    if place != "public":
        raise StorageError(
            f"pgvector is in the schema {place} of this database; run `ALTER EXTENSION vector SET SCHEMA public`"
        )


async def _make_schema(connection: Connection, schema: str) -> None:
    """Asks first: whoever may not create a schema may well use one that is there."""
    cursor = await connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
    if await cursor.fetchone():
        return
    try:
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    except errors.InsufficientPrivilege as error:
        raise StorageError(
            f"this user of Postgres may not create the schema {schema}; let an administrator run "
            f"`CREATE SCHEMA {schema} AUTHORIZATION` with its name behind, in this database"
        ) from error


def words_of(collection: int) -> sql.Identifier:
    """The table of a collection's words."""
    return sql.Identifier(f"words_{collection:d}")


def vectors_of(collection: int) -> sql.Identifier:
    """The table of a collection's vectors; there is none before its first vector."""
    return sql.Identifier(f"vectors_{collection:d}")


async def make_words(connection: Connection, collection: int) -> None:
    """Makes the collection's table of words, empty."""
    table = words_of(collection)
    await connection.execute(
        sql.SQL("CREATE TABLE {} (passage bigint PRIMARY KEY, words tsvector NOT NULL)").format(table)
    )
    await connection.execute(sql.SQL("CREATE INDEX ON {} USING gin (words)").format(table))


async def make_vectors(connection: Connection, collection: int, size: int) -> None:
    """Makes the collection's table of vectors anew, for vectors of `size` numbers, with its HNSW graph."""
    table = vectors_of(collection)
    await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
    await connection.execute(
        sql.SQL("CREATE TABLE {} (passage bigint PRIMARY KEY, vector halfvec({}) NOT NULL)").format(
            table, sql.Literal(size)
        )
    )
    await connection.execute(sql.SQL("CREATE INDEX ON {} USING hnsw (vector halfvec_ip_ops)").format(table))


async def drop_tables(connection: Connection, collection: int) -> None:
    """Drops what the collection has of its own."""
    for table in (words_of(collection), vectors_of(collection)):
        await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
