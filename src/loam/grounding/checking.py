"""Any text held against a collection, sentence by sentence: what the documents say of it.

Knows how to look up passages for a sentence and how to have it judged. Invariant: a sentence is judged by the same
ladder as the sentences of an answer, and against documents that its asker may read.
"""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct

from loam.core.calls import Principal, SentenceCheck
from loam.core.ports import Retriever, SearchOptions
from loam.grounding.claims import Claim, Marked
from loam.grounding.sheet import Sheet
from loam.grounding.verify import Checkers, Shelf, Verifier

_PASSAGES = 8


class Draft(Struct, frozen=True, forbid_unknown_fields=True):
    """A text that is to be held against the documents."""

    text: Annotated[str, Meta(description="One sentence or many.", min_length=1, max_length=50_000)]


class Checks(Struct, frozen=True):
    """One verdict a sentence; `evidence` holds the lines of the documents that it was held against.

    `notes` say what was done without, where less was done than usual.
    """

    checks: tuple[SentenceCheck, ...]
    notes: tuple[str, ...] = ()


class Checking:
    """Judges drafts against the collections of a shelf; `searches` gives somebody's search."""

    def __init__(self, shelf: Shelf, searches: Callable[[Principal], Retriever], checkers: Checkers) -> None:
        self._shelf = shelf
        self._searches = searches
        self._checkers = checkers

    async def check(self, collection: str, draft: Draft, principal: Principal) -> Checks:
        """Raises ModelFailure (not_found) for a collection that is not there."""
        marked = Marked()
        found: list[SentenceCheck] = []
        notes: list[str] = []
        retriever = self._searches(principal)
        options = SearchOptions(rerank=2 * _PASSAGES if self._checkers.heads is not None else 0)
        for claim in [*marked.feed(draft.text), *marked.end()]:
            near = await retriever.look(collection, claim.text, _PASSAGES, principal=principal, options=options)
            notes += near.notes
            verifier = Verifier(
                self._shelf,
                collection,
                Sheet(near.passages),
                question="",
                checkers=self._checkers,
                judge=None,
                tell=notes.append,
            )
            found.append(await verifier.check(Claim(claim.text, claim.text, "", ())))
        return Checks(tuple(found), tuple(dict.fromkeys(notes)))
