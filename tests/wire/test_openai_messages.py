"""Chat messages to the core's parts and back."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Call
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
from loam.wire.openai_messages import encode_messages
from loam.wire.openai_requests import decode_chat

PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}}
CUSTOM = {"id": "call_9", "type": "custom", "custom": {"name": "grep", "input": "x"}}


def decode(*messages: dict[str, Any]) -> tuple[Message, ...]:
    body: dict[str, Any] = {"model": "m", "messages": messages}
    return decode_chat(json.dumps(body).encode(), "call_1").messages


def parts(message: dict[str, Any]) -> tuple[Part, ...]:
    return decode(message)[0].parts


def encode(*messages: Message, family: Any = "native", developer: bool = True) -> list[Any]:
    return json.loads(msgspec.json.encode(encode_messages(messages, family, developer=developer)))


def unwired(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(msgspec.structs.replace(message, wire=None) for message in messages)


def test_roles() -> None:
    found = decode(
        *({"role": role, "content": "x", "name": "n"} for role in ("system", "developer", "user", "assistant"))
    )
    assert [(message.role, message.name) for message in found] == [
        ("system", "n"), ("system", "n"), ("user", "n"), ("assistant", "n"),
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["", None, []])
def test_no_content_is_no_part(content: Any) -> None:
    assert parts({"role": "assistant", "content": content}) == ()


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"type": "text", "text": "Hi"}, Text("Hi")),
        (PNG, Image(data="aGk=", media_type="image/png", detail="low")),
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, Image(url="https://x/y.png")),
        ({"type": "image_url", "image_url": "https://x/y.png"}, Image(url="https://x/y.png")),
        ({"type": "image_url", "image_url": {"url": "data:,plain"}}, Image(url="data:,plain")),
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, Audio("aGk=", "wav")),
        ({"type": "file", "file": {"file_id": "file-1"}}, Document(file_id="file-1")),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}},
            Document(data="aGk=", media_type="application/pdf", title="a.pdf"),
        ),
        (
            {"type": "file", "file": {"file_data": "aGk=", "filename": "a.PDF"}},
            Document(data="aGk=", media_type="application/pdf", title="a.PDF"),
        ),
        ({"type": "video", "video": {"x": 1}}, Native("openai", {"type": "video", "video": {"x": 1}})),
    ],
)
def test_parts_of_a_user(given: dict[str, Any], part: Part) -> None:
    assert parts({"role": "user", "content": [{"type": "text", "text": "See"}, given]}) == (Text("See"), part)


def test_everything_an_assistant_says() -> None:
    message = {
        "role": "assistant",
        "reasoning_content": "Hm.",
        "content": [{"type": "text", "text": "Yes"}, {"type": "refusal", "refusal": "But"}],
        "refusal": "No",
        "audio": {"id": "audio_1"},
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{"}}, CUSTOM],
    }
    assert parts(message) == (
        Thinking("Hm."),
        Text("Yes"),
        Text("But"),
        Text("No"),
        Native("openai", {"audio": {"id": "audio_1"}}),
        ToolCall("call_1", "f", "{"),
        Native("openai", CUSTOM),
    )


def test_a_tool_answers_with_text_and_pictures_only() -> None:
    content = [{"type": "text", "text": "see"}, PNG]
    (result,) = parts({"role": "tool", "tool_call_id": "call_1", "content": content})
    assert result == ToolResult("call_1", (Text("see"), Image(data="aGk=", media_type="image/png", detail="low")))
    with pytest.raises(ModelFailure) as error:
        parts(
            {
                "role": "tool",
                "tool_call_id": "c",
                "content": [{"type": "input_audio", "input_audio": {"data": "", "format": ""}}],
            }
        )
    assert error.value.failure.param == "messages[0].content"


def test_the_same_family_receives_each_message_as_it_was_written() -> None:
    given = [
        {"role": "developer", "content": "Be brief.", "vendor": {"x": 1}},
        {"role": "user", "content": [PNG, {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "tool_calls": [CUSTOM]},
    ]
    messages = decode(*given)
    assert encode(*messages, family="openai") == given
    replaced = [say("system", "New"), *messages[1:]]
    assert encode(*replaced, family="openai") == [{"role": "system", "content": "New"}, *given[1:]]


def test_a_provider_that_knows_no_developer_gets_a_system_message() -> None:
    (message,) = decode({"role": "developer", "content": "Be brief.", "name": "n"})
    assert encode(message, family="openai", developer=False) == [
        {"role": "system", "content": "Be brief.", "name": "n"}
    ]
    (system,) = decode({"role": "system", "content": "Be brief.", "vendor": 1})
    assert encode(system, family="openai", developer=False) == [{"role": "system", "content": "Be brief.", "vendor": 1}]


def test_another_familys_results_stand_behind_their_calls_and_pictures_follow() -> None:
    """As Anthropic's clients write it: two results in one user message, one with a picture, and a remark."""
    picture = Image(data="aGk=", media_type="image/png")
    conversation = (
        Message(
            "assistant",
            (Thinking("Hm", "sig"), Text("Let me look"), ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")),
        ),
        Message(
            "user", (ToolResult("a", (Text("1"), picture)), ToolResult("b", (Text("2"), Text("3"))), Text("Well?"))
        ),
        Message("tool", (ToolResult("c", (picture,)),)),
        Message("tool", (ToolResult("d"),)),
    )
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    assert encode(*conversation, family="anthropic") == [
        {
            "role": "assistant",
            "content": "Let me look",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}],
        },
        {"role": "user", "content": [shown, {"type": "text", "text": "Well?"}]},
        {"role": "tool", "tool_call_id": "c", "content": ""},
        {"role": "tool", "tool_call_id": "d", "content": ""},
        {"role": "user", "content": [shown]},
    ]


