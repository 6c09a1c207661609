"""Cutting a stream of text in two: the reasoning, and the answer that stands between marks.

Knows the marks and how much of a text may be part of one; knows no model. Pure.
Invariant: no letter of the reasoning is given out as answer while the marks are kept; without marks the answer is what
can be read out of the whole text, at its end.
"""

from typing import Literal

from loam.core.tokens import estimate
from loam.prompting.answers import CLOSE, OPEN, answer_in, choice_in, last_paragraph, number_in

Extract = Literal["text", "number", "choice"]


class Split:
    """One choice's text on its way: reasoning until the answer opens, then the answer as it comes."""

    def __init__(self, *, visible: bool, extract: Extract) -> None:
        self._visible = visible
        self._extract = extract
        self._all: list[str] = []
        self._held = ""
        self._state: Literal["reasoning", "answer", "after"] = "reasoning"
        self._begun = False
        self.marked = False
        self.reasoning = 0

    def thought(self, text: str) -> str:
        """What of new text belongs to the reasoning and may be shown; the rest is held for `answer`."""
        self._all.append(text)
        self._held += text
        if self._state != "reasoning":
            return ""
        found = self._held.lower().find(OPEN)
        self.marked = found >= 0
        shown, self._held = _cut(self._held, found if self.marked else len(self._held) - len(OPEN))
        if self.marked:
            self._held = self._held[len(OPEN) :]
            self._state = "answer"
        self.reasoning += estimate(shown) if shown else 0
        return shown if self._visible else ""

    def answer(self) -> str:
        """What of the held text is answer for sure."""
        if self._state != "answer" or self._extract != "text":
            return ""
        if not self._begun:
            self._held = self._held.lstrip()
        end = self._held.lower().find(CLOSE)
        if end >= 0:
            self._state = "after"
            return self._held[:end].rstrip()
        shown = self._held[: max(0, len(self._held) - len(CLOSE))].rstrip()
        self._held = self._held[len(shown) :]
        self._begun = self._begun or bool(shown)
        return shown

    def end(self, *, whole: bool) -> str:
        """The rest of the answer; where it has no marks, or is cut down, what can be read out of it all."""
        if self._state == "answer" and self._extract == "text":
            return self._held.rstrip()
        if self._state == "after":
            return ""
        text = "".join(self._all)
        found = answer_in(text) or (last_paragraph(text) if whole else "")
        read = {"number": number_in, "choice": choice_in}.get(self._extract)
        return (read(found) if read is not None and found else None) or found


def _cut(text: str, place: int) -> tuple[str, str]:
    return text[: max(0, place)], text[max(0, place) :]
