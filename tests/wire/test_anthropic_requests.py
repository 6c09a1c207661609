import json
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from pydantic import TypeAdapter

from loam.core.calls import Call, Output, Sampling, Tool, ToolChoice
from loam.core.errors import ModelFailure
from loam.core.messages import (
    Audio,
    Document,
    Image,
    Message,
    Native,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    say,
)
from loam.wire.anthropic_calls import decode_count, decode_messages
from loam.wire.anthropic_requests import encode_count, encode_messages

REQUEST = TypeAdapter(MessageCreateParamsNonStreaming)
WEATHER = Tool("weather", "tells it", {"type": "object", "properties": {"city": {"type": "string"}}})


def encode(call: Call, *, stream: bool = False) -> dict[str, Any]:
    return json.loads(encode_messages(call, "claude", stream=stream, default_max_tokens=4096))


def ask(*messages: Message, family: Any = "openai", **words: Any) -> Call:
    return Call(id="c", model="m", messages=messages or (say("user", "Hello"),), family=family, **words)


def sampled(**words: Any) -> Call:
    return ask(sampling=Sampling(**words))


def refusal(call: Call) -> tuple[str, str]:
    with pytest.raises(ModelFailure) as error:
        encode(call)
    return error.value.failure.kind, error.value.failure.param


# --- the same format: what the client wrote, as it wrote it ---

SAME = {
    "model": "claude",
    "max_tokens": 64,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "Hello", "later": 1},
        {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "thinking", "thinking": "", "x": 1}]},
    ],
    "tools": [{"name": "bad name!", "input_schema": {}, "eager": True}, {"type": "bash_20250124", "name": "bash"}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": False},
    "thinking": {"type": "adaptive", "display": "omitted"},
    "output_config": {"effort": "max", "format": {"type": "json_schema", "schema": {"type": "string"}}},
    "stop_sequences": [" "],
    "stream": True,
    "temperature": 1.0,
    "top_p": 0.5,
    "top_k": 3,
    "service_tier": "standard_only",
    "metadata": {"user_id": "ann"},
    "container": {"id": "x"},
    "speed": "fast",
}


def test_a_call_of_the_same_format_leaves_as_it_came() -> None:
    call = decode_messages(json.dumps({**SAME, "loam": {"user": "bob"}}).encode(), "c")
    assert encode(call, stream=True) == SAME
    assert call.trace.warnings == []


def test_the_words_of_each_message_are_not_even_respelled() -> None:
    body = b'{"model":"m","max_tokens":1,"messages":[ {"role": "user" ,"content":"\\u00e9"} ]}'
    assert b'"messages":[{"role": "user" ,"content":"\\u00e9"}]' in encode_messages(
        decode_messages(body, "c"), "m", stream=False, default_max_tokens=1
    )


@pytest.mark.parametrize("name", sorted(set(SAME) - {"model", "max_tokens", "messages", "stream"}))
def test_each_field_of_the_same_format_survives_alone(name: str) -> None:
    said = {**{key: SAME[key] for key in ("model", "max_tokens", "messages")}, name: SAME[name]}
    if name == "tool_choice":
        said["tools"] = SAME["tools"]
    assert encode(decode_messages(json.dumps(said).encode(), "c")) == {**said, "stream": False}


def test_a_changed_message_is_written_anew_and_the_others_stay() -> None:
    call = decode_messages(json.dumps(SAME).encode(), "c")
    changed = structs.replace(call, messages=(say("system", "Rules."), *call.messages, say("user", "Bye")))
    body = encode(changed)
    assert body["messages"][:4] == SAME["messages"]
    assert body["messages"][4] == {"role": "user", "content": [{"type": "text", "text": "Bye"}]}
    assert body["system"] == [{"type": "text", "text": "Rules."}, *SAME["system"]]


def test_an_output_that_a_stage_asks_for_reaches_the_same_format() -> None:
    call = decode_messages(json.dumps({**SAME, "system": "Be brief."}).encode(), "c")
    assert encode(structs.replace(call, output=None))["output_config"] == {"effort": "max"}
    body = encode(structs.replace(call, output=Output("json")))
    assert [block["text"] for block in body["system"]] == ["Be brief.", "Answer with one JSON object and nothing else."]


def test_counting_sends_what_counts() -> None:
    counted = {key: value for key, value in SAME.items() if key in ("model", "messages", "system", "tools", "thinking")}
    call = decode_count(json.dumps({**counted, "cache_control": {"type": "ephemeral"}}).encode(), "c")
    assert json.loads(encode_count(call, "claude")) == {**counted, "cache_control": {"type": "ephemeral"}}


