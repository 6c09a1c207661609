"""One grounded answer: what the model says, sentence by sentence through the checks, and out with its citations.

Knows the model's stream, the verifier and the release; what a sentence is worth and how it leaves is theirs to know.
Invariants: a sentence leaves once, after its verdict, in the order in which the model said it; from the first one that
fails on, those behind it wait for the one attempt at repair; nothing but sentences and tool calls passes in `strict`.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec import Struct, structs

from loam.core.answers import Collector
from loam.core.branches import added
from loam.core.calls import Call, Citation, Delta, Finish, SentenceCheck, Usage
from loam.core.messages import say
from loam.grounding.aside import Asides
from loam.grounding.claims import Claim, Claims, Marked
from loam.grounding.prompt import repair_rules, statements
from loam.grounding.reader import NAME
from loam.grounding.release import Mode, Release
from loam.grounding.sheet import Sheet
from loam.grounding.verify import Verifier

_MOST_REPAIRED = 12
_LINE = re.compile(r"^\W*(\d{1,2})\s*[:.)]\s*(.+)$", re.MULTILINE)


class Judged(Struct, frozen=True):
    """A sentence and its verdict."""

    claim: Claim
    check: SentenceCheck


class Quoted:
    """Takes the reader's answer: stretches of documents, each with its citation."""

    def __init__(self) -> None:
        self._collector = Collector()

    def add(self, delta: Delta) -> None:
        self._collector.add(delta)

    def pieces(self) -> list[tuple[Claim, Citation]]:
        """Each stretch as a sentence, with the citation that it came with; what has none is left out."""
        answer = self._collector.answer()
        text, citations = answer.text, answer.choices[0].citations if answer.choices else ()
        said = [text[citation.answer_start : citation.answer_end] for citation in citations]
        return [(Claim(quote, quote, " ", ()), citation) for quote, citation in zip(said, citations, strict=True)]


class _End(Struct):
    """What is kept of a stream for its end."""

    finish: Finish | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None


class Answering:
    """Turns the stream of one call's model into a grounded one. `repairs` names the model that may mend, or nobody."""

    def __init__(
        self, call: Call, sheet: Sheet, verifier: Verifier, asides: Asides, *, mode: Mode, repairs: str
    ) -> None:
        self._call = call
        self._sheet = sheet
        self._verifier = verifier
        self._asides = asides
        self._mode: Mode = mode
        self._repairs = repairs
        self._release = Release(mode)
        self._held: list[Judged] = []
        self._end = _End()

    async def ground(self, stream: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
        """The deltas that may leave, for those that come."""
        claims: Claims | Quoted = Claims()
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                if delta.head is not None and delta.head.model == NAME:
                    claims = Quoted()
                if passing := self._passing(delta):
                    yield passing
                if isinstance(claims, Quoted):
                    claims.add(delta)
                    continue
                for claim in claims.feed(delta.text) if delta.text else ():
                    for out in await self._next(await self._judged(claim)):
                        yield out
        for judged in await self._last(claims):
            for out in await self._next(judged):
                yield out
        for out in await self._rest():
            yield out
        end = self._end
        yield Delta(finish=end.finish or "stop", stop_sequence=end.stop_sequence)
        yield Delta(usage=added(self._asides.usage, end.usage))

    def _passing(self, delta: Delta) -> Delta | None:
        """What of a delta leaves at once; the text waits for its verdict, the end for its turn."""
        end = self._end
        end.finish = delta.finish or end.finish
        end.stop_sequence = delta.stop_sequence or end.stop_sequence
        end.usage = delta.usage or end.usage
        head = None if delta.head is None else structs.replace(delta.head, extra=None)
        tool = delta.tool if self._call.tools else None
        open_minded = self._mode != "strict"
        passing = Delta(
            head=head,
            tool=tool,
            thinking=delta.thinking if open_minded else "",
            signature=delta.signature if open_minded else "",
            redacted=delta.redacted if open_minded else "",
        )
        return passing if passing != Delta() else None

    async def _last(self, claims: "Claims | Quoted") -> Sequence[Judged]:
        """What is left when the stream has ended; a sentence that broke off is whole only if the model meant to end."""
        if isinstance(claims, Quoted):
            return [Judged(claim, await self._verifier.quoted(claim, given)) for claim, given in claims.pieces()]
        meant = self._end.finish not in ("length", "context_window", "content_filter", None)
        return [await self._judged(structs.replace(claim, whole=claim.whole or meant)) for claim in claims.end()]

    async def _judged(self, claim: Claim) -> Judged:
        looked = self._verifier.pointed if self._mode == "off" else self._verifier.check
        return Judged(claim, await looked(claim))

    async def _next(self, judged: Judged) -> Sequence[Delta]:
        """The sentence leaves now, unless one before it waits to be mended."""
        if self._held or (self._repairs and not self._release.passes(judged.check)):
            self._held.append(judged)
            return ()
        return tuple(self._release.out(judged.claim, judged.check))

    async def _rest(self) -> Sequence[Delta]:
        """What waited, mended where it could be, and the refusal where nothing is left."""
        failed = [judged for judged in self._held if not self._release.passes(judged.check)][:_MOST_REPAIRED]
        mended = await self._mended(failed) if failed else {}
        out: list[Delta] = []
        for judged in self._held:
            better = mended.get(id(judged))
            if better is not None:
                out.append(Delta(checks=(judged.check,)))
            kept = better or judged
            out += self._release.out(kept.claim, kept.check)
        called = self._end.finish == "tool_calls" and bool(self._call.tools)
        return out if called else [*out, *self._release.end()]

    async def _mended(self, failed: Sequence[Judged]) -> dict[int, Judged]:
        """The failed sentences that the model could put so that the documents support them, by identity."""
        asked = statements(self._sheet, [judged.claim.text for judged in failed])
        messages = (say("system", repair_rules(self._sheet)), say("user", asked))
        said = await self._asides.ask(self._repairs, messages, most=120 * len(failed) + 200)
        mended: dict[int, Judged] = {}
        for number, text in _LINE.findall(said or ""):
            place = int(number) - 1
            if 0 <= place < len(failed):
                better = await self._better(failed[place], text)
                if better is not None:
                    mended[id(failed[place])] = better
        return mended

    async def _better(self, failed: Judged, text: str) -> Judged | None:
        """A rewritten sentence, if it is one and the documents support it."""
        marked = Marked()
        claims = [*marked.feed(text), *marked.end()]
        if len(claims) != 1:
            return None
        claim = structs.replace(claims[0], lead=failed.claim.lead, whole=True)
        check = await self._verifier.check(claim)
        return Judged(claim, structs.replace(check, repaired=True)) if check.verdict == "supported" else None
