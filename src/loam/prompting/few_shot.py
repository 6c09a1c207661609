"""Few-shot: the model is shown questions with good answers before it gets the question.

Knows how examples become turns; which are chosen, `examples` knows. Invariants: which examples were shown is on record
by their ids; one that is the question itself is never shown; where the answer has a schema, every example fits it.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, structs

from loam.core.calls import Call, Delta, Step
from loam.core.errors import refuse
from loam.core.messages import Message, say
from loam.core.ports import Model
from loam.core.tokens import estimate
from loam.prompting.around import NOTHING, Around
from loam.prompting.examples import Example, ExampleSet, Select
from loam.prompting.schemas import Schema

NAME = "few_shot"


class Options(Struct, frozen=True, forbid_unknown_fields=True, tag=NAME, tag_field="name"):
    examples: Annotated[tuple[Example, ...], Meta(description="Examples: objects with `input` and `output`.")] = ()
    dataset: Annotated[str, Meta(description="A set of examples that the settings name, in place of `examples`.")] = ""
    k: Annotated[int, Meta(ge=1, le=50, description="How many are shown at most; 3 to 5 are usually enough.")] = 4
    select: Annotated[
        Select,
        Meta(
            description="Which are shown: `fixed` (the first), `knn` (the nearest to the question), `mmr` (near ones, "
            "no two alike)."
        ),
    ] = "fixed"


class FewShot:
    """Asks `inner` with examples as earlier turns, between the system message and the talk."""

    def __init__(self, inner: Model, options: Options, around: Around = NOTHING) -> None:
        self._inner = inner
        self._options = options
        self._around = around

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        options = self._options
        question = next((message.text for message in reversed(call.messages) if message.role == "user"), "")
        chosen = await self._set().choose(question, options.k, options.select)
        _check(call, chosen.examples)
        turns = [turn for example in chosen.examples for turn in _turns(example)]
        ids = [example.id for example in chosen.examples]
        call.trace.warn(f"few_shot showed {', '.join(ids) or 'no example'}")
        tokens = sum(estimate(turn.text) for turn in turns)
        report = {"ids": ids, "left_out": list(chosen.leaking), "select": options.select, "tokens": tokens}
        yield Delta(step=Step(NAME, "done", report))
        async with aclosing(self._inner.answer(_shown(call, turns))) as deltas:
            async for delta in deltas:
                yield delta

    def _set(self) -> ExampleSet:
        options = self._options
        if options.examples:
            return ExampleSet(options.examples, self._around.embed)
        there = self._around.datasets
        if options.dataset in there:
            return there[options.dataset]
        what = f"no set of examples is called {options.dataset!r}" if options.dataset else "there are no examples"
        names = ", ".join(there) or "none"
        raise refuse(
            "bad_request",
            f"{what}; send `examples`, or name a `dataset` of the settings ([techniques.datasets]: {names})",
            param="loam.technique.dataset" if options.dataset else "loam.technique.examples",
        )


def _turns(example: Example) -> tuple[Message, Message]:
    return say("user", example.input), say("assistant", written(example.output))


def written(output: Any) -> str:
    """How the model would have written it."""
    return output if isinstance(output, str) else msgspec.json.encode(output).decode()


def _shown(call: Call, turns: list[Message]) -> Call:
    place = next((at for at, message in enumerate(call.messages) if message.role != "system"), len(call.messages))
    return structs.replace(call, messages=(*call.messages[:place], *turns, *call.messages[place:]))


def _check(call: Call, examples: tuple[Example, ...]) -> None:
    """Raises ModelFailure (bad_request) for an example that shows what the answer must not look like."""
    if call.output is None or call.output.schema is None:
        return
    schema = Schema(call.output.schema)
    for example in examples:
        try:
            value = msgspec.json.decode(example.output) if isinstance(example.output, str) else example.output
        except msgspec.DecodeError as error:
            problem = f"it is no JSON ({error})"
        else:
            problem = next(map(str, schema.problems(value, 1)), "")
        if problem:
            raise refuse(
                "bad_request",
                f"the example {example.id} does not fit the answer's schema: {problem}; mend or leave it out",
                param="loam.technique.examples",
            )
