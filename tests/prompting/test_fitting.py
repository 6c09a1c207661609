"""What a provider is sent of a schema, and that nothing is lost of what the answer is checked against."""

import re
from datetime import date
from typing import Any

import pytest

from loam.core.answers import collect
from loam.core.calls import Output, Target, Tool
from loam.core.errors import Failure, ModelFailure
from loam.prompting.capabilities import Capabilities
from loam.prompting.fitting import Fit, Fitted, fit_of
from loam.prompting.structured import Structured
from tests.gateway.virtual import Scripted, call, text

pytestmark = pytest.mark.anyio

TABLE = Capabilities.load()
SCHEMA = {
    "type": "object",
    "properties": {
        "default": {"type": "string", "minLength": 2, "default": "x"},
        "tags": {"type": "array", "uniqueItems": True, "items": {"anyOf": [{"not": {}}, {"type": "null"}]}},
    },
    "required": ["default", "tags"],
    "additionalProperties": False,
    "$defs": {"minLength": {"type": "string", "maxLength": 3}},
}  # fmt: skip


def fit(kind: str, model: str, **output: Any) -> Fit:
    return fit_of(Output("schema", SCHEMA, **output), TABLE.find(kind, model))


def test_a_relaxed_copy_loses_words_of_the_schema_and_no_names() -> None:
    strict = fit("openai", "gpt-5-mini", strict=True)
    assert strict.mode == "native"
    assert strict.dropped == ("default", "not", "uniqueItems")
    assert strict.output is not None
    assert strict.output.schema == {
        "type": "object",
        "properties": {
            "default": {"type": "string", "minLength": 2},
            "tags": {"type": "array", "items": {"anyOf": [{}, {"type": "null"}]}},
        },
        "required": ["default", "tags"],
        "additionalProperties": False,
        "$defs": {"minLength": {"type": "string", "maxLength": 3}},
    }
    assert SCHEMA["properties"]["default"]["minLength"] == 2


def test_a_dropped_choice_or_sum_of_schemas_is_sent_as_what_allows_more() -> None:
    schema = {
        "oneOf": [{"type": "string", "not": {}}, {"type": "null"}],
        "properties": {
            "a": {"allOf": [{"$ref": "#/$defs/a"}]},
            "b": {"type": "object", "allOf": [{"type": "string", "title": "B"}]},
            "c": {"allOf": [{"type": "object"}, {"required": ["x"]}]},
            "d": {"oneOf": [{"type": "string"}], "anyOf": [{"type": "null"}]},
        },
    }
    found = fit_of(Output("schema", schema, strict=True), TABLE.find("openai", "gpt-5"))
    assert found.output is not None
    assert found.output.schema == {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "properties": {
            "a": {"$ref": "#/$defs/a"},
            "b": {"type": "object", "title": "B"},
            "c": {},
            "d": {"anyOf": [{"type": "null"}]},
        },
    }
    assert found.dropped == ("allOf", "not", "oneOf")


def test_what_openai_is_not_asked_to_enforce_goes_as_it_is() -> None:
    assert fit("openai", "gpt-5-mini") == Fit(Output("schema", SCHEMA), "offered")


@pytest.mark.parametrize(
    ("kind", "model", "mode", "told"),
    [
        ("anthropic", "claude-sonnet-4-5", "native", False),
        ("anthropic", "claude-3-haiku", "prompted", True),
        ("openai", "gpt-4-0613", "prompted", True),
        ("openai", "gpt-4-turbo", "json", True),
        ("anthropic", "claude-sonnet-4-20250514", "prompted", True),
        ("groq", "openai/gpt-oss-20b", "offered", False),
        ("groq", "llama-3.1-8b-instant", "json", True),
        ("together", "any", "offered", True),
        ("compatible", "deepseek-chat", "json", True),
        ("compatible", "kimi-k2", "json", True),
        ("compatible", "qwen", "offered", True),
        ("local", "any", "native", True),
        ("", "any", "offered", False),
    ],
)
def test_each_kind_is_asked_as_it_can(kind: str, model: str, mode: str, told: bool) -> None:
    found = fit(kind, model)
    assert found.mode == mode
    assert bool(found.instruction) == told
    assert (found.output is None) == (mode == "prompted")


