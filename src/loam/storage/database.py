"""A SQLite file with one writer thread, group commit, and a few readers.

Knows SQLite; knows no table: rooms bring their own migrations and SQL.
Invariant: when `write` returns, the work is committed to the write-ahead log, so it outlives a killed process; pieces
of work that were waiting together share one transaction, and one that fails takes nothing of the others with it.

```python
database = await Database.open(path, migrations)
await database.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)"))
rows = await database.read(lambda connection: connection.execute("SELECT * FROM t").fetchall())
await database.close()
```
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from loam.core.errors import StorageError
from loam.storage.migrations import Migration, migrate

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
Durability = Literal["process", "power"]
"""process: a commit survives kill -9. power: it also survives the machine losing power (an fsync a group)."""

_GROUP = 256  # pieces of work in one transaction at most
_WAL_PAGES = 20_000  # an idle writer checkpoints; under constant load the log may grow to 80 MB before it does


class _Item:
    __slots__ = ("future", "work")

    def __init__(self, work: Work, future: "asyncio.Future[Any]") -> None:
        self.work = work
        self.future = future


class Database:
    """Use `Database.open`. Belongs to the event loop that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._run, name=f"loam-writer-{path.name}", daemon=True)
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
                connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA cache_size = -8000")
                migrate(connection, migrations)
            except sqlite3.Error as error:
                raise StorageError(
                    f"cannot open {path}: {error}; is the folder writable and the disk not full?"
                ) from error
            return connection

        return cls(path, await asyncio.to_thread(connect))

    def submit(self, work: Work) -> "asyncio.Future[Any]":
        """Queues `work` and returns at once; the future is done when the work is committed.

        The work runs on the writer thread. Cancelling the future does not stop the work.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            future.set_exception(StorageError(f"{self.path.name} is closed"))
            return future
        self._queue.put(_Item(work, future))
        return future

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a transaction and returns its result once committed. Raises sqlite3.Error as it comes."""
        return await self.submit(work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on a connection that cannot write; it sees everything committed before."""
        return await self._loop.run_in_executor(self._readers, lambda: work(self._reader()))

    async def close(self) -> None:
        """Commits what is queued, folds the log into the file, and closes."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
        return connection

    def _run(self) -> None:
        """The writer thread: takes what waits, commits it together, tells the loop once."""
        open_ = True
        while open_:
            try:
                item = self._queue.get(timeout=1.0)
            except queue.Empty:
                self._checkpoint()
                item = self._queue.get()
            group: list[_Item] = []
            while item is not None:
                group.append(item)
                if len(group) == _GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            open_ = item is not None
            if group:
                self._tell(self._commit(group))
        self._checkpoint()
        self._connection.close()

    def _commit(self, group: list[_Item]) -> list[tuple["asyncio.Future[Any]", Any, BaseException | None]]:
        try:
            results = self._transact([item.work for item in group])
        except Exception as error:  # noqa: BLE001 - whatever a piece of work raises belongs to whoever awaits it
            if len(group) == 1:
                return [(group[0].future, None, error)]
            return [outcome for item in group for outcome in self._commit([item])]
        return [(item.future, result, None) for item, result in zip(group, results, strict=True)]

    def _transact(self, works: list[Work]) -> list[Any]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [work(connection) for work in works]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results

    def _tell(self, outcomes: list[tuple["asyncio.Future[Any]", Any, BaseException | None]]) -> None:
        def settle() -> None:
            for future, result, error in outcomes:
                if future.done():
                    continue
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop is gone; the work is committed all the same
            return

    def _checkpoint(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error:
            time.sleep(0.1)  # a busy or full disk: the log stays, the next idle second tries again
