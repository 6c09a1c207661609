import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from loam.core.calls import Call, Controls, Output, ToolChoice
from loam.core.errors import ModelFailure
from loam.core.messages import Document, Image, Message, Native, Text, Thinking, ToolCall, ToolResult
from loam.wire.anthropic_calls import decode_count, decode_messages

HELLO = [{"role": "user", "content": "Hello"}]


def decode(**fields: Any) -> Call:
    body = {"model": "claude", "max_tokens": 64, "messages": HELLO, **fields}
    return decode_messages(json.dumps({k: v for k, v in body.items() if v is not ...}).encode(), "call_1")


def refusal(**fields: Any) -> str:
    with pytest.raises(ModelFailure) as error:
        decode(**fields)
    assert error.value.failure.kind == "bad_request"
    return error.value.failure.param


def parts(*blocks: dict[str, Any], role: str = "user") -> tuple[Any, ...]:
    return decode(messages=[{"role": role, "content": list(blocks)}]).messages[0].parts


def test_the_least_request() -> None:
    call = decode()
    assert (call.id, call.model, call.task, call.family, call.stream) == (
        "call_1",
        "claude",
        "chat",
        "anthropic",
        False,
    )
    assert structs.replace(call.messages[0], wire=None) == Message("user", (Text("Hello"),))
    assert call.sampling.max_tokens == 64
    assert json.loads(call.body)["model"] == "claude"


def test_every_field_with_a_core_word() -> None:
    call = decode(
        stream=True,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop_sequences=["END"],
        service_tier="standard_only",
        thinking={"type": "enabled", "budget_tokens": 2048},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        metadata={"user_id": "ann"},
        loam={"tags": {"team": "red"}},
    )
    sampling = call.sampling
    assert call.stream
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stop) == (0.5, 0.9, 5, ("END",))
    assert (sampling.service_tier, sampling.thinking_budget, sampling.reasoning_effort) == (
        "standard_only",
        2048,
        "low",
    )
    assert sampling.parallel_tool_calls is False
    assert call.tool_choice == ToolChoice("named", "f")
    assert call.output == Output("schema", {"type": "object"})
    assert call.controls == Controls(user="ann", tags={"team": "red"})
    assert call.extra == {
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "metadata": {"user_id": "ann"},
    }


@pytest.mark.parametrize("name", ["cache_control", "container", "diagnostics", "inference_geo", "speed", "mcp_servers"])
def test_fields_without_a_core_word_are_kept(name: str) -> None:
    assert decode(**{name: {"any": ["thing", 1]}}).extra == {name: {"any": ["thing", 1]}}


def test_the_user_of_the_loam_object_outranks_the_metadata() -> None:
    assert decode(metadata={"user_id": "ann"}, loam={"user": "bob"}).controls.user == "bob"


def test_the_beta_name_of_the_output_format_is_understood() -> None:
    schema = {"type": "object", "properties": {}}
    assert decode(output_format={"type": "json_schema", "schema": schema}).output == Output("schema", schema)


def test_what_a_format_says_beyond_the_core_stays_in_extra() -> None:
    call = decode(output_config={"format": {"type": "grammar", "text": "x"}, "later": 1})
    assert call.output is None
    assert call.extra == {"output_config": {"format": {"type": "grammar", "text": "x"}, "later": 1}}


@pytest.mark.parametrize(("said", "mode"), [("auto", "auto"), ("any", "required"), ("tool", "named"), ("none", "none")])
def test_tool_choices(said: str, mode: Any) -> None:
    call = decode(tool_choice={"type": said, "name": "f"})
    assert call.tool_choice == ToolChoice(mode, "f")
    assert call.sampling.parallel_tool_calls is None


def test_system_as_text_and_as_blocks() -> None:
    for system in ("Be brief.", [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]):
        message = decode(system=system).messages[0]
        assert (message.role, message.parts) == ("system", (Text("Be brief."),))
        assert message.wire is not None
        assert json.loads(bytes(message.wire)) == system


def test_a_system_message_among_the_messages() -> None:
    call = decode(messages=[*HELLO, {"role": "system", "content": "Now in French."}])
    assert [message.role for message in call.messages] == ["user", "system"]


