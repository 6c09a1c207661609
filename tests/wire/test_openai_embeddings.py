"""Embeddings, both ways, against the official SDK's types."""

import json
import struct
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from loam.core.answers import Collector
from loam.core.calls import Answer, Call, Choice, Delta, Head, Usage
from loam.core.errors import ModelFailure
from loam.core.messages import say
from loam.wire.openai_embeddings import EMBEDDINGS, decode_embedding_answer, encode_embedding
from loam.wire.openai_requests import Dialect


def packed(*numbers: float) -> str:
    return b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def decode(**fields: Any) -> Call:
    return EMBEDDINGS.decode(json.dumps({"model": "embed", "input": "a", **fields}).encode(), "call_1")


def show(call: Call, *vectors: list[float] | str, **fields: Any) -> dict[str, Any]:
    answer = Answer(tuple(Choice(embedding=vector) for vector in vectors), **fields)
    return json.loads(EMBEDDINGS.whole(call, answer, 1.0, None))


def answer_of(body: dict[str, Any]) -> list[Delta]:
    return decode_embedding_answer(json.dumps(body).encode(), "vendor")


def test_a_request_goes_on_as_it_came() -> None:
    fields = {
        "model": "embed",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 3,
        "user": "ann",
        "x": 1,
    }
    call = decode(**fields)
    assert (call.task, call.inputs, call.controls.user) == ("embed", ("a", "b"), "ann")
    assert json.loads(encode_embedding(call, "up", Dialect())) == fields | {"model": "up"}


def test_what_a_provider_lacks_is_left_out_and_said() -> None:
    call = decode(dimensions=3)
    assert json.loads(encode_embedding(call, "up", Dialect(lacks=frozenset({"dimensions"})))) == {
        "model": "up",
        "input": "a",
    }
    assert call.trace.warnings == ["left out dimensions: up has no such field"]


@pytest.mark.parametrize("given", ["a", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_inputs(given: Any) -> None:
    assert json.loads(encode_embedding(decode(input=given), "up", Dialect()))["input"] == given


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"stream": True}, "stream"),
        ({"loam": {"x": 1}}, "loam.x"),
    ],
)
def test_wrong_requests_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ModelFailure) as error:
        decode(**fields)
    assert (error.value.failure.kind, error.value.failure.param) == ("bad_request", param)


def test_a_model_that_embeds_refuses_a_chat() -> None:
    with pytest.raises(ModelFailure) as error:
        encode_embedding(Call(id="call_1", model="m", messages=(say("user", "Hi"),)), "up", Dialect())
    assert error.value.failure.kind == "unsupported"


def test_there_is_no_stream() -> None:
    with pytest.raises(ModelFailure) as error:
        EMBEDDINGS.stream(decode(), 1.0)
    assert error.value.failure.param == "stream"


def test_an_answer() -> None:
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 1, "embedding": [0.5]},
            {"object": "embedding", "index": 0, "embedding": [0.25]},
        ],
        "model": "embed-3",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
        "vendor": 1,
    }
    deltas = answer_of(body)
    assert deltas == [
        Delta(head=Head(model="embed-3", extra={"vendor": 1}, family="openai")),
        Delta(choice=1, embedding=[0.5]),
        Delta(choice=0, embedding=[0.25]),
        Delta(usage=Usage(input=4)),
    ]
    collector = Collector()
    for delta in deltas:
        collector.add(delta)
    shown = EMBEDDINGS.whole(decode(), collector.answer(), 1.0, {"call_id": "call_1"})
    CreateEmbeddingResponse.model_validate_json(shown, strict=True)
    body["data"].reverse()  # type: ignore[union-attr]
    assert json.loads(shown) == body | {"loam": {"call_id": "call_1"}}


def test_vectors_without_an_index_keep_their_order() -> None:
    assert [delta.choice for delta in answer_of({"data": [{"embedding": [1]}, {"embedding": [2]}]})[1:]] == [0, 1]


@pytest.mark.parametrize("given", [[0.5, -2.0], packed(0.5, -2.0)])
@pytest.mark.parametrize(
    ("asked", "shown"), [("float", [0.5, -2.0]), ("base64", packed(0.5, -2.0)), (None, [0.5, -2.0])]
)
def test_the_client_gets_the_encoding_it_asked_for(given: list[float] | str, asked: str | None, shown: Any) -> None:
    assert show(decode(encoding_format=asked), given)["data"][0]["embedding"] == shown


def test_numbers_too_large_to_pack_stay_numbers() -> None:
    assert show(decode(encoding_format="base64"), [1e300])["data"][0]["embedding"] == [1e300]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "M", "code": 429}}, "rate_limit"),
        ({"data": []}, "malformed"),
        ({"data": [{"embedding": "%%"}]}, "malformed"),
        ({"data": [{"embedding": "\N{SNOWMAN}"}]}, "malformed"),
        ({"data": [{"embedding": "aGk="}]}, "malformed"),
        ({"data": [{"embedding": ["x"]}]}, "malformed"),
        ({}, "malformed"),
        ([], "malformed"),
    ],
)
def test_what_is_no_answer_is_a_failure(body: Any, kind: str) -> None:
    with pytest.raises(ModelFailure) as error:
        answer_of(body)
    assert (error.value.failure.kind, error.value.failure.provider) == (kind, "vendor")


vectors = st.lists(st.floats() | st.text(max_size=2), max_size=3) | st.text("aGk=", max_size=8) | st.none()


@given(
    st.binary()
    | st.lists(st.fixed_dictionaries({"embedding": vectors}), max_size=2).map(
        lambda data: json.dumps({"data": data}).encode()
    )
)
def test_any_answer_can_be_shown_or_fails(body: bytes) -> None:
    with suppress(ModelFailure):
        for delta in decode_embedding_answer(body, "vendor"):
            if delta.embedding is not None:
                show(decode(encoding_format="float"), delta.embedding)
                show(decode(encoding_format="base64"), delta.embedding)
