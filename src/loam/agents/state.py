"""Where a run stands: its events, read one after another.

Pure. Knows what events mean; calls nobody. Invariant: the same events give the same state in every process, so a run
goes on after a crash from what was written down and from nothing else.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from loam.agents.events import (
    Answered,
    Asked,
    Began,
    Decided,
    Ended,
    Entry,
    Failed,
    Forked,
    Resumed,
    Returned,
    Started,
    Wanted,
)
from loam.core.calls import Citation
from loam.core.messages import Message, Text, ToolCall, ToolResult, say
from loam.core.money import Money

Stage = Literal["new", "waiting", "approved", "denied", "started"]


class Pending(Struct):
    """A tool call of the model that has no result yet. `key` is its own in the run, whatever ids the model gives.

    Where it waits for a person it does so `since` a time and, unless that is 0, until it `expires`.
    """

    key: str
    call: ToolCall
    arguments: str
    stage: Stage = "new"
    why: str = ""
    reason: str = ""
    since: float = 0.0
    expires: float = 0.0


class State:
    """`answer` is the model's last word where it asked for no tool."""

    def __init__(self, instructions: str = "") -> None:
        self.messages: list[Message] = [say("system", instructions)] if instructions else []
        self.question = ""
        self.seq = 0
        self.steps = 0
        self.tool_calls = 0
        self.money: Money = 0
        self.tokens = 0
        self.seconds = 0.0
        self.failures = 0
        self.pending: list[Pending] = []
        self.answer: str | None = None
        self.citations: list[Citation] = []
        self.seen: Counter[str] = Counter()
        self.ended: Ended | None = None
        self.last_failure: Failed | None = None
        self._held = Asked(0, 0)
        self._at: float | None = None

    @classmethod
    def of(cls, entries: Iterable[Entry], instructions: str = "") -> "State":
        state = cls(instructions)
        for entry in entries:
            state.take(entry)
        return state

    @property
    def waiting(self) -> Pending | None:
        """The call that a person must decide on."""
        pending = self.next
        return pending if self.ended is None and pending is not None and pending.stage == "waiting" else None

    @property
    def next(self) -> Pending | None:
        return self.pending[0] if self.pending else None

    def take(self, entry: Entry) -> None:
        """Moves on by one event."""
        event = entry.event
        if self._at is not None and self.waiting is None and not isinstance(event, Decided | Resumed | Forked):
            self.seconds += max(0.0, entry.at - self._at)
        self._at, self.seq = entry.at, entry.seq
        if isinstance(event, Asked | Answered | Failed):
            self._model(event)
        elif isinstance(event, Wanted | Decided | Started | Returned):
            self._tool(event, entry.at)
        elif isinstance(event, Began):
            self.question = event.question
            self.messages.append(say("user", event.question))
        elif isinstance(event, Ended):
            self.ended = event

    def _model(self, event: Asked | Answered | Failed) -> None:
        if isinstance(event, Asked):  # what an earlier one held stays spent where nobody knows how it ended
            self.steps += 1
            self.money += event.money
            self.tokens += event.tokens
            self._held = event
            return
        self.money += event.money - self._held.money
        self.tokens += event.tokens - self._held.tokens
        self._held = Asked(0, 0)
        if isinstance(event, Failed):
            self.failures += 1
            self.last_failure = event
            return
        self.failures = 0
        self.messages.append(Message("assistant", event.parts))
        calls = [part for part in event.parts if isinstance(part, ToolCall)]
        self.pending = [Pending(f"{self.steps}.{i}", call, call.arguments) for i, call in enumerate(calls, 1)]
        if not calls:
            self.answer = "".join(part.text for part in event.parts if isinstance(part, Text))

    def _tool(self, event: Wanted | Decided | Started | Returned, at: float) -> None:
        pending = next(one for one in self.pending if one.key == event.key)
        if isinstance(event, Wanted):
            pending.stage, pending.why, pending.since, pending.expires = "waiting", event.why, at, event.expires
        elif isinstance(event, Decided):
            late = 0 < pending.expires <= at  # whoever wrote it down: too late, nothing is approved
            pending.stage = "denied" if event.decision == "deny" or late else "approved"
            pending.reason = event.reason or ("nobody decided in time" if late else "")
            if event.decision == "edit":
                pending.arguments = event.arguments
        elif isinstance(event, Started):
            if pending.stage != "started" and pending.why != "doubt":  # once more, after a crash, is no new wish
                self.seen[same(event.tool, event.arguments)] += 1
            pending.stage = "started"
            self.tool_calls += 1
        else:
            if pending.stage != "started" and pending.why != "doubt":  # what was begun is counted
                self.seen[same(pending.call.name, pending.arguments)] += 1
            result = ToolResult(pending.call.id, (Text(event.result),), is_error=event.is_error)
            self.messages.append(Message("tool", (result,)))
            self.citations += event.citations
            self.pending.remove(pending)


def same(tool: str, arguments: str) -> str:
    """What two calls share that ask for the same: the tool, and its arguments whatever their order and spaces."""
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return f"{tool} {arguments}"
    return f"{tool} {msgspec.json.encode(value, order='sorted').decode()}"
