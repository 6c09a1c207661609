"""The floor for `bench.clients`: an HTTP/1.1 client on a raw protocol, with no timers, no TLS and no retries.

It shows what the event loop and the parser cost by themselves. Not for use: a product needs what is left out here.
"""

import asyncio
from collections import deque
from typing import cast

import httptools


class Exchange:
    """One request in flight: status and headers first, then pieces of the body as they arrive."""

    __slots__ = ("connection", "content_type", "ended", "failure", "pieces", "pool", "status", "waiter")

    def __init__(self, pool: "Pool", connection: "Connection") -> None:
        """Made by `Pool.post`."""
        self.pool, self.connection = pool, connection
        self.status, self.content_type = 0, "application/json"
        self.pieces: deque[bytes] = deque()
        self.ended = False
        self.failure: Exception | None = None
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Something arrived."""
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(None)

    async def _wait(self) -> None:
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter
        self.waiter = None

    async def headers(self) -> int:
        """The status, once known."""
        while not self.status and not self.failure:
            await self._wait()
        if self.failure:
            raise self.failure
        return self.status

    async def piece(self) -> bytes | None:
        """What arrived since the last call, or None at the end; raises if the body was cut."""
        while not self.pieces and not self.ended and not self.failure:
            await self._wait()
        if self.pieces:
            joined = self.pieces.popleft() if len(self.pieces) == 1 else b"".join(self.pieces)
            self.pieces.clear()
            return joined
        if self.failure:
            raise self.failure
        return None

    async def whole(self) -> bytes:
        """The whole body."""
        while not self.ended and not self.failure:
            await self._wait()
        if self.failure:
            raise self.failure
        return b"".join(self.pieces)

    def close(self) -> None:
        """Give the connection back, or drop it if the body is not at its end."""
        if self.ended and self.connection.reusable:
            self.pool.idle.append(self.connection)
        else:
            self.connection.transport.abort()


class Connection(asyncio.Protocol):
    """One connection with at most one exchange on it."""

    def __init__(self, pool: "Pool") -> None:
        """Made by `Pool.post`."""
        self.pool = pool
        self.exchange: Exchange | None = None
        self.reusable = True
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse, then wake the reader once for all that came."""
        self.parser.feed_data(data)
        if self.exchange:
            self.exchange.wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser callback."""
        if self.exchange and name.lower() == b"content-type":
            self.exchange.content_type = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Parser callback."""
        if self.exchange:
            self.exchange.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Parser callback."""
        if self.exchange:
            self.exchange.pieces.append(body)

    def on_message_complete(self) -> None:
        """Parser callback."""
        self.reusable = self.parser.should_keep_alive()
        if self.exchange:
            self.exchange.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is in flight."""
        self.reusable = False
        if self in self.pool.idle:
            self.pool.idle.remove(self)
        if self.exchange and not self.exchange.ended:
            self.exchange.failure = exc or ConnectionError("the upstream closed before its answer was whole")
            self.exchange.wake()


class Pool:
    """Keep-alive connections to one host."""

    def __init__(self, host: str, port: int) -> None:
        """Connects on demand."""
        self.host, self.port = host, port
        self.idle: list[Connection] = []

    async def post(self, path: str, body: bytes, authorization: str) -> Exchange:
        """Send; read the answer from the exchange, then close it."""
        connection = self.idle.pop() if self.idle else await self._connect()
        exchange = connection.exchange = Exchange(self, connection)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-type: application/json\r\n"
            f"authorization: {authorization}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        connection.transport.write(head.encode("latin-1") + body)
        return exchange

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), self.host, self.port)
        return connection