def test_counting_a_chat_leaves_out_what_the_endpoint_does_not_know() -> None:
    call = decode_messages(json.dumps(SAME).encode(), "c")
    assert set(json.loads(encode_count(call, "claude"))) == {
        *("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "speed")
    }


# --- another format: built from the core's words ---


def test_a_conversation_with_tools() -> None:
    body = encode(
        ask(
            say("system", "Be brief."),
            say("user", "Weather in Oslo and Rome?"),
            say("system", "Use tools."),
            Message(
                "assistant", (Text(""), ToolCall("a", "weather", '{"city":"Oslo"}'), ToolCall("b:1", "weather", ""))
            ),
            Message("tool", (ToolResult("a", (Text("rain"),)),)),
            Message("tool", (ToolResult("b:1", (Image(data="AA==", media_type="image/png"),), is_error=True),)),
            say("user", "And?"),
            say("user", "Well?"),
            tools=(WEATHER,),
        )
    )
    REQUEST.validate_python(body)
    assert body["system"] == "Be brief.\n\nUse tools."
    assert body["max_tokens"] == 4096
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Weather in Oslo and Rome?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "b_1", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "rain"}]},
                {"type": "tool_result", "tool_use_id": "b_1", "content": [picture], "is_error": True},
                {"type": "text", "text": "And?"},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]
    assert body["tools"] == [{"name": "weather", "description": "tells it", "input_schema": WEATHER.parameters}]


def test_tool_results_come_first_in_their_turn() -> None:
    body = encode(ask(say("user", "Hm"), Message("tool", (ToolResult("a", (Text("1"),)),)), tools=(WEATHER,)))
    assert [block["type"] for block in body["messages"][0]["content"]] == ["tool_result", "text"]


def test_a_system_message_alone_becomes_the_users() -> None:
    body = encode(ask(say("system", "Tell a joke.")))
    assert body["messages"] == [{"role": "user", "content": "Tell a joke."}]
    assert "system" not in body


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', "null", "1", '{"a":1}x'])
def test_arguments_that_are_no_object_are_kept_visibly(arguments: str) -> None:
    body = encode(ask(Message("assistant", (ToolCall("a", "f", arguments),))))
    assert body["messages"][0]["content"][0]["input"] == {"INVALID_JSON": arguments}


def test_tools_that_only_history_knows_are_declared_and_forbidden() -> None:
    body = encode(ask(say("user", "Hi"), Message("assistant", (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")))))
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


def test_pictures_and_documents() -> None:
    body = encode(
        ask(
            Message(
                "user",
                (
                    Image(url="https://x/y.png"),
                    Image(url="data:image/gif;base64,R0lG"),
                    Document(data="JVBE", media_type="application/pdf", title="T"),
                    Document(text="plain"),
                    Document(url="https://x/y.pdf"),
                ),
            )
        )
    )
    REQUEST.validate_python(body)
    assert [block["source"] for block in body["messages"][0]["content"]] == [
        {"type": "url", "url": "https://x/y.png"},
        {"type": "base64", "media_type": "image/gif", "data": "R0lG"},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        {"type": "text", "media_type": "text/plain", "data": "plain"},
        {"type": "url", "url": "https://x/y.pdf"},
    ]


def test_only_signed_thoughts_are_sent_back() -> None:
    said = (Thinking("unsigned"), Thinking("signed", "sig"), Thinking(redacted="sealed"), Text("Hi"))
    body = encode(ask(Message("assistant", said), family="responses"))
    assert body["messages"][0]["content"] == [
        {"type": "thinking", "thinking": "signed", "signature": "sig"},
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "text", "text": "Hi"},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "written"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("named", "weather"), True, {"type": "tool", "name": "weather", "disable_parallel_tool_use": False}),
        (ToolChoice("none"), False, {"type": "none"}),
    ],
)
def test_tool_choices(choice: ToolChoice | None, parallel: bool | None, written: dict[str, Any] | None) -> None:
    call = ask(tools=(WEATHER,), tool_choice=choice, sampling=Sampling(parallel_tool_calls=parallel))
    assert encode(call).get("tool_choice") == written


def test_a_choice_without_tools_is_left_out() -> None:
    assert "tool_choice" not in encode(ask(tool_choice=ToolChoice("auto")))


def test_strict_tools() -> None:
    loose = Tool("loose", parameters={"type": "object"}, strict=True)
    bounded = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    call = ask(tools=(loose, Tool("tight", parameters=bounded, strict=True), Tool("none")))
    tools = encode(call)["tools"]
    assert tools[0] == {"name": "loose", "input_schema": {"type": "object"}}
    assert tools[1]["strict"] is True
    assert tools[1]["input_schema"]["properties"] == {"n": {"type": "integer", "description": '{"minimum":1}'}}
    assert tools[2]["input_schema"] == {"type": "object", "properties": {}}
    assert "loose" in call.trace.warnings[0]


def test_a_schema_becomes_an_output_format() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    body = encode(ask(output=Output("schema", schema, name="thing")))
    REQUEST.validate_python(body)
    assert body["output_config"] == {
        "format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}
    }


def test_a_schema_that_cannot_be_enforced_is_asked_for_in_words() -> None:
    call = ask(say("system", "Be brief."), say("user", "Hi"), output=Output("schema", {"type": "object"}))
    body = encode(call)
    assert body["system"].endswith('It must fit this JSON Schema: {"type":"object"}')
    assert "output_config" not in body
    assert call.trace.warnings == ["Anthropic can't enforce this JSON Schema; it was asked for in words"]


def test_free_json_is_asked_for_in_words() -> None:
    assert encode(ask(output=Output("json")))["system"] == "Answer with one JSON object and nothing else."


@pytest.mark.parametrize(
    ("words", "sent", "warns"),
    [
        ({"temperature": 0.3}, {"temperature": 0.3}, 0),
        ({"temperature": 1.7}, {"temperature": 1.0}, 1),
        ({"temperature": 1.0, "top_p": 0.9}, {"top_p": 0.9}, 0),
        ({"temperature": 0.2, "top_p": 1.0}, {"temperature": 0.2}, 0),
        ({"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}, 1),
        ({"top_k": 4}, {"top_k": 4}, 0),
        ({"stop": ("END", "\n")}, {"stop_sequences": ["END"]}, 1),
        ({"stop": ("\n",)}, {}, 1),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}, 0),
        ({"service_tier": "flex"}, {}, 1),
        ({"seed": 1, "presence_penalty": 0.1, "logit_bias": {"1": 2.0}}, {}, 3),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}, 0),
        ({"reasoning_effort": "none"}, {}, 0),
        ({"reasoning_effort": "wild"}, {}, 1),
        ({"thinking_budget": 2000}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, 0),
        ({"thinking_budget": 9000}, {"thinking": {"type": "enabled", "budget_tokens": 4095}}, 0),
        ({"thinking_budget": 2000, "temperature": 0.1}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, 1),
        ({"thinking_budget": 2000, "max_tokens": 500}, {"max_tokens": 500}, 1),
    ],
)
def test_sampling(words: dict[str, Any], sent: dict[str, Any], warns: int) -> None:
    call = sampled(**words)
    assert encode(call) == {**encode(ask()), **sent}
    assert len(call.trace.warnings) == warns


