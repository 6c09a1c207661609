"""An agent in a program's own hands: in memory, in a file, event by event, with functions of the program."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import loam
from loam.agents.door import HeldAgent, Pending, Ran
from loam.agents.events import Entry, Resumed, Returned
from loam.core.errors import LoamError, ModelFailure, SettingsError
from loam.prompting.around import Around
from loam.providers.script import Asked, Line
from loam.providers.scripted import Scripted

pytestmark = pytest.mark.anyio


def calls(name: str, **arguments: Any) -> Line:
    return Line(tools=(Asked(name, arguments),))


class Till:
    """Functions of the program, with a state of the program's own."""

    def __init__(self) -> None:
        self.paid: list[str] = []

    def look(self, number: int) -> dict[str, int]:
        """Looks up an order."""
        return {"number": number, "total": 19}

    async def refund(self, number: int, amount: str = "19") -> str:
        """Pays back."""
        self.paid.append(amount)
        return f"paid {amount} for {number}"


SCRIPT = [calls("look", number=7), calls("refund", number=7, amount="1990"), "Order 7 is paid back."]


def clerk(till: Till, script: Any = SCRIPT, **more: Any) -> tuple[HeldAgent, Scripted]:
    model = Scripted(script)
    return loam.agent(model, [loam.tool(till.look, access="read"), till.refund], **more), model


def test_functions_of_the_program_are_tools_and_writing_waits() -> None:
    till = Till()
    agent, model = clerk(till, instructions="You help.")
    ran = agent.run_sync("Pay order 7 back.")
    assert ran.waiting == Pending(ran.id, "2.1", "refund", {"number": 7, "amount": "1990"}, "approval")
    assert (ran.reason, till.paid) == (None, [])
    ran = agent.decide_sync(ran.id, {"number": 7, "amount": "19.90"})
    assert (ran.reason, ran.answer, ran.steps, ran.tool_calls) == ("answered", "Order 7 is paid back.", 3, 2)
    assert till.paid == ["19.90"]
    assert model.calls[0].messages[0].text == "You help."
    assert [tool.name for tool in model.calls[0].tools] == ["look", "refund"]
    assert '{"number": 7, "total": 19}' in str(model.calls[1].messages[-1])
    with pytest.raises(ModelFailure, match="does not wait"):
        agent.decide_sync(ran.id, True)
    with pytest.raises(ModelFailure, match="no run 'run_x'"):
        agent.resume_sync("run_x")


@pytest.mark.parametrize(
    ("verdict", "paid", "told"),
    [
        (True, ["1990"], "paid 1990"),
        ({"number": 7, "amount": "1"}, ["1"], "A person changed the arguments"),
        (False, [], "not allow"),
        ("not on a Friday", [], "not on a Friday"),
    ],
)
async def test_approve_decides_where_it_is_given(verdict: Any, paid: list[str], told: str) -> None:
    till = Till()
    asked: list[Pending] = []

    async def approve(pending: Pending) -> Any:
        asked.append(pending)
        return verdict

    agent, model = clerk(till, approve=approve)
    assert (await agent.run("Pay.")).reason == "answered"
    assert (till.paid, len(asked)) == (paid, 1)
    assert told in str(model.calls[-1].messages[-1])


async def test_what_approve_leaves_open_waits() -> None:
    agent, _ = clerk(Till(), approve=lambda _: None)
    ran = await agent.run("Pay.")
    assert ran.waiting is not None
    assert (await agent.resume(ran.id)).waiting == ran.waiting
    assert (await agent.show(ran.id)) == ran


async def test_a_run_is_told_event_by_event_and_stops_when_nobody_listens() -> None:
    till = Till()
    agent, _ = clerk(till, approve=lambda _: True)
    told = [one async for one in agent.stream("Pay.")]
    names = [type(one.event).__name__ for one in told if isinstance(one, Entry)]
    assert names[:5] == ["Began", "Asked", "Answered", "Started", "Returned"]
    assert names[-1] == "Ended"
    assert isinstance(told[-1], Ran)
    assert told[-1].answer == "Order 7 is paid back."
    assert told[:-1] == await agent.events(told[-1].id)

    agent, _ = clerk(till, [Line(text="late", first_pause=60)])
    before = asyncio.all_tasks()
    stream = agent.stream("Wait.")
    assert isinstance(await anext(stream), Entry)
    assert isinstance(await anext(stream), Entry)
    await stream.aclose()
    assert asyncio.all_tasks() == before


def test_without_a_loop_the_events_come_just_so() -> None:
    agent, _ = clerk(Till(), approve=lambda _: True)
    told = list(agent.stream_sync("Pay."))
    assert isinstance(told[-1], Ran)
    assert told[-1].answer == "Order 7 is paid back."
    for one in agent.stream_sync("Pay."):
        assert isinstance(one, Entry)
        break


async def test_in_a_running_loop_one_awaits() -> None:
    agent, _ = clerk(Till())
    with pytest.raises(LoamError, match="a loop is running"):
        agent.run_sync("Pay.")


CRASH = """
import os, sys, loam
from loam.providers.scripted import Scripted
from loam.providers.script import Asked, Line
def note(text: str) -> str:
    with open(sys.argv[2], "a") as file: file.write(text + "\\n")
    return "noted"
def die() -> str:
    os._exit(9)
script = [Line(tools=(Asked("note", {"text": "one"}),)), Line(tools=(Asked("die", {}),)), "done"]
tools = [loam.tool(note, approval=False), loam.tool(die, access="read")]
for one in loam.agent(Scripted(script), tools, log=sys.argv[1]).stream_sync("Go."):
    pass
"""


