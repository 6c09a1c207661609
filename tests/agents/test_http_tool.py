"""HTTP tools against a real server: where a request may go, what it carries, what the model is told of the answer."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loam.agents.http_tool import HttpTool, open_http
from loam.agents.outcome import Outcome
from loam.agents.settings import ToolSettings
from loam.cli.reach import Gateway
from loam.core.calls import Principal
from loam.core.errors import SettingsError
from loam.providers.fetching import HttpWeb
from loam.serving import running
from tests.agents.test_runs import called, results, run, settings

pytestmark = pytest.mark.anyio
SECRET = "Bearer very-secret-token"
ID = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}


class Far(ThreadingHTTPServer):
    """Answers as the path says, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Play)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle is what some of the tests are about."""


class Play(BaseHTTPRequestHandler):
    server: Far  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers, body))
        status, kind, said, more = self.said(self.path, headers)
        self.send_response(status)
        for name, value in {"content-type": kind, **more}.items():
            if value:
                self.send_header(name, value)
        if "chunked" not in more.values():
            self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def said(self, path: str, headers: dict[str, str]) -> tuple[int, str, bytes, dict[str, str]]:
        if path == "/slow":
            time.sleep(3)
        if path == "/endless":
            self.endless()
        near = f"http://127.0.0.1:{self.server.server_port}"
        far = f"http://localhost:{self.server.server_port}"  # another host's name, the same server
        return {
            "/json": (200, "application/json", b'{"a": 1}', {}),
            "/latin": (200, "text/plain; charset=iso-8859-1", "Köln".encode("latin-1"), {}),
            "/picture": (200, "image/png", b"\x89PNG....", {}),
            "/none": (204, "", b"", {}),
            "/missing": (404, "text/plain", b"no such thing " * 1000, {}),
            "/echo": (200, "application/json", json.dumps(headers).encode(), {}),
            "/large": (200, "text/plain", b"x" * 3_000_000, {}),
            "/home": (302, "text/plain", b"go", {"location": f"{near}/json#part"}),
            "/circle": (302, "text/plain", b"go", {"location": "/circle"}),
            "/nowhere": (302, "text/plain", b"go", {"location": "//["}),
            "/away": (302, "text/plain", b"go", {"location": f"{far}/json"}),
        }.get(path.partition("?")[0], (200, "text/plain", path.encode(), {}))

    def endless(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        try:
            while True:
                self.wfile.write(b"y" * 65_536)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


for method in ("GET", "POST", "DELETE"):
    setattr(Play, f"do_{method}", Play.answer)


@pytest.fixture
def far() -> Iterator[Far]:
    server = Far()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def tool(url: str, environment: dict[str, str] | None = None, **more: Any) -> HttpTool:
    return open_http("far", ToolSettings(kind="http", url=url, **more), HttpWeb(), environment or {})


async def ask(asked: HttpTool, **arguments: Any) -> Outcome:
    return await asked.call(arguments, Principal(), "run_1:1.1")


@pytest.mark.parametrize(
    ("path", "said", "wrong"),
    [
        ("/json", '{"a": 1}', False),
        ("/latin", "Köln", False),
        ("/picture", "8 bytes of image/png, which are left out", False),
        ("/none", "status 204: no content", False),
        ("/missing", f"status 404: {('no such thing ' * 1000)[:2000]}", True),
        ("/home", '{"a": 1}', False),
        ("/circle", "status 302, redirected to /circle, which is not followed: go", True),
        ("/nowhere", "status 302, redirected to //[, which is not followed: go", True),
    ],
)
async def test_an_answer_is_told_as_its_kind_allows(far: Far, path: str, said: str, wrong: bool) -> None:
    outcome = await ask(tool(far.url + path))
    assert outcome.text == said
    assert outcome.is_error is wrong


async def test_a_redirect_to_another_host_is_not_followed(far: Far) -> None:
    outcome = await ask(tool(f"{far.url}/away", {"TOKEN": SECRET}, headers_env={"authorization": "TOKEN"}))
    assert "which is not followed" in outcome.text
    assert outcome.is_error
    assert [asked[1] for asked in far.asked] == ["/away"]


async def test_a_write_is_not_sent_on(far: Far) -> None:
    outcome = await ask(tool(f"{far.url}/home", method="POST"))
    assert outcome.is_error
    assert [asked[:2] for asked in far.asked] == [("POST", "/home")]


@pytest.mark.parametrize(
    "value", ["7", "a b", "Köln", "50%", "a?b=c", "x#y", "a@evil.example", "1.2..3", "a;b", "a:80"]
)
async def test_a_variable_stays_in_its_place(far: Far, value: str) -> None:
    outcome = await ask(tool(far.url + "/items/{id}/parts", parameters=ID), id=value)
    assert not outcome.is_error
    (_, path, headers, _) = far.asked[0]
    assert path.count("/") == 3
    assert "?" not in path
    assert headers["host"] == f"127.0.0.1:{far.server_port}"


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "a/b", "../../admin", "a\\b", "%2e%2e", "%252e%252e", "a%2fb", "a\r\nhost: evil", "a\0b", "\ud800",
     "..%5c", "\u202etxt"],
)  # fmt: skip
async def test_a_variable_that_would_leave_its_place_is_told_and_never_sent(far: Far, value: str) -> None:
    outcome = await ask(tool(far.url + "/items/{id}", parameters=ID), id=value)
    assert outcome.is_error
    assert "cannot be sent" in outcome.text
    assert far.asked == []


async def test_two_variables_do_not_make_dots_together(far: Far) -> None:
    two = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a", "b"]}
    outcome = await ask(tool(far.url + "/x/{a}{b}/y", parameters=two), a=".", b=".")
    assert outcome.is_error
    outcome = await ask(tool(far.url + "/x/.{a}/{b}", parameters=two), a="%2e", b="y")
    assert outcome.is_error
    assert far.asked == []


async def test_query_and_body_take_what_they_name(far: Far) -> None:
    parameters = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "q": {}, "tag": {}, "note": {}, "page": {}},
        "required": ["id"],
    }
    writes = tool(
        far.url + "/items/{id}", method="POST", body="json", parameters=parameters,
        query={"lang": "en", "q": "{q}", "tag": "{tag}", "page": "p{page}"},
    )  # fmt: skip
    await ask(writes, id=7, q="a&b=c", tag=["x", "y"], note={"deep": "ü"})
    method, path, headers, body = far.asked[0]
    assert (method, path) == ("POST", "/items/7?lang=en&q=a%26b%3Dc&tag=x&tag=y")
    assert json.loads(body) == {"note": {"deep": "ü"}}
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == "run_1:1.1"


async def test_a_reading_request_has_no_key_and_needs_no_person(far: Far) -> None:
    reads, writes = tool(far.url + "/json"), tool(far.url + "/json", method="DELETE")
    await ask(reads)
    assert "idempotency-key" not in far.asked[0][2]
    assert (reads.settings.asks, writes.settings.asks) == (False, True)


async def test_a_secret_goes_to_the_server_and_nowhere_else(far: Far) -> None:
    asked = tool(
        f"{far.url}/echo", {"TOKEN": SECRET}, headers={"x-shop": "7"}, headers_env={"authorization": "TOKEN"}
    )  # fmt: skip
    outcome = await ask(asked)
    assert far.asked[0][2]["authorization"] == SECRET
    assert '"x-shop": "7"' in outcome.text
    assert "(secret)" in outcome.text
    assert "very-secret-token" not in outcome.text
    assert "very-secret-token" not in repr(asked.tool) + repr(asked.settings)


def test_no_secret_is_kept_anywhere(far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run: the far side repeats the secret, and neither an event nor any file of the gateway has it."""
    monkeypatch.setenv("FAR_TOKEN", SECRET)
    tools = {
        "echo": {"kind": "http", "url": f"{far.url}/echo", "headers_env": {"authorization": "FAR_TOKEN"}},
        "items": {
            "kind": "http", "method": "POST", "url": f"{far.url}/items/{{id}}", "approval": False, "parameters": ID,
        },
    }  # fmt: skip
    script = [called("echo"), called("items", id="a b"), called("items", id="../x"), {"text": "done"}]
    with running(settings(tmp_path, script, tools)) as gateway:
        reached = Gateway(gateway.url)
        view = run(reached)
        told = results(reached, view)
    assert view["answer"] == "done"
    assert [asked[:2] for asked in far.asked] == [("GET", "/echo"), ("POST", "/items/a%20b")]
    assert far.asked[0][2]["authorization"] == SECRET
    assert far.asked[1][2]["idempotency-key"] == f"{view['id']}:2.1"
    assert "(secret)" in told[0]
    assert "cannot be sent" in told[2]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"very-secret" in path.read_bytes()]


