"""What is shown of a run: where it stands, what it costs, and what it waits for.

Knows states; calls nobody. Invariant: everything that is shown follows from the run's events, and from whether somebody
drives it now.
"""

from typing import Literal

from msgspec import Struct

from loam.agents.events import Reason, Run
from loam.agents.state import State
from loam.core.calls import Citation
from loam.core.money import dollars

Status = Literal["running", "waiting", "interrupted", "ended"]


class Waiting(Struct, frozen=True):
    """A tool call that a person decides on, since when, and until when (0: for ever), in seconds since 1970 UTC.

    doubt: it was begun before a crash, and may have been done.
    """

    key: str
    tool: str
    arguments: str
    why: str
    since: float
    expires: float


class RunView(Struct, frozen=True, omit_defaults=True):
    """A run as it stands. `interrupted`: nobody drives it, because its process ended; resume it."""

    id: str
    agent: str
    status: Status
    created_at: float
    steps: int
    tool_calls: int
    tokens: int
    cost_usd: str
    seconds: float
    events: int
    reason: Reason | None = None
    message: str = ""
    answer: str = ""
    waiting: tuple[Waiting, ...] = ()
    citations: tuple[Citation, ...] = ()


class Inquiry(Struct, frozen=True):
    """A run that waits for a person: the beginning of its question, for whom it runs, and the call to decide on."""

    run: str
    agent: str
    user: str
    question: str
    waiting: Waiting


def status_of(state: State, *, driven: bool) -> Status:
    if state.ended is not None:
        return "ended"
    if state.waiting is not None:
        return "waiting"
    return "running" if driven else "interrupted"


def waits_for(state: State) -> Waiting | None:
    """The call that a run waits with."""
    pending = state.waiting
    if pending is None:
        return None
    return Waiting(pending.key, pending.call.name, pending.arguments, pending.why, pending.since, pending.expires)


def view(run: Run, state: State, *, driven: bool) -> RunView:
    waiting = waits_for(state)
    return RunView(
        id=run.id,
        agent=run.agent,
        status=status_of(state, driven=driven),
        created_at=run.created_at,
        steps=state.steps,
        tool_calls=state.tool_calls,
        tokens=state.tokens,
        cost_usd=dollars(state.money),
        seconds=round(state.seconds, 3),
        events=state.seq,
        reason=None if state.ended is None else state.ended.reason,
        message="" if state.ended is None else state.ended.message,
        answer=state.answer or "",
        waiting=() if waiting is None else (waiting,),
        citations=tuple(state.citations),
    )
