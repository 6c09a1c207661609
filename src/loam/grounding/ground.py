"""The ground stage: finds passages for calls that name a collection, and lets only readers answer those.

Knows collections by name and how clients name them; retrieval and reading are other modules' matter.
Invariant: a call that names a collection is never answered without its passages, and never by a model that is not known
to keep to them.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from msgspec import Meta, Struct, structs

from loam.core.calls import Call, Delta
from loam.core.errors import refuse
from loam.core.ports import Model, Retriever
from loam.grounding.ingest import IngestSettings
from loam.grounding.reader import NAME, question_of

PREFIX = "rag:"


class GroundSettings(Struct, frozen=True, forbid_unknown_fields=True):
    model: Annotated[str, Meta(description='Who answers calls whose model is "rag:COLLECTION".')] = NAME
    readers: Annotated[
        tuple[str, ...], Meta(description="Models that answer from passages alone; others are refused a collection.")
    ] = (NAME,)
    passages: Annotated[int, Meta(ge=1, le=50, description="How many passages are looked up for a question.")] = 8
    ingest: IngestSettings = IngestSettings()


class Ground:
    """Sits inside the cache, which knows the collection's revision, and before the route."""

    def __init__(self, inner: Model, retriever: Retriever, settings: GroundSettings) -> None:
        self._inner = inner
        self._retriever = retriever
        self._settings = settings

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        if not call.controls.collection and not call.model.startswith(PREFIX):
            return self._inner.answer(call)
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        grounded = await self._grounded(call)
        async with aclosing(self._inner.answer(grounded)) as deltas:
            async for delta in deltas:
                yield delta

    async def _grounded(self, call: Call) -> Call:
        collection = collection_of(call)
        model = self._settings.model if call.model.startswith(PREFIX) else call.model
        if model not in self._settings.readers:
            raise refuse(
                "unsupported",
                f"{model} cannot be held to documents yet; ask {' or '.join(self._settings.readers)}, or the model "
                f'"{PREFIX}{collection}"',
                param="model",
            )
        if call.task not in ("chat", "count"):
            raise refuse("unsupported", "a collection answers chat calls only", param="collection")
        question = question_of(call)
        if not question.strip():
            raise refuse("bad_request", "there is no question: the last user message has no text", param="messages")
        passages = await self._retriever.search(collection, question, self._settings.passages)
        return structs.replace(call, model=model, passages=passages)


def collection_of(call: Call) -> str:
    """The collection a call names, empty for none. Raises ModelFailure where model and controls disagree."""
    named = call.controls.collection
    if not call.model.startswith(PREFIX):
        return named
    collection = call.model[len(PREFIX) :]
    if named and named != collection:
        raise refuse(
            "bad_request",
            f"the model names the collection {collection[:80]!r}, the controls name {named[:80]!r}; name one",
            param="collection",
        )
    return collection
