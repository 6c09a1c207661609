"""A load generator on raw connections: whole answers (`requests`) and event streams (`streams`).

It knows HTTP/1.1 and the marker of `bench.upstream`; nothing about who answers. Invariants: loopback only; bounded in
time, connections and calls; a stream counts as whole only with every delta and ``[DONE]``.

    python -m bench.load requests http://127.0.0.1:9100/v1/chat/completions -c 64 -s 3
    python -m bench.load streams  http://127.0.0.1:9100/v1/chat/completions -c 256 -s 4
"""

import argparse
import asyncio
import ipaddress
import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import uvloop

from bench.upstream import MARKER

MAX_CONNECTIONS = 2048
MAX_SECONDS = 120.0
MAX_CALLS = 5_000_000
GRACE_S = 20.0  # what is in flight at the end may still come back
PROMPT = "Explain, in plain words, why a gateway should add as little time as it can to a call. " * 7

_now = time.perf_counter


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send, and the whole request as bytes; see `target`."""

    host: str
    port: int
    wire: bytes


@dataclass(frozen=True, slots=True)
class Requests:
    """What `requests` measured."""

    concurrency: int
    calls: int
    per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


@dataclass(frozen=True, slots=True)
class Streams:
    """What `streams` measured; a late but whole stream is not lost."""

    concurrency: int
    streams: int
    events: int
    events_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    stream_p50_ms: float
    stream_p99_ms: float
    lost_events: int
    broken_streams: int
    errors: int


def target(url: str, *, headers: dict[str, str] | None = None, model: str = "bench", **body: Any) -> Target:
    """A chat completion with a 0.7 KB prompt for ``url``; ``body`` adds or replaces fields of the request."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{host} is not a loopback address; this generator loads nothing else")
    messages = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": PROMPT}]
    payload = json.dumps({"model": model, "messages": messages, "max_tokens": 128} | body).encode()
    fields = {"Host": f"{host}:{port}", "Content-Type": "application/json", "Content-Length": str(len(payload))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (fields | (headers or {})).items())
    return Target(host, port, f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + payload)


@dataclass(slots=True)
class _Run:
    """The state that the connections of one run share."""

    target: Target
    deadline: float
    open: int
    finished: asyncio.Future[None]
    calls_left: int = MAX_CALLS
    errors: int = 0
    in_time: int = 0  # calls, or events of streams, that ended before the deadline
    latencies: list[float] = field(default_factory=list)
    first_events: list[float] = field(default_factory=list)
    events: int = 0
    lost: int = 0
    broken: int = 0
    window_start: float = 0.0  # calls sent from then until the deadline are measured
    measured_in_flight: int = 0
    keep_loaded: bool = False  # go on, unmeasured, until the measured calls are back: no easy end for the last ones
    expected: int = 0

    def goes_on(self, now: float) -> bool:
        """Whether a connection should send another call."""
        if self.calls_left <= 0:
            return False
        late = now < self.deadline + GRACE_S and self.keep_loaded and self.measured_in_flight > 0
        return now < self.deadline or late

    def leave(self) -> None:
        """A connection ended for good."""
        self.open -= 1
        if self.open == 0 and not self.finished.done():
            self.finished.set_result(None)


