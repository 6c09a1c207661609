"""OpenAI's embeddings: requests and answers, both ways.

Knows the two encodings of a vector: a list of numbers, and base64 of little-endian 32-bit floats. Invariant: the client
receives the encoding that it asked for, whichever the provider gave.
"""

import binascii
import struct
from base64 import b64decode, b64encode
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from loam.core.calls import Answer, Call, Delta, Head
from loam.core.errors import ModelFailure, fail, refuse
from loam.wire.border import Border, StreamEncoder
from loam.wire.openai_completions import Inputs, decode_inputs, encode_inputs
from loam.wire.openai_errors import encode_error, error_inside
from loam.wire.openai_replies import shown_extra
from loam.wire.openai_requests import Dialect, Name, controls_of, extra_of, finished
from loam.wire.openai_usage import UsageObject, decode_usage
from loam.wire.reading import read


class _EmbeddingRequest(Struct):
    model: Name
    input: Inputs
    encoding_format: Literal["float", "base64"] | None = None
    stream: Literal[False] | None = None
    user: str | None = None


class _Vector(Struct):
    embedding: list[float] | str
    index: int | None = None


class _EmbeddingBody(Struct):
    data: list[_Vector]
    model: str | None = None
    id: str | None = None
    usage: UsageObject | None = None


_KNOWN = frozenset({"model", "input", "stream", "loam"})
_SHOWN = frozenset({*_EmbeddingBody.__struct_fields__, "object", "error"})
_request = Decoder(_EmbeddingRequest)
_fields = Decoder(dict[str, Raw])
_object = Decoder(dict[str, Any])


def decode_embedding(body: bytes, call_id: str) -> Call:
    """An embedding request as a client sent it. Raises ModelFailure (bad_request) that names the field."""
    request = read(body, _request)
    fields = read(body, _fields)
    return Call(
        id=call_id,
        model=request.model,
        task="embed",
        inputs=decode_inputs(request.input, "input"),
        family="openai",
        extra=extra_of(fields, _KNOWN),
        controls=controls_of(fields, request.user),
        body=body,
    )


def encode_embedding(call: Call, model: str, dialect: Dialect) -> bytes:
    """The body for a provider. Raises ModelFailure (unsupported) for a call that has nothing to embed."""
    if not call.inputs:
        raise refuse("unsupported", "this model makes embeddings only; ask it through /v1/embeddings with an input")
    extra = call.extra if call.family == "openai" else {}
    return finished({**extra, "model": model, "input": encode_inputs(call)}, call, dialect)


def decode_embedding_answer(body: bytes, provider: str) -> list[Delta]:
    """The vectors of an answer, choice by choice. Raises ModelFailure for an error inside it, and for what is none."""
    try:
        raw = _object.decode(body)
        if raw.get("error"):
            raise error_inside(raw, provider)
        answer = msgspec.convert(raw, _EmbeddingBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(provider, str(error)) from error
    if not answer.data:
        raise _malformed(provider, "it holds no vectors")
    for vector in answer.data:
        if isinstance(vector.embedding, str):
            _check(vector.embedding, provider)
    extra = {name: value for name, value in raw.items() if name not in _SHOWN and value is not None}
    deltas = [Delta(head=Head(answer.id or "", answer.model or "", extra=extra or None, family="openai"))]
    deltas += [
        Delta(choice=place if vector.index is None else vector.index, embedding=vector.embedding)
        for place, vector in enumerate(answer.data)
    ]
    if answer.usage is not None:
        deltas.append(Delta(usage=decode_usage(answer.usage)))
    return deltas


def _check(text: str, provider: str) -> None:
    try:
        whole = len(b64decode(text, validate=True)) % 4 == 0
    except (binascii.Error, ValueError) as error:
        raise _malformed(provider, "an embedding is no base64") from error
    if not whole:
        raise _malformed(provider, "an embedding does not hold whole 32-bit numbers")


def _malformed(provider: str, what: str) -> ModelFailure:
    return fail("malformed", provider, f"the provider sent what is no embedding answer: {what}")


def encode_embedding_answer(call: Call, answer: Answer, now: float, loam: dict[str, Any] | None) -> bytes:
    """The body of an embedding answer; it has no time and no id in this format, so `now` is not shown."""
    packed = call.extra.get("encoding_format") == "base64"
    body: dict[str, Any] = {
        **shown_extra(answer.head.extra, answer.head.family),
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _shown(choice.embedding, packed=packed)}
            for index, choice in enumerate(answer.choices)
        ],
        "model": answer.head.model or call.model,
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }
    if answer.usage is not None:
        body["usage"] = {"prompt_tokens": answer.usage.input, "total_tokens": answer.usage.total}
    if loam is not None:
        body["loam"] = loam
    return msgspec.json.encode(body)


def _shown(vector: list[float] | str | None, *, packed: bool) -> list[float] | str:
    """The vector in the encoding asked for. A number too large for 32 bits cannot be packed and stays as it is."""
    if isinstance(vector, str):
        data = b64decode(vector)
        return vector if packed else list(struct.unpack(f"<{len(data) // 4}f", data))
    numbers = vector or []
    if packed:
        try:
            return b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        except OverflowError:
            return numbers
    return numbers


def _no_stream(call: Call, now: float) -> StreamEncoder:
    """Embeddings come whole; `decode_embedding` already refuses a request for a stream."""
    raise refuse("unsupported", f"embeddings cannot be streamed (call {call.id} at {now:.0f})", param="stream")


EMBEDDINGS = Border(decode=decode_embedding, whole=encode_embedding_answer, stream=_no_stream, failure=encode_error)
