"""Connections to a Postgres server, kept for the next caller.

Knows the server's address; knows no table. Invariants: a connection is held by one caller at a time, and one that broke
is never handed out again; a transaction that has begun is never begun anew by itself; no message holds the password.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.conninfo import conninfo_to_dict

from loam.core.errors import ModelFailure, SettingsError, refuse
from loam.grounding.postgres.tables import Connection

_MOST = 8
_SECONDS = 10  # to connect in


class Connections:
    """At most eight at a time; whoever comes then waits. Raises SettingsError for an address that is none."""

    def __init__(self, url: str, schema: str) -> None:
        self._url = url
        self._schema = schema
        self._password = _password(url)
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(_MOST)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Connection, None]:
        """A transaction that sees one state of everything and changes nothing. Raises ModelFailure (unavailable)."""
        async with self._begun(IsolationLevel.REPEATABLE_READ, read_only=True) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Connection, None]:
        """A transaction whose changes are all kept or, where its body raises, all forgotten. Raises as `read` does."""
        async with self._begun(IsolationLevel.READ_COMMITTED, read_only=False) as connection:
            yield connection

    async def close(self) -> None:
        """Closes those that nobody holds."""
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def _begun(self, level: IsolationLevel, *, read_only: bool) -> AsyncGenerator[Connection, None]:
        async with self._room:
            connection = await self._open()
            try:
                await connection.set_isolation_level(level)
                await connection.set_read_only(read_only)
                async with connection.transaction():
                    yield connection
            except psycopg.OperationalError as error:
                raise self._failed(error) from error
            finally:
                if not connection.closed:
                    self._idle.append(connection)

    async def _open(self) -> Connection:
        """A connection that answers: one of those that wait, as far as the server has not left them meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            try:
                await connection.execute("")
            except psycopg.OperationalError:
                await connection.close()
            else:
                return connection
        try:
            return await AsyncConnection.connect(
                self._url, autocommit=True, options=f"-c search_path={self._schema},public", connect_timeout=_SECONDS
            )
        except psycopg.OperationalError as error:
            raise self._failed(error) from error

    def _failed(self, error: psycopg.OperationalError) -> ModelFailure:
        text = " ".join(str(error).split())
        if self._password:
            text = text.replace(self._password, "•••")
        return refuse("unavailable", f"the documents' Postgres cannot be used: {text or type(error).__name__}")


def _password(url: str) -> str:
    try:
        return str(conninfo_to_dict(url).get("password") or "")
    except psycopg.ProgrammingError:  # its text holds the address
        raise SettingsError("grounding.store.url is no address that Postgres understands") from None