def test_a_run_in_a_file_is_taken_up_where_its_program_ended(tmp_path: Path) -> None:
    log, notes = tmp_path / "runs.db", tmp_path / "notes.txt"
    done = subprocess.run([sys.executable, "-c", CRASH, str(log), str(notes)], check=False)
    assert done.returncode == 9
    ran: list[str] = []

    def note(text: str) -> str:
        ran.append(text)
        return "noted"

    def die() -> str:
        return "lived"

    agent = loam.agent(Scripted(["done"]), [loam.tool(note, approval=False), loam.tool(die, access="read")], log=log)
    (run,) = agent.runs_sync()
    assert run.reason is None
    after = agent.resume_sync(run.id)
    assert (after.reason, after.answer, after.tool_calls) == ("answered", "done", 3)  # die was begun twice: it reads
    assert (ran, notes.read_text()) == ([], "one\n")
    assert agent.resume_sync(run.id) == after
    assert [type(one.event) for one in asyncio.run(agent.events(run.id))].count(Resumed) == 1


async def test_what_a_function_does_wrong_is_told_to_the_model() -> None:
    def broken() -> str:
        raise ValueError("no such order")

    def slow() -> str:
        time.sleep(0.3)
        return "late"

    tools = [loam.tool(broken, access="read"), loam.tool(slow, access="read", seconds=0.05)]
    model = Scripted([calls("broken"), calls("slow"), calls("broken", x=1), "well"])
    assert (await loam.agent(model, tools).run("Go.")).answer == "well"
    results = [str(call.messages[-1]) for call in model.calls[1:]]
    assert "ValueError: no such order" in results[0]
    assert "longer than 0.05 seconds" in results[1]
    assert "do not fit the tool" in results[2]


async def test_a_function_that_waits_keeps_nobody_else_waiting() -> None:
    threads: list[str] = []

    def where() -> str:
        threads.append(threading.current_thread().name)
        return "here"

    agent = loam.agent(Scripted([calls("where"), "well"]), [loam.tool(where, access="read")])
    await agent.run("Go.")
    assert threads != [threading.main_thread().name]


async def test_limits_and_ways_of_calling_are_those_of_the_settings() -> None:
    agent, _ = clerk(Till(), [calls("look", number=1)], steps=2, repeats=9)
    assert (await agent.run("Go.")).reason == "steps"
    agent, model = clerk(Till(), [calls("look", number=1)], max_cost_usd=0.01, around=Around(quote=lambda _: 6_000))
    assert (await agent.run("Go.")).reason == "money"
    assert len(model.calls) == 1
    turn = '{"thought": "x", "answer": "seven"}'
    agent, model = clerk(Till(), ["hm", turn], calling="text")
    assert (await agent.run("Go.")).answer == "seven"
    assert not model.calls[0].tools
    for wrong, told in (({"stepps": 2}, "stepps"), ({"steps": 0}, "steps")):
        with pytest.raises(SettingsError, match=told):
            clerk(Till(), **wrong)
    with pytest.raises(SettingsError, match="one name"):
        loam.agent(Scripted(), [Till().look, loam.tool(Till().look)])
    with pytest.raises(SettingsError, match="unknown field"):
        loam.tool(Till().look, speed=3)


async def test_what_is_no_verdict_is_refused_and_leaves_the_run_waiting(tmp_path: Path) -> None:
    """Written down, it would make the whole log unreadable."""
    till = Till()
    agent, _ = clerk(till, approve=lambda _: 3, log=tmp_path / "runs.db")
    with pytest.raises(ModelFailure, match="a verdict is True, False, a text or a dict, not 3"):
        await agent.run("Pay.")
    (ran,) = await agent.runs()
    assert ran.waiting is not None
    assert (await agent.decide(ran.id, True)).reason == "answered"
    assert till.paid == ["1990"]


def test_what_is_no_model_or_no_tool_is_said_at_once() -> None:
    for model, tools, told in (
        ("gpt-5-mini", [], "'gpt-5-mini' is no model"),
        (Scripted(), [{"type": "function"}], "is no tool"),
        (Scripted(), Till().look, "the tools are a list"),
        (Scripted(), [lambda number: number], "not '<lambda>'"),
    ):
        with pytest.raises(SettingsError, match=told):
            loam.agent(model, tools)  # pyright: ignore[reportArgumentType]


async def test_a_call_in_doubt_that_is_denied_was_asked_for_once() -> None:
    begun = asyncio.Event()

    async def pay(number: int) -> None:
        begun.set()
        await asyncio.sleep(60)

    agent = loam.agent(Scripted([calls("pay", number=7)]), [pay], repeats=3)
    ran = await agent.run("Pay.")
    work = asyncio.create_task(agent.decide(ran.id, True))
    await begun.wait()
    work.cancel()
    await asyncio.wait([work])
    for why in ("doubt", "approval"):
        ran = await agent.resume(ran.id)
        assert ran.waiting is not None
        assert ran.waiting.why == why
        ran = await agent.decide(ran.id, "it was done")
    assert ran.reason == "repetition"


async def test_what_has_no_name_in_a_signature_is_not_asked_for() -> None:
    def look(number: int, *rest: int) -> str:
        return f"{number} {rest}"

    def any_of(**more: int) -> str:
        return str(more)

    made = [loam.tool(one, access="read") for one in (look, any_of)]
    schemas = [one.tool.parameters or {} for one in made]
    assert [(list(schema["properties"]), schema["additionalProperties"]) for schema in schemas] == [
        (["number"], False),
        ([], True),
    ]
    agent = loam.agent(Scripted([calls("look", number=7), calls("any_of", a=1), "Done."]), made)
    ran = await agent.run("Look.")
    results = [one.event.result for one in await agent.events(ran.id) if isinstance(one.event, Returned)]
    assert "7 ()" in results[0]
    assert "{'a': 1}" in results[1]
