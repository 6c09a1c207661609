"""Runs the app on uvicorn (httptools, uvloop), with bounds on what a connection may hold before its request is known.

Knows uvicorn. Invariant: a connection's unfinished head is bounded in size and in time.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, cast

import uvicorn
from msgspec import Meta, Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from loam.core.errors import SettingsError
from loam.gateway.app import Gateway
from loam.gateway.http import REPLY, WHEN_CLOSING, WHEN_GONE, Header, Scope

HEAD_SECONDS = 15.0


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    host: Annotated[
        str, Meta(description="Address to listen on. Anything but loopback asks every client for a key.")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port to listen on; 0 takes a free one.", ge=0, le=65535)] = 4100
    backlog: Annotated[int, Meta(description="Connections that may wait to be accepted.")] = 2048
    keep_alive: Annotated[int, Meta(description="Seconds an idle connection is kept.")] = 75
    grace: Annotated[int, Meta(description="Seconds that running calls get to finish when the gateway stops.")] = 30


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself takes heads of any size for any time."""

    max_head = 64 * 1024

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._when_gone: Callable[[], None] | None = None
        self._when_closing: Callable[[], object] | None = None
        self._head_size = 0
        self._in_head = True
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)
        if self._when_gone is not None:
            self._when_gone()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > self.max_head:
                # One read holds at most 256 KB, so a body that came along with a complete head is no false alarm
                # unless the head itself is still open after it.
                super().data_received(data)
                if self._head_size > self.max_head and not self.transport.is_closing():
                    self._refuse(b"431 Request Header Fields Too Large")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("Scope", self.scope)[WHEN_GONE] = self.when_gone
        cast("Scope", self.scope)[WHEN_CLOSING] = self.when_closing
        self._in_head = True
        self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_size = 0
        self._head_timer.cancel()
        super().on_headers_complete()
        cast("Scope", self.scope)[REPLY] = partial(_reply, self.cycle)

    def on_message_complete(self) -> None:
        self._in_head = True  # what comes next on a kept connection is a head, and counts from its first byte
        super().on_message_complete()

    def when_gone(self, call: Callable[[], None] | None) -> None:
        """Has `call` called when the client leaves (at once, where it has left), until it is told otherwise.

        To be used once the body is read.
        """
        self._when_gone = call
        if call is None:
            return
        if self.transport.is_closing():
            call()
        else:
            self.flow.resume_reading()  # who does not read does not notice

    def when_closing(self, call: Callable[[], object] | None) -> None:
        """Has `call` called when the server is about to stop, until it is told otherwise: for what has no end."""
        self._when_closing = call

    def shutdown(self) -> None:
        super().shutdown()
        if self._when_closing is not None:
            self._when_closing()

    def _too_slow(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


def _reply(cycle: RequestResponseCycle, status: int, headers: Sequence[Header], body: bytes) -> bool:
    """Answers a request whole, in one write; False, and nothing sent, where that takes ASGI's events."""
    if cycle.flow.write_paused or cycle.disconnected or cycle.response_started or not cycle.keep_alive:
        return False
    lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
    head = b"%bcontent-length: %d\r\n%b\r\n" % (STATUS_LINE[status], len(body), b"".join(lines))
    if head.count(b"\n") != len(lines) + 3 or head.count(b"\r") != len(lines) + 3:
        raise ValueError("a header of the answer holds a line end")
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(head + body)
    cycle.message_event.set()
    cycle.on_response()
    return True


class _Quiet(logging.Filter):
    """Drops uvicorn's complaint about the one thing Loam does on purpose: cutting a broken stream."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing response" not in record.getMessage()


def bind(settings: ServerSettings) -> socket.socket:
    """A listening socket. Raises SettingsError when the address cannot be had."""
    try:
        return socket.create_server((settings.host, settings.port), backlog=settings.backlog, reuse_port=False)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; another program may use the port: "
            "choose one with --port or LOAM_PORT"
        ) from error


def make_server(app: Gateway, settings: ServerSettings, *, max_head: int) -> uvicorn.Server:
    """A server for `serve(sockets=[bind(settings)])`; it installs no signal handlers until then."""
    protocol = type("Protocol", (BoundedProtocol,), {"max_head": max_head})
    logging.getLogger("uvicorn.error").addFilter(_Quiet())
    options: dict[str, Any] = {
        "http": protocol,
        "ws": "none",
        "loop": "uvloop",
        "lifespan": "off",
        "access_log": False,
        "proxy_headers": False,  # the door looks at them itself
        "server_header": False,
        "log_level": "warning",
        "backlog": settings.backlog,
        "timeout_keep_alive": settings.keep_alive,
        "timeout_graceful_shutdown": settings.grace,
    }
    return uvicorn.Server(uvicorn.Config(app, **options))
