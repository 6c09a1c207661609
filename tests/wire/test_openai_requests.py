"""A client's chat request to a Call, and a Call to a provider's body."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import CacheControl, Call, Controls, Output, Sampling, Target, Tool, ToolChoice
from loam.core.errors import ModelFailure
from loam.core.messages import Text, ToolCall, ToolResult, say
from loam.wire.openai_requests import Dialect, decode_chat, encode_chat

ASK = {"role": "user", "content": "Hello"}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": [*parts]}


def decode(**fields: Any) -> Call:
    return decode_chat(json.dumps({"model": "gpt-5", "messages": [ASK], **fields}).encode(), "call_1")


PLAIN = Dialect()


def encode(call: Call, dialect: Dialect = PLAIN, *, stream: bool = False) -> dict[str, Any]:
    return json.loads(encode_chat(call, "upstream-model", dialect, stream=stream))


def refusal(**fields: Any) -> tuple[str, str]:
    with pytest.raises(ModelFailure) as error:
        decode(**fields)
    failure = error.value.failure
    assert failure.kind == "bad_request"
    return failure.param, failure.message


EVERY_FIELD: dict[str, Any] = {
    "model": "gpt-5",
    "messages": [{"role": "developer", "content": "Be brief."}, ASK],
    "audio": {"voice": "alloy", "format": "mp3"},
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 100,
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "moderation": {"model": "omni-moderation-latest"},
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": -0.5,
    "prompt_cache_key": "key",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    },
    "safety_identifier": "id",
    "seed": -7,
    "service_tier": "flex",
    "stop": ["a", "b"],
    "store": False,
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 0.25,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "vendor": 1}}],
    "top_logprobs": 3,
    "top_p": 0.75,
    "user": "ann",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
    "vendor_field": {"x": [1, 2.5, None]},
}


def test_a_provider_of_the_same_family_receives_every_field_as_it_was() -> None:
    call = decode_chat(json.dumps(EVERY_FIELD).encode(), "call_1")
    assert encode(call, stream=True) == EVERY_FIELD | {"model": "upstream-model"}


def test_fields_with_a_word_in_the_core_are_understood() -> None:
    call = decode_chat(json.dumps(EVERY_FIELD).encode(), "call_1")
    assert call.sampling == Sampling(
        max_tokens=100, temperature=0.25, top_p=0.75, stop=("a", "b"), seed=-7, n=2, logprobs=True, top_logprobs=3,
        presence_penalty=-0.5, frequency_penalty=0.5, logit_bias={"50256": -100}, reasoning_effort="low",
        service_tier="flex", parallel_tool_calls=False,
    )  # fmt: skip
    assert call.tool_choice == ToolChoice("named", "f")
    assert call.output == Output("schema", {"type": "object"}, "n", strict=True)
    assert (call.id, call.model, call.stream, call.family) == ("call_1", "gpt-5", True, "openai")
    assert call.controls.user == "ann"
    assert json.loads(call.body) == EVERY_FIELD
    assert [(tool.name, tool.parameters) for tool in call.tools] == [("f", {"type": "object"})]
    core = {
        "model",
        "messages",
        "stream",
        "max_completion_tokens",
        "stop",
        "n",
        "tools",
        "tool_choice",
        "response_format",
    }
    assert not call.extra.keys() & (core | {"temperature", "seed"})
    assert call.extra["stream_options"] == {"include_usage": True, "include_obfuscation": False}


def test_nulls_are_as_good_as_nothing() -> None:
    call = decode(**{name: None for name in EVERY_FIELD if name not in ("model", "messages")}, loam=None)
    assert (call.sampling, call.tools, call.output, call.stream) == (Sampling(), (), None, False)
    assert encode(call)["messages"] == [ASK]


def test_max_completion_tokens_outranks_the_old_name_and_each_provider_gets_its_own() -> None:
    call = decode(max_tokens=5, max_completion_tokens=7)
    assert call.sampling.max_tokens == 7
    assert encode(call)["max_completion_tokens"] == 7
    assert "max_tokens" not in encode(call)
    assert encode(call, Dialect(max_tokens="max_tokens"))["max_tokens"] == 7


def test_one_stop_is_a_list_of_one() -> None:
    assert decode(stop="end").sampling.stop == ("end",)


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_plain_tool_choices(choice: str) -> None:
    call = decode(tool_choice=choice, tools=EVERY_FIELD["tools"])
    assert call.tool_choice is not None
    assert call.tool_choice.mode == choice
    assert encode(call)["tool_choice"] == choice


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tool_choice", {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
        ("response_format", {"type": "grammar", "grammar": "root ::= x"}),
    ],
)
def test_choices_that_only_this_family_has_travel_untouched(name: str, value: Any) -> None:
    call = decode(**{name: value}, tools=EVERY_FIELD["tools"])
    assert call.tool_choice is None
    assert call.output is None
    assert encode(call)[name] == value


def test_json_mode_and_plain_text() -> None:
    call = decode(response_format={"type": "json_object"})
    assert call.output == Output("json")
    assert encode(call)["response_format"] == {"type": "json_object"}
    call = decode(response_format={"type": "text"})
    assert call.output is None
    assert "response_format" not in encode(call)


def test_a_tool_of_another_type_is_kept_whole_and_has_no_name() -> None:
    custom = {"type": "custom", "custom": {"name": "grep", "format": {"type": "text"}}}
    call = decode(tools=[custom])
    assert call.tools[0].name == ""
    assert encode(call)["tools"] == [custom]


def test_legacy_functions_are_tools_for_the_core_and_themselves_for_the_same_family() -> None:
    fields = {
        "messages": [
            ASK,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "sunny"},
        ],
        "functions": [{"name": "f", "parameters": {"type": "object"}}],
        "function_call": {"name": "f"},
    }
    call = decode(**fields)
    assert call.tools[0].name == "f"
    assert call.tool_choice == ToolChoice("named", "f")
    assert call.messages[1].parts == (ToolCall("function_1", "f", "{}"),)
    assert call.messages[2].parts == (ToolResult("function_1", (Text("sunny"),)),)
    assert {name: encode(call)[name] for name in fields} == fields
    assert "tools" not in encode(call)
    assert encode(msgspec.structs.replace(call, family="native"))["tools"][0]["function"]["name"] == "f"


def test_the_loam_object_becomes_controls_and_goes_no_further() -> None:
    call = decode(user="ann", loam={"user": "bob", "tags": {"a": "b"}, "cache": {"mode": "bypass"}, "fallbacks": ["m"]})
    assert call.controls == Controls(user="bob", tags={"a": "b"}, cache=CacheControl("bypass"), fallbacks=("m",))
    assert encode(call)["user"] == "ann"
    assert "loam" not in encode(call)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"loam": {"usr": "x"}}, "loam.usr"),
        ({"loam": {"cache": {"mode": "x"}}}, "loam.cache.mode"),
        ({"loam": {"user": 3}}, "loam.user"),
        ({"loam": []}, "loam"),
        ({"messages": []}, "messages"),
        ({"messages": [ASK, {"role": "user", "content": 5}]}, "messages[1].content"),
        ({"messages": [ASK, ASK, user({"type": "text", "text": 5})]}, "messages[2].content[0].text"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [user({"type": "image_url", "image_url": {}})]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls[0].function"),
        ({"n": 0}, "n"),
        ({"n": 10_000}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"seed": 2**70}, "seed"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop": [1]}, "stop[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "name": 3}}},
         "response_format.json_schema"),
        ({"model": ""}, "model"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    found, message = refusal(**fields)
    assert found == param
    assert message.startswith(param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"model":"m"}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m","messages":' + b"[" * 100_000,
    ],
)
def test_hostile_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(ModelFailure) as error:
        decode_chat(body, "call_1")
    assert error.value.failure.kind == "bad_request"


def test_huge_numbers_and_repeated_keys_pass_through() -> None:
    body = (
        b'{"model":"a","model":"m","messages":[{"role":"user"},{"role":"user"}],"messages":[{"role":"user","content":"x"}],"x":%b}'
        % (b"9" * 40)
    )
    call = decode_chat(body, "call_1")
    assert (call.model, call.messages[0].text) == ("m", "x")
    assert encode(call)["x"] == int("9" * 40)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
part_like = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("text", "image_url", "file", "refusal", "function", "id", "custom"), json_values)
    | {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "refusal", "other", "function"])},
)
message_like = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]) | json_values},
    optional={
        "content": st.text() | st.lists(part_like, max_size=3) | json_values,
        "tool_calls": st.lists(part_like, max_size=2) | json_values,
        "function_call": json_values,
        "tool_call_id": st.text(max_size=3) | json_values,
        "audio": json_values,
    },
)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_call_or_a_refusal(body: bytes) -> None:
    with suppress(ModelFailure):
        decode_chat(body, "call_1")


@given(
    fields=st.fixed_dictionaries(
        {"model": st.just("m") | json_values, "messages": st.lists(message_like, min_size=1, max_size=3) | json_values},
        optional={
            name: json_values | st.just(value)
            for name, value in EVERY_FIELD.items()
            if name not in ("model", "messages")
        }
        | {"loam": json_values, "functions": st.lists(part_like, max_size=1), "function_call": json_values},
    )
)
def test_any_json_is_a_call_that_can_be_sent_or_a_refusal(fields: dict[str, Any]) -> None:
    with suppress(ModelFailure):
        call = decode_chat(json.dumps(fields).encode(), "call_1")
        assert encode(call)["messages"] == fields["messages"]


sampling = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 10_000),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    stop=st.lists(st.text(), max_size=2).map(tuple),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    n=st.integers(1, 4),
    logprobs=st.booleans(),
    top_logprobs=st.none() | st.integers(0, 20),
    logit_bias=st.none() | st.just({"1": -5.5}),
    reasoning_effort=st.sampled_from([None, "low", "max"]),
    parallel_tool_calls=st.sampled_from([None, True, False]),
)
tools = st.lists(
    st.builds(
        Tool,
        name=st.text("ab", min_size=1),
        description=st.text(),
        parameters=st.none() | st.just({"type": "object", "properties": {"x": {"type": "number"}}}),
        strict=st.sampled_from([None, True, False]),
    ),
    max_size=2,
).map(tuple)


@given(
    sampling=sampling,
    tools=tools,
    choice=st.sampled_from([None, ToolChoice("auto"), ToolChoice("required"), ToolChoice("named", "f")]),
    output=st.sampled_from(
        [
            None,
            Output("json"),
            Output("schema", {"type": "object"}, "n", "d"),
            Output("schema", {"a": 1}, "n", strict=True),
        ]
    ),
    stream=st.booleans(),
)
def test_what_is_written_in_the_core_words_is_read_back(
    sampling: Sampling, tools: tuple[Tool, ...], choice: ToolChoice | None, output: Output | None, stream: bool
) -> None:
    call = Call(
        id="call_1", model="m", messages=(say("user", "Hi"),), tools=tools, tool_choice=choice if tools else None,
        output=output, sampling=sampling, stream=stream,
    )  # fmt: skip
    back = decode_chat(encode_chat(call, "m", Dialect(), stream=stream), "call_1")
    assert back.sampling == call.sampling
    assert [msgspec.structs.replace(tool, wire=None) for tool in back.tools] == list(tools)
    assert (back.tool_choice, back.output, back.stream) == (call.tool_choice, output, stream)


def test_usage_of_a_stream_is_always_asked_for_where_it_can_be() -> None:
    assert encode(decode(), stream=True)["stream_options"] == {"include_usage": True}
    kept = decode(stream_options={"include_obfuscation": False})
    assert encode(kept, stream=True)["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert "stream_options" not in encode(kept, stream=False)
    assert "stream_options" not in encode(kept, Dialect(stream_usage=False), stream=True)


def test_what_a_provider_lacks_is_left_out_and_said() -> None:
    call = msgspec.structs.replace(decode(verbosity="low", top_k=5), target=Target("vendor", "m"))
    body = encode(call, Dialect(lacks=frozenset({"verbosity", "top_k", "store"})))
    assert not body.keys() & {"verbosity", "top_k"}
    assert sorted(call.trace.warnings) == [
        "left out top_k: vendor/m has no such field",
        "left out verbosity: vendor/m has no such field",
    ]


def test_a_call_of_another_family_is_built_from_the_core_words_alone() -> None:
    call = Call(
        id="call_1", model="m", family="anthropic", messages=(say("user", "Hi"),), extra={"metadata": {"user_id": "x"}},
        tools=(Tool("f", "does f", {"type": "object"}, wire=msgspec.Raw(b'{"name":"f"}')),),
        sampling=Sampling(service_tier="standard_only", thinking_budget=1024, max_tokens=9),
    )  # fmt: skip
    assert encode(call) == {
        "model": "upstream-model",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 9,
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "does f", "parameters": {"type": "object"}}}
        ],
    }
    assert call.trace.warnings == ["left out the thinking budget: OpenAI's format has an effort instead"]


def test_a_tool_that_only_another_family_has_is_refused() -> None:
    search = Tool("", wire=msgspec.Raw(b'{"type":"web_search_20250305"}'))
    call = Call(id="call_1", model="m", family="anthropic", messages=(say("user", "Hi"),), tools=(search,))
    with pytest.raises(ModelFailure) as error:
        encode(call)
    assert error.value.failure.kind == "unsupported"
