"""The figures have their bounds, do not depend on order, and agree with counting by hand."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes.heads.metrics import Answered, auroc, balanced, best, gain, overlap, point, reciprocal, refusing

SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=20)
OUTCOMES = [
    Answered("the Oslo", 2.0, ("Oslo",)),
    Answered("Bergen", 1.0, ("Oslo", "Bergen by the sea")),
    Answered("x", -1.0, ("y",)),
    Answered("x", -2.0, ()),
    Answered("x", 3.0, ()),
]


@given(right=SCORES, wrong=SCORES)
def test_auroc_counts_won_pairs(right: list[float], wrong: list[float]) -> None:
    won = sum((one > other) + (one == other) / 2 for one in right for other in wrong)
    assert auroc(right, wrong) == pytest.approx(won / (len(right) * len(wrong)))
    assert auroc(wrong, right) == pytest.approx(1 - auroc(right, wrong))


def test_a_point_counts_answers_and_refusals() -> None:
    found = point(OUTCOMES, 0.0)
    assert (found.exact, found.refused, found.lost) == (
        pytest.approx(2 / 5),
        pytest.approx(1 / 2),
        pytest.approx(1 / 3),
    )
    assert found.f1 == pytest.approx((1 + 1 / 2 + 0 + 1) / 5)


def test_the_order_of_outcomes_says_nothing() -> None:
    mixed = random.Random(1).sample(OUTCOMES, len(OUTCOMES))
    assert best(mixed) == best(OUTCOMES)
    assert best(OUTCOMES, most_lost=0.0).lost == 0.0
    assert refusing(OUTCOMES, 0.5).refused >= 0.5


def test_overlap_folds_articles_and_punctuation() -> None:
    assert overlap("The Old Mill.", "old mill") == 1.0
    assert overlap("mill", "port") == 0.0


def test_ranks() -> None:
    assert reciprocal([1, 2, None, 11]) == pytest.approx(1.5 / 4)
    assert gain([1, None]) == 0.5
    assert balanced([0.9, 0.1], [0.2, 0.3], 0.5) == 0.75
