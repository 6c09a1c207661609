"""One endpoint of the data path: bytes to a Call, the road's deltas to bytes, whole or as a stream.

Knows ASGI and the Border it is given; knows no stage. Invariants: 200 is sent only once the first content is there; the
last byte is sent only after the road's generator has ended, which is when the ledger's row is durable; an answer that
broke off ends with an error event and a cut connection, never like a whole one; a client that leaves cancels its call.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated, Protocol

from msgspec import Meta, Struct, structs

from loam.core.answers import Collector
from loam.core.calls import Answer, Call, Citation, Delta, Principal, SentenceCheck, Step
from loam.core.clock import Clock, new_id
from loam.core.errors import Failure, ModelFailure
from loam.core.ports import Model
from loam.gateway.controls import answer_headers, controls_of, failure_headers, loam_object
from loam.gateway.door import Door
from loam.gateway.http import (
    EVENTS,
    JSON,
    WHEN_GONE,
    Gone,
    Header,
    Receive,
    Scope,
    Send,
    read_body,
    read_head,
    send_whole,
)
from loam.wire.border import Border, StreamEncoder

_log = logging.getLogger("loam.gateway")


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    max_body: Annotated[int, Meta(description="Largest request body in bytes.")] = 32 * 1024 * 1024
    max_head: Annotated[int, Meta(description="Largest request head (line and headers) in bytes.")] = 64 * 1024
    body_seconds: Annotated[float, Meta(description="Seconds within which a request's body must arrive.")] = 30.0
    deadline: Annotated[
        float, Meta(description="Seconds a call may take in all, over every attempt and fallback, unless it says less.")
    ] = 600.0


class Memory(Protocol):
    """Remembers conversations for formats that refer back to an earlier answer."""

    async def recall(self, call: Call) -> Call: ...
    async def keep(self, call: Call, answer: Answer) -> None: ...


class Endpoint:
    """An ASGI app for one path. `limits` gives the rate-limit headers of a principal."""

    def __init__(
        self,
        border: Border,
        road: Model,
        *,
        door: Door,
        clock: Clock,
        settings: HttpSettings,
        limits: Callable[[Principal], list[Header]],
        memory: Memory | None = None,
    ) -> None:
        self._border = border
        self._road = road
        self._door = door
        self._clock = clock
        self._settings = settings
        self._limits = limits
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call_id = new_id("call", self._clock.now())
        try:
            call = await self._read(scope, receive, call_id)
        except ModelFailure as error:
            await self._send_failure(send, None, call_id, error.failure)
        except Gone:
            return
        else:
            await self._answer(call, scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, call_id: str) -> Call:
        settings = self._settings
        head = read_head(scope["headers"])
        principal = self._door.admit(scope, head)
        body = await read_body(receive, head, limit=settings.max_body, seconds=settings.body_seconds)
        call = self._border.decode(body, call_id)
        controls = controls_of(head.loam, call.controls)
        seconds = min(controls.deadline or settings.deadline, settings.deadline)
        deadline = self._clock.monotonic() + seconds
        call = structs.replace(
            call, id=call_id, principal=principal, controls=controls, deadline=deadline, betas=head.betas
        )
        return call if self._memory is None else await self._memory.recall(call)

    async def _answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the call in this task, which a watch on the connection cancels when the client leaves."""
        exchange = _Exchange(scope, send)
        unwatch = exchange.watch(receive)
        try:
            if call.stream:
                await self._stream(call, exchange)
            else:
                await self._whole(call, exchange)
        except asyncio.CancelledError:
            exchange.left()
        except Exception as error:  # noqa: BLE001 - the outermost place: a bug becomes a 500, never a dropped connection
            _log.exception("call %s failed inside the gateway", call.id)
            message = f"the gateway failed inside ({type(error).__name__}); its log has the details under {call.id}"
            await self._broken(call, exchange, Failure(kind="internal", message=message))
        finally:
            unwatch()

    async def _whole(self, call: Call, exchange: "_Exchange") -> None:
        collector = Collector()
        try:
            async with aclosing(self._road.answer(call)) as deltas:
                async for delta in deltas:
                    collector.add(delta)
            answer = collector.answer()
            if self._memory is not None:
                await self._memory.keep(call, answer)
        except ModelFailure as error:
            await self._broken(call, exchange, error.failure)
            return
        citations = [citation for choice in answer.choices for citation in choice.citations]
        checks = [check for choice in answer.choices for check in choice.checks]
        loam = loam_object(call, citations, checks, answer.steps)
        body = self._border.whole(call, answer, self._clock.now(), loam)
        headers = [JSON, *answer_headers(call, final=True), *self._limits(call.principal)]
        exchange.complete = True
        await send_whole(exchange.send, 200, body, headers, scope=exchange.scope)

    async def _stream(self, call: Call, exchange: "_Exchange") -> None:
        encoder = self._border.stream(call, self._clock.now())
        grounds = _Grounds([], [], [])
        collector = Collector() if self._memory is not None else None
        try:
            async with aclosing(self._road.answer(call)) as deltas:
                await self._pump(call, deltas, exchange, encoder, grounds, collector)
            if self._memory is not None and collector is not None:
                await self._memory.keep(call, collector.answer())
        except ModelFailure as error:
            if not exchange.started:
                await self._broken(call, exchange, error.failure)
            else:
                await exchange.body(encoder.error(error.failure))
                exchange.complete = True  # and no closing part: the server cuts the connection, so nothing looks whole
            return
        if not exchange.started:
            await exchange.start(200, [*EVENTS, *answer_headers(call, final=True), *self._limits(call.principal)])
        exchange.complete = True
        await exchange.body(
            encoder.end(loam_object(call, grounds.citations, grounds.checks, grounds.steps)), more=False
        )

    async def _pump(
        self,
        call: Call,
        deltas: AsyncGenerator[Delta, None],
        exchange: "_Exchange",
        encoder: StreamEncoder,
        grounds: "_Grounds",
        collector: Collector | None,
    ) -> None:
        held = b""
        async for delta in deltas:
            data = encoder.delta(delta)
            told = False
            if delta.step is not None:
                grounds.steps.append(delta.step)
                told = call.controls.metadata and delta.step.event != "done"  # that is told in the `loam` object
                data += encoder.step(delta.step) if told else b""
            if collector is not None:
                collector.add(delta)
            if delta.citations or delta.checks:
                grounds.citations += delta.citations
                grounds.checks += delta.checks
            if exchange.started:
                if data:
                    await exchange.body(data)
            elif delta.has_content or (told and data):
                headers = [*EVENTS, *answer_headers(call, final=False), *self._limits(call.principal)]
                await exchange.start(200, headers)
                await exchange.body(held + data)
            else:
                held += data
        if held and not exchange.started:
            await exchange.start(200, [*EVENTS, *answer_headers(call, final=True)])
            await exchange.body(held)

    async def _broken(self, call: Call, exchange: "_Exchange", failure: Failure) -> None:
        exchange.complete = True
        if not exchange.started:
            await self._send_failure(exchange.send, call, call.id, failure)

    async def _send_failure(self, send: Send, call: Call | None, call_id: str, failure: Failure) -> None:
        headers = [JSON, *failure_headers(call, call_id, failure)]
        if call is not None:
            headers += self._limits(call.principal)
        await send_whole(send, failure.http_status, self._border.failure(failure, call_id), headers)


class _Grounds(Struct):
    """What a streamed answer stands on and how it was made, kept for the `loam` object at its end."""

    citations: list[Citation]
    checks: list[SentenceCheck]
    steps: list[Step]


class _Exchange:
    """The sending half of one request, and the watch on whether anybody still listens."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.send = send
        self.started = False
        self.complete = False
        self._task = asyncio.current_task()

    def watch(self, receive: Receive) -> Callable[[], object]:
        """Cancels this task when the client leaves; returns what ends the watch."""
        when_gone = self.scope.get(WHEN_GONE)
        if when_gone is not None:
            when_gone(self._gone)
            return partial(when_gone, None)

        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                continue
            self._gone()

        return asyncio.get_running_loop().create_task(until_gone()).cancel

    def _gone(self) -> None:
        if not self.complete and self._task is not None:
            self._task.cancel()

    def left(self) -> None:
        """Takes the cancellation that `watch` asked for as done with."""
        if self._task is not None:
            self._task.uncancel()

    async def start(self, status: int, headers: list[Header]) -> None:
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": more})
