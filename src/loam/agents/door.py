"""An agent that a Python program holds itself: its own model, its own functions, runs in memory or in a file.

Knows functions as tools, and runs from their beginning to the next decision; what a run does, `loam.agents.loop` says.
Invariants: sync doors only wait for their async twins; a function is called in this process, by its own name, and only
after a person or the program's `approve` said so, unless it is said to read.

```python
agent = loam.agent(model, tools=[loam.tool(look, access="read"), refund], instructions="You help.", steps=5)
ran = agent.run_sync("Pay order 7 back.")
if ran.waiting:
    ran = agent.decide_sync(ran.id, True)
print(ran.answer)
```
"""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from loam.agents.child import described
from loam.agents.events import MIGRATIONS, Began, Decided, Entry, EventLog, Journal, Reason, Resumed, Run
from loam.agents.loop import Agent, Loop, Quote
from loam.agents.outcome import AgentTool, Outcome
from loam.agents.settings import AgentSettings, LimitSettings, ToolSettings, check_name
from loam.agents.state import State
from loam.core.calls import Citation, Principal, Tool
from loam.core.clock import Clock, SystemClock, new_id
from loam.core.errors import LoamError, SettingsError, refuse
from loam.core.money import dollars
from loam.core.ports import Model
from loam.prompting.around import NOTHING, Around
from loam.prompting.technique import Techniques
from loam.storage.database import Database

T = TypeVar("T")
Function = Callable[..., Any]
_NAME = "agent"


class FunctionTool:
    """A function of this program. It is called here: its time is watched, and nothing else is kept from it."""

    def __init__(self, function: Function, settings: ToolSettings, name: str = "") -> None:
        said = described(function)
        self.tool = Tool(name or function.__name__, settings.description or said["description"], said["parameters"])
        self.settings = settings
        self._function = function

    async def call(self, arguments: dict[str, Any], principal: Principal, key: str) -> Outcome:
        seconds = self.settings.seconds
        time = asyncio.timeout(seconds)
        try:
            async with time:
                if inspect.iscoroutinefunction(self._function):
                    result = await self._function(**arguments)
                else:
                    result = await asyncio.to_thread(self._function, **arguments)
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is its result, told to the model
            late = isinstance(error, TimeoutError) and time.expired()
            told = f"it took longer than {seconds:g} seconds, and may be at it still" if late else str(error)
            return Outcome(f"{type(error).__name__}: {told}", is_error=True)
        return Outcome(result if isinstance(result, str) else json.dumps(result, default=str, ensure_ascii=False))


def tool(function: Function, *, name: str = "", **settings: Any) -> FunctionTool:
    """A function as a tool, with what loam.toml may say of one: `access`, `approval`, `idempotent`, `seconds`, ….

    Raises SettingsError for a setting that there is not, or a name that providers refuse, as a lambda's.
    """
    where = f"{function.__module__}:{function.__qualname__}"
    read = _read({"kind": "python", "function": where, **settings}, ToolSettings, where)
    check_name(name or function.__name__, where)
    return FunctionTool(function, read, name)


class Pending(Struct, frozen=True):
    """A call of a tool that is decided on. `why` is doubt where it was begun before, and may have been done."""

    run: str
    key: str
    tool: str
    arguments: dict[str, Any]
    why: str


Verdict = bool | str | dict[str, Any]
"""True: do it. A dict: do it with these arguments instead. False, or a text with the reason: don't."""
Approve = Callable[[Pending], Verdict | Awaitable[Verdict | None] | None]
"""Asked for each call that needs approval; None leaves it for later."""


class Ran(Struct, frozen=True):
    """What a run has come to. `waiting` is the call that it stands at; `reason` is None until it has ended."""

    id: str
    answer: str
    reason: Reason | None
    message: str
    waiting: Pending | None
    steps: int
    tool_calls: int
    tokens: int
    cost_usd: str
    citations: tuple[Citation, ...] = ()


class _Log(Protocol):
    async def create(self, run: Run, *first: Entry) -> None: ...
    async def append(self, run_id: str, entry: Entry) -> None: ...
    async def find(self, run_id: str) -> Run | None: ...
    async def runs(self, agent: str, key_id: str, limit: int) -> list[Run]: ...
    async def events(self, run_id: str) -> list[Entry]: ...


