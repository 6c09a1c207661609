"""Collecting deltas into a whole answer, and taking a whole answer apart into deltas.

Pure but for reading the stream it is given. Invariant: `collect(deltas_of(answer)) == answer` for every answer.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from msgspec import structs

from loam.core.calls import (
    Answer,
    Choice,
    Citation,
    Delta,
    Finish,
    Head,
    SentenceCheck,
    Step,
    ToolDelta,
    Usage,
    Words,
)
from loam.core.errors import ModelFailure
from loam.core.messages import Family, Part, Text, Thinking, ToolCall


class Collector:
    """Takes deltas one by one; `answer()` is what they come to so far.

    ```python
    collector = Collector()
    collector.add(Delta(text="Hello"))
    collector.answer().text  # "Hello"
    ```
    """

    def __init__(self) -> None:
        self._choices: dict[int, _Growing] = {}
        self.usage: Usage | None = None
        self._head = Head()
        self._steps: tuple[Step, ...] = ()

    def add(self, delta: Delta) -> None:
        if type(delta) is Words and (growing := self._choices.get(delta.choice)) is not None:
            growing.say(delta.text)
            return
        if delta.head is not None:
            self._head = delta.head
        if delta.usage is not None:
            self.usage = delta.usage
        if delta.step is not None:
            self._steps += (delta.step,)
        growing = self._choices.get(delta.choice)
        if growing is None and (delta.has_content or delta.checks or delta.extra):
            growing = self._choices[delta.choice] = _Growing()
        if growing is not None:
            growing.add(delta)

    def answer(self) -> Answer:
        choices = tuple(self._choices[index].choice() for index in sorted(self._choices))
        return Answer(choices, self.usage, self._head, self._steps)

    @property
    def text_length(self) -> int:
        """UTF-8 bytes of everything said so far, tool arguments and reasoning too."""
        return sum(growing.length for growing in self._choices.values())


class _Growing:
    """One choice while its deltas come in; adjacent pieces of one kind become one part."""

    def __init__(self) -> None:
        self._parts: list[Part | list[str] | _GrowingTool | _GrowingThought] = []
        self._tools: dict[int, _GrowingTool] = {}
        self._refusal = ""
        self._logprobs: list[dict[str, Any]] | None = None
        self._citations: tuple[Citation, ...] = ()
        self._checks: tuple[SentenceCheck, ...] = ()
        self._embedding: list[float] | str | None = None
        self._finish: Finish | None = None
        self._stop_sequence: str | None = None
        self._extra: dict[str, Any] | None = None
        self._family: Family = "native"
        self.length = 0

    def add(self, delta: Delta) -> None:
        if delta.text:
            self.say(delta.text)
        if delta.thinking or delta.signature or delta.redacted:
            self._add_thought(delta)
        if delta.tool is not None:
            self._add_tool(delta.tool)
        self._refusal += delta.refusal
        if delta.logprobs is not None:
            self._logprobs = [*(self._logprobs or []), *delta.logprobs]
        if delta.embedding is not None:
            self._embedding = delta.embedding
        self._citations += delta.citations
        self._checks += delta.checks
        self._finish = delta.finish or self._finish
        self._stop_sequence = delta.stop_sequence or self._stop_sequence
        if delta.extra:
            self._extra = _merged(self._extra or {}, delta.extra)
            self._family = delta.family

    def say(self, text: str) -> None:
        self.length += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        last = self._parts[-1] if self._parts else None
        if isinstance(last, list):
            last.append(text)
        else:
            self._parts.append([text])

    def _add_thought(self, delta: Delta) -> None:
        self.length += len(delta.thinking.encode("utf-8", "replace"))
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, _GrowingThought) or last.sealed:
            last = _GrowingThought()
            self._parts.append(last)
        last.add(delta)

    def _add_tool(self, piece: ToolDelta) -> None:
        self.length += len(piece.name) + len(piece.arguments.encode("utf-8", "replace"))
        tool = self._tools.get(piece.index)
        if tool is None:
            tool = self._tools[piece.index] = _GrowingTool()
            self._parts.append(tool)
        tool.add(piece)

    def choice(self) -> Choice:
        parts = tuple(_finished(part) for part in self._parts)
        return Choice(
            parts,
            self._finish,
            self._stop_sequence,
            self._refusal,
            self._logprobs,
            self._citations,
            self._embedding,
            self._extra,
            self._family,
            self._checks,
        )


class _GrowingTool:
    def __init__(self) -> None:
        self._id = self._name = ""
        self._arguments: list[str] = []

    def add(self, piece: ToolDelta) -> None:
        self._id = self._id or piece.id
        self._name = self._name or piece.name
        self._arguments.append(piece.arguments)

    def finished(self) -> ToolCall:
        return ToolCall(self._id, self._name, "".join(self._arguments))


class _GrowingThought:
    """A block of reasoning; a signature or a sealed block ends it, and the next piece begins another."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._signature = self._redacted = ""

    @property
    def sealed(self) -> bool:
        return bool(self._signature or self._redacted)

    def add(self, delta: Delta) -> None:
        self._text.append(delta.thinking)
        self._signature += delta.signature
        self._redacted += delta.redacted

    def finished(self) -> Thinking:
        return Thinking("".join(self._text), self._signature, self._redacted)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Lists and texts grow, as streamed fields do; anything else is replaced."""
    merged = dict(old)
    for name, value in new.items():
        before: Any = merged.get(name)
        merged[name] = before + value if type(before) is type(value) and isinstance(value, (list, str)) else value
    return merged


def _finished(part: Part | list[str] | _GrowingTool | _GrowingThought) -> Part:
    if isinstance(part, list):
        return Text("".join(part))
    if isinstance(part, (_GrowingTool, _GrowingThought)):
        return part.finished()
    return part


async def collect(stream: AsyncGenerator[Delta, None]) -> Answer:
    """Reads the stream to its end and closes it."""
    collector = Collector()
    async with aclosing(stream) as deltas:
        async for delta in deltas:
            collector.add(delta)
    return collector.answer()


def as_one(deltas: list[Delta]) -> list[Delta]:
    """Head, content and usage of a plain answer in one delta, since each costs its way through every stage."""
    content = [delta for delta in deltas if delta.has_content or delta.extra]
    if len(content) != 1 or len(deltas) > 3:
        return deltas
    head, usage = content[0].head, content[0].usage
    for delta in deltas:
        head, usage = delta.head or head, delta.usage or usage
    return [structs.replace(content[0], head=head, usage=usage)]


async def refused(error: ModelFailure) -> AsyncGenerator[Delta, None]:
    """A stream that raises `error` when it is read: for a stage that knows at once that it will not answer."""
    raise error
    yield Delta()  # never reached; it makes this a generator


def deltas_of(answer: Answer) -> Iterable[Delta]:
    """The fewest deltas that come to `answer`."""
    if answer.head != Head():
        yield Delta(head=answer.head)
    for step in answer.steps:
        yield Delta(step=step)
    for index, choice in enumerate(answer.choices):
        tools = 0
        for part in choice.parts:
            if isinstance(part, Text):
                yield Delta(choice=index, text=part.text)
            elif isinstance(part, Thinking):
                yield Delta(choice=index, thinking=part.text, signature=part.signature, redacted=part.redacted)
            elif isinstance(part, ToolCall):
                yield Delta(choice=index, tool=ToolDelta(tools, part.id, part.name, part.arguments))
                tools += 1
        yield Delta(
            choice=index,
            refusal=choice.refusal,
            logprobs=choice.logprobs,
            citations=choice.citations,
            checks=choice.checks,
            embedding=choice.embedding,
            finish=choice.finish,
            stop_sequence=choice.stop_sequence,
            extra=choice.extra,
            family=choice.family,
        )
    if answer.usage is not None:
        yield Delta(usage=answer.usage)
