"""The parts of having a structured answer: one try on the bill, what is wrong with it, and how it is asked again.

Knows schemas' problems and streams; the order of it all is `structured`'s matter. Invariants: what is asked again holds
one failed try, the last; in a live stream nothing passes that says the answer has ended before it was checked.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol

from msgspec import Struct, structs

from loam.core.answers import Collector, deltas_of
from loam.core.branches import added
from loam.core.calls import Answer, Call, Choice, Delta, Finish, Step, Usage
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import Message, Part, Text, say
from loam.core.money import Money, dollars
from loam.core.ports import Model
from loam.prompting.fitting import JSON_ONLY, NAME
from loam.prompting.instructing import instructed
from loam.prompting.json_text import json_in, partial
from loam.prompting.purse import CAP
from loam.prompting.schemas import Problem

Stream = Literal["auto", "live", "held"]
INVALID = "invalid_output"
"""The code of the failure where no answer fits."""
_SHOWN = 8_000  # characters of a failed try that the model is shown again
_OWN_ENDS: tuple[Finish, ...] = ("refusal", "content_filter")  # they say themselves that there is no answer
_CUT: tuple[Finish, ...] = ("length", "context_window")
REASON_FIRST = (
    "Think the question through in plain text: what is asked, what is known, and what follows, step by step. Do not "
    "write JSON yet; the answer is put into its form afterwards."
)


class Verdict(Struct, frozen=True):
    """What is wrong with an answer; none of it: `answer` fits, with the JSON alone as its text.

    `final` says that to ask again the same way would end the same way.
    """

    answer: Answer
    problems: tuple[Problem, ...] = ()
    final: bool = False


Also = Callable[[str], Sequence[Problem]]


class Checks(Protocol):
    """What an answer is held to: a schema, or rules that say better what is wrong."""

    def problems(self, value: Any, most: int = 10) -> tuple[Problem, ...]: ...


def judge(answer: Answer, schema: Checks, *, live: bool, also: Also | None = None) -> Verdict:
    """Whether an answer fits. What was sent `live` must be JSON as it stands; else words around it are cut off."""
    choice = answer.choices[0] if answer.choices else Choice()
    if answer.tool_calls or choice.refusal or choice.finish in _OWN_ENDS:
        return Verdict(answer)
    found = json_in(choice.text)
    if found is not None and live and found.text != choice.text.strip():
        found = None
    problems = (Problem("", "it is no JSON value"),) if found is None else schema.problems(found.value)
    if found is not None and not problems and also is not None:
        problems = tuple(also(found.text))
    if found is None or problems:
        cut = choice.finish in _CUT
        problems = (Problem("", "it was cut off by max_tokens"), *problems) if cut else problems
        return Verdict(answer, problems, final=cut)
    if found.text == choice.text:
        return Verdict(answer)
    others: list[Part] = [part for part in choice.parts if not isinstance(part, Text)]
    told = structs.replace(choice, parts=(*others, Text(found.text)), logprobs=None)
    return Verdict(structs.replace(answer, choices=(told, *answer.choices[1:])))


def asked_again(call: Call, verdict: Verdict) -> Call:
    """The call with its last failed try and what is wrong with it, in place of any try before."""
    text = verdict.answer.text
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN // 2]}\n[…]\n{text[-_SHOWN // 2 :]}"
    wrong = "\n".join(f"- {problem}" for problem in verdict.problems)
    said = f"That answer does not fit the JSON Schema:\n{wrong}\nWrite the whole answer again, mended. {JSON_ONLY}"
    turns: list[Message] = [say("assistant", text)] if text.strip() else []
    return structs.replace(call, messages=(*call.messages, *turns, say("user", said)))


def thinking_of(call: Call) -> Call:
    """The first of two passes: the question without its form."""
    return instructed(structs.replace(call, output=None, stream=False), REASON_FIRST)


def with_reasoning(call: Call, reasoned: Answer) -> Call:
    """The second pass: the reasoning is there, and only its result is wanted, in its form."""
    wish = say("user", f"Now give the answer that this comes to, in the form that was asked for. {JSON_ONLY}")
    turns = [say("assistant", reasoned.text)] if reasoned.text.strip() else []
    return structs.replace(call, messages=(*call.messages, *turns, wish))


class Tries:
    """The calls made for one answer, one after the other, on the call's own trace."""

    def __init__(self, model: Model, call: Call) -> None:
        self._model = model
        self._trace = call.trace
        self.usage = Usage()
        self.report: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}

    @property
    def made(self) -> int:
        return len(self.report)

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """One try. Raises ModelFailure; where a cap stands in the way, with the tries before it."""
        usage: Usage | None = None
        before = self._trace.cost
        try:
            async with aclosing(self._model.answer(call)) as deltas:
                async for delta in deltas:
                    usage = delta.usage or usage
                    yield delta
        except ModelFailure as error:
            if error.failure.code == CAP and self.report:
                raise self.failure("cap") from error
            raise
        self.usage = added(self.usage, usage)
        cost = None if self._trace.cost is None else self._trace.cost - (before or 0)
        self._last = _used(usage, cost)

    def note(self, verdict: Verdict) -> None:
        """Puts the try that just ended on record."""
        problems = [str(problem) for problem in verdict.problems]
        self.report.append({"attempt": self.made + 1, "valid": not problems, "problems": problems, **self._last})
        if problems:
            self._trace.warn(f"try {self.made} did not fit the schema: {problems[0]}")

    def summary(self, mode: dict[str, Any]) -> dict[str, Any]:
        return {**mode, "attempts": self.report}

    def failure(self, why: Literal["attempts", "cap", "final", "streamed"]) -> ModelFailure:
        """The verdict where no answer fits, with every try and what it used."""
        problems = "; ".join(self.report[-1]["problems"][:3])
        asker = self._trace.attempts[-1].provider if self._trace.attempts else "the model"
        message = f"no answer fits the JSON Schema, {_WHY[why].format(made=self.made)}: {problems}"
        used = {"input_tokens": self.usage.input, "output_tokens": self.usage.output}
        return ModelFailure(
            Failure(
                kind="malformed",
                message=message,
                provider=asker or "the model",
                should_retry=False,
                code=INVALID,
                param="response_format",
                details={"attempts": self.report, "usage": used},
            )
        )


