"""Promise P1, attacked: an answer that a client received whole is on record, and nothing is on record that was not."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec import structs

from loam.core.calls import Delta, Usage
from loam.core.errors import ModelFailure, fail
from loam.gateway.backoff import RetrySettings
from loam.gateway.ledger import LedgerSettings
from loam.gateway.retry import Retry
from tests.gateway.records import ANN, ANSWER, START, Answering, Shelf, asked, drain, shelf
from tests.gateway.virtual import Scripted

pytestmark = pytest.mark.anyio


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with shelf(tmp_path / "loam.db") as records:
        yield records


async def test_an_answer_passes_unchanged_and_leaves_a_whole_row(records: Shelf) -> None:
    assert await drain(records.ledger(Answering(records.clock, *ANSWER)).answer(asked())) == list(ANSWER)
    record = await records.history.show("call_0001")
    call = record.call
    assert (call.state, call.finish, call.started_at.timestamp()) == ("done", "stop", START)
    assert (call.family, call.task, call.stream, call.model) == ("openai", "chat", False, "fast")
    assert (call.key_id, call.user, call.end_user, call.team) == ("key_ann", "ann", "customer-7", "research")
    assert (call.answered_model, call.provider, call.tags) == ("large", "acme", {"env": "test"})
    assert (call.input_tokens, call.output_tokens, call.cached_tokens, call.usage_estimated) == (10, 4, 6, False)
    assert (call.counted_input, call.counted_output) == (11, 3)
    assert (call.cost_micro, call.provider_cost_micro, call.reserved_micro) == (120, 118, 900)
    assert (call.ttft_us, call.latency_us) == (1_000_000, 2_500_000)
    attempt = call.attempts[0]
    assert (attempt.provider, attempt.outcome, attempt.started_us, attempt.latency_us) == ("acme", "done", 0, 2_500_000)
    assert record.request is not None
    assert record.request.content["messages"][0]["content"] == "How are you?"
    assert record.response is not None
    assert record.response.content["choices"][0]["parts"] == [{"type": "text", "text": "Good morning."}]


async def test_the_intent_is_durable_before_anything_leaves(records: Shelf) -> None:
    found: list[object] = []

    def look() -> None:
        found.extend(records.sql("SELECT id, user FROM open_calls"))

    await drain(records.ledger(Answering(records.clock, look, *ANSWER)).answer(asked()))
    assert found == [("call_0001", "ann")]
    assert records.sql("SELECT * FROM open_calls") == []


async def test_the_outcome_is_durable_when_the_stream_ends(records: Shelf) -> None:
    for number in range(20):
        await drain(records.ledger(Answering(records.clock, *ANSWER)).answer(asked(number)))
        assert records.sql(
            "SELECT state, response IS NULL FROM calls JOIN bodies ON call = seq WHERE id = ?", f"call_{number:04}"
        ) == [("done", 0)]


async def test_a_failure_keeps_its_verdict_and_is_on_record(records: Shelf) -> None:
    error = fail("overloaded", "acme", "acme is busy", status=529)
    with pytest.raises(ModelFailure) as caught:
        await records.made(asked(), error)
    assert caught.value is error
    call = (await records.history.show("call_0001")).call
    assert (call.state, call.failure_kind, call.failure_status, call.failure_message) == (
        "failed",
        "overloaded",
        529,
        "acme is busy",
    )
    assert (call.input_tokens, call.output_tokens, call.ttft_us) == (0, 0, None)
    assert call.attempts[0].message == "acme is busy"


async def test_a_bug_is_on_record_without_its_words(records: Shelf) -> None:
    with pytest.raises(ZeroDivisionError):
        await records.made(asked(), ZeroDivisionError("secret"))
    call = (await records.history.show("call_0001")).call
    assert (call.state, call.failure_kind) == ("failed", "internal")
    assert "ZeroDivisionError" in call.failure_message
    assert "secret" not in call.failure_message


async def settled(records: Shelf, call_id: str = "call_0001") -> None:
    """Waits for what a cancelled call left in the writer's queue."""
    await records.database.write(lambda connection: None)
    assert records.sql("SELECT id FROM calls WHERE id = ?", call_id)


