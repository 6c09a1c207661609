"""What a client of the chat endpoint receives: a whole completion, or its chunks.

Knows OpenAI's answer objects. Does not know where an answer came from: fields in the words of another family are not
shown. Invariants: every chunk of a stream has one id, one time and one model; an error is the last thing in a stream,
and no `[DONE]` follows it.
"""

from collections.abc import Iterable
from typing import Any, cast

import msgspec

from loam.core.calls import Answer, Call, Choice, Citation, Delta, Finish, Head, Step, ToolDelta, Usage, Words
from loam.core.errors import Failure
from loam.core.messages import Family, Thinking, ToolCall
from loam.wire.border import Border
from loam.wire.openai_errors import encode_error
from loam.wire.openai_requests import decode_chat
from loam.wire.openai_usage import encode_usage
from loam.wire.sse import encode_event

_FINISH: dict[Finish, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "length",
    "context_window": "length",
}
"""OpenAI has five words; where one of them says less than the core's, `native_finish_reason` says it in full."""

_encode = msgspec.json.Encoder().encode
_UNENDED = b',"logprobs":null,"finish_reason":null}'


class EventEncoder:
    """The frame of a stream, the same for chat and for text completions; a subclass says what a choice looks like."""

    def __init__(self, call: Call, now: float, *, prefix: str, kind: str) -> None:
        self._call = call
        self._now = now
        self._identity: dict[str, Any] = {"id": prefix + call.id, "object": kind}
        options = call.extra.get("stream_options")
        self._usage_asked = isinstance(options, dict) and bool(cast("dict[str, Any]", options).get("include_usage"))
        self._tail = b'],"usage":null}\n\n' if self._usage_asked else b"]}\n\n"
        self._begun = False
        self._usage: Usage | None = None
        self._shown: dict[str, Any] = {}
        self._late: dict[str, Any] = {}
        self._start = self._framed(Head())

    def delta(self, delta: Delta) -> bytes:
        if delta.head is not None:
            self._take(delta.head)
        if delta.usage is not None:
            self._usage = delta.usage
        choice = self._choice(delta)
        if choice is None:
            return b""
        self._begun = True
        if self._late:
            return self._chunk({"choices": [choice], **({"usage": None} if self._usage_asked else {})})
        return b"%b%b%b" % (self._start, _encode(choice), self._tail)

    def step(self, step: Step) -> bytes:
        return self._chunk({"choices": [], "loam": {"technique": step.technique, "event": step.event, **step.details}})

    def end(self, loam: dict[str, Any] | None) -> bytes:
        last: dict[str, Any] = {"choices": []}
        if self._usage_asked:
            last["usage"] = None if self._usage is None else encode_usage(self._usage)
        if loam is not None:
            last["loam"] = loam
        needed = loam is not None or self._late or (self._usage_asked and self._usage is not None)
        return (self._chunk(last) if needed else b"") + b"data: [DONE]\n\n"

    def error(self, failure: Failure) -> bytes:
        return encode_event(encode_error(failure, self._call.id))

    def _choice(self, delta: Delta) -> dict[str, Any] | None:
        """The choice that shows `delta`, or None where there is nothing to show."""
        raise NotImplementedError

    def _take(self, head: Head) -> None:
        """The head names the stream until its first chunk; later only what is new in it is shown, once."""
        if not self._begun:
            self._start = self._framed(head)
        for name, value in shown_extra(head.extra, head.family).items():
            if self._shown.get(name) != value:
                self._shown[name] = self._late[name] = value

    def _framed(self, head: Head) -> bytes:
        self._identity |= identity_of(self._call, head, self._now)
        return b'data: %b,"choices":[' % _encode(self._identity)[:-1]

    def _chunk(self, fields: dict[str, Any]) -> bytes:
        data = _encode({**self._late, **self._identity, **fields})
        self._late = {}
        return encode_event(data)


class ChunkEncoder(EventEncoder):
    """Turns one answer's deltas into the chunks of a chat completion."""

    def __init__(self, call: Call, now: float) -> None:
        super().__init__(call, now, prefix="chatcmpl-", kind="chat.completion.chunk")
        self._legacy = bool(call.extra.get("functions"))
        self._roles: set[int] = set()

    def delta(self, delta: Delta) -> bytes:
        """Most deltas are more text of a choice that is begun; their chunks differ in index and text alone."""
        if type(delta) is Words and delta.choice in self._roles and not self._late:
            text = _encode(delta.text)
            return b'%b{"index":%d,"delta":{"content":%b}%b%b' % (self._start, delta.choice, text, _UNENDED, self._tail)
        return super().delta(delta)

    def _choice(self, delta: Delta) -> dict[str, Any] | None:
        said = _said(delta, legacy=self._legacy)
        choice: dict[str, Any] = {"index": delta.choice, "delta": said, "logprobs": None, "finish_reason": None}
        if delta.logprobs is not None:
            choice["logprobs"] = {"content": delta.logprobs, "refusal": None}
        if delta.finish is not None:
            put_finish(choice, delta.finish, legacy=self._legacy)
        if delta.extra:
            put_extra(choice, said, shown_extra(delta.extra, delta.family))
        if not said and delta.finish is None and len(choice) == 4 and choice["logprobs"] is None:
            return None
        if delta.choice not in self._roles:
            self._roles.add(delta.choice)
            choice["delta"] = {"role": "assistant", "content": "", **said}
        return choice


