"""As crash.py, with a write tool of a real MCP server: `python mcp_crash.py FOLDER before|after|never N`."""

import asyncio
import os
import sys
from pathlib import Path

from loam.agents import agency
from loam.agents.desk import Desk
from loam.agents.events import Decided
from loam.agents.loop import Agent
from loam.agents.mcp.opening import open_toolbox
from loam.agents.mcp.settings import McpSettings, McpToolSettings
from loam.agents.settings import AgentSettings
from loam.core.calls import Call
from loam.core.clock import SystemClock
from loam.providers.script import Asked, Line
from loam.providers.scripted import Scripted
from loam.storage.database import Database
from tests.agents.crash import ANN, KilledLog

PROGRAM = Path(__file__).with_name("mcp_server.py")
TEXTS = ["first", "second"]


def think(call: Call) -> Line:
    done = sum(message.role == "tool" for message in call.messages)
    if done == len(TEXTS):
        return Line(text="all noted")
    return Line(tools=(Asked(name="files__write", arguments={"file": "notes", "text": TEXTS[done]}),))


async def main(folder: Path, when: str, number: int) -> str:
    notes, clock = folder / "notes", SystemClock()
    notes.touch()
    database = await Database.open(folder / "loam.db", agency.MIGRATIONS)
    files = McpSettings(
        command=sys.executable,
        args=(str(PROGRAM), str(folder)),
        tools={"write": McpToolSettings(approval=False)},
    )
    toolbox = open_toolbox("clerk", {"files": files}, os.environ, database, clock)
    assert toolbox is not None
    agent = Agent("clerk", AgentSettings(model="m"), Scripted([think]), {}, lambda _: 0, source=toolbox)
    desk = Desk({"clerk": agent}, KilledLog(database, when, number), clock, lambda principal: principal)
    runs = await desk.every("clerk", ANN, 1)
    view = runs[0] if runs else await desk.begin("clerk", "note both", ANN)
    if view.status == "interrupted":
        view = await desk.resume("clerk", view.id, ANN)
    while view.status != "ended":
        if view.status == "waiting":  # a person looks into the file, and says what is the case
            (asked,) = view.waiting
            done = ("first" if "first" in asked.arguments else "second") in notes.read_text().split()
            assert asked.why == "doubt"
            said = Decided(asked.key, "deny" if done else "approve", "ann", reason="it was done already")
            view = await desk.decide("clerk", view.id, ANN, said)
        await asyncio.sleep(0.005)
        view = await desk.show("clerk", view.id, ANN)
    await toolbox.close()
    await database.close()
    return f"{view.reason} {view.answer} {view.events}"


if __name__ == "__main__":
    print(asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
