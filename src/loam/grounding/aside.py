"""What grounding itself asks of models while it answers a call: a rewriting, a judgement, a repair, vectors.

Knows the road only as a Model. Invariant (P1, P2): an aside is asked under its call's name, in its time and on its
budget; what it costs and how it went stands in the call's trace and usage, whatever becomes of the answer, and never
mixes with the attempts of the answer while that is open.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec import structs

from loam.core.answers import collect
from loam.core.branches import Branches
from loam.core.calls import Call, Delta, Sampling, Usage
from loam.core.errors import ModelFailure
from loam.core.messages import Message
from loam.core.ports import Model


class Asides:
    """The asides of one call."""

    def __init__(self, inner: Model, call: Call) -> None:
        self._inner = inner
        self._call = call
        self._branches = Branches(call)

    @property
    def usage(self) -> Usage:
        return self._branches.usage

    async def ask(self, model: str, messages: Sequence[Message], *, most: int) -> str | None:
        """What the model says, in at most so many tokens; None where it fails, which the trace then says."""
        asked = Call(id="", model=model, messages=tuple(messages), sampling=Sampling(max_tokens=most, temperature=0.0))
        try:
            return (await collect(self.answer(asked, self._inner))).text
        except ModelFailure as error:
            self._call.trace.warn(f"grounding asked {model} something and got no answer: {error.failure.kind}")
            return None

    async def answer(self, asked: Call, model: Model) -> AsyncGenerator[Delta, None]:
        """What a model answers to an aside."""
        call = self._call
        named = structs.replace(
            asked,
            id=call.id,
            controls=structs.replace(call.controls, collection="", fallbacks=()),
            principal=call.principal,
            deadline=call.deadline,
        )
        usage: Usage | None = None
        async with aclosing(model.answer(self._branches.branch(named))) as deltas:
            async for delta in deltas:
                usage = delta.usage or usage
                yield delta
        self._branches.spend(usage)

    def settle(self) -> None:
        """Writes the asides into the call's trace; to be done when the answer is over."""
        self._branches.settle()


class Within:
    """A Model that asks another as an aside: whoever is handed it needs to know no call."""

    def __init__(self, asides: Asides, model: Model) -> None:
        self._asides = asides
        self._model = model

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._asides.answer(call, self._model)
