"""The keys stage on the road: what it refuses, what it holds, and that it gives back however a call ends."""

from contextlib import aclosing

import pytest

from loam.core.answers import collect
from loam.core.calls import Call, Controls, Delta, Principal, Sampling, Usage
from loam.core.errors import ModelFailure
from loam.core.messages import say
from loam.core.ports import Model
from loam.core.trace import Attempt, Trace
from loam.gateway.keys import Keys, KeysSettings
from tests.gateway.still import StillClock
from tests.gateway.virtual import Scripted, failure, hear, text

pytestmark = pytest.mark.anyio


def stage(inner: Model, clock: StillClock | None = None) -> Keys:
    return Keys(inner, clock or StillClock(), KeysSettings())


def ask(principal: Principal, **fields: object) -> Call:
    return Call(**{"id": "c", "model": "gpt-4o", "messages": (say("user", "hi"),), "principal": principal, **fields})


def left(keys: Keys, principal: Principal) -> int:
    return int(dict(keys.headers(principal))[b"x-ratelimit-remaining-tokens"])


async def test_a_key_without_limits_goes_straight_through() -> None:
    inner = Scripted(text("hello"))
    keys = stage(inner)
    heard = await hear(keys, ask(Principal(key_id="k", models=("gpt-*", "claude-*"))))
    assert heard.text == "hello"
    assert keys.headers(Principal(key_id="k")) == []


@pytest.mark.parametrize("wanted", [{"model": "o1"}, {"controls": Controls(fallbacks=("gpt-4o", "o1"))}])
async def test_a_model_or_fallback_that_the_key_may_not_use_is_refused_by_name(wanted: dict[str, object]) -> None:
    inner = Scripted(text("hello"))
    heard = await hear(stage(inner), ask(Principal(key_id="k", models=("gpt-*", "claude-*")), **wanted))
    assert heard.failure is not None
    assert heard.failure.kind == "permission"
    assert heard.failure.param == "model"
    assert "'o1'" in heard.failure.message
    assert "gpt-*, claude-*" in heard.failure.message
    assert inner.calls == []


async def test_a_request_limit_refuses_and_recovers() -> None:
    clock = StillClock()
    keys = stage(Scripted(text("a")), clock)
    call = ask(Principal(key_id="k", requests_per_minute=1))
    assert (await hear(keys, call)).failure is None
    heard = await hear(keys, call)
    assert heard.failure is not None
    assert heard.failure.retry_after == 60.0
    clock.pass_by(60.0)
    assert (await hear(keys, call)).failure is None


async def test_a_call_is_charged_what_its_usage_says() -> None:
    principal = Principal(key_id="k", tokens_per_minute=10_000)
    keys = stage(Scripted([Delta(text="a"), Delta(usage=Usage(input=100, output=23))]))
    await hear(keys, ask(principal, sampling=Sampling(max_tokens=4000)))
    assert left(keys, principal) == 10_000 - 123


@pytest.mark.parametrize(
    ("sampling", "held"),
    [(Sampling(max_tokens=500), 500), (Sampling(max_tokens=500, n=3), 1500), (Sampling(), 1024), (Sampling(n=2), 2048)],
)
async def test_while_it_runs_a_call_holds_its_prompt_and_its_longest_answer(sampling: Sampling, held: int) -> None:
    principal = Principal(key_id="k", tokens_per_minute=100_000)
    keys = stage(Scripted(text("a", "b")))
    async with aclosing(keys.answer(ask(principal, sampling=sampling))) as deltas:
        await anext(deltas)
        assert 100_000 - held - 50 <= left(keys, principal) <= 100_000 - held
    assert left(keys, principal) == 100_000  # left before anything was attempted


async def test_without_max_tokens_a_small_limit_is_not_used_up_by_an_assumption() -> None:
    principal = Principal(key_id="k", tokens_per_minute=400)
    keys = stage(Scripted(text("a")))
    async with aclosing(keys.answer(ask(principal))) as deltas:
        await anext(deltas)
        assert 250 <= left(keys, principal) <= 300


async def test_a_client_that_leaves_is_charged_what_the_road_counted() -> None:
    principal = Principal(key_id="k", tokens_per_minute=10_000, max_parallel=1)
    keys = stage(Scripted(text("a", "b")))
    trace = Trace(attempts=[Attempt(1, "p", "m", 0.0)], counted_input=70, counted_output=7)
    stream = keys.answer(ask(principal, trace=trace))
    await anext(stream)
    await stream.aclose()
    assert left(keys, principal) == 10_000 - 77
    assert (await hear(keys, ask(principal))).failure is None


async def test_a_failed_call_gives_everything_back_but_its_request() -> None:
    principal = Principal(key_id="k", tokens_per_minute=10_000, requests_per_minute=10, max_parallel=1)
    keys = stage(Scripted([failure("server")], text("a")))
    assert (await hear(keys, ask(principal))).failure is not None
    headers = dict(keys.headers(principal))
    assert headers[b"x-ratelimit-remaining-tokens"] == b"10000"
    assert headers[b"x-ratelimit-remaining-requests"] == b"9"
    assert (await hear(keys, ask(principal))).failure is None


async def test_an_answer_from_memory_takes_no_tokens() -> None:
    principal = Principal(key_id="k", tokens_per_minute=10_000)
    keys = stage(Scripted(text("a")))
    await hear(keys, ask(principal, trace=Trace(cache="hit")))
    assert left(keys, principal) == 10_000


async def test_counting_tokens_and_embedding_hold_no_answer() -> None:
    principal = Principal(key_id="k", tokens_per_minute=100)
    keys = stage(Scripted([Delta(text="a"), Delta(usage=Usage(input=9))]))
    for task in ("count", "embed"):
        call = ask(principal, task=task, messages=(), inputs=("hello",), sampling=Sampling(max_tokens=5000))
        assert (await hear(keys, call)).failure is None


async def test_too_many_at_once_are_refused_and_the_inner_stream_is_closed() -> None:
    inner = Scripted(text("a", "b"))
    keys = stage(inner)
    call = ask(Principal(key_id="k", max_parallel=1))
    first = keys.answer(call)
    await anext(first)
    with pytest.raises(ModelFailure, match="at the same time"):
        await collect(keys.answer(call))
    await first.aclose()
    assert inner.closed == 1
    await collect(keys.answer(call))
