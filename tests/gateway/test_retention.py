"""Old bodies go, then old calls, in small pieces; nothing young goes, whatever the clock once said."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loam.core.calls import Delta
from loam.gateway.feedback import Opinion
from loam.gateway.retention import Retention, RetentionSettings, Swept
from tests.gateway.records import ANN, START, Shelf, asked, shelf

pytestmark = pytest.mark.anyio
DAY = 86_400


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with shelf(tmp_path / "loam.db") as records:
        yield records


def retention(records: Shelf, settings: RetentionSettings | None = None) -> Retention:
    return Retention(records.database, records.clock, settings or RetentionSettings(body_days=30, call_days=400))


async def made_on(records: Shelf, *days: float) -> None:
    for number, day in enumerate(days, 1):
        records.clock.at = START + day * DAY
        await records.made(asked(number))


def kept(records: Shelf, table: str) -> list[int]:
    rows = records.sql("SELECT id FROM calls" + (" JOIN bodies ON call = seq" if table == "bodies" else ""))
    return [int(row[0][-4:]) for row in rows]


async def test_bodies_go_before_calls(records: Shelf) -> None:
    await made_on(records, 0, 100, 380, 395, 401)
    assert await retention(records).run_once(START + 402 * DAY) == Swept(bodies=2, calls=1, pages=0)
    assert kept(records, "bodies") == [3, 4, 5]
    assert kept(records, "calls") == [2, 3, 4, 5]
    record = await records.history.show("call_0002")
    assert (record.request, record.response, record.call.cost_micro) == (None, None, 120)
    assert await retention(records).run_once(START + 402 * DAY) == Swept(0, 0, 0)


async def test_feedback_goes_with_its_call(records: Shelf) -> None:
    await made_on(records, 0, 100)
    for number in (1, 2):
        await records.feedback.add(f"call_000{number}", Opinion("up"), by=ANN, now=START)
    await retention(records).run_once(START + 402 * DAY)
    assert records.sql("SELECT call_id FROM feedback") == [("call_0002",)]


async def test_what_seems_to_come_from_the_future_stays_and_holds_nothing_up(records: Shelf) -> None:
    await made_on(records, 0, 9000, 9000, 1, 2, 390)
    await retention(records).run_once(START + 403 * DAY)
    assert kept(records, "calls") == [2, 3, 6]
    assert kept(records, "bodies") == [2, 3, 6]


async def test_a_machine_that_wakes_up_in_1970_takes_nothing_away(records: Shelf) -> None:
    await made_on(records, 0, 1, 2)
    assert await retention(records).run_once(0.0) == Swept(0, 0, 0)
    assert kept(records, "bodies") == [1, 2, 3]


async def test_a_call_dated_too_far_back_takes_no_young_one_along(records: Shelf) -> None:
    await made_on(records, 400, -5000, 401)
    await retention(records).run_once(START + 402 * DAY)
    assert kept(records, "calls") == [1, 2, 3]  # it waits for its turn behind the first


@pytest.mark.parametrize("seed", range(4))
async def test_it_agrees_with_a_plain_list(records: Shelf, seed: int) -> None:
    days = sorted(random.Random(seed).uniform(0, 800) for _ in range(300))
    await made_on(records, *days)
    await retention(records).run_once(START + 800 * DAY)
    assert kept(records, "calls") == [number for number, day in enumerate(days, 1) if day >= 400]
    assert kept(records, "bodies") == [number for number, day in enumerate(days, 1) if day >= 770]


async def test_a_large_database_loses_its_oldest_bodies_early(records: Shelf) -> None:
    for number in range(400):
        await records.made(asked(number, body=random.Random(number).randbytes(6000)))
    size = records.sql("PRAGMA page_count")[0][0] * 4096
    settings = RetentionSettings(max_megabytes=0.7 * size / 1_000_000)
    swept = await retention(records, settings).run_once(records.clock.now())
    assert swept.bodies == 200  # one batch is enough
    assert kept(records, "bodies") == list(range(swept.bodies, 400))
    assert len(kept(records, "calls")) == 400


async def test_with_nothing_left_to_take_it_gives_up(records: Shelf) -> None:
    await made_on(records, 0, 1)
    swept = await retention(records, RetentionSettings(max_megabytes=0.001)).run_once(records.clock.now())
    assert swept.bodies == 2


async def test_free_pages_go_back_to_the_disk(records: Shelf) -> None:
    for number in range(2000):
        await records.made(asked(number), Delta(text=random.Random(number).randbytes(4000).hex()))
    before = records.sql("PRAGMA page_count")[0][0]
    swept = await retention(records).run_once(records.clock.now() + 100 * DAY)
    assert (swept.bodies, swept.calls) == (2000, 0)
    assert records.sql("PRAGMA page_count")[0][0] == before - swept.pages < 2000  # a small file may have some to spare


async def test_others_write_while_it_works(records: Shelf) -> None:
    for number in range(2000):
        await records.made(asked(number), Delta(text=random.Random(number).randbytes(1000).hex()))
    written = 0
    sweeping = asyncio.create_task(retention(records).run_once(records.clock.now() + 100 * DAY))
    while not sweeping.done():
        await records.database.write(lambda connection: None)
        written += 1
        await asyncio.sleep(0)
    assert (await sweeping).bodies == 2000
    assert written >= 5  # one for each piece of the sweep, or nearly: none of them holds the writer for long


async def test_it_runs_now_and_then_and_outlives_an_error(records: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    await made_on(records, 0, 29)
    rounds: list[int] = []

    class Stop(Exception):
        pass

    async def sleep(seconds: float) -> None:
        if seconds < 1:
            return
        rounds.append(len(kept(records, "calls")))
        if len(rounds) == 3:
            raise Stop
        rename = "ALTER TABLE feedback RENAME TO gone" if len(rounds) == 1 else "ALTER TABLE gone RENAME TO feedback"
        await records.database.write(lambda connection: connection.execute(rename))
        records.clock.at += 402 * DAY if len(rounds) == 1 else 0

    records.clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(Stop):
        await retention(records, RetentionSettings(every_minutes=60)).run()
    assert rounds == [2, 2, 0]
    assert "old calls could not be taken away" in caplog.text
