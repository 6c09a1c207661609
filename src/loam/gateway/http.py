"""The few pieces of HTTP that the data path needs, straight on ASGI: the head of a request, its body, an answer.

Knows ASGI; knows no route and no format. Invariant: no request makes it hold more than the limits it is given.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

from msgspec import Struct

from loam.core.errors import refuse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]
Reply = Callable[[int, Sequence[Header], bytes], bool]
"""Sends status, headers and body as a whole response; False where it cannot, and has sent nothing."""

WHEN_GONE = "loam.when_gone"
"""Where a server that tells at once when a client leaves puts, in the scope, the function that takes whom to tell."""

WHEN_CLOSING = "loam.when_closing"
"""Where a server that waits for answers before it stops puts, in the scope, the function that takes whom to tell."""

REPLY = "loam.reply"
"""Where a server that can send a whole answer in one piece puts, in the scope, the function that does it."""

JSON: Header = (b"content-type", b"application/json")
EVENTS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # reverse proxies such as nginx then pass every event on at once
)


_BETA = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Gone(Exception):
    """The client left before its request was whole; there is nobody to answer."""


class Head(Struct):
    """What the data path reads of a request's headers, found in one pass over them."""

    secret: str = ""
    length: int | None = None
    host: str = ""
    origin: str = ""
    forwarded: bool = False
    """Whether a proxy says that it speaks for somebody else."""
    betas: tuple[str, ...] = ()
    loam: dict[str, str] = {}
    """The `x-loam-*` headers, without that prefix."""


def read_head(headers: Iterable[Header]) -> Head:
    """Raises ModelFailure (bad_request) for a length that is no number, a body that is packed, a beta of no name."""
    head = Head()
    for name, value in headers:
        read = _READ.get(name)
        if read is not None:
            read(head, value)
        elif name.startswith(b"x-loam-"):
            head.loam[name[7:].decode("latin-1")] = value.decode("latin-1")
    return head


def _authorization(head: Head, value: bytes) -> None:
    scheme, _, secret = value.decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        head.secret = secret.strip()


def _api_key(head: Head, value: bytes) -> None:
    head.secret = value.decode("latin-1").strip()


def _length(head: Head, value: bytes) -> None:
    if not value.isdigit() or len(value) > 15:
        raise refuse("bad_request", "the content-length header is not a number")
    head.length = int(value)


def _encoding(head: Head, value: bytes) -> None:
    if value.strip().lower() not in (b"", b"identity"):
        coding = value.decode("latin-1")[:40]
        raise refuse("bad_request", f"the body is packed as {coding!r}; send it as plain JSON without content-encoding")


def _betas(head: Head, value: bytes) -> None:
    names = [name.strip() for name in value.decode("latin-1").split(",")]
    for name in names:
        if not _BETA.fullmatch(name):
            raise refuse("bad_request", f"the anthropic-beta header names {name[:80]!r}, which is no feature's name")
    head.betas += tuple(names)


def _host(head: Head, value: bytes) -> None:
    head.host = value.decode("latin-1")


def _origin(head: Head, value: bytes) -> None:
    head.origin = value.decode("latin-1")


def _forwarded(head: Head, value: bytes) -> None:
    head.forwarded = True


_READ: dict[bytes, Callable[[Head, bytes], None]] = {
    b"authorization": _authorization,
    b"x-api-key": _api_key,
    b"content-length": _length,
    b"content-encoding": _encoding,
    b"anthropic-beta": _betas,
    b"host": _host,
    b"origin": _origin,
    b"x-forwarded-for": _forwarded,
    b"forwarded": _forwarded,
    b"x-real-ip": _forwarded,
}


async def read_body(receive: Receive, head: Head, *, limit: int, seconds: float) -> bytes:
    """The whole request body. Raises ModelFailure: too_large beyond `limit` bytes, bad_request when it stalls."""
    if head.length is not None and head.length > limit:
        raise refuse("too_large", f"the request has {head.length} bytes; this gateway takes {limit}")
    event = await receive()
    if event["type"] == "http.disconnect":
        raise Gone
    body: bytes = event.get("body", b"")
    if event.get("more_body", False):
        try:
            async with asyncio.timeout(seconds):
                body = await _read_rest(receive, body, limit)
        except TimeoutError:
            raise refuse("bad_request", f"the request's body did not arrive within {seconds:g} seconds") from None
    if len(body) > limit:
        raise refuse("too_large", f"the request has more than {limit} bytes, which is all this gateway takes")
    return body


async def _read_rest(receive: Receive, first: bytes, limit: int) -> bytes:
    pieces = [first]
    size = len(first)
    more = True
    while more and size <= limit:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Gone
        piece: bytes = event.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        more = event.get("more_body", False)
    return b"".join(pieces)


async def send_whole(
    send: Send, status: int, body: bytes, headers: Sequence[Header], *, scope: Scope | None = None
) -> None:
    """Sends one complete response; with its `scope`, in one piece where the server can."""
    reply: Reply | None = None if scope is None else scope.get(REPLY)
    if reply is not None and reply(status, headers, body):
        return
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})
