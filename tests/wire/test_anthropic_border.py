"""Answers as Anthropic's SDK sees them: read with its own types, streams put together by its own code."""

import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from pydantic import TypeAdapter

from loam.core.answers import Collector, deltas_of
from loam.core.calls import Answer, Call, Choice, Citation, Delta, Finish, Head, ToolDelta, Usage
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import Part, Text, Thinking, ToolCall
from loam.wire.anthropic_answers import MessagesDecoder
from loam.wire.anthropic_border import COUNT, MESSAGES
from loam.wire.sse import Event, EventParser

CALL = Call(id="call_1", model="claude", family="anthropic")
EVENT = TypeAdapter(RawMessageStreamEvent)
USAGE = Usage(input=20, output=7, cached=5, cache_write=3, cache_write_1h=1, reasoning=2, searches=1)
QUOTE = Citation("doc", "Handbook", "https://h", "1", 10, 15, "quote", 0.9, answer_start=0, answer_end=4)


def events_of(deltas: list[Delta], loam: dict[str, Any] | None = None) -> list[Event]:
    encoder = MESSAGES.stream(CALL, 0.0)
    data = b"".join([*(encoder.delta(delta) for delta in deltas), encoder.end(loam)])
    return EventParser(1 << 20).feed(data)


def words_of(deltas: list[Delta], loam: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events_of(deltas, loam)]


