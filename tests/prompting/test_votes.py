"""The exact stop: fewer votes, the same winner, whatever the votes are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.prompting.votes import Stop, Tally, likely_ahead

ANSWERS = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=12)


def run(answers: list[str | None], stop: Stop) -> Tally:
    tally = Tally(len(answers), stop, 0.95)
    while wanted := tally.wanted():
        assert wanted <= len(answers) - tally.used
        for index in range(tally.used, tally.used + wanted):
            tally.add(index, answers[index])
    return tally


@given(ANSWERS)
def test_it_stops_early_and_never_changes_the_winner(answers: list[str | None]) -> None:
    exact, whole = run(answers, "exact"), run(answers, "none")
    assert whole.used == len(answers)
    assert exact.used <= whole.used
    assert [vote.answer for vote in exact.ranked()[:1]] == [vote.answer for vote in whole.ranked()[:1]]


@given(ANSWERS, st.data())
def test_whatever_else_had_been_said_the_winner_stays(answers: list[str | None], data: st.DataObject) -> None:
    exact = run(answers, "exact")
    left = len(answers) - exact.used
    rest = data.draw(st.lists(st.sampled_from(["1", "2", "3", "4", None]), min_size=left, max_size=left))
    whole = run([*answers[: exact.used], *rest], "none")
    assert [vote.answer for vote in whole.ranked()[:1]] == [vote.answer for vote in exact.ranked()[:1]]


def test_the_first_round_is_the_fewest_that_can_decide() -> None:
    assert [Tally(n, "exact", 0.95).wanted() for n in (1, 2, 3, 4, 5, 40)] == [1, 1, 2, 2, 3, 20]
    assert Tally(5, "none", 0.95).wanted() == 5


def test_a_tie_goes_to_the_first_and_is_told() -> None:
    tally = run(["7", "8", "8", "7"], "none")
    assert tally.tie
    assert tally.ranked()[0].answer == "7"


def test_the_unparseable_are_votes_for_nobody() -> None:
    tally = run([None, None, "5", None], "none")
    assert (tally.unparseable, tally.share, tally.ranked()[0].answer) == (3, 0.25, "5")


def test_beta_stops_where_the_lead_is_likely() -> None:
    assert likely_ahead(4, 0) == pytest.approx(0.96875)
    assert likely_ahead(2, 2) == pytest.approx(0.5)
    assert run(["1"] * 40, "beta").used == 6
    assert run(["1", "2"] * 20, "beta").used == 39  # of which the last can only make a tie
