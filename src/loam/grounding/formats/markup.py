"""Markdown files.

Knows only how they are decoded: `loam.grounding.markdown` does the work.
"""

from msgspec.structs import replace

from loam.grounding.canonical import Document
from loam.grounding.formats.encodings import decoded
from loam.grounding.formats.source import Source
from loam.grounding.markdown import read_markdown


def read(source: Source) -> Document:
    """Raises DocumentError for bytes that are no text."""
    found = decoded(source)
    document = read_markdown(found.text, source.title)
    return replace(document, remarks=(found.remark,)) if found.remark else document
