"""The ladder of checks that every sentence of a grounded answer climbs: pointer, words, trained head, judge.

Knows the sheet that the model was given; reads every quote again from where it is stored. Knows no stream.
Invariants (P4): a sentence is `supported` only with citations whose quotes stand in the stored document, at their
offsets, in the revision that was searched, and only if no check of words has shut a gate on it; where the heads or the
encoder fail, words alone decide on the rest of the answer, and that is told.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, structs

from loam.core.calls import Citation, SentenceCheck, Verdict
from loam.core.errors import ModelFailure
from loam.grounding.canonical import page_of
from loam.grounding.checks.alignment import alignment
from loam.grounding.checks.free import states_nothing
from loam.grounding.checks.support import support
from loam.grounding.checks.tokens import telling
from loam.grounding.checks.words_only import Weighed, weigh
from loam.grounding.claims import Claim
from loam.grounding.judge import Judge
from loam.grounding.sheet import Entry, Sheet

if TYPE_CHECKING:
    from loam.grounding.encoder.port import Heads, States, Support, TokenEncoder

RULES = "words-1"
"""The version of the checks by words; part of every verdict."""

_MOST_CITED = 4
_TRIED = 4  # other lines that are tried where those that were cited do not do
_NEARLY = 0.65  # share of a sentence's words from which a line speaks of the same
_SHARED = 0.35  # of a sentence's words that a line must have to be tried
_DOUBTFUL, _WORTH_A_LOOK = 0.5, 0.9  # how likely a sentence is that is looked at again, below the one, above the other
_HEAD_DENIES = 0.8
_HEAD_LOOKS = 0.35  # share of a sentence's words below which no head is asked


class Stored(Protocol):
    """A document as citations count its characters."""

    @property
    def revision(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def pages(self) -> tuple[int, ...]: ...


class Shelf(Protocol):
    """Where documents are stored. Raises ModelFailure (not_found) for one that is gone."""

    async def document(self, collection: str, document_id: str) -> Stored: ...


class Checkers(Struct, frozen=True):
    """What may help words alone; each is used where it is there."""

    heads: "Heads | None" = None
    encoder: "TokenEncoder | None" = None

    @property
    def id(self) -> str:
        return "+".join([RULES, *([self.heads.id] if self.heads else []), *([self.encoder.id] if self.encoder else [])])


class _Judgement(Struct, frozen=True):
    verdict: Verdict
    score: float
    tier: int
    signals: dict[str, float]
    entries: tuple[Entry, ...]


class Verifier:
    """Judges the sentences of one answer, each against the sheet of its call; `tell` hears what it does without."""

    def __init__(
        self,
        shelf: Shelf,
        collection: str,
        sheet: Sheet,
        *,
        question: str,
        checkers: Checkers,
        judge: Judge | None,
        tell: Callable[[str], object] = str,
    ) -> None:
        self._shelf = shelf
        self._collection = collection
        self._sheet = sheet
        self._question = question
        self._checkers = checkers
        self._judge = judge
        self._tell = tell

    async def check(self, claim: Claim) -> SentenceCheck:
        """The verdict on a sentence; `evidence` holds the citations that it was found with."""
        if states_nothing(claim.text, self._question):
            return SentenceCheck(claim.text, "free", False, 1.0, 1, {}, self._checkers.id)
        cited = [entry for id in claim.cites[:_MOST_CITED] if (entry := self._sheet.find(id)) is not None]
        judged = await self._climbed(claim.text, cited)
        kept = [at for entry in judged.entries if (at := await self._stands(entry.citation(judged.score))) is not None]
        if (
            len(kept) < len(judged.entries) or not claim.whole
        ):  # what is gone cannot support, half a sentence says anything
            judged = structs.replace(judged, verdict="unsupported", tier=0)
        return SentenceCheck(
            claim.text,
            judged.verdict,
            False,
            judged.score,
            judged.tier,
            judged.signals,
            self._checkers.id,
            invalid=len(claim.cites) - len(cited),
            evidence=tuple(kept),
        )

    async def pointed(self, claim: Claim) -> SentenceCheck:
        """No verdict: the lines that the sentence names, as far as they were offered and stand where they stood."""
        cited = [entry for id in claim.cites[:_MOST_CITED] if (entry := self._sheet.find(id)) is not None]
        kept = [at for entry in cited if (at := await self._stands(entry.citation(0.0))) is not None]
        invalid = len(claim.cites) - len(cited)
        return SentenceCheck(claim.text, "weak", False, 0.0, 0, {}, "", invalid=invalid, evidence=tuple(kept))

    async def quoted(self, claim: Claim, citation: Citation) -> SentenceCheck:
        """The verdict on a stretch that is nothing but a quote: it stands where it is said to stand, or does not."""
        at = await self._stands(citation) if claim.text == citation.quote else None
        verdict, evidence = ("supported", (at,)) if at is not None else ("unsupported", ())
        return SentenceCheck(
            claim.text,
            verdict,
            False,
            citation.score,
            0,
            {"quote": float(at is not None)},
            self._checkers.id,
            evidence=evidence,
        )

    async def _climbed(self, text: str, cited: Sequence[Entry]) -> _Judgement:
        entries, weighed = self._words(text, cited)
        judged = _Judgement(weighed.band, weighed.score, 1, weighed.signals, tuple(entries))
        if entries and weighed.signals["coverage"] >= _HEAD_LOOKS:
            judged = await self._read(text, judged, gated=weighed.gated)
        if judged.verdict == "weak" and self._judge is not None:
            verdict = await self._judge.verdict(text, [entry.quote for entry in entries])
            judged = structs.replace(
                judged, verdict=verdict, tier=2, signals={**judged.signals, "judge": float(verdict == "supported")}
            )
        return judged

    def _words(self, text: str, cited: Sequence[Entry]) -> tuple[Sequence[Entry], Weighed]:
        """The fewest lines that do, of those cited or else of all; the best there are where none do.

        A line that says nearly the same and yet something else ends the search: others must not excuse it.
        """
        tried: list[tuple[Sequence[Entry], Weighed]] = []
        for entries in self._trials(text, cited):
            weighed = weigh(text, [entry.line for entry in entries], self._sheet.rarity)
            if weighed.band == "supported":
                return entries, weighed
            tried.append((entries, weighed))
            if weighed.gated and weighed.signals["coverage"] >= _NEARLY:
                return tried[-1]
        best = max(tried, key=lambda one: (one[1].score, -len(one[0])), default=None)
        return best if best is not None else ((), weigh(text, (), self._sheet.rarity))

    def _trials(self, text: str, cited: Sequence[Entry]) -> list[Sequence[Entry]]:
        near = self._near(text)
        singles = [[entry] for entry in cited]
        others = [[entry] for entry in near if entry not in cited]
        wholes = [list(cited)] if len(cited) > 1 else []
        mixed = [[*cited, near[0]]] if cited and near and near[0] not in cited else []
        return [*singles, *wholes, *others, *mixed, *([near[:2]] if len(near) > 1 else [])]

    def _near(self, text: str) -> list[Entry]:
        """The lines that share most with the sentence, at least as much as a weak one does."""
        said, rarity = set(telling(text)), self._sheet.rarity
        weight = {stem: rarity.get(stem, 1.0) for stem in said}
        least = _SHARED * sum(weight.values())
        shared = {id: sum(weight[stem] for stem in said & stems) for id, stems in self._sheet.stems.items()}
        best = sorted((id for id in shared if shared[id] > least), key=lambda id: -shared[id])[:_TRIED]
        return [entry for id in best if (entry := self._sheet.find(id)) is not None]

    async def _read(self, text: str, judged: _Judgement, *, gated: bool) -> _Judgement:
        """What the encoder and the trained head make of it; where a gate is shut, only the score listens to them."""
        quotes = [entry.quote for entry in judged.entries]
        signals = dict(judged.signals)
        if not gated and (states := await self._states([text, *quotes])) is not None:
            signals["alignment"] = round(alignment(states[0], states[1:]), 3)
        if (read := await self._supported(text, " ".join(quotes))) is None:
            return structs.replace(judged, signals=signals)
        signals |= {"head": round(read.supported, 3), "denied": round(read.contradicted, 3)}
        likely = round(support(signals), 3)
        verdict = judged.verdict if gated else _reconsidered(judged.verdict, likely, signals)
        return _Judgement(verdict, likely, 2 if verdict != judged.verdict else 1, signals, judged.entries)

    async def _states(self, texts: Sequence[str]) -> "list[States] | None":
        """The texts' pieces; None without an encoder, and where it fails, which leaves it out from here on."""
        if self._checkers.encoder is None:
            return None
        try:
            return await self._checkers.encoder.states(texts)
        except ModelFailure:
            self._checkers = structs.replace(self._checkers, encoder=None)
            self._tell("sentences were not aligned with their sources: the encoder failed, and the log says why")
            return None

    async def _supported(self, text: str, evidence: str) -> "Support | None":
        """What the trained head says; None without one, and where it fails, which leaves it out from here on."""
        if self._checkers.heads is None:
            return None
        try:
            return (await self._checkers.heads.verify([(text, evidence)]))[0]
        except ModelFailure:
            self._checkers = structs.replace(self._checkers, heads=None)
            self._tell("sentences were checked by words alone: the trained heads failed, and the log says why")
            return None

    async def _stands(self, citation: Citation) -> Citation | None:
        """The citation with its page, if the quote is where it says, in the revision that was searched; else None."""
        try:
            stored = await self._shelf.document(self._collection, citation.document_id)
        except ModelFailure as error:
            if error.failure.kind == "not_found":
                return None
            raise
        if stored.revision != citation.revision or stored.text[citation.start : citation.end] != citation.quote:
            return None
        return structs.replace(citation, page=page_of(stored.pages, citation.start))


def _reconsidered(verdict: Verdict, likely: float, signals: Mapping[str, float]) -> Verdict:
    """The verdict of words on a sentence on which no gate is shut, after the head.

    The head may take support away, never give it: it does not see what was added to a sentence that is otherwise true.
    """
    if verdict == "supported":
        return verdict if likely >= _DOUBTFUL else "weak"
    if verdict == "weak" and likely < _DOUBTFUL:
        return "contradicted" if signals["denied"] >= _HEAD_DENIES else "unsupported"
    return "weak" if likely >= _WORTH_A_LOOK else verdict
