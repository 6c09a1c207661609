"""One question to a server and its answer, whole or as a stream of events, whatever the format.

Knows what HTTP says about an answer (status, type, length, end); the format knows the rest, and is handed in as a
`Question`. Invariant: deltas leave as soon as they are read, and nothing is read that nobody asked for.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Protocol

from msgspec import Struct

from loam.core.calls import Call, Delta
from loam.core.clock import Clock
from loam.core.errors import ModelFailure, fail
from loam.core.ports import Response, Transport
from loam.providers.provider import ProviderSettings
from loam.wire.sse import Event, EventParser

_ERROR_LIMIT = 1 << 20


class Question(Struct, frozen=True):
    """What to send where, and how to read what comes back. Without `events` the answer never is a stream.

    `headers` are added to those that every question has.
    """

    url: str
    body: bytes
    whole: Callable[[bytes], list[Delta]]
    events: "Events | None" = None
    headers: Mapping[str, str] = {}


class Events(Struct, frozen=True):
    """How to read a stream: `read` each event, up to the one that `is_last`; then `end` raises if it was none."""

    read: Callable[[Event], list[Delta]]
    is_last: Callable[[Event], bool]
    end: Callable[[], None]


class ReadError(Protocol):
    """Makes the verdict on an error response; `now` is wall time."""

    def __call__(
        self, status: int, headers: Mapping[str, str], *, body: bytes, provider: str, now: float
    ) -> ModelFailure: ...


class Exchange:
    """The way to one provider's server, the same for every question."""

    def __init__(
        self,
        provider: str,
        settings: ProviderSettings,
        transport: Transport,
        clock: Clock,
        *,
        headers: Mapping[str, str],
        read_error: ReadError,
    ) -> None:
        self._provider = provider
        self._transport = transport
        self._clock = clock
        own = {name.lower(): value for name, value in settings.headers.items()}
        self._headers = {"content-type": "application/json", **headers, **own}
        self._timeouts = settings.timeouts
        self._limit = settings.max_answer
        self._read_error = read_error

    async def ask(self, call: Call, ask_for: Callable[[Call], Question]) -> AsyncGenerator[Delta, None]:
        """Raises ModelFailure: what `ask_for` refuses, and every way in which an answer can fail to be one."""
        question = ask_for(call)
        headers = {**self._headers, **question.headers} if question.headers else self._headers
        async with self._transport.post(
            question.url, headers=headers, body=question.body, timeouts=self._timeouts
        ) as response:
            _note(call, response)
            if response.status != 200:
                raise await self._verdict(response)
            kind = response.headers.get("content-type", "")
            if kind.startswith("text/html"):
                raise fail(
                    "malformed", self._provider, f"{self._provider} answered with a web page; is base_url right?"
                )
            if question.events is None or kind.startswith("application/json"):
                for delta in question.whole(await response.read(self._limit)):
                    yield delta
                return
            events = question.events
            parser = EventParser(self._limit)
            async for chunk in response.chunks():
                for event in self._parsed(parser, chunk):
                    for delta in events.read(event):
                        yield delta
                    if events.is_last(event):
                        return
            events.end()

    def _parsed(self, parser: EventParser, chunk: bytes) -> list[Event]:
        try:
            return parser.feed(chunk)
        except ValueError as error:
            raise fail("malformed", self._provider, f"{self._provider}: {error}") from error

    async def _verdict(self, response: Response) -> ModelFailure:
        status = response.status
        if status < 400:
            what = f"{self._provider} answered {status} (to {response.headers.get('location', 'nowhere')})"
            return fail("not_found", self._provider, f"{what}, which is no answer; is base_url right?")
        body = await response.read(_ERROR_LIMIT)
        return self._read_error(status, response.headers, body=body, provider=self._provider, now=self._clock.now())


def _note(call: Call, response: Response) -> None:
    """Writes down in the call's trace what the server called this request."""
    if call.trace.attempts:
        attempt = call.trace.attempts[-1]
        attempt.status = response.status
        attempt.upstream_id = response.headers.get("x-request-id") or response.headers.get("request-id", "")
