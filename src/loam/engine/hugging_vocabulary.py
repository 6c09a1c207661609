"""A vocabulary that the `tokenizers` library runs: tokenizer.json, and GPT-2's older pair of files.

Knows the library's decoders as far as they are a matter of bytes. Invariant: `bytes_of` and the library's own `decode`
say the same text for whatever is valid UTF-8 (a test holds them against each other).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from loam.core.errors import EngineError
from loam.engine.vocabulary import byte_letters

_LETTERS = byte_letters()


class HuggingVocabulary:
    """`tokenizer` as the library loaded it; truncation and padding, which some files ask for, are taken off."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.size = tokenizer.get_vocab_size()
        added = tokenizer.get_added_tokens_decoder()
        self._added = {token: entry.content for token, entry in added.items()}
        self.special = frozenset(token for token, entry in added.items() if entry.special)
        self._bytes, self.strips = _decoder_of(tokenizer)
        self._known: dict[int, bytes] = {}

    def encode(self, text: str, *, special: bool) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=special).ids

    def piece(self, token: int) -> str:
        return self.tokenizer.id_to_token(token) or ""

    def id_of(self, piece: str) -> int | None:
        return self.tokenizer.token_to_id(piece)

    def bytes_of(self, token: int) -> bytes:
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._read(token)
        return known

    def _read(self, token: int) -> bytes:
        piece = self.piece(token)
        if not piece:
            return b""
        if self._bytes is None:
            return self.tokenizer.decode([token], skip_special_tokens=False).encode()
        return self._bytes(piece)

    def decode(self, tokens: Sequence[int]) -> str | None:
        if self._bytes is not None:
            return None
        return self.tokenizer.decode(list(tokens), skip_special_tokens=False)

    def as_json(self) -> str | None:
        return self.tokenizer.to_str()


def read_json(file: Path) -> HuggingVocabulary:
    """A tokenizer.json. Raises EngineError."""
    try:
        return HuggingVocabulary(Tokenizer.from_file(str(file)))
    except Exception as error:
        raise EngineError(f"{file} is no tokenizer that can be read ({error}); fetch the file again") from error


def read_pair(vocabulary: Path, merges: Path) -> HuggingVocabulary:
    """GPT-2's files: ids by token as JSON, and merges, one a line. Raises EngineError."""
    try:
        ids: dict[str, int] = json.loads(vocabulary.read_text("utf-8"))
        lines = merges.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise EngineError(f"{vocabulary} and {merges} cannot be read as a vocabulary: {error}") from error
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    return byte_level(ids, pairs, source=f"{vocabulary} with {merges.name}", specials=("<|endoftext|>",))


def byte_level(
    ids: dict[str, int],
    merges: Sequence[tuple[str, ...]],
    *,
    source: str,
    splits: Sequence[Any] = (),
    specials: Sequence[str] = (),
    shown: Sequence[str] = (),
) -> HuggingVocabulary:
    """Byte-level BPE (GPT-2's). `splits` cut a text first; without them GPT-2's own rule does. Raises EngineError."""
    try:
        tokenizer = Tokenizer(models.BPE(ids, list(merges), ignore_merges=False))  # pyright: ignore[reportArgumentType]
        whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not splits)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, whole])  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
        add(tokenizer, ids, specials, shown)
        return HuggingVocabulary(tokenizer)
    except Exception as error:
        raise EngineError(f"{source}: these tokens and merges are no vocabulary ({error})") from error


def add(tokenizer: Tokenizer, ids: dict[str, int], specials: Sequence[str], shown: Sequence[str]) -> None:
    """Makes tokens of the vocabulary whole wherever they stand in a text: control tokens, and some that are shown."""
    whole = [AddedToken(piece, normalized=False) for piece in specials if piece in ids]
    tokenizer.add_special_tokens(whole)  # pyright: ignore[reportUnknownMemberType] - the library's own lists say no type
    plain = [AddedToken(piece, normalized=False) for piece in shown if piece in ids]
    tokenizer.add_tokens(plain)  # pyright: ignore[reportUnknownMemberType]


def _decoder_of(tokenizer: Tokenizer) -> tuple[Callable[[str], bytes] | None, bool]:
    """How a piece becomes bytes, and whether a text loses its first space; None: only the library itself knows."""
    if tokenizer.decoder is None:
        return None, False
    told = json.loads(tokenizer.decoder.__getstate__())  # pyright: ignore[reportAttributeAccessIssue]
    steps = told["decoders"] if told["type"] == "Sequence" else [told]
    kinds = {step["type"] for step in steps}
    if kinds == {"ByteLevel"}:
        return _of_letters, False
    if kinds == {"Metaspace"}:
        return _of_spaces(steps[0]["replacement"], fallback=False), steps[0].get("prepend_scheme") != "never"
    replaced = [step for step in steps if step["type"] == "Replace"]
    if kinds <= {"Replace", "ByteFallback", "Fuse", "Strip"} and len(replaced) == 1 and "Fuse" in kinds:
        pattern = replaced[0]["pattern"].get("String")
        strips = [step for step in steps if step["type"] == "Strip"]
        usual = all((step["content"], step["start"], step["stop"]) == (" ", 1, 0) for step in strips)
        if pattern and replaced[0]["content"] == " " and usual:
            return _of_spaces(pattern, fallback="ByteFallback" in kinds), bool(strips)
    return None, False


def _of_letters(piece: str) -> bytes:
    """GPT-2's letters back to bytes; a piece with any other letter (an added token) stands for itself."""
    try:
        return bytes([_LETTERS[letter] for letter in piece])
    except KeyError:
        return piece.encode()


def _of_spaces(mark: str, *, fallback: bool) -> Callable[[str], bytes]:
    """SentencePiece's: a mark for each space, and `<0x0A>` for a byte that no piece has."""

    def read(piece: str) -> bytes:
        if fallback and len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            try:
                return bytes([int(piece[3:5], 16)])
            except ValueError:
                pass
        return piece.replace(mark, " ").encode()

    return read