def _said(delta: Delta, *, legacy: bool) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if delta.text:
        said["content"] = delta.text
    if delta.thinking:
        said["reasoning_content"] = delta.thinking
    if delta.refusal:
        said["refusal"] = delta.refusal
    if delta.tool is not None:
        said |= _tool_piece(delta.tool, legacy=legacy)
    if delta.citations:
        said["annotations"] = annotations(delta.citations)
    return said


def encode_chat_answer(call: Call, answer: Answer, now: float, loam: dict[str, Any] | None) -> bytes:
    """The body of a chat completion."""
    legacy = bool(call.extra.get("functions"))
    body = {
        **shown_extra(answer.head.extra, answer.head.family),
        "id": f"chatcmpl-{call.id}",
        "object": "chat.completion",
        **identity_of(call, answer.head, now),
        "choices": [_whole_choice(index, choice, legacy=legacy) for index, choice in enumerate(answer.choices)],
    }
    return finished_body(body, answer, loam)


def finished_body(body: dict[str, Any], answer: Answer, loam: dict[str, Any] | None) -> bytes:
    """Adds what stands at the end of every answer."""
    if answer.usage is not None:
        body["usage"] = encode_usage(answer.usage)
    if loam is not None:
        body["loam"] = loam
    return _encode(body)


def _whole_choice(index: int, given: Choice, *, legacy: bool) -> dict[str, Any]:
    calls = [part for part in given.parts if isinstance(part, ToolCall)]
    thinking = "".join(part.text for part in given.parts if isinstance(part, Thinking))
    message: dict[str, Any] = {"role": "assistant", "content": given.text, "refusal": given.refusal or None}
    if not given.text and (calls or given.refusal):
        message["content"] = None
    if thinking:
        message["reasoning_content"] = thinking
    if given.citations:
        message["annotations"] = annotations(given.citations)
    if calls and legacy:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [_tool_call(place, call) for place, call in enumerate(calls)]
    choice: dict[str, Any] = {"index": index, "message": message, "logprobs": None}
    if given.logprobs is not None:
        choice["logprobs"] = {"content": given.logprobs, "refusal": None}
    put_finish(choice, given.finish or ("tool_calls" if calls else "stop"), legacy=legacy)
    put_extra(choice, message, shown_extra(given.extra, given.family))
    return choice


def _tool_call(place: int, call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id or f"call_{place}", "type": "function", "function": function}


def _tool_piece(piece: ToolDelta, *, legacy: bool) -> dict[str, Any]:
    """A function's name comes with the first piece; the old format has room for one call alone."""
    begins = bool(piece.id or piece.name)
    function = {"name": piece.name, "arguments": piece.arguments} if begins else {"arguments": piece.arguments}
    if legacy:
        return {"function_call": function} if piece.index == 0 else {}
    identity = {"id": piece.id or f"call_{piece.index}", "type": "function"} if begins else {}
    return {"tool_calls": [{"index": piece.index, **identity, "function": function}]}


def identity_of(call: Call, head: Head, now: float) -> dict[str, Any]:
    """When and by which model an answer was made. A service tier in another family's words would not be understood."""
    identity: dict[str, Any] = {"created": head.created or int(now), "model": head.model or call.model}
    if head.service_tier and head.family == "openai":
        identity["service_tier"] = head.service_tier
    if head.fingerprint:
        identity["system_fingerprint"] = head.fingerprint
    return identity


def shown_extra(extra: dict[str, Any] | None, family: Family) -> dict[str, Any]:
    return extra if extra and family == "openai" else {}


def put_finish(choice: dict[str, Any], finish: Finish, *, legacy: bool) -> None:
    word = _FINISH[finish]
    choice["finish_reason"] = "function_call" if legacy and word == "tool_calls" else word
    if finish != word:
        choice["native_finish_reason"] = finish


def put_extra(choice: dict[str, Any], message: dict[str, Any], extra: dict[str, Any]) -> None:
    """Puts a provider's own fields where they stood: `choice.NAME` beside the message, others inside. Lists grow."""
    for name, value in extra.items():
        place, field = (choice, name.removeprefix("choice.")) if name.startswith("choice.") else (message, name)
        old = place.get(field)
        if isinstance(old, list) and isinstance(value, list):
            place[field] = [*cast("list[Any]", old), *cast("list[Any]", value)]
        elif isinstance(old, dict) and isinstance(value, dict):
            place[field] = {**cast("dict[str, Any]", old), **cast("dict[str, Any]", value)}
        else:
            place[field] = value


def annotations(citations: Iterable[Citation]) -> list[dict[str, Any]]:
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": citation.answer_start,
                "end_index": citation.answer_end,
                "url": citation.url,
                "title": citation.title,
            },
        }
        for citation in citations
    ]


CHAT = Border(decode=decode_chat, whole=encode_chat_answer, stream=ChunkEncoder, failure=encode_error)
