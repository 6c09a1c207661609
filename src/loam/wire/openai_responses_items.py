"""The items of a Responses stream while they grow: what each one tells when it begins, goes on and ends.

Each knows its own events but for `output_index` and `sequence_number`, which belong to the stream. Invariant: `done` is
the item that a whole answer would show.
"""

from typing import Any, Literal

from loam.core.calls import Citation, Delta, ToolDelta
from loam.core.messages import Thinking, ToolCall
from loam.wire.openai_responses_answers import (
    Item,
    Status,
    annotation_of,
    call_item,
    logprob_of,
    message_item,
    refusal_part,
    text_part,
)
from loam.wire.openai_responses_reasoning import reasoning_item

Event = dict[str, Any]


class GrowingMessage:
    """A message of one part: text, which begins at `start` of the answer's text, or a refusal."""

    def __init__(self, identity: str, kind: Literal["output_text", "refusal"], start: int) -> None:
        self.kind = kind
        self._id = identity
        self._start = start
        self._place: Event = {"item_id": identity, "content_index": 0}
        self._pieces: list[str] = []
        self._annotations: list[Item] = []
        self._logprobs: list[Item] = []

    def added(self) -> Item:
        return message_item(self._id, None, "in_progress")

    def first(self) -> list[Event]:
        return [{"type": "response.content_part.added", **self._place, "part": self._part()}]

    def say(self, text: str, logprobs: list[Item] | None) -> Event:
        self._pieces.append(text)
        event: Event = {"type": f"response.{self.kind}.delta", **self._place, "delta": text}
        if self.kind == "output_text":
            event["logprobs"] = [logprob_of(entry) for entry in logprobs or ()]
            self._logprobs += event["logprobs"]
        return event

    def cite(self, citation: Citation) -> Event:
        annotation = annotation_of(citation, self._start)
        place = {**self._place, "annotation_index": len(self._annotations)}
        self._annotations.append(annotation)
        return {"type": "response.output_text.annotation.added", **place, "annotation": annotation}

    def last(self) -> list[Event]:
        part = self._part()
        said = {name: part[name] for name in ("text", "refusal", "logprobs") if name in part}
        return [
            {"type": f"response.{self.kind}.done", **self._place, **said},
            {"type": "response.content_part.done", **self._place, "part": part},
        ]

    def done(self, status: Status) -> Item:
        return message_item(self._id, self._part(), status)

    def _part(self) -> Item:
        text = "".join(self._pieces)
        if self.kind == "refusal":
            return refusal_part(text)
        return {**text_part(text), "annotations": self._annotations, "logprobs": self._logprobs}


class GrowingThought:
    """A thought, told as the summary of a reasoning item."""

    kind = "reasoning"

    def __init__(self, identity: str) -> None:
        self._id = identity
        self._place: Event = {"item_id": identity, "summary_index": 0}
        self._pieces: list[str] = []
        self._signature = self._redacted = ""

    def added(self) -> Item:
        return reasoning_item(Thinking(), self._id)

    def first(self) -> list[Event]:
        return []

    def think(self, delta: Delta) -> list[Event]:
        self._signature += delta.signature
        self._redacted += delta.redacted
        if not delta.thinking:
            return []
        events: list[Event] = []
        if not self._pieces:
            part = {"type": "summary_text", "text": ""}
            events.append({"type": "response.reasoning_summary_part.added", **self._place, "part": part})
        self._pieces.append(delta.thinking)
        events.append({"type": "response.reasoning_summary_text.delta", **self._place, "delta": delta.thinking})
        return events

    def last(self) -> list[Event]:
        if not self._pieces:
            return []
        text = "".join(self._pieces)
        part = {"type": "summary_text", "text": text}
        return [
            {"type": "response.reasoning_summary_text.done", **self._place, "text": text},
            {"type": "response.reasoning_summary_part.done", **self._place, "part": part},
        ]

    def done(self, status: Status) -> Item:
        return reasoning_item(Thinking("".join(self._pieces), self._signature, self._redacted), self._id)


class GrowingCall:
    """A function call; `number` is its place among the answer's calls."""

    kind = "function_call"

    def __init__(self, identity: str, tool: ToolDelta) -> None:
        self.number = tool.index
        self._id = identity
        self._tool = tool
        self._pieces: list[str] = []

    def added(self) -> Item:
        return self._item("in_progress")

    def first(self) -> list[Event]:
        return []

    def argue(self, arguments: str) -> Event:
        self._pieces.append(arguments)
        return {"type": "response.function_call_arguments.delta", "item_id": self._id, "delta": arguments}

    def last(self) -> list[Event]:
        said = {"item_id": self._id, "name": self._tool.name, "arguments": "".join(self._pieces)}
        return [{"type": "response.function_call_arguments.done", **said}]

    def done(self, status: Status) -> Item:
        return self._item(status)

    def _item(self, status: Status) -> Item:
        return call_item(self._id, ToolCall(self._tool.id, self._tool.name, "".join(self._pieces)), status)


Growing = GrowingMessage | GrowingThought | GrowingCall
