"""The one form that every document takes: a title, a canonical text, and where its sections lie.

Knows how blocks are laid out in canonical text (`loam.grounding.sentences` reads it back). Knows no file format.
Invariant: a citation's offsets count the characters of `Document.text`, which is stored as it is and never re-made from
the file; sections are in order, never overlap, and never hold a heading.
"""

from bisect import bisect_right
from typing import Literal

from msgspec import Struct

Kind = Literal["heading", "paragraph", "item", "row", "code"]


class Section(Struct, frozen=True):
    """The text under one heading, `text[start:end]`; `path` holds the headings above it, outermost first."""

    path: tuple[str, ...]
    start: int
    end: int


class Document(Struct, frozen=True):
    """A document that was read: what is stored, cited, and cut into passages."""

    title: str
    text: str
    sections: tuple[Section, ...]
    pages: tuple[int, ...] = ()
    """Where each page begins in `text`, in order, for formats that have pages."""
    remarks: tuple[str, ...] = ()
    """What was guessed or passed over while reading, for whoever takes the document in."""


def page_of(pages: tuple[int, ...], offset: int) -> int | None:
    """The page, counted from 1, that holds the character at `offset`; None where there are no pages.

    ```python
    page_of((0, 812, 1630), 900)  # 2
    ```
    """
    return bisect_right(pages, offset) or None


class Writer:
    """Lays blocks out as canonical text and keeps account of the sections.

    ```python
    writer = Writer()
    writer.heading(2, "Leave")
    writer.paragraph("You may take leave.")
    writer.document("Handbook").sections[0].path  # ("Leave",)
    ```
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._last: Kind | None = None
        self._headings: list[tuple[int, str]] = []
        self._sections: list[Section] = []
        self._start = 0
        self._pages: list[int] = []
        self._coming: list[int] = []
        self._remarks: list[str] = []

    def heading(self, level: int, text: str) -> None:
        """Ends the section before it and opens one under `text`."""
        self.section(level, text)
        self._append(text, "heading")
        self._start = self._length

    def section(self, level: int, text: str) -> None:
        """As `heading`, where the text of the section itself says what it is called: nothing is written."""
        self._end_section()
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        self._headings.append((level, text))
        self._start = self._length

    def page(self, within: int = 0) -> None:
        """A page begins with the block that is written next, or `within` so many characters of it."""
        self._coming.append(within)

    def remark(self, text: str) -> None:
        """Notes something that whoever takes the document in should know; said once however often it is noted."""
        if text not in self._remarks:
            self._remarks.append(text)

    def paragraph(self, text: str) -> None:
        self._append(text, "paragraph")

    def item(self, text: str, *, marker: str, depth: int) -> None:
        self._append(f"{'  ' * depth}{marker} {text}", "item")

    def row(self, cells: list[str]) -> None:
        self._append(f"| {' | '.join(cells)} |", "row")

    def code(self, text: str) -> None:
        fence = "```"
        while fence in text:
            fence += "`"
        self._append(f"{fence}\n{text}\n{fence}", "code")

    def document(self, title: str) -> Document:
        """Everything written so far; a heading that only repeats the title is left out of the sections' paths."""
        self._end_section()
        self._start = self._length
        sections = tuple(
            Section(section.path[1:], section.start, section.end) if section.path[:1] == (title,) else section
            for section in self._sections
        )
        pages = (*self._pages, *(self._length for _ in self._coming))
        return Document(title, "".join(self._parts), sections, pages, tuple(self._remarks))

    def _append(self, text: str, kind: Kind) -> None:
        gap = "\n" if kind == self._last and kind in {"item", "row"} else "\n\n"
        piece = gap + text if self._length else text
        self._parts.append(piece)
        self._length += len(piece)
        self._pages.extend(self._length - len(text) + within for within in self._coming)
        self._coming.clear()
        self._last = kind

    def _end_section(self) -> None:
        if self._length > self._start:
            path = tuple(text for _, text in self._headings)
            self._sections.append(Section(path, self._start, self._length))
