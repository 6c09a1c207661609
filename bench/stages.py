"""What each stage of the road costs a call and a streamed delta, in microseconds: `python -m bench.stages`.

Each stage stands alone in front of a model that is always ready; what the model itself costs is taken off. CPU time,
the fastest of several rounds, since whatever else the machine does only ever adds to it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import uvloop

from loam.core.calls import CacheControl, Call, Controls, Delta, Head, Target, Usage
from loam.core.clock import SystemClock
from loam.core.messages import say
from loam.core.ports import Model
from loam.gateway.cache import Cache, CacheSettings
from loam.gateway.cache_store import MemoryStore
from loam.gateway.dispatch import Dispatch
from loam.gateway.fallback import Fallback, FallbackSettings
from loam.gateway.health import Health
from loam.gateway.retry import Retry, RetrySettings
from loam.gateway.route import Route, RouteSettings, RouteTable

CALLS, DELTAS, ROUNDS = 400, 200, 7
A, B = Target("a", "gpt"), Target("b", "gpt")
PROMPT = (say("system", "You are helpful. " * 10), say("user", "What does the handbook say of travel? " * 15))


class Ready:
    """Gives so many deltas at once, or one every turn of the loop."""

    def __init__(self, count: int, *, turns: bool = False) -> None:
        text = Delta(text="word ")
        self._deltas = [Delta(head=Head(id="x")), *[text] * count, Delta(finish="stop"), Delta(usage=Usage(9, count))]
        self._turns = turns

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        for delta in self._deltas:
            if self._turns:
                await asyncio.sleep(0)
            yield delta


def retry(inner: Model) -> Model:
    return Retry(inner, SystemClock(), lambda: 0.5, RetrySettings())


def fallback(inner: Model) -> Model:
    health = Health(failures=3, cooldown=30.0, longest=600.0)
    return Fallback(inner, health, SystemClock(), FallbackSettings(), window=lambda _: None, wider={})


def route(inner: Model) -> Model:
    routes = {"fast": RouteSettings(chain=("a/gpt", "b/gpt"))}
    return Route(inner, RouteTable(routes, providers={"a": (), "b": ()}, owns={}), SystemClock())


def cache(inner: Model, *, enabled: bool = True) -> Model:
    async def revision(_: Call) -> str:
        return ""

    settings = CacheSettings(enabled=enabled, max_bytes=2_000_000)
    return Cache(inner, MemoryStore(settings.max_bytes), SystemClock(), settings, revision=revision)


def road(inner: Model) -> Model:
    return cache(route(fallback(retry(Dispatch({"a": inner, "b": inner})))), enabled=False)


def call(**fields: object) -> Call:
    return Call(**{"id": "call_1", "model": "fast", "messages": PROMPT, "target": A, "deadline": 1e12, **fields})


ROWS: dict[str, tuple[Callable[[Model], Model], Callable[[], Call]]] = {
    "retry": (retry, call),
    "fallback, chain of 1": (fallback, lambda: call(chain=(A,))),
    "fallback, chain of 2": (fallback, lambda: call(chain=(A, B))),
    "route": (route, call),
    "cache, off": (lambda inner: cache(inner, enabled=False), call),
    "cache, hit": (cache, call),
    "cache, miss": (cache, lambda: call(controls=Controls(cache=CacheControl("refresh")))),
    "dispatch": (lambda inner: Dispatch({"a": inner}), call),
    "cache off > route > fallback > retry > dispatch": (road, call),
}


async def cost(model: Model, make: Callable[[], Call]) -> float:
    """Microseconds of CPU that a call takes."""
    best = float("inf")
    for _ in range(ROUNDS):
        calls = [make() for _ in range(CALLS)]
        start = time.process_time()
        for one in calls:
            async with aclosing(model.answer(one)) as deltas:
                async for _delta in deltas:
                    pass
        best = min(best, time.process_time() - start)
    return best / CALLS * 1e6


async def main() -> None:
    print(f"{'stage':50} {'a call':>8} {'a delta':>8} {'a delta, each on its own':>26}")
    for name, (build, make) in ROWS.items():
        few = await cost(build(Ready(0)), make) - await cost(Ready(0), make)
        many = await cost(build(Ready(DELTAS)), make) - await cost(Ready(DELTAS), make)
        turns = await cost(build(Ready(DELTAS, turns=True)), make) - await cost(Ready(DELTAS, turns=True), make)
        print(f"{name:50} {few:8.2f} {(many - few) / DELTAS:8.3f} {(turns - few) / DELTAS:26.3f}")


if __name__ == "__main__":
    uvloop.run(main())