async def test_a_client_that_leaves_settles_the_call_with_what_was_sent(records: Shelf) -> None:
    stream = records.ledger(Answering(records.clock, *ANSWER)).answer(asked())
    async with aclosing(stream):
        async for delta in stream:
            if delta.text == "Good ":
                break
    await settled(records)
    record = await records.history.show("call_0001")
    assert (record.call.state, record.call.usage_estimated) == ("cancelled", True)
    assert (record.call.input_tokens, record.call.output_tokens, record.call.cost_micro) == (11, 1, 120)
    assert record.call.attempts[0].outcome == "cancelled"
    assert record.response is not None
    assert record.response.content["choices"][0]["parts"][0]["text"] == "Good "


async def test_a_cancelled_task_settles_the_call(records: Shelf) -> None:
    inner = Scripted([Delta(text="eight by"), 60.0])
    started = asyncio.Event()

    async def client() -> None:
        async with aclosing(records.ledger(inner).answer(asked())) as deltas:
            async for _ in deltas:
                started.set()

    task = asyncio.create_task(client())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settled(records)
    call = (await records.history.show("call_0001")).call
    assert (call.state, call.output_tokens, inner.closed) == ("cancelled", 2, 1)  # eight bytes, counted by nobody else


async def test_a_full_disk_withholds_the_answer(records: Shelf) -> None:
    await records.made(asked(1))
    await limit_pages(records, grow=2)
    big = tuple(Delta(text=random.Random(n).randbytes(40_000).hex()) for n in range(3))
    with pytest.raises(ModelFailure) as caught:
        await records.made(asked(2), *big)
    assert caught.value.failure.kind == "unavailable"
    assert "full" in caught.value.failure.message
    assert records.sql("SELECT count(*) FROM calls") == [(1,)]
    await limit_pages(records, grow=10_000)
    await records.made(asked(3))
    assert await records.log.mark_lost() == 1
    assert records.sql("SELECT id, state FROM calls ORDER BY seq") == [
        ("call_0001", "done"),
        ("call_0003", "done"),
        ("call_0002", "lost"),
    ]


async def test_a_full_disk_withholds_a_cached_answer_too(records: Shelf) -> None:
    await limit_pages(records, grow=0)
    call = asked(body=random.Random(1).randbytes(50_000))
    with pytest.raises(ModelFailure) as caught:
        await drain(
            records.ledger(Scripted(ANSWER)).answer(call)
        )  # waits for nothing that is pending, like a cache hit
    assert caught.value.failure.kind == "unavailable"


async def test_what_cannot_be_put_on_record_is_not_sent(records: Shelf) -> None:
    await limit_pages(records, grow=0)
    provider = Scripted(ANSWER)
    retry = Retry(provider, records.clock, lambda: 0.5, RetrySettings())
    with pytest.raises(ModelFailure) as caught:
        await drain(records.ledger(retry).answer(asked(body=random.Random(1).randbytes(50_000))))
    assert caught.value.failure.kind == "unavailable"
    assert provider.calls == []


async def limit_pages(records: Shelf, *, grow: int) -> None:
    """Lets the file grow by so many pages and then be full."""
    pages = records.sql("PRAGMA page_count")[0][0]
    await records.database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages + grow}").fetchone())


async def test_a_clock_that_jumps_back_does_not_bend_durations(records: Shelf) -> None:
    def jump() -> None:
        records.clock.at -= 86_400

    await drain(records.ledger(Answering(records.clock, jump, *ANSWER)).answer(asked(1)))
    await records.made(asked(2))
    first, second = await records.history.tail()
    assert first.latency_us == 3_000_000
    assert first.attempts[0].latency_us == 3_000_000
    assert second.started_at < first.started_at
    assert (first.id, second.id) == ("call_0001", "call_0002")


@pytest.mark.parametrize(("price", "kept"), [(None, None), (0, 0), (7, 7)], ids=["unknown price", "free", "known"])
async def test_a_cost_is_unknown_rather_than_nothing(records: Shelf, price: int | None, kept: int | None) -> None:
    await records.made(asked(), price=price)
    assert (await records.history.show("call_0001")).call.cost_micro == kept


async def test_an_answer_that_was_sent_nowhere_cost_nothing(records: Shelf) -> None:
    await drain(records.ledger(Scripted(ANSWER)).answer(asked()))
    call = (await records.history.show("call_0001")).call
    assert (call.cost_micro, call.attempts, call.provider) == (0, (), "")


MAIL = b'{"messages":[{"content":"I am ann@example.org"}]}'


