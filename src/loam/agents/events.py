"""What can happen in a run, and the log where it stands: events are added and never changed.

Knows its two tables. Does not know what an event leads to: `loam.agents.state` reads them, `loam.agents.loop` acts.
Invariant: an event has its number once, whoever writes it; of two writers of one number the later is refused.
"""

import sqlite3
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from loam.agents.news import News
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
    Migration(
        # Where a run stands is told by its last event: kept beside the run, in the transaction that writes the event,
        # so that those that wait, and those that ended long ago, are found without reading every run's events. The
        # first key of an event's MessagePack is its type.
        "agents-002-standing",
        """
        ALTER TABLE agent_runs ADD COLUMN last TEXT NOT NULL DEFAULT 'began';
        ALTER TABLE agent_runs ADD COLUMN last_at REAL NOT NULL DEFAULT 0;
        UPDATE agent_runs SET
            last_at = (SELECT at FROM agent_events WHERE run = id ORDER BY seq DESC LIMIT 1),
            last = (
                SELECT CASE
                    WHEN substr(event, 2, 12) = x'a474797065a677616e746564' THEN 'wanted'
                    WHEN substr(event, 2, 11) = x'a474797065a5656e646564' THEN 'ended'
                    ELSE 'moved'
                END FROM agent_events WHERE run = id ORDER BY seq DESC LIMIT 1
            );
        CREATE INDEX agent_runs_standing ON agent_runs (last, last_at);
        """,
    ),
)

Reason = Literal[
    "answered", "steps", "tool_calls", "tokens", "money", "unknown_price", "time", "repetition", "failed", "cancelled"
]
"""Why a run ended."""
Decision = Literal["approve", "edit", "deny"]
EXPIRY = "expiry"
"""Who decides where nobody did in time."""


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


class Wanted(Struct, frozen=True, tag="wanted", omit_defaults=True):
    """A person is asked. doubt: the call was begun and nobody knows whether it was done.

    From `expires` on (seconds since 1970 UTC; 0: never) the call is denied for want of a decision.
    """

    key: str
    tool: str
    arguments: str
    why: Literal["approval", "doubt"]
    expires: float = 0.0


class Decided(Struct, frozen=True, tag="decided", omit_defaults=True):
    """What was decided, and by whom: a key's id, a user without a key, or `EXPIRY`."""

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


class Forked(Struct, frozen=True, tag="forked"):
    """What comes before was taken from another run, its first `after` events."""

    of: str
    after: int
    by: str


class Ended(Struct, frozen=True, tag="ended", omit_defaults=True):
    reason: Reason
    message: str = ""


Event = Began | Asked | Answered | Failed | Wanted | Decided | Started | Returned | Resumed | Forked | Ended


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


class Journal(Protocol):
    """What the events of a run are written into."""

    async def append(self, run_id: str, entry: Entry) -> None:
        """As `EventLog.append`."""
        ...


class EventLog:
    """The runs and their events, in a database that has `MIGRATIONS`; `news` tells when there is another."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.news = News()

    async def create(self, run: Run, *first: Entry) -> None:
        """Puts a run on record with its first events."""
        last = first[-1]
        row = (run.id, run.agent, run.principal.key_id, _encoder.encode(run.principal), run.created_at)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO agent_runs VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, *_standing(last)))
            rows = [_row(run.id, entry) for entry in first]
            connection.executemany("INSERT INTO agent_events VALUES (?, ?, ?, ?)", rows)

        await self._database.write(insert)

    async def append(self, run_id: str, entry: Entry) -> None:
        """Adds an event; it is durable when this returns. Raises ModelFailure (conflict) where somebody was quicker."""

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO agent_events VALUES (?, ?, ?, ?)", _row(run_id, entry))
            connection.execute("UPDATE agent_runs SET last = ?, last_at = ? WHERE id = ?", (*_standing(entry), run_id))

        try:
            await self._database.write(insert)
        except sqlite3.IntegrityError as error:
            raise refuse("conflict", f"something else happened to {run_id} just now; look at it again") from error
        self.news.tell(run_id)

    async def find(self, run_id: str) -> Run | None:
        row = await self._database.read(
            lambda connection: connection.execute(f"{_RUN} WHERE id = ?", (run_id,)).fetchone()
        )
        return None if row is None else _run(row)

    async def runs(self, agent: str, key_id: str, limit: int) -> list[Run]:
        """The latest runs of an agent; of one key's where `key_id` names one."""
        query = f"{_RUN} WHERE agent = ? AND (? = '' OR key_id = ?) ORDER BY id DESC LIMIT ?"
        return await self._runs(query, (agent, key_id, key_id, limit))

    async def waiting(self, key_id: str, limit: int) -> list[Run]:
        """The runs of all agents that wait for a decision, the longest wait first; of one key's, as above."""
        query = f"{_RUN} WHERE last = 'wanted' AND (? = '' OR key_id = ?) ORDER BY last_at LIMIT ?"
        return await self._runs(query, (key_id, key_id, limit))

    async def due(self, now: float) -> list[Run]:
        """The runs of all agents whose wait for a decision has expired."""
        query = (
            "SELECT id, agent, principal, created_at, (SELECT event FROM agent_events WHERE run = id ORDER BY seq DESC "
            "LIMIT 1) FROM agent_runs WHERE last = 'wanted'"
        )
        rows = await self._database.read(lambda connection: connection.execute(query).fetchall())
        last = [(_run(row[:4]), _event.decode(row[4])) for row in rows]
        return [run for run, event in last if isinstance(event, Wanted) and 0 < event.expires <= now]

    async def events(self, run_id: str, after: int = 0, limit: int = -1) -> list[Entry]:
        query = "SELECT seq, at, event FROM agent_events WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?"
        values = (run_id, after, limit)
        rows = await self._database.read(lambda connection: connection.execute(query, values).fetchall())
        return [Entry(seq, at, _event.decode(event)) for seq, at, event in rows]

    async def forget_ended(self, before: float, limit: int) -> int:
        """Takes away the runs that ended before a time, so many at most; gives how many went."""
        query = "SELECT id FROM agent_runs WHERE last = 'ended' AND last_at < ? ORDER BY last_at LIMIT ?"

        def take(connection: sqlite3.Connection) -> int:
            ids = connection.execute(query, (before, limit)).fetchall()
            connection.executemany("DELETE FROM agent_events WHERE run = ?", ids)
            connection.executemany("DELETE FROM agent_runs WHERE id = ?", ids)
            return len(ids)

        return await self._database.write(take)

    async def _runs(self, query: str, values: tuple[str | int, ...]) -> list[Run]:
        return [_run(row) for row in await self._database.read(lambda c: c.execute(query, values).fetchall())]


def _row(run_id: str, entry: Entry) -> tuple[str, int, float, bytes]:
    return run_id, entry.seq, entry.at, _encoder.encode(entry.event)


def _standing(entry: Entry) -> tuple[str, float]:
    return str(type(entry.event).__struct_config__.tag), entry.at


def _run(row: tuple[str, str, bytes, float]) -> Run:
    return Run(row[0], row[1], _principal.decode(row[2]), row[3])
