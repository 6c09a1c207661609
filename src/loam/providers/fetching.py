"""The Web port: one request to anywhere, each on a connection of its own.

Knows names, addresses and TLS; how a response is read, `loam.providers.connection` knows. Invariants: the address that
is connected to is one that `allow` took, since a name is looked up once and never again; no redirect is followed, no
proxy is read from the environment, and nothing is repeated; whatever happens, the connection is closed in the end.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

from loam import __version__
from loam.core.errors import fail, refuse
from loam.core.ports import Timeouts, WebAnswer, WebRequest
from loam.providers.connection import Connection
from loam.providers.transport import Address, read_url, tls_context

_WHO = "the server"  # as failures name it


class HttpWeb:
    """`ca_file` adds certificates to trust to those of the system.

    ```python
    answer = await HttpWeb().fetch(WebRequest("GET", url), allow=lambda address: True, limit=1 << 20, seconds=10)
    ```
    """

    def __init__(self, ca_file: str = "") -> None:
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None

    async def fetch(
        self, request: WebRequest, *, allow: Callable[[str], bool], limit: int, seconds: float
    ) -> WebAnswer:
        """See the port."""
        try:
            address = read_url(request.url)
        except ValueError as error:
            raise refuse("bad_request", f"it cannot be asked: {error}") from None
        sent = False
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connect(address, allow, seconds)
                try:
                    sent = True
                    connection.send(_bytes_of(request, address), Timeouts(first_byte=2 * seconds, idle=2 * seconds))
                    await connection.head()
                    return await _read(connection, limit)
                finally:
                    connection.close()
        except TimeoutError:
            message = f"{address.authority} took longer than {seconds:g} seconds"
            raise fail("timeout", _WHO, message, sent=sent) from None

    async def _connect(self, address: Address, allow: Callable[[str], bool], seconds: float) -> Connection:
        """Tries the allowed addresses of the name in turn. Raises ModelFailure."""
        where, loop = address.authority, asyncio.get_running_loop()
        if address.tls and self._tls is None:
            self._tls = await asyncio.to_thread(tls_context, self._ca_file)
        try:
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise fail("connection", _WHO, f"the name of {where} is not known: {error}", sent=False) from None
        hosts = list(dict.fromkeys(str(info[4][0]) for info in found))
        allowed = [host for host in hosts if allow(host)]
        if not allowed:
            raise refuse("permission", f"{where} has the address {', '.join(hosts)}, which may not be asked")
        why: OSError | None = None
        for host in allowed:
            try:
                async with asyncio.timeout(None if host == allowed[-1] else seconds / len(allowed)):
                    _, connection = await loop.create_connection(
                        lambda: _connection(where),
                        host,
                        address.port,
                        ssl=self._tls if address.tls else None,
                        server_hostname=address.host if address.tls else None,
                    )
            except OSError as error:
                why = error
            else:
                return connection
        raise fail("connection", _WHO, f"cannot connect to {where}: {why}", sent=False) from why


def _connection(where: str) -> Connection:
    return Connection(_WHO, where, keep=Connection.close, forget=_forget, keep_seconds=0.0)


def _forget(connection: Connection) -> None:
    """No pool has it."""


def _bytes_of(request: WebRequest, address: Address) -> bytes:
    """Raises ModelFailure for a header that cannot be sent, without its value."""
    lines = [
        f"{request.method} {address.path} HTTP/1.1",
        f"host: {address.authority}",
        f"user-agent: loam/{__version__}",
        "accept-encoding: identity",
        "connection: close",
        *(f"{name}: {value}" for name, value in request.headers.items()),
    ]
    if request.body or request.method != "GET":
        lines.append(f"content-length: {len(request.body)}")
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise refuse("bad_request", "a header of the request has a line break or a character that headers cannot carry")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + request.body


async def _read(connection: Connection, limit: int) -> WebAnswer:
    pieces: list[bytes] = []
    size = 0
    while size <= limit and (piece := await connection.piece()):
        pieces.append(piece)
        size += len(piece)
    body = b"".join(pieces)
    return WebAnswer(connection.status, connection.headers, body[:limit], cut=size > limit)
