"""What a reader of documents is given, and how it says no.

Knows the characters that have no place in canonical text. Knows no format.
Invariant: a refusal begins with the document's name.
"""

from typing import Protocol

from msgspec import Struct

from loam.core.errors import DocumentError
from loam.grounding.canonical import Document

UNSEEN = {
    **dict.fromkeys([*range(0x09), *range(0x0E, 0x1C), *range(0x7F, 0x85), *range(0x86, 0xA0)]),
    **dict.fromkeys([0xAD, 0x200B, 0x2060, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFFFE, 0xFFFF]),
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),  # halves of characters cannot be stored
}


class Source(Struct, frozen=True):
    """One file: its name, its bytes, and the title it bears where it names none itself."""

    name: str
    title: str
    data: bytes

    def refuse(self, why: str) -> DocumentError:
        """The error to raise; `why` says what is wrong and what to do."""
        return DocumentError(f"{self.name}: {why}")


class Reader(Protocol):
    """What each module of this package is."""

    def read(self, source: Source) -> Document: ...


def tidy(text: str) -> str:
    """One line of what can be seen: no soft hyphens, no controls, single spaces."""
    return " ".join(text.translate(UNSEEN).split())


def cell(text: str) -> str:
    """As `tidy`, for a table: bars are what its rows are made of."""
    return tidy(text).replace("|", "/")
