"""OpenAI's Responses format as a client sees it: the events of a stream, and the border.

Knows how its SDK puts a stream together. Invariants: `sequence_number` rises by one; one item is open at a time, and
every item that was added is done before the response is; a stream ends with the response that a whole answer would be.
"""

from typing import Any, Literal

import msgspec

from loam.core.calls import Call, Delta, Finish, Head, Step, ToolDelta, Usage
from loam.core.errors import Failure, Kind, refuse
from loam.wire.border import Border
from loam.wire.openai_errors import encode_error
from loam.wire.openai_responses_answers import (
    Item,
    Status,
    encode_response,
    item_id,
    response_of,
    status_of,
    usage_words,
)
from loam.wire.openai_responses_items import Event, Growing, GrowingCall, GrowingMessage, GrowingThought
from loam.wire.openai_responses_requests import decode_response
from loam.wire.sse import encode_event

_encode = msgspec.json.Encoder().encode
_CODES: dict[Kind, str] = {
    "rate_limit": "rate_limit_exceeded",
    "quota": "rate_limit_exceeded",
    "budget": "rate_limit_exceeded",
    "bad_request": "invalid_prompt",
    "unsupported": "invalid_prompt",
    "context_window": "invalid_prompt",
    "content_filter": "invalid_prompt",
}


class ResponseStreamEncoder:
    """Encodes one answer's deltas as the events of a response."""

    def __init__(self, call: Call, now: float) -> None:
        self._call = call
        self._now = now
        self._sequence = -1
        self._started = False
        self._head = Head()
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._output: list[Item] = []
        self._open: Growing | None = None
        self._length = 0  # characters of text so far
        self._tool = -1  # the number of the function call that was begun last

    def delta(self, delta: Delta) -> bytes:
        """The events of one delta. Raises ModelFailure (malformed) for tool calls that come mixed into each other."""
        if delta.choice:
            return b""  # this format has one answer a call
        self._note(delta)
        events = [] if self._started else self._begin()
        if delta.thinking or delta.signature or delta.redacted:
            events += self._think(delta)
        if delta.text:
            events += self._say("output_text", delta)
        if delta.refusal:
            events += self._say("refusal", delta)
        if delta.tool is not None:
            events += self._call_tool(delta.tool)
        if delta.citations:
            events += self._cite(delta)
        return b"".join(events)

    def step(self, step: Step) -> bytes:
        """Says once more that the response is in progress, which clients pass over, and how it is made."""
        events = [] if self._started else self._begin()
        told = {"technique": step.technique, "event": step.event, **step.details}
        again = {"type": "response.in_progress", "response": self._response("in_progress"), "loam": told}
        return b"".join((*events, self._event(again)))

    def end(self, loam: dict[str, Any] | None) -> bytes:
        events = [] if self._started else self._begin()
        status = status_of(self._finish)
        events += self._close(status)
        response = self._response(status)
        if loam is not None:
            response["loam"] = loam
        return b"".join((*events, self._event({"type": f"response.{status}", "response": response})))

    def error(self, failure: Failure) -> bytes:
        """Two events: the response's own end, and the `error` that makes OpenAI's SDK raise."""
        error = msgspec.json.decode(encode_error(failure, self._call.id))["error"]
        response = self._response("failed")
        response["error"] = {"code": _CODES.get(failure.kind, "server_error"), "message": failure.message}
        failed = self._event({"type": "response.failed", "response": response})
        told = {name: error[name] for name in ("code", "message", "param")}
        return failed + self._event({"type": "error", **told, "error": error})

    def _note(self, delta: Delta) -> None:
        """Keeps what is said at the end."""
        if delta.head is not None:
            self._head = delta.head
        if delta.usage is not None:
            self._usage = delta.usage
        if delta.finish is not None:
            self._finish = delta.finish

    def _event(self, words: Event) -> bytes:
        self._sequence += 1
        words["sequence_number"] = self._sequence
        return encode_event(_encode(words), words["type"])

    def _of_item(self, words: Event) -> bytes:
        words["output_index"] = len(self._output)
        return self._event(words)

    def _response(self, status: Status) -> dict[str, Any]:
        response = response_of(
            self._call, self._now, self._head, output=self._output, status=status, finish=self._finish
        )
        if self._usage is not None and status != "in_progress":
            response["usage"] = usage_words(self._usage)
        return response

    def _begin(self) -> list[bytes]:
        self._started = True
        response = self._response("in_progress")
        kinds = ("response.created", "response.in_progress")
        return [self._event({"type": kind, "response": response}) for kind in kinds]

    def _id(self, kind: Literal["msg", "fc", "rs"]) -> str:
        return item_id(self._call, kind, len(self._output))

    def _add(self, item: Growing) -> list[bytes]:
        self._open = item
        added = self._of_item({"type": "response.output_item.added", "item": item.added()})
        return [added, *map(self._of_item, item.first())]

    def _close(self, status: Status = "completed") -> list[bytes]:
        item, self._open = self._open, None
        if item is None:
            return []
        done = item.done(status)
        events = [*map(self._of_item, item.last()), self._of_item({"type": "response.output_item.done", "item": done})]
        self._output.append(done)
        return events

    def _say(self, kind: Literal["output_text", "refusal"], delta: Delta) -> list[bytes]:
        events: list[bytes] = []
        item = self._open
        if not isinstance(item, GrowingMessage) or item.kind != kind:
            events += self._close()
            item = GrowingMessage(self._id("msg"), kind, self._length)
            events += self._add(item)
        if kind == "output_text":
            self._length += len(delta.text)
            events.append(self._of_item(item.say(delta.text, delta.logprobs)))
        else:
            events.append(self._of_item(item.say(delta.refusal, None)))
        return events

    def _think(self, delta: Delta) -> list[bytes]:
        """A thought ends with its proof, and the next one is an item of its own."""
        events: list[bytes] = []
        item = self._open
        if not isinstance(item, GrowingThought):
            events += self._close()
            item = GrowingThought(self._id("rs"))
            events += self._add(item)
        events += map(self._of_item, item.think(delta))
        if delta.signature or delta.redacted:
            events += self._close()
        return events

    def _call_tool(self, tool: ToolDelta) -> list[bytes]:
        events: list[bytes] = []
        item = self._open
        if not isinstance(item, GrowingCall) or item.number != tool.index:
            if tool.index <= self._tool:
                what = "the provider mixed the pieces of its tool calls, which this format can't carry"
                raise refuse("malformed", what)
            events += self._close()
            self._tool = tool.index
            item = GrowingCall(self._id("fc"), tool)
            events += self._add(item)
        if tool.arguments:
            events.append(self._of_item(item.argue(tool.arguments)))
        return events

    def _cite(self, delta: Delta) -> list[bytes]:
        """Citations belong to the text that is open; late ones are in the `loam` object alone."""
        item = self._open
        if not isinstance(item, GrowingMessage) or item.kind != "output_text":
            return []
        return [self._of_item(item.cite(citation)) for citation in delta.citations]


RESPONSES = Border(decode_response, encode_response, ResponseStreamEncoder, encode_error)