class MemoryLog:
    """Runs and events for as long as the program lives."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._entries: dict[str, list[Entry]] = {}

    async def create(self, run: Run, *first: Entry) -> None:
        self._runs[run.id], self._entries[run.id] = run, [*first]

    async def append(self, run_id: str, entry: Entry) -> None:
        entries = self._entries[run_id]
        if entry.seq != len(entries) + 1:
            raise refuse("conflict", f"something else happened to {run_id} just now; look at it again")
        entries.append(entry)

    async def find(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    async def runs(self, agent: str, key_id: str, limit: int) -> list[Run]:
        return [*reversed(self._runs.values())][:limit]

    async def events(self, run_id: str) -> list[Entry]:
        return [*self._entries.get(run_id, ())]


class _Told:
    """A journal that also tells whoever listens; one run is written into it."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self.news: asyncio.Queue[Entry | None] = asyncio.Queue()

    async def append(self, run_id: str, entry: Entry) -> None:
        await self._log.append(run_id, entry)
        self.news.put_nowait(entry)


class HeldAgent:
    """Made by `loam.agent`. Raises ModelFailure (not_found, conflict) for a run that is not there or does not wait."""

    def __init__(self, agent: Agent, log: Path | None, approve: Approve | None, clock: Clock) -> None:
        self._agent = agent
        self._path = log
        self._memory = MemoryLog()
        self._approve = approve
        self._clock = clock

    async def run(self, question: str) -> Ran:
        """Runs until it ends, or until a call waits for a decision that `approve` did not take."""
        async with self._log() as log:
            run, state = await self._begin(question, log)
            return await self._drive(run, state, log)

    async def stream(self, question: str) -> AsyncGenerator[Entry | Ran, None]:
        """As `run`, event by event; the last thing that comes is what the run has come to. Closing it stops the run."""
        async with self._log() as log:
            told = _Told(log)
            run, state = await self._begin(question, log)
            yield (await log.events(run.id))[0]
            work = asyncio.ensure_future(self._drive(run, state, told))
            work.add_done_callback(lambda _: told.news.put_nowait(None))
            try:
                while (entry := await told.news.get()) is not None:
                    yield entry
                yield work.result()
            finally:
                work.cancel()
                await asyncio.wait([work])

    async def show(self, run_id: str) -> Ran:
        """How a run stands."""
        async with self._log() as log:
            return _ran(*await self._known(run_id, log))

    async def runs(self, limit: int = 100) -> list[Ran]:
        """The latest runs as they stand, the last begun first: whoever takes them up needs their ids."""
        async with self._log() as log:
            found = await log.runs(self._agent.name, "", limit)
            return [_ran(*await self._known(run.id, log)) for run in found]

    async def events(self, run_id: str) -> list[Entry]:
        """Everything that happened in a run."""
        async with self._log() as log:
            await self._known(run_id, log)
            return await log.events(run_id)

    async def resume(self, run_id: str) -> Ran:
        """Takes up a run whose program ended, from what its log says; one that waits asks `approve` again."""
        async with self._log() as log:
            run, state = await self._known(run_id, log)
            if state.ended is None and _waiting(run, state) is None:
                await self._loop(run, state, log).write(Resumed("the program"))
            return await self._drive(run, state, log)

    async def decide(self, run_id: str, verdict: Verdict) -> Ran:
        """Decides on the call that a run waits for, and goes on with it."""
        async with self._log() as log:
            run, state = await self._known(run_id, log)
            pending = _waiting(run, state)
            if pending is None:
                raise refuse("conflict", f"{run_id} does not wait for a decision")
            await self._loop(run, state, log).write(_decided(pending, verdict))
            return await self._drive(run, state, log)

    def runs_sync(self, limit: int = 100) -> list[Ran]:
        return _waited(self.runs(limit))

    def run_sync(self, question: str) -> Ran:
        return _waited(self.run(question))

    def resume_sync(self, run_id: str) -> Ran:
        return _waited(self.resume(run_id))

    def decide_sync(self, run_id: str, verdict: Verdict) -> Ran:
        return _waited(self.decide(run_id, verdict))

    def stream_sync(self, question: str) -> Iterator[Entry | Ran]:
        """As `stream`, for programs without a loop of their own; the run goes on while the next event is waited for."""
        _check_no_loop()
        with asyncio.Runner() as runner:
            stream = self.stream(question)
            try:
                while (entry := runner.run(_next(stream))) is not None:
                    yield entry
            finally:
                runner.run(stream.aclose())

    @asynccontextmanager
    async def _log(self) -> AsyncGenerator[_Log, None]:
        if self._path is None:
            yield self._memory
            return
        database = await Database.open(self._path, MIGRATIONS)
        try:
            yield EventLog(database)
        finally:
            await database.close()

    async def _begin(self, question: str, log: _Log) -> tuple[Run, State]:
        now = self._clock.now()
        run, first = Run(new_id("run", now), self._agent.name, Principal(), now), Entry(1, now, Began(question))
        await log.create(run, first)
        return run, State.of([first], self._agent.settings.instructions)

    async def _known(self, run_id: str, log: _Log) -> tuple[Run, State]:
        run = await log.find(run_id)
        if run is None:
            raise refuse("not_found", f"there is no run {run_id!r} in {self._path or 'this program'}")
        return run, State.of(await log.events(run_id), self._agent.settings.instructions)

    def _loop(self, run: Run, state: State, log: Journal) -> Loop:
        return Loop(self._agent, run, state, log, self._clock)

    async def _drive(self, run: Run, state: State, log: Journal) -> Ran:
        loop = self._loop(run, state, log)
        while True:
            await loop.drive()
            pending = _waiting(run, state)
            if pending is None or self._approve is None:
                return _ran(run, state)
            verdict = self._approve(pending)
            verdict = await verdict if inspect.isawaitable(verdict) else verdict
            if verdict is None:
                return _ran(run, state)
            await loop.write(_decided(pending, verdict))


