"""What a technique costs beyond the calls it makes: `python -m bench.techniques`.

CPU time of the whole technique around a model that is always ready, less that of the same calls made alone. The
fastest of several rounds, since whatever else the machine does only ever adds to it.
"""

import asyncio
import gc
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from loam.core.calls import Call, Controls, Delta, Output, Usage, Words
from loam.core.messages import say
from loam.core.ports import Model
from loam.prompting.technique import Techniques

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

CASES: dict[str, tuple[Any, Any, str]] = {
    "zero_shot": ("zero_shot", None, "word " * WORDS),
    "few_shot, 4 of 20": ({"name": "few_shot", "examples": EXAMPLES}, None, "word " * WORDS),
    "chain_of_thought": ("chain_of_thought", None, REASONED),
    "self_consistency, 3 of 5": ({"name": "self_consistency", "normalise": "number"}, None, REASONED),
    "structured": (None, Output("schema", SCHEMA), VALUE),
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
        return Call(id="", model="m", messages=question, output=output, controls=controls, stream=True)

    asyncio.run(_read(model, call()))
    made = ready.calls

    async def alone() -> None:
        for _ in range(made):
            await _read(ready, call())

    return _spent(lambda: _read(model, call())) - _spent(alone), made


def main() -> None:
    print("| technique | inner calls | beyond them |\n|---|---|---|")
    for name in CASES:
        seconds, made = overhead(name)
        print(f"| {name} | {made} | {seconds * 1e6:.0f} µs |")


if __name__ == "__main__":
    main()
