"""Word: headings, paragraphs, lists and tables in the order of the body.

Knows python-docx for the package and its styles; walks the XML of the body itself, for what reviewers inserted, forms
and text boxes hold is text too, and python-docx passes it over. Headers, footers and deleted text are left out.
Invariant: a text box that is stored twice (for new Word and old) is read once.
"""

import io
import re
from collections.abc import Iterator
from typing import Any, cast

import docx
from docx.document import Document as Package
from docx.oxml import parse_xml
from msgspec import Struct

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.archive import Archive
from loam.grounding.formats.source import Source, cell, tidy

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_PARAGRAPH, _TABLE, _ROW, _CELL = f"{_W}p", f"{_W}tbl", f"{_W}tr", f"{_W}tc"
_BLOCKS = {_PARAGRAPH, _TABLE}
_UNREAD = {
    *(f"{_W}{name}" for name in ("pPr", "rPr", "del", "moveFrom", "instrText", "sdtPr")),
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
}
_BREAKS = {f"{_W}tab", f"{_W}br", f"{_W}cr"}


class _Style(Struct, frozen=True):
    """What a paragraph style means here: a heading's level (0 for the title), or a list's numbering."""

    level: int | None
    numbering: str


def read(source: Source) -> Document:
    """Raises DocumentError for archives that are damaged or dangerous."""
    archive = Archive(source)
    archive.check_xml()
    archive.needs("word/document.xml", "a Word document")
    package = docx.Document(io.BytesIO(source.data))
    walk = _Walk(_styles(package), _bullets(package))
    for block in _found(cast("Any", package).element.body, _BLOCKS):
        walk.block(block)
    for part in ("footnotes", "endnotes"):
        for note in _part(package, part):
            walk.block(note)
    return walk.writer.document(walk.title or tidy(package.core_properties.title) or source.title)


class _Walk:
    """Writes the blocks of the body; knows how far each list has counted."""

    def __init__(self, styles: dict[str, _Style], bullets: set[tuple[str, int]]) -> None:
        self.writer = Writer()
        self.title = ""
        self._styles = styles
        self._bullets = bullets
        self._counts: dict[tuple[str, int], int] = {}

    def block(self, element: Any) -> None:
        if element.tag == _TABLE:
            self._table(element)
        elif element.tag == _PARAGRAPH:
            self._paragraph(element)
            for inner in _found(element, _BLOCKS):  # text boxes
                self.block(inner)
        else:
            for inner in _found(element, _BLOCKS):
                self.block(inner)

    def _paragraph(self, element: Any) -> None:
        text = tidy("".join(_pieces(element)))
        if not text:
            return
        style = self._styles.get(_value(element, "pPr/pStyle"), _PLAIN)
        numbering = _value(element, "pPr/numPr/numId") or style.numbering
        if style.level is not None:
            self.title = self.title or (text if style.level == 0 else "")
            self.writer.heading(style.level, text)
        elif numbering not in {"", "0"}:
            depth = _small(_value(element, "pPr/numPr/ilvl"))
            self.writer.item(text, marker=self._marker(numbering, depth), depth=depth)
        else:
            self.writer.paragraph(text)

    def _marker(self, numbering: str, depth: int) -> str:
        if (numbering, depth) in self._bullets:
            return "-"
        for deeper in range(depth + 1, 10):
            self._counts.pop((numbering, deeper), None)
        self._counts[numbering, depth] = self._counts.get((numbering, depth), 0) + 1
        return f"{self._counts[numbering, depth]}."

    def _table(self, element: Any) -> None:
        """A table of one cell is a box around text."""
        for row in _found(element, {_ROW}):
            cells = list(_found(row, {_CELL}))
            if len(cells) == 1:
                self.block(cells[0])
                continue
            texts = [cell(" ".join("".join(_pieces(one)) for one in each.iter(_PARAGRAPH))) for each in cells]
            if any(texts):
                self.writer.row(texts)


_PLAIN = _Style(None, "")


def _found(element: Any, tags: set[str]) -> Iterator[Any]:
    """The nearest elements of these kinds within, whatever they are wrapped in."""
    for child in element:
        if child.tag in tags:
            yield child
        elif child.tag not in _UNREAD:
            yield from _found(child, tags)


def _pieces(element: Any) -> Iterator[str]:
    """The text of one paragraph without that of the text boxes in it."""
    for child in element:
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _BREAKS:
            yield " "
        elif child.tag == f"{_W}noBreakHyphen":
            yield "-"
        elif child.tag not in _UNREAD and child.tag not in _BLOCKS:
            yield from _pieces(child)


def _value(element: Any, path: str) -> str:
    found = element.find("/".join(_W + step for step in path.split("/")))
    return "" if found is None else found.get(f"{_W}val") or ""


def _small(number: str) -> int:
    return int(number) if re.fullmatch("[0-8]", number) else 0


def _styles(package: Package) -> dict[str, _Style]:
    """What each style means, by itself or by the style it is based on."""
    elements = {style.style_id: style.element for style in package.styles}
    return {name: _style(elements, element) for name, element in elements.items()}


def _style(elements: dict[str, Any], element: Any) -> _Style:
    seen: set[str] = set()
    while element is not None:
        name = _value(element, "name").lower()
        if name == "title":
            return _Style(0, "")
        outline = _value(element, "pPr/outlineLvl")
        heading = re.fullmatch("heading ([1-9])", name)
        if heading or re.fullmatch("[0-8]", outline):
            return _Style(int(heading[1]) if heading else int(outline) + 1, "")
        if numbering := _value(element, "pPr/numPr/numId"):
            return _Style(None, numbering)
        base = _value(element, "basedOn")
        element = None if base in seen else elements.get(base)
        seen.add(base)
    return _PLAIN


def _bullets(package: Package) -> set[tuple[str, int]]:
    """The numberings and depths at which lists have bullets."""
    numbering = _part(package, "numbering")
    kinds = {
        (one.get(f"{_W}abstractNumId"), _small(level.get(f"{_W}ilvl") or "")): _value(level, "numFmt")
        for one in numbering
        for level in one.iter(f"{_W}lvl")
        if one.tag == f"{_W}abstractNum"
    }
    bullets = {place for place, kind in kinds.items() if kind == "bullet"}
    return {
        (one.get(f"{_W}numId") or "", depth)
        for one in numbering
        if one.tag == f"{_W}num"
        for abstract, depth in bullets
        if abstract == _value(one, "abstractNumId")
    }


def _part(package: Package, kind: str) -> Any:
    """The root of a part beside the body; nothing where the document has none."""
    for relation in package.part.rels.values():
        if relation.reltype.endswith(f"/{kind}") and not relation.is_external:
            return parse_xml(relation.target_part.blob)
    return ()