@pytest.mark.parametrize("path", ["/large", "/endless"])
async def test_an_answer_is_read_to_a_bound(far: Far, path: str) -> None:
    outcome = await ask(tool(far.url + path))
    assert outcome.text.startswith("(the answer has more than 1048576 bytes; this is its beginning)")
    assert len(outcome.text) < 1_050_000


async def test_a_slow_server_is_left_and_a_write_to_it_is_in_doubt(far: Far) -> None:
    began = time.monotonic()
    read = await ask(tool(f"{far.url}/slow", seconds=0.3))
    write = await ask(tool(f"{far.url}/slow", seconds=0.3, method="POST"))
    assert time.monotonic() - began < 2.5
    assert "took longer than" in read.text
    assert (read.doubt, write.doubt) == (False, True)


async def test_a_cancelled_call_leaves_no_connection(far: Far) -> None:
    call = asyncio.ensure_future(ask(tool(f"{far.url}/slow")))
    while not far.asked:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    assert not [t for t in asyncio.all_tasks() if "fetch" in repr(t)]


async def test_a_port_where_nobody_listens_is_told_and_no_doubt_is_left() -> None:
    outcome = await ask(tool("http://127.0.0.1:1/x", method="POST"))
    assert outcome.is_error
    assert "cannot connect to 127.0.0.1:1" in outcome.text
    assert not outcome.doubt


