"""The lives of a server, with one that is made up: what dies, hangs or never comes up, and what is told of it."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from loam.agents.mcp.listed import Listed
from loam.agents.mcp.opening import open_toolbox
from loam.agents.mcp.servers import Server
from loam.agents.mcp.settings import McpSettings
from loam.agents.outcome import Outcome
from loam.core.clock import SystemClock
from loam.core.errors import ModelFailure, SettingsError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Still(SystemClock):
    time = 100.0

    def monotonic(self) -> float:
        return self.time


class Made:
    """A way and its session in one. `fails` says how many openings fail."""

    words = "last words"

    def __init__(self, fails: int = 0, *, hangs: bool = False, dies: bool = False) -> None:
        self.fails, self.hangs, self.dies = fails, hangs, dies
        self.lives = self.open_now = 0
        self.ended = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator["Made", None]:
        self.lives += 1
        if self.lives <= self.fails:
            raise OSError("no such thing")
        if self.hangs:
            await asyncio.sleep(60)
        self.ended = asyncio.Event()
        self.open_now += 1
        assert self.open_now == 1
        try:
            yield self
        finally:
            self.open_now -= 1

    async def list(self) -> Sequence[Listed]:
        return [Listed("read", "", {"type": "object"})]

    async def call(self, name: str, arguments: dict[str, Any]) -> Outcome:
        if self.dies:
            self.ended.set()
            return Outcome("nothing", is_error=True, doubt=True)
        return Outcome("done")


async def test_a_server_that_fails_is_tried_ever_more_seldom_and_says_why() -> None:
    clock, made = Still(), Made(fails=99)
    server = Server("files", made, clock, 1)
    began: list[float] = []
    while len(began) < 10:
        lives = made.lives
        with pytest.raises(ModelFailure, match="files can't be used: no such thing: last words"):
            await server.list()
        began += [clock.time] if made.lives > lives else []
        clock.time += 0.25
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert gaps == sorted(gaps)
    assert (gaps[0], gaps[1], gaps[-1]) == (0.25, 1.0, 30.0)


async def test_two_who_ask_at_once_get_one_life() -> None:
    made = Made()
    server = Server("files", made, SystemClock(), 1)
    await asyncio.gather(server.list(), server.list(), server.call("read", {}, 1))
    assert made.lives == 1
    await server.close()
    assert made.open_now == 0


async def test_a_server_that_is_never_ready_is_given_up() -> None:
    server = Server("files", Made(hangs=True), SystemClock(), 0.05)
    with pytest.raises(ModelFailure, match="not ready within"):
        await server.list()


async def test_a_call_that_cannot_be_sent_is_no_doubt_and_one_that_is_lost_is() -> None:
    unsent = await Server("files", Made(fails=9), SystemClock(), 1).call("read", {}, 1)
    assert (unsent.is_error, unsent.doubt) == (True, False)
    made = Made(dies=True)
    server = Server("files", made, SystemClock(), 1)
    assert (await server.call("read", {}, 1)).doubt
    made.dies = False
    assert (await server.call("read", {}, 1)).text == "done"
    assert made.lives == 2
    await server.close()


async def test_without_the_sdk_the_settings_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "loam.agents.mcp.client", raising=False)
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    files = {"files": McpSettings(command="x")}
    with pytest.raises(SettingsError, match=r"pip install 'loam\[mcp\]'"):
        open_toolbox("clerk", files, {}, None, SystemClock())  # pyright: ignore[reportArgumentType]
