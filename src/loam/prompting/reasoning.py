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
        self._thoughts: list[str] = []
        self._told = 8
        self.marked = False

    @property
    def reasoning(self) -> int:
        """Tokens that the reasoning has so far, about."""
        return estimate("".join(self._thoughts))

    def hides(self, text: str) -> bool:
        """Takes text that is plainly reasoning and not to be shown, as most of a stream is; else leaves it alone."""
        if self._visible or self._held or self._state != "reasoning" or "<" in text:
            return False
        self._all.append(text)
        self._thoughts.append(text)
        return True

    def progress(self) -> int:
        """Pieces of reasoning so far, each time they have doubled; else 0: news for a reader who sees none of them."""
        if len(self._thoughts) < self._told:
            return 0
        self._told = 2 * len(self._thoughts)
        return len(self._thoughts)

    def thought(self, text: str) -> str:
        """What of new text belongs to the reasoning and may be shown; the rest is held for `answer`."""
        self._all.append(text)
        if self._state != "reasoning":
            self._held += text
            return ""
        shown = text
        if self._held or "<" in text:
            shown = self._until_mark(self._held + text)
        self._thoughts.append(shown)
        return shown if self._visible else ""

    def _until_mark(self, text: str) -> str:
        """Reasoning up to the mark, or to what may become one; the rest is held."""
        low = text.lower()
        place = low.find(OPEN)
        if place >= 0:
            self.marked, self._state = True, "answer"
            self._held = text[place + len(OPEN) :]
            return text[:place]
        place = low.rfind("<")
        place = place if OPEN.startswith(low[place:]) else len(text)
        self._held = text[place:]
        return text[:place]

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
