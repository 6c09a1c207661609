"""P6: structured output validates or fails.

A model that writes right, nearly right and senseless things at random is asked for answers of 260 schemas, streamed
and whole, with and without caps. Whatever comes back as a success is read as a client would read it, and held to the
client's schema by a validator of the test's own.
"""

import json
import random
import statistics
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loam.core.answers import collect
from loam.core.calls import Answer, Call, Controls, Delta, Output, Sampling, Step, Usage
from loam.core.errors import ModelFailure
from loam.core.messages import say
from loam.prompting.around import Around
from loam.prompting.schemas import Schema
from loam.prompting.structured import Options
from loam.prompting.technique import Techniques
from tests.prompting.schema_corpus import SCHEMAS, garbage, guess

pytestmark = pytest.mark.anyio

PRICE = 1_000  # micro-dollars a call, which is what the quote says


class Garbage:
    """Writes whatever comes; ends in every way a model can; costs the same each time."""

    def __init__(self, write: Callable[[], str], rng: random.Random, *, native: bool) -> None:
        self._write = write
        self._rng = rng
        self._native = native
        self.asked: list[Call] = []

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        self.asked.append(call)
        rng = self._rng
        call.trace.cost = (call.trace.cost or 0) + PRICE
        if self._native:
            yield Delta(step=Step("structured", "mode", {"mode": "native", "dropped": []}))
        text = self._write()
        at = 0
        while at < len(text):
            size = rng.randint(1, 30)
            yield Delta(text=text[at : at + size])
            at += size
        yield Delta(finish=rng.choice(["stop", "stop", "stop", "length"]))
        yield Delta(usage=Usage(input=20, output=len(text) // 4))


def asking(schema: Any, technique: dict[str, Any], *, stream: bool, n: int = 1) -> Call:
    return Call(
        id="call_1",
        model="m",
        messages=(say("user", "Give me one."),),
        output=Output("schema", schema, name="thing"),
        stream=stream,
        sampling=Sampling(max_tokens=200, n=n),
        controls=Controls(technique=technique, metadata=stream),
    )


def assert_fits(answer: Answer, schema: Any) -> None:
    """As a client reads it. Where the answer says itself that it was cut off it is no success."""
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    for choice in answer.choices:
        assert validator.is_valid(json.loads(choice.text)), (choice.text, schema)


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
async def test_nothing_that_breaks_the_schema_is_a_success(number: int) -> None:
    rng, schema = random.Random(number), SCHEMAS[number]
    for stream in (False, True):
        for native in (False, True):
            model = Garbage(lambda: garbage(schema, rng), rng, native=native)
            attempts, calls = rng.randint(1, 4), rng.randint(1, 5)
            wish: dict[str, Any] = {"name": "structured", "max_attempts": attempts, "two_pass": rng.random() < 0.2}
            if rng.random() < 0.5:
                wish["max_cost_usd"] = calls * PRICE / 1e6
            n = rng.choice([1, 1, 1, 2])
            asked = asking(schema, wish, stream=stream, n=n)
            try:
                answer = await collect(Techniques(model, Around(quote=lambda _: PRICE)).answer(asked))
            except ModelFailure as error:
                failure = error.failure
                assert failure.code in ("invalid_output", "technique_cap"), failure
                assert not failure.retryable
            else:
                assert len(answer.choices) == n
                assert_fits(answer, schema)
            passes = attempts + wish["two_pass"]
            assert 1 <= len(model.asked) <= passes * n
            if "max_cost_usd" in wish:
                assert (asked.trace.cost or 0) <= calls * PRICE


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
async def test_a_right_answer_is_not_lost(number: int) -> None:
    schema, rng = SCHEMAS[number], random.Random(number)
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    value = next((one for _ in range(200) if validator.is_valid(one := guess(schema, rng))), None)
    if value is None and not validator.is_valid(None):
        pytest.skip("too hard for the test's own guess")
    text = json.dumps(value)
    model = Garbage(lambda: f"Here:\n```json\n{text}\n```\n", rng, native=False)
    answer = await collect(Techniques(model).answer(asking(schema, {"name": "structured"}, stream=False)))
    assert json.loads(answer.text) == value
    assert len(model.asked) == 1


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.sampled_from(SCHEMAS), st.booleans())
async def test_no_text_passes_that_a_client_could_not_read(text: str, schema: Any, stream: bool) -> None:
    model = Garbage(lambda: text, random.Random(1), native=stream)
    try:
        answer = await collect(Techniques(model).answer(asking(schema, {"name": "structured"}, stream=stream)))
    except ModelFailure:
        return
    assert_fits(answer, schema)


def test_to_check_an_answer_takes_no_time_that_counts() -> None:
    """At the median over the corpus, value in hand: at most 50 microseconds, wrong values among them."""
    spent: list[float] = []
    rng = random.Random(7)
    for source in SCHEMAS:
        schema, value = Schema(source), guess(source, rng)
        times: list[float] = []
        for _ in range(5):
            start = time.perf_counter()
            schema.problems(value)
            times.append(time.perf_counter() - start)
        spent.append(min(times))
    assert statistics.median(spent) <= 50e-6, f"{statistics.median(spent) * 1e6:.1f} microseconds"


def test_the_options_of_the_corpus_are_real() -> None:
    assert len(SCHEMAS) >= 200
    assert Options().max_attempts == 3
