"""When two passages say the same: the same words, or nearly the same and nothing that matters differs.

Pure. Invariant: passages whose numbers, names or negations differ never count as saying the same, however alike they
are: that one figure may be what is asked for.
"""

import zlib
from collections import Counter

from msgspec import Struct

from loam.grounding.store import digest
from loam.grounding.terms import words

_LONG = 40  # words; of a shorter passage every word counts
_SPOKEN_FOR_ITSELF = 12  # words; a shorter passage says the same only under the same heading
_MOST_CHANGED = 0.03  # of the words, where nothing that matters differs
_NEGATIONS = frozenset(words("no not none never neither nor without except unless cannot can t only"))
_SHINGLE = 3


class Likeness(Struct, frozen=True):
    """Equal `sameness`: the same words. One equal mark of two: worth comparing; short passages have none."""

    sameness: str
    marks: tuple[int, int] | None


def likeness(section: str, text: str) -> Likeness:
    """What to look for when looking for passages that say the same."""
    said = words(text)
    place = "" if len(said) >= _SPOKEN_FOR_ITSELF else " ".join(words(section))
    return Likeness(digest(f"{place}\n{' '.join(said)}"), _marks(said) if len(said) >= _LONG else None)


def alike(one: str, other: str) -> bool:
    """Whether two long passages differ in a few words only, none of them a number, a name or a negation."""
    first, second = Counter(words(one)), Counter(words(other))
    differing = (first - second) + (second - first)
    if differing.total() > _MOST_CHANGED * (first.total() + second.total()):
        return False
    named = _named(one) | _named(other)
    return not any(word in named or word in _NEGATIONS or not word.isalpha() for word in differing)


def _named(text: str) -> set[str]:
    """The words that stand in capitals somewhere; the first word of a sentence is taken for a name, to be safe."""
    return {part for word in text.split() if any(letter.isupper() for letter in word) for part in words(word)}


def _marks(said: list[str]) -> tuple[int, int]:
    """The least hash of all runs of three words, by two hashes: texts that share most runs likely share one."""
    runs = [" ".join(said[start : start + _SHINGLE]).encode() for start in range(len(said) - _SHINGLE + 1)]
    return min(map(zlib.crc32, runs)), min(zlib.crc32(run, 0x5EED) for run in runs)
