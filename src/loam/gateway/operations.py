"""What the native API can do with keys, calls and feedback, and what it says of the gateway's health.

Knows the desks it is given; what HTTP is, `loam.gateway.native` knows. Invariant: a key that is no administrator's sees
its own calls only.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from loam.core.calls import Principal
from loam.core.clock import Clock
from loam.core.operations import Asked, Operation, Plain
from loam.gateway.feedback import Feedback, FeedbackRow, Opinion
from loam.gateway.history import CallFilter, CallHistory, CallPage, CallRecord, CallRow, CallStats
from loam.gateway.keyring import Key, KeyChange, Keyring, MadeKey, NewKey
from loam.gateway.metrics import Metrics
from loam.storage.database import Database

_CALLS = "/loam/v1/calls"
_KEYS = "/loam/v1/keys"


class Keys(Struct, frozen=True):
    keys: list[Key]


class Calls(Struct, frozen=True):
    calls: list[CallRow]


class After(Struct, frozen=True):
    after: Annotated[int | None, Meta(description="`seq` of the last call that was seen; left out, begins now.")] = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class StatsWish(CallFilter, frozen=True, kw_only=True):
    by: Literal["model", "user", "day"] = "model"


class Stats(Struct, frozen=True):
    stats: list[CallStats]


class Health(Struct, frozen=True):
    """`problem` says what is wrong where the status is not ok; `notes` say what works less well than it could."""

    status: Literal["ok", "failing"]
    version: str
    problem: str = ""
    notes: tuple[str, ...] = ()


class ModelEntry(Struct, frozen=True):
    """What can be asked. Prices are in dollars per million tokens."""

    name: str
    kind: Literal["route", "model", "collection", "prompt", "agent"]
    chain: list[str]
    input: str | None = None
    output: str | None = None


class Models(Struct, frozen=True):
    models: list[ModelEntry]


def key_operations(keyring: Keyring) -> tuple[Operation, ...]:
    """Making, listing, changing and deleting keys."""

    async def create(asked: Asked) -> MadeKey:
        return await keyring.create(asked.body)

    async def every(asked: Asked) -> Keys:
        return Keys(keyring.all())

    async def one(asked: Asked) -> Key:
        return keyring.get(asked.path["id"])

    async def change(asked: Asked) -> Key:
        return await keyring.update(asked.path["id"], asked.body)

    async def delete(asked: Asked) -> None:
        await keyring.delete(asked.path["id"])

    path = _KEYS + "/{id}"
    return (
        Operation(method="GET", path=_KEYS, summary="List keys", run=every, answer=Keys),
        Operation(method="POST", path=_KEYS, summary="Make a key", run=create, body=NewKey, answer=MadeKey, status=201),
        Operation(method="GET", path=path, summary="Show a key", run=one, answer=Key),
        Operation(method="PATCH", path=path, summary="Change a key", run=change, body=KeyChange, answer=Key),
        Operation(method="DELETE", path=path, summary="Delete a key", run=delete),
    )


def call_operations(history: CallHistory, feedback: Feedback, clock: Clock) -> tuple[Operation, ...]:
    """Reading the ledger, and saying what an answer was worth."""

    def own(asked: Asked) -> str:
        return "" if asked.principal.admin else asked.principal.key_id or "nobody"

    async def listed(asked: Asked) -> CallPage:
        wanted: CallFilter = asked.query
        return await history.page(wanted if asked.principal.admin else structs.replace(wanted, key_id=own(asked)))

    async def tail(asked: Asked) -> Calls:
        wish: After = asked.query
        return Calls(await history.tail(wish.after, limit=wish.limit))

    async def stats(asked: Asked) -> Stats:
        wish: StatsWish = asked.query
        wanted = CallFilter(**{name: getattr(wish, name) for name in CallFilter.__struct_fields__})
        return Stats(await history.stats(wish.by, wanted))

    async def show(asked: Asked) -> CallRecord:
        return await history.show(asked.path["id"], key_id=own(asked))

    async def judge(asked: Asked) -> FeedbackRow:
        return await feedback.add(asked.path["id"], asked.body, by=asked.principal, now=clock.now())

    one = _CALLS + "/{id}"
    return (
        Operation(
            method="GET", path=_CALLS, summary="List calls, newest first", run=listed, query=CallFilter,
            answer=CallPage, access="key",
        ),
        Operation(
            method="GET", path=_CALLS + "/tail", summary="The calls that ended since", run=tail, query=After,
            answer=Calls,
        ),
        Operation(
            method="GET", path=_CALLS + "/stats", summary="Calls, tokens, cost and latency in groups", run=stats,
            query=StatsWish, answer=Stats,
        ),
        Operation(
            method="GET", path=one, summary="Show a call with its prompt and answer", run=show, answer=CallRecord,
            access="key",
        ),
        Operation(
            method="POST", path=one + "/feedback", summary="Say what an answer was worth", run=judge, body=Opinion,
            answer=FeedbackRow, access="key", status=201,
        ),
    )  # fmt: skip


def state_operations(
    *,
    metrics: Metrics,
    models: Callable[[Principal], Awaitable[list[ModelEntry]]],
    check: Callable[[], Awaitable[str]],
    version: str,
    notes: tuple[str, ...] = (),
) -> tuple[Operation, ...]:
    """Health, readiness, metrics and what a key may ask. `check` gives what is wrong, empty for nothing."""

    async def health(asked: Asked) -> Health:
        return Health("ok", version, notes=notes)

    async def ready(asked: Asked) -> Health:
        problem = await check()
        return Health("failing" if problem else "ok", version, problem, notes)

    async def scrape(asked: Asked) -> Plain:
        return Plain(metrics.text(), "text/plain; version=0.0.4; charset=utf-8")

    async def listed(asked: Asked) -> Models:
        return Models(await models(asked.principal))

    return (
        *(
            Operation(method="GET", path=path, summary="Whether it runs", run=health, answer=Health, access="open")
            for path in ("/health", "/loam/v1/health")
        ),
        Operation(
            method="GET", path="/loam/v1/ready", summary="Whether it can answer and record", run=ready, answer=Health,
            access="open",
        ),
        *(
            Operation(method="GET", path=path, summary="Metrics for Prometheus", run=scrape, answer=Plain)
            for path in ("/metrics", "/loam/v1/metrics")
        ),
        Operation(
            method="GET", path="/loam/v1/models", summary="What this key can ask, with prices", run=listed,
            answer=Models, access="key",
        ),
    )  # fmt: skip


async def unwritable(database: Database) -> str:
    """What keeps a database from being written, empty for nothing."""
    try:
        await asyncio.wait_for(database.write(lambda connection: connection.execute("SELECT 1")), 5)
    except Exception as error:  # noqa: BLE001 - whatever keeps the database from writing is what readiness is about
        return f"the database cannot be written: {error or type(error).__name__}"
    return ""
