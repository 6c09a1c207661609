"""A vocabulary in tiktoken's file: a token's bytes in base64 and its rank, one a line (Llama 3, Qwen 1, GPT-4).

Knows the `tiktoken` library. The file says neither how a text is cut before merging nor which control tokens there are:
the cut is GPT-4's unless told otherwise, the control tokens are what the checkpoint's configuration names.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path

import tiktoken

from loam.core.errors import EngineError

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How GPT-4 and Llama 3 cut a text."""

QWEN = GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
"""As above, each digit for itself."""


class RankVocabulary:
    strips = False

    def __init__(self, encoding: tiktoken.Encoding, controls: Mapping[str, int], begin: int | None = None) -> None:
        self._encoding = encoding
        self._controls = controls
        self._begin = [] if begin is None else [begin]
        self.size = encoding.n_vocab
        self.special = frozenset(controls.values())

    def encode(self, text: str, *, special: bool) -> list[int]:
        tokens = self._encoding.encode(text, allowed_special="all", disallowed_special=())
        return [*self._begin, *tokens] if special else tokens

    def bytes_of(self, token: int) -> bytes:
        try:
            return self._encoding.decode_single_token_bytes(token)
        except (KeyError, OverflowError):
            return b""

    def piece(self, token: int) -> str:
        return self.bytes_of(token).decode("utf-8", "replace")

    def id_of(self, piece: str) -> int | None:
        try:
            return self._encoding.encode_single_token(piece)
        except KeyError:
            return None

    def decode(self, tokens: Sequence[int]) -> str | None:
        return None

    def as_json(self) -> str | None:
        return None


def is_ranks(file: Path) -> bool:
    """Whether a file looks like tiktoken's: Llama 3 ships one under SentencePiece's name."""
    with file.open("rb") as opened:
        word, _, rank = opened.readline(4096).strip().partition(b" ")
    try:
        return bool(base64.b64decode(word, validate=True)) and rank.isdigit()
    except binascii.Error:
        return False


def read_ranks(
    file: Path, controls: Mapping[str, int], *, pattern: str = GPT4, begin: str | None = None
) -> RankVocabulary:
    """A file of ranks; `controls` are ids by control token, `begin` the one that begins a text. Raises EngineError."""
    try:
        lines = [line.split() for line in file.read_bytes().splitlines() if line]
        ranks = {base64.b64decode(word, validate=True): int(rank) for word, rank in lines}
        given = dict(controls)
        encoding = tiktoken.Encoding(file.name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=given)
    except (OSError, ValueError, binascii.Error) as error:
        raise EngineError(f"{file} is no tiktoken file that can be read ({error}); fetch the file again") from error
    return RankVocabulary(encoding, given, None if begin is None else given.get(begin))
