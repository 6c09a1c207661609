"""The descriptions of servers' tools that somebody trusts, as they were seen when they were trusted.

Knows its table. Invariant: a pin is never changed; the latest of a tool is the one that holds, and the others tell what
was trusted before it, when, and by whom.
"""

import sqlite3

import msgspec
from msgspec import Struct

from loam.agents.mcp.listed import Listed
from loam.core.clock import Clock
from loam.storage.database import Database
from loam.storage.migrations import Migration

MIGRATIONS = (
    Migration(
        "agents-pins-001",
        """
        CREATE TABLE agent_pins (
            id INTEGER PRIMARY KEY, agent TEXT NOT NULL, server TEXT NOT NULL, tool TEXT NOT NULL, hash TEXT NOT NULL,
            seen BLOB NOT NULL, at REAL NOT NULL, by TEXT NOT NULL
        );
        CREATE INDEX agent_pins_by_tool ON agent_pins (agent, server, tool, id);
        CREATE TRIGGER agent_pins_stay BEFORE UPDATE ON agent_pins
        BEGIN SELECT RAISE(ABORT, 'a pin is never changed; pin anew'); END;
        """,
    ),
)

FIRST = "first sight"
"""Who pinned a tool that was trusted because nothing had been seen of it before."""


class Pin(Struct, frozen=True):
    """`by` is the key of whoever trusted it, or `FIRST`."""

    hash: str
    seen: Listed
    at: float
    by: str


_decoder = msgspec.json.Decoder(Listed)
_LATEST = (
    "SELECT hash, seen, at, by FROM agent_pins WHERE agent = ? AND server = ? AND tool = ? ORDER BY id DESC LIMIT 1"
)


class Pins:
    """The pins of one agent and one server, in a database that has `MIGRATIONS`."""

    def __init__(self, database: Database, clock: Clock, agent: str, server: str) -> None:
        self._database = database
        self._clock = clock
        self._whose = (agent, server)

    async def find(self, tool: str) -> Pin | None:
        row = await self._database.read(lambda c: c.execute(_LATEST, (*self._whose, tool)).fetchone())
        return None if row is None else Pin(row[0], _decoder.decode(row[1]), row[2], row[3])

    async def add(self, seen: Listed, by: str) -> Pin:
        """Trusts a tool as it was seen; durable when this returns."""
        pin = Pin(seen.hash, seen, self._clock.now(), by)
        row = (*self._whose, seen.name, pin.hash, msgspec.json.encode(seen), pin.at, by)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO agent_pins (agent, server, tool, hash, seen, at, by) VALUES (?, ?, ?, ?, ?, ?, ?)", row
            )

        await self._database.write(insert)
        return pin
