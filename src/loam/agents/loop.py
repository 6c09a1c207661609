"""Think, act, observe: one run driven on from where its events left it, until it ends or a person must decide.

Knows the model, the tools and the log; where a run stands `loam.agents.state` tells. Invariants: an event is durable
before it is acted on; every limit is looked at before the call that could break it; a tool call that was begun and has
no result is done again only where doing it twice is as good as once.
"""

from collections.abc import Callable, Mapping
from contextlib import aclosing
from decimal import Decimal

import msgspec
from msgspec import Struct, structs

from loam.agents.calling import Calling, asked_as, held, longest
from loam.agents.events import (
    Answered,
    Asked,
    Ended,
    Entry,
    Event,
    Failed,
    Journal,
    Returned,
    Run,
    Started,
    Wanted,
)
from loam.agents.settings import AgentSettings
from loam.agents.sources import Source
from loam.agents.state import Pending, State, same
from loam.agents.tools import AgentTool, fenced, read_arguments
from loam.core.answers import Collector
from loam.core.calls import RAG, Call, Principal, Sampling
from loam.core.clock import Clock, new_id
from loam.core.errors import ModelFailure
from loam.core.money import MICRO, Money, dollars
from loam.core.ports import Model
from loam.core.tokens import upper_bound
from loam.prompting.schemas import Schemas

Quote = Callable[[Call], Money | None]


class Agent(Struct, frozen=True):
    """An agent as it can be run: `quote` gives the most that a call can cost, or None where no price is known.

    `calling` says how its model is asked for tools.
    """

    name: str
    settings: AgentSettings
    model: Model
    tools: Mapping[str, AgentTool]
    quote: Quote
    source: Source | None = None
    calling: Calling = "native"


async def write(log: Journal, clock: Clock, run: Run, state: State, event: Event) -> None:
    """Puts an event on record, and the state where it leads. Raises ModelFailure (conflict) for one that is behind."""
    entry = Entry(state.seq + 1, clock.now(), event)
    await log.append(run.id, entry)
    state.take(entry)


