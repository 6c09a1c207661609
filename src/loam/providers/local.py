"""Checkpoints on this machine, answered by the engine's own processes.

Knows the core's words and the engine's frames; imports nothing of the engine that needs torch.
Invariant: what the caller did wrong is told as Loam's refusal; what the machine could not do carries this provider's
name, so that retry and fallback may help.
"""

import itertools
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
from msgspec import structs

from loam.core.answers import refused
from loam.core.calls import Call, Delta, Head, Usage
from loam.core.clock import Clock
from loam.core.errors import Kind, ModelFailure, refuse
from loam.core.ports import Transport
from loam.engine.fleet import Fleet
from loam.engine.protocol import Question
from loam.engine.requests import request_of
from loam.providers.provider import ProviderKind, ProviderSettings, Vectors

_MENDABLE: tuple[Kind, ...] = ("context_window", "rate_limit", "server", "unavailable", "internal")
_TURNED = 63  # bits of a seed


class Local:
    """A Model whose models are the checkpoints of `fleet`; `vectors` makes embeddings, None: nobody here does."""

    def __init__(self, name: str, fleet: Fleet, *, bits: Callable[[int], int] = random.getrandbits) -> None:
        self.fleet = fleet
        self.vectors: Vectors | None = None
        self._name = name
        self._bits = bits
        self._number = itertools.count()

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        name = call.target.model if call.target is not None else call.model
        if call.task == "embed":
            return self._embed(call, name)
        if call.task == "complete" and not call.inputs:
            return refused(refuse("bad_request", "prompt: there is nothing to complete", param="prompt"))
        return self._count(call, name) if call.task == "count" else self._say(call, name)

    async def _say(self, call: Call, name: str) -> AsyncGenerator[Delta, None]:
        try:
            _, _, adapter = self.fleet.find(name)
            request = request_of(call, name=self._own(call), adapter=adapter, seed=self._bits(_TURNED))
            async with self.fleet.using(name) as engine:
                yield Delta(head=Head(id=call.id, model=name))
                async with aclosing(engine.answer(request)) as deltas:
                    async for delta in deltas:
                        yield delta
        except ModelFailure as error:
            raise self._named(error) from error

    async def _count(self, call: Call, name: str) -> AsyncGenerator[Delta, None]:
        try:
            request = request_of(call, name=self._own(call), adapter="", seed=0)
            async with self.fleet.using(name) as engine:
                told = await engine.ask(Question(request.id, "count", msgspec.to_builtins(request)))
        except ModelFailure as error:
            raise self._named(error) from error
        yield Delta(head=Head(model=name))
        yield Delta(usage=Usage(input=told["tokens"]))

    async def _embed(self, call: Call, name: str) -> AsyncGenerator[Delta, None]:
        path = self.fleet.find(name)[1]
        if self.vectors is None or not (path / "modules.json").is_file():
            raise refuse(
                "unsupported",
                f"{name} writes text and makes no embeddings: the mean of a decoder's last layer is none worth having; "
                "ask a checkpoint of sentence-transformers, or an embedding model of another provider",
                param="model",
            )
        texts = [given for given in call.inputs if isinstance(given, str)]
        if len(texts) != len(call.inputs):
            raise refuse("unsupported", "input: token ids cannot be embedded here; send texts", param="input")
        vectors = await self.vectors(path, texts)
        yield Delta(head=Head(model=name))
        for index, vector in enumerate(vectors):
            yield Delta(choice=index, embedding=vector)

    def _own(self, call: Call) -> str:
        """A name for one request: a call may be tried again, or ask something aside, under the same id."""
        return f"{call.id or 'call'}.{next(self._number)}"

    def _named(self, error: ModelFailure) -> ModelFailure:
        failure = error.failure
        if failure.kind in _MENDABLE and not failure.provider:
            failure = structs.replace(failure, provider=self._name)
        return ModelFailure(failure)

    async def close(self) -> None:
        await self.fleet.close()


def _build(name: str, settings: ProviderSettings, transport: Transport, clock: Clock) -> Local:
    return Local(name, Fleet(name, settings.engine))


KIND = ProviderKind(name="local", title="Checkpoints on this machine", build=_build, prices="free")
