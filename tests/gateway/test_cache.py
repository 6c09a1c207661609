"""The exact cache: what is the same question, which answers are kept, and who reads along with whom."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from loam.core.calls import (
    CacheControl,
    Call,
    Controls,
    Delta,
    Head,
    Output,
    Principal,
    Sampling,
    Target,
    Tool,
    ToolChoice,
    ToolDelta,
    Usage,
)
from loam.core.errors import Failure
from loam.core.messages import Message, Text, say
from loam.core.trace import Attempt
from loam.gateway.cache import Cache, CacheSettings, Scope, key_of, worth_keeping
from loam.gateway.cache_store import MemoryStore
from tests.gateway.virtual import HANG, LoopClock, Scripted, Step, call, failure, hear, text, virtual_time

anyio_backend = virtual_time
pytestmark = pytest.mark.anyio


class Stage:
    """A cache that is on for every call, over a script, with a store that can be looked at."""

    def __init__(self, *scripts: Sequence[Step], **settings: Any) -> None:
        self.model = Scripted(*scripts)
        self.store = MemoryStore(1_000_000)
        self.revisions = {"": ""}
        made = CacheSettings(**{"enabled": True, "ttl": 100.0, **settings})
        self.cache = Cache(self.model, self.store, LoopClock(), made, revision=self.revision)

    async def revision(self, asked: Call) -> str:
        return self.revisions[asked.controls.collection]

    @property
    def asked(self) -> int:
        return len(self.model.calls)


def wishing(mode: Any = "use", ttl: float | None = None) -> Controls:
    return Controls(cache=CacheControl(mode, ttl))


async def test_the_second_time_the_answer_comes_from_the_cache_as_it_was() -> None:
    stage, first, second = Stage(text("Hel", "lo")), call(), call(id="call_2")
    first.trace.model = "p/m"
    assert (await hear(stage.cache, first)).deltas == text("Hel", "lo")
    assert (await hear(stage.cache, second)).deltas == text("Hel", "lo")
    assert stage.asked == 1
    assert (first.trace.cache, second.trace.cache) == ("miss", "hit")
    assert (second.trace.cost, second.trace.model, second.trace.attempts) == (0, "p/m", [])


async def test_every_kind_of_delta_comes_back_equal() -> None:
    deltas = [
        Delta(head=Head(id="x", model="m", extra={"a": [1, {"b": None}]}, family="openai")),
        Delta(thinking="hm", signature="s"),
        Delta(tool=ToolDelta(0, "id", "name", "{}")),
        Delta(text="né 🌱", logprobs=[{"token": "né", "logprob": -0.5}], extra={"k": "v"}, family="openai"),
        Delta(finish="tool_calls", stop_sequence="x"),
        Delta(usage=Usage(input=3, output=4, cached=1, reasoning=2)),
    ]
    stage = Stage(deltas)
    await hear(stage.cache, call())
    assert (await hear(stage.cache, call())).deltas == deltas


async def test_a_hit_does_not_show_the_price_that_another_paid() -> None:
    stage = Stage([Delta(text="x", finish="stop"), Delta(usage=Usage(input=1, provider_cost=700))])
    assert (await hear(stage.cache, call())).usage == Usage(input=1, provider_cost=700)
    assert (await hear(stage.cache, call())).usage == Usage(input=1)


async def test_after_its_ttl_an_answer_is_asked_for_again() -> None:
    stage = Stage(text("old"), text("new"))
    await hear(stage.cache, call())
    await asyncio.sleep(99.9)
    assert (await hear(stage.cache, call())).text == "old"
    await asyncio.sleep(0.1)
    assert (await hear(stage.cache, call())).text == "new"


async def test_a_ttl_of_the_call_bounds_how_old_an_answer_may_be() -> None:
    stage = Stage(text("old"), text("new"))
    await hear(stage.cache, call())
    await asyncio.sleep(10)
    assert (await hear(stage.cache, call(controls=wishing(ttl=11.0)))).text == "old"
    assert (await hear(stage.cache, call(controls=wishing(ttl=5.0)))).text == "new"


@pytest.mark.parametrize(
    ("mode", "heard", "kept", "state"),
    [("use", "old", "old", "hit"), ("bypass", "new", "old", "bypass"), ("refresh", "new", "new", "miss")],
)
async def test_what_each_mode_reads_and_writes(mode: str, heard: str, kept: str, state: str) -> None:
    stage, asked = Stage(text("old"), text("new")), call(controls=wishing(mode))
    await hear(stage.cache, call())
    assert (await hear(stage.cache, asked)).text == heard
    assert asked.trace.cache == state
    assert (await hear(stage.cache, call())).text == kept


async def test_no_store_reads_but_leaves_nothing() -> None:
    stage = Stage(text("first"), text("second"))
    await hear(stage.cache, call(controls=wishing("no-store")))
    assert len(stage.store) == 0
    await hear(stage.cache, call())
    assert (await hear(stage.cache, call(controls=wishing("no-store")))).text == "second"
    assert stage.asked == 2


async def test_where_it_is_not_on_only_a_call_with_a_ttl_uses_it() -> None:
    stage = Stage(text("Hello"), enabled=False)
    for controls in (Controls(), wishing(), wishing(ttl=60.0), wishing(ttl=60.0)):
        await hear(stage.cache, call(controls=controls))
    assert stage.asked == 3


FINISHED = Delta(text="x", finish="stop")
WIDE = call(sampling=Sampling(max_tokens=1))


@pytest.mark.parametrize(
    ("asked", "deltas", "kept"),
    [
        (call(), [FINISHED], True),
        (call(), [Delta(text="x")], False),
        (call(), [], False),
        (call(), [Delta(text="x", finish="tool_calls")], True),
        (call(), [Delta(text="x", finish="content_filter")], False),
        (call(), [Delta(text="x", finish="refusal")], False),
        (call(), [Delta(text="x", finish="length")], False),
        (WIDE, [Delta(text="x", finish="length")], True),
        (call(), [FINISHED, Delta(choice=1, text="y")], False),
        (call(), [FINISHED, Delta(choice=1, text="y", finish="stop")], True),
        (call(task="embed"), [Delta(embedding=[0.5])], True),
        (call(task="count"), [Delta(usage=Usage(input=3))], False),
    ],
)
def test_only_whole_answers_are_worth_keeping(asked: Call, deltas: list[Delta], kept: bool) -> None:
    assert worth_keeping(asked, deltas) is kept


def test_what_a_fallback_said_is_not_repeated() -> None:
    asked = call()
    asked.trace.route = ["a/m", "b/m"]
    asked.trace.attempts, asked.trace.model = [Attempt(1, "a", "m", 0.0), Attempt(2, "b", "m", 1.0)], "b/m"
    assert not worth_keeping(asked, [FINISHED])
    asked.trace.attempts, asked.trace.model = [Attempt(1, "a", "m", 0.0)], "a/m"
    assert worth_keeping(asked, [FINISHED])
    asked.trace.attempts = [Attempt(1, "a", "m", 0.0), Attempt(2, "far", "vectors", 1.0)]  # asked on the side
    assert worth_keeping(asked, [FINISHED])


async def test_a_failed_answer_is_not_kept() -> None:
    stage = Stage([Delta(text="Hel"), failure("truncated")], text("Hello"))
    assert (await hear(stage.cache, call())).failure == failure("truncated")
    assert (await hear(stage.cache, call())).text == "Hello"


async def test_an_answer_that_has_no_bytes_is_given_but_not_kept() -> None:
    stage = Stage([Delta(text="x", finish="stop", extra={"huge": 2**70})])
    for _ in range(2):
        assert (await hear(stage.cache, call())).text == "x"
    assert stage.asked == 2


async def test_a_question_that_has_no_bytes_is_asked_all_the_same() -> None:
    stage = Stage(text("Hello"))
    for _ in range(2):
        assert (await hear(stage.cache, call(messages=(say("user", "\ud800"),)))).text == "Hello"
    assert stage.asked == 2


async def test_new_documents_make_a_new_question() -> None:
    stage = Stage(text("old"), text("new"))
    stage.revisions["handbook"] = "r1"
    asked = Controls(collection="handbook")
    assert (await hear(stage.cache, call(controls=asked))).text == "old"
    assert (await hear(stage.cache, call(controls=asked))).text == "old"
    stage.revisions["handbook"] = "r2"
    assert (await hear(stage.cache, call(controls=asked))).text == "new"


def key(*, scope: Scope = "key", revision: str = "", **fields: Any) -> bytes | None:
    return key_of(call(**fields), scope=scope, revision=revision)


def test_whatever_may_change_an_answer_changes_the_key() -> None:
    wired = Message("user", (Text("hi"),), wire=msgspec.Raw(b'{"role":"user","content":"hi","cache_control":{}}'))
    keys = [
        key(),
        key(model="other"),
        key(family="openai"),
        key(task="complete"),
        key(messages=(say("user", "ho"),)),
        key(messages=(say("system", "hi"),)),
        key(messages=(wired,)),
        key(inputs=("hi",)),
        key(inputs=((1, 2),)),
        key(tools=(Tool("t"),)),
        key(tool_choice=ToolChoice("none")),
        key(output=Output("json")),
        key(extra={"user": "x"}),
        key(passages=()),
        key(revision="r1"),
        key(controls=Controls(collection="c")),
        key(controls=Controls(fallbacks=("f",))),
        key(controls=Controls(user="end user")),
        key(principal=Principal(key_id="k")),
        *(key(sampling=Sampling(**{field: 1})) for field in Sampling.__struct_fields__ if field not in ("stop", "n")),
        key(sampling=Sampling(stop=("x",))),
        key(sampling=Sampling(n=2)),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_what_cannot_change_an_answer_does_not() -> None:
    same = {
        key(),
        key(id="call_2"),
        key(stream=True),
        key(deadline=1.0),
        key(body=b"{}"),
        key(target=Target("q", "m")),
        key(controls=Controls(tags={"a": "b"}, metadata=True, cache=CacheControl(ttl=1.0))),
    }
    assert len(same) == 1
    assert key(extra={"a": 1, "b": 2}) == key(extra={"b": 2, "a": 1})


ALICE = Principal(key_id="k1", user="alice", team="red")
ALICE_AGAIN = Principal(key_id="k2", user="alice", team="red")
BOB = Principal(key_id="k3", user="bob", team="red")
CAROL = Principal(key_id="k4", user="carol", team="blue")
NOBODY = Principal(key_id="k5")
NOBODY_ELSE = Principal(key_id="k6")


@pytest.mark.parametrize(
    ("scope", "groups"),
    [
        ("key", [[ALICE], [ALICE_AGAIN], [BOB], [CAROL], [NOBODY], [NOBODY_ELSE]]),
        ("user", [[ALICE, ALICE_AGAIN], [BOB], [CAROL], [NOBODY], [NOBODY_ELSE]]),
        ("team", [[ALICE, ALICE_AGAIN, BOB], [CAROL], [NOBODY], [NOBODY_ELSE]]),
        ("global", [[ALICE, ALICE_AGAIN, BOB, CAROL, NOBODY, NOBODY_ELSE]]),
    ],
)
def test_answers_are_shared_within_the_scope_and_never_beyond(scope: Scope, groups: list[list[Principal]]) -> None:
    keys = [{key(scope=scope, principal=principal) for principal in group} for group in groups]
    assert all(len(same) == 1 for same in keys)
    assert len(set.union(*keys)) == len(groups)


def slowly(*pieces: str) -> list[Step]:
    return [step for delta in text(*pieces) for step in (delta, 1.0)]


async def test_equal_calls_share_one_upstream_call_and_only_the_first_pays() -> None:
    stage = Stage(slowly("Hel", "lo"))
    calls = [call(id=f"call_{number}") for number in range(20)]
    heard = await asyncio.gather(*(hear(stage.cache, asked) for asked in calls))
    assert all(one.deltas == text("Hel", "lo") for one in heard)
    assert stage.asked == 1
    assert [asked.trace.cache for asked in calls] == ["miss"] + ["shared"] * 19
    assert [asked.trace.cost for asked in calls] == [None] + [0] * 19


async def test_one_that_comes_late_hears_it_from_the_beginning_and_then_as_it_comes() -> None:
    stage = Stage(slowly("a", "b", "c"))
    leading = asyncio.ensure_future(hear(stage.cache, call()))
    await asyncio.sleep(2.5)
    loop = asyncio.get_running_loop()
    start, times = loop.time(), list[float]()
    async for _ in stage.cache.answer(call()):
        times.append(loop.time() - start)
    assert times == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.5, 2.5])
    assert (await leading).text == "abc"


async def test_the_run_goes_on_for_those_who_stay_and_the_leader_learns_its_end() -> None:
    stage, leader, follower = Stage(slowly("a", "b", "c")), call(), call()
    leading = asyncio.ensure_future(hear(stage.cache, leader))
    await asyncio.sleep(0.5)
    following = asyncio.ensure_future(hear(stage.cache, follower))
    await asyncio.sleep(1)
    leading.cancel()
    assert (await following).text == "abc"
    with pytest.raises(asyncio.CancelledError):
        await leading
    assert stage.model.closed == 1
    assert (await hear(stage.cache, call())).text == "abc"
    assert stage.asked == 1


async def test_when_all_have_left_the_run_is_cancelled_at_once() -> None:
    before = asyncio.all_tasks()
    stage = Stage([Delta(text="a"), HANG])
    tasks = [asyncio.ensure_future(hear(stage.cache, call())) for _ in range(3)]
    await asyncio.sleep(1)
    start = asyncio.get_running_loop().time()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert stage.model.closed == 1
    assert asyncio.get_running_loop().time() == start
    assert asyncio.all_tasks() == before


async def test_a_leader_that_leaves_alone_has_closed_its_run_when_it_is_gone() -> None:
    stage = Stage([Delta(text="a"), HANG])
    deltas = stage.cache.answer(call())
    await anext(deltas)
    await deltas.aclose()
    assert stage.model.closed == 1


class SlowToClose(Scripted):
    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        try:
            async with aclosing(super().answer(call)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            await asyncio.sleep(5)


async def test_one_that_comes_while_a_run_is_being_cancelled_gets_its_own() -> None:
    stage = Stage()
    model = SlowToClose([Delta(text="a"), HANG], text("Hello"))
    cache = Cache(model, stage.store, LoopClock(), CacheSettings(enabled=True), revision=stage.revision)
    leading = asyncio.ensure_future(hear(cache, call()))
    await asyncio.sleep(1)
    leading.cancel()
    await asyncio.sleep(1)
    assert not leading.done()
    assert (await hear(cache, call())).text == "Hello"
    assert leading.cancelled()
    assert len(model.calls) == 2


async def test_a_failure_reaches_all_who_follow() -> None:
    stage = Stage([Delta(text="Hel"), 1.0, failure("truncated")])
    heard = await asyncio.gather(*(hear(stage.cache, call()) for _ in range(3)))
    assert [(one.text, one.failure) for one in heard] == [("Hel", failure("truncated"))] * 3
    assert stage.asked == 1


async def test_what_loam_refused_the_leader_is_not_the_followers_matter() -> None:
    refusal = Failure(kind="timeout", message="the leader's time was up")
    stage = Stage([1.0, refusal], text("Hello"))
    calls = [call(), call(), call()]
    heard = await asyncio.gather(*(hear(stage.cache, asked) for asked in calls))
    assert [one.failure for one in heard] == [refusal, None, None]
    assert [one.text for one in heard] == ["", "Hello", "Hello"]
    assert stage.asked == 2
    assert calls[1].trace.cache == "miss"
    assert calls[1].trace.cost is None


async def test_a_follower_keeps_its_own_deadline() -> None:
    stage = Stage([5.0, *text("Hello")])
    now = asyncio.get_running_loop().time()
    hurried = call(deadline=now + 2)
    patient, heard = await asyncio.gather(hear(stage.cache, call()), hear(stage.cache, hurried))
    assert patient.text == "Hello"
    assert heard.failure is not None
    assert heard.failure.kind == "timeout"
    assert stage.asked == 1


async def test_a_refresh_does_not_join_a_run_that_began_before_it() -> None:
    stage = Stage([2.0, *text("old")], [5.0, *text("new")])
    first = asyncio.ensure_future(hear(stage.cache, call()))
    await asyncio.sleep(1)
    fresh = asyncio.ensure_future(hear(stage.cache, call(controls=wishing("refresh"))))
    assert (await first).text == "old"
    assert (await fresh).text == "new"
    assert (await hear(stage.cache, call())).text == "new"
    assert stage.asked == 2


async def test_a_run_that_ends_leaves_the_one_that_took_its_place_alone() -> None:
    stage = Stage([2.0, failure()], [5.0, *text("new")])
    first = asyncio.ensure_future(hear(stage.cache, call()))
    await asyncio.sleep(1)
    fresh = asyncio.ensure_future(hear(stage.cache, call(controls=wishing("refresh"))))
    await first
    assert (await hear(stage.cache, call())).text == "new"
    await fresh
    assert stage.asked == 2


async def test_a_bug_in_the_run_reaches_its_leader() -> None:
    stage = Stage([ValueError("a bug")])
    with pytest.raises(ValueError, match="a bug"):
        await hear(stage.cache, call())
