"""What an OpenAI-compatible provider answers: whole bodies and streamed chunks, to deltas.

Knows the dialects of compatible servers. Reads no socket: it is handed a body, or the data of one event after another.
Invariants: nothing unknown is lost (it goes into `extra`: a field beside the message as `choice.NAME`); a stream that
ends without having said that it is finished is a failure, never an answer.
"""

from typing import Any, cast

import msgspec
from msgspec import Struct

from loam.core.answers import as_one
from loam.core.calls import Delta, Finish, Head, ToolDelta, Words
from loam.core.errors import Kind, ModelFailure, fail
from loam.wire.openai_errors import error_inside
from loam.wire.openai_logprobs import LogprobsObject, decode_logprobs
from loam.wire.openai_usage import UsageObject, decode_usage


class _Called(Struct):
    name: str | None = None
    arguments: Any = None


class _ToolPiece(Struct):
    index: int | None = None
    id: str | None = None
    function: _Called | None = None


class _Said(Struct):
    """A message, or a piece of one. Some servers give its content as a list of parts, or call reasoning otherwise."""

    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolPiece] | None = None
    function_call: _Called | None = None


class ChoiceObject(Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: LogprobsObject | None = None


class _Vendor(Struct):
    usage: UsageObject | None = None
    error: Any = None


class _Body(Struct):
    """A whole answer, or one chunk of a stream: the two differ inside their choices only."""

    id: str | None = None
    model: str | None = None
    created: float | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    choices: list[ChoiceObject] | None = None
    usage: UsageObject | None = None
    x_groq: _Vendor | None = None


_object = msgspec.json.Decoder(dict[str, Any])
_text = msgspec.json.Decoder(str)

_BODY = frozenset({*_Body.__struct_fields__, "object", "obfuscation", "error"})
_CHOICE = frozenset(ChoiceObject.__struct_fields__)
_SAID = frozenset({*_Said.__struct_fields__, "role"})

_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_length": "context_window",
    "safety": "content_filter",
    "refusal": "refusal",
}
"""OpenAI's words and those of compatible servers; any other word counts as `stop` and is kept beside it."""

_BROKEN: dict[str, Kind] = {
    "error": "server",
    "abort": "truncated",
    "cancelled": "truncated",
    "insufficient_system_resource": "overloaded",
}
"""Words by which servers say that they did not finish."""


class AnswerDecoder:
    """Reads one answer of `provider`: call `whole` once, or `event` for each event's data and then `end`.

    Every method raises ModelFailure: in-band errors as what they say, what is no answer as malformed.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._head = Head(family="openai")
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._done = False

    def whole(self, body: bytes) -> list[Delta]:
        deltas = self._read(body)
        if not self._seen:
            raise self._malformed("its answer holds no choices")
        return as_one(deltas)

    def event(self, data: bytes) -> list[Delta]:
        if data == b"[DONE]":
            self._done = True
        return [] if self._done or not data else self._read(data)

    def end(self) -> None:
        """Raises ModelFailure (truncated) unless the stream said `[DONE]` or finished every choice it began."""
        if not self._done and (not self._seen or self._seen - self._finished):
            raise fail("truncated", self._provider, "the stream ended before the answer was finished")

    def _choice(self, choice: ChoiceObject, raw: dict[str, Any]) -> list[Delta]:
        """The deltas of one choice; `raw` is its JSON."""
        raise NotImplementedError

    def _read(self, data: bytes) -> list[Delta]:
        try:
            raw = _object.decode(data)
            self._check(raw)
            body = msgspec.convert(raw, _Body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._malformed(str(error)) from error
        vendor = body.x_groq
        usage = body.usage or (vendor and vendor.usage)
        if body.choices is None and usage is None:
            raise self._malformed("its answer holds no choices")
        deltas = self._changed_head(body, raw)
        for index, choice in enumerate(body.choices or ()):
            self._seen.add(choice.index)
            deltas += self._choice(choice, raw["choices"][index])
        if usage is not None:
            deltas.append(Delta(usage=decode_usage(usage)))
        return deltas

    def _check(self, raw: dict[str, Any]) -> None:
        """Raises what an answer says instead of answering."""
        error = raw.get("error") or (raw if raw.get("object") == "error" else None)
        vendor = raw.get("x_groq")
        if error is None and isinstance(vendor, dict):
            error = cast("dict[str, Any]", vendor).get("error")
        if error is not None:
            raise error_inside(error, self._provider)

    def _changed_head(self, body: _Body, raw: dict[str, Any]) -> list[Delta]:
        """What the provider says of itself: once, and again when it says more (search results in the last chunk)."""
        old = self._head
        extra = old.extra
        if not _BODY.issuperset(raw):
            extra = (extra or {}) | {
                name: value for name, value in raw.items() if name not in _BODY and value is not None
            }
        identity = body.id or old.id
        model = body.model or old.model
        if identity == old.id and model == old.model and (extra or None) == old.extra:
            return []
        self._head = Head(
            identity,
            model,
            int(body.created or old.created),
            body.system_fingerprint or old.fingerprint,
            body.service_tier or old.service_tier,
            extra or None,
            "openai",
        )
        return [Delta(head=self._head)]

    def _finish(self, choice: ChoiceObject, extra: dict[str, Any]) -> Finish | None:
        """The core's word for why it ended. Raises ModelFailure where the word means that it did not end well."""
        word = choice.finish_reason
        if not word:
            return None
        kind = _BROKEN.get(word)
        if kind is not None:
            raise fail(kind, self._provider, f"the provider broke off with finish_reason {word!r}")
        self._finished.add(choice.index)
        if word not in _FINISH:
            extra.setdefault("choice.native_finish_reason", word)
        return _FINISH.get(word, "stop")

    def _malformed(self, what: str) -> ModelFailure:
        return fail("malformed", self._provider, f"the provider sent what is no answer: {what}")