class Loop:
    """Drives one run; two of them must not drive the same run at once, and the log refuses the later one."""

    def __init__(self, agent: Agent, run: Run, state: State, log: Journal, clock: Clock) -> None:
        self._agent = agent
        self._run = run
        self._log = log
        self._clock = clock
        self._tools = agent.tools
        self._schemas = Schemas()
        self.state = state

    async def drive(self) -> None:
        while self.state.ended is None:
            pending = self.state.next
            if pending is not None and pending.stage == "waiting":
                return
            if pending is not None:
                await self._act(pending)
            elif self.state.answer is not None:
                await self.write(Ended("answered"))
            else:
                await self._think()

    async def write(self, event: Event) -> None:
        await write(self._log, self._clock, self._run, self.state, event)

    async def _think(self) -> None:
        await self._look()
        call = self._call()
        money, tokens = self._worst(call)
        over = self._over_time() or self._spent_steps() or self._spent_out(call, money, tokens)
        if over is not None:
            await self.write(over)
            return
        if self.state.failures:
            await self._clock.sleep(0.25 * 2**self.state.failures)
        calling, limits = self._agent.calling, self._agent.settings.limits
        holds = held(Asked(money or 0, tokens), Asked(self.state.money, self.state.tokens), calling, limits)
        await self.write(holds)
        await self.write(await self._ask(asked_as(call, calling, holds, limits), holds))

    def _spent_steps(self) -> Ended | None:
        state, settings = self.state, self._agent.settings
        failure, steps = state.last_failure, settings.limits.steps
        if failure is not None and state.failures and (not failure.again or state.failures >= settings.attempts):
            return Ended("failed", failure.message)
        return Ended("steps", f"{steps} calls of the model were made") if state.steps >= steps else None

    def _over_time(self) -> Ended | None:
        most = self._agent.settings.limits.seconds
        return Ended("time", f"the run worked for {most:g} seconds") if self.state.seconds >= most else None

    def _spent_out(self, call: Call, money: Money | None, tokens: int) -> Ended | None:
        state, limits = self.state, self._agent.settings.limits
        if money is None and limits.max_cost_usd is not None:
            named = call.model or "the model"
            return Ended("unknown_price", f"no price of {named} is known, so max_cost_usd can't be kept")
        if limits.max_cost_usd is not None and state.money + (money or 0) > _micros(limits.max_cost_usd):
            message = f"${dollars(state.money)} is spent; the next call may cost ${dollars(money or 0)}"
            return Ended("money", message)
        if limits.tokens is not None and state.tokens + tokens > limits.tokens:
            return Ended("tokens", f"{state.tokens} are used; the next call may use {tokens}")
        return None

    def _call(self) -> Call:
        settings, clock = self._agent.settings, self._clock
        left = settings.limits.seconds - self.state.seconds
        call = Call(
            id=new_id("call", clock.now()),
            model=settings.model,
            messages=tuple(self.state.messages),
            tools=tuple(tool.tool for tool in self._tools.values()),
            sampling=Sampling(max_tokens=settings.max_tokens),
            principal=_for_model(self._run.principal, settings.model),
            deadline=clock.monotonic() + left,
        )
        call.trace.may_retry = lambda: False  # a further try is a step of its own, with a worst case of its own
        return call

    def _worst(self, call: Call) -> tuple[Money | None, int]:
        asked = longest(call, self._agent.calling, self._schemas)
        return self._agent.quote(asked), upper_bound(asked) + self._agent.settings.max_tokens

    async def _ask(self, call: Call, held: Asked) -> Answered | Failed:
        collector = Collector()
        try:
            async with aclosing(self._agent.model.answer(call)) as deltas:
                async for delta in deltas:
                    collector.add(delta)
        except ModelFailure as error:
            failure = error.failure
            attempts = call.trace.attempts
            sent = any(attempt.sent for attempt in attempts) if attempts else bool(failure.provider and failure.sent)
            cost = call.trace.cost if call.trace.cost is not None else held.money
            return Failed(
                failure.kind, failure.message, failure.retryable, cost if sent else 0, held.tokens if sent else 0
            )
        answer = collector.answer()
        cost = call.trace.cost if call.trace.cost is not None else held.money
        parts = answer.choices[0].parts if answer.choices else ()
        return Answered(parts, cost, answer.usage.total if answer.usage is not None else held.tokens)

    async def _look(self) -> None:
        """Asks anew for the tools that come and go: before each step, and before each call."""
        if self._agent.source is not None:
            self._tools = {**self._agent.tools, **await self._agent.source.look()}

    async def _act(self, pending: Pending) -> None:
        """The next event of a tool call; where that is its start, the call."""
        await self._look()
        tool, name = self._tools.get(pending.call.name), pending.call.name
        if tool is None:
            event = self._repeated(pending) or _told(pending, self._unknown(pending))
        else:
            event = self._repeated(pending) or self._held_back(pending, tool) or self._used_up()
        if event is not None or tool is None:
            assert event is not None
            await self.write(event)
            return
        await self.write(Started(pending.key, name, pending.arguments))
        arguments = read_arguments(tool, pending.arguments)
        assert not isinstance(arguments, str)
        outcome = await tool.call(arguments, self._run.principal, f"{self._run.id}:{pending.key}")
        if outcome.doubt and not (tool.settings.reads or tool.settings.idempotent):
            return  # as after a crash: it was started, it has no result, and a person is asked
        text = fenced(name, outcome.text, tool.settings.max_result)
        if pending.arguments != pending.call.arguments:
            text = f"A person changed the arguments to {pending.arguments}.\n{text}"
        await self.write(Returned(pending.key, text, outcome.is_error, outcome.citations))

    def _unknown(self, pending: Pending) -> str:
        """What the model is told of a tool that it can't have."""
        name, source = pending.call.name, self._agent.source
        why = source.absent(name) if source is not None else ""
        if not why:
            why = f"there is no tool {name}; there are: {', '.join(self._tools) or 'none'}"
        if pending.stage == "started":
            why += "; the call was begun before, and nobody knows whether it was done"
        return why

    def _repeated(self, pending: Pending) -> Ended | None:
        repeats, name = self._agent.settings.limits.repeats, pending.call.name
        if pending.stage != "new" or self.state.seen[same(name, pending.arguments)] + 1 < repeats:
            return None
        return Ended("repetition", f"{name} was asked for {repeats} times with the same arguments")

    def _held_back(self, pending: Pending, tool: AgentTool) -> Wanted | Returned | None:
        """What keeps a call from being made now: its arguments, a person who must decide or has said no."""
        settings, name = tool.settings, pending.call.name
        if pending.stage == "denied":
            said = "this call was not allowed" if pending.why == "approval" else "the call was not made again"
            return _told(pending, f"{said}: {pending.reason or 'no reason given'}")
        wrong = read_arguments(tool, pending.arguments)
        if isinstance(wrong, str):
            return _told(pending, wrong)
        if pending.stage == "new" and settings.asks:
            return Wanted(pending.key, name, pending.arguments, "approval", self._expires())
        if pending.stage == "started" and not (settings.reads or settings.idempotent):
            return Wanted(pending.key, name, pending.arguments, "doubt", self._expires())
        return None

    def _expires(self) -> float:
        return self._clock.now() + self._agent.settings.approval_seconds

    def _used_up(self) -> Ended | None:
        most = self._agent.settings.limits.tool_calls
        if self.state.tool_calls >= most:
            return Ended("tool_calls", f"{most} calls of tools were made")
        return self._over_time()


def _for_model(principal: Principal, model: str) -> Principal:
    """Whoever may run an agent may ask its model through it, as with a prompt; a collection stays as it is."""
    if principal.may_ask(model) or model.startswith(RAG):
        return principal
    return structs.replace(principal, models=(*principal.models, model))


def _told(pending: Pending, text: str) -> Returned:
    return Returned(pending.key, text, is_error=True)


def _micros(amount: float) -> Money:
    """Dollars in micro-dollars, rounded down."""
    return int(Decimal(str(amount)) * MICRO)


def is_json_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except msgspec.DecodeError:
        return False