# Where a request may go.


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
     "64:ff9b::a00:1", "2002:7f00:1::", "ff02::1"],
)  # fmt: skip
def test_addresses_of_this_machine_and_of_private_networks_are_refused(address: str) -> None:
    public = tool("https://shop.example/x")
    assert not public._allows(address)  # pyright: ignore[reportPrivateUsage]
    assert tool("https://shop.example/x", network=True)._allows(address)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "8.8.8.8"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert tool("https://shop.example/x")._allows(address)  # pyright: ignore[reportPrivateUsage]


def test_an_address_in_the_settings_opens_itself_alone() -> None:
    named = tool("http://10.0.0.5:8080/x")
    assert named._allows("10.0.0.5")  # pyright: ignore[reportPrivateUsage]
    assert not named._allows("10.0.0.6")  # pyright: ignore[reportPrivateUsage]
    assert not named._allows("127.0.0.1")  # pyright: ignore[reportPrivateUsage]
    local = tool("http://localhost/x")
    assert local._allows("::1")  # pyright: ignore[reportPrivateUsage]
    assert not local._allows("10.0.0.6")  # pyright: ignore[reportPrivateUsage]


async def test_a_name_that_points_inside_is_refused_and_one_that_changes_its_mind_too(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look-up gives a private address; a later one, which must not happen, a public one."""
    answers = ["127.0.0.1", "93.184.215.14"]
    asked: list[str] = []

    def look_up(host: str, port: int, *more: Any, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[len(asked) - 1], port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    outcome = await ask(tool(f"http://shop.example:{far.server_port}/json"))
    assert outcome.is_error
    assert "127.0.0.1, which may not be asked" in outcome.text
    assert asked == ["shop.example"]
    assert far.asked == []


async def test_what_was_looked_up_is_what_is_connected_to(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(host: str, port: int, *more: Any, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    outcome = await ask(tool(f"http://shop.example:{far.server_port}/json", network=True))
    assert outcome.text == '{"a": 1}'
    assert asked == ["shop.example"]
    assert far.asked[0][2]["host"] == f"shop.example:{far.server_port}"


# What the settings may say.


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"url": "ftp://x/y"}, "is not an address"),
        ({"url": "https://{host}/y"}, "the host in `url` is fixed"),
        ({"url": "https://u:p@x/y"}, "is not an address"),
        ({"url": "https://x/y?z=1"}, "belongs into `query`"),
        ({"url": "https://x/{y"}, "a brace without its other half"),
        ({"url": "https://x/{id}"}, "does not have id"),
        ({"url": "https://x/{id}", "parameters": {"properties": {"id": {}}}}, "must be `required`"),
        ({"url": "https://x/y", "parameters": {"properties": {"id": {}}}}, "nothing uses id"),
        ({"url": "https://x/y", "body": "json"}, "a GET has no body"),
        ({"url": "https://x/y", "parameters": {"type": "array"}}, "JSON Schema of an object"),
        ({"url": "https://x/y", "parameters": {"properties": {"a": {"type": 7}}}}, "no JSON Schema"),
        ({"url": "https://x/y", "parameters": "/nowhere.json"}, "cannot read /nowhere.json"),
        ({"url": "https://x/y", "headers": {"Host": "evil"}}, "'host' cannot be set"),
        ({"url": "https://x/y", "headers": {"x": "a\r\nb: c"}}, "a character that headers cannot carry"),
        ({"url": "https://x/y", "headers_env": {"x": "UNSET"}}, "'UNSET' of `headers_env` is not set"),
        ({"url": "https://x/y", "headers_env": {"x": "BROKEN"}}, "a character that headers cannot carry"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_said_at_the_start(more: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match="the tool far") as error:
        tool(environment={"BROKEN": "se\ncret"}, **more)
    assert said in str(error.value)
    assert "cret" not in str(error.value)


def test_parameters_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(ID))
    made = tool("https://x/{id}", parameters=str(file))
    assert made.tool.parameters == {**ID, "additionalProperties": False}
    file.write_text("[1]")
    with pytest.raises(SettingsError, match="holds no JSON object"):
        tool("https://x/{id}", parameters=str(file))
