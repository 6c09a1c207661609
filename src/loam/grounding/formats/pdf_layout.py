"""From the lines of a PDF to paragraphs, items, rows and headings.

Pure. Knows how pages are set: running heads, columns, tables, hyphens at line ends, paragraphs that go on overleaf.
Invariant: but for running heads and page numbers, every word of the lines is in the document, in reading order.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, pairwise
from statistics import mean

from msgspec import Struct

from loam.grounding.canonical import Writer
from loam.grounding.formats.pdf_lines import HYPHEN, Line
from loam.grounding.formats.source import cell, tidy

_LARGER = 1.2  # than the body: a heading
_LONGEST_HEADING = 160
_BULLET = re.compile(r"([•◦▪‣●○■–*\u2043\uf0b7-]|\(?\d{1,2}[.)]|[a-z]\))\s+(?=\S)")
_END = re.compile(r"[.!?:;…。！？][\"'”’)\]]*$")
_LEADERS = re.compile(r"(?:\s?\.){4,}\s*")
_NUMBER = re.compile(r"\d{1,5}$|^\d{1,5}")
_WORD = re.compile(r"\w+(?:-\w+)*")
_LETTERS = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}  # drawn as one letter
)

Headings = dict[int, dict[str, int]]
"""For each page the headings that the outline puts on it (see `key`), with their levels."""


def key(text: str) -> str:
    """What two renderings of a heading have in common: letters and digits, without the number before."""
    return "".join(filter(str.isalnum, re.sub(r"^[\d.\s]+(?=\D)", "", text.translate(_LETTERS)).casefold()))


def without_running_heads(pages: list[list[Line]]) -> list[list[Line]]:
    """The pages without what stands at the same place at the top or foot of three or more, page numbers included."""
    marks = {id(line): _mark(line) for lines in pages for line in _outermost(lines)}
    often = {mark for mark, count in Counter(marks.values()).items() if count > 2}
    return [[line for line in lines if marks.get(id(line)) not in often] for lines in pages]


def _outermost(lines: list[Line]) -> list[Line]:
    ordered = sorted(lines, key=lambda line: line.bottom)
    return ordered[:2] + ordered[2:][-2:]


def _mark(line: Line) -> tuple[str, int | None, int]:
    """Where a line stands and what it says; a number that counts with the pages is the same on all of them."""
    number = _NUMBER.search(line.text)
    ahead = int(number.group()) - line.page if number else None
    if number and number.end() == len(line.text):  # the words before it change from chapter to chapter
        text = "#"
    else:
        text = "#" if re.fullmatch("[ivxlc]+", line.text) else _NUMBER.sub("#", line.text)
    return text, ahead, round(line.bottom / 3)


def largest(lines: list[Line]) -> str:
    """The first page's line of the largest letters, where one stands out: its title, most likely."""
    size = max((line.size for line in lines), default=0.0)
    found = [line for line in lines if line.size > 0.95 * size]
    rest = [line.size for line in lines if line.size <= 0.95 * size]
    if len(found) > 3 or not rest or size < _LARGER * mean(rest):
        return ""
    return _clean(" ".join(line.text for line in found))[:_LONGEST_HEADING]


