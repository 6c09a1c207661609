"""What the native API can do with agents.

Knows the desk; what HTTP is, `loam.gateway.native` knows. Invariant: what a key may see and move, the desk decides.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from msgspec import Meta, Struct

from loam.agents.desk import Desk, name_of
from loam.agents.events import Decided, Decision, Entry
from loam.agents.views import Inquiry, RunView
from loam.core.errors import refuse
from loam.core.operations import Asked, Operation, Sent, Streamed

_AGENTS = "/loam/v1/agents"
_RUNS = _AGENTS + "/{name}/runs"
_PULSE = 15.0  # seconds of silence after which a stream gives a sign of life
_STREAMS = (
    "Each event of the run as it happens: `id` is its number, `event` its type, `data` the Entry. The last is called "
    "`run` and has the RunView: the run has ended, waits for a decision, or is interrupted. Comments are signs of life."
)


class Agents(Struct, frozen=True):
    agents: list[str]


class NewRun(Struct, frozen=True, forbid_unknown_fields=True):
    input: Annotated[str, Meta(min_length=1, description="What the agent is to do.")]


class Runs(Struct, frozen=True):
    runs: list[RunView]


class Inquiries(Struct, frozen=True):
    waiting: list[Inquiry]


class Cut(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a run is forked: the new one begins with the first `after` events of the old."""

    after: Annotated[int, Meta(ge=1, description="`seq` of the last event that both share.")]


class RunsWish(Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 20


class EventsWish(Struct, frozen=True):
    after: Annotated[int, Meta(ge=0, description="`seq` of the last event that was seen.")] = 0
    wait: Annotated[
        float, Meta(ge=0, le=60, description="Seconds to wait for an event where the run is at work and there is none.")
    ] = 0.0

    stream: Annotated[
        bool, Meta(description="Server-sent events, as with `Accept: text/event-stream`, until the run ends or waits.")
    ] = False


class Events(Struct, frozen=True):
    events: list[Entry]


class Verdict(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says of the call that a run waits for. `edit` approves it with other arguments."""

    key: Annotated[str, Meta(description="`key` of the waiting call.")]
    decision: Decision
    arguments: Annotated[str, Meta(description="For `edit`: the new arguments, JSON as text.")] = ""
    reason: Annotated[str, Meta(description="For `deny`: what the model is told.")] = ""


def agent_operations(desk: Desk) -> tuple[Operation, ...]:
    """Beginning, following, deciding on, resuming and cancelling runs."""
    return (*_looks(desk), *_moves(desk))


def _looks(desk: Desk) -> tuple[Operation, ...]:
    async def names(asked: Asked) -> Agents:
        return Agents(desk.names(asked.principal))

    async def waiting(asked: Asked) -> Inquiries:
        return Inquiries(await desk.waiting(asked.principal, asked.query.limit))

    async def every(asked: Asked) -> Runs:
        return Runs(await desk.every(asked.path["name"], asked.principal, asked.query.limit))

    async def show(asked: Asked) -> RunView:
        return await desk.show(asked.path["name"], asked.path["id"], asked.principal)

    async def events(asked: Asked) -> Events | Streamed:
        wish: EventsWish = asked.query
        name, run = asked.path["name"], asked.path["id"]
        if wish.stream or asked.stream:
            after = _number(asked.last_event) if asked.last_event else wish.after
            return Streamed(_sent(await desk.follow(name, run, asked.principal, after=after, pulse=_PULSE)))
        return Events(await desk.events(name, run, asked.principal, after=wish.after, wait=wish.wait))

    one = _RUNS + "/{id}"
    return (
        Operation(method="GET", path=_AGENTS, summary="List agents", run=names, answer=Agents, access="key"),
        Operation(
            method="GET", path=_AGENTS + "/waiting", summary="What waits for a decision, over all agents", run=waiting,
            query=RunsWish, answer=Inquiries, access="key",
        ),
        Operation(
            method="GET", path=_RUNS, summary="List an agent's runs, newest first", run=every, query=RunsWish,
            answer=Runs, access="key",
        ),
        Operation(method="GET", path=one, summary="Show a run", run=show, answer=RunView, access="key"),
        Operation(
            method="GET", path=one + "/events", summary="The events of a run, waiting for the next if asked",
            run=events, query=EventsWish, answer=Events, streams=_STREAMS, access="key",
        ),
    )  # fmt: skip


def _moves(desk: Desk) -> tuple[Operation, ...]:
    async def begin(asked: Asked) -> RunView:
        return await desk.begin(asked.path["name"], asked.body.input, asked.principal)

    async def decide(asked: Asked) -> RunView:
        said: Verdict = asked.body
        decided = Decided(said.key, said.decision, name_of(asked.principal), said.arguments, said.reason)
        return await desk.decide(asked.path["name"], asked.path["id"], asked.principal, decided)

    async def resume(asked: Asked) -> RunView:
        return await desk.resume(asked.path["name"], asked.path["id"], asked.principal)

    async def fork(asked: Asked) -> RunView:
        return await desk.fork(asked.path["name"], asked.path["id"], asked.principal, after=asked.body.after)

    async def cancel(asked: Asked) -> RunView:
        return await desk.cancel(asked.path["name"], asked.path["id"], asked.principal)

    one = _RUNS + "/{id}"
    return (
        Operation(
            method="POST", path=_RUNS, summary="Begin a run of an agent", run=begin, body=NewRun, answer=RunView,
            access="key", status=201,
        ),
        Operation(
            method="POST", path=one + "/approvals", summary="Approve, edit or deny the tool call that a run waits for",
            run=decide, body=Verdict, answer=RunView, access="key",
        ),
        Operation(
            method="POST", path=one + "/resume", summary="Take up a run whose process ended", run=resume,
            answer=RunView, access="key",
        ),
        Operation(
            method="POST", path=one + "/fork", summary="Begin a run with the first events of another", run=fork,
            body=Cut, answer=RunView, access="key", status=201,
        ),
        Operation(method="POST", path=one + "/cancel", summary="End a run", run=cancel, answer=RunView, access="key"),
    )  # fmt: skip


async def _sent(followed: AsyncGenerator[Entry | RunView | None, None]) -> AsyncGenerator[Sent | None, None]:
    async with aclosing(followed) as happenings:
        async for one in happenings:
            if one is None:
                yield None
            elif isinstance(one, RunView):
                yield Sent(one, "run")
            else:
                yield Sent(one, str(type(one.event).__struct_config__.tag), str(one.seq))


def _number(text: str) -> int:
    """Raises ModelFailure for a Last-Event-ID that no event of a run has."""
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise refuse("bad_request", f"Last-Event-ID is {text[:40]!r}; the id of an event is its number in the run")
    return int(text)
