"""The events of a run as they happen: over the gateway's own HTTP, and at the desk where memory and listeners count."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from loam.agents.events import Answered, Entry, Returned, Started
from loam.agents.views import RunView
from loam.cli.reach import Gateway, Refused
from loam.core.operations import Sent, Streamed
from loam.gateway.http import WHEN_GONE
from loam.gateway.sending import EventStream, encoded
from loam.providers.script import Line
from loam.serving import Running, running
from tests.agents.office import ANN, Pay, called, office
from tests.agents.test_runs import python, settings

RUNS = "/loam/v1/agents/clerk/runs"
WRITE = {"tools": [{"name": "write", "arguments": {"file": "x", "text": "y"}}]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("stream")
    script = [{"text": "thinking", "first_pause": 0.3, **WRITE}]
    with running(settings(folder, script, {"write": python("write")})) as gateway:
        yield gateway


def opened(gateway: Running, path: str, **headers: str) -> http.client.HTTPResponse:
    address = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def read(response: http.client.HTTPResponse) -> list[dict[str, str]]:
    """The events of a stream that came to its end; a comment is an event with nothing in it."""
    records = response.read().decode().split("\n\n")
    assert records.pop() == ""
    return [dict(line.split(": ", 1) for line in record.split("\n") if not line.startswith(":")) for record in records]


def begun(gateway: Running, question: str = "do it") -> str:
    return Gateway(gateway.url).send("POST", RUNS, {"input": question})["id"]


def test_a_stream_tells_each_event_when_it_happens_and_ends_where_the_run_waits(gateway: Running) -> None:
    run = begun(gateway)
    response = opened(gateway, f"{RUNS}/{run}/events", accept="text/event-stream")
    assert (response.status, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    events = read(response)
    assert [event.get("event") for event in events] == ["began", "asked", "answered", "wanted", "run"]
    assert [event.get("id") for event in events] == ["1", "2", "3", "4", None]
    entries = [json.loads(event["data"]) for event in events]
    assert entries[:4] == Gateway(gateway.url).get(f"{RUNS}/{run}/events")["events"]
    assert (entries[4]["id"], entries[4]["status"]) == (run, "waiting")


def test_it_goes_on_after_the_last_event_that_was_seen(gateway: Running) -> None:
    run = begun(gateway)
    path = f"{RUNS}/{run}/events"
    first = read(opened(gateway, f"{path}?stream=true"))
    again = read(opened(gateway, f"{path}?after=1&stream=true", **{"last-event-id": "3"}))
    assert again == first[3:]
    assert read(opened(gateway, f"{path}?after=2&stream=true")) == first[2:]
    assert read(opened(gateway, f"{path}?after=99&stream=true")) == first[4:]


@pytest.mark.parametrize("garbage", ["garbage", "-1", "1.5", "9" * 30, "²", "0x1"])
def test_an_id_that_no_event_has_is_refused_before_the_stream(gateway: Running, garbage: str) -> None:
    run = begun(gateway)
    header = garbage.encode("latin-1").decode("latin-1")
    response = opened(gateway, f"{RUNS}/{run}/events", accept="text/event-stream", **{"last-event-id": header})
    assert response.status == 400
    assert "Last-Event-ID" in json.loads(response.read())["error"]["message"]


def test_a_run_of_another_key_has_no_stream(gateway: Running) -> None:
    local = Gateway(gateway.url)
    secrets = [local.send("POST", "/loam/v1/keys", {"user": user})["secret"] for user in ("ann", "bob")]
    run = Gateway(gateway.url, secrets[0]).send("POST", RUNS, {"input": "hers"})["id"]
    bearer = {"accept": "text/event-stream", "authorization": f"Bearer {secrets[1]}"}
    response = opened(gateway, f"{RUNS}/{run}/events", **bearer)
    assert response.status == 404
    for path, body in (("fork", {"after": 1}), ("cancel", None), ("resume", None)):
        with pytest.raises(Refused, match="no run"):
            Gateway(gateway.url, secrets[1]).send("POST", f"{RUNS}/{run}/{path}", body)
    assert Gateway(gateway.url, secrets[1]).get("/loam/v1/agents/waiting")["waiting"] == []
    assert opened(gateway, f"{RUNS}/run_unknown/events", accept="text/event-stream").status == 404


def test_clients_that_vanish_leave_nothing_behind_and_the_others_hear_all(gateway: Running) -> None:
    address = urlsplit(gateway.url)
    run = begun(gateway)
    head = f"GET {RUNS}/{run}/events HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n".encode()
    for number in range(100):
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=5) as client:
            client.sendall(head)
            if number % 2:
                assert client.recv(10)
    assert [event["event"] for event in read(opened(gateway, f"{RUNS}/{run}/events?stream=true"))][-1] == "run"


def test_a_stream_does_not_keep_the_gateway_from_stopping(tmp_path: Path) -> None:
    """Its grace is for calls that come to an end; a run that works for long is taken up again later."""
    script = [{"text": "late", "first_pause": 60}]
    with running(settings(tmp_path, script, {})) as stopped:
        response = opened(stopped, f"{RUNS}/{begun(stopped)}/events?stream=true")
        assert response.readline() == b"id: 1\n"
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert response.read().endswith(b"\n\n")


def test_the_description_says_that_it_streams(gateway: Running) -> None:
    paths = Gateway(gateway.url).get("/loam/v1/openapi.json")["paths"]
    content = paths["/loam/v1/agents/{name}/runs/{id}/events"]["get"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream"}
    assert content["text/event-stream"]["schema"]["type"] == "string"


@pytest.mark.parametrize("question", ["ä€𝄞 \u202e\u0000 \n\ndata: forged\n\nevent: run", "x" * 90_000])
def test_no_question_breaks_the_stream(gateway: Running, question: str) -> None:
    events = read(opened(gateway, f"{RUNS}/{begun(gateway, question)}/events?stream=true"))
    assert len(events) == 5
    assert json.loads(events[0]["data"])["event"]["question"] == question


# At the desk.


@pytest.mark.anyio
async def test_a_follower_who_leaves_is_forgotten_and_a_slow_one_holds_little(tmp_path: Path) -> None:
    pay = Pay(approval=False)
    pay.may_end.clear()
    async with office(tmp_path, [called("pay", order=7), "done"], {"pay": pay}) as made:
        begun = await made.desk.begin("clerk", "pay", ANN)
        await pay.begun.wait()
        slow = await made.desk.follow("clerk", begun.id, ANN, after=0, pulse=30)
        assert await anext(slow) is not None
        for _ in range(100):
            gone = await made.desk.follow("clerk", begun.id, ANN, after=0, pulse=30)
            reading = asyncio.ensure_future(_drain(gone))
            await asyncio.sleep(0.001)
            reading.cancel()
            await asyncio.wait([reading])
            await gone.aclose()
        assert made.log.news.listeners == 1
        pay.may_end.set()
        await made.settled(begun.id)
        rest = [one async for one in slow]
        assert made.log.news.listeners == 0
        events = await made.log.events(begun.id)
    assert rest[:-1] == events[1:]
    assert any(isinstance(entry.event, Returned) for entry in events)


@pytest.mark.anyio
async def test_an_event_is_told_when_it_is_written_and_not_when_the_run_is_over(tmp_path: Path) -> None:
    """The tool is at work for good, so nothing but the event itself can wake who follows or polls."""
    pay = Pay(approval=False)
    pay.may_end.clear()
    async with office(tmp_path, [Line(first_pause=0.05, tools=called("pay").tools)], {"pay": pay}) as made:
        begun = await made.desk.begin("clerk", "pay", ANN)
        follower = await made.desk.follow("clerk", begun.id, ANN, after=2, pulse=30)
        polling = asyncio.ensure_future(made.desk.events("clerk", begun.id, ANN, after=2, wait=30))
        async with asyncio.timeout(5):
            followed = [await anext(follower), await anext(follower)]
            assert (await polling)[0] == followed[0]
        await follower.aclose()
    assert [type(one.event) for one in followed if isinstance(one, Entry)] == [Answered, Started]


@pytest.mark.anyio
async def test_who_follows_a_run_that_is_cancelled_hears_its_end(tmp_path: Path) -> None:
    pay = Pay(approval=False)
    pay.may_end.clear()
    async with office(tmp_path, [called("pay", order=7)], {"pay": pay}) as made:
        for _ in range(20):
            pay.begun.clear()
            begun = await made.desk.begin("clerk", "pay", ANN)
            follower = await made.desk.follow("clerk", begun.id, ANN, after=0, pulse=30)
            following = asyncio.ensure_future(_all(follower))
            await pay.begun.wait()
            await made.desk.cancel("clerk", begun.id, ANN)
            heard = await asyncio.wait_for(following, 5)
            assert isinstance(heard[-1], RunView)
            assert heard[-1].reason == "cancelled"


async def _all(stream: Any) -> list[Any]:
    return [one async for one in stream]


@pytest.mark.anyio
async def test_silence_has_signs_of_life(tmp_path: Path) -> None:
    pay = Pay(approval=False)
    pay.may_end.clear()
    async with office(tmp_path, [called("pay", order=7), "done"], {"pay": pay}) as made:
        begun = await made.desk.begin("clerk", "pay", ANN)
        follower = await made.desk.follow("clerk", begun.id, ANN, after=0, pulse=0.02)
        signs = 0
        async for one in follower:
            signs += one is None
            if signs == 3:
                pay.may_end.set()
    assert signs >= 3


async def _drain(stream: Any) -> None:
    async for _ in stream:
        pass


@pytest.mark.anyio
async def test_nothing_is_asked_of_the_events_before_the_client_has_taken_the_last() -> None:
    asked: list[int] = []
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[Sent, None]:
        try:
            for number in range(1000):
                asked.append(number)
                yield Sent({"number": number}, "count", str(number))
        finally:
            closed.set()

    taken = asyncio.Semaphore(3)  # the head and two events
    told: list[Any] = []

    async def send(message: Any) -> None:
        await taken.acquire()

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {WHEN_GONE: told.append}
    sending = asyncio.ensure_future(EventStream(Streamed(events()))(scope, receive, send))
    for _ in range(50):
        await asyncio.sleep(0)
    assert asked == [0, 1, 2]
    told[0]()  # the client left
    await asyncio.wait_for(sending, 5)
    assert closed.is_set()


def test_an_event_stands_on_lines_of_its_own() -> None:
    event = Sent({"text": "a\nb\r\n\u2028ü"}, "note", "7")
    assert encoded(event) == 'id: 7\nevent: note\ndata: {"text":"a\\nb\\r\\n\u2028ü"}\n\n'.encode()
