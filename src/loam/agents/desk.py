"""The runs of this gateway: begun, driven in the background, looked at, decided on, forked, taken up again, called off.

Knows agents by name and who may touch which run. Invariants: a run is seen and moved by the key that began it and by
administrators alone; it always acts in the name of the key that began it, whoever moves it; a call that nobody decided
on in time is denied, and nothing that comes later approves it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import contextmanager

from msgspec import structs

from loam.agents.events import EXPIRY, Began, Decided, Ended, Entry, EventLog, Forked, Resumed, Run
from loam.agents.following import Followed, follow, next_events
from loam.agents.loop import Agent, Loop, is_json_object, write
from loam.agents.state import Pending, State
from loam.agents.views import Inquiry, RunView, status_of, view, waits_for
from loam.core.calls import AGENT, Principal
from loam.core.clock import Clock, new_id
from loam.core.errors import ModelFailure, refuse

_log = logging.getLogger("loam.agents")


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
        self._moving: set[str] = set()

    def names(self, principal: Principal) -> list[str]:
        """The agents that a key may run."""
        return [name for name in self._agents if _may_run(principal, name)]

    async def begin(self, name: str, question: str, principal: Principal) -> RunView:
        agent, now = self._agent(name, principal), self._clock.now()
        run = Run(new_id("run", now), name, principal, now)
        first = Entry(1, now, Began(question))
        await self._log.create(run, first)
        state = State.of([first], agent.settings.instructions)
        self._drive(agent, run, state)
        return self._view(run, state)

    async def show(self, name: str, run_id: str, principal: Principal) -> RunView:
        return await self._look(await self._find(name, run_id, principal))

    async def every(self, name: str, principal: Principal, limit: int) -> list[RunView]:
        """The latest runs of an agent."""
        self._known(name)
        runs = await self._log.runs(name, _own(principal), limit)
        return [await self._look(run) for run in runs]

    async def waiting(self, principal: Principal, limit: int) -> list[Inquiry]:
        """What waits for a decision, over all agents, the longest wait first."""
        found: list[Inquiry] = []
        for run in await self._log.waiting(_own(principal), limit):
            state = await self._settled(run)
            waiting = waits_for(state)
            if waiting is not None:
                found.append(Inquiry(run.id, run.agent, run.principal.user, state.question[:_SHOWN], waiting))
        return found

    async def events(self, name: str, run_id: str, principal: Principal, *, after: int, wait: float) -> list[Entry]:
        """The events after one; where there is none yet and the run is being driven, waits for it so many seconds."""
        run = await self._find(name, run_id, principal)
        await self._settled(run)
        return await next_events(self._log, run.id, after, driven=self._driven, wait=wait)

    async def follow(
        self, name: str, run_id: str, principal: Principal, *, after: int, pulse: float
    ) -> AsyncGenerator[Followed, None]:
        """The events after one as they happen, then the run as it stands once it has ended or waits. To be closed.

        Where nothing happens for `pulse` seconds, None is a sign of life.
        """
        run = await self._find(name, run_id, principal)
        await self._settled(run)
        return follow(self._log, run.id, after, driven=self._driven, look=lambda: self._look(run), pulse=pulse)

    async def decide(self, name: str, run_id: str, principal: Principal, decided: Decided) -> RunView:
        """Writes a person's decision down and goes on with the run."""
        run = await self._find(name, run_id, principal)
        state = await self._settled(run)
        pending = state.waiting
        if pending is None or pending.key != decided.key:
            why = "it was cancelled, somebody has decided, or nobody did in time; its events tell"
            raise refuse("conflict", f"{run_id} does not wait for a decision on {decided.key!r}: {why}", param="key")
        if decided.decision == "edit" and not is_json_object(decided.arguments):
            raise refuse("bad_request", "an edit needs `arguments`, a JSON object as text", param="arguments")
        run = self._today(run)
        agent = self._agent(run.agent, run.principal)
        with self._move(run_id):
            await write(self._log, self._clock, run, state, decided)
            self._drive(agent, run, state)
        return self._view(run, state)

    async def resume(self, name: str, run_id: str, principal: Principal) -> RunView:
        """Takes up a run whose process ended."""
        run = await self._find(name, run_id, principal)
        driven = self._driven(run_id)
        state = await self._settled(run)
        if status_of(state, driven=driven or self._driven(run_id)) == "interrupted":
            run = self._today(run)
            agent = self._agent(run.agent, run.principal)
            with self._move(run_id):
                await write(self._log, self._clock, run, state, Resumed(name_of(principal)))
                self._drive(agent, run, state)
        return self._view(run, state)

    async def fork(self, name: str, run_id: str, principal: Principal, *, after: int) -> RunView:
        """Begins a run with the first events of another: it has that one's rights, and their cost counts."""
        run = self._today(await self._find(name, run_id, principal))
        agent, now = self._agent(run.agent, run.principal), self._clock.now()
        entries = await self._log.events(run.id, limit=after)
        state = State.of(entries, agent.settings.instructions)
        why = _unfit(state, after)
        if why:
            raise refuse("bad_request", f"{run_id} cannot be forked after event {after}: {why}", param="after")
        forked = Entry(after + 1, now, Forked(run.id, after, name_of(principal)))
        fork = Run(new_id("run", now), name, run.principal, now)
        await self._log.create(fork, *entries, forked)
        state.take(forked)
        self._drive(agent, fork, state)
        return self._view(fork, state)

    async def cancel(self, name: str, run_id: str, principal: Principal) -> RunView:
        """Ends a run, in the middle of a call if need be, and whatever else happens to it meanwhile."""
        run = await self._find(name, run_id, principal)
        while True:
            with self._move(run_id):
                await self._stop(run_id)
                state = await self._state(run)
                if state.ended is not None:
                    return self._view(run, state)
                try:
                    await write(self._log, self._clock, run, state, Ended("cancelled", f"by {name_of(principal)}"))
                except ModelFailure as error:
                    if error.failure.kind != "conflict":
                        raise

    async def sweep(self, keep_days: float) -> int:
        """Denies what nobody decided on in time, and takes away runs that ended so many days ago; gives how many."""
        now, taken = self._clock.now(), 0
        for run in await self._log.due(now):
            await self._settled(run)
        while (some := await self._log.forget_ended(now - keep_days * 86_400, _BATCH)) > 0:
            taken += some
            await self._clock.sleep(_PAUSE)
        return taken

    async def close(self) -> None:
        """Stops driving; the runs stay where their events left them."""
        for run_id in list(self._tasks):
            await self._stop(run_id)

    async def _settled(self, run: Run) -> State:
        """The run's state, once a call that nobody decided on in time has been denied."""
        state = await self._state(run)
        pending = state.waiting
        if pending is None or not 0 < pending.expires <= self._clock.now():
            return state
        denied = Decided(pending.key, "deny", EXPIRY, reason=f"nobody decided within {_span(pending)}")
        with self._move(run.id):
            try:
                await write(self._log, self._clock, run, state, denied)
            except ModelFailure as error:
                if error.failure.kind != "conflict":
                    raise
                return await self._state(run)  # somebody decided in the very last moment, or cancelled it
            try:
                today = self._today(run)
                self._drive(self._agent(run.agent, today.principal), today, state)
            except ModelFailure as error:  # its key or its agent is no more: it stays where it is
                _log.warning("the run %s does not go on: %s", run.id, error)
        return state

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
        self._log.news.tell(run_id)

    @contextmanager
    def _move(self, run_id: str) -> Generator[None, None, None]:
        """While something is done to a run that its next event will tell, it counts as driven."""
        self._moving.add(run_id)
        try:
            yield
        finally:
            self._moving.discard(run_id)
            self._log.news.tell(run_id)

    def _driven(self, run_id: str) -> bool:
        return run_id in self._tasks or run_id in self._moving

    def _today(self, run: Run) -> Run:
        return structs.replace(run, principal=self._active(run.principal))

    def _known(self, name: str) -> Agent:
        if name not in self._agents:
            raise refuse("not_found", f"there is no agent {name!r}; there are: {', '.join(self._agents) or 'none'}")
        return self._agents[name]

    def _agent(self, name: str, principal: Principal) -> Agent:
        """An agent that is to run for somebody."""
        agent = self._known(name)
        if not _may_run(principal, name):
            allowed = ", ".join(principal.models)
            raise refuse(
                "permission",
                f"the key {principal.key_id} may not run the agent {name!r}: it may use {allowed}, not {AGENT}{name}",
                code="agent_not_allowed",
            )
        return agent

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

    async def _look(self, run: Run) -> RunView:
        """The run as it stands. Who was at work before its events were read may have come to the end of them since."""
        driven = self._driven(run.id)
        state = await self._settled(run)
        return view(run, state, driven=driven or self._driven(run.id))

    def _view(self, run: Run, state: State) -> RunView:
        return view(run, state, driven=self._driven(run.id))


