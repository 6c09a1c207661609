"""What checking an answer costs, and what becomes of a model's garbage: `python -m bench.structured [--write FILE]`.

Over the schemas of tests/prompting/schema_corpus.py: time to compile a schema and to check a value, wrong values among
them; and how often a model that writes right, wrapped, nearly right and senseless things gives a usable answer after
one, two and three tries.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from loam.core.answers import collect
from loam.core.calls import Call, Delta, Output, Usage
from loam.core.errors import ModelFailure
from loam.core.messages import say
from loam.prompting.json_text import json_in
from loam.prompting.schemas import Schema
from loam.prompting.structured import Options, Structured
from tests.prompting.schema_corpus import SCHEMAS, garbage, guess

TRIES, ROUNDS = 4, 5


class Garbage:
    def __init__(self, schema: Any, seed: int) -> None:
        self._schema = schema
        self._rng = random.Random(seed)

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        text = garbage(self._schema, self._rng)
        yield Delta(text=text)
        yield Delta(finish="stop", usage=Usage(20, len(text) // 4))


def timed(work: Any) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best * 1e6


def checking() -> list[list[str]]:
    compiled, checked, read = list[float](), list[float](), list[float]()
    for number, source in enumerate(SCHEMAS):
        rng = random.Random(number)
        schema, value, text = Schema(source), guess(source, rng), garbage(source, rng)
        compiled.append(timed(lambda source=source: Schema(source)))
        checked.append(timed(lambda schema=schema, value=value: schema.problems(value)))
        read.append(timed(lambda text=text: json_in(text)))
    rows = (("compile a schema, once", compiled), ("check a value", checked), ("find the JSON in a text", read))
    return [[name, *(f"{figure:.1f}" for figure in _figures(times))] for name, times in rows]


def _figures(times: Sequence[float]) -> tuple[float, float, float]:
    ranked = sorted(times)
    return statistics.median(ranked), ranked[int(0.99 * len(ranked))], ranked[-1]


async def usable(most: int) -> tuple[float, float]:
    """The share of answers that are had in so many tries, and the calls that each question took."""
    had = calls = 0
    for number, source in enumerate(SCHEMAS):
        for draw in range(TRIES):
            model = Structured(Garbage(source, 1000 * number + draw), Options(max_attempts=most))
            asked = Call(id="", model="m", messages=(say("user", "x"),), output=Output("schema", source))
            try:
                answer = await collect(model.answer(asked))
            except ModelFailure as error:
                calls += len((error.failure.details or {}).get("attempts", ()))
            else:
                had += 1
                calls += len(next(step for step in answer.steps if step.event == "done").details["attempts"])
    asked_in_all = TRIES * len(SCHEMAS)
    return had / asked_in_all, calls / asked_in_all


def page() -> str:
    lines = [
        "# Structured output, measured",
        "",
        f"Printed by `python -m bench.structured`. {len(SCHEMAS)} schemas: 40 by hand, the rest made from a seed.",
        "",
        "| microseconds | median | 99 % | most |",
        "|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in checking()),
        "",
        "A model that writes what it should in about a third of its answers, and else half values, values that break",
        "the schema, prose or nothing, whatever it is told:",
        "",
        "| tries at most | usable answers | calls a question |",
        "|---|---|---|",
    ]
    for most in (1, 2, 3, 5):
        share, calls = asyncio.run(usable(most))
        lines.append(f"| {most} | {100 * share:.1f} % | {calls:.2f} |")
    return "\n".join(
        [*lines, "", "Not one answer that broke its schema was given out: tests/promises/test_p6_structured.py.", ""]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    text = page()
    print(text)
    if chosen.write:
        chosen.write.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