def test_an_assistant_that_only_calls_has_no_content() -> None:
    (message,) = encode(Message("assistant", (ToolCall("a", "f", "{}"),)))
    assert message["content"] is None


@pytest.mark.parametrize(
    ("document", "part"),
    [
        (Document(text="Long", title="T"), {"type": "text", "text": "T\n\nLong"}),
        (Document(text="Long"), {"type": "text", "text": "Long"}),
        (
            Document(data="aGk="),
            {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        ),
    ],
)
def test_documents_of_another_family(document: Document, part: dict[str, Any]) -> None:
    (message,) = encode(Message("user", (document, Text("Sum up"))), family="anthropic")
    assert message["content"][0] == part


@pytest.mark.parametrize(
    "part",
    [
        Document(url="https://x/y.pdf"),
        Document(file_id="file_01"),
        Native("anthropic", {"type": "server_tool_use", "id": "x"}),
        Thinking("only in an assistant's message, where it is left out"),
    ],
)
def test_what_openai_has_no_word_for_is_refused(part: Part) -> None:
    messages = (
        (Message("user", (ToolResult("a", (part,)),)),) if isinstance(part, Thinking) else (Message("user", (part,)),)
    )
    with pytest.raises(ModelFailure) as error:
        encode(*messages, family="anthropic")
    assert error.value.failure.kind == "unsupported"


words = st.text(min_size=1, max_size=5)
user_parts = st.one_of(
    st.builds(Text, words),
    st.builds(Image, url=words.map("https://".__add__), detail=st.sampled_from(["", "low"])),
    st.builds(Image, data=st.just("aGk="), media_type=st.just("image/png")),
    st.builds(Audio, st.just("aGk="), st.just("wav")),
    st.builds(Document, data=st.just("aGk="), media_type=st.just("application/pdf"), title=words),
    st.just(Native("openai", {"type": "video", "video": "x"})),
)
assistant_parts = st.tuples(
    st.lists(st.builds(Text, words), max_size=2),
    st.lists(st.builds(ToolCall, words, words, st.text()) | st.just(Native("openai", CUSTOM)), max_size=2),
).map(lambda both: (*both[0], *both[1]))
conversations = st.lists(
    st.one_of(
        st.builds(Message, st.just("user"), st.lists(user_parts, max_size=3).map(tuple), st.sampled_from(["", "n"])),
        st.builds(Message, st.just("system"), st.lists(st.builds(Text, words), max_size=2).map(tuple)),
        st.builds(Message, st.just("assistant"), assistant_parts),
        st.builds(
            Message,
            st.just("tool"),
            st.builds(ToolResult, words, st.lists(st.builds(Text, words), max_size=2).map(tuple)).map(
                lambda part: (part,)
            ),
        ),
    ),
    min_size=1,
).map(tuple)


@given(conversations)
def test_messages_in_the_core_words_are_read_back(messages: tuple[Message, ...]) -> None:
    assert unwired(decode(*encode(*messages, family="openai"))) == messages


def test_a_call_keeps_the_wire_of_each_message() -> None:
    body = b'{"model":"m","messages":[ {"role": "user", "content":"a"} ,{"role":"user","content":"b"}]}'
    call: Call = decode_chat(body, "call_1")
    assert [bytes(message.wire or b"") for message in call.messages] == [
        b'{"role": "user", "content":"a"}',
        b'{"role":"user","content":"b"}',
    ]
