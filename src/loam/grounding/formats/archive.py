"""Zip archives from strangers: Office files and EPUBs.

Knows how large an archive may become, and that XML in it may declare no entities. Knows no format within.
An archive within an archive is never opened.
Invariants: nothing is unpacked before its declared sizes were found within bounds, and no more of a member is unpacked
here than was declared; no XML with a document type (the only place for entity bombs and foreign files) gets further.
"""

import io
import re
import zipfile
import zlib
from typing import NoReturn

from loam.grounding.formats.source import Source

MAX_MEMBERS = 20_000
MAX_BYTES = 400 * 2**20
MAX_RATIO = 200
"""Unpacked to packed, of a member that is large unpacked; Office writes some 10 to 30."""
_LARGE = 4 * 2**20
_DOCTYPE = re.compile(rb"<!DOCTYPE|<!ENTITY", re.IGNORECASE)
_ENCODING = re.compile(rb"<\?xml[^>]{0,200}encoding\s*=\s*[\"']([^\"']*)")
_KINDS = {
    "word/document.xml": "a Word document (.docx)",
    "ppt/presentation.xml": "a PowerPoint presentation (.pptx)",
    "xl/workbook.xml": "an Excel workbook (.xlsx)",
    "META-INF/container.xml": "a book (.epub)",
}
_XML = (".xml", ".rels", ".vml", ".opf", ".ncx")


class Archive:
    """A zip archive whose declared sizes are within bounds.

    ```python
    archive = Archive(source)
    archive.check_xml()
    text = archive.read("word/document.xml")
    ```
    """

    def __init__(self, source: Source) -> None:
        """Raises DocumentError for what is no archive, and for one that would become too large."""
        self._source = source
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(source.data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
            self._broken(error)
        members = self._zip.infolist()
        self.names = frozenset(member.filename for member in members)
        if len(members) > MAX_MEMBERS:
            raise source.refuse(f"an archive of {len(members)} files, which is no document; unpack it first")
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise source.refuse(f"it unpacks to more than {MAX_BYTES >> 20} MiB; split it, or leave it out")
        for member in members:
            if member.file_size > _LARGE and member.file_size > MAX_RATIO * member.compress_size:
                raise source.refuse(
                    f"{member.filename} in it unpacks to over {MAX_RATIO} times its size, as bombs do; "
                    "save it anew, or leave it out"
                )
            if member.flag_bits & 1:
                raise source.refuse("it is locked with a password; take that off and save it anew")

    def check_xml(self) -> None:
        """Raises DocumentError where an XML file in it has a document type, or a rare encoding that might hide one."""
        for name in self.names:
            if name.lower().endswith(_XML):
                self._check_one(name, self.read(name))

    def needs(self, name: str, kind: str) -> None:
        """Raises DocumentError where the archive has not the file that makes it one of its kind."""
        if name in self.names:
            return
        other = next((what for part, what in _KINDS.items() if part in self.names), "an archive of something else")
        raise self._source.refuse(
            f"it is not {kind} but {other}; give it the ending of its real format, or save it anew"
        )

    def read(self, name: str) -> bytes:
        """Raises DocumentError where the file is not in it, or damaged."""
        try:
            member = self._zip.getinfo(name)
            with self._zip.open(member) as file:
                # `ZipFile.read` would unpack all that there is, and only then cut it to what was declared
                return file.read(member.file_size)
        except KeyError as error:
            raise self._source.refuse(f"it has no {name} in it, so it is damaged; save it anew") from error
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, RuntimeError) as error:
            self._broken(error)

    def _check_one(self, name: str, data: bytes) -> None:
        plain = data.replace(b"\x00", b"")  # UTF-16 reads as ASCII then
        encoding = _ENCODING.search(plain[:1024])
        if encoding and encoding.group(1).lower() not in {b"utf-8", b"utf-16", b"us-ascii", b"ascii", b"iso-8859-1"}:
            raise self._source.refuse(f"{name} in it is not in UTF-8, as it should be; open it and save it anew")
        if _DOCTYPE.search(plain):
            raise self._source.refuse(
                f"{name} in it declares a document type, which is how XML attacks begin; open it and save it anew"
            )

    def _broken(self, error: Exception) -> NoReturn:
        raise self._source.refuse(f"a damaged archive ({error}); was it cut off? fetch or save it anew") from error
