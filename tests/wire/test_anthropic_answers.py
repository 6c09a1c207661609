import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.answers import Collector
from loam.core.calls import Answer, Delta, ToolDelta, Usage
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import Text, Thinking, ToolCall
from loam.wire.anthropic_answers import MessagesDecoder, decode_counted

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-1",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 1, "output_tokens": 1, "service_tier": "priority"},
    },
}
STOP = {"type": "message_stop"}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, kind: str, **words: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **words}}


def close(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def end(reason: str | None = "end_turn", **words: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, **words}, "usage": {"output_tokens": 20}}


def deltas(*events: Any) -> list[Delta]:
    decoder = MessagesDecoder("claude")
    found = [delta for event in events for delta in decoder.event(event["type"], json.dumps(event).encode())]
    decoder.end()
    return found


def collected(found: list[Delta]) -> Answer:
    collector = Collector()
    for delta in found:
        collector.add(delta)
    return collector.answer()


def streamed(*events: Any) -> Answer:
    return collected(deltas(START, *events, STOP))


def whole(**fields: Any) -> Answer:
    message = {**START["message"], "stop_reason": "end_turn", **fields}
    return collected(MessagesDecoder("claude").whole(json.dumps(message).encode()))


def failure(*events: Any) -> Failure:
    with pytest.raises(ModelFailure) as error:
        deltas(*events)
    return error.value.failure


def test_a_streamed_text() -> None:
    found = deltas(
        START,
        {"type": "ping"},
        begin(0, type="text", text=""),
        piece(0, "text_delta", text="Hel"),
        piece(0, "text_delta", text="lo"),
        close(0),
        end(),
        STOP,
    )
    assert [delta.text for delta in found if delta.text] == ["Hel", "lo"]
    answer = collected(found)
    assert (answer.text, answer.choices[0].finish) == ("Hello", "stop")
    assert (answer.head.id, answer.head.model, answer.head.service_tier) == ("msg_1", "claude-1", "priority")
    assert answer.usage == Usage(input=10, output=20, cached=1)
    assert found[0].usage == Usage(input=10, output=1, cached=1)


def test_everything_the_core_has_words_for_streamed_and_whole() -> None:
    from_stream = streamed(
        begin(0, type="thinking", thinking="", signature=""),
        piece(0, "thinking_delta", thinking="hm"),
        piece(0, "signature_delta", signature="sig"),
        close(0),
        begin(1, type="redacted_thinking", data="sealed"),
        close(1),
        begin(2, type="text", text=""),
        piece(2, "text_delta", text="Look"),
        close(2),
        begin(3, type="tool_use", id="t1", name="f", input={}),
        piece(3, "input_json_delta", partial_json=""),
        piece(3, "input_json_delta", partial_json='{"a": '),
        piece(3, "input_json_delta", partial_json="1}"),
        close(3),
        begin(4, type="tool_use", id="t2", name="g", input={}),
        close(4),
        end("tool_use"),
    )
    from_body = whole(
        content=[
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "sealed"},
            {"type": "text", "text": "Look"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
        ],
        stop_reason="tool_use",
        usage={**START["message"]["usage"], "output_tokens": 20},
    )
    assert from_stream == from_body
    assert from_stream.choices[0].finish == "tool_calls"
    assert from_stream.choices[0].parts == (
        Thinking("hm", "sig"),
        Thinking(redacted="sealed"),
        Text("Look"),
        ToolCall("t1", "f", '{"a": 1}'),
        ToolCall("t2", "g", "{}"),
    )


def test_tool_calls_are_numbered_by_themselves() -> None:
    found = deltas(
        START,
        begin(0, type="text", text="x"),
        close(0),
        begin(1, type="tool_use", id="a", name="f", input={}),
        piece(1, "input_json_delta", partial_json="{}"),
        close(1),
        begin(2, type="tool_use", id="b", name="f", input={"ready": True}),
        close(2),
        end(),
        STOP,
    )
    assert [delta.tool for delta in found if delta.tool] == [
        ToolDelta(0, "a", "f"),
        ToolDelta(0, arguments="{}"),
        ToolDelta(1, "b", "f", '{"ready": true}'),
    ]


def test_what_has_no_core_word_is_passed_on_with_its_place() -> None:
    citation = {"type": "char_location", "cited_text": "q", "document_index": 0}
    answer = streamed(
        begin(0, type="text", text=""),
        close(0),
        begin(1, type="text", text=""),
        piece(1, "text_delta", text="One. "),
        close(1),
        begin(2, type="server_tool_use", id="s", name="web_search", input={}),
        piece(2, "input_json_delta", partial_json='{"query":'),
        piece(2, "input_json_delta", partial_json='"x"}'),
        close(2),
        begin(3, type="text", text="", citations=[]),
        piece(3, "text_delta", text="Two."),
        piece(3, "citations_delta", citation=citation),
        close(3),
        begin(4, type="tool_use", id="t", name="f", input={}, caller={"type": "direct"}),
        close(4),
        end("tool_use", container={"id": "c"}, stop_details=None),
    )
    assert answer.text == "One. Two."
    assert answer.choices[0].family == "anthropic"
    assert answer.choices[0].extra == {
        "blocks": [
            {"index": 1, "block": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}}
        ],
        "splits": [5],
        "citations": [{"index": 2, "citation": citation}],
        "fields": [{"index": 3, "fields": {"caller": {"type": "direct"}}}],
        "container": {"id": "c"},
    }


