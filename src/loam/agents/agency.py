"""Opens the agents of the settings, and says what the native API can do with them.

Knows this room; of other rooms only what it is given. Invariant: whatever is opened here is closed with the stack.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from msgspec import Struct

from loam.agents import events
from loam.agents.calling import Calls, chosen
from loam.agents.desk import Desk
from loam.agents.events import EventLog
from loam.agents.loop import Agent, Quote
from loam.agents.mcp import pins
from loam.agents.mcp.opening import open_toolbox
from loam.agents.mcp.operations import tool_operations
from loam.agents.mcp.toolbox import Toolbox
from loam.agents.operations import agent_operations
from loam.agents.settings import AgentSettings
from loam.agents.tools import Outside, Search, open_tools
from loam.core.calls import Principal
from loam.core.clock import Clock
from loam.core.errors import LoamError, SettingsError
from loam.core.operations import Operation
from loam.core.ports import Model, Web
from loam.storage.database import Database

MIGRATIONS = (*events.MIGRATIONS, *pins.MIGRATIONS)
_EVERY = 30.0  # seconds between two sweeps
_log = logging.getLogger("loam.agents")


class Given(Struct, frozen=True, kw_only=True):
    """What agents have of other rooms. `model` is the whole road; `active` gives a key's principal as it is now;
    `calls` says of a model whether it calls tools by itself.
    """

    model: Model
    quote: Quote
    calls: Callable[[str], Calls]
    search: Search
    web: Web
    environment: Mapping[str, str]
    database: Database
    clock: Clock
    active: Callable[[Principal], Principal]
    keep_days: float


async def open_agents(
    wanted: Mapping[str, AgentSettings], given: Given, stack: AsyncExitStack
) -> tuple[Desk, tuple[Operation, ...]]:
    """The desk, and what can be done at it. Raises SettingsError for a tool that can't be used."""
    outside = Outside(given.search, given.web, given.environment)
    agents: dict[str, Agent] = {}
    toolboxes: dict[str, Toolbox | None] = {}
    for name, settings in wanted.items():
        settings.check(name)
        calling = chosen(settings.calling, given.calls(settings.model))
        try:
            tools = await open_tools(settings.tools, outside)
        except SettingsError as error:
            raise SettingsError(f"[agents.{name}] {error}") from error
        toolbox = toolboxes[name] = open_toolbox(name, settings.mcp, given.environment, given.database, given.clock)
        if toolbox is not None:
            stack.push_async_callback(toolbox.close)
        agents[name] = Agent(name, settings, given.model, tools, given.quote, source=toolbox, calling=calling)
    desk = Desk(agents, EventLog(given.database), given.clock, given.active)
    stack.push_async_callback(desk.close)
    stack.push_async_callback(_stop, asyncio.ensure_future(_tend(desk, given)))
    return desk, (*agent_operations(desk), *tool_operations(toolboxes))


async def _tend(desk: Desk, given: Given) -> None:
    """Sweeps now and then until cancelled; a sweep that fails is logged and tried again the next time."""
    while True:
        try:
            await desk.sweep(given.keep_days)
        except (sqlite3.Error, LoamError):
            _log.exception("the runs of agents could not be looked through")
        await given.clock.sleep(_EVERY)


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
