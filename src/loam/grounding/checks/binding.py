"""Whether values and names stand with the same words as in the evidence: none of them has changed places.

Pure. Invariant: two values that traded places in a sentence are found, though each of them is in the evidence.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from loam.grounding.checks.coverage import Item, items, placed_items
from loam.grounding.checks.names import names
from loam.grounding.checks.numbers import Value
from loam.grounding.terms import stem, words

_JOINED = re.compile(r"[\s,/&-]*(?:and|or|of|the)?[\s,/&-]*", re.IGNORECASE)
_WINDOW = 3  # telling words on either side


def swapped(claim: str, evidence: Sequence[str]) -> bool:
    """Whether two values, or two names, of the claim stand in each other's company in every line that has both."""
    placed = placed_items(claim)
    said = [one.item for one in placed]
    keys = [_key(item) for item in said]
    if any(_rotated(keys, [_key(item) for item in items(text)]) for text in evidence):
        return False
    held = _places(claim, said)
    lines = [(items(text), text) for text in evidence]
    for one, two in combinations(held, 2):
        if _JOINED.fullmatch(claim[placed[one].end : placed[two].start]):
            continue  # one name, or two that share all their company
        verdicts = [
            _crossed(said, (one, two), line, places)
            for line, text in lines
            if (places := _found(said[one], said[two], line, text)) is not None
        ]
        if verdicts and all(verdicts):
            return True
    return False


def shuffled(claim: str, evidence: Sequence[str]) -> bool:
    """Whether the claim has just the words of a line in another order, and not only its clauses turned round."""
    said = [_key(item) for item in items(claim)]
    for text in evidence:
        line = [_key(item) for item in items(text)]
        if Counter(said) == Counter(line):
            return not _rotated(said, line)
    return False


def _rotated(said: Sequence[str], line: Sequence[str]) -> bool:
    return any([*line[turn:], *line[:turn]] == list(said) for turn in range(len(line) or 1))


def _key(item: Item) -> str:
    return item if isinstance(item, str) else f"{item.amount.normalize():f} {item.unit}{item.code}"


def _places(text: str, said: Sequence[Item]) -> list[int]:
    """Where the values and the names of a text are among its items."""
    named = {stem(word) for name in names(text) for word in words(name)}
    return [place for place, item in enumerate(said) if isinstance(item, Value) or item in named]


def _found(one: Item, two: Item, line: Sequence[Item], text: str) -> tuple[int, int] | None:
    """The places of two different items in a line that has each of them once."""
    if _same(one, two):
        return None
    held = _places(text, line)
    first = [place for place in held if _same(one, line[place])]
    second = [place for place in held if _same(two, line[place])]
    return (first[0], second[0]) if len(first) == len(second) == 1 else None


def _crossed(said: Sequence[Item], pair: tuple[int, int], line: Sequence[Item], places: tuple[int, int]) -> bool:
    """Whether each keeps the other's company rather than its own; where both do, whether they stand the other way."""
    mine = [_company(said, place, pair) for place in pair]
    theirs = [_company(line, place, places) for place in places]
    own = sum(len(mine[i] & theirs[i]) for i in (0, 1))
    other = len(mine[0] & theirs[1]) + len(mine[1] & theirs[0])
    turned = (pair[0] < pair[1]) != (places[0] < places[1])
    return other > own or (other == own and turned)


def _company(line: Sequence[Item], place: int, pair: tuple[int, int]) -> frozenset[str]:
    """The words around a place, as far as the other place of the pair."""
    other = pair[1] if place == pair[0] else pair[0]
    low = max(place - _WINDOW, other + 1 if other < place else 0, 0)
    high = min(place + _WINDOW + 1, other if other > place else len(line))
    return frozenset(item for item in line[low:high] if isinstance(item, str) and item != line[place])


def _same(one: Item, two: Item) -> bool:
    return one.same(two) if isinstance(one, Value) and isinstance(two, Value) else one == two
