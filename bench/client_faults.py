"""How each HTTP client of `bench.proxies` meets an upstream that misbehaves, and a reader that leaves.

Invariant: a body that was cut must surface as an error; a client that ends a cut body silently cannot be used, because
a truncated answer would look complete.

    python -m bench.client_faults
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

PORT = 9150
os.environ["BENCH_UPSTREAM"] = f"http://127.0.0.1:{PORT}"  # bench.proxies reads both when imported
os.environ.setdefault("BENCH_READ_TIMEOUT_S", "3")

from bench.measure import table  # noqa: E402
from bench.proxies import AiohttpClient, Client, Opener, PyreqwestClient, RawClient  # noqa: E402

CLIENTS: dict[str, Opener] = {
    "aiohttp": AiohttpClient.opened,
    "pyreqwest": PyreqwestClient.opened,
    "raw (floor)": RawClient.opened,
}
_CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_SIZED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
_SMALL = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_UNSIZED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: 1\n\n"
_EVENT = b"9\r\ndata: 1\n\n\r\n"
_CUT_IN_CHUNK = b"14\r\ndata: 1"
_BAD_CHUNK = b"zz\r\ndata\r\n"


@dataclass(slots=True)
class Upstream:
    """Plays one fault to every call, and notes when its reader left."""

    first: bytes
    then: str  # refuse | close | close at once | reset | stall
    connections: int = 0
    left_at: list[float] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        await self._play(reader, writer)
        writer.close()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await _request(reader):
            return
        writer.write(self.first)
        if self.then == "reset":
            await asyncio.sleep(0.05)  # let what was written be read first
            writer.transport.abort()
        elif self.then == "close":
            await asyncio.sleep(0.05)
        elif self.then == "stall":
            await reader.read(1)  # b"" as soon as the reader leaves
            self.left_at.append(time.perf_counter())


async def _request(reader: asyncio.StreamReader) -> bool:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return False
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return True


Story = Callable[[Client, Upstream], Awaitable[str]]


async def _whole(client: Client, upstream: Upstream) -> str:
    status, body = await client.whole(b"{}", "-")
    return f"SILENT: {status} with {len(body)} bytes"


async def _read_on(client: Client, upstream: Upstream) -> str:
    size = 0
    async with aclosing(client.pieces(b"{}", "-")) as pieces:
        async for piece in pieces:
            size += len(piece)
    return f"SILENT end after {size} bytes"


async def _leave(client: Client, upstream: Upstream) -> str:
    """Read one piece, close the stream, and see when the upstream learns of it."""
    pieces: AsyncGenerator[bytes] = client.pieces(b"{}", "-")
    await anext(pieces)
    closed = time.perf_counter()
    await pieces.aclose()
    return await _when_left(upstream, closed)


async def _cancel_stream(client: Client, upstream: Upstream) -> str:
    """Cancel a task that waits for the next piece."""
    task = asyncio.ensure_future(_read_on(client, upstream))
    return await _cancel(task, upstream)


async def _cancel_whole(client: Client, upstream: Upstream) -> str:
    """Cancel a task that waits for the status."""
    task = asyncio.ensure_future(_whole(client, upstream))
    return await _cancel(task, upstream)


async def _cancel(task: "asyncio.Future[str]", upstream: Upstream) -> str:
    await asyncio.sleep(0.2)
    closed = time.perf_counter()
    task.cancel()
    await asyncio.wait([task])
    return await _when_left(upstream, closed)


async def _when_left(upstream: Upstream, closed: float) -> str:
    for _ in range(200):
        if upstream.left_at:
            return f"upstream sees the close after {(upstream.left_at[0] - closed) * 1000:.1f} ms"
        await asyncio.sleep(0.01)
    return "upstream NOT closed within 2 s"


async def _reuse(client: Client, upstream: Upstream) -> str:
    """Call twice; the upstream closed the kept connection in between."""
    await client.whole(b"{}", "-")
    await asyncio.sleep(0.3)
    await client.whole(b"{}", "-")
    return f"answered, over {upstream.connections} connections"


async def _reuse_at_once(client: Client, upstream: Upstream) -> str:
    """Call on a kept connection at the moment in which the upstream closes it, many times."""
    failed = 0
    for _ in range(50):
        try:
            await client.whole(b"{}", "-")
        except Exception:  # noqa: BLE001  any error counts
            failed += 1
    return f"{failed} of 50 calls failed"


_FAULTS: list[tuple[str, bytes, str, Story]] = [
    ("nobody listens", b"", "refuse", _whole),
    ("chunked, closed between chunks", _CHUNKED + _EVENT, "close", _read_on),
    ("chunked, closed inside a chunk", _CHUNKED + _CUT_IN_CHUNK, "close", _read_on),
    ("chunked, reset between chunks", _CHUNKED + _EVENT, "reset", _read_on),
    ("chunked, malformed chunk", _CHUNKED + _EVENT + _BAD_CHUNK, "stall", _read_on),
    ("content-length short, whole", _SIZED + b"{}", "close", _whole),
    ("content-length short, streamed", _SIZED + b"{}", "close", _read_on),
    ("no length at all, closed", _UNSIZED, "close", _read_on),
    ("closed before the status", b"", "close", _whole),
    ("reset before the status", b"", "reset", _whole),
    ("not HTTP", b"SSH-2.0-hello\r\n\r\n", "stall", _whole),
    ("no status in time", b"", "stall", _whole),
    ("silence between chunks", _CHUNKED + _EVENT, "stall", _read_on),
    ("reader leaves mid-stream", _CHUNKED + _EVENT, "stall", _leave),
    ("task cancelled mid-stream", _CHUNKED + _EVENT, "stall", _cancel_stream),
    ("task cancelled before the status", b"", "stall", _cancel_whole),
    ("kept connection closed while idle", _SMALL, "close", _reuse),
    ("kept connection closed as it is reused", _SMALL, "close at once", _reuse_at_once),
]


async def _observe(opener: Opener, first: bytes, then: str, story: Story) -> str:
    upstream = Upstream(first, then)
    server = await asyncio.start_server(upstream, "127.0.0.1", PORT)
    if then == "refuse":
        server.close()
    try:
        async with opener() as client, asyncio.timeout(6):
            return await story(client, upstream)
    except TimeoutError as error:
        return _name(error) if str(error) else "NOTHING within 6 s"
    except Exception as error:  # noqa: BLE001  whatever it raises is the finding
        return _name(error)
    finally:
        server.close()


def _name(error: Exception) -> str:
    return f"{type(error).__name__} ({type(error).__mro__[1].__name__})"


async def report() -> str:
    """The table: a row a fault, a column a client."""
    rows = []
    for name, first, then, story in _FAULTS:
        rows.append([name, *[await _observe(opener, first, then, story) for opener in CLIENTS.values()]])
    return table(["fault", *CLIENTS], rows)


if __name__ == "__main__":
    print(asyncio.run(report()))
