"""How much of a sentence its evidence says: word by word, and stretch by stretch from one line of evidence each.

Pure. Invariant: a sentence put together from lines that speak of different things is not covered, though every single
word of it is: each stretch must come from one line.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from loam.grounding.checks.numbers import Value, implied, values
from loam.grounding.checks.tokens import alike, tokens

_BESIDE = 0.6  # what a word counts that only the heading or the line before has
_STRETCH = 3  # telling words that one line must at least give, so that nothing is pasted together
_MOST_BESIDE = 0.4
_WORDY, _TELLING = 10, 0.4  # a sentence of so many words of which at most this share tells something is thin
_SAME_WORDS = 0.6  # share of a thin sentence's words that must stand in its evidence


class Line(Struct, frozen=True):
    """A line of evidence. `beside` is what it is about without saying so: its headings, what announces it."""

    text: str
    beside: str = ""


class Stretch(Struct, frozen=True):
    """The part `text` of a sentence that the line numbered `line` says."""

    text: str
    line: int


class Covered(Struct, frozen=True):
    """`share` by weight, `pairs` of neighbours that one line has too; `absent` are the words that no line has.

    `stretches` are the sentence, each part from one line; empty where it can't be divided so.
    """

    share: float
    pairs: float
    absent: tuple[str, ...]
    stretches: tuple[Stretch, ...]


Item = str | Value
"""A telling word's stem, or a value."""


class Known(Struct, frozen=True):
    """A line as sentences are compared with it."""

    stems: frozenset[str]
    beside: frozenset[str]
    values: tuple[Value, ...]
    length: int

    def has(self, item: Item) -> float:
        """How sure the line says it, from 0 to 1."""
        if isinstance(item, Value):
            return 1.0 if any(item.same(other) for other in self.values) else 0.0
        return alike(item, self.stems) or _BESIDE * (alike(item, self.beside) > 0)


def known(line: Line) -> Known:
    found = tokens(line.text)
    beside = frozenset(token.stem for token in tokens(line.beside))
    return Known(frozenset(token.stem for token in found), beside, tuple(values_of(line)), len(items(line.text)))


def values_of(line: Line) -> list[Value]:
    """The values of a line; those of its headings too, where the line has none of their kind."""
    own = values(line.text)
    units = {value.unit for value in own}
    return [*own, *implied(line.text), *(value for value in values(line.beside) if value.unit not in units)]


class Placed(Struct, frozen=True):
    """An item and where it stands in its text."""

    item: Item
    start: int
    end: int


def items(text: str) -> list[Item]:
    """What of a sentence needs support, in order: its telling words and its values."""
    return [placed.item for placed in placed_items(text)]


def placed_items(text: str) -> list[Placed]:
    """The items of a text with their places."""
    counted = values(text)
    inside = [(value.start, value.end) for value in counted]
    told = [
        token
        for token in tokens(text)
        if token.telling and not any(start <= token.start < end for start, end in inside)
    ]
    placed = [Placed(token.stem, token.start, token.end) for token in told]
    placed += [Placed(value, value.start, value.end) for value in counted]
    return sorted(placed, key=lambda one: one.start)


def thin(sentence: str, around: str) -> bool:
    """Whether a sentence tells little in many words, and its evidence has few of them: no sign that it says so."""
    said = tokens(sentence)
    if len(said) < _WORDY or sum(token.telling for token in said) > _TELLING * len(said):
        return False
    there = frozenset(token.stem for token in tokens(around))
    return sum(alike(token.stem, there) > 0 for token in said) < _SAME_WORDS * len(said)


def covered(sentence: str, lines: Sequence[Line], rarity: Mapping[str, float]) -> Covered:
    """How far the lines say what the sentence says; `rarity` weighs a stem, 1 where it is not known."""
    placed, there = placed_items(sentence), [known(line) for line in lines]
    said = [one.item for one in placed]
    worth = [max((line.has(item) for line in there), default=0.0) for item in said]
    weight = [rarity.get(item, 1.0) if isinstance(item, str) else 1.0 for item in said]
    total = sum(weight)
    share = sum(w * v for w, v in zip(weight, worth, strict=True)) / total if total else 1.0
    neighbours = list(pairwise(said))
    together = sum(any(line.has(one) and line.has(two) for line in there) for one, two in neighbours)
    pairs = together / len(neighbours) if neighbours else min(1.0, share)
    absent = tuple(_named(item) for item, value in zip(said, worth, strict=True) if not value)
    beside = sum(0 < value <= _BESIDE for value in worth)
    divided = not absent and beside <= _MOST_BESIDE * len(said)
    return Covered(share, pairs, absent, _stretches(sentence, placed, there) if divided else ())


def _stretches(sentence: str, placed: Sequence[Placed], there: Sequence[Known]) -> tuple[Stretch, ...]:
    """The sentence as parts that one line each has, none of them a mere word or two; empty where that can't be."""
    said = [one.item for one in placed]
    found: list[Stretch] = []
    start = 0
    while start < len(said):
        reach = [_reach(said, start, line) for line in there]
        best = max(range(len(there)), key=lambda line: reach[line])
        end = reach[best]
        if end - start < min(_STRETCH, there[best].length, len(said)):
            return ()
        left = placed[start].start if start else 0
        right = placed[end].start if end < len(said) else len(sentence)
        found.append(Stretch(sentence[left:right], best))
        start = end
    return tuple(found)


def _reach(said: Sequence[Item], start: int, line: Known) -> int:
    """Where the stretch from `start` ends that the line has."""
    end = start
    while end < len(said) and line.has(said[end]):
        end += 1
    return end


def _named(item: Item) -> str:
    return item if isinstance(item, str) else f"{item.amount:f} {item.unit}".strip()
