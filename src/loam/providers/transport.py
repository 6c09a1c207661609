"""The Transport port on HTTP/1.1: pools of kept connections, one a server, and what to do when one cannot be had.

Knows how connections are made, kept and shared; does not know how a response is read (`loam.providers.connection`) nor
what any request means. It follows no redirect, keeps no cookie, reads no proxy from the environment and repeats
nothing, but for one case: a kept connection that the server closed without a byte of answer, once, on a fresh one.
Invariant: leaving the context of `post` by an exception closes its connection at once.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from msgspec import Struct

from loam import __version__
from loam.core.errors import fail, refuse
from loam.core.ports import Timeouts
from loam.providers.connection import Connection, Stale

_KEEP_SECONDS = 50.0  # a little less than the minute after which most servers close
_CLOSE_SECONDS = 2.0


class Address(Struct, frozen=True):
    """A URL taken apart: the server, and the path to ask it for."""

    host: str
    port: int
    tls: bool
    path: str

    @property
    def authority(self) -> str:
        """Host and port as the `host` header wants them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def read_url(url: str) -> Address:
    """Raises ValueError, with what is wrong, for anything but a plain http or https address."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{url!r} has a character that an address may not have")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an address like https://host/v1")
    if parts.username is not None or parts.fragment:
        raise ValueError(f"{url!r} has a user name or a fragment; an address here is host and path only")
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.hostname, parts.port or (443 if tls else 80), tls, path)


class HttpTransport:
    """One provider's way out. `ca_file` adds certificates to trust to those of the system.

    ```python
    transport = HttpTransport("openai")
    async with transport.post(url, headers={}, body=b"{}", timeouts=Timeouts()) as response:
        body = await response.read(1 << 20)
    await transport.close()
    ```
    """

    def __init__(self, provider: str, *, ca_file: str = "", max_connections: int = 1000) -> None:
        self._provider = provider
        self._ca_file = ca_file
        self._max_connections = max_connections
        self._ways: dict[str, tuple[_Pool, str]] = {}
        self._pools: dict[tuple[str, int, bool], _Pool] = {}

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> "_Exchange":
        """See the port. Raises ModelFailure for a URL or header that cannot be sent."""
        pool, start = self._ways.get(url) or self._way(url)
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = f"{start}{''.join(lines)}content-length: {len(body)}\r\n\r\n"
        breaks = len(lines) + start.count("\n") + 2
        if head.count("\n") != breaks or head.count("\r") != breaks or not head.isascii() or "\0" in head:
            raise refuse(
                "unavailable",
                f"{self._provider} cannot be asked: a header for it has a line break or a character that headers "
                "cannot carry; correct its api_key and headers",
            )
        return _Exchange(pool, head.encode("ascii") + body, timeouts)

    async def close(self) -> None:
        """Closes every connection, also those in use, and waits until they are gone."""
        for pool in self._pools.values():
            await pool.close()

    def _way(self, url: str) -> "tuple[_Pool, str]":
        """The pool and the first lines of a request, remembered: a provider has a handful of URLs."""
        try:
            address = read_url(url)
        except ValueError as error:
            raise refuse("unavailable", f"{self._provider} cannot be asked: {error}; correct its base_url") from None
        key = (address.host, address.port, address.tls)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(self._provider, address, self._ca_file, self._max_connections)
        start = (
            f"POST {address.path} HTTP/1.1\r\nhost: {address.authority}\r\n"
            f"user-agent: loam/{__version__}\r\naccept-encoding: identity\r\n"
        )
        way = self._ways[url] = (pool, start)
        return way


class _Exchange:
    """A request and, inside its context, the response."""

    __slots__ = ("_connection", "_pool", "_request", "_timeouts", "headers", "status")

    def __init__(self, pool: "_Pool", request: bytes, timeouts: Timeouts) -> None:
        self._pool = pool
        self._request = request
        self._timeouts = timeouts
        self.status = 0
        self.headers: Mapping[str, str] = {}

    async def __aenter__(self) -> Self:
        self._connection = await self._pool.ask(self._request, self._timeouts)
        self.status = self._connection.status
        self.headers = self._connection.headers
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.free()
        self._connection.release(linger=kind is None)

    async def read(self, limit: int) -> bytes:
        body = await self._connection.piece()
        if len(body) <= limit and self._connection.ended:
            return body
        pieces, size = [body], len(body)
        while size <= limit:
            piece = await self._connection.piece()
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
        provider = self._connection.provider
        raise fail("malformed", provider, f"{provider} sent an answer of more than {limit} bytes", status=self.status)

    def chunks(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._connection.piece()
        if not piece:
            raise StopAsyncIteration
        return piece


class _Pool:
    """The connections to one server; the one used last is used next, so that the rest can grow old and close."""

    def __init__(self, provider: str, address: Address, ca_file: str, max_connections: int) -> None:
        self._provider = provider
        self._address = address
        self._ca_file = ca_file
        self._limit = max_connections
        self._tls: ssl.SSLContext | None = None
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    async def ask(self, request: bytes, timeouts: Timeouts) -> Connection:
        """Sends the request and waits for the response's head; then `free` must follow. Raises ModelFailure."""
        if self._slots.locked():
            await self._wait_for_slot(timeouts.connect)
        else:
            await self._slots.acquire()
        connection = None
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_open:
                    connection.send(request, timeouts)
                    try:
                        await connection.head()
                    except Stale:
                        break
                    return connection
            connection = await self._connect(timeouts.connect)
            connection.send(request, timeouts)
            await connection.head()
        except BaseException:
            if connection is not None:
                connection.close()
            self._slots.release()
            raise
        return connection

    def free(self) -> None:
        self._slots.release()

    async def close(self) -> None:
        for connection in list(self._open):
            connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._empty.wait()

    async def _wait_for_slot(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise fail(
                "timeout",
                self._provider,
                f"all {self._limit} connections to {self._provider} were busy for {seconds:g} s; "
                "raise its max_connections",
                sent=False,
            ) from None

    async def _connect(self, seconds: float) -> Connection:
        address = self._address
        where = f"{self._provider} ({address.authority})"
        try:
            async with asyncio.timeout(seconds):
                if address.tls and self._tls is None:
                    self._tls = await asyncio.to_thread(tls_context, self._ca_file)  # reading 140 certificates: 35 ms
                connection = await self._reach(seconds)
        except TimeoutError:
            raise fail(
                "timeout", self._provider, f"cannot connect to {where} within {seconds:g} s", sent=False
            ) from None
        except ssl.SSLError as error:
            hint = "; set ca_file if it has a certificate of your own" if "VERIFY" in str(error) else ""
            raise fail("connection", self._provider, f"TLS with {where} failed: {error}{hint}", sent=False) from error
        except OSError as error:
            raise fail("connection", self._provider, f"cannot connect to {where}: {error}", sent=False) from error
        self._open.add(connection)
        self._empty.clear()
        return connection

    async def _reach(self, seconds: float) -> Connection:
        """Tries the server's addresses in turn, each for its share of the time, so one dead address is survived."""
        loop = asyncio.get_running_loop()
        address = self._address
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        hosts = list(dict.fromkeys(str(info[4][0]) for info in found))
        server_name = address.host if address.tls else None
        for host in hosts:
            last = host == hosts[-1]
            try:
                async with asyncio.timeout(None if last else seconds / len(hosts)):
                    _, connection = await loop.create_connection(
                        self._new, host, address.port, ssl=self._tls, server_hostname=server_name
                    )
            except (OSError, TimeoutError):
                if last:
                    raise
            else:
                return connection
        raise OSError(f"{address.host} has no address")

    def _new(self) -> Connection:
        return Connection(
            self._provider,
            self._address.authority,
            keep=self._idle.append,
            forget=self._forget,
            keep_seconds=_KEEP_SECONDS,
        )

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._empty.set()
        if connection in self._idle:
            self._idle.remove(connection)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """The system's certificates and ours. Raises OSError for a file that cannot be read."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