class _Caller(asyncio.Protocol):
    """One connection that calls, waits for the whole answer and calls again, until the deadline."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._sent = 0.0  # 0: nothing in flight
        self._measured = False
        self._reconnect = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._send()

    def _send(self) -> None:
        run, now = self._run, _now()
        if not run.goes_on(now):
            self._transport.close()
            return
        self._sent, self._measured = now, run.window_start <= now < run.deadline
        run.measured_in_flight += self._measured
        run.calls_left -= 1
        self._transport.write(run.target.wire)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_complete(self) -> None:
        self._settle(_now())
        self._end()
        if self._parser.should_keep_alive():
            self._send()
        else:
            self._reconnect = True
            self._transport.close()

    def _end(self) -> None:
        self._run.measured_in_flight -= self._measured
        self._sent, self._measured = 0.0, False

    def _settle(self, now: float) -> None:
        run = self._run
        if self._parser.get_status_code() != 200:
            run.errors += 1
            return
        run.latencies.append(now - self._sent)
        if now <= run.deadline:
            run.in_time += 1

    def connection_lost(self, exc: Exception | None) -> None:
        run, cut = self._run, bool(self._sent)
        if cut:  # the answer never became whole
            run.errors += 1
            self._end()
        if (cut or self._reconnect) and run.goes_on(_now()):
            asyncio.get_running_loop().call_later(0.01 if cut else 0, _spawn, run, type(self))
        else:
            run.leave()


class _StreamCaller(_Caller):
    """As its parent, but counts the deltas as they come."""

    def __init__(self, run: _Run) -> None:
        super().__init__(run)
        self._count, self._tail, self._first = 0, b"", 0.0

    def on_body(self, body: bytes) -> None:
        run = self._run
        text = self._tail + body  # a marker may be cut by the end of a read
        new = text.count(MARKER)
        # keep at most what cannot hold a whole marker, so that none counts twice
        cut = text.rfind(MARKER) + len(MARKER) if new else 0
        self._tail = text[max(cut, len(text) - len(MARKER) + 1) :]
        if b"[DONE]" in body:
            self._tail = b"[DONE]"
        if new:
            now = _now()
            if not self._count:
                self._first = now
            self._count += new
            run.events += new
            if run.window_start <= now <= run.deadline:
                run.in_time += new

    def _settle(self, now: float) -> None:
        run = self._run
        if self._parser.get_status_code() != 200:
            run.errors += 1
        else:
            run.lost += max(0, run.expected - self._count)
            if self._count != run.expected or not self._tail.endswith(b"[DONE]"):
                run.broken += 1
            elif self._measured:
                run.latencies.append(now - self._sent)
                run.first_events.append(self._first - self._sent)
        self._count, self._tail, self._first = 0, b"", 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sent:
            self._run.lost += max(0, self._run.expected - self._count)
            self._run.broken += 1
        super().connection_lost(exc)


_tasks: set[asyncio.Task[None]] = set()  # the loop holds tasks weakly


def _spawn(run: _Run, caller: type[_Caller]) -> None:
    task = asyncio.get_running_loop().create_task(_connect(run, caller))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _connect(run: _Run, caller: type[_Caller]) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(lambda: caller(run), run.target.host, run.target.port)
    except OSError:
        run.errors += 1
        if _now() < run.deadline:
            loop.call_later(0.05, _spawn, run, caller)
        else:
            run.leave()


async def _drive(run: _Run, caller: type[_Caller], *, stagger_s: float = 0.0) -> None:
    loop, connections = asyncio.get_running_loop(), run.open
    for index in range(connections):
        loop.call_later(stagger_s * index / connections, _spawn, run, caller)
    limit = run.deadline - _now() + 2 * GRACE_S
    try:
        await asyncio.wait_for(run.finished, limit)
    except TimeoutError:
        run.errors += run.open


def _bounded(concurrency: int, seconds: float) -> None:
    if not 0 < concurrency <= MAX_CONNECTIONS or not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"at most {MAX_CONNECTIONS} connections and {MAX_SECONDS} s; got {concurrency}, {seconds}")


async def requests(target: Target, *, concurrency: int, seconds: float) -> Requests:
    """Whole answers, ``concurrency`` at a time, each connection sending the next as soon as the last is back."""
    _bounded(concurrency, seconds)
    finished = asyncio.get_running_loop().create_future()
    run = _Run(target, _now() + seconds, concurrency, finished)
    await _drive(run, _Caller)
    return Requests(
        concurrency=concurrency,
        calls=len(run.latencies),
        per_s=run.in_time / seconds,
        p50_ms=quantile(run.latencies, 0.5) * 1000,
        p99_ms=quantile(run.latencies, 0.99) * 1000,
        errors=run.errors,
    )


async def streams(target: Target, *, concurrency: int, seconds: float, chunks: int, stream_s: float) -> Streams:
    """Event streams, ``concurrency`` at a time, each slot starting the next when the last is whole.

    The slots start spread over ``stream_s`` (how long the upstream takes for one), so that they are out of step.
    Measured are the streams that start in the ``seconds`` that follow another ``stream_s``; all slots stay busy until
    the last of them is whole.
    """
    _bounded(concurrency, seconds)
    finished = asyncio.get_running_loop().create_future()
    run = _Run(target, 0.0, concurrency, finished, expected=chunks, keep_loaded=True)
    run.window_start = _now() + 2 * stream_s
    run.deadline = run.window_start + seconds
    await _drive(run, _StreamCaller, stagger_s=stream_s)
    return Streams(
        concurrency=concurrency,
        streams=len(run.latencies),
        events=run.events,
        events_per_s=run.in_time / seconds,
        ttft_p50_ms=quantile(run.first_events, 0.5) * 1000,
        ttft_p99_ms=quantile(run.first_events, 0.99) * 1000,
        stream_p50_ms=quantile(run.latencies, 0.5) * 1000,
        stream_p99_ms=quantile(run.latencies, 0.99) * 1000,
        lost_events=run.lost,
        broken_streams=run.broken,
        errors=run.errors,
    )


def quantile(values: list[float], share: float) -> float:
    """The value below which ``share`` of the values lie; nan of nothing."""
    if not values:
        return float("nan")
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """The command line: prints the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["requests", "streams"])
    parser.add_argument("url")
    parser.add_argument("-c", "--concurrency", type=int, default=16)
    parser.add_argument("-s", "--seconds", type=float, default=3.0)
    parser.add_argument("--model", default="bench")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument("--chunks", type=int, default=50, help="content deltas of each stream")
    parser.add_argument("--delay-ms", type=float, default=10.0, help="between two deltas of a stream")
    options = parser.parse_args()
    headers = dict(line.split(": ", 1) for line in options.header)
    stream = {"stream": True} if options.mode == "streams" else {}
    where = target(options.url, headers=headers, model=options.model, **stream)
    if options.mode == "requests":
        measured: Any = uvloop.run(requests(where, concurrency=options.concurrency, seconds=options.seconds))
    else:
        stream_s = options.chunks * options.delay_ms / 1000
        measured = uvloop.run(
            streams(
                where,
                concurrency=options.concurrency,
                seconds=options.seconds,
                chunks=options.chunks,
                stream_s=stream_s,
            )
        )
    print(json.dumps(asdict(measured), indent=2))


if __name__ == "__main__":
    main()
