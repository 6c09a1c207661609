import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Answer, Call, Choice, Controls, Output, Sampling, ToolChoice
from loam.core.errors import ModelFailure
from loam.core.messages import Audio, Document, Image, Message, Text, Thinking, ToolCall, ToolResult, say
from loam.wire.openai_responses_answers import encode_response
from loam.wire.openai_responses_requests import continue_from, conversation_after, decode_response


def decode(**fields: Any) -> Call:
    body = {"model": "gpt", "input": "Hello", **fields}
    return decode_response(json.dumps({k: v for k, v in body.items() if v is not ...}).encode(), "call_1")


def refusal(**fields: Any) -> tuple[str, str]:
    with pytest.raises(ModelFailure) as error:
        decode(**fields)
    return error.value.failure.kind, error.value.failure.param


def parts(*content: dict[str, Any]) -> tuple[Any, ...]:
    return decode(input=[{"role": "user", "content": list(content)}]).messages[0].parts


def test_the_least_request() -> None:
    call = decode()
    assert (call.id, call.model, call.task, call.family, call.stream) == ("call_1", "gpt", "chat", "responses", False)
    assert call.messages == (say("user", "Hello"),)
    assert call.extra == {}
    assert json.loads(call.body) == {"model": "gpt", "input": "Hello"}


def test_every_field_with_a_core_word() -> None:
    call = decode(
        instructions="Be brief.",
        stream=True,
        max_output_tokens=64,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=3,
        parallel_tool_calls=False,
        service_tier="flex",
        reasoning={"effort": "low", "summary": "auto"},
        tools=[{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}],
        tool_choice={"type": "function", "name": "f"},
        user="ann",
        loam={"tags": {"team": "red"}},
    )
    assert call.stream
    assert call.messages == (say("system", "Be brief."), say("user", "Hello"))
    assert call.sampling == Sampling(
        max_tokens=64,
        temperature=0.5,
        top_p=0.9,
        logprobs=True,
        top_logprobs=3,
        reasoning_effort="low",
        service_tier="flex",
        parallel_tool_calls=False,
    )
    tool = call.tools[0]
    assert (tool.name, tool.description, tool.parameters, tool.strict) == ("f", "d", {"type": "object"}, True)
    assert call.tool_choice == ToolChoice("named", "f")
    assert call.controls == Controls(user="ann", tags={"team": "red"})
    assert call.extra == {
        "instructions": "Be brief.",
        "reasoning": {"effort": "low", "summary": "auto"},
        "user": "ann",
    }
    assert call.trace.warnings == []


@pytest.mark.parametrize("mode", ["auto", "none", "required"])
def test_tool_choices(mode: Any) -> None:
    assert decode(tool_choice=mode).tool_choice == ToolChoice(mode)


@pytest.mark.parametrize(
    ("said", "output"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Output("json")),
        (
            {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True, "description": "d"},
            Output("schema", {"type": "object"}, "n", "d", strict=True),
        ),
    ],
)
def test_text_formats(said: dict[str, Any], output: Output | None) -> None:
    call = decode(text={"format": said, "verbosity": "low"})
    assert call.output == output
    assert call.extra["text"] == {"format": said, "verbosity": "low"}


def test_logprobs_are_asked_for_by_include() -> None:
    assert decode(include=["message.output_text.logprobs"]).sampling.logprobs
    assert not decode(include=["reasoning.encrypted_content"]).sampling.logprobs


def test_items_of_the_assistant_become_one_message() -> None:
    call = decode(
        input=[
            {"role": "developer", "content": "Rules."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]},
            {
                "type": "message",
                "id": "msg",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I'll look.", "annotations": []}],
            },
            {"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ]
    )
    assert call.messages == (
        say("system", "Rules."),
        say("user", "Weather?"),
        Message("assistant", (Thinking("hm"), Text("I'll look."), ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "{"))),
        Message("tool", (ToolResult("c1", (Text("rain"),)),)),
        Message("tool", (ToolResult("c2", (Text("sun"),)),)),
        say("assistant", "No."),
    )