@pytest.mark.parametrize(
    ("setting", "key", "kept"),
    [
        ("none", "none", "whole"),
        ("none", "redacted", "redacted"),
        ("redacted", "none", "redacted"),
        ("redacted", "full", "digest"),
    ],
)
async def test_the_stricter_of_setting_and_key_redacts(records: Shelf, setting, key, kept: str) -> None:
    error = fail("bad_request", "acme", "no such mail: ann@example.org", status=400)
    inner = Answering(records.clock, Delta(text="Dear ann@example.org"), error)
    call = asked(body=MAIL, principal=structs.replace(ANN, redaction=key))
    with pytest.raises(ModelFailure, match=r"ann@example\.org"):
        await drain(records.ledger(inner, LedgerSettings(redaction=setting)).answer(call))
    record = await records.history.show("call_0001")
    assert record.request is not None
    assert record.response is not None
    assert (record.request.kept, record.response.kept) == (kept, kept)
    everything = f"{record} {records.sql('SELECT * FROM calls')}"
    assert ("ann@example.org" in everything) == (kept == "whole")
    assert ("[email]" in everything) == (kept == "redacted")


async def test_vectors_are_not_kept(records: Shelf) -> None:
    await records.made(asked(task="embed", inputs=("a",)), Delta(embedding=[0.5] * 64), Delta(usage=Usage(input=1)))
    record = await records.history.show("call_0001")
    assert (record.call.state, record.call.input_tokens, record.response) == ("done", 1, None)
    assert record.request is not None


async def test_a_call_from_python_keeps_its_messages_and_half_a_character(records: Shelf) -> None:
    await records.made(asked(body=b"", inputs=("Once upon",)), Delta(text="cut \ud83d"))
    record = await records.history.show("call_0001")
    assert record.request is not None
    assert record.request.content["inputs"] == ["Once upon"]
    assert record.call.state == "done"
    assert "cut " in str(record.response)


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_each_call_is_settled_once(records: Shelf, seed: int) -> None:
    chance = random.Random(seed)
    expected: dict[str, str] = {}

    async def client(number: int) -> None:
        call = asked(number)
        steps: list[Delta | float | BaseException] = [Delta(text="x") for _ in range(chance.randrange(4))]
        steps += chance.choice(([], [fail("server", "p", "broke")], [RuntimeError()], [0.0005, Delta(text="y")]))
        leave = chance.randrange(8)
        expected[call.id] = "done"
        seen = 0
        try:
            async with aclosing(records.ledger(Scripted(steps)).answer(call)) as deltas:  # type: ignore[arg-type]
                async for _ in deltas:
                    seen += 1
                    if seen > leave:
                        expected[call.id] = "cancelled"
                        break
        except (ModelFailure, RuntimeError):
            expected[call.id] = "failed"

    await asyncio.gather(*(client(number) for number in range(100)))
    await records.database.write(lambda connection: None)
    assert dict(records.sql("SELECT id, state FROM calls")) == expected
    assert records.sql("SELECT count(*) FROM open_calls") == [(0,)]
    assert records.sql("SELECT count(*) FROM bodies") == [(100,)]


@pytest.mark.parametrize("seed", range(3))
async def test_kill_9_loses_no_call_whose_answer_was_whole(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "loam.db"
    process = subprocess.Popen([sys.executable, "-m", "tests.gateway.burst", path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = process.stdout.readline()
    deadline = 0.05 + random.Random(seed).random() / 3
    reading = asyncio.get_running_loop().run_in_executor(None, process.stdout.read)
    await asyncio.sleep(deadline)
    os.kill(process.pid, signal.SIGKILL)
    lines = (said + await reading).decode().split("\n")
    process.stdout.close()
    process.wait()
    whole = set(lines[:-1])  # the last line may have been cut
    assert len(whole) > 50
    async with shelf(path) as records:
        assert await records.log.mark_lost() <= 64
        rows = records.sql(
            "SELECT id, state, request IS NOT NULL, response IS NOT NULL FROM calls JOIN bodies ON call = seq"
        )
        done = {row[0] for row in rows if row[1:] == ("done", 1, 1)}
        assert whole <= done
        assert {row[1] for row in rows} <= {"done", "lost"}
        assert records.sql("SELECT count(*) FROM open_calls") == [(0,)]
        answer = (await records.history.show(lines[0])).response
        assert answer is not None
        assert answer.content["choices"][0]["parts"][0]["text"] == f"{lines[0]} " * 5
