"""Groups of small transactions made one: how work is committed together, here or on a thread of its own.

Knows SQLite connections and futures; who may use a connection when is `loam.storage.database`'s matter.
Invariant: a piece of work that fails is undone alone; the rest of its group is committed as if it had not been there.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

Work = Callable[[sqlite3.Connection], Any]

_GROUP = 256  # pieces of work in one transaction at most
_PATIENCE = 10_000  # milliseconds that the thread waits while another program writes
_CUT_PATIENCE = 200  # milliseconds that all writers wait for a reader who keeps the log from being cut


class Item:
    """Work and who waits for it. Without `work` it is a wish to cut the write-ahead log."""

    __slots__ = ("future", "work")

    def __init__(self, work: Work | None, future: "asyncio.Future[Any]") -> None:
        self.work = work
        self.future = future


class Outcome:
    """What came of a piece of work: a result that is committed, or an error."""

    __slots__ = ("error", "item", "result")

    def __init__(self, item: Item, result: Any = None, error: BaseException | None = None) -> None:
        self.item = item
        self.result = result
        self.error = error


def commit(connection: sqlite3.Connection, group: Sequence[Item]) -> list[Outcome]:
    """Does the group's work in one transaction, or one by one where any of it fails.

    The outcomes are those of the group's first pieces: of all, unless another program locks the file.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:  # the low byte of every kind of busy
            return []
        return [Outcome(item, error=error) for item in group]
    try:
        results = [item.work(connection) if item.work is not None else None for item in group]
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if not isinstance(error, Exception):
            raise
        return [Outcome(group[0], error=error)] if len(group) == 1 else _one_by_one(connection, group)
    return [Outcome(item, result) for item, result in zip(group, results, strict=True)]


def _one_by_one(connection: sqlite3.Connection, group: Sequence[Item]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for item in group:
        one = commit(connection, [item])
        if not one:
            break
        outcomes += one
    return outcomes


def settle(outcomes: Sequence[Outcome]) -> None:
    """Tells who waits. To be called on the loop that their futures belong to."""
    for outcome in outcomes:
        future = outcome.item.future
        if future.done():
            continue
        if outcome.error is None:
            future.set_result(outcome.result)
        else:
            future.set_exception(outcome.error)


class Writer:
    """The thread that commits what it is given, as many pieces at once as are waiting, and `tells` of each group."""

    def __init__(self, name: str, connection: sqlite3.Connection, tell: Callable[[list[Outcome]], None]) -> None:
        self._connection = connection
        self._tell = tell
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, items: Sequence[Item]) -> None:
        for item in items:
            self._queue.put(item)

    def close(self) -> None:
        """Returns when all work is done and the connection closed."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        item = self._queue.get()
        while item is not None:
            group = [item]
            item = self._next()
            while item is not None and len(group) < _GROUP:
                group.append(item)
                item = self._next()
            self._tell(self._commit(group))
            item = item or self._queue.get()
        self._cut()
        self._connection.close()

    def _next(self) -> Item | None:
        """What waits, if anything does; the wish to end is put back for `_run` to find."""
        with suppress(queue.Empty):
            item = self._queue.get_nowait()
            if item is None:
                self._queue.put(None)
            return item
        return None

    def _commit(self, group: list[Item]) -> list[Outcome]:
        connection = self._connection
        connection.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
        outcomes = commit(connection, group)
        locked = sqlite3.OperationalError(f"database is locked: another program wrote for {_PATIENCE / 1000:g} s")
        outcomes += [Outcome(item, error=locked) for item in group[len(outcomes) :]]
        if any(item.work is None for item in group):
            self._cut()
        connection.execute("PRAGMA busy_timeout = 0")
        return outcomes

    def _cut(self) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {_CUT_PATIENCE}")
        with suppress(sqlite3.Error):  # a busy or full disk: the log stays, the next time tries again
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
