"""What grounding itself asks of models while it answers a call: a rewriting, a judgement, a repair, vectors.

Knows the road only as a Model. Invariant (P1, P2): an aside is asked under its call's name, in its time and on its
budget; what it costs and how it went stands in the call's trace and usage, whatever becomes of the answer, and never
mixes with the attempts of the answer while that is open.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec import structs

from loam.core.answers import collect
from loam.core.calls import Call, Delta, Sampling, Usage
from loam.core.errors import ModelFailure
from loam.core.messages import Message
from loam.core.ports import Model
from loam.core.trace import Trace


class Asides:
    """The asides of one call."""

    def __init__(self, inner: Model, call: Call) -> None:
        self._inner = inner
        self._call = call
        self._traces: list[Trace] = []
        self.usage = Usage()

    async def ask(self, model: str, messages: Sequence[Message], *, most: int) -> str | None:
        """What the model says, in at most so many tokens; None where it fails, which the trace then says."""
        asked = Call(id="", model=model, messages=tuple(messages), sampling=Sampling(max_tokens=most, temperature=0.0))
        try:
            return (await collect(self.answer(asked, self._inner))).text
        except ModelFailure as error:
            self._traces[-1].warn(f"grounding asked {model} something and got no answer: {error.failure.kind}")
            return None

    async def answer(self, asked: Call, model: Model) -> AsyncGenerator[Delta, None]:
        """What a model answers to an aside."""
        call = self._call
        trace = Trace(pending=list(call.trace.pending))
        self._traces.append(trace)
        aside = structs.replace(
            asked,
            id=call.id,
            controls=structs.replace(call.controls, collection="", fallbacks=()),
            principal=call.principal,
            deadline=call.deadline,
            trace=trace,
        )
        usage: Usage | None = None
        async with aclosing(model.answer(aside)) as deltas:
            async for delta in deltas:
                usage = delta.usage or usage
                yield delta
        self.usage = added(self.usage, usage)

    def settle(self) -> None:
        """Writes the asides into the call's trace; to be done when the answer is over."""
        trace = self._call.trace
        for aside in self._traces:
            for attempt in aside.attempts:
                attempt.number = len(trace.attempts) + 1
                trace.attempts = [*trace.attempts, attempt]
            if aside.cost is not None:
                trace.cost = (trace.cost or 0) + aside.cost
            for warning in aside.warnings:
                trace.warn(warning)
        self._traces = []


class Within:
    """A Model that asks another as an aside: whoever is handed it needs to know no call."""

    def __init__(self, asides: Asides, model: Model) -> None:
        self._asides = asides
        self._model = model

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._asides.answer(call, self._model)


def added(usage: Usage, more: Usage | None) -> Usage:
    """The sum of two usages; an unknown cost of either makes the cost unknown."""
    if more is None or more == Usage():
        return usage
    if usage == Usage():
        return more
    costs = (usage.provider_cost, more.provider_cost)
    return Usage(
        **{name: getattr(usage, name) + getattr(more, name) for name in _COUNTS},
        estimated=usage.estimated or more.estimated,
        provider_cost=None if None in costs else sum(cost or 0 for cost in costs),
    )


_COUNTS = tuple(name for name in Usage.__struct_fields__ if name not in ("estimated", "provider_cost"))
