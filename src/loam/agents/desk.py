"""The runs of this gateway: begun, driven in the background, looked at, decided on, taken up again, called off.

Knows agents by name and who may touch which run. Invariant: a run is seen and moved by the key that began it and by
administrators alone; it always acts in the name of the key that began it, whoever resumes it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct, structs

from loam.agents.events import Began, Decided, Ended, Entry, EventLog, Reason, Resumed, Run
from loam.agents.loop import Agent, Loop, is_json_object
from loam.agents.state import State
from loam.core.calls import Citation, Principal
from loam.core.clock import Clock, new_id
from loam.core.errors import refuse
from loam.core.money import dollars

_log = logging.getLogger("loam.agents")

Status = Literal["running", "waiting", "interrupted", "ended"]


class Waiting(Struct, frozen=True):
    """A tool call that a person decides on. doubt: it was begun before a crash, and may have been done."""

    key: str
    tool: str
    arguments: str
    why: str


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


class Desk:
    """`active` gives the principal of a key as it is now; it raises ModelFailure for a key that is no more."""

    def __init__(
        self, agents: Mapping[str, Agent], log: EventLog, clock: Clock, active: Callable[[Principal], Principal]
    ) -> None:
        self._agents = agents
        self._log = log
        self._clock = clock
        self._active = active
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._agents)

    async def begin(self, name: str, question: str, principal: Principal) -> RunView:
        agent, now = self._agent(name), self._clock.now()
        run = Run(new_id("run", now), name, principal, now)
        first = Entry(1, now, Began(question))
        await self._log.create(run, first)
        state = State.of([first], agent.settings.instructions)
        self._drive(agent, run, state)
        return self._view(run, state)

    async def show(self, name: str, run_id: str, principal: Principal) -> RunView:
        run = await self._find(name, run_id, principal)
        return self._view(run, await self._state(run))

    async def every(self, name: str, principal: Principal, limit: int) -> list[RunView]:
        self._agent(name)
        runs = await self._log.runs(name, "" if principal.admin else principal.key_id or "nobody", limit)
        return [self._view(run, await self._state(run)) for run in runs]

    async def events(self, name: str, run_id: str, principal: Principal, *, after: int, wait: float) -> list[Entry]:
        """The events after one; where there is none yet and the run is being driven, waits for it so many seconds."""
        run = await self._find(name, run_id, principal)
        until = self._clock.monotonic() + wait
        while True:
            entries = await self._log.events(run_id, after)
            left = until - self._clock.monotonic()
            if entries or left <= 0 or run.id not in self._tasks:
                return entries
            await asyncio.wait([self._tasks[run.id]], timeout=min(left, 0.05))

    async def decide(self, name: str, run_id: str, principal: Principal, decided: Decided) -> RunView:
        """Writes a person's decision down and goes on with the run."""
        run = await self._find(name, run_id, principal)
        agent, state = self._agent(run.agent), await self._state(run)
        pending = state.next
        if pending is None or pending.stage != "waiting" or pending.key != decided.key:
            raise refuse("conflict", f"{run_id} does not wait for a decision on {decided.key!r}", param="key")
        if decided.decision == "edit" and not is_json_object(decided.arguments):
            raise refuse("bad_request", "an edit needs `arguments`, a JSON object as text", param="arguments")
        run = self._today(run)
        await Loop(agent, run, state, self._log, self._clock).write(decided)
        self._drive(agent, run, state)
        return self._view(run, state)

    async def resume(self, name: str, run_id: str, principal: Principal) -> RunView:
        """Takes up a run whose process ended."""
        run = await self._find(name, run_id, principal)
        agent, state = self._agent(run.agent), await self._state(run)
        if self._status(run, state) == "interrupted":
            run = self._today(run)
            await Loop(agent, run, state, self._log, self._clock).write(Resumed(principal.key_id))
            self._drive(agent, run, state)
        return self._view(run, state)

    async def cancel(self, name: str, run_id: str, principal: Principal) -> RunView:
        """Ends a run, in the middle of a call if need be."""
        run = await self._find(name, run_id, principal)
        await self._stop(run_id)
        state = await self._state(run)
        if state.ended is None:
            agent = self._agent(run.agent)
            await Loop(agent, run, state, self._log, self._clock).write(Ended("cancelled", f"by {principal.key_id}"))
        return self._view(run, state)

    async def close(self) -> None:
        """Stops driving; the runs stay where their events left them."""
        for run_id in list(self._tasks):
            await self._stop(run_id)

    async def _stop(self, run_id: str) -> None:
        task = self._tasks.get(run_id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _drive(self, agent: Agent, run: Run, state: State) -> None:
        task = asyncio.ensure_future(Loop(agent, run, state, self._log, self._clock).drive())
        self._tasks[run.id] = task
        task.add_done_callback(lambda done: self._over(run.id, done))

    def _over(self, run_id: str, task: "asyncio.Task[None]") -> None:
        if self._tasks.get(run_id) is task:
            del self._tasks[run_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the run %s is interrupted: %s", run_id, error, exc_info=error)

    def _today(self, run: Run) -> Run:
        return structs.replace(run, principal=self._active(run.principal))

    def _agent(self, name: str) -> Agent:
        if name not in self._agents:
            raise refuse("not_found", f"there is no agent {name!r}; there are: {', '.join(self._agents) or 'none'}")
        return self._agents[name]

    async def _find(self, name: str, run_id: str, principal: Principal) -> Run:
        run = await self._log.find(run_id)
        mine = run is not None and (principal.admin or run.principal.key_id == principal.key_id)
        if run is None or not mine or run.agent != name:
            raise refuse("not_found", f"there is no run {run_id!r} of {name} that this key began")
        return run

    async def _state(self, run: Run) -> State:
        agent = self._agents.get(run.agent)
        instructions = "" if agent is None else agent.settings.instructions
        return State.of(await self._log.events(run.id), instructions)

    def _status(self, run: Run, state: State) -> Status:
        if state.ended is not None:
            return "ended"
        if state.next is not None and state.next.stage == "waiting":
            return "waiting"
        return "running" if run.id in self._tasks else "interrupted"

    def _view(self, run: Run, state: State) -> RunView:
        waiting = state.next if state.next is not None and state.next.stage == "waiting" else None
        return RunView(
            id=run.id,
            agent=run.agent,
            status=self._status(run, state),
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
            waiting=()
            if waiting is None
            else (Waiting(waiting.key, waiting.call.name, waiting.arguments, waiting.why),),
            citations=tuple(state.citations),
        )