def test_pictures_files_and_sound() -> None:
    assert parts(
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
        {"type": "input_file", "file_data": "JVBE"},
        {"type": "input_file", "file_url": "https://x/y.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ) == (
        Image(url="https://x/y.png", detail="low"),
        Image(data="AA==", media_type="image/png"),
        Document(data="JVBE", media_type="application/pdf", title="a.pdf"),
        Document(data="JVBE"),
        Document(url="https://x/y.pdf"),
        Audio("AA", "wav"),
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": 3}, ("bad_request", "model")),
        ({"input": ...}, ("bad_request", "input")),
        ({"input": 3}, ("bad_request", "input")),
        ({"input": [3]}, ("bad_request", "input[0]")),
        ({"input": [{"role": "tool", "content": ""}]}, ("bad_request", "input[0].role")),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, ("bad_request", "input[0].content[0].type")),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, ("bad_request", "input[0].content[0]")),
        ({"input": [{"type": "item_reference", "id": "x"}]}, ("unsupported", "input[0]")),
        ({"input": [{"id": "x"}]}, ("unsupported", "input[0]")),
        ({"input": [{"type": "computer_call"}]}, ("unsupported", "input[0]")),
        ({"input": [{"type": ["x"]}]}, ("unsupported", "input[0]")),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            ("unsupported", "input[0].content[0].image_url"),
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            ("unsupported", "input[0].content[0]"),
        ),
        ({"tools": [{"type": "web_search"}]}, ("unsupported", "tools[0].type")),
        ({"tools": [{"type": "function"}]}, ("bad_request", "tools[0].name")),
        ({"tool_choice": "maybe"}, ("bad_request", "tool_choice")),
        ({"tool_choice": {"type": "allowed_tools"}}, ("unsupported", "tool_choice.type")),
        ({"tool_choice": {"type": "function"}}, ("bad_request", "tool_choice.name")),
        ({"text": {"format": {"type": "json_schema"}}}, ("bad_request", "text.format.schema")),
        ({"background": True}, ("unsupported", "background")),
        ({"conversation": "conv_1"}, ("unsupported", "conversation")),
        ({"prompt": {"id": "p"}}, ("bad_request", "model")),
        ({"prompt": {"version": "2"}}, ("bad_request", "prompt")),
        (
            {"model": None, "prompt": {"id": "p", "variables": {"x": {"type": "input_image", "image_url": "u"}}}},
            ("unsupported", "prompt.variables.x"),
        ),
        ({"previous_response_id": 3}, ("bad_request", "previous_response_id")),
        ({"metadata": {"a": 1}}, ("bad_request", "metadata[...]")),
        ({"loam": {"cash": 1}}, ("bad_request", "loam")),
    ],
)
def test_what_is_wrong_or_not_to_be_had_is_refused(fields: dict[str, Any], said: tuple[str, str]) -> None:
    assert refusal(**fields) == said


def test_the_tool_that_is_not_to_be_had_is_named() -> None:
    with pytest.raises(ModelFailure, match="'file_search'"):
        decode(tools=[{"type": "file_search"}])


def test_what_has_no_effect_is_said() -> None:
    call = decode(background=False, truncation="auto", max_tool_calls=3, store=True, metadata={"a": "b"})
    assert sorted(call.trace.warnings) == [
        "max_tool_calls has no effect here",
        "truncation: the input is never cut here",
    ]


ANSWER = Answer((Choice((Thinking("hm", "sig"), Text("Hi"), ToolCall("c", "f", "{}")), "tool_calls"),))


def test_a_conversation_goes_on_without_its_old_instructions() -> None:
    first = decode(instructions="Be brief.")
    earlier = conversation_after(first, ANSWER)
    assert earlier == (say("user", "Hello"), Message("assistant", ANSWER.choices[0].parts))
    second = continue_from(decode(instructions="Be long.", input="And?", previous_response_id="resp_x"), earlier)
    assert second.messages == (say("system", "Be long."), *earlier, say("user", "And?"))
    assert continue_from(decode(input="And?"), earlier).messages == (*earlier, say("user", "And?"))


def test_a_conversation_can_be_stored() -> None:
    said = conversation_after(decode(), Answer((Choice((), "stop", refusal="I can't."),)))
    assert said[-1] == say("assistant", "I can't.")
    decoder = msgspec.msgpack.Decoder(tuple[Message, ...])
    assert decoder.decode(msgspec.msgpack.encode(said)) == said
    assert conversation_after(decode(), Answer(())) == (say("user", "Hello"),)


thoughts = st.builds(Thinking, st.text(max_size=4), st.text(max_size=4)) | st.builds(
    Thinking, redacted=st.text(min_size=1, max_size=4)
)
said_parts = st.lists(
    thoughts | st.builds(Text, st.text(max_size=4)) | st.builds(ToolCall, st.text(min_size=1), st.text(), st.text()),
    min_size=1,
    max_size=5,
).map(tuple)


@given(said_parts)
def test_the_output_sent_back_as_input_is_the_same_message(said: tuple[Any, ...]) -> None:
    body = json.loads(encode_response(decode(), Answer((Choice(said, "stop"),)), 0.0, None))
    assert decode(input=body["output"]).messages == (Message("assistant", said),)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
kinds = ["message", "function_call", "function_call_output", "reasoning", "item_reference", None]
part_kinds = ["input_text", "output_text", "refusal", "input_image", "input_file", "input_audio", "x"]
items = st.fixed_dictionaries(
    {"type": st.sampled_from(kinds)},
    optional={
        "role": st.sampled_from(["user", "assistant", "developer"]),
        "content": json_values | st.lists(st.fixed_dictionaries({"type": st.sampled_from(part_kinds)})),
        "call_id": json_values,
        "output": json_values,
        "arguments": json_values,
        "name": json_values,
        "summary": json_values,
    },
)
names = st.sampled_from(["tools", "tool_choice", "text", "reasoning", "metadata", "loam", "include", "instructions"])


@given(
    json_values | st.lists(items, max_size=3), st.dictionaries(names, json_values | st.lists(json_values), max_size=4)
)
def test_json_of_any_shape_is_read_or_refused(said: Any, fields: dict[str, Any]) -> None:
    with suppress(ModelFailure):
        assert isinstance(decode(input=said, **fields), Call)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused(body: bytes) -> None:
    with pytest.raises(ModelFailure) as error:
        decode_response(body, "c")
    assert error.value.failure.kind == "bad_request"
