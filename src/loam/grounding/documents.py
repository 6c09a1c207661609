"""Bytes with a name to a Document: which formats there are, how text is decoded, what is refused.

Knows file name endings and encodings. Knows no folder, no database. Does no I/O.
Invariant: whatever the bytes are, the outcome is a Document or a DocumentError that says what to do.
"""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from loam.core.errors import DocumentError
from loam.grounding.canonical import Document, Writer
from loam.grounding.markdown import read_markdown

CANON = "1"
"""The version of the canonical form; a change of it makes every document be taken in anew."""


def _read_text(text: str, title: str) -> Document:
    writer = Writer()
    if text.strip():
        writer.paragraph(text.strip())
    return writer.document(title)


FORMATS: dict[str, Callable[[str, str], Document]] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": _read_text,
    ".text": _read_text,
}

_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def supported(name: str) -> bool:
    """Whether the name's ending is one that Loam reads."""
    return PurePosixPath(name).suffix.lower() in FORMATS


def read_document(name: str, data: bytes) -> Document:
    """Reads one file's bytes; the name's ending decides the format.

    Raises DocumentError for other formats, for bytes that are no text, and for documents without a word in them.
    """
    path = PurePosixPath(name)
    read = FORMATS.get(path.suffix.lower())
    if read is None:
        raise DocumentError(
            f"{name}: files ending in {path.suffix or 'nothing'!r} cannot be read yet; "
            f"Loam reads {', '.join(FORMATS)}; save the document as one of these"
        )
    document = read(_decoded(name, data), _title_of(path))
    if not document.sections:
        raise DocumentError(f"{name}: there is no text in it; leave it out or give it some")
    return document


def _decoded(name: str, data: bytes) -> str:
    encoding = next((encoding for bom, encoding in _BOMS if data.startswith(bom)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{name}: not valid {encoding.upper()} (byte {error.start} of {len(data)}); save it as UTF-8"
        ) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    if control := _CONTROL.search(text):
        raise DocumentError(
            f"{name}: binary data (a {control.group()!r} at character {control.start()}), not text; "
            "give it the ending of its real format, or leave it out"
        )
    return text


def _title_of(path: PurePosixPath) -> str:
    """`travel/going-out-of-office.md` is called "Going out of office"; an index is called like its folder."""
    stem = path.parent.name if path.stem in ("index", "README") and path.parent.name else path.stem
    words = " ".join(re.split(r"[-_\s]+", stem)).strip()
    return words[:1].upper() + words[1:] if words else path.name
