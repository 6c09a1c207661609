"""A shelf with the handbook's pages, a retriever that finds what a case says, and a model that says what it is told."""

import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from msgspec import Struct

from bench.grounded_cases import Page
from loam.core.answers import collect
from loam.core.calls import Answer, Call, Citation, Controls, Delta, Head, Passage, Principal, Usage
from loam.core.errors import refuse
from loam.core.messages import say
from loam.core.ports import AS_USUAL, NOBODY, Found, SearchOptions
from loam.grounding.ground import Ground, GroundSettings

QUESTION = "What does the handbook say on this?"


class Document(Struct):
    """A stored document; a test may change it after the search."""

    text: str
    revision: str
    pages: tuple[int, ...] = ()


class Shelf:
    """Documents by id."""

    def __init__(self, documents: Mapping[str, Document]) -> None:
        self.documents = dict(documents)

    async def document(self, collection: str, document_id: str) -> Document:
        if document_id not in self.documents:
            raise refuse("not_found", f"{collection} has no {document_id}")
        return self.documents[document_id]


class Finds:
    """A retriever that always finds the same passages, and keeps what it was asked."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = tuple(passages)
        self.asked: list[str] = []

    async def look(
        self,
        collection: str,
        question: str,
        limit: int,
        *,
        principal: Principal = NOBODY,
        options: SearchOptions = AS_USUAL,
    ) -> Found:
        self.asked.append(question)
        return Found(self._passages, "lexical")

    async def search(self, collection: str, question: str, limit: int, **_: object) -> tuple[Passage, ...]:
        return self._passages

    async def revision(self, collection: str, *, principal: Principal | None = None) -> str:
        return "1"


Said = str | Callable[[Call], str]


class Says:
    """A model that answers with its texts in turn, and the last one for ever, in pieces of a few letters."""

    def __init__(self, *texts: Said, seed: int = 0, name: str = "scripted", citations: Sequence[Citation] = ()) -> None:
        self._texts = texts
        self._random = random.Random(seed)
        self._name = name
        self._citations = tuple(citations)
        self.calls: list[Call] = []

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        said = self._texts[min(len(self.calls), len(self._texts) - 1)]
        self.calls.append(call)
        text = said if isinstance(said, str) else said(call)
        yield Delta(head=Head(model=self._name))
        while text:
            size = self._random.randint(1, 9)
            yield Delta(text=text[:size])
            text = text[size:]
        yield Delta(citations=self._citations, finish="stop")
        yield Delta(usage=Usage(input=10, output=5))


def shelf_of(pages: Sequence[Page]) -> Shelf:
    return Shelf({page.id: Document(page.text, page.revision) for page in pages})


async def grounded(
    model: Says,
    passages: Sequence[Passage],
    shelf: Shelf,
    *,
    mode: str = "strict",
    settings: GroundSettings = GroundSettings(repair=False),  # noqa: B008 - frozen
    question: str = QUESTION,
) -> Answer:
    """What a client gets of the model's answer."""
    stage = Ground(model, lambda asides: Finds(passages), settings, shelf=shelf)
    controls = Controls(collection="handbook", grounding=mode)  # type: ignore[arg-type]
    call = Call(id="call_1", model="any", messages=(say("user", question),), controls=controls)
    return await collect(stage.answer(call))
