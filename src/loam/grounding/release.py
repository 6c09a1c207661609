"""Lets the sentences of an answer out one by one, each after its verdict, with its citations and its place.

Knows verdicts and modes; asks nobody. Invariant (P4): in `strict` no letter leaves that is not part of a supported
sentence, of a free one that leads to or follows such a sentence, or of the fixed text that declines.
"""

from collections.abc import Iterator
from typing import Literal

from msgspec import structs

from loam.core.calls import Citation, Delta, SentenceCheck
from loam.grounding.claims import Claim
from loam.grounding.prompt import DECLINED

Mode = Literal["strict", "mark", "off"]

_FLAGS = {"unsupported": " [unsupported]", "contradicted": " [unsupported]", "weak": " [unverified]"}


class Release:
    """The account of one answer: what went out, up to which character, and what was held back."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._length = 0
        self._waiting: list[tuple[Claim, SentenceCheck]] = []
        self._stated = False

    def passes(self, check: SentenceCheck) -> bool:
        """Whether a sentence may leave as it is."""
        return check.verdict in ("supported", "free") or self._mode == "off"

    def out(self, claim: Claim, check: SentenceCheck) -> Iterator[Delta]:
        """What leaves now that the verdict on the next sentence is known."""
        if self._mode == "strict" and not self.passes(check):
            yield Delta(checks=(check,))
        elif check.verdict == "free" and self._mode == "strict" and not self._stated:
            self._waiting.append((claim, check))  # courtesy alone is no answer
        else:
            self._stated = True
            for early in (*self._waiting, (claim, check)):
                yield self._said(*early)
            self._waiting = []

    def end(self) -> Iterator[Delta]:
        """What is left to say when no sentence comes any more: that the documents do not say, where none did."""
        if self._stated:
            return
        held = tuple(check for _, check in self._waiting)
        self._waiting = []
        yield Delta(text=DECLINED, checks=held)

    def _said(self, claim: Claim, check: SentenceCheck) -> Delta:
        flag = "" if self.passes(check) else _FLAGS[check.verdict]
        lead = (claim.lead or " ") if self._length else ""
        start = self._length + len(lead) + claim.shown.find(claim.text)
        end = start + len(claim.text)
        text = f"{lead}{claim.shown}{flag}"
        self._length += len(text)
        stands = self._mode == "off" or check.verdict in ("supported", "weak")  # a flagged sentence cites nothing
        citations = tuple(_placed(citation, start, end) for citation in check.evidence) if stands else ()
        checks = () if self._mode == "off" else (structs.replace(check, released=True, start=start, end=end),)
        return Delta(text=text, citations=citations, checks=checks)


def _placed(citation: Citation, start: int, end: int) -> Citation:
    return structs.replace(citation, answer_start=start, answer_end=end)
