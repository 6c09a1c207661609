import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.grounding.fusion import blended, fused, settled
from loam.grounding.store import Hit

SCORES = st.dictionaries(st.integers(1, 30), st.floats(0, 1), max_size=12)


def ranked(scores: dict[int, float]) -> list[Hit]:
    return sorted((Hit(id, id, score) for id, score in scores.items()), key=lambda hit: (-hit.score, hit.id))


def test_a_list_that_met_the_question_outweighs_one_that_did_not() -> None:
    words, near = ranked({1: 0.9, 2: 0.2}), ranked({2: 0.5, 1: 0.4})
    assert [hit.id for hit in blended([words, near], depth=10)] == [1, 2]
    words = ranked({1: 0.2, 2: 0.15})
    assert [hit.id for hit in blended([words, near], depth=10)] == [2, 1]


def test_what_a_full_list_leaves_out_is_given_its_least_and_a_short_one_nothing() -> None:
    words, near = ranked({1: 0.8, 2: 0.6}), ranked({3: 0.7, 1: 0.3})
    assert {hit.id: hit.score for hit in blended([words, near], depth=2)} == pytest.approx({1: 0.55, 2: 0.45, 3: 0.65})
    assert {hit.id: hit.score for hit in blended([words, near], depth=3)} == pytest.approx({1: 0.55, 2: 0.3, 3: 0.35})


def test_what_says_the_same_stands_once_as_first_met() -> None:
    (hit,) = blended([[Hit(5, 1, 0.4)], [Hit(1, 1, 0.6)]], depth=10)
    assert (hit.id, hit.fold, hit.score) == (5, 1, 0.5)


@given(words=SCORES, near=SCORES, depth=st.integers(1, 12))
def test_blending_and_fusing_keep_every_hit_once_in_order(
    words: dict[int, float], near: dict[int, float], depth: int
) -> None:
    lists = [ranked(words)[:depth], ranked(near)[:depth]]
    there = {hit.fold for hits in lists for hit in hits}
    for whole in (blended(lists, depth), fused(lists)):
        assert sorted(hit.fold for hit in whole) == sorted(there)
        assert [hit.score for hit in whole] == sorted((hit.score for hit in whole), reverse=True)
        assert all(0 <= hit.score <= 1 for hit in whole)


def test_a_second_look_moves_hits_by_what_it_weighs() -> None:
    hits = [Hit(1, 1, 0.6), Hit(2, 2, 0.5), Hit(3, 3, 0.4)]
    assert settled(hits, []) == hits
    moved = settled(hits, [(0.5, {1: 0.0, 2: 1.0}), (1.0, {1: 0.1})])
    assert [hit.id for hit in moved] == [2, 1, 3]
    assert [hit.score for hit in moved] == pytest.approx([1 / 2.5, 0.7 / 2.5, 0.4 / 2.5])


@given(words=SCORES, met=st.dictionaries(st.integers(1, 30), st.floats(0, 1), max_size=30), weight=st.floats(0, 10))
def test_what_was_not_looked_at_stays_behind_what_was(
    words: dict[int, float], met: dict[int, float], weight: float
) -> None:
    hits = ranked(words)
    looked = {hit.id: met.get(hit.id, 0) for hit in hits[:4]}
    whole = settled(hits, [(weight, looked)])
    assert [hit.id for hit in whole[4:]] == [hit.id for hit in hits[4:]]
    assert [hit.score for hit in whole] == sorted((hit.score for hit in whole), reverse=True)
