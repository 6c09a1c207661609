"""Pass-through proxies that differ only in their HTTP client: one bare ASGI app a client, for `bench.clients`.

Each reads the request, sends it on, and passes the answer through: whole if it was asked for whole, piece by piece as
pieces arrive if it was asked for as a stream. Nothing else, so that the difference between two rows is the client.

    BENCH_UPSTREAM=http://127.0.0.1:9100 uvicorn --factory bench.proxies:aiohttp_app --http httptools --loop uvloop
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from pyreqwest.client import ClientBuilder
from pyreqwest.runtime import runtime_worker_threads

from bench.rawclient import Pool

POOL = 1024
READ_TIMEOUT_S = float(os.environ.get("BENCH_READ_TIMEOUT_S", "60"))
READ_AHEAD = int(os.environ.get("BENCH_READ_AHEAD", "0"))  # pyreqwest holds a stream back until it has this much
UPSTREAM = os.environ.get("BENCH_UPSTREAM", "http://127.0.0.1:9100")
URL = UPSTREAM + "/v1/chat/completions"

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Client(Protocol):
    """What a proxy needs of an HTTP client."""

    async def whole(self, body: bytes, authorization: str) -> tuple[int, bytes]:
        """Status and body."""
        ...

    def pieces(self, body: bytes, authorization: str) -> AsyncGenerator[bytes]:
        """The body as it arrives."""
        ...


class AiohttpClient:
    """aiohttp, tuned: no limit on connections, no cookies, no decompression, no redirects."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """See `opened`."""
        self._session = session

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["AiohttpClient"]:
        """With a pool of its own."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=600, sock_connect=5, sock_read=READ_TIMEOUT_S),
        ) as session:
            yield cls(session)

    def _post(self, body: bytes, authorization: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {"content-type": "application/json", "authorization": authorization}
        return self._session.post(URL, data=body, headers=headers, allow_redirects=False)

    async def whole(self, body: bytes, authorization: str) -> tuple[int, bytes]:
        """See `Client`."""
        async with self._post(body, authorization) as response:
            return response.status, await response.read()

    async def pieces(self, body: bytes, authorization: str) -> AsyncGenerator[bytes]:
        """See `Client`."""
        async with self._post(body, authorization) as response:
            async for piece in response.content.iter_any():
                yield piece


class PyreqwestClient:
    """pyreqwest, tuned: no decompression, no redirects, no proxy; its runtime thread shares the core."""

    def __init__(self, client: Any) -> None:
        """See `opened`."""
        self._client = client

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["PyreqwestClient"]:
        """With a pool of its own; BENCH_RUNTIME=multi takes the multi-threaded runtime with one worker."""
        multi = os.environ.get("BENCH_RUNTIME") == "multi"
        if multi:
            runtime_worker_threads(1)
        builder = (
            ClientBuilder()
            .runtime_multithreaded(multi)
            .gzip(False).brotli(False).zstd(False).deflate(False)
            .follow_redirects(False).no_proxy()
            .pool_max_idle_per_host(POOL)
            .connect_timeout(timedelta(seconds=5))
            .read_timeout(timedelta(seconds=READ_TIMEOUT_S))
            .timeout(timedelta(seconds=600))
        )  # fmt: skip
        async with builder.build() as client:
            yield cls(client)

    def _post(self, body: bytes, authorization: str) -> Any:
        headers = (("content-type", "application/json"), ("authorization", authorization))
        return self._client.post(URL).headers(headers).body_bytes(body)

    async def whole(self, body: bytes, authorization: str) -> tuple[int, bytes]:
        """See `Client`."""
        response = await self._post(body, authorization).build().send()
        return response.status, await response.bytes()

    async def pieces(self, body: bytes, authorization: str) -> AsyncGenerator[bytes]:
        """See `Client`."""
        request = self._post(body, authorization).streamed_read_buffer_limit(READ_AHEAD).build_streamed()
        async with request as response:
            read_chunk = response.body_reader.read_chunk
            while (piece := await read_chunk()) is not None:
                yield piece


class RawClient:
    """The floor."""

    def __init__(self, pool: Pool) -> None:
        """See `opened`."""
        self._pool = pool
        self._path = urlsplit(URL).path

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["RawClient"]:
        """With a pool of its own."""
        parts = urlsplit(URL)
        yield cls(Pool(parts.hostname or "", parts.port or 80))

    async def whole(self, body: bytes, authorization: str) -> tuple[int, bytes]:
        """See `Client`."""
        exchange = await self._pool.post(self._path, body, authorization)
        try:
            return await exchange.headers(), await exchange.whole()
        finally:
            exchange.close()

    async def pieces(self, body: bytes, authorization: str) -> AsyncGenerator[bytes]:
        """See `Client`."""
        exchange = await self._pool.post(self._path, body, authorization)
        try:
            await exchange.headers()
            while (piece := await exchange.piece()) is not None:
                yield piece
        finally:
            exchange.close()


Opener = Callable[[], AbstractAsyncContextManager[Client]]


class Proxy:
    """The ASGI app around one client."""

    def __init__(self, opener: Opener) -> None:
        """The client opens with the server and closes with it."""
        self._opener = opener
        self._client: Client

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["method"] == "GET":
            await _answer(send, 200, b"{}")
        else:
            await self._pass_through(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._opener() as self._client:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _pass_through(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"-").decode()
        if b'"stream": true' in body:
            await self._stream(body, authorization, send)
        else:
            await _answer(send, *await self._client.whole(body, authorization))

    async def _stream(self, body: bytes, authorization: str, send: Send) -> None:
        await send(_start(200, b"text/event-stream"))
        async with aclosing(self._client.pieces(body, authorization)) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _start(status: int, content_type: bytes, *more: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type), *more]}


async def _answer(send: Send, status: int, body: bytes) -> None:
    await send(_start(status, b"application/json", (b"content-length", str(len(body)).encode())))
    await send({"type": "http.response.body", "body": body})


def aiohttp_app() -> Proxy:
    """Uvicorn factory."""
    return Proxy(AiohttpClient.opened)


def pyreqwest_app() -> Proxy:
    """Uvicorn factory."""
    return Proxy(PyreqwestClient.opened)


def raw_app() -> Proxy:
    """Uvicorn factory."""
    return Proxy(RawClient.opened)
