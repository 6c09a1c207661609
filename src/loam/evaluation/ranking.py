"""How good a ranked list is, when it is known what belongs at its top.

Pure. Knows names of things, not the things. A thing that is listed twice counts at its first place only.
Invariant: every score lies in [0, 1]; to move a right thing up never lowers one.

```python
summary([(["a", "b"], {"b"})], k=10).reciprocal_rank  # 0.5
```
"""

from collections.abc import Collection, Hashable, Iterable, Sequence
from math import log2
from statistics import fmean

from msgspec import Struct

from loam.evaluation.intervals import Interval, bootstrap


class RankingScores(Struct, frozen=True):
    """Means over `questions` lists, each cut at `k`."""

    questions: int
    k: int
    recall: float
    ndcg: float
    reciprocal_rank: float


def recall(ranked: Sequence[Hashable], right: Collection[Hashable], k: int) -> float:
    """The share of `right` among the first `k`. Raises ValueError where nothing is right."""
    return sum(_hits(ranked, right, k)) / len(right)


def ndcg(ranked: Sequence[Hashable], right: Collection[Hashable], k: int) -> float:
    """Normalised discounted cumulative gain of the first `k`, each right thing worth one. Raises as `recall` does."""
    gained = sum(_discount(place) for place, hit in enumerate(_hits(ranked, right, k), 1) if hit)
    return gained / sum(_discount(place) for place in range(1, min(k, len(right)) + 1))


def reciprocal_rank(ranked: Sequence[Hashable], right: Collection[Hashable], k: int) -> float:
    """One over the place of the first right thing among the first `k`, else zero. Raises as `recall` does."""
    return next((1 / place for place, hit in enumerate(_hits(ranked, right, k), 1) if hit), 0.0)


def summary(lists: Iterable[tuple[Sequence[Hashable], Collection[Hashable]]], k: int) -> RankingScores:
    """The means of all three over pairs of (ranked, right); zeros for no pair at all."""
    pairs = list(lists)
    if not pairs:
        return RankingScores(0, k, 0.0, 0.0, 0.0)
    recalls, gains, ranks = (
        fmean(score(ranked, right, k) for ranked, right in pairs) for score in (recall, ndcg, reciprocal_rank)
    )
    return RankingScores(len(pairs), k, recalls, gains, ranks)


def intervals(lists: Iterable[tuple[Sequence[Hashable], Collection[Hashable]]], k: int) -> dict[str, Interval]:
    """Where the means of `summary` lie, by their names, from the same pairs."""
    pairs = list(lists)
    scores = {"recall": recall, "ndcg": ndcg, "reciprocal_rank": reciprocal_rank}
    return {name: bootstrap([score(ranked, right, k) for ranked, right in pairs]) for name, score in scores.items()}


def _hits(ranked: Sequence[Hashable], right: Collection[Hashable], k: int) -> list[bool]:
    if not right:
        raise ValueError("a list can be scored only where something is right")
    return [name in right for name in list(dict.fromkeys(ranked))[:k]]


def _discount(place: int) -> float:
    return 1 / log2(place + 1)
