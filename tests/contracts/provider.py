"""What every provider behind HTTP must do, whatever its format: one suite, run over each kind.

A subclass gives the fixtures `kind` and `upstream`. The upstream is the faulty one, on a real socket.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import pytest
from msgspec import structs

from loam.core.answers import Collector, collect
from loam.core.calls import Answer, Call, Delta, Sampling, Target, Tool, ToolChoice
from loam.core.clock import SystemClock
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import Image, Message, Text, say
from loam.core.ports import Model
from loam.core.trace import Attempt
from loam.providers.faulty import FaultyUpstream
from loam.providers.provider import ProviderKind, ProviderSettings
from loam.providers.transport import HttpTransport

KEY = "sk-a-secret-that-nobody-may-see"
WORDS = "one two three one two three one two three one two three"
PIXEL = "iVBORw0KGgo="
_PATHS = {"anthropic": "", "groq": "/unasked/v1", "together": "/unasked/v1"}
WEATHER = Tool("weather", "Weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def ask(model: str, *, stream: bool = False, **rest: object) -> Call:
    call = Call(id="call_1", model=model, messages=(say("user", "one two three"),), stream=stream)
    call = structs.replace(call, target=Target("here", model), **rest)
    call.trace.attempts.append(Attempt(1, "here", model, 0.0))
    return call


async def failure_of(answer: AsyncGenerator[Delta, None]) -> Failure:
    with pytest.raises(ModelFailure) as caught:
        await collect(answer)
    failure = caught.value.failure
    assert failure.provider == "here", failure
    assert KEY not in failure.message
    return failure


async def until(what: str, reached: object, *, seconds: float) -> None:
    """Waits for what happens on the other side of a socket."""
    start = time.perf_counter()
    while not reached():  # type: ignore[operator]
        assert time.perf_counter() - start < seconds, f"not {what} within {seconds} s"
        await asyncio.sleep(0.005)


class ProviderContract:
    @pytest.fixture
    async def upstream(self) -> AsyncGenerator[FaultyUpstream, None]:
        async with FaultyUpstream() as upstream:
            yield upstream

    @pytest.fixture
    def settings(self) -> ProviderSettings:
        return ProviderSettings(api_key=KEY, idle_timeout=0.3, first_byte_timeout=0.3, max_answer=1 << 20)

    @pytest.fixture
    async def model(
        self, kind: ProviderKind, upstream: FaultyUpstream, settings: ProviderSettings
    ) -> AsyncGenerator[Model, None]:
        base_url = f"{upstream.url}{_PATHS.get(kind.name, '/v1')}"
        transport = HttpTransport("here")
        yield kind.build("here", structs.replace(settings, base_url=base_url), transport, SystemClock())
        await transport.close()

    @BOTH
    async def test_an_answer_has_text_finish_usage_and_name(self, model: Model, stream: bool) -> None:
        call = ask("ok", stream=stream)
        answer = await collect(model.answer(call))
        assert answer.text == WORDS
        assert answer.choices[0].finish == "stop"
        assert answer.usage is not None
        assert (answer.usage.input, answer.usage.output) == (3, 12)
        assert answer.head.model == "ok"
        assert answer.head.id
        assert (call.trace.attempts[0].upstream_id, call.trace.attempts[0].status) == ("req_1", 200)

    async def test_the_key_travels_in_a_header(self, model: Model, upstream: FaultyUpstream) -> None:
        await collect(model.answer(ask("ok")))
        headers = upstream.record.visits[0].headers
        assert KEY in (headers.get("x-api-key", "") + headers.get("authorization", ""))

    async def test_a_stream_comes_piece_by_piece(self, model: Model) -> None:
        async with aclosing(model.answer(ask("slow-tokens", stream=True))) as deltas:
            times = [time.perf_counter() async for delta in deltas if delta.text]
        assert len(times) == 12
        assert times[-1] - times[0] > 11 * 0.04

    @BOTH
    async def test_a_longest_answer_is_kept_to(self, model: Model, stream: bool) -> None:
        answer = await collect(model.answer(ask("ok", stream=stream, sampling=Sampling(max_tokens=4))))
        assert (answer.text, answer.choices[0].finish) == ("one two three one", "length")

    @BOTH
    async def test_tools_are_asked_for(self, model: Model, stream: bool) -> None:
        answer = await collect(model.answer(ask("tools", stream=stream, tools=(WEATHER,))))
        assert answer.choices[0].finish == "tool_calls"
        (asked,) = answer.tool_calls
        assert asked.id
        assert asked.name == "weather"
        assert msgspec.json.decode(asked.arguments) == {"city": "one two three"}

    async def test_a_tool_can_be_demanded(self, model: Model) -> None:
        other = Tool("other", "", {"type": "object", "properties": {}})
        choice = ToolChoice("named", "weather")
        answer = await collect(model.answer(ask("ok", tools=(other, WEATHER), tool_choice=choice)))
        assert [tool.name for tool in answer.tool_calls] == ["weather"]

    async def test_pictures_arrive(self, model: Model) -> None:
        parts = (Text("what is this"), Image(data=PIXEL, media_type="image/png"))
        answer = await collect(model.answer(ask("vision-echo", messages=(Message("user", parts),))))
        assert answer.text == "image/png 8 bytes"

    @BOTH
    async def test_thinking_is_told_from_text(self, model: Model, stream: bool) -> None:
        answer = await collect(model.answer(ask("thinking", stream=stream)))
        assert (answer.thinking, answer.text) == ("Let me think.", WORDS)

    @BOTH
    async def test_a_filtered_answer_says_so(self, model: Model, stream: bool) -> None:
        answer = await collect(model.answer(ask("content-filter", stream=stream)))
        assert answer.choices[0].finish in ("content_filter", "refusal")

    @BOTH
    async def test_usage_that_is_missing_is_not_made_up(self, model: Model, stream: bool) -> None:
        answer = await collect(model.answer(ask("usage-missing", stream=stream)))
        assert answer.text == WORDS
        assert answer.usage is None

    @BOTH
    @pytest.mark.parametrize(
        ("fault", "verdict", "status"),
        [
            ("400", "bad_request", 400),
            ("401", "authentication", 401),
            ("402", "quota", 402),
            ("403", "permission", 403),
            ("404", "not_found", 404),
            ("408", "timeout", 408),
            ("409", "conflict", 409),
            ("413", "too_large", 413),
            ("422", "bad_request", 422),
            ("429", "rate_limit", 429),
            ("429-quota", "quota", 429),
            ("498", "overloaded", 498),
            ("500", "server", 500),
            ("502", "server", 502),
            ("503", "overloaded", 503),
            ("504", "timeout", 504),
            ("529", "overloaded", 529),
            ("context-length", "context_window", 400),
        ],
    )
    async def test_each_status_gets_its_verdict(
        self, model: Model, stream: bool, fault: str, verdict: str, status: int
    ) -> None:
        failure = await failure_of(model.answer(ask(fault, stream=stream)))
        assert (failure.kind, failure.status) == (verdict, status)

    @pytest.mark.parametrize(("fault", "seconds"), [("429-retry-after", 2.0), ("429-retry-after-ms", 0.3)])
    async def test_the_pause_that_is_asked_for_is_heard(self, model: Model, fault: str, seconds: float) -> None:
        assert (await failure_of(model.answer(ask(fault)))).retry_after == seconds

    async def test_the_word_on_retries_is_heard(self, model: Model) -> None:
        assert (await failure_of(model.answer(ask("500-do-not-retry")))).retryable is False

    @pytest.mark.parametrize(
        ("fault", "stream", "verdict"),
        [
            ("closed-before-answer-always", False, "connection"),
            ("closed-before-answer-always", True, "connection"),
            ("reset-before-answer-always", False, "connection"),
            ("reset-before-answer-always", True, "connection"),
            ("cut-mid-body-always", False, "truncated"),
            ("cut-mid-body-always", True, "truncated"),
            ("stream-cut-first-always", True, "truncated"),
            ("stream-cut-after-5", True, "truncated"),
            ("stream-no-done", True, "truncated"),
            ("bad-json-always", False, "malformed"),
            ("bad-json-always", True, "malformed"),
            ("html-200", False, "malformed"),
            ("html-200", True, "malformed"),
            ("empty-200", False, "malformed"),
            ("huge-body", False, "malformed"),
            ("huge-head", False, "malformed"),
            ("stream-bad-json-after-5", True, "malformed"),
            ("error-200-always", False, "server"),
            ("error-200-always", True, "server"),
            ("stream-error-first-always", True, "server"),
            ("stream-error-after-5", True, "overloaded"),
            ("hang", False, "timeout"),
            ("hang", True, "timeout"),
            ("hang-mid-body", False, "timeout"),
            ("hang-mid-stream", True, "timeout"),
            ("stream-hang-first", True, "timeout"),
            ("redirect", False, "not_found"),
        ],
    )
    async def test_each_way_to_break_is_named(
        self, model: Model, upstream: FaultyUpstream, fault: str, stream: bool, verdict: str
    ) -> None:
        failure = await failure_of(model.answer(ask(fault, stream=stream)))
        assert failure.kind == verdict, failure
        assert len(upstream.record.visits) == 1

    @pytest.mark.parametrize("fault", ["stream-cut-after-5", "stream-error-after-5", "hang-mid-stream"])
    async def test_what_came_before_a_break_is_handed_on(self, model: Model, fault: str) -> None:
        collector = Collector()
        with pytest.raises(ModelFailure):
            await _into(collector, model.answer(ask(fault, stream=True)))
        assert collector.answer().text == "one two three one two"

    @pytest.mark.parametrize("fault", ["stream-comments", "stream-crlf", "stream-bytes", "stream-whole", "long"])
    async def test_other_ways_to_say_the_same(self, model: Model, fault: str) -> None:
        answer = await collect(model.answer(ask(fault, stream=True)))
        assert answer.text.startswith(WORDS)
        assert answer.choices[0].finish == "stop"
        assert answer.usage is not None

    async def test_leaving_in_mid_stream_closes_the_connection_at_once(
        self, model: Model, upstream: FaultyUpstream
    ) -> None:
        async with aclosing(model.answer(ask("hang-mid-stream", stream=True))) as deltas:
            async for delta in deltas:
                if delta.text:
                    break
        (visit,) = upstream.record.visits
        await until("left", lambda: visit.ending == "left", seconds=10)

    @BOTH
    async def test_cancelling_before_the_answer_closes_the_connection_at_once(
        self, model: Model, upstream: FaultyUpstream, stream: bool
    ) -> None:
        task = asyncio.ensure_future(collect(model.answer(ask("hang", stream=stream))))
        await until("asked", lambda: upstream.record.visits, seconds=10)
        task.cancel()
        (visit,) = upstream.record.visits
        await until("left", lambda: visit.ending == "left", seconds=10)
        assert task.cancelled()

    async def test_many_at_once_do_not_mix(self, model: Model) -> None:
        async def one(number: int) -> Answer:
            messages = (say("user", f"word{number}"),)
            return await collect(model.answer(ask("ok", stream=number % 2 == 0, messages=messages)))

        answers = await asyncio.gather(*(one(number) for number in range(40)))
        assert [answer.text.split()[0] for answer in answers] == [f"word{number}" for number in range(40)]

    async def test_counting_needs_no_answer(self, model: Model) -> None:
        answer = await collect(model.answer(ask("ok", task="count")))
        assert answer.choices == ()
        assert answer.usage is not None
        assert answer.usage.input > 0

    async def test_embeddings_are_made_or_refused(self, model: Model, kind: ProviderKind) -> None:
        call = ask("ok", task="embed", messages=(), inputs=("a", "b"))
        if kind.name in ("anthropic", "groq"):
            with pytest.raises(ModelFailure) as caught:
                await collect(model.answer(call))
            assert (caught.value.failure.kind, caught.value.failure.provider) == ("unsupported", "")
            return
        answer = await collect(model.answer(call))
        assert [len(choice.embedding or ()) for choice in answer.choices] == [8, 8]


async def _into(collector: Collector, answer: AsyncGenerator[Delta, None]) -> None:
    async with aclosing(answer) as deltas:
        async for delta in deltas:
            collector.add(delta)
