"""The retry stage: what is tried again, what is held back, and what is written down."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from loam.core.calls import Delta, Head, Usage
from loam.core.errors import ModelFailure, refuse
from loam.gateway.retry import Retry, RetrySettings
from tests.gateway.virtual import HANG, LoopClock, Scripted, call, failure, hear, text, virtual_time

anyio_backend = virtual_time
pytestmark = pytest.mark.anyio

SETTINGS = RetrySettings(attempts=3, first_wait=1.0, first_token=30.0, between_tokens=10.0)


class Stage:
    """A retry stage over a script, with a clock that remembers and chance that always says 1."""

    def __init__(self, *scripts: Any, settings: RetrySettings = SETTINGS) -> None:
        self.model = Scripted(*scripts)
        self.clock = LoopClock()
        self.retry = Retry(self.model, self.clock, lambda: 1.0, settings)


def outcomes(asked: Any) -> list[tuple[str, str]]:
    return [(attempt.outcome, attempt.failure) for attempt in asked.trace.attempts]


async def test_a_good_answer_goes_through_unchanged_and_is_written_down() -> None:
    stage, asked = Stage([2.0, *text("Hel", "lo")]), call()
    start = stage.clock.monotonic()
    heard = await hear(stage.retry, asked)
    assert heard.deltas == text("Hel", "lo")
    (attempt,) = asked.trace.attempts
    assert (attempt.number, attempt.provider, attempt.model, attempt.outcome) == (1, "p", "m", "done")
    assert attempt.started == start
    assert attempt.first_token == attempt.ended == start + 2.0


@pytest.mark.parametrize(
    "kind", ["rate_limit", "overloaded", "server", "timeout", "connection", "truncated", "malformed"]
)
async def test_a_passing_failure_is_invisible(kind: str) -> None:
    head = Delta(head=Head(id="broken"))
    stage, asked = Stage([head, failure(kind)], text("Hello")), call()
    heard = await hear(stage.retry, asked)
    assert heard.deltas == text("Hello")
    assert outcomes(asked) == [("failed", kind), ("done", "")]
    assert [attempt.waited for attempt in asked.trace.attempts] == [0.0, 1.0]
    assert stage.clock.sleeps == [1.0]


@pytest.mark.parametrize(
    "kind", ["bad_request", "authentication", "permission", "not_found", "quota", "context_window"]
)
async def test_a_lasting_failure_is_raised_at_once(kind: str) -> None:
    stage, asked = Stage([failure(kind)]), call()
    heard = await hear(stage.retry, asked)
    assert heard.failure == failure(kind)
    assert len(stage.model.calls) == 1
    assert stage.clock.sleeps == []


async def test_the_last_failure_is_raised_without_another_pause_and_marked_as_spent() -> None:
    stage, asked = Stage([failure("server", status=503)]), call()
    start = stage.clock.monotonic()
    heard = await hear(stage.retry, asked)
    assert heard.failure == failure("server", status=503, should_retry=False)
    assert stage.clock.sleeps == [1.0, 2.0]
    assert stage.clock.monotonic() - start == 3.0
    assert [(attempt.number, attempt.status) for attempt in asked.trace.attempts] == [(1, 503), (2, 503), (3, 503)]


async def test_nothing_is_tried_again_after_the_first_content() -> None:
    stage, asked = Stage([*text("Hel", "lo")[:2], failure("truncated")], text("another")), call()
    heard = await hear(stage.retry, asked)
    assert heard.text == "Hel"
    assert heard.failure is not None
    assert heard.failure.kind == "truncated"
    assert outcomes(asked) == [("failed", "truncated")]


async def test_nothing_is_handed_on_before_the_first_content() -> None:
    stage = Stage([Delta(head=Head(id="up-1")), 5.0, Delta(text="Hello"), Delta(finish="stop")])
    start = stage.clock.monotonic()
    async with aclosing(stage.retry.answer(call())) as deltas:
        first = await anext(deltas)
    assert first == Delta(head=Head(id="up-1"))
    assert stage.clock.monotonic() - start == 5.0


@pytest.mark.parametrize("task", ["chat", "complete", "embed"])
async def test_an_answer_that_never_begins_is_a_failure(task: str) -> None:
    stage, asked = Stage([Delta(head=Head(id="up-1"))], text("Hello")), call(task=task)
    heard = await hear(stage.retry, asked)
    assert heard.text == "Hello"
    assert outcomes(asked) == [("failed", "truncated"), ("done", "")]


async def test_a_count_needs_no_content() -> None:
    stage, asked = Stage([Delta(usage=Usage(input=12))]), call(task="count")
    assert (await hear(stage.retry, asked)).deltas == [Delta(usage=Usage(input=12))]
    assert outcomes(asked) == [("done", "")]


async def test_a_retry_after_is_waited_for() -> None:
    stage, asked = Stage([failure("rate_limit", retry_after=2.0)], text("Hello")), call()
    assert (await hear(stage.retry, asked)).text == "Hello"
    assert stage.clock.sleeps == [pytest.approx(2.2)]


async def test_a_retry_after_beyond_the_deadline_is_not() -> None:
    stage = Stage([failure("rate_limit", retry_after=20.0)])
    asked = call(deadline=stage.clock.monotonic() + 10)
    heard = await hear(stage.retry, asked)
    assert heard.failure == failure("rate_limit", retry_after=20.0, should_retry=False)
    assert stage.clock.sleeps == []


async def test_a_model_that_hangs_is_cut_and_asked_again() -> None:
    stage, asked = Stage([HANG], text("Hello")), call()
    start = stage.clock.monotonic()
    heard = await hear(stage.retry, asked)
    assert heard.text == "Hello"
    assert outcomes(asked) == [("failed", "timeout"), ("done", "")]
    assert stage.clock.monotonic() - start == pytest.approx(31.0)
    assert stage.model.closed == 2


async def test_lifecycle_frames_do_not_count_as_a_first_token() -> None:
    beats = [step for _ in range(10) for step in (5.0, Delta(head=Head(id="still here")))]
    stage, asked = Stage(beats, text("Hello")), call()
    start = stage.clock.monotonic()
    assert (await hear(stage.retry, asked)).text == "Hello"
    assert stage.clock.monotonic() - start == pytest.approx(31.0)


async def test_silence_within_an_answer_fails_it_for_good() -> None:
    stage, asked = Stage([Delta(text="Hel"), 9.0, Delta(text="l"), HANG], text("another")), call()
    start = stage.clock.monotonic()
    heard = await hear(stage.retry, asked)
    assert heard.text == "Hell"
    assert heard.failure is not None
    assert (heard.failure.kind, heard.failure.provider, heard.failure.retryable) == ("timeout", "p", False)
    assert stage.clock.monotonic() - start == pytest.approx(19.0)


async def test_a_slow_reader_is_not_taken_for_a_silent_model() -> None:
    stage, asked = Stage([Delta(text="a"), 1.0, Delta(text="b"), Delta(finish="stop")]), call()
    pieces: list[str] = []
    async with aclosing(stage.retry.answer(asked)) as deltas:
        async for delta in deltas:
            pieces.append(delta.text)
            await asyncio.sleep(100)
    assert pieces == ["a", "b", ""]


async def test_the_deadline_cuts_an_attempt_and_no_other_follows() -> None:
    stage = Stage([HANG])
    start = stage.clock.monotonic()
    asked = call(deadline=start + 5)
    heard = await hear(stage.retry, asked)
    assert heard.failure is not None
    assert (heard.failure.kind, heard.failure.http_status, heard.failure.mendable) == ("timeout", 504, False)
    assert stage.clock.monotonic() - start == pytest.approx(5.0)
    assert outcomes(asked) == [("failed", "timeout")]


async def test_the_deadline_bounds_an_answer_that_is_under_way() -> None:
    stage = Stage([step for _ in range(100) for step in (1.0, Delta(text="x"))])
    asked = call(deadline=stage.clock.monotonic() + 5.5)
    heard = await hear(stage.retry, asked)
    assert heard.text == "xxxxx"
    assert heard.failure is not None
    assert heard.failure.kind == "timeout"


async def test_nothing_is_sent_after_the_deadline() -> None:
    stage = Stage(text("Hello"))
    asked = call(deadline=stage.clock.monotonic() - 1)
    heard = await hear(stage.retry, asked)
    assert heard.failure is not None
    assert heard.failure.kind == "timeout"
    assert stage.model.calls == []
    assert asked.trace.attempts == []


async def test_a_budget_that_says_no_ends_the_retries() -> None:
    stage, asked = Stage([failure("server")]), call()
    answers = iter([True, False])
    asked.trace.may_retry = lambda: next(answers)
    heard = await hear(stage.retry, asked)
    assert heard.failure is not None
    assert len(asked.trace.attempts) == 2


async def test_nothing_leaves_before_it_is_on_record() -> None:
    stage, asked = Stage(text("Hello")), call()
    record: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asked.trace.pending.append(record)
    hearing = asyncio.ensure_future(hear(stage.retry, asked))
    await asyncio.sleep(50)
    assert stage.model.calls == []
    record.set_result(None)
    assert (await hearing).text == "Hello"
    assert asked.trace.pending == []


@pytest.mark.parametrize(
    ("error", "kind"), [(OSError("disk full"), "unavailable"), (refuse("budget", "spent"), "budget")]
)
async def test_what_cannot_be_put_on_record_is_not_sent(error: Exception, kind: str) -> None:
    stage, asked = Stage(text("Hello")), call()
    record: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    record.set_exception(error)
    asked.trace.pending.append(record)
    heard = await hear(stage.retry, asked)
    assert heard.failure is not None
    assert (heard.failure.kind, heard.failure.provider) == (kind, "")
    assert stage.model.calls == []


async def test_a_reader_that_leaves_ends_the_attempt_as_cancelled() -> None:
    stage, asked = Stage([Delta(text="Hel"), HANG]), call()
    deltas = stage.retry.answer(asked)
    await anext(deltas)
    await deltas.aclose()
    assert outcomes(asked) == [("cancelled", "")]
    assert asked.trace.attempts[0].ended is not None
    assert stage.model.closed == 1


async def test_a_cancelled_wait_ends_the_attempt_as_cancelled() -> None:
    stage, asked = Stage([HANG]), call()
    hearing = asyncio.ensure_future(hear(stage.retry, asked))
    await asyncio.sleep(1)
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    assert outcomes(asked) == [("cancelled", "")]
    assert stage.model.closed == 1


async def test_a_bug_is_written_down_and_not_tried_again() -> None:
    stage, asked = Stage([ValueError("a bug")]), call()
    with pytest.raises(ValueError, match="a bug"):
        await hear(stage.retry, asked)
    assert outcomes(asked) == [("failed", "internal")]


async def test_attempts_are_numbered_through_the_whole_call() -> None:
    stage, asked = Stage([failure("server")], text("Hello")), call()
    await hear(stage.retry, asked)
    await hear(stage.retry, asked)
    assert [attempt.number for attempt in asked.trace.attempts] == [1, 2, 3]


async def test_a_retry_within_a_retry_does_not_multiply() -> None:
    stage = Stage([failure("server")])
    outer = Retry(stage.retry, stage.clock, lambda: 1.0, SETTINGS)
    with pytest.raises(ModelFailure):
        async for _ in outer.answer(call()):
            pass
    assert len(stage.model.calls) == 3


async def test_every_attempt_waits_for_what_must_be_on_record_before_it() -> None:
    stage, asked = Stage([failure("server")], text("Hello")), call()
    loop = asyncio.get_running_loop()
    reservation = loop.create_future()

    def may_retry() -> bool:
        asked.trace.pending.append(reservation)
        return True

    asked.trace.may_retry = may_retry
    hearing = asyncio.ensure_future(hear(stage.retry, asked))
    await asyncio.sleep(5.0)
    assert len(stage.model.calls) == 1, "the second attempt left before its reservation was durable"
    reservation.set_result(None)
    assert (await hearing).deltas == text("Hello")
    assert len(stage.model.calls) == 2


async def test_a_request_that_was_never_sent_is_known_as_such() -> None:
    stage, asked = Stage([failure("connection", sent=False)], [failure("connection")], text("Hello")), call()
    await hear(stage.retry, asked)
    assert [attempt.sent for attempt in asked.trace.attempts] == [False, True, True]
