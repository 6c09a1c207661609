"""What the native API can do, as a table: rooms list their operations, one place serves and documents them all."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from loam.core.calls import Principal

Access = Literal["open", "key", "admin"]
"""open: anybody. key: any key, which then sees its own things only. admin: an administrator's key."""


class Asked(Struct, frozen=True):
    """One request to an operation: who asks, the path's parts, and body and query as the types the operation names."""

    principal: Principal
    path: Mapping[str, str]
    body: Any = None
    query: Any = None


class Plain(Struct, frozen=True):
    """An answer that is no JSON."""

    content: bytes
    media_type: str


class Operation(Struct, frozen=True, kw_only=True):
    """`run` gives an instance of `answer` (or None, or `Plain`) and raises ModelFailure for what it refuses.

    `path` has parameters in braces: "/loam/v1/keys/{id}". `body` and `query` are Structs; a query's fields are plain.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    summary: str
    run: Callable[[Asked], Awaitable[Any]]
    body: Any = None
    query: Any = None
    answer: Any = None
    access: Access = "admin"
    status: int = 200
