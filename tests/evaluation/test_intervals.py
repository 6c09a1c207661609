import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.evaluation.intervals import NOTHING, bootstrap, wilson
from loam.evaluation.ranking import intervals


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    # from Newcombe (1998), table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_figures(part: int, whole: int, low: float, high: float) -> None:
    found = wilson(part, whole)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(0, 400).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))))
def test_a_share_lies_in_its_interval_and_more_of_the_same_narrows_it(drawn: tuple[int, int]) -> None:
    part, whole = drawn
    found, more = wilson(part, whole), wilson(3 * part, 3 * whole)
    assert 0 <= found.low <= (part / whole if whole else 0.5) <= found.high <= 1
    assert more.high - more.low <= found.high - found.low
    assert (found == NOTHING) == (whole == 0)


@given(st.lists(st.floats(0, 1), max_size=30), st.integers(0, 3))
def test_a_mean_lies_in_its_interval_which_a_seed_gives_again(values: list[float], seed: int) -> None:
    found = bootstrap(values, seed=seed)
    assert found == bootstrap(values, seed=seed)
    mean = sum(values) / len(values) if values else 0.5
    assert -1e-9 <= found.low <= mean + 1e-9
    assert mean - 1e-9 <= found.high <= 1 + 1e-9


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draw = random.Random(5)
    held = 0
    for _ in range(120):
        found = bootstrap([float(draw.random() < 0.7) for _ in range(60)])
        held += found.low <= 0.7 <= found.high
    assert 0.88 <= held / 120 <= 1


def test_answers_are_drawn_whole() -> None:
    """Ten answers of ten sentences each that stand or fall together tell less than a hundred sentences."""
    grouped = bootstrap([10.0] * 6 + [0.0] * 4, [10.0] * 10)
    alone = bootstrap([1.0] * 60 + [0.0] * 40)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_rankings_have_intervals_by_the_names_of_their_means() -> None:
    found = intervals([(["a"], {"a"}), (["b"], {"a"})], 5)
    assert set(found) == {"recall", "ndcg", "reciprocal_rank"}
    assert (found["recall"].low, found["recall"].high) == (0.0, 1.0)