def test_no_thinking_where_an_earlier_thought_is_missing() -> None:
    lost = Message("assistant", (ToolCall("a", "weather", "{}"),))
    kept = Message("assistant", (Thinking("hm", "sig"), ToolCall("a", "weather", "{}")))
    answer = Message("tool", (ToolResult("a", (Text("1"),)),))
    for message, thinks in ((lost, False), (kept, True)):
        call = ask(say("user", "?"), message, answer, tools=(WEATHER,), sampling=Sampling(thinking_budget=2000))
        assert ("thinking" in encode(call)) is thinks


def test_fields_of_another_format_stay_behind() -> None:
    assert encode(ask(extra={"verbosity": "low", "prediction": {}})) == encode(ask())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (sampled(n=2), ("unsupported", "n")),
        (sampled(logprobs=True), ("unsupported", "logprobs")),
        (ask(Message("user", (Audio("AA", "wav"),))), ("unsupported", "messages")),
        (ask(Message("user", (Native("openai", {"type": "refusal"}),))), ("unsupported", "messages")),
        (ask(Message("user", (Document(file_id="file-1"),))), ("unsupported", "messages")),
        (ask(Message("user", (Image(url="data:image/png,xx"),))), ("bad_request", "messages")),
        (ask(tools=(Tool("dotted.name"),)), ("bad_request", "tools")),
        (ask(tools=(Tool("x" * 129),)), ("bad_request", "tools")),
        (ask(tools=(Tool(""),)), ("unsupported", "tools")),
    ],
)
def test_what_has_no_word_is_refused(call: Call, said: tuple[str, str]) -> None:
    assert refusal(call) == said


def test_nesting_without_end_is_refused() -> None:
    deep: Any = {}
    for _ in range(3000):
        deep = {"a": deep}
    assert refusal(ask(tools=(Tool("f", parameters=deep),)))[0] == "bad_request"


plain_parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, st.text(max_size=8)),
    st.builds(Image, url=st.just("https://x/y.png")),
    st.builds(Document, text=st.text(max_size=8)),
    st.builds(Thinking, st.text(max_size=8), st.text("ab", max_size=2)),
    st.builds(ToolCall, st.text(min_size=1, max_size=5), st.text("abc_", min_size=1, max_size=5), st.text(max_size=8)),
    st.builds(ToolResult, st.text(min_size=1, max_size=5), st.lists(st.builds(Text, st.text(max_size=5))).map(tuple)),
)
conversations = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.lists(plain_parts, max_size=4).map(tuple),
    ),
    max_size=6,
)


@given(conversations)
def test_any_conversation_becomes_a_request_that_the_sdk_would_send(messages: list[Message]) -> None:
    call = ask(*messages, tools=(WEATHER,), family="native")
    body = encode(structs.replace(call, messages=tuple(messages)))
    REQUEST.validate_python(body)
    roles = [turn["role"] for turn in body["messages"]]
    assert all(roles[i] != roles[i + 1] for i in range(len(roles) - 1))
    for turn in body["messages"]:
        assert turn["content"]
        for block in turn["content"] if isinstance(turn["content"], list) else ():
            assert block["type"] != "text" or block["text"].strip()
    if body["messages"]:
        assert decode_messages(json.dumps(body).encode(), "c").task == "chat"
