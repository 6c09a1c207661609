"""The HTTP client against servers that behave and servers that do not, on real sockets."""

import asyncio
import ssl
from pathlib import Path

import pytest

from loam.core.errors import Failure, ModelFailure
from loam.core.ports import Timeouts
from loam.providers.transport import HttpTransport, read_url
from tests.providers.certificates import certificate_for
from tests.providers.conftest import Play, Raw, Visit

pytestmark = pytest.mark.anyio

QUICK = Timeouts(connect=0.5, first_byte=0.3, idle=0.3)
LONG = Timeouts(connect=5, first_byte=5, idle=5)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Request-ID: r1\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The gateway runs on uvloop; programs that use a provider by itself may not."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def ask(transport: HttpTransport, url: str, *, timeouts: Timeouts = LONG, body: bytes = b"{}") -> bytes:
    async with transport.post(url, headers={"authorization": "Bearer k"}, body=body, timeouts=timeouts) as response:
        return await response.read(1 << 20)


def playing(*answers: bytes, then_close: bool = False) -> Play:
    async def play(visit: Visit) -> None:
        for answer in answers:
            await visit.request()
            await visit.say(answer)
        if not then_close:
            await visit.left()

    return play


async def failure_of(raw: Raw, play: Play, *, timeouts: Timeouts = LONG, limit: int = 1 << 20) -> Failure:
    transport = HttpTransport("acme")
    async with raw(play) as server:
        with pytest.raises(ModelFailure) as caught:
            async with transport.post(server.url, headers={}, body=b"{}", timeouts=timeouts) as response:
                await response.read(limit)
    await transport.close()
    assert caught.value.failure.provider == "acme"
    assert "acme" in caught.value.failure.message
    return caught.value.failure


async def test_an_answer_comes_back_with_status_and_lower_case_headers(raw: Raw) -> None:
    transport = HttpTransport("acme")
    async with raw(playing(HELLO)) as server:
        async with transport.post(server.url, headers={"x-a": "b"}, body=b"abc", timeouts=LONG) as response:
            assert response.status == 200
            assert response.headers["x-request-id"] == "r1"
            assert await response.read(5) == b"hello"
        await transport.close()
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat HTTP/1.1"
    assert body == b"abc"
    assert {b"x-a: b", b"user-agent: loam/0.1.0", b"accept-encoding: identity"} <= set(lines)


async def test_connections_are_kept_and_used_again(raw: Raw) -> None:
    transport = HttpTransport("acme")
    async with raw(playing(HELLO, CHUNKED + b"2\r\nhi\r\n0\r\n\r\n", HELLO)) as server:
        assert [await ask(transport, server.url) for _ in range(3)] == [b"hello", b"hi", b"hello"]
        assert server.visits == 1
        await transport.close()


async def test_one_connection_a_call_at_a_time(raw: Raw) -> None:
    transport = HttpTransport("acme")
    async with raw(playing(HELLO, HELLO)) as server:
        assert await asyncio.gather(*(ask(transport, server.url) for _ in range(5))) == [b"hello"] * 5
        assert server.visits == 5
        await transport.close()


async def test_no_more_connections_than_allowed(raw: Raw) -> None:
    transport = HttpTransport("acme", max_connections=2)
    async with raw(playing(*[HELLO] * 9)) as server:
        assert await asyncio.gather(*(ask(transport, server.url) for _ in range(9))) == [b"hello"] * 9
        assert server.visits == 2
        await transport.close()


async def test_a_full_pool_says_so(raw: Raw) -> None:
    transport = HttpTransport("acme", max_connections=1)
    async with raw(playing()) as server:
        waiting = asyncio.ensure_future(ask(transport, server.url))
        await asyncio.sleep(0.05)
        with pytest.raises(ModelFailure, match="max_connections"):
            await ask(transport, server.url, timeouts=QUICK)
        waiting.cancel()
        await asyncio.wait([waiting])
        await transport.close()


