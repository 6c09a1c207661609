"""A SQLite file with one writer at a time, group commit, and a few readers.

Knows SQLite; knows no table: rooms bring their own migrations and SQL.
Invariants: when `write` or `submit` is done, the work is committed to the write-ahead log, so it outlives a killed
process; work is done in the order in which it was given; pieces of work that were waiting together share one
transaction, and one that fails takes nothing of the others with it.

Small work (`submit`) is done on the event loop at the end of its turn, because handing it to a thread and back costs
more than the writing does. All other work is done on a thread, and so is small work while that is busy, while another
program writes, or while the disk is slow; the connection is either the loop's or the thread's, never both's.

```python
database = await Database.open(path, migrations)
await database.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)"))
rows = await database.read(lambda connection: connection.execute("SELECT * FROM t").fetchall())
await database.close()
```
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from loam.core.errors import StorageError
from loam.storage.groups import Item, Outcome, Work, Writer, commit, settle
from loam.storage.migrations import Migration, migrate

T = TypeVar("T")
Durability = Literal["process", "power"]
"""process: a commit survives kill -9. power: it also survives the machine losing power (an fsync a group)."""

_LOG_BYTES = 80 * 2**20  # a write-ahead log that grew beyond this is cut, for which the writers pause
_TEND_SECONDS = 1.0
_SLOW_SECONDS = 0.02  # a commit that takes longer keeps the loop from its streams, so for a while the thread does it
_SLOW_PAUSE = 2.0


class Database:
    """Use `Database.open`. Belongs to the event loop that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, durability: Durability) -> None:
        self.path = path
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._soon: list[Item] = []
        self._handed = 0  # pieces of work that the thread has; while there are any, the connection is the thread's
        self._here_from = 0.0 if durability == "process" else float("inf")  # an fsync is nothing for the loop
        self._tending: asyncio.TimerHandle | None = None
        self._writer = Writer(f"loam-writer-{path.name}", connection, self._tell)
        self._readers = ThreadPoolExecutor(2, f"loam-reader-{path.name}")
        self._local = threading.local()
        self._closed = False
        self._writer.start()

    @classmethod
    async def open(
        cls, path: Path, migrations: Sequence[Migration], *, durability: Durability = "process"
    ) -> "Database":
        """Opens or makes the file and brings it up to date. Raises StorageError when that can't be done."""

        def connect() -> sqlite3.Connection:
            try:
                connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has an effect on a new file only
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
                connection.execute("PRAGMA wal_autocheckpoint = 0")  # see `_tend`
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA cache_size = -8000")
                migrate(connection, migrations)
                connection.execute("PRAGMA busy_timeout = 0")  # the loop never waits for a lock; the thread does
            except sqlite3.Error as error:
                raise StorageError(
                    f"cannot open {path}: {error}; is the folder writable and the disk not full?"
                ) from error
            return connection

        return cls(path, await asyncio.to_thread(connect), durability)

    def submit(self, work: Work, *, large: bool = False) -> "asyncio.Future[Any]":
        """Queues work and returns at once; the future is done when it is committed.

        Small is what takes well under a millisecond: a few rows by their keys. Cancelling the future does not stop it.
        """
        item = Item(work, self._loop.create_future())
        if large or self._handed or self._closed or self._loop.time() < self._here_from:
            self._hand(item)
        else:
            self._soon.append(item)
            if len(self._soon) == 1:
                self._loop.call_soon(self._flush)
        return item.future

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work`, however large, in a transaction on the thread, and returns its result once committed.

        Raises sqlite3.Error as it comes.
        """
        return await self.submit(work, large=True)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on a connection that cannot write; it sees everything committed before."""
        return await self._loop.run_in_executor(self._readers, lambda: work(self._reader()))

    async def close(self) -> None:
        """Commits what is queued, folds the log into the file, and closes."""
        if self._closed:
            return
        self._hand()
        self._closed = True
        if self._tending is not None:
            self._tending.cancel()
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self._writer.close)

    def _hand(self, *items: Item) -> None:
        """Gives what waits, and then `items`, to the thread."""
        waiting = [*self._soon, *items]
        self._soon = []
        if self._closed:
            settle([Outcome(item, error=StorageError(f"{self.path.name} is closed")) for item in waiting])
            return
        self._handed += len(waiting)
        self._writer.take(waiting)

    def _flush(self) -> None:
        """Commits what was submitted during this turn of the loop."""
        group, began = self._soon, self._loop.time()
        if not group:
            return
        outcomes = commit(self._connection, group)
        self._soon = group[len(outcomes) :]
        settle(outcomes)
        if self._soon:  # another program is writing
            self._hand()
        ended = self._loop.time()
        if ended - began > _SLOW_SECONDS:
            self._here_from = ended + _SLOW_PAUSE
        self._written()

    def _tell(self, outcomes: list[Outcome]) -> None:
        """Called on the thread when it has committed a group."""

        def told() -> None:
            self._handed -= len(outcomes)
            settle(outcomes)
            self._written()

        with suppress(RuntimeError):  # the loop is gone; the work is committed all the same
            self._loop.call_soon_threadsafe(told)

    def _written(self) -> None:
        if self._tending is None and not self._closed:
            self._tending = self._loop.call_later(_TEND_SECONDS, self._tend)

    def _tend(self) -> None:
        """Folds the log into the file beside the writers; one that grows all the same is cut while they pause."""
        self._tending = None
        if _size(self.path.with_name(f"{self.path.name}-wal")) > _LOG_BYTES:
            self._hand(Item(None, self._loop.create_future()))
        else:
            self._loop.run_in_executor(self._readers, _fold, self.path)

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
        return connection


def _fold(path: Path) -> None:
    """Writes what the log holds into the file, as far as no reader still needs the old state."""
    with suppress(sqlite3.Error):  # a busy or full disk: the log stays, the next time tries again
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