def _waiting(run: Run, state: State) -> Pending | None:
    one = state.next
    if state.ended is not None or one is None or one.stage != "waiting":
        return None
    return Pending(run.id, one.key, one.call.name, msgspec.json.decode(one.arguments or "{}"), one.why)


def _decided(pending: Pending, verdict: Any) -> Decided:
    """Raises ModelFailure for what is no Verdict: a program gives it, and a log that has it can't be read again."""
    by = "the program"
    if isinstance(verdict, dict):
        return Decided(pending.key, "edit", by, arguments=json.dumps(verdict, ensure_ascii=False))
    if not isinstance(verdict, bool | str):
        raise refuse("bad_request", f"a verdict is True, False, a text or a dict, not {verdict!r}")
    if verdict is True:
        return Decided(pending.key, "approve", by)
    return Decided(pending.key, "deny", by, reason=verdict or "")


def _ran(run: Run, state: State) -> Ran:
    ended = state.ended
    return Ran(
        id=run.id,
        answer=state.answer or "",
        reason=None if ended is None else ended.reason,
        message="" if ended is None else ended.message,
        waiting=_waiting(run, state),
        steps=state.steps,
        tool_calls=state.tool_calls,
        tokens=state.tokens,
        cost_usd=dollars(state.money),
        citations=tuple(state.citations),
    )


def agent(
    model: Model,
    tools: Sequence[Function | AgentTool] = (),
    *,
    instructions: str = "",
    name: str = "",
    log: str | Path | None = None,
    approve: Approve | None = None,
    around: Around = NOTHING,
    **limits: Any,
) -> HeldAgent:
    """An agent around a model that the program holds; `name` is the model's own name where it has several.

    A bare function is a tool that writes: each call of it waits for `approve`, or for `agent.decide`; `loam.tool` says
    otherwise. Functions run in this process, without the sandbox of loam.toml's tools. Without a `log`, a file, runs
    are kept in memory. `limits` are those of loam.toml (`steps`, `max_cost_usd`, …), and `max_tokens`, `attempts` and
    `calling`. A limit in money needs `around`'s quote. Raises SettingsError.
    """
    if not hasattr(model, "answer"):
        raise SettingsError(f"loam.agent: {model!r} is no model; it needs an object such as loam.providers has")
    held = _held(tools)
    named = {one.tool.name: one for one in held}
    if len(named) < len(held):
        raise SettingsError("two of the tools have one name; give one another with loam.tool(function, name=…)")
    of_limits = {one: limits.pop(one) for one in LimitSettings.__struct_fields__ if one in limits}
    settings = _read(
        {"model": name, "instructions": instructions, "limits": of_limits, **limits}, AgentSettings, "loam.agent"
    )
    quote: Quote = around.quote or (lambda _: None)
    path = None if log is None else Path(log)
    made = Agent(_NAME, settings, Techniques(model, around), named, quote, calling=settings.calling)
    return HeldAgent(made, path, approve, SystemClock())


def _held(tools: Sequence[Function | AgentTool]) -> list[AgentTool]:
    if callable(tools):
        raise SettingsError("loam.agent: the tools are a list, also where there is one")
    held: list[AgentTool] = [tool(one) if callable(one) else one for one in tools]
    for one in held:
        if not hasattr(one, "tool"):
            raise SettingsError(f"loam.agent: {one!r} is no tool; give a function, or loam.tool(function)")
    return held


def _read(words: dict[str, Any], kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(words, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}") from error


async def _next(stream: AsyncGenerator[T, None]) -> T | None:
    return await anext(stream, None)


def _check_no_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise LoamError("a loop is running here (a notebook, an async program): await the agent's async methods instead")


def _waited(work: Coroutine[Any, Any, T]) -> T:
    try:
        _check_no_loop()
    except LoamError:
        work.close()
        raise
    return asyncio.run(work)
