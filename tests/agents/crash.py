"""A process that takes one run as far as it comes: `python crash.py FOLDER before|after|never N [VERDICT]`.

It is killed with SIGKILL just before or just after its Nth event becomes durable. Prints the run's status at the end.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from loam.agents.desk import Desk
from loam.agents.events import MIGRATIONS, Decided, Entry, EventLog, Run
from loam.agents.loop import Agent
from loam.agents.settings import AgentSettings, ToolSettings
from loam.agents.tools import Outcome
from loam.core.calls import Call, Principal, Tool
from loam.core.clock import SystemClock
from loam.providers.script import Asked, Line
from loam.providers.scripted import Scripted
from loam.storage.database import Database

ANN = Principal(key_id="key_ann")
STEPS = [("note", "first"), ("look", "anything"), ("note", "second")]


class KilledLog(EventLog):
    def __init__(self, database: Database, when: str, number: int) -> None:
        super().__init__(database)
        self._when, self._left = when, number

    def _die(self, when: str) -> None:
        if when == self._when:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    async def create(self, run: Run, *first: Entry) -> None:
        self._die("before")
        await super().create(run, *first)
        self._die("after")

    async def append(self, run_id: str, entry: Entry) -> None:
        self._die("before")
        await super().append(run_id, entry)
        self._die("after")


class Note:
    """Leaves a line in a file: what must not happen twice."""

    tool = Tool("note", "", {"type": "object"})
    settings = ToolSettings(kind="python", approval=False)

    def __init__(self, file: Path) -> None:
        self._file = file

    async def call(self, arguments: dict[str, Any], principal: Principal, key: str) -> Outcome:
        with self._file.open("a") as file:
            file.write(arguments["text"] + "\n")
        return Outcome("noted")


class Look:
    tool = Tool("look", "", {"type": "object"})
    settings = ToolSettings(kind="python", access="read")

    async def call(self, arguments: dict[str, Any], principal: Principal, key: str) -> Outcome:
        return Outcome("seen")


def think(call: Call) -> Line:
    """What comes next depends on the conversation alone, as with a real model at temperature 0."""
    done = sum(message.role == "tool" for message in call.messages)
    if done == len(STEPS):
        return Line(text="all noted")
    name, text = STEPS[done]
    return Line(tools=(Asked(name=name, arguments={"text": text}),))


async def main(folder: Path, when: str, number: int) -> str:
    notes = folder / "notes"
    notes.touch()
    database = await Database.open(folder / "loam.db", MIGRATIONS)
    log = KilledLog(database, when, number)
    tools = {"note": Note(notes), "look": Look()}
    agent = Agent("clerk", AgentSettings(model="m"), Scripted([think]), tools, lambda _: 0)
    desk = Desk({"clerk": agent}, log, SystemClock(), lambda principal: principal)
    runs = await desk.every("clerk", ANN, 1)
    view = runs[0] if runs else await desk.begin("clerk", "note both", ANN)
    if view.status == "interrupted":
        view = await desk.resume("clerk", view.id, ANN)
    while view.status != "ended":
        if view.status == "waiting":  # a person looks into the file, and says what is the case
            (asked,) = view.waiting
            text = notes.read_text().split()
            done = ("first" if "first" in asked.arguments else "second") in text
            said = Decided(asked.key, "deny" if done else "approve", "ann", reason="it was done already")
            assert asked.why == "doubt"
            view = await desk.decide("clerk", view.id, ANN, said)
        await asyncio.sleep(0.005)
        view = await desk.show("clerk", view.id, ANN)
    await database.close()
    return f"{view.reason} {view.answer} {view.events}"


if __name__ == "__main__":
    print(asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
