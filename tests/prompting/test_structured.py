"""Structured output step by step: how it is asked again, streamed, capped, reasoned first, and how it fails."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from loam.core.answers import collect
from loam.core.calls import Call, Choice, Controls, Delta, Output, Sampling, Step, ToolDelta, Usage
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import say
from loam.prompting.around import Around
from loam.prompting.structured import Options, Structured
from loam.prompting.technique import Techniques
from tests.gateway.virtual import Scripted, call, failure, hear, text, virtual_time

anyio_backend = virtual_time
pytestmark = pytest.mark.anyio

CITY = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer", "minimum": 0}},
    "required": ["name", "people"],
    "additionalProperties": False,
}
GOOD = '{"name": "Lima", "people": 10}'
BAD = '{"name": "Lima", "people": -1}'
NATIVE = Delta(step=Step("structured", "mode", {"mode": "native", "dropped": []}))


def asked(**fields: Any) -> Call:
    return call(**{"output": Output("schema", CITY), **fields})


def details(error: ModelFailure) -> dict[str, Any]:
    assert error.failure.details is not None
    return error.failure.details


async def test_what_does_not_fit_is_asked_again_with_what_is_wrong_and_without_growing() -> None:
    model = Scripted(text(BAD), text('{"name": 1}'), text(GOOD))
    wanted = asked()
    answer = await collect(Structured(model).answer(wanted))
    assert answer.text == GOOD
    assert answer.usage == Usage(input=9, output=3)
    first, second, third = (one.messages for one in model.calls)
    assert [message.role for message in second] == ["user", "assistant", "user"]
    assert (len(first), len(second), len(third)) == (1, 3, 3)
    assert second[1].text == BAD
    assert "- /people: -1 is less than the minimum of 0" in second[2].text
    assert third[1].text == '{"name": 1}'
    (done,) = [step.details for step in answer.steps if step.event == "done"]
    assert [one["valid"] for one in done["attempts"]] == [False, False, True]
    assert [one["output_tokens"] for one in done["attempts"]] == [1, 1, 1]
    assert wanted.trace.warnings[0].startswith("try 1 did not fit the schema: /people")


async def test_the_list_of_what_is_wrong_is_short_and_so_is_the_try_that_is_shown() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    model = Scripted(text(json.dumps(["x" * 1000] * 50)), text("[1]"))
    await collect(Structured(model).answer(asked(output=Output("schema", schema))))
    turns = model.calls[1].messages
    assert turns[2].text.count("\n- ") == 10
    assert len(turns[1].text) < 9000
    assert len(turns[2].text) < 4000


async def test_the_failure_tells_every_try_and_what_it_used() -> None:
    model = Scripted(text(BAD))
    with pytest.raises(ModelFailure, match=r"not after 2 tries .* /people: -1 is less than") as raised:
        await collect(Structured(model, Options(max_attempts=2)).answer(asked()))
    told = details(raised.value)
    assert [one["attempt"] for one in told["attempts"]] == [1, 2]
    assert told["usage"] == {"input_tokens": 6, "output_tokens": 2}
    assert (raised.value.failure.code, raised.value.failure.http_status) == ("invalid_output", 502)


async def test_an_answer_that_was_cut_off_is_not_paid_for_twice() -> None:
    model = Scripted([Delta(text='{"name": "Li'), Delta(finish="length"), Delta(usage=Usage(1, 1))])
    with pytest.raises(ModelFailure, match="cut off; allow it a larger max_tokens"):
        await collect(Structured(model).answer(asked()))
    assert len(model.calls) == 1


async def test_the_words_around_the_json_are_cut_off() -> None:
    answer = await collect(Structured(Scripted(text(f"Sure:\n```json\n{GOOD}\n```"))).answer(asked()))
    assert answer.text == GOOD


@pytest.mark.parametrize(
    "said",
    [
        [Delta(refusal="I will not."), Delta(finish="refusal")],
        [Delta(text="no"), Delta(finish="content_filter")],
        [Delta(tool=ToolDelta(0, "1", "search", "{}")), Delta(finish="tool_calls")],
    ],
)
async def test_what_says_itself_that_it_is_no_answer_passes(said: list[Delta]) -> None:
    model = Scripted(said)
    answer = await collect(Structured(model).answer(asked()))
    assert answer.choices[0].finish == said[-1].finish
    assert len(model.calls) == 1


async def test_a_stream_is_live_where_the_provider_enforces_the_schema() -> None:
    heard = await hear(Structured(Scripted([NATIVE, *text('{"name": "Lima",', ' "people": 10}')])), asked(stream=True))
    assert [delta.text for delta in heard.deltas if delta.text] == ['{"name": "Lima",', ' "people": 10}']
    assert heard.answer().choices[0].finish == "stop"
    broken = await hear(Structured(Scripted([NATIVE, *text('{"name": "Lima",', ' "people": -1}')])), asked(stream=True))
    assert broken.failure is not None
    assert (broken.failure.code, broken.text) == ("invalid_output", BAD)
    assert not any(delta.finish for delta in broken.deltas)


async def test_else_it_is_held_and_tells_how_far_it_is() -> None:
    long = json.dumps({"name": "L" * 400, "people": 1})
    pieces = [long[at : at + 10] for at in range(0, len(long), 10)]
    model = Scripted(text(*pieces))
    watching = asked(stream=True, controls=Controls(metadata=True))
    heard = await hear(Structured(model), watching)
    values = [delta.step.details["value"] for delta in heard.deltas if delta.step and delta.step.event == "partial"]
    assert 5 < len(values) < 20
    assert all(long[2:].startswith(json.dumps(value)[2:-2]) for value in values[1:])
    assert heard.text == long
    unwatched = await hear(Structured(model), asked(stream=True))
    assert not [delta for delta in unwatched.deltas if delta.step and delta.step.event == "partial"]


async def test_reasoning_first_and_then_the_form() -> None:
    model = Scripted(text("Lima has ten million."), text(GOOD))
    answer = await collect(Structured(model, Options(two_pass=True)).answer(asked()))
    assert answer.text == GOOD
    first, second = model.calls
    assert first.output is None
    assert second.output is not None
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert answer.usage == Usage(input=6, output=2)


async def test_a_chain_of_thought_over_a_form_is_two_passes() -> None:
    model = Scripted(text("Ten million."), text(GOOD))
    answer = await collect(Techniques(model).answer(asked(controls=Controls(technique="chain_of_thought"))))
    assert (answer.text, len(model.calls)) == (GOOD, 2)


async def test_a_vote_over_forms_counts_only_what_fits() -> None:
    model = Scripted(text(BAD), text(GOOD), text(GOOD))
    wish = {"name": "self_consistency", "n": 2, "normalise": "json:/people", "stop": "none"}
    answer = await collect(Techniques(model).answer(asked(controls=Controls(technique=wish))))
    (done,) = [step.details for step in answer.steps if step.event == "done"]
    assert [(vote["answer"], vote["count"]) for vote in done["votes"]] == [("10", 2)]
    assert len(model.calls) == 3


async def test_a_cap_around_it_counts_every_try_inside() -> None:
    """A vote's cap holds for the tries that its samples make, and each costs what the quote says."""

    class Priced(Scripted):
        async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
            call.trace.cost = (call.trace.cost or 0) + 1000
            async for delta in super().answer(call):
                yield delta

    model = Priced(text(BAD))
    wish = [{"name": "self_consistency", "n": 5, "max_cost_usd": 0.004}, {"name": "structured", "max_attempts": 9}]
    wanted = asked(controls=Controls(technique=wish))
    with pytest.raises(ModelFailure) as raised:
        await collect(Techniques(model, Around(quote=lambda _: 1000)).answer(wanted))
    assert raised.value.failure.code == "invalid_output"
    assert len(model.calls) == 4
    assert wanted.trace.cost == 4000


