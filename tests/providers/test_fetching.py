"""One request to anywhere: whose certificate counts, which address is taken, and what is left open afterwards."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from loam.core.errors import ModelFailure
from loam.core.ports import WebRequest
from loam.providers.fetching import HttpWeb
from tests.providers.certificates import certificate_for

pytestmark = pytest.mark.anyio
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of our own for shop.example, with its key in the same file."""
    return certificate_for("shop.example", tmp_path_factory.mktemp("tls"))


async def get(web: HttpWeb, url: str, seconds: float = 5, allow: Any = lambda address: True) -> bytes:
    return (await web.fetch(WebRequest("GET", url), allow=allow, limit=1000, seconds=seconds)).body


async def test_the_name_is_what_the_certificate_must_have_though_the_number_is_connected_to(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HELLO)
        writer.close()

    server = await asyncio.start_server(visit, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    def look_up(host: str, port: int, *more: Any, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    trusting = HttpWeb(str(certificate))
    try:
        assert await get(trusting, f"https://shop.example:{port}/") == b"hello"
        for web, name in ((HttpWeb(), "shop.example"), (trusting, "other.example")):
            with pytest.raises(ModelFailure, match=r"cannot connect to .*certificate verify failed") as caught:
                await get(web, f"https://{name}:{port}/")
            assert not caught.value.failure.sent
    finally:
        server.close()


async def test_a_dead_address_is_survived_and_a_forbidden_one_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    visits: list[str] = []

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer.get_extra_info("sockname")[0])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HELLO)
        writer.close()

    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = [
        ("::1", port),
        ("127.0.0.9", port),
        ("127.0.0.1", port),
    ]  # nobody listens on the first, and nobody may ask the second

    def look_up(host: str, port: int, *more: Any, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        assert (
            await get(HttpWeb(), f"http://shop.example:{port}/", allow=lambda address: address != "127.0.0.9")
            == b"hello"
        )
        with pytest.raises(ModelFailure, match="which may not be asked") as caught:
            await get(HttpWeb(), f"http://shop.example:{port}/", allow=lambda address: False)
        assert caught.value.failure.kind == "permission"
    finally:
        server.close()
    assert visits == ["127.0.0.1"]


async def test_whatever_happens_the_connection_is_closed() -> None:
    closed = asyncio.Semaphore(0)

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        said = {b"/whole": HELLO, b"/broken": b"no HTTP\r\n\r\n", b"/long": HELLO.replace(b" 5\r", b" 5000\r")}
        writer.write(said.get(path, b"") + b"x" * 4995 * (path == b"/long"))
        while await reader.read(100):  # until the other side closes
            continue
        writer.close()
        closed.release()

    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    web = HttpWeb()
    try:
        assert await get(web, f"{url}/whole") == b"hello"
        assert len(await get(web, f"{url}/long")) == 1000
        for path, why in (("/broken", "not HTTP"), ("/silent", "took longer than 0.2 seconds")):
            with pytest.raises(ModelFailure, match=why):
                await get(web, url + path, seconds=0.2)
        for _ in range(4):
            await asyncio.wait_for(closed.acquire(), 5)
    finally:
        server.close()
