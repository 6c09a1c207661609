"""The ledger's tables: made by migrations, filled from one place, and honest about calls that nobody finished."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loam.core.answers import Collector
from loam.core.calls import Delta
from loam.core.errors import fail
from loam.gateway.calls import MIGRATIONS, Ending, Entry
from loam.gateway.history import CallFilter, CallRow
from loam.storage.database import Database
from loam.storage.migrations import migrate
from tests.gateway import records as made
from tests.gateway.records import Shelf, asked, shelf

pytestmark = pytest.mark.anyio


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with shelf(tmp_path / "loam.db") as records:
        yield records


def ending(*deltas: Delta) -> Ending:
    said = Collector()
    for delta in deltas:
        said.add(delta)
    return Ending("done", 2.0, 1.0, said)


async def test_a_file_of_the_first_migration_alone_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old = sqlite3.connect(path, isolation_level=None)
    migrate(old, MIGRATIONS[:1])
    old.execute(
        "INSERT INTO open_calls VALUES "
        "('call_old', 1, 'openai', 'chat', 0, 'm', '', '', '', '', '{}', 'none', NULL, NULL)"
    )
    old.close()
    async with shelf(path) as records:
        assert await records.log.mark_lost() == 1
        await records.made(asked())
        assert [call.id for call in (await records.history.page(CallFilter())).calls] == ["call_old", "call_0001"]


def test_the_columns_are_those_that_are_read_back() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, made.MIGRATIONS)
    for table in ("calls", "every_call"):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        assert tuple(columns) == CallRow.__struct_fields__


def test_every_table_of_the_first_migration_is_still_called_the_same() -> None:
    tables = re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", MIGRATIONS[0].sql)
    assert tables == ["calls", "bodies", "open_calls", "every_call", "call_attempts"]


async def test_open_calls_are_seen_and_then_lost(records: Shelf) -> None:
    await records.log.open(Entry(asked(1), made.START, 0.0, "none"))
    call = (await records.history.show("call_0001")).call
    assert (call.state, call.seq, call.latency_us, call.attempts) == ("open", 0, None, ())
    assert await records.log.mark_lost() == 1
    record = await records.history.show("call_0001")
    assert (record.call.state, record.call.cost_micro, record.response) == ("lost", None, None)
    assert record.request is not None
    assert record.request.content["model"] == "fast"
    assert await records.log.mark_lost() == 0


async def test_an_outcome_stands_without_its_intent(records: Shelf) -> None:
    entry = Entry(asked(1), made.START, 0.0, "none")
    await records.log.settle(entry, ending(Delta(text="yes", finish="stop")))
    record = await records.history.show("call_0001")
    assert record.call.state == "done"
    assert record.request is not None
    assert record.response is not None


async def test_a_call_is_settled_once(records: Shelf) -> None:
    entry = Entry(asked(1), made.START, 0.0, "none")
    await records.log.open(entry)
    await records.log.settle(entry, ending(Delta(text="first")))
    with pytest.raises(sqlite3.IntegrityError):
        await records.log.settle(entry, ending(Delta(text="second")))
    assert "first" in str((await records.history.show("call_0001")).response)


async def test_two_open_calls_cannot_share_an_id(records: Shelf) -> None:
    one, other = (Entry(asked(1), made.START, 0.0, "none") for _ in range(2))
    await records.log.open(one)
    with pytest.raises(sqlite3.IntegrityError):
        await records.log.open(other)


async def test_a_failed_neighbour_in_one_transaction_takes_nothing_along(records: Shelf) -> None:
    entries = [Entry(asked(number), made.START, 0.0, "none") for number in (1, 2, 1, 3)]
    outcomes = await asyncio.gather(*map(records.log.open, entries), return_exceptions=True)
    assert [isinstance(outcome, sqlite3.IntegrityError) for outcome in outcomes] == [False, False, True, False]
    await asyncio.gather(*(records.log.settle(entries[index], ending(Delta(text="x"))) for index in (0, 1, 3)))
    assert records.sql("SELECT id FROM calls") == [("call_0001",), ("call_0002",), ("call_0003",)]
    assert records.sql("SELECT count(*) FROM open_calls") == [(0,)]


async def test_attempts_can_be_asked_for_in_sql(records: Shelf) -> None:
    await records.made(asked(1))
    with pytest.raises(Exception, match="acme is busy"):
        await records.made(asked(2), fail("overloaded", "acme", "acme is busy", status=529))
    rows = records.sql(
        "SELECT call_id, number, provider, started_at, waited_us, latency_us, outcome, message, cost_micro "
        "FROM call_attempts ORDER BY call_id"
    )
    at = int(made.START * 1e6)
    assert rows == [
        ("call_0001", 1, "acme", at, 0, 2_500_000, "done", "", None),
        ("call_0002", 1, "acme", at + 2_500_000, 0, 500_000, "failed", "acme is busy", None),
    ]


async def test_what_is_settled_is_never_changed(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "loam.db", made.MIGRATIONS)
    statements: list[str] = []
    await database.write(lambda connection: connection.set_trace_callback(statements.append))
    await database.close()
    async with shelf(tmp_path / "loam.db") as records:
        await records.database.write(lambda connection: connection.set_trace_callback(statements.append))
        for number in range(3):
            await records.made(asked(number))
        await records.database.write(lambda connection: connection.set_trace_callback(None))
    assert [text for text in statements if text.startswith("INSERT INTO calls")]
    assert not [text for text in statements if text.startswith(("UPDATE", "REPLACE"))]
