import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Passage
from loam.grounding.evidence import best


def passage(text: str, *, title: str = "Handbook", section: str = "") -> Passage:
    return Passage("doc", title, "page.md", section, 0, len(text), text, 1.0, "r")


LEAVE = passage(
    "Leave is good for you. You may carry over 240 hours of annual leave. Ask HR.",
    section="Annual leave",
)


@pytest.mark.parametrize(
    ("question", "passages", "quote"),
    [
        (
            "How many hours of annual leave carry over?",
            [LEAVE],
            "You may carry over 240 hours of annual leave.",
        ),
        (
            "How long must the passcode be?",
            [passage("Change the passcode. It must be longer than 14 characters. Lock the phone.")],
            "Change the passcode. It must be longer than 14 characters.",
        ),
        (
            "What is a base schedule?",
            [passage("You set up a base schedule. Base schedule: This is a template of your hours. Ask.")],
            "Base schedule: This is a template of your hours.",
        ),
        (
            "What can I use sick leave for?",
            [passage("Be well.\n\nYou can use sick leave for:\n\n- the dentist\n- mental health\n\nAsk your boss.")],
            "You can use sick leave for:\n\n- the dentist\n- mental health",
        ),
        (
            "Who approves travel?",
            [passage("Approvals are needed. They take days."), passage("Your authorizing official approves travel.")],
            "Your authorizing official approves travel.",
        ),
    ],
)
def test_the_sentence_that_answers_is_chosen(question: str, passages: list[Passage], quote: str) -> None:
    found = best(question, passages)
    assert found is not None
    assert found.quote == quote
    assert found.support > 0.5


def test_headings_support_a_sentence_that_does_not_repeat_them() -> None:
    text = "It expires after one year."
    bare = best("When does award leave expire?", [passage(text)])
    headed = best("When does award leave expire?", [passage(text, section="Award leave")])
    assert bare is not None
    assert headed is not None
    assert bare.support < 0.5 < headed.support


def test_a_question_is_no_answer_and_a_heading_that_asks_the_same_leads_to_one() -> None:
    listed = passage("Which receipts must I keep? Which forms?")
    answered = passage("They are needed for lodging.", section="FAQ > Which receipts must I keep?")
    found = best("Which receipts must I keep?", [listed, answered])
    assert found is not None
    assert found.quote == "They are needed for lodging."


def test_a_question_about_something_else_has_no_support() -> None:
    found = best("What is the capital of France?", [LEAVE])
    assert found is not None
    assert found.support == 0


def test_no_passages_no_evidence() -> None:
    assert best("What?", []) is None
    assert best("What?", [passage("```\n```")]) is None
    assert best("", [LEAVE]) is None or best("", [LEAVE]).support == 0  # type: ignore[union-attr]


@given(st.text(max_size=80), st.lists(st.text(max_size=200).map(passage), max_size=4))
def test_evidence_is_a_stretch_of_a_passage(question: str, passages: list[Passage]) -> None:
    found = best(question, passages)
    if found is not None:
        assert found.passage in passages
        assert found.quote
        assert found.quote == found.passage.text[found.start : found.end]
        assert 0 <= found.support <= 1.000001
