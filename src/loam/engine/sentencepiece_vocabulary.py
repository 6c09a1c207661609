"""A vocabulary in SentencePiece's own file (tokenizer.model).

Knows the `sentencepiece` library, which takes control tokens in a text for plain letters: texts are cut at them here.
Invariant: a text without control tokens has the ids that the library gives.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from loam.core.errors import EngineError


class PieceVocabulary:
    """`begins` and `ends`: whether a text gets the tokens of its beginning and end. `prefix_after`: whether the library
    puts a space before a piece of text that follows a control token, as it does at the beginning (Llama 2's habit).
    """

    def __init__(
        self, processor: SentencePieceProcessor, *, begins: bool = True, ends: bool = False, prefix_after: bool = True
    ) -> None:
        self._processor = processor
        self.size = processor.vocab_size()
        controls = {token for token in range(self.size) if processor.IsControl(token)}
        self.special = frozenset(controls)
        self._cut = re.compile("|".join(f"({re.escape(processor.IdToPiece(token))})" for token in sorted(controls)))
        self._begins = [processor.bos_id()] if begins and processor.bos_id() >= 0 else []
        self._ends = [processor.eos_id()] if ends and processor.eos_id() >= 0 else []
        self._prefix_after = prefix_after
        self._line = processor.encode("\n")
        self.strips = processor.encode("a") != processor.encode("\na")[len(self._line) :]

    def encode(self, text: str, *, special: bool) -> list[int]:
        parts = [part for part in self._cut.split(text) if part] if self.special else [text]
        tokens: list[int] = []
        for place, part in enumerate(parts):
            control = self._processor.PieceToId(part) if self.special and self._cut.fullmatch(part) else None
            tokens += self._plain(part, first=place == 0) if control is None else [control]
        return [*self._begins, *tokens, *self._ends] if special else tokens

    def _plain(self, text: str, *, first: bool) -> list[int]:
        if first or self._prefix_after:
            return self._processor.encode(text)
        # behind a line's end nothing is put before a text
        whole = self._processor.encode("\n" + text)
        own = len(self._line)
        return whole[own:] if whole[:own] == self._line else self._processor.encode(text)

    def bytes_of(self, token: int) -> bytes:
        if not 0 <= token < self.size:
            return b""
        piece = self._processor.IdToPiece(token)
        if self._processor.IsByte(token):
            return bytes([int(piece[3:5], 16)])
        if self._processor.IsUnknown(token):
            return " \u2047 ".encode()
        return piece.replace("\u2581", " ").encode()

    def piece(self, token: int) -> str:
        return self._processor.IdToPiece(token) if 0 <= token < self.size else ""

    def id_of(self, piece: str) -> int | None:
        token = self._processor.PieceToId(piece)
        return token if self.piece(token) == piece else None

    def decode(self, tokens: Sequence[int]) -> str | None:
        return None

    def as_json(self) -> str | None:
        return None


def read_pieces(file: Path, *, begins: bool = True, ends: bool = False, prefix_after: bool = True) -> PieceVocabulary:
    """A SentencePiece model. Raises EngineError."""
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(file.read_bytes())
    except (OSError, RuntimeError) as error:
        raise EngineError(f"{file} is no SentencePiece model that can be read; fetch the file again") from error
    return PieceVocabulary(processor, begins=begins, ends=ends, prefix_after=prefix_after)
