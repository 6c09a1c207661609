"""Agents as models: `agent:NAME` in any client's call begins a run, and the run's answer is the call's.

Knows the desk and the words of a call. Stands before the keys, which judge each step of the run by itself. Invariants:
a run is asked for in the caller's name and goes on when the caller leaves; agents ask the road behind this place, so
none of them can ask another; what is no answer (a limit, a call that waits for a person) never looks like one.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from msgspec import structs

from loam.agents.events import Entry, Failed, Reason, Returned, Started, Wanted
from loam.agents.views import RunView
from loam.core.answers import refused
from loam.core.calls import AGENT, Call, Delta, Head, Principal, Sampling, Step
from loam.core.clock import Clock
from loam.core.errors import Failure, Kind, ModelFailure, refuse
from loam.core.messages import Text, Thinking
from loam.core.money import money
from loam.core.ports import Model

NAME = "agent"
"""Under which name a run's steps are told."""
_SHORTEST, _PULSE = 0.05, 1.0  # seconds after which the call's deadline is looked at
_KINDS: dict[Reason, Kind] = {
    "unknown_price": "unsupported",
    "repetition": "unavailable",
    "failed": "unavailable",
    "cancelled": "conflict",
}
"""What a run that ended without an answer is for the client; every other reason is a limit: `budget`."""


class Runs(Protocol):
    """What is needed of the desk."""

    async def begin(self, name: str, question: str, principal: Principal) -> RunView: ...
    async def show(self, name: str, run_id: str, principal: Principal) -> RunView: ...
    async def follow(
        self, name: str, run_id: str, principal: Principal, *, after: int, pulse: float
    ) -> AsyncGenerator[Entry | RunView | None, None]: ...


class AgentModels:
    """Answers calls of `agent:NAME` by a run, and hands all others on."""

    def __init__(self, inner: Model, runs: Runs, clock: Clock) -> None:
        self._inner = inner
        self._runs = runs
        self._clock = clock

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        if not call.model.startswith(AGENT):
            return self._inner.answer(call)
        try:
            question = question_of(call)
        except ModelFailure as error:
            return refused(error)
        return self._run(call, question)

    async def _run(self, call: Call, question: str) -> AsyncGenerator[Delta, None]:
        name = call.model.removeprefix(AGENT)
        view = await self._runs.begin(name, question, call.principal)
        yield Delta(head=Head(id=view.id, model=call.model))
        yield Delta(step=Step(NAME, "begun", {"run": view.id}))
        standing: RunView | None = None
        left = _PULSE if call.deadline is None else call.deadline - self._clock.monotonic()
        pulse = max(_SHORTEST, min(_PULSE, left))
        news = await self._runs.follow(name, view.id, call.principal, after=1, pulse=pulse)
        async with aclosing(news) as entries:
            async for one in entries:
                if isinstance(one, RunView):
                    standing = one
                elif one is not None and (step := _step(one)) is not None:
                    yield Delta(step=step)
                if call.deadline is not None and self._clock.monotonic() >= call.deadline:
                    break
        standing = standing or await self._runs.show(name, view.id, call.principal)
        call.trace.cost = money(standing.cost_usd)
        for delta in _answer(standing):
            yield delta


def question_of(call: Call) -> str:
    """What the agent is asked: the last user message, after the conversation before it. Raises ModelFailure."""
    for wrong, param, what in (
        (call.task != "chat", "model", "an agent can be asked in a chat only"),
        (bool(call.tools), "tools", "an agent has its own tools; leave tools out"),
        (call.output is not None, "response_format", "an agent answers in words; leave the form of the answer out"),
        (call.sampling.n > 1, "n", "an agent gives one answer"),
        (bool(call.controls.technique), "loam.technique", "an agent thinks in its own way; leave the technique out"),
        (bool(call.controls.collection), "loam.collection", "an agent searches by its tools; leave the collection out"),
    ):
        if wrong:
            raise refuse("unsupported", what, param=param)
    if structs.replace(call.sampling, max_tokens=None) != Sampling():
        call.trace.warn("an agent's settings say how its model is sampled; what the call says of it was left out")
    said: list[str] = []
    for message in call.messages:
        if not all(isinstance(part, Text | Thinking) for part in message.parts):
            raise refuse("unsupported", "an agent is asked in text; a message has other parts", param="messages")
        said.append(f"{message.role}: {message.text}")
    last = call.messages[-1] if call.messages else None
    if last is None or last.role != "user" or not last.text.strip():
        raise refuse("bad_request", "an agent needs a user message with text at the end", param="messages")
    before = "\n\n".join(said[:-1])
    return f"The conversation so far:\n\n{before}\n\nNow:\n\n{last.text}" if before else last.text


def _step(entry: Entry) -> Step | None:
    """An event as a client is told of it: without results, which may be long and are the run's."""
    event = entry.event
    match event:
        case Started():
            return Step(NAME, "calls", {"tool": event.tool, "arguments": event.arguments})
        case Returned():
            return Step(NAME, "returned", {"key": event.key, "is_error": event.is_error})
        case Wanted():
            return Step(NAME, "waits", {"key": event.key, "tool": event.tool, "arguments": event.arguments})
        case Failed():
            return Step(NAME, "failed", {"kind": event.kind, "message": event.message})
        case _:
            return None


def _summed(view: RunView) -> dict[str, Any]:
    """The run as the answer's `loam` object tells it."""
    path = f"/loam/v1/agents/{view.agent}/runs/{view.id}"
    told: dict[str, Any] = {"run": view.id, "agent": view.agent, "status": view.status, "reason": view.reason}
    told |= {name: getattr(view, name) for name in ("steps", "tool_calls", "tokens", "cost_usd")}
    waiting = [{"key": one.key, "tool": one.tool, "arguments": one.arguments, "why": one.why} for one in view.waiting]
    return {**told, "waiting": waiting, "path": path, **({"approve": f"{path}/approvals"} if waiting else {})}


def _answer(view: RunView) -> list[Delta]:
    """The deltas of what a run came to. Raises ModelFailure where it ended without an answer."""
    told = _summed(view)
    done = Delta(step=Step(NAME, "done", told))
    if view.reason == "answered":
        return [Delta(text=view.answer), Delta(finish="stop"), done]
    if view.reason is not None or view.status == "interrupted":
        what = view.reason or "interrupted"
        hint = "" if view.reason else f"Take it up again with `loam agent resume {view.agent} {view.id}`."
        message = (
            f"the run {view.id} of the agent {view.agent} gave no answer ({what}): {view.message or 'see it'}{hint}"
        )
        kind: Kind = "unavailable" if view.reason is None else _KINDS.get(view.reason, "budget")
        code = f"agent_{what}"
        raise ModelFailure(Failure(kind=kind, message=message, code=code, should_retry=False, details=told))
    if view.waiting:
        one = view.waiting[0]
        text = (
            f"A person must decide before I go on: {one.tool} with {one.arguments}. Decide on it with `loam agent "
            f"approve {view.agent} {view.id}`, or with the key {one.key} at {told['approve']}."
        )
    else:
        text = f"I am still at work; the run is at {told['path']}."
    return [Delta(text=text), Delta(finish="pause"), done]
