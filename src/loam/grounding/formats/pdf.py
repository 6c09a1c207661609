"""PDF: text in reading order, with page numbers.

Knows pypdfium2's documents and errors; how lines become paragraphs is `pdf_layout`'s matter. There is no limit on
pages: the process that this runs in has limits on time and memory.
Invariant: page n of the document is page n of the file, also where a page could not be read.
"""

import importlib
from collections import defaultdict
from itertools import islice
from typing import Any

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.pdf_layout import Headings, Layout, key, largest, without_running_heads
from loam.grounding.formats.pdf_lines import Line, page_lines
from loam.grounding.formats.source import Source, tidy

pypdfium2: Any = importlib.import_module("pypdfium2")  # it comes without types
_OUTLINE = 5000  # entries
_NO_TITLE = ("untitled", "microsoft word", "microsoft powerpoint", "powerpoint presentation", "slide 1", "document")


def read(source: Source) -> Document:
    """Raises DocumentError for files that are damaged, locked, or pictures of text."""
    try:
        pdf: Any = pypdfium2.PdfDocument(source.data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise source.refuse("it is locked with a password; open it, print it to a new PDF without one") from error
        raise source.refuse("a damaged PDF; was it cut off? fetch it anew, or print it to a new PDF") from error
    writer = Writer()
    pages = _pages(pdf, writer)
    if not any(pages):
        raise source.refuse(
            f"there is no text in it; it looks scanned ({len(pages)} {'page' if len(pages) == 1 else 'pages'}): have "
            "its text recognised (OCR, for example by ocrmypdf) and take in the result"
        )
    if blank := [number for number, lines in enumerate(pages, 1) if not lines]:
        shown = ", ".join(map(str, blank[:10])) + (", …" if len(blank) > 10 else "")
        writer.remark(f"no text on {len(blank)} of {len(pages)} pages ({shown}): blank, or scanned")
    lines = [line for page in without_running_heads(pages) for line in page]
    Layout(writer, lines, _outline(pdf)).write(len(pages))
    return writer.document(_title(pdf) or largest(pages[0]) or source.title)


def _pages(pdf: Any, writer: Writer) -> list[list[Line]]:
    pages: list[list[Line]] = []
    for index in range(len(pdf)):
        try:
            page = pdf[index]
            pages.append(list(page_lines(page.get_textpage(), index + 1)))
            page.close()
        except pypdfium2.PdfiumError:
            writer.remark(f"page {index + 1} is damaged and passed over")
            pages.append([])
    return pages


def _outline(pdf: Any) -> Headings:
    headings: Headings = defaultdict(dict)
    for entry in islice(pdf.get_toc(max_depth=6), _OUTLINE):
        target = entry.get_dest()
        index = target.get_index() if target else None
        if index is not None and (title := key(entry.get_title())):
            headings[index + 1].setdefault(title, entry.level + 1)
    return headings


def _title(pdf: Any) -> str:
    """The title that the author gave, not one that a program made up."""
    title = tidy(pdf.get_metadata_value("Title"))
    return (
        ""
        if title.lower().startswith(_NO_TITLE) or title.lower().endswith((".doc", ".docx", ".tex", ".pdf"))
        else title
    )
