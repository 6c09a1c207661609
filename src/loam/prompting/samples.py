"""Several answers to one call, drawn at the same time, each handed on as soon as it is there.

Knows tasks and branches; knows no technique. Invariant: when the stream of samples is closed nothing is left running,
each inner stream has been closed, and what was used is in the branches.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from msgspec import Struct, structs

from loam.core.answers import collect
from loam.core.branches import Branches
from loam.core.calls import Answer, Call, Choice, Head
from loam.core.errors import Failure, ModelFailure
from loam.core.ports import Model


class Sample(Struct, frozen=True):
    """One drawn answer: `index` is its place in the order of asking. Without a `choice` it failed."""

    index: int
    choice: Choice | None = None
    head: Head = Head()
    failure: Failure | None = None


class Sampler:
    """Draws answers from `inner` on the bill of one call."""

    def __init__(self, inner: Model, branches: Branches) -> None:
        self._inner = inner
        self._branches = branches
        self.drawn = 0

    async def draw(self, calls: Sequence[Call]) -> AsyncGenerator[Sample, None]:
        """The answers to calls of one or more choices each, as they come. A failure is a sample, it is not raised."""
        tasks: dict[asyncio.Task[Answer], tuple[int, int]] = {}
        try:
            for call in calls:
                tasks[asyncio.ensure_future(self._one(call))] = (self.drawn, call.sampling.n)
                self.drawn += call.sampling.n
            while tasks:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=lambda one: tasks[one][0]):
                    index, n = tasks.pop(task)
                    for sample in _samples(task, index, n):
                        yield sample
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, call: Call) -> Answer:
        answer = await collect(self._inner.answer(self._branches.branch(call)))
        self._branches.spend(answer.usage)
        return answer


def _samples(task: "asyncio.Task[Answer]", index: int, n: int) -> list[Sample]:
    error = task.exception()
    if isinstance(error, ModelFailure):
        return [Sample(index + at, failure=error.failure) for at in range(n)]
    answer = task.result()
    choices = answer.choices or (Choice(),)
    return [Sample(index + at, choice, answer.head) for at, choice in enumerate(choices)]


def split(call: Call, count: int, *, most: int, first: int) -> list[Call]:
    """Calls that come to `count` answers, `most` of one prompt at a time, after the `first` ones.

    A seed is moved on, since the same seed would draw the same answer.
    """
    calls: list[Call] = []
    seed = call.sampling.seed
    while count > 0:
        n = min(count, most)
        sampling = structs.replace(call.sampling, n=n, seed=None if seed is None else seed + first)
        calls.append(structs.replace(call, sampling=sampling, stream=False))
        first += n
        count -= n
    return calls
