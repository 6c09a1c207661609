"""The exact cache: the same question of the same tenant gets the same answer, and is asked upstream once.

Knows what makes two calls the same and which answers are worth keeping; where they are kept, the store knows.
Invariant: tenants never share an answer unless the settings widen the scope, and only whole answers are kept.
"""

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, structs

from loam.core.calls import CacheControl, Call, Delta
from loam.core.clock import Clock
from loam.core.ports import Model
from loam.gateway.cache_store import MemoryStore
from loam.gateway.flight import Flight, LeaderRefused

Scope = Literal["key", "user", "team", "global"]


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True):
    enabled: Annotated[bool, Meta(description="Cache every call; else only those that ask for it with a ttl.")] = False
    ttl: Annotated[float, Meta(gt=0, description="Seconds an answer is kept where the call does not say.")] = 3600.0
    scope: Annotated[
        Scope, Meta(description="Who shares answers; a caller without a team or user falls back to the next narrower.")
    ] = "key"
    max_bytes: Annotated[int, Meta(ge=0, description="Memory for answers; the least recently used leave first.")] = (
        64 * 1024 * 1024
    )


class Kept(Struct, frozen=True):
    """An answer in the store, and who gave it."""

    model: str
    deltas: list[Delta]


_USE = CacheControl()
_KEY = msgspec.json.Encoder(order="deterministic")
_WRITER = msgspec.msgpack.Encoder()
_READER = msgspec.msgpack.Decoder(Kept)


class Cache:
    """`revision` gives the state of the documents that a call would be answered from, empty where there are none."""

    def __init__(
        self,
        inner: Model,
        store: MemoryStore,
        clock: Clock,
        settings: CacheSettings,
        *,
        revision: Callable[[Call], Awaitable[str]],
    ) -> None:
        self._inner = inner
        self._store = store
        self._clock = clock
        self._settings = settings
        self._revision = revision
        self._flights: dict[bytes, Flight] = {}

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        control = call.controls.cache
        if control is None:
            return self._run(call, _USE) if self._settings.enabled else self._inner.answer(call)
        if control.mode == "bypass":
            call.trace.cache = "bypass"
        elif self._settings.enabled or control.ttl is not None:
            return self._run(call, control)
        return self._inner.answer(call)

    async def _run(self, call: Call, control: CacheControl) -> AsyncGenerator[Delta, None]:
        key = key_of(call, scope=self._settings.scope, revision=await self._revision(call))
        while True:
            source = self._inner.answer(call) if key is None else self._source(call, control, key)
            try:
                async with aclosing(source) as deltas:
                    async for delta in deltas:
                        yield delta
            except LeaderRefused:
                call.trace.cost = None
                continue
            return

    def _source(self, call: Call, control: CacheControl, key: bytes) -> AsyncGenerator[Delta, None]:
        if control.mode != "refresh":
            found = self._store.get(key, self._clock.now(), max_age=control.ttl or self._settings.ttl)
            if found is not None:
                return _replay(call, found)
            flight = self._flights.get(key)
            if flight is not None:
                return self._follow(call, flight)
        call.trace.cache = "miss"
        if control.mode == "no-store":
            return self._inner.answer(call)
        return self._lead(call, key, control.ttl or self._settings.ttl)

    async def _lead(self, call: Call, key: bytes, ttl: float) -> AsyncGenerator[Delta, None]:
        def landed(deltas: list[Delta]) -> None:
            if worth_keeping(call, deltas):
                value = _encoded(_WRITER, Kept(call.trace.model, [_free(delta) for delta in deltas]))
                if value is not None:
                    self._store.put(key, value, self._clock.now(), ttl=ttl)

        def gone() -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        flight = self._flights[key] = Flight(call, landed, gone)
        async with aclosing(flight.lead(self._inner.answer(call))) as deltas:
            async for delta in deltas:
                yield delta

    async def _follow(self, call: Call, flight: Flight) -> AsyncGenerator[Delta, None]:
        _mark(call, "shared", flight.call.trace.model)
        seconds = None if call.deadline is None else call.deadline - self._clock.monotonic()
        async with aclosing(flight.follow(seconds)) as deltas:
            async for delta in deltas:
                call.trace.model = flight.call.trace.model  # a fallback may have changed it
                yield _free(delta)


async def _replay(call: Call, value: bytes) -> AsyncGenerator[Delta, None]:
    kept = _READER.decode(value)
    _mark(call, "hit", kept.model)
    for delta in kept.deltas:
        yield delta


def _mark(call: Call, state: Literal["hit", "shared"], model: str) -> None:
    trace = call.trace
    trace.cache, trace.model, trace.cost = state, model, 0


def _free(delta: Delta) -> Delta:
    """The delta without the provider's price: it was paid once, by the call that asked."""
    if delta.usage is None or delta.usage.provider_cost is None:
        return delta
    return structs.replace(delta, usage=structs.replace(delta.usage, provider_cost=None))


def key_of(call: Call, *, scope: Scope, revision: str) -> bytes | None:
    """What two calls must have in common to get one answer; None for a call that has no canonical form."""
    words = _encoded(
        _KEY,
        (
            *_tenant(call, scope),
            (call.family, call.model, call.task, call.controls.fallbacks, revision),
            (call.controls.collection, call.controls.grounding, call.controls.technique),
            (call.messages, call.inputs, call.tools, call.tool_choice, call.output, call.sampling),
            (call.extra, call.betas, call.passages),
        ),
    )
    return None if words is None else hashlib.sha256(words).digest()


def _tenant(call: Call, scope: Scope) -> tuple[str, ...]:
    principal = call.principal
    if scope == "global":
        return ("global",)
    if scope == "team" and principal.team:
        return ("team", principal.team)
    if scope != "key" and principal.user:
        return ("user", principal.user, call.controls.user)
    return ("key", principal.key_id, principal.user, call.controls.user)


def worth_keeping(call: Call, deltas: Iterable[Delta]) -> bool:
    """Whether an answer is whole, and the first choice's: what a fallback said is not repeated for a ttl."""
    trace = call.trace
    if trace.route and trace.attempts and trace.model != trace.route[0]:  # the last attempt may be an aside's
        return False
    if call.task == "embed":
        return any(delta.embedding is not None for delta in deltas)
    good = ("stop", "tool_calls", "length") if call.sampling.max_tokens is not None else ("stop", "tool_calls")
    begun = {delta.choice for delta in deltas if delta.has_content}
    ended = {delta.choice for delta in deltas if delta.finish in good}
    return bool(begun) and begun <= ended


def _encoded(encoder: "msgspec.json.Encoder | msgspec.msgpack.Encoder", value: Any) -> bytes | None:
    """The bytes of a value; None where a foreign field holds what has no bytes (a lone surrogate, a huge number)."""
    try:
        return encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
