"""The lines of a PDF's page, with where they stand and how large they are.

Knows PDFium. PDFium gives the letters in the order in which the page draws them, which is nearly always that of
reading; it says where they stand for as long as one asks letter by letter, so only the ends of words are asked for.
Invariant: every letter that PDFium gives is in exactly one line, in its order.
"""

import ctypes
import importlib
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

pdfium: Any = importlib.import_module("pypdfium2.raw")  # it comes without types

HYPHEN = "\ufffe"
"""What PDFium makes of a hyphen at the end of a line."""
_LINE = re.compile(rf"[^\r\n{HYPHEN}]*(?:{HYPHEN}|\r\n|\n|\r|\Z)")
_WIDE_GAP = 1.4  # of the letters' size: justified text opens gaps of one


class Cell(Struct, frozen=True):
    """A stretch of a line between wide gaps."""

    text: str
    left: float
    right: float


class Line(Struct, frozen=True):
    """One line of a page; `bottom` counts upwards from the page's foot, `size` is the height of its letters."""

    page: int
    cells: tuple[Cell, ...]
    bottom: float
    size: float

    @property
    def text(self) -> str:
        return " ".join(cell.text for cell in self.cells)

    @property
    def left(self) -> float:
        return self.cells[0].left

    @property
    def right(self) -> float:
        return self.cells[-1].right


def page_lines(textpage: Any, number: int) -> Iterator[Line]:
    """The lines of a page that are not blank; a word parted by a hyphen ends its line with `HYPHEN`."""
    text: str = textpage.get_text_range()
    boxes = _Boxes(textpage.raw)
    for found in _LINE.finditer(text):
        start, end = found.span()
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        if start < end:
            yield _line(text, start, end, boxes, number)


def _line(text: str, start: int, end: int, boxes: "_Boxes", number: int) -> Line:
    drawn = end - 1 if text[end - 1] == HYPHEN and end - 1 > start else end
    first, last = boxes.of(start), boxes.of(drawn - 1)
    size = max(abs(first.top - first.bottom), abs(last.top - last.bottom), 1.0)
    cells: list[Cell] = []
    begun, left = start, first.left
    for space in re.finditer(r"[ \t\u00a0]+", text[start:end]):
        before, after = boxes.of(start + space.start() - 1), boxes.of(start + space.end())
        if after.left - before.right > _WIDE_GAP * size:
            cells.append(Cell(text[begun : start + space.start()], left, before.right))
            begun, left = start + space.end(), after.left
    cells.append(Cell(text[begun:end], left, last.right))
    return Line(number, tuple(cells), first.bottom, size)


class _Box(Struct, frozen=True):
    left: float
    right: float
    bottom: float
    top: float


class _Boxes:
    """Where each letter of a page stands, from its place in the page's text."""

    def __init__(self, textpage: Any) -> None:
        self._textpage = textpage
        self._rectangle = pdfium.FS_RECTF()
        self._reference = ctypes.byref(self._rectangle)

    def of(self, position: int) -> _Box:
        index = pdfium.FPDFText_GetCharIndexFromTextIndex(self._textpage, position)
        if index < 0 or not pdfium.FPDFText_GetLooseCharBox(self._textpage, index, self._reference):
            return _Box(0, 0, 0, 0)
        found = self._rectangle
        return _Box(found.left, found.right, found.bottom, found.top)
