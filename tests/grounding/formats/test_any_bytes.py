"""Whatever the bytes are: a Document or a DocumentError, and not for ever.

Two ways to find out: bytes of all kinds under every ending, and whole files of each kind, damaged a little.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loam.core.errors import DocumentError
from loam.grounding.canonical import Document, Writer, page_of
from loam.grounding.documents import FORMATS, read_document
from loam.grounding.passages import cut
from tests.grounding.formats import made
from tests.grounding.formats.made import Text

_APART = {ending for ending, kind in FORMATS.items() if kind.here == 0}
_STARTS = (
    b"",
    b"%PDF-1.7\n",
    b"PK\x03\x04",
    b"\xff\xfe",
    b"<html><table><tr><td>",
    b"Subject: x\n\n",
    b'{"a": [',
    b'"',
)
_WORDS = st.text(st.sampled_from('<>/="divtablrh1 \n,;\t{}[]:\\|`#=-*é\u00ad'), max_size=300).map(str.encode)


def outcome(name: str, data: bytes) -> None:
    """Reads, and sees that what comes of it is sound."""
    try:
        document = read_document(name, data)
    except DocumentError as error:
        told = str(error)
    else:
        sound(document)
        return
    assert told.startswith(f"{name}: ")


def sound(document: Document) -> None:
    """What every document keeps to."""
    assert document.text.strip()
    document.text.encode()
    document.title.encode()
    ends = [place for section in document.sections for place in (section.start, section.end)]
    assert ends == sorted(ends)
    assert ends[-1] <= len(document.text)
    assert list(document.pages) == sorted(document.pages)
    for piece in cut(document):
        assert document.text[piece.start : piece.end].strip()


@given(
    st.sampled_from(sorted(FORMATS.keys() - _APART)),
    st.builds(bytes.__add__, st.sampled_from(_STARTS), st.binary(max_size=200) | st.text().map(str.encode) | _WORDS),
)
@settings(max_examples=600)
def test_any_bytes_give_a_document_or_a_document_error(ending: str, data: bytes) -> None:
    outcome(f"x{ending}", data)


@given(st.sampled_from(sorted(_APART)), st.sampled_from(_STARTS), st.binary(max_size=200))
@settings(max_examples=25)
def test_any_bytes_under_an_ending_that_is_read_apart(ending: str, start: bytes, data: bytes) -> None:
    outcome(f"x{ending}", start + data)


def _damaged(data: bytes, dice: random.Random) -> bytes:
    """Cut off, or with a few bytes changed."""
    if dice.random() < 0.3:
        return data[: dice.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 12)):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize(
    ("ending", "make"),
    [
        (
            ".pdf",
            lambda: made.pdf([[Text(72, 700 - 14 * n, f"Line {n} of a page.") for n in range(9)]], outline=[("A", 0)]),
        ),
        (".docx", lambda: made.word(title="T", headings=[("A", "Words.")], table=[["a", "b"], ["c", "d"]])),
        (".pptx", lambda: made.deck([("A", ["b", "c"], "d")])),
        (".xlsx", lambda: made.workbook({"A": [["Name", "Town"], ["Ada", "London"]]})),
        (".epub", lambda: made.epub("A", {"1.xhtml": "<p>Words.</p>"})),
    ],
)
def test_damage_is_survived(ending: str, make: Callable[[], bytes]) -> None:
    whole = make()
    sound(read_document(f"x{ending}", whole))
    dice = random.Random(ending)
    began = time.monotonic()
    for _ in range(12):
        outcome(f"x{ending}", _damaged(whole, dice))
    assert time.monotonic() - began < 100


@pytest.mark.parametrize(
    "data",
    [
        b"a " * 3_000_000,
        b"\n" * 2_000_000 + b"end",
        b"=" * 5_000_000 + b"\na",
        b"(" * 3_000_000,
        b"![" * 1_000_000,
        b"def f():\n" * 100_000,
        b"\\section{" * 500_000,
        b"int a(" * 500_000,
    ],
    ids=["words", "lines", "rule", "brackets", "links", "code", "latex", "calls"],
)
@pytest.mark.parametrize("name", ["a.txt", "a.rst", "a.tex", "a.csv", "a.c", "a.py", "a.json"])
def test_large_texts_take_time_in_step_with_their_size(name: str, data: bytes) -> None:
    began = time.monotonic()
    with suppress(DocumentError):
        read_document(name, data)
    assert time.monotonic() - began < 60


@given(st.lists(st.integers(0, 3), max_size=20))
def test_the_page_of_a_character_is_the_page_it_was_written_on(blocks: list[int]) -> None:
    """`blocks` says how many paragraphs each page has; some have none."""
    writer = Writer()
    for number, count in enumerate(blocks, 1):
        writer.page()
        for _ in range(count):
            writer.paragraph(f"on {number}.")
    document = writer.document("")
    assert len(document.pages) == len(blocks)
    position = 0
    for paragraph in document.text.split("\n\n") if document.text else []:
        expected = int(paragraph.removeprefix("on ").removesuffix("."))
        assert page_of(document.pages, position) == expected
        assert page_of(document.pages, position + len(paragraph) - 1) == expected
        position += len(paragraph) + 2


def test_a_text_without_pages_has_no_page_numbers() -> None:
    assert page_of((), 5) is None
