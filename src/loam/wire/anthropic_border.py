"""Anthropic's Messages format as a client sees it: answers, whole or as events, and the two borders.

Knows how its SDKs put a stream together. Invariants: one block is open at a time and its index rises; every event has
an `event:` line, without which the SDKs drop it; the usage is sent last, because some providers say it last.
"""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import msgspec

from loam.core.calls import Answer, Call, Choice, Citation, Delta, Finish, Head, Step, ToolDelta, Usage
from loam.core.errors import Failure, refuse
from loam.core.messages import Family, Text, Thinking, ToolCall
from loam.wire.anthropic_blocks import Block, input_of
from loam.wire.anthropic_calls import decode_count, decode_messages
from loam.wire.anthropic_endings import stop_reason_of, words_of
from loam.wire.anthropic_errors import encode_error
from loam.wire.border import Border
from loam.wire.sse import encode_event

_encode = msgspec.json.Encoder().encode
_NOTHING: Mapping[str, Any] = {}
_PLACED = ("blocks", "fields", "citations", "splits")


def _message(call: Call, head: Head, usage: Usage | None) -> dict[str, Any]:
    """What a message says of itself; `usage` may not be known yet."""
    own = dict(head.extra or {}) if head.family == "anthropic" else {}
    words = {**words_of(usage or Usage()), **own.pop("usage", {})}
    if own_tier := head.service_tier if head.family == "anthropic" else "":
        words["service_tier"] = own_tier
    return {
        "id": f"msg_{call.id}",
        "type": "message",
        "role": "assistant",
        "model": head.model or call.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": words,
        **own,
    }


class _Sources:
    """Numbers the cited documents in the order in which they are first cited."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def words(self, citation: Citation) -> dict[str, Any]:
        return {
            "type": "char_location",
            "cited_text": citation.quote,
            "document_index": self._numbers.setdefault(citation.document_id, len(self._numbers)),
            "document_title": citation.title or None,
            "start_char_index": citation.start,
            "end_char_index": citation.end,
            "file_id": None,
        }


def encode_message_answer(call: Call, answer: Answer, now: float, loam: dict[str, Any] | None) -> bytes:
    """The body of a whole answer."""
    choice = answer.choices[0] if answer.choices else Choice()
    native = _native(choice.extra, choice.family)
    message = _message(call, answer.head, answer.usage)
    message["content"] = _content(choice, native)
    message["stop_reason"] = native.get("stop_reason") or stop_reason_of(
        choice.finish,
        stop_sequence=choice.stop_sequence,
        refused=bool(choice.refusal),
        called=any(isinstance(part, ToolCall) for part in choice.parts),
    )
    message["stop_sequence"] = choice.stop_sequence
    message |= {name: value for name, value in native.items() if name not in _PLACED}
    if loam is not None:
        message["loam"] = loam
    return _encode(message)


def encode_count_answer(call: Call, answer: Answer, now: float, loam: dict[str, Any] | None) -> bytes:
    """The body of an answer to count_tokens."""
    return _encode({"input_tokens": answer.usage.input if answer.usage else 0})


def _native(extra: Mapping[str, Any] | None, family: Family) -> Mapping[str, Any]:
    return extra if extra is not None and family == "anthropic" else _NOTHING


def _content(choice: Choice, native: Mapping[str, Any]) -> list[Block]:
    """The parts as blocks, with what came in this format's own words back in its place."""
    blocks: list[Block] = []
    texts: list[Block] = []
    starts: list[int] = []
    offset = 0
    for part in choice.parts:
        if isinstance(part, Text):
            end = offset + len(part.text)
            cuts = [offset, *(cut for cut in native.get("splits", ()) if offset < cut < end), end]
            said: list[Block] = [
                {"type": "text", "text": part.text[start - offset : stop - offset]} for start, stop in pairwise(cuts)
            ]
            blocks, texts, starts = blocks + said, texts + said, starts + cuts[:-1]
            offset = end
        elif isinstance(part, Thinking):
            blocks.append(_thinking(part))
        elif isinstance(part, ToolCall):
            identity = part.id or f"toolu_{len(blocks)}"
            blocks.append({"type": "tool_use", "id": identity, "name": part.name, "input": input_of(part.arguments)})
    sources = _Sources()
    for citation in choice.citations if texts else ():
        _cite(texts[max(0, bisect_right(starts, citation.answer_start) - 1)], sources.words(citation))
    if choice.refusal:
        blocks.append({"type": "text", "text": choice.refusal})
    return _put_back(blocks, native)


def _put_back(blocks: list[Block], native: Mapping[str, Any]) -> list[Block]:
    """Puts what belongs to a place there; a place is missing where a stage took text away."""
    for entry in native.get("blocks", ()):
        blocks.insert(entry["index"], entry["block"])
    places = dict(enumerate(blocks))
    for entry in native.get("fields", ()):
        places.get(entry["index"], {}).update(entry["fields"])
    for entry in native.get("citations", ()):
        _cite(places.get(entry["index"], {}), entry["citation"])
    return blocks


def _cite(block: Block, citation: dict[str, Any]) -> None:
    block["citations"] = [*block.get("citations", ()), citation]


def _thinking(part: Thinking) -> Block:
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.redacted}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


