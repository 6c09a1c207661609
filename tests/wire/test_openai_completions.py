"""Text completions, both ways, against the official SDK's types."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from loam.core.answers import Collector
from loam.core.calls import Answer, Call, Choice, Delta, Finish, Head, Sampling, Usage
from loam.core.errors import ModelFailure
from loam.core.messages import Text, Thinking, say
from loam.wire.openai_completions import COMPLETIONS, CompletionDecoder, encode_completion
from loam.wire.openai_requests import Dialect, encode_chat
from loam.wire.sse import EventParser

NOW = 1_700_000_000.0
EVERY_FIELD: dict[str, Any] = {
    "model": "davinci",
    "prompt": "Once",
    "best_of": 3,
    "echo": True,
    "frequency_penalty": 0.5,
    "logit_bias": {"1": -100},
    "logprobs": 2,
    "max_tokens": 9,
    "n": 2,
    "presence_penalty": 0.5,
    "seed": 7,
    "stop": ["a"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "suffix": "end",
    "temperature": 0.5,
    "top_p": 0.5,
    "user": "ann",
    "vendor": [1],
}


def decode(**fields: Any) -> Call:
    return COMPLETIONS.decode(json.dumps({"model": "davinci", "prompt": "Once", **fields}).encode(), "call_1")


def encode(call: Call, *, stream: bool = False) -> dict[str, Any]:
    return json.loads(encode_completion(call, "up", Dialect(), stream=stream))


def whole(choice: Choice, call: Call, **fields: Any) -> dict[str, Any]:
    body = COMPLETIONS.whole(call, Answer((choice,), **fields), NOW, None)
    Completion.model_validate_json(body, strict=True)
    return json.loads(body)


def stream(*deltas: Delta, call: Call) -> list[dict[str, Any]]:
    encoder = COMPLETIONS.stream(call, NOW)
    sent = b"".join(encoder.delta(delta) for delta in deltas) + encoder.end(None)
    *chunks, done = [event.data for event in EventParser(1 << 20).feed(sent)]
    assert done == b"[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def test_a_provider_of_the_same_family_receives_every_field() -> None:
    call = decode(**EVERY_FIELD)
    assert encode(call, stream=True) == EVERY_FIELD | {"model": "up"}
    assert call.task == "complete"
    assert call.messages == (say("user", "Once"),)
    assert call.sampling == Sampling(
        max_tokens=9, temperature=0.5, top_p=0.5, stop=("a",), seed=7, n=2, logprobs=True, top_logprobs=2,
        presence_penalty=0.5, frequency_penalty=0.5, logit_bias={"1": -100}, echo=True,
    )  # fmt: skip
    assert call.controls.user == "ann"


@pytest.mark.parametrize(
    ("prompt", "inputs"),
    [
        ("Once", ("Once",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_prompts(prompt: Any, inputs: Any) -> None:
    call = decode(prompt=prompt)
    assert call.inputs == inputs
    assert encode(call)["prompt"] == prompt
    assert bool(call.messages) == (prompt == "Once")


@pytest.mark.parametrize("prompt", [[], ["a", 1], [1, [2]], ["a"] * 3000, [-1], 5, {}, None, [["a"]]])
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(ModelFailure) as error:
        decode(prompt=prompt)
    assert error.value.failure.kind == "bad_request"
    assert error.value.failure.param.startswith("prompt")


def test_a_provider_that_only_chats_can_answer_one_text() -> None:
    call = decode(**EVERY_FIELD)
    body = json.loads(encode_chat(call, "up", Dialect(), stream=False))
    assert body["messages"] == [{"role": "user", "content": "Once"}]
    assert not body.keys() & {"prompt", "best_of", "suffix", "echo"}
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    assert call.trace.warnings == ["the prompt is not echoed: this provider only chats"]
    with pytest.raises(ModelFailure) as error:
        encode_chat(decode(prompt=["a", "b"]), "up", Dialect(), stream=False)
    assert error.value.failure.kind == "unsupported"


def test_a_provider_that_only_completes_refuses_a_chat() -> None:
    with pytest.raises(ModelFailure) as error:
        encode(Call(id="call_1", model="m", messages=(say("user", "Hi"),)))
    assert error.value.failure.kind == "unsupported"


OLD = {"tokens": ["Hi"], "token_logprobs": [-0.5], "top_logprobs": [{"Hi": -0.5}], "text_offset": [4]}


def test_an_answer_of_the_same_format_comes_out_as_it_went_in() -> None:
    given = {
        "id": "cmpl-call_1",
        "object": "text_completion",
        "created": 7,
        "model": "davinci-002",
        "system_fingerprint": "fp",
        "warning": "deprecated",
        "choices": [{"text": "Hi", "index": 0, "logprobs": OLD, "finish_reason": "length", "matched": "x"}],
    }
    collector = Collector()
    for delta in CompletionDecoder("vendor").whole(json.dumps(given).encode()):
        collector.add(delta)
    assert json.loads(COMPLETIONS.whole(decode(), collector.answer(), NOW, None)) == given


def test_an_answer_of_a_chat_becomes_text() -> None:
    entry = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Hi", "logprob": -0.5}]}
    choice = Choice((Thinking("Hm"), Text("Hi")), "stop", logprobs=[entry], extra={"annotations": []}, family="openai")
    body = whole(
        choice, decode(), usage=Usage(input=1, output=2), head=Head(model="chat", service_tier="flex", family="openai")
    )
    assert body["choices"] == [
        {"text": "Hi", "index": 0, "logprobs": {**OLD, "text_offset": [0]}, "finish_reason": "stop"}
    ]
    assert (body["model"], body["usage"]["total_tokens"], "service_tier" in body) == ("chat", 3, False)


@pytest.mark.parametrize(
    ("finish", "word"),
    [
        ("stop", "stop"), ("length", "length"), ("tool_calls", "stop"), ("content_filter", "content_filter"),
        ("refusal", "content_filter"), ("pause", "length"), ("context_window", "length"), (None, "stop"),
    ],
)  # fmt: skip
def test_every_ending_has_a_word(finish: Finish | None, word: str) -> None:
    assert whole(Choice((Text("x"),), finish), decode())["choices"][0]["finish_reason"] == word


def test_a_stream() -> None:
    entry = {"token": "lo", "logprob": -0.5}
    chunks = stream(
        Delta(head=Head(model="up", created=7, family="openai")),
        Delta(text="Hel"),
        Delta(thinking="Hm"),
        Delta(text="lo", logprobs=[entry]),
        Delta(finish="stop", extra={"choice.matched": 1, "audio": 2}, family="openai"),
        Delta(usage=Usage(input=1, output=2)),
        call=decode(stream_options={"include_usage": True}),
    )
    frame = {"id": "cmpl-call_1", "object": "text_completion", "created": 7, "model": "up"}
    assert [{name: chunk[name] for name in frame} for chunk in chunks] == [frame] * 4
    logprobs = {"tokens": ["lo"], "token_logprobs": [-0.5], "top_logprobs": None, "text_offset": [3]}
    assert [chunk["choices"] for chunk in chunks] == [
        [{"text": "Hel", "index": 0, "logprobs": None, "finish_reason": None}],
        [{"text": "lo", "index": 0, "logprobs": logprobs, "finish_reason": None}],
        [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop", "matched": 1}],
        [],
    ]
    assert chunks[-1]["usage"]["total_tokens"] == 3


def test_a_providers_stream() -> None:
    decoder = CompletionDecoder("vendor")
    event = {"id": "c", "model": "m", "choices": [{"text": "Hi", "index": 1, "logprobs": OLD, "finish_reason": None}]}
    (head, delta) = decoder.event(json.dumps(event).encode())
    assert head.head == Head("c", "m", family="openai")
    assert (delta.choice, delta.text) == (1, "Hi")
    with pytest.raises(ModelFailure) as error:
        decoder.end()
    assert error.value.failure.kind == "truncated"
    event["choices"] = [{"text": "", "index": 1, "finish_reason": "stop"}]
    assert decoder.event(json.dumps(event).encode()) == [Delta(choice=1, finish="stop")]
    decoder.end()


@given(
    st.binary()
    | st.dictionaries(st.sampled_from([*EVERY_FIELD, "loam"]), st.integers() | st.text(max_size=3)).map(
        lambda d: json.dumps(d).encode()
    )
)
def test_any_bytes_are_a_call_or_a_refusal(body: bytes) -> None:
    with suppress(ModelFailure):
        COMPLETIONS.decode(body, "call_1")
