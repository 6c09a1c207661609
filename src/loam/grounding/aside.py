"""Small questions that grounding itself asks a model while it answers a call: a rewriting, a judgement, a repair.

Knows the road only as a Model. Invariant: what an aside costs and how it went stands in the call's trace and usage,
whatever becomes of the answer, and never mixes with the attempts of the answer while that is open.
"""

from collections.abc import Sequence

from msgspec import structs

from loam.core.answers import collect
from loam.core.calls import Call, Sampling, Usage
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
        call = self._call
        trace = Trace(pending=list(call.trace.pending))
        self._traces.append(trace)
        aside = Call(
            id=call.id,
            model=model,
            messages=tuple(messages),
            sampling=Sampling(max_tokens=most, temperature=0.0),
            controls=structs.replace(call.controls, collection="", fallbacks=()),
            principal=call.principal,
            deadline=call.deadline,
            trace=trace,
        )
        try:
            answer = await collect(self._inner.answer(aside))
        except ModelFailure as error:
            trace.warn(f"grounding asked {model} something and got no answer: {error.failure.kind}")
            return None
        self.usage = added(self.usage, answer.usage)
        return answer.text

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
