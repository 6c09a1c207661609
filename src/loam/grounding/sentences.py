"""Where sentences, list items, table rows and code begin and end in a canonical text.

Knows the shape that `loam.grounding.canonical` gives to text: blank lines between blocks, "- " or "1. " before list
items, "| " before table rows, fences around code. Knows no file format and no question.
Invariant: the stretches are in order, never overlap, and hold every character but white space, markers and fences.
"""

import re
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

Kind = Literal["prose", "item", "row", "code"]

_FENCE = re.compile(r"^(`{3,})[^`\n]*\n(.*?)(?:^\1`*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_MARKER = r"(?:[-*•+]|\d{1,3}[.)]|\|)[ \t]+"
_BLOCK = re.compile(rf"\n[ \t]*\n\s*|\n(?=[ \t]*{_MARKER})")
_LEAD = re.compile(rf"\s*((?:{_MARKER})?)")
_STOP = re.compile(r"(?<![.!?…])[.!?…۔؟।]++[\"'”’)\]]*+(?=\s)|[。！？｡]++[”’」』）]*+")
_ABBREVIATION = re.compile(
    r"\b(?:(?:[a-z]\.)*[a-z]|mr|mrs|ms|dr|prof|st|jr|sr|vs|fig|sec|al|cf|approx|inc|ltd|co|dept)$", re.IGNORECASE
)


class Sentence(Struct, frozen=True):
    """The stretch `text[start:end]`; `kind` says what it is a sentence of.

    `text[outer_start:outer_end]` also holds the list marker before it, the bars of a row, the fences of code.
    """

    start: int
    end: int
    kind: Kind
    outer_start: int
    outer_end: int


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[Sentence]:
    """The sentences between `start` and `end`, in order."""
    end = len(text) if end is None else end
    position = start
    for fence in _FENCE.finditer(text, start, end):
        yield from _prose(text, position, fence.start())
        code = _stripped(text, *fence.span(2))
        if code:
            yield Sentence(*code, "code", *fence.span())
        position = fence.end()
    yield from _prose(text, position, end)


def _prose(text: str, start: int, end: int) -> Iterator[Sentence]:
    position = start
    for gap in _BLOCK.finditer(text, start, end):
        yield from _block(text, position, gap.start())
        position = gap.end()
    yield from _block(text, position, end)


def _block(text: str, start: int, end: int) -> Iterator[Sentence]:
    """A paragraph, a list item or a table row; only a row is never taken apart."""
    lead = _LEAD.match(text, start, end)
    if lead is None:
        return
    outer, position = lead.start(1), lead.end()
    if lead.group(1).startswith("|"):
        row = _stripped(text, position, end, "|")
        if row:
            yield Sentence(*row, "row", outer, end)
        return
    kind: Kind = "item" if lead.group(1) else "prose"
    stops = (stop.end() for stop in _STOP.finditer(text, position, end) if _ends(text, stop, end))
    for stop in (*stops, end):
        found = _stripped(text, position, stop)
        if found:
            yield Sentence(*found, kind, min(outer, found[0]), found[1])
            outer, position = end, stop


def _ends(text: str, stop: re.Match[str], end: int) -> bool:
    """Whether a stop ends a sentence: not before a word in lower case, and a full stop not after an abbreviation."""
    after = stop.end()
    while after < end and (text[after].isspace() or text[after] in "\"'“‘(["):
        after += 1
    if after < end and text[after].islower():
        return False
    return stop.group() != "." or not _ABBREVIATION.search(text, max(0, stop.start() - 12), stop.start())


def _stripped(text: str, start: int, end: int, also: str = "") -> tuple[int, int] | None:
    """The stretch without white space (and `also`) at either end; None where nothing is left."""
    while start < end and (text[start].isspace() or text[start] in also):
        start += 1
    while end > start and (text[end - 1].isspace() or text[end - 1] in also):
        end -= 1
    return (start, end) if start < end else None
