"""EPUB: the chapters of a book in the order in which they are read.

Knows the container, the package and its spine. The chapters are HTML, which `html` writes.
Invariant: no XML parser sees the book: its few XML files are read as HTML, where there are no entities to declare.
"""

import posixpath
import re
from urllib.parse import unquote

from selectolax.lexbor import LexborHTMLParser

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.archive import Archive
from loam.grounding.formats.encodings import decoded
from loam.grounding.formats.html import write_html
from loam.grounding.formats.source import Source, tidy

_CHAPTERS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_PREFIX = re.compile(r"<(/?)[a-zA-Z][\w.-]{0,20}:(?=[a-zA-Z])")
_EMPTY_TITLE = re.compile(r"<title\s*/>")


def read(source: Source) -> Document:
    """Raises DocumentError for damaged books, and for those that only their shop's reader may open."""
    archive = Archive(source)
    archive.needs("META-INF/container.xml", "a book")
    package = _package(source, archive)
    tree = _tree(source, archive, package)
    items = {node.attributes.get("id"): node.attributes for node in tree.css("item")}
    spine = [
        items[node.attributes.get("idref")] for node in tree.css("itemref") if node.attributes.get("idref") in items
    ]
    chapters = [
        posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(item.get("href") or "")))
        for item in spine
        if (item.get("media-type") or "") in _CHAPTERS and "nav" not in (item.get("properties") or "").split()
    ]
    if not chapters:
        raise source.refuse("no chapters are named in it; it is damaged: fetch it anew, or convert it to PDF")
    _check_locks(source, archive, chapters)
    writer = Writer()
    for chapter in chapters:
        found = decoded(source, archive.read(chapter), controls=True)
        if found.remark:
            writer.remark(found.remark)
        write_html(writer, found.text)
    title = tree.css_first("title")
    return writer.document((tidy(title.text()) if title is not None else "") or source.title)


def _package(source: Source, archive: Archive) -> str:
    root = _tree(source, archive, "META-INF/container.xml").css_first("rootfile")
    path = root.attributes.get("full-path") if root is not None else None
    if not path:
        raise source.refuse("its container names no book; it is damaged: fetch it anew")
    return path


def _tree(source: Source, archive: Archive, name: str) -> LexborHTMLParser:
    """A small XML file read as HTML, without its namespaces' prefixes."""
    text = _PREFIX.sub(r"<\1", decoded(source, archive.read(name), controls=True).text)
    return LexborHTMLParser(_EMPTY_TITLE.sub("", text))


def _check_locks(source: Source, archive: Archive, chapters: list[str]) -> None:
    """Fonts may be scrambled; chapters that are belong to a shop."""
    if "META-INF/encryption.xml" not in archive.names:
        return
    tree = _tree(source, archive, "META-INF/encryption.xml")
    locked = {unquote(node.attributes.get("uri") or "") for node in tree.css("cipherreference")}
    if locked & set(chapters):
        raise source.refuse("it is locked by the shop it is from (DRM); leave it out, or use a copy that is free of it")
