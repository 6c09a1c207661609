"""Figures for answers, rankings and verdicts.

Pure, no numpy. Invariant: every figure lies between 0 and 1, and none depends on the order of the rows.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct


class Answered(Struct, frozen=True):
    """A question's outcome: the best span, how far it beats "no answer", and the right answers (none: unanswerable)."""

    text: str
    margin: float
    gold: tuple[str, ...]


class Point(Struct, frozen=True):
    """What a threshold on the margin gives: shares of all questions, but `refused` is the share of the unanswerable
    that were declined, and `lost` the share of the answerable that were.
    """

    threshold: float
    exact: float
    f1: float
    refused: float
    lost: float


def plain(text: str) -> list[str]:
    """The words that answers are compared by: lower case, no punctuation, no articles (as SQuAD counts)."""
    kept = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return re.sub(r"\b(?:a|an|the)\b", " ", kept).split()


def overlap(found: str, gold: str) -> float:
    """F1 of the shared words."""
    one, other = plain(found), plain(gold)
    shared = sum((Counter(one) & Counter(other)).values())
    return 2 * shared / (len(one) + len(other)) if shared else 0.0


def point(outcomes: Sequence[Answered], threshold: float) -> Point:
    """The figures when every answer whose margin is below the threshold is declined."""
    exact = f1 = refused = lost = 0.0
    for outcome in outcomes:
        declined = outcome.margin < threshold
        if not outcome.gold:
            exact, f1, refused = exact + declined, f1 + declined, refused + declined
        elif declined:
            lost += 1
        else:
            exact += any(plain(outcome.text) == plain(gold) for gold in outcome.gold)
            f1 += max(overlap(outcome.text, gold) for gold in outcome.gold)
    answerable = sum(bool(outcome.gold) for outcome in outcomes)
    count = max(1, len(outcomes))
    return Point(
        threshold, exact / count, f1 / count, refused / max(1, len(outcomes) - answerable), lost / max(1, answerable)
    )


def best(outcomes: Sequence[Answered], *, most_lost: float = 1.0) -> Point:
    """The point of highest F1 among those that wrongly decline at most `most_lost` of the answerable."""
    margins = sorted({outcome.margin for outcome in outcomes})
    points = (point(outcomes, margin) for margin in margins[:: max(1, len(margins) // 200)])
    allowed = [found for found in points if found.lost <= most_lost]
    return max(allowed or [point(outcomes, -math.inf)], key=lambda found: found.f1)


def refusing(outcomes: Sequence[Answered], refused: float) -> Point:
    """The lowest threshold that declines at least this share of the unanswerable."""
    margins = sorted(outcome.margin for outcome in outcomes if not outcome.gold)
    place = min(len(margins) - 1, math.ceil(refused * len(margins)))
    return point(outcomes, margins[place])


def auroc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The chance that a right one scores above a wrong one, ties half."""
    rows = sorted([(score, True) for score in right] + [(score, False) for score in wrong], key=lambda row: row[0])
    won, place = 0.0, 0
    below = 0  # wrong ones with a lower score
    while place < len(rows):
        last = place
        while last < len(rows) and rows[last][0] == rows[place][0]:
            last += 1
        group = [is_right for _, is_right in rows[place:last]]
        wrongs = len(group) - sum(group)
        won += sum(group) * (below + wrongs / 2)
        below, place = below + wrongs, last
    return won / (len(right) * len(wrong)) if right and wrong else 0.5


def balanced(right: Sequence[float], wrong: Sequence[float], threshold: float) -> float:
    """The mean of the shares of right ones at or above the threshold and wrong ones below it."""
    above = sum(score >= threshold for score in right) / max(1, len(right))
    under = sum(score < threshold for score in wrong) / max(1, len(wrong))
    return (above + under) / 2


def reciprocal(places: Iterable[int | None]) -> float:
    """Mean reciprocal rank of the right passage at place 1.., cut at 10."""
    rows = [1 / place if place and place <= 10 else 0.0 for place in places]
    return sum(rows) / max(1, len(rows))


def gain(places: Iterable[int | None]) -> float:
    """nDCG@10 where one passage is right."""
    rows = [1 / math.log2(place + 1) if place and place <= 10 else 0.0 for place in places]
    return sum(rows) / max(1, len(rows))
