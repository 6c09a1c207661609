"""What can happen in a run, and the log where it stands: events are added and never changed.

Knows its two tables. Does not know what an event leads to: `loam.agents.state` reads them, `loam.agents.loop` acts.
Invariant: an event has its number once, whoever writes it; of two writers of one number the later is refused.
"""

import sqlite3
from typing import Literal

import msgspec
from msgspec import Struct

from loam.core.calls import Citation, Principal
from loam.core.errors import refuse
from loam.core.messages import Part
from loam.core.money import Money
from loam.storage.database import Database
from loam.storage.migrations import Migration

MIGRATIONS = (
    Migration(
        "agents-001",
        """
        CREATE TABLE agent_runs (
            id TEXT PRIMARY KEY, agent TEXT NOT NULL, key_id TEXT NOT NULL, principal BLOB NOT NULL,
            created_at REAL NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE agent_events (
            run TEXT NOT NULL REFERENCES agent_runs (id), seq INTEGER NOT NULL, at REAL NOT NULL, event BLOB NOT NULL,
            PRIMARY KEY (run, seq)
        ) WITHOUT ROWID;
        CREATE TRIGGER agent_events_stay BEFORE UPDATE ON agent_events
        BEGIN SELECT RAISE(ABORT, 'the events of a run are never changed'); END;
        """,
    ),
)

Reason = Literal[
    "answered", "steps", "tool_calls", "tokens", "money", "unknown_price", "time", "repetition", "failed", "cancelled"
]
"""Why a run ended."""
Decision = Literal["approve", "edit", "deny"]


class Began(Struct, frozen=True, tag="began"):
    question: str


class Asked(Struct, frozen=True, tag="asked"):
    """The model is about to be asked; the most that it can cost is held."""

    money: Money
    tokens: int


class Answered(Struct, frozen=True, tag="answered"):
    parts: tuple[Part, ...]
    money: Money
    tokens: int


class Failed(Struct, frozen=True, tag="failed"):
    """The model gave no answer; `again` says whether another try makes sense."""

    kind: str
    message: str
    again: bool
    money: Money
    tokens: int


class Wanted(Struct, frozen=True, tag="wanted"):
    """A person is asked. doubt: the call was begun and nobody knows whether it was done."""

    key: str
    tool: str
    arguments: str
    why: Literal["approval", "doubt"]


class Decided(Struct, frozen=True, tag="decided", omit_defaults=True):
    key: str
    decision: Decision
    by: str
    arguments: str = ""
    reason: str = ""


class Started(Struct, frozen=True, tag="started"):
    """A tool is about to be called with these arguments."""

    key: str
    tool: str
    arguments: str


class Returned(Struct, frozen=True, tag="returned", omit_defaults=True):
    key: str
    result: str
    is_error: bool = False
    citations: tuple[Citation, ...] = ()


class Resumed(Struct, frozen=True, tag="resumed"):
    by: str


class Ended(Struct, frozen=True, tag="ended", omit_defaults=True):
    reason: Reason
    message: str = ""


Event = Began | Asked | Answered | Failed | Wanted | Decided | Started | Returned | Resumed | Ended


class Entry(Struct, frozen=True):
    seq: int
    at: float
    event: Event


class Run(Struct, frozen=True):
    id: str
    agent: str
    principal: Principal
    created_at: float


_encoder = msgspec.msgpack.Encoder()
_event = msgspec.msgpack.Decoder(Event)
_principal = msgspec.msgpack.Decoder(Principal)
_RUN = "SELECT id, agent, principal, created_at FROM agent_runs"


class EventLog:
    """The runs and their events, in a database that has `MIGRATIONS`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, run: Run, first: Entry) -> None:
        row = (run.id, run.agent, run.principal.key_id, _encoder.encode(run.principal), run.created_at)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO agent_runs VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("INSERT INTO agent_events VALUES (?, ?, ?, ?)", _row(run.id, first))

        await self._database.write(insert)

    async def append(self, run_id: str, entry: Entry) -> None:
        """Adds an event; it is durable when this returns. Raises ModelFailure (conflict) where somebody was quicker."""
        try:
            await self._database.write(
                lambda connection: connection.execute(
                    "INSERT INTO agent_events VALUES (?, ?, ?, ?)", _row(run_id, entry)
                )
            )
        except sqlite3.IntegrityError as error:
            raise refuse("conflict", f"something else happened to {run_id} just now; look at it again") from error

    async def find(self, run_id: str) -> Run | None:
        row = await self._database.read(
            lambda connection: connection.execute(f"{_RUN} WHERE id = ?", (run_id,)).fetchone()
        )
        return None if row is None else _run(row)

    async def runs(self, agent: str, key_id: str, limit: int) -> list[Run]:
        """The latest runs of an agent; of one key's where `key_id` names one."""
        query = f"{_RUN} WHERE agent = ? AND (? = '' OR key_id = ?) ORDER BY id DESC LIMIT ?"
        values = (agent, key_id, key_id, limit)
        return [_run(row) for row in await self._database.read(lambda c: c.execute(query, values).fetchall())]

    async def events(self, run_id: str, after: int = 0) -> list[Entry]:
        query = "SELECT seq, at, event FROM agent_events WHERE run = ? AND seq > ? ORDER BY seq"
        rows = await self._database.read(lambda connection: connection.execute(query, (run_id, after)).fetchall())
        return [Entry(seq, at, _event.decode(event)) for seq, at, event in rows]


def _row(run_id: str, entry: Entry) -> tuple[str, int, float, bytes]:
    return run_id, entry.seq, entry.at, _encoder.encode(entry.event)


def _run(row: tuple[str, str, bytes, float]) -> Run:
    return Run(row[0], row[1], _principal.decode(row[2]), row[3])
