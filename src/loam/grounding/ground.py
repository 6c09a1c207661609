"""The ground stage: a call that names a collection is answered from its documents, by any model, and checked.

Knows collections by name and how clients name them; retrieval, prompt, checks and reading are other modules' matter.
Invariants: a call that names a collection is never answered without its passages; unless the call or the settings turn
grounding off, no sentence of the answer leaves unchecked (P4).
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from fnmatch import fnmatchcase
from typing import Annotated

from msgspec import Meta, Struct, structs

from loam.core.calls import RAG, Call, Delta
from loam.core.errors import ModelFailure, refuse
from loam.core.ports import Model, Retriever, SearchOptions
from loam.grounding.answering import Answering
from loam.grounding.aside import Asides
from loam.grounding.asking import Expansion, Rewriting, alone, last_question, merged, questions
from loam.grounding.encoder.settings import EncoderSettings
from loam.grounding.ingest import IngestSettings
from loam.grounding.judge import Judge
from loam.grounding.library import StoreSettings
from loam.grounding.native import natively, numbered
from loam.grounding.prompt import instructed
from loam.grounding.reader import NAME
from loam.grounding.release import Mode
from loam.grounding.search_settings import SearchSettings
from loam.grounding.sheet import Sheet
from loam.grounding.verify import Checkers, Shelf, Verifier


class GroundSettings(Struct, frozen=True, forbid_unknown_fields=True):
    model: Annotated[str, Meta(description='Who answers calls whose model is "rag:COLLECTION".')] = NAME
    mode: Annotated[
        Mode,
        Meta(
            description="What becomes of sentences that the documents do not support, unless a call says: `strict` "
            "removes them, `mark` flags them, `off` checks nothing."
        ),
    ] = "strict"
    repair: Annotated[
        bool, Meta(description="Whether the model is asked once to mend the sentences that have no support.")
    ] = True
    judge: Annotated[
        str, Meta(description="Model that decides on sentences which words alone can't; empty: they count as weak.")
    ] = ""
    fallback: Annotated[
        str,
        Meta(description="Who answers from the passages where the model fails before its first word; empty: nobody."),
    ] = NAME
    schema: Annotated[
        tuple[str, ...],
        Meta(description="Models (patterns) that answer under a JSON schema which their provider enforces."),
    ] = ()
    native: Annotated[
        tuple[str, ...],
        Meta(description="Models (patterns) of Anthropic's that are given documents to cite in Anthropic's own way."),
    ] = ()
    rewriting: Annotated[
        Rewriting,
        Meta(description="How a follow-up question is made to stand alone: by a `rule`, by the `model`, or `off`."),
    ] = "rule"
    expansion: Annotated[
        Expansion,
        Meta(description="What else is searched for: other `wordings` by the model, the question's `parts`, or `off`."),
    ] = "off"
    questions: Annotated[int, Meta(ge=1, le=8, description="How many wordings or parts at most.")] = 3
    passages: Annotated[int, Meta(ge=1, le=50, description="How many passages are looked up for a question.")] = 8
    rerank: Annotated[
        int,
        Meta(ge=0, le=100, description="How many of the passages that search proposes the trained heads read again."),
    ] = 16
    store: StoreSettings = StoreSettings()
    encoder: EncoderSettings = EncoderSettings()
    search: SearchSettings = SearchSettings()
    ingest: IngestSettings = IngestSettings()


class Ground:
    """Sits inside the cache, which knows the collection's revision, and before the route.

    `searches` gives the search of a call; what that asks of models, it asks as an aside. `shelf` is where the documents
    are stored, for every quote to be read again before it leaves.
    """

    def __init__(
        self,
        inner: Model,
        searches: Callable[[Asides], Retriever],
        settings: GroundSettings,
        *,
        shelf: Shelf,
        checkers: Checkers = Checkers(),  # noqa: B008 - frozen
    ) -> None:
        self._inner = inner
        self._searches = searches
        self._settings = settings
        self._shelf = shelf
        self._checkers = checkers

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        if not call.controls.collection and not call.model.startswith(RAG):
            return self._inner.answer(call)
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        settings = self._settings
        collection = collection_of(call)
        model = settings.model if call.model.startswith(RAG) else call.model
        mode = call.controls.grounding or settings.mode
        _refuse_what_cannot_be_grounded(call, mode)
        asides = Asides(self._inner, call)
        try:
            found = await self._with_passages(structs.replace(call, model=model), collection, asides)
            sheet = Sheet(found.passages or ())
            stream = self._asked(self._told(found, sheet), found)
            if call.task == "chat" and call.output is None:
                judge = Judge(asides, settings.judge) if settings.judge else None
                verifier = Verifier(
                    self._shelf,
                    collection,
                    sheet,
                    question=found.question,
                    checkers=self._checkers,
                    judge=judge,
                    tell=call.trace.warn,
                )
                repairs = model if settings.repair and model != NAME and mode != "off" else ""
                stream = Answering(found, sheet, verifier, asides, mode=mode, repairs=repairs).ground(stream)
            async with aclosing(stream) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            asides.settle()

    async def _with_passages(self, call: Call, collection: str, asides: Asides) -> Call:
        settings = self._settings
        writer = "" if call.model == NAME or call.task == "count" else call.model
        question = await alone(call, settings.rewriting, asides, writer)
        asked = await questions(question, settings.expansion, asides, writer, most=settings.questions)
        options = SearchOptions(rerank=settings.rerank if self._checkers.heads is not None else 0)
        retriever = self._searches(asides)
        found = [
            await retriever.look(collection, one, settings.passages, principal=call.principal, options=options)
            for one in asked
        ]
        for note in (note for one in found for note in one.notes):
            call.trace.warn(note)
        passages = merged([one.passages for one in found], settings.passages)
        return structs.replace(call, passages=passages, question=question)

    def _told(self, found: Call, sheet: Sheet) -> Call:
        """The call as its model gets it; the reader reads the passages themselves."""
        if found.model == NAME:
            return found
        if found.output is None and _any_fits(found.model, self._settings.native):
            return natively(found, sheet)
        free = found.output is None and not found.tools
        return instructed(found, sheet, schema=free and _any_fits(found.model, self._settings.schema))

    async def _asked(self, told: Call, found: Call) -> AsyncGenerator[Delta, None]:
        """The model's answer; where it fails before its first word, the fallback's from the same passages."""
        begun = False
        stream = self._inner.answer(told)
        if _any_fits(told.model, self._settings.native):
            stream = numbered(stream)
        try:
            async with aclosing(stream) as deltas:
                async for delta in deltas:
                    begun = begun or delta.has_content
                    yield delta
        except ModelFailure as error:
            other = self._settings.fallback
            if begun or not error.failure.mendable or other in ("", told.model):
                raise
            told.trace.warn(f"fell back from {told.model} to {other}: {error.failure.kind}")
        else:
            return
        call = structs.replace(found, model=other, controls=structs.replace(found.controls, fallbacks=()))
        async with aclosing(self._inner.answer(call)) as deltas:
            async for delta in deltas:
                yield delta


def _any_fits(model: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)


def _refuse_what_cannot_be_grounded(call: Call, mode: Mode) -> None:
    if call.task not in ("chat", "count"):
        raise refuse("unsupported", "a collection answers chat calls only", param="collection")
    if not last_question(call.messages).strip():
        raise refuse("bad_request", "there is no question: the last user message has no text", param="messages")
    if mode == "off":
        return
    if call.output is not None:
        raise refuse(
            "unsupported",
            "the sentences of a JSON answer cannot be checked against documents; leave the format out, or send "
            '"loam": {"grounding": "off"}',
            param="response_format",
        )
    if call.sampling.n != 1:
        raise refuse("unsupported", "an answer from documents is checked one at a time; ask with n = 1", param="n")


def collection_of(call: Call) -> str:
    """The collection a call names, empty for none. Raises ModelFailure where model and controls disagree."""
    named = call.controls.collection
    if not call.model.startswith(RAG):
        return named
    collection = call.model[len(RAG) :]
    if named and named != collection:
        raise refuse(
            "bad_request",
            f"the model names the collection {collection[:80]!r}, the controls name {named[:80]!r}; name one",
            param="collection",
        )
    return collection
