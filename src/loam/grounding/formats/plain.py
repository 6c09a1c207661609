"""Plain text, and markup that reads well as it stands: reStructuredText, LaTeX, AsciiDoc, Org.

Knows how these write headings, and nothing else of them: their text is kept as it is written, for what a reader of the
source sees is better than what half a parser makes of it.
Invariant: every line that is no heading, and no underline of one, is in the document, in order.
"""

import re
from pathlib import PurePosixPath

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.encodings import decoded
from loam.grounding.formats.source import Source, tidy

_RST = re.compile(
    r"(?m)^(?:([=\-`:.'\"~^_*+#<>])\1{2,}[ \t]*\n)?(?!\s)(?P<title>[^\n]{1,200})\n"
    r"(?P<mark>([=\-`:.'\"~^_*+#<>])\4{2,})[ \t]*$"
)
_LATEX = re.compile(
    r"(?m)^[ \t]*\\(?P<mark>part|chapter|section|subsection|subsubsection|paragraph)\*?(?:\[[^\]\n]{0,200}\])?"
    r"\{(?P<title>[^}\n]{1,200})\}(?:[ \t]*\\label\{[^}\n]{0,200}\})?"
)
_SIGNS = r"(?m)^(?P<mark>{}{{1,6}})[ \t]+(?P<title>[^\n]{{1,200}})$"
_HEADINGS = {
    ".rst": _RST,
    ".tex": _LATEX,
    ".latex": _LATEX,
    ".adoc": re.compile(_SIGNS.format("=")),
    ".asciidoc": re.compile(_SIGNS.format("=")),
    ".org": re.compile(_SIGNS.format(r"\*")),
}
_LATEX_LEVELS = ("part", "chapter", "section", "subsection", "subsubsection", "paragraph")


def read(source: Source) -> Document:
    """Raises DocumentError for bytes that are no text."""
    found = decoded(source)
    writer = Writer()
    if found.remark:
        writer.remark(found.remark)
    pattern = _HEADINGS.get(PurePosixPath(source.name).suffix.lower())
    position, seen, first = 0, "", ""
    for heading in pattern.finditer(found.text) if pattern else ():
        title = tidy(heading["title"])
        if not any(map(str.isalnum, title)):
            continue
        _paragraph(writer, found.text[position : heading.start()])
        seen += heading["mark"][0] if pattern is _RST and heading["mark"][0] not in seen else ""
        writer.heading(_level(heading["mark"], seen), title)
        first = first or title
        position = heading.end()
    _paragraph(writer, found.text[position:])
    return writer.document(first or source.title)


def _level(mark: str, seen: str) -> int:
    """RST ranks its underlines in the order in which they first come."""
    if mark in _LATEX_LEVELS:
        return 1 + _LATEX_LEVELS.index(mark)
    return 1 + seen.index(mark[0]) if seen else len(mark)


def _paragraph(writer: Writer, text: str) -> None:
    if text.strip():
        writer.paragraph(text.strip())
