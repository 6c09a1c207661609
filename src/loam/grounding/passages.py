"""Cuts a document into passages: pieces of one section, some 120 to 200 words, made of whole sentences.

Pure. Invariants: a passage never crosses a heading; passages of a section follow each other and together hold all its
sentences; only a sentence longer than a passage may be is cut, at white space where there is some.
"""

from collections.abc import Iterator

from msgspec import Struct

from loam.grounding.canonical import Document, Section
from loam.grounding.sentences import sentences
from loam.grounding.terms import words

LONGEST = 200
_LETTERS_PER_WORD = 8  # text without spaces counts by its length


class Piece(Struct, frozen=True):
    """A passage as cut: `document.text[start:end]`, under the headings `section`."""

    section: str
    start: int
    end: int


class _Unit(Struct, frozen=True):
    """A sentence, or a stretch of one, with its weight in words."""

    start: int
    end: int
    size: int


def cut(document: Document, longest: int = LONGEST) -> Iterator[Piece]:
    """The passages of a document in order; a section of at most `longest` words stays whole."""
    for section in document.sections:
        heading = " > ".join(section.path)
        for start, end in _packed(_units(document.text, section, longest), longest):
            yield Piece(heading, start, end)


def _packed(units: list[_Unit], longest: int) -> Iterator[tuple[int, int]]:
    """Fills passages evenly: a section of 250 words gives two of 125 rather than one of 200 and a rest."""
    total = sum(unit.size for unit in units)
    pieces = -(-total // longest)
    wanted = total / pieces if pieces else 0
    held: list[_Unit] = []
    size = 0
    for unit in units:
        if held and (size + unit.size > longest or size >= wanted):
            yield held[0].start, held[-1].end
            held, size = [], 0
        held.append(unit)
        size += unit.size
    if held:
        yield held[0].start, held[-1].end


def _units(text: str, section: Section, longest: int) -> list[_Unit]:
    units: list[_Unit] = []
    for sentence in sentences(text, section.start, section.end):
        size = _size(text, sentence.start, sentence.end)
        if size <= longest:
            units.append(_Unit(sentence.outer_start, sentence.outer_end, size))
        else:
            room = max(1, (sentence.end - sentence.start) * longest // size)
            units.extend(_shredded(text, sentence.start, sentence.end, room))
    return units


def _shredded(text: str, start: int, end: int, room: int) -> Iterator[_Unit]:
    """A sentence beyond all measure (a table of one line, a text without stops) in stretches of `room` letters."""
    while start < end:
        stop = min(start + room, end)
        if stop < end and (space := _last_space(text, start + room // 2, stop)) > 0:
            stop = space
        yield _Unit(start, stop, _size(text, start, stop))
        start = stop
        while start < end and text[start].isspace():
            start += 1


def _last_space(text: str, start: int, stop: int) -> int:
    for position in range(stop - 1, start, -1):
        if text[position].isspace():
            return position
    return -1


def _size(text: str, start: int, end: int) -> int:
    return max(len(words(text[start:end])), (end - start) // _LETTERS_PER_WORD)