async def test_several_answers_are_each_held_to_the_schema() -> None:
    model = Scripted(text(BAD), text(GOOD), text(GOOD))
    answer = await collect(Structured(model).answer(asked(sampling=Sampling(n=2))))
    assert [choice.text for choice in answer.choices] == [GOOD, GOOD]
    assert answer.usage == Usage(input=9, output=3)
    with pytest.raises(ModelFailure):
        await collect(Structured(Scripted(text(BAD))).answer(asked(sampling=Sampling(n=2))))


async def test_a_cap_in_tokens_bounds_the_answer_and_the_tries() -> None:
    model = Scripted([Delta(text=BAD), Delta(finish="stop"), Delta(usage=Usage(input=100, output=900))])
    with pytest.raises(ModelFailure) as raised:
        await collect(Structured(model, Options(max_tokens=3000, max_attempts=9)).answer(asked()))
    assert "cap" in raised.value.failure.message
    assert details(raised.value)["usage"] == {"input_tokens": 200, "output_tokens": 1800}
    first, second = (one.sampling.max_tokens or 0 for one in model.calls)
    assert 3000 > first > second + 900


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "https://x.org/s.json"}, {"pattern": "["}])
async def test_a_schema_that_is_none_is_the_callers_fault(schema: Any) -> None:
    model = Scripted(text("1"))
    with pytest.raises(ModelFailure) as raised:
        await collect(Structured(model).answer(asked(output=Output("schema", schema))))
    assert (raised.value.failure.kind, model.calls) == ("bad_request", [])


async def test_json_of_any_shape_must_be_json() -> None:
    model = Scripted(text("not yet"), text('{"a": 1}'))
    answer = await collect(Techniques(model).answer(asked(output=Output("json"))))
    assert answer.text == '{"a": 1}'


async def test_a_providers_failure_stays_its_own() -> None:
    broken: Failure = failure("quota")
    assert (await hear(Structured(Scripted(text(BAD), [broken])), asked())).failure == broken


async def test_without_a_schema_the_options_may_bring_one() -> None:
    model = Scripted(text("Lima"), text(GOOD))
    wish = {"name": "structured", "schema": CITY}
    answer = await collect(Techniques(model).answer(call(controls=Controls(technique=wish))))
    assert answer.choices[0] == Choice(answer.choices[0].parts, "stop")
    assert answer.text == GOOD
    assert model.calls[0].output == Output("schema", CITY)
    assert model.calls[0].messages == (say("user", "hi"),)
