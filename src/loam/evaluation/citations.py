"""Whether citations carry what is said: recall and precision as ALCE defines them, and faithfulness.

Pure. Knows sentences and the texts they cite; who judges whether a text supports a sentence is the caller's matter, and
the figures are that judge's as much as the answer's.
Invariants: a citation counts only where the sentence's citations together support it; every score lies in [0, 1].
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from msgspec import Struct

Supports = Callable[[str, Sequence[str]], bool]
"""Whether texts, read together, support a sentence."""


class Claim(Struct, frozen=True):
    """One sentence of an answer and the texts that it cites."""

    sentence: str
    cited: tuple[str, ...]


class CitationScores(Struct, frozen=True):
    """Means over `answers`: `recall` of sentences that their citations support, `precision` of citations of use."""

    answers: int
    recall: float
    precision: float


def citation_scores(answers: Iterable[Sequence[Claim]], supports: Supports) -> CitationScores:
    """Scores answers that say something; ones without a sentence are left out."""
    scored = [of_answer(claims, supports) for claims in answers if claims]
    if not scored:
        return CitationScores(0, 0.0, 0.0)
    recalls, precisions = zip(*scored, strict=True)
    return CitationScores(len(scored), fmean(recalls), fmean(precisions))


def faithfulness(answers: Iterable[tuple[Sequence[str], Sequence[str]]], supports: Supports) -> float:
    """The share of sentences, over pairs of (sentences, texts the answer was made from), that one text supports."""
    pairs = list(answers)
    whole = sum(len(sentences) for sentences, _ in pairs)
    return sum(faithful(*pair, supports) for pair in pairs) / whole if whole else 0.0


def faithful(sentences: Sequence[str], texts: Sequence[str], supports: Supports) -> int:
    """How many sentences of one answer a text supports."""
    return sum(any(supports(sentence, [text]) for text in texts) for sentence in sentences)


def of_answer(claims: Sequence[Claim], supports: Supports) -> tuple[float, float]:
    """Recall and precision of one answer that says something."""
    carried = [bool(claim.cited) and supports(claim.sentence, claim.cited) for claim in claims]
    cited = sum(len(claim.cited) for claim in claims)
    useful = sum(_useful(claim, supports) for claim, holds in zip(claims, carried, strict=True) if holds)
    return fmean(carried), useful / cited if cited else 0.0


def _useful(claim: Claim, supports: Supports) -> int:
    """Citations of a supported sentence that support it alone, or without which the others do not."""
    if len(claim.cited) == 1:
        return 1
    return sum(
        supports(claim.sentence, [text])
        or not supports(claim.sentence, [*claim.cited[:place], *claim.cited[place + 1 :]])
        for place, text in enumerate(claim.cited)
    )