async def test_pieces_come_as_they_are_sent(raw: Raw) -> None:
    go_on = asyncio.Event()

    async def play(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED + b"3\r\none\r\n")
        await go_on.wait()
        await visit.say(b"3\r\ntwo\r\n0\r\n\r\n")
        await visit.left()

    transport = HttpTransport("acme")
    async with raw(play) as server, transport.post(server.url, headers={}, body=b"", timeouts=LONG) as response:
        chunks = response.chunks()
        assert await anext(chunks) == b"one"
        go_on.set()
        assert [chunk async for chunk in chunks] == [b"two"]
    await transport.close()


async def test_leaving_by_an_exception_closes_the_connection_at_once(raw: Raw) -> None:
    left = asyncio.Event()

    async def play(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED + b"3\r\none\r\n")
        await visit.left()
        left.set()

    async def read_a_little(url: str) -> None:
        async with transport.post(url, headers={}, body=b"", timeouts=LONG) as response:
            await anext(response.chunks())
            raise LookupError

    transport = HttpTransport("acme")
    async with raw(play) as server:
        with pytest.raises(LookupError):
            await read_a_little(server.url)
        async with asyncio.timeout(0.5):
            await left.wait()
    await transport.close()


@pytest.mark.parametrize("said", [b"", CHUNKED, CHUNKED + b"3\r\none\r\n"])
async def test_cancelling_closes_the_connection_at_once(raw: Raw, said: bytes) -> None:
    left = asyncio.Event()

    async def play(visit: Visit) -> None:
        await visit.request()
        await visit.say(said)
        await visit.left()
        left.set()

    transport = HttpTransport("acme")
    async with raw(play) as server:
        task = asyncio.ensure_future(ask(transport, server.url))
        await asyncio.sleep(0.1)
        task.cancel()
        async with asyncio.timeout(0.5):
            await left.wait()
        assert task.cancelled()
    await transport.close()


async def test_a_stream_left_at_its_end_keeps_its_connection(raw: Raw) -> None:
    async def play(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED + b"4\r\ndone\r\n")
        await asyncio.sleep(0.05)  # the last chunk comes a packet later, as it does in life
        await visit.say(b"0\r\n\r\n")
        await visit.request()
        await visit.say(HELLO)
        await visit.left()

    transport = HttpTransport("acme")
    async with raw(play) as server:
        async with transport.post(server.url, headers={}, body=b"", timeouts=LONG) as response:
            assert await anext(response.chunks()) == b"done"
        await asyncio.sleep(0.2)
        assert await ask(transport, server.url) == b"hello"
        assert server.visits == 1
    await transport.close()


async def test_a_stream_that_goes_on_after_its_end_is_closed(raw: Raw) -> None:
    left = asyncio.Event()

    async def play(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED + b"4\r\ndone\r\n")
        await visit.left()
        left.set()

    transport = HttpTransport("acme")
    async with raw(play) as server:
        async with transport.post(server.url, headers={}, body=b"", timeouts=LONG) as response:
            await anext(response.chunks())
        async with asyncio.timeout(3):
            await left.wait()
    await transport.close()


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_unnoticed(raw: Raw) -> None:
    transport = HttpTransport("acme")
    async with raw(playing(HELLO, then_close=True)) as server:
        for _ in range(20):
            assert await ask(transport, server.url) == b"hello"
        assert server.visits == 20
    await transport.close()


async def test_the_silent_repeat_happens_once(raw: Raw) -> None:
    async def play(visit: Visit) -> None:
        await visit.request()
        if visit.number == 1:
            await visit.say(HELLO)
            await visit.request()

    transport = HttpTransport("acme")
    async with raw(play) as server:
        await ask(transport, server.url)
        with pytest.raises(ModelFailure) as caught:
            await ask(transport, server.url)
        assert caught.value.failure.kind == "connection"
        assert len(server.requests) == 3
    await transport.close()


