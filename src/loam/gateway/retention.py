"""How long calls and their bodies are kept, and taking away what is older, a little at a time.

Knows the ledger's tables and time. Invariants: the writer is never held for longer than one small batch; nothing is
taken away early because a clock once went wrong: what seems to come from the future stays.
"""

import logging
import sqlite3
from collections.abc import Sequence
from sqlite3 import Connection
from typing import Annotated

from msgspec import Meta, Struct

from loam.core.clock import Clock
from loam.storage.database import Database

_BATCH = 200  # calls in one piece of work; with 2 KB a body it holds the writer for a few milliseconds
_PAGES = 200  # file pages given back in one piece of work
_PAUSE = 0.02  # seconds between two pieces, for everybody else's
_DAY = 86_400
_Days = Annotated[float, Meta(gt=0)]


class RetentionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    body_days: Annotated[_Days, Meta(description="Days for which requests and answers are kept.")] = 30.0
    call_days: Annotated[_Days, Meta(description="Days for which calls are kept, with their cost and feedback.")] = (
        400.0
    )
    run_days: Annotated[_Days, Meta(description="Days for which runs of agents are kept after their end.")] = 30.0
    max_megabytes: Annotated[
        float, Meta(gt=0, description="Size of the database above which the oldest requests and answers go early.")
    ] = 20_000.0
    every_minutes: Annotated[float, Meta(gt=0, description="Minutes between two clean-ups.")] = 30.0


class Swept(Struct, frozen=True):
    """How much one clean-up took away."""

    bodies: int
    calls: int
    pages: int


class Retention:
    """Takes away what is too old: once (`await retention.run_once(clock.now())`), or for good (`run`)."""

    def __init__(self, database: Database, clock: Clock, settings: RetentionSettings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Cleans up now and then until cancelled; a clean-up that fails is logged and tried again the next time."""
        while True:
            try:
                await self.run_once(self._clock.now())
            except sqlite3.Error:
                logging.getLogger(__name__).exception("old calls could not be taken away")
            await self._clock.sleep(self._settings.every_minutes * 60)

    async def run_once(self, now: float) -> Swept:
        bodies = await self._sweep("bodies", now, self._settings.body_days)
        calls = await self._sweep("calls", now, self._settings.call_days)
        bodies += await self._shrink()
        return Swept(bodies, calls, await self._give_back())

    async def _sweep(self, table: str, now: float, days: float) -> int:
        """Goes through `table` from its oldest row, past rows from the future, to the first that may stay."""
        oldest, newest = round((now - days * _DAY) * 1_000_000), round(now * 1_000_000)
        taken = position = 0
        while True:
            ages = await self._database.read(lambda connection, after=position: _ages(connection, table, after))
            young = next((index for index, age in enumerate(ages) if oldest <= age.started_at <= newest), None)
            old = [age.seq for age in ages[:young] if age.started_at < oldest]
            if old:
                await self._take(table, old)
                taken += len(old)
            if young is not None or not ages:
                return taken
            position = ages[-1].seq

    async def _shrink(self) -> int:
        """Takes the oldest bodies until the database is as small as it should be, or none is left."""
        taken = 0
        while (await self._database.read(_space)).used > self._settings.max_megabytes * 1_000_000:
            ages = await self._database.read(lambda connection: _ages(connection, "bodies", 0))
            if not ages:
                break
            await self._take("bodies", [age.seq for age in ages])
            taken += len(ages)
        return taken

    async def _take(self, table: str, seqs: Sequence[int]) -> None:
        statements = _TAKE_BODIES if table == "bodies" else _TAKE_CALLS
        keys = [(seq,) for seq in seqs]

        def take(connection: Connection) -> None:
            for statement in statements:
                connection.executemany(statement, keys)

        await self._database.write(take)
        await self._clock.sleep(_PAUSE)

    async def _give_back(self) -> int:
        """Gives free pages back to the disk once they are a tenth of the file; fewer will soon be used again."""
        given = 0
        while True:
            before = await self._database.read(_space)
            if before.free * 10 <= before.pages or before.pages < 10 * _PAGES:
                return given
            await self._database.write(lambda connection: connection.execute(_GIVE_BACK).fetchall())
            after = await self._database.read(_space)
            if after.pages >= before.pages:  # a file made without auto_vacuum keeps its pages
                return given
            given += before.pages - after.pages
            await self._clock.sleep(_PAUSE)


class _Age(Struct, frozen=True):
    seq: int
    started_at: int


class _Space(Struct, frozen=True):
    """Pages of the file: free ones, all of them, and bytes of one."""

    free: int
    pages: int
    page_size: int

    @property
    def used(self) -> int:
        return (self.pages - self.free) * self.page_size


_AGES = {
    "bodies": "SELECT call, started_at FROM bodies JOIN calls ON seq = call WHERE call > ? ORDER BY call LIMIT ?",
    "calls": "SELECT seq, started_at FROM calls WHERE seq > ? ORDER BY seq LIMIT ?",
}
_TAKE_BODIES = ("DELETE FROM bodies WHERE call = ?",)
_TAKE_CALLS = (
    "DELETE FROM feedback WHERE call_id = (SELECT id FROM calls WHERE seq = ?)",
    "DELETE FROM bodies WHERE call = ?",
    "DELETE FROM calls WHERE seq = ?",
)
_GIVE_BACK = f"PRAGMA incremental_vacuum({_PAGES})"


def _ages(connection: Connection, table: str, after: int) -> list[_Age]:
    return [_Age(*row) for row in connection.execute(_AGES[table], (after, _BATCH))]


def _space(connection: Connection) -> _Space:
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    return _Space(free, pages, connection.execute("PRAGMA page_size").fetchone()[0])
