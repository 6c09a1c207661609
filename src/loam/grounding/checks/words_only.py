"""The verdict on a sentence and its evidence by words alone, without any model.

Pure. Knows the single checks and how they are weighed. Invariant: no sentence is supported that changes a value or a
name, denies what its evidence does not, or says a telling word that its evidence lacks.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from loam.grounding.checks.binding import shuffled, swapped
from loam.grounding.checks.coverage import Line, covered, items, thin, values_of
from loam.grounding.checks.names import foreign
from loam.grounding.checks.negation import conflict
from loam.grounding.checks.numbers import missing, values
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
    """How far the lines support the sentence. `rarity` says how telling a stem is, 1 where it does not know.

    A sentence that rests on several lines is checked part by part, each against its own line.
    """
    found = covered(sentence, lines, rarity)
    parts = [_gates(stretch.text, [lines[stretch.line]]) for stretch in found.stretches] or [_gates(sentence, lines)]
    around = "\n".join(f"{line.text}\n{line.beside}" for line in lines)
    texts = [line.text for line in lines]
    whole = bool(found.stretches) and not widened(sentence, around) and not thin(sentence, around)
    signals = {name: min(part[name] for part in parts) for name in _GATES} | {
        "coverage": round(found.share, 3),
        "pairs": round(found.pairs, 3),
        "order": float(not shuffled(sentence, texts)),
        "whole": float(whole),
    }
    return _judged(sentence, signals)


def _gates(part: str, lines: Sequence[Line]) -> dict[str, float]:
    """1 for each check that a part of a sentence passes, 0 for each that it fails."""
    texts = [line.text for line in lines]
    said = "\n".join(texts)
    around = "\n".join((said, *(line.beside for line in lines)))
    passed = (
        not missing(values(part), [value for line in lines for value in values_of(line)]),
        not foreign(part, around),
        not conflict(part, said),
        not turned(part, said),
        not swapped(part, texts),
    )
    return dict(zip(_GATES, map(float, passed), strict=True))


def _judged(sentence: str, signals: dict[str, float]) -> Weighed:
    closed = sum(not signals[name] for name in _GATES)
    likeness = 0.6 * signals["coverage"] + 0.25 * signals["pairs"] + 0.15 * min(signals["whole"], signals["order"])
    score = round(likeness * _GATED**closed, 3)
    if not signals["denial"] or not signals["sides"]:
        return Weighed("contradicted" if signals["coverage"] >= _WEAK else "unsupported", score, signals)
    if closed or signals["coverage"] < _WEAK:
        return Weighed("unsupported", score, signals)
    supported = signals["whole"] and signals["order"] and len(items(sentence)) > 0
    return Weighed("supported" if supported else "weak", score, signals)