async def test_a_fresh_connection_is_never_repeated(raw: Raw) -> None:
    async def play(visit: Visit) -> None:
        await visit.request()

    transport = HttpTransport("acme")
    async with raw(play) as server:
        with pytest.raises(ModelFailure):
            await ask(transport, server.url)
        assert len(server.requests) == 1
    await transport.close()


async def test_an_answer_with_connection_close_is_not_reused(raw: Raw) -> None:
    transport = HttpTransport("acme")
    answer = HELLO.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    async with raw(playing(answer)) as server:
        assert [await ask(transport, server.url) for _ in range(2)] == [b"hello"] * 2
        assert server.visits == 2
    await transport.close()


async def test_words_nobody_asked_for_close_the_kept_connection(raw: Raw) -> None:
    transport = HttpTransport("acme")
    async with raw(playing(HELLO + HELLO.replace(b"hello", b"wrong"))) as server:
        assert [await ask(transport, server.url) for _ in range(3)] == [b"hello"] * 3
        assert server.visits == 3
    await transport.close()


async def test_interim_answers_are_skipped(raw: Raw) -> None:
    transport = HttpTransport("acme")
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    async with (
        raw(playing(early + HELLO)) as server,
        transport.post(server.url, headers={}, body=b"", timeouts=LONG) as response,
    ):
        assert (response.status, await response.read(9)) == (200, b"hello")
        assert "link" not in response.headers
    await transport.close()


async def test_a_body_without_a_length_ends_with_a_clean_close(raw: Raw) -> None:
    transport = HttpTransport("acme")
    async with raw(playing(b"HTTP/1.1 200 OK\r\n\r\nall of it", then_close=True)) as server:
        assert await ask(transport, server.url) == b"all of it"
    await transport.close()


async def test_a_redirect_is_not_followed(raw: Raw) -> None:
    transport = HttpTransport("acme")
    answer = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with raw(playing(answer, HELLO)) as server:
        async with transport.post(server.url, headers={}, body=b"", timeouts=LONG) as response:
            assert response.status == 307
        assert len(server.requests) == 1
    await transport.close()


async def test_a_fast_server_waits_for_a_slow_reader(raw: Raw) -> None:
    size = 64 << 20
    said = 0

    async def play(visit: Visit) -> None:
        nonlocal said
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while said < size:
            await visit.say(b"x" * 65536)
            said += 65536
        await visit.left()

    transport = HttpTransport("acme")
    slow = Timeouts(idle=0.2)  # shorter than the reader's pause: while it sleeps the server is not to blame
    async with raw(play) as server, transport.post(server.url, headers={}, body=b"", timeouts=slow) as response:
        await asyncio.sleep(0.6)
        assert said < size // 2
        assert sum([len(chunk) async for chunk in response.chunks()]) == size
    await transport.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", "connection"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "connection"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", "truncated"),
        (CHUNKED, "truncated"),
        (CHUNKED + b"5\r\nhello\r\n", "truncated"),
        (CHUNKED + b"9\r\nhello", "truncated"),
        (CHUNKED + b"zz\r\nhello", "malformed"),
        (b"SSH-2.0-OpenSSH\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello", "malformed"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", "malformed"),
    ],
)
async def test_a_broken_answer_is_named(raw: Raw, answer: bytes, kind: str) -> None:
    failure = await failure_of(raw, playing(answer, then_close=True))
    assert failure.kind == kind


