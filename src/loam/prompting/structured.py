"""Structured output: an answer that fits the client's own JSON Schema, or a failure that says what was tried.

Knows schemas, tries and caps; how a provider is held to a schema, `fitting` knows. Invariants (P6): no answer that
breaks the schema ends as a success, streamed or whole; what is asked again never grows from try to try; neither tries
nor tokens nor money go beyond their caps.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs

from loam.core.answers import collect, deltas_of
from loam.core.branches import Branches
from loam.core.calls import Answer, Call, Delta, Output, Step
from loam.core.errors import ModelFailure, refuse
from loam.core.ports import Model
from loam.prompting.around import NOTHING, Around
from loam.prompting.fitting import NAME
from loam.prompting.purse import capped
from loam.prompting.samples import Sampler, split
from loam.prompting.tries import Also, Checks, Gate, Stream, Tries, asked_again, judge, thinking_of, with_reasoning


class Options(Struct, frozen=True, forbid_unknown_fields=True, tag=NAME, tag_field="name"):
    mode: Annotated[
        Literal["auto", "native", "prompted"],
        Meta(description="Whether the provider enforces the schema (`native`), is told it (`prompted`), or as it can."),
    ] = "auto"
    max_attempts: Annotated[int, Meta(ge=1, le=10, description="How often the model is asked in all.")] = 3
    max_tokens: Annotated[int, Meta(ge=1, description="Most tokens of all tries together.")] | None = None
    max_cost_usd: Annotated[float, Meta(gt=0, description="Most that all tries may cost together.")] | None = None
    two_pass: Annotated[bool, Meta(description="Reason in free text first, then write the answer.")] = False
    stream: Annotated[
        Stream,
        Meta(
            description="In a stream: `held` sends the answer once it is checked, `live` as it comes, and breaks off "
            "if it turns out wrong; `auto` is live where the provider enforces the schema."
        ),
    ] = "auto"
    schema: Annotated[dict[str, Any], Meta(description="The schema, where the call has none.")] | None = None


USUAL = Options()


class Structured:
    """Answers of `inner`, checked against the schema of `call.output`; what does not fit is asked again.

    `also` says what else is wrong with the text of an answer that fits: rules that a schema has no words for. `checks`
    are rules to hold it to in the place of the schema, where they say better what is wrong.
    """

    def __init__(
        self,
        inner: Model,
        options: Options = USUAL,
        around: Around = NOTHING,
        *,
        also: Also | None = None,
        checks: Checks | None = None,
    ) -> None:
        self._inner = inner
        self._options = options
        self._around = around
        self._also = also
        self._checks = checks

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        options = self._options
        output = call.output or (Output("schema", options.schema) if options.schema is not None else Output("json"))
        call = structs.replace(call, output=structs.replace(output, mode=options.mode))
        return self._run(call) if call.sampling.n == 1 else self._several(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        options = self._options
        schema = self._schema(call)
        model = capped(self._inner, options.max_cost_usd, options.max_tokens, self._around.quote)
        tries = Tries(model, call)
        if options.two_pass:
            reasoned = await collect(tries.stream(thinking_of(call)))
            yield Delta(step=Step(NAME, "reasoned", {"text": reasoned.text} if call.controls.metadata else {}))
            call = with_reasoning(call, reasoned)
        asked = call
        while True:
            gate = Gate(call, options.stream)
            async with aclosing(tries.stream(asked)) as deltas:
                async for delta in deltas:
                    for piece in gate.see(delta):
                        yield piece
            verdict = judge(gate.answer(), schema, live=gate.passed, also=self._also)
            tries.note(verdict)
            if not verdict.problems:
                break
            final = gate.passed or verdict.final or tries.made >= options.max_attempts
            if final:
                raise tries.failure("streamed" if gate.passed else "final" if verdict.final else "attempts")
            yield Delta(step=Step(NAME, "retry", tries.report[-1]))
            asked = asked_again(call, verdict)
        for piece in gate.rest(verdict.answer):
            yield piece
        yield Delta(step=Step(NAME, "done", tries.summary(gate.mode)), usage=tries.usage)

    async def _several(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Several answers: each is had by itself, and all of them share the caps."""
        options, n = self._options, call.sampling.n
        model = capped(self._inner, options.max_cost_usd, options.max_tokens, self._around.quote)
        uncapped = structs.replace(options, max_cost_usd=None, max_tokens=None)
        each = Structured(model, uncapped, self._around, also=self._also, checks=self._checks)
        branches = Branches(call)
        sampler = Sampler(each, branches)
        try:
            async with aclosing(sampler.draw(split(call, n, most=1, first=0))) as drawn:
                samples = sorted([sample async for sample in drawn], key=lambda sample: sample.index)
            branches.name()
        finally:
            branches.settle()
        failure = next((sample.failure for sample in samples if sample.failure is not None), None)
        if failure is not None:
            raise ModelFailure(failure)
        choices = tuple(sample.choice for sample in samples if sample.choice is not None)
        for delta in deltas_of(Answer(choices, branches.usage, samples[0].head)):
            yield delta

    def _schema(self, call: Call) -> Checks:
        if call.task != "chat":
            raise refuse("unsupported", "only a chat call has an answer with a schema", param="response_format")
        if self._checks is not None:
            return self._checks
        output = call.output
        return self._around.schemas.get(True if output is None or output.schema is None else output.schema)
