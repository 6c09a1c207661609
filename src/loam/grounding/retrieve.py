"""Finds the passages that fit a question: by words, by vectors, by both, read again by the heads.

Knows a store, an encoder and heads by their ports. Invariants: what is given is of one state of the collection; no
passage is outside the asker's scope; where less was done than asked for, a note says so.
"""

import asyncio
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from loam.core.calls import Passage, Principal
from loam.core.errors import ModelFailure, refuse
from loam.core.ports import AS_USUAL, NOBODY, Found, SearchMode, SearchOptions
from loam.grounding.fusion import blended, diverse, fused, joined, settled
from loam.grounding.search_settings import SEARCH, SearchSettings
from loam.grounding.store import Hit, Hits, Scope, Store, scope_of
from loam.grounding.terms import pairs_met

if TYPE_CHECKING:
    from loam.grounding.encoder.port import Encoder, Heads

_TRIES = 4  # that a collection may change under a search before it is taken as it comes
_PAIRED = 16  # of the first, that are looked through for word pairs
_BY_WORDS = "no encoder is set up, so only words are compared; see `loam setup encoder`"


class _Ranked(Struct, frozen=True):
    """Candidates, best first, and the states of the collection in which they were found."""

    hits: list[Hit]
    mode: SearchMode
    notes: list[str]
    stamps: set[str]


class Retrieval:
    """A Retriever over a store; without an encoder it compares words alone, without heads it re-ranks nothing.

    ```python
    retrieval = Retrieval(index, encoder)
    found = await retrieval.look("handbook", "Who approves leave?", 5)
    found.passages[0].text, found.mode
    ```
    """

    def __init__(
        self,
        store: Store,
        encoder: "Encoder | None" = None,
        heads: "Heads | None" = None,
        settings: SearchSettings = SEARCH,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._heads = heads
        self._settings = settings

    async def revision(self, collection: str, *, principal: Principal | None = None) -> str:
        return await self._store.revision(collection, principal=principal)

    async def search(
        self,
        collection: str,
        question: str,
        limit: int,
        *,
        principal: Principal = NOBODY,
        options: SearchOptions = AS_USUAL,
    ) -> tuple[Passage, ...]:
        """The passages that fit best, best first. Raises ModelFailure (not_found, unsupported)."""
        return (await self.look(collection, question, limit, principal=principal, options=options)).passages

    async def look(
        self,
        collection: str,
        question: str,
        limit: int,
        *,
        principal: Principal = NOBODY,
        options: SearchOptions = AS_USUAL,
    ) -> Found:
        """As `search`, with how it was searched."""
        scope = scope_of(principal, options.metadata)
        depth = max(self._settings.candidates, 2 * limit, options.rerank)
        tries = 0
        while True:
            tries += 1
            ranked = await self._ranked(collection, question, depth, scope=scope, mode=options.mode)
            hits = await self._reread(collection, question, ranked, scope=scope, most=options.rerank)
            if options.diversity:
                vectors = await self._store.vectors([hit.id for hit in hits])
                hits = diverse(hits, vectors, diversity=options.diversity, limit=limit)
            ids = [hit.id for hit in hits[:limit]]
            fetched = await self._store.fetch(collection, ids, scope=scope, neighbours=options.neighbours)
            if ranked.stamps <= {fetched.stamp} or tries == _TRIES:
                break
        scores = {hit.id: hit.score for hit in hits}
        passages = [structs.replace(passage, score=scores[id]) for id, passage in fetched.passages.items()]
        grown = joined(passages) if options.neighbours else tuple(passages)
        return Found(grown, ranked.mode, tuple(ranked.notes))

    async def _ranked(self, collection: str, question: str, depth: int, *, scope: Scope, mode: SearchMode) -> _Ranked:
        if self._encoder is None:
            if mode == "dense":
                raise refuse("unsupported", _BY_WORDS, param="mode")
            found = await self._store.find_words(collection, question, scope=scope, limit=depth)
            notes = [_BY_WORDS] if mode == "hybrid" else []
            return _Ranked(list(found.hits), "lexical", notes, {found.stamp})
        if mode == "lexical":
            found = await self._store.find_words(collection, question, scope=scope, limit=depth)
            return _Ranked(list(found.hits), mode, [], {found.stamp})
        if mode == "dense":
            near = await self._near(self._encoder, collection, question, scope=scope, depth=depth)
            return _Ranked(list(near.hits), mode, [near.note] if near.note else [], {near.stamp})
        worded, near = await asyncio.gather(
            self._store.find_words(collection, question, scope=scope, limit=depth),
            self._near_if_possible(self._encoder, collection, question, scope=scope, depth=depth),
        )
        if isinstance(near, str):
            return _Ranked(list(worded.hits), "lexical", [near], {worded.stamp})
        notes = [near.note] if near.note else []
        stamps = {worded.stamp, near.stamp}
        if not near.hits:
            return _Ranked(list(worded.hits), "lexical", notes, stamps)
        lists = [worded.hits, near.hits]
        whole = fused(lists) if self._settings.fusion == "ranks" else blended(lists, depth)
        return _Ranked(whole, mode, notes, stamps)

    async def _near(self, encoder: "Encoder", collection: str, question: str, *, scope: Scope, depth: int) -> Hits:
        vectors = await encoder.embed([question])
        return await self._store.find_near(collection, vectors[0], encoder=encoder.id, scope=scope, limit=depth)

    async def _near_if_possible(
        self, encoder: "Encoder", collection: str, question: str, *, scope: Scope, depth: int
    ) -> Hits | str:
        """What lies near, or why nothing can be compared but words: the encoder may be a provider that fails."""
        try:
            vectors = await encoder.embed([question])
        except ModelFailure as error:
            return f"only words are compared, for the encoder failed: {error.failure.message}"
        return await self._store.find_near(collection, vectors[0], encoder=encoder.id, scope=scope, limit=depth)

    async def _reread(self, collection: str, question: str, ranked: _Ranked, *, scope: Scope, most: int) -> list[Hit]:
        """The hits in the order that a second look gives: at word pairs of a hybrid search, by the heads if asked."""
        settings = self._settings
        if most and self._heads is None:
            ranked.notes.append("no heads are installed, so the order is that of the search alone")
            most = 0
        paired = _PAIRED if ranked.mode == "hybrid" and settings.phrases else 0
        first = [hit.id for hit in ranked.hits[: max(most, paired)]]
        if not first:
            return ranked.hits
        fetched = await self._store.fetch(collection, first, scope=scope)
        ranked.stamps.add(fetched.stamp)
        parts: list[tuple[float, dict[int, float]]] = []
        if paired:
            met = {
                id: pairs_met(question, told(fetched.passages[id])) for id in first[:paired] if id in fetched.passages
            }
            parts.append((settings.phrases, met))
        if most and self._heads is not None:
            there = [id for id in first[:most] if id in fetched.passages]
            try:
                readings = await self._heads.read(question, [told(fetched.passages[id]) for id in there])
                parts.append((settings.heads, {id: one.answerable for id, one in zip(there, readings, strict=True)}))
            except ModelFailure:
                ranked.notes.append("the trained heads failed, so they had no say in the order; the log says why")
        return settled(ranked.hits, parts)


def told(passage: Passage) -> str:
    """A passage under the headings that it stands under."""
    return f"{passage.title}\n{passage.section}\n{passage.text}"