async def test_a_reset_in_mid_body_is_a_truncation(raw: Raw) -> None:
    async def play(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\nwithout a length only a clean close is an end")
        await asyncio.sleep(0.05)
        linger_off = b"\1\0\0\0\0\0\0\0"
        visit.writer.get_extra_info("socket").setsockopt(1, 13, linger_off)  # SO_LINGER 0: closing sends a reset
        visit.writer.transport.abort()

    assert (await failure_of(raw, play)).kind == "truncated"


async def test_a_head_is_bounded(raw: Raw) -> None:
    async def play(visit: Visit) -> None:
        await visit.request()
        while True:
            await visit.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" + b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000)

    assert (await failure_of(raw, play)).kind == "malformed"


@pytest.mark.parametrize("length", [b"content-length: 5000\r\n", b"transfer-encoding: chunked\r\n"])
async def test_a_body_is_bounded(raw: Raw, length: bytes) -> None:
    body = b"a" * 5000 if b"length" in length else b"1388\r\n" + b"a" * 5000 + b"\r\n0\r\n\r\n"
    play = playing(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body)
    failure = await failure_of(raw, play, limit=4999)
    assert failure.kind == "malformed"
    assert "4999" in failure.message


async def test_nobody_listens() -> None:
    transport = HttpTransport("acme")
    with pytest.raises(ModelFailure) as caught:
        await ask(transport, "http://127.0.0.1:9/")
    assert caught.value.failure.kind == "connection"
    assert "cannot connect" in caught.value.failure.message


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_no_head_in_time(raw: Raw, said: bytes) -> None:
    timeouts = Timeouts(first_byte=0.2, idle=5)
    failure = await failure_of(raw, playing(said), timeouts=timeouts)
    assert (failure.kind, "within 0.2 s" in failure.message) == ("timeout", True)


async def test_silence_between_reads(raw: Raw) -> None:
    timeouts = Timeouts(first_byte=5, idle=0.2)
    failure = await failure_of(raw, playing(CHUNKED + b"3\r\none\r\n"), timeouts=timeouts)
    assert (failure.kind, "nothing came for 0.2 s" in failure.message) == ("timeout", True)


async def test_slow_but_steady_is_no_timeout(raw: Raw) -> None:
    async def play(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        for _ in range(8):
            await asyncio.sleep(0.1)
            await visit.say(b"1\r\nx\r\n")
        await visit.say(b"0\r\n\r\n")

    transport = HttpTransport("acme")
    async with raw(play) as server:
        assert await ask(transport, server.url, timeouts=QUICK) == b"x" * 8
    await transport.close()


@pytest.mark.parametrize(
    "headers", [{"x": "a\r\ny: b"}, {"x\n": "a"}, {"x": "a\0b"}, {"x": "\N{SNOWMAN}"}, {"x": "a\r"}]
)
async def test_headers_that_would_break_the_request_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ModelFailure) as caught:
        HttpTransport("acme").post("http://127.0.0.1:9/", headers=headers, body=b"", timeouts=LONG)
    assert caught.value.failure.kind == "unavailable"


@pytest.mark.parametrize(
    "url",
    ["ftp://a/b", "a/b", "http:///x", "http://a/b c", "http://a/\r\nx: y", "http://u:p@a/", "http://ä/", "http://a:b/"],
)
async def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_url(url)
    with pytest.raises(ModelFailure, match="base_url"):
        HttpTransport("acme").post(url, headers={}, body=b"", timeouts=LONG)


def test_a_url_taken_apart() -> None:
    address = read_url("https://[::1]:8443/v1/x?y=z")
    assert (address.host, address.port, address.tls, address.path) == ("::1", 8443, True, "/v1/x?y=z")
    assert address.authority == "[::1]:8443"
    assert read_url("http://a.example").authority == "a.example"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of our own for localhost, with its key in the same file."""
    return certificate_for("localhost", tmp_path_factory.mktemp("tls"))


async def test_tls_is_verified(certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"{}")
            writer.write(HELLO)
        writer.close()

    server = await asyncio.start_server(visit, "localhost", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    trusting = HttpTransport("acme", ca_file=str(certificate))
    strict = HttpTransport("acme")
    try:
        for _ in range(2):
            assert await ask(trusting, f"https://localhost:{port}/") == b"hello"
        with pytest.raises(ModelFailure, match="ca_file") as caught:
            await ask(strict, f"https://localhost:{port}/")
        assert caught.value.failure.kind == "connection"
        with pytest.raises(ModelFailure, match="TLS"):
            await ask(trusting, f"https://127.0.0.1:{port}/")  # not the name in the certificate
    finally:
        await trusting.close()
        server.close()
