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


@pytest.mark.parametrize(("ask", "in_one"), [(b"HTTP/1.1", True), (b"HTTP/1.0", False)])
async def test_a_whole_answer_is_the_same_in_one_piece_and_in_events(ask: bytes, in_one: bool) -> None:
    """HTTP/1.0 closes after its answer, which the short way does not do, so it takes the long one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send_whole(send, 404, b'{"a":1}', [(b"x-test", b"1")], scope=scope)

    async with served(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(2 if in_one else 1):
            writer.write(REQUEST.replace(b"HTTP/1.1", ask))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
            assert {b"x-test: 1", b"content-length: 7"} <= {line.strip() for line in head.splitlines()}
            assert (b"connection: close" in head) is not in_one
            assert await reader.readexactly(7) == b'{"a":1}'
        writer.close()


async def test_requests_sent_ahead_are_answered_in_their_order() -> None:
    count = iter(range(3))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        number = next(count)
        await asyncio.sleep(0.02 * (3 - number))
        await send_whole(send, 200, b"%d" % number, [], scope=scope)

    async with served(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST * 3)
        for number in range(3):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(1) == b"%d" % number
        writer.close()


async def test_a_line_end_in_a_header_never_leaves() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(ValueError, match="line end"):
            await send_whole(send, 200, b"", [(b"x-test", b"1\r\nset-cookie: a=b")], scope=scope)
        await send_whole(send, 500, b"", [], scope=scope)

    async with served(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 500")
        assert b"set-cookie" not in head
        writer.close()
