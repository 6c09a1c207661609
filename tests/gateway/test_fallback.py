"""The fallback stage: who is asked next, who is left out, and what is told of it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from loam.core.calls import Call, Delta, Target
from loam.core.errors import Failure
from loam.gateway.dispatch import Dispatch
from loam.gateway.fallback import Fallback, FallbackSettings
from loam.gateway.health import Health
from tests.gateway.virtual import HANG, LoopClock, Scripted, Step, call, failure, hear, text, virtual_time

anyio_backend = virtual_time
pytestmark = pytest.mark.anyio

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")


class Stage:
    """Three providers with a script for each; a target fails twice before it is left alone."""

    def __init__(
        self,
        a: Sequence[Step] = (),
        b: Sequence[Step] = (),
        c: Sequence[Step] = (),
        *,
        windows: Mapping[Target, int] | None = None,
        wider: Mapping[Target, tuple[Target, ...]] | None = None,
        **settings: Any,
    ) -> None:
        self.models = {"a": Scripted(a), "b": Scripted(b), "c": Scripted(c)}
        self.health = Health(failures=2, cooldown=30.0, longest=600.0)
        self.fallback = Fallback(
            Dispatch(self.models),
            self.health,
            LoopClock(),
            FallbackSettings(**settings),
            window=(windows or {}).get,
            wider=wider or {},
        )

    @property
    def asked(self) -> list[int]:
        return [len(model.calls) for model in self.models.values()]


def chained(*chain: Target) -> Call:
    return call(chain=chain, target=chain[0])


async def test_the_first_of_the_chain_answers_while_it_can() -> None:
    stage, asked = Stage(text("from a"), text("from b")), chained(A, B)
    assert (await hear(stage.fallback, asked)).deltas == text("from a")
    assert asked.trace.model == "a/m"
    assert asked.trace.warnings == []


@pytest.mark.parametrize(
    "kind", ["server", "rate_limit", "timeout", "authentication", "not_found", "quota", "connection"]
)
async def test_the_next_answers_when_it_can_mend_the_failure(kind: str) -> None:
    stage, asked = Stage([failure(kind)], text("from b")), chained(A, B)
    heard = await hear(stage.fallback, asked)
    assert heard.deltas == text("from b")
    assert asked.trace.model == "b/m"
    assert asked.trace.warnings == [f"fell back from a/m to b/m: {kind}"]
    assert stage.models["b"].calls[0].target == B


@pytest.mark.parametrize("kind", ["bad_request", "content_filter", "too_large", "unsupported"])
async def test_a_callers_error_is_nobody_elses_to_mend(kind: str) -> None:
    stage, asked = Stage([failure(kind)], text("from b")), chained(A, B)
    heard = await hear(stage.fallback, asked)
    assert heard.failure == failure(kind)
    assert stage.asked == [1, 0, 0]


async def test_what_loam_refused_is_not_mended_elsewhere() -> None:
    stage = Stage([Failure(kind="timeout", message="time was up")], text("from b"))
    heard = await hear(stage.fallback, chained(A, B))
    assert heard.failure is not None
    assert stage.asked == [1, 0, 0]


async def test_nobody_takes_over_after_the_first_content() -> None:
    stage, asked = Stage([Delta(text="Hel"), failure("truncated")], text("from b")), chained(A, B)
    heard = await hear(stage.fallback, asked)
    assert heard.text == "Hel"
    assert heard.failure == failure("truncated")
    assert stage.asked == [1, 0, 0]


async def test_the_last_failure_tells_what_happened_to_the_others() -> None:
    stage = Stage([failure("server", status=503)], [failure("rate_limit", status=429, message="slow down")])
    heard = await hear(stage.fallback, chained(A, B))
    assert heard.failure is not None
    assert heard.failure.http_status == 429
    assert heard.failure.message == "slow down (before it, a/m: server (503))"


async def test_a_chain_of_one_fails_with_its_own_words() -> None:
    stage = Stage([failure("server")])
    assert (await hear(stage.fallback, chained(A))).failure == failure("server")


@pytest.mark.parametrize(("on_budget", "asked"), [(False, [1, 0, 0]), (True, [1, 1, 0])])
async def test_a_budget_may_pay_for_the_next(on_budget: bool, asked: list[int]) -> None:
    stage = Stage([Failure(kind="budget", message="spent")], text("from b"), on_budget=on_budget)
    await hear(stage.fallback, chained(A, B))
    assert stage.asked == asked


async def test_a_prompt_too_long_goes_only_where_there_is_more_room() -> None:
    stage = Stage([failure("context_window")], text("from b"), text("from c"), windows={A: 8, B: 8, C: 128})
    heard = await hear(stage.fallback, chained(A, B, C))
    assert heard.text == "from c"
    assert stage.asked == [1, 0, 1]


async def test_where_no_window_is_known_the_settings_say_who_has_more_room() -> None:
    stage = Stage([failure("context_window")], text("from b"), text("from c"), wider={A: (C,)})
    assert (await hear(stage.fallback, chained(A, B))).text == "from c"
    assert (await hear(stage.fallback, chained(A))).text == "from c"
    assert stage.asked == [2, 0, 2]


async def test_substitutes_that_name_each_other_are_each_asked_once() -> None:
    long = failure("context_window")
    stage = Stage([long], [long], wider={A: (B,), B: (A,)})
    heard = await hear(stage.fallback, chained(A))
    assert heard.failure is not None
    assert heard.failure.kind == "context_window"
    assert stage.asked == [1, 1, 0]


async def test_a_sick_target_is_left_out_and_that_is_told() -> None:
    stage = Stage([failure("server")], text("from b"))
    for _ in range(2):
        await hear(stage.fallback, chained(A, B))
    asked = chained(A, B)
    assert (await hear(stage.fallback, asked)).text == "from b"
    assert stage.asked == [2, 3, 0]
    assert asked.trace.warnings == ["left a/m out: it is cooling down"]


async def test_after_the_cooldown_one_call_finds_out() -> None:
    stage = Stage([failure("server")], text("from b"))
    for _ in range(2):
        await hear(stage.fallback, chained(A, B))
    await asyncio.sleep(30)
    for _ in range(3):
        await hear(stage.fallback, chained(A, B))
    assert stage.asked == [3, 5, 0]


async def test_when_all_are_sick_the_one_that_failed_longest_ago_is_asked() -> None:
    stage = Stage([failure("server")], [0.5, failure("server")])
    for _ in range(2):
        await hear(stage.fallback, chained(A, B))
    assert stage.asked == [2, 2, 0]
    await hear(stage.fallback, chained(B, A))
    assert stage.asked == [3, 2, 0]


async def test_a_probe_whose_reader_leaves_is_given_back() -> None:
    stage = Stage([HANG], text("from b"))
    for moment in (0.0, 0.0):
        stage.health.failed(A, failure("server"), moment)
    stage.health.failed(A, failure("server"), LoopClock().monotonic())
    await asyncio.sleep(30)
    probing = asyncio.ensure_future(hear(stage.fallback, chained(A, B)))
    await asyncio.sleep(1)
    assert not stage.health.admit(A, LoopClock().monotonic(), "another")
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    assert stage.health.admit(A, LoopClock().monotonic(), "another")


async def test_the_first_content_of_a_probe_is_enough_to_be_trusted() -> None:
    stage = Stage([Delta(text="Hel"), HANG], text("from b"))
    for _ in range(2):
        stage.health.failed(A, failure("server"), LoopClock().monotonic())
    await asyncio.sleep(30)
    deltas = stage.fallback.answer(chained(A, B))
    await anext(deltas)
    assert stage.health.state(A, LoopClock().monotonic()) == "closed"
    await deltas.aclose()
    assert stage.models["a"].closed == 1
