"""The ledger read back: filtered, paged, summed, followed; checked against plain Python over the same rows."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from loam.core.calls import Controls, Delta, Usage
from loam.core.errors import ModelFailure, fail
from loam.gateway.calls import Entry
from loam.gateway.history import CallFilter, CallPage, CallRecord, CallStats
from tests.gateway.records import ANN, ANSWER, BOB, START, Shelf, asked, shelf

pytestmark = pytest.mark.anyio
DAY = 86_400


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with shelf(tmp_path / "loam.db") as records:
        yield records


async def filled(records: Shelf) -> None:
    """Six settled calls on three days, and an open one."""
    failure = fail("rate_limit", "acme", "Too many Requests this minute", status=429)
    await records.made(asked(1))
    await records.made(asked(2, principal=BOB))
    records.clock.move(DAY)
    with pytest.raises(ModelFailure):
        await records.made(asked(3), failure)
    await records.made(asked(4, model="strong", controls=Controls(user="customer-8")))
    records.clock.move(DAY)
    await records.made(asked(5, principal=BOB), price=None)
    await records.made(asked(6))
    await records.log.open(Entry(asked(7), records.clock.now(), 0.0, "none"))


def at(days: float) -> datetime:
    return datetime.fromtimestamp(START + days * DAY, UTC)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (CallFilter(), [7, 6, 5, 4, 3, 2, 1]),
        (CallFilter(user="bob"), [5, 2]),
        (CallFilter(key_id="key_ann"), [7, 6, 4, 3, 1]),
        (CallFilter(team="sales", state="done"), [5, 2]),
        (CallFilter(end_user="customer-8"), [4]),
        (CallFilter(model="strong"), [4]),
        (CallFilter(model="large"), [6, 5, 4, 3, 2, 1]),
        (CallFilter(provider="acme", user="ann"), [6, 4, 3, 1]),
        (CallFilter(state="failed"), [3]),
        (CallFilter(state="open"), [7]),
        (CallFilter(failure="too MANY"), [3]),
        (CallFilter(failure="rate_limit"), [3]),
        (CallFilter(failure="%"), []),
        (CallFilter(since=at(0.9)), [7, 6, 5, 4, 3]),
        (CallFilter(until=at(0.9)), [2, 1]),
        (CallFilter(since=at(0.9), until=at(1.9), user="ann"), [4, 3]),
        (CallFilter(user="' OR 1 --"), []),
    ],
)
async def test_a_page_has_the_calls_that_were_asked_for(records: Shelf, wanted: CallFilter, numbers: list[int]) -> None:
    await filled(records)
    page = await records.history.page(wanted)
    assert [call.id for call in page.calls] == [f"call_{number:04}" for number in numbers]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
async def test_pages_join_without_gap_or_double(records: Shelf, limit: int) -> None:
    await filled(records)
    found: list[str] = []
    page = CallPage([], "call_9999")
    while page.before:
        page = await records.history.page(CallFilter(limit=limit, before=page.before))
        found += [call.id for call in page.calls]
    assert found == [f"call_{number:04}" for number in range(7, 0, -1)]


async def test_a_page_is_found_by_an_index_not_by_sorting(records: Shelf) -> None:
    plan = records.sql("EXPLAIN QUERY PLAN SELECT * FROM every_call WHERE key_id = 'k' ORDER BY id DESC LIMIT 50")
    text = " ".join(row[3] for row in plan)
    assert "calls_by_key" in text
    assert "SCAN calls" not in text


async def test_a_query_string_becomes_a_filter() -> None:
    query = {"since": "2027-01-15T08:00:00Z", "limit": "20", "state": "done"}
    wanted = msgspec.convert(query, CallFilter, strict=False)
    assert (wanted.since, wanted.limit, wanted.state) == (at(0), 20, "done")
    for wrong in ({"limit": "0"}, {"since": "2027-01-15T08:00:00"}, {"state": "gone"}, {"nonsense": "1"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, CallFilter, strict=False)


async def test_the_whole_record_goes_out_as_json_and_comes_back(records: Shelf) -> None:
    await records.made(asked())
    record = await records.history.show("call_0001")
    assert msgspec.json.decode(msgspec.json.encode(record), type=CallRecord) == record


async def test_a_call_of_another_key_is_not_found(records: Shelf) -> None:
    await records.made(asked())
    assert (await records.history.show("call_0001", key_id=ANN.key_id)).call.user == "ann"
    for call_id, key_id in (("call_0001", BOB.key_id), ("call_0002", "")):
        with pytest.raises(ModelFailure) as caught:
            await records.history.show(call_id, key_id=key_id)
        assert caught.value.failure.kind == "not_found"


async def test_a_body_that_is_no_json_is_shown_as_text(records: Shelf) -> None:
    await records.made(asked(body=b"\xffhello"))
    request = (await records.history.show("call_0001")).request
    assert request is not None
    assert request.content == "\ufffdhello"


async def test_tail_follows_the_order_of_ending_and_misses_none(records: Shelf) -> None:
    await filled(records)
    await records.made(asked(0))  # an older id that ends last
    last = await records.history.tail(limit=2)
    assert [call.id for call in last] == ["call_0006", "call_0000"]
    seen: list[str] = []
    after = 0
    while batch := await records.history.tail(after, limit=2):
        seen += [call.id for call in batch]
        after = batch[-1].seq
    assert seen == ["call_0001", "call_0002", "call_0003", "call_0004", "call_0005", "call_0006", "call_0000"]


async def test_sums_of_groups(records: Shelf) -> None:
    await filled(records)
    by_user = {row.name: row for row in await records.history.stats("user", CallFilter())}
    assert list(by_user) == ["ann", "bob"]
    ann, bob = by_user["ann"], by_user["bob"]
    assert (ann.calls, ann.failed, ann.input_tokens, ann.output_tokens, ann.cached_tokens) == (4, 1, 30, 12, 18)
    assert (ann.cost_micro, ann.unpriced, bob.cost_micro, bob.unpriced) == (480, 0, 120, 1)
    days = await records.history.stats("day", CallFilter())
    assert [(row.name, row.calls) for row in days] == [("2027-01-15", 2), ("2027-01-16", 2), ("2027-01-17", 2)]
    assert [row.name for row in await records.history.stats("model", CallFilter(state="done"))] == ["fast", "strong"]
    everything = await records.history.stats("all", CallFilter(user="bob"))
    assert [(row.name, row.calls) for row in everything] == [("", 2)]


async def test_percentiles_are_those_of_the_sorted_list(records: Shelf) -> None:
    chance = random.Random(3)
    latencies: list[int] = []
    for number in range(57):
        wait = chance.randrange(1, 900)
        records.clock.move(1.0)
        steps = (Delta(text="a"), Delta(usage=Usage(1, 1)))

        async def inner(call: object, wait: int = wait, steps: tuple[Delta, ...] = steps):
            for delta in steps:
                records.clock.move(wait / 1000)
                yield delta

        async for _ in records.ledger(type("Inner", (), {"answer": staticmethod(inner)})()).answer(asked(number)):
            pass
        latencies.append(2 * wait * 1000)
    (row,) = await records.history.stats("all", CallFilter())
    latencies.sort()

    def rank(percent: int) -> int:
        return latencies[(len(latencies) * percent + 99) // 100 - 1]

    near = pytest.approx([rank(50), rank(95), rank(99), rank(50) / 2, rank(95) / 2], abs=2)
    assert [row.latency_us_p50, row.latency_us_p95, row.latency_us_p99, row.ttft_us_p50, row.ttft_us_p95] == near


async def test_calls_without_a_first_token_do_not_count_in_its_percentile(records: Shelf) -> None:
    await records.made(asked(1), *ANSWER)
    for number in range(2, 12):
        with pytest.raises(ModelFailure):
            await records.made(asked(number), fail("server", "acme", "broke"))
    (row,) = await records.history.stats("all", CallFilter())
    assert (row.calls, row.ttft_us_p50, row.ttft_us_p95) == (11, 1_000_000, 1_000_000)


async def test_no_calls_no_groups(records: Shelf) -> None:
    assert await records.history.stats("day", CallFilter()) == []
    assert CallStats.__struct_fields__[0] == "name"
