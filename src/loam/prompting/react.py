"""ReAct: a call with tools, for a model that calls none by itself. Think, act, and be told what came of it.

Knows the turn of a call and its place in a conversation; the forms of turns are `actions`' matter, trying again is
`structured`'s. Invariants: a call of a tool that leaves here was offered and fits the client's own schema of it; what a
model writes is never taken for what a tool said; tries, tokens and money stay within their caps.
"""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, structs

from loam.core.answers import Collector
from loam.core.calls import Answer, Call, Choice, Delta, Finish, Output, Step, ToolDelta
from loam.core.errors import ModelFailure, refuse
from loam.core.messages import Thinking
from loam.core.ports import Model
from loam.prompting import structured
from loam.prompting.actions import Actions, Turn
from loam.prompting.around import NOTHING, Around
from loam.prompting.instructing import instructed
from loam.prompting.observations import OBSERVED, has_tools, instruction, told
from loam.prompting.purse import capped
from loam.prompting.tries import INVALID

NAME = "react"
_STOP = f"\n{OBSERVED}"
"""Where a model begins to make an observation up; it can't occur in JSON, whose texts have no line ends."""
_MOST_STOPS = 4
_ENDS: tuple[Finish, ...] = ("refusal", "content_filter")
_OTHERS = frozenset({"functions", "function_call", "tool_choice"})
"""Fields of a client's body that speak of tools too."""


class Options(Struct, frozen=True, forbid_unknown_fields=True, tag=NAME, tag_field="name"):
    calling: Annotated[
        Literal["text", "auto"],
        Meta(description="`auto`: in text only where the model calls no tools by itself, or refuses them."),
    ] = "text"
    visible: Annotated[bool, Meta(description="Whether the thought is sent too, apart from answer and calls.")] = True
    mode: Annotated[
        Literal["auto", "native", "prompted"],
        Meta(
            description="Whether the provider enforces a turn's form (`native`), is told it (`prompted`), or as it can."
        ),
    ] = "auto"
    max_thought: (
        Annotated[
            int,
            Meta(ge=1, description="Longest thought in characters; left out: as many as the turn may have tokens."),
        ]
        | None
    ) = None
    max_attempts: Annotated[int, Meta(ge=1, le=10, description="How often the model is asked for a turn in all.")] = 3
    max_tokens: Annotated[int, Meta(ge=1, description="Most tokens of all tries together.")] | None = None
    max_cost_usd: Annotated[float, Meta(gt=0, description="Most that all tries may cost together.")] | None = None


USUAL = Options()