class Layout:
    """Writes lines as blocks; measures them all first, for what is large or wide depends on the rest."""

    def __init__(self, writer: Writer, lines: list[Line], outline: Headings) -> None:
        self._writer = writer
        self._lines = lines
        weights: Counter[float] = Counter()
        for line in lines:
            weights[round(line.size * 2) / 2] += len(line.text)
        self._body = max(weights, key=lambda size: weights[size], default=1.0)
        gaps = Counter(
            round(before.bottom - line.bottom)
            for before, line in pairwise(lines)
            if before.page == line.page and 0 < before.bottom - line.bottom < 3 * self._body
        )
        self._pitch = max(gaps, key=lambda gap: gaps[gap], default=self._body)
        self._words = Counter(word.casefold() for line in lines for word in _WORD.findall(line.text))
        self._outline = outline if self._fits(outline) else {}
        sizes = sorted({self._grade(line) for line in lines if line.size >= _LARGER * self._body}, reverse=True)
        self._levels = {size: min(level, 6) for level, size in enumerate(sizes, 1)}
        self._page = 0
        self._held: list[Line] = []

    def write(self, pages: int) -> None:
        """Writes all lines, and turns to the last of so many `pages`."""
        for _, group in groupby(self._lines, key=lambda line: line.page):
            for run in _runs(list(group)):
                self._write_run(run)
        self._end_block()
        self._turn(pages)

    def _fits(self, outline: Headings) -> bool:
        """Whether the outline's titles are words of the page; some are file names or in another language."""
        found = {(line.page, key(line.text)) for line in self._lines}
        titles = [(page, title) for page, titles in outline.items() for title in titles]
        return bool(titles) and 2 * sum(title in found for title in titles) >= len(titles)

    def _write_run(self, run: "_Run") -> None:
        if run.gutter is not None:
            self._write_lines(list(_by_columns(run.lines, run.gutter)))
        elif len(run.lines) > 1 and len(run.lines[0].cells) > 1:
            self._end_block()
            for line in run.lines:
                self._turn(line.page)
                self._writer.row([cell(_clean(one.text)) for one in line.cells])
        else:
            self._write_lines(run.lines)

    def _write_lines(self, lines: list[Line]) -> None:
        for line in lines:
            level = self._level(line)
            if level:
                if self._held and not (self._level(self._held[-1]) == level and self._follows(line)):
                    self._end_block()
            elif self._held and (self._level(self._held[-1]) or self._begins(line)):
                self._end_block()
            self._held.append(line)

    def _level(self, line: Line) -> int:
        """Which level of heading a line is; 0 for none."""
        text = line.text
        if not any(map(str.isalpha, text)) or len(text) > _LONGEST_HEADING:
            return 0
        if self._outline:
            return self._outline.get(line.page, {}).get(key(text), 0)
        return 0 if _BULLET.match(text) and not text[0].isdigit() else self._levels.get(self._grade(line), 0)

    def _grade(self, line: Line) -> int:
        return round(line.size)

    def _follows(self, line: Line) -> bool:
        """Whether a line stands right under the one before, as the second line of a heading does."""
        before = self._held[-1]
        return before.page == line.page and 0 < before.bottom - line.bottom < 1.7 * line.size

    def _begins(self, line: Line) -> bool:
        """Whether a line begins a paragraph or an item."""
        before = self._held[-1]
        ended = bool(_END.search(before.text))
        if before.text.endswith(HYPHEN):
            return False
        if _BULLET.match(line.text) and (ended or line.text[0] not in "-–*" or bool(_BULLET.match(self._held[0].text))):
            return True
        gap = before.bottom - line.bottom
        if before.page != line.page or gap < 0:  # overleaf, or the next column
            return ended or not line.text[0].islower()
        if gap > 1.2 * self._pitch:
            return True
        indented = line.left - before.left > 0.8 * line.size
        short = before.right < max(one.right for one in (*self._held, line)) - 2 * line.size
        return ended and (indented or short)

    def _end_block(self) -> None:
        if not self._held:
            return
        lines, self._held = self._held, []
        self._turn(lines[0].page)
        level = self._level(lines[0])
        bullet = None if level else _BULLET.match(lines[0].text)
        marker = _marker(bullet.group(1)) if bullet else ""
        joined = self._joined(lines, bullet.end() if bullet else 0)
        if not joined.text:
            return
        for page, within in joined.turns:
            self._page = page
            self._writer.page(within + (len(marker) + 1 if bullet else 0))
        if level:
            self._writer.heading(level, joined.text)
        elif bullet:
            self._writer.item(joined.text, marker=marker, depth=0)
        else:
            self._writer.paragraph(joined.text)

    def _turn(self, page: int) -> None:
        while self._page < page:
            self._page += 1
            self._writer.page()

    def _joined(self, lines: list[Line], skip: int) -> "_Joined":
        """The lines as one text, with words that were parted at line ends made whole."""
        text = _clean(lines[0].text[skip:])
        turns: list[tuple[int, int]] = []
        for before, line in pairwise(lines):
            after = _clean(line.text)
            text += self._bridge(text, after, parted=before.text.endswith(HYPHEN))
            if text.endswith("-") and not self._keeps_hyphen(text, after):
                text = text[:-1]
            turns.extend((page, len(text)) for page in range(before.page + 1, line.page + 1))
            text += after
        return _Joined(text, turns)

    def _bridge(self, text: str, after: str, *, parted: bool) -> str:
        if parted:
            return "-"
        return "" if re.search(r"\w-$", text) and after[:1].islower() else " "

    def _keeps_hyphen(self, text: str, after: str) -> bool:
        """Whether a hyphen at a line's end is the word's own: as the document writes it elsewhere, else by its case."""
        head, tail = re.search(r"(\w+)-$", text), re.match(r"\w+", after)
        if not head or not tail:
            return not tail or head is not None
        first, second = head.group(1), tail.group()
        whole = self._words[f"{first}{second}".casefold()]
        hyphened = self._words[f"{first}-{second}".casefold()]
        if whole or hyphened:
            return hyphened > whole
        return not (second[0].islower() or (first.isupper() and second.isupper()))


class _Joined(Struct, frozen=True):
    """Lines as one text; `turns` are the pages that begin within it, with where they do."""

    text: str
    turns: list[tuple[int, int]]


class _Run(Struct, frozen=True):
    """Lines of a page that belong together; `gutter` is where the second of two columns begins, if they are such."""

    lines: list[Line]
    gutter: float | None = None


def _runs(lines: list[Line]) -> Iterator[_Run]:
    """A page whose lines run on through two columns in one run, else rows of a table apart from the rest."""
    parted = [place for place, line in enumerate(lines) if len(line.cells) > 1]
    if parted:
        first, last = parted[0], parted[-1] + 1
        gutter = _gutter([lines[place] for place in parted])
        if gutter is not None and 2 * len(parted) > last - first:
            yield _Run(lines[:first])
            yield _Run(lines[first:last], gutter)
            yield _Run(lines[last:])
            return
    for _, group in groupby(lines, key=lambda line: len(line.cells) > 1):
        yield _Run(list(group))


def _gutter(parted: list[Line]) -> float | None:
    """Where a second column of running text begins; a table's cells hold fewer words."""
    if len(parted) < 4 or any(len(line.cells) != 2 for line in parted):
        return None
    lefts = [line.cells[1].left for line in parted]
    words = min(mean(len(line.cells[place].text.split()) for line in parted) for place in (0, 1))
    return min(lefts) if words >= 4 and max(lefts) - min(lefts) < 2 * parted[0].size else None


def _by_columns(lines: list[Line], gutter: float) -> Iterator[Line]:
    cells = [(line, one) for line in lines for one in line.cells]
    for second in (False, True):
        for line, one in cells:
            if (one.left >= gutter - 1) == second:
                yield Line(line.page, (one,), line.bottom, line.size)


def _marker(bullet: str) -> str:
    return f"{bullet.strip('(.)')}." if bullet.strip("(.)").isdigit() else "-"


def _clean(text: str) -> str:
    return tidy(_LEADERS.sub(" … ", text.translate(_LETTERS)))
