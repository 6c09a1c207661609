"""PowerPoint: each slide a section and a page, with its tables and the speaker's notes.

Knows python-pptx. Slides that are hidden are counted, not read.
Invariant: page n of the document is slide n.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any, cast

from pptx import Presentation
from pptx.slide import Slide

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.archive import Archive
from loam.grounding.formats.source import Source, cell, tidy

_DEEPEST = 20  # groups in groups


def read(source: Source) -> Document:
    """Raises DocumentError for archives that are damaged or dangerous."""
    archive = Archive(source)
    archive.check_xml()
    archive.needs("ppt/presentation.xml", "a PowerPoint presentation")
    deck = Presentation(io.BytesIO(source.data))
    writer = Writer()
    for number, slide in enumerate(deck.slides, 1):
        writer.page()
        if cast("Any", slide).element.get("show") == "0":
            writer.remark("hidden slides are passed over")
        else:
            _write_slide(writer, number, slide)
    return writer.document(tidy(deck.core_properties.title or "") or source.title)


def _write_slide(writer: Writer, number: int, slide: Slide) -> None:
    title = slide.shapes.title
    shown = tidy(title.text_frame.text) if title is not None else ""
    writer.heading(1, shown or f"Slide {number}")
    for shape in _shapes(slide.shapes, 0):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if getattr(shape, "has_table", False):
            for row in shape.table.rows:
                writer.row([cell(one.text_frame.text) for one in row.cells])
        elif shape.has_text_frame:
            _write_text(writer, shape.text_frame)
    if slide.has_notes_slide:
        notes = slide.notes_slide.notes_text_frame
        for paragraph in notes.paragraphs if notes is not None else ():
            if text := tidy(paragraph.text):
                writer.paragraph(f"Notes: {text}")


def _shapes(shapes: Iterable[Any], depth: int) -> Iterator[Any]:
    for shape in shapes:
        if hasattr(shape, "shapes") and depth < _DEEPEST:
            yield from _shapes(shape.shapes, depth + 1)
        else:
            yield shape


def _write_text(writer: Writer, frame: Any) -> None:
    """Several paragraphs in one frame are points, as slides have them."""
    paragraphs = [paragraph for paragraph in frame.paragraphs if tidy(paragraph.text)]
    for paragraph in paragraphs:
        text = tidy(paragraph.text)
        if len(paragraphs) > 1:
            writer.item(text, marker="-", depth=paragraph.level)
        else:
            writer.paragraph(text)
