"""P3, a retry never doubles: no token repeated or lost, no restart after the first one, every attempt counted once.

Providers fail at random places of random answers, behind the real route, fallback, retry and dispatch stages. Every
token says which upstream request it came from, so what a client hears can be compared with what was really sent.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from loam.core.calls import Call, Delta, Head, Usage
from loam.core.clock import SystemClock
from loam.core.errors import Failure, Kind, ModelFailure
from loam.gateway.dispatch import Dispatch
from loam.gateway.fallback import Fallback, FallbackSettings
from loam.gateway.health import Health
from loam.gateway.retry import Retry, RetrySettings
from loam.gateway.route import Route, RouteSettings, RouteTable
from tests.gateway.virtual import HANG, LoopClock, Scripted, VirtualLoop, call, hear

RETRY = RetrySettings(
    attempts=3, first_wait=0.5, longest_wait=4.0, longest_retry_after=20.0, first_token=30.0, between_tokens=10.0
)
PROVIDERS = ("a", "b", "c")
KINDS: tuple[Kind, ...] = (
    "server",
    "rate_limit",
    "overloaded",
    "truncated",
    "timeout",
    "bad_request",
    "authentication",
    "quota",
)


class Plan(Struct, frozen=True):
    """What one upstream request does: `frames` without content, `tokens`, then `end`; `pause` before each of them."""

    frames: int
    tokens: int
    pause: float
    end: Kind | None
    hangs: bool = False
    retry_after: float | None = None


class Upstream:
    """Providers that play a plan a request and keep every token that they sent."""

    def __init__(self, plans: dict[str, list[Plan]]) -> None:
        self._plans = {provider: list(reversed(given)) for provider, given in plans.items()}
        self.sent: list[list[str]] = []
        self.asked: list[str] = []
        self.open = 0

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        assert call.target is not None
        provider, number = call.target.provider, len(self.asked)
        left = self._plans[provider]
        plan = left.pop() if left else Plan(0, 0, 0.0, "server")
        self.asked.append(str(call.target))
        self.sent.append([])
        self.open += 1
        try:
            for _ in range(plan.frames):
                await asyncio.sleep(plan.pause)
                yield Delta(head=Head(id=f"{number}"))
            for token in range(plan.tokens):
                await asyncio.sleep(plan.pause)
                self.sent[number].append(f"{number}.{token} ")
                yield Delta(text=self.sent[number][-1])
            if plan.hangs:
                await asyncio.sleep(HANG)
            if plan.end is not None:
                raise ModelFailure(
                    Failure(kind=plan.end, provider=provider, message="broken", retry_after=plan.retry_after)
                )
            yield Delta(finish="stop")
            yield Delta(usage=Usage(input=1, output=plan.tokens))
        finally:
            self.open -= 1


class World:
    """The road from route to dispatch, on virtual time."""

    def __init__(self, plans: dict[str, list[Plan]], chances: list[float]) -> None:
        self.clock = LoopClock()
        self.upstream = Upstream(plans)
        self._chances = list(chances)
        table = RouteTable(
            {"chain": RouteSettings(chain=tuple(f"{provider}/m" for provider in PROVIDERS))},
            providers=dict.fromkeys(PROVIDERS, ()),
            owns={},
        )
        health = Health(failures=2, cooldown=30.0, longest=600.0)
        end = Dispatch(dict.fromkeys(PROVIDERS, self.upstream))
        retry = Retry(end, self.clock, self._chance, RETRY)
        fallback = Fallback(retry, health, self.clock, FallbackSettings(), window=lambda _: None, wider={})
        self.road = Route(fallback, table, self.clock)

    def _chance(self) -> float:
        return self._chances.pop() if self._chances else 1.0


plans = st.builds(
    Plan,
    frames=st.integers(0, 2),
    tokens=st.integers(0, 4),
    pause=st.sampled_from([0.0, 0.25, 8.0, 20.0]),
    end=st.none() | st.sampled_from(KINDS),
    hangs=st.booleans(),
    retry_after=st.none() | st.sampled_from([0.0, 3.0, 25.0]),
)
worlds = st.fixed_dictionaries({provider: st.lists(plans, max_size=4) for provider in PROVIDERS})


@settings(max_examples=400, deadline=None)
@given(
    plans=worlds,
    chances=st.lists(st.floats(0, 1), max_size=9),
    seconds=st.none() | st.sampled_from([0.0, 1.0, 10.0, 45.0]),
    leaves_after=st.none() | st.integers(0, 6),
)
def test_no_token_is_doubled_or_lost_whatever_fails(
    plans: dict[str, list[Plan]], chances: list[float], seconds: float | None, leaves_after: int | None
) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_ask_and_check(plans, chances, seconds, leaves_after))


async def _ask_and_check(
    plans: dict[str, list[Plan]], chances: list[float], seconds: float | None, leaves_after: int | None
) -> None:
    world = World(plans, chances)
    start = world.clock.monotonic()
    asked = call(model="chain", deadline=None if seconds is None else start + seconds)
    heard: list[str] = []
    finished = failed = left = False
    deltas = 0
    try:
        async with aclosing(world.road.answer(asked)) as answer:
            async for delta in answer:
                deltas += 1
                heard += [delta.text] if delta.text else []
                finished = finished or delta.finish is not None
                if deltas == leaves_after:
                    left = True
                    break
    except ModelFailure:
        failed = True
    event("failed" if failed else "left" if left else "finished")

    _check_tokens(world, heard, left=left)
    _check_attempts(world, asked, failed=failed, left=left)
    _check_time(world, asked, start, seconds)
    assert finished or failed or left, "an answer that was cut looks whole"


def _check_tokens(world: World, heard: list[str], *, left: bool) -> None:
    """What was heard is what exactly one upstream request sent; only the last one can have sent anything."""
    sent = world.upstream.sent
    assert all(not tokens for tokens in sent[:-1]), "a request was made after another had begun to answer"
    said = sent[-1] if sent else []
    assert heard == (said[: len(heard)] if left else said)


def _check_attempts(world: World, asked: Call, *, failed: bool, left: bool) -> None:
    attempts = asked.trace.attempts
    assert [f"{attempt.provider}/{attempt.model}" for attempt in attempts] == world.upstream.asked
    assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
    assert all(attempt.ended is not None for attempt in attempts)
    assert all(attempt.outcome == "failed" for attempt in attempts[:-1])
    if attempts:
        assert attempts[-1].outcome == ("failed" if failed else "cancelled" if left else "done")
    assert all(world.upstream.asked.count(name) <= RETRY.attempts for name in world.upstream.asked)
    assert world.upstream.open == 0


def _check_time(world: World, asked: Call, start: float, seconds: float | None) -> None:
    waits = [attempt.waited for attempt in asked.trace.attempts if attempt.waited]
    assert [sleep for sleep in world.clock.sleeps if sleep] == waits, "a pause without an attempt after it"
    assert all(wait <= RETRY.longest_retry_after * 1.1 for wait in waits)
    if seconds is not None:
        assert world.clock.monotonic() - start <= seconds + 1e-6


def test_the_deadline_holds_on_the_machines_own_clock() -> None:
    async def ask() -> float:
        clock = SystemClock()
        start = clock.monotonic()
        heard = await hear(Retry(Scripted([HANG]), clock, lambda: 0.0, RETRY), call(deadline=start + 0.05))
        assert heard.failure is not None
        assert heard.failure.kind == "timeout"
        return clock.monotonic() - start

    assert 0.05 <= asyncio.run(ask()) < 5.0


@pytest.mark.parametrize("cut_after", [0, 1, 3])
def test_a_stream_that_is_cut_never_looks_whole(cut_after: int) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        world = World({"a": [Plan(1, cut_after, 0.0, "truncated")], "b": [], "c": []}, [])
        heard = runner.run(hear(world.road, call(model="a/m")))
        assert heard.failure is not None
        assert len(world.upstream.asked) == (3 if cut_after == 0 else 1)
