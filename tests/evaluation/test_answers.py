import pytest

from loam.evaluation.answers import Answered, Place, answer_scores, foreign_questions
from loam.evaluation.citations import Claim
from loam.evaluation.questions import Question

KNOWN = Question("When?", "when", "a.md", 10, 20, "At noon.")
FOREIGN = Question("Who?", "foreign", "", 0, 0, "")


def equal(sentence: str, texts: object) -> bool:
    return isinstance(texts, list | tuple) and sentence in texts


def answered(question: Question, *cited: Place, declined: bool = False, says: str = "x") -> Answered:
    claims = () if declined else (Claim(says, ("x",)),)
    return Answered(question, declined, cited, claims, ("x",))


@pytest.mark.parametrize(
    ("place", "meets"),
    [
        (Place("a.md", 19, 30), True),
        (Place("a.md", 0, 11), True),
        (Place("a.md", 20, 30), False),
        (Place("b.md", 10, 20), False),
    ],
)
def test_a_citation_is_right_where_it_lies_on_the_answer(place: Place, *, meets: bool) -> None:
    assert answered(KNOWN, place).right is meets


def test_each_answer_counts_once() -> None:
    right, wrong = answered(KNOWN, Place("a.md", 10, 20)), answered(KNOWN, Place("b.md", 1, 2), says="y")
    none, refused = answered(KNOWN, declined=True), answered(FOREIGN, declined=True)
    scores = answer_scores([right, right, wrong, none, refused, answered(FOREIGN)], equal)
    assert (scores.answerable, scores.right, scores.wrong, scores.declined) == (4, 0.5, 0.25, 0.25)
    assert (scores.foreign, scores.refused) == (2, 0.5)
    assert (scores.citations.answers, scores.citations.recall, scores.faithfulness) == (4, 0.75, 0.75)


def test_no_answers_are_no_scores() -> None:
    scores = answer_scores([], equal)
    assert (scores.right, scores.refused, scores.faithfulness) == (0, 0, 0)


def test_foreign_questions_have_no_document() -> None:
    assert len(foreign_questions()) >= 20
    assert not any(question.path for question in foreign_questions())
