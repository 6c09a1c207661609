"""A provider that follows a script: for the tests of programs that use models.

Knows the core words only. Invariant: the same script gives the same answers, whatever the machine does.
"""

from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from loam.core.calls import Call, Delta, Head, ToolDelta, Usage, Words
from loam.core.clock import Clock, SystemClock
from loam.core.errors import Failure, ModelFailure
from loam.core.ports import Transport
from loam.core.tokens import counted_input, estimate
from loam.providers.provider import ProviderKind, ProviderSettings
from loam.providers.script import Line

_LETTERS = 32  # values of a made-up vector
_REMEMBERED = 100

Said = str | Line | ModelFailure
Entry = Said | Callable[[Call], Said]
"""What comes next: a text, a line, a failure to raise, or a function of the call that gives one of these."""

ECHO = Line(text="{question}")
SLOW = Line(text="{question}", pause=1.0)


class Scripted:
    """A Model that says its entries in order, and the last one for ever; without any it repeats the question.

    ```python
    model = Scripted(["first", Line(fail="rate_limit", status=429), lambda call: f"to {call.principal.user}"])
    answer = await collect(model.answer(call))
    model.calls[-1].messages
    ```

    In loam.toml the same is `[providers.fake]` with `kind` and `script = [{text = "first"}, {fail = "rate_limit"}]`.
    Two model names have lines of their own: `echo` repeats the question, `slow` does so a word a second.
    """

    def __init__(self, script: Sequence[Entry] = (), *, name: str = "scripted", clock: Clock | None = None) -> None:
        self._script = tuple(script) or (ECHO,)
        self._name = name
        self._clock = clock or SystemClock()
        self._next = 0
        self.calls: list[Call] = []
        """The last hundred calls, for tests to look at."""

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        self.calls = [*self.calls[1 - _REMEMBERED :], call]
        model = call.target.model if call.target is not None else call.model
        if call.task in ("embed", "count"):
            return _counted(call, model)
        return self._say(call, model, self._entry(model))

    def _entry(self, model: str) -> Entry:
        if model in ("echo", "slow"):
            return ECHO if model == "echo" else SLOW
        entry = self._script[min(self._next, len(self._script) - 1)]
        self._next += 1
        return entry

    async def _say(self, call: Call, model: str, entry: Entry) -> AsyncGenerator[Delta, None]:
        said = entry(call) if callable(entry) else entry
        if isinstance(said, ModelFailure):
            raise said
        line = Line(text=said) if isinstance(said, str) else said
        await self._pause(line.first_pause)
        pieces = [*_pieces(line.thinking, thinking=True), *_pieces(line.text.replace("{question}", _question(call)))]
        pieces += [
            Delta(tool=ToolDelta(index, f"tool_{index}", tool.name, msgspec.json.encode(tool.arguments).decode()))
            for index, tool in enumerate(line.tools)
        ]
        if line.fail is not None:
            pieces = pieces[: line.after]
        if pieces or line.fail is None:
            yield Delta(head=Head(id=call.id, model=model))
        for piece in pieces:
            await self._pause(line.pause)
            yield piece
        if line.fail is not None:
            raise self._failure(line)
        yield Delta(finish=line.finish or ("tool_calls" if line.tools else "stop"))
        tokens = line.usage or (counted_input(call), sum(estimate(piece.text + piece.thinking) for piece in pieces))
        yield Delta(usage=Usage(input=tokens[0], output=tokens[1]))

    async def _pause(self, seconds: float) -> None:
        if seconds:
            await self._clock.sleep(seconds)

    def _failure(self, line: Line) -> ModelFailure:
        kind = line.fail or "server"
        message = line.message or f"{self._name} fails here, as its script says ({kind})"
        return ModelFailure(
            Failure(kind=kind, message=message, status=line.status, provider=self._name, retry_after=line.retry_after)
        )


async def _counted(call: Call, model: str) -> AsyncGenerator[Delta, None]:
    """The answer to a call that wants vectors or a count."""
    yield Delta(head=Head(model=model))
    for index, text in enumerate(call.inputs if call.task == "embed" else ()):
        yield Delta(choice=index, embedding=_vector(str(text)))
    yield Delta(usage=Usage(input=counted_input(call)))


def _question(call: Call) -> str:
    asked = [message.text for message in call.messages if message.role == "user"]
    return asked[-1] if asked else " ".join(str(text) for text in call.inputs)


def _pieces(text: str, *, thinking: bool = False) -> list[Delta]:
    """Words with the space before them."""
    words = [word if number == 0 else f" {word}" for number, word in enumerate(text.split(" "))] if text else []
    return [Delta(thinking=word) if thinking else Words(text=word) for word in words]


def _vector(text: str) -> list[float]:
    """A unit vector that depends on the text alone: texts that share letters point alike."""
    counts = [1e-9] * _LETTERS
    for letter in text.lower():
        counts[ord(letter) % _LETTERS] += 1.0
    length = sum(count * count for count in counts) ** 0.5
    return [count / length for count in counts]


def _build(name: str, settings: ProviderSettings, transport: Transport, clock: Clock) -> Scripted:
    return Scripted(settings.script, name=name, clock=clock)


KIND = ProviderKind(name="scripted", title="A script, for tests", build=_build, prices="free")