class ReAct:
    """Answers calls with tools as a model with tool calling does; a call without passes as it is."""

    def __init__(self, inner: Model, options: Options = USUAL, around: Around = NOTHING) -> None:
        self._inner = inner
        self._options = options
        self._around = around

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        if not call.tools and not has_tools(call.messages):
            return self._inner.answer(call)
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        options = self._options
        model = capped(self._inner, options.max_cost_usd, options.max_tokens, self._around.quote)
        begun = False
        if options.calling == "auto" and self._around.calls(call):
            try:
                async with aclosing(model.answer(call)) as deltas:
                    async for delta in deltas:
                        begun = begun or delta.has_content
                        yield delta
            except ModelFailure as error:
                if begun or error.failure.kind != "unsupported" or error.failure.param != "tools":
                    raise
            else:
                return
        async with aclosing(self._in_text(model, call)) as deltas:
            async for delta in deltas:
                yield delta

    async def _in_text(self, model: Model, call: Call) -> AsyncGenerator[Delta, None]:
        if call.controls.collection:
            what = (
                "a turn of ReAct can't be grounded in a collection; search it by a tool, or leave loam.collection out"
            )
            raise refuse("unsupported", what, param="loam.collection")
        if not call.tools or (call.tool_choice is not None and call.tool_choice.mode == "none"):
            async with aclosing(model.answer(without_tools(call))) as deltas:
                async for delta in deltas:
                    yield delta
            return
        most = self._options.max_thought or call.sampling.max_tokens  # about a quarter of it, so that an act has room
        actions = Actions(call, self._around.schemas, max_thought=most)
        collector, done = Collector(), dict[str, Any]()
        async with aclosing(self._tried(model, self._asked(call, actions), actions)) as deltas:
            async for delta in deltas:
                if delta.step is None:
                    collector.add(delta)
                elif delta.step.technique == structured.NAME and delta.step.event == "done":
                    done = delta.step.details
                    collector.add(structs.replace(delta, step=None))
                else:
                    yield delta
        for piece in self._deltas(call, collector.answer(), actions, done):
            yield piece

    def _asked(self, call: Call, actions: Actions) -> Call:
        asked = asked_in_text(call, actions)
        sampling = asked.sampling
        if len(sampling.stop) < _MOST_STOPS and not self._around.reasons(call):  # which take no stop strings
            sampling = structs.replace(sampling, stop=(*sampling.stop, _STOP))
        return structs.replace(asked, sampling=sampling)

    async def _tried(self, model: Model, asked: Call, actions: Actions) -> AsyncGenerator[Delta, None]:
        """Turns that can be read; the tries before them are steps. Raises ModelFailure (code invalid_output)."""
        options = self._options
        tries = structured.Options(mode=options.mode, max_attempts=options.max_attempts, stream="held")
        trying = structured.Structured(_Mute(model), tries, self._around, checks=actions)
        try:
            async with aclosing(trying.answer(asked)) as deltas:
                async for delta in deltas:
                    yield delta
        except ModelFailure as error:
            failure = error.failure
            if failure.code != INVALID:
                raise
            message = f"the model wrote no turn of ReAct that can be acted on: {failure.message}"
            raise ModelFailure(structs.replace(failure, message=message, param="tools")) from error

    def _deltas(self, call: Call, answer: Answer, actions: Actions, done: dict[str, Any]) -> list[Delta]:
        """The answer as a model with tool calling would have given it."""
        deltas = [Delta(head=answer.head)]
        called: list[str] = []
        for index, choice in enumerate(answer.choices):
            turn = _turn_of(choice, actions)
            deltas += _thoughts(index, choice)
            if turn is None:
                shown = "" if choice.text.lstrip().startswith("{") else choice.text  # half a turn is no answer
                deltas.append(Delta(choice=index, text=shown, refusal=choice.refusal, finish=choice.finish or "stop"))
                continue
            if turn.thought and self._options.visible:
                deltas.append(Delta(choice=index, thinking=turn.thought))
            for number, one in enumerate(turn.asked):
                made = ToolDelta(number, call_id(call.id, index, number), one.name, one.arguments)
                deltas.append(Delta(choice=index, tool=made))
                called.append(one.name)
            if turn.answer:
                deltas.append(Delta(choice=index, text=turn.answer))
            deltas.append(Delta(choice=index, finish="tool_calls" if turn.asked else "stop"))
        return [*deltas, Delta(step=Step(NAME, "done", {"called": called, **done}), usage=answer.usage)]


class _Mute:
    """The model with whatever calls of tools it makes by itself left out: it was offered none, so they are noise."""

    def __init__(self, inner: Model) -> None:
        self._inner = inner

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        async with aclosing(self._inner.answer(call)) as deltas:
            async for delta in deltas:
                yield delta if delta.tool is None else structs.replace(delta, tool=None)


def without_tools(call: Call) -> Call:
    """The call with its conversation told in text, and no tools to call."""
    return structs.replace(
        call,
        messages=told(call.messages, turns=False),
        tools=(),
        tool_choice=None,
        sampling=structs.replace(call.sampling, parallel_tool_calls=None),
        extra={name: value for name, value in call.extra.items() if name not in _OTHERS},
    )


def asked_in_text(call: Call, actions: Actions) -> Call:
    """The call as a model without tool calling is asked it, the first time."""
    plain = without_tools(call)
    formed = call.output is not None
    messages = told(call.messages, turns=True, several=actions.several, formed=formed)
    tools = [(tool.name, tool.description, tool.parameters) for tool in actions.tools]
    asked = structs.replace(
        plain,
        messages=messages,
        output=Output("schema", actions.schema(), name="turn", told=call.output is None),
        sampling=structs.replace(plain.sampling, logprobs=False, top_logprobs=None),
    )
    return instructed(asked, instruction(tools, several=actions.several, may_answer=actions.may_answer))


def _turn_of(choice: Choice, actions: Actions) -> Turn | None:
    """The turn that a choice holds; None where it says itself that it is none: refused, filtered."""
    if choice.refusal or choice.finish in _ENDS:
        return None
    return actions.turn(msgspec.json.decode(choice.text))


def _thoughts(index: int, choice: Choice) -> list[Delta]:
    """What a model that reasons by itself thought before it wrote its turn."""
    return [
        Delta(choice=index, thinking=part.text, signature=part.signature, redacted=part.redacted)
        for part in choice.parts
        if isinstance(part, Thinking)
    ]


def call_id(call: str, choice: int, number: int) -> str:
    """An id of nine letters and digits, as the strictest provider demands; the same turn of the same call has it."""
    return hashlib.blake2s(f"{call}/{choice}/{number}".encode()).hexdigest()[:9]
