"""The server tells at once when a client leaves, also one that left before anybody asked."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest

from loam.gateway.http import WHEN_GONE, Receive, Scope, Send, send_whole
from loam.gateway.server import ServerSettings, bind, make_server

pytestmark = pytest.mark.anyio
REQUEST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[tuple[str, int]]:
    settings = ServerSettings(port=0, grace=1)
    with bind(settings) as listener:
        server = make_server(app, settings, max_head=4096)
        server.capture_signals = nullcontext  # the test run keeps its own
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listener.getsockname()
        server.should_exit = True
        await serving


class App:
    """Reads the body, waits for `turn`, then asks to hear of the client's leaving."""

    def __init__(self) -> None:
        self.read, self.turn, self.gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self.read.set()
        await self.turn.wait()
        when_gone: Callable[[Any], None] = scope[WHEN_GONE]
        when_gone(self.gone.set)
        await asyncio.wait_for(self.gone.wait(), 10)
        when_gone(None)


async def test_a_client_that_leaves_later_is_told_of() -> None:
    app = App()
    async with served(app) as address:
        with socket.create_connection(address) as client:
            client.sendall(REQUEST)
            await asyncio.wait_for(app.read.wait(), 10)
            app.turn.set()
            await asyncio.sleep(0.05)
            assert not app.gone.is_set()
        await asyncio.wait_for(app.gone.wait(), 10)


async def test_a_client_that_had_left_before_is_told_of_at_once() -> None:
    app = App()
    async with served(app) as address:
        with socket.create_connection(address) as client:
            client.sendall(REQUEST)
            await asyncio.wait_for(app.read.wait(), 10)
        await asyncio.sleep(0.2)
        app.turn.set()
        await asyncio.wait_for(app.gone.wait(), 10)


async def test_a_kept_connection_forgets_who_listened_for_the_request_before() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope[WHEN_GONE](lambda: heard.append("gone"))
        await send_whole(send, 200, b"{}", [])
        scope[WHEN_GONE](None)

    async with served(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(2):
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readexactly(2)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.1)
    assert heard == []
