"""Archives made to harm, and broken ones."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest

from loam.core.errors import DocumentError
from loam.grounding.documents import read_document
from loam.grounding.formats import archive
from loam.grounding.formats.apart import read_here
from loam.grounding.formats.source import Source
from tests.grounding.formats import made

_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><x>&c;</x>'
)


def _word() -> bytes:
    return made.word(headings=[("Leave", "You may take leave.")])


def _locked(data: bytes) -> bytes:
    """The archive with every file marked as encrypted."""
    marked = bytearray(data)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = marked.find(signature)
        while at >= 0:
            marked[at + flags] |= 1
            at = marked.find(signature, at + 4)
    return bytes(marked)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: made.changed(_word(), "word/media/huge.xml", b"\0" * (64 * 2**20)), "as bombs do"),
        (lambda: made.changed(_word(), "word/document.xml", _BOMB), "declares a document type"),
        (
            lambda: made.changed(_word(), "docProps/core.xml", _BOMB.decode().encode("utf-16")),
            "declares a document type",
        ),
        (
            lambda: made.changed(_word(), "word/styles.xml", b'<?xml version="1.0" encoding="UTF-7"?><x/>'),
            "not in UTF-8",
        ),
        (lambda: _word()[:-200], "a damaged archive"),
        (lambda: _word()[:40], "a damaged archive"),
        (lambda: _locked(_word()), "locked with a password"),
        (
            lambda: made.zipped({f"{number}": b"" for number in range(archive.MAX_MEMBERS + 1)}),
            "an archive of 20001 files",
        ),
        (lambda: made.zipped({"inner.docx": _word()}), "an archive of something else"),
        (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512, "take off its password"),
        (
            lambda: made.changed(_word(), "word/document.xml", b"<w:document"),
            "it is broken where its reader did not expect",
        ),
    ],
)
def test_a_hostile_or_broken_archive_is_told(make: Callable[[], bytes], told: str) -> None:
    with pytest.raises(DocumentError, match=r"^x\.docx: ") as caught:
        read_document("x.docx", make())
    assert told in str(caught.value)


def test_the_sum_of_all_that_an_archive_unpacks_to_is_bounded() -> None:
    """By what is declared: many files, each of a size that would pass."""
    one = bytes(range(256)) * (16 * 2**10)  # 4 MiB, not large enough for the ratio to be looked at
    members = {f"word/{number}.bin": one for number in range(archive.MAX_BYTES // len(one) + 1)}
    with pytest.raises(DocumentError, match="unpacks to more than 400 MiB"):
        read_document("x.docx", made.zipped({"word/document.xml": b"", **members}))


def test_an_archive_that_lies_about_a_size_gives_no_more_than_it_declared() -> None:
    data = bytearray(made.zipped({"word/document.xml": b"<a>" + b"x" * 100_000}))
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = (10).to_bytes(4, "little")
    with zipfile.ZipFile(io.BytesIO(data)) as lying:
        assert lying.infolist()[0].file_size == 10
    with pytest.raises(DocumentError, match="a damaged archive"):
        read_document("x.docx", bytes(data))


def _lying(data: bytes) -> bytes:
    """An archive whose largest member is said to be of ten bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    told = largest.file_size.to_bytes(4, "little")
    return data.replace(told, (10).to_bytes(4, "little"))


@pytest.mark.parametrize("lying", [False, True], ids=["honest", "lying"])
@pytest.mark.parametrize(
    ("name", "module", "inner", "make"),
    [
        ("x.docx", "word", "word/document.xml", _word),
        ("x.epub", "epub", "OEBPS/1.xhtml", lambda: made.epub("A", {"1.xhtml": "<p>Words.</p>"})),
    ],
)
def test_a_bomb_is_never_unpacked(name: str, module: str, inner: str, make: Callable[[], bytes], lying: bool) -> None:
    with zipfile.ZipFile(io.BytesIO(make())) as whole:
        members: dict[str, bytes | str] = {member: whole.read(member) for member in whole.namelist()}
    bomb = made.zipped({**members, inner: b"\0" * (64 * 2**20)})
    source = Source(name, "X", _lying(bomb) if lying else bomb)
    read_here(module, Source(name, "X", make()))  # so that what is imported does not count
    tracemalloc.start()
    with pytest.raises(DocumentError, match="a damaged archive" if lying else "as bombs do"):
        read_here(module, source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20
