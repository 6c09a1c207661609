from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.evaluation.citations import Claim, citation_scores, faithfulness


def letters(sentence: str, texts: Sequence[str]) -> bool:
    """A judge that can be followed by eye: the texts together hold every letter of the sentence."""
    return set(sentence) <= set("".join(texts))


LETTERS = st.text("abcd", min_size=1, max_size=4)
CLAIMS = st.lists(st.builds(Claim, LETTERS, st.lists(LETTERS, max_size=3).map(tuple)), max_size=4)


@pytest.mark.parametrize(
    ("claims", "recall", "precision"),
    [
        ([Claim("ab", ("ab",))], 1, 1),
        ([Claim("ab", ())], 0, 0),
        ([Claim("ab", ("a",))], 0, 0),
        ([Claim("ab", ("a", "b"))], 1, 1),  # each is needed for the other
        ([Claim("ab", ("ab", "cd"))], 1, 1 / 2),  # the second neither carries it nor is missed
        ([Claim("ab", ("ab", "ab"))], 1, 1),  # either carries it
        ([Claim("ab", ("ab",)), Claim("cd", ("a", "b"))], 1 / 2, 1 / 3),
    ],
)
def test_figures_worked_by_hand(claims: list[Claim], recall: float, precision: float) -> None:
    scores = citation_scores([claims], letters)
    assert (scores.recall, scores.precision) == (pytest.approx(recall), pytest.approx(precision))


@given(st.lists(CLAIMS, max_size=5))
def test_scores_stay_between_nothing_and_all_and_know_no_order(answers: list[list[Claim]]) -> None:
    scores = citation_scores(answers, letters)
    assert 0 <= scores.recall <= 1
    assert 0 <= scores.precision <= 1
    backwards = citation_scores([claims[::-1] for claims in answers[::-1]], letters)
    assert backwards.recall == pytest.approx(scores.recall)
    assert backwards.precision == pytest.approx(scores.precision)


@given(CLAIMS.filter(bool))
def test_a_citation_that_says_nothing_to_the_point_never_raises_precision(claims: list[Claim]) -> None:
    padded = [Claim(claim.sentence, (*claim.cited, "z")) for claim in claims]
    assert citation_scores([padded], letters).precision <= citation_scores([claims], letters).precision + 1e-12


def test_answers_without_a_sentence_are_left_out() -> None:
    assert citation_scores([[], [Claim("a", ("a",))]], letters).answers == 1
    assert citation_scores([], letters).recall == 0


def test_faithfulness_counts_sentences_that_one_text_supports() -> None:
    assert faithfulness([(["ab", "cd"], ["abc", "x"]), (["x"], ["x"])], letters) == pytest.approx(2 / 3)
    assert faithfulness([], letters) == 0
