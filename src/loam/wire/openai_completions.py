"""OpenAI's older text completions: requests and answers, both ways.

Knows prompts (text or token ids). Shares fields, heads and endings with the chat format.
Invariant: a call with one text prompt also carries it as a user message, so a provider that only chats can answer it.
"""

from typing import Annotated, Any, cast

from msgspec import Meta, Raw
from msgspec.json import Decoder

from loam.core.calls import Answer, Call, Choice, Delta, Finish, Sampling
from loam.core.errors import ModelFailure, refuse
from loam.core.messages import Family, say
from loam.wire.border import Border
from loam.wire.openai_answers import AnswerDecoder, ChoiceObject, unknown
from loam.wire.openai_errors import encode_error
from loam.wire.openai_logprobs import decode_logprobs, encode_old_logprobs
from loam.wire.openai_replies import EventEncoder, finished_body, identity_of, put_extra, shown_extra
from loam.wire.openai_requests import (
    SHARED,
    Count,
    Dialect,
    Request,
    controls_of,
    extra_of,
    finished,
    put_sampling,
    put_stream,
    stops,
)
from loam.wire.reading import read

Tokens = list[Count]
Inputs = str | Annotated[list[str | Count | Tokens], Meta(min_length=1, max_length=300_000)]
"""A text, a list of texts, one list of token ids, or a list of such lists."""

_MOST_INPUTS = 2048


class _CompletionRequest(Request, kw_only=True):
    prompt: Inputs
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None


_request = Decoder(_CompletionRequest)
_fields = Decoder(dict[str, Raw])
_KNOWN = (SHARED | {"prompt", "logprobs", "echo"}) - {"top_logprobs"}
_SAMPLED = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias")


def decode_completion(body: bytes, call_id: str) -> Call:
    """A completion request as a client sent it. Raises ModelFailure (bad_request) that names the field."""
    request = read(body, _request)
    fields = read(body, _fields)
    inputs = decode_inputs(request.prompt, "prompt")
    alone = inputs[0] if len(inputs) == 1 else None
    return Call(
        id=call_id,
        model=request.model,
        task="complete",
        messages=(say("user", alone),) if isinstance(alone, str) else (),
        inputs=inputs,
        sampling=Sampling(
            max_tokens=request.max_tokens,
            stop=stops(request.stop),
            n=request.n or 1,
            logprobs=request.logprobs is not None,
            top_logprobs=request.logprobs,
            echo=bool(request.echo),
            **{name: getattr(request, name) for name in _SAMPLED},
        ),
        stream=bool(request.stream),
        family="openai",
        extra=extra_of(fields, _KNOWN),
        controls=controls_of(fields, request.user),
        body=body,
    )


def decode_inputs(value: Inputs, param: str) -> tuple[str | tuple[int, ...], ...]:
    """The inputs one by one. Raises ModelFailure (bad_request) where texts and token ids are mixed, or are too many."""
    if isinstance(value, str):
        return (value,)
    if all(isinstance(item, int) for item in value):
        return (tuple(cast("Tokens", value)),)
    if len(value) > _MOST_INPUTS or len({type(item) for item in value}) > 1:
        what = f"a list must hold texts, token ids or lists of token ids, not a mixture, and at most {_MOST_INPUTS}"
        raise refuse("bad_request", f"{param}: {what}", param=param)
    return tuple(item if isinstance(item, str) else tuple(cast("Tokens", item)) for item in value)


def encode_inputs(call: Call) -> Any:
    return call.inputs[0] if len(call.inputs) == 1 else call.inputs


def encode_completion(call: Call, model: str, dialect: Dialect, *, stream: bool) -> bytes:
    """The body for a provider. Raises ModelFailure (unsupported) for a call that is no completion."""
    if not call.inputs:
        raise _no_prompt()
    body = {**call.extra} if call.family == "openai" else {}
    body |= {"model": model, "prompt": encode_inputs(call)}
    put_sampling(body, call, max_tokens="max_tokens")
    body.pop("top_logprobs", None)
    body.pop("logprobs", None)
    if call.sampling.logprobs:
        body["logprobs"] = call.sampling.top_logprobs or 0
    if call.sampling.echo:
        body["echo"] = True
    put_stream(body, dialect, stream=stream)
    return finished(body, call, dialect)


def _no_prompt() -> ModelFailure:
    return refuse("unsupported", "this model completes text only; ask it through /v1/completions with a prompt")


class CompletionDecoder(AnswerDecoder):
    """Reads one text completion, whole or in chunks, from a provider of this format."""

    def _choice(self, choice: ChoiceObject, raw: dict[str, Any]) -> list[Delta]:
        extra = unknown(raw, {})
        finish = self._finish(choice, extra)
        logprobs = None if choice.logprobs is None else decode_logprobs(choice.logprobs, raw["logprobs"])
        if not (choice.text or finish or logprobs or extra):
            return []
        return [
            Delta(
                choice=choice.index,
                text=choice.text or "",
                logprobs=logprobs,
                finish=finish,
                extra=extra or None,
                family="openai" if extra else "native",
            )
        ]


def _word(finish: Finish) -> str:
    """Completions know three endings; those that are not the model's own decision count as cut short."""
    if finish in ("content_filter", "refusal"):
        return "content_filter"
    return "stop" if finish in ("stop", "tool_calls") else "length"


def encode_completion_answer(call: Call, answer: Answer, now: float, loam: dict[str, Any] | None) -> bytes:
    """The body of a text completion."""
    identity = identity_of(call, answer.head, now)
    identity.pop("service_tier", None)
    body = {
        **shown_extra(answer.head.extra, answer.head.family),
        "id": f"cmpl-{call.id}",
        "object": "text_completion",
        **identity,
        "choices": [_whole_choice(index, choice) for index, choice in enumerate(answer.choices)],
    }
    return finished_body(body, answer, loam)


def _whole_choice(index: int, given: Choice) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "text": given.text or given.refusal,
        "index": index,
        "logprobs": None if given.logprobs is None else encode_old_logprobs(given.logprobs, 0),
        "finish_reason": _word(given.finish or "stop"),
    }
    put_extra(choice, choice, _beside(given.extra, given.family))
    return choice


class CompletionEncoder(EventEncoder):
    """Turns one answer's deltas into the chunks of a text completion."""

    def __init__(self, call: Call, now: float) -> None:
        super().__init__(call, now, prefix="cmpl-", kind="text_completion")
        self._lengths: dict[int, int] = {}

    def _choice(self, delta: Delta) -> dict[str, Any] | None:
        extra = _beside(delta.extra, delta.family)
        text = delta.text or delta.refusal
        if not (text or delta.finish or delta.logprobs or extra):
            return None
        begin = self._lengths.get(delta.choice, 0)
        self._lengths[delta.choice] = begin + len(text)
        choice: dict[str, Any] = {
            "text": text,
            "index": delta.choice,
            "logprobs": None if delta.logprobs is None else encode_old_logprobs(delta.logprobs, begin),
            "finish_reason": None if delta.finish is None else _word(delta.finish),
        }
        put_extra(choice, choice, extra)
        return choice


def _beside(extra: dict[str, Any] | None, family: Family) -> dict[str, Any]:
    """Fields of the choice; fields of a chat message have no place here."""
    return {name: value for name, value in shown_extra(extra, family).items() if name.startswith("choice.")}


COMPLETIONS = Border(
    decode=decode_completion, whole=encode_completion_answer, stream=CompletionEncoder, failure=encode_error
)
