"""A second and a third look at the sentence that the heads would answer from: does it hold the answer by itself?

The heads read the whole passage; here they read the sentence of their span alone, and it between its neighbours. A
passage that only speaks of the same things is found out so more often than by one look.
Knows no collection. Invariant: what it gives depends on the question and this one passage only.
"""

import math
from typing import TYPE_CHECKING

from loam.grounding.checks.answered import answered, by_words
from loam.grounding.sentences import sentences

if TYPE_CHECKING:
    from loam.grounding.encoder.port import Heads, Reading

_LEAST = 1e-9  # the least share of "no answer" that is told from none


async def likely(heads: "Heads", question: str, text: str, reading: "Reading") -> float:
    """How likely the passage `text` answers the question where `reading` says; 0 where it says nowhere.

    Raises ModelFailure where the weights cannot be used.
    """
    if reading.start >= reading.end:
        return 0.0
    return answered(await signals(heads, question, text, reading))


async def signals(heads: "Heads", question: str, text: str, reading: "Reading") -> dict[str, float]:
    """What is weighed: how far the heads are from "no answer" at each look, and the checks by words."""
    sentence, around = _places(text, reading)
    looks = await heads.read(question, [sentence, around])
    found = {name: -math.log(max(_LEAST, one.nothing)) for name, one in zip(_LOOKS, (reading, *looks), strict=True)}
    return found | by_words(question, sentence)


_LOOKS = ("passage", "sentence", "around")


def _places(text: str, reading: "Reading") -> tuple[str, str]:
    """The sentence that the span begins in, and it between its neighbours."""
    spans = [(found.start, found.end) for found in sentences(text)]
    place = next((number for number, (_, end) in enumerate(spans) if end > reading.start), len(spans) - 1)
    first, last = spans[max(0, place - 1)], spans[min(len(spans) - 1, place + 1)]
    return text[slice(*spans[place])], text[first[0] : last[1]]
