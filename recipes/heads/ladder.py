"""A claim put to Loam's ladder of checks, with its evidence as the only passage of the only document.

Needs no torch. Knows nothing of training; only the shelf is made up.
"""

from msgspec import Struct
from recipes.heads.claims import Claim

from loam.core.calls import Passage, SentenceCheck
from loam.grounding.claims import Claim as Said
from loam.grounding.sheet import Sheet
from loam.grounding.verify import Checkers, Verifier


class _Stored(Struct, frozen=True):
    revision: str
    text: str
    pages: tuple[int, ...] = ()


class _Shelf(Struct, frozen=True):
    """A shelf with one document."""

    text: str

    async def document(self, collection: str, document_id: str) -> _Stored:
        return _Stored("r", self.text)


async def checked(claim: Claim, checkers: Checkers) -> SentenceCheck:
    """The verdict of the ladder on a claim that cites nothing by itself, without a judge."""
    text = claim.evidence
    sheet = Sheet([Passage("d", "", "", "", 0, len(text), text, 1.0, "r")])
    verifier = Verifier(_Shelf(text), "made", sheet, question="", checkers=checkers, judge=None)
    return await verifier.check(Said(claim.text, claim.text, "", ()))


async def lines(claim: Claim) -> str:
    """The lines that the checks by words find nearest; all of the evidence where they find none."""
    found = await checked(claim, Checkers())
    return " ".join(citation.quote for citation in found.evidence) or claim.evidence
