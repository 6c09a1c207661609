from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.evaluation.ranking import ndcg, recall, reciprocal_rank, summary

SCORES = (recall, ndcg, reciprocal_rank)
LISTS = st.lists(st.integers(0, 20), max_size=30)
RIGHT = st.frozensets(st.integers(0, 20), min_size=1, max_size=8)
K = st.integers(1, 12)


def test_figures_worked_by_hand() -> None:
    ranked, right = ["x", "a", "y", "b"], {"a", "b", "c"}
    assert recall(ranked, right, 10) == pytest.approx(2 / 3)
    assert recall(ranked, right, 3) == pytest.approx(1 / 3)
    assert reciprocal_rank(ranked, right, 10) == 0.5
    ideal = 1 + 1 / log2(3) + 1 / log2(4)
    assert ndcg(ranked, right, 10) == pytest.approx((1 / log2(3) + 1 / log2(5)) / ideal)


@given(LISTS, RIGHT, K)
def test_scores_stay_between_nothing_and_all(ranked: list[int], right: frozenset[int], k: int) -> None:
    for score in SCORES:
        assert 0 <= score(ranked, right, k) <= 1


@given(RIGHT, K)
def test_a_list_that_begins_with_all_that_is_right_is_perfect(right: frozenset[int], k: int) -> None:
    ranked = [*sorted(right), 99]
    assert ndcg(ranked, right, k) == pytest.approx(1)
    assert reciprocal_rank(ranked, right, k) == 1
    assert recall(ranked, right, k) == min(k, len(right)) / len(right)


@given(LISTS, RIGHT, K, st.data())
def test_moving_a_right_thing_up_never_hurts(ranked: list[int], right: frozenset[int], k: int, data: st.DataObject):
    ranked = list(dict.fromkeys(ranked))
    found = [place for place, name in enumerate(ranked) if name in right and place > 0]
    if not found:
        return
    place = data.draw(st.sampled_from(found))
    better = [*ranked]
    better[place - 1], better[place] = better[place], better[place - 1]
    for score in SCORES:
        assert score(better, right, k) >= score(ranked, right, k) - 1e-12


@given(LISTS, RIGHT, K)
def test_what_is_listed_again_counts_once(ranked: list[int], right: frozenset[int], k: int) -> None:
    for score in SCORES:
        assert score([name for name in ranked for _ in range(2)], right, k) == score(ranked, right, k)


@pytest.mark.parametrize("score", SCORES)
def test_nothing_right_cannot_be_scored(score) -> None:
    with pytest.raises(ValueError, match="only where something is right"):
        score(["a"], set(), 10)


def test_a_summary_is_the_mean_of_its_questions() -> None:
    scores = summary([(["a"], {"a"}), (["x", "a"], {"a"}), ([], {"a"})], k=10)
    assert (scores.questions, scores.k) == (3, 10)
    assert scores.recall == pytest.approx(2 / 3)
    assert scores.reciprocal_rank == pytest.approx(0.5)
    assert summary([], k=10).questions == 0
