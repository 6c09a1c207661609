"""Groups of work when something is in the way: a failing piece, another program, an interruption."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from loam.storage.groups import Item, commit

pytestmark = pytest.mark.anyio


@pytest.fixture
def connection(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "t.db", isolation_level=None, timeout=0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    yield connection
    connection.close()


def item(work) -> Item:
    return Item(work, asyncio.get_running_loop().create_future())


def insert(n: int):
    return lambda connection: connection.execute("INSERT INTO t VALUES (?)", (n,)).rowcount


async def test_a_locked_file_leaves_the_whole_group_undone(connection: sqlite3.Connection, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert commit(connection, [item(insert(1)), item(insert(2))]) == []
    other.execute("ROLLBACK")
    other.close()
    assert [outcome.result for outcome in commit(connection, [item(insert(1)), item(insert(2))])] == [1, 1]


async def test_a_program_that_locks_between_two_pieces_harms_neither(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    """The group fails once as a whole; done one by one, the file is locked before the third piece."""
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None, timeout=0)
    failures = 0

    def fails(connection: sqlite3.Connection) -> None:
        nonlocal failures
        failures += 1
        raise ValueError("mine alone")

    def locks_after(connection: sqlite3.Connection) -> None:
        if failures == 2:  # alone now: the commit that follows is this piece's last step
            connection.execute("COMMIT")
            other.execute("BEGIN IMMEDIATE")
            connection.execute("BEGIN")

    group = [item(insert(1)), item(fails), item(locks_after), item(insert(2))]
    outcomes = commit(connection, group)
    assert [str(outcome.error or "") for outcome in outcomes] == ["", "mine alone", ""]
    assert outcomes[0].result == 1
    other.execute("ROLLBACK")
    other.close()
    assert commit(connection, group[3:])[0].result == 1


async def test_an_interruption_leaves_no_transaction_open(connection: sqlite3.Connection) -> None:
    def interrupt(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (5)")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit(connection, [item(interrupt)])
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
