"""What the native API can do, as a table: rooms list their operations, one place serves and documents them all."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from loam.core.calls import Principal

Access = Literal["open", "key", "admin"]
"""open: anybody. key: any key, which then sees its own things only. admin: an administrator's key."""


class Asked(Struct, frozen=True):
    """One request to an operation: who asks, the path's parts, and body and query as the types the operation names.

    `stream` says that the client wants events as they happen (`Accept: text/event-stream`), `last_event` which one it
    saw last (`Last-Event-ID`).
    """

    principal: Principal
    path: Mapping[str, str]
    body: Any = None
    query: Any = None
    stream: bool = False
    last_event: str = ""


class Plain(Struct, frozen=True):
    """An answer that is no JSON."""

    content: bytes
    media_type: str


class Sent(Struct, frozen=True):
    """One server-sent event; `data` is told as JSON."""

    data: Any
    event: str = ""
    id: str = ""


class Streamed(Struct, frozen=True):
    """An answer that comes in pieces, as server-sent events; `None` is a sign of life. Whoever sends it closes it."""

    events: AsyncGenerator[Sent | None, None]


class Operation(Struct, frozen=True, kw_only=True):
    """`run` gives an instance of `answer` (or None, `Plain`, `Streamed`) and raises ModelFailure for what it refuses.

    `path` has parameters in braces: "/loam/v1/keys/{id}". `body` and `query` are Structs; a query's fields are plain.

    An operation that can stream names in `streams` what the data of its events is, and what ends the stream.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    summary: str
    run: Callable[[Asked], Awaitable[Any]]
    body: Any = None
    query: Any = None
    answer: Any = None
    streams: str = ""
    access: Access = "admin"
    status: int = 200
