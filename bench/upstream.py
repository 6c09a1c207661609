"""A mock OpenAI upstream, fast enough never to be what a bench measures.

It knows the shape of a chat completion, whole and streamed, and nothing about gateways. Invariant: a stream sends
exactly ``chunks`` content deltas, each with MARKER in it, ``delay_ms`` apart; so a reader can count what was lost.

    python -m bench.upstream --port 9100 --chunks 50 --delay-ms 10
"""

import argparse
import asyncio
import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import uvloop

MARKER = b"quux"  # once in every content delta, nowhere else in a stream

_WANTS_STREAM = re.compile(rb'"stream"\s*:\s*true')
_WANTS_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_USAGE = {"prompt_tokens": 160, "completion_tokens": 96, "total_tokens": 256}


@dataclass(slots=True)
class Counters:
    """What the upstream saw since it started; ``GET /counters`` prints it."""

    requests: int = 0
    streams_finished: int = 0
    streams_aborted: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """Every byte the upstream will ever answer, made once."""

    completion: bytes
    models: bytes
    frames: tuple[bytes, ...]  # role and first delta | delta | ... | delta
    last: bytes  # finish_reason, [DONE]
    last_with_usage: bytes  # finish_reason, usage, [DONE]
    delay_s: float
    counters: Counters = field(default_factory=Counters)


def script(*, chunks: int, delay_ms: float) -> Script:
    """The answers for ``chunks`` deltas, ``delay_ms`` apart; the first leaves at once, with the role chunk."""
    deltas = [_chunk({"content": f" {MARKER.decode()}{n % 10}"}) for n in range(chunks)]
    role, finish = _chunk({"role": "assistant", "content": ""}), _chunk({}, finish_reason="stop")
    usage, done = _chunk(None, usage=_USAGE), _frame(b"[DONE]") + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return Script(
        completion=_response(_completion()),
        models=_response({"object": "list", "data": [{"id": "bench", "object": "model", "owned_by": "mock"}]}),
        frames=(head + role + deltas[0], *deltas[1:]),
        last=finish + done,
        last_with_usage=finish + usage + done,
        delay_s=delay_ms / 1000,
    )


def _completion() -> dict[str, Any]:
    answer = "The ground is what everything else stands on and grows from. " * 6
    message = {"role": "assistant", "content": answer, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return _envelope("chat.completion") | {"choices": [choice], "usage": _USAGE}


def _chunk(delta: dict[str, str] | None, *, finish_reason: str | None = None, usage: Any = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    body = _envelope("chat.completion.chunk") | {"choices": choices}
    if usage:
        body |= {"usage": usage}
    return _frame(json.dumps(body, separators=(",", ":")).encode())


def _envelope(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-bench0123456789", "object": kind, "created": 1_750_000_000, "model": "bench"}


def _frame(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _response(body: dict[str, Any], *, status: bytes = b"200 OK") -> bytes:
    payload = json.dumps(body).encode()
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(payload)) + payload


class Upstream(asyncio.Protocol):
    """One connection; pipelining is not supported, keep-alive is."""

    def __init__(self, script: Script, loop: asyncio.AbstractEventLoop) -> None:
        """``script`` is shared by all connections."""
        self._script, self._loop = script, loop
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""
        self._timer: asyncio.TimerHandle | None = None
        self._sent = 0
        self._started = 0.0
        self._last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop a stream whose reader left."""
        if self._timer:
            self._timer.cancel()
            self._script.counters.streams_aborted += 1

    def data_received(self, data: bytes) -> None:
        """Parse; the callbacks below answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        """Parser callback."""
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        """Parser callback."""
        self._body += body

    def on_message_complete(self) -> None:
        """Parser callback: the request is whole, answer it."""
        script = self._script
        if self._url.endswith(b"/chat/completions"):
            script.counters.requests += 1
            if _WANTS_STREAM.search(self._body):
                self._start_stream()
            else:
                self._transport.write(script.completion)
        elif self._url.endswith(b"/models"):
            self._transport.write(script.models)
        elif self._url == b"/counters":
            counters = {name: getattr(script.counters, name) for name in Counters.__slots__}
            self._transport.write(_response(counters))
        else:
            self._transport.write(_response({"error": {"message": "no such route"}}, status=b"404 Not Found"))

    def _start_stream(self) -> None:
        script = self._script
        self._last = script.last_with_usage if _WANTS_USAGE.search(self._body) else script.last
        self._started, self._sent = self._loop.time(), 0
        self._tick()

    def _tick(self) -> None:
        script = self._script
        if self._sent == len(script.frames):
            self._timer = None
            script.counters.streams_finished += 1
            self._transport.write(self._last)
            return
        self._transport.write(script.frames[self._sent])
        self._sent += 1
        # against the start, not the last tick: a late tick does not delay the rest
        self._timer = self._loop.call_at(self._started + self._sent * script.delay_s, self._tick)


async def serve(port: int, script: Script) -> None:
    """Serve on loopback until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(script, loop), "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--chunks", type=int, default=50)
    parser.add_argument("--delay-ms", type=float, default=10.0)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(options.port, script(chunks=options.chunks, delay_ms=options.delay_ms)))


if __name__ == "__main__":
    main()
