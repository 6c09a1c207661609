"""Sends an answer of the native API that comes in pieces, as server-sent events.

Knows ASGI and the format of events; knows no operation. Invariants: nothing is asked of the events before the client
has taken what came earlier, so a slow reader holds one event and no more; a client that leaves closes them at once.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import msgspec
from starlette.responses import Response

from loam.core.operations import Sent, Streamed
from loam.gateway.http import EVENTS, WHEN_CLOSING, WHEN_GONE, Receive, Scope, Send

_encoder = msgspec.json.Encoder(order="deterministic")
_ALIVE = b": alive\n\n"


class EventStream(Response):
    """A response for Starlette that streams. Where the server is about to stop it ends, without holding that up."""

    def __init__(self, streamed: Streamed) -> None:
        super().__init__()
        self._events = streamed.events
        self._closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends in a task of its own, which ends with the events, or when the client leaves or the server stops."""
        sending = asyncio.ensure_future(self._send(send))

        def close() -> None:
            self._closing = sending.cancel()

        calls: dict[str, Callable[[], object]] = {WHEN_GONE: sending.cancel, WHEN_CLOSING: close}
        tellers = {scope[name]: call for name, call in calls.items() if name in scope}
        for tell, call in tellers.items():
            tell(call)
        leaving = None if WHEN_GONE in scope else asyncio.ensure_future(_gone(receive))
        if leaving is not None:
            leaving.add_done_callback(lambda _: sending.cancel())
        try:
            await asyncio.wait([sending])
        finally:
            for tell in tellers:
                tell(None)
            if leaving is not None:
                leaving.cancel()
            sending.cancel()
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(EVENTS)})
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    body = _ALIVE if event is None else encoded(event)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
        except asyncio.CancelledError:
            if not self._closing:
                raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def encoded(event: Sent) -> bytes:
    """The event's lines; its JSON has no line break of its own."""
    head = (f"id: {event.id}\n" if event.id else "") + (f"event: {event.event}\n" if event.event else "")
    return head.encode() + b"data: " + _encoder.encode(event.data) + b"\n\n"