class MessageStreamEncoder:
    """Encodes one answer's deltas as the events of a Messages stream."""

    def __init__(self, call: Call, now: float) -> None:
        self._call = call
        self._sources = _Sources()
        self._started = False
        self._index = -1
        self._open: Literal["", "text", "thinking", "tool_use"] = ""
        self._tool = -1  # the number of the tool call that was begun last
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._stop_sequence: str | None = None
        self._refused = False
        self._ending: dict[str, Any] = {}

    def delta(self, delta: Delta) -> bytes:
        """The events of one delta. Raises ModelFailure (malformed) for tool calls that come mixed into each other."""
        if delta.choice:
            return b""  # this format has one answer a call
        self._note(delta)
        events = [] if self._started else [self._start(delta.head or Head())]
        native = _native(delta.extra, delta.family)
        if native:
            events += self._blocks(native)
        if delta.thinking or delta.signature or delta.redacted:
            events += self._think(delta)
        if delta.text or delta.refusal:
            events += self._say(delta.text + delta.refusal)
        if delta.tool is not None:
            events += self._call_tool(delta.tool, native)
        if delta.citations or native:
            events += self._cite(delta, native)
        return b"".join(events)

    def step(self, step: Step) -> bytes:
        return _event({"type": "loam", "technique": step.technique, "event": step.event, **step.details})

    def end(self, loam: dict[str, Any] | None) -> bytes:
        events = [] if self._started else [self._start(Head())]
        events += self._close()
        ending = dict(self._ending)
        reason = ending.pop("stop_reason", None) or stop_reason_of(
            self._finish, stop_sequence=self._stop_sequence, refused=self._refused, called=self._tool >= 0
        )
        words: dict[str, Any] = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": self._stop_sequence},
            "usage": words_of(self._usage or Usage()),
        }
        if (context := ending.pop("context_management", None)) is not None:
            words["context_management"] = context
        words["delta"] |= ending
        if loam is not None:
            words["loam"] = loam
        return b"".join((*events, _event(words), _event({"type": "message_stop"})))

    def error(self, failure: Failure) -> bytes:
        return encode_event(encode_error(failure, self._call.id), "error")

    def _note(self, delta: Delta) -> None:
        """Keeps what is said at the end."""
        if delta.usage is not None:
            self._usage = delta.usage
        if delta.finish is not None:
            self._finish, self._stop_sequence = delta.finish, delta.stop_sequence
        if delta.refusal:
            self._refused = True

    def _start(self, head: Head) -> bytes:
        self._started = True
        return _event({"type": "message_start", "message": _message(self._call, head, self._usage)})

    def _begin(self, kind: Literal["text", "thinking", "tool_use"], block: Block) -> list[bytes]:
        events = self._close()
        self._open = kind
        self._index += 1
        return [*events, _event({"type": "content_block_start", "index": self._index, "content_block": block})]

    def _piece(self, piece: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_delta", "index": self._index, "delta": piece})

    def _close(self) -> list[bytes]:
        if not self._open:
            return []
        self._open = ""
        return [_event({"type": "content_block_stop", "index": self._index})]

    def _say(self, text: str) -> list[bytes]:
        events = [] if self._open == "text" else self._begin("text", {"type": "text", "text": ""})
        events.append(self._piece({"type": "text_delta", "text": text}))
        return events

    def _think(self, delta: Delta) -> list[bytes]:
        """A thought ends with its signature; a sealed one is a block of its own."""
        events: list[bytes] = []
        if (delta.thinking or delta.signature) and self._open != "thinking":
            events += self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        if delta.thinking:
            events.append(self._piece({"type": "thinking_delta", "thinking": delta.thinking}))
        if delta.signature:
            events.append(self._piece({"type": "signature_delta", "signature": delta.signature}))
            events += self._close()
        if delta.redacted:
            events += self._begin("thinking", {"type": "redacted_thinking", "data": delta.redacted})
            events += self._close()
        return events

    def _call_tool(self, tool: ToolDelta, native: Mapping[str, Any]) -> list[bytes]:
        events: list[bytes] = []
        if tool.index > self._tool:
            self._tool = tool.index
            identity = tool.id or f"toolu_{self._index + 1}"
            block: Block = {"type": "tool_use", "id": identity, "name": tool.name, "input": {}}
            for entry in native.get("fields", ()):
                block |= entry["fields"]
            events += self._begin("tool_use", block)
        elif tool.index < self._tool or self._open != "tool_use":
            raise refuse("malformed", "the provider mixed the pieces of its tool calls, which this format can't carry")
        if tool.arguments:
            events.append(self._piece({"type": "input_json_delta", "partial_json": tool.arguments}))
        return events

    def _cite(self, delta: Delta, native: Mapping[str, Any]) -> list[bytes]:
        """Citations belong to the text that is open; late ones are in the `loam` object alone."""
        if self._open != "text":
            return []
        words = [self._sources.words(citation) for citation in delta.citations]
        words += (entry["citation"] for entry in native.get("citations", ()))
        return [self._piece({"type": "citations_delta", "citation": citation}) for citation in words]

    def _blocks(self, native: Mapping[str, Any]) -> list[bytes]:
        """What comes in this format's own words: a new text block, whole blocks, fields of the message's end."""
        self._ending |= {name: value for name, value in native.items() if name not in _PLACED}
        events: list[bytes] = []
        if "splits" in native and self._open == "text":
            events += self._close()
        for entry in native.get("blocks", ()):
            events += self._whole(entry["block"])
        return events

    def _whole(self, block: Block) -> list[bytes]:
        said = block.get("input")
        events = self._begin("tool_use", {**block, "input": {}} if said else block)
        if said:
            events.append(self._piece({"type": "input_json_delta", "partial_json": _encode(said).decode()}))
        return events + self._close()


def _event(words: dict[str, Any]) -> bytes:
    return encode_event(_encode(words), words["type"])


MESSAGES = Border(decode_messages, encode_message_answer, MessageStreamEncoder, encode_error)
COUNT = Border(decode_count, encode_count_answer, MessageStreamEncoder, encode_error)
