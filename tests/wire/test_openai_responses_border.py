"""Responses as OpenAI's SDK sees them: driven by its own client, and read strictly with its own types."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from openai import APIError, OpenAI, omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from loam.core.answers import deltas_of
from loam.core.calls import Answer, Choice, Citation, Delta, Finish, Head, ToolDelta, Usage
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import Part, Text, Thinking, ToolCall
from loam.wire.openai_responses_border import RESPONSES
from loam.wire.sse import EventParser

ASKED = {
    "model": "gpt",
    "input": "Hello",
    "instructions": "Be brief.",
    "metadata": {"a": "b"},
    "max_output_tokens": 64,
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_object"}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": None},
    "previous_response_id": "resp_0",
    "store": False,
}
CALL = RESPONSES.decode(json.dumps(ASKED).encode(), "call_1")
USAGE = Usage(input=20, output=7, cached=5, cache_write=3, reasoning=2)
EVENT = TypeAdapter(ResponseStreamEvent)
LINK = Citation("doc", "Handbook", "https://h", "1", 10, 15, "quote", 0.9, answer_start=5, answer_end=8)


def stream_of(deltas: list[Delta], loam: dict[str, Any] | None = None) -> bytes:
    encoder = RESPONSES.stream(CALL, 7.9)
    return b"".join([*(encoder.delta(delta) for delta in deltas), encoder.end(loam)])


def events_of(deltas: list[Delta], loam: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for event in EventParser(1 << 20).feed(stream_of(deltas, loam)):
        EVENT.validate_json(event.data)
        found.append(json.loads(event.data))
        assert event.event == found[-1]["type"]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def types(deltas: list[Delta]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events_of(deltas)]


def whole(answer: Answer, loam: dict[str, Any] | None = None) -> dict[str, Any]:
    body = RESPONSES.whole(CALL, answer, 7.9, loam)
    Response.model_validate_json(body)
    return json.loads(body)


def answer_of(*parts: Part, **words: Any) -> Answer:
    return Answer((Choice(parts, **{"finish": "stop", **words}),), USAGE, Head(model="gpt-1"))


def sdk(body: bytes) -> OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body, request=request)

    return OpenAI(api_key="x", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)), max_retries=0)


def test_a_whole_answer() -> None:
    body = whole(answer_of(Thinking("hm"), Text("Hi"), ToolCall("c", "f", "{}"), finish="tool_calls"), {"cache": "hit"})
    assert body["output"] == [
        {"id": "rs_call_1_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {
            "id": "msg_call_1_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}],
        },
        {
            "id": "fc_call_1_2",
            "type": "function_call",
            "status": "completed",
            "call_id": "c",
            "name": "f",
            "arguments": "{}",
        },
    ]
    assert (body["id"], body["created_at"], body["model"], body["status"]) == ("resp_call_1", 7, "gpt-1", "completed")
    assert body["usage"] == {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 27,
    }
    assert body["loam"] == {"cache": "hit"}


@pytest.mark.parametrize("name", sorted(set(ASKED) - {"model", "input"}))
def test_what_was_asked_is_shown_again(name: str) -> None:
    assert whole(answer_of(Text("Hi")))[name] == ASKED[name]


def test_a_streamed_text() -> None:
    deltas = [Delta(text="Hel"), Delta(text="lo"), Delta(finish="stop"), Delta(usage=USAGE, head=Head(model="gpt-1"))]
    assert types(deltas) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    events = events_of(deltas, {"cost_usd": "0.1"})
    assert events[0]["response"]["status"] == events[1]["response"]["status"] == "in_progress"
    assert events[2]["item"] == {
        "id": "msg_call_1_0",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    place = {"item_id": "msg_call_1_0", "output_index": 0, "content_index": 0}
    assert events[4] == {
        "type": "response.output_text.delta",
        "sequence_number": 4,
        **place,
        "delta": "Hel",
        "logprobs": [],
    }
    assert events[6]["text"] == "Hello"
    assert events[-1]["response"] == whole(answer_of(Text("Hello")), {"cost_usd": "0.1"})


def test_functions_thoughts_and_refusals() -> None:
    deltas = [
        Delta(thinking="h"),
        Delta(thinking="m", signature="s"),
        Delta(redacted="r"),
        Delta(tool=ToolDelta(0, "c", "f", "{")),
        Delta(tool=ToolDelta(0, arguments="}")),
        Delta(tool=ToolDelta(1, "d", "g")),
        Delta(refusal="No"),
        Delta(refusal="."),
    ]
    assert types(deltas) == [
        *("created", "in_progress"),
        *("output_item.added", "reasoning_summary_part.added"),
        *["reasoning_summary_text.delta"] * 2,
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "output_item.done"),
        *("output_item.added", *["function_call_arguments.delta"] * 2, "function_call_arguments.done"),
        "output_item.done",
        *("output_item.added", "function_call_arguments.done", "output_item.done"),
        *("output_item.added", "content_part.added", "refusal.delta", "refusal.delta", "refusal.done"),
        *("content_part.done", "output_item.done"),
        "completed",
    ]
    added = [event for event in events_of(deltas) if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == [0, 1, 2, 3, 4]
    assert [event["item"]["id"][:2] for event in added] == ["rs", "rs", "fc", "fc", "ms"]


def test_a_thought_keeps_what_proves_it() -> None:
    output = whole(answer_of(Thinking("hm", "sig"), Thinking(redacted="sealed")))["output"]
    assert [item["encrypted_content"] for item in output] == ["loam-signed:sig", "loam-sealed:sealed"]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("refusal", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("context_window", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_endings_whole_and_streamed(finish: Finish, status: str, reason: str | None) -> None:
    answer = answer_of(Text("x"), finish=finish)
    body = whole(answer)
    assert (body["status"], body["output"][0]["status"]) == (status, status)
    assert body["incomplete_details"] == (None if reason is None else {"reason": reason})
    last = events_of(list(deltas_of(answer)))[-1]
    assert (last["type"], last["response"]) == (f"response.{status}", body)


def test_citations_become_annotations_of_the_text_they_stand_in() -> None:
    file = structs.replace(LINK, url="", answer_start=0, answer_end=3)
    answer = answer_of(Text("One. "), ToolCall("c", "f", "{}"), Text("Two."), citations=(LINK, file))
    output = whole(answer)["output"]
    assert output[0]["content"][0]["annotations"] == [
        {"type": "file_citation", "file_id": "doc", "filename": "Handbook", "index": 3}
    ]
    link = {"type": "url_citation", "url": "https://h", "title": "Handbook", "start_index": 0, "end_index": 3}
    assert output[2]["content"][0]["annotations"] == [link]
    deltas = [Delta(text="One. "), Delta(tool=ToolDelta(0, "c", "f")), Delta(text="Two."), Delta(citations=(LINK,))]
    told = [event for event in events_of(deltas) if event["type"] == "response.output_text.annotation.added"]
    assert [(event["annotation"], event["annotation_index"]) for event in told] == [(link, 0)]
    assert events_of(deltas)[-1]["response"]["output"][2] == output[2]


def test_log_probabilities_are_shown_with_their_text() -> None:
    entry = {"token": "Hi", "logprob": -0.1, "bytes": None, "top_logprobs": [{"token": "Hi", "logprob": -0.1}]}
    shown = {**entry, "bytes": [], "top_logprobs": [{"token": "Hi", "logprob": -0.1, "bytes": []}]}
    events = events_of([Delta(text="Hi", logprobs=[entry])])
    assert events[4]["logprobs"] == [shown]
    body = whole(answer_of(Text("Hi"), logprobs=[entry]))
    assert body["output"] == events[-1]["response"]["output"]


def test_other_choices_are_left_out() -> None:
    assert types([Delta(choice=1, text="b")]) == ["created", "in_progress", "completed"]


def test_tool_calls_mixed_into_each_other_are_refused() -> None:
    encoder = RESPONSES.stream(CALL, 0.0)
    encoder.delta(Delta(tool=ToolDelta(0, "t", "f", "{")))
    encoder.delta(Delta(tool=ToolDelta(1, "u", "f", "{")))
    with pytest.raises(ModelFailure) as error:
        encoder.delta(Delta(tool=ToolDelta(0, arguments="}")))
    assert error.value.failure.kind == "malformed"


def test_a_broken_stream_fails_and_makes_the_sdk_raise() -> None:
    encoder = RESPONSES.stream(CALL, 0.0)
    begun = encoder.delta(Delta(text="Hel"))
    data = encoder.error(Failure(kind="rate_limit", message="slow down", provider="p"))
    for event in EventParser(1 << 20).feed(begun + data):
        EVENT.validate_json(event.data)
    with sdk(begun + data) as client:
        stream = client.responses.create(model="gpt", input="x", stream=True)
        seen: list[Any] = []
        with pytest.raises(APIError, match="slow down") as error:
            seen.extend(stream)
    assert error.value.code == "rate_limit_exceeded"
    assert seen[-1].type == "response.failed"
    assert (seen[-1].response.status, seen[-1].response.error.code) == ("failed", "rate_limit_exceeded")
    assert seen[-1].response.error.message == "slow down"


def test_an_error_response_is_openais() -> None:
    body = json.loads(RESPONSES.failure(Failure(kind="not_found", message="gone"), "call_1"))
    assert body["error"]["message"] == "gone"


parts = st.one_of(
    st.builds(Text, st.text(min_size=1, max_size=6)),
    st.builds(Thinking, st.text(max_size=6), st.text(min_size=1, max_size=3)),
    st.builds(Thinking, redacted=st.text(min_size=1, max_size=3)),
    st.builds(ToolCall, st.text(max_size=4), st.text(min_size=1, max_size=4), st.text(max_size=6)),
)


def unmerged(said: list[Part]) -> tuple[Part, ...]:
    """No two texts side by side, which as deltas would be one, and no two calls of one id."""
    named = [structs.replace(p, id=f"{p.id}{i}") if isinstance(p, ToolCall) else p for i, p in enumerate(said)]
    return tuple(p for i, p in enumerate(named) if not (i and isinstance(p, Text) and isinstance(said[i - 1], Text)))


answers = st.builds(
    lambda said, finish, refusal: answer_of(*unmerged(said), finish=finish, refusal=refusal),
    st.lists(parts, max_size=5),
    st.sampled_from(["stop", "length", "tool_calls", "content_filter", None]),
    st.text(max_size=3),
)


def in_pieces(deltas: Iterator[Delta]) -> list[Delta]:
    """Every text and argument one character at a time."""
    found: list[Delta] = []
    for delta in deltas:
        if delta.text:
            found += [Delta(text=letter) for letter in delta.text]
        elif delta.tool:
            found.append(Delta(tool=structs.replace(delta.tool, arguments="")))
            found += [Delta(tool=ToolDelta(delta.tool.index, arguments=letter)) for letter in delta.tool.arguments]
        else:
            found.append(delta)
    return found


@given(answers)
def test_a_stream_ends_with_the_whole_answer(answer: Answer) -> None:
    deltas = in_pieces(iter(deltas_of(answer)))
    assert events_of(deltas)[-1]["response"] == whole(answer)


@given(answers)
def test_the_sdk_puts_the_same_answer_together(answer: Answer) -> None:
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in EventParser(1 << 20).feed(stream_of(in_pieces(iter(deltas_of(answer))))):
        told = state.handle_event(EVENT.validate_json(event.data))[-1]
    body = whole(answer)
    assert [item.id for item in told.response.output] == [item["id"] for item in body["output"]]
    assert told.response.output_text == answer.text


def test_the_sdks_client_streams_it() -> None:
    answer = answer_of(Text("Hello"), ToolCall("c", "f", "{}"), finish="tool_calls")
    with sdk(stream_of(list(deltas_of(answer)))) as client, client.responses.stream(model="g", input="x") as told:
        final = told.get_final_response()
    assert final.output_text == "Hello"
    assert [item.type for item in final.output] == ["message", "function_call"]