def test_the_wish_outranks_the_table() -> None:
    assert fit("local", "any", mode="prompted").mode == "prompted"
    assert fit("groq", "llama-3.1-8b-instant", mode="native").mode == "offered"
    assert fit_of(Output("json"), TABLE.find("anthropic", "claude-3-opus")).instruction


async def test_the_schema_is_told_in_words_and_the_answer_checked_against_all_of_it() -> None:
    provider = Scripted(text('{"default": "abc", "tags": ["a", "a"]}'), text('{"default": "abc", "tags": []}'))
    model = Structured(Fitted(provider, "openai", TABLE))
    asked = call(output=Output("schema", SCHEMA, strict=True), target=Target("o", "gpt-5"))
    answer = await collect(model.answer(asked))
    assert answer.text == '{"default": "abc", "tags": []}'  # uniqueItems was dropped on the way there, and yet kept
    assert "takes a schema without default, not, uniqueItems" in asked.trace.warnings[0]
    assert {step.event for step in answer.steps} == {"mode", "retry", "done"}


async def test_an_engine_that_refuses_a_schema_is_told_it_in_words_unless_native_was_wished_for() -> None:
    refusal = Failure(kind="unsupported", message="no such grammar", code="grammar")
    provider = Scripted([refusal], text("{}"))
    asked = call(output=Output("schema", {"type": "object", "not": {"required": ["a"]}}))
    answer = await collect(Fitted(provider, "local", TABLE).answer(asked))
    assert answer.text == "{}"
    assert [step.details["mode"] for step in answer.steps] == ["native", "prompted"]
    assert provider.calls[1].output is None
    assert "told in words" in asked.trace.warnings[0]
    with pytest.raises(ModelFailure, match="no such grammar"):
        await collect(
            Fitted(Scripted([refusal]), "local", TABLE).answer(call(output=Output("schema", {}, mode="native")))
        )


async def test_a_provider_that_streams_no_answer_of_a_shape_is_asked_for_it_whole() -> None:
    provider = Scripted(text("{}"), text("{}"))
    for output in (Output("schema", {}), Output("json")):
        asked = call(output=output, stream=True, target=Target("g", "openai/gpt-oss-20b"))
        await collect(Fitted(provider, "groq", TABLE).answer(asked))
    assert [(sent.stream, sent.output is not None) for sent in provider.calls] == [(False, True), (False, True)]
    provider = Scripted(text("{}"))
    await collect(Fitted(provider, "openai", TABLE).answer(call(output=Output("json"), stream=True)))
    assert provider.calls[0].stream


async def test_a_provider_that_takes_no_tools_beside_a_schema_is_told_the_schema_in_words() -> None:
    provider = Scripted(text("{}"), text("{}"))
    asked = call(output=Output("schema", {}), stream=True, tools=(Tool("search", ""),))
    answer = await collect(Fitted(provider, "groq", TABLE).answer(asked))
    assert answer.steps[0].details["mode"] == "prompted"
    assert provider.calls[0].output is None
    assert provider.calls[0].stream
    await collect(Fitted(provider, "openai", TABLE).answer(asked))
    assert provider.calls[1].output is not None


async def test_a_server_that_refuses_the_field_is_told_in_words() -> None:
    provider = Scripted(text("[]"))
    await collect(Fitted(provider, "compatible", TABLE, lacks=("response_format",)).answer(call(output=Output("json"))))
    assert provider.calls[0].output is None
    assert provider.calls[0].messages[0].role == "system"


async def test_other_calls_pass_as_they_are() -> None:
    provider = Scripted(text("x"))
    asked = call()
    await collect(Fitted(provider, "openai", TABLE).answer(asked))
    assert provider.calls[0] is asked


def test_every_row_has_a_day_and_an_address_and_what_has_none_is_not_relied_on() -> None:
    for row in TABLE.rows:
        date.fromisoformat(row.date)
        assert re.search(r"https://|pydantic-ai \d|src/loam/", row.source) or row.kind == "*"
        assert row.verified or row.enforces == "none"
    assert TABLE.find("openai", "GPT-5-mini").reasons("GPT-5-mini")
    assert not TABLE.find("openai", "gpt-4o").reasons("gpt-4o")
