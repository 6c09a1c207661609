"""A text's sentences, and the bounds that they state.

Pure. Knows how instructions are written in English: hard-wrapped paragraphs, bullets, headings. Knows no prompt format.
Invariant: a sentence's line is that of its first character in the text it came from.
"""

import re
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from loam.prompting.lint.words import WORDS

_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"”’)*]))\s+(?=[\"“(`*<A-Z])|\n\s*\n|\n(?=\s*(?:[-*•]\s|\d+[.)]\s|#))")
_CODE = re.compile(r"```.*?```|`[^`\n]*`|\"[^\"\n]*\"|“[^”\n]*”|</?\w[^<>\n]*>", re.DOTALL)

_LONGEST = 600
"""Characters of a sentence; what runs on longer is cut, so that no pattern is lost in it."""

Way = Literal["most", "least", "exact"]

_SPELT = {
    **{word: number for number, word in enumerate(WORDS.numbers)},
    **{"a single": 1, "single": 1, "twenty": 20, "thirty": 30, "fifty": 50, "hundred": 100},
}
NUMBER = rf"(?:\d[\d,]*|{'|'.join(sorted(_SPELT, key=len, reverse=True))})"
UNIT = "(?:" + "|".join(f"{unit[:-1]}(?:y|ies)" if unit.endswith("y") else f"{unit}s?" for unit in WORDS.units) + ")"
_MOST = (
    r"at most|no more than|not more than|up to|a maximum of|maximum|max\.?|fewer than|less than|under|within|below|"
    r"limit(?:ed)? to"
)
_LEAST = r"at least|no fewer than|no less than|not less than|a minimum of|minimum|min\.?|more than"
_BOUND = re.compile(
    rf"\b(?:(?P<most>{_MOST})|(?P<least>{_LEAST})|(?P<exact>exactly|precisely))?\s*"
    rf"\b(?P<low>{NUMBER})(?:\s*(?:-|–|to|or|and)\s*(?P<high>{NUMBER}))?"
    rf"\s+(?:[a-z-]+\s+){{0,2}}?(?P<unit>{UNIT})\b"
    rf"(?P<after>\s+(?:at most|or fewer|or less|maximum|max|at least|or more))?",
    re.IGNORECASE,
)
_PART = re.compile(r"\b(?:each|every|per|apiece)\b", re.IGNORECASE)


class Sentence(Struct, frozen=True):
    """`text` has single spaces; `line` counts from 0."""

    text: str
    line: int

    @property
    def bare(self) -> str:
        """Without what stands in quotes, as code or as a tag: that is spoken about, not said."""
        return _CODE.sub(" ", self.text)


class Bound(Struct, frozen=True):
    """How many of a unit; `part`: of each part, not of the whole."""

    way: Way
    number: int
    unit: str
    part: bool
    sentence: Sentence


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text, in order; a bullet and a heading are one each."""
    found: list[Sentence] = []
    start = line = 0
    for gap in [*_END.finditer(text), None]:
        end = gap.start() if gap else len(text)
        piece = text[start:end]
        if piece.strip():
            lead = len(piece) - len(piece.lstrip())
            words = " ".join(piece.split())
            found += [
                Sentence(words[at : at + _LONGEST], line + piece.count("\n", 0, lead))
                for at in range(0, len(words), _LONGEST)
            ]
        after = gap.end() if gap else end
        line += text.count("\n", start, after)
        start = after
    return found


def bounds(found: list[Sentence]) -> Iterator[Bound]:
    """Every length or quantity that sentences state, largest and smallest apart."""
    for sentence in found:
        for match in _BOUND.finditer(sentence.text):
            unit = match["unit"].lower()
            unit = re.sub(r"ies$", "y", unit).rstrip("s")
            near = sentence.text[max(0, match.start() - 30) : match.end() + 20]
            part = bool(_PART.search(near))
            low = number(match["low"])
            if match["high"]:
                yield Bound("least", low, unit, part, sentence)
                yield Bound("most", number(match["high"]), unit, part, sentence)
            else:
                yield Bound(_way(match), low, unit, part, sentence)


def _way(match: "re.Match[str]") -> Way:
    after = (match["after"] or "").strip().lower()
    if match["most"] or after in ("at most", "or fewer", "or less", "maximum", "max"):
        return "most"
    return "least" if match["least"] or after else "exact"


def number(text: str) -> int:
    """A number written in digits or as a word up to fifteen."""
    return _SPELT.get(text.lower(), 0) if text[:1].isalpha() else int(text.replace(",", ""))
