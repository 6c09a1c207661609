"""BERT's WordPiece: a text to the ids of its pieces, and where each stands in the text.

Knows the vocabulary and Unicode, nothing of models. A text is cut into words at white space, punctuation and
ideographs; each word is folded (lower case, accents off) and cut greedily into the longest pieces the vocabulary has.

One difference from other readers of the same vocabulary is meant: `[SEP]` in a text is three ordinary words, never the
separator itself, so that no document can forge where it ends.
Invariant: spans count characters of the text as it was given, before any folding, and never go backwards.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

LONGEST_WORD = 100
"""Characters after folding; a longer word is one unknown piece, as BERT was trained."""

_REMEMBERED = 1 << 16
_PARTS = re.compile("w+|p")


class Pieces(NamedTuple):
    """The pieces of one text (or word): `spans[i]` is where piece `ids[i]` stands in it."""

    ids: Sequence[int]
    spans: Sequence[tuple[int, int]]


class Pair(Struct, frozen=True):
    """Two texts as one input: `offset` is the place of the second text's first piece, `spans` are that text's."""

    ids: list[int]
    types: list[int]
    offset: int
    spans: Sequence[tuple[int, int]]


class WordPiece:
    """Cuts texts. Not for two threads at once: it remembers the words it has seen."""

    def __init__(self, vocabulary: Sequence[str], *, lower: bool = True) -> None:
        self._ids = {piece: number for number, piece in enumerate(vocabulary)}
        self.cls, self.sep, self._unknown = (self._ids[name] for name in ("[CLS]", "[SEP]", "[UNK]"))
        self._fold = _Fold(lower=lower)
        self._kinds = _Kinds(self._fold)
        self._seen: dict[str, Pieces] = {}

    @classmethod
    def read(cls, file: Path, *, lower: bool = True) -> "WordPiece":
        """From a `vocab.txt`, one piece a line. Raises OSError, and KeyError where it lacks the special pieces."""
        return cls(file.read_text("utf-8").removesuffix("\n").split("\n"), lower=lower)

    def ids(self, text: str, most: int) -> list[int]:
        """The ids of one text with `[CLS]` and `[SEP]` around, cut to `most`."""
        words = (self._word(text[m.start() : m.end()]).ids for m in _PARTS.finditer(text.translate(self._kinds)))
        return [self.cls, *list(chain.from_iterable(words))[: most - 2], self.sep]

    def cut(self, text: str) -> Pieces:
        """All pieces of a text and where they stand, without special ones."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for match in _PARTS.finditer(text.translate(self._kinds)):
            start = match.start()
            word = self._word(text[start : match.end()])
            ids += word.ids
            spans += [(start + a, start + b) for a, b in word.spans]
        return Pieces(ids, spans)

    def pair(self, first: Pieces, second: Pieces, *, most: int, most_first: int) -> Pair:
        """`[CLS] first [SEP] second [SEP]`, the first cut to `most_first` pieces, the second to what is left."""
        head = [self.cls, *first.ids[:most_first], self.sep]
        room = most - len(head) - 1
        tail = [*second.ids[:room], self.sep]
        return Pair(head + tail, [0] * len(head) + [1] * len(tail), len(head), second.spans[:room])

    def _word(self, word: str) -> Pieces:
        pieces = self._seen.get(word)
        if pieces is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            pieces = self._seen[word] = self._cut_word(word)
        return pieces

    def _cut_word(self, word: str) -> Pieces:
        parts = [self._fold[ord(char)] for char in word]
        folded = "".join(parts)
        places = [place for place, part in enumerate(parts) for _ in part]  # folded character -> original one
        if not folded:
            return Pieces((), ())
        if len(folded) > LONGEST_WORD:
            return Pieces((self._unknown,), ((places[0], places[-1] + 1),))
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        start = 0
        while start < len(folded):
            end = len(folded)
            while end > start and ("##" * (start > 0) + folded[start:end]) not in self._ids:
                end -= 1
            if end == start:
                return Pieces((self._unknown,), ((places[0], places[-1] + 1),))
            ids.append(self._ids["##" * (start > 0) + folded[start:end]])
            spans.append((places[start], places[end - 1] + 1))
            start = end
        return Pieces(tuple(ids), tuple(spans))


class _Fold(dict[int, str]):
    """A character to what the vocabulary knows it as: lower case without accents; nothing for control characters."""

    def __init__(self, *, lower: bool) -> None:
        super().__init__()
        self._lower = lower

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if _is_space(char):
            folded = " "
        elif code in (0, 0xFFFD) or unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs"):
            folded = ""
        elif self._lower:
            bare = (part for part in unicodedata.normalize("NFD", char) if unicodedata.category(part) != "Mn")
            folded = "".join(part.lower() for part in bare)
        else:
            folded = char
        self[code] = folded
        return folded


class _Kinds(dict[int, str]):
    """A character to its part in a word: `w` belongs to one, `p` is one of its own, a space is between words."""

    def __init__(self, fold: _Fold) -> None:
        super().__init__()
        self._fold = fold

    def __missing__(self, code: int) -> str:
        folded = self._fold[code]
        if folded == " ":
            kind = " "
        elif len(folded) == 1 and (_is_punctuation(folded) or _is_ideograph(code)):
            kind = "p"
        else:
            kind = "w"  # those that fold to nothing too: what they stand between stays one word
        self[code] = kind
        return kind


def _is_space(char: str) -> bool:
    return char in "\t\n\r" or unicodedata.category(char) in ("Zs", "Zl", "Zp")


def _is_punctuation(char: str) -> bool:
    """Unicode's punctuation, and all of ASCII that is neither letter, digit nor space."""
    return ("!" <= char <= "~" and not char.isalnum()) or unicodedata.category(char).startswith("P")


_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_ideograph(code: int) -> bool:
    return any(low <= code <= high for low, high in _IDEOGRAPHS)
