"""One connection to the faulty upstream: reads requests, and plays to each what its fault says.

Knows HTTP/1.1 from the server's side, as far as it takes to break it in the right place: it writes to the socket
itself, because a web server would not let it.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Mapping
from typing import Protocol, cast
from urllib.parse import SplitResult, parse_qs, urlsplit

import httptools
import msgspec

from loam.providers import faulty_anthropic, faulty_openai
from loam.providers.faults import FAULTS, Fault
from loam.providers.faulty_answers import Answer, Asked, Events, Json, Task, answer_to, table
from loam.providers.faulty_record import Ending, Record, Visit

_UNASKED = "/unasked"  # before /v1: streams tell their usage without being asked, as some compatible servers do
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class Style(Protocol):
    """A wire format from the server's side: a module is one."""

    PATHS: dict[str, Task]

    def read(self, task: Task, body: Json) -> Asked: ...
    def whole(self, asked: Asked, answer: Answer, fault: Fault) -> bytes: ...
    def events(self, asked: Asked, answer: Answer, fault: Fault) -> Events: ...
    def error(self, fault: Fault, request_id: str) -> bytes: ...
    def error_event(self, fault: Fault, request_id: str) -> bytes: ...


_STYLES: tuple[Style, ...] = (faulty_openai, faulty_anthropic)


class Connection(asyncio.Protocol):
    """One connection; answers one request after another."""

    def __init__(self, record: Record, open_: "set[Connection]") -> None:
        self._record = record
        self._open = open_
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        self._transport.abort()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url = self._body = b""
        self._headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self._task = asyncio.ensure_future(self._answer(method, urlsplit(self._url.decode()), self._body))

    async def _answer(self, method: str, url: SplitResult, body: bytes) -> None:
        path = url.path.removeprefix(_UNASKED)
        for style in _STYLES:
            task = style.PATHS.get(path)
            if method == "POST" and task is not None:
                own = {} if path == url.path else {"stream_options": {"include_usage": True}}
                try:
                    asked = style.read(task, own | table(msgspec.json.decode(body)))
                except (msgspec.DecodeError, ValueError) as error:
                    await self._send_whole(400, msgspec.json.encode({"error": {"message": f"cannot read it: {error}"}}))
                    return
                visit, fault = self._record.receive(path, asked.model, asked.body, self._headers)
                await self._play(asked, visit, fault, style)
                return
        await self._tell(method, url)

    async def _tell(self, method: str, url: SplitResult) -> None:
        """What is not a model's business."""
        status, body = 200, b"{}"
        if (method, url.path) == ("GET", "/faults"):
            body = msgspec.json.encode([{"name": fault.name, "description": fault.description} for fault in FAULTS])
        elif (method, url.path) == ("GET", "/requests"):
            wanted = parse_qs(url.query).get("model")
            visits = [visit for visit in self._record.visits if wanted is None or visit.model == wanted[0]]
            body = msgspec.json.encode({"count": len(visits), "requests": visits})
        elif (method, url.path) == ("DELETE", "/requests"):
            self._record.forget()
        elif (method, url.path) == ("GET", "/v1/models"):
            data = [{"id": fault.name, "object": "model", "created": 0, "owned_by": "faulty"} for fault in FAULTS]
            body = msgspec.json.encode({"object": "list", "data": data})
        else:
            status, body = 404, b'{"error": {"message": "no such path", "type": "not_found_error"}}'
        await self._send_whole(status, body)

    # Playing a fault.

    async def _play(self, asked: Asked, visit: Visit, fault: Fault, style: Style) -> None:
        try:
            await asyncio.sleep(fault.first_pause)
            visit.ending = await self._ending(asked, visit, fault, style)
        except asyncio.CancelledError:
            visit.ending = "left"
            raise
        finally:
            visit.ended = time.time()

    async def _ending(self, asked: Asked, visit: Visit, fault: Fault, style: Style) -> Ending:
        headers = {"x-request-id": f"req_{visit.number}", "request-id": f"req_{visit.number}", **fault.headers}
        match fault.play:
            case "refuse":
                await self._send_whole(fault.status, style.error(fault, f"req_{visit.number}"), headers)
                return "refused"
            case "raw":
                await self._send_whole(200, fault.body, {**headers, "content-type": fault.content_type}, fault.times)
                return "broken"
            case "close":
                self._cut(reset=fault.reset)
                return "broken"
            case "hang":
                await asyncio.Event().wait()
                return "broken"
            case _:
                answer = answer_to(asked, fault)
                if asked.streams and fault.twist != "whole":
                    return await self._stream(style.events(asked, answer, fault), fault, headers, style)
                return await self._whole(asked, answer, fault, headers, style)

    async def _whole(
        self, asked: Asked, answer: Answer, fault: Fault, headers: Mapping[str, str], style: Style
    ) -> Ending:
        await asyncio.sleep(fault.pause)
        body = style.whole(asked, answer, fault)
        play = "answer" if fault.streams else fault.play
        if play == "error":
            await self._send_whole(200, style.error(fault, headers["request-id"]), headers)
            return "broken"
        if play in ("cut", "stall"):
            self._write(_head(200, {**headers, "content-type": "application/json", "content-length": str(len(body))}))
            self._write(body[: len(body) // 2])
            return await self._break_off(fault)
        await self._send_whole(200, body, headers)
        return "answered"

    async def _stream(self, events: Events, fault: Fault, headers: Mapping[str, str], style: Style) -> Ending:
        self._write(_head(200, {**headers, "content-type": "text/event-stream", "transfer-encoding": "chunked"}))
        play = fault.play
        if play == "answer":
            await self._say([*events.opening, *events.pieces, *events.closing], fault)
            self._write(b"0\r\n\r\n")
            return "answered"
        before = [] if fault.after < 0 else [*events.opening, *events.pieces[: fault.after]]
        await self._say(before, fault)
        if play == "cut" and not fault.streams:
            self._write(b"ff\r\ndata: {")  # in the middle of a chunk, not between two
        if play in ("cut", "stall"):
            return await self._break_off(fault)
        if play == "error":
            await self._say([style.error_event(fault, headers["request-id"])], fault)
        if play == "garble":
            await self._say([b'data: {"id": "x", "cho\n\n'], fault)
        self._write(b"0\r\n\r\n")
        return "broken"

    async def _break_off(self, fault: Fault) -> Ending:
        if fault.play == "stall":
            await asyncio.Event().wait()
        await asyncio.sleep(0.02)  # a client that is awake sees the pieces before the end
        self._cut(reset=fault.reset)
        return "broken"

    async def _say(self, events: list[bytes], fault: Fault) -> None:
        """Events as chunks, in the way that the fault's twist wants them."""
        for said in events:
            data = said
            if fault.twist == "comments":
                data = b": still working\n\n" + data
            elif fault.twist == "crlf":
                data = data.replace(b"\n", b"\r\n")
            size = 1 if fault.twist == "bytes" else len(data)
            for start in range(0, len(data), size):
                self._write(b"%x\r\n%b\r\n" % (size, data[start : start + size]))
                if fault.twist == "bytes":
                    await asyncio.sleep(0)
            await asyncio.sleep(fault.pause)
            await self._room.wait()

    def _cut(self, *, reset: bool) -> None:
        if reset:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    async def _send_whole(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, times: int = 1
    ) -> None:
        own = {"content-type": "application/json", **(headers or {}), "content-length": str(len(body) * times)}
        self._write(_head(status, own))
        for _ in range(times):
            self._write(body)
            await self._room.wait()


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Faulty\r\n{lines}\r\n".encode("latin-1")
