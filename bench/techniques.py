"""What a technique costs beyond the calls it makes: `python -m bench.techniques`.

CPU time of the whole technique around a model that is always ready, less that of the same calls made alone. The
fastest of several rounds, since whatever else the machine does only ever adds to it.
"""

import asyncio
import gc
import json
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from loam.agents.door import MemoryLog
from loam.agents.events import MIGRATIONS, Began, Entry, EventLog, Journal, Run
from loam.agents.loop import Agent, Loop
from loam.agents.settings import AgentSettings
from loam.agents.state import State
from loam.core.calls import Call, Controls, Delta, Output, Principal, Tool, Usage, Words
from loam.core.clock import SystemClock
from loam.core.messages import say
from loam.core.ports import Model
from loam.prompting.technique import Techniques
from loam.storage.database import Database

CALLS, ROUNDS, WORDS = 50, 7, 200
SCHEMA = {
    "type": "object",
    "properties": {"words": {"type": "array", "items": {"type": "string"}}, "count": {"type": "integer", "minimum": 0}},
    "required": ["words", "count"],
    "additionalProperties": False,
}
VALUE = json.dumps({"words": ["word"] * WORDS, "count": WORDS})
REASONED = "word " * WORDS + "<answer>7</answer>"
EXAMPLES = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(20)]

TOOLS = (Tool("keep", "Keeps words.", SCHEMA), Tool("look", "Looks a word up.", {"type": "object"}))
TURN = json.dumps({"thought": "word " * 20, "action": {"tool": "keep", "arguments": json.loads(VALUE)}})

CASES: dict[str, tuple[Any, Any, str]] = {
    "zero_shot": ("zero_shot", None, "word " * WORDS),
    "few_shot, 4 of 20": ({"name": "few_shot", "examples": EXAMPLES}, None, "word " * WORDS),
    "chain_of_thought": ("chain_of_thought", None, REASONED),
    "self_consistency, 3 of 5": ({"name": "self_consistency", "normalise": "number"}, None, REASONED),
    "structured": (None, Output("schema", SCHEMA), VALUE),
    "react, an act": ("react", None, TURN),
    "structured, prose around": (None, Output("schema", SCHEMA), f"Here it is:\n```json\n{VALUE}\n```"),
}
"""A name, the wish, the form, and what the model writes, a word a delta."""


class Ready:
    def __init__(self, text: str) -> None:
        words = text.split(" ")
        self._deltas = [*(Words(text=f"{word} ") for word in words[:-1]), Words(text=words[-1])]
        self._deltas += [Delta(finish="stop"), Delta(usage=Usage(9, 9))]
        self.calls = 0

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        self.calls += 1
        for delta in self._deltas:
            yield delta


async def _read(model: Model, call: Call) -> None:
    async with aclosing(model.answer(call)) as deltas:
        async for _ in deltas:
            pass


def _spent(work: Callable[[], Any]) -> float:
    """CPU seconds of one piece of work, the fastest of the rounds."""

    async def rounds() -> float:
        gc.collect()
        gc.freeze()  # as the gateway does when it starts
        best = float("inf")
        for _ in range(ROUNDS):
            start = time.process_time()
            for _ in range(CALLS):
                await work()
            best = min(best, time.process_time() - start)
        return best / CALLS

    try:
        return asyncio.run(rounds())
    finally:
        gc.unfreeze()


def overhead(name: str) -> tuple[float, int]:
    """CPU seconds beyond the inner calls, and how many of these there are."""
    wish, output, text = CASES[name]
    ready = Ready(text)
    model = Techniques(ready)
    question = (say("system", "You are helpful."), say("user", "What is six and one?"))

    def call() -> Call:
        controls = Controls(technique=wish)
        tools = TOOLS if wish == "react" else ()
        return Call(id="", model="m", messages=question, tools=tools, output=output, controls=controls, stream=True)

    asyncio.run(_read(model, call()))
    made = ready.calls

    async def alone() -> None:
        for _ in range(made):
            await _read(ready, call())

    return _spent(lambda: _read(model, call())) - _spent(alone), made


async def _step(model: Model, log: Journal, run: Run) -> None:
    """One step of an agent: the call held, asked and answered, and the run's end: three events."""
    first = Entry(1, 0.0, Began("What is six and one?"))
    agent = Agent("a", AgentSettings(model="m"), model, {}, lambda _: 0)
    await Loop(agent, run, State.of([first]), log, SystemClock()).drive()


def step_overhead(*, durable: bool) -> float:
    """CPU seconds of an agent's step beyond its model's call; `durable` writes its events to a file."""
    ready = Ready("word " * WORDS)
    call = Call(id="", model="m", messages=(say("user", "What is six and one?"),))

    def run(number: int) -> Run:
        return Run(f"run_{number}", "a", Principal(), 0.0)

    async def spent() -> float:
        with tempfile.TemporaryDirectory() as folder:
            database = await Database.open(Path(folder) / "runs.db", MIGRATIONS)
            log = EventLog(database) if durable else MemoryLog()
            runs = [run(number) for number in range(CALLS * ROUNDS)]
            for one in runs:
                await log.create(one, Entry(1, 0.0, Began("What is six and one?")))
            best = float("inf")
            for start in range(0, len(runs), CALLS):
                at = time.process_time()
                for one in runs[start : start + CALLS]:
                    await _step(ready, log, one)
                best = min(best, time.process_time() - at)
            await database.close()
        return best / CALLS

    return asyncio.run(spent()) - _spent(lambda: _read(ready, call))


def main() -> None:
    print("| technique | inner calls | beyond them |\n|---|---|---|")
    for name in CASES:
        seconds, made = overhead(name)
        print(f"| {name} | {made} | {seconds * 1e6:.0f} µs |")
    plain, durable = step_overhead(durable=False), step_overhead(durable=True)
    print(f"| a step of an agent | 1 | {plain * 1e6:.0f} µs |")
    print(f"| its events on record, three writes | | {(durable - plain) * 1e6:.0f} µs more |")


if __name__ == "__main__":
    main()