def test_every_message_and_tool_keeps_its_own_json() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}
    tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True, "eager": 1}
    call = decode(messages=[message], tools=[tool, {"type": "web_search_20250305", "name": "web_search"}])
    assert json.loads(bytes(call.messages[0].wire or b"")) == message
    assert json.loads(bytes(call.tools[0].wire or b"")) == tool
    assert (call.tools[0].name, call.tools[0].description, call.tools[0].strict) == ("f", "d", True)
    assert call.tools[0].parameters == {"type": "object"}
    assert call.tools[1].name == ""
    assert json.loads(bytes(call.tools[1].wire or b""))["name"] == "web_search"


def test_pictures_and_documents() -> None:
    of_file = {"type": "image", "source": {"type": "file", "file_id": "f1"}}
    of_blocks = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}}
    assert parts(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        of_file,
        {"type": "document", "title": "T", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "f2"}},
        of_blocks,
    ) == (
        Image(data="AA==", media_type="image/png"),
        Image(url="https://x/y.png"),
        Native("anthropic", of_file),
        Document(data="AA", media_type="application/pdf", title="T"),
        Document(text="plain", media_type="text/plain"),
        Document(url="https://x/y.pdf"),
        Document(file_id="f2"),
        Native("anthropic", of_blocks),
    )


def test_thoughts_and_tool_calls() -> None:
    searched = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    assert parts(
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1, 123456789012345678901234567890]}},
        searched,
        role="assistant",
    ) == (
        Thinking("hm", "sig"),
        Thinking(redacted="sealed"),
        ToolCall("t1", "f", '{"a":[1,123456789012345678901234567890]}'),
        Native("anthropic", searched),
    )


def test_tool_results_stay_beside_the_text_of_their_message() -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "u"}}
    found = {"type": "tool_result", "tool_use_id": "t4", "content": [{"type": "search_result", "title": "x"}]}
    assert parts(
        {"type": "tool_result", "tool_use_id": "t1", "content": "42"},
        {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "a"}, picture]},
        {"type": "tool_result", "tool_use_id": "t3", "is_error": True},
        found,
        {"type": "text", "text": "go on"},
    ) == (
        ToolResult("t1", (Text("42"),)),
        ToolResult("t2", (Text("a"), Image(url="u"))),
        ToolResult("t3", (), is_error=True),
        Native("anthropic", found),
        Text("go on"),
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": ...}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"model": None}, "model"),
        ({"messages": ...}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"messages": [*HELLO, {"role": "user"}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": []}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"system": [{"type": "text", "text": 1}]}, "system[0].text"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"stop_sequences": [1]}, "stop_sequences[0]"),
        ({"temperature": "hot"}, "temperature"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
        ({"output_config": [1]}, "output_config"),
        ({"metadata": {"user_id": 3}}, "metadata.user_id"),
        ({"loam": {"cash": 1}}, "loam"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields) == param


def test_counting_needs_no_limit_and_does_not_stream() -> None:
    body = json.dumps({"model": "claude", "messages": HELLO, "stream": True}).encode()
    call = decode_count(body, "call_2")
    assert (call.task, call.stream, call.sampling.max_tokens) == ("count", False, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["system", "tools", "tool_choice", "thinking", "output_config", "output_format", "metadata", "loam", "stream"]
)
block_types = ["text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result", "new", None, 3]
block_fields = st.sampled_from(["text", "source", "thinking", "data", "id", "name", "input", "tool_use_id", "content"])
blocks = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(block_types),
    st.dictionaries(block_fields, json_values | st.just({"type": "base64"}) | st.just([{"type": "text"}]), max_size=4),
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool"])},
        optional={"content": json_values | st.lists(blocks, max_size=3)},
    ),
    max_size=3,
)


@given(messages, st.dictionaries(field_names, json_values | st.lists(json_values, max_size=2), max_size=4))
def test_json_of_any_shape_is_read_or_refused(said: list[Any], fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", "max_tokens": 1, "messages": said, **fields}).encode()
    for decoder in (decode_messages, decode_count):
        with suppress(ModelFailure):
            assert len(decoder(body, "c").messages) >= len(said)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(ModelFailure) as error:
        decode_messages(body, "c")
    assert error.value.failure.kind == "bad_request"
