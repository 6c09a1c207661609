"""The database keeps what it says it kept: group commit, isolation of failures, kill -9."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loam.core.errors import StorageError
from loam.storage.database import Database
from loam.storage.folder import DataFolder
from loam.storage.migrations import Migration, migrate

pytestmark = pytest.mark.anyio
MIGRATIONS = (Migration("t-001", "CREATE TABLE t (n INTEGER PRIMARY KEY)"),)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "t.db", MIGRATIONS)
    yield database
    await database.close()


def insert(n: int):
    return lambda connection: connection.execute("INSERT INTO t VALUES (?)", (n,)).rowcount


async def count(database: Database) -> int:
    return await database.read(lambda connection: connection.execute("SELECT count(*) FROM t").fetchone()[0])


async def test_a_write_is_seen_by_the_next_read(database: Database) -> None:
    assert await database.write(insert(1)) == 1
    assert await count(database) == 1


async def test_one_failing_write_takes_nothing_of_its_group(database: Database) -> None:
    writes = [database.submit(insert(n)) for n in (1, 2, 2, 3, 1, 4)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(result, sqlite3.IntegrityError) for result in results] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    assert await count(database) == 4


async def test_a_cancelled_waiter_does_not_stop_its_write(database: Database) -> None:
    future = database.submit(insert(1))
    future.cancel()
    await database.write(insert(2))
    assert await count(database) == 2


async def test_work_is_done_in_the_order_given_wherever_it_is_done(database: Database) -> None:
    done: list[int] = []
    waiting = [
        database.submit(lambda connection, n=n: done.append(n), large=n % 7 in (3, 4) or 40 < n < 60)
        for n in range(100)
    ]
    await asyncio.sleep(0)
    waiting += [database.submit(lambda connection, n=n: done.append(n)) for n in range(100, 120)]
    await asyncio.gather(*waiting)
    assert done == list(range(120))


async def test_small_work_is_done_on_the_loop_and_large_work_on_the_thread(database: Database) -> None:
    def where(connection: sqlite3.Connection) -> str:
        return threading.current_thread().name

    here = threading.current_thread().name
    assert await database.submit(where) == here
    assert await database.write(where) == await database.submit(where, large=True) != here
    assert await database.submit(where) == here


async def test_a_commit_that_must_outlive_a_power_cut_never_holds_up_the_loop(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "t.db", MIGRATIONS, durability="power")
    name = await database.submit(lambda connection: threading.current_thread().name)
    await database.close()
    assert name != threading.current_thread().name


async def test_a_slow_disk_sends_the_work_to_the_thread_for_a_while(database: Database) -> None:
    await database.submit(lambda connection: time.sleep(0.05))
    name = await database.submit(lambda connection: threading.current_thread().name)
    assert name != threading.current_thread().name


async def test_while_another_program_writes_the_loop_goes_on_and_the_work_waits(database: Database) -> None:
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writes = [database.submit(insert(n)) for n in range(3)]
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert not any(write.done() for write in writes)
    other.execute("COMMIT")
    other.close()
    assert await asyncio.gather(*writes) == [1, 1, 1]


async def test_a_log_that_grew_is_cut(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    log = database.path.with_name(f"{database.path.name}-wal")
    monkeypatch.setattr("loam.storage.database._LOG_BYTES", 100_000)
    await database.write(lambda connection: [insert(n)(connection) for n in range(20_000)])
    assert log.stat().st_size > 100_000
    database._tend()
    await database.write(insert(20_001))
    assert log.stat().st_size < 100_000
    assert await count(database) == 20_001


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(insert(1))


async def test_closing_commits_what_is_queued_and_refuses_what_comes_later(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "t.db", MIGRATIONS)
    for n in range(500):
        database.submit(insert(n))
    await database.close()
    with pytest.raises(StorageError, match="closed"):
        await database.write(insert(501))
    with sqlite3.connect(tmp_path / "t.db") as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (500,)
    connection.close()


async def test_a_full_disk_fails_that_write_and_later_ones_work(database: Database) -> None:
    pages = await database.read(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await database.write(lambda connection: None)
    database._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await database.write(lambda connection: [insert(n)(connection) for n in range(5000)])
    database._connection.execute("PRAGMA max_page_count = 1000000")
    assert await database.write(insert(1)) == 1
    assert await count(database) == 1


CHILD = """
import asyncio, sys
from pathlib import Path
from loam.storage.database import Database
from loam.storage.migrations import Migration

async def main():
    database = await Database.open(Path(sys.argv[1]), [Migration("t-001", "CREATE TABLE t (n INTEGER PRIMARY KEY)")])
    async def one(start):
        for n in range(start, start + 100_000):
            await database.write(lambda c: c.execute("INSERT INTO t VALUES (?)", (n,)))
            print(n, flush=True)
    await asyncio.gather(*(one(k * 1_000_000) for k in range(8)))

asyncio.run(main())
"""


async def test_what_was_reported_written_survives_kill_9(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "t.db")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    reported = [int(child.stdout.readline()) for _ in range(2000)]
    os.kill(child.pid, signal.SIGKILL)
    reported += [int(line) for line in child.stdout.read().splitlines() if line.isdigit()]
    child.stdout.close()
    child.wait()
    connection = sqlite3.connect(tmp_path / "t.db")
    kept = {row[0] for row in connection.execute("SELECT n FROM t")}
    connection.close()
    assert set(reported[:2000]) <= kept


def test_migrations_run_once_and_newer_data_is_refused() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    more = (*MIGRATIONS, Migration("t-002", "ALTER TABLE t ADD COLUMN x TEXT;\nCREATE INDEX i ON t (x);"))
    assert migrate(connection, MIGRATIONS) == ["t-001"]
    assert migrate(connection, more) == ["t-002"]
    assert migrate(connection, more) == []
    with pytest.raises(StorageError, match="newer Loam"):
        migrate(connection, MIGRATIONS)
    connection.close()


def test_a_failing_migration_leaves_the_file_as_it_was() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    broken = (Migration("b-001", "CREATE TABLE b (n);\nCREATE TABLE b (n);"),)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, broken)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'b'").fetchone() == (0,)
    connection.close()


def test_a_trigger_keeps_its_semicolons() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    sql = """
    CREATE TABLE a (n);
    CREATE TABLE log (n);
    CREATE TRIGGER keep AFTER INSERT ON a BEGIN
        INSERT INTO log VALUES (new.n);
        INSERT INTO log VALUES (new.n + 1);
    END;
    """
    migrate(connection, [Migration("a-001", sql)])
    connection.execute("INSERT INTO a VALUES (1)")
    assert connection.execute("SELECT n FROM log ORDER BY n").fetchall() == [(1,), (2,)]
    connection.close()


def test_a_folder_has_one_owner_and_kill_9_frees_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from loam.storage.folder import DataFolder\n"
        "with DataFolder(pathlib.Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"mine\n"
    with pytest.raises(StorageError, match=f"process {child.pid}"), DataFolder(tmp_path):
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    child.stdin.close()
    with DataFolder(tmp_path) as folder:
        assert (folder.path / "lock").read_text() == str(os.getpid())
