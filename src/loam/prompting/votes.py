"""Counting votes: who leads, and whether more votes can change that.

Knows canonical forms and places; knows no model. Pure.
Invariant: with the `exact` rule the winner is the one that all `n` votes would have chosen, whatever the rest had said.
"""

from math import comb
from typing import Literal

from msgspec import Struct

Stop = Literal["exact", "beta", "none"]
"""exact: the leader can't be overtaken. beta: it is likely enough to be the answer given most often. none: all n."""


class Vote(Struct, frozen=True):
    """One class of answers, and which samples gave it."""

    answer: str
    samples: tuple[int, ...]


class Tally:
    """Of at most `n` votes. A vote without an answer (None) is in no class, yet it is one of the n."""

    def __init__(self, n: int, stop: Stop, confidence: float) -> None:
        self._n = n
        self._stop = stop
        self._confidence = confidence
        self._classes: dict[str, list[int]] = {}
        self.used = 0
        self.unparseable = 0

    def add(self, index: int, answer: str | None) -> None:
        self.used += 1
        if answer is None:
            self.unparseable += 1
        else:
            self._classes.setdefault(answer, []).append(index)

    def ranked(self) -> list[Vote]:
        """The classes, the leader first; of equals the one that was drawn first."""
        votes = [Vote(answer, tuple(sorted(samples))) for answer, samples in self._classes.items()]
        return sorted(votes, key=lambda vote: (-len(vote.samples), vote.samples[0]))

    @property
    def tie(self) -> bool:
        ranked = self.ranked()
        return len(ranked) > 1 and len(ranked[0].samples) == len(ranked[1].samples)

    @property
    def share(self) -> float:
        """The leader's part of all votes, the unparseable ones among them."""
        ranked = self.ranked()
        return len(ranked[0].samples) / self.used if ranked else 0.0

    def wanted(self) -> int:
        """The fewest further votes after which it could be decided; 0 when it is."""
        left = self._n - self.used
        if left <= 0:
            return 0
        if self._stop == "none":
            return left
        lead = self._lead()
        needed = 0 if lead > left else (left - lead) // 2 + 1
        if self._stop == "exact" or not needed:
            return needed
        return 0 if self._likely() else min(needed, max(3, self.used // 2))

    def _lead(self) -> int:
        """Votes that another class needs to win; of equals, the one that was drawn first does."""
        ranked = self.ranked()
        if not ranked:
            return 1
        leader, others = ranked[0], ranked[1:]
        size, since = len(leader.samples), leader.samples[0]
        return min([size + 1, *(size - len(other.samples) + (since < other.samples[0]) for other in others)])

    def _likely(self) -> bool:
        """Adaptive consistency: how sure the leader beats the second, were only these two in the running."""
        sizes = [len(vote.samples) for vote in self.ranked()]
        first, second = (*sizes, 0, 0)[:2]
        return first >= 2 and likely_ahead(first, second) >= self._confidence


def likely_ahead(first: int, second: int) -> float:
    """The chance that a Beta(first + 1, second + 1) variable lies above one half.

    ```python
    round(likely_ahead(4, 0), 3)  # 0.969
    ```
    """
    total = first + second + 1
    return sum(comb(total, k) for k in range(first + 1)) / 2**total
