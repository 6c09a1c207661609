"""The connection's reading of a response, fed in pieces of any size, against the standard library's."""

import asyncio
import http.client
import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.errors import ModelFailure
from loam.core.ports import Timeouts
from loam.providers.connection import Connection

pytestmark = pytest.mark.anyio


class Wire(asyncio.Transport):
    """The end of a socket that sends nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False
        self.paused = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Obvious:
    """The slow twin: http.client over all the bytes at once."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        response = http.client.HTTPResponse(self)  # type: ignore[arg-type]
        response.begin()
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def makefile(self, mode: str) -> io.BytesIO:
        return self._file


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


names = st.from_regex(r"x-[a-z]{1,8}", fullmatch=True)
values = st.from_regex(r"[!-~]{1,12}", fullmatch=True)
bodies = st.lists(st.binary(max_size=200), max_size=5)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    status = draw(st.sampled_from([200, 201, 400, 404, 429, 500, 529]))
    fields = draw(st.dictionaries(names, values, max_size=4))
    pieces = draw(bodies)
    if draw(st.booleans()):
        framing, body = b"Transfer-Encoding: chunked\r\n", chunked(pieces)
    else:
        framing, body = b"Content-Length: %d\r\n" % len(b"".join(pieces)), b"".join(pieces)
    lines = b"".join(f"{name.title()}: {value}\r\n".encode() for name, value in fields.items())
    return b"HTTP/1.1 %d Said\r\n" % status + lines + framing + b"\r\n" + body


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


class Seen:
    """What a reader got of a response."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.failure = ""


async def read(fragments: list[bytes], *, close: bool) -> tuple[Seen, list[Connection]]:
    kept: list[Connection] = []
    connection = Connection("acme", "acme.example", keep=kept.append, forget=lambda _: None, keep_seconds=50)
    connection.connection_made(Wire())
    connection.send(b"POST / HTTP/1.1\r\n\r\n", Timeouts())
    seen = Seen()

    async def reader() -> None:
        await connection.head()
        seen.status, seen.headers = connection.status, dict(connection.headers)
        while piece := await connection.piece():
            seen.body += piece

    task = asyncio.ensure_future(reader())
    for fragment in fragments:
        connection.data_received(fragment)
        await asyncio.sleep(0)
    if close:
        connection.connection_lost(None)
    try:
        await task
        connection.release(linger=False)
    except ModelFailure as error:
        seen.failure = error.failure.kind
    connection.connection_lost(None)
    return seen, kept


@given(answers(), st.lists(st.integers(0, 5000), max_size=12))
def test_however_it_is_cut_the_answer_is_the_same(data: bytes, places: list[int]) -> None:
    twin = Obvious(data)
    seen, kept = asyncio.run(read(cut(data, places), close=False))
    assert (seen.status, seen.headers, seen.body) == (twin.status, twin.headers, twin.body)
    assert len(kept) == 1


@given(answers(), st.integers(0, 5000), st.lists(st.integers(0, 5000), max_size=6))
def test_an_answer_that_breaks_off_is_never_whole(data: bytes, end: int, places: list[int]) -> None:
    broken = data[: end % len(data)]
    seen, kept = asyncio.run(read(cut(broken, places), close=True))
    assert seen.failure in ("connection", "truncated")
    assert (seen.failure == "connection") == (b"\r\n\r\n" not in broken)
    assert not kept


@given(st.binary(max_size=300), st.lists(st.integers(0, 5000), max_size=6))
def test_noise_is_a_failure_and_nothing_else(data: bytes, places: list[int]) -> None:
    seen, kept = asyncio.run(read(cut(data, places), close=True))
    assert seen.failure in ("connection", "truncated", "malformed")
    assert not kept


async def test_a_timer_is_moved_not_made_anew() -> None:
    connection = Connection("acme", "acme.example", keep=lambda _: None, forget=lambda _: None, keep_seconds=50)
    wire = Wire()
    connection.connection_made(wire)
    connection.send(b"", Timeouts(first_byte=0.1, idle=0.1))
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n")
    for _ in range(4):
        await asyncio.sleep(0.06)
        connection.data_received(b".")
    assert not wire.aborted
    await asyncio.sleep(0.15)
    assert wire.aborted
    connection.connection_lost(None)


async def test_an_idle_connection_grows_old() -> None:
    connection = Connection("acme", "acme.example", keep=lambda _: None, forget=lambda _: None, keep_seconds=0.05)
    wire = Wire()
    connection.connection_made(wire)
    connection.send(b"", Timeouts())
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    connection.release(linger=False)
    assert not wire.aborted
    await asyncio.sleep(0.1)
    assert wire.aborted
    connection.connection_lost(None)
