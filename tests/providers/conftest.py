"""A server on a real socket that plays whatever bytes a test writes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest

Play = Callable[["Visit"], Awaitable[None]]


@dataclass
class Visit:
    """One connection, as the server sees it."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[bytes]

    async def request(self) -> bytes:
        """The next request, head and body; asyncio.IncompleteReadError when the client left."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        request = head + await self.reader.readexactly(int(length.partition(b":")[2]))
        self.requests.append(request)
        return request

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def left(self) -> None:
        """Returns when the client has closed its end."""
        try:
            while await self.reader.read(1 << 16):
                pass
        except ConnectionResetError:
            pass


@dataclass
class RawServer:
    url: str = ""
    visits: int = 0
    requests: list[bytes] = field(default_factory=list)


Raw = Callable[[Play], AbstractAsyncContextManager[RawServer]]


@asynccontextmanager
async def serve_raw(play: Play) -> AsyncIterator[RawServer]:
    served = RawServer()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.visits += 1
        try:
            await play(Visit(served.visits, reader, writer, served.requests))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat"
    try:
        yield served
    finally:
        server.close()


@pytest.fixture
def raw() -> Raw:
    return serve_raw
