"""What a client of the chat endpoint receives, read by the official SDK's own types."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from loam.core.answers import Collector, deltas_of
from loam.core.calls import Answer, Call, Choice, Citation, Delta, Finish, Head, ToolDelta, Usage, Words
from loam.core.errors import fail
from loam.core.messages import Text, Thinking, ToolCall
from loam.wire.openai_answers import ChatDecoder
from loam.wire.openai_replies import CHAT
from loam.wire.sse import EventParser

NOW = 1_700_000_000.9
CALL = Call(id="call_1", model="asked", family="openai")
ASKED = Call(id="call_1", model="asked", family="openai", extra={"stream_options": {"include_usage": True}})
LEGACY = Call(id="call_1", model="asked", family="openai", extra={"functions": [{"name": "f"}]})
USAGE = Usage(input=9, output=5, cached=4, cache_write=2, reasoning=3, audio_input=1, audio_output=1)
SHOWN_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 1},
}
CITATION = Citation("d", "Title", "https://x", "s", 0, 5, "quote", 0.5, answer_start=3, answer_end=8)
ANNOTATION = {
    "type": "url_citation",
    "url_citation": {"start_index": 3, "end_index": 8, "url": "https://x", "title": "Title"},
}
ENTRY = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


def whole(choice: Choice, call: Call = CALL, *, loam: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    body = CHAT.whole(call, Answer((choice,), **fields), NOW, loam)
    ChatCompletion.model_validate_json(body, strict=True)
    return json.loads(body)


def events(stream: bytes) -> list[bytes]:
    return [event.data for event in EventParser(1 << 20).feed(stream)]


def stream(*deltas: Delta, call: Call = CALL, loam: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    encoder = CHAT.stream(call, NOW)
    *chunks, done = events(b"".join(encoder.delta(delta) for delta in deltas) + encoder.end(loam))
    assert done == b"[DONE]"
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk, strict=True)
    return [json.loads(chunk) for chunk in chunks]


def test_a_whole_answer_to_the_letter() -> None:
    head = Head("up", "gpt-5-2026", 7, "fp_1", "default", {"citations": [1]}, "openai")
    choice = Choice(
        (Thinking("Hm"), Text("Hel"), Text("lo"), ToolCall("a", "f", "{}"), ToolCall("", "g", "{")),
        "tool_calls", logprobs=[ENTRY], citations=(CITATION,),
        extra={"audio": {"id": "a"}, "choice.stop_reason": 7, "choice.logprobs": {"refusal": [ENTRY]}}, family="openai",
    )  # fmt: skip
    body = CHAT.whole(CALL, Answer((choice,), USAGE, head), NOW, {"call_id": "call_1"})
    assert json.loads(body) == {
        "id": "chatcmpl-call_1",
        "object": "chat.completion",
        "created": 7,
        "model": "gpt-5-2026",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "citations": [1],
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "refusal": None,
                    "reasoning_content": "Hm",
                    "annotations": [ANNOTATION],
                    "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                        {"id": "call_1", "type": "function", "function": {"name": "g", "arguments": "{"}},
                    ],
                    "audio": {"id": "a"},
                },
                "logprobs": {"content": [ENTRY], "refusal": [ENTRY]},
                "finish_reason": "tool_calls",
                "stop_reason": 7,
            }
        ],
        "usage": SHOWN_USAGE,
        "loam": {"call_id": "call_1"},
    }


def test_the_plainest_answer() -> None:
    assert whole(Choice((Text("Hi"),))) == {
        "id": "chatcmpl-call_1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "asked",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    }


@pytest.mark.parametrize(
    ("choice", "content"),
    [
        (Choice((ToolCall("a", "f", "{}"),)), None),
        (Choice((), refusal="No"), None),
        (Choice(()), ""),
        (Choice((Text("x"), ToolCall("a", "f", "{}"))), "x"),
    ],
)
def test_content_is_null_only_where_something_else_is_said(choice: Choice, content: str | None) -> None:
    assert whole(choice)["choices"][0]["message"]["content"] == content


FINISHES: list[tuple[Finish, str]] = [
    ("stop", "stop"),
    ("length", "length"),
    ("tool_calls", "tool_calls"),
    ("content_filter", "content_filter"),
    ("refusal", "content_filter"),
    ("pause", "length"),
    ("context_window", "length"),
]


@pytest.mark.parametrize(("finish", "word"), FINISHES)
def test_every_ending_has_a_word(finish: Finish, word: str) -> None:
    choice = whole(Choice((Text("x"),), finish))["choices"][0]
    (chunk,) = stream(Delta(finish=finish))
    for shown in (choice, chunk["choices"][0]):
        assert shown["finish_reason"] == word
        assert shown.get("native_finish_reason", word) == finish


def test_fields_of_another_family_are_not_shown() -> None:
    head = Head("msg_1", "claude", service_tier="standard", extra={"container": 1}, family="anthropic")
    choice = Choice((Text("x"),), "stop", extra={"citations": [1]}, family="anthropic")
    body = whole(choice, head=head)
    assert not {"service_tier", "container"} & body.keys()
    assert "citations" not in body["choices"][0]["message"]
    chunks = stream(Delta(head=head), Delta(text="x", extra={"citations": [1]}, family="anthropic"))
    assert not {"service_tier", "container"} & chunks[0].keys()
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "x"}


def test_a_stream_to_the_letter() -> None:
    chunks = stream(
        Delta(head=Head("up", "gpt-5-2026", 7, "fp_1", "default", family="openai")),
        Delta(text="Hel"),
        Delta(text="lo"),
        Delta(finish="stop"),
        Delta(usage=USAGE),
        call=ASKED,
    )
    frame = {
        "id": "chatcmpl-call_1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-5-2026",
        "service_tier": "default", "system_fingerprint": "fp_1", "usage": None,
    }  # fmt: skip
    said = [({"role": "assistant", "content": "Hel"}, None), ({"content": "lo"}, None), ({}, "stop")]
    assert chunks == [
        *(
            {**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
            for delta, finish in said
        ),
        {**frame, "choices": [], "usage": SHOWN_USAGE},
    ]


@given(st.lists(st.tuples(st.integers(0, 1), st.text(min_size=1, max_size=9)), min_size=1, max_size=9))
@pytest.mark.parametrize("call", [CALL, ASKED, LEGACY])
def test_the_short_way_of_words_makes_the_same_chunks(call: Call, said: list[tuple[int, str]]) -> None:
    head = Delta(head=Head("up", extra={"late": 1}, family="openai"))
    start = [Delta(choice=0, text="a"), Delta(choice=1, text="b")]
    words = stream(*start, head, *(Words(*one) for one in said), call=call)
    deltas = stream(*start, head, *(Delta(choice=choice, text=text) for choice, text in said), call=call)
    assert words == deltas


def test_usage_is_not_shown_where_nobody_asked() -> None:
    chunks = stream(Delta(text="x"), Delta(finish="stop"), Delta(usage=USAGE))
    assert len(chunks) == 2
    assert not any("usage" in chunk for chunk in chunks)


def test_the_loam_object_comes_last() -> None:
    assert stream(Delta(text="x"), loam={"cost_usd": "0.1"})[-1]["loam"] == {"cost_usd": "0.1"}
    last = stream(Delta(text="x"), Delta(usage=USAGE), call=ASKED, loam={"a": 1})[-1]
    assert (last["choices"], last["usage"], last["loam"]) == ([], SHOWN_USAGE, {"a": 1})
    assert whole(Choice((Text("x"),)), loam={"a": 1})["loam"] == {"a": 1}


def test_the_parts_of_a_delta() -> None:
    chunks = stream(
        Delta(thinking="Hm"),
        Delta(tool=ToolDelta(0, "a", "f", "")),
        Delta(tool=ToolDelta(0, arguments="{}")),
        Delta(tool=ToolDelta(1, "", "g", "{")),
        Delta(citations=(CITATION,)),
        Delta(refusal="No", logprobs=[ENTRY]),
        Delta(extra={"audio": {"id": "a"}, "choice.stop_reason": 7}, family="openai"),
        Delta(choice=1, text="Hi"),
    )
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": "", "reasoning_content": "Hm"},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"index": 1, "id": "call_1", "type": "function", "function": {"name": "g", "arguments": "{"}}]},
        {"annotations": [ANNOTATION]},
        {"refusal": "No"},
        {"audio": {"id": "a"}},
        {"role": "assistant", "content": "Hi"},
    ]
    assert choices[5]["logprobs"] == {"content": [ENTRY], "refusal": None}
    assert choices[6]["stop_reason"] == 7
    assert choices[7]["index"] == 1


def test_a_legacy_client_gets_a_function_call() -> None:
    message = whole(Choice((ToolCall("a", "f", "{}"),), "tool_calls"), LEGACY)["choices"][0]
    assert message["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert message["finish_reason"] == "function_call"
    first, more, last = stream(
        Delta(tool=ToolDelta(0, "a", "f", "")),
        Delta(tool=ToolDelta(0, arguments="{}")),
        Delta(finish="tool_calls"),
        call=LEGACY,
    )
    assert first["choices"][0]["delta"]["function_call"] == {"name": "f", "arguments": ""}
    assert more["choices"][0]["delta"] == {"function_call": {"arguments": "{}"}}
    assert last["choices"][0]["finish_reason"] == "function_call"


def test_what_a_provider_adds_late_is_shown_once() -> None:
    chunks = stream(
        Delta(head=Head(model="m", extra={"provider": "Inner"}, family="openai")),
        Delta(text="x"),
        Delta(text="y"),
        Delta(head=Head(model="other", extra={"provider": "Inner", "results": [1]}, family="openai")),
    )
    assert [(chunk.get("provider"), chunk.get("results"), chunk["model"]) for chunk in chunks] == [
        ("Inner", None, "m"),
        (None, None, "m"),
        (None, [1], "m"),
    ]
    assert chunks[-1]["choices"] == []


def test_nothing_to_show_is_no_chunk() -> None:
    assert stream(Delta(signature="x"), Delta(head=Head())) == []


def test_a_stream_that_breaks_off_ends_with_its_error_alone() -> None:
    encoder = CHAT.stream(CALL, NOW)
    encoder.delta(Delta(text="x"))
    (event,) = events(encoder.error(fail("truncated", "vendor", "cut").failure))
    assert json.loads(event)["error"] == {
        "message": "cut", "type": "server_error", "param": None, "code": None, "call_id": "call_1",
    }  # fmt: skip


texts = st.text(min_size=1, max_size=5)
choices = st.builds(
    Choice,
    parts=st.tuples(
        st.lists(st.builds(Thinking, texts), max_size=1),
        st.lists(st.builds(Text, texts), max_size=1),
        st.lists(st.builds(ToolCall, texts, texts, st.text()), max_size=2, unique_by=lambda call: call.id),
    ).map(lambda parts: (*parts[0], *parts[1], *parts[2])),
    finish=st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    refusal=st.text(max_size=3),
    logprobs=st.sampled_from([None, [ENTRY]]),
    extra=st.sampled_from([{"audio": {"id": "a"}}, {"choice.stop_reason": "x", "annotations": [1]}]),
    family=st.just("openai"),
)
answers = st.builds(
    Answer,
    st.lists(choices, min_size=1, max_size=2).map(tuple),
    st.just(USAGE),
    st.builds(
        Head, st.just("chatcmpl-call_1"), texts, st.integers(1, 2**40), st.sampled_from(["", "fp"]),
        st.sampled_from(["", "flex"]), st.sampled_from([None, {"citations": [1]}]), st.just("openai"),
    ),
)  # fmt: skip


def collected(deltas: list[Delta]) -> Answer:
    collector = Collector()
    for delta in deltas:
        collector.add(delta)
    return collector.answer()


@given(answers)
def test_an_answer_survives_the_way_through_a_whole_body(answer: Answer) -> None:
    assert collected(ChatDecoder("vendor").whole(CHAT.whole(CALL, answer, NOW, None))) == answer


@given(answers)
def test_an_answer_survives_the_way_through_a_stream(answer: Answer) -> None:
    encoder, decoder = CHAT.stream(ASKED, NOW), ChatDecoder("vendor")
    sent = b"".join(encoder.delta(delta) for delta in deltas_of(answer)) + encoder.end(None)
    assert collected([delta for event in events(sent) for delta in decoder.event(event)]) == answer
    decoder.end()
