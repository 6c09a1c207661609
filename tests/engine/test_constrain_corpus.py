"""The 260 schemas of the structured-output corpus, as the engine meets them: held to exactly, or refused aloud."""

import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from statistics import median
from typing import Any

import jsonschema_rs
import pytest

from loam.core.answers import collect
from loam.core.calls import Call, Delta, Output, Target
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import say
from loam.engine.asks import Ask, Draw
from loam.engine.constrain import Constraint, grammar_of, grammar_tokens
from loam.engine.formats import narrowed
from loam.prompting.capabilities import Capabilities
from loam.prompting.fitting import Fitted
from tests.engine.checkpoints import write_tokenizer
from tests.engine.worlds import NoiseForward, engine, run, text
from tests.prompting.schema_corpus import SCHEMAS

pytestmark = pytest.mark.anyio
VOCABULARY, STOP = 512, 1
REFUSED = {
    "oneOf",
    "not",
    "if",
    "uniqueItems",
    "contains",
    "propertyNames",
    "dependentRequired",
    "unevaluatedProperties",
}
"""Words that llguidance does not hold to; and it knows no look-ahead in a pattern."""
TIMES = [{"type": "string", "format": name} for name in ("time", "date-time", "email")]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, VOCABULARY - 12, 512)
    written = (folder / "tokenizer.json").read_text()
    return grammar_tokens(written, vocabulary=VOCABULARY, stop_tokens=[STOP])


def grammar_or_refusal(schema: Any) -> str | Failure:
    try:
        return grammar_of(schema=schema)
    except ModelFailure as error:
        return error.failure


def bounded(digits: str) -> float:
    """JSON's numbers have no bound, the checker's have."""
    return max(min(float(digits), 1e300), -1e300)


def test_every_schema_is_held_to_or_refused_in_words() -> None:
    refused = [schema for schema in SCHEMAS if isinstance(grammar_or_refusal(schema), Failure)]
    for schema in refused:
        failure = grammar_or_refusal(schema)
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.code) == ("unsupported", "grammar"), failure
        assert REFUSED & schema.keys() or "(?=" in schema["pattern"], schema
    assert len(refused) == 9, "of 260; each names its word above"


def test_every_completion_of_the_corpus_is_valid(tokens: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """On a model that writes noise, greedy and drawn, all in one batch; no answer is mended before it is checked."""
    schemas = [*SCHEMAS, *TIMES * 10]
    made = engine(NoiseForward(VOCABULARY), tokens=tokens, pages=600, queue=400)
    asks = {
        n: Ask(
            id=str(n), prompt=(5, 6, 7), grammar=grammar, close_grammar=True, max_tokens=240,
            draw=Draw(seed=n, temperature=n % 2), stop_tokens=frozenset([STOP]),
        )
        for n, schema in enumerate(schemas)
        if isinstance(grammar := grammar_or_refusal(schema), str)
    }  # fmt: skip
    told = run(made, *asks.values())
    for n, ask in asks.items():
        last = told[ask.id][-1]
        assert last.failure is None, (schemas[n], last.failure)
        answer = tokens.decode_str(text(told[ask.id]))
        checker = jsonschema_rs.validator_for(schemas[n], validate_formats=True)
        try:
            checker.validate(json.loads(answer, parse_float=bounded))
        except ValueError as error:
            raise AssertionError((schemas[n], answer)) from error
    took = masks(tokens, [ask.grammar for ask in asks.values()])
    with capsys.disabled():
        print(
            f"\n{len(asks)} schemas held to; a mask over {VOCABULARY} tokens costs {median(took) * 1e6:.0f} µs "
            f"(median), {sorted(took)[len(took) * 99 // 100] * 1e6:.0f} µs (99 of 100)"
        )
    assert median(took) < 0.002


def masks(tokens: Any, grammars: list[str]) -> list[float]:
    """Seconds of the first masks of each grammar, along its greedy way."""
    took: list[float] = []
    for grammar in grammars:
        constraint = Constraint(grammar, tokens)
        for _ in range(12):
            if constraint.ended:
                break
            started = time.perf_counter()
            mask = constraint.mask()
            took.append(time.perf_counter() - started)
            mask[STOP] = False
            if not mask.any():
                break
            constraint.advance(int(mask.argmax()))
    return took


class Held:
    """A model that holds to a grammar or refuses, as the engine does, and else writes what it likes."""

    def __init__(self) -> None:
        self.asked: list[Output | None] = []

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        self.asked.append(call.output)
        if call.output is not None:
            grammar_of(schema=call.output.schema)
        yield Delta(text="{}", finish="stop")


@pytest.mark.parametrize("schema", [one for one in SCHEMAS if isinstance(grammar_or_refusal(one), Failure)], ids=str)
async def test_what_is_refused_is_told_in_words_and_said_so(schema: Any) -> None:
    held = Held()
    call = Call(
        id="c",
        model="m",
        messages=(say("user", "hi"),),
        target=Target("local", "m"),
        output=Output("schema", schema=schema),
    )
    answer = await collect(Fitted(held, "local", Capabilities.load()).answer(call))
    assert answer.text == "{}"
    assert [output is None for output in held.asked] == [False, True]
    assert any("can't be held to this schema, so it was told in words" in warning for warning in call.trace.warnings)


def test_a_format_is_narrowed_where_it_is_one_and_nowhere_else() -> None:
    email, time_ = {"format": "email"}, {"format": "time"}
    assert narrowed({"items": email})["items"]["maxLength"] == 64
    assert narrowed({"anyOf": [{**email, "maxLength": 9}]}) == {"anyOf": [{**email, "maxLength": 9}]}
    assert narrowed({"properties": {"format": time_}})["properties"]["format"]["pattern"].startswith("^")
    for plain in ({"const": email}, {"enum": [email]}, {"default": time_}, {**time_, "pattern": "^1"}, True, "x"):
        assert narrowed(plain) == plain
