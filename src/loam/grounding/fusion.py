"""Ranked lists into one, and one list into a more various one.

Pure. `fused` is reciprocal rank fusion (Cormack, Clarke and Büttcher 2009), `diverse` maximal marginal relevance
(Carbonell and Goldstein 1998), under the names that the papers gave the numbers. `blended` looks at scores rather than
at ranks, which tell a question that words meet from one that they miss: see bench/RETRIEVAL.md.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from loam.core.calls import Passage
from loam.grounding.store import Hit

if TYPE_CHECKING:
    from loam.grounding.store import Vectors

K = 60
"""Dampens the head of each list; the value of the paper, which also measured best here."""


def fused(lists: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Every hit of the lists, by the sum of 1 / (K + rank); what says the same stands for one, as first met.

    The sum is measured by that of a hit which is the first of every list, whose score is 1.
    """
    first: dict[int, Hit] = {}
    scores: dict[int, float] = {}
    for hits in lists:
        for rank, hit in enumerate(hits, 1):
            first.setdefault(hit.fold, hit)
            scores[hit.fold] = scores.get(hit.fold, 0.0) + (K + 1) / (K + rank) / len(lists)
    ranked = sorted(scores, key=lambda fold: (-scores[fold], first[fold].id))
    return [Hit(first[fold].id, fold, scores[fold]) for fold in ranked]


def blended(lists: Sequence[Sequence[Hit]], depth: int) -> list[Hit]:
    """Every hit of the lists, by the mean of its scores; what says the same stands for one, as first met.

    The scores of all lists have one measure, from 0 (nothing) to 1 (all that could be). What a list of `depth` hits
    leaves out has at most the least score in it and is given that; a shorter list holds all that there is.
    """
    first: dict[int, Hit] = {}
    scores: list[dict[int, float]] = []
    for hits in lists:
        scores.append({hit.fold: hit.score for hit in hits})
        for hit in hits:
            first.setdefault(hit.fold, hit)
    least = [min(one.values()) if len(one) >= depth else 0.0 for one in scores]
    whole = {
        fold: sum(one.get(fold, low) for one, low in zip(scores, least, strict=True)) / len(scores) for fold in first
    }
    ranked = sorted(first, key=lambda fold: (-whole[fold], first[fold].id))
    return [Hit(first[fold].id, fold, whole[fold]) for fold in ranked]


def settled(hits: Sequence[Hit], parts: Sequence[tuple[float, Mapping[int, float]]]) -> list[Hit]:
    """The hits by the weighted mean of their score, which weighs 1, and of parts from 0 to 1, which weigh as given.

    A part is known by hit for the first ones only; the others have none of it, and so stay behind them.
    """
    whole = 1 + sum(weight for weight, _ in parts)
    scores = {hit.id: (hit.score + sum(weight * part.get(hit.id, 0) for weight, part in parts)) / whole for hit in hits}
    ranked = sorted(enumerate(hits), key=lambda placed: (-scores[placed[1].id], placed[0]))
    return [Hit(hit.id, hit.fold, scores[hit.id]) for _, hit in ranked]


def diverse(hits: Sequence[Hit], vectors: "Mapping[int, Vectors]", *, diversity: float, limit: int) -> list[Hit]:
    """Chooses hits one by one: how well each fits, less how near it is to one already chosen.

    A hit without a vector is near to none. Relevance is the score's place between the list's worst and best.
    """
    if not hits:
        return []
    best, worst = max(hit.score for hit in hits), min(hit.score for hit in hits)
    fit = {hit.id: (hit.score - worst) / (best - worst) if best > worst else 1.0 for hit in hits}
    nearest = dict.fromkeys(fit, 0.0)
    left, taken = list(hits), list[Hit]()
    while left and len(taken) < limit:
        hit = max(left, key=lambda one: (1 - diversity) * fit[one.id] - diversity * nearest[one.id])
        left.remove(hit)
        taken.append(hit)
        for other in left:
            if hit.id in vectors and other.id in vectors:
                nearest[other.id] = max(nearest[other.id], float(vectors[hit.id] @ vectors[other.id]))
    return taken


def joined(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """Passages of one document that overlap or touch as one, in the place of the better."""
    whole: list[Passage] = []
    for passage in passages:
        merged = passage
        touching = [one for one in whole if _touch(one, passage)]
        for one in touching:
            merged = _union(one, merged)
        place = whole.index(touching[0]) if touching else len(whole)
        whole = [one for one in whole if one not in touching]
        whole.insert(place, merged)
    return tuple(whole)


def _touch(one: Passage, other: Passage) -> bool:
    return one.document_id == other.document_id and one.start <= other.end and other.start <= one.end


def _union(better: Passage, other: Passage) -> Passage:
    """Both as one stretch; what is said of it is said of the better, except where it begins."""
    first, last = (better, other) if better.start <= other.start else (other, better)
    text = first.text + last.text[first.end - last.start :] if last.end > first.end else first.text
    return Passage(
        better.document_id,
        better.title,
        better.url,
        better.section,
        first.start,
        max(first.end, last.end),
        text,
        better.score,
        better.revision,
        first.page,
    )
