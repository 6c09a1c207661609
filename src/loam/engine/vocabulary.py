"""What a vocabulary can do, whichever library reads it: ids of a text, bytes of an id.

Knows no file. Invariant: the text of ids is the text of their bytes one after the other; where a vocabulary's own
decoder does more than that (WordPiece), it says so by `decode`.
"""

from collections.abc import Sequence
from typing import Protocol


class Vocabulary(Protocol):
    """`special` are control tokens, which a reader does not see. `strips`: a text loses one space at its beginning."""

    size: int
    special: frozenset[int]
    strips: bool

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text; control tokens that are written out in it count as such. `special` adds what begins a text."""
        ...

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to a text; empty for an id that the vocabulary does not have."""
        ...

    def piece(self, token: int) -> str:
        """The token as the vocabulary writes it."""
        ...

    def id_of(self, piece: str) -> int | None: ...

    def decode(self, tokens: Sequence[int]) -> str | None:
        """The text of tokens where it is more than their bytes; None where it is not."""
        ...

    def as_json(self) -> str | None:
        """The same vocabulary as a tokenizer.json; None where it cannot be written as one."""
        ...


def byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable bytes stand for themselves, the others for letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
