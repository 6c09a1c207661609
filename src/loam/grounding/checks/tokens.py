"""A text as its words with their places, stems and whether they tell anything.

Pure. Invariant: the words are those that `loam.grounding.terms` searches by, in order.
"""

import re
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct

from loam.grounding.terms import STOP_WORDS, stem, words

_RUN = re.compile(r"[^\W_]+")


class Lexicon(Struct, frozen=True, forbid_unknown_fields=True):
    """What `words.toml` holds."""

    light: str
    alike: str
    courtesy: str
    opening: tuple[str, ...]
    absent: tuple[str, ...]
    opposed: dict[str, tuple[str, ...]]


LEXICON = msgspec.toml.decode((Path(__file__).parent / "words.toml").read_bytes(), type=Lexicon)

_LIGHT = frozenset(stem(word) for word in LEXICON.light.split())
_GROUP = {stem(word): number for number, line in enumerate(LEXICON.alike.splitlines()) for word in words(line)}


class Token(Struct, frozen=True):
    """A word at `text[start:end]`; `telling` is False for words that would fit into any sentence."""

    said: str
    stem: str
    start: int
    end: int
    telling: bool


@lru_cache(maxsize=256)  # every check of one sentence asks for the same few texts
def tokens(text: str) -> tuple[Token, ...]:
    """Every word of a text."""
    return tuple(
        Token(run.group(), known.stem, run.start(), run.end(), known.telling)
        for run in _RUN.finditer(text)
        for known in _words(run.group())
    )


class _Word(Struct, frozen=True):
    stem: str
    telling: bool


@lru_cache(maxsize=8192)
def _words(run: str) -> tuple[_Word, ...]:
    """The words that a run of letters is: several where a script puts no space between them."""
    found = ((word, stem(word)) for word in words(run))
    return tuple(_Word(cut, word not in STOP_WORDS and cut not in _LIGHT) for word, cut in found)


def telling(text: str) -> list[str]:
    """The stems of the words that tell something."""
    return [token.stem for token in tokens(text) if token.telling]


def alike(stem: str, others: frozenset[str]) -> float:
    """How sure one of `others` means the same word: 1 for itself, less for a word of the family or a known synonym."""
    if stem in others:
        return 1.0
    group = _GROUP.get(stem)
    if group is not None and any(_GROUP.get(other) == group for other in others):
        return 0.9
    return 0.9 if len(stem) >= 5 and any(_kin(stem, other) for other in others) else 0.0


def _kin(one: str, other: str) -> bool:
    """Whether two stems are forms of one word: they begin alike and differ in a short ending."""
    shorter, longer = sorted((one, other), key=len)
    return len(shorter) >= 5 and longer.startswith(shorter[:-1]) and len(longer) - len(shorter) <= 3
