"""What a file is by its first bytes, against what its ending says.

Knows the marks of the formats people meet, and what to do with those that Loam does not read. Opens nothing.
Invariant: text is never taken for anything else.
"""

from msgspec import Struct

from loam.grounding.formats.source import Source


class Mark(Struct, frozen=True):
    """Files of one kind begin with `start`; those that Loam reads bear one of `endings`."""

    start: bytes
    kind: str
    endings: tuple[str, ...] = ()


_ZIPPED = (".docx", ".pptx", ".xlsx", ".xlsm", ".epub")
_MARKS = (
    Mark(b"%PDF-", "a PDF", (".pdf",)),
    Mark(b"PK\x03\x04", "a zip archive (as Office files and EPUB are)", _ZIPPED),
    Mark(b"PK\x05\x06", "an empty zip archive", _ZIPPED),
    Mark(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office file of the old kind, or one locked with a password"),
    Mark(b"{\\rtf", "Rich Text"),
    Mark(b"\x89PNG\r\n", "a picture"),
    Mark(b"\xff\xd8\xff", "a picture"),
    Mark(b"GIF8", "a picture"),
    Mark(b"\x1f\x8b\x08", "a gzip archive"),
    Mark(b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    Mark(b"Rar!\x1a\x07", "a rar archive"),
    Mark(b"SQLite format 3\x00", "a database"),
    Mark(b"\x7fELF", "a program"),
)
_NEEDED = {".pdf": "%PDF-", **dict.fromkeys(_ZIPPED, "PK")}
_WHAT_TO_DO = {
    "an Office file of the old kind, or one locked with a password": "open it, take off its password, and save it "
    "as .docx, .xlsx or .pptx",
    "Rich Text": "save it as .docx or .txt",
    "a picture": "have its text recognised (OCR) and saved as a PDF, or leave it out",
}
ADVICE = {
    **dict.fromkeys((".doc", ".rtf", ".odt", ".pages", ".wpd"), "save it as .docx"),
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers"), "save it as .xlsx or .csv"),
    **dict.fromkeys((".ppt", ".odp", ".key"), "save it as .pptx"),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz"), "unpack it first"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp", ".heic"), _WHAT_TO_DO["a picture"]),
    **dict.fromkeys((".msg", ".mbox", ".pst"), "export the messages as .eml"),
    **dict.fromkeys((".mobi", ".azw", ".azw3", ".djvu", ".ps", ".xps"), "convert it to EPUB or PDF"),
}
"""What to do about endings that Loam does not read."""


def check_kind(source: Source, ending: str) -> None:
    """Raises DocumentError where the first bytes say that the ending lies."""
    head = source.data[:1024].lstrip(b"\xef\xbb\xbf\r\n\t ")
    for mark in _MARKS:
        if head.startswith(mark.start):
            if ending in mark.endings:
                return
            rename = f"rename it to end in {' or '.join(mark.endings)}" if mark.endings else "leave it out"
            raise source.refuse(
                f"it ends in {ending}, but by its first bytes it is {mark.kind}; {_WHAT_TO_DO.get(mark.kind, rename)}"
            )
    if source.data and ending in _NEEDED and _NEEDED[ending].encode() not in source.data[:1024]:
        raise source.refuse(
            f"it ends in {ending}, but does not begin as such files do (with {_NEEDED[ending]}); "
            "it is damaged or something else: fetch or save it anew"
        )