_WHY = {
    "attempts": "not after {made} tries (loam.technique.max_attempts allows no more)",
    "cap": "and the cap of loam.technique leaves no room for another try after {made}",
    "final": "since it was cut off; allow it a larger max_tokens",
    "streamed": "and it had been sent as it came; ask with stream = held to have it mended",
}


def _used(usage: Usage | None, cost: Money | None) -> dict[str, Any]:
    tokens = {} if usage is None else {"input_tokens": usage.input, "output_tokens": usage.output}
    return {**tokens, "cost_usd": None if cost is None else dollars(cost)}


class Gate:
    """What of one try may pass before it is checked: nothing, or in a live stream everything but its end."""

    def __init__(self, call: Call, stream: Stream) -> None:
        self._streams = call.stream
        self._wish = stream
        self._watched = call.stream and call.controls.metadata
        self._live = call.stream and stream == "live"
        self._said = Collector()
        self._text: list[str] = []
        self._length = 0
        self._told = 0
        self.mode: dict[str, Any] = {}
        self.passed = False

    def see(self, delta: Delta) -> list[Delta]:
        """What passes on account of a new delta: itself, or a step on how far the answer is."""
        if delta.step is not None:
            if delta.step.technique == NAME and delta.step.event == "mode":
                self.mode = delta.step.details
                self._live = self._live or (self._streams and self._wish == "auto" and self.mode["mode"] == "native")
            return [delta]
        self._said.add(delta)
        if self._live:
            return self._pass(delta)
        return self._partial(delta.text) if self._watched and delta.text else []

    def _pass(self, delta: Delta) -> list[Delta]:
        if delta.finish is None and delta.usage is None:
            self.passed = self.passed or delta.has_content
            return [delta]
        rest = structs.replace(delta, finish=None, usage=None)
        self.passed = self.passed or rest.has_content
        return [rest] if rest != Delta(choice=delta.choice, family=delta.family) else []

    def _partial(self, text: str) -> list[Delta]:
        """Half of a value now and then: each time it has grown by a quarter, so that all of them cost one reading."""
        self._text.append(text)
        self._length += len(text)
        if self._length < self._told + max(24, self._told // 4):
            return []
        self._told = self._length
        value = partial("".join(self._text))
        return [] if value is None else [Delta(step=Step(NAME, "partial", {"value": value}))]

    def answer(self) -> Answer:
        return structs.replace(self._said.answer(), steps=())

    def rest(self, answer: Answer) -> list[Delta]:
        """What is still to be sent of the answer that fits, its usage aside."""
        if not self.passed:
            return list(deltas_of(structs.replace(answer, usage=None)))
        return [
            Delta(choice=index, finish=choice.finish, stop_sequence=choice.stop_sequence)
            for index, choice in enumerate(answer.choices)
        ]
