"""A desk with a clerk for the tests: a script, tools that do next to nothing, and a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loam.agents.desk import Desk
from loam.agents.events import MIGRATIONS, EventLog
from loam.agents.loop import Agent
from loam.agents.outcome import AgentTool, Outcome
from loam.agents.settings import AgentSettings, ToolSettings
from loam.agents.views import RunView
from loam.core.calls import Principal, Tool
from loam.core.errors import refuse
from loam.providers.script import Asked, Line
from loam.providers.scripted import Entry, Scripted
from loam.storage.database import Database
from tests.gateway.still import StillClock

ANN = Principal(key_id="key_ann", user="ann")
BOB = Principal(key_id="key_bob", user="bob")
ADMIN = Principal(user="local", admin=True)
DAY = 86_400


def called(name: str, **arguments: Any) -> Line:
    return Line(tools=(Asked(name=name, arguments=arguments),))


class Pay:
    """A tool that writes; `paid` has what it was called with. A call takes until it `may_end`."""

    def __init__(self, **more: Any) -> None:
        self.tool = Tool("pay", "", {"type": "object"})
        self.settings = ToolSettings(kind="python", **more)
        self.paid: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def call(self, arguments: dict[str, Any], principal: Principal, key: str) -> Outcome:
        self.paid.append(arguments)
        self.keys.append(key)
        self.begun.set()
        await self.may_end.wait()
        return Outcome("paid")


class Office:
    """`gone` are the keys that were disabled."""

    def __init__(self, agent: Agent, database: Database, model: Scripted) -> None:
        self.gone: set[str] = set()
        self.clock = StillClock()
        self.log = EventLog(database)
        self.desk = Desk({"clerk": agent}, self.log, self.clock, self._active)
        self.database = database
        self.model = model

    def _active(self, principal: Principal) -> Principal:
        if principal.key_id in self.gone:
            raise refuse("authentication", f"the key {principal.key_id} has been disabled")
        return principal

    async def settled(self, run_id: str, principal: Principal = ANN) -> RunView:
        async with asyncio.timeout(20):
            while (view := await self.desk.show("clerk", run_id, principal)).status == "running":
                await asyncio.sleep(0.002)
        return view

    async def run(self, question: str = "pay order 7", principal: Principal = ANN) -> RunView:
        begun = await self.desk.begin("clerk", question, principal)
        return await self.settled(begun.id, principal)

    async def events(self, run_id: str) -> list[Any]:
        return [entry.event for entry in await self.log.events(run_id)]


@asynccontextmanager
async def office(
    folder: Path, script: Sequence[Entry], tools: Mapping[str, AgentTool], **settings: Any
) -> AsyncIterator[Office]:
    database = await Database.open(folder / "loam.db", MIGRATIONS)
    model = Scripted(script)
    made = Office(Agent("clerk", AgentSettings(model="m", **settings), model, tools, lambda _: 0), database, model)
    try:
        yield made
    finally:
        await made.desk.close()
        await database.close()
