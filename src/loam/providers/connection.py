"""One HTTP/1.1 connection to a provider, with at most one request on it at a time.

Knows sockets, timers and the parser's callbacks; does not know how connections are made, kept or shared
(`loam.providers.transport`). Invariant: a response is whole only if its length, its last chunk or, where it has
neither, a clean close says so; everything else ends in exactly one failure that names what was seen.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from loam.core.errors import Kind, fail
from loam.core.ports import Timeouts

_HEAD_LIMIT = 64 * 1024
_UNREAD_LIMIT = 256 * 1024  # more than this unread, and the socket is left alone until the reader catches up
_LINGER_LIMIT = 64 * 1024
_LINGER_SECONDS = 1.0
_NEVER = float("inf")


class Stale(Exception):
    """A kept connection turned out to be closed: it ended without one byte of answer."""


class Connection(asyncio.Protocol):
    """Made by a pool, which hears of it through `keep` (free for another request) and `forget` (gone)."""

    __slots__ = (
        "_at",
        "_begun",
        "_busy",
        "_due",
        "_ended",
        "_failure",
        "_forget",
        "_head_size",
        "_keep",
        "_keep_seconds",
        "_lingering",
        "_loop",
        "_parser",
        "_paused",
        "_pieces",
        "_reusable",
        "_reused",
        "_timeouts",
        "_timer",
        "_timer_at",
        "_transport",
        "_unread",
        "_until_close",
        "_waiter",
        "headers",
        "provider",
        "status",
    )

    def __init__(
        self,
        provider: str,
        at: str,
        *,
        keep: Callable[["Connection"], None],
        forget: Callable[["Connection"], None],
        keep_seconds: float,
    ) -> None:
        self.provider = provider
        self._at = at
        self._keep = keep
        self._forget = forget
        self._keep_seconds = keep_seconds
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._due = _NEVER
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._busy = self._reused = self._lingering = self._paused = False
        self._reusable = True
        self._timeouts = Timeouts()
        self._reset()

    def _reset(self) -> None:
        """Ready for the next response."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self._failure: Exception | None = None
        self._begun = self._ended = self._until_close = False
        self._unread = self._head_size = 0
        self._pieces.clear()

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def ended(self) -> bool:
        """Whether the response came whole; pieces of it may still be unread."""
        return self._ended

    # What the reader of a response does.

    def send(self, request: bytes, timeouts: Timeouts) -> None:
        """Sends a request, head and body in one; then await `head`, read the pieces, and `release`."""
        self._reset()
        self._busy = True
        self._timeouts = timeouts
        self._expect(timeouts.first_byte)
        self._transport.write(request)

    async def head(self) -> None:
        """Waits for status and headers. Raises ModelFailure, or Stale where the request may simply be sent again."""
        while not self.status:
            if self._failure is not None:
                raise self._failure
            await self._news()

    async def piece(self) -> bytes:
        """What came since the last piece, nothing at the end. Raises ModelFailure."""
        while not self._pieces:
            if self._ended:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._news()
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
            self._expect(self._timeouts.idle)
        return piece

    def release(self, *, linger: bool) -> None:
        """The reader is done. A response that is not at its end closes the connection: at once, or with `linger`
        only if the end does not come within a moment (a stream's last chunk is often a packet behind its last event).
        """
        if self._ended:
            self._retire()
        elif linger and self._failure is None:
            self._lingering = True
            self._unread = 0
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            self._expect(_LINGER_SECONDS)
        else:
            self.close()

    def close(self) -> None:
        """Closes at once; what is unsent or unread is dropped."""
        self._busy = self._reusable = False
        self._transport.abort()

    def _retire(self) -> None:
        """Goes back to the pool, or away."""
        self._busy = self._lingering = False
        self._pieces.clear()
        # An answer that came before the request had left altogether leaves a connection that nobody can reuse.
        if self._reusable and self.is_open and not self._transport.get_write_buffer_size():
            self._reused = True
            self._expect(self._keep_seconds)
            self._keep(self)
        else:
            self.close()

    def _news(self) -> "asyncio.Future[None]":
        """Done when something has happened since now; one reader waits at a time."""
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break_off(self, kind: Kind, what: str) -> None:
        self._end_with(fail(kind, self.provider, f"{self.provider} ({self._at}) {what}"))
        self._transport.abort()

    def _end_with(self, failure: Exception) -> None:
        if self._busy and not self._ended and self._failure is None:
            self._failure = failure
        self._reusable = False
        self._wake()

    # Time: one timer a connection, which rings too early rather than being moved at every byte.

    def _expect(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        if self._due < self._timer_at:
            self._set_timer(self._due)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, _NEVER
        if self._due > self._loop.time():
            if self._due < _NEVER:
                self._set_timer(self._due)
        elif self._lingering or not self._busy:
            self.close()
        elif self.status:
            self._break_off("timeout", f"stopped answering: nothing came for {self._timeouts.idle:g} s")
        else:
            self._break_off("timeout", f"did not answer within {self._timeouts.first_byte:g} s")

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self.close()  # an answer nobody asked for, such as a server's word that it is about to close
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break_off("malformed", f"sent something that is not HTTP: {error}")
            return
        if self._ended:
            self._due = _NEVER
            if self._lingering:
                self._retire()
        elif not self.status:
            self._count_head(len(data))
        elif not self._lingering:
            self._expect(self._timeouts.idle)
            if self._unread > _UNREAD_LIMIT and not self._paused:
                self._paused = True
                self._due = _NEVER  # from here on the time is the reader's
                self._transport.pause_reading()
        elif self._unread > _LINGER_LIMIT:
            self.close()
        self._wake()

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > _HEAD_LIMIT:
            self._break_off("malformed", f"sent a response head of more than {_HEAD_LIMIT} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reusable = False
        if self._until_close and exc is None and self._failure is None:
            self._ended = True
        elif self._busy:
            self._end_with(self._loss(exc))
        self._wake()
        self._forget(self)

    def _loss(self, error: Exception | None) -> Exception:
        how = "reset the connection" if isinstance(error, ConnectionResetError) else "closed the connection"
        if self.status:
            what, kind = f"{how} in the middle of its answer", "truncated"
        elif self._reused and not self._begun:
            return Stale()
        else:
            what, kind = f"{how} before it answered", "connection"
        cause = "" if error is None or isinstance(error, ConnectionError) else f" ({error})"
        return fail(kind, self.provider, f"{self.provider} ({self._at}) {what}{cause}")

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._begun = True
        if self._ended:
            self._reusable = False  # more than one answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # after the head these are trailers, which nobody reads
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.status:
            return
        if status < 200:  # "continue", "early hints": the answer itself is yet to come
            self.headers.clear()
            return
        coding = self.headers.get("content-encoding", "identity")
        if coding != "identity":
            self._break_off("malformed", f"sent its answer as {coding!r} although it was asked for plain bytes")
            return
        self.status = status
        self._until_close = "content-length" not in self.headers and "transfer-encoding" not in self.headers

    def on_body(self, body: bytes) -> None:
        self._unread += len(body)
        if not (self._lingering or self._ended):
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self.status:
            self._ended = True
            self._reusable = self._reusable and self._parser.should_keep_alive()
