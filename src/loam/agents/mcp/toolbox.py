"""An agent's tools of MCP servers: what each server offers now, held against what is allowed and what is pinned.

Knows settings, servers and pins; what a server speaks, `loam.agents.mcp.client` knows. Invariants: a tool is given to
the model only where the operator named it and its description is, sign by sign, the one that somebody trusted; what the
model is told of one that is not given holds no words of the server.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from loam.agents.mcp.listed import Listed, concealed, difference, offered, unusable, visible
from loam.agents.mcp.pins import FIRST, Pin, Pins
from loam.agents.mcp.servers import Server
from loam.agents.mcp.settings import McpSettings, McpToolSettings, shown
from loam.agents.outcome import AgentTool, Outcome
from loam.core.calls import Principal, Tool
from loam.core.errors import ModelFailure, refuse

Standing = Literal["pinned", "new", "changed", "unusable", "gone", "unreachable"]
"""pinned: it is as it was trusted, and used. new: nobody has trusted it yet. changed: it is not what was trusted.
unusable: nobody could trust it. gone: the server does not have it. unreachable: the server does not answer."""

_TOLD: dict[Standing, str] = {
    "pinned": "",
    "new": "it has not been reviewed by a person yet",
    "changed": "its description has changed, and a person must review it",
    "unusable": "its description can't be used",
    "gone": "its server does not have it any more",
    "unreachable": "its server can't be reached",
}


class ToolView(Struct, frozen=True, omit_defaults=True):
    """A tool of an MCP server as it stands. `hash` is of what the server says now, and what trusting it takes; `diff`
    is what a person reviews. Signs that can't be seen are written as numbers.
    """

    name: str
    server: str
    tool: str
    state: Standing
    access: Literal["read", "write"]
    asks: bool
    why: str = ""
    hash: str = ""
    description: str = ""
    diff: str = ""
    pinned_hash: str = ""
    pinned_at: float = 0.0
    pinned_by: str = ""


class McpTool:
    def __init__(self, tool: Tool, settings: McpToolSettings, server: Server, called: str) -> None:
        self.tool = tool
        self.settings = settings
        self._server = server
        self._called = called

    async def call(self, arguments: dict[str, Any], principal: Principal, key: str) -> Outcome:
        return await self._server.call(self._called, arguments, self.settings.seconds)


class Seen(Struct, frozen=True):
    """One tool at one look."""

    name: str
    tool: str
    state: Standing
    why: str = ""
    now: Listed | None = None
    pin: Pin | None = None


class Shelf:
    """One server of one agent."""

    def __init__(self, server: Server, settings: McpSettings, pins: Pins) -> None:
        self.server = server
        self.settings = settings
        self._pins = pins
        self._lock = asyncio.Lock()

    async def look(self) -> list[Seen]:
        """Every allowed tool as it stands now; pins what is trusted at first sight."""
        name = self.server.name
        try:
            offers = await self.server.list()
        except ModelFailure as error:
            why = error.failure.message
            pins = {tool: await self._pins.find(tool) for tool in self.settings.tools}
            return [Seen(shown(name, tool), tool, "unreachable", why, pin=pin) for tool, pin in pins.items()]
        times = Counter(one.name for one in offers)
        now = {one.name: one for one in offers}
        async with self._lock:  # of two looks at once, one sees what the other pins
            return [await self._judge(tool, now.get(tool), times[tool]) for tool in self.settings.tools]

    async def trust(self, tool: str, seen: str, by: str) -> None:
        """Pins a tool as it is now, if that is what was seen. Raises ModelFailure."""
        one = next(one for one in await self.look() if one.tool == tool)
        if one.now is None or one.state == "unusable":
            raise refuse("conflict", f"{one.name} can't be trusted: {one.why}")
        if one.now.hash != seen:
            raise refuse("conflict", f"{one.name} is not what was shown: its hash is {one.now.hash} now; review it")
        if one.state != "pinned":
            await self._pins.add(one.now, by)

    async def _judge(self, tool: str, now: Listed | None, times: int) -> Seen:
        name, pin = shown(self.server.name, tool), await self._pins.find(tool)
        if now is None:
            return Seen(name, tool, "gone", "the server does not list it", pin=pin)
        wrong = "the server lists it more than once" if times > 1 else unusable(now)
        if wrong:
            return Seen(name, tool, "unusable", wrong, now, pin)
        signs = concealed(now)
        why = f"it holds signs that can't be seen: {', '.join(dict.fromkeys(signs))}" if signs else ""
        if pin is None and self.settings.trust == "first" and not signs:
            pin = await self._pins.add(now, FIRST)
        if pin is None:
            return Seen(name, tool, "new", why or "nobody has trusted it yet", now)
        if pin.hash != now.hash:
            return Seen(name, tool, "changed", why or "it is not what was trusted", now, pin)
        return Seen(name, tool, "pinned", why, now, pin)


class Toolbox:
    """The tools of all MCP servers of one agent; a `Source` for its runs."""

    def __init__(self, shelves: Sequence[Shelf]) -> None:
        self._shelves = shelves
        self._states: dict[str, Standing] = {}

    async def look(self) -> Mapping[str, AgentTool]:
        found: dict[str, AgentTool] = {}
        for shelf, seen in await self._seen():
            self._states[seen.name] = seen.state
            if seen.state == "pinned" and seen.now is not None:
                rules, server = shelf.settings.tools[seen.tool], shelf.server
                tool = offered(seen.now, seen.name, server.name, rules.description)
                found[seen.name] = McpTool(tool, rules, server, seen.tool)
        return found

    def absent(self, name: str) -> str:
        state = self._states.get(name)
        return "" if state is None or not _TOLD[state] else f"the tool {name} can't be used now: {_TOLD[state]}"

    async def views(self) -> list[ToolView]:
        return [_view(shelf, seen) for shelf, seen in await self._seen()]

    async def trust(self, name: str, seen: str, by: str) -> list[ToolView]:
        """Trusts a tool as it was seen, by its hash. Raises ModelFailure where it is another by now, or unknown."""
        for shelf in self._shelves:
            for tool in shelf.settings.tools:
                if shown(shelf.server.name, tool) == name:
                    await shelf.trust(tool, seen, by)
                    return await self.views()
        raise refuse("not_found", f"no MCP server of this agent has an allowed tool {name!r}")

    async def close(self) -> None:
        await asyncio.gather(*(shelf.server.close() for shelf in self._shelves))

    async def _seen(self) -> list[tuple[Shelf, Seen]]:
        looks = await asyncio.gather(*(shelf.look() for shelf in self._shelves))
        return [(shelf, seen) for shelf, found in zip(self._shelves, looks, strict=True) for seen in found]


def _view(shelf: Shelf, seen: Seen) -> ToolView:
    rules, pin, now = shelf.settings.tools[seen.tool], seen.pin, seen.now
    reviewed = difference(None if pin is None else pin.seen, now) if seen.state in ("new", "changed") else ""
    return ToolView(
        name=seen.name,
        server=shelf.server.name,
        tool=seen.tool,
        state=seen.state,
        access=rules.access,
        asks=rules.asks,
        why=visible(seen.why),
        hash="" if now is None else now.hash,
        description="" if now is None else visible(now.description)[:4000],
        diff=reviewed,
        pinned_hash="" if pin is None else pin.hash,
        pinned_at=0.0 if pin is None else pin.at,
        pinned_by="" if pin is None else pin.by,
    )
