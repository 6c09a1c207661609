"""The shapes that rooms hand each other: a Model answers, a Transport reaches a server, a Prices knows prices."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct

from loam.core.calls import Call, Delta, Passage, Principal, Usage
from loam.core.money import Money


class Model(Protocol):
    """Everything that answers.

    `answer` is called without `await` and gives an async generator; whoever holds it closes it (`contextlib.aclosing`).
    It raises `loam.core.errors.ModelFailure` and nothing else of its own.
    """

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]: ...


class Timeouts(Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds. `first_byte` runs from the request sent to the response's head, `idle` between two reads of its body."""

    connect: Annotated[float, Meta(gt=0, description="Seconds to connect, TLS among them.")] = 5.0
    first_byte: Annotated[float, Meta(gt=0, description="Seconds from the request sent to the response's head.")] = (
        120.0
    )
    idle: Annotated[float, Meta(gt=0, description="Seconds between two reads of a response's body.")] = 60.0


class Response(Protocol):
    """An answer whose head has come. Header names are lower case. Raises ModelFailure while its body is read."""

    status: int
    headers: Mapping[str, str]

    async def read(self, limit: int) -> bytes:
        """The whole body; fails as malformed when it is longer than `limit` bytes."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. A body that ends before its length or last chunk raises (kind `truncated`)."""
        ...


class Transport(Protocol):
    """Sends HTTP requests. Leaving the context closes the response; an unread one closes its connection."""

    def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, timeouts: Timeouts
    ) -> AbstractAsyncContextManager[Response]: ...

    async def close(self) -> None: ...


class WebRequest(Struct, frozen=True):
    """One request to anywhere. Header values may be secret, so neither they nor the request are ever logged."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


class WebAnswer(Struct, frozen=True):
    """An answer as far as it was read; `cut` says that there is more. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False


class Web(Protocol):
    """Everything that HTTP reaches, for tools; `allow` says of an IP address whether it may be asked."""

    async def fetch(
        self, request: WebRequest, *, allow: Callable[[str], bool], limit: int, seconds: float
    ) -> WebAnswer:
        """Reads up to `limit` bytes, for `seconds` in all; follows no redirect. Raises ModelFailure.

        The failure's `sent` is False where the request surely did not arrive.
        """
        ...


class Price(Protocol):
    """What one model costs, at one version of the price list."""

    version: str

    def cost(self, usage: Usage, *, tier: str = "", now: float) -> Money:
        """The cost of `usage`, rounded up to a micro-dollar."""
        ...

    def worst(self, input: int, output: int, *, tier: str = "", now: float) -> Money:
        """The most that so many tokens can cost: each at its dearest, as a cache write, as sound, over any step."""
        ...


class Prices(Protocol):
    def find(self, provider: str, model: str) -> Price | None:
        """The price of a model at a provider; `None` when it is not known (never a price of zero by default)."""
        ...


SearchMode = Literal["hybrid", "lexical", "dense"]
"""lexical: by words. dense: by vectors of meaning. hybrid: both, fused; by words alone where there are no vectors."""


class SearchOptions(Struct, frozen=True):
    """How a collection is searched. `metadata` must match to the letter; of a rerank the `rerank` best are read.

    `diversity` from 0 to 1 prefers passages that say something new; `neighbours` adds so many passages on each side.
    """

    mode: SearchMode = "hybrid"
    metadata: dict[str, str] = {}
    diversity: float = 0.0
    neighbours: int = 0
    rerank: int = 0


NOBODY = Principal()
AS_USUAL = SearchOptions()


class Found(Struct, frozen=True):
    """What a search gave: `mode` is how it was searched in the end, `notes` say where that is less than was asked."""

    passages: tuple[Passage, ...]
    mode: SearchMode
    notes: tuple[str, ...] = ()


class Retriever(Protocol):
    """Finds passages in a collection. Raises ModelFailure (kind `not_found`) for a collection that is not there.

    Only documents that `principal` may read are searched; one without a name reads what everybody may.
    """

    async def look(
        self,
        collection: str,
        question: str,
        limit: int,
        *,
        principal: Principal = NOBODY,
        options: SearchOptions = AS_USUAL,
    ) -> Found:
        """The passages that fit best, best first, with how they were searched."""
        ...

    async def revision(self, collection: str, *, principal: Principal | None = None) -> str:
        """The collection's revision; for a principal, one that differs where it may read other documents."""
        ...
