"""What OpenAI-compatible providers answer, and how they break off."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.answers import Collector
from loam.core.calls import Answer, Delta, Head, ToolDelta, Usage
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import Text, Thinking, ToolCall
from loam.wire.openai_answers import AnswerDecoder, ChatDecoder
from loam.wire.openai_completions import CompletionDecoder

HEAD: dict[str, Any] = {"id": "chatcmpl-9", "created": 7, "model": "gpt-5-2026", "object": "chat.completion.chunk"}


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **choice: Any) -> dict[str, Any]:
    return {
        **HEAD,
        "choices": [{"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish, **choice}],
    }


def stream(*events: dict[str, Any] | str, done: bool = True) -> list[Delta]:
    decoder = ChatDecoder("vendor")
    deltas = [delta for event in events for delta in decoder.event(raw(event))]
    if done:
        decoder.event(b"[DONE]")
    decoder.end()
    return deltas


def raw(event: dict[str, Any] | str) -> bytes:
    return event.encode() if isinstance(event, str) else json.dumps(event, separators=(",", ":")).encode()


def whole(message: dict[str, Any] | None = None, finish: str | None = "stop", **fields: Any) -> list[Delta]:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **(message or {})}, "finish_reason": finish}
    return ChatDecoder("vendor").whole(raw({**HEAD, "choices": [choice], **fields}))


def collected(deltas: list[Delta]) -> Answer:
    collector = Collector()
    for delta in deltas:
        collector.add(delta)
    return collector.answer()


def failure_of(*events: dict[str, Any] | str, done: bool = True) -> Failure:
    with pytest.raises(ModelFailure) as error:
        stream(*events, done=done)
    assert error.value.failure.provider == "vendor"
    return error.value.failure


def test_a_plain_stream() -> None:
    deltas = stream(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({"content": '\N{GREEK SMALL LETTER ALPHA}\n"\\'}),
        chunk({}, "stop"),
        {**HEAD, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    )
    assert deltas == [
        Delta(head=Head("chatcmpl-9", "gpt-5-2026", 7, family="openai")),
        Delta(text="Hel"),
        Delta(text="lo"),
        Delta(text='\N{GREEK SMALL LETTER ALPHA}\n"\\'),
        Delta(finish="stop"),
        Delta(usage=Usage(input=3, output=2)),
    ]


def test_a_whole_answer() -> None:
    answer = collected(
        whole(
            {"content": "Hi", "reasoning_content": "Hm", "refusal": None, "annotations": [{"type": "url_citation"}]},
            service_tier="default",
            system_fingerprint="fp_1",
            citations=["https://x"],
            usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        )
    )
    assert answer.head == Head("chatcmpl-9", "gpt-5-2026", 7, "fp_1", "default", {"citations": ["https://x"]}, "openai")
    assert answer.choices[0].parts == (Thinking("Hm"), Text("Hi"))
    assert answer.choices[0].extra == {"annotations": [{"type": "url_citation"}]}
    assert (answer.choices[0].family, answer.choices[0].finish) == ("openai", "stop")
    assert answer.usage == Usage(input=3, output=2)


def test_several_choices_each_with_logprobs() -> None:
    entry = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [], "vendor": 1}
    choices = [
        {"index": index, "message": {"content": text}, "finish_reason": "length", "logprobs": {"content": [entry]}}
        for index, text in enumerate("ab")
    ]
    answer = collected(ChatDecoder("vendor").whole(raw({**HEAD, "choices": choices})))
    assert [(choice.text, choice.finish, choice.logprobs) for choice in answer.choices] == [
        ("a", "length", [entry]),
        ("b", "length", [entry]),
    ]


def test_logprobs_of_a_refusal_and_in_the_old_shape() -> None:
    entry = {"token": "No", "logprob": -0.1}
    (delta,) = whole({"refusal": "No"})
    assert (delta.refusal, delta.finish) == ("No", "stop")
    deltas = stream(chunk({"refusal": "No"}, logprobs={"content": None, "refusal": [entry]}))
    assert deltas[1].extra == {"choice.logprobs": {"refusal": [entry]}}
    deltas = stream(chunk({"content": "a"}, logprobs={"tokens": ["a"], "token_logprobs": [-0.1]}))
    assert deltas[1].logprobs == [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning(field: str) -> None:
    assert collected(stream(chunk({field: "Hm"}), chunk({"content": "Hi", field: None}))).choices[0].parts == (
        Thinking("Hm"),
        Text("Hi"),
    )


def test_content_in_parts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Hi"}]
    assert collected(whole({"content": parts})).choices[0].parts == (Thinking("Hm"), Text("Hi"))


def tool(index: int | None, identity: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    piece = {"index": index, "id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {name: value for name, value in piece.items() if value is not None}


def more(index: int | None, arguments: str) -> dict[str, Any]:
    return tool(index, None, None, arguments)


@pytest.mark.parametrize(
    "pieces",
    [
        [tool(0, "a", "f", ""), more(0, '{"x":'), tool(1, "b", "g", ""), more(0, "1}"), more(1, "{}")],
        [tool(None, "a", "f", '{"x":1}'), tool(None, "b", "g", "{}")],
        [tool(None, "a", "f", ""), more(None, '{"x":1}'), tool(None, "b", "g", "{}")],
        [tool(0, "a", "f", '{"x":1}'), tool(0, "b", "g", "{"), tool(0, "b", None, "}")],
        [tool(0, "a", "f", {"x": 1}), tool(1, "b", "g", {})],
    ],
    ids=["as OpenAI does", "without index", "without index, in pieces", "every index is 0", "arguments already parsed"],
)  # fmt: skip
def test_tool_calls(pieces: list[dict[str, Any]]) -> None:
    expected = (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}"))
    events = [chunk({"tool_calls": [piece]}) for piece in pieces]
    answer = collected(stream(*events, chunk({}, "tool_calls")))
    assert (answer.tool_calls, answer.choices[0].finish) == (expected, "tool_calls")
    assert collected(stream(chunk({"content": "x", "tool_calls": pieces}, "tool_calls"))).tool_calls == expected


def test_whole_tool_calls_and_the_kinds_that_only_openai_has() -> None:
    custom = {"id": "c", "type": "custom", "custom": {"name": "grep", "input": "x"}}
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}, custom]
    answer = collected(whole({"tool_calls": calls}, "tool_calls"))
    assert answer.tool_calls == (ToolCall("a", "f", "{}"),)
    assert answer.choices[0].extra == {"tool_calls": [custom]}


def test_a_legacy_function_call() -> None:
    deltas = whole({"function_call": {"name": "f", "arguments": "{}"}}, "function_call")
    assert deltas[1:] == [Delta(tool=ToolDelta(0, "", "f", "{}")), Delta(finish="tool_calls")]


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("model_length", "context_window"),
    ],
)
def test_known_endings(word: str, finish: str) -> None:
    (delta,) = whole({"content": "x"}, word)
    assert (delta.text, delta.finish) == ("x", finish)
    assert stream(chunk({"content": "x"}, word), done=False)[1] == Delta(text="x", finish=finish)  # type: ignore[arg-type]


def test_an_unknown_ending_is_kept() -> None:
    (delta,) = whole({"content": "x"}, "bored")
    assert (delta.finish, delta.extra, delta.family) == ("stop", {"choice.native_finish_reason": "bored"}, "openai")


@pytest.mark.parametrize(
    ("word", "kind"), [("error", "server"), ("abort", "truncated"), ("insufficient_system_resource", "overloaded")]
)
def test_endings_that_are_failures(word: str, kind: str) -> None:
    assert failure_of(chunk({"content": "x"}), chunk({}, word)).kind == kind


def test_unknown_fields_are_kept_where_they_stood() -> None:
    deltas = stream(
        {**chunk({"audio": {"id": "a"}, "content": "x"}, stop_reason=7), "provider": "Inner", "obfuscation": "zz"},
        {**chunk({"content": "y"}), "provider": "Inner"},
        {**chunk({}, "stop"), "provider": "Inner", "search_results": [1]},
    )
    assert deltas[0].head is not None
    assert deltas[0].head.extra == {"provider": "Inner"}
    assert deltas[1] == Delta(text="x", extra={"audio": {"id": "a"}, "choice.stop_reason": 7}, family="openai")
    assert deltas[2] == Delta(text="y")
    assert deltas[3].head is not None
    assert deltas[3].head.extra == {"provider": "Inner", "search_results": [1]}


def test_a_first_chunk_without_a_model() -> None:
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": [], "usage": None}
    deltas = stream(first, chunk({"content": "x"}, "stop"))
    assert collected(deltas).head.model == "gpt-5-2026"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, Usage()),
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(input=3, output=2)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 9}, Usage(input=3, output=6)),
        (
            {
                "prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "cost": 0.0000101,
                "num_search_queries": 2,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 1},
            },
            Usage(9, 5, 4, 2, reasoning=3, audio_input=1, audio_output=1, searches=2, provider_cost=11),
        ),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, Usage(input=9, cached=4)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None, "completion_tokens": None}, Usage(input=9)),
    ],
)  # fmt: skip
def test_usage(usage: dict[str, Any], expected: Usage) -> None:
    assert stream({**HEAD, "choices": [], "usage": usage})[1].usage == expected
    assert whole({"content": "x"}, usage=usage)[-1].usage == expected


def test_usage_in_a_vendors_own_place() -> None:
    usage = {"queue_time": 0.1, "prompt_tokens": 3, "completion_tokens": 2}
    deltas = stream(chunk({"content": "x"}), {**chunk({}, "stop"), "x_groq": {"id": "r", "usage": usage}})
    assert deltas[-1] == Delta(usage=Usage(input=3, output=2))


@pytest.mark.parametrize("usage", [{"prompt_tokens": -1}, {"completion_tokens": 2**60}, {"cost": -1}, []])
def test_impossible_usage_is_malformed(usage: Any) -> None:
    assert failure_of({**chunk({"content": "x"}), "usage": usage}).kind == "malformed"


@pytest.mark.parametrize(
    ("event", "kind", "status"),
    [
        ({"error": {"message": "Slow down", "code": 429}}, "rate_limit", 429),
        ({"error": {"message": "Slow down", "code": "429"}}, "rate_limit", 429),
        ({"error": {"message": "Oops", "type": "server_error"}}, "server", None),
        ({"error": {"message": "Long", "code": "context_length_exceeded"}}, "context_window", None),
        ({"error": "Oops"}, "server", None),
        ({"object": "error", "message": "Bad", "type": "BadRequestError", "code": 400}, "bad_request", 400),
        ({**HEAD, "choices": [], "x_groq": {"error": "over"}}, "server", None),
        ({**chunk({"content": ""}, "error"), "error": {"code": 502, "message": "Inner"}}, "server", 502),
    ],
)
def test_errors_inside_a_good_response(event: dict[str, Any], kind: str, status: int | None) -> None:
    failure = failure_of(chunk({"content": "x"}), event)
    assert (failure.kind, failure.status) == (kind, status)
    with pytest.raises(ModelFailure) as error:
        ChatDecoder("vendor").whole(raw(event))
    assert error.value.failure == failure


@pytest.mark.parametrize(
    "event", ['{"choices":', "nonsense", "[]", "{}", '{"choices":{}}', '{"choices":[{"delta":5}]}', "[" * 5000]
)
def test_what_is_no_answer_is_malformed(event: str) -> None:
    assert failure_of(chunk({"content": "x"}), event).kind == "malformed"
    with pytest.raises(ModelFailure) as error:
        ChatDecoder("vendor").whole(event.encode())
    assert error.value.failure.kind == "malformed"


def test_a_whole_answer_without_choices_is_malformed() -> None:
    with pytest.raises(ModelFailure) as error:
        ChatDecoder("vendor").whole(raw({**HEAD, "choices": []}))
    assert error.value.failure.kind == "malformed"


def test_a_stream_without_an_end_is_truncated() -> None:
    assert failure_of(done=False).kind == "truncated"
    assert failure_of(chunk({"content": "x"}), done=False).kind == "truncated"
    other = {**chunk({"content": "x"}, index=1)}
    assert failure_of(chunk({"content": "x"}), other, chunk({}, "stop"), done=False).kind == "truncated"


def test_an_end_in_either_way_is_enough() -> None:
    assert stream(chunk({"content": "x"}, "stop"), {**chunk({}), "usage": {}}, done=False)
    assert stream(chunk({"content": "x"}))
    assert stream() == []
    decoder = ChatDecoder("vendor")
    assert decoder.event(b"[DONE]") == []
    assert decoder.event(raw(chunk({"content": "late"}))) == []


class _Slow(ChatDecoder):
    """The same decoder without the shortcut for plain chunks."""

    def event(self, data: bytes) -> list[Delta]:
        return AnswerDecoder.event(self, data)


said = st.fixed_dictionaries(
    {},
    optional={
        "content": st.none() | st.text(max_size=4) | st.sampled_from(['"', '"content":"x"', "\\", "\N{GRINNING FACE}"]),
        "reasoning": st.none() | st.text(max_size=2),
        "x": st.fixed_dictionaries({"content": st.text(max_size=2)}),
    },
)


@given(
    events=st.lists(st.tuples(said, st.sampled_from([None, None, None, "stop"]), st.integers(0, 1)), max_size=8),
    spaced=st.booleans(),
    escaped=st.booleans(),
    extra=st.sampled_from([{}, {"x": {"content": "Hi"}}]),
)
def test_the_shortcut_for_plain_chunks_changes_nothing(
    events: list[tuple[dict[str, Any], str | None, int]], spaced: bool, escaped: bool, extra: dict[str, Any]
) -> None:
    fast, slow = ChatDecoder("vendor"), _Slow("vendor")
    for delta, finish, index in events:
        separators = (", ", ": ") if spaced else (",", ":")
        event = {**extra, **chunk(delta, finish, index=index)}
        data = json.dumps(event, separators=separators, ensure_ascii=escaped).encode()
        assert fast.event(data) == slow.event(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
odd_choice = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("index", "finish_reason", "logprobs", "text", "x"), json_values)
    | dict.fromkeys(
        ("delta", "message"),
        st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("content", "tool_calls", "function_call", "refusal", "x"), json_values)
        ),
    ),
)
odd = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("id", "model", "created", "usage", "error", "x_groq", "object", "x"), json_values)
    | {"choices": st.lists(odd_choice, max_size=2) | json_values},
)


@pytest.mark.parametrize("kind", [ChatDecoder, CompletionDecoder])
@given(events=st.lists(st.binary() | odd.map(raw), max_size=4))
def test_whatever_a_provider_sends_is_deltas_or_a_failure(kind: type[AnswerDecoder], events: list[bytes]) -> None:
    decoder = kind("vendor")
    with suppress(ModelFailure):
        collected([delta for event in events for delta in decoder.event(event)])
        decoder.end()
    for event in events:
        with suppress(ModelFailure):
            collected(kind("vendor").whole(event))
