"""Time that passes only when everybody waits, and a model that does what it is told.

A test module says `anyio_backend = virtual_time`, and its coroutines run on a loop whose clock jumps to the next timer
instead of waiting for it: an hour of backoff takes no time, and every duration comes out exact.
"""

import asyncio
import selectors
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from loam.core.answers import Collector
from loam.core.calls import Call, Delta, Head, Target, Usage
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import say
from loam.core.ports import Model


class _Selector(selectors.DefaultSelector):
    """Never waits for a timer: it moves the loop's clock instead."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.skipped += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.skipped


@pytest.fixture(scope="module")
def virtual_time() -> tuple[str, dict[str, Any]]:
    return ("asyncio", {"loop_factory": VirtualLoop})


class LoopClock:
    """The loop's clock as Loam's; remembers every sleep."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def now(self) -> float:
        return 1_800_000_000.0 + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await asyncio.sleep(seconds)


Step = Delta | Failure | float | BaseException
"""What a scripted model does next: give a delta, fail, wait so many seconds, raise what it should not."""

HANG = 1e6


class Scripted:
    """Plays one script a call, the last one again when they run out; notes what was asked, opened and closed."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self._scripts = scripts
        self.calls: list[Call] = []
        self.closed = 0

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        script = self._scripts[min(len(self.calls), len(self._scripts) - 1)]
        self.calls.append(call)
        try:
            for step in script:
                if isinstance(step, Delta):
                    yield step
                elif isinstance(step, Failure):
                    raise ModelFailure(step)
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    raise step
        finally:
            self.closed += 1


def text(*pieces: str) -> list[Delta]:
    """A whole answer: a head, the pieces, a finish, the usage."""
    return [
        Delta(head=Head(id="up-1")),
        *(Delta(text=piece) for piece in pieces),
        Delta(finish="stop"),
        Delta(usage=Usage(input=3, output=len(pieces))),
    ]


def failure(kind: Any = "server", **fields: Any) -> Failure:
    return Failure(**{"kind": kind, "provider": "p", "message": f"{kind} happened", **fields})


def call(**fields: Any) -> Call:
    target = fields.pop("target", Target("p", "m"))
    return Call(**{"id": "call_1", "model": "m", "messages": (say("user", "hi"),), "target": target, **fields})


class Heard(Collector):
    """What a client got: its deltas, and the failure that ended them."""

    def __init__(self) -> None:
        super().__init__()
        self.deltas: list[Delta] = []
        self.failure: Failure | None = None

    @property
    def text(self) -> str:
        return self.answer().text


async def hear(model: Model, asked: Call) -> Heard:
    heard = Heard()
    try:
        async for delta in model.answer(asked):
            heard.deltas.append(delta)
            heard.add(delta)
    except ModelFailure as error:
        heard.failure = error.failure
    return heard
