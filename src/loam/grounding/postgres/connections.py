"""Connections to a Postgres server, kept for the next caller.

Knows the server's address; knows no table. Invariant: a connection is held by one caller at a time, and one that broke
is never handed out again.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection, IsolationLevel

from loam.core.errors import StorageError
from loam.grounding.postgres.tables import Connection

_MOST = 8


class Connections:
    """At most eight at a time; whoever comes then waits."""

    def __init__(self, url: str, schema: str) -> None:
        self._url = url
        self._schema = schema
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(_MOST)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Connection, None]:
        """A transaction that sees one state of everything and changes nothing."""
        async with self._held() as connection:
            await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            await connection.set_read_only(True)
            async with connection.transaction():
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Connection, None]:
        """A transaction whose changes are all kept or, where its body raises, all forgotten."""
        async with self._held() as connection:
            await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
            await connection.set_read_only(False)
            async with connection.transaction():
                yield connection

    async def close(self) -> None:
        """Closes those that nobody holds."""
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def _held(self) -> AsyncGenerator[Connection, None]:
        async with self._room:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                yield connection
            except psycopg.OperationalError as error:
                raise StorageError(f"Postgres failed: {str(error).strip()}") from error
            finally:
                if connection.closed:
                    await self.close()  # what broke one connection has likely broken the idle ones too
                else:
                    self._idle.append(connection)

    async def _connect(self) -> Connection:
        try:
            return await AsyncConnection.connect(
                self._url, autocommit=True, options=f"-c search_path={self._schema},public", connect_timeout=10
            )
        except psycopg.OperationalError as error:
            raise StorageError(
                f"cannot reach Postgres: {str(error).strip()}; is it running, is the URL right?"
            ) from error
