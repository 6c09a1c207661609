"""The verdict on a sentence and its evidence by words alone, without any model.

Pure. Knows the single checks and how they are weighed. Invariant: no sentence is supported that changes a value or a
name, denies what its evidence does not, or says a telling word that its evidence lacks.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from loam.grounding.checks.binding import shuffled, swapped
from loam.grounding.checks.coverage import Line, covered, items
from loam.grounding.checks.names import foreign
from loam.grounding.checks.negation import conflict
from loam.grounding.checks.numbers import implied, missing, values
from loam.grounding.checks.qualifiers import turned, widened

_WEAK = 0.6  # below this share of its words a sentence is not even worth a second look
_GATED = 0.3  # what a closed gate leaves of a score

Band = Literal["supported", "weak", "unsupported", "contradicted"]


class Weighed(Struct, frozen=True):
    """`signals` holds every check by name, 1 where it speaks for the sentence and 0 where against it."""

    band: Band
    score: float
    signals: dict[str, float]

    @property
    def gated(self) -> bool:
        """Whether a check found something that no likeness of words can make good."""
        return any(not self.signals[name] for name in _GATES)


_GATES = ("numbers", "names", "denial", "sides", "places")


def weigh(sentence: str, lines: Sequence[Line], rarity: Mapping[str, float]) -> Weighed:
    """How far the lines support the sentence. `rarity` says how telling a stem is, 1 where it does not know."""
    texts = [line.text for line in lines]
    whole = "\n".join(texts)
    around = "\n".join((whole, *(line.beside for line in lines)))
    there = [*values(around), *implied(whole)]
    found = covered(sentence, lines, rarity)
    signals = {
        "numbers": float(not missing(values(sentence), there)),
        "names": float(not foreign(sentence, around)),
        "denial": float(not conflict(sentence, whole)),
        "sides": float(not turned(sentence, whole)),
        "places": float(not swapped(sentence, texts)),
        "coverage": round(found.share, 3),
        "pairs": round(found.pairs, 3),
        "whole": float(found.whole and not widened(sentence, around) and not shuffled(sentence, texts)),
    }
    return _judged(sentence, signals)


def _judged(sentence: str, signals: dict[str, float]) -> Weighed:
    closed = sum(not signals[name] for name in _GATES)
    likeness = 0.6 * signals["coverage"] + 0.25 * signals["pairs"] + 0.15 * signals["whole"]
    score = round(likeness * _GATED**closed, 3)
    if not signals["denial"] or not signals["sides"]:
        return Weighed("contradicted" if signals["coverage"] >= _WEAK else "unsupported", score, signals)
    if closed or signals["coverage"] < _WEAK:
        return Weighed("unsupported", score, signals)
    supported = signals["whole"] and len(items(sentence)) > 0
    return Weighed("supported" if supported else "weak", score, signals)
