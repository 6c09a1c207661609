import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Passage
from loam.evaluation.questions import asking, chosen, made, ordered, written


def passage(text: str, *, section: str = "", url: str = "a.md", start: int = 100) -> Passage:
    return Passage("doc_1", "Guide", url, section, start, start + len(text), text, 0.0, "r")


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("You must submit your timecard each week by the end of Friday.", "When must I submit my timecard?"),
        ("The office will answer all requests within three working days.", "When will the office answer all requests?"),
        ("You accrue four hours of sick leave each period.", "How many hours of sick leave each period do I accrue?"),
        ("OCE requires 5 business days for a review.", "How many business days does OCE require for a review?"),
        ("You can request up to 240 hours of advanced leave.", "How many hours of advanced leave can I request?"),
        ("GSA IT manages the updates of your laptop.", "Who manages the updates of my laptop?"),
        ("Slack is a chat tool that teams use every day.", "What is Slack?"),
        ("A detail is a temporary assignment to another post.", "What is a detail?"),
    ],
)
def test_a_statement_is_turned_into_its_question(sentence: str, question: str) -> None:
    (found,) = made([passage(f"Something before. {sentence} And more.")])
    assert found.question == question
    assert found.answer == sentence
    assert (found.start, found.end) == (118, 118 + len(sentence))


@pytest.mark.parametrize(
    "sentence",
    [
        "It is a chat tool that teams use every day.",
        "This team manages the updates of your laptop.",
        "Because Slack is a tool for teams you may use it.",
        "The password must be changed every 90 days or sooner.",
        "Some agreements can take as few as 10 days in all.",
        "| A table is a | row of cells | here too |.",
    ],
)
def test_what_cannot_stand_alone_is_left(sentence: str) -> None:
    assert [question for question in made([passage(sentence)]) if question.kind != "when"] == []


def test_a_heading_is_asked_once_for_its_section() -> None:
    passages = [
        passage("First half.", section="Leave > How do I ask for leave?"),
        passage("Second half.", section="Leave > How do I ask for leave?", start=200),
        passage("More.", section="Leave > Sick leave", start=300),
        passage("One word is too little.", section="Leave", start=400),
    ]
    asked = [(question.question, question.start) for question in made(passages)]
    assert asked == [("How do I ask for leave?", 100), ("What is said about “Sick leave”?", 300)]


def test_what_is_asked_twice_is_left_out_and_kinds_take_turns() -> None:
    texts = ["Slack is a chat tool of ours.", "Trello is a board for tasks.", "Slack is a place for all."]
    passages = [passage(text, section=f"Part {place} of it", url=f"{place}.md") for place, text in enumerate(texts)]
    found = chosen(made(passages), 3, random.Random(1))
    assert sorted(question.kind for question in found) == ["definition", "heading", "heading"]
    assert "What is Slack?" not in {question.question for question in chosen(made(passages), 99, random.Random(1))}
    assert chosen(made(passages), 3, random.Random(1)) == found
    assert [question.path for question in ordered(found)] == sorted(question.path for question in found)


@given(st.text(max_size=300))
def test_an_answer_is_the_documents_own_text(text: str) -> None:
    here = passage(text, section="On all of this")
    for question in made([here]):
        assert question.answer == here.text[question.start - here.start : question.end - here.start]
        assert question.question.endswith("?")


def test_a_models_question_counts_only_with_a_quote_that_is_there() -> None:
    here = passage("Leave is free.\nAsk your\nlead first.")
    found = written(here, "Whom do I ask?", "Ask your lead first.", "some-model")
    assert found is not None
    assert (found.answer, found.kind, found.maker) == ("Ask your\nlead first.", "model", "some-model")
    assert written(here, "Whom?", "Ask your boss first.", "m") is None
    assert written(here, "Whom?", " ", "m") is None
    assert written(here, " ", "Leave is free.", "m") is None
    assert here.text in asking(here)