def assembled(deltas: list[Delta]) -> dict[str, Any]:
    """What the official SDK makes of the stream."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events_of(deltas):
        checked = EVENT.validate_json(event.data)
        assert checked.type == event.event
        snapshot = accumulate_event(event=checked, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot.to_dict()


def whole(answer: Answer, loam: dict[str, Any] | None = None) -> dict[str, Any]:
    body = MESSAGES.whole(CALL, answer, 0.0, loam)
    Message.model_validate_json(body)
    return json.loads(body)


def collected(deltas: list[Delta]) -> Answer:
    collector = Collector()
    for delta in deltas:
        collector.add(delta)
    return collector.answer()


def answer_of(*parts: Part, **words: Any) -> Answer:
    return Answer((Choice(parts, **{"finish": "stop", **words}),), USAGE, Head(model="claude-1"))


def types(deltas: list[Delta]) -> list[str]:
    return [words["type"].removeprefix("content_block_") for words in words_of(deltas)]


def test_a_streamed_text_event_by_event() -> None:
    usage = {
        "input_tokens": 12,
        "output_tokens": 7,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 3,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 1},
        "output_tokens_details": {"thinking_tokens": 2},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
    }
    nothing = dict.fromkeys(list(usage)[:4], 0)
    deltas = [
        Delta(head=Head(model="gpt")),
        Delta(text="Hel"),
        Delta(text="lo"),
        Delta(finish="stop"),
        Delta(usage=USAGE),
    ]
    assert words_of(deltas, {"cost_usd": "0.1"}) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_call_1",
                "type": "message",
                "role": "assistant",
                "model": "gpt",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": nothing,
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": usage,
            "loam": {"cost_usd": "0.1"},
        },
        {"type": "message_stop"},
    ]


def test_usage_that_is_known_early_is_told_early() -> None:
    first = words_of([Delta(head=Head(), usage=Usage(input=9, cached=2)), Delta(text="x")])[0]
    assert (first["message"]["usage"]["input_tokens"], first["message"]["model"]) == (7, "claude")


def test_a_whole_answer() -> None:
    body = whole(answer_of(Text("Hi"), ToolCall("t", "f", '{"a": 1}'), finish="tool_calls"), {"cache": "hit"})
    assert body["content"] == [
        {"type": "text", "text": "Hi"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    ]
    assert (body["id"], body["model"], body["stop_reason"], body["loam"]) == (
        *("msg_call_1", "claude-1", "tool_use"),
        {"cache": "hit"},
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"finish": "length"}, "max_tokens"),
        ({"finish": "content_filter"}, "refusal"),
        ({"finish": "stop", "stop_sequence": "END"}, "stop_sequence"),
        ({"finish": "stop", "refusal": "I can't."}, "refusal"),
        ({"finish": None}, "end_turn"),
    ],
)
def test_stop_reasons_whole_and_streamed(words: dict[str, Any], reason: str) -> None:
    answer = answer_of(Text("x"), **words)
    assert whole(answer)["stop_reason"] == reason
    last = assembled(list(deltas_of(answer)))
    assert (last["stop_reason"], last["stop_sequence"]) == (reason, words.get("stop_sequence"))


def test_a_refusal_is_said_as_text() -> None:
    answer = answer_of(refusal="I can't.")
    assert whole(answer)["content"] == [{"type": "text", "text": "I can't."}]
    assert assembled(list(deltas_of(answer)))["content"][0]["text"] == "I can't."


def test_no_answer_at_all_is_an_empty_message() -> None:
    assert whole(Answer(()))["content"] == []
    assert assembled([])["content"] == []


def test_other_choices_are_left_out() -> None:
    assert assembled([Delta(text="a"), Delta(choice=1, text="b"), Delta(text="c")])["content"][0]["text"] == "ac"


def test_a_tool_call_without_an_id_is_given_one() -> None:
    answer = answer_of(Text("Hi"), ToolCall("", "f", "{}"))
    assert whole(answer)["content"][1]["id"] == "toolu_1"
    assert assembled(list(deltas_of(answer)))["content"][1]["id"] == "toolu_1"


def test_one_block_is_open_at_a_time() -> None:
    deltas = [
        Delta(thinking="hm"),
        Delta(signature="s"),
        Delta(thinking="more"),
        Delta(redacted="r"),
        Delta(text="a"),
        Delta(tool=ToolDelta(0, "t", "f", "{")),
        Delta(tool=ToolDelta(0, arguments="}")),
        Delta(tool=ToolDelta(1, "u", "f")),
        Delta(text="b"),
    ]
    found = words_of(deltas)
    assert types(deltas) == [
        *("message_start", "start", "delta", "delta", "stop", "start", "delta", "stop", "start", "stop"),
        *("start", "delta", "stop", "start", "delta", "delta", "stop", "start", "stop", "start", "delta", "stop"),
        *("message_delta", "message_stop"),
    ]
    assert [words["index"] for words in found if words["type"] == "content_block_start"] == list(range(7))
    opened: list[int] = []
    for words in found:
        match words["type"]:
            case "content_block_start":
                assert not opened
                opened.append(words["index"])
            case "content_block_delta":
                assert opened == [words["index"]]
            case "content_block_stop":
                assert opened.pop() == words["index"]
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_tool_calls_mixed_into_each_other_are_refused() -> None:
    encoder = MESSAGES.stream(CALL, 0.0)
    encoder.delta(Delta(tool=ToolDelta(0, "t", "f", "{")))
    encoder.delta(Delta(tool=ToolDelta(1, "u", "f", "{")))
    with pytest.raises(ModelFailure) as error:
        encoder.delta(Delta(tool=ToolDelta(0, arguments="}")))
    assert error.value.failure.kind == "malformed"


def test_citations_stand_in_the_text_they_support() -> None:
    cited = {
        "type": "char_location",
        "cited_text": "quote",
        "document_index": 0,
        "document_title": "Handbook",
        "start_char_index": 10,
        "end_char_index": 15,
        "file_id": None,
    }
    other = structs.replace(QUOTE, document_id="other", answer_start=5, answer_end=8)
    answer = answer_of(Text("Yes. "), ToolCall("t", "f", "{}"), Text("And no."), citations=(QUOTE, other, QUOTE))
    content = whole(answer)["content"]
    assert content[0]["citations"] == [cited, cited]
    assert content[2]["citations"] == [{**cited, "document_index": 1}]
    content = assembled([Delta(text="Yes."), Delta(citations=(QUOTE, other)), Delta(text=" So.")])["content"]
    assert content[0]["text"] == "Yes. So."
    assert [citation["document_index"] for citation in content[0]["citations"]] == [0, 1]


def test_citations_that_come_after_the_text_was_closed_are_left_to_the_loam_object() -> None:
    late = [Delta(text="a"), Delta(tool=ToolDelta(0, "t", "f")), Delta(citations=(QUOTE,))]
    assert "citations" not in assembled(late)["content"][0]


def test_an_error_ends_the_stream_without_its_stop() -> None:
    encoder = MESSAGES.stream(CALL, 0.0)
    encoder.delta(Delta(text="a"))
    data = encoder.error(Failure(kind="overloaded", message="gone", provider="p"))
    assert EventParser(1 << 20).feed(data) == [
        Event(
            "error",
            b'{"type":"error","error":{"type":"overloaded_error","message":"gone"},"request_id":"call_1"}',
        )
    ]


def test_a_count() -> None:
    body = COUNT.whole(CALL, Answer((), Usage(input=12)), 0.0, None)
    assert MessageTokensCount.model_validate_json(body).input_tokens == 12
    assert json.loads(COUNT.whole(CALL, Answer(()), 0.0, None)) == {"input_tokens": 0}


# --- there and back ---

CITED = {
    "type": "web_search_result_location",
    "cited_text": "q",
    "encrypted_index": "e",
    "title": "t",
    "url": "https://x",
}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
NATIVE: dict[str, Any] = {
    "id": "msg_call_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-1",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "text", "text": "I'll search. "},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        RESULT,
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "so", "citations": [CITED, CITED]},
        {"type": "text", "text": "."},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": []}, "caller": {"type": "direct"}},
    ],
    "stop_reason": "bored",
    "stop_sequence": None,
    "stop_details": {"type": "refusal", "category": None, "explanation": "x"},
    "container": {"id": "c", "expires_at": "2026-01-01T00:00:00Z"},
    "usage": {
        "input_tokens": 3,
        "output_tokens": 5,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "speed": "fast",
        "service_tier": "priority",
    },
}


def test_an_answer_of_the_same_format_is_told_as_it_was_whole() -> None:
    answer = collected(MessagesDecoder("p").whole(json.dumps(NATIVE).encode()))
    assert json.loads(MESSAGES.whole(CALL, answer, 0.0, None)) == NATIVE


def test_an_answer_of_the_same_format_is_told_as_it_was_streamed() -> None:
    message = {**NATIVE, "stop_reason": "pause_turn"}
    deltas = MessagesDecoder("p").whole(json.dumps(message).encode())
    told = assembled(deltas)
    assert told["content"] == message["content"]
    assert (told["stop_reason"], told["stop_details"]) == ("pause_turn", message["stop_details"])
    assert told["container"]["id"] == "c"


def test_native_words_survive_a_stage_that_took_the_text_away() -> None:
    answer = collected(MessagesDecoder("p").whole(json.dumps(NATIVE).encode()))
    emptied = structs.replace(answer, choices=(structs.replace(answer.choices[0], parts=()),))
    content = json.loads(MESSAGES.whole(CALL, emptied, 0.0, None))["content"]
    assert [block["type"] for block in content] == ["server_tool_use", "web_search_tool_result"]


json_objects = st.dictionaries(st.text("ab", max_size=2), st.integers() | st.text(max_size=3), max_size=2).map(
    lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)
)
parts = st.one_of(
    st.builds(Text, st.text(min_size=1, max_size=6)),
    st.builds(Thinking, st.text(max_size=6), st.text(min_size=1, max_size=3)),
    st.builds(Thinking, redacted=st.text(min_size=1, max_size=3)),
    st.builds(ToolCall, st.text(min_size=1, max_size=4), st.text(min_size=1, max_size=4), json_objects),
)


def unmerged(said: list[Part]) -> tuple[Part, ...]:
    """No two texts side by side: as deltas they would be one."""
    kept = [part for i, part in enumerate(said) if not (i and isinstance(part, Text) and isinstance(said[i - 1], Text))]
    return tuple(kept)


finishes: st.SearchStrategy[Finish] = st.sampled_from(["stop", "length", "refusal", "pause", "context_window"])


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    said = unmerged(draw(st.lists(parts, max_size=6)))
    called = any(isinstance(part, ToolCall) for part in said)
    finish: Finish = "tool_calls" if called else draw(finishes)
    sequence = draw(st.none() | st.text(min_size=1, max_size=3)) if finish == "stop" else None
    cached, written, plain = draw(st.tuples(*[st.integers(0, 99)] * 3))
    usage = Usage(plain + cached + written, draw(st.integers(0, 99)), cached, written, written // 2)
    model = draw(st.text(min_size=1, max_size=4))
    choice = Choice(said, finish, sequence, family="anthropic")
    return Answer((choice,), usage, Head("msg_call_1", model, family="anthropic"))


def same(decoded: Answer, answer: Answer) -> bool:
    choice = decoded.choices[0]
    return structs.replace(decoded, choices=(structs.replace(choice, family="anthropic"),)) == answer


@given(answers(), st.data())
def test_encoding_and_decoding_a_stream_is_nothing(answer: Answer, data: st.DataObject) -> None:
    broken = [small for delta in deltas_of(answer) for small in pieces(delta, data)]
    decoder = MessagesDecoder("p")
    decoded = [delta for event in events_of(broken) for delta in decoder.event(event.event, event.data)]
    decoder.end()
    assert same(collected(decoded), answer)


@given(answers())
def test_encoding_and_decoding_a_whole_answer_is_nothing(answer: Answer) -> None:
    body = MESSAGES.whole(CALL, answer, 0.0, None)
    Message.model_validate_json(body)
    assert same(collected(MessagesDecoder("p").whole(body)), answer)


@given(answers())
def test_a_stream_put_together_is_the_whole_answer(answer: Answer) -> None:
    told, body = assembled(list(deltas_of(answer))), json.loads(MESSAGES.whole(CALL, answer, 0.0, None))
    for message in (told, body):
        message["usage"].pop("cache_creation", None)  # the SDK reads it from the first event alone
        message.pop("stop_details", None)
    assert told == body


def pieces(delta: Delta, data: st.DataObject) -> list[Delta]:
    """The delta as it might come over the wire: texts and arguments cut in two."""
    cut = data.draw(st.integers(0, 6))
    if delta.text:
        return [Delta(text=delta.text[:cut]), Delta(text=delta.text[cut:])]
    if delta.thinking and delta.signature:
        return [Delta(thinking=delta.thinking[:cut]), structs.replace(delta, thinking=delta.thinking[cut:])]
    if delta.tool is not None:
        tool = delta.tool
        first = structs.replace(tool, arguments=tool.arguments[:cut])
        return [Delta(tool=first), Delta(tool=ToolDelta(tool.index, arguments=tool.arguments[cut:]))]
    return [delta]