def name_of(principal: Principal) -> str:
    """Who it was, for the record: a key's id, or the user who came in without one."""
    return principal.key_id or principal.user or "nobody"


def _may_run(principal: Principal, name: str) -> bool:
    return principal.admin or principal.may_ask(f"{AGENT}{name}")


def _own(principal: Principal) -> str:
    return "" if principal.admin else principal.key_id or "nobody"


def _unfit(state: State, after: int) -> str:
    """Why a run cannot begin with these events; empty where it can."""
    pending = state.next
    if state.seq != after:
        return f"it has {state.seq} events"
    if state.ended is not None:
        return "it had ended by then; take an earlier event"
    if pending is not None and (pending.stage == "started" or pending.why == "doubt"):
        return f"a call of {pending.call.name} was begun by then and had no result; take an event before it or after it"
    if pending is not None and pending.stage == "approved":
        return f"a call of {pending.call.name} was approved by then, for that run alone; take an event before it"
    return ""


def _span(pending: Pending) -> str:
    """How long somebody could have decided."""
    seconds = pending.expires - pending.since
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{round(seconds / length)} {unit}"
    return f"{round(seconds)} seconds"


_SHOWN = 500  # characters of a question in the list of what waits
_BATCH = 50  # runs taken away in one piece of work, with all their events
_PAUSE = 0.02  # seconds between two pieces, for everybody else's
