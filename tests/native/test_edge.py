"""What a gateway takes from the network that no client library would send, and what it says to that."""

import gzip
import http.client
import json
import time
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loam.serving import Running
from tests.native.wire import CHAT, ask, asking, connect, read_to_end

OPENAI = (CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/openai/v1/chat/completions")
ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens", "/anthropic/v1/messages")
MANY = settings(max_examples=25, deadline=None, derandomize=True, database=None)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("messages", "input", "prompt", "max_tokens", "stream", "tools", "tool_choice", "temperature", "n", "loam")


def assert_refusal(path: str, body: bytes) -> None:
    """An error as the clients of this path read it."""
    said = json.loads(body)
    assert said["error"]["message"]
    assert said["error"]["kind" if path.startswith("/loam/") else "type"]
    assert (said.get("type") == "error") == (path in ANTHROPIC)


def talk(gateway: Running, sent: bytes) -> bytes:
    with connect(gateway.url) as connection:
        connection.sendall(sent)
        return read_to_end(connection)


@pytest.mark.parametrize("path", OPENAI + ANTHROPIC)
def test_no_bytes_break_an_endpoint(gateway: Running, path: str) -> None:
    @MANY
    @given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
    def holds(body: bytes) -> None:
        reply = ask(gateway.url, "POST", path, body)
        assert reply.status == 400, reply.body
        assert_refusal(path, reply.body)
        assert reply.headers["x-loam-call-id"] == reply.headers["x-request-id"]

    holds()


@pytest.mark.parametrize("path", OPENAI + ANTHROPIC)
def test_no_wrong_field_breaks_an_endpoint(gateway: Running, path: str) -> None:
    @MANY
    @given(st.sampled_from(FIELDS), VALUES)
    def holds(field: str, value: Any) -> None:
        question = {
            "/v1/embeddings": {"input": "x"},
            "/v1/responses": {"input": "x"},
            "/v1/completions": {"prompt": "x"},
        }
        good = {"model": "fake/echo", **question[path]} if path in question else asking()
        reply = ask(gateway.url, "POST", path, {**good, field: value})
        assert reply.status in (200, 400), reply.body
        if reply.status == 400:
            assert_refusal(path, reply.body)

    holds()


@pytest.mark.parametrize("path", OPENAI + ANTHROPIC)
def test_deep_json_is_a_bad_request(gateway: Running, path: str) -> None:
    reply = ask(gateway.url, "POST", path, b'{"messages":' + b"[" * 50_000)
    assert reply.status == 400
    assert_refusal(path, reply.body)


@pytest.mark.parametrize("path", OPENAI + ANTHROPIC)
def test_a_huge_body_is_refused_by_its_length_alone(gateway: Running, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100001\r\nconnection: close\r\n\r\n"
    answer = talk(gateway, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert_refusal(path, answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/loam/v1/keys"])
def test_a_huge_body_without_a_length_is_refused_as_it_comes(gateway: Running, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    answer = talk(gateway, head.encode() + b"ea60\r\n%b\r\n" % (b"x" * 60_000) * 2)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert_refusal(path, answer.partition(b"\r\n\r\n")[2])


def test_a_body_that_stalls_is_refused(gateway: Running) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\nconnection: close\r\n\r\n"
    answer = talk(gateway, head.encode() + b"{")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"did not arrive" in answer


@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_huge_head_is_refused(gateway: Running, requests_before: int) -> None:
    with connect(gateway.url) as connection:
        for _ in range(requests_before):
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: " + b"x" * 20_000)
        time.sleep(0.05)
        connection.sendall(b"x")
        assert read_to_end(connection).startswith(b"HTTP/1.1 431 ")


def test_a_body_that_comes_in_one_piece_with_its_head_is_not_taken_for_a_huge_head(gateway: Running) -> None:
    body = json.dumps(asking("x" * 50_000)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    assert talk(gateway, head.encode() + body).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_slow_head_is_refused(gateway: Running, requests_before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loam.gateway.server.HEAD_SECONDS", 0.3)
    with connect(gateway.url) as connection:
        for _ in range(requests_before):
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: loc")
        connection.settimeout(3)
        assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\xfe nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_gets_a_400_and_no_more(gateway: Running, sent: bytes) -> None:
    assert talk(gateway, sent).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))
    assert ask(gateway.url, "GET", "/health").status == 200


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/loam/v1/nothing", "/v1/chat/completions/", "/%00"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_not_found(gateway: Running, method: str, path: str) -> None:
    reply = ask(gateway.url, method, path, b"{}")
    assert reply.status == 404
    assert_refusal(path, reply.body)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", path) for path in OPENAI + ANTHROPIC] + [("POST", "/v1/models"), ("PUT", "/loam/v1/keys")],
)
def test_a_wrong_method_is_not_allowed(gateway: Running, method: str, path: str) -> None:
    assert ask(gateway.url, method, path).status == 405


def test_an_answer_says_what_became_of_the_call(gateway: Running) -> None:
    for stream in (False, True):
        headers = ask(gateway.url, "POST", CHAT, asking(stream=stream)).headers
        assert headers["x-loam-call-id"].startswith("call_")
        assert headers["x-loam-call-id"] == headers["x-request-id"]
        assert headers["x-loam-model"] == "fake/echo"
        assert headers["x-loam-attempts"] == "1"
        assert headers["x-loam-cache"]


@pytest.mark.parametrize("model", ["fake/a\r\nset-cookie: b", "fake/\x00", "fake/é", "fake/\u65e5"])
def test_no_models_name_breaks_the_headers(gateway: Running, model: str) -> None:
    for stream in (False, True):
        reply = ask(gateway.url, "POST", CHAT, asking(model=model, stream=stream))
        assert reply.status == 200
        assert unquote(reply.headers["x-loam-model"]) == model
        assert "set-cookie" not in reply.headers


@pytest.mark.parametrize("prefix", ["", "/openai", "/anthropic"])
def test_a_listed_model_is_shown_alone_under_every_prefix(gateway: Running, prefix: str) -> None:
    listed = ask(gateway.url, "GET", f"{prefix}/v1/models").json["data"]
    for entry in listed:
        assert ask(gateway.url, "GET", f"{prefix}/v1/models/{entry['id']}").json == entry
    assert ask(gateway.url, "GET", f"{prefix}/v1/models/nobody/nothing").status == 404


def test_metrics_are_lines_that_prometheus_reads(gateway: Running) -> None:
    ask(gateway.url, "POST", CHAT, asking(model='fake/a\n"b'))
    reply = ask(gateway.url, "GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [line for line in reply.body.decode().split("\n") if line and not line.startswith("#")]
    assert samples
    for line in samples:
        name, _, value = line.rpartition(" ")
        assert name.startswith("loam_")
        assert float(value) >= 0


def test_a_client_that_leaves_ends_its_call(gateway: Running) -> None:
    body = json.dumps(asking(" ".join("word" for _ in range(60)), model="fake/slow", stream=True))
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=10)
    connection.request("POST", CHAT, body)
    response = connection.getresponse()
    call = response.headers["x-loam-call-id"]
    assert response.read1(10)
    response.close()
    connection.close()
    left = time.monotonic()
    state = "open"
    while state == "open" and time.monotonic() < left + 10:  # the answer would take a minute
        state = ask(gateway.url, "GET", f"/loam/v1/calls/{call}").json["call"]["state"]
        time.sleep(0.02)
    assert state == "cancelled"


@pytest.mark.parametrize("path", [*OPENAI, *ANTHROPIC])
def test_a_packed_body_is_refused_with_what_to_do(gateway: Running, path: str) -> None:
    reply = ask(gateway.url, "POST", path, gzip.compress(b"{}"), content_encoding="gzip")
    assert_refusal(path, reply.body)
    assert reply.status == 400
    assert b"without content-encoding" in reply.body


def test_who_comes_through_a_proxy_needs_a_key(gateway: Running) -> None:
    reply = ask(gateway.url, "POST", CHAT, asking(), x_forwarded_for="203.0.113.9")
    assert reply.status == 401
    assert "proxy" in reply.json["error"]["message"]


def test_a_budget_gets_new_limits_and_keeps_what_it_is(gateway: Running) -> None:
    new = {"scope": "user", "subject": "ann", "period": "ever", "money": 5}
    made = ask(gateway.url, "POST", "/loam/v1/budgets", new).json
    path = f"/loam/v1/budgets/{made['id']}"
    changed = ask(gateway.url, "PATCH", path, {"tokens": 7}).json
    assert (changed["tokens"], changed["money"]) == (7, 5)
    changed = ask(gateway.url, "PATCH", path, {"money": None}).json
    assert (changed["tokens"], changed.get("money")) == (7, None)
    assert changed["created"] == made["created"]
    assert ask(gateway.url, "PATCH", path, {"tokens": None}).status == 400  # a budget limits something
    assert ask(gateway.url, "DELETE", path).status == 204
    assert ask(gateway.url, "PATCH", path, {"tokens": 7}).status == 404