class ChatDecoder(AnswerDecoder):
    """Reads one chat completion, whole or in chunks."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self._tools: dict[int, dict[int, str]] = {}
        self._before = self._after = b""
        self._same = 0

    def event(self, data: bytes) -> list[Delta]:
        """Most chunks differ from the one before in their text alone; then only the text is read."""
        before = self._before
        if before and not self._done and data.startswith(before) and data.endswith(self._after):
            try:
                text = _text.decode(data[len(before) : len(data) - len(self._after)])
            except (msgspec.DecodeError, UnicodeDecodeError):
                return super().event(data)
            return [Words(self._same, text)] if text else []
        deltas = super().event(data)
        if len(deltas) == 1 and b'"obfuscation"' not in data:  # padding, of another length in every chunk
            self._learn(deltas[0], data)
        return deltas

    def _learn(self, delta: Delta, data: bytes) -> None:
        """Remembers what stands around the text of a chunk that holds nothing else."""
        if not delta.text or delta != Delta(choice=delta.choice, text=delta.text):
            return
        before, found, after = data.partition(b'"content":' + msgspec.json.encode(delta.text))
        if found and b'"content"' not in before and b'"content"' not in after:
            self._before, self._after, self._same = before + b'"content":', after, delta.choice

    def _choice(self, choice: ChoiceObject, raw: dict[str, Any]) -> list[Delta]:
        said = choice.delta or choice.message or _Said()
        index = choice.index
        extra = unknown(raw, raw.get("delta") or raw.get("message") or {})
        finish = self._finish(choice, extra)
        thinking, text = _content(said)
        pieces = self._tool_pieces(choice, raw, extra)
        logprobs = None
        if choice.logprobs is not None:
            logprobs = decode_logprobs(choice.logprobs, raw["logprobs"])
            if choice.logprobs.refusal:
                extra["choice.logprobs"] = {"refusal": raw["logprobs"]["refusal"]}
        deltas = [Delta(choice=index, thinking=thinking)] if thinking else []
        last = None if pieces else finish
        if text or said.refusal or logprobs or extra or last:
            deltas.append(
                Delta(
                    choice=index,
                    text=text,
                    refusal=said.refusal or "",
                    logprobs=logprobs,
                    finish=last,
                    extra=extra or None,
                    family="openai" if extra else "native",
                )
            )
        deltas += [Delta(choice=index, tool=piece) for piece in pieces]
        if pieces and finish:
            deltas.append(Delta(choice=index, finish=finish))
        return deltas

    def _tool_pieces(self, choice: ChoiceObject, raw: dict[str, Any], extra: dict[str, Any]) -> list[ToolDelta]:
        said = choice.delta or choice.message
        if said is None:
            return []
        pieces: list[ToolDelta] = []
        for place, piece in enumerate(said.tool_calls or ()):
            if piece.function is None:
                given: Any = (raw.get("delta") or raw["message"])["tool_calls"][place]
                if "custom" in given:
                    extra.setdefault("tool_calls", []).append(given)
                    continue
            name, arguments = _called(piece.function)
            position = self._position(choice.index, piece, name)
            pieces.append(ToolDelta(position, piece.id or "", name, arguments))
        if said.function_call is not None:
            pieces.append(ToolDelta(0, "", *_called(said.function_call)))
        return pieces

    def _position(self, choice: int, piece: _ToolPiece, name: str) -> int:
        """Which tool call a piece belongs to: some servers give no index, or 0 for every call."""
        known = self._tools.setdefault(choice, {})
        for position, identity in known.items():
            if piece.id and identity == piece.id:
                return position
        begins = bool(piece.id or name)
        position = piece.index
        if position is None:
            position = len(known) if begins else max(len(known) - 1, 0)
        elif piece.id and known.get(position):
            position = max(known) + 1
        known[position] = known.get(position) or piece.id or ""
        return position


def unknown(choice: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """The fields of a choice and of its message that the core has no word for."""
    extra: dict[str, Any] = {}
    if not _SAID.issuperset(said):
        extra = {name: value for name, value in said.items() if name not in _SAID and value is not None}
    if not _CHOICE.issuperset(choice):
        extra |= {f"choice.{name}": choice[name] for name in choice if name not in _CHOICE and choice[name] is not None}
    return extra


def _content(said: _Said) -> tuple[str, str]:
    """Reasoning and text; content in parts holds both."""
    thinking = said.reasoning_content or said.reasoning or ""
    if not isinstance(said.content, list):
        return thinking, said.content or ""
    text = ""
    for part in said.content:
        inner: Any = part.get("thinking") or part.get("text") or ""
        if isinstance(inner, list):
            inner = "".join(str(piece.get("text", "")) for piece in cast("list[dict[str, Any]]", inner))
        if part.get("type") == "thinking":
            thinking += str(inner)
        else:
            text += str(inner)
    return thinking, text


def _called(function: _Called | None) -> tuple[str, str]:
    """Name and arguments of a call; a server that parsed the arguments gets them written again."""
    if function is None:
        return "", ""
    arguments = function.arguments
    if arguments is None:
        arguments = ""
    return function.name or "", arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
