"""A provider's Messages answer, whole or as events, to the core's deltas.

Knows what Anthropic's API sends, and that other servers imitate it loosely. Invariants: a stream without `message_stop`
never ends well; what the core has no word for goes on in `extra`, so that a client of the same format gets it whole:

    blocks     [{"index", "block"}]     blocks of the provider's own tools, and blocks not known yet
    fields     [{"index", "fields"}]    more fields of a tool_use block
    citations  [{"index", "citation"}]  citations of a text block
    splits     [offset]                 where in the answer's text a new text block begins without another between

where `index` is the block's place in the answer's content, and anything else is a field of the message's end.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from loam.core.calls import Delta, Finish, Head, ToolDelta, Usage, Words
from loam.core.errors import ModelFailure, fail
from loam.wire.anthropic_endings import USAGE_WORDS, finish_of, usage_of
from loam.wire.anthropic_errors import event_failure

T = TypeVar("T")


class _Piece(Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: dict[str, Any] | None = None


class _Event(Struct):
    type: str = ""
    index: int = 0
    delta: _Piece | None = None
    content_block: Raw = Raw(b"null")
    message: Raw = Raw(b"null")


class _Block(Struct):
    type: str
    text: str = ""
    citations: list[dict[str, Any]] | None = None
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: Raw = Raw(b"{}")


class _Message(Struct):
    type: str = ""
    id: str = ""
    model: str = ""
    content: list[Raw] = []
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: dict[str, Any] | None = None


class _End(Struct):
    """A `message_delta` event."""

    delta: dict[str, Any] = {}
    usage: dict[str, Any] | None = None
    context_management: Any = None


class _Count(Struct):
    input_tokens: int


class _Open(Struct):
    """A block on its way: `place` in the content, `number` among the tool calls, `native` where no core word fits.

    `early` holds citations that came before any text of the block; they follow its first text.
    """

    place: int = -1
    number: int = -1
    native: dict[str, Any] | None = None
    pieces: list[str] = []
    early: list[dict[str, Any]] = []


_event = Decoder(_Event)
_block = Decoder(_Block)
_message = Decoder(_Message)
_end = Decoder(_End)
_count = Decoder(_Count)
_fields = Decoder(dict[str, Any])

_BLOCK_FIELDS = frozenset(_Block.__struct_fields__)
_ENDING_FIELDS = ("stop_details", "container", "context_management")
_MESSAGE_FIELDS = frozenset((*_Message.__struct_fields__, *_ENDING_FIELDS, "role"))


def decode_counted(body: bytes, provider: str) -> list[Delta]:
    """The answer of /v1/messages/count_tokens. Raises ModelFailure (malformed)."""
    return [Delta(usage=Usage(input=_read(body, _count, provider).input_tokens))]


def _read(data: bytes | Raw, decoder: Decoder[T], provider: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(provider, str(error)) from error


def _malformed(provider: str, what: str) -> ModelFailure:
    return fail("malformed", provider, f"{provider} sent an answer that is not in Anthropic's format: {what}")


class MessagesDecoder:
    """Decodes one answer: `whole` for a JSON body, or `event` for each event and then `end`.

    Every method raises ModelFailure: malformed for what can't be read, or the kind of an error that the provider sent.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._open: dict[int, _Open] = {}
        self._counts: dict[str, Any] = {}
        self._places = 0
        self._tools = 0
        self._length = 0  # characters of text so far
        self._after_text = False  # whether the last block that the core has a word for was text
        self._stopped = False

    def whole(self, body: bytes) -> list[Delta]:
        """The deltas of a whole answer."""
        message = self._read(body, _message)
        if message.type == "error":
            raise event_failure(body, self._provider)
        if message.type != "message":
            raise _malformed(self._provider, f"its type is {message.type!r}, not 'message'")
        fields = self._read(body, _fields)
        deltas = self._head(message, fields)
        for index, raw in enumerate(message.content):
            deltas += self._start(index, raw)
            deltas += self._stop(index)
        return [*deltas, self._ending(fields, message.usage)]

    def event(self, event_name: str, data: bytes) -> list[Delta]:
        """The deltas of one event; `event_name` is only looked at where the data does not say its type."""
        event = self._read(data, _event)
        match event.type or event_name:
            case "content_block_delta":
                return self._continue(event)
            case "content_block_start":
                return self._start(event.index, event.content_block)
            case "content_block_stop":
                return self._stop(event.index)
            case "message_start":
                return self._head(self._read(event.message, _message), self._read(event.message, _fields))
            case "message_delta":
                end = self._read(data, _end)
                return [self._ending({**end.delta, "context_management": end.context_management}, end.usage)]
            case "message_stop":
                self._stopped = True
                return []
            case "error":
                raise event_failure(data, self._provider)
            case "":
                raise _malformed(self._provider, "an event without a type")
            case _:  # ping, and what may be invented later
                return []

    def end(self) -> None:
        """To be called when the stream has ended. Raises ModelFailure (truncated) if the answer is not whole."""
        if not self._stopped:
            raise fail("truncated", self._provider, f"{self._provider} ended its stream in the middle of the answer")

    def _read(self, data: bytes | Raw, decoder: Decoder[T]) -> T:
        return _read(data, decoder, self._provider)

    def _head(self, message: _Message, fields: dict[str, Any]) -> list[Delta]:
        extra = {name: value for name, value in fields.items() if name not in _MESSAGE_FIELDS and value is not None}
        usage = message.usage or {}
        if more := {name: value for name, value in usage.items() if name not in USAGE_WORDS and value is not None}:
            extra["usage"] = more
        tier = usage.get("service_tier")
        head = Head(
            id=message.id,
            model=message.model,
            service_tier=tier if isinstance(tier, str) else "",
            extra=extra or None,
            family="anthropic",
        )
        counted = self._usage(usage)
        return [Delta(head=head, usage=counted if counted is not None and counted.input else None)]

    def _usage(self, counts: dict[str, Any] | None) -> Usage | None:
        """The account so far: later counts replace earlier ones, and what is not repeated stays."""
        if counts is None:
            return None
        self._counts |= {name: value for name, value in counts.items() if value is not None}
        try:
            return usage_of(self._counts)
        except msgspec.ValidationError as error:
            raise _malformed(self._provider, str(error)) from error

    def _start(self, index: int, raw: Raw) -> list[Delta]:
        block = self._read(raw, _block)
        opened = self._open[index] = _Open()
        match block.type:
            case "text":
                return [*self._text(opened, block.text), *self._citations(opened, block.citations or [])]
            case "thinking":
                return self._thought(opened, Delta(thinking=block.thinking, signature=block.signature))
            case "redacted_thinking":
                return self._thought(opened, Delta(redacted=block.data))
            case "tool_use":
                return self._call(opened, block, raw)
            case _:
                opened.native = self._read(raw, _fields)
                self._take_place(opened, core=False)
                return []

    def _continue(self, event: _Event) -> list[Delta]:
        opened, piece = self._open.get(event.index), event.delta
        if opened is None or piece is None:
            raise _malformed(self._provider, "a piece of a block that was never started")
        match piece.type:
            case "text_delta":
                return self._text(opened, piece.text)
            case "input_json_delta":
                return self._argument(opened, piece.partial_json)
            case "thinking_delta":
                return self._thought(opened, Delta(thinking=piece.thinking))
            case "signature_delta":
                return self._thought(opened, Delta(signature=piece.signature))
            case "citations_delta":
                return self._citations(opened, [piece.citation] if piece.citation else [])
            case _:
                return []

    def _stop(self, index: int) -> list[Delta]:
        opened = self._open.pop(index, None)
        if opened is None:
            raise _malformed(self._provider, "the end of a block that was never started")
        if opened.native is not None:
            if opened.pieces:
                opened.native["input"] = self._read("".join(opened.pieces).encode(), _fields)
            return [_passed("blocks", {"index": opened.place, "block": opened.native})]
        if opened.number >= 0 and not opened.pieces:
            return [Delta(tool=ToolDelta(opened.number, arguments="{}"))]
        return []

    def _text(self, opened: _Open, text: str) -> list[Delta]:
        if not text:
            return []
        offset, follows_text = self._length, self._after_text
        self._length += len(text)
        if opened.place >= 0:
            return [Words(text=text)]
        self._take_place(opened, core=True)
        self._after_text = True
        early, opened.early = opened.early, []
        splits = [_passed("splits", offset)] if follows_text else []
        return [*splits, Delta(text=text), *self._citations(opened, early)]

    def _citations(self, opened: _Open, citations: list[dict[str, Any]]) -> list[Delta]:
        if opened.place < 0:
            opened.early += citations
            return []
        return [_passed("citations", {"index": opened.place, "citation": citation}) for citation in citations]

    def _thought(self, opened: _Open, delta: Delta) -> list[Delta]:
        if not delta.has_content:
            return []
        self._take_place(opened, core=True)
        return [delta]

    def _call(self, opened: _Open, block: _Block, raw: Raw) -> list[Delta]:
        self._take_place(opened, core=True)
        opened.number, self._tools = self._tools, self._tools + 1
        fields = self._read(raw, _fields)
        more = {name: value for name, value in fields.items() if name not in _BLOCK_FIELDS and value is not None}
        arguments = "" if fields.get("input") in (None, {}) else bytes(block.input).decode()
        if arguments:
            opened.pieces = [arguments]
        return [
            Delta(
                tool=ToolDelta(opened.number, block.id, block.name, arguments),
                extra={"fields": [{"index": opened.place, "fields": more}]} if more else None,
                family="anthropic",
            )
        ]

    def _argument(self, opened: _Open, partial: str) -> list[Delta]:
        if not partial:
            return []
        if opened.native is None and opened.number < 0:
            raise _malformed(self._provider, "input for a block that is no tool")
        opened.pieces.append(partial)
        return [] if opened.native is not None else [Delta(tool=ToolDelta(opened.number, arguments=partial))]

    def _take_place(self, opened: _Open, *, core: bool) -> None:
        """Numbers blocks when something of them comes, so that empty ones, which nobody repeats, don't count."""
        if opened.place < 0:
            opened.place, self._places = self._places, self._places + 1
            self._after_text = self._after_text and not core

    def _ending(self, fields: dict[str, Any], usage: dict[str, Any] | None) -> Delta:
        reason, sequence = fields.get("stop_reason"), fields.get("stop_sequence")
        finish: Finish | None = None
        extra = {name: fields[name] for name in _ENDING_FIELDS if fields.get(name) is not None}
        if isinstance(reason, str):
            finish = finish_of(reason)
            if finish is None:
                finish, extra["stop_reason"] = "stop", reason
        return Delta(
            finish=finish,
            stop_sequence=sequence if isinstance(sequence, str) else None,
            usage=self._usage(usage),
            extra=extra or None,
            family="anthropic",
        )


def _passed(word: str, value: Any) -> Delta:
    return Delta(extra={word: [value]}, family="anthropic")