def test_more_fields_of_the_message_and_its_usage_are_kept() -> None:
    usage = {**START["message"]["usage"], "speed": "fast"}
    answer = whole(diagnostics={"x": 1}, usage=usage, stop_details={"type": "refusal"}, stop_reason="refusal")
    assert answer.head.extra == {"diagnostics": {"x": 1}, "usage": {"speed": "fast"}}
    assert answer.choices[0].extra == {"stop_details": {"type": "refusal"}}
    assert answer.choices[0].finish == "refusal"


def test_a_stop_reason_of_tomorrow_is_a_stop_and_is_shown() -> None:
    choice = streamed(end("bored")).choices[0]
    assert (choice.finish, choice.extra) == ("stop", {"stop_reason": "bored"})


def test_a_stop_sequence_is_named() -> None:
    choice = streamed(end("stop_sequence", stop_sequence="END")).choices[0]
    assert (choice.finish, choice.stop_sequence) == ("stop", "END")


def test_later_counts_replace_earlier_ones_and_the_rest_stays() -> None:
    creation = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 4}
    first = {"input_tokens": 3, "cache_creation_input_tokens": 5, "cache_creation": creation, "output_tokens": 1}
    start = {"type": "message_start", "message": {**START["message"], "usage": first}}
    last = {**end(), "usage": {"input_tokens": 8, "cache_read_input_tokens": None, "output_tokens": 30}}
    answer = collected(deltas(start, last, STOP))
    assert answer.usage == Usage(input=13, output=30, cache_write=5, cache_write_1h=4)


def test_a_start_that_counts_nothing_tells_nothing() -> None:
    start = {"type": "message_start", "message": {"id": "m", "model": "x", "usage": {"input_tokens": 0}}}
    assert deltas(start, end(), STOP)[0].usage is None


def test_events_of_tomorrow_are_passed_over() -> None:
    answer = streamed(
        {"type": "weather"},
        begin(0, type="text", text="Hi"),
        piece(0, "sparkle_delta", sparkle=1),
        close(0),
        end(),
    )
    assert answer.text == "Hi"


def test_the_name_of_the_event_stands_in_for_its_type() -> None:
    assert MessagesDecoder("claude").event("ping", b"{}") == []


@pytest.mark.parametrize("events", [(), (START,), (START, begin(0, type="text", text="Hi"), close(0), end())])
def test_a_stream_without_its_end_is_truncated(events: tuple[Any, ...]) -> None:
    assert failure(*events).kind == "truncated"


def test_an_error_event_has_its_own_kind() -> None:
    said = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert failure(START, said).kind == "overloaded"
    with pytest.raises(ModelFailure) as error:
        MessagesDecoder("claude").whole(json.dumps(said).encode())
    assert error.value.failure.kind == "overloaded"


@pytest.mark.parametrize(
    "events",
    [
        ({"type": ""},),
        (piece(0, "text_delta", text="x"),),
        (close(0),),
        (begin(0, type="text"), {"type": "content_block_delta", "index": 0}),
        (begin(0, type="text", text=None),),
        (begin(0, type="text"), piece(0, "input_json_delta", partial_json="{")),
        (begin(0, type="server_tool_use"), piece(0, "input_json_delta", partial_json="{"), close(0)),
        ({"type": "content_block_start", "index": 0},),
        ({"type": "message_start"},),
        ({**end(), "usage": {"output_tokens": "many"}},),
    ],
)
def test_events_out_of_form_are_malformed(events: tuple[Any, ...]) -> None:
    found = failure(*events)
    assert (found.kind, found.provider) == ("malformed", "claude")
    assert found.retryable


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"type":"message","content":[1]}', b"<html>", b"\xff"])
def test_bodies_out_of_form_are_malformed(body: bytes) -> None:
    with pytest.raises(ModelFailure) as error:
        MessagesDecoder("claude").whole(body)
    assert error.value.failure.kind == "malformed"


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"null", b"{}", b'{"type":"content_block_start"}'])))
def test_events_of_any_bytes_are_read_or_malformed(events: list[bytes]) -> None:
    decoder = MessagesDecoder("claude")
    kinds: set[str] = set()
    for read in (*(partial(decoder.event, "", event) for event in events), decoder.end):
        try:
            read()
        except ModelFailure as error:
            kinds.add(error.failure.kind)
    assert kinds <= {"malformed", "truncated"}
    assert "truncated" in kinds


def test_a_count() -> None:
    assert decode_counted(b'{"input_tokens": 12}', "claude") == [Delta(usage=Usage(input=12))]
    with pytest.raises(ModelFailure) as error:
        decode_counted(b"{}", "claude")
    assert error.value.failure.kind == "malformed"


@pytest.mark.parametrize("at_the_start", [True, False])
def test_citations_that_come_before_the_text_of_their_block_follow_it(at_the_start: bool) -> None:
    first, second = ({"type": "char_location", "document_index": number} for number in (0, 1))
    opened = begin(1, type="text", text="", **({"citations": [first]} if at_the_start else {}))
    early = [] if at_the_start else [piece(1, "citations_delta", citation=first)]
    found = deltas(
        START,
        begin(0, type="text", text="Before."),
        close(0),
        opened,
        *early,
        piece(1, "text_delta", text="Cited"),
        piece(1, "citations_delta", citation=second),
        piece(1, "text_delta", text=" text."),
        close(1),
        begin(2, type="text", text="", citations=[first]),
        close(2),
        end(),
        STOP,
    )
    assert collected(found).choices[0].extra == {
        "splits": [7],
        "citations": [{"index": 1, "citation": first}, {"index": 1, "citation": second}],
    }
    assert [delta.text or bool(delta.extra and "citations" in delta.extra) for delta in found[1:-1]] == [
        "Before.",
        False,
        "Cited",
        True,
        True,
        " text.",
    ]
